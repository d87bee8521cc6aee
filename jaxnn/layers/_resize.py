"""Layers that resize or pad images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal

from jax import Array

from jaxnn import _checks as check
from jaxnn import ops
from jaxnn._calls import recorded
from jaxnn._layer import Layer, of_function
from jaxnn.ops._pad import PaddingMode, check_mode
from jaxnn.ops._resize import Coordinates, Rounding
from jaxnn.ops._window import check_padding, check_sizes


@recorded
def upsample(
    scale: float | Sequence[float],
    *,
    method: Literal["nearest", "linear", "cubic"] = "nearest",
    coordinates: Coordinates = "half_pixel",
    rounding: Rounding = "half_up",
    antialias: bool = False,
    exclude_outside: bool | None = None,
    a: float | None = None,
    name: str | None = None,
) -> Layer:
    """Upsampling by interpolation, [n, *space, c] -> [n, *(scale space), c], as `ops.resize`.

    Followed by a convolution, it replaces a transposed convolution without checkerboard artifacts.

    Args:
      scale: factor > 0 of all space axes, or of each.
      method: "nearest" repeats values; "linear" (bilinear) and "cubic" (bicubic) interpolate.
      coordinates, rounding, antialias, exclude_outside, a: as in `ops.resize`.
      name: pins the name.

    Raises:
      ValueError, TypeError: as `ops.resize`.

    Reference: Odena et al., Deconvolution and Checkerboard Artifacts, 2016.

    >>> upsample(2).apply({}, {}, jnp.ones((1, 7, 7, 3)))[0].shape
    (1, 14, 14, 3)
    """
    for s in scale if isinstance(scale, Sequence) and not isinstance(scale, str) else (scale,):
        check.scalar(name or "upsample", "scale", s, ends="()", static=True)
    op = partial(
        ops.resize,
        scale=scale,
        method=method,
        coordinates=coordinates,
        rounding=rounding,
        antialias=antialias,
        exclude_outside=exclude_outside,
        a=a,
    )
    return of_function(op, "upsample", name, "examples")


@recorded
def pad(
    padding: int | Sequence[int | tuple[int, int]],
    *,
    mode: PaddingMode = "constant",
    value: float | Array = 0.0,
    name: str | None = None,
) -> Layer:
    """Pads the space axes, [n, *space, c] -> [n, *space', c], as `ops.pad`.

    Args:
      padding: number of positions added on both sides, or an integer or (before, after) for each space axis.
      mode: "constant", "reflect", "replicate" or "circular".
      value: of the constant.
      name: pins the name.

    Raises:
      ValueError: as `ops.pad`.

    >>> pad(2, mode="reflect").apply({}, {}, jnp.ones((1, 8, 8, 3)))[0].shape
    (1, 12, 12, 3)
    """
    where = name or "pad"
    check_padding(where, padding, names=())
    check_mode(where, "mode", mode)
    check.scalar(where, "value", value, -math.inf, ends="[]", nan=True)
    return of_function(partial(ops.pad, padding=padding, mode=mode, value=value), "pad", name, "examples")


@recorded
def depth_to_space(
    factor: int | Sequence[int], *, order: Literal["rrc", "crr"] = "rrc", name: str | None = None
) -> Layer:
    """Pixel shuffle: moves channels to space, [n, *space, r^k c] -> [n, *(r space), c], as `ops.depth_to_space`.

    Args:
      factor: r, an integer >= 1 for all k space axes or one for each.
      order: layout of the channels, "rrc" or "crr", as in `ops.depth_to_space`.
      name: pins the name.

    Raises:
      ValueError, TypeError: as `ops.depth_to_space`.

    >>> depth_to_space(2).apply({}, {}, jnp.ones((1, 7, 7, 12)))[0].shape
    (1, 14, 14, 3)
    """
    check_sizes(name or "depth_to_space", factor=factor)
    return of_function(partial(ops.depth_to_space, factor=factor, order=order), "depth_to_space", name, "examples")


@recorded
def space_to_depth(
    factor: int | Sequence[int], *, order: Literal["rrc", "crr"] = "rrc", name: str | None = None
) -> Layer:
    """Pixel unshuffle: moves space to channels, [n, *(r space), c] -> [n, *space, r^k c], as `ops.space_to_depth`.

    Args:
      factor: r, an integer >= 1 for all k space axes or one for each.
      order: layout of the channels, "rrc" or "crr", as in `ops.space_to_depth`.
      name: pins the name.

    Raises:
      ValueError, TypeError: as `ops.space_to_depth`.

    >>> space_to_depth(2).apply({}, {}, jnp.ones((1, 14, 14, 3)))[0].shape
    (1, 7, 7, 12)
    """
    check_sizes(name or "space_to_depth", factor=factor)
    return of_function(partial(ops.space_to_depth, factor=factor, order=order), "space_to_depth", name, "examples")
