"""Adagrad: the gradient over the root of the sum of its squares."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxnn._calls import recorded
from jaxnn._moments import Time, bounded, epsilon, nan_of, root, square
from jaxnn.optimizers._checks import check_flags, check_numbers
from jaxnn.optimizers._decay import WeightDecay
from jaxnn.optimizers._lift import Slots, SlotValues, per_leaf, real_f32
from jaxnn.types import Arrays, Mask


@recorded
def adagrad(
    learning_rate: optax.ScalarOrSchedule,
    initial_accumulator_value: ArrayLike = 0.1,
    eps: ArrayLike = 1e-7,
    *,
    eps_in_sqrt: bool = True,
    weight_decay: optax.ScalarOrSchedule | None = None,
    mask: Mask = None,
    decoupled: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adagrad for every leaf, [...] -> [...]: a step size per element that only falls; for sparse gradients.

        s <- s + |g|²;   update = -lr g / sqrt(s + eps)

    Args:
      learning_rate: lr >= 0: a number, a traced scalar, or a schedule (updates so far -> rate).
      initial_accumulator_value: start of s, >= 0: 0.1 in optax and Keras, 0 in PyTorch and the paper. The slot is
        `sum_of_squares`.
      eps: >= 0. With eps = 0 an element without any gradient so far does not move.
      eps_in_sqrt: sqrt(s + eps), as optax and Keras; False is sqrt(s) + eps, as PyTorch and ONNX.
      weight_decay, mask, decoupled: weight decay, as in `adam`.

    Raises: ValueError for a number out of its range, TypeError for an argument of the wrong type.

    Differences: The formula is that of optax. The slot is real and at least float32, since a sum in bfloat16 stops
      growing at 256 times a square. A finite gradient beyond 4.6e18 (in float32) counts as 4.6e18, since its square
      would overflow and stop the element permanently; for the same reason the sum stays finite. For PyTorch's lr_decay
      pass a schedule.

    Reference: Duchi, Hazan, Singer, Adaptive subgradient methods for online learning and stochastic optimization, 2011.

    >>> opt = adagrad(0.5, initial_accumulator_value=0.0, eps=0.0)
    >>> update, state = opt.update(jnp.array([3.0, -0.01]), opt.init(jnp.zeros(2)))
    >>> update.tolist(), state["sum_of_squares"].round(4).tolist()
    ([-0.5, 0.5], [9.0, 9.9...e-05])
    """
    check_numbers("adagrad", initial_accumulator_value=initial_accumulator_value, eps=eps)
    check_flags("adagrad", eps_in_sqrt=eps_in_sqrt)

    def step(g: Array, s: SlotValues, p: Arrays, t: Time) -> tuple[Array, SlotValues]:
        total = s["sum_of_squares"] + square(bounded(g)) + nan_of(g)
        total = jnp.minimum(total, float(jnp.finfo(total.dtype).max))  # a sum of inf would stop the element permanently
        e = epsilon(eps, total)
        divisor = root(total + e) if eps_in_sqrt else root(total) + e
        return bounded(g) / jnp.where(total == 0, 1, divisor).astype(g.dtype), {"sum_of_squares": total}

    slots: Slots = {"sum_of_squares": partial(real_f32, value=initial_accumulator_value)}
    return per_leaf("adagrad", slots, step, learning_rate, WeightDecay(weight_decay, mask, decoupled))
