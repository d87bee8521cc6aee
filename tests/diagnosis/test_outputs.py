"""Statistics of outputs against NumPy, for all layers of models that repeat and share layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from diagnosis._nets import KEY, X, mlp

import jaxnn as nn
from jaxnn.diagnosis import observe, outputs
from jaxnn.diagnosis._outputs import ordered, with_params

# array, fraction of saturated elements
SATURATED = {
    "tanh": ([[-0.999, 0.5], [0.0, 0.995]], 0.5),
    "sigmoid": ([[0.001, 0.5], [0.4, 0.2]], 0.25),
    "rectified": ([[0.0, 0.5], [0.999, 0.2]], 0),
    "linear": ([[0.999, -3.0]], 0),
}


@pytest.mark.parametrize("case", SATURATED)
def test_saturated_elements(case):
    y, known = SATURATED[case]
    assert observe(jnp.float32(y)).saturated == known


def test_statistics_are_those_of_numpy():
    y = np.maximum(X.reshape(8, 12, 6) - 1, 0)
    y[..., 2] = 0
    found = observe(jnp.asarray(y))
    assert_close(found.mean, y.mean(dtype=np.float64), dtype="float32")
    assert_close(found.std, y.std(dtype=np.float64), dtype="float32")
    assert_close(found.size, np.sqrt((y.astype(np.float64) ** 2).mean()), dtype="float32")
    assert_close(found.zeros, (y == 0).mean(), dtype="float32")
    assert_close(found.dead, 1 / 6, dtype="float32")


BLOCK = nn.residual(nn.serial(nn.layer_norm(), nn.dense(6)))
MODELS = {
    "mlp": (mlp(), X, ["dense", "tanh", "dense_1"], ["dense", "dense_1"]),
    "one layer": (nn.dense(3), X, [""], [""]),
    "labels": (nn.serial(nn.embed(5, 2), nn.flatten()), np.zeros((4, 3), np.int32), ["embed", "flatten"], ["embed"]),
    "sequence": (
        nn.serial(nn.gru(4), lambda x: x[:, -1], nn.dense(2)),
        X.reshape(32, 3, 6),
        ["gru", "lift", "dense"],
        ["gru", "dense"],
    ),
}


@pytest.mark.parametrize("case", MODELS)
def test_paths_are_in_the_order_of_calls(case):
    model, x, names, inner = MODELS[case]
    params, state = model.init(KEY, x)
    found = outputs(model, params, state, x, key=KEY, train=True)
    assert list(found) == names
    sorts = jax.eval_shape(lambda p, s: outputs(model, p, s, x), params, state)  # as every transformation does
    assert list(ordered(sorts, names)) == names
    assert with_params(model, params, state, x) == inner


@pytest.mark.slow
def test_a_repeated_block_is_described():
    model = nn.serial(nn.dense(6), nn.repeat(BLOCK, 3), nn.dense(2))
    params, state = model.init(KEY, X)
    found = outputs(model, params, state, X)
    assert list(found) == ["dense", "serial", "serial/layer_norm", "serial/dense", "dense_1"]
    assert all(np.isfinite(v.std) for v in found.values())
