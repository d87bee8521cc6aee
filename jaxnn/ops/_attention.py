"""Scaled dot-product attention, and positional encodings: rotary and sinusoidal."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.lax import PrecisionLike
from jax.typing import ArrayLike, DTypeLike

from jaxnn import _checks as check
from jaxnn._dtypes import param_dtype
from jaxnn._errors import invalid, wrong_type
from jaxnn._inputs import known, local_key
from jaxnn._platform import local_cpu
from jaxnn.ops._lengths import before_end, check_lengths, without_padding
from jaxnn.ops._wide import wide_einsum
from jaxnn.types import Key

IMPLEMENTATIONS = (None, "xla", "cudnn")
UNBOUNDED = 2**30  # size of an unlimited window, for functions that require a number


def attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    mask: Array | None = None,
    bias: Array | None = None,
    causal: bool = False,
    window: tuple[int | None, int | None] | None = None,
    offset: ArrayLike = 0,
    lengths: Array | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    dropout: float | Array = 0.0,
    key: Key | None = None,
    precision: PrecisionLike = None,
    implementation: Literal["xla", "cudnn"] | None = None,
    return_weights: bool = False,
) -> Array | tuple[Array, Array]:
    """Scaled dot-product attention, q [n, t, heads, d], k [n, s, kv, d], v [n, s, kv, e] -> [n, t, heads, e].

        y_i = Σ_j softmax_j(scale · q_i k_j + bias_ij) v_j,    over the keys j that query i may attend to

    Each of the kv heads serves heads / kv consecutive heads of q (grouped-query attention; kv = 1 is multi-query). The
    factors of all products, forward and backward, have q's dtype; the sums and the softmax are in at least float32. A
    query without any key to attend to gives 0, where a softmax would give NaN.

    Args:
      q, k, v: queries, keys and values, of equal floating dtype.
      mask: boolean, broadcast with [n, heads, t, s]: True where query i may attend to key j.
      bias: floating, broadcast in the same way and added to the scores, such as a positional bias; -inf excludes a key.
      causal: if True, query i attends to keys up to its own position, offset + i.
      window: (left, right): query i attends to keys from offset + i - left to offset + i + right, integers >= 0; None
        is no limit.
      offset: position of the first query among the keys, equal to the number of keys that a cache already held; an
        integer, or an array [n].
      lengths: integers [n], the number of valid keys of each example. The keys and values after them may hold anything.
      scale: factor of the scores; None is 1 / √d.
      softcap: c > 0 replaces the scores s by c · tanh(s / c), before bias and mask, as in Gemma. None applies no cap.
      dropout: probability of dropping an attention weight, in [0, 1); the others are divided by 1 - dropout. May be
        traced.
      key: random key, required with dropout. Under `shard_map` every shard draws different values.
      precision: of both products, as in `jax.lax.dot_general`.
      implementation: None, or "xla" or "cudnn" for `jax.nn.dot_product_attention`; "cudnn" is its fused kernel for
        float16 and bfloat16 on GPUs. They do not support softcap, dropout, offset, precision or e other than d; "cudnn"
        supports `window` only with causal=True or right = 0. A query without any key to attend to gives the result of
        `jax.nn.dot_product_attention`.
      return_weights: if True, the result is (y, weights), with the attention weights [n, heads, t, s] in at least
        float32, before dropout. Not with `implementation`.

    Raises:
      ValueError: if the shapes do not fit, an argument is out of range, dropout has no key, or `implementation` does
        not support an argument.
      TypeError: if q, k and v are not floating or differ in dtype, the mask is not boolean, the lengths are not
        integers, or the dtype is not supported by "cudnn".

    Differences: layout and grouping are those of `jax.nn.dot_product_attention`. PyTorch's has the heads before t, and
    gives NaN for a query without any key to attend to.

    Reference: Vaswani et al., Attention Is All You Need, 2017; Ainslie et al., GQA, 2023.

    >>> q, k, v = jnp.zeros((1, 3, 2, 4)), jnp.zeros((1, 3, 1, 4)), jnp.arange(3.0).reshape(1, 3, 1, 1)
    >>> attention(q, k, v, causal=True)[0, :, 0, 0].tolist()
    [0.0, 0.5, 1.0]
    """
    q, k, v = (
        check.array("attention", name, x, rank=4, shape="[n, steps, heads, size]")
        for name, x in (("q", q), ("k", k), ("v", v))
    )
    (n, t, heads, d), (s, kv) = q.shape, k.shape[1:3]
    if k.shape != (n, s, kv, d) or v.shape[:3] != (n, s, kv) or not kv or heads % kv:
        expected = "q [n, t, heads, d], k [n, s, kv, d], v [n, s, kv, e], with heads a multiple of kv"
        raise invalid("attention", expected, (q, k, v))
    if not q.dtype == k.dtype == v.dtype:
        raise wrong_type("attention", "q, k and v of equal dtype", (q, k, v))
    check_lengths("attention", lengths, n)
    window, drops = checked_options("attention", causal, window, softcap, dropout)
    check.flags("attention", return_weights=return_weights)
    if scale is not None:
        check.scalar("attention", "scale", scale, -math.inf, ends="()")
    if drops and key is None:
        raise invalid("attention", "a key with dropout", told="None", fix="Pass key=, or dropout=0 to draw nothing.")
    k, v = without_padding(k, lengths), without_padding(v, lengths)
    masks, shape = _of_mask(mask, (n, heads, t, s)), (n, heads, t, s)
    if bias is not None:
        bias = _over_scores("bias", check.array("attention", "bias", bias), shape)
    if implementation is not None:
        offset_0 = isinstance(offset, int | np.integer) and offset == 0
        unknown = {"softcap": softcap is not None, "dropout": drops, "offset": not offset_0, "precision": precision}
        unknown["return_weights"] = return_weights
        check_implementation("attention", implementation, causal, window, unknown)
        return _from_jax(implementation, q, k, v, masks, bias, causal, window, lengths, scale)
    wide = param_dtype(q)
    if kv == heads:
        scores = _scores(q, k, wide, precision)
    else:
        grouped = q.reshape(n, t, kv, heads // kv, d)
        scores = wide_einsum("ntkgd,nskd->nkgts", grouped, k, wide, precision).reshape(shape)
    scores = scores * jnp.asarray(d**-0.5 if scale is None else scale, wide)
    if softcap is not None:
        scores = softcap * jnp.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias.astype(wide)
    rules = [*masks, *_of_positions(shape, causal, window, offset)]
    if lengths is not None:
        rules.append(before_end(lengths, k).reshape(n, 1, 1, s))
    if rules:
        scores = jnp.where(reduce(jnp.logical_and, rules), scores, -jnp.inf)
    weights = _softmax_or_nothing(scores)
    share = weights if key is None or not drops else _dropped(weights, dropout, key)
    share = share.astype(v.dtype)
    if kv == heads:
        y = _mixed(share, v, wide, precision, heads_first=_heads_first(d))
    else:
        y = wide_einsum("nkgts,nske->ntkge", share.reshape(n, kv, heads // kv, t, s), v, wide, precision)
        y = y.reshape(n, t, heads, v.shape[-1])
    y = y.astype(q.dtype)
    return (y, weights) if return_weights else y


def _scores(q: Array, k: Array, dtype: DTypeLike, precision: PrecisionLike) -> Array:
    """Products of queries and keys, [n, t, heads, d], [n, s, heads, d] -> [n, heads, t, s]."""
    if _heads_first(q.shape[-1]):
        return wide_einsum("nhtd,nhsd->nhts", jnp.swapaxes(q, 1, 2), jnp.swapaxes(k, 1, 2), dtype, precision)
    return wide_einsum("nthd,nshd->nhts", q, k, dtype, precision)


def _mixed(weights: Array, v: Array, dtype: DTypeLike, precision: PrecisionLike, heads_first: bool) -> Array:
    """Weighted sums of values, [n, heads, t, s], [n, s, heads, e] -> [n, t, heads, e]."""
    if heads_first:
        y = wide_einsum("nhts,nhse->nhte", weights, jnp.swapaxes(v, 1, 2), dtype, precision)
        return jnp.swapaxes(y, 1, 2)
    return wide_einsum("nhts,nshe->nthe", weights, v, dtype, precision)


def _heads_first(size: int) -> bool:
    """True if products over heads of `size` features are faster with the heads before the steps, on a CPU.

    The compiler then transposes each factor once for forward and backward passes: with heads of 64 features or more,
    attention and its projections take 0.92 to 0.98 of the time, forward alone 0.92 to 0.96. With smaller heads the
    forward pass gains as much, and the gradient loses up to 8 %.
    """
    return local_cpu() and size >= 64


def checked_options(
    where: str, causal: Any, window: Any, softcap: Any, dropout: Any
) -> tuple[tuple[int | None, int | None] | None, bool]:
    """The window with Python ints, and whether attention weights are dropped; raises for options out of range."""
    check.flags(where, causal=causal)
    if softcap is not None:
        check.scalar(where, "softcap", softcap, ends="()")
    check.scalar(where, "dropout", dropout, below=1.0, fix="It is the probability of dropping.")
    return _window(where, window), not (known(dropout) and dropout == 0)


def _window(where: str, window: Any) -> tuple[int | None, int | None] | None:
    """The window with Python ints; raises unless it is None or a pair of integers >= 0 or None."""
    if window is None:
        return None
    expected, fix = "window to be a pair of steps before and after", "(k, 0) is the k steps before a query and itself."
    if not isinstance(window, tuple | list):
        raise wrong_type(where, expected, window, fix)
    if len(window) != 2:
        raise invalid(where, expected, window, fix)
    before, after = (n if n is None else check.count(where, "each side of window", n, least=0) for n in window)
    return before, after


def check_implementation(where: str, implementation: Any, causal: bool, window: Any, given: dict[str, Any]) -> None:
    """Raises for an unknown implementation, or one that does not support the arguments in `given`."""
    check.choice(where, "implementation", implementation, IMPLEMENTATIONS)
    if implementation is None:
        return
    unknown = [name for name, value in given.items() if value not in (None, False)]
    if implementation == "cudnn" and window is not None and not causal and window[1] != 0:
        unknown.append("window without causal=True")
    if unknown:
        fix = "jax.nn.dot_product_attention has none: leave implementation= out."
        raise invalid(
            where, f"no {unknown[0]} with implementation={implementation!r}", told=", ".join(unknown), fix=fix
        )


def _from_jax(
    implementation: Literal["xla", "cudnn"],
    q: Array,
    k: Array,
    v: Array,
    masks: list[Array],
    bias: Array | None,
    causal: bool,
    window: Any,
    lengths: Array | None,
    scale: float | None,
) -> Array:
    """Attention by `jax.nn.dot_product_attention`."""
    if v.shape[-1] != q.shape[-1]:
        raise invalid("attention", f"v with heads of q's size and implementation={implementation!r}", (q, v))
    if implementation == "cudnn" and jnp.finfo(q.dtype).bits > 16:
        raise wrong_type("attention", "float16 or bfloat16 with implementation='cudnn'", q)
    left, right = (None, None) if window is None else window
    causal = causal or right == 0
    local = None
    if left is not None or (right is not None and not causal):
        right = 0 if causal else right
        local = (UNBOUNDED if left is None else left, UNBOUNDED if right is None else right)
    over = (q.shape[1], k.shape[1])
    full = [None if x is None else jnp.broadcast_to(x, (*x.shape[:2], *over)) for x in (bias, *masks)]
    with jax.numpy_dtype_promotion("standard"):
        return jax.nn.dot_product_attention(
            q,
            k,
            v,
            bias=full[0],
            mask=full[1] if masks else None,
            scale=scale,
            is_causal=causal,
            key_value_seq_lengths=None if lengths is None else jnp.asarray(lengths, jnp.int32),
            local_window_size=local,
            implementation=implementation,
        )


def _dropped(share: Array, rate: float | Array, key: Key) -> Array:
    keep = (1 - jnp.asarray(rate, jnp.float32)).astype(share.dtype)
    kept = jax.random.uniform(local_key(key, share), share.shape, jnp.float32) < keep.astype(jnp.float32)
    return jnp.where(kept, share / keep, 0)


def _of_mask(mask: Array | None, shape: tuple[int, ...]) -> list[Array]:
    if mask is None:
        return []
    check.kind("attention", "mask", mask, "boolean", "True where a query may see; numbers are a bias.")
    return [_over_scores("mask", jnp.asarray(mask), shape)]


def _of_positions(shape: tuple[int, ...], causal: bool, window: Any, offset: ArrayLike) -> list[Array]:
    """Boolean masks of causality and window, of shapes that broadcast with the scores."""
    if not causal and window is None:
        return []
    n, _, t, s = shape
    if jnp.shape(offset) not in ((), (n,)):
        raise invalid("attention", f"offset to be one number or of shape [{n}]", offset)
    first = jnp.asarray(offset, jnp.int32).reshape(-1, 1, 1, 1)
    query, seen = jnp.arange(t, dtype=jnp.int32).reshape(1, 1, t, 1), jnp.arange(s, dtype=jnp.int32)
    behind = first + query - seen.reshape(1, 1, 1, s)
    rules = [behind >= 0] if causal else []
    left, right = (None, None) if window is None else window
    for limit, steps in ((left, behind), (right, -behind)):
        if limit is not None:
            rules.append(steps <= limit)
    return rules


def _over_scores(argument: str, x: Array, shape: tuple[int, ...]) -> Array:
    fits = x.ndim <= 4 and all(a in (1, b) for a, b in zip(x.shape[::-1], shape[::-1], strict=False))
    if not fits:
        raise invalid("attention", f"{argument} that broadcasts with the scores {list(shape)}", x)
    return x.reshape((1,) * (4 - x.ndim) + x.shape)


@jax.custom_jvp
def _softmax_or_nothing(scores: Array) -> Array:
    """Softmax over the last axis; value and gradient are 0 where all scores are -inf."""
    top = lax.stop_gradient(jnp.max(scores, -1, keepdims=True, initial=-jnp.inf))
    e = jnp.exp(scores - jnp.where(top == -jnp.inf, 0, top))
    total = jnp.sum(e, -1, keepdims=True)
    return e / jnp.where(total == 0, 1, total)


@_softmax_or_nothing.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """y (d - Σ y d): the backward pass stores y alone."""
    y, (d,) = _softmax_or_nothing(*primals), tangents
    return y, y * (d - jnp.sum(y * d, -1, keepdims=True))


def rotary_tables(positions: ArrayLike, size: int, *, base: float = 10_000.0) -> tuple[Array, Array]:
    """Cosines and sines for `rotary`, positions [..., t] -> two arrays [..., t, size / 2], float32.

        angle = position / base^(2 i / size),    i = 0 ... size / 2 - 1

    Args:
      positions: integers or floats.
      size: number of features to rotate, an even integer: all features of a head, or its first ones.
      base: > 0; use a larger one for longer contexts (LLaMA 3: 500 000).

    Raises:
      ValueError: if `size` is odd or less than 2.

    >>> cos, sin = rotary_tables(jnp.arange(3), 4)
    >>> cos.shape, sin[0].tolist()
    ((3, 2), [0.0, 0.0])
    """
    size = check.count("rotary_tables", "size", size, least=2)
    if size % 2:
        raise invalid("rotary_tables", "an even size", size)
    check.scalar("rotary_tables", "base", base, ends="()", static=True)
    rate = np.asarray(base ** (-np.arange(0, size, 2) / size), np.float32)
    angle = jnp.asarray(positions, jnp.float32)[..., None]
    angle = angle * rate.reshape((1,) * (angle.ndim - 1) + rate.shape)
    return jnp.cos(angle), jnp.sin(angle)


def rotary(x: Array, cos: Array, sin: Array, *, interleaved: bool = False) -> Array:
    """Rotary position embedding, [n, t, heads, d] -> [n, t, heads, d]: rotates pairs of features (a, b) by position.

        (a, b) -> (a cos - b sin, a sin + b cos)

    The dot product of a rotated query and a rotated key depends only on the difference of their positions.

    Args:
      x: queries or keys, floating.
      cos, sin: [t, r / 2] or [n, t, r / 2], from `rotary_tables`. The first r features are rotated, the others are
        unchanged.
      interleaved: True pairs adjacent features (the paper, GPT-J); False pairs those of the first and second half
        (GPT-NeoX, LLaMA).

    Raises:
      ValueError: if the shapes do not fit.
      TypeError: if x is not floating.

    Reference: Su et al., RoFormer: Enhanced Transformer with Rotary Position Embedding, 2021.

    >>> cos, sin = rotary_tables(jnp.array([0.0, jnp.pi / 2]), 2)
    >>> rotary(jnp.array([[[[1.0, 0.0]], [[1.0, 0.0]]]]), cos, sin)[0, :, 0, 1].round(3).tolist()
    [0.0, 1.0]
    """
    check.flags("rotary", interleaved=interleaved)
    x = check.array("rotary", "x", x, rank=4, shape="[n, t, heads, d]")
    n, t, _, d = x.shape
    r = 2 * jnp.shape(cos)[-1] if jnp.ndim(cos) else 0
    if jnp.shape(cos) != jnp.shape(sin) or jnp.shape(cos) not in ((t, r // 2), (n, t, r // 2)) or r > d:
        raise invalid("rotary", f"cos and sin of shape [{t}, r / 2] or [{n}, {t}, r / 2] with r <= {d}", (cos, sin))
    wide = param_dtype(x)
    cos, sin = (jnp.asarray(v, wide).reshape(*jnp.shape(v)[:-2] or (1,), t, 1, r // 2) for v in (cos, sin))
    turned, rest = x[..., :r].astype(wide), x[..., r:]
    a, b = (turned[..., ::2], turned[..., 1::2]) if interleaved else jnp.split(turned, 2, -1)
    pair = a * cos - b * sin, a * sin + b * cos
    turned = jnp.stack(pair, -1).reshape(turned.shape) if interleaved else jnp.concatenate(pair, -1)
    return jnp.concatenate([turned.astype(x.dtype), rest], -1)


def sinusoidal(positions: ArrayLike, features: int, *, base: float = 10_000.0) -> Array:
    """Sinusoidal positional encoding, [..., t] -> [..., t, features], float32: sines and cosines, interleaved.

        sin(position / base^(2 i / features)), cos(position / base^(2 i / features)),    i = 0 ... features / 2 - 1

    Args:
      positions: integers or floats.
      features: an even integer.
      base: > 0, as in `rotary_tables`.

    Raises:
      ValueError: if `features` is odd or less than 2.

    Reference: Vaswani et al., Attention Is All You Need, 2017.

    >>> sinusoidal(jnp.arange(2), 2).round(3).tolist()
    [[0.0, 1.0], [0.84..., 0.54...]]
    """
    features = check.count("sinusoidal", "features", features, least=2)
    cos, sin = rotary_tables(positions, features, base=base)
    return jnp.stack([sin, cos], -1).reshape(*cos.shape[:-1], features)
