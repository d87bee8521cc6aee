"""Random affine maps, perspectives and elastic deformations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from jaxnn import _checks as check
from jaxnn.augment._checks import Magnitude, image_of, interval
from jaxnn.augment._filters import gaussian
from jaxnn.augment._images import uniform, wide_of
from jaxnn.augment._warp import (
    Fill,
    Method,
    Sampling,
    about,
    matrix,
    pixel_centres,
    product,
    sampled,
    sampling,
    warped,
)
from jaxnn.types import Augmentation, Key

POSITIVE = (0.0, math.inf, "()")


def _homography(where: str, draw: Callable[[Key, Array], Array], how: Sampling) -> Augmentation:
    """The augmentation that moves an example by a random homography."""

    def augment(key: Key, example: Any) -> Any:
        image = image_of(where, example)
        return warped(example, image, draw(key, image), how)

    augment.__name__ = where
    return augment


def rotate(
    degrees: Magnitude = 15.0,
    *,
    method: Method = "linear",
    fill: Fill = "constant",
    value: float | Array = 0.0,
    mask_value: float | Array = 0,
) -> Augmentation:
    """Rotates by a random angle about the centre, [h, w, c] -> [h, w, c].

    The angle is uniform, counter-clockwise for a viewer. The size stays the same: corners are cut off.

    Args:
      degrees: angles from -degrees to degrees, or a pair (low, high) of angles; may be traced. 0 is the identity.
      method, fill, value, mask_value: as in `affine`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if an argument is out of range or unknown.

    Differences: torchvision's `RandomRotation` uses "nearest" by default. Keras' takes fractions of a full turn.

    >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])[..., None]
    >>> rotate((90.0, 90.0), method="nearest")(jax.random.key(0), x)[..., 0].tolist()
    [[2.0, 4.0], [1.0, 3.0]]
    """
    bounds = interval("rotate", "degrees", degrees)

    def draw(key: Key, image: Array) -> Array:
        return about(image, _turn(uniform(key, bounds, dtype=wide_of(image))))

    return _homography("rotate", draw, sampling("rotate", method, fill, value, mask_value))


def shear(
    degrees: Magnitude = 10.0,
    *,
    method: Method = "linear",
    fill: Fill = "constant",
    value: float | Array = 0.0,
    mask_value: float | Array = 0,
) -> Augmentation:
    """Shears along both axes by random angles about the centre, [h, w, c] -> [h, w, c].

        x' = x + tan(a) y,    y' = y + tan(b) x

    Args:
      degrees: range of a and b, which are independent and uniform: from -degrees to degrees, < 45, or a pair (low,
        high) between -45 and 45; may be traced. 0 is the identity.
      method, fill, value, mask_value: as in `affine`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if an argument is out of range or unknown.

    Differences: torchvision's `RandomAffine(shear=number)` shears along x only.

    >>> x = jnp.eye(3)[..., None]
    >>> bool((shear(0.0)(jax.random.key(0), x) == x).all())
    True
    """
    bounds = interval("shear", "degrees", degrees, below=45, pair=(-45, 45, "()"))

    def draw(key: Key, image: Array) -> Array:
        return about(image, _sheared(uniform(key, bounds, (2,), wide_of(image))))

    return _homography("shear", draw, sampling("shear", method, fill, value, mask_value))


def zoom(
    strength: Magnitude = 0.2,
    *,
    method: Method = "linear",
    fill: Fill = "constant",
    value: float | Array = 0.0,
    mask_value: float | Array = 0,
) -> Augmentation:
    """Enlarges or shrinks the content by a random factor about the centre, [h, w, c] -> [h, w, c].

    Args:
      strength: factors from 1 - strength to 1 + strength, uniform, < 1, or a pair (low, high) of factors > 0; may be
        traced. Above 1 objects get larger. 0 is the identity.
      method, fill, value, mask_value: as in `affine`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if an argument is out of range or unknown.

    Differences: Keras' `RandomZoom` takes the relative change of the visible part: positive values shrink objects.

    >>> x = jnp.arange(16.0).reshape(4, 4, 1)
    >>> zoom((2.0, 2.0), method="nearest")(jax.random.key(0), x)[:, :, 0].tolist()
    [[5.0, 5.0, 6.0, 6.0], [5.0, 5.0, 6.0, 6.0], [9.0, 9.0, 10.0, 10.0], [9.0, 9.0, 10.0, 10.0]]
    """
    bounds = interval("zoom", "strength", strength, centre=1.0, below=1, pair=POSITIVE)

    def draw(key: Key, image: Array) -> Array:
        return about(image, _scaled(uniform(key, bounds, dtype=wide_of(image))))

    return _homography("zoom", draw, sampling("zoom", method, fill, value, mask_value))


def translate(
    fraction: Magnitude = 0.1,
    *,
    method: Method = "linear",
    fill: Fill = "constant",
    value: float | Array = 0.0,
    mask_value: float | Array = 0,
) -> Augmentation:
    """Shifts along both axes by random distances, [h, w, c] -> [h, w, c].

    Args:
      fraction: range of the shifts as fractions of width and height, independent and uniform: from -fraction to
        fraction, or a pair (low, high); positive is right and down; may be traced. 0 is the identity.
      method, fill, value, mask_value: as in `affine`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if an argument is out of range or unknown.

    >>> x = jnp.arange(4.0).reshape(2, 2, 1)
    >>> translate((0.5, 0.5))(jax.random.key(0), x)[..., 0].tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    bounds = interval("translate", "fraction", fraction)

    def draw(key: Key, image: Array) -> Array:
        return _shift(image, uniform(key, bounds, (2,), wide_of(image)))

    return _homography("translate", draw, sampling("translate", method, fill, value, mask_value))


def affine(
    degrees: Magnitude = 15.0,
    fraction: Magnitude = 0.1,
    strength: Magnitude = 0.2,
    shear: Magnitude = 10.0,
    *,
    method: Method = "linear",
    fill: Fill = "constant",
    value: float | Array = 0.0,
    mask_value: float | Array = 0,
) -> Augmentation:
    """Rotation, shift, zoom and shear by one random affine map, interpolated once, [h, w, c] -> [h, w, c].

        p' = c + t + zoom · R · S (p - c),    c the centre

    Args:
      degrees: angles of R, as in `rotate`.
      fraction: shifts t, as in `translate`.
      strength: factors, as in `zoom`.
      shear: angles of S in degrees, as in `shear`.
      method: interpolation of the image: "linear" (bilinear) or "nearest". Masks always use "nearest".
      fill: values outside the image: "constant", its repeated "edge", or its "reflect"-ion about the centres of its
        border pixels, as NumPy's `pad`.
      value: of pixels outside for "constant", from 0 (black) to 1 (white) also for uint8; may be traced.
      mask_value: the same for masks, in their units, such as a label that the loss ignores.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if an argument is out of range or unknown.

    Differences: torchvision's `RandomAffine` shears along x only, and uses "nearest" by default.

    >>> x = jnp.arange(6.0).reshape(2, 3, 1)
    >>> bool((affine(0.0, 0.0, 0.0, 0.0)(jax.random.key(0), x) == x).all())
    True
    """
    angles = interval("affine", "degrees", degrees)
    shifts = interval("affine", "fraction", fraction)
    factors = interval("affine", "strength", strength, centre=1.0, below=1, pair=POSITIVE)
    shears = interval("affine", "shear", shear, below=45, pair=(-45, 45, "()"))

    def draw(key: Key, image: Array) -> Array:
        dtype = wide_of(image)
        u = uniform(key, (0.0, 1.0), (6,), dtype)

        def among(bounds: tuple[Any, Any], u: Array) -> Array:
            low, high = (jnp.asarray(b, dtype) for b in bounds)
            return low + (high - low) * u

        turned = product(_turn(among(angles, u[0])), _sheared(among(shears, u[1:3])))
        moved = about(image, product(_scaled(among(factors, u[3])), turned))
        return product(_shift(image, among(shifts, u[4:])), moved)

    return _homography("affine", draw, sampling("affine", method, fill, value, mask_value))


def _turn(degrees: Array) -> Array:
    """Rotation, counter-clockwise where y points down."""
    angle = jnp.deg2rad(degrees)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return matrix((cos, sin, 0), (-sin, cos, 0), (0, 0, 1), dtype=degrees.dtype)


def _sheared(degrees: Array) -> Array:
    a, b = jnp.tan(jnp.deg2rad(degrees))
    return matrix((1, a, 0), (b, 1, 0), (0, 0, 1), dtype=degrees.dtype)


def _scaled(factor: Array) -> Array:
    return matrix((factor, 0, 0), (0, factor, 0), (0, 0, 1), dtype=factor.dtype)


def _shift(image: Array, fractions: Array) -> Array:
    h, w, _ = image.shape
    return matrix((1, 0, fractions[0] * w), (0, 1, fractions[1] * h), (0, 0, 1), dtype=fractions.dtype)


def perspective(
    strength: float | Array = 0.3,
    *,
    method: Method = "linear",
    fill: Fill = "constant",
    value: float | Array = 0.0,
    mask_value: float | Array = 0,
) -> Augmentation:
    """Moves the four corners inwards by random distances, a random change of the viewpoint, [h, w, c] -> [h, w, c].

    Each corner moves by up to strength / 2 of the width and of the height, uniformly and independently; the homography
    that moves them moves the image.

    Args:
      strength: from 0, the identity, to 1 excluded; may be traced.
      method, fill, value, mask_value: as in `affine`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if an argument is out of range or unknown.

    Differences: torchvision's `RandomPerspective` rounds the corners to pixels, is applied with a probability of 0.5,
    and its default `distortion_scale` is 0.5.

    >>> x = jnp.arange(6.0).reshape(2, 3, 1)
    >>> bool((perspective(0.0)(jax.random.key(0), x) == x).all())
    True
    """
    check.scalar("perspective", "strength", strength, 0, 1)

    def draw(key: Key, image: Array) -> Array:
        inwards = uniform(key, (0.0, strength), (4, 2), wide_of(image)) / 2
        return _to_corners(image, inwards)

    return _homography("perspective", draw, sampling("perspective", method, fill, value, mask_value))


def _to_corners(image: Array, inwards: Array) -> Array:
    """The homography that moves the corners of an image inwards, by fractions [4, 2] of its size.

    Corners are in the order (0, 0), (1, 0), (1, 1), (0, 1) of the unit square. With D = q₀ - q₁ + q₂ - q₃, which is 0
    for parallelograms, the last row (g, h, 1) solves g (q₁ - q₂) + h (q₃ - q₂) = D.

    Reference: Heckbert, Fundamentals of Texture Mapping and Image Warping, 1989.
    """
    unit = jnp.array([[0, 0], [1, 0], [1, 1], [0, 1]], inwards.dtype)
    q = unit + (1 - 2 * unit) * inwards
    d, a, b = q[0] - q[1] + q[2] - q[3], q[1] - q[2], q[3] - q[2]
    det = a[0] * b[1] - a[1] * b[0]
    g, h = (d[0] * b[1] - d[1] * b[0]) / det, (a[0] * d[1] - a[1] * d[0]) / det
    across, down = q[1] - q[0] + g * q[1], q[3] - q[0] + h * q[3]
    height, width, _ = image.shape
    to_pixels = matrix((width, 0, 0), (0, height, 0), (0, 0, 1), dtype=inwards.dtype)
    to_unit = matrix((1 / width, 0, 0), (0, 1 / height, 0), (0, 0, 1), dtype=inwards.dtype)
    square = matrix((across[0], down[0], q[0, 0]), (across[1], down[1], q[0, 1]), (g, h, 1), dtype=inwards.dtype)
    moved = product(to_pixels, product(square, to_unit))
    return jnp.where(jnp.all(inwards == 0), jnp.eye(3, dtype=inwards.dtype), moved)


STEPS = 10  # of the iteration that inverts a displacement; the error shrinks by its gradient, < 1 without folds


def elastic(
    alpha: float | Array = 40.0,
    sigma: float = 6.0,
    *,
    method: Method = "linear",
    fill: Fill = "constant",
    value: float | Array = 0.0,
    mask_value: float | Array = 0,
) -> Augmentation:
    """Elastic deformation by a smooth random displacement of each pixel, [h, w, c] -> [h, w, c].

        x'(p) = x(p + alpha · (G_sigma * u)(p)),    u uniform in [-1, 1] for each pixel and axis

    G is a Gaussian. Boxes and keypoints move by the inverse displacement, found by iteration.

    Args:
      alpha: scale of the displacements in pixels, >= 0; may be traced. The standard deviation of a displacement is
        about 0.16 alpha / sigma. From about 3 sigma² on the image folds, and the points of a fold have no unique place.
        0 is the identity.
      sigma: standard deviation of the Gaussian in pixels, > 0: the smaller, the more irregular.
      method, fill, value, mask_value: as in `affine`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if an argument is out of range or unknown.

    Reference: Simard et al., Best Practices for Convolutional Neural Networks, 2003.

    >>> x = jnp.arange(6.0).reshape(2, 3, 1)
    >>> bool((elastic(0.0)(jax.random.key(0), x) == x).all())
    True
    """
    check.scalar("elastic", "alpha", alpha)
    check.scalar("elastic", "sigma", sigma, ends="()", static=True)
    how = sampling("elastic", method, fill, value, mask_value)

    def augment(key: Key, example: Any) -> Any:
        image = image_of("elastic", example)
        dtype = wide_of(image)
        noise = uniform(key, (-1.0, 1.0), (*image.shape[:2], 2), dtype)
        radius = math.ceil(3 * sigma)
        by = jnp.asarray(alpha, dtype) * gaussian(noise, jnp.asarray(sigma, dtype), radius, "constant")
        x, y = pixel_centres(image)
        smooth = Sampling("linear", "edge", 0, 0)

        def on_points(points: Array) -> Array:
            """Solves q + by(q) = p for each point p."""

            def step(q: Array, _: None) -> tuple[Array, None]:
                places = q[:, None, 0].astype(dtype), q[:, None, 1].astype(dtype)
                return points - sampled(by, places, smooth, None)[:, 0].astype(points.dtype), None

            return lax.scan(step, points, None, STEPS)[0]

        return sampled(example, (x + by[..., 0], y + by[..., 1]), how, on_points)

    augment.__name__ = "elastic"
    return augment
