"""RAdam: Adam with a warm-up derived from the variance of its second moment."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxnn._calls import recorded
from jaxnn._moments import Average, Time, bounded, root_plus_eps
from jaxnn._numbers import number
from jaxnn.optimizers._checks import check_flags, check_numbers
from jaxnn.optimizers._decay import WeightDecay
from jaxnn.optimizers._lift import SlotValues, per_leaf, real_f32, zeros_f32
from jaxnn.types import Arrays, Mask


@recorded
def radam(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    threshold: ArrayLike = 5.0,
    *,
    nesterov: bool = False,
    weight_decay: optax.ScalarOrSchedule | None = None,
    mask: Mask = None,
    decoupled: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Rectified Adam for every leaf, [...] -> [...]: momentum at first, then Adam with its rate scaled by r.

        ρ∞ = 2 / (1 - b2) - 1;   ρ = ρ∞ - 2 t b2^t / (1 - b2^t);   r² = (ρ - 4)(ρ - 2) ρ∞ / ((ρ∞ - 4)(ρ∞ - 2) ρ)
        update = -lr r m̂ / (sqrt(v̂ + eps_root) + eps)   where ρ >= threshold,   else -lr m̂

    Args:
      learning_rate, b1, b2, eps, eps_root, nesterov: as in `adam`.
      threshold: of ρ, the number of gradients that v̂ averages over, >= 4; 4 in the paper.
      weight_decay, mask, decoupled: weight decay, as in `adam`.

    Raises: ValueError for a number out of its range, TypeError for an argument of the wrong type.

    Differences: The formula is that of optax. PyTorch adds eps before v is debiased, and requires ρ > 5. ρ is computed
      without subtracting two numbers near ρ∞, which in float32 makes the first r wrong by up to 1e-4. A threshold below
      4, where r is not real, is an error. The other numerical differences are those of `adam`.

    Reference: Liu et al., On the variance of the adaptive learning rate and beyond, 2020, Algorithm 2.

    >>> opt = radam(0.5)
    >>> update, _ = opt.update(jnp.array([3.0, -0.01]), opt.init(jnp.zeros(2)))
    >>> update.round(4)
    Array([-1.5  ,  0.005], dtype=float32)
    """
    check_numbers("radam", b1=b1, b2=b2, eps=eps, eps_root=eps_root, threshold=threshold)
    check_flags("radam", nesterov=nesterov)
    first, second = Average(b1), Average(b2)

    def rectification(t: Array, dtype: np.dtype) -> tuple[Array, Array]:
        return _rectification(second.w, t, dtype, threshold)

    def step(g: Array, s: SlotValues, p: Arrays, t: Time) -> tuple[Array, SlotValues]:
        v, g = second.update_square(s["nu"], g), bounded(g)
        m = first.update(s["mu"], g)
        m_hat = first.debias_nesterov(m, g, t) if nesterov else first.debias(m, t)
        adaptive, r = t.once(rectification, v.dtype)
        # 1 + 0 v rather than 1: the NaN of an infinite gradient is in v, and must reach the update
        divisor = jnp.where(adaptive, root_plus_eps(second.debias(v, t), eps, eps_root) / r, 1.0 + 0.0 * v)
        return m_hat / divisor.astype(g.dtype), {"mu": m, "nu": v}

    slots = {"mu": zeros_f32, "nu": real_f32}
    return per_leaf("radam", slots, step, learning_rate, WeightDecay(weight_decay, mask, decoupled))


# Ratios of successive terms of x / (e^x - 1) = 1 - x/2 + Σ B x^2k / (2k)!, and the coefficients G (Gregory's) of
# w / -log(1 - w) = 1 - w/2 - Σ G w^k.
BERNOULLI = (1 / 60, 1 / 42, 1 / 40, 10 / 396, 691 / 27300, 35 / 1382)
GREGORY = (1 / 12, 1 / 24, 19 / 720, 3 / 160, 863 / 60480, 275 / 24192, 33953 / 3628800)


def _rectification(w: float | Array, t: Array, dtype: np.dtype, threshold: Any) -> tuple[Array, Array]:
    """ρ >= threshold, and r (1 where ρ is smaller); a bool and a real scalar of `dtype`.

    With λ = -log b2 and x = λ t:  ρ = (2/w - 1 - 2/λ) + (2/λ)(1 - x / (e^x - 1)). Both brackets cancel for small w or
    x, where their series are used.
    """
    w, t = jnp.asarray(w, dtype), t.astype(dtype)
    rate = -jnp.log1p(-w)
    x = rate * t
    near, far, tail = jnp.minimum(x, 0.5), jnp.maximum(x, 0.5), jnp.ones((), dtype)
    for ratio in reversed(BERNOULLI):
        tail = 1 - ratio * near**2 * tail
    tail = jnp.where(x < 0.5, near / 2 * (1 - near / 6 * tail), 1 - far / jnp.expm1(far))
    small, bracket = jnp.minimum(w, 0.03), jnp.zeros((), dtype)
    for g in reversed(GREGORY):
        bracket = small * (2 * g + bracket)
    rho = jnp.where(w < 0.03, bracket, 2 / w - 1 - 2 / rate) + 2 / rate * tail
    rho_inf = 2 / w - 1
    adaptive = rho >= number(threshold, rho)
    rho, rho_inf = jnp.where(adaptive, rho, 5), jnp.where(adaptive, rho_inf, 5)
    r2 = (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
    return adaptive, jnp.sqrt(r2)
