"""Ragged sequences: lengths, masks of valid steps, and zeroed padding."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxnn._errors import invalid, wrong_type


def check_lengths(where: str, lengths: Any, n: int) -> None:
    """Raises unless `lengths` is an integer array of shape [n], or None."""
    if lengths is None:
        return
    if not hasattr(lengths, "dtype") or not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise wrong_type(where, "lengths to be an array of integers", lengths)
    if lengths.shape != (n,):
        raise invalid(where, f"lengths of shape [{n}], one for each sequence", lengths)


def before_end(lengths: Array, x: Array) -> Array:
    """Boolean mask of the valid steps of x [n, t, ...], of shape [n, t, 1, ...]."""
    n, t, *rest = x.shape
    around = (1,) * len(rest)
    steps = jnp.arange(t, dtype=jnp.int32).reshape(1, t, *around)
    return jnp.asarray(lengths, jnp.int32).reshape(n, 1, *around) > steps


def without_padding(x: Array, lengths: Array | None) -> Array:
    """Sets the steps after the end to 0: a NaN there would pass a later mask through a product or a gradient."""
    return x if lengths is None else jnp.where(before_end(lengths, x), x, jnp.zeros((), x.dtype))
