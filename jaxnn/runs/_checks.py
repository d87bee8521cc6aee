"""Checks of the points of a sweep."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import _checks as check
from jaxnn._errors import invalid, wrong_type
from jaxnn.types import Arrays


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
