"""Activation functions: array -> array of equal dtype and, except for `glu`, equal shape; options are keywords.

x must be floating (float64, float32, bfloat16 or float16). Otherwise TypeError is raised, because an integer input is
usually an image that was not scaled. Arithmetic is done in at least float32 and rounded once. Derivatives are finite
for every finite x and take their limits at ±inf; at a kink they are one-sided, usually those of the flat side (see each
function). Numeric options are scalars. They may be traced and are differentiable, so they can be swept and learned.
"""

from jaxnn.activations._along_axes import log_softmax, softmax, standardize
from jaxnn.activations._gates import gelu, glu, hard_swish, mish, silu, swish
from jaxnn.activations._rectifiers import (
    celu,
    elu,
    hard_shrink,
    leaky_relu,
    log_sigmoid,
    relu,
    relu6,
    selu,
    soft_shrink,
    softplus,
    thresholded_relu,
)
from jaxnn.activations._saturating import hard_sigmoid, hard_tanh, sigmoid, softsign, tanh, unit_step

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "hard_shrink",
    "hard_sigmoid",
    "hard_swish",
    "hard_tanh",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softmax",
    "softplus",
    "softsign",
    "standardize",
    "swish",
    "tanh",
    "thresholded_relu",
    "unit_step",
]
