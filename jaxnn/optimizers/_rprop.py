"""Rprop: a step size per element, adapted by the signs of successive gradients; for full batches."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._errors import invalid, is_function, wrong_type
from jaxnn._inputs import known
from jaxnn._moments import Time, nan_of
from jaxnn._numbers import number
from jaxnn.optimizers._checks import POSITIVE, check_numbers
from jaxnn.optimizers._decay import WeightDecay
from jaxnn.optimizers._lift import Included, SlotValues, per_leaf, real_f32, zeros_f32
from jaxnn.types import Arrays, Mask


@recorded
def rprop(
    learning_rate: ArrayLike,
    eta_minus: ArrayLike = 0.5,
    eta_plus: ArrayLike = 1.2,
    min_step_size: ArrayLike = 1e-6,
    max_step_size: ArrayLike = 50.0,
    *,
    weight_decay: optax.ScalarOrSchedule | None = None,
    mask: Mask = None,
    decoupled: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Rprop for every leaf, [...] -> [...]: steps grow while the gradient keeps its sign, and shrink when it changes.

        same sign      Δ <- min(Δ eta_plus, max_step_size);    update = -sign(g) Δ
        sign changed   Δ <- max(Δ eta_minus, min_step_size);   update = 0, and g counts as 0 at the next step
        g or last g 0  update = -sign(g) Δ

    Rprop requires the gradient of the whole training set: over small batches signs change by chance.

    Args:
      learning_rate: the first Δ, > 0: a number or a traced scalar, not a schedule. Slots `step_sizes` (Δ) and
        `prev_updates`.
      eta_minus: factor of Δ after a change of sign, in [0, 1).
      eta_plus: factor of Δ while the sign stays, >= 1.
      min_step_size, max_step_size: bounds of Δ after its first change, 0 <= min_step_size <= max_step_size > 0.
      weight_decay, mask, decoupled: weight decay, as in `adam`; decoupled decay is learning_rate λ p.

    Raises: ValueError for a number out of its range and for min_step_size > max_step_size; TypeError for an argument of
      the wrong type and for a schedule.

    Differences: The formula is that of PyTorch; Keras has no Rprop. optax 0.2.8 returns each update one step late, and
      the first as 0. Signs are compared; PyTorch and optax multiply the gradients, which underflows below 1e-22. The
      real and imaginary parts of a complex parameter have a Δ each. An infinite gradient gives NaN, where a sign would
      hide it.

    Reference: Riedmiller and Braun, A direct adaptive method for faster backpropagation learning, 1993, without weight
      backtracking: iRprop- of Igel and Hüsken, Empirical evaluation of the improved Rprop learning algorithms, 2003.

    >>> opt = rprop(0.5, eta_plus=1.5)
    >>> _, state = opt.update(jnp.array([3.0, 3.0]), opt.init(jnp.zeros(2)))
    >>> opt.update(jnp.array([1.0, -1.0]), state)[0].round(4).tolist()
    [-0.75, -0.0]
    """
    if is_function(learning_rate):
        fix = "Rprop adapts its step sizes: pass the first one."
        raise wrong_type("rprop", "learning_rate to be a number", learning_rate, fix)
    check.scalar("rprop", "learning_rate", learning_rate, *POSITIVE)
    check_numbers("rprop", eta_minus=eta_minus, eta_plus=eta_plus)
    check_numbers("rprop", min_step_size=min_step_size, max_step_size=max_step_size)
    bounds: tuple[Any, Any] = (min_step_size, max_step_size)
    if all(map(known, bounds)) and bounds[0] > bounds[1]:
        raise invalid("rprop", f"min_step_size <= max_step_size, {max_step_size!r}", min_step_size)

    def start(p: Arrays) -> Array:
        first = real_f32(p, learning_rate)
        return jax.lax.complex(first, first) if jnp.issubdtype(p.dtype, jnp.complexfloating) else first

    def move(g: Array, size: Array, before: Array) -> tuple[Array, Array]:
        agreement = jnp.sign(g) * jnp.sign(before)
        factor = jnp.where(agreement > 0, number(eta_plus, g), number(eta_minus, g))
        changed = jnp.clip(size * factor, number(min_step_size, g), number(max_step_size, g))
        size = jnp.where(agreement == 0, size, changed)
        return size, jnp.where(agreement < 0, 0.0, size * jnp.sign(g)) + nan_of(g + before)

    def step(g: Array, s: SlotValues, p: Arrays, t: Time) -> tuple[Array, SlotValues]:
        size, before = s["step_sizes"], s["prev_updates"]
        if jnp.iscomplexobj(g):
            parts = move(g.real, size.real, before.real), move(g.imag, size.imag, before.imag)
            size, update = (jax.lax.complex(x, y) for x, y in zip(*parts, strict=True))
        else:
            size, update = move(g, size, before)
        return update, {"step_sizes": size, "prev_updates": update}

    slots = {"step_sizes": start, "prev_updates": zeros_f32}
    return per_leaf("rprop", slots, step, Included(lambda t: learning_rate), WeightDecay(weight_decay, mask, decoupled))
