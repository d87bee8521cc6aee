"""Sampling images at coordinates given for each pixel of the result, and homographies that give them.

Coordinates are (x, y) in pixels from the upper left corner of the image: pixel (row i, column j) covers [j, j + 1) ×
[i, i + 1), and its centre is (j + 1/2, i + 1/2).
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, TypeAlias

import jax.numpy as jnp
from jax import Array, lax

from jaxnn import _checks as check
from jaxnn.augment._images import from_unit, moved, to_unit, wide_of

Method: TypeAlias = Literal["nearest", "linear"]
Fill: TypeAlias = Literal["constant", "edge", "reflect"]
METHODS = ("nearest", "linear")
FILLS = ("constant", "edge", "reflect")


class Sampling(NamedTuple):
    """Interpolation and fill: arguments of the geometric augmentations.

    Attributes:
      method: interpolation of images; masks are always sampled with "nearest".
      fill: values outside the image.
      value: of pixels outside an image, for the fill "constant".
      mask_value: the same for masks.
    """

    method: Method
    fill: Fill
    value: Any
    mask_value: Any


def sampling(where: str, method: Method, fill: Fill, value: Any, mask_value: Any) -> Sampling:
    """The arguments of a geometric augmentation, checked."""
    check.choice(where, "method", method, METHODS)
    check.choice(where, "fill", fill, FILLS)
    check.scalar(where, "value", value, -math.inf, ends="()")
    check.scalar(where, "mask_value", mask_value, -math.inf, ends="()")
    return Sampling(method, fill, value, mask_value)


def warped(example: Any, image: Array, forward: Array, how: Sampling) -> Any:
    """Moves an example by a homography.

    Args:
      example: the image, or the dict that has it.
      image: the image, [h, w, c].
      forward: homography from coordinates of the image to those of the result, [3, 3].
      how: interpolation and fill.
    """
    x, y = pixel_centres(image)
    return sampled(example, mapped(inverted(forward), x, y), how, lambda points: _move(forward, points))


def sampled(example: Any, places: tuple[Array, Array], how: Sampling, on_points: Any) -> Any:
    """Moves an example whose pixels come from the coordinates (x, y), each [h, w], and whose points are moved apart."""
    x, y = places
    rows, columns = y - 0.5, x - 0.5

    def on_image(image: Array) -> Array:
        if how.method == "nearest":
            value = from_unit(jnp.asarray(how.value, wide_of(image)), image.dtype)
            return _nearest(image, rows, columns, how.fill, value)
        return from_unit(_linear(to_unit(image), rows, columns, how.fill, how.value), image.dtype)

    def on_mask(mask: Array) -> Array:
        return _nearest(mask, rows, columns, how.fill, jnp.asarray(how.mask_value).astype(mask.dtype))

    return moved(example, on_image, on_mask, on_points)


def _nearest(x: Array, rows: Array, columns: Array, fill: str, value: Any) -> Array:
    i, j = (_folded(at, n, fill) for at, n in zip((rows, columns), x.shape, strict=False))
    return _read(x, jnp.floor(i + 0.5), jnp.floor(j + 0.5), fill, value)


def _linear(x: Array, rows: Array, columns: Array, fill: str, value: Any) -> Array:
    i, j = (_folded(at, n, fill) for at, n in zip((rows, columns), x.shape, strict=False))
    top, left = jnp.floor(i), jnp.floor(j)
    down, right = (i - top)[..., None], (j - left)[..., None]

    def row(at: Array) -> Array:
        return (1 - right) * _read(x, at, left, fill, value) + right * _read(x, at, left + 1, fill, value)

    return (1 - down) * row(top) + down * row(top + 1)


def _folded(at: Array, n: int, fill: str) -> Array:
    """Coordinates of one axis, brought into the image as the fill requires; far values would overflow an integer."""
    if fill == "reflect":
        period = 2 * max(n - 1, 1)
        at = jnp.mod(at, period)
        at = jnp.minimum(at, period - at)
    return jnp.clip(at, 0, n - 1) if fill != "constant" else jnp.clip(at, -2, n + 1)


def _read(x: Array, rows: Array, columns: Array, fill: str, value: Any) -> Array:
    """Pixels at integer positions given as floats, [h, w, c], [h', w'], [h', w'] -> [h', w', c]."""
    h, w, c = x.shape
    i, j = rows.astype(jnp.int32), columns.astype(jnp.int32)
    place = jnp.clip(i, 0, h - 1) * w + jnp.clip(j, 0, w - 1)
    pixels = x.reshape(h * w, c).at[place].get(mode="promise_in_bounds")
    if fill != "constant":
        return pixels
    inside = (i >= 0) & (i < h) & (j >= 0) & (j < w)
    return jnp.where(inside[..., None], pixels, jnp.asarray(value, x.dtype))


def pixel_centres(image: Array) -> tuple[Array, Array]:
    """Coordinates (x, y) of all pixels, each [h, w]."""
    dtype, size = wide_of(image), image.shape[:2]
    return lax.broadcasted_iota(dtype, size, 1) + 0.5, lax.broadcasted_iota(dtype, size, 0) + 0.5


def mapped(homography: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Coordinates moved by a homography; those beyond its horizon go far outside of every image."""
    a = homography.astype(x.dtype)
    u, v, w = (a[i, 0] * x + a[i, 1] * y + a[i, 2] for i in range(3))
    before = w > 1e-6
    w = jnp.where(before, w, 1)
    return jnp.where(before, u / w, -1e6), jnp.where(before, v / w, -1e6)


def _move(homography: Array, points: Array) -> Array:
    return jnp.stack(mapped(homography, points[:, 0], points[:, 1]), -1)


def matrix(*rows: tuple[Any, Any, Any], dtype: Any) -> Array:
    """A 3×3 matrix from rows of scalars."""
    return jnp.stack([jnp.stack([jnp.asarray(a, dtype) for a in row]) for row in rows])


def product(a: Array, b: Array) -> Array:
    """Matrix product; a product in lower precision would be off by pixels, and the identity not exact."""
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def about(image: Array, linear: Array) -> Array:
    """The homography of a map about the centre of an image, [3, 3] with zero offsets -> [3, 3]."""
    h, w, _ = image.shape
    x, y = w / 2, h / 2
    offset = [c - linear[i, 0] * x - linear[i, 1] * y for i, c in enumerate((x, y))]
    return linear.at[:2, 2].set(jnp.stack(offset))


def inverted(a: Array) -> Array:
    """Inverse of a 3×3 matrix by cofactors, exact for the identity."""

    def entry(i: int, j: int) -> Array:
        k, m, p, q = (j + 1) % 3, (j + 2) % 3, (i + 1) % 3, (i + 2) % 3
        return a[k, p] * a[m, q] - a[k, q] * a[m, p]

    adjugate = jnp.stack([jnp.stack([entry(i, j) for j in range(3)]) for i in range(3)])
    return adjugate / (a[0] * adjugate[:, 0]).sum()
