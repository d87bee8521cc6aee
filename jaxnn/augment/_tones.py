"""Changes of tones that draw nothing: invert, solarize, posterize, autocontrast, equalize."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxnn import _checks as check
from jaxnn.augment._images import recolored
from jaxnn.types import Augmentation


def invert() -> Augmentation:
    """Negative of an image, [h, w, c] -> [h, w, c]: y = 1 - x.

    Returns:
      The augmentation, which draws nothing; `sometimes` applies it with a probability.

    >>> invert()(jax.random.key(0), jnp.array([[[0.25]]])).tolist()
    [[[0.75]]]
    """
    return recolored("invert", lambda key, x: 1 - x)


def solarize(threshold: float | Array = 0.5) -> Augmentation:
    """Inverts bright values, [h, w, c] -> [h, w, c]: y = 1 - x where x >= threshold, else x.

    Args:
      threshold: from 0 to 1, also for uint8; may be traced. Above 1 it is the identity.

    Returns:
      The augmentation, which draws nothing; `sometimes` applies it with a probability.

    Raises:
      TypeError: if `threshold` is not a number.
      ValueError: if `threshold` is negative.

    Differences: Pillow and torchvision take thresholds of 0 to 255 for bytes.

    >>> solarize(0.5)(jax.random.key(0), jnp.array([[[0.25, 0.75]]])).tolist()
    [[[0.25, 0.25]]]
    """
    check.scalar("solarize", "threshold", threshold)
    return recolored("solarize", lambda key, x: solarized(x, jnp.asarray(threshold, x.dtype)))


def solarized(x: Array, threshold: Array) -> Array:
    """Values from a threshold on inverted."""
    return jnp.where(x >= threshold, 1 - x, x)


def posterize(bits: int | Array = 4) -> Augmentation:
    """Keeps the leading bits of each value as a byte, [h, w, c] -> [h, w, c].

    Floating images are rounded to bytes first: both kinds give the same image, and 8 bits are the identity for bytes.

    Args:
      bits: from 0 to 8, an integer; may be traced.

    Returns:
      The augmentation, which draws nothing; `sometimes` applies it with a probability.

    Raises:
      TypeError: if `bits` is not an integer.
      ValueError: if `bits` is out of range.

    Differences: torchvision's result for floats has the levels i / 2^bits.

    >>> posterize(1)(jax.random.key(0), jnp.array([[[100, 200]]], jnp.uint8)).tolist()
    [[[0, 128]]]
    """
    if not isinstance(bits, jax.Array):
        check.count("posterize", "bits", bits, 0, 8)
    return recolored("posterize", lambda key, x: posterized(x, jnp.asarray(bits, x.dtype)))


def posterized(x: Array, bits: Array) -> Array:
    """Values rounded down to multiples of 2^(8 - bits) in units of 1 / 255."""
    step = 2 ** (8 - bits)
    return jnp.floor(jnp.round(x * 255) / step) * step / 255


def autocontrast() -> Augmentation:
    """Stretches each channel to the range from black to white, [h, w, c] -> [h, w, c].

        y = (x - min) / (max - min)

    A channel with one value stays as it is.

    Returns:
      The augmentation, which draws nothing; `sometimes` applies it with a probability.

    Differences: Pillow and torchvision truncate bytes, here they are rounded.

    >>> autocontrast()(jax.random.key(0), jnp.array([[[0.25], [0.5], [0.375]]]))[0, :, 0].tolist()
    [0.0, 1.0, 0.5]
    """
    return recolored("autocontrast", lambda key, x: stretched(x))


def stretched(x: Array) -> Array:
    """Each channel stretched to [0, 1]."""
    low, high = (f(x, axis=(0, 1), keepdims=True, initial=end) for f, end in ((jnp.min, 1), (jnp.max, 0)))
    flat = high <= low
    return jnp.where(flat, x, (x - low) / jnp.where(flat, 1, high - low))


def equalize() -> Augmentation:
    """Equalizes the histogram of each channel, [h, w, c] -> [h, w, c].

    Histograms have 256 bins; floating images are rounded to bytes first. The derivative is 0.

    Returns:
      The augmentation, which draws nothing; `sometimes` applies it with a probability.

    Differences: the result for bytes is Pillow's `ImageOps.equalize`.

    >>> x = jnp.repeat(jnp.arange(4, dtype=jnp.uint8), 256)[None, :, None]
    >>> equalize()(jax.random.key(0), x)[0, ::256, 0].tolist()
    [0, 85, 171, 255]
    """
    return recolored("equalize", lambda key, x: equalized(x))


def equalized(x: Array) -> Array:
    """Each channel mapped by its cumulated histogram, in the integer arithmetic of Pillow."""

    def channel(values: Array) -> Array:
        counts = jnp.zeros(256, jnp.int32).at[values].add(1)
        step = (values.size - counts[values.max(initial=0)]) // 255
        below = jnp.cumsum(counts) - counts
        table = jnp.clip((below + step // 2) // jnp.maximum(step, 1), 0, 255)
        return jnp.where(step == 0, values, table[values])

    values = jnp.clip(jnp.round(x * 255), 0, 255).astype(jnp.int32)
    new = jax.vmap(channel, 1, 1)(values.reshape(-1, x.shape[-1])).reshape(x.shape)
    return new.astype(x.dtype) / 255
