"""Augmentations by neighbourhoods and by noise: blur, sharpness, noise, cutout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxnn import _checks as check
from jaxnn._errors import invalid
from jaxnn._keys import quick
from jaxnn.augment._checks import Magnitude, interval, size_of
from jaxnn.augment._images import blend, recolored, uniform
from jaxnn.types import Augmentation, Key


def gaussian(x: Array, sigma: Array, radius: int, mode: str) -> Array:
    """Gaussian filter of both space axes, [h, w, c] -> [h, w, c]; exactly the identity for a sigma of 0.

    Args:
      x: floating image.
      sigma: standard deviation in pixels, a scalar of x's dtype.
      radius: number of pixels on each side that are included.
      mode: padding, as in `jnp.pad`.
    """
    distances = np.arange(-radius, radius + 1)
    # Below 0.01 pixels all weights but the middle one round to 0; a sigma of 0 would divide by 0.
    weights = jnp.exp(-0.5 * (jnp.asarray(distances, x.dtype) / jnp.maximum(sigma, 0.01)) ** 2)
    weights = weights / weights.sum()
    for axis in (0, 1):
        n = x.shape[axis]
        wider = jnp.pad(x, [(radius, radius) if a == axis else (0, 0) for a in range(3)], mode=mode)
        x = sum(
            (weights[i] * lax.slice_in_dim(wider, i, i + n, axis=axis) for i in range(2 * radius + 1)),
            start=jnp.zeros((), x.dtype),
        )
    return x


def blur(sigma: Magnitude = (0.1, 2.0), *, kernel_size: int | None = None) -> Augmentation:
    """Gaussian blur of random width, [h, w, c] -> [h, w, c].

    Outside of the image its reflection is used, without repeating the border.

    Args:
      sigma: standard deviation in pixels: uniform from 0 to sigma, or from low to high of a pair; >= 0, may be traced.
        0 is the identity.
      kernel_size: number of pixels along each axis that are included, odd; None is 2 ceil(3 sigma) + 1 for the largest
        sigma, which must then be a Python number.

    Raises:
      TypeError: if an argument has the wrong type, or sigma is traced without `kernel_size`.
      ValueError: if an argument is out of range.

    Differences: torchvision's `GaussianBlur` has a required `kernel_size`. Pillow approximates the Gaussian by boxes.

    >>> x = jnp.zeros((1, 3, 1)).at[0, 1].set(1.0)
    >>> blur((1.0, 1.0), kernel_size=3)(jax.random.key(0), x)[0, :, 0].round(2).tolist()
    [0.550..., 0.449..., 0.550...]
    """
    low, high = interval("blur", "sigma", sigma, pair=(0, math.inf, "[)"))
    if kernel_size is None:
        check.scalar("blur", "sigma", high, static=True, fix="Or pass kernel_size=.")
        radius = math.ceil(3 * high)
    else:
        radius = check.count("blur", "kernel_size", kernel_size) // 2
        if kernel_size % 2 == 0:
            raise invalid("blur", "kernel_size to be odd", kernel_size)

    def change(key: Key, x: Array) -> Array:
        return gaussian(x, uniform(key, (low, high), dtype=x.dtype), radius, "reflect")

    return recolored("blur", change)


def sharpness(strength: Magnitude = 0.5) -> Augmentation:
    """Blends with a smoothed image by a random factor, [h, w, c] -> [h, w, c]: below 1 blurs, above 1 sharpens.

        y = factor · x + (1 - factor) · s,    s = x filtered with (1 1 1; 1 5 1; 1 1 1) / 13

    Border pixels stay unchanged.

    Args:
      strength: factors from max(0, 1 - strength) to 1 + strength, uniform, or a pair (low, high) of factors >= 0; may
        be traced. 0 is the identity.

    Raises:
      TypeError: if `strength` has the wrong type.
      ValueError: if `strength` is out of range.

    Differences: torchvision's `RandomAdjustSharpness` has one factor and a probability.

    >>> x = jnp.zeros((3, 3, 1)).at[1, 1].set(0.5)
    >>> sharpness((0.0, 0.0))(jax.random.key(0), x)[1, 1].round(3).tolist()
    [0.192...]
    """
    bounds = interval("sharpness", "strength", strength, centre=1.0, pair=(0, math.inf, "[)"))

    def change(key: Key, x: Array) -> Array:
        return sharpened(x, uniform(key, bounds, dtype=x.dtype))

    return recolored("sharpness", change)


def sharpened(x: Array, factor: Array) -> Array:
    """Sharpness by a factor, as Pillow's `ImageEnhance.Sharpness`."""
    h, w, _ = x.shape
    wider = jnp.pad(x, ((1, 1), (1, 1), (0, 0)), mode="edge")
    around = sum(
        (wider[i : i + h, j : j + w] for i in range(3) for j in range(3) if (i, j) != (1, 1)),
        start=jnp.zeros((), x.dtype),
    )
    i, j = (lax.broadcasted_iota(jnp.int32, (h, w, 1), axis) for axis in (0, 1))
    inside = (i > 0) & (i < h - 1) & (j > 0) & (j < w - 1)
    return blend(x, jnp.where(inside, (around + 5 * x) / 13, x), factor)


def noise(stddev: Magnitude = 0.05) -> Augmentation:
    """Adds Gaussian noise to each pixel and channel, [h, w, c] -> [h, w, c].

    Args:
      stddev: standard deviation, as a fraction of the range from black to white, >= 0, or a pair (low, high) from which
        each image draws its own; may be traced. 0 is the identity.

    Raises:
      TypeError: if `stddev` has the wrong type.
      ValueError: if `stddev` is out of range.

    Differences: the layer `nn.gaussian_noise` acts on any array and does not clip.

    >>> x = jnp.full((1, 2, 1), 0.5)
    >>> noise(0.0)(jax.random.key(0), x).tolist()
    [[[0.5], [0.5]]]
    """
    wanted = stddev if isinstance(stddev, tuple | list) else (stddev, stddev)
    bounds = interval("noise", "stddev", wanted, pair=(0, math.inf, "[)"))

    def change(key: Key, x: Array) -> Array:
        first, second = jax.random.split(key)
        return x + uniform(first, bounds, dtype=x.dtype) * jax.random.normal(quick(second), x.shape, x.dtype)

    return recolored("noise", change)


def cutout(size: int | Sequence[int], value: float | Array = 0.0) -> Augmentation:
    """Covers a random rectangle, [h, w, c] -> [h, w, c].

    The centre is a random pixel: near a border a part of the rectangle is outside. Masks, boxes and keypoints stay.

    Args:
      size: height and width in pixels, >= 0, or one integer for both. 0 is the identity.
      value: of the covered pixels, from 0 to 1 also for uint8; may be traced.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if an argument is out of range.

    Differences: torchvision's `RandomErasing` draws the size, stays inside the image, and has a probability.

    Reference: DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with Cutout, 2017.

    >>> cutout(2)(jax.random.key(0), jnp.ones((3, 3, 1))).sum() < 9
    Array(True, dtype=bool)
    """
    extent = size_of("cutout", "size", size, least=0)
    check.scalar("cutout", "value", value, 0, 1, "[]")

    def change(key: Key, x: Array) -> Array:
        at = uniform(key, (0.0, 1.0), (2,))
        inside = jnp.ones((), bool)
        for axis, length in enumerate(extent):
            inside = inside & between(at[axis], length, x.shape, axis)
        return jnp.where(inside, jnp.asarray(value, x.dtype), x)

    return recolored("cutout", change)


def between(at: Array, length: Any, shape: tuple[int, ...], axis: int) -> Array:
    """Pixels along an axis in an interval whose centre is a uniform pixel, [..., n, 1...], boolean.

    Args:
      at: uniform number in [0, 1) that selects the centre.
      length: number of pixels of the interval, an integer that may be traced.
      shape: shape of the image.
      axis: the axis.
    """
    n = shape[axis]
    place = lax.broadcasted_iota(jnp.int32, tuple(n if a == axis else 1 for a in range(3)), axis)
    first = jnp.minimum(jnp.floor(at * n), n - 1).astype(jnp.int32) - length // 2
    return (place >= first) & (place < first + length)
