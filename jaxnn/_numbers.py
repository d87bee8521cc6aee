"""Hyper-parameters as numbers of any kind: Python floats, NumPy scalars, traced scalars; and the means they move."""

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


def complement(b: Any) -> float | Array:
    """1 - b, of a Python float in Python floats: float32's 1 - 0.999 is 1.3e-5 off.

    An array's is at least half the spacing of its dtype below 1: a bfloat16 b of 1.0 was rounded (0.999 is), and
    1 - b = 0 would leave a mean that never moves over a correction of 0.

    >>> complement(0.75), complement(jnp.bfloat16(0.999)).item()
    (0.25, 0.001953125)
    """
    if known(b):
        return 1.0 - float(b)
    b = jnp.asarray(b)
    b = b if jnp.issubdtype(b.dtype, jnp.floating) else b.astype(jnp.float32)
    return jnp.maximum(1.0 - b.astype(wide(b.dtype)), float(jnp.finfo(b.dtype).epsneg) / 2)


def ema(mean: Array, x: Array, w: float | Array) -> Array:
    """The moving mean of `x`, [...], [...] -> [...]: mean + w (x - mean), with w = 1 - b.

    By increments, since b mean + w x scales the mean by a b that float32 rounds, a thousand times over; from the side
    that weighs more if w is known, else from the mean, whose rounding stays in the sum for w near 1.
    """
    if known(w) and w > 0.5:
        return x + (1.0 - w) * (mean - x)
    return mean + number(w, mean) * (x - mean)


def weight(w: float | Array, t: Array, dtype: DTypeLike) -> Array:
    """1 - (1-w)^t, the weight that t values have in a mean started at 0, in the real `dtype`.

    As -expm1(t log1p(-w)), since 1 - b^t cancels: by 2e-5 in float32.
    """
    t = t.astype(dtype)
    if not known(w):
        return -jnp.expm1(t * jnp.log1p(-jnp.asarray(w, dtype)))
    return -jnp.expm1(t * (math.log1p(-w) if w < 1 else -math.inf))


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
