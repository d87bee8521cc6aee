"""Adamax: Adam with the largest gradient of late in place of the root mean square."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxnn._calls import recorded
from jaxnn._numbers import check_decay, check_number, complement, number, weight
from jaxnn.optimizers._lift import per_leaf
from jaxnn.optimizers._rule import epsilon, far_ema, nan_of, over, real_f32, zeros_f32


@recorded
def adamax(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    *,
    weight_decay: optax.ScalarOrSchedule | None = None,
    mask: Any = None,
    decoupled: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adamax on every leaf, [...] -> [...]: the mean gradient over the largest one, which fades.

        m <- m + (1 - b1)(g - m);   u <- max(b2 u, |g| + eps);   update = -lr m / (1 - b1^t) / u

    Args:
      learning_rate: lr >= 0, or a schedule (count from 0 -> rate).
      b1, b2: in [0, 1); an array is held half a spacing of its dtype below 1, so a bfloat16 0.999 stays finite.
      eps: >= 0; at 0 a coordinate without any gradient so far stays where it is.
      weight_decay, mask, decoupled: as in `adam`.

    Raises ValueError for an argument out of range, TypeError for one of another kind.

    As optax and PyTorch; Keras adds eps to u when it divides, the paper has none. Unlike optax: slots `mu` and `nu`
    (for u) are at least float32 and `nu` is real, 1 - b and 1 - b^t are taken without cancellation.

    Kingma and Ba, Adam: a method for stochastic optimization, 2015, Algorithm 2.

    >>> opt = adamax(0.5)
    >>> update, _ = opt.update(jnp.array([3.0, -0.01]), opt.init(jnp.zeros(2)))
    >>> update.round(4)
    Array([-0.5,  0.5], dtype=float32)
    """
    check_decay("adamax", "b1", b1)
    check_decay("adamax", "b2", b2)
    check_number("adamax", "eps", eps)
    w1, w2 = complement(b1), complement(b2)

    def share(t: Array, dtype: np.dtype) -> Array:
        return 1.0 / weight(w1, t, dtype)

    def step(g: Array, s: dict[str, Array], p: Any, of_mu: Array) -> tuple[Array, dict[str, Array]]:
        mu = far_ema(s["mu"], g, w1)
        # b2 u as u - (1 - b2) u: the float32 of b2 is off by 1e-8, each step anew
        faded = s["nu"] - number(w2, s["nu"]) * s["nu"]
        size = jnp.minimum(jnp.abs(g), float(jnp.finfo(faded.dtype).max)) + nan_of(g)
        nu = jnp.maximum(faded, size + epsilon(eps, size))
        # Both are scaled exactly: 1 / nu, by which XLA may multiply, is 0 for a nu near the largest number.
        scale = jnp.where(nu > 1, 2.0**-24, 1.0).astype(nu.dtype)
        divisor = jnp.where(nu == 0, 1.0, nu * scale)
        return over(number(of_mu, mu) * (mu * scale.astype(mu.dtype)), divisor), {"mu": mu, "nu": nu}

    decay: dict[str, Any] = {"weight_decay": weight_decay, "mask": mask, "decoupled": decoupled}
    slots = {"mu": zeros_f32, "nu": real_f32}
    return per_leaf(slots, step, learning_rate, name="adamax", share=share, elementwise=True, **decay)
