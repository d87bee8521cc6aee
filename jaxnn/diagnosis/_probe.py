"""Short runs at multiples of the learning rate, for any optimizer."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnn import _checks as check
from jaxnn.train import Trainer, TrainState
from jaxnn.types import Batch, Data, Key


def scaled_step(trainer: Trainer, ts: TrainState, batch: Batch, scale: jax.Array) -> tuple[TrainState, jax.Array]:
    """One step whose update of the params is multiplied by `scale` -> (state, loss before the step).

    The slots of an optimizer depend on gradients alone. So for every optimizer whose update is proportional to its
    learning rate the step is that of the rate times `scale`, without access to the rate.

    Args:
      trainer: a Trainer.
      ts: state of training.
      batch: batch of the step.
      scale: number, >= 0.

    >>> import jaxnn as nn
    >>> t, u = (nn.trainer(nn.dense(1), nn.losses.squared_error, nn.adam(rate)) for rate in (0.1, 0.2))
    >>> batch = jnp.ones((4, 3)), jnp.zeros((4, 1))
    >>> ts, _ = scaled_step(t, t.init(jax.random.key(0), batch), batch, jnp.float32(2))
    >>> us, _ = u.step(u.init(jax.random.key(0), batch), batch)
    >>> bool(jnp.allclose(ts.params["w"], us.params["w"]))
    True
    """
    new, metrics = trainer.step(ts, batch)
    params = jax.tree.map(lambda p, q: p + scale.astype(p.dtype) * (q - p), ts.params, new.params)
    return new._replace(params=params), metrics["loss"].astype(jnp.float32)


def probe(
    trainer: Trainer, ts: TrainState, train: Data, scales: jax.Array, key: Key, *, steps: int, batch_size: int
) -> tuple[TrainState, jax.Array]:
    """Runs from one state at several multiples of the learning rate -> (final states, losses [scales, steps]).

    All runs see the same batches. Leaves of the states have an additional first axis.

    Args:
      trainer: a Trainer.
      ts: initial state.
      train: arrays with examples on axis 0.
      scales: multiples of the rate, [m].
      key: key of the order of the examples.
      steps: number of steps, >= 1.
      batch_size: examples per step, 1 <= batch_size <= n.

    >>> import jaxnn as nn
    >>> x = jax.random.normal(jax.random.key(1), (64, 3))
    >>> t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.sgd(1e-3))
    >>> ts = t.init(jax.random.key(0), (x, x[:, :1]))
    >>> _, losses = probe(t, ts, (x, x[:, :1]), jnp.array([1.0, 100.0]), jax.random.key(2), steps=50, batch_size=16)
    >>> bool(losses[1, -1] < 0.1 * losses[0, -1])
    True
    """
    n = check.examples("probe", "train", train)
    steps = check.count("probe", "steps", steps)
    batch_size = check.count("probe", "batch_size", batch_size, 1, n)
    each, train = n // batch_size, jax.tree.map(jnp.asarray, train)

    def run(scale: jax.Array) -> tuple[TrainState, jax.Array]:
        def step(ts: TrainState, i: jax.Array) -> tuple[TrainState, jax.Array]:
            order = jax.random.permutation(jax.random.fold_in(key, i // each), n)
            rows = jax.lax.dynamic_slice(order, (i % each * batch_size,), (batch_size,))
            return scaled_step(trainer, ts, jax.tree.map(lambda a: a[rows], train), scale)

        return jax.lax.scan(step, ts, jnp.arange(steps))

    return jax.lax.map(run, scales)
