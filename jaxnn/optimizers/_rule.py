"""What the rules are written with: slots at their start, numbers of any kind, moving means, checks of arguments."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxnn._errors import describe, invalid, wrong_type

# ---- dtypes and slots


def wide(dtype: DTypeLike) -> np.dtype:
    """The dtype arithmetic runs in: float32 for anything narrower, else `dtype` itself (float64 and complex stay).

    >>> wide(jnp.bfloat16), wide(jnp.complex64)
    (dtype('float32'), dtype('complex64'))
    """
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    return dtype if jnp.finfo(dtype).bits >= 32 else np.dtype(np.float32)


def real(dtype: DTypeLike) -> np.dtype:
    """The dtype of absolute values: float32 for complex64, float64 for complex128, else `dtype` itself."""
    return np.dtype(jnp.finfo(dtype).dtype)


def zeros_f32(p: Any, dtype: DTypeLike | None = None) -> Array:
    """A slot of zeros shaped like `p`, [...] -> [...], in `dtype`; None means p's dtype, but at least float32.

    Complex parameters keep a complex slot, of at least complex64.
    """
    dtype = wide(p.dtype) if dtype is None else jax.dtypes.canonicalize_dtype(dtype)
    if jnp.issubdtype(p.dtype, jnp.complexfloating):
        dtype = np.result_type(wide(dtype), np.complex64)
    return jnp.zeros_like(p, dtype=dtype)


def real_f32(p: Any, value: ArrayLike = 0.0) -> Array:
    """A slot of `value` shaped like `p`, [...] -> [...], real and at least float32: the start of a second moment."""
    return jnp.full_like(p, value, dtype=real(wide(p.dtype)))


# ---- numbers: Python floats, NumPy scalars, traced scalars of any dtype


def known(x: Any) -> bool:
    """Whether the value of `x` may be looked at: a Python or NumPy number, never a JAX array or a tracer."""
    return isinstance(x, int | float | np.generic) or (isinstance(x, np.ndarray) and x.ndim == 0)


def number(x: Any, like: Array) -> float | Array:
    """The scalar `x`, to be combined with `like`: a Python float, or an array of like's dtype, so nothing promotes."""
    return float(x) if known(x) else jnp.asarray(x, like.dtype)


def epsilon(eps: Any, like: Array) -> float | Array:
    """`number`, for an eps that stands alone against 0/0: an array's is at least half the smallest step of its dtype.

    A float16 1e-8 is 0; without the floor a zero gradient would give NaN.
    """
    value = number(eps, like)
    if known(eps) or not jnp.issubdtype(eps.dtype, jnp.floating):
        return value
    return jnp.maximum(value, float(jnp.finfo(eps.dtype).smallest_subnormal) / 2)


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


# ---- arithmetic on one array


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


def square(x: Array) -> Array:
    """|x|², [...] -> [...], real for complex x."""
    if jnp.iscomplexobj(x):
        return jnp.square(x.real) + jnp.square(x.imag)
    return jnp.square(x)


def bounded(g: Array) -> Array:
    """`g` held to where its square is far from overflow, ±4.6e18 in float32, [...] -> [...]."""
    if jnp.iscomplexobj(g):
        return jax.lax.complex(bounded(g.real), bounded(g.imag))
    limit = g.dtype.type(float(jnp.finfo(g.dtype).max) ** 0.5 / 4)
    return jax.lax.clamp(-limit, g, limit)


def nan_of(x: Array) -> Array:
    """0, and NaN where `x` is infinite or NaN, [...] -> [...], real: what `bounded` hides."""
    return 0.0 * (x.real + x.imag if jnp.iscomplexobj(x) else x)


def ema_square(mean: Array, g: Array, w: float | Array) -> Array:
    """The moving mean of |g|², [...], [...] -> [...], of the bounded g; NaN where g is infinite or NaN.

    Without the bound one finite gradient whose square overflows would stop its coordinate for good. The bound is a
    single clamp, which XLA computes anew wherever g is read; a longer chain it would keep in a buffer of its own.
    """
    return ema(mean, square(bounded(g)), w) + nan_of(g)


def over(x: Array, y: Array) -> Array:
    """x / y, [...], [...] -> [...], for a real y and an x that may be complex."""
    return x / y.astype(x.dtype)


# ---- checks: static facts only; the value of an array is never looked at


def check_number(name: str, argument: str, value: Any, low: float = 0.0, below: float = math.inf) -> None:
    """Raise unless `value` is a number in [low, below) or a scalar array of real numbers."""
    number_type = isinstance(value, int | float | jax.Array | np.ndarray | np.generic) and not isinstance(value, bool)
    if not number_type or not any(jnp.issubdtype(jnp.result_type(value), kind) for kind in (jnp.floating, jnp.integer)):
        fix = "Schedule it with optax.inject_hyperparams." if callable(value) else "Pass a float."
        raise wrong_type(name, f"{argument} to be a real number", describe(value), fix)
    if np.ndim(value):
        raise invalid(name, f"{argument} to be a scalar", value, "Sweep over values with jax.vmap.")
    if known(value) and not low <= float(value) < below:
        raise invalid(name, f"{argument} in [{low:g}, {below:g})", repr(float(value)), "Pass a number in that range.")


def rate(name: str, argument: str, value: Any) -> Callable[[Array], Any]:
    """The rate as a function of the step t = 1, 2, ...; to be combined with an array through `number`.

    `value` is a number of at least 0 or a schedule, called with t - 1, the updates before this one, as optax does.
    """
    if not callable(value):
        check_number(name, argument, value)
        return lambda t: value

    def scheduled(t: Array) -> Any:
        with jax.numpy_dtype_promotion("standard"):  # optax's schedules are not strict about dtypes
            now = value(t - 1)
        check_number(name, f"the schedule's {argument}", now, low=-math.inf)
        return now

    return scheduled


def check_decay(name: str, argument: str, value: Any) -> None:
    """Raise unless `value`, the share of a mean that is kept at each step, is a number in [0, 1)."""
    check_number(name, argument, value, below=1.0)


def check_momentum(name: str, momentum: Any, nesterov: Any) -> None:
    """Raise unless `momentum` is None or in [0, 1), and set where `nesterov` is."""
    check_flag(name, "nesterov", nesterov)
    if momentum is not None:
        check_decay(name, "momentum", momentum)
    elif nesterov:
        raise invalid(name, "momentum with nesterov=True", "None", "Set momentum, or leave nesterov False.")


def check_flag(name: str, argument: str, value: Any) -> None:
    """Raise unless `value` is a Python bool."""
    if not isinstance(value, bool):
        raise wrong_type(
            name, f"{argument} to be True or False", describe(value), "It is fixed when the optimizer is made."
        )


STYLES = ("optax", "torch", "keras")


def check_style(name: str, style: Any, **without: bool) -> None:
    """Raise unless `style` is known, and where it is not optax's for an argument that the other libraries lack."""
    if style not in STYLES:
        raise invalid(name, f"style to be one of {', '.join(STYLES)}", repr(style))
    for argument, given in without.items():
        if style != "optax" and given:
            raise invalid(name, f"{argument} left out with style={style!r}", "it set", f"{style} has no such option.")


def check_dtype(name: str, argument: str, value: Any) -> None:
    """Raise unless `value` is None or a real floating dtype."""
    try:
        dtype = None if value is None else jnp.dtype(value)
    except TypeError:
        dtype = repr(value)
    if isinstance(dtype, str) or (dtype is not None and not jnp.issubdtype(dtype, jnp.floating)):
        raise wrong_type(
            name, f"{argument} to be a floating dtype", str(dtype), "Pass jnp.float32 or the like, or None."
        )
