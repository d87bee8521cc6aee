"""What every activation checks of its input and options, and the dtype in which it computes."""

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
    """`x` as an array, if it is floating."""
    if not jnp.issubdtype(kind_of(x), jnp.floating):
        raise wrong_type(where, "x of a floating dtype", x, "Cast it: jnp.asarray(x, jnp.float32).")
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
    """A numeric option as a scalar, in the dtype in which `x` is computed; only the range of a number is checked."""
    dtype = getattr(value, "dtype", np.dtype(type(value)))
    if not any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer)) or np.shape(value) != ():
        raise wrong_type(where, f"{name} to be a real scalar", value, "Map over several by vmap.")
    if isinstance(value, int | float | np.number) and not fits(value):
        raise invalid(where, f"{name} {expected}", value)
    return jnp.asarray(value).astype(wide(x).dtype)


def axes_of(where: str, x: Array, axis: int | Sequence[int]) -> tuple[int, ...]:
    """`axis` as a tuple of axes that `x` has."""
    axes = tuple(axis) if isinstance(axis, Sequence) else (axis,)
    if not axes or not all(is_axis(x, a) for a in axes):
        raise invalid(where, "an axis of x", told=f"axis={axis!r} for {describe(x)}", fix="Axes count from 0.")
    if len({a % x.ndim for a in axes}) < len(axes):
        raise invalid(where, "each axis of x once", told=f"axis={axis!r} for {describe(x)}")
    return axes


def is_axis(x: Array, axis: Any) -> bool:
    """Whether `axis` is one that x has: an integer, and no bool."""
    return isinstance(axis, SupportsIndex) and not isinstance(axis, bool) and -x.ndim <= index(axis) < x.ndim
