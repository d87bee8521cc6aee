"""Gradient accumulation by optax.MultiSteps: k steps of a batch are one step of k batches."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _close import assert_close

import jaxnn as nn

pytestmark = pytest.mark.usefixtures("optimized")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3)).astype(np.float32)
Y = np.tanh(X[:, :1])
KEY = jax.random.key(0)
MODEL = nn.serial(nn.dense(4), nn.tanh, nn.dense(1))


def trainer(k, lr=0.05):
    optimizer = nn.adam(lr) if k == 1 else optax.MultiSteps(nn.adam(lr), k)
    return nn.trainer(MODEL, nn.losses.squared_error, optimizer)


def same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


@pytest.mark.parametrize("k", [2, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_k_steps_are_one_step_of_k_batches(k):
    size = 24 // (2 * k)
    small = jax.jit(partial(nn.fit, trainer(k), epochs=3, batch_size=size))(KEY, (X, Y))
    large = jax.jit(partial(nn.fit, trainer(1), epochs=3, batch_size=k * size))(KEY, (X, Y))
    assert int(small.ts.step) == k * int(large.ts.step)
    assert int(small.ts.opt_state.gradient_step) == int(large.ts.step) == 6
    jax.tree.map(partial(assert_close, scale=1.0), small.ts.params, large.ts.params)
    # Between two updates the params stand still, so the losses of the small batches have the mean of the large one's.
    losses = small.history["train"]["loss"].reshape(3, 2, k).mean(axis=2)
    assert_close(losses, large.history["train"]["loss"])


@pytest.mark.slow
def test_rates_are_vmap_and_a_driven_run_has_the_bits_of_fit():
    how = {"epochs": 2, "batch_size": 6}

    def run(lr):
        return nn.fit(trainer(2, lr), KEY, (X, Y), **how)

    many = jax.jit(jax.vmap(run))(jnp.array([0.01, 0.05]))
    one = trainer(2)
    whole = jax.jit(partial(nn.fit, one, **how))(KEY, (X, Y))
    assert_close(many.ts.params["dense"]["w"][1], whole.ts.params["dense"]["w"], scale=1.0)
    assert same(whole, nn.drive(one, KEY, (X, Y), progress=False, **how))


def test_the_whole_state_can_be_donated():
    t = trainer(2)
    ts = t.init(KEY, (X, Y))
    new, _ = jax.jit(t.step, donate_argnums=0)(ts, (X, Y))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(ts))
    assert int(new.opt_state.mini_step) == 1


@pytest.mark.slow
def test_what_it_wraps_gets_what_it_asks_for():
    seen = {}

    def update(grads, state, params=None, *, value, **_):
        seen["value"] = value
        return grads, state

    inner = optax.GradientTransformationExtraArgs(lambda p: optax.EmptyState(), update)
    t = nn.trainer(MODEL, nn.losses.squared_error, optax.MultiSteps(inner, 2))
    t.step(t.init(KEY, (X, Y)), (X, Y))
    assert seen.keys() == {"value"}


@pytest.mark.slow
def test_a_run_within_a_cycle_is_saved_and_goes_on_to_the_last_bit(tmp_path):
    """Three uneven parts an epoch in cycles of two: the first epoch ends within one, with the count of its part."""
    t, parts = trainer(2), [slice(0, 5), slice(5, 9), slice(9, 24)]

    def feed(epoch):
        return [(X[part], Y[part]) for part in parts]

    drive = partial(nn.drive, t, KEY, feed, epochs=2, progress=False)
    whole = drive(checkpoint=tmp_path / "runs")
    first = nn.load(tmp_path / "runs" / "epoch-000001.safetensors")
    assert float(first.ts.opt_state.skip_state.count) == 15
    assert same(whole.ts, drive(run=first).ts)
    (tmp_path / "runs" / "epoch-000002.safetensors").unlink()
    assert same(whole.ts, drive(checkpoint=tmp_path / "runs").ts)
