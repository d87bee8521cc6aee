"""Multi-head attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.ad_checkpoint import checkpoint_name
from jax.lax import PrecisionLike

from jaxnn import _checks as check
from jaxnn import ops
from jaxnn._call import call
from jaxnn._calls import recorded
from jaxnn._errors import invalid
from jaxnn._keys import fold_in
from jaxnn._layer import Layer, layer, of_function
from jaxnn._padded import Padded, padded_pair, values_of
from jaxnn.layers._cache import Cache, steps_from
from jaxnn.layers._linear import affine
from jaxnn.layers._weights import Weights, check_fits
from jaxnn.ops._attention import check_implementation, checked_options
from jaxnn.ops._lengths import check_lengths, without_padding
from jaxnn.types import Arrays, Initializer, Key, Params, State

WEIGHTS = of_function(lambda weights: weights, "weights", None)  # a path of its own, for `capture`
BESIDE_X = ("context", "mask", "bias", "lengths", "positions")


@recorded
def attention(
    heads: int,
    *,
    features: int | None = None,
    size: int | None = None,
    kv_heads: int | None = None,
    causal: bool = False,
    window: tuple[int | None, int | None] | None = None,
    rotary: bool | float = False,
    softcap: float | None = None,
    cache: int | None = None,
    dropout: float | Array = 0.0,
    precision: PrecisionLike = None,
    implementation: Literal["xla", "cudnn"] | None = None,
    return_weights: bool = False,
    bias: bool = True,
    preset: str = "jaxnn",
    w_init: Initializer | None = None,
    b_init: Initializer | None = None,
    name: str | None = None,
) -> Layer:
    """Multi-head attention, [n, t, d] -> [n, t, features], as `ops.attention`.

    The input is x [n, t, d], or a dict with it as "x" and any of: "context" [n, s, e], the source of keys and values (x
    itself by default); boolean "mask", "bias" and "lengths" [n], which refer to the keys, as in `ops.attention`;
    "positions" [t] or [n, t], for `rotary`. x and context may each be a `Padded`: padded keys are ignored, and the
    result has the lengths of x. The result is an array or a `Padded` without the other entries of the dict.

    A policy of `remat` by names finds, in training, q, k and v, [n, steps, heads, size], and mixed, the weighted sums
    of values before w_o, [n, t, heads · size].

    Params w_q [d, heads · size], w_k and w_v [e, kv_heads · size], w_o [heads · size, features], b_q, b_k, b_v, b_o.
    State, with a cache: k and v [n, cache, kv_heads, size], and position, the number of steps so far: one for all
    examples, or [n], one for each.

    Args:
      heads: number of heads of the queries, an integer >= 1.
      features: size of the last axis of the result; None is that of x.
      size: features of a head; None is d / heads.
      kv_heads: number of heads of keys and values, a divisor of heads; None is heads.
      causal, window, softcap: as in `ops.attention`.
      rotary: True rotates queries and keys by their positions (`ops.rotary`); a number is the base, 10000 by default.
        Not allowed with a context.
      cache: number of steps whose keys and values are kept in the state, so that a sequence passed in pieces gives the
        same result as in one call. Requires causal=True and no context. `init` makes the cache empty, for the n of its
        x; the params are those of the same layer without a cache. Steps beyond its end give NaN, the steps before them
        are unaffected. Each sequence of a `Padded` continues where it ended. None keeps nothing.
      dropout: probability of dropping an attention weight in training, in [0, 1); may be traced. The name is that of
        PyTorch and Keras; flax has dropout_rate.
      precision: of all products, as in `dense`.
      implementation: None, or "xla" or "cudnn" for `jax.nn.dot_product_attention`, as in `ops.attention`; not with
        softcap, cache, precision or dropout.
      return_weights: if True, the result is (y, weights), with the attention weights [n, heads, t, s] of each head,
        before dropout. In a model whose layers do not return them, `capture(model, ".../attention/weights")` does.
      bias: False omits all biases.
      preset: the default initialization, "jaxnn", "torch", "keras" or "flax" (`init.preset`).
      w_init, b_init: initializers (key, shape, dtype) -> array for all weights and all biases; override the preset.
      name: pins the name.

    Raises:
      ValueError: if x does not fit, an argument is out of range, or dropout in training has no key.
      TypeError: if x or the context is not floating, or the lengths are not integers.

    >>> model = attention(4, causal=True)
    >>> params, state = model.init(jax.random.key(0), jnp.ones((2, 5, 16)))
    >>> model.apply(params, state, jnp.ones((2, 7, 16)))[0].shape
    (2, 7, 16)
    """
    where = name or "attention"
    shapes = Heads.checked(where, heads, kv_heads, size, features)
    weights = Weights(where, "attention", preset, _by_letter(w=w_init, b=b_init), bias)
    window, drops = checked_options(where, causal, window, softcap, dropout)
    memory = None if cache is None else Cache.checked(where, cache, causal)
    if not isinstance(rotary, bool):
        check.scalar(where, "rotary", rotary, ends="()", static=True)
    given_too = {"softcap": softcap is not None, "cache": cache is not None, "dropout": drops, "precision": precision}
    given_too["return_weights"] = return_weights
    check_implementation(where, implementation, causal, window, given_too)
    check.flags(where, return_weights=return_weights)
    how: dict[str, Any] = {"causal": causal, "window": window, "softcap": softcap, "precision": precision}
    how["implementation"] = implementation

    def initial(key: Key, x: Arrays) -> tuple[Params, State]:
        x, context, _, _ = _inputs(where, x)
        params: Params = {}
        for i, (part, (fan_in, out)) in enumerate(shapes.of_weights(x, context).items()):
            k = fold_in(key, i)
            drawn = {f"b_{part}": (fold_in(k, 0), (out,)), f"w_{part}": (k, (fan_in, out))}  # w's draw consumes k
            params |= weights.draw(x, fan_in, heads=shapes.kv if part in "kv" else shapes.n, **drawn)
        return params, ({} if memory is None else memory.empty(x, shapes.kv, shapes.size_of(x)))

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        x, context, given, lengths = _inputs(where, x)
        check_fits(where, x, "w_q", params["w_q"].shape[0], "[n, steps, {}]")
        check_fits(where, context, "w_k", params["w_k"].shape[0], "[n, steps, {}]", "context")
        if drops and train and key is None:
            raise invalid(where, "a key when train=True", told="None", fix="Pass key= to apply.")

        def projected(part: str, x: Array) -> Array:
            return affine(x, params[f"w_{part}"], params[f"b_{part}"] if bias else None, precision)

        q = shapes.split(projected("q", x), shapes.n)
        k, v = (shapes.split(projected(part, context), shapes.kv) for part in "kv")
        first = 0 if memory is None else state["position"]
        if rotary is not False:
            q, k = _rotated(where, q, k, given, first, 10_000.0 if rotary is True else rotary)
        if train:
            q, k, v = (checkpoint_name(a, part) for a, part in zip((q, k, v), "qkv", strict=True))
        of_keys = {name: given[name] for name in ("mask", "bias", "lengths") if name in given}
        if memory is not None:
            memory.check(state, x, given)
            *kept, state = memory.extend(state, k, v, x.shape[1] if lengths is None else lengths)
            k, v = (a.astype(q.dtype) for a in kept)  # a cache may have another dtype, such as a narrower one
            of_keys["lengths"] = jnp.broadcast_to(first + x.shape[1], x.shape[:1])
        dropped: dict[str, Any] = {"dropout": dropout, "key": key} if drops and train else {}
        observed = return_weights or "weights" in state
        y: Any = ops.attention(q, k, v, offset=first, **how, **of_keys, **dropped, return_weights=observed)
        if observed:
            y, probabilities = y
            probabilities, state = call(WEIGHTS, "weights", {}, state, probabilities)
        y = y.reshape(*x.shape[:2], params["w_o"].shape[0])
        y = projected("o", checkpoint_name(y, "mixed") if train else y)
        y = y if memory is None else memory.within(y, first)
        y = y if lengths is None else Padded(y, lengths)
        return ((y, probabilities) if return_weights else y), state

    return layer(initial, apply, "attention", name=name, padded="lengths")


class Heads(NamedTuple):
    """Numbers and sizes of the heads of a layer.

    Attributes:
      where: name of the layer, for errors.
      n: number of heads of the queries.
      kv: number of heads of keys and values.
      size: features of a head; None is d / n.
      features: size of the last axis of the result; None is d.
    """

    where: str
    n: int
    kv: int
    size: int | None
    features: int | None

    @classmethod
    def checked(cls, where: str, heads: int, kv_heads: int | None, size: int | None, features: int | None) -> Heads:
        """Heads from the arguments of the layer; raises for arguments that are not valid."""
        n = check.count(where, "heads", heads)
        kv = n if kv_heads is None else check.count(where, "kv_heads", kv_heads)
        if n % kv:
            raise invalid(where, f"kv_heads that divide heads={n}", told=f"{kv}")
        size = None if size is None else check.count(where, "size", size)
        features = None if features is None else check.count(where, "features", features)
        return cls(where, n, kv, size, features)

    def size_of(self, x: Array) -> int:
        """Features of a head for an input x [n, t, d]."""
        d = x.shape[-1]
        if self.size is None and d % self.n:
            raise invalid(self.where, f"features of x that heads={self.n} divide, or size=", told=f"{d}")
        return self.size or d // self.n

    def of_weights(self, x: Array, context: Array) -> dict[str, tuple[int, int]]:
        """Shapes of the weights of q, k, v and o."""
        d, e, size = x.shape[-1], context.shape[-1], self.size_of(x)
        of_keys = e, self.kv * size
        return {"q": (d, self.n * size), "k": of_keys, "v": of_keys, "o": (self.n * size, self.features or d)}

    @staticmethod
    def split(y: Array, heads: int) -> Array:
        """The heads of a projection, [n, t, heads · size] -> [n, t, heads, size]."""
        return y.reshape(*y.shape[:2], heads, y.shape[2] // heads)


def _by_letter(**draws: Callable[..., Any] | None) -> dict[str, Callable[..., Any] | None]:
    return {f"{letter}_{part}": draw for letter, draw in draws.items() for part in "qkvo"}


def _rotated(
    where: str, q: Array, k: Array, given: dict[str, Array], first: Arrays, base: float
) -> tuple[Array, Array]:
    """Queries and keys, rotated by their positions."""
    if "context" in given:
        fix = "Their positions have no common zero."
        raise invalid(where, "rotary=False with a context", told="rotary", fix=fix)
    steps = steps_from(first, q.shape[1])
    positions = given.get("positions", steps if jnp.ndim(first) else steps[0])
    cos, sin = ops.rotary_tables(positions, q.shape[-1], base=base)
    return ops.rotary(q, cos, sin), ops.rotary(k, cos, sin)


def _inputs(where: str, x: Arrays) -> tuple[Any, Any, dict[str, Any], Any]:
    """x, its context, the other inputs with the lengths of the keys, and the lengths of x; padding is set to 0."""
    given: dict[str, Array] = {}
    if isinstance(x, dict):
        if "x" not in x or set(x) - {"x", *BESIDE_X}:
            raise invalid(where, f"x alone or a dict with 'x' and some of {', '.join(BESIDE_X)}", told=", ".join(x))
        given = {k: v for k, v in x.items() if k != "x" and v is not None}
        x = x["x"]
    keys = "context" if "context" in given else "x"
    parts: dict[str, Any] = {"x": padded_pair(x), "context": given.get("context")}
    if "lengths" in given:
        if isinstance(parts[keys], Padded):
            raise invalid(where, f"lengths once, in {keys} or as an entry of its own", told="both")
        parts[keys] = Padded(parts[keys], given["lengths"])
    lengths = {name: part.lengths for name, part in parts.items() if isinstance(part, Padded)}
    for name, shape in (("x", "[n, t, d]"), ("context", "[n, s, e]")):
        if (part := parts[name]) is not None:
            array = check.array(where, name, values_of(part), rank=3, shape=shape)
            if name in lengths and not isinstance(array, jax.ShapeDtypeStruct):
                check_lengths(where, lengths[name], array.shape[0])
                array = without_padding(array, lengths[name])
            parts[name] = array
    given |= {"lengths": lengths[keys]} if keys in lengths else {}
    return parts["x"], parts[keys], given, lengths.get("x")
