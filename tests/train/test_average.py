"""Averaged params: the mean of a float64 loop and of optax, in its own dtype, and who goes by it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _close import assert_close

import jaxnn as nn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 3)).astype(np.float32)
Y = X @ np.array([[1.0], [-2.0], [0.5]], np.float32) + 1
KEY = jax.random.key(0)
MODEL = nn.dense(1)
make = partial(nn.trainer, MODEL, nn.losses.squared_error)


def path(trainer, steps, batch=(X, Y)):
    """All states of so many steps."""
    states, step = [trainer.init(KEY, batch)], jax.jit(trainer.step)
    for _ in range(steps):
        states.append(step(states[-1], batch)[0])
    return states


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("traced", [False, True], ids=["known", "traced"])
@pytest.mark.slow
def test_the_mean_is_that_of_a_loop_and_of_optax(decay, traced):
    states = path(make(nn.adam(0.3), average=jnp.float32(decay) if traced else decay), 6)
    ema = optax.ema(decay, debias=True)
    its = ema.init(states[0].params)
    weights = np.array([decay ** (6 - t) for t in range(1, 7)])
    for ts in states[1:]:
        with jax.numpy_dtype_promotion("standard"):
            its_mean, its = ema.update(ts.params, its)
    for name in ("w", "b"):
        rows = np.stack([np.asarray(ts.params[name], np.float64) for ts in states[1:]])
        mean = np.average(rows, axis=0, weights=weights)
        # A traced 0.999 is float32's, and 1 - 0.999 is then 1.3e-5 off: that changes weights, hardly their mean.
        assert_close(states[-1].average[name], mean, scale=1.0)
        np.testing.assert_allclose(its_mean[name], mean, rtol=1e-3)


def test_before_the_first_step_it_is_the_params():
    ts = path(make(nn.sgd(0.1), average=0.9), 0)[0]
    assert jax.tree.all(jax.tree.map(np.array_equal, ts.average, ts.params))
    held = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(ts)]
    assert len(set(held)) == len(held)  # all of it can be donated


def test_without_it_nothing_is_kept():
    ts = path(make(nn.sgd(0.1)), 1)[-1]
    assert ts.average is None
    assert jax.tree.structure(ts.average).num_leaves == 0


@pytest.mark.slow
def test_evaluate_goes_by_the_mean():
    plain, averaging = make(nn.adam(0.3)), make(nn.adam(0.3), average=0.9)
    ts = path(averaging, 4)[-1]
    expected = plain.evaluate(ts._replace(params=ts.average, average=None), (X, Y))["loss"]
    assert float(averaging.evaluate(ts, (X, Y))["loss"]) == float(expected)
    assert float(expected) != float(plain.evaluate(ts._replace(average=None), (X, Y))["loss"])
    assert jax.tree.all(jax.tree.map(np.array_equal, ts.params, path(plain, 4)[-1].params))  # training does not


@pytest.mark.slow
def test_best_is_the_mean():
    trainer = make(nn.adam(0.3), average=0.9)
    run = jax.jit(partial(nn.fit, trainer, epochs=3, batch_size=4))(KEY, (X, Y), (X, Y))
    assert int(run.wait) == 0
    assert jax.tree.all(jax.tree.map(np.array_equal, run.best.params, run.ts.average))
    assert_close(run.best_value, np.mean((X @ run.best.params["w"] + run.best.params["b"][None] - Y) ** 2))
    driven = nn.drive(trainer, KEY, (X, Y), (X, Y), epochs=3, batch_size=4, every=2, progress=False)
    assert jax.tree.all(jax.tree.map(np.array_equal, run, driven))


@pytest.mark.slow
def test_a_mean_of_bfloat16_is_float32():
    batch = jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), (X, Y))

    def init(key, batch):
        return jax.tree.map(lambda p: p.astype(jnp.bfloat16), MODEL.init(key, batch[0])[0]), {}

    seen = []

    def objective(params, state, batch, *, key, train):
        seen.append(params["w"].dtype)
        return jnp.mean((batch[0] @ params["w"] + params["b"][None] - batch[1]) ** 2), (state, {})

    trainer = nn.objective_trainer(init, objective, nn.adam(0.3), average=0.9)
    states = path(trainer, 5, batch)
    trainer.evaluate(states[-1], batch)
    assert set(seen) == {jnp.dtype(jnp.bfloat16)}
    assert states[-1].average["w"].dtype == jnp.float32
    rows = np.stack([np.asarray(ts.params["w"], np.float64) for ts in states[1:]])
    mean = np.average(rows, axis=0, weights=0.9 ** np.arange(4, -1, -1))
    assert_close(states[-1].average["w"], mean)
    assert np.abs(np.asarray(states[-1].average["w"].astype(jnp.bfloat16), np.float64) - mean).max() > 1e-4


@pytest.mark.slow
def test_frozen_params_are_not_averaged_and_are_evaluated():
    model = nn.serial(nn.dense(4, name="body"), nn.dense(1, name="head"))
    t = nn.trainer(model, nn.losses.squared_error, nn.adam(0.1), frozen="body/*", average=0.9)
    ts = t.step(t.init(KEY, (X, Y)), (X, Y))[0]
    assert list(ts.average) == ["head"]
    expected = model.apply({"body": ts.params["body"], "head": ts.average["head"]}, {}, X)[0]
    assert_close(t.evaluate(ts, (X, Y))["loss"], np.mean((np.asarray(expected) - Y) ** 2))
    run = nn.fit(t, KEY, (X, Y), (X, Y), epochs=1)
    assert run.best.params.keys() == {"body", "head"}


@pytest.mark.slow
def test_decays_are_vmap():
    def run(decay):
        return nn.fit(make(nn.adam(0.3), average=decay), KEY, (X, Y), (X, Y), epochs=3, batch_size=4)

    decays = [0.1, 0.9]
    runs = jax.jit(jax.vmap(run))(jnp.array(decays))
    for i, decay in enumerate(decays):
        assert_close(runs.ts.average["w"][i], run(decay).ts.average["w"], scale=1.0)


@pytest.mark.slow
def test_it_is_saved_and_goes_on(tmp_path):
    trainer = make(nn.adam(0.3), average=0.9)
    go = partial(nn.drive, trainer, KEY, (X, Y), epochs=4, batch_size=4, progress=False)
    nn.save(tmp_path / "ts", path(trainer, 2)[-1])
    loaded = nn.load(tmp_path / "ts")
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded, path(trainer, 2)[-1]))
    nn.save(tmp_path / "run", go())
    assert jax.tree.all(jax.tree.map(np.array_equal, go(run=nn.load(tmp_path / "run")), go()))


ERRORS = {
    "a row": (
        jnp.ones(2),
        ValueError,
        "expected average to be a scalar, got float32[2]. Sweep over values with jax.vmap.",
    ),
    "text": ("0.9", TypeError, "expected average to be a real number, got '0.9'. Pass a float."),
    "schedule": (
        optax.constant_schedule,
        TypeError,
        "expected average to be a real number, got the function constant_schedule. Pass a float, or None.",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    average, kind, text = ERRORS[case]
    with pytest.raises(kind) as excinfo:
        make(nn.sgd(0.1), average=average)
    assert str(excinfo.value) == f"trainer: {text}"
