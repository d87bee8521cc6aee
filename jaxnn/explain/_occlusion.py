"""Occlusion: the loss of score when a part of the input is covered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._dtypes import widened
from jaxnn._errors import invalid
from jaxnn._layer import Layer
from jaxnn.explain._target import ModelLike, Target, check_x, explained, filled, scorer, settled
from jaxnn.types import Params, State


def occlusion(
    model: ModelLike,
    params: Params,
    state: State,
    x: Array,
    *,
    window: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    fill: ArrayLike = 0.0,
    target: Target = None,
    block: int = 16,
) -> Array:
    """Loss of score when a window of the input is filled, [n, *space, c] -> [n, *space]; [n, d] -> [n, d].

        mean over the windows w that cover a position of S(x) - S(x filled in w)

    Windows cover all channels. They start at multiples of the stride, up to the first that reaches the end of x, where
    it is cut. A positive value is evidence for the class.

    Args:
      model, params, state, x, target: as in `saliency`. The predicted class is that of x.
      window: size of the windows, >= 1: an integer, or one for each space axis.
      stride: steps between windows, >= 1 and at most the window, so that every position is covered; None is the window.
      fill: value of covered positions: a number, or an array of the shape of x, of one example or of its last axis,
        such as the mean of the data.
      block: number of windows at a time, >= 1. The model runs on block · n inputs.

    Raises:
      TypeError, ValueError: as `saliency`, or if window, stride, fill or block are out of range.

    Differences: same as captum's Occlusion, whose stride has 1 as its default, and whose result repeats the values for
      each channel.

    Reference: Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, 2014.

    >>> x = jnp.array([[1.0, 2.0, 3.0]])
    >>> occlusion(lambda x: x.sum(1, keepdims=True), {}, {}, x, window=2, stride=1).tolist()
    [[3.0, 4.0, 5.0]]
    """
    x = check_x("occlusion", x)
    if x.ndim < 2:
        raise invalid("occlusion", "x of shape [n, *space, c] or [n, d]", x)
    sizes = x.shape[1 : max(x.ndim - 1, 2)]
    window = _of_axes("window", window, sizes, sizes)
    stride = window if stride is None else _of_axes("stride", stride, sizes, window)
    block = check.count("occlusion", "block", block)
    fill = filled("occlusion", "fill", fill, x)
    how = {"window": window, "stride": stride, "block": block}
    return explained(_occlusion, "occlusion", model, params, state, x, target, fill, **how)


def _occlusion(
    model: Layer,
    params: Params,
    state: State,
    x: Array,
    target: Target,
    fill: Array,
    *,
    window: tuple[int, ...],
    stride: tuple[int, ...],
    block: int,
) -> Array:
    score = scorer("occlusion", model, params, state, settled(model, params, state, x, target))
    space = x.shape[1 : 1 + len(window)]
    covers = [_covers(*of_axis) for of_axis in zip(space, window, stride, strict=True)]  # [windows, positions] each
    grid = tuple(map(len, covers))

    def filled_score(w: Array) -> Array:
        """Scores with window w."""
        at = jnp.unravel_index(w, grid)
        inside = jnp.asarray(True)
        for axis, (cover, i) in enumerate(zip(covers, at, strict=True)):
            shape = [1] * x.ndim
            shape[1 + axis] = -1
            inside = inside & jnp.asarray(cover)[i].reshape(shape)
        return score(jnp.where(inside, fill, x))

    s = jax.lax.map(filled_score, jnp.arange(np.prod(grid)), batch_size=block)  # [windows, n]
    loss = widened(score(x))[None] - widened(s)
    maps = jnp.moveaxis(loss.reshape(*grid, -1), -1, 0)
    for axis, cover in enumerate(covers):  # the sum over windows, axis by axis, over their number
        share = jnp.asarray(cover / cover.sum(0), maps.dtype)
        maps = jnp.moveaxis(jnp.tensordot(maps, share, (1 + axis, 0)), -1, 1 + axis)
    return maps.astype(x.dtype)


def _covers(size: int, window: int, stride: int) -> np.ndarray:
    """True where a window covers a position of an axis, [windows, positions]."""
    starts = stride * np.arange(-(-max(size - window, 0) // stride) + 1)
    after = np.arange(size) - starts[:, None]
    return (after >= 0) & (after < window)


def _of_axes(
    argument: str, value: int | Sequence[int], sizes: tuple[int, ...], largest: tuple[int, ...]
) -> tuple[int, ...]:
    """An integer for each space axis, from 1 to the largest."""
    values: Sequence[Any] = value if isinstance(value, list | tuple) else (value,) * len(sizes)
    if len(values) != len(sizes):
        raise invalid("occlusion", f"{argument} to be an integer or one for each of {len(sizes)} space axes", value)
    return tuple(check.count("occlusion", argument, v, 1, most) for v, most in zip(values, largest, strict=True))
