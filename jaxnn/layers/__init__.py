"""Layers with params, one file a family."""

from jaxnn.layers.activation import maxout, perceptron, prelu
from jaxnn.layers.conv import conv
from jaxnn.layers.linear import dense, embed, flatten
from jaxnn.layers.noise import dropout
from jaxnn.layers.norm import batch_norm
from jaxnn.layers.pool import avg_pool, max_pool

__all__ = [
    "avg_pool",
    "batch_norm",
    "conv",
    "dense",
    "dropout",
    "embed",
    "flatten",
    "max_pool",
    "maxout",
    "perceptron",
    "prelu",
]
