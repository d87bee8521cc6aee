"""Optimizers: one rule on one array each, lifted to trees as optax.GradientTransformationExtraArgs."""

from jaxnn.optimizers._adadelta import adadelta
from jaxnn.optimizers._adafactor import adafactor
from jaxnn.optimizers._adagrad import adagrad
from jaxnn.optimizers._adam import adam, adamw, amsgrad, nadam
from jaxnn.optimizers._adamax import adamax
from jaxnn.optimizers._by_path import by_path
from jaxnn.optimizers._flat import flat
from jaxnn.optimizers._lamb import lamb
from jaxnn.optimizers._lars import lars
from jaxnn.optimizers._lbfgs import lbfgs
from jaxnn.optimizers._lion import lion
from jaxnn.optimizers._low_precision import compensated, stochastic_rounding
from jaxnn.optimizers._muon import muon
from jaxnn.optimizers._quantized import quantized
from jaxnn.optimizers._radam import radam
from jaxnn.optimizers._rmsprop import rmsprop
from jaxnn.optimizers._rprop import rprop
from jaxnn.optimizers._sgd import sgd

__all__ = [
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "amsgrad",
    "by_path",
    "compensated",
    "flat",
    "lamb",
    "lars",
    "lbfgs",
    "lion",
    "muon",
    "nadam",
    "quantized",
    "radam",
    "rmsprop",
    "rprop",
    "sgd",
    "stochastic_rounding",
]
