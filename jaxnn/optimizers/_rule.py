"""What the rules are written with: slots at their start, numbers of any kind, moving means, checks of arguments."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxnn import _checks as check
from jaxnn._dtypes import wide_dtype
from jaxnn._errors import invalid, is_function
from jaxnn._numbers import check_decay, check_number, ema, known, number

# ---- dtypes and slots


def real(dtype: DTypeLike) -> np.dtype:
    """The dtype of absolute values: float32 for complex64, float64 for complex128, else `dtype` itself."""
    return np.dtype(jnp.finfo(dtype).dtype)


def zeros_f32(p: Any, dtype: DTypeLike | None = None) -> Array:
    """A slot of zeros shaped like `p`, [...] -> [...], in `dtype`; None means p's dtype, but at least float32.

    Complex parameters keep a complex slot, of at least complex64.
    """
    dtype = wide_dtype(p.dtype) if dtype is None else jax.dtypes.canonicalize_dtype(dtype)
    if jnp.issubdtype(p.dtype, jnp.complexfloating):
        dtype = np.result_type(wide_dtype(dtype), np.complex64)
    return jnp.zeros_like(p, dtype=dtype)


def real_f32(p: Any, value: ArrayLike = 0.0) -> Array:
    """A slot of `value` shaped like `p`, [...] -> [...], real and at least float32: the start of a second moment."""
    return jnp.full_like(p, value, dtype=real(wide_dtype(p.dtype)))


def epsilon(eps: Any, like: Array) -> float | Array:
    """`number`, for an eps that stands alone against 0/0: an array's is at least half the smallest step of its dtype.

    A float16 1e-8 is 0; without the floor a zero gradient would give NaN.
    """
    value = number(eps, like)
    if known(eps) or not jnp.issubdtype(eps.dtype, jnp.floating):
        return value
    return jnp.maximum(value, float(jnp.finfo(eps.dtype).smallest_subnormal) / 2)


# ---- arithmetic on one array


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


def far_ema(mean: Array, x: Array, w: float | Array) -> Array:
    """`ema` of numbers of any size, [...], [...] -> [...]: their difference may overflow, their mean does not."""
    near = ema(mean, x, w)
    return jnp.where(jnp.isfinite(near), near, number(1.0 - w, mean) * mean + number(w, mean) * x)


def over(x: Array, y: Array) -> Array:
    """x / y, [...], [...] -> [...], for a real y and an x that may be complex."""
    return x / y.astype(x.dtype)


@jax.custom_jvp
def root(y: Array) -> Array:
    """sqrt(y), [...] -> [...], whose derivative is 0 at 0, so that a run has a hypergradient.

    A coordinate without a gradient so far has the moment 0, where the derivative of the root is inf, and inf · 0 NaN.
    """
    return jnp.sqrt(y)


@root.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    y = root(*primals)
    some = y != 0
    return y, jnp.where(some, tangents[0] / (2 * jnp.where(some, y, 1)), 0)


def over_root(x: Array, y: Array) -> Array:
    """x / sqrt(y), [...], [...] -> [...], for a real y >= 0 and an x that may be complex; 0 / 0 is 0.

    XLA makes x · rsqrt(y) of a bare quotient, on a CPU a root, a division and a product; `floored` leaves the division
    alone.

    >>> over_root(jnp.array([3.0, 0.0]), jnp.array([4.0, 0.0])).tolist()
    [1.5, 0.0]
    """
    return over(x, floored(root(y)))


def floored(y: Array) -> Array:
    """y, a square root, but at least that of the smallest number, 1e-19 in float32, [...] -> [...].

    No root but that of 0 is below. It is of 0 where squares underflowed, too, and over it a gradient of 1e-20 would
    make a step of 1e17.
    """
    return jnp.maximum(y, float(jnp.finfo(y.dtype).tiny) ** 0.5)


def plus_eps(y: Array, eps: Any, factor: Any = 1.0) -> Array:
    """y + factor · eps, [...] -> [...], the divisor of an update: above 0 with an eps of 0, too."""
    if known(eps) and eps == 0:
        return floored(y)
    return y + (epsilon(eps, y) if known(factor) else epsilon(eps, y) * number(factor, y))


# ---- checks: static facts only; the value of an array is never looked at


def rate(name: str, argument: str, value: Any) -> Callable[[Array], Any]:
    """The rate as a function of the step t = 1, 2, ...; to be combined with an array through `number`.

    `value` is a number of at least 0 or a schedule, called with t - 1, the updates before this one, as optax does.
    """
    if not is_function(value):
        check_number(name, argument, value)
        return lambda t: value

    def scheduled(t: Array) -> Any:
        with jax.numpy_dtype_promotion("standard"):  # optax's schedules are not strict about dtypes
            now = value(t - 1)
        check_number(name, f"the schedule's {argument}", now, low=-math.inf)
        return now

    return scheduled


def check_momentum(name: str, momentum: Any, nesterov: Any) -> None:
    """Raise unless `momentum` is None or in [0, 1), and set where `nesterov` is."""
    check_flag(name, "nesterov", nesterov)
    if momentum is not None:
        check_decay(name, "momentum", momentum)
    elif nesterov:
        raise invalid(name, "momentum with nesterov=True", told="None", fix="Set momentum, or leave nesterov False.")


def check_flag(name: str, argument: str, value: Any) -> None:
    """Raise unless `value` is a Python bool."""
    check.flags(name, "It is fixed when the optimizer is made.", **{argument: value})


STYLES = ("optax", "torch", "keras")


def check_style(name: str, style: Any, **without: bool) -> None:
    """Raise unless `style` is known, and where it is not optax's for an argument that the other libraries lack."""
    check.choice(name, "style", style, STYLES)
    for argument, given in without.items():
        if style != "optax" and given:
            raise invalid(
                name, f"{argument} left out with style={style!r}", told="it set", fix=f"{style} has no such option."
            )


def check_dtype(name: str, argument: str, value: Any) -> None:
    """Raise unless `value` is None or a real floating dtype."""
    if value is not None:
        check.dtype(name, argument, value, "Pass jnp.float32 or the like, or None.")
