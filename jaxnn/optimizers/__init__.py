"""Optimizers: one rule on one array each, lifted to trees as optax.GradientTransformationExtraArgs."""

from jaxnn.optimizers.adadelta import adadelta
from jaxnn.optimizers.adagrad import adagrad
from jaxnn.optimizers.adam import adam, adamw, amsgrad, nadam
from jaxnn.optimizers.adamax import adamax
from jaxnn.optimizers.flat import flat
from jaxnn.optimizers.groups import by_path
from jaxnn.optimizers.lion import lion
from jaxnn.optimizers.low_precision import compensated, stochastic_rounding
from jaxnn.optimizers.quantized import quantized
from jaxnn.optimizers.radam import radam
from jaxnn.optimizers.rmsprop import rmsprop
from jaxnn.optimizers.rprop import rprop
from jaxnn.optimizers.sgd import sgd

__all__ = [
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "amsgrad",
    "by_path",
    "compensated",
    "flat",
    "lion",
    "nadam",
    "quantized",
    "radam",
    "rmsprop",
    "rprop",
    "sgd",
    "stochastic_rounding",
]
