"""The noise scale against the covariance of all gradients."""

import jax
import jax.numpy as jnp
import numpy as np
from diagnosis._nets import begun

import jaxnn as nn
from jaxnn.diagnosis import noise_scale


def test_noise_scale_is_that_of_the_covariance():
    x = np.random.default_rng(0).normal(size=(4000, 3)).astype(np.float32)
    y = x @ np.float32([[1.0], [2.0], [-1.0]])
    t = nn.trainer(nn.dense(1, bias=False), nn.losses.squared_error, nn.sgd(0.1))
    ts = begun(t, (x, y))
    g = 2 * x * (x @ np.asarray(ts.params["w"]) - y)  # gradients of the examples
    known = np.trace(np.cov(g.T.astype(np.float64))) / (g.mean(0) ** 2).sum()
    found = jax.jit(lambda ts: noise_scale(t, ts, (x, y), batch_size=4))(ts)
    np.testing.assert_allclose(found, known, rtol=0.1)
    gradients = jax.vmap(lambda a, b: t.gradients(ts, (a[None], b[None]))["w"][:, 0])(
        jnp.asarray(x[:50]), jnp.asarray(y[:50])
    )
    np.testing.assert_allclose(gradients, g[:50], rtol=1e-4, atol=1e-5)
