"""LAMB: Adam with each array's update scaled to the norm of its parameter."""

from __future__ import annotations

import optax
from jax.typing import ArrayLike

from jaxnn._calls import recorded
from jaxnn.optimizers._adam import adam_rule
from jaxnn.optimizers._decay import WeightDecay
from jaxnn.optimizers._lift import per_leaf
from jaxnn.optimizers._trust_ratio import TrustRatio
from jaxnn.types import Mask


@recorded
def lamb(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-6,
    eps_root: ArrayLike = 0.0,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    """LAMB for every leaf, [...] -> [...]: Adam's direction, scaled to the norm of the parameter.

        u = m̂ / (sqrt(v̂ + eps_root) + eps) + λ p;   update = -lr |p| / |u| u       (factor 1 if |p| or |u| is 0)

    Every array moves by the fraction lr of its norm, so that one rate suits layers of different sizes. Use it for
    training with very large batches.

    Args:
      learning_rate: lr >= 0: a number, a traced scalar, or a schedule (updates so far -> rate).
      b1, b2, eps, eps_root: as in `adam`, but eps is 1e-6. Slots `mu` (m) and `nu` (v).
      weight_decay, mask: decoupled weight decay λ p, as in `adam`; the trust ratio scales it as well.

    Returns: an optimizer whose `update` requires params. It is not elementwise.

    Raises: ValueError for a number out of its range, TypeError for an argument of the wrong type. `update` raises
      ValueError without params.

    Differences: The formula is that of optax, without the paper's bounds of |p|. Keras's Lamb leaves weight decay out
      of the ratio; PyTorch has none. Norms do not overflow. The other numerical differences are those of `adam`.

    Reference: You et al., Large batch optimization for deep learning: training BERT in 76 minutes, 2020, Algorithm 2.

    >>> opt, p = lamb(0.5), jnp.array([3.0, 4.0])
    >>> update, _ = opt.update(jnp.array([1.0, -1.0]), opt.init(p), p)
    >>> [round(float(u), 3) for u in update]  # of norm lr |p| = 2.5
    [-1.768, 1.768]
    """
    slots, rule = adam_rule("lamb", b1, b2, eps, eps_root)
    decay = WeightDecay(weight_decay, mask, decoupled=True)
    return per_leaf("lamb", slots, rule, learning_rate, decay, trust=TrustRatio())
