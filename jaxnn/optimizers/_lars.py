"""LARS: momentum with each array's gradient scaled to the norm of its parameter."""

from __future__ import annotations

import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxnn._calls import recorded
from jaxnn._moments import Time
from jaxnn._numbers import number
from jaxnn.optimizers._checks import check_flags, check_numbers
from jaxnn.optimizers._decay import WeightDecay, rate
from jaxnn.optimizers._lift import Included, SlotValues, per_leaf, zeros_f32
from jaxnn.optimizers._trust_ratio import TrustRatio
from jaxnn.types import Arrays, Mask


@recorded
def lars(
    learning_rate: optax.ScalarOrSchedule,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    weight_decay_mask: Mask = True,
    trust_coefficient: ArrayLike = 0.001,
    eps: ArrayLike = 0.0,
    trust_ratio_mask: Mask = True,
    momentum: ArrayLike = 0.9,
    nesterov: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """LARS for every leaf, [...] -> [...]: the gradient scaled to the norm of the parameter, with momentum.

        u = g + λ p;   r = c |p| / (|u| + eps)   (1 if |p| or |u| is 0)
        d <- momentum d + lr r u;   update = -d                             (nesterov: -(momentum d + lr r u))

    Args:
      learning_rate: lr >= 0: a number, a traced scalar, or a schedule (updates so far -> rate).
      weight_decay: λ >= 0, a traced scalar or a schedule; a Python 0 is no decay.
      weight_decay_mask: the leaves that decay: glob patterns of paths ("*/w", or a list of them), a tree of bools
        shaped like params or a prefix of it, or a function of params that returns one. True is all.
      trust_coefficient: c >= 0, the fraction of its norm by which an array moves at lr = 1.
      eps: >= 0, added to the norm of the gradient.
      trust_ratio_mask: the leaves that are scaled, in the forms of `weight_decay_mask`; others have r = 1. The paper's
        recipe leaves out biases and the params of norms, from the decay as well.
      momentum: decay of the slot `trace` (d), in [0, 1).
      nesterov: Nesterov momentum.

    Returns: an optimizer whose `update` requires params. It is not elementwise.

    Raises: ValueError for a number out of its range, TypeError for an argument of the wrong type. `update` raises
      ValueError without params.

    Differences: The formula is that of optax. The paper adds λ |p| to |g| instead of taking the norm of the sum.
      PyTorch and Keras have no LARS. The slot is at least float32, and norms do not overflow.

    Reference: You, Gitman, Ginsburg, Large batch training of convolutional networks, 2017.

    >>> opt, p = lars(0.5, trust_coefficient=0.1), jnp.array([3.0, 4.0])
    >>> update, _ = opt.update(jnp.array([8.0, -6.0]), opt.init(p), p)
    >>> [round(float(u), 4) for u in update]  # of norm lr c |p| = 0.25
    [-0.2, 0.15]
    """
    check_numbers("lars", momentum=momentum)
    check_flags("lars", nesterov=nesterov)
    trust = TrustRatio(trust_coefficient, eps, trust_ratio_mask).checked("lars")
    rate_at = rate("lars", "learning_rate", learning_rate)

    def lr(t: Array, dtype: DTypeLike) -> Arrays:
        return rate_at(t)

    def step(g: Array, s: SlotValues, p: Arrays, t: Time) -> tuple[Array, SlotValues]:
        mu, d = number(momentum, g), number(t.once(lr, jnp.finfo(g.dtype).dtype), g) * g
        trace = d + mu * s["trace"]
        return d + mu * trace if nesterov else trace, {"trace": trace}

    decay = WeightDecay(weight_decay, weight_decay_mask)
    return per_leaf("lars", {"trace": zeros_f32}, step, Included(rate_at), decay, trust=trust)
