"""Patches of images as an axis, and their sum back to images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import product
from math import prod
from operator import add
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from jaxnn import _checks as check
from jaxnn._errors import invalid
from jaxnn.ops._pad import padded
from jaxnn.ops._window import Padding, pads, per_axis, taps


def unfold(
    x: Array,
    kernel_size: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
) -> Array:
    """Values under the kernel at each of its positions (im2col), [n, *space, c] -> [n, *space', k, c].

        y[i, k] = x[i · stride + k · dilation - before]

    k counts the elements of the kernel in row-major order. A convolution is a product of this array and its weights.

    Args:
      x: images or sequences, floating, with 1 to 3 space axes.
      kernel_size: an integer >= 1 for all space axes, or one for each.
      stride, padding, dilation: as in `conv`; padding counts as 0.

    Raises:
      ValueError: if the kernel does not fit in x, or an argument is out of range.
      TypeError: if x is not floating.

    Differences: PyTorch's Unfold returns [n, c · k, positions], channels before the elements of the kernel. Keras and
    TensorFlow's extract_patches join the last two axes of this result.

    >>> unfold(jnp.arange(4.0).reshape(1, 4, 1), 2)[0, ..., 0].tolist()
    [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]
    """
    x = check.array("unfold", "x", x, least=3, shape="[n, *space, c]")
    space = x.shape[1:-1]
    kernel_size, stride, dilation = _sizes("unfold", len(space), kernel_size, stride, dilation)
    sides = pads("unfold", padding, space, kernel_size, stride, dilation)
    return jnp.stack(taps(padded(x, sides, "constant"), kernel_size, stride, dilation), axis=-2)


def fold(
    y: Array,
    size: int | Sequence[int],
    kernel_size: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
) -> Array:
    """Sums patches into images (col2im), the transpose of `unfold`: [n, *space', k, c] -> [n, *size, c].

        x[i · stride + k · dilation - before] += y[i, k]

    Overlapping patches add up: to average them divide by `fold` of ones.

    Args:
      y: patches as `unfold` returns them, floating.
      size: size of the images, an integer >= 1 for all space axes or one for each.
      kernel_size, stride, padding, dilation: as in `unfold`.

    Raises:
      ValueError: if y does not have the shape of the patches of such images, or an argument is out of range.
      TypeError: if y is not floating.

    Differences: PyTorch's Fold takes [n, c · k, positions].

    >>> fold(jnp.ones((1, 3, 2, 1)), 4, 2)[0, :, 0].tolist()
    [1.0, 2.0, 2.0, 1.0]
    """
    y = check.array("fold", "y", y, least=4, shape="[n, *space, k, c]")
    rank = y.ndim - 3
    size = per_axis("fold", "size", size, rank)
    kernel_size, stride, dilation = _sizes("fold", rank, kernel_size, stride, dilation)
    sides = pads("fold", padding, size, kernel_size, stride, dilation)
    long = [n + sum(side) for n, side in zip(size, sides, strict=True)]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel_size, dilation, strict=True)]
    steps = [(n - k) // s + 1 for n, k, s in zip(long, reach, stride, strict=True)]
    if y.shape[1:-1] != (*steps, prod(kernel_size)):
        raise invalid("fold", f"y of shape [n, {', '.join(map(str, [*steps, prod(kernel_size)]))}, c]", y)

    def spread(k: int, tap: tuple[int, ...]) -> Array:
        """The patches' element k at its positions in the padded image."""
        around = []
        for t, d, s, count, n in zip(tap, dilation, stride, steps, long, strict=True):
            around.append((t * d, n - t * d - (count - 1) * s - 1, s - 1))
        return lax.pad(y[..., k, :], jnp.zeros((), y.dtype), [(0, 0, 0), *around, (0, 0, 0)])

    x = reduce(add, [spread(k, tap) for k, tap in enumerate(product(*map(range, kernel_size)))])
    within = [slice(before, before + n) for n, (before, _) in zip(size, sides, strict=True)]
    return x[:, *within]


def _sizes(where: str, rank: int, kernel_size: Any, stride: Any, dilation: Any) -> tuple[tuple[int, ...], ...]:
    given = {"kernel_size": kernel_size, "stride": stride, "dilation": dilation}
    kernel, steps, holes = (per_axis(where, name, value, rank) for name, value in given.items())
    return kernel, steps, holes
