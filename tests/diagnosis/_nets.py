"""Small models and data for the tests of diagnosis."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxnn as nn

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
X = RNG.normal(size=(96, 6)).astype(np.float32)
Y = (X @ RNG.normal(size=(6, 3))).argmax(1).astype(np.int32)
TARGET = np.tanh(X[:, :1])
CE = nn.losses.softmax_cross_entropy


def mlp(*last, units=3, activation=nn.tanh, depth=1, width=8):
    hidden = [layer for _ in range(depth) for layer in (nn.dense(width), activation)]
    return nn.serial(*hidden, nn.dense(units), *last)


def regressor(optimizer=None, **settings):
    return nn.trainer(mlp(units=1), nn.losses.squared_error, optimizer or nn.sgd(0.1), **settings)


def begun(trainer, batch=(X, TARGET)):
    return trainer.init(KEY, jax.tree.map(jnp.asarray, batch))
