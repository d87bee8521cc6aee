"""Steps and runs at multiples of the rate against optimizers of that rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diagnosis._nets import KEY, TARGET, X, begun, regressor

import jaxnn as nn
from jaxnn.diagnosis import probe, scaled_step

OPTIMIZERS = {
    "sgd": lambda rate: nn.sgd(rate, momentum=0.9),
    "adam": nn.adam,
    "adamw": nn.adamw,
    "lion": nn.lion,
    "muon": nn.muon,
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_scaled_steps_are_those_of_a_scaled_rate(name):
    slow, fast = (regressor(OPTIMIZERS[name](rate)) for rate in (1e-3, 4e-3))
    ts = us = begun(slow)
    us = us._replace(opt_state=begun(fast).opt_state)

    @jax.jit
    def both(ts, us):
        return scaled_step(slow, ts, (X, TARGET), jnp.float32(4))[0], fast.step(us, (X, TARGET))[0]

    for _ in range(3):
        ts, us = both(ts, us)
    for a, b in zip(jax.tree.leaves(ts.params), jax.tree.leaves(us.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_probe_visits_every_example_once_an_epoch():
    seen = nn.objective_trainer(
        lambda key, batch: ({"sum": jnp.zeros(())}, {}),
        lambda params, state, batch, *, key, train: (jnp.sum(batch) + 0 * params["sum"], (state, {})),
        nn.sgd(0.0),
    )
    data = jnp.float32(2) ** jnp.arange(12.0)
    _, losses = probe(seen, seen.init(KEY, data), data, jnp.ones(2), KEY, steps=8, batch_size=3)
    assert losses[:, :4].sum(1).tolist() == losses[:, 4:].sum(1).tolist() == [2.0**12 - 1] * 2
    assert losses[0].tolist() == losses[1].tolist()
    assert losses[0, :4].tolist() != losses[0, 4:].tolist()
