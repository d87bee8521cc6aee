"""Gradient noise scale."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxnn import _checks as check
from jaxnn.train import Trainer, TrainState
from jaxnn.types import Batch, Data


def noise_scale(trainer: Trainer, ts: TrainState, data: Data, *, batch_size: int) -> jax.Array:
    """Gradient noise scale, the batch size up to which larger batches save steps, -> []:

        tr Σ / |G|²      (G, Σ: mean and covariance of the gradients of single examples)

    Both are unbiased estimates from the squared norms of the gradients of small batches and of all of them together.

    Args:
      trainer: a Trainer with `gradients`.
      ts: state of training.
      data: arrays of n examples, at least two batches; the rest is left out.
      batch_size: size of the small batches.

    Returns:
      The estimate; noisy, and negative if the gradient is 0 up to noise.

    Reference: McCandlish et al., An empirical model of large-batch training, 2018.

    >>> import jaxnn as nn
    >>> t = nn.trainer(nn.dense(1, bias=False), nn.losses.squared_error, nn.sgd(0.1))
    >>> data = jnp.ones((8, 1)), jnp.full((8, 1), 3.0)
    >>> noise_scale(t, t.init(jax.random.key(0), data), data, batch_size=2).item()  # equal examples
    0.0
    """
    n = check.examples("noise_scale", "data", data)
    small = check.count("noise_scale", "batch_size", batch_size, 1, max(1, n // 2))
    parts = n // small
    assert trainer.gradients is not None
    gradient = trainer.gradients
    batches = jax.tree.map(lambda a: a[: parts * small].reshape(parts, small, *a.shape[1:]), data)

    def add(carry: tuple[jax.Array, jax.Array], batch: Batch) -> tuple[tuple[jax.Array, jax.Array], None]:
        g = ravel_pytree(gradient(ts, batch))[0].astype(jnp.float32)
        return (carry[0] + g / parts, carry[1] + g @ g / parts), None

    one = jax.tree.map(lambda a: a[0], batches)
    size = sum(g.size for g in jax.tree.leaves(jax.eval_shape(gradient, ts, one)))
    (mean, norms), _ = jax.lax.scan(add, (jnp.zeros(size), jnp.zeros(())), batches)
    large = parts * small
    squared = mean @ mean
    signal = (large * squared - small * norms) / (large - small)
    return (norms - squared) / (1 / small - 1 / large) / signal
