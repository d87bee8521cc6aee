"""Hyper-parameters as numbers of any kind: Python floats, NumPy scalars, traced scalars."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxnn._inputs import known


def rounded(x: Array, dtype: Any) -> Array:
    """`x` rounded to the values of `dtype`, in its own dtype. XLA may remove a cast to `dtype` and back."""
    info = jnp.finfo(dtype)
    if info.bits >= 32:
        return x
    near = jax.lax.reduce_precision(x, exponent_bits=info.nexp, mantissa_bits=info.nmant)
    if info.tiny <= jnp.finfo(x.dtype).tiny:
        return near
    step = float(info.smallest_subnormal)  # reduce_precision rounds subnormals, in float16 those below 6e-5, to 0
    return jnp.where(jnp.abs(x) < float(info.tiny), jnp.round(x / step) * step, near)


def number(x: Any, like: Array) -> float | Array:
    """The scalar `x` as a Python float or as an array of like's dtype: combined with `like`, it does not promote it."""
    return float(x) if known(x) else jnp.asarray(x, like.dtype)
