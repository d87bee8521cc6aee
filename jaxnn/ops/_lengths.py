"""Ragged sequences: how many of their first steps count."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxnn._errors import invalid, wrong_type


def check_lengths(where: str, lengths: Any, n: int) -> None:
    """Raises unless `lengths` are n whole numbers, or None."""
    if lengths is None:
        return
    if not hasattr(lengths, "dtype") or not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise wrong_type(where, "lengths to be an array of integers", lengths)
    if lengths.shape != (n,):
        raise invalid(where, f"lengths of shape [{n}], one for each sequence", lengths)


def before_end(lengths: Array, x: Array) -> Array:
    """Which steps of x [n, t, ...] count, [n, t, 1, ...]."""
    n, t, *rest = x.shape
    around = (1,) * len(rest)
    steps = jnp.arange(t, dtype=jnp.int32).reshape(1, t, *around)
    return jnp.asarray(lengths, jnp.int32).reshape(n, 1, *around) > steps


def without_padding(x: Array, lengths: Array | None) -> Array:
    """Zeros for the steps after the end: a NaN there would pass a mask that comes later, in a product or a gradient."""
    return x if lengths is None else jnp.where(before_end(lengths, x), x, jnp.zeros((), x.dtype))
