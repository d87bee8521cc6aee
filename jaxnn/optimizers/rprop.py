"""Rprop: a step size for each weight, told by the signs of two gradients; for full batches."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxnn._calls import recorded
from jaxnn._dtypes import wide_dtype
from jaxnn._errors import invalid, is_function, wrong_type
from jaxnn._numbers import check_number, known, number
from jaxnn.optimizers._lift import per_leaf
from jaxnn.optimizers._rule import nan_of, real, zeros_f32


@recorded
def rprop(
    learning_rate: ArrayLike,
    eta_minus: ArrayLike = 0.5,
    eta_plus: ArrayLike = 1.2,
    min_step_size: ArrayLike = 1e-6,
    max_step_size: ArrayLike = 50.0,
    *,
    weight_decay: optax.ScalarOrSchedule | None = None,
    mask: Any = None,
    decoupled: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Rprop on every leaf, [...] -> [...]: longer steps while the sign of a gradient stays, shorter after it turned.

        same sign       Δ <- min(Δ eta_plus, max_step_size);    update = -sign(g) Δ
        sign turned     Δ <- max(Δ eta_minus, min_step_size);   update = 0, and g counts as 0 at the next step
        either was 0    update = -sign(g) Δ

    Args:
      learning_rate: > 0, the first Δ; a number, as Rprop finds its own steps.
      eta_minus: in [0, 1).
      eta_plus: >= 1.
      min_step_size, max_step_size: bounds of Δ once it has moved, 0 <= min_step_size <= max_step_size > 0.
      weight_decay, mask, decoupled: as in `adam`; the decoupled decay is learning_rate λ p.

    Raises ValueError for an argument out of range, TypeError for one of another kind and for a schedule.

    As PyTorch; not in Keras. optax 0.2.8 returns each update one step late, and the first as 0. Signs are compared,
    where both multiply the gradients, which underflows below 1e-22; the real and the imaginary part of a complex
    parameter have a Δ each; an infinite gradient gives NaN, where a sign would hide it. Slots `step_sizes`,
    `prev_updates`. It needs the gradient of the whole set: over small batches signs turn by chance.

    Riedmiller and Braun, A direct adaptive method for faster backpropagation learning, 1993; without its way back, as
    Igel and Hüsken, Empirical evaluation of the improved Rprop learning algorithms, 2003, have it in iRprop-.

    >>> opt = rprop(0.5, eta_plus=1.5)
    >>> _, state = opt.update(jnp.array([3.0, 3.0]), opt.init(jnp.zeros(2)))
    >>> opt.update(jnp.array([1.0, -1.0]), state)[0].round(4).tolist()
    [-0.75, -0.0]
    """
    if is_function(learning_rate):
        fix = "Rprop finds its own steps: pass the first."
        raise wrong_type("rprop", "learning_rate to be a number", learning_rate, fix)
    for argument, value, low, below, ends in (
        ("learning_rate", learning_rate, 0.0, math.inf, "()"),
        ("eta_minus", eta_minus, 0.0, 1.0, "[)"),
        ("eta_plus", eta_plus, 1.0, math.inf, "[)"),
        ("min_step_size", min_step_size, 0.0, math.inf, "[)"),
        ("max_step_size", max_step_size, 0.0, math.inf, "()"),
    ):
        check_number("rprop", argument, value, low, below, ends)
    bounds: tuple[Any, Any] = (min_step_size, max_step_size)
    if all(map(known, bounds)) and bounds[0] > bounds[1]:
        raise invalid("rprop", f"min_step_size <= max_step_size, {max_step_size!r}", min_step_size)

    def start(p: Any) -> Array:
        first = jnp.full_like(p, learning_rate, dtype=real(wide_dtype(p.dtype)))
        return jax.lax.complex(first, first) if jnp.issubdtype(p.dtype, jnp.complexfloating) else first

    def move(g: Array, size: Array, before: Array) -> tuple[Array, Array]:
        turn = jnp.sign(g) * jnp.sign(before)
        factor = jnp.where(turn > 0, number(eta_plus, g), number(eta_minus, g))
        moved = jnp.clip(size * factor, number(min_step_size, g), number(max_step_size, g))
        size = jnp.where(turn == 0, size, moved)
        return size, jnp.where(turn < 0, 0.0, size * jnp.sign(g)) + nan_of(g + before)

    def step(g: Array, s: dict[str, Array], p: Any, t: Array) -> tuple[Array, dict[str, Array]]:
        size, before = s["step_sizes"], s["prev_updates"]
        if jnp.iscomplexobj(g):
            parts = move(g.real, size.real, before.real), move(g.imag, size.imag, before.imag)
            size, update = (jax.lax.complex(x, y) for x, y in zip(*parts, strict=True))
        else:
            size, update = move(g, size, before)
        return update, {"step_sizes": size, "prev_updates": update}

    decay: dict[str, Any] = {"weight_decay": weight_decay, "mask": mask, "decoupled": decoupled}
    slots = {"step_sizes": start, "prev_updates": zeros_f32}
    return per_leaf(slots, step, learning_rate, name="rprop", scaled=True, elementwise=True, **decay)
