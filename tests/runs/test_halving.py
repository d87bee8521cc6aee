"""Successive halving against the whole sweep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn
from jaxnn.runs import _sweep

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3)).astype(np.float32)
Y = np.tanh(X[:, :1])
POINTS = nn.points.grid(rate=np.geomspace(1e-4, 0.3, 9))
KEY = jax.random.key(0)


def make(point):
    return nn.trainer(nn.dense(1), nn.losses.squared_error, nn.adam(point["rate"]))


def alone(point, x, y):
    return nn.fit(make(point), KEY, (x[:16], y[:16]), (x[16:], y[16:]), epochs=9, batch_size=4)


def halved(**how):
    how = {"epochs": 9, "batch_size": 4} | how
    return nn.halving(make, POINTS, KEY, (X[:16], Y[:16]), (X[16:], Y[16:]), **how)


@pytest.fixture(scope="module")
def whole():
    return nn.sweep(alone, POINTS, X, Y)


@pytest.mark.slow
def test_the_best_go_on_and_are_the_runs_of_the_whole_sweep(whole):
    found = halved()
    value = np.asarray(whole.results.history["valid"]["loss"])
    first = np.argsort(value[:, :1].min(1))[:3]
    last = first[np.argmin(value[first, :3].min(1))]
    epochs = [9 if i == last else 3 if i in first else 1 for i in range(9)]
    assert found.results.epoch.tolist() == epochs
    assert found.results.ts.step.tolist() == [4 * e for e in epochs]
    assert found.best().row == last
    assert found.done.all()
    for i, e in enumerate(epochs):
        np.testing.assert_allclose(found.results.history["valid"]["loss"][i, :e], value[i, :e], rtol=1e-5)
        assert np.isnan(found.results.history["valid"]["loss"][i, e:]).all()
    np.testing.assert_allclose(found.best().value, whole.results.best_value[last], rtol=1e-5)


# A row is (arguments, the number of runs that end at an epoch).
RUNGS = {
    "two thirds": ({"keep": 2 / 3}, {4: 3, 6: 2, 9: 4}),
    "one rung": ({"rungs": (2,), "keep": 0.5}, {2: 4, 9: 5}),
    "no rung": ({"rungs": ()}, {9: 9}),
    "one stays at least": ({"rungs": [1, 2, 3], "keep": 0.01}, {1: 8, 9: 1}),
    "one epoch": ({"epochs": 1}, {1: 9}),
    "patience": ({"rungs": (2,), "keep": 0.3, "patience": 0}, None),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", RUNGS)
def test_rungs(case):
    how, expected = RUNGS[case]
    epochs = halved(**how).results.epoch.tolist()
    if expected is None:
        assert sorted(epochs)[:6] == [2] * 6
    else:
        assert {e: epochs.count(e) for e in set(epochs)} == expected


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["map", "vmap", "shard"])
def test_strategies_and_keys(strategy):
    found = halved(strategy=strategy)
    np.testing.assert_allclose(found.results.best_value, halved().results.best_value, rtol=1e-5)
    keys = jax.random.split(KEY, 9)
    each = nn.halving(make, POINTS, keys, (X, Y), epochs=3, strategy=strategy)
    one = nn.fit(make({"rate": POINTS["rate"][8]}), keys[8], (X, Y), epochs=3)
    at = int(each.results.epoch[8])
    np.testing.assert_allclose(each.results.history["train"]["loss"][8, :at], one.history["train"]["loss"][:at], 1e-5)


@pytest.mark.slow
def test_the_greatest_and_not_the_failed():
    def make(point):
        def metric(prediction, target):
            return -jnp.mean((prediction - target) ** 2)

        model = nn.serial(nn.dense(1), nn.lift(lambda y: y * point["factor"], name="times"))
        return nn.trainer(model, nn.losses.squared_error, nn.adam(0.01), metrics={"score": metric})

    points = {"factor": jnp.array([1.0, 100.0, jnp.nan, 10.0])}
    found = nn.halving(make, points, KEY, (X, Y), epochs=3, rungs=(1,), keep=0.4, monitor="score", mode="max")
    assert found.results.epoch.tolist()[2] == 0
    assert found.results.epoch.tolist().count(3) == 2
    assert found.results.epoch[1] == 1
    assert (np.asarray(found.results.failed) >= 0).tolist() == [False, False, True, False]


@pytest.mark.slow
def test_the_second_call_traces_nothing():
    traces = []

    def counted(point):
        traces.append(point)
        return make(point)

    def call():
        return nn.halving(counted, POINTS, KEY, (X, Y), epochs=3, rungs=(1,))

    call()
    first = len(traces)
    call()
    assert first == len(traces)


# A row is (calls of the program before the end, done members, epochs that they reached at least).
@pytest.mark.slow
@pytest.mark.parametrize(("calls", "done", "reached"), [(4, 4, 1), (10, 9, 3)])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_ended_early_it_is_as_far_as_it_got(monkeypatch, calls, done, reached, error):
    real, made = _sweep._called, []

    def called(*args):
        made.append(args)
        if len(made) == calls + 1:
            raise error
        return real(*args)

    monkeypatch.setattr(_sweep, "_called", called)
    if error is KeyboardInterrupt:
        with pytest.warns(RuntimeWarning, match=r"^halving: interrupted"):
            found = halved(strategy="map")
    else:
        with pytest.raises(error) as excinfo:
            halved(strategy="map")
        found = excinfo.value.sweep
    assert found.done.sum() == done
    assert int(found.results.epoch.max()) == reached
    assert found.points is POINTS or found.points["rate"].tolist() == POINTS["rate"].tolist()
    assert len(found.leaderboard().rows) == done


ERRORS = {
    "make": (lambda: nn.halving(3, POINTS, KEY, X, epochs=2), TypeError,
             "halving: expected make to be a function point -> trainer, got 3."),
    "trainer": (lambda: nn.halving(lambda p: p, POINTS, KEY, X, epochs=2), TypeError,
                "halving: expected a Trainer, got"),
    "measure": (lambda: halved(strategy="measure"), ValueError,
                "halving: expected strategy to be one of 'auto', 'vmap', 'map', 'shard', got 'measure'."),
    "keys": (lambda: nn.halving(make, POINTS, jax.random.split(KEY, 2), X, epochs=2), ValueError,
             "halving: expected one key or a row of 9, got key<fry>[2]."),
    "keep": (lambda: halved(keep=1), ValueError,
             "halving: expected keep in (0, 1), got 1. It is the fraction of the runs that go on."),
    "falling": (lambda: halved(rungs=(3, 2)), ValueError,
                "halving: expected rungs that rise and are less than epochs=9, got [3, 2]."),
    "late": (lambda: halved(rungs=(3, 9)), ValueError,
             "halving: expected rungs that rise and are less than epochs=9, got [3, 9]."),
    "rung": (lambda: halved(rungs=(0.5,)), TypeError,
             "halving: expected a rung to be an integer >= 1, got 0.5."),
    "batch": (lambda: halved(batch_size=17), ValueError,
              "halving: expected batch_size to be at most the 16 examples of train, got 17."),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    call, kind, text = ERRORS[case]
    with pytest.raises(kind) as excinfo:
        call()
    assert str(excinfo.value).startswith(text)
