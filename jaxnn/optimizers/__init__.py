"""Optimizers: one rule on one array each, lifted to trees as optax.GradientTransformationExtraArgs."""

from jaxnn.optimizers.adadelta import adadelta
from jaxnn.optimizers.adagrad import adagrad
from jaxnn.optimizers.adam import adam
from jaxnn.optimizers.groups import by_path
from jaxnn.optimizers.rmsprop import rmsprop
from jaxnn.optimizers.sgd import sgd

__all__ = ["adadelta", "adagrad", "adam", "by_path", "rmsprop", "sgd"]
