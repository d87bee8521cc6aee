"""The numeric options of activations."""

import math

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._dtypes import wide_dtype


def option(where: str, name: str, value: ArrayLike, x: Array, low: float = -math.inf, ends: str = "()") -> Array:
    """A finite number > low, or >= low, as a scalar in the dtype in which `x` is computed."""
    check.scalar(where, name, value, low, ends=ends)
    return jnp.asarray(value).astype(wide_dtype(x.dtype))
