"""Rows of layers without a nonlinearity, planted in models and absent from published ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diagnosis._nets import KEY, X, mlp

import jaxnn as nn
from jaxnn.diagnosis._affine import linear_stacks

IMAGES = X[:8].reshape(8, 2, 3, 1).repeat(4, 1).repeat(4, 2)
SERIES = X[:8].reshape(8, 3, 2)
SEPARABLE = nn.serial(nn.conv(8, 3), nn.relu, nn.depthwise_conv(3), nn.conv(8, 1), nn.relu, nn.flatten(), nn.dense(3))


def convs(between):
    return nn.serial(nn.conv(4, 3), between, nn.conv(4, 3), nn.relu, nn.flatten(), nn.dense(3))


# model, input, rows
CASES = {
    "mlp": (mlp(depth=2), X, []),
    "two dense": (nn.serial(nn.dense(8), nn.relu, nn.dense(8), nn.dense(3)), X, [("dense_1", "dense_2")]),
    "three dense": (
        nn.serial(nn.dense(8), nn.dense(8), nn.dense(8), nn.relu, nn.dense(3)),
        X,
        [("dense", "dense_1", "dense_2")],
    ),
    "logistic regression": (nn.dense(3), X, []),
    "all linear": (nn.serial(nn.dense(2), nn.dense(6)), X, [("dense", "dense_1")]),
    "bottleneck": (nn.serial(nn.dense(8), nn.relu, nn.dense(2), nn.dense(8), nn.relu, nn.dense(6)), X, []),
    "tanh": (nn.serial(nn.dense(8), nn.tanh, nn.dense(3)), X * 1e-3, []),
    "a user's activation": (nn.serial(nn.dense(8), lambda x: x * jax.nn.sigmoid(x), nn.dense(3)), X, []),
    "two convs": (convs(nn.batch_norm()), IMAGES, [("conv", "conv_1")]),
    "convs with relu": (convs(nn.relu), IMAGES, []),
    "convs with max_pool": (convs(nn.max_pool(2)), IMAGES, []),
    "separable": (SEPARABLE, IMAGES, []),
    "residual": (nn.serial(nn.dense(8), nn.residual(nn.serial(nn.dense(8), nn.relu, nn.dense(8))), nn.dense(3)), X, []),
    "transformer": (
        nn.serial(nn.dense(8), nn.sinusoidal_positions(), nn.encoder_block(2), lambda x: x.mean(1), nn.dense(3)),
        SERIES,
        [],
    ),
    "gru": (nn.serial(nn.dense(8), nn.gru(8), lambda x: x[:, -1], nn.dense(3)), SERIES, []),
    "embedding": (nn.serial(nn.embed(5, 4), lambda x: x.mean(1), nn.dense(3)), np.zeros((8, 3), np.int32), []),
}


@pytest.mark.parametrize("case", CASES)
def test_rows_of_layers(case):
    model, x, known = CASES[case]
    params, state = model.init(KEY, jnp.asarray(x[:8]))
    for seed in range(3):
        assert linear_stacks(model, params, state, jnp.asarray(x[:8]), jax.random.key(seed)) == known


# model, rows
WRAPPED = {
    "remat": (nn.serial(nn.remat(nn.dense(6)), nn.dense(6), nn.relu, nn.dense(3)), [("dense", "dense_1")]),
    "repeat": (nn.serial(nn.repeat(nn.serial(nn.dense(6), nn.dense(6), nn.relu), 2), nn.dense(3)), []),
    "padded": (nn.serial(nn.dense(6), nn.dense(6), nn.gru(4)), []),
}


@pytest.mark.parametrize("case", WRAPPED)
def test_layers_that_do_not_run_alone_are_not_judged(case):
    model, known = WRAPPED[case]
    x = jnp.asarray(X[:4])
    x = nn.Padded(x[:, None], jnp.ones(4, jnp.int32)) if case == "padded" else x
    params, state = model.init(KEY, x)
    assert linear_stacks(model, params, state, x, KEY) == known
