"""Layers with params, one file a family."""

from jaxnn.layers.activation import maxout, perceptron, prelu
from jaxnn.layers.conv import conv
from jaxnn.layers.linear import dense, embed, flatten
from jaxnn.layers.noise import dropout
from jaxnn.layers.norm import batch_norm, group_norm, instance_norm, layer_norm, rms_norm
from jaxnn.layers.pool import avg_pool, global_avg_pool, global_max_pool, lp_pool, max_pool

__all__ = [
    "avg_pool",
    "batch_norm",
    "conv",
    "dense",
    "dropout",
    "embed",
    "flatten",
    "global_avg_pool",
    "global_max_pool",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "lp_pool",
    "max_pool",
    "maxout",
    "perceptron",
    "prelu",
    "rms_norm",
]
