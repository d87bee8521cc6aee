"""The range test on a quadratic, whose losses are known at every step."""

import jax
import jax.numpy as jnp
import numpy as np
from diagnosis._nets import KEY

import jaxnn as nn
from jaxnn.diagnosis import RangeTest, range_test


def quadratic(rate):
    """p² / 2, so that a step of rate r multiplies p by 1 - r."""
    return nn.objective_trainer(
        lambda key, batch: ({"p": jnp.ones(())}, {}),
        lambda params, state, batch, *, key, train: (params["p"] ** 2 / 2 + 0 * jnp.sum(batch), (state, {})),
        nn.sgd(rate),
    )


def test_losses_are_those_of_the_growing_rate():
    t, data = quadratic(0.1), jnp.zeros(4)
    found = jax.jit(lambda ts: range_test(t, ts, data, KEY, low=1e-2, high=1e3, steps=60))(t.init(KEY, data))
    assert isinstance(found, RangeTest)
    scales = np.geomspace(1e-2, 1e3, 60)
    p = np.cumprod(np.concatenate([[1], 1 - 0.1 * scales[:-1]]))
    np.testing.assert_allclose(found.scales, scales, rtol=1e-4)
    np.testing.assert_allclose(found.losses, p**2 / 2, rtol=1e-2, atol=1e-7)
    average, known = 0.0, []
    for i, loss in enumerate(p**2 / 2):
        average = 0.9 * average + 0.1 * loss
        known.append(average / (1 - 0.9 ** (i + 1)))
    np.testing.assert_allclose(found.smooth, known, rtol=1e-2, atol=1e-7)
    assert found.lowest == found.scales[np.argmin(known)]
    assert found.steepest < found.lowest
