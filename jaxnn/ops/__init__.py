"""The arithmetic on raw arrays, without params and without state."""

from jaxnn.ops.conv import conv
from jaxnn.ops.norm import moments, normalize
from jaxnn.ops.perceptron import perceptron_update
from jaxnn.ops.pool import avg_pool, max_pool

__all__ = ["avg_pool", "conv", "max_pool", "moments", "normalize", "perceptron_update"]
