"""Training on a few examples until the loss is near zero."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn.diagnosis._probe import scaled_step
from jaxnn.train import Trainer, TrainState
from jaxnn.types import Batch


class Overfit(NamedTuple):
    """Result of `overfit_sample`.

    Attributes:
      losses: training loss before each step, [steps].
      step: first step with a loss of at most the fraction of the first one; -1 if there is none.
    """

    losses: jax.Array
    step: jax.Array


def overfit_sample(
    trainer: Trainer,
    ts: TrainState,
    sample: Batch,
    *,
    steps: int = 300,
    fraction: ArrayLike = 0.05,
    scale: ArrayLike = 1.0,
) -> Overfit:
    """Trains on a few examples alone: a correct model and loss reach almost zero; pure.

    Args:
      trainer: a Trainer.
      ts: initial state; it is not changed.
      sample: a few examples, such as 8, in the form of a batch.
      steps: number of steps, >= 1.
      fraction: fraction of the first loss that counts as fitted, > 0. Losses with a positive minimum, such as the
        cross-entropy of grey pixels, need a larger one.
      scale: multiple of the learning rate.

    Returns:
      The `Overfit`.

    Reference: Karpathy, A recipe for training neural networks, 2019.

    >>> import jaxnn as nn
    >>> x = jax.random.normal(jax.random.key(1), (8, 8))
    >>> t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.adam(0.1))
    >>> found = overfit_sample(t, t.init(jax.random.key(0), (x, x[:, :1])), (x, x[:, :1]))
    >>> bool(found.step > 0)
    True
    """
    steps = check.count("overfit_sample", "steps", steps)
    check.scalar("overfit_sample", "fraction", fraction, ends="()")
    check.scalar("overfit_sample", "scale", scale)
    factor = jnp.asarray(scale, jnp.float32)
    _, losses = jax.lax.scan(lambda ts, _: scaled_step(trainer, ts, sample, factor), ts, length=steps)
    fits = losses <= fraction * losses[0]
    return Overfit(losses, jnp.where(jnp.any(fits), jnp.argmax(fits), -1))
