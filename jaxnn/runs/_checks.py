"""Checks of the points of a sweep."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import _checks as check
from jaxnn._errors import invalid, wrong_type
from jaxnn.types import Arrays, Key


def check_named(where: str, axes: dict[str, Any], example: str) -> None:
    """Raises unless there is an axis."""
    if not axes:
        raise invalid(where, "at least one axis", told="none", fix=f"Name them: {example}.")


def check_search(key: Key, n: Any, draws: dict[str, Any]) -> int:
    """The number of points of a random search; raises unless all of its arguments are valid."""
    check.key("random", key, "random(key, n, name=draw)")
    n = check.count("random", "n", n)
    check_named("random", draws, "random(key, 9, rate=log_uniform(1e-4, 1e-1))")
    for name, draw in draws.items():
        check.function("random", name, draw, "(key, shape) -> array", "log_uniform(1e-4, 1e-1) and its like make one.")
    return n


def check_values(points: dict[str, Any], n: int) -> None:
    """Raises unless each axis has n values."""
    for name, values in points.items():
        if jnp.shape(values)[:1] != (n,):
            raise invalid("random", f"{name} to give {n} values on axis 0", values)


def row_of(where: str, name: str, values: Arrays) -> jax.Array:
    """The values as an array [k, ...], k >= 1."""
    try:
        row = values if hasattr(values, "dtype") else np.asarray(values)
    except (TypeError, ValueError):  # sequences of unequal lengths, or of keys
        row = np.asarray("")
    if not (
        jnp.issubdtype(row.dtype, jax.dtypes.prng_key) or jnp.issubdtype(row.dtype, jnp.number) or row.dtype == bool
    ):
        raise wrong_type(where, f"{name} to be an array or a sequence of numbers", values)
    row = jnp.asarray(row)
    if row.ndim == 0:
        raise wrong_type(where, f"{name} to be a row of values", values, f"For one value write {name}=[value].")
    if len(row) == 0:
        raise invalid(where, f"{name} to have at least one value", row)
    return row


def check_range(where: str, low: Any, high: Any) -> None:
    """Raises unless low and high are finite numbers, low < high."""
    for name, value in (("low", low), ("high", high)):
        check.scalar(where, name, value, -np.inf, ends="()", static=True)
    if not low < high:
        raise invalid(where, "low < high", told=f"{low} and {high}")
