"""Transformer blocks, and patches, which turn images into sequences for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.ad_checkpoint import checkpoint_name
from jax.lax import PrecisionLike

from jaxnn import _checks as check
from jaxnn import ops
from jaxnn._call import Run
from jaxnn._calls import recorded
from jaxnn._errors import invalid, wrong_type
from jaxnn._inputs import known
from jaxnn._layer import Layer, layer
from jaxnn._mesh import merged
from jaxnn._padded import Padded, on_values, padded_pair, values_of
from jaxnn.activations import gelu
from jaxnn.layers._attention import attention
from jaxnn.layers._linear import dense
from jaxnn.layers._noise import dropout
from jaxnn.layers._norm import layer_norm
from jaxnn.ops._window import check_sizes, per_axis
from jaxnn.types import Arrays, Key, Params, State

OF_BOTH = ("kv_heads", "size", "dropout", "precision", "implementation", "bias")  # for both attentions of a decoder


@recorded
def encoder_block(
    heads: int,
    *,
    hidden: int | None = None,
    rate: float | Array = 0.0,
    activation: Callable[..., Any] = gelu,
    norm: Callable[[], Layer] = layer_norm,
    post_norm: bool = False,
    preset: str = "jaxnn",
    name: str | None = None,
    **how: Any,
) -> Layer:
    """Transformer encoder block, [n, t, d] -> [n, t, d].

        x <- x + attention(norm(x))
        x <- x + dense(activation(dense(norm(x))))

    With post_norm=True, as in the original Transformer and BERT:

        x <- norm(x + attention(x))
        x <- norm(x + dense(activation(dense(x))))

    With causal=True it is the block of a decoder-only model such as GPT. The input is x [n, t, d], a `Padded`, or a
    dict as for `attention`, without context. The output has the same form, so that blocks can be stacked. Children
    attention_norm, attention, mlp_norm, up, down.

    A policy of `remat` by names finds, in training, those of `attention`, and attention, up and mlp: the output of the
    first branch, the hidden units before the activation, the output of the second branch.

    Args:
      heads: number of heads of the attention.
      hidden: features of the inner dense layer; None is 4 d.
      rate: dropout rate after the attention and after the last dense layer, in [0, 1); may be traced.
      activation: elementwise function between the dense layers.
      norm: factory of both norms: `layer_norm` or `rms_norm`, or a `partial` of one, such as with BERT's eps of 1e-12.
      post_norm: if True, the norms follow the additions; PyTorch's `norm_first=False`, its default.
      preset: the default initialization of the attention and the dense layers.
      name: pins the name.
      how: `kv_heads`, `size`, `causal`, `window`, `rotary`, `softcap`, `cache`, `dropout`, `implementation`, `bias`,
        for the attention; `precision`, for attention and dense layers.

    Raises:
      ValueError, TypeError: as `attention`.

    Reference: Vaswani et al., Attention Is All You Need, 2017; Xiong et al., On Layer Normalization in the Transformer
    Architecture, 2020.

    >>> params, state = encoder_block(2).init(jax.random.key(0), jnp.ones((2, 5, 8)))
    >>> sorted(params)
    ['attention', 'attention_norm', 'down', 'mlp_norm', 'up']
    """
    branch = _branches(name or "encoder_block", hidden, rate, activation, norm, post_norm, preset, how)
    over = attention(heads, preset=preset, **how)

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        run, given = Run(params, state, key, train), padded_pair(x)
        beside = {k: v for k, v in given.items() if k != "x"} if isinstance(given, dict) else {}
        h, lengths = (given["x"] if isinstance(given, dict) else given), beside.pop("lengths", None)
        h = branch.attend(run, h if lengths is None else Padded(h, lengths), "attention", over, beside)
        h = branch.mlp(run, h)
        if not isinstance(given, dict):
            return h, run.state
        return {**given, "x": h if lengths is None else h.x}, run.state

    return layer(None, apply, "encoder_block", name=name, padded="lengths")


@recorded
def decoder_block(
    heads: int,
    *,
    hidden: int | None = None,
    rate: float | Array = 0.0,
    activation: Callable[..., Any] = gelu,
    norm: Callable[[], Layer] = layer_norm,
    post_norm: bool = False,
    causal: bool = True,
    preset: str = "jaxnn",
    name: str | None = None,
    **how: Any,
) -> Layer:
    """Transformer decoder block, {"x": [n, t, d], "context": [n, s, e]} -> a dict of the same form.

        x <- x + attention(norm(x)), causal by default
        x <- x + attention(norm(x), context)
        x <- x + dense(activation(dense(norm(x))))

    "lengths" [n], "mask" and "bias" of the dict refer to the context. x and context may each be a `Padded`. The result
    is the dict with x replaced, so that blocks can be stacked. Children attention_norm, attention, context_norm,
    context_attention, mlp_norm, up, down. Names for `remat` are those of `encoder_block`, and context for the output of
    the second branch.

    Args:
      heads: number of heads of both attentions.
      hidden, rate, activation, norm, post_norm, preset, name: as in `encoder_block`.
      causal: False lets every step attend to all steps of x, such as in a set decoder (DETR) or a denoiser.
      how: `kv_heads`, `size`, `dropout`, `implementation`, `bias` for both attentions; `window`, `rotary`, `softcap`,
        `cache` for the first; `precision`, for attentions and dense layers.

    Raises:
      ValueError: as `attention`.
      TypeError: as `attention`, and if the input is not a dict with "x" and "context".

    >>> x = {"x": jnp.ones((2, 5, 8)), "context": jnp.ones((2, 3, 8))}
    >>> params, state = decoder_block(2).init(jax.random.key(0), x)
    >>> decoder_block(2).apply(params, state, x)[0]["x"].shape
    (2, 5, 8)
    """
    where = name or "decoder_block"
    branch = _branches(where, hidden, rate, activation, norm, post_norm, preset, how)
    over = attention(heads, preset=preset, causal=causal, **how)
    cross = attention(heads, preset=preset, **{k: v for k, v in how.items() if k in OF_BOTH})

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        if not isinstance(x, dict) or "context" not in x:
            raise wrong_type(where, "a dict with 'x' and 'context'", x)
        run = Run(params, state, key, train)
        given = {k: v for k, v in x.items() if k != "x"}
        own = {"positions": given.pop("positions")} if "positions" in given else {}
        h = branch.attend(run, x["x"], "attention", over, own)
        h = branch.attend(run, h, "context", cross, given)
        return {**x, "x": branch.mlp(run, h)}, run.state

    return layer(None, apply, "decoder_block", name=name, padded="lengths")


class _Branches(NamedTuple):
    """Residual branches of both blocks; `dropout` is None if the rate is 0."""

    hidden: int | None
    dropout: Layer | None
    activation: Callable[..., Any]
    norm: Layer
    post_norm: bool
    preset: str
    precision: PrecisionLike

    def attend(self, run: Run, x: Arrays, part: str, child: Layer, given: dict[str, Array]) -> Arrays:
        name = "attention" if part == "attention" else f"{part}_attention"
        return self._around(run, x, part, lambda h: run(child, {"x": h, **given} if given else h, name))

    def mlp(self, run: Run, x: Arrays) -> Arrays:
        d = values_of(x).shape[-1]
        affine = partial(dense, preset=self.preset, precision=self.precision)

        def inner(h: Arrays) -> Arrays:
            h = _known_as("up", run, run(affine(self.hidden or 4 * d), h, "up"))
            h = on_values(self.activation, h)
            return run(affine(d), h, "down")

        return self._around(run, x, "mlp", inner)

    def _around(self, run: Run, x: Arrays, part: str, branch: Callable[[Arrays], Arrays]) -> Arrays:
        """The skip connection, dropout and norm of a branch."""
        h = _known_as(part, run, branch(x if self.post_norm else run(self.norm, x, f"{part}_norm")))
        h = h if self.dropout is None else run(self.dropout, h, f"{part}_dropout")
        y = on_values(jnp.add, x, h)
        return run(self.norm, y, f"{part}_norm") if self.post_norm else y


def _known_as(name: str, run: Run, x: Arrays) -> Arrays:
    """x, in training with a name for policies of `remat`."""
    return on_values(partial(checkpoint_name, name=name), x) if run.train else x


def _branches(
    where: str,
    hidden: int | None,
    rate: float | Array,
    activation: Callable[..., Any],
    norm: Callable[..., Any],
    post_norm: bool,
    preset: str,
    how: dict[str, Any],
) -> _Branches:
    check.flags(where, post_norm=post_norm)
    if "return_weights" in how:
        fix = "nn.capture(model, '.../attention/weights') returns the weights of an attention inside a block."
        raise invalid(where, "no return_weights", told="return_weights=", fix=fix)
    if hidden is not None:
        hidden = check.count(where, "hidden", hidden)
    dropped = dropout(rate)  # checks the rate
    none = known(rate) and rate == 0
    return _Branches(hidden, None if none else dropped, activation, norm(), post_norm, preset, how.get("precision"))


@recorded
def patches(
    features: int,
    size: int | tuple[int, ...],
    *,
    preset: str = "jaxnn",
    precision: PrecisionLike = None,
    name: str | None = None,
) -> Layer:
    """Patch embedding, [n, *space, c] -> [n, patches, features]: one dense layer on each patch of an image.

    The first layer of a vision transformer. Equivalent to a convolution with its stride equal to its kernel size.
    Params w [size · c, features], where size is the number of positions of a patch, and b [features].

    Args:
      features: size of the vector of a patch, an integer >= 1.
      size: size of a patch, an integer >= 1 for all space axes or one for each; it divides the image.
      preset: the default initialization of a dense layer.
      precision: of the product, as in `dense`.
      name: pins the name.

    Raises:
      ValueError: if size does not divide the image, or an argument is out of range.
      TypeError: if x is not floating.

    Reference: Dosovitskiy et al., An Image is Worth 16x16 Words, 2020.

    >>> params, state = patches(32, 4).init(jax.random.key(0), jnp.ones((2, 28, 28, 1)))
    >>> patches(32, 4).apply(params, state, jnp.ones((2, 28, 28, 1)))[0].shape
    (2, 49, 32)
    """
    where = name or "patches"
    features = check.count(where, "features", features)
    check_sizes(where, size=size)
    through = dense(features, preset=preset, precision=precision, name=where)

    def cut(x: Arrays) -> Array:
        x = check.array(where, "x", x, least=3, shape="[n, *space, c]")
        sizes = per_axis(where, "size", size, len(x.shape) - 2)
        if any(s % p != 0 for s, p in zip(x.shape[1:-1], sizes, strict=True)):
            raise invalid(where, f"an image that patches of {list(sizes)} divide", x)
        return merged(ops.space_to_depth(x, sizes), 1, len(sizes) + 1)

    def init_(key: Key, x: Arrays) -> tuple[Params, State]:
        return through.init(key, jax.eval_shape(cut, x))

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        return through.apply(params, state, cut(x))

    return layer(init_, apply, "patches", name=name, padded="examples")
