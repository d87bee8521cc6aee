"""Checks of the activations' inputs and options, and the dtype of their arithmetic."""

import math
from collections.abc import Callable, Sequence
from operator import index
from typing import Any, SupportsIndex

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxnn._errors import describe, invalid, wrong_type
from jaxnn._inputs import kind_of


def floating(where: str, x: ArrayLike) -> Array:
    """`x` as an array of a floating dtype."""
    if not jnp.issubdtype(kind_of(x), jnp.floating):
        raise wrong_type(where, "x of a floating dtype", describe(x), "Cast it: jnp.asarray(x, jnp.float32).")
    return jnp.asarray(x)


def wide(x: Array) -> Array:
    """`x` in at least float32."""
    return x if jnp.finfo(x.dtype).bits >= 32 else x.astype(jnp.float32)


def option(
    where: str,
    name: str,
    value: ArrayLike,
    x: Array,
    expected: str = "to be finite",
    fits: Callable[[Any], bool] = math.isfinite,
) -> Array:
    """Numeric option as a scalar in the dtype of the arithmetic on `x`; Python and NumPy numbers are range-checked."""
    dtype = getattr(value, "dtype", np.dtype(type(value)))
    if not any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer)) or np.shape(value) != ():
        raise wrong_type(where, f"{name} to be a real scalar", describe(value), "Map over several by vmap.")
    if isinstance(value, int | float | np.number) and not fits(value):
        raise invalid(where, f"{name} {expected}", repr(value))
    return jnp.asarray(value).astype(wide(x).dtype)


def axes_of(where: str, x: Array, axis: int | Sequence[int]) -> tuple[int, ...]:
    """`axis` as a tuple of axes of `x`."""
    axes = tuple(axis) if isinstance(axis, Sequence) else (axis,)
    if not axes or not all(is_axis(x, a) for a in axes):
        raise invalid(where, "an axis of x", f"axis={axis!r} for {describe(x)}", "Axes count from 0.")
    if len({a % x.ndim for a in axes}) < len(axes):
        raise invalid(where, "each axis of x once", f"axis={axis!r} for {describe(x)}")
    return axes


def is_axis(x: Array, axis: Any) -> bool:
    """True if `axis` is an axis of `x`: an integer in range, not a bool."""
    return isinstance(axis, SupportsIndex) and not isinstance(axis, bool) and -x.ndim <= index(axis) < x.ndim
