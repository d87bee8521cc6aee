"""Symmetric initialisations of models that are trained for a few steps."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tiers import only
from diagnosis._nets import CE, X, Y

import jaxnn as nn
from jaxnn.diagnosis import gradient_sizes
from jaxnn.diagnosis._rules_model import symmetric_paths
from jaxnn.diagnosis._symmetry import symmetries

IMAGES = X.reshape(96, 3, 2, 1)
SERIES = X.reshape(96, 3, 2)
ZERO, SAME = {"w_init": nn.init.zeros}, {"w_init": partial(nn.init.constant, value=0.1)}


def mlp(first, last, activation=nn.relu):
    return nn.serial(nn.dense(8), nn.relu, nn.dense(8, **first), activation, nn.dense(3, **last))


def cnn(first, last):
    return nn.serial(nn.conv(4, 2), nn.relu, nn.conv(4, 2, **first), nn.relu, nn.flatten(), nn.dense(3, **last))


def gru(first, last):
    inits = {f"{name}_init": first.get("w_init") for name in ("w_x", "w_h")}
    return nn.serial(nn.gru(8, **inits), lambda x: x[:, -1], nn.dense(3, **last))


# model, inputs, matrices whose units stay equal
CASES = {
    "healthy mlp": (mlp({}, {}), X, []),
    "last layer 0": (mlp({}, ZERO), X, []),
    "hidden layer 0": (mlp(ZERO, {}), X, ["dense_1/w"]),
    "hidden layer 0 that trains": (mlp(ZERO, {}, nn.tanh), X, []),
    "all 0": (mlp(ZERO, ZERO), X, ["dense_1/w", "dense_2/w"]),
    "all 0.1": (mlp(SAME, SAME, nn.tanh), X, ["dense_1/w"]),
    "conv 0": (cnn(ZERO, {}), IMAGES, ["conv_1/w"]),
    "conv, last layer 0": (cnn({}, ZERO), IMAGES, []),
    "gru 0 that trains": (gru(ZERO, {}), SERIES, []),
    "gru, last layer 0": (gru({}, ZERO), SERIES, []),
    "gru, all 0": (gru(ZERO, ZERO), SERIES, ["dense/w", "gru/w_h", "gru/w_x"]),
    "gru, all 0.1": (gru(SAME, SAME), SERIES, ["gru/w_h", "gru/w_x"]),
    "residual branch 0": (
        nn.serial(nn.dense(8), nn.residual(nn.serial(nn.dense(8), nn.relu, nn.dense(8, **ZERO))), nn.dense(3)),
        X,
        [],
    ),
}


@pytest.mark.parametrize("case", only({"hidden layer 0", "last layer 0", "conv 0", "gru, all 0.1"}, CASES))
@pytest.mark.slow
def test_units_that_stay_equal(case):
    model, x, known = CASES[case]
    trainer = nn.trainer(model, CE, nn.adam(1e-3))

    @jax.jit
    def few_steps(key, batch):
        ts = start = trainer.init(key, batch)
        for _ in range(3):
            ts, _ = trainer.step(ts, batch)
        sizes = [gradient_sizes(trainer, s, batch) for s in (start, ts)]
        return symmetries(start.params, ts.params, sizes[0]), sizes

    for seed in range(3):
        found, sizes = few_steps(jax.random.key(seed), (x, Y))
        looks = [SimpleNamespace(gradients=of) for of in sizes]
        stuck = symmetric_paths(SimpleNamespace(symmetry=found, first=looks[0], slow=looks[1]))
        assert sorted(stuck) == known


def test_the_value_of_equal_weights():
    before = {"a": jnp.full((2, 6), 0.5), "b": jnp.repeat(jnp.arange(2.0)[:, None], 3, axis=1), "c": jnp.zeros(3)}
    found = symmetries(before, before, before)
    assert sorted(found) == ["a", "b"]
    assert found["a"].value == 0.5
    assert np.isnan(found["b"].value)
    assert not found["a"].moved
