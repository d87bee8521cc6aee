"""Batches of several processes, of which each reads its own part."""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxnn import _checks as check
from jaxnn._errors import invalid
from jaxnn.sharding._checks import check_divides, check_mesh, size_of, spec_of_batch
from jaxnn.types import Batch


def global_batch(part: Batch, mesh: Mesh, batch_size: int, *, batch: PartitionSpec | None = None) -> Batch:
    """The batch of all processes from the part of this process: arrays [n, ...] -> arrays [batch_size, ...].

    After `jax.distributed.initialize` several processes run one program, each on its own devices. Each process reads
    the examples of its devices; nothing is sent. With a mesh of all devices along "data", process i of k has the rows
    from i · batch_size / k on. Processes whose devices hold the same rows, such as those of a mesh axis "model", give
    equal parts. All processes need the same number of batches.

    Args:
      part: arrays with examples on axis 0, in nested containers. If the steps of a sequence are spread over processes,
        too, those of this process.
      mesh: the mesh of `nn.shard`, with devices of each process.
      batch_size: examples of the whole batch, over all processes, >= 1. A process does not see the parts of the
        others: each compares its own part with this number.
      batch: as in `nn.shard`.

    Returns:
      The batch, of global arrays, for the functions of a sharded trainer. With one process it is `part`, spread over
      the devices.

    Raises:
      TypeError: if an argument is of another type, or the mesh has Explicit axes.
      ValueError: if the mesh does not divide an axis of the batch, has no device of this process, or `part` has fewer
        or more examples than its devices hold.

    Differences: `jax.make_array_from_process_local_data` computes the size of the batch from the part: processes whose
    parts differ would have different batches. PyTorch keeps one tensor for each process (DistributedSampler).

    >>> import jaxnn as nn
    >>> x, y = global_batch((np.ones((4, 3)), np.zeros(4)), nn.mesh("data=1"), batch_size=4)
    >>> x.shape, tuple(x.sharding.spec)
    ((4, 3), ('data', None))
    """
    check.examples("global_batch", "part", part)
    check_mesh("global_batch", mesh)
    batch_size = check.count("global_batch", "batch_size", batch_size)
    spec = spec_of_batch("global_batch", mesh, batch)
    index = jax.process_index()
    if not mesh.local_devices:
        raise invalid("global_batch", "mesh to have devices of each process", told=f"none of process {index}")

    def whole(path: Any, x: Any) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        axes = PartitionSpec(*spec[: x.ndim], *[None] * (x.ndim - len(spec)))
        sharding = NamedSharding(mesh, axes)
        parts = tuple(size_of(names, mesh.shape) for names in axes)
        here = _parts_here(sharding, parts)
        lengths = [n * of // own for n, of, own in zip(x.shape, parts, here, strict=True)]
        shape = (batch_size, *lengths[1:])
        check_divides("global_batch", f"batch[{name}]", shape, axes, mesh.shape)
        if len(x) * parts[0] != batch_size * here[0]:
            expected = f"{batch_size * here[0] // parts[0]} of the {batch_size} examples in process {index}"
            raise invalid("global_batch", expected, told=f"part[{name}] of shape {list(x.shape)}")
        return jax.make_array_from_process_local_data(sharding, x, shape)

    return jax.tree_util.tree_map_with_path(whole, part)


def _parts_here(sharding: NamedSharding, parts: tuple[int, ...]) -> list[int]:
    """The number of parts of each axis that the devices of this process hold."""
    held: list[Any] = list(sharding.addressable_devices_indices_map(parts).values())
    return [len({slices[axis].start for slices in held}) for axis in range(len(parts))]
