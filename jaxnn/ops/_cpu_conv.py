"""The lowering of `jaxnn_conv` on CPUs: canonical order, and a faster form where there is one.

- lax writes the gradients of a convolution with permuted dimension numbers. XLA's CPU compiler puts them in canonical
  order at the top level of a program but not inside a loop, where they run as naive loops, tens of times slower. Here
  every convolution is put in canonical order, [n, *space, c] by [*kernel_size, c, features], by explicit transposes.
- XLA's grouped convolutions, and above all their gradients, are naive loops on a CPU. A small number of groups, or of
  members of a `vmap` (which lax turns into groups), is unrolled into separate convolutions. Depthwise convolutions are
  computed as sums over the elements of the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from math import prod
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.export import is_symbolic_dim

from jaxnn.ops._window import taps

# Largest number of groups, and of members of a vmap over both operands, that a CPU unrolls; more compile too long.
UNROLLED = 16
UNROLLED_TAPS = 125  # largest number of elements of a depthwise kernel that a CPU unrolls
# The gradient of a kernel with few input channels has few elements, each a very long sum. As a sum over parts of 8
# examples it takes 0.78 of the time ([64, 32, 32, 16], 3 by 3), and a step of ResNet-20 0.89; 32 channels, or parts of
# 16 examples, gain nothing.
PART = 8
PARTED_CHANNELS, PARTED_PLACES, PARTED_EXAMPLES = 16, 200, range(64, 129, PART)


def cpu_conv(x: Array, w: Array, *, members: int, dimension_numbers: Any, **how: Any) -> Array:
    """CPU lowering: any convolution in canonical order, between explicit transposes, one member of a `vmap` at a time.

    Members are the outermost factor of the groups; `members=0` means that there are too many to unroll.
    """
    how.pop("out_sharding")
    one = partial(_in_order, dimension_numbers=dimension_numbers, unrolled=members > 0)
    if members < 2 or how["depthwise"]:
        return one(x, w, **how)
    (n, c, *_), (o, *_), (_, features, *_) = dimension_numbers
    groups = "batch_group_count" if how["batch_group_count"] > 1 else "feature_group_count"
    how[groups] //= members
    xs, ws = _parted(x, n if groups == "batch_group_count" else c, members), _parted(w, o, members)
    y = jnp.stack([one(*operands, **how) for operands in zip(xs, ws, strict=True)])
    return lax.collapse(jnp.moveaxis(y, 0, features), features, features + 2)


def _parted(v: Array, axis: int, members: int) -> list[Array]:
    """Splits an axis into members, [..., members · c, ...] -> list of `members` arrays [..., c, ...].

    Members are stacked on axis 0 and taken from there, although lax's rules place them next to the channels: the
    compiler then keeps each member in contiguous memory, and the transposes cost nothing.
    """
    v = jnp.moveaxis(v.reshape(*v.shape[:axis], members, v.shape[axis] // members, *v.shape[axis + 1 :]), axis, 0)
    return [v[m] for m in range(members)]


def _in_order(x: Array, w: Array, *, dimension_numbers: Any, depthwise: bool, unrolled: bool, **how: Any) -> Array:
    """Convolution of x and w in canonical order, transposed back to the original dimension numbers."""
    (n, c, *space), (o, i, *kernel_size), out = dimension_numbers
    form: Callable[..., Any] = partial(_grouped, unrolled=unrolled)
    if depthwise:
        form = _by_tap if how["batch_group_count"] == 1 else _by_place
    y = form(lax.transpose(x, (n, *space, c)), lax.transpose(w, (*kernel_size, i, o)), **how)
    made = (out[0], *out[2:], out[1])
    return lax.transpose(y, tuple(made.index(axis) for axis in range(y.ndim)))


def _grouped(
    x: Array, w: Array, *, feature_group_count: int, batch_group_count: int, unrolled: bool = False, **how: Any
) -> Array:
    """Grouped convolution, unrolled into one convolution per group if there are at most `UNROLLED`."""
    groups = feature_group_count * batch_group_count
    if groups == 1:
        return _single(x, w, **how)
    if not unrolled or groups > UNROLLED:
        how |= {"feature_group_count": feature_group_count, "batch_group_count": batch_group_count}
        how.pop("backward")
        return _canonical(x, w, **how)
    parts = zip(jnp.split(x, groups, -1 if batch_group_count == 1 else 0), jnp.split(w, groups, -1), strict=True)
    return jnp.concatenate([_single(*part, **how) for part in parts], -1)


def _single(x: Array, w: Array, *, backward: bool, **how: Any) -> Array:
    """Convolution without groups, in its fastest form."""
    if any(map(is_symbolic_dim, (*x.shape, *w.shape))) or jnp.finfo(x.dtype).bits < 32:
        return _canonical(x, w, **how)
    product = _as_product(x, w, backward, how)
    if product is not None:
        return product
    few = _of_few(x, w, backward, how)
    if few is not None:
        return few
    return (_in_parts if _is_long_sum(x, w) else _canonical)(x, w, **how)


def _is_long_sum(x: Array, w: Array) -> bool:
    """True for the gradient of a kernel, x [c, *space, n] by w [*space', n, o], that is faster as a sum over parts."""
    few, many = x.shape[0] <= PARTED_CHANNELS, prod(w.shape[:-2]) >= PARTED_PLACES
    return few and many and x.shape[-1] in PARTED_EXAMPLES


def _in_parts(x: Array, w: Array, **how: Any) -> Array:
    """Convolution as the sum of those of `PART` channels at a time."""
    xs, ws = (jnp.split(v, x.shape[-1] // PART, axis) for v, axis in ((x, -1), (w, -2)))
    parts = [_canonical(*part, **how) for part in zip(xs, ws, strict=True)]
    return sum(parts[1:], parts[0])


# Convolutions of few channels or to few features, such as first and last layers, are small matrix products: XLA's
# convolution spends most of its time on reading x into matrices. A sum over kernel elements and channels, one loop over
# the result, takes 0.16 of the time for 3 by 3 on 1 channel and 0.4 on 3 or 4; with 54 products for an element of the
# result 0.7, with 72 1.8. To 1 to 4 features, the products of all positions with each kernel element, moved and summed,
# take 0.35 to 0.7. Small results gain less than by XLA's fusion with the layers around them.
PRODUCTS, FEATURES, CHANNELS = 36, 4, 16
ELEMENTS = 2**16


def _of_few(x: Array, w: Array, backward: bool, how: dict[str, Any]) -> Array | None:
    """A convolution in canonical order, of few channels or to few features; None if it is not faster."""
    *kernel_size, channels, features = w.shape
    sizes = _sizes(x.shape[1:-1], kernel_size, how)
    places = x.shape[0] * prod(sizes)
    if max(how["lhs_dilation"]) > 1 or prod(kernel_size) == 1:
        return None
    if not backward and prod(kernel_size) * channels <= PRODUCTS and places * features >= ELEMENTS:
        return _by_tap_and_channel(x, w, how)
    few = features <= FEATURES and prod(kernel_size) * features <= PRODUCTS
    if few and channels >= CHANNELS and max(how["window_strides"]) == 1 and places * channels >= ELEMENTS:
        return _by_moved_products(x, w, how)
    return None


def _by_tap_and_channel(x: Array, w: Array, how: dict[str, Any]) -> Array:
    """[n, *space, c], [*k, c, o] -> [n, *sizes, o]: Σ_a Σ_c x[i · stride + a, c] w[a, c] at position i."""
    stride, padding, spread, reach = _per_axis(how)
    dtype = how["preferred_element_type"] or x.dtype
    x, each = _padded(x.astype(dtype), padding, spread), w.astype(dtype).reshape(-1, *(1,) * (x.ndim - 1), w.shape[-1])
    slices = [
        lax.slice_in_dim(part, c, c + 1, axis=-1)
        for part in taps(x, w.shape[:-2], stride, reach)
        for c in range(x.shape[-1])
    ]
    parts = [part * v for part, v in zip(slices, each, strict=True)]
    return sum(parts[1:], parts[0])


def _by_moved_products(x: Array, w: Array, how: dict[str, Any]) -> Array:
    """[n, *space, c], [*k, c, o] -> [n, *sizes, o]: the products x w[a] of all positions, moved by a and summed."""
    *kernel_size, _, features = w.shape
    rank = len(kernel_size)
    _, padding, spread, reach = _per_axis(how)
    y = _product(x, w, [x.ndim - 1], [rank], how)  # [n, *space, *k, o]
    y = _padded(y.reshape(*x.shape[:-1], -1), padding, spread)
    moved = enumerate(taps(y, kernel_size, (1,) * rank, reach))
    parts = [lax.slice_in_dim(part, i * features, (i + 1) * features, axis=-1) for i, part in moved]
    return sum(parts[1:], parts[0])


# A kernel no larger than its stride takes each value of x at most once, and its convolution is one matrix product. Both
# gradients take 0.12 of the time for patches of 16 by 16, 0.5 to 0.75 for kernels of 1 by 1, and 0.13 to 0.3 for a
# transposed convolution of 2 by 2. Forward XLA's convolution is as fast, and left as it is.


def _as_product(x: Array, w: Array, backward: bool, how: dict[str, Any]) -> Array | None:
    """A convolution in canonical order as one matrix product; None if it is not faster."""
    sizes = _sizes(x.shape[1:-1], w.shape[:-2], how)
    axes = list(zip(w.shape[:-2], sizes, x.shape[1:-1], *_per_axis(how), strict=True))
    if all(s == 1 and k <= d and (r == 1 or k == 1) for k, _, _, s, _, d, r in axes) and max(how["lhs_dilation"]) > 1:
        return _spread(x, w, sizes, how)
    if all(d == 1 and before == 0 and k <= s and (r == 1 or k == 1) for k, _, _, s, (before, _), d, r in axes):
        return _of_patches(x, w, sizes, how) if backward else None
    if not backward:
        return None
    if all((s, before, d) == (1, 0, 1) and (y <= r or k == 1) for k, y, _, s, (before, _), d, r in axes):
        return _kernel_of_patches(x, w, sizes, how)
    if all((s, p, d, r, k) == (1, (y - 1, y - 1), y, 1, n * y) for k, y, n, s, p, d, r in axes):
        return _kernel_of_spread(x, w, sizes, how)
    return None


def _of_patches(x: Array, w: Array, sizes: list[int], how: dict[str, Any]) -> Array:
    """[n, *space, c], [*k, c, o] -> [n, *sizes, o]: Σ_a x[i · stride + a] w[a] at position i."""
    rank = len(sizes)
    x = _blocks(x, sizes, how["window_strides"], w.shape[:-2])
    inside = range(2, 2 * rank + 1, 2)
    return _product(x, w, [*inside, x.ndim - 1], [*range(rank), rank], how)


def _kernel_of_patches(x: Array, w: Array, sizes: list[int], how: dict[str, Any]) -> Array:
    """[c, *space, n], [*steps, n, o] -> [c, *sizes, o]: Σ_i x[i · stride + a] w[i] at position a."""
    rank, steps = len(sizes), w.shape[:-2]
    strides = [y if m == 1 else r for y, m, r in zip(sizes, steps, how["rhs_dilation"], strict=True)]
    x = _blocks(x, steps, strides, sizes)
    return _product(x, w, [x.ndim - 1, *range(1, 2 * rank, 2)], [rank, *range(rank)], how)  # examples first, as stored


def _blocks(x: Array, steps: Sequence[int], strides: Sequence[int], sizes: Sequence[int]) -> Array:
    """[n, *space, c] -> [n, steps, size, steps, size, ..., c]: the first `size` of each `stride` positions."""
    behind = [m * s - n for m, s, n in zip(steps, strides, x.shape[1:-1], strict=True)]
    x = _padded(x, [(0, more) for more in behind], (1,) * len(sizes))
    x = x.reshape(x.shape[0], *(n for pair in zip(steps, strides, strict=True) for n in pair), x.shape[-1])
    for i, size in enumerate(sizes):
        x = lax.slice_in_dim(x, 0, size, axis=2 * i + 2)
    return x


def _spread(x: Array, w: Array, sizes: list[int], how: dict[str, Any]) -> Array:
    """[n, *space, c], [*k, c, o] -> [n, *sizes, o]: x[i] w[k - 1 - a] at i · dilation + a, moved by the padding."""
    *kernel_size, _, features = w.shape
    rank, dilation = len(kernel_size), how["lhs_dilation"]
    y = _product(x, lax.rev(w, range(rank)), [x.ndim - 1], [rank], how)  # [n, *space, *k, o]
    y = lax.transpose(y, (0, *(axis for i in range(1, rank + 1) for axis in (i, i + rank)), 2 * rank + 1))
    gaps = [gap for d, k in zip(dilation, kernel_size, strict=True) for gap in ((0, 0, 0), (0, d - k, 0))]
    y = lax.pad(y, jnp.zeros((), y.dtype), ((0, 0, 0), *gaps, (0, 0, 0)))
    whole = [n * d for n, d in zip(x.shape[1:-1], dilation, strict=True)]
    before = [p[0] - k + 1 for p, k in zip(how["padding"], kernel_size, strict=True)]
    sides = [(low, size - low - n) for low, size, n in zip(before, sizes, whole, strict=True)]
    return _padded(y.reshape(x.shape[0], *whole, features), sides, (1,) * rank)


def _kernel_of_spread(x: Array, w: Array, sizes: list[int], how: dict[str, Any]) -> Array:
    """[c, *space, n], [*(space · k), n, o] -> [c, *k, o]: Σ_i x[i] w[i · k + k - 1 - a] at position a."""
    rank = len(sizes)
    w = w.reshape(*(n for pair in zip(x.shape[1:-1], sizes, strict=True) for n in pair), *w.shape[-2:])
    y = _product(x, w, [x.ndim - 1, *range(1, rank + 1)], [2 * rank, *range(0, 2 * rank, 2)], how)
    return lax.rev(y, range(1, rank + 1))


def _product(x: Array, w: Array, of_x: list[int], of_w: list[int], how: dict[str, Any]) -> Array:
    return lax.dot_general(x, w, ((of_x, of_w), ([], [])), how["precision"], how["preferred_element_type"])


def _by_tap(x: Array, w: Array, **how: Any) -> Array:
    """Depthwise convolution as a sum over the elements of the kernel.

    [n, *space, g · i], [*kernel_size, i, g · o] -> [n, *space', g · o]. Each group has one channel (i = 1), as in the
    forward pass, or one feature (o = 1), as in the gradient with respect to x.
    """
    *kernel_size, i, features = w.shape
    o = features // how["feature_group_count"]
    if any(map(is_symbolic_dim, x.shape[1:-1])) or prod(kernel_size) > UNROLLED_TAPS or (i > 1 and o > 1):
        return _grouped(x, w, **how)
    dtype = how["preferred_element_type"] or x.dtype
    x, w = jnp.repeat(x.astype(dtype), o, -1), jnp.swapaxes(w, -1, -2) if i > 1 else w
    w = w.astype(dtype).reshape(prod(kernel_size), *(1,) * (x.ndim - 1), x.shape[-1])
    stride, padding, spread, reach = _per_axis(how)
    sizes = _sizes(x.shape[1:-1], kernel_size, how)
    if set(stride) == {1} and set(spread) != {1}:  # pads the products instead of x, so that no zeros are multiplied
        parts = []
        for tap, part in zip(product(*map(range, kernel_size)), (x * v for v in w), strict=True):
            before = [p[0] - t * r for p, t, r in zip(padding, tap, reach, strict=True)]
            width = [(n - 1) * d + 1 for n, d in zip(x.shape[1:-1], spread, strict=True)]
            parts.append(_padded(part, [(b, s - b - n) for b, s, n in zip(before, sizes, width, strict=True)], spread))
    else:
        x = _padded(x, padding, spread)
        parts = [part * v for part, v in zip(taps(x, kernel_size, stride, reach), w, strict=True)]
    y = sum(parts, jnp.zeros((), dtype))
    return y if i == 1 else y.reshape(*y.shape[:-1], -1, i).sum(-1)


def _by_place(x: Array, w: Array, **how: Any) -> Array:
    """Gradient of a depthwise convolution with respect to its kernel, one product for each element of the kernel.

    [g, *space, n], [*space', n, g · o] -> [1, *kernel_size, g · o].
    """
    *space, _, features = w.shape
    places = _sizes(x.shape[1:-1], space, how)
    if any(map(is_symbolic_dim, space)) or prod(places) > UNROLLED_TAPS or x.shape[0] != how["batch_group_count"]:
        return _grouped(x, w, **how)
    dtype = how["preferred_element_type"] or x.dtype
    x, w = jnp.swapaxes(x, 0, -1).astype(dtype), jnp.moveaxis(w, -2, 0).astype(dtype)
    stride, padding, spread, reach = _per_axis(how)
    x = _padded(jnp.repeat(x, features // x.shape[-1], -1), padding, spread)
    starts = ([p * s for p, s in zip(place, stride, strict=True)] for place in product(*map(range, places)))
    y = [(_sliced(x, start, space, reach) * w).sum(range(x.ndim - 1)) for start in starts]
    return jnp.stack(y).reshape(1, *places, features)


def _per_axis(how: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(how[name] for name in ("window_strides", "padding", "lhs_dilation", "rhs_dilation"))


def _sizes(space: Sequence[Any], kernel_size: Sequence[Any], how: dict[str, Any]) -> list[Any]:
    """Size of the result on each space axis."""
    axes = zip(space, kernel_size, *_per_axis(how), strict=True)
    return [((n - 1) * d + sum(pads) - (k - 1) * r) // s + 1 for n, k, s, pads, d, r in axes]


def _padded(x: Array, padding: Sequence[Any], spread: Sequence[Any]) -> Array:
    inside = [(before, after, d - 1) for (before, after), d in zip(padding, spread, strict=True)]
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *inside, (0, 0, 0)))


def _sliced(x: Array, start: Sequence[Any], size: Sequence[Any], step: Sequence[Any]) -> Array:
    stop = [a + (n - 1) * s + 1 for a, n, s in zip(start, size, step, strict=True)]
    return lax.slice(x, (0, *start, 0), (x.shape[0], *stop, x.shape[-1]), (1, *step, 1))


def _canonical(
    x: Array, w: Array, *, window_strides: Any, padding: Any, lhs_dilation: Any, rhs_dilation: Any, **how: Any
) -> Array:
    more = [
        s * _taken_for_groups(*axis)
        for s, *axis in zip(
            window_strides, x.shape[1:], w.shape, window_strides, padding, lhs_dilation, rhs_dilation, strict=False
        )
    ]
    y = lax.conv_general_dilated_p.bind(
        x,
        w,
        window_strides=window_strides,
        padding=tuple((before, after + m) for (before, after), m in zip(padding, more, strict=True)),
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=lax.conv_dimension_numbers(x.shape, w.shape, names(len(more))),
        **{"feature_group_count": 1, "batch_group_count": 1, "out_sharding": None, **how},
    )
    for axis, m in enumerate(more, start=1):
        y = lax.slice_in_dim(y, 0, -1, axis=axis) if m else y
    return y


def names(rank: int) -> tuple[str, str, str]:
    """lax's dimension numbers of the canonical order."""
    space = "DHW"[3 - rank :]
    return f"N{space}C", f"{space}IO", f"N{space}C"


def _taken_for_groups(n: Any, k: int, stride: int, padding: tuple[int, int], x_dilation: int, w_dilation: int) -> bool:
    """Workaround for an XLA crash (jaxlib 0.10.2, 0.12): True for a space axis that needs one extra output element.

    When the kernel is at least as large as the input, XLA's simplifier swaps the two and uses the condition below,
    without n != k, to recognise a space axis as feature groups. If it is wrong, the process ends. One extra output
    element, sliced off again, avoids that rewrite.
    """
    return padding == (0, 0) and w_dilation == 1 and x_dilation == k > 1 and stride == k - 1 and n != k
