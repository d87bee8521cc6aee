"""Gradient descent, with optional momentum."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxnn._calls import recorded
from jaxnn._errors import invalid
from jaxnn._inputs import known
from jaxnn._moments import Time
from jaxnn._numbers import number
from jaxnn.optimizers._checks import check_dtype, check_momentum, check_numbers
from jaxnn.optimizers._decay import WeightDecay
from jaxnn.optimizers._lift import Slots, SlotValues, per_leaf, zeros_f32
from jaxnn.types import Arrays, Mask


@recorded
def sgd(
    learning_rate: optax.ScalarOrSchedule,
    momentum: ArrayLike | None = None,
    nesterov: bool = False,
    accumulator_dtype: DTypeLike | None = None,
    *,
    dampening: ArrayLike = 0.0,
    weight_decay: optax.ScalarOrSchedule | None = None,
    mask: Mask = None,
    decoupled: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Gradient descent for every leaf, [...] -> [...], with optional momentum.

        update = -lr g
        momentum   m <- μ m + (1 - dampening) g;   update = -lr m
        nesterov   update = -lr (g + μ m)

    Args:
      learning_rate: lr >= 0: a number, a traced scalar, or a schedule (updates so far -> rate).
      momentum: μ in [0, 1), with the slot `trace` (m); None is no momentum and no slot.
      nesterov: Nesterov momentum; requires `momentum`.
      accumulator_dtype: dtype of `trace`; None is the parameter's, at least float32.
      dampening: in [0, 1], applied from the second step on; requires `momentum`.
      weight_decay, mask, decoupled: weight decay, as in `adam`.

    Raises: ValueError for a number out of its range, and for `nesterov` or `dampening` without `momentum`, which would
      have no effect; TypeError for an argument of the wrong type.

    Differences: The formula is that of optax (which has no dampening) and PyTorch. Keras multiplies by the rate before
      it accumulates. The trace of a bfloat16 or float16 parameter is float32, since a sum in 16 bits loses small terms.
      PyTorch ignores dampening without momentum.

    Reference: Sutskever, Martens, Dahl, Hinton, On the importance of initialization and momentum in deep
      learning, 2013.

    >>> opt = sgd(0.5, momentum=0.5)
    >>> update, state = opt.update(jnp.ones(2), opt.init(jnp.zeros(2)))
    >>> update, state = opt.update(jnp.ones(2), state)
    >>> update.tolist(), state["trace"].tolist()
    ([-0.75, -0.75], [1.5, 1.5])
    """
    check_momentum("sgd", momentum, nesterov)
    check_dtype("sgd", "accumulator_dtype", accumulator_dtype)
    check_numbers("sgd", dampening=dampening)
    if momentum is None and known(dampening) and dampening != 0:
        fix = "Set momentum, or leave dampening 0."
        raise invalid("sgd", f"momentum with dampening={dampening!r}", momentum, fix)
    slots: Slots = {} if momentum is None else {"trace": partial(zeros_f32, dtype=accumulator_dtype)}

    def dampened(g: Array, t: Time) -> Array:
        if known(dampening) and dampening == 0:
            return g
        return number(jnp.where(t.count == 1, 1, 1 - dampening), g) * g

    def step(g: Array, s: SlotValues, p: Arrays, t: Time) -> tuple[Array, SlotValues]:
        if momentum is None:
            return g, s
        mu = number(momentum, g)
        trace = dampened(g, t) + mu * s["trace"]
        return g + mu * trace if nesterov else trace, {"trace": trace}

    return per_leaf("sgd", slots, step, learning_rate, WeightDecay(weight_decay, mask, decoupled))
