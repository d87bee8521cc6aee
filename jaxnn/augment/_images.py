"""Images as real numbers and back, random magnitudes, and the two frames of an augmentation: colours, and places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxnn._dtypes import wide_dtype, widened
from jaxnn.augment._checks import image_of
from jaxnn.types import Augmentation, Key

LUMA = (0.299, 0.587, 0.114)  # of ITU-R 601-2, as Pillow's mode "L"


def uniform(key: Key, bounds: tuple[Any, Any], shape: tuple[int, ...] = (), dtype: Any = jnp.float32) -> Array:
    """Uniform numbers between two bounds, which may be traced; exactly the bound if both are equal.

    The key is not `quick`: the unrolled rounds would be fused into the loop over pixels, and computed for each of them.
    """
    low, high = (jnp.asarray(bound, dtype) for bound in bounds)
    return low + (high - low) * jax.random.uniform(key, shape, dtype)


def to_unit(x: Array) -> Array:
    """An image in at least float32, bytes as fractions of 255."""
    return x.astype(jnp.float32) / 255 if x.dtype == jnp.uint8 else widened(x)


def from_unit(x: Array, dtype: Any) -> Array:
    """An image in its dtype again, rounded for bytes."""
    return jnp.clip(jnp.round(x * 255), 0, 255).astype(dtype) if dtype == jnp.uint8 else x.astype(dtype)


def wide_of(x: Array) -> Any:
    """The dtype in which coordinates and magnitudes are computed for an image."""
    return wide_dtype(x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else jnp.dtype(jnp.float32)


def luma(x: Array) -> Array:
    """Grey value of each pixel, [..., c] -> [..., 1]: luma of RGB, the mean for other numbers of channels."""
    if x.shape[-1] != 3:
        return x.mean(-1, keepdims=True)
    red, green, blue = (weight * x[..., i : i + 1] for i, weight in enumerate(LUMA))
    return red + green + blue


def blend(x: Array, other: Array, factor: Array) -> Array:
    """factor · x + (1 - factor) · other, as Pillow's ImageEnhance: exactly x for a factor of 1."""
    return factor * x + (1 - factor) * other


def recolored(where: str, change: Callable[[Key, Array], Array], channels: int | None = None) -> Augmentation:
    """The augmentation that changes an image alone by `change(key, x)`, with x in at least float32, and clips it.

    Args:
      where: name of the augmentation, for errors.
      change: function of a key and an image in [0, 1].
      channels: number of channels that the image must have.
    """

    def augment(key: Key, example: Any) -> Any:
        image = image_of(where, example, channels)
        new = from_unit(jnp.clip(change(key, to_unit(image)), 0, 1), image.dtype)
        return example | {"image": new} if isinstance(example, dict) else new

    augment.__name__ = where
    return augment


def moved(
    example: Any,
    on_image: Callable[[Array], Array],
    on_mask: Callable[[Array], Array],
    on_points: Callable[[Array], Array],
) -> Any:
    """An example whose parts are moved, each by its function.

    Args:
      example: an image or a dict, as `image_of` has checked it.
      on_image: [h, w, c] -> [h', w', c].
      on_mask: [h, w, k] -> [h', w', k].
      on_points: (x, y) in pixels of the image -> those of the result, [n, 2] -> [n, 2], in at least float32.
    """
    if not isinstance(example, dict):
        return on_image(jnp.asarray(example))
    new = {"image": on_image(jnp.asarray(example["image"]))}
    if "mask" in example:
        mask = jnp.asarray(example["mask"])
        new["mask"] = on_mask(mask) if mask.ndim == 3 else on_mask(mask[..., None])[..., 0]
    if "keypoints" in example:
        points = jnp.asarray(example["keypoints"])
        new["keypoints"] = on_points(widened(points)).astype(points.dtype)
    if "boxes" in example:
        new["boxes"] = _boxes_moved(jnp.asarray(example["boxes"]), on_points, new["image"].shape)
    return {name: new[name] for name in example}


def _boxes_moved(boxes: Array, on_points: Callable[[Array], Array], shape: tuple[int, ...]) -> Array:
    """The smallest boxes around the moved corners of boxes (x1, y1, x2, y2), clipped to the image."""
    x1, y1, x2, y2 = jnp.moveaxis(widened(boxes), -1, 0)
    corners = jnp.stack([x1, y1, x2, y1, x2, y2, x1, y2], -1)
    corners = on_points(corners.reshape(-1, 2)).reshape(-1, 4, 2)
    ends = jnp.stack([corners.min(1), corners.max(1)], 1)
    ends = jnp.clip(ends, 0, jnp.broadcast_to(jnp.asarray(shape[1::-1], ends.dtype), ends.shape))
    return ends.reshape(-1, 4).astype(boxes.dtype)
