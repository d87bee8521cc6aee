"""Adadelta: the gradient scaled by the ratio of past steps to past gradients, so that the rate needs no tuning."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxnn._calls import recorded
from jaxnn._inputs import known
from jaxnn._moments import Average, Time, bounded, epsilon, root, square
from jaxnn._numbers import number
from jaxnn.optimizers._checks import check_numbers, check_preset
from jaxnn.optimizers._decay import WeightDecay
from jaxnn.optimizers._lift import SlotValues, per_leaf, real_f32
from jaxnn.types import Arrays


@recorded
def adadelta(
    learning_rate: optax.ScalarOrSchedule = 1.0,
    rho: ArrayLike = 0.9,
    eps: ArrayLike = 1e-6,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    weight_decay_mask: Any = None,
    *,
    decoupled: bool = False,
    preset: str = "optax",
) -> optax.GradientTransformationExtraArgs:
    """Adadelta for every leaf, [...] -> [...]: the gradient scaled by the ratio of past steps to past gradients.

        e_g <- e_g + (1 - rho)(|g|² - e_g);   δ = sqrt(e_x + eps) / sqrt(e_g + eps) g
        e_x <- e_x + (1 - rho)(|δ|² - e_x);   update = -lr δ

    Args:
      learning_rate: lr >= 0: a number, a traced scalar, or a schedule (updates so far -> rate). 1 in the paper.
      rho: decay of e_g and e_x, in [0, 1); an array is kept half a spacing of its dtype below 1, so that
        bfloat16(0.999) stays finite. Slots `e_g` and `e_x`.
      eps: >= 0. It sets the size of the first step, sqrt(eps / (1 - rho)); with eps = 0 every step is 0.
      weight_decay, weight_decay_mask, decoupled: weight decay, as weight_decay, mask and decoupled in `adam`.
      preset: "optax", "torch" or "keras": all three use this formula; only their defaults differ.

    Raises: ValueError for a number out of its range, TypeError for an argument of the wrong type.

    Differences: The formula is that of PyTorch, of optax with learning_rate=1, and of Keras, whose defaults are rate
      1e-3, rho 0.95 and eps 1e-7. optax's default rate None keeps the sign of g and climbs. Squares are |g|², where
      optax squares complex gradients as they are; slots are real and at least float32. A finite gradient beyond 4.6e18
      (in float32) counts as 4.6e18, since its square would overflow and stop the element permanently.

    Reference: Zeiler, Adadelta: an adaptive learning rate method, 2012, Algorithm 1.

    >>> opt = adadelta(eps=1e-2)
    >>> update, state = opt.update(jnp.array([3.0, -3.0]), opt.init(jnp.zeros(2)))
    >>> update.round(4), optax.tree.get(state, "e_g").round(4)
    (Array([-0.3145,  0.3145], dtype=float32), Array([0.9, 0.9], dtype=float32))
    """
    check_preset("adadelta", preset)
    check_numbers("adadelta", rho=rho, eps=eps)
    mean = Average(rho)

    def step(g: Array, s: SlotValues, p: Arrays, t: Time) -> tuple[Array, SlotValues]:
        e_g, e = mean.update_square(s["e_g"], g), epsilon(eps, s["e_g"])
        g = bounded(g)
        tiny = float(jnp.finfo(e_g.dtype).tiny)
        divisor = jnp.maximum(e_g, tiny) if known(eps) and eps == 0 else e_g + e
        e_x = mean.update(s["e_x"], (s["e_x"] + e) * (square(g) / divisor))
        # δ expressed by the new e_x: XLA writes e_x in place, and reading the old one afterwards would copy it
        b, w = number(1.0 - mean.w, e_g), number(mean.w, e_g)
        ratio = root(e_x + b * e) / jnp.sqrt(b * (e_g + e) + w * square(g) + tiny)
        return ratio.astype(g.dtype) * g, {"e_g": e_g, "e_x": e_x}

    decay = WeightDecay(weight_decay, weight_decay_mask, decoupled)
    return per_leaf("adadelta", {"e_g": real_f32, "e_x": real_f32}, step, learning_rate, decay)
