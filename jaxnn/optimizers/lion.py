"""Lion: steps of one size, along the sign of a mean."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxnn._calls import recorded
from jaxnn._numbers import check_decay, complement
from jaxnn.optimizers._lift import per_leaf
from jaxnn.optimizers._rule import check_dtype, far_ema, nan_of, zeros_f32


@recorded
def lion(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.99,
    mu_dtype: DTypeLike | None = None,
    weight_decay: optax.ScalarOrSchedule = 1e-3,
    mask: Any = None,
    *,
    decoupled: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Lion on every leaf, [...] -> [...]: half the state of Adam, and every step as long as the rate.

        update = -lr (sign(m + (1 - b1)(g - m)) + λ p);   m <- m + (1 - b2)(g - m)

    Args:
      learning_rate: lr >= 0, or a schedule (count from 0 -> rate); three to ten times below Adam's.
      b1: in [0, 1), of the mean whose sign is taken.
      b2: in [0, 1), of the mean that is kept; an array is held half a spacing of its dtype below 1.
      mu_dtype: of the slot `mu`; None is the parameter's, but at least float32.
      weight_decay: λ >= 0 or a schedule. All but a Python 0 need params in `update`.
      mask: which leaves decay: globs of their paths ("*/w"), a tree of bools, a prefix of params, or a function to one.
      decoupled: as above; False adds λ p to g (L2), of which only the sign is left.

    Raises ValueError for an argument out of range, TypeError for one of another kind.

    As optax, with its sign of a complex number, z / |z|; not in PyTorch; Keras has b2 0.99 and no decay. Unlike optax:
    `mu` is at least float32 and moves by increments; an infinite gradient gives NaN, where a sign would hide it.

    Chen et al., Symbolic discovery of optimization algorithms, 2023, Algorithm 2.

    >>> opt = lion(0.5, weight_decay=0.0)
    >>> update, _ = opt.update(jnp.array([3.0, -0.01, 0.0]), opt.init(jnp.zeros(3)))
    >>> update.tolist()
    [-0.5, 0.5, -0.0]
    """
    check_decay("lion", "b1", b1)
    check_decay("lion", "b2", b2)
    check_dtype("lion", "mu_dtype", mu_dtype)
    w1, w2 = complement(b1), complement(b2)

    def step(g: Array, s: dict[str, Array], p: Any, t: Array) -> tuple[Array, dict[str, Array]]:
        mu = far_ema(s["mu"], g, w2)
        bad = nan_of(g) + nan_of(s["mu"])
        return jnp.sign(far_ema(s["mu"], g, w1)) + bad.astype(g.dtype), {"mu": mu}

    decay: dict[str, Any] = {"weight_decay": weight_decay, "mask": mask, "decoupled": decoupled}
    slots = {"mu": partial(zeros_f32, dtype=mu_dtype)}
    return per_leaf(slots, step, learning_rate, name="lion", elementwise=True, **decay)
