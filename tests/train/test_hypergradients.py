"""Derivatives of a whole run with respect to rates, data and weights of data, against float64 finite differences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn

RNG = np.random.default_rng(0)
X, KEY = RNG.normal(size=(12, 3)), jax.random.key(0)
Y, W = np.tanh(X[:, :1]), RNG.uniform(0.5, 2, 12)
OPTIMIZERS = {
    "sgd": nn.sgd,
    "momentum": partial(nn.sgd, momentum=0.9),
    "adam": nn.adam,
    "rmsprop": nn.rmsprop,
    "rmsprop as torch": partial(nn.rmsprop, preset="torch"),
    "adagrad": partial(nn.adagrad, initial_accumulator_value=0.0, eps_in_sqrt=False),
    "amsgrad": nn.amsgrad,
    "adadelta": nn.adadelta,
    "nadam": nn.nadam,
}


DEEP = nn.serial(nn.dense(4), nn.tanh, nn.dense(1))
SMALL = {"model": nn.dense(1), "batch_size": None}  # compiles sooner


def outcome(optimizer, rate, x, w, model=DEEP, batch_size=4, patience=None):
    """The last validation loss of a run whose optimizer closes over its rate."""
    t = nn.trainer(model, nn.losses.squared_error, optimizer(rate))
    y = jnp.asarray(Y, x.dtype)
    run = nn.fit(t, KEY, (x, y, w), (x, y), epochs=3, batch_size=batch_size, patience=patience)
    return run.history["valid"]["loss"][-1]


def difference(f, x, direction, h=1e-5):
    """The central difference along a direction."""
    return (f(x + h * direction) - f(x - h * direction)) / (2 * h)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_has_the_gradients_of_its_finite_differences(x64, name):
    f = partial(outcome, OPTIMIZERS[name])
    rate, x, w = jnp.asarray(0.05), jnp.asarray(X), jnp.asarray(W)
    both = jax.jit(jax.value_and_grad(f, (0, 1, 2)))
    grads, value = both(rate, x, w)[1], lambda *args: both(*args)[0]
    u, v = RNG.normal(size=X.shape), RNG.normal(size=W.shape)
    np.testing.assert_allclose(grads[0], difference(lambda r: value(r, x, w), rate, 1.0), rtol=1e-4)
    np.testing.assert_allclose((grads[1] * u).sum(), difference(lambda a: value(rate, a, w), x, u), rtol=1e-4)
    np.testing.assert_allclose((grads[2] * v).sum(), difference(lambda a: value(rate, x, a), w, v), rtol=1e-4)


@pytest.mark.slow
def test_all_ways_to_a_gradient_agree(x64):
    f = lambda rate: outcome(nn.adam, rate, jnp.asarray(X), jnp.asarray(W), **SMALL)  # noqa: E731
    rates = jnp.array([0.01, 0.05])
    expected = jax.jit(jax.jacfwd(f))(rates[1])
    ways = {
        "grad": jax.grad(f),
        "jit of grad": jax.jit(jax.grad(f)),
        "grad of jit": jax.grad(jax.jit(f)),
        "remat": jax.jit(jax.grad(jax.checkpoint(f))),
        "vmap of grad": lambda rate: jax.jit(jax.vmap(jax.grad(f)))(rates)[1],
        "grad of vmap": jax.jit(jax.grad(lambda rate: jax.vmap(f)(jnp.stack([rates[0], rate]))[1])),
    }
    for name, way in ways.items():
        np.testing.assert_allclose(way(rates[1]), expected, rtol=1e-9, err_msg=name)
    curvature = jax.jit(jax.grad(jax.grad(f)))(rates[1])
    np.testing.assert_allclose(curvature, difference(ways["jit of grad"], rates[1], 1.0), rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adam", "adagrad", "rmsprop as torch"])
def test_units_that_are_dead_leave_the_gradient_finite(name):
    """A coordinate without any gradient has a second moment of 0, and the derivative of the root is inf there."""
    model = nn.serial(nn.dense(4), lambda x: nn.relu(x - 100), nn.dense(1))
    f = partial(outcome, OPTIMIZERS[name], model=model, batch_size=None)
    x, w = jnp.asarray(X, jnp.float32), jnp.asarray(W, jnp.float32)
    grads = jax.jit(jax.grad(f, (0, 1, 2)))(jnp.float32(0.05), x, w)
    assert all(bool(jnp.isfinite(g).all()) for g in grads)


@pytest.mark.slow
def test_steps_computed_again_take_less_memory_and_have_the_gradient():
    def f(rate, again):
        t = nn.trainer(nn.serial(nn.dense(64), nn.tanh, nn.dense(1)), nn.losses.squared_error, nn.sgd(rate))
        t = t._replace(step=jax.checkpoint(t.step)) if again else t
        x = jnp.asarray(X, jnp.float32)
        return nn.fit(t, KEY, (x, x[:, :1]), epochs=4, batch_size=2).best_value

    grads = [jax.jit(jax.grad(partial(f, again=again)))(0.05) for again in (False, True)]
    np.testing.assert_allclose(*grads, rtol=1e-5)


@pytest.mark.slow
def test_with_patience_forward_mode_is_had_and_reverse_says_so():
    f = partial(outcome, nn.sgd, patience=1, **SMALL)
    x, w = jnp.asarray(X, jnp.float32), jnp.asarray(W, jnp.float32)
    without = jax.jit(jax.jacfwd(partial(outcome, nn.sgd, **SMALL)))(0.01, x, w)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(f))(0.01, x, w), without, rtol=1e-5)
    many = jax.vmap(jax.grad(f), (0, None, None))
    for way, rate in ((jax.grad(f), 0.01), (jax.jit(jax.grad(f)), 0.01), (many, jnp.full(2, 0.01))):
        with pytest.raises(ValueError, match=r"^fit: ") as excinfo:
            way(rate, x, w)
        assert str(excinfo.value) == (
            "fit: expected forward-mode differentiation of a run with patience, got reverse mode. "
            "Use jax.jacfwd, or leave patience out: such a run has both modes."
        )
