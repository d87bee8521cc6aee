"""Hyper-parameters as numbers of any kind: Python floats, NumPy scalars, traced scalars; and the means they move."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxnn import _checks as check
from jaxnn._dtypes import wide_dtype
from jaxnn._errors import is_function
from jaxnn._inputs import known


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
    return jnp.maximum(1.0 - b.astype(wide_dtype(b.dtype)), float(jnp.finfo(b.dtype).epsneg) / 2)


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
    """`check.scalar` for a hyper-parameter of an optimizer, which a schedule may set."""
    fix = "Schedule it with optax.inject_hyperparams." if is_function(value) else ""
    check.scalar(name, argument, value, low, below, ends, fix=fix)


def check_decay(name: str, argument: str, value: Any) -> None:
    """Raises unless `value`, the fraction of a moving mean that is kept at each step, is a number in [0, 1)."""
    check_number(name, argument, value, below=1.0)
