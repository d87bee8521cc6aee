"""The arithmetic on raw arrays, without params and without state."""

from jaxnn.ops.conv import conv, conv_transpose
from jaxnn.ops.norm import (
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    moments,
    normalize,
    rms_norm,
)
from jaxnn.ops.perceptron import perceptron_update
from jaxnn.ops.pool import (
    avg_pool,
    global_avg_pool,
    global_max_pool,
    lp_pool,
    max_pool,
    max_pool_with_indices,
    max_unpool,
)

__all__ = [
    "avg_pool",
    "conv",
    "conv_transpose",
    "global_avg_pool",
    "global_max_pool",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "lp_pool",
    "max_pool",
    "max_pool_with_indices",
    "max_unpool",
    "moments",
    "normalize",
    "perceptron_update",
    "rms_norm",
]
