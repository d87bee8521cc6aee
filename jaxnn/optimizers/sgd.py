"""Gradient descent: plain, with momentum, with Nesterov's."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxnn._calls import recorded
from jaxnn._errors import invalid
from jaxnn._numbers import check_number, known, number
from jaxnn.optimizers._lift import Slots, per_leaf
from jaxnn.optimizers._rule import check_dtype, check_momentum, zeros_f32


@recorded
def sgd(
    learning_rate: optax.ScalarOrSchedule,
    momentum: ArrayLike | None = None,
    nesterov: bool = False,
    accumulator_dtype: DTypeLike | None = None,
    *,
    dampening: ArrayLike = 0.0,
    weight_decay: optax.ScalarOrSchedule | None = None,
    mask: Any = None,
    decoupled: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Gradient descent on every leaf, [...] -> [...], with or without momentum; on a full batch or a part.

        m <- (1 - dampening) g + μ m;   update = -lr m,   with Nesterov -lr (g + μ m),   without momentum -lr g

    Args:
      learning_rate: lr >= 0, or a schedule (count from 0 -> rate).
      momentum: μ in [0, 1); None is off and keeps no slot. The slot is `trace`.
      nesterov: look one step ahead; needs momentum.
      dampening: in [0, 1], of the gradient in m, from the second step on; needs momentum.
      accumulator_dtype: of `trace`; None is the parameter's, but at least float32.
      weight_decay: λ >= 0 or a schedule: λ p is added to g (L2), and `update` needs params. None leaves it out.
      mask: which leaves decay: globs of their paths ("*/w"), a tree of bools, a prefix of params, or a function to one.
      decoupled: λ p is added to the direction instead, as in `adamw`; update gains -lr λ p.

    Raises ValueError for an argument out of range, and for nesterov and dampening without momentum, which would do
    nothing; TypeError for one of another kind.

    As optax (which has no dampening) and PyTorch; Keras scales by the rate before it accumulates. Unlike optax, a
    bfloat16 or float16 parameter has a float32 trace, as a sum in so few bits loses the small terms, and nesterov
    without momentum raises, as does dampening, which PyTorch ignores then.

    Sutskever, Martens, Dahl, Hinton, On the importance of initialization and momentum in deep learning, 2013.

    >>> opt = sgd(0.5, momentum=0.5)
    >>> update, state = opt.update(jnp.ones(2), opt.init(jnp.zeros(2)))
    >>> update, state = opt.update(jnp.ones(2), state)
    >>> update.tolist(), state["trace"].tolist()
    ([-0.75, -0.75], [1.5, 1.5])
    """
    check_momentum("sgd", momentum, nesterov)
    check_dtype("sgd", "accumulator_dtype", accumulator_dtype)
    check_number("sgd", "dampening", dampening, below=1.0, ends="[]")
    if momentum is None and known(dampening) and dampening != 0:
        raise invalid(
            "sgd", f"momentum with dampening={dampening!r}", told="None", fix="Set momentum, or leave dampening 0."
        )
    slots: Slots = {} if momentum is None else {"trace": partial(zeros_f32, dtype=accumulator_dtype)}

    def step(g: Array, s: dict[str, Array], p: Any, t: Array) -> tuple[Array, dict[str, Array]]:
        if momentum is None:
            return g, s
        mu = number(momentum, g)
        new = g
        if not known(dampening) or dampening != 0:
            new = number(jnp.where(t == 1, 1, 1 - dampening), g) * g
        trace = new + mu * s["trace"]
        return g + mu * trace if nesterov else trace, {"trace": trace}

    decay: dict[str, Any] = {"weight_decay": weight_decay, "mask": mask, "decoupled": decoupled}
    return per_leaf(slots, step, learning_rate, name="sgd", elementwise=True, **decay)
