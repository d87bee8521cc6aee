"""Random policies over a fixed table of operations: RandAugment and TrivialAugment."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxnn import _checks as check
from jaxnn._keys import fold_in
from jaxnn.augment._checks import image_of
from jaxnn.augment._colors import contrasted, saturated
from jaxnn.augment._filters import sharpened
from jaxnn.augment._geometry import _turn
from jaxnn.augment._images import from_unit, to_unit, wide_of
from jaxnn.augment._tones import equalized, posterized, solarized, stretched
from jaxnn.augment._warp import Fill, Method, Sampling, about, inverted, matrix, product, sampling, warped
from jaxnn.types import Augmentation, Key

OPERATIONS = (
    *("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate"),
    *("brightness", "color", "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize"),
)
MOVES = OPERATIONS.index("brightness")


class Ranges(NamedTuple):
    """The largest magnitudes of a policy.

    Attributes:
      shear: tangent of the angle.
      translate: shift in pixels, and as a fraction of the side.
      rotate: angle in degrees.
      factor: largest change of the factors of brightness, colour, contrast and sharpness.
      bits: number of bits that posterize drops.
    """

    shear: float
    translate: tuple[float, float]
    rotate: float
    factor: float
    bits: int


RAND = Ranges(shear=0.3, translate=(0.0, 150 / 331), rotate=30.0, factor=0.9, bits=4)
TRIVIAL = Ranges(shear=0.99, translate=(32.0, 0.0), rotate=135.0, factor=0.99, bits=6)


def rand_augment(
    operations: int = 2,
    magnitude: float | Array = 9.0,
    *,
    bins: int = 31,
    method: Method = "nearest",
    fill: Fill = "constant",
    value: float | Array = 0.0,
    mask_value: float | Array = 0,
) -> Augmentation:
    """RandAugment: consecutive random operations of equal magnitude, [h, w, c] -> [h, w, c].

    The operations are the identity, shear and shift along x and y (up to 0.3, and 150 / 331 of the side), rotation (30
    degrees), brightness, colour, contrast and sharpness (factors 1 ± 0.9), posterize (8 to 4 bits), solarize
    (thresholds 1 to 0), autocontrast and equalize. Signs are random. Under `vmap` all colour operations are computed.

    Args:
      operations: number of operations for each image, >= 1; each is drawn from all 14.
      magnitude: from 0 to bins - 1, which stands for the largest magnitudes; may be traced.
      bins: number of magnitudes, >= 2.
      method, fill, value, mask_value: as in `affine`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if an argument is out of range or unknown.

    Differences: ranges and defaults are torchvision's. In the paper the largest magnitude is 10 or 30, and the
    operations of timm change more with it.

    Reference: Cubuk et al., RandAugment: Practical Automated Data Augmentation with a Reduced Search Space, 2020.

    >>> rand_augment()(jax.random.key(0), jnp.zeros((4, 4, 3), jnp.uint8)).dtype
    dtype('uint8')
    """
    n = check.count("rand_augment", "operations", operations)
    bins = check.count("rand_augment", "bins", bins, 2)
    check.scalar("rand_augment", "magnitude", magnitude, 0, bins - 1, "[]")
    how = sampling("rand_augment", method, fill, value, mask_value)

    def augment(key: Key, example: Any) -> Any:
        level = jnp.asarray(magnitude, jnp.float32) / (bins - 1)
        for i in range(n):
            example = _operation("rand_augment", fold_in(key, i), example, level, RAND, how)
        return example

    augment.__name__ = "rand_augment"
    return augment


def trivial_augment(
    *,
    bins: int = 31,
    method: Method = "nearest",
    fill: Fill = "constant",
    value: float | Array = 0.0,
    mask_value: float | Array = 0,
) -> Augmentation:
    """TrivialAugment (wide): one random operation of random magnitude, [h, w, c] -> [h, w, c].

    The operations are those of `rand_augment`, with larger ranges: shear 0.99, shift 32 pixels, rotation 135 degrees,
    factors 1 ± 0.99, posterize 8 to 2 bits. Nothing needs to be tuned.

    Args:
      bins: number of magnitudes from 0 to the largest one, >= 2, each equally likely.
      method, fill, value, mask_value: as in `affine`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if an argument is out of range or unknown.

    Differences: ranges and defaults are those of torchvision's `TrivialAugmentWide`.

    Reference: Müller and Hutter, TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation, 2021.

    >>> trivial_augment()(jax.random.key(0), jnp.zeros((4, 4, 3), jnp.uint8)).dtype
    dtype('uint8')
    """
    bins = check.count("trivial_augment", "bins", bins, 2)
    how = sampling("trivial_augment", method, fill, value, mask_value)

    def augment(key: Key, example: Any) -> Any:
        level = jax.random.randint(fold_in(key, 0), (), 0, bins).astype(jnp.float32) / (bins - 1)
        return _operation("trivial_augment", fold_in(key, 1), example, level, TRIVIAL, how)

    augment.__name__ = "trivial_augment"
    return augment


def _operation(where: str, key: Key, example: Any, level: Array, ranges: Ranges, how: Sampling) -> Any:
    """One random operation, of a level from 0 to 1."""
    number, sign = jax.random.randint(key, (2,), 0, jnp.array([len(OPERATIONS), 2]))
    return applied(where, example, number, jnp.where(sign == 1, -level, level), ranges, how)


def applied(where: str, example: Any, number: Array, level: Array, ranges: Ranges, how: Sampling) -> Any:
    """The operation of a number, of a signed level from -1 to 1: all moves are one homography, colours a switch."""
    image = image_of(where, example)
    dtype = wide_of(image)
    level = level.astype(dtype)
    example = warped(example, image, _forward(image, number, level, ranges), how)
    image = example["image"] if isinstance(example, dict) else example
    bits = 8 - jnp.round(jnp.abs(level) * ranges.bits)
    factor = 1 + level * ranges.factor
    branches = [
        lambda x: x,
        lambda x: x * factor,
        lambda x: saturated(x, factor),
        lambda x: contrasted(x, factor),
        lambda x: sharpened(x, factor),
        lambda x: posterized(x, bits),
        lambda x: solarized(x, 1 - jnp.abs(level)),
        stretched,
        equalized,
    ]
    x = to_unit(image)
    new = jnp.clip(lax.switch(jnp.maximum(number - MOVES + 1, 0), branches, x), 0, 1)
    new = jnp.where(number < MOVES, image, from_unit(new, image.dtype))
    return example | {"image": new} if isinstance(example, dict) else new


def _forward(image: Array, number: Array, level: Array, ranges: Ranges) -> Array:
    """The homography of an operation, the identity if it does not move the image."""
    h, w, _ = image.shape

    def only(name: str, magnitude: float) -> Array:
        return jnp.where(number == OPERATIONS.index(name), level * magnitude, 0)

    pixels, fraction = ranges.translate
    shears = only("shear_x", ranges.shear), only("shear_y", ranges.shear)
    shifts = only("translate_x", pixels + fraction * w), only("translate_y", pixels + fraction * h)
    backward = matrix((1, shears[0], shifts[0]), (shears[1], 1, shifts[1]), (0, 0, 1), dtype=level.dtype)
    return product(inverted(backward), about(image, _turn(only("rotate", ranges.rotate))))
