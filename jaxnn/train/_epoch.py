"""The steps of an epoch in one loop, with a traced number of steps, and a stop at the first non-finite loss."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnn._keys import fold_name
from jaxnn._mesh import taken
from jaxnn.train._plan import Plan
from jaxnn.train._trainer import TrainState, typed
from jaxnn.train._while import bounded_while
from jaxnn.types import Arrays, Batch, Data, Key, Metrics


class Ordered(NamedTuple):
    """Data [n, ...] with a fixed order: the indices of the examples of each batch, [steps, batch]."""

    data: Data
    order: Any


class Whole(NamedTuple):
    """One batch, used unchanged, which is sharded over devices."""

    batch: Batch


def steps_in(plan: Plan, data: Data) -> int:
    """Number of batches in the data."""
    if isinstance(data, Ordered):
        return data.order.shape[0]
    if isinstance(data, Whole):
        return 1
    n = jax.tree.leaves(data)[0].shape[0]
    return n // (plan.batch_size or n)


def take_steps(
    plan: Plan, ts: TrainState, data: Data, epoch: jax.Array, count: jax.Array, going: jax.Array, like: Metrics
) -> tuple[TrainState, Metrics, jax.Array]:
    """The first `count` steps of an epoch; if one of them fails the state is returned unchanged.

    Args:
      plan: the plan of the run.
      ts: the state.
      data: arrays, `Ordered` or `Whole`.
      epoch: number of the epoch.
      count: number of steps.
      going: False takes no step, for members of a batch of runs that have stopped.
      like: metric name -> an array of its dtype.

    Returns:
      The state; the metrics, [steps], NaN for steps not taken; and the number of the failing step, -1 for none. A step
      fails if its loss is not finite. If params that were finite are not finite after all steps, the last step fails.
    """
    batch = batches(plan, ts, data, epoch)

    def more(carry: tuple[Any, ...]) -> jax.Array:
        i, _, _, broke = carry
        return (i < count) & for_any(broke < 0)

    def step(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        i, now, rows, broke = carry
        whole = broke < 0  # a failed member continues until all have stopped; its results are ignored
        now, metrics = take_step(plan, now, batch(i))
        rows = {name: row.at[i].set(jnp.where(whole, metrics[name], jnp.nan)) for name, row in rows.items()}
        return i + 1, now, rows, jnp.where(whole & ~jnp.isfinite(metrics["loss"]), i, broke)

    rows = {name: jnp.full(steps_in(plan, data), jnp.nan, m.dtype) for name, m in like.items()}
    none = jnp.full((), -1, jnp.int32)
    begun = (jnp.zeros((), jnp.int32), ts, rows, none)
    _, now, rows, broke = bounded_while(more, step, begun, steps_in(plan, data))
    broke = jnp.where((broke < 0) & spoiled(ts.params, now.params), count - 1, broke)
    kept = going & (broke < 0)
    now = jax.tree.map(lambda new, old: jnp.where(kept, new, old), now, ts)
    rows = {name: jnp.where(going, row, jnp.nan) for name, row in rows.items()}
    return now, rows, jnp.where(going & (broke >= 0), ts.step + broke, none)


def take_step(plan: Plan, ts: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """One step on an augmented batch."""
    return plan.trainer.step(ts, augmented(plan, ts.key, batch, ts.step))


def batches(plan: Plan, ts: TrainState, data: Data, epoch: jax.Array) -> Callable[[jax.Array], Any]:
    """Function of the step number that returns the batch, in the given order or in the random order of the epoch."""
    if isinstance(data, Whole):
        return lambda i: data.batch
    if isinstance(data, Ordered):
        data, order = data
    elif plan.batch_size is None:
        return lambda i: data
    else:
        order = order_of(plan, ts.key, data, epoch)
    if len(order) == 1:  # else XLA reads the only batch before the loop, which changes the rounding of later operations
        order = jnp.concatenate([order, order])
    return lambda i: taken(data, order[i], plan.train_spread)


def order_of(plan: Plan, key: Key, data: Data, epoch: Any) -> jax.Array:
    """Indices of the examples of each batch of an epoch, [steps, batch], drawn from the run's key and the epoch."""
    n, steps = jax.tree.leaves(data)[0].shape[0], steps_in(plan, data)
    key = jax.random.fold_in(fold_name(typed(key), "order"), epoch)  # type: ignore[arg-type]
    size = plan.batch_size or n
    order = jax.random.permutation(key, n) if plan.batch_size else jnp.arange(n)
    return order[: steps * size].reshape(steps, size)


def augmented(plan: Plan, key: Key, batch: Batch, step: Any = 0) -> Arrays:
    """The augmented batch, with a key derived from the run's key and the step number, independent of the pieces."""
    if plan.augment is None:
        return batch
    return plan.augment(jax.random.fold_in(fold_name(typed(key), "augment"), step), batch)  # type: ignore[arg-type]


def spoiled(before: Arrays, after: Arrays) -> jax.Array:
    """True if an array that was finite in `before` is not finite in `after`."""
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return reduce(jnp.logical_or, [finite(a) & ~finite(b) for a, b in pairs], jnp.zeros((), bool))


def finite(x: jax.Array) -> jax.Array:
    """True if all elements of an array are finite."""
    return jnp.all(jnp.isfinite(x))


@jax.custom_batching.custom_vmap
def for_any(going: jax.Array) -> jax.Array:
    """Loop condition: under vmap True as long as any member continues.

    With a condition batched by vmap, the loop would select every array of its state in each iteration. Instead, the
    results of stopped members are masked once, at the end.
    """
    return going


@for_any.def_vmap
def _(size: int, mapped: list[bool], going: jax.Array) -> tuple[jax.Array, bool]:
    return for_any(jnp.any(going, axis=0)), False
