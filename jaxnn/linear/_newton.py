"""Minimisation by Newton's method with step halving, for smooth objectives with an optional L1 penalty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import cho_factor, cho_solve

from jaxnn.linear._least_squares import dot

Evaluate = Callable[[Array], tuple[Array, Array, Array]]  # w [p] -> value [], gradient [p], Hessian [p, p]
SUFFICIENT = 1e-4  # part of the predicted decrease that a step must reach
SWEEPS = 1000


class Point(NamedTuple):
    """A state of the search: the best w so far, and the step from it."""

    w: Array
    value: Array
    gradient: Array
    hessian: Array
    step: Array
    decrease: Array  # predicted for the whole step
    size: Array  # of the next trial: 1, then halves
    evaluations: Array


def newton(evaluate: Evaluate, w: Array, l1: Array | None, tolerance: Array, limit: Array) -> tuple[Point, Array]:
    """The last point and whether it is optimal: the next step is predicted to lower the value by < `tolerance` of it.

        step = argmin_d g·d + dᵀ H d / 2 + Σ l1 |w + d|

    A step is halved until it lowers the value by a part of its prediction. The optimal w is `point.w + point.step`.

    Args:
      evaluate: value, gradient and Hessian of the smooth part.
      w: start.
      l1: [p], strengths of the L1 penalty; None for none.
      tolerance: predicted decrease relative to the value.
      limit: largest number of evaluations.
    """

    def penalised(w: Array) -> Array:
        return jnp.zeros_like(w[0]) if l1 is None else jnp.sum(l1 * jnp.abs(w))

    def at(w: Array, evaluations: Any) -> Point:
        value, g, h = evaluate(w)
        step = solve(h, -g) if l1 is None else sparse(h, dot(h, w) - g, l1, w) - w
        decrease = -jnp.sum(g * step) + penalised(w) - penalised(w + step)
        return Point(w, value + penalised(w), g, h, step, decrease, jnp.ones_like(value), evaluations)

    def optimal(p: Point) -> Array:
        return p.decrease < tolerance * p.value

    def unfinished(p: Point) -> Array:
        halvable = p.size > jnp.finfo(w.dtype).eps
        return ~optimal(p) & (p.decrease > 0) & halvable & (p.evaluations < limit)

    def search(p: Point) -> Point:
        new = at(p.w + p.size * p.step, p.evaluations + 1)
        noise = 8 * jnp.finfo(w.dtype).eps * p.value
        lower = new.value <= p.value - SUFFICIENT * p.size * p.decrease + noise
        same = p._replace(size=p.size / 2, evaluations=new.evaluations)
        return jax.tree.map(lambda a, b: jnp.where(lower, a, b), new, same)

    last = jax.lax.while_loop(unfinished, search, at(w, jnp.ones((), jnp.int32)))
    return last, optimal(last)


def solve(h: Array, b: Array) -> Array:
    """h⁻¹ b for a positive semidefinite h, with a few roundings added to its diagonal in case it is singular."""
    size = jnp.diagonal(h)
    scale = jax.lax.rsqrt(jnp.where(size > 0, size, 1))  # equilibrated, so that units of features do not matter
    h = h * scale[:, None] * scale[None]
    damping = 2 * len(b) * jnp.finfo(h.dtype).eps
    return scale * cho_solve(cho_factor(h + damping * jnp.eye(len(b), dtype=h.dtype)), scale * b)


def sparse(h: Array, b: Array, l1: Array, w: Array) -> Array:
    """The u that minimises uᵀ h u / 2 - b·u + Σ l1 |u|, by coordinate descent from w.

        u_j <- S(b_j - Σ_{i≠j} h_ji u_i, l1_j) / h_jj    with S(a, t) = sign(a) (|a| - t)₊

    Reference: Friedman, Hastie and Tibshirani, Regularization paths for generalized linear models via coordinate
    descent, 2010.
    """
    size = jnp.diagonal(h)

    def coordinate(j: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        u, hu, gain = carry
        a = b[j] - hu[j] + size[j] * u[j]
        new = jnp.where(size[j] > 0, soft(a, l1[j]) / jnp.where(size[j] > 0, size[j], 1), 0)
        change = new - u[j]
        return u.at[j].set(new), hu + h[:, j] * change, gain + size[j] * change**2

    def sweep(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        u, hu, _, sweeps = carry
        u, hu, gain = jax.lax.fori_loop(0, len(u), coordinate, (u, dot(h, u), jnp.zeros_like(hu[0])))
        return u, hu, gain, sweeps + 1

    def unfinished(carry: tuple[Array, Array, Array, Array]) -> Array:
        u, _, gain, sweeps = carry
        enough = (4 * jnp.finfo(h.dtype).eps) ** 2 * jnp.sum(size * u**2)
        return (gain > enough) & (sweeps < SWEEPS)

    first = w, dot(h, w), jnp.full_like(w[0], jnp.inf), jnp.zeros((), jnp.int32)
    return jax.lax.while_loop(unfinished, sweep, first)[0]


def soft(a: Array, t: Array) -> Array:
    """sign(a) (|a| - t)₊, the minimiser u of (u - a)² / 2 + t |u|."""
    return jnp.sign(a) * jnp.maximum(jnp.abs(a) - t, 0)
