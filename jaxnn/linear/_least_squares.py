"""Weighted least squares of minimum norm, with its derivative for constant rank."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def dot(a: Array, b: Array) -> Array:
    """a @ b in the full precision of the dtype, which is not the default of accelerators."""
    return jnp.matmul(a, b, precision="highest")


def over(a: Array, b: Array) -> Array:
    """a / b, and 0 where b is 0."""
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))


def triangular(a: Array) -> Array:
    """R of a = Q R, [n, d] -> [d, d]; a matrix with fewer rows than columns stays as it is, as its own root of aᵀa."""
    return jnp.linalg.qr(a, mode="r") if a.shape[0] > a.shape[1] else a


def spectrum(r: Array, rcond: Array) -> tuple[Array, Array, Array]:
    """U, s and Vᵀ of r = U s Vᵀ, with s = 0 where it is at most `rcond` times the largest."""
    u, s, vt = jnp.linalg.svd(r, full_matrices=False)
    return u, jnp.where(s > rcond * s.max(initial=0), s, 0), vt


@jax.custom_jvp
def least_squares(x: Array, y: Array, v: Array, ridge: Array, rcond: Array) -> Array:
    """The w of minimum norm that minimises Σ_i v_i |y_i - x_i w|² + ridge |w|², [n, d], [n, k], [n] -> [d, k].

        √v x = Q R,  R = U s Vᵀ:    w = V (s / (s² + ridge)) Uᵀ Qᵀ √v y

    Qᵀ √v y is part of the triangular factor of √v [x y], so Q, as large as x, is never formed.

    Args:
      x: inputs, centred if there is an intercept.
      y: targets.
      v: weights >= 0.
      ridge: penalty >= 0.
      rcond: singular values of at most `rcond` times the largest count as 0.
    """
    d = x.shape[1]
    r = triangular(jnp.sqrt(v)[:, None] * jnp.concatenate([x, y], axis=1))
    u, s, vt = spectrum(r[:d, :d], rcond)
    return dot(vt.T, over(s, s**2 + ridge)[:, None] * dot(u.T, r[:d, d:]))


@least_squares.defjvp
def _least_squares_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    """With r = y - x w, D = diag(v) and H = xᵀ D x + ridge = V (s² + ridge) Vᵀ on the row space of x:

        dw = H⁺ (dxᵀ D r + xᵀ dD r + xᵀ D (dy - dx w) - w dridge) + (I - V Vᵀ) dxᵀ D x H₀⁺ w,   H₀ = V s² Vᵀ

    The last term is 0 for full rank. Golub and Pereyra, The differentiation of pseudo-inverses and nonlinear least
    squares problems whose variables separate, 1973.
    """
    (x, y, v, ridge, rcond), (dx, dy, dv, dridge, _) = primals, tangents
    w = least_squares(x, y, v, ridge, rcond)
    _, s, vt = spectrum(triangular(jnp.sqrt(v)[:, None] * x), rcond)
    vt = jnp.where(s[:, None] > 0, vt, 0)
    v, dv = v[:, None], dv[:, None]
    h, h0 = over(vt, s[:, None] ** 2 + ridge), over(vt, s[:, None] ** 2)
    r = y - dot(x, w)
    along = dot(dx.T, v * r) + dot(x.T, dv * r + v * (dy - dot(dx, w))) - w * dridge
    across = dot(dx.T, v * dot(x, dot(vt.T, dot(h0, w))))
    return w, dot(vt.T, dot(h, along)) + across - dot(vt.T, dot(vt, across))
