"""Flips, crops and resizing: augmentations that move whole rows and columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxnn import _checks as check
from jaxnn import ops
from jaxnn._errors import invalid
from jaxnn.augment._checks import image_of, pair_of, size_of
from jaxnn.augment._images import from_unit, moved, to_unit, uniform
from jaxnn.augment._warp import FILLS, Fill
from jaxnn.types import Augmentation, Key

AXES = ("horizontal", "vertical")


def flip(direction: Literal["horizontal", "vertical"] = "horizontal", probability: float | Array = 0.5) -> Augmentation:
    """Mirrors with a probability, [h, w, c] -> [h, w, c].

    Args:
      direction: "horizontal" exchanges left and right, "vertical" top and bottom.
      probability: from 0 to 1; may be traced.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if an argument is out of range or unknown.

    Differences: torchvision's `RandomHorizontalFlip` and `RandomVerticalFlip`.

    >>> flip(probability=1.0)(jax.random.key(0), jnp.array([[[1.0], [2.0]]]))[0, :, 0].tolist()
    [2.0, 1.0]
    """
    check.choice("flip", "direction", direction, AXES)
    check.scalar("flip", "probability", probability, 0, 1, "[]")
    axis, coordinate = (1, 0) if direction == "horizontal" else (0, 1)

    def augment(key: Key, example: Any) -> Any:
        image = image_of("flip", example)
        draw = jax.random.uniform(key, ())
        mirrored = draw < jnp.asarray(probability, draw.dtype)

        def on_array(x: Array) -> Array:
            return jnp.where(mirrored, jnp.flip(x, axis), x)

        def on_points(points: Array) -> Array:
            other = points.at[:, coordinate].set(image.shape[axis] - points[:, coordinate])
            return jnp.where(mirrored, other, points)

        return moved(example, on_array, on_array, on_points)

    augment.__name__ = "flip"
    return augment


def crop(
    size: int | Sequence[int],
    padding: int | Sequence[int] = 0,
    *,
    fill: Fill = "constant",
    value: float | Array = 0.0,
    mask_value: float | Array = 0,
) -> Augmentation:
    """Cuts a part at a random place out of the padded image, [h, w, c] -> [size, size, c].

    All places are equally likely. `crop(32, padding=4)` is the usual augmentation of CIFAR.

    Args:
      size: height and width of the result, >= 1, or one integer for both.
      padding: pixels added at the top and bottom, and at the left and right, >= 0, or one integer for both.
      fill: values of the padding: "constant", the repeated "edge", or "reflect", as NumPy's `pad`.
      value: of the padding for "constant", from 0 (black) to 1 (white) also for uint8; may be traced.
      mask_value: the same for masks, in their units.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if an argument is out of range or unknown, or `size` is larger than the padded image.

    >>> crop(2)(jax.random.key(0), jnp.ones((3, 4, 1))).shape
    (2, 2, 1)
    """
    return _crop("crop", size, padding, (fill, value, mask_value), lambda key: uniform(key, (0.0, 1.0), (2,)))


def center_crop(size: int | Sequence[int]) -> Augmentation:
    """Cuts out the central part, [h, w, c] -> [size, size, c].

    If the border has an odd number of pixels, one more is cut off at the bottom and at the right.

    Args:
      size: height and width of the result, >= 1, or one integer for both.

    Returns:
      The augmentation, which draws nothing.

    Raises:
      TypeError: if `size` is not an integer.
      ValueError: if `size` is less than 1 or larger than the image.

    Differences: torchvision's `CenterCrop` pads images that are too small.

    >>> center_crop(1)(jax.random.key(0), jnp.arange(3.0).reshape(1, 3, 1)).tolist()
    [[[1.0]]]
    """
    return _crop("center_crop", size, 0, ("constant", 0.0, 0), None)


def _crop(
    where: str, size: Any, padding: Any, outside: tuple[Fill, Any, Any], draw: Callable[[Key], Array] | None
) -> Augmentation:
    height, width = size_of(where, "size", size)
    pads = size_of(where, "padding", padding, least=0) if draw else (0, 0)
    fill, value, mask_value = outside
    check.choice(where, "fill", fill, FILLS)
    check.scalar(where, "value", value, -math.inf, ends="()")
    check.scalar(where, "mask_value", mask_value, -math.inf, ends="()")

    def augment(key: Key, example: Any) -> Any:
        image = image_of(where, example)
        free = [n + 2 * pad - out for n, pad, out in zip(image.shape, pads, (height, width), strict=False)]
        if min(free) < 0:
            raise invalid(where, f"an image of at least {height} × {width} pixels, padding included", image)
        if draw is None:
            starts = [jnp.asarray(n // 2, jnp.int32) for n in free]
        else:
            u = draw(key)
            starts = [jnp.minimum(jnp.floor(u[i] * (n + 1)), n).astype(jnp.int32) for i, n in enumerate(free)]

        def cut(x: Array, value: Array) -> Array:
            widths = (*((pad, pad) for pad in pads), (0, 0))
            if fill == "constant":
                x = jnp.pad(x, widths, constant_values=value.astype(x.dtype))
            else:
                x = jnp.pad(x, widths, mode=fill)
            return lax.dynamic_slice(x, (*starts, jnp.zeros((), jnp.int32)), (height, width, x.shape[-1]))

        def on_points(points: Array) -> Array:
            shift = jnp.stack([starts[1] - pads[1], starts[0] - pads[0]]).astype(points.dtype)
            return points - shift[None]

        def on_image(x: Array) -> Array:
            return cut(x, from_unit(jnp.asarray(value, jnp.float32), x.dtype))

        return moved(example, on_image, lambda mask: cut(mask, jnp.asarray(mask_value)), on_points)

    augment.__name__ = where
    return augment


def resize(
    size: int | Sequence[int], *, method: Literal["nearest", "linear", "cubic"] = "linear", antialias: bool = True
) -> Augmentation:
    """Resizes to a fixed size, [h, w, c] -> [size, size, c]. Masks use "nearest".

    Args:
      size: height and width of the result, >= 1, or one integer for both.
      method: interpolation of the image: "nearest", "linear" (bilinear) or "cubic" (bicubic).
      antialias: if True, the image is smoothed before it shrinks; ignored by "nearest".

    Returns:
      The augmentation, which draws nothing.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if an argument is out of range or unknown.

    Differences: one integer is the size of both sides; torchvision's `Resize` keeps the aspect ratio for one.

    >>> resize((1, 2))(jax.random.key(0), jnp.arange(4.0).reshape(1, 4, 1))[0, :, 0].tolist()
    [0.714..., 2.285...]
    """
    height, width = size_of("resize", "size", size)
    check.choice("resize", "method", method, ("nearest", "linear", "cubic"))
    check.flags("resize", antialias=antialias)

    def augment(key: Key, example: Any) -> Any:
        image = image_of("resize", example)
        h, w, _ = image.shape

        def on_image(x: Array) -> Array:
            smooth = antialias and method != "nearest"
            new = ops.resize(to_unit(x)[None], (height, width), method=method, antialias=smooth)[0]
            return from_unit(new, x.dtype)

        def on_mask(mask: Array) -> Array:
            rows, columns = (((jnp.arange(out) * 2 + 1) * n) // (2 * out) for out, n in ((height, h), (width, w)))
            return mask[rows[:, None], columns[None]]

        def on_points(points: Array) -> Array:
            return points * jnp.asarray([width / w, height / h], points.dtype)[None]

        return moved(example, on_image, on_mask, on_points)

    augment.__name__ = "resize"
    return augment


def resized_crop(
    size: int | Sequence[int],
    area: tuple[float | Array, float | Array] = (0.08, 1.0),
    ratio: tuple[float | Array, float | Array] = (3 / 4, 4 / 3),
    *,
    antialias: bool = True,
) -> Augmentation:
    """Resizes a random part to a fixed size, [h, w, c] -> [size, size, c]: the usual augmentation of ImageNet.

    The area of the part and the logarithm of its aspect ratio are uniform; a side longer than the image is cut to it.

    Args:
      size: height and width of the result, >= 1, or one integer for both.
      area: range of the area of the part, as a fraction of the image's, in (0, 1]; may be traced.
      ratio: range of width / height of the part, > 0; may be traced.
      antialias: if True, the image is smoothed where it shrinks.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if an argument is out of range.

    Differences: torchvision's `RandomResizedCrop` draws again if a side is too long, at most 10 times.

    Reference: Szegedy et al., Going Deeper with Convolutions, 2015.

    >>> resized_crop(2)(jax.random.key(0), jnp.ones((3, 4, 1))).shape
    (2, 2, 1)
    """
    height, width = size_of("resized_crop", "size", size)
    areas = pair_of("resized_crop", "area", area, 0, 1, "(]")
    ratios = pair_of("resized_crop", "ratio", ratio, 0, math.inf, "()")
    check.flags("resized_crop", antialias=antialias)

    def augment(key: Key, example: Any) -> Any:
        h, w, c = image_of("resized_crop", example).shape
        u = uniform(key, (0.0, 1.0), (4,))
        low, high = (jnp.asarray(a, u.dtype) for a in areas)
        part = (low + (high - low) * u[0]) * h * w
        low, high = (jnp.log(jnp.asarray(a, u.dtype)) for a in ratios)
        aspect = jnp.exp(low + (high - low) * u[1])
        across, down = jnp.minimum(jnp.sqrt(part * aspect), w), jnp.minimum(jnp.sqrt(part / aspect), h)
        left, top = u[2] * (w - across), u[3] * (h - down)
        scale = jnp.stack([height / down, width / across])
        shift = -jnp.stack([top, left]) * scale

        def on_image(x: Array) -> Array:
            new = jax.image.scale_and_translate(
                to_unit(x), (height, width, c), (0, 1), scale, shift, "linear", antialias=antialias
            )
            return from_unit(new, x.dtype)

        def on_mask(mask: Array) -> Array:
            rows, columns = (
                jnp.clip(jnp.floor((jnp.arange(out).astype(u.dtype) + 0.5 - shift[i]) / scale[i]), 0, n - 1)
                for i, (out, n) in enumerate(((height, h), (width, w)))
            )
            return mask[rows.astype(jnp.int32)[:, None], columns.astype(jnp.int32)[None]]

        def on_points(points: Array) -> Array:
            return points * scale[None, ::-1].astype(points.dtype) + shift[None, ::-1].astype(points.dtype)

        return moved(example, on_image, on_mask, on_points)

    augment.__name__ = "resized_crop"
    return augment
