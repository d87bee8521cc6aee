"""RAdam: Adam whose rate waits until the second moment is known well enough."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxnn._calls import recorded
from jaxnn._numbers import check_decay, check_number, complement, ema, number
from jaxnn.optimizers._lift import per_leaf
from jaxnn.optimizers._moments import Corrections, corrections, first_moment, second_moment
from jaxnn.optimizers._rule import bounded, check_flag, ema_square, over, plus_eps, real_f32, zeros_f32


class _Shared(NamedTuple):
    corrections: Corrections
    adaptive: Array
    rectification: Array


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
    mask: Any = None,
    decoupled: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Rectified Adam on every leaf, [...] -> [...]: plain momentum first, then Adam, scaled by how well v̂ is known.

        ρ∞ = 2 / (1 - b2) - 1;   ρ = ρ∞ - 2 t b2^t / (1 - b2^t);   r² = (ρ - 4)(ρ - 2) ρ∞ / ((ρ∞ - 4)(ρ∞ - 2) ρ)
        update = -lr r m̂ / (sqrt(v̂ + eps_root) + eps)   where ρ >= threshold,   else -lr m̂

    Args:
      learning_rate, b1, b2, eps, eps_root, nesterov, weight_decay, mask, decoupled: as in `adam`.
      threshold: >= 4, of ρ, the length of the average that v̂ amounts to; the paper has 4.

    Raises ValueError for an argument out of range, TypeError for one of another kind.

    As optax; PyTorch adds eps before √v is corrected, and takes ρ > 5. Unlike optax, besides what `adam` says: ρ
    is taken without the cancellation of two numbers near ρ∞, which in float32 makes the first r up to 1e-4 wrong, and a
    threshold below 4, where r is not real, is refused.

    Liu et al., On the variance of the adaptive learning rate and beyond, 2020, Algorithm 2.

    >>> opt = radam(0.5)
    >>> update, _ = opt.update(jnp.array([3.0, -0.01]), opt.init(jnp.zeros(2)))
    >>> update.round(4)
    Array([-1.5  ,  0.005], dtype=float32)
    """
    check_decay("radam", "b1", b1)
    check_decay("radam", "b2", b2)
    check_number("radam", "eps", eps)
    check_number("radam", "eps_root", eps_root)
    check_number("radam", "threshold", threshold, low=4.0)
    check_flag("radam", "nesterov", nesterov)
    w1, w2 = complement(b1), complement(b2)

    def share(t: Array, dtype: np.dtype) -> _Shared:
        adaptive, r = _rectification(w2, t, dtype, threshold)
        return _Shared(corrections(w1, w2, t, dtype, nesterov=nesterov), adaptive, r)

    def step(g: Array, s: dict[str, Array], p: Any, shared: _Shared) -> tuple[Array, dict[str, Array]]:
        c, nu = shared.corrections, ema_square(s["nu"], g, w2)
        g = bounded(g)
        mu = ema(s["mu"], g, w1)
        m, root = first_moment(c, mu, g), second_moment(c, nu, eps_root)
        # the factor waits as 1: nan_of a bad gradient is in nu, and must show in m̂ alone, too
        whole = jnp.where(shared.adaptive, plus_eps(root, eps) / shared.rectification, 1.0 + 0.0 * nu)
        return over(m, whole), {"mu": mu, "nu": nu}

    decay: dict[str, Any] = {"weight_decay": weight_decay, "mask": mask, "decoupled": decoupled}
    slots = {"mu": zeros_f32, "nu": real_f32}
    return per_leaf(slots, step, learning_rate, name="radam", share=share, elementwise=True, **decay)


# x / (e^x - 1) = 1 - x/2 + Σ B x^2k / (2k)!, the ratios of its terms; w / -log(1 - w) = 1 - w/2 - Σ G w^k, Gregory's G
BERNOULLI = (1 / 60, 1 / 42, 1 / 40, 10 / 396, 691 / 27300, 35 / 1382)
GREGORY = (1 / 12, 1 / 24, 19 / 720, 3 / 160, 863 / 60480, 275 / 24192, 33953 / 3628800)


def _rectification(w: float | Array, t: Array, dtype: np.dtype, threshold: Any) -> tuple[Array, Array]:
    """Whether ρ has reached the threshold, and r, 1 where it has not; real scalars of `dtype`.

    With λ = -log b2 and x = λ t:  ρ = (2/w - 1 - 2/λ) + (2/λ)(1 - x / (e^x - 1)), both brackets by their series where x
    or w is small, so that nothing cancels.
    """
    w, t = jnp.asarray(w, dtype), t.astype(dtype)
    rate = -jnp.log1p(-w)
    x = rate * t
    near, far, tail = jnp.minimum(x, 0.5), jnp.maximum(x, 0.5), jnp.ones((), dtype)
    for ratio in reversed(BERNOULLI):
        tail = 1 - ratio * near**2 * tail
    share = jnp.where(x < 0.5, near / 2 * (1 - near / 6 * tail), 1 - far / jnp.expm1(far))
    small, bracket = jnp.minimum(w, 0.03), jnp.zeros((), dtype)
    for g in reversed(GREGORY):
        bracket = small * (2 * g + bracket)
    rho = jnp.where(w < 0.03, bracket, 2 / w - 1 - 2 / rate) + 2 / rate * share
    rho_inf = 2 / w - 1
    adaptive = rho >= number(threshold, rho)
    rho, rho_inf = jnp.where(adaptive, rho, 5), jnp.where(adaptive, rho_inf, 5)
    r2 = (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
    return adaptive, jnp.sqrt(r2)
