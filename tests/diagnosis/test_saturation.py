"""Flat activations against their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diagnosis._nets import KEY, X

import jaxnn as nn
from jaxnn.diagnosis._outputs import arrays
from jaxnn.diagnosis._saturation import saturations

# activation, derivative in float64; None where it is not judged
CASES = {
    "tanh": (nn.tanh, lambda u: 1 - np.tanh(u) ** 2),
    "sigmoid": (nn.sigmoid, lambda u: np.exp(-np.abs(u)) / (1 + np.exp(-np.abs(u))) ** 2),
    "softsign": (nn.softsign, lambda u: 1 / (1 + np.abs(u)) ** 2),
    "a user's": (lambda x: jnp.tanh(x / 2), lambda u: (1 - np.tanh(u / 2) ** 2) / 2),
    "relu": (nn.relu, None),
    "softmax": (nn.softmax, None),
    "layer_norm": (nn.layer_norm(scale=False, bias=False), None),
}


@pytest.mark.parametrize("case", CASES)
def test_fractions_of_flat_outputs(case):
    activation, slope = CASES[case]
    for scale in (1.0, 5.0, 60.0):
        x = jnp.asarray(X * np.float32(scale))
        model = nn.serial(nn.dense(8), activation, nn.dense(3))
        params, state = model.init(KEY, x)
        inner = arrays(model, params, state, x)
        u = np.asarray(inner["dense"], np.float64)
        (found,) = saturations(model, params, state, x, inner).values() or (0,)
        known = 0 if slope is None else np.mean(slope(u) < 0.01)
        np.testing.assert_allclose(found, known, atol=0.01)


def test_the_last_activation_is_not_judged():
    model = nn.serial(nn.dense(8), nn.sigmoid)
    params, state = model.init(KEY, X)
    assert saturations(model, params, state, X, arrays(model, params, state, X)) == {}
    assert jax.tree.leaves(params)
