"""Adagrad: the gradient over the root of the sum of all its squares so far."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxnn._calls import recorded
from jaxnn._numbers import check_number
from jaxnn.optimizers._lift import Slots, per_leaf
from jaxnn.optimizers._rule import bounded, check_flag, epsilon, nan_of, over, real_f32, root, square


@recorded
def adagrad(
    learning_rate: optax.ScalarOrSchedule,
    initial_accumulator_value: ArrayLike = 0.1,
    eps: ArrayLike = 1e-7,
    *,
    eps_in_sqrt: bool = True,
    weight_decay: optax.ScalarOrSchedule | None = None,
    mask: Any = None,
    decoupled: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adagrad on every leaf, [...] -> [...]: rates of their own, that only fall; for sparse gradients.

        s <- s + |g|²;   update = -lr g / sqrt(s + eps)

    Args:
      learning_rate: lr >= 0, or a schedule (count from 0 -> rate).
      initial_accumulator_value: >= 0, s at the start: 0.1 in optax and Keras, 0 in PyTorch and in the paper.
      eps: >= 0; at 0 a coordinate without any gradient so far stays where it is.
      eps_in_sqrt: sqrt(s + eps), as optax and Keras; or sqrt(s) + eps, as PyTorch and ONNX.
      weight_decay: λ >= 0 or a schedule: λ p is added to g (L2), and `update` needs params. None leaves it out.
      mask: which leaves decay: globs of their paths ("*/w"), a tree of bools, a prefix of params, or a function to one.
      decoupled: λ p is added to the direction instead, as in `adamw`; update gains -lr λ p.

    Raises ValueError for an argument out of range, TypeError for one of another kind.

    As optax, but for the keywords. Unlike optax: the slot `sum_of_squares` is real and at least float32, since a sum in
    bfloat16 stops growing at 256 times a square; a finite gradient beyond 4.6e18 (in float32) counts as 4.6e18, as its
    square would overflow and stop the coordinate for good, and so would the sum, which ends at the largest number.
    PyTorch's lr_decay is a schedule.

    Duchi, Hazan, Singer, Adaptive Subgradient Methods for Online Learning and Stochastic Optimization, 2011.

    >>> opt = adagrad(0.5, initial_accumulator_value=0.0, eps=0.0)
    >>> update, state = opt.update(jnp.array([3.0, -0.01]), opt.init(jnp.zeros(2)))
    >>> update.tolist(), state["sum_of_squares"].round(4).tolist()
    ([-0.5, 0.5], [9.0, 9.9...e-05])
    """
    check_number("adagrad", "initial_accumulator_value", initial_accumulator_value)
    check_number("adagrad", "eps", eps)
    check_flag("adagrad", "eps_in_sqrt", eps_in_sqrt)

    def step(g: Array, s: dict[str, Array], p: Any, t: Array) -> tuple[Array, dict[str, Array]]:
        total = s["sum_of_squares"] + square(bounded(g)) + nan_of(g)
        total = jnp.minimum(total, float(jnp.finfo(total.dtype).max))  # else it would divide by inf, for good
        added = epsilon(eps, total)
        scale = root(total + added) if eps_in_sqrt else root(total) + added
        return over(bounded(g), jnp.where(total == 0, 1, scale)), {"sum_of_squares": total}

    slots: Slots = {"sum_of_squares": partial(real_f32, value=initial_accumulator_value)}
    decay: dict[str, Any] = {"weight_decay": weight_decay, "mask": mask, "decoupled": decoupled}
    return per_leaf(slots, step, learning_rate, name="adagrad", elementwise=True, **decay)
