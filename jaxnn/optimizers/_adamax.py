"""Adamax: Adam with a decaying maximum of |g| in place of its root mean square."""

from __future__ import annotations

import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxnn._calls import recorded
from jaxnn._moments import Average, Time, epsilon, nan_of
from jaxnn._numbers import number
from jaxnn.optimizers._checks import check_numbers
from jaxnn.optimizers._decay import WeightDecay
from jaxnn.optimizers._lift import SlotValues, per_leaf, real_f32, zeros_f32
from jaxnn.types import Arrays, Mask


@recorded
def adamax(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    *,
    weight_decay: optax.ScalarOrSchedule | None = None,
    mask: Mask = None,
    decoupled: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adamax for every leaf, [...] -> [...]: the average gradient over a decaying maximum of |g|.

        m <- m + (1 - b1)(g - m);   u <- max(b2 u, |g| + eps);   update = -lr m / (1 - b1^t) / u

    Args:
      learning_rate: lr >= 0: a number, a traced scalar, or a schedule (updates so far -> rate).
      b1, b2: decays of m and u, in [0, 1); an array is kept half a spacing of its dtype below 1, so that
        bfloat16(0.999) stays finite. Slots `mu` (m) and `nu` (u).
      eps: >= 0. With eps = 0 an element without any gradient so far does not move.
      weight_decay, mask, decoupled: weight decay, as in `adam`.

    Raises: ValueError for a number out of its range, TypeError for an argument of the wrong type.

    Differences: The formula is that of optax and PyTorch. Keras adds eps to u when it divides; the paper has no eps.
      Slots are at least float32 and `nu` is real; 1 - b and 1 - b^t are computed without cancellation.

    Reference: Kingma and Ba, Adam: a method for stochastic optimization, 2015, Algorithm 2.

    >>> opt = adamax(0.5)
    >>> update, _ = opt.update(jnp.array([3.0, -0.01]), opt.init(jnp.zeros(2)))
    >>> update.round(4)
    Array([-0.5,  0.5], dtype=float32)
    """
    check_numbers("adamax", b1=b1, b2=b2, eps=eps)
    mean, w2 = Average(b1), Average(b2).w

    def step(g: Array, s: SlotValues, p: Arrays, t: Time) -> tuple[Array, SlotValues]:
        m = mean.update_large(s["mu"], g)
        # b2 u as u - (1 - b2) u: float32(b2) is off by 1e-8, at every step
        decayed = s["nu"] - number(w2, s["nu"]) * s["nu"]
        size = jnp.minimum(jnp.abs(g), float(jnp.finfo(decayed.dtype).max)) + nan_of(g)
        u = jnp.maximum(decayed, size + epsilon(eps, size))
        # An exact scaling of both: XLA may multiply by 1 / u, which is 0 for u near the largest number.
        scale = jnp.where(u > 1, 2.0**-24, 1.0).astype(u.dtype)
        divisor = jnp.where(u == 0, 1.0, u * scale)
        return mean.debias(m * scale.astype(m.dtype), t) / divisor.astype(m.dtype), {"mu": m, "nu": u}

    slots = {"mu": zeros_f32, "nu": real_f32}
    return per_leaf("adamax", slots, step, learning_rate, WeightDecay(weight_decay, mask, decoupled))
