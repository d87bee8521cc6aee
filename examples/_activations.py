"""Table of activations, each with the range of its formula and the gain of the weights before it."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

import jaxnn as nn

HE = 2**0.5  # a rectifier passes half of the variance on, so the weights have twice the variance


class Activation(NamedTuple):
    """A function, its range by the formula, and sqrt(d) times the standard deviation of the weights before it."""

    f: Callable
    low: str
    high: str
    gain: float = 1.0


TABLE = {
    "unit_step": Activation(nn.unit_step, "0", "1"),
    "sigmoid": Activation(nn.sigmoid, "0", "1"),
    "hard_sigmoid": Activation(nn.hard_sigmoid, "0", "1"),
    "tanh": Activation(nn.tanh, "-1", "1"),
    "hard_tanh": Activation(nn.hard_tanh, "-1", "1"),
    "softsign": Activation(nn.softsign, "-1", "1"),
    "relu": Activation(nn.relu, "0", "inf", HE),
    "relu6": Activation(nn.relu6, "0", "6", HE),
    "leaky_relu": Activation(nn.leaky_relu, "-inf", "inf", HE),
    "elu": Activation(nn.elu, "-1", "inf"),
    "celu": Activation(partial(nn.celu, alpha=0.5), "-0.5", "inf"),
    "selu": Activation(nn.selu, "-1.76", "inf"),
    "softplus": Activation(nn.softplus, "0", "inf"),
    "gelu": Activation(nn.gelu, "-0.17", "inf", HE),
    "silu": Activation(nn.silu, "-0.28", "inf", HE),
    "mish": Activation(nn.mish, "-0.31", "inf", HE),
    "hard_swish": Activation(nn.hard_swish, "-0.38", "inf", HE),
}
FUNCTIONS = [activation.f for activation in TABLE.values()]
GAINS = np.array([activation.gain for activation in TABLE.values()], np.float32)
