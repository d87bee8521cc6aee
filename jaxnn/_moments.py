"""Moments of gradients: exponential moving averages, and the roots by which optimizers divide.

Accurate in float32, for real and complex arrays, for hyper-parameters that are Python floats or traced scalars.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import DTypeLike

from jaxnn._dtypes import wide_dtype
from jaxnn._inputs import known
from jaxnn._numbers import number
from jaxnn.types import Arrays


class Time:
    """The step number t = 1, 2, ..., with the scalars that depend on t alone, each computed once for all arrays.

    Attributes:
      count: t, int32.
      once: (f, dtype) -> f(t, dtype), cached.
    """

    __slots__ = ("count", "once")

    def __init__(self, count: Array) -> None:
        self.count = count
        self.once: Callable[..., Any] = cache(lambda f, d: f(count, d))


class Average:
    """Exponential moving average with decay b, started at 0: a <- b a + (1 - b) x; debiased a / (1 - b^t).

    Args:
      b: decay in [0, 1). 1 - b of a Python float is computed in Python: float32's 1 - 0.999 is off by 1.3e-5. An array
        is kept half a spacing of its dtype below 1: bfloat16(0.999) rounds to 1, the average would stay 0 and its bias
        correction divide by 0.

    Attributes:
      w: 1 - b, the weight of a new value.

    >>> average = Average(0.75)
    >>> a = average.update(jnp.zeros(2), jnp.array([4.0, 8.0]))
    >>> a.tolist(), average.debias(a, Time(jnp.array(1))).round(4).tolist()
    ([1.0, 2.0], [4.0, 8.0])
    """

    __slots__ = ("w",)

    def __init__(self, b: Arrays) -> None:
        self.w: Any
        if known(b):
            self.w = 1.0 - float(b)
        else:
            b = jnp.asarray(b)
            b = b if jnp.issubdtype(b.dtype, jnp.floating) else b.astype(jnp.float32)
            self.w = jnp.maximum(1.0 - b.astype(wide_dtype(b.dtype)), float(jnp.finfo(b.dtype).epsneg) / 2)

    def update(self, mean: Array, x: Array) -> Array:
        """The average after `x`, [...], [...] -> [...]: mean + (1 - b)(x - mean).

        Increments avoid b · mean, which multiplies the average by float32's rounded b at every step. A known b < 0.5
        starts from x, so that a weight 1 - b near 1 does not leave the rounding of `mean` in the result.
        """
        if known(self.w) and self.w > 0.5:
            return x + (1.0 - self.w) * (mean - x)
        return mean + number(self.w, mean) * (x - mean)

    def update_square(self, mean: Array, g: Array) -> Array:
        """The average of |g|² after `g`, [...], [...] -> [...], real; NaN where g is infinite or NaN.

        g is clamped first (`bounded`): one finite gradient whose square overflows would stop its element permanently.
        """
        return self.update(mean, square(bounded(g))) + nan_of(g)

    def update_large(self, mean: Array, x: Array) -> Array:
        """`update` for values of any size, [...], [...] -> [...]: x - mean may overflow, the average does not."""
        near = self.update(mean, x)
        return jnp.where(jnp.isfinite(near), near, number(1.0 - self.w, mean) * mean + number(self.w, mean) * x)

    def update_debiased(self, mean: Array, x: Array, t: Time) -> Array:
        """The debiased average after value number t, from the one before it, [...], [...] -> [...]."""
        weight = t.once(self.weight, jnp.finfo(mean.dtype).dtype)
        return mean + number(number(self.w, weight) / weight, mean) * (x - mean)

    def debias(self, mean: Array, t: Time) -> Array:
        """mean / (1 - b^t), [...] -> [...]: corrects for the start at 0."""
        return number(t.once(self.correction, jnp.finfo(mean.dtype).dtype), mean) * mean

    def debias_nesterov(self, mean: Array, g: Array, t: Time) -> Array:
        """b mean / (1 - b^(t+1)) + (1 - b) g / (1 - b^t), [...], [...] -> [...]: Nesterov's look ahead, debiased."""
        of_mean, of_g = t.once(self._nesterov, jnp.finfo(mean.dtype).dtype)
        return number(of_mean, mean) * mean + number(of_g, g) * g

    def correction(self, t: Array, dtype: DTypeLike) -> Array:
        """1 / (1 - b^t), a scalar of the real `dtype`."""
        return 1.0 / self.weight(t, dtype)

    def weight(self, t: Array, dtype: DTypeLike) -> Array:
        """1 - b^t, a scalar of the real `dtype`: the weight of t values in an average started at 0.

        Computed as -expm1(t log1p(-(1 - b))): 1 - b^t cancels, by up to 2e-5 in float32.
        """
        t = t.astype(dtype)
        if not known(self.w):
            return -jnp.expm1(t * jnp.log1p(-jnp.asarray(self.w, dtype)))
        return -jnp.expm1(t * (math.log1p(-self.w) if self.w < 1 else -math.inf))

    def _nesterov(self, t: Array, dtype: DTypeLike) -> tuple[Array, Array]:
        now, following = self.weight(t, dtype), self.weight(optax.safe_increment(t), dtype)
        w = number(self.w, now)
        return (1.0 - w) / following, w / now


def square(x: Array) -> Array:
    """|x|², [...] -> [...], real for complex x."""
    if jnp.iscomplexobj(x):
        return jnp.square(x.real) + jnp.square(x.imag)
    return jnp.square(x)


def bounded(g: Array) -> Array:
    """`g` clamped to ±sqrt(max) / 4, ±4.6e18 in float32, so that its square is finite, [...] -> [...].

    A single clamp, which XLA recomputes wherever g is read. A longer chain would get a buffer of its own.
    """
    if jnp.iscomplexobj(g):
        return jax.lax.complex(bounded(g.real), bounded(g.imag))
    limit = g.dtype.type(float(jnp.finfo(g.dtype).max) ** 0.5 / 4)
    return jax.lax.clamp(-limit, g, limit)


def nan_of(x: Array) -> Array:
    """NaN where `x` is infinite or NaN, else 0, [...] -> [...], real: keeps visible what `bounded` hides."""
    return 0.0 * (x.real + x.imag if jnp.iscomplexobj(x) else x)


@jax.custom_jvp
def root(y: Array) -> Array:
    """sqrt(y), [...] -> [...], with derivative 0 at 0, so that hypergradients of a run are finite.

    An element without any gradient so far has second moment 0, where the derivative of sqrt is inf, and inf · 0 NaN.
    """
    return jnp.sqrt(y)


@root.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    y = root(*primals)
    positive = y != 0
    return y, jnp.where(positive, tangents[0] / (2 * jnp.where(positive, y, 1)), 0)


def floored(y: Array) -> Array:
    """max(y, sqrt(tiny)) for a square root y, 1e-19 in float32, [...] -> [...].

    Only the root of 0 is smaller. Squares that underflow are 0 as well: without the floor, a gradient of 1e-20 divided
    by it would make a step of 1e17.
    """
    return jnp.maximum(y, float(jnp.finfo(y.dtype).tiny) ** 0.5)


def epsilon(eps: Any, like: Array) -> float | Array:
    """`eps` for use with `like`; an array is at least half the smallest positive number of its dtype.

    float16(1e-8) is 0: without the minimum, a zero gradient would give 0 / 0.
    """
    value = number(eps, like)
    if known(eps) or not jnp.issubdtype(eps.dtype, jnp.floating):
        return value
    return jnp.maximum(value, float(jnp.finfo(eps.dtype).smallest_subnormal) / 2)


def root_plus_eps(v: Array, eps: Any, eps_root: Any = 0.0, *, eps_scale: Any = 1.0) -> Array:
    """sqrt(v + eps_root) + eps_scale · eps, [...] -> [...], the divisor of an update; positive for eps = 0, too.

    A Python 0 is left out, since XLA keeps a sum with 0.

    >>> root_plus_eps(jnp.array([4.0, 0.0]), 0.5).tolist()
    [2.5, 0.5]
    """
    y = root(v if known(eps_root) and eps_root == 0 else v + number(eps_root, v))
    if known(eps) and eps == 0:
        return floored(y)
    return y + (epsilon(eps, y) if known(eps_scale) else epsilon(eps, y) * number(eps_scale, y))


def over_root(x: Array, y: Array) -> Array:
    """x / sqrt(y), [...], [...] -> [...], for a real y >= 0 and a real or complex x; 0 / 0 is 0.

    XLA rewrites a plain quotient as x · rsqrt(y), which on a CPU is a root, a division and a product; `floored` keeps
    the division.

    >>> over_root(jnp.array([3.0, 0.0]), jnp.array([4.0, 0.0])).tolist()
    [1.5, 0.0]
    """
    return x / floored(root(y)).astype(x.dtype)
