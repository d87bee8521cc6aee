"""Adadelta: the gradient in units of past steps over past gradients, so that no rate needs tuning."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxnn._calls import recorded
from jaxnn._numbers import check_decay, check_number, complement, ema, known, number
from jaxnn.optimizers._lift import per_leaf
from jaxnn.optimizers._rule import bounded, check_style, ema_square, epsilon, real_f32, root, square


@recorded
def adadelta(
    learning_rate: optax.ScalarOrSchedule = 1.0,
    rho: ArrayLike = 0.9,
    eps: ArrayLike = 1e-6,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    weight_decay_mask: Any = None,
    *,
    decoupled: bool = False,
    style: str = "optax",
) -> optax.GradientTransformationExtraArgs:
    """Adadelta on every leaf, [...] -> [...]: the gradient, scaled by the ratio of past steps to past gradients.

        e_g <- e_g + (1 - rho)(|g|² - e_g);   δ = sqrt(e_x + eps) / sqrt(e_g + eps) g
        e_x <- e_x + (1 - rho)(|δ|² - e_x);   update = -lr δ

    Args:
      learning_rate: lr >= 0, or a schedule (count from 0 -> rate); the paper has 1.
      rho: in [0, 1); an array is held half a spacing of its dtype below 1, so a bfloat16 0.999 stays finite.
      eps: >= 0; it sets the size of the first step, sqrt(eps / (1 - rho)), and at 0 e_x never starts.
      weight_decay: λ >= 0 or a schedule: λ p is added to g first (L2). All but a Python 0 need params in `update`.
      weight_decay_mask: which leaves decay: globs of their paths ("*/w"), a tree of bools, a prefix of params, or a
        function to one.
      decoupled: λ p is added to δ instead, as in `adamw` and in Keras; update gains -lr λ p.
      style: "optax", "torch" or "keras": whose numbers; all three have this one formula, and differ in defaults alone.

    Raises ValueError for an argument out of range, TypeError for one of another kind.

    As PyTorch, as optax with learning_rate=1, and as Keras, whose defaults are rate 1e-3, rho 0.95 and eps 1e-7. Unlike
    optax: `adadelta()` descends, where optax's default of None climbs, as it leaves the sign of g; |g|² where optax
    squares complex gradients as they are; slots are real and at least float32; 1 - rho is taken in Python floats; a
    finite gradient beyond 4.6e18 (in float32) counts as 4.6e18, as its square would overflow and stop the coordinate
    for good. Slots `e_g`, `e_x`, as there.

    Zeiler, Adadelta: an adaptive learning rate method, 2012, Algorithm 1.

    >>> opt = adadelta(eps=1e-2)
    >>> update, state = opt.update(jnp.array([3.0, -3.0]), opt.init(jnp.zeros(2)))
    >>> update.round(4), optax.tree.get(state, "e_g").round(4)
    (Array([-0.3145,  0.3145], dtype=float32), Array([0.9, 0.9], dtype=float32))
    """
    check_style("adadelta", style)
    check_decay("adadelta", "rho", rho)
    check_number("adadelta", "eps", eps)
    w = complement(rho)

    def step(g: Array, s: dict[str, Array], p: Any, t: Array) -> tuple[Array, dict[str, Array]]:
        e_g, e = ema_square(s["e_g"], g, w), epsilon(eps, s["e_g"])
        g = bounded(g)
        tiny = float(jnp.finfo(e_g.dtype).tiny)
        divisor = jnp.maximum(e_g, tiny) if known(eps) and eps == 0 else e_g + e
        e_x = ema(s["e_x"], (s["e_x"] + e) * (square(g) / divisor), w)
        # δ from the new e_x, solved for the old: XLA writes the new over the old, and to read that afterwards is a copy
        keep = number(1.0 - w, e_g)
        ratio = root(e_x + keep * e) / jnp.sqrt(keep * (e_g + e) + number(w, e_g) * square(g) + tiny)
        return ratio.astype(g.dtype) * g, {"e_g": e_g, "e_x": e_x}

    return per_leaf(
        {"e_g": real_f32, "e_x": real_f32},
        step,
        learning_rate,
        name="adadelta",
        weight_decay=weight_decay,
        mask=weight_decay_mask,
        decoupled=decoupled,
        elementwise=True,
    )
