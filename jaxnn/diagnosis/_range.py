"""Learning-rate range test."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn.diagnosis._probe import scaled_step
from jaxnn.train import Trainer, TrainState
from jaxnn.types import Data, Key


class RangeTest(NamedTuple):
    """Result of `range_test`.

    Attributes:
      scales: multiples of the learning rate, [steps], increasing.
      losses: training loss before each step, [steps].
      smooth: exponential average of the losses, [steps]; NaN after the first non-finite one.
      steepest: multiple at which the smoothed loss falls fastest per decade, a usual choice.
      lowest: multiple at which the smoothed loss is lowest; the rate must be below.
    """

    scales: jax.Array
    losses: jax.Array
    smooth: jax.Array
    steepest: jax.Array
    lowest: jax.Array


def range_test(
    trainer: Trainer,
    ts: TrainState,
    train: Data,
    key: Key,
    *,
    low: ArrayLike = 1e-3,
    high: ArrayLike = 1e3,
    steps: int = 200,
    batch_size: int = 64,
    smoothing: ArrayLike = 0.9,
) -> RangeTest:
    """One run whose learning rate grows exponentially, from `low` to `high` times that of the trainer; pure.

    The smoothed loss is a debiased exponential average. The function is traceable, so several seeds are a `vmap`.

    Args:
      trainer: a Trainer, with any optimizer whose update is proportional to its rate.
      ts: initial state; it is not changed.
      train: arrays with examples on axis 0.
      key: key of the order of the examples.
      low, high: first and last multiple, > 0.
      steps: number of steps, >= 2.
      batch_size: examples per step.
      smoothing: weight of the past in the average, in [0, 1).

    Returns:
      The `RangeTest`.

    Differences: PyTorch Lightning's `lr_find` and fastai's `lr_find` take a rate instead of a multiple and change the
      optimizer.

    Reference: Smith, Cyclical learning rates for training neural networks, 2017.

    >>> import jaxnn as nn
    >>> x = jax.random.normal(jax.random.key(1), (256, 3))
    >>> t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.sgd(1e-2))
    >>> ts = t.init(jax.random.key(0), (x, x[:, :1]))
    >>> found = range_test(t, ts, (x, x[:, :1]), jax.random.key(2))
    >>> bool(found.steepest < found.lowest)
    True
    """
    steps = check.count("range_test", "steps", steps, 2)
    n = check.examples("range_test", "train", train)
    train = jax.tree.map(jnp.asarray, train)
    size = min(n, check.count("range_test", "batch_size", batch_size))
    check.scalar("range_test", "low", low, ends="()")
    check.scalar("range_test", "high", high, ends="()")
    check.scalar("range_test", "smoothing", smoothing, below=1.0)
    exponents = jnp.linspace(jnp.log(jnp.float32(low)), jnp.log(jnp.float32(high)), steps)

    def step(ts: TrainState, at: tuple[jax.Array, jax.Array]) -> tuple[TrainState, jax.Array]:
        i, scale = at
        rows = jax.random.choice(jax.random.fold_in(key, i), n, (size,), replace=False)
        return scaled_step(trainer, ts, jax.tree.map(lambda a: a[rows], train), scale)

    scales = jnp.exp(exponents)
    _, losses = jax.lax.scan(step, ts, (jnp.arange(steps), scales))
    decay = jnp.asarray(smoothing, jnp.float32)
    _, raw = jax.lax.scan(lambda m, v: (decay * m + (1 - decay) * v,) * 2, jnp.zeros(()), losses)
    smooth = raw / -jnp.expm1(jnp.arange(1.0, steps + 1) * jnp.log(decay))
    slope = jnp.asarray(jnp.gradient(smooth))
    lowest = jnp.nanargmin(jnp.where(jnp.isfinite(smooth), smooth, jnp.inf))
    before = jnp.isfinite(slope) & (jnp.arange(steps) < lowest)
    steepest = jnp.argmin(jnp.where(before, slope, jnp.inf))
    return RangeTest(scales, losses, smooth, scales[steepest], scales[lowest])
