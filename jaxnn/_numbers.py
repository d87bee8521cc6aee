"""Hyper-parameters as numbers of any kind: Python floats, NumPy scalars, traced scalars."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from jaxnn._errors import invalid, is_function, wrong_type


def wide(dtype: DTypeLike) -> np.dtype:
    """The dtype arithmetic runs in: float32 for anything narrower, else `dtype` itself (float64 and complex stay).

    >>> wide(jnp.bfloat16), wide(jnp.complex64)
    (dtype('float32'), dtype('complex64'))
    """
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    return dtype if jnp.finfo(dtype).bits >= 32 else np.dtype(np.float32)


def rounded(x: Array, dtype: Any) -> Array:
    """`x` rounded to the values of `dtype`, in its own: a cast there and back is what XLA may leave out."""
    info = jnp.finfo(dtype)
    if info.bits >= 32:
        return x
    near = jax.lax.reduce_precision(x, exponent_bits=info.nexp, mantissa_bits=info.nmant)
    if info.tiny <= jnp.finfo(x.dtype).tiny:
        return near
    step = float(info.smallest_subnormal)  # reduce_precision takes subnormal numbers, float16's below 6e-5, for 0
    return jnp.where(jnp.abs(x) < float(info.tiny), jnp.round(x / step) * step, near)


def known(x: Any) -> bool:
    """Whether the value of `x` may be looked at: a Python or NumPy number, never a JAX array or a tracer."""
    return isinstance(x, int | float | np.generic) or (isinstance(x, np.ndarray) and x.ndim == 0)


def number(x: Any, like: Array) -> float | Array:
    """The scalar `x`, to be combined with `like`: a Python float, or an array of like's dtype, so nothing promotes."""
    return float(x) if known(x) else jnp.asarray(x, like.dtype)


def check_number(
    name: str, argument: str, value: Any, low: float = 0.0, below: float = math.inf, ends: str = "[)"
) -> None:
    """Raise unless `value` is a number from low to below or a scalar array of real numbers.

    Args:
      ends: the interval's: "[" and "]" belong to it, "(" and ")" do not.
    """
    number_type = isinstance(value, int | float | jax.Array | np.ndarray | np.generic) and not isinstance(value, bool)
    if not number_type or not any(jnp.issubdtype(jnp.result_type(value), kind) for kind in (jnp.floating, jnp.integer)):
        fix = "Schedule it with optax.inject_hyperparams." if is_function(value) else "Pass a float."
        raise wrong_type(name, f"{argument} to be a real number", value, fix)
    if np.ndim(value):
        raise invalid(name, f"{argument} to be a scalar", value, "Sweep over values with jax.vmap.")
    if known(value):
        v = float(value)
        if not ((low < v or (v == low and ends[0] == "[")) and (v < below or (v == below and ends[1] == "]"))):
            expected = f"{argument} in {ends[0]}{low:g}, {below:g}{ends[1]}"
            raise invalid(name, expected, v, "Pass a number in that range.")


def check_decay(name: str, argument: str, value: Any) -> None:
    """Raise unless `value`, the share of a mean that is kept at each step, is a number in [0, 1)."""
    check_number(name, argument, value, below=1.0)
