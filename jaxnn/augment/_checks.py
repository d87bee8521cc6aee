"""Checks of the arguments of augmentations: intervals of strengths, images, and dicts with an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax.numpy as jnp
from jax import Array

from jaxnn import _checks as check
from jaxnn._dtypes import is_kind
from jaxnn._errors import describe, invalid, wrong_type
from jaxnn._inputs import is_array, known
from jaxnn.types import Arrays

Magnitude: TypeAlias = float | Array | tuple[float | Array, float | Array]
PARTS = ("image", "mask", "boxes", "keypoints")


def interval(
    where: str,
    argument: str,
    value: Any,
    *,
    centre: float = 0.0,
    below: float = math.inf,
    ends: str = "[)",
    pair: tuple[float, float, str] = (-math.inf, math.inf, "()"),
) -> tuple[Any, Any]:
    """The interval that a magnitude is drawn from: centre ± number, or a pair (low, high) as it is.

    Args:
      where, argument, value: as in `jaxnn._checks`.
      centre: the magnitude that changes nothing.
      below, ends: a number must be in the interval from 0 to `below`.
      pair: the interval that both ends of a pair must be in. Its lower end also limits centre - number.
    """
    if isinstance(value, tuple | list):
        return pair_of(where, argument, value, *pair)
    check.scalar(where, argument, value, 0, below, ends)
    low, least = pair[0], centre - value
    if math.isfinite(low):
        least = max(low, least) if known(value) else jnp.maximum(least, low)
    return least, centre + value


def pair_of(where: str, argument: str, value: Any, low: float, below: float, ends: str) -> tuple[Any, Any]:
    """The two ends of an interval; raises unless they are a pair of numbers in an interval, in order."""
    if not isinstance(value, tuple | list):
        raise wrong_type(where, f"{argument} to be a pair (low, high)", value)
    if len(value) != 2:
        raise invalid(where, f"{argument} to be a pair (low, high)", value)
    for end in value:
        check.scalar(where, argument, end, low, below, ends)
    if known(value[0]) and known(value[1]) and value[0] > value[1]:
        raise invalid(where, f"{argument} to be a pair with low <= high", value)
    return value[0], value[1]


def image_of(where: str, example: Any, channels: int | None = None) -> Array:
    """The image [h, w, c] of an example; raises unless the example is an image, or a dict with one and its parts."""
    if isinstance(example, dict):
        if "image" not in example:
            raise invalid(where, 'a dict with the key "image"', told=f"the keys {describe(list(example))}")
        if extra := [name for name in example if name not in PARTS]:
            raise invalid(where, f"a dict with keys among {', '.join(PARTS)}", told=f"the key {extra[0]!r}")
    x = example["image"] if isinstance(example, dict) else example
    if not is_array(x) or not (is_kind(x, "floating") or x.dtype == jnp.uint8):
        fix = "Convert it: x.astype(jnp.float32) / 255." if is_kind(x, "integer") else "The order is f(key, image)."
        raise wrong_type(where, "an image [h, w, c], floating in [0, 1] or uint8", x, fix)
    if len(x.shape) != 3:
        fix = "For batches use nn.augment.batched." if len(x.shape) == 4 else "A grey image is image[..., None]."
        raise invalid(where, "one image [h, w, c]", x, fix)
    if channels is not None and x.shape[-1] != channels:
        raise invalid(where, f"an image with {channels} channels", x)
    if isinstance(example, dict):
        _parts(where, example, x.shape[:2])
    return jnp.asarray(x)


def _parts(where: str, example: dict[str, Any], size: tuple[int, ...]) -> None:
    if "mask" in example:
        mask = example["mask"]
        if not is_array(mask) or len(mask.shape) not in (2, 3) or mask.shape[:2] != size:
            raise invalid(where, f"a mask of shape {[*size]} or {[*size, 'k']}".replace("'", ""), mask)
    for name, k in (("boxes", 4), ("keypoints", 2)):
        if name in example:
            points = check.array(where, name, example[name])
            if points.ndim != 2 or points.shape[1] != k:
                raise invalid(where, f"{name} of shape [k, {k}]", points)


def size_of(where: str, argument: str, size: int | Sequence[int], least: int = 1) -> tuple[int, int]:
    """(height, width) from a pair, or from one integer for both."""
    pair = size if isinstance(size, tuple | list) else (size, size)
    counts = [check.count(where, argument, n, least) for n in pair]
    if len(counts) != 2:
        raise invalid(where, f"{argument} to be an integer or a pair (height, width)", size)
    return counts[0], counts[1]


def batch_of(where: str, batch: Any) -> tuple[Arrays, Arrays]:
    """(x, y) of a batch of labelled images [n, h, w, c]; raises unless there are two parts of equal length."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise wrong_type(where, "a batch (x, y)", batch, "Labels are mixed together with their images.")
    x, y = batch
    if not is_array(x) or not (is_kind(x, "floating") or x.dtype == jnp.uint8):
        raise wrong_type(where, "images x, floating or uint8", x)
    if len(x.shape) != 4 or not is_array(y) or not y.shape or y.shape[0] != x.shape[0]:
        raise invalid(where, "x of shape [n, h, w, c] and y of shape [n, ...]", (x, y))
    return jnp.asarray(x), jnp.asarray(y)
