"""Pooling over one, two or three space axes, channels last."""

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import product
from math import prod
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from jaxnn._errors import invalid
from jaxnn._inputs import floating, param_dtype
from jaxnn.ops._window import Padding, pads, per_axis

# A window of up to so many taps is a chain of strided slices: its gradient is much faster than select_and_scatter.
SLICED_TAPS = 32


def max_pool(
    x: Array,
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "valid",
) -> Array:
    """Largest value of each window, [n, *space, c] -> [n, *space', c].

    The gradient goes to the first of equal values, as in PyTorch; NaN anywhere in a window gives NaN; padding counts as
    -inf.

    Args:
      window: steps per window, one number for all space axes or one for each.
      stride: steps between windows; None is the window, as in PyTorch and Keras.
      padding: as in `conv`; PyTorch's default 0 is "valid".

    Raises ValueError where the window does not fit, TypeError for an x that is not floating.

    >>> max_pool(jnp.array([1.0, 3.0, 2.0, 5.0]).reshape(1, 4, 1), 2)[0, :, 0].tolist()
    [3.0, 5.0]
    """
    x, taps, steps, sides = _checked("max_pool", x, window, stride, padding)
    x = jnp.pad(x, ((0, 0), *sides, (0, 0)), constant_values=-jnp.inf)
    if prod(taps) > SLICED_TAPS:
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, *taps, 1), (1, *steps, 1), "VALID")
    return _over_taps(x, taps, steps, _first_largest)


def avg_pool(
    x: Array,
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "valid",
) -> Array:
    """Mean of each window, [n, *space, c] -> [n, *space', c]; padding does not count, as in Keras (PyTorch counts it).

    Summed in at least float32.

    Args:
      window: steps per window, one number for all space axes or one for each.
      stride: steps between windows; None is the window.
      padding: as in `conv`.

    Raises ValueError where the window does not fit, TypeError for an x that is not floating.

    >>> avg_pool(jnp.array([1.0, 3.0, 2.0, 5.0]).reshape(1, 4, 1), 2)[0, :, 0].tolist()
    [2.0, 3.5]
    """
    x, taps, steps, sides = _checked("avg_pool", x, window, stride, padding)
    wide = x.astype(param_dtype(x))

    def total(v: Array) -> Array:
        return lax.reduce_window(v, 0.0, lax.add, (1, *taps, 1), (1, *steps, 1), ((0, 0), *sides, (0, 0)))

    if any(p != (0, 0) for p in sides):
        return (total(wide) / total(jnp.ones((1, *x.shape[1:-1], 1), wide.dtype))).astype(x.dtype)
    return (total(wide) / prod(taps)).astype(x.dtype)


def _checked(where: str, x: Array, window: int | Sequence[int], stride: Any, padding: Padding) -> tuple:
    x = floating(where, x, least=3, shape="[n, *space, c]")
    rank = x.ndim - 2
    if rank > 3:
        raise invalid(where, "x of shape [n, *space, c] with 1 to 3 space axes", x)
    window = per_axis(where, "window", window, rank)
    stride = window if stride is None else per_axis(where, "stride", stride, rank)
    sides = pads(where, padding, x.shape[1:-1], window, stride, (1,) * rank)
    if any(max(p) >= k for p, k in zip(sides, window, strict=True)):
        fix = "A window of padding alone has no value."
        raise invalid(where, f"padding shorter than the window {window}", sides, fix)
    return x, window, stride, sides


def _first_largest(a: Array, b: Array) -> Array:
    return jnp.where((b > a) | (b != b), b, a)


def _over_taps(x: Array, window: tuple[int, ...], stride: tuple[int, ...], join: Callable) -> Array:
    """Folds the taps of all windows, each tap one strided slice of x."""
    size = [(n - k) // s + 1 for n, k, s in zip(x.shape[1:-1], window, stride, strict=True)]

    def at(tap: tuple[int, ...]) -> Array:
        stop = [t + (n - 1) * s + 1 for t, n, s in zip(tap, size, stride, strict=True)]
        return lax.slice(x, (0, *tap, 0), (x.shape[0], *stop, x.shape[-1]), (1, *stride, 1))

    return reduce(join, map(at, product(*map(range, window))))
