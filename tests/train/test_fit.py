"""`fit` against the loop it stands for, written out; and what vmap, validation and stopping make of it."""

import zlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(22, 3)).astype(np.float32)
Y = X @ np.array([[1.0], [-2.0], [0.5]], np.float32)
TRAIN, VALID = (X[:14], Y[:14]), (X[14:], Y[14:])
LINEAR = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.adam(0.1))
KEY = jax.random.key(0)


def written_out(trainer, key, train, valid, epochs, batch_size):
    """The loop of `fit` in Python: rows in the order drawn for each epoch, one step after the other."""
    n = len(train[0])
    ts = trainer.init(key, jax.tree.map(lambda a: jnp.asarray(a[:batch_size]), train))
    order_key = jax.random.fold_in(jax.random.wrap_key_data(ts.key), np.uint32(zlib.crc32(b"order")))
    losses, measured, kept = [], [], []
    step, evaluate = jax.jit(trainer.step), jax.jit(trainer.evaluate)
    for epoch in range(epochs):
        order = np.asarray(jax.random.permutation(jax.random.fold_in(order_key, epoch), n))
        row = []
        for start in range(0, n - batch_size + 1, batch_size):
            batch = jax.tree.map(lambda a, rows=order[start : start + batch_size]: a[rows], train)
            ts, metrics = step(ts, batch)
            row.append(float(metrics["loss"]))
        losses.append(row)
        measured.append(float(evaluate(ts, valid)["loss"]))
        kept.append(ts)
    return ts, losses, measured, kept


@pytest.fixture(scope="module")
def pair():
    model = nn.serial(nn.dense(4), nn.tanh, nn.dropout(0.2), nn.dense(1))
    trainer = nn.trainer(model, nn.losses.squared_error, nn.adam(0.1))
    run = jax.jit(partial(nn.fit, trainer, epochs=3, batch_size=4))(KEY, TRAIN, VALID)
    assert [type(part).__name__ for part in (run, run.ts, run.best)] == ["Run", "TrainState", "Best"]
    return run, written_out(trainer, KEY, TRAIN, VALID, 3, 4)


@pytest.mark.slow
def test_fit_is_the_loop_written_out(pair):
    run, (ts, losses, measured, kept) = pair
    assert run.history["train"]["loss"].shape == (3, 3)
    assert run.history["valid"]["loss"].shape == (3,)
    assert_close(run.history["train"]["loss"], losses)
    assert_close(run.history["valid"]["loss"], measured)
    jax.tree.map(partial(assert_close, scale=1.0), run.ts.params, ts.params)
    assert (int(run.ts.step), int(run.epoch)) == (9, 3)
    best = int(np.argmin(measured))
    assert_close(run.best_value, measured[best])
    jax.tree.map(partial(assert_close, scale=1.0), run.best.params, kept[best].params)
    assert int(run.wait) == 2 - best


@pytest.mark.slow
def test_seeds_and_rates_are_vmap(pair):
    @jax.jit
    @partial(jax.vmap, in_axes=(0, 0, None, None))
    def runs(key, lr, train, valid):
        t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.adam(lr))
        return nn.fit(t, key, train, valid, epochs=2, batch_size=7)

    keys, rates = jax.random.split(KEY, 3), jnp.array([0.01, 0.1, 0.3])
    many = runs(keys, rates, TRAIN, VALID)
    assert many.history["train"]["loss"].shape == (3, 2, 2)
    for i, lr in enumerate(rates.tolist()):
        t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.adam(lr))
        one = nn.fit(t, keys[i], TRAIN, VALID, epochs=2, batch_size=7)
        mine = jax.tree.map(lambda a, i=i: a[i], many)
        jax.tree.map(partial(assert_close, scale=1.0), mine.ts.params, one.ts.params)
        assert_close(mine.history["valid"]["loss"], one.history["valid"]["loss"])


def crafted(values):
    """A trainer whose valid loss after epoch e is values[e]: a step only counts."""

    def objective(params, state, batch, *, key, train):
        value = jnp.asarray(values, jnp.float32)[jnp.maximum(params["epoch"].astype(jnp.int32) - 1, 0)]
        return (-params["epoch"] if train else value), (state, {"double": 2 * value})

    return nn.objective_trainer(lambda key, batch: ({"epoch": jnp.zeros(())}, {}), objective, nn.sgd(1.0))


NAN = float("nan")
STOPS = {  # values, patience, mode -> epochs done, best epoch, wait
    "no patience": ([3, 2, 4, 4, 4, 1], None, "min", 6, 6, 0),
    "patience 0": ([3, 2, 4, 4, 4, 1], 0, "min", 3, 2, 1),
    "patience 1": ([3, 2, 4, 4, 4, 1], 1, "min", 4, 2, 2),
    "patience 3": ([3, 2, 4, 4, 4, 1], 3, "min", 6, 6, 0),
    "a tie is not better": ([2, 2, 2, 2], 1, "min", 3, 1, 2),
    "max": ([1, 5, 3, 4, 4, 9], 2, "max", 5, 2, 3),
    "max without end": ([1, 5, 3, 4, 4, 9], None, "max", 6, 6, 0),
    "nan is never best": ([NAN, 3, NAN, 4], None, "min", 4, 2, 2),
    "nan is never best of max": ([NAN, 3, NAN, 2], None, "max", 4, 2, 2),
    "nan alone stops": ([NAN, NAN, NAN, NAN], 1, "min", 2, 0, 2),
}


@pytest.mark.parametrize("case", STOPS)
@pytest.mark.slow
def test_early_stopping_and_best(case):
    values, patience, mode, done, best, wait = STOPS[case]
    run = nn.fit(crafted(values), KEY, X, X, epochs=len(values), patience=patience, mode=mode)
    assert (int(run.epoch), int(run.best.params["epoch"]), int(run.wait)) == (done, best, wait)
    assert int(run.ts.params["epoch"]) == done
    worst = np.inf if mode == "min" else -np.inf
    assert float(run.best_value) == (values[best - 1] if best else worst)
    history = np.asarray(run.history["valid"]["loss"])
    np.testing.assert_array_equal(history[:done], np.array(values[:done], np.float32))
    assert np.isnan(history[done:]).all()
    assert np.isnan(np.asarray(run.history["train"]["loss"])[done:]).all()


def test_another_metric_can_be_monitored():
    run = nn.fit(crafted([3, 1, 2]), KEY, X, X, epochs=3, monitor="double", mode="min")
    assert float(run.best_value) == 2.0


@pytest.mark.parametrize("name", ["accuracy", "f1", "roc_auc", "r2"])
@pytest.mark.slow
def test_a_metric_that_is_better_when_larger_needs_no_mode(name):
    """The metric of the best epoch is the largest: 4 of 1, 4, 2 (the doubled losses are named so here)."""

    def objective(params, state, batch, *, key, train):
        value = jnp.array([1.0, 4.0, 2.0])[jnp.maximum(params["epoch"].astype(jnp.int32) - 1, 0)]
        return (-params["epoch"] if train else value), (state, {name: value})

    t = nn.objective_trainer(lambda key, batch: ({"epoch": jnp.zeros(())}, {}), objective, nn.sgd(1.0))
    run = nn.fit(t, KEY, X, X, epochs=3, monitor=name)
    assert (float(run.best_value), float(run.best.params["epoch"])) == (4.0, 2.0)
    assert float(nn.fit(t, KEY, X, X, epochs=3, monitor=name, mode="min").best_value) == 1.0


def test_without_valid_the_training_means_are_monitored():
    run = nn.fit(crafted([3, 1, 2]), KEY, X, epochs=3, batch_size=11)
    assert run.history.keys() == {"train"}
    np.testing.assert_array_equal(run.history["train"]["loss"], [[0, -1], [-2, -3], [-4, -5]])
    assert float(run.best_value) == -4.5


@pytest.mark.parametrize("n", [1, 255, 256, 257, 600])
@pytest.mark.slow
def test_evaluation_is_exact_whatever_the_last_batch(n):
    x = RNG.normal(size=(n, 3)).astype(np.float32)
    y = (x**2).sum(1, keepdims=True)
    run = nn.fit(LINEAR, KEY, TRAIN, (x, y), epochs=1, batch_size=14)
    w, b = (np.asarray(run.ts.params[k], np.float64) for k in "wb")
    assert_close(run.history["valid"]["loss"][0], ((x @ w + b - y) ** 2).mean())


@pytest.mark.slow
def test_each_epoch_visits_full_batches_of_another_order():
    def objective(params, state, batch, *, key, train):
        return 0.0 * params["p"], (state, {"sum": batch.sum(), "first": batch[0]})

    t = nn.objective_trainer(lambda key, batch: ({"p": jnp.ones(())}, {}), objective, nn.sgd(0.1))
    rows = 2.0 ** np.arange(6, dtype=np.float32)
    history = nn.fit(t, KEY, rows, epochs=8, batch_size=2).history["train"]
    np.testing.assert_array_equal(history["sum"].sum(axis=1), np.full(8, 63.0))  # each row once
    assert len({tuple(row) for row in np.asarray(history["first"]).tolist()}) > 4
    history = nn.fit(t, KEY, rows, epochs=8, batch_size=4).history["train"]
    assert history["sum"].shape == (8, 1)
    assert all(bin(int(s)).count("1") == 4 for s in np.asarray(history["sum"])[:, 0])
    assert len(set(np.asarray(history["sum"])[:, 0].tolist())) > 1  # what is left out changes


@pytest.mark.slow
def test_batch_size_none_is_one_step_on_all_in_order():
    run = nn.fit(LINEAR, KEY, TRAIN, epochs=3)
    assert run.history["train"]["loss"].shape == (3, 1)
    ts = LINEAR.init(KEY, TRAIN)
    for _ in range(3):
        ts, _ = LINEAR.step(ts, TRAIN)
    jax.tree.map(partial(assert_close, scale=1.0), run.ts.params, ts.params)


@pytest.mark.slow
def test_data_are_pytrees():
    def objective(params, state, batch, *, key, train):
        error = batch["x"][0] @ params["w"] - batch["y"]
        return (error**2).mean(), (state, {})

    t = nn.objective_trainer(lambda key, batch: ({"w": jnp.zeros((3, 1))}, {}), objective, nn.adam(0.1))
    run = nn.fit(t, KEY, {"x": [X, np.arange(22)], "y": Y}, {"x": [X[:5]], "y": Y[:5]}, epochs=60, batch_size=11)
    assert float(run.history["valid"]["loss"][-1]) < 0.05 * float(run.history["valid"]["loss"][0])


@pytest.mark.slow
def test_float64(x64):
    data = X.astype(np.float64), Y.astype(np.float64)
    run = nn.fit(LINEAR, KEY, data, data, epochs=2, batch_size=6)
    kinds = {a.dtype for a in jax.tree.leaves((run.ts.params, run.best, run.best_value, run.history))}
    assert kinds == {jnp.dtype(jnp.float64)}
    assert run.ts.step.dtype == run.epoch.dtype == jnp.int32


@pytest.mark.slow
def test_the_same_key_is_the_same_run_raw_or_typed(pair):
    a, b, c = (
        nn.fit(LINEAR, k, TRAIN, epochs=2, batch_size=7) for k in (KEY, jax.random.key_data(KEY), jax.random.key(1))
    )
    assert jax.tree.all(jax.tree.map(np.array_equal, a, b))
    assert not np.array_equal(a.history["train"]["loss"], c.history["train"]["loss"])


@pytest.mark.slow
def test_folds_are_vmap():
    folds = jnp.stack([jnp.roll(jnp.arange(20), 5 * i) for i in range(4)])
    x, y = jnp.asarray(X), jnp.asarray(Y)

    def fold(rows):
        train, valid = ((x[r], y[r]) for r in (rows[5:], rows[:5]))
        return nn.fit(LINEAR, KEY, train, valid, epochs=2, batch_size=5)

    runs = jax.jit(jax.vmap(fold))(folds)
    one = fold(folds[2])
    assert_close(runs.history["valid"]["loss"][2], one.history["valid"]["loss"])


def options(**changes):
    given = {"trainer": LINEAR, "key": KEY, "train": TRAIN, "valid": VALID, "epochs": 2} | changes
    return given


ERRORS = {
    "trainer": ({"trainer": 3}, TypeError, "expected a Trainer, got 3. nn.trainer(model, loss, optimizer) makes one."),
    "batch too large": (
        {"batch_size": 15},
        ValueError,
        "expected batch_size to be at most the 14 examples of train, got 15.",
    ),
    "direction": (
        {"monitor": "score"},
        ValueError,
        "expected mode='min' or mode='max' with monitor='score', got none. "
        "It is known for 'loss' and for the names in nn.metrics and nn.losses.",
    ),
    "no arrays": ({"train": ()}, TypeError, "expected train to be arrays with examples on axis 0, got ()."),
    "numbers": (
        {"valid": ([1.0], [2.0])},
        TypeError,
        "expected valid to be arrays with examples on axis 0, got ([1.0], [2.0]). Convert lists: np.asarray(x).",
    ),
    "lengths": (
        {"train": (X, Y[:3])},
        ValueError,
        "expected train to have as many examples in every array, and at least one, "
        "got (float32[22, 3], float32[3, 1]).",
    ),
    "empty": (
        {"valid": (X[:0], Y[:0])},
        ValueError,
        "expected valid to have as many examples in every array, and at least one, got (float32[0, 3], float32[0, 1]).",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
@pytest.mark.parametrize("call", [nn.fit, nn.drive], ids=["fit", "drive"])
def test_errors(call, case):
    changes, kind, text = ERRORS[case]
    with pytest.raises(kind) as excinfo:
        call(**options(**changes))
    assert str(excinfo.value) == f"{call.__name__}: {text}"
