"""The temperature of logits: its edges, its derivative, and the calibration error that it lowers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from _tiers import only

from jaxnn.metrics import calibration_temperature, expected_calibration_error

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2000, 5))
DRAWN = np.array([RNG.choice(5, p=p) for p in np.exp(X) / np.exp(X).sum(-1, keepdims=True)])  # calibrated at T = 1


@pytest.mark.parametrize("scale", only({4.0}, [1.0, 4.0]))
@pytest.mark.slow
def test_it_finds_the_scale_of_logits_and_lowers_the_calibration_error(scale):
    x, y = jnp.asarray(scale * X, jnp.float32), jnp.asarray(DRAWN)
    t, once = jax.jit(calibration_temperature)(x, y), calibration_temperature(jnp.asarray(X, jnp.float32), y)
    assert abs(once - 1) < 0.06  # twice the deviation of a draw of 2000
    assert_close(t, scale * once)
    if scale > 1:
        assert expected_calibration_error(x / t, y) < 0.2 * expected_calibration_error(x, y)


EDGES = {  # logits, labels, temperature
    "always right": ([[1.0, 0.0, 0.5]] * 3, [0, 0, 0], 1 / 1000),
    "always wrong": ([[1.0, 0.0, 0.5]] * 3, [1, 2, 1], 1000.0),
    "no information": ([[0.0, 0.0, 0.0]] * 3, [0, 1, 2], 1 / 1000),
    "a class without probability": ([[1.0, -np.inf, 0.0], [1.0, -np.inf, 0.0]], [0, 2], 1000.0),
    "a label without probability": ([[1.0, -np.inf, 0.0], [1.0, 0.0, 0.0]], [1, 0], np.nan),
    "a label out of range": ([[1.0, 0.0, 0.5]] * 3, [0, 1, 3], np.nan),
    "an undefined softmax": ([[1.0, np.nan, 0.5], [1.0, 0.0, 0.0]], [0, 1], np.nan),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", EDGES)
def test_edges(case):
    logits, labels, t = EDGES[case]
    found = calibration_temperature(jnp.asarray(logits, jnp.float32), jnp.asarray(labels))
    np.testing.assert_allclose(found, t, rtol=2e-5)


@pytest.mark.slow
def test_its_derivative_is_that_of_the_minimum(x64):
    x, y = jnp.asarray(3 * X[:40]), jnp.asarray(DRAWN[:40])
    gradient = jax.jit(jax.grad(calibration_temperature))(x, y)
    h = np.zeros((40, 5))
    h[7, 2] = 0.1
    numeric = (calibration_temperature(x + h, y) - calibration_temperature(x - h, y)) / 0.2
    np.testing.assert_allclose(gradient[7, 2], numeric, rtol=5e-3)
    np.testing.assert_allclose(
        (gradient * x).sum(), calibration_temperature(x, y), rtol=1e-5
    )  # T is homogeneous of degree 1 (Euler)
