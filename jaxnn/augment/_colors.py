"""Random changes of colours: brightness, contrast, saturation, hue, gamma, channels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn.augment._checks import Magnitude, interval
from jaxnn.augment._images import blend, luma, recolored, uniform
from jaxnn.types import Augmentation, Key

FACTORS = (0.0, math.inf, "[)")
# Principal components of the RGB pixels of ImageNet as the usual training recipes have them: scales, and directions in
# columns.
IMAGENET_SCALES = (0.2175, 0.0188, 0.0045)
IMAGENET_DIRECTIONS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))


def brightness(strength: Magnitude = 0.2) -> Augmentation:
    """Multiplies by a random factor, [h, w, c] -> [h, w, c]: y = clip(factor · x).

    Args:
      strength: factors from max(0, 1 - strength) to 1 + strength, uniform, or a pair (low, high) of factors >= 0; may
        be traced. 0 is the identity.

    Raises:
      TypeError: if `strength` has the wrong type.
      ValueError: if `strength` is out of range.

    Differences: as torchvision's `ColorJitter` and Pillow. Keras' `RandomBrightness` adds a number.

    >>> brightness((2.0, 2.0))(jax.random.key(0), jnp.array([[[0.25, 0.75]]])).tolist()
    [[[0.5, 1.0]]]
    """
    bounds = interval("brightness", "strength", strength, centre=1.0, pair=FACTORS)

    def change(key: Key, x: Array) -> Array:
        return x * uniform(key, bounds, dtype=x.dtype)

    return recolored("brightness", change)


def contrast(strength: Magnitude = 0.2) -> Augmentation:
    """Scales the distance to the mean grey by a random factor, [h, w, c] -> [h, w, c].

        y = clip(factor · x + (1 - factor) · m),    m the mean of all pixels in grey

    The grey of a pixel is its luma 0.299 R + 0.587 G + 0.114 B for 3 channels, else the mean of its channels.

    Args:
      strength: factors from max(0, 1 - strength) to 1 + strength, uniform, or a pair (low, high) of factors >= 0; may
        be traced. 0 is the identity.

    Raises:
      TypeError: if `strength` has the wrong type.
      ValueError: if `strength` is out of range.

    Differences: as torchvision's `ColorJitter`; Pillow rounds m to a byte. Keras' `RandomContrast` has a mean of each
    channel.

    >>> contrast((0.0, 0.0))(jax.random.key(0), jnp.array([[[0.25], [0.75]]])).tolist()
    [[[0.5], [0.5]]]
    """
    bounds = interval("contrast", "strength", strength, centre=1.0, pair=FACTORS)

    def change(key: Key, x: Array) -> Array:
        return contrasted(x, uniform(key, bounds, dtype=x.dtype))

    return recolored("contrast", change)


def contrasted(x: Array, factor: Array) -> Array:
    """Contrast by a factor."""
    means = x.mean(0).mean(0)  # rows first: the sum over all pixels of a channel at once is 10 times slower on a CPU
    return blend(x, luma(means)[None, None], factor)


def saturation(strength: Magnitude = 0.2) -> Augmentation:
    """Scales the distance to grey of each pixel by a random factor, [h, w, 3] -> [h, w, 3].

        y = clip(factor · x + (1 - factor) · grey),    grey = 0.299 R + 0.587 G + 0.114 B

    Args:
      strength: factors from max(0, 1 - strength) to 1 + strength, uniform, or a pair (low, high) of factors >= 0; may
        be traced. 0 is the identity.

    Raises:
      TypeError: if `strength` has the wrong type.
      ValueError: if `strength` is out of range, or the image has not 3 channels.

    Differences: as torchvision's `ColorJitter` and Pillow's `ImageEnhance.Color`.

    >>> saturation((0.0, 0.0))(jax.random.key(0), jnp.array([[[1.0, 0.0, 0.0]]])).round(3).tolist()
    [[[0.299..., 0.299..., 0.299...]]]
    """
    bounds = interval("saturation", "strength", strength, centre=1.0, pair=FACTORS)

    def change(key: Key, x: Array) -> Array:
        return saturated(x, uniform(key, bounds, dtype=x.dtype))

    return recolored("saturation", change, 3)


def saturated(x: Array, factor: Array) -> Array:
    """Saturation by a factor; the identity for one channel."""
    return blend(x, luma(x), factor)


def hue(strength: Magnitude = 0.05) -> Augmentation:
    """Turns the hue of all pixels by a random angle, [h, w, 3] -> [h, w, 3].

    The hue is that of HSV; value and saturation stay.

    Args:
      strength: turns from -strength to strength, uniform, <= 0.5, or a pair (low, high) between -0.5 and 0.5. 1 is a
        full turn, 1 / 3 makes red green; may be traced. 0 is the identity.

    Raises:
      TypeError: if `strength` has the wrong type.
      ValueError: if `strength` is out of range, or the image has not 3 channels.

    Differences: as torchvision's `ColorJitter` on floats; on Pillow images it rounds hues to bytes.

    >>> hue((1 / 3, 1 / 3))(jax.random.key(0), jnp.array([[[1.0, 0.0, 0.0]]])).round(3).tolist()
    [[[0.0, 1.0, 0.0]]]
    """
    bounds = interval("hue", "strength", strength, below=0.5, ends="[]", pair=(-0.5, 0.5, "[]"))

    def change(key: Key, x: Array) -> Array:
        turns = uniform(key, bounds, dtype=x.dtype)
        return jnp.where(turns == 0, x, _turned(x, turns))

    return recolored("hue", change, 3)


def _turned(x: Array, turns: Array) -> Array:
    """Hue turned without branches: with V the largest channel, C the chroma and h the hue in sixths of a turn,

    (R, G, B) = V - C · clip(min(k, 4 - k), 0, 1),    k = (n + h) mod 6,    n = 5, 3, 1
    """
    x = jnp.moveaxis(x, -1, 0)  # computed with channels first, which vectorizes: 10 times faster on a CPU
    red, green, blue = x
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    scale = 1 / jnp.where(chroma > 0, chroma, 1)
    of_green, of_blue = 2 + (blue - red) * scale, 4 + (red - green) * scale
    sixths = jnp.where(value == red, (green - blue) * scale, jnp.where(value == green, of_green, of_blue))
    k = (sixths + 6 * turns)[None] + jnp.array([5, 3, 1], x.dtype)[:, None, None]
    k = k - 6 * jnp.floor(k / 6)
    return jnp.moveaxis(value[None] - chroma[None] * jnp.clip(jnp.minimum(k, 4 - k), 0, 1), 0, -1)


def grayscale() -> Augmentation:
    """Removes the colours, [h, w, 3] -> [h, w, 3]: each channel is 0.299 R + 0.587 G + 0.114 B.

    Returns:
      The augmentation, which draws nothing; `sometimes(grayscale(), 0.1)` is torchvision's `RandomGrayscale`.

    Raises:
      ValueError: by the augmentation, if the image has not 3 channels.

    >>> grayscale()(jax.random.key(0), jnp.array([[[0.0, 1.0, 0.0]]])).round(3).tolist()
    [[[0.587..., 0.587..., 0.587...]]]
    """
    return recolored("grayscale", lambda key, x: jnp.broadcast_to(luma(x), x.shape), 3)


def gamma(strength: Magnitude = 0.2) -> Augmentation:
    """Gamma correction with a random exponent, [h, w, c] -> [h, w, c]: y = x^exp(s).

    Args:
      strength: range of s, uniform: from -strength to strength, which brightens as often as it darkens, or a pair (low,
        high). Positive s darkens; may be traced. 0 is the identity.

    Raises:
      TypeError: if `strength` has the wrong type.
      ValueError: if `strength` is out of range.

    Differences: torchvision's `adjust_gamma` takes the exponent itself, here exp(s).

    >>> gamma((0.6931472, 0.6931472))(jax.random.key(0), jnp.array([[[0.5]]])).round(3).tolist()
    [[[0.25]]]
    """
    bounds = interval("gamma", "strength", strength)

    def change(key: Key, x: Array) -> Array:
        exponent = jnp.exp(uniform(key, bounds, dtype=x.dtype))
        positive = x > 0  # the derivative at 0 may be infinite, and negative values have no power
        power = jnp.where(positive, jnp.where(positive, x, 1) ** exponent, 0)
        return jnp.where(exponent == 1, x, power)

    return recolored("gamma", change)


def channel_shift(strength: Magnitude = 0.1) -> Augmentation:
    """Adds a random number to each channel, [h, w, c] -> [h, w, c].

    Args:
      strength: numbers from -strength to strength, uniform and independent, as fractions of the range from black to
        white, or a pair (low, high); may be traced. 0 is the identity.

    Raises:
      TypeError: if `strength` has the wrong type.
      ValueError: if `strength` is out of range.

    >>> channel_shift((0.25, 0.25))(jax.random.key(0), jnp.array([[[0.5, 1.0]]])).tolist()
    [[[0.75, 1.0]]]
    """
    bounds = interval("channel_shift", "strength", strength)

    def change(key: Key, x: Array) -> Array:
        return x + uniform(key, bounds, (1, 1, x.shape[-1]), x.dtype)

    return recolored("channel_shift", change)


def channel_shuffle() -> Augmentation:
    """Permutes the channels at random, [h, w, c] -> [h, w, c].

    Returns:
      The augmentation. With `sometimes` it is applied with a probability.

    Differences: torchvision's `RandomChannelPermutation`.

    >>> channel_shuffle()(jax.random.key(0), jnp.array([[[0.5, 0.5]]])).tolist()
    [[[0.5, 0.5]]]
    """
    return recolored("channel_shuffle", lambda key, x: x[..., jax.random.permutation(key, x.shape[-1])])


def pca_color(
    stddev: float | Array = 0.1,
    scales: ArrayLike | Sequence[float] = IMAGENET_SCALES,
    directions: ArrayLike | Sequence[Sequence[float]] = IMAGENET_DIRECTIONS,
) -> Augmentation:
    """Adds a random colour along the principal components of the pixels of a data set, [h, w, c] -> [h, w, c].

        y = clip(x + Σ_i a_i s_i p_i),    a_i normal with deviation stddev

    Args:
      stddev: standard deviation of a, >= 0; may be traced. 0 is the identity.
      scales: s, [c], for images in [0, 1]; by default those of ImageNet.
      directions: p in columns, [c, c]; by default those of ImageNet.

    Raises:
      TypeError: if `stddev` is not a number.
      ValueError: if an argument is out of range, shapes do not fit, or the image has another number of channels.

    Reference: Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks, 2012.

    >>> pca_color(0.0)(jax.random.key(0), jnp.array([[[0.5, 0.25, 0.0]]])).tolist()
    [[[0.5, 0.25, 0.0]]]
    """
    check.scalar("pca_color", "stddev", stddev)
    scales, directions = (a if isinstance(a, jax.Array) else np.asarray(a, float) for a in (scales, directions))
    channels = scales.shape[0] if scales.ndim == 1 else 1
    check.shape("pca_color", "scales", scales, (channels,))
    check.shape("pca_color", "directions", directions, (channels, channels))

    def change(key: Key, x: Array) -> Array:
        a = jnp.asarray(stddev, x.dtype) * jax.random.normal(key, (channels,), x.dtype)
        color = (jnp.asarray(directions, x.dtype) * (a * jnp.asarray(scales, x.dtype))[None]).sum(1)
        return x + color[None, None]

    return recolored("pca_color", change, channels)
