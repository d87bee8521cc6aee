"""Data parallelism with the step of each device written out: the program of one shard, by `jax.shard_map`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxnn import _checks as check
from jaxnn._calls import called_as
from jaxnn._errors import invalid
from jaxnn.sharding._checks import check_axis, check_divides, check_mesh, check_trainer, divides
from jaxnn.train import Trainer, TrainState
from jaxnn.types import Batch, Key, Metrics


def data_parallel(trainer: Trainer, mesh: Mesh, *, axis_name: str = "data") -> Trainer:
    """Trainer whose step runs on each device for a part of the batch, with all params on every device.

    The gradients of all parts are added once at the end of a step, g = Σ_d g_d. `nn.shard` without rules computes the
    same and leaves the place of the additions to the compiler. XLA's CPU compiler adds in each step of a loop, so that
    a recurrent layer over the cores of a CPU is faster by this function; see `nn.cores_as_devices`. Numbers are those
    on one device up to rounding, except for dropout: each device draws masks of its own.

    Args:
      trainer: a `Trainer` made with `axis_name=`, the name of the mesh axis. Layers of the model that combine examples
        need it, too: `nn.batch_norm(axis_name="data")`.
      mesh: the devices, from `nn.mesh("data=8")`, or another mesh of Auto axes.
      axis_name: mesh axis of the examples of a batch, which it must divide.

    Returns:
      A `Trainer` for `fit`, `drive` and `jit`. An evaluation of a batch that the mesh does not divide takes place as a
      whole on each device. `outcome` is None.

    Raises:
      TypeError: if an argument is of another type.
      ValueError: for a trainer with another axis name, a mesh without that axis, a batch that it does not divide, and a
        layer whose state differs between devices.

    Differences: PyTorch's DistributedDataParallel has a process for each device, and batch norms without
    synchronization keep the statistics of one.

    >>> import jaxnn as nn
    >>> import jax.numpy as jnp
    >>> t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.adam(0.1), axis_name="data")
    >>> t = data_parallel(t, nn.mesh("data=1"))
    >>> batch = jnp.ones((4, 3)), jnp.zeros((4, 1))
    >>> ts, _ = jax.jit(t.step, donate_argnums=0)(t.init(jax.random.key(0), batch), batch)
    >>> int(ts.step)
    1
    """
    check_mesh("data_parallel", mesh)
    check_axis("data_parallel", axis_name, mesh.shape)
    named = f"axis_name={axis_name!r}"
    check_trainer("data_parallel", trainer, axis_name, f"with {named}", f"nn.trainer(..., {named}).")
    whole, parts, n = PartitionSpec(), PartitionSpec(axis_name), mesh.shape[axis_name]

    def mapped(f: Callable[..., Any], batch: PartitionSpec = parts) -> Callable[..., Any]:
        spread = jax.shard_map(f, mesh=mesh, in_specs=(whole, batch), out_specs=whole)

        def called(ts: TrainState, batch: Batch) -> Any:
            try:
                return spread(ts, batch)
            except ValueError as error:
                if "replicat" not in str(error):
                    raise
                expected, told = "params and state that are equal on all devices", "some that may differ"
                fix = f"A layer that combines examples needs the axis, such as nn.batch_norm(axis_name={axis_name!r})."
                raise invalid("data_parallel", expected, told=told, fix=fix) from error

        return called

    def init(key: Key, batch: Batch, **known: Any) -> TrainState:
        return jax.jit(trainer.init, out_shardings=NamedSharding(mesh, whole))(key, batch, **known)

    def on_a_shard(ts: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        new, metrics = trainer.step(_with_own_key(ts, axis_name), batch)
        return new._replace(key=ts.key), metrics

    def step(ts: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        for path, x in jax.tree_util.tree_leaves_with_path(batch):
            name = f"batch[{jax.tree_util.keystr(path, simple=True, separator='/')}]"
            check_divides("data_parallel", name, x.shape, parts, mesh.shape)
        return mapped(on_a_shard)(ts, batch)

    def evaluate(ts: TrainState, batch: Batch, **how: bool) -> Any:
        spread = all(divides(x.shape, parts, mesh.shape) for x in jax.tree.leaves(batch))
        found = mapped(partial(trainer.evaluate, **how), parts if spread else whole)(ts, batch)
        if spread or not how.get("totals"):
            return found
        return jax.tree.map(lambda v: v / n, found)  # each device has the whole batch, so totals count it n times

    def gradients(ts: TrainState, batch: Batch) -> dict[str, Any]:
        known = trainer.gradients
        assert known is not None
        return mapped(lambda ts, batch: known(_with_own_key(ts, axis_name), batch))(ts, batch)

    made = trainer._replace(init=init, step=step, evaluate=evaluate, outcome=None)
    return called_as(made if trainer.gradients is None else made._replace(gradients=gradients), trainer)


def _with_own_key(ts: TrainState, axis_name: str) -> TrainState:
    """The state with a key that differs between the devices."""
    key = jax.random.fold_in(check.typed_key("data_parallel", ts.key), jax.lax.axis_index(axis_name))
    return ts._replace(key=jax.random.key_data(key))
