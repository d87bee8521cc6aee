"""Pooling over one, two or three space axes, channels last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import max_dim, min_dim
from jax.export import is_symbolic_dim

from jaxnn import _checks as check
from jaxnn._dtypes import param_dtype
from jaxnn._errors import invalid
from jaxnn.ops._largest import largest, wins
from jaxnn.ops._window import Padding, pads, per_axis, taps
from jaxnn.types import Arrays


def max_pool(
    x: Array,
    kernel_size: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
) -> Array:
    """Max pooling, [n, *space, c] -> [n, *space', c].

    The gradient goes to the first of equal values, as in PyTorch. A NaN under the kernel gives NaN. Padding counts as
    -inf.

    Args:
      x: images or sequences, floating, with 1 to 3 space axes.
      kernel_size: an integer >= 1 for all space axes, or one for each.
      stride: distance between kernel positions, in the same form; None is the kernel size, as in PyTorch and Keras.
      padding: "valid" (none), "same", an integer >= 0, or an integer or (before, after) for each axis, as in `conv`.
        PyTorch's default 0 is "valid".
      dilation: distance between the elements of the kernel, an integer >= 1 for all space axes or one for each.
      ceil_mode: if True, a last kernel position that extends beyond the padding is kept, provided that it begins within
        x or the padding before it.

    Raises:
      ValueError: if the shapes do not fit, or an argument is out of range.
      TypeError: if x is not floating, or `ceil_mode` is not a bool.

    >>> max_pool(jnp.array([1.0, 3.0, 2.0, 5.0]).reshape(1, 4, 1), 2)[0, :, 0].tolist()
    [3.0, 5.0]
    """
    x, how = _checked("max_pool", x, kernel_size, stride, padding, dilation, ceil_mode)
    return largest(x, how.kernel_size, how.stride, how.dilation, how.sides)


def max_pool_with_indices(
    x: Array,
    kernel_size: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
) -> tuple[Array, Array]:
    """Max pooling and the indices of the maxima, [n, *space, c] -> ([n, *space', c], int32 [n, *space', c]).

    An index is the position in an example's space, flattened in row-major order, as in PyTorch; that of the first of
    equal values. `max_unpool` is the partial inverse.

    Args:
      x, kernel_size, stride, padding, dilation, ceil_mode: as in `max_pool`.

    Raises:
      ValueError, TypeError: as `max_pool`.

    >>> max_pool_with_indices(jnp.array([1.0, 3.0, 2.0, 5.0]).reshape(1, 4, 1), 2)[1][0, :, 0].tolist()
    [1, 3]
    """
    x, how = _checked("max_pool_with_indices", x, kernel_size, stride, padding, dilation, ceil_mode)
    sides = ((0, 0), *how.sides, (0, 0))
    places = jnp.arange(prod(x.shape[1:-1]), dtype=jnp.int32).reshape(1, *x.shape[1:-1], 1)
    places = jnp.pad(places + jnp.zeros_like(x, jnp.int32), sides, constant_values=-1)
    x = jnp.pad(x, sides, constant_values=-jnp.inf)

    def later(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
        (va, ia), (vb, ib) = a, b
        take = wins(va, vb, ia >= 0, ib >= 0)
        return jnp.where(take, vb, va), jnp.where(take, ib, ia)

    return reduce(later, zip(taps(x, *how[:3]), taps(places, *how[:3]), strict=True))


def max_unpool(y: Array, indices: Array, size: int | Sequence[int]) -> Array:
    """Max unpooling: values at the indices of their maxima, else 0, [n, *space', c] -> [n, *space, c].

    Args:
      y: pooled values, floating.
      indices: integers of y's shape from `max_pool_with_indices`, positions in `size` in row-major order. A position
        given twice keeps one of the values; positions out of range are ignored.
      size: space of the result, an integer for all space axes or one for each.

    Raises:
      ValueError: if the shapes differ.
      TypeError: if the indices are not integers or y is not floating.

    Differences: PyTorch's MaxUnpool derives the size by default; here it is required.

    >>> max_unpool(jnp.array([3.0, 5.0]).reshape(1, 2, 1), jnp.array([1, 3]).reshape(1, 2, 1), 4)[0, :, 0].tolist()
    [0.0, 3.0, 0.0, 5.0]
    """
    y = _images("max_unpool", y)
    check.kind("max_unpool", "indices", indices, "integer")
    check.shape("max_unpool", "indices", indices, y.shape, ", that of y")
    if not (isinstance(size, Sequence) and len(size) == y.ndim - 2 and any(map(is_symbolic_dim, size))):
        size = per_axis("max_unpool", "size", size, y.ndim - 2)
    n, c, places = y.shape[0], y.shape[-1], prod(size)
    at = jnp.asarray(indices, jnp.int32).reshape(n, -1, c)
    at = jnp.where((at >= 0) & (at < places), at, places)

    def one(at: Array, y: Array) -> Array:
        return jnp.zeros((places, c), y.dtype).at[at, jnp.arange(c)[None, :]].set(y, mode="drop")

    return jax.vmap(one)(at, y.reshape(n, -1, c)).reshape(n, *size, c)


def avg_pool(
    x: Array,
    kernel_size: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> Array:
    """Average pooling, [n, *space, c] -> [n, *space', c], summed in at least float32.

    Padding does not count by default, as in Keras.

    Args:
      x: images or sequences, floating, with 1 to 3 space axes.
      kernel_size: an integer >= 1 for all space axes, or one for each.
      stride: distance between kernel positions, in the same form; None is the kernel size.
      padding: as in `max_pool`.
      dilation: distance between the elements of the kernel, an integer >= 1 for all space axes or one for each.
      ceil_mode: as in `max_pool`.
      count_include_pad: if True, padding counts as zeros, as is PyTorch's default; what `ceil_mode` adds never counts.

    Raises:
      ValueError: if the shapes do not fit, or an argument is out of range.
      TypeError: if x is not floating, or `ceil_mode` is not a bool.

    >>> avg_pool(jnp.array([1.0, 3.0, 2.0, 5.0]).reshape(1, 4, 1), 2)[0, :, 0].tolist()
    [2.0, 3.5]
    """
    check.flags("avg_pool", count_include_pad=count_include_pad)
    x, how = _checked("avg_pool", x, kernel_size, stride, padding, dilation, ceil_mode)
    total = _reduced(x.astype(param_dtype(x)), lax.add, 0.0, how)
    counts = reduce(_outer, _counts(x.shape[1:-1], how, count_include_pad))
    if isinstance(counts, np.ndarray) and (counts == prod(how.kernel_size)).all():
        return (total / prod(how.kernel_size)).astype(x.dtype)
    return (total / jnp.asarray(counts, total.dtype)[None, ..., None]).astype(x.dtype)


def lp_pool(
    x: Array,
    kernel_size: int | Sequence[int],
    *,
    p: float = 2.0,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
) -> Array:
    """p-norm pooling, (Σ |x|^p)^(1/p), [n, *space, c] -> [n, *space', c].

    p = 1 is sum pooling of |x|; the limit p = inf is max pooling of |x|. Summed in at least float32. If all values
    under the kernel are 0, the gradient is 0.

    Args:
      x: images or sequences, floating, with 1 to 3 space axes.
      kernel_size: an integer >= 1 for all space axes, or one for each.
      p: exponent, a finite number >= 1.
      stride: distance between kernel positions, in the same form as `kernel_size`; None is the kernel size.
      padding, dilation, ceil_mode: as in `max_pool`.

    Raises:
      ValueError: if the shapes do not fit, or an argument is out of range.
      TypeError: if x is not floating, or `ceil_mode` is not a bool.

    Differences: PyTorch omits the absolute value, which differs for odd p.

    >>> lp_pool(jnp.array([3.0, -4.0, 0.0, 0.0]).reshape(1, 4, 1), 2)[0, :, 0].tolist()
    [5.0, 0.0]
    """
    x, how = _checked("lp_pool", x, kernel_size, stride, padding, dilation, ceil_mode)
    check.scalar("lp_pool", "p", p, 1.0, static=True)
    y = jnp.abs(x.astype(param_dtype(x)))
    for axis, (k, s, d, _, sides) in enumerate(zip(*how, strict=True)):  # the norm of the norms along each space axis
        only = [(1,) * axis + (v,) + (1,) * (len(how.kernel_size) - axis - 1) for v in (k, s, d)]
        padded = jnp.pad(y, [sides if i == axis + 1 else (0, 0) for i in range(y.ndim)])
        y = _norm(taps(padded, *only), p)
    return y.astype(x.dtype)


def _norm(parts: list[Array], p: float) -> Array:
    """(Σ a^p)^(1/p) of non-negative parts, scaled by the largest, so that powers neither overflow nor underflow."""
    most = lax.stop_gradient(reduce(jnp.maximum, parts))
    unit = jnp.where((most > 0) & (most < jnp.inf), most, 1)
    ratios = [a / unit for a in parts]
    total = reduce(jnp.add, [jnp.square(r) if p == 2 else r if p == 1 else r**p for r in ratios])
    some = total > 0
    return unit * jnp.where(some, jnp.where(some, total, 1) ** (1 / p), total)


def global_max_pool(x: Array, *, where: Array | None = None) -> Array:
    """Global max pooling: maximum over space, [n, *space, c] -> [n, c]; equal values share the gradient.

    Args:
      x: images or sequences, floating.
      where: boolean, broadcast with x; positions where it is False are ignored, whatever they hold. Without any
        position the result is 0.

    Raises:
      ValueError: if a space axis is empty, or x has no space axis.
      TypeError: if x is not floating.

    >>> global_max_pool(jnp.array([1.0, 3.0, 2.0]).reshape(1, 3, 1)).tolist()
    [[3.0]]
    """
    x = _filled("global_max_pool", x)
    axes = tuple(range(1, x.ndim - 1))
    if where is None:
        return jnp.max(x, axes)
    where = jnp.broadcast_to(where, x.shape)
    some = where.any(axes)
    largest = jnp.max(jnp.where(where, x, -jnp.inf), axes)
    return jnp.where(some, largest, jnp.zeros((), x.dtype))


def global_avg_pool(x: Array, *, where: Array | None = None) -> Array:
    """Global average pooling: mean over space, [n, *space, c] -> [n, c], summed in at least float32.

    Args:
      x: images or sequences, floating.
      where: boolean, broadcast with x; positions where it is False are ignored, whatever they hold. Without any
        position the result is 0.

    Raises:
      ValueError: if a space axis is empty, or x has no space axis.
      TypeError: if x is not floating.

    >>> global_avg_pool(jnp.array([1.0, 3.0, 2.0]).reshape(1, 3, 1)).tolist()
    [[2.0]]
    """
    x = _filled("global_avg_pool", x)
    axes, wide = tuple(range(1, x.ndim - 1)), x.astype(param_dtype(x))
    if where is None:
        return jnp.mean(wide, axes).astype(x.dtype)
    where = jnp.broadcast_to(where, x.shape)
    total = jnp.sum(jnp.where(where, wide, jnp.zeros((), wide.dtype)), axes)
    return (total / jnp.maximum(jnp.sum(where, axes, dtype=wide.dtype), 1)).astype(x.dtype)


def adaptive_avg_pool(x: Array, size: int | Sequence[int]) -> Array:
    """Average pooling to a given size, [n, *space, c] -> [n, *size, c].

    Part i of an axis of n positions goes from floor(i n / size) to ceil((i + 1) n / size), as in PyTorch. Adjacent
    parts share positions if size does not divide n, and repeat them if size > n.

    Args:
      x: images or sequences, floating.
      size: size of the result, an integer >= 1 for all space axes or one for each.

    Raises:
      ValueError: if the shapes do not fit.
      TypeError: if x is not floating.

    >>> adaptive_avg_pool(jnp.arange(4.0).reshape(1, 4, 1), 2)[0, :, 0].tolist()
    [0.5, 2.5]
    """
    return _adaptive("adaptive_avg_pool", x, size, jnp.mean)


def adaptive_max_pool(x: Array, size: int | Sequence[int]) -> Array:
    """Max pooling to a given size, [n, *space, c] -> [n, *size, c].

    The parts are those of `adaptive_avg_pool`. Equal values share the gradient equally.

    Args:
      x: images or sequences, floating.
      size: size of the result, an integer >= 1 for all space axes or one for each.

    Raises:
      ValueError: if the shapes do not fit.
      TypeError: if x is not floating.

    >>> adaptive_max_pool(jnp.arange(5.0).reshape(1, 5, 1), 2)[0, :, 0].tolist()
    [2.0, 4.0]
    """
    return _adaptive("adaptive_max_pool", x, size, jnp.max)


def _adaptive(where: str, x: Array, size: int | Sequence[int], reduce: Callable[..., Any]) -> Array:
    x = _filled(where, x)
    parts = per_axis(where, "size", size, x.ndim - 2)
    for axis, (n, k) in enumerate(zip(x.shape[1:-1], parts, strict=True), start=1):
        if n % k == 0:
            x = reduce(x.reshape(*x.shape[:axis], k, n // k, *x.shape[axis + 1 :]), axis + 1)
        else:
            windows = [lax.slice_in_dim(x, i * n // k, -(-(i + 1) * n // k), axis=axis) for i in range(k)]
            x = jnp.stack([reduce(w, axis) for w in windows], axis)
    return x


class _How(NamedTuple):
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]  # as the argument asks
    sides: tuple[tuple[int, int], ...]  # including the positions that ceil_mode adds


def _images(where: str, x: Array) -> Array:
    x = check.array(where, "x", x, least=3, shape="[n, *space, c]")
    if x.ndim > 5:
        raise invalid(where, "x of shape [n, *space, c] with 1 to 3 space axes", x)
    return x


def _filled(where: str, x: Array) -> Array:
    x = _images(where, x)
    if any(not is_symbolic_dim(n) and n == 0 for n in x.shape[1:-1]):
        raise invalid(where, "x with at least one step on each space axis", x)
    return x


def _checked(
    where: str, x: Array, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any
) -> tuple[Any, ...]:
    x = _images(where, x)
    rank = x.ndim - 2
    kernel_size = per_axis(where, "kernel_size", kernel_size, rank)
    stride = kernel_size if stride is None else per_axis(where, "stride", stride, rank)
    dilation = per_axis(where, "dilation", dilation, rank)
    asked = pads(where, padding, x.shape[1:-1], kernel_size, stride, dilation)
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel_size, dilation, strict=True))
    if any(max(p) >= k for p, k in zip(asked, reach, strict=True) if padding != "same"):
        fix = "A kernel over padding alone has no value."
        raise invalid(where, f"padding shorter than the kernel {reach}", asked, fix)
    check.flags(where, ceil_mode=ceil_mode)
    sides = asked
    if ceil_mode:
        sides = tuple(_ceiled(*at) for at in zip(x.shape[1:-1], reach, stride, asked, strict=True))
    how = _How(kernel_size, stride, dilation, asked, sides)
    if not all(count.all() for count in _counts(x.shape[1:-1], how) if isinstance(count, np.ndarray)):
        raise invalid(where, "padding and dilation that leave each kernel position a value of x", (x, asked))
    return x, how


def _ceiled(n: Arrays, reach: int, stride: int, sides: tuple[Any, Any]) -> tuple[Any, Any]:
    """Padding that completes the last kernel position that begins within x or the padding before it."""
    before, after = sides
    last = min_dim(-(-(n + before + after - reach) // stride), (n + before - 1) // stride)
    return before, max_dim(after, last * stride + reach - n - before)


def _reduced(x: Array, op: Callable[..., Any], start: float, how: _How) -> Array:
    sides = ((0, 0), *how.sides, (0, 0))
    kernel_size, stride, dilation = ((1, *sizes, 1) for sizes in how[:3])
    return lax.reduce_window(x, start, op, kernel_size, stride, sides, window_dilation=dilation)


def _counts(size: Sequence[Any], how: _How, with_padding: bool = False) -> list[np.ndarray | Array]:
    """Number of counted elements at each kernel position, per axis; static except for axes of symbolic size."""
    return [_count(*axis, with_padding) for axis in zip(size, *how, strict=True)]  # type: ignore[call-arg]


def _count(n: Arrays, k: int, s: int, d: int, asked: Any, sides: Any, with_padding: bool) -> np.ndarray | Array:
    lowest, end = (-asked[0], n + asked[1]) if with_padding else (0, n)
    if is_symbolic_dim(n):
        if sides == (0, 0):
            return np.full(1, k)
        more = sides[0] + lowest, n + sides[1] - end
        return lax.reduce_window(jnp.ones(end - lowest), 0.0, lax.add, (k,), (s,), (more,), window_dilation=(d,))
    first = np.arange((n + sum(sides) - (k - 1) * d - 1) // s + 1) * s - sides[0]
    taps = first[:, None] + np.arange(k)[None, :] * d
    return ((taps >= lowest) & (taps < end)).sum(1)


def _outer(a: np.ndarray | Array, b: np.ndarray | Array) -> np.ndarray | Array:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.multiply.outer(a, b)
    return jnp.asarray(a, jnp.float32)[..., None] * jnp.expand_dims(jnp.asarray(b, jnp.float32), range(np.ndim(a)))
