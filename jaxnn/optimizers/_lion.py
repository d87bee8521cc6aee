"""Lion: the sign of an average gradient, so that every step has the size of the rate."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxnn._calls import recorded
from jaxnn._moments import Average, Time, nan_of
from jaxnn.optimizers._checks import check_dtype, check_numbers
from jaxnn.optimizers._decay import WeightDecay
from jaxnn.optimizers._lift import SlotValues, per_leaf, zeros_f32
from jaxnn.types import Arrays, Mask


@recorded
def lion(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.99,
    mu_dtype: DTypeLike | None = None,
    weight_decay: optax.ScalarOrSchedule = 1e-3,
    mask: Mask = None,
    *,
    decoupled: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Lion for every leaf, [...] -> [...]: the sign of an average gradient; half the state of Adam.

        update = -lr (sign(m + (1 - b1)(g - m)) + λ p);   m <- m + (1 - b2)(g - m)

    Args:
      learning_rate: lr >= 0: a number, a traced scalar, or a schedule (updates so far -> rate). Three to ten times
        smaller than for Adam.
      b1: decay of the average whose sign is the step, in [0, 1).
      b2: decay of m, in [0, 1); an array is kept half a spacing of its dtype below 1.
      mu_dtype: dtype of the slot `mu` (m); None is the parameter's, at least float32.
      weight_decay, mask: as in `adam`.
      decoupled: add λ p to the sign, as above. False adds λ p to the gradient (L2), which only affects its sign.

    Raises: ValueError for a number out of its range, TypeError for an argument of the wrong type.

    Differences: The formula is that of optax; the sign of a complex number z is z / |z|, as there. PyTorch has no Lion;
      Keras's default is no decay. `mu` is at least float32 and moves by increments. An infinite gradient gives NaN,
      where optax's sign hides it.

    Reference: Chen et al., Symbolic discovery of optimization algorithms, 2023, Algorithm 2.

    >>> opt = lion(0.5, weight_decay=0.0)
    >>> update, _ = opt.update(jnp.array([3.0, -0.01, 0.0]), opt.init(jnp.zeros(3)))
    >>> update.tolist()
    [-0.5, 0.5, -0.0]
    """
    check_numbers("lion", b1=b1, b2=b2)
    check_dtype("lion", "mu_dtype", mu_dtype)
    ahead, kept = Average(b1), Average(b2)

    def step(g: Array, s: SlotValues, p: Arrays, t: Time) -> tuple[Array, SlotValues]:
        m = kept.update_large(s["mu"], g)
        nan = nan_of(g) + nan_of(s["mu"])
        return jnp.sign(ahead.update_large(s["mu"], g)) + nan.astype(g.dtype), {"mu": m}

    slots = {"mu": partial(zeros_f32, dtype=mu_dtype)}
    return per_leaf("lion", slots, step, learning_rate, WeightDecay(weight_decay, mask, decoupled))
