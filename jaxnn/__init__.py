"""Functional neural networks and whole training runs on JAX.

Layers, combinators, activations, optimizers and training are here; the other names live in their rooms: `nn.ops`,
`nn.losses`, `nn.metrics`, `nn.init`, `nn.data`.
"""

from jaxnn import data, init, losses, metrics, ops
from jaxnn.activations import gelu, relu, sigmoid, softmax, tanh
from jaxnn.capture import Tap, capture
from jaxnn.combinators import cast, parallel, remat, repeat, residual, serial, time_distributed
from jaxnn.layer import Layer, call, layer, lift, stateless
from jaxnn.layers import avg_pool, batch_norm, conv, dense, dropout, embed, flatten, max_pool
from jaxnn.optimizers import adadelta, adam, rmsprop, sgd
from jaxnn.summary import summary
from jaxnn.train import (
    Run,
    Trainer,
    TrainState,
    drive,
    fit,
    load,
    objective_trainer,
    predict,
    save,
    trainer,
)

__version__ = "0.1.0"

__all__ = [
    "Layer",
    "Run",
    "Tap",
    "TrainState",
    "Trainer",
    "adadelta",
    "adam",
    "avg_pool",
    "batch_norm",
    "call",
    "capture",
    "cast",
    "conv",
    "data",
    "dense",
    "drive",
    "dropout",
    "embed",
    "fit",
    "flatten",
    "gelu",
    "init",
    "layer",
    "lift",
    "load",
    "losses",
    "max_pool",
    "metrics",
    "objective_trainer",
    "ops",
    "parallel",
    "predict",
    "relu",
    "remat",
    "repeat",
    "residual",
    "rmsprop",
    "save",
    "serial",
    "sgd",
    "sigmoid",
    "softmax",
    "stateless",
    "summary",
    "tanh",
    "time_distributed",
    "trainer",
]
