"""One training run over a mesh of devices: data, fully sharded, tensor, expert, pipeline and sequence parallel."""

from jaxnn.sharding._axes import mesh
from jaxnn.sharding._data_parallel import data_parallel
from jaxnn.sharding._processes import global_batch
from jaxnn.sharding._rules import expert_parallel, fsdp, pipeline, tensor_parallel
from jaxnn.sharding._shard import shard

__all__ = [
    "data_parallel",
    "expert_parallel",
    "fsdp",
    "global_batch",
    "mesh",
    "pipeline",
    "shard",
    "tensor_parallel",
]
