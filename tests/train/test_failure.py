"""Numbers that are finite no more: where a run stops, what is left of it, and what is said."""

import re
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from _tiers import only

import jaxnn as nn
from jaxnn.train import _failure as failure

KEY = jax.random.key(0)
ROWS = np.ones((14, 1), np.float32)
HOW = {"epochs": 4, "batch_size": 4}  # three steps to an epoch
KINDS = ["loss", "inf", "gradient", "hidden"]


def breaking(at, kind, lr=0.01):
    """The minimum of |b|² + a², which breaks at step `at`.

    In its loss, as NaN or infinite; in the gradient of b by a root of 0; or in that of b where later losses hide it.
    """

    def objective(params, state, batch, *, key, train):
        n, a, b = state["n"], params["a"], params["b"]
        squares = jnp.sum(b**2)
        loss = a**2 + (0.0 * squares if kind == "hidden" else squares)
        if kind == "hidden":
            loss = a**2 + jnp.where(n == at, jnp.sqrt(jnp.where(n == at, 0.0, 1.0) * squares), 0.0)
        elif kind == "gradient":
            loss = loss + jnp.sqrt(jnp.where(n == at, 0.0, 1.0) * squares)
        else:
            loss = loss * jnp.where(n == at, jnp.inf if kind == "inf" else jnp.nan, 1.0)
        return loss, (state | {"n": n + 1}, {"odd": jnp.where(n == 1, jnp.nan, 0.0)})

    def init(key, batch):
        return {"a": jnp.ones(()), "b": jnp.ones(3)}, {"n": jnp.zeros((), jnp.int32)}

    return nn.objective_trainer(init, objective, nn.sgd(lr))


def identical(a, b):
    return jax.tree.all(jax.tree.map(partial(np.array_equal, equal_nan=True), a, b))


def driven(trainer, key=KEY, train=ROWS, **how):
    """The run and the texts of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = nn.drive(trainer, key, train, progress=False, **{**HOW, **how})
    assert {w.category for w in caught} <= {RuntimeWarning}
    assert {w.filename for w in caught} <= {__file__}
    return run, [str(w.message) for w in caught]


def by_hand(trainer, steps):
    ts, step = trainer.init(KEY, ROWS[:4]), jax.jit(trainer.step)
    losses = []
    for _ in range(steps):
        ts, metrics = step(ts, ROWS[:4])
        losses.append(float(metrics["loss"]))
    return ts, losses


kinds = pytest.mark.parametrize("kind", only(["hidden"], KINDS))
FOUND = {"loss": 7, "inf": 7, "gradient": 8, "hidden": 8}  # by fit, where step 7 of 6, 7, 8 breaks


@kinds
@pytest.mark.slow
def test_fit_goes_back_to_the_epochs_start(kind):
    trainer = breaking(7, kind)
    run = jax.jit(partial(nn.fit, trainer, **HOW))(KEY, ROWS)
    assert (int(run.failed), int(run.epoch), int(run.ts.step)) == (FOUND[kind], 2, 6)
    two = jax.jit(partial(nn.fit, trainer, epochs=2, batch_size=4))(KEY, ROWS)
    assert identical((run.ts, run.best, run.best_value, run.wait), (two.ts, two.best, two.best_value, two.wait))
    _, losses = by_hand(trainer, 9)
    reached = {"loss": 8, "inf": 8, "gradient": 9, "hidden": 9}[kind]
    assert_close(run.history["train"]["loss"].reshape(-1)[:reached], losses[:reached])
    assert np.isnan(run.history["train"]["loss"].reshape(-1)[reached:]).all()


REASONS = {
    "loss": "loss is nan, and the gradient of a is the first that is not finite",
    "inf": "loss is inf, and the gradient of a is the first that is not finite",
    "gradient": "loss is 2.82062, and the gradient of b is the first that is not finite",
    "hidden": "loss is 0.753642, and the gradient of b is the first that is not finite",
}


@kinds
@pytest.mark.slow
def test_drive_has_the_state_before_and_says_why(kind):
    trainer = breaking(7, kind)
    run, texts = driven(trainer, every=3)
    assert texts == [
        f"drive: stopped at step 7, in epoch 3: {REASONS[kind]}. The run is kept as it was before that step."
    ]
    assert (int(run.failed), int(run.epoch), int(run.ts.step)) == (7, 2, 7)
    ts, _ = by_hand(trainer, 7)
    jax.tree.map(partial(assert_close, scale=1.0), run.ts.params, ts.params)
    again, _ = driven(trainer, every=1)
    assert identical(run, again)
    fed, same = driven(trainer, train=lambda epoch: [ROWS[:4]] * 3, batch_size=None)
    assert same == texts
    assert identical(run, fed)


@pytest.mark.slow
def test_a_failed_run_stays(tmp_path):
    trainer = breaking(7, "loss")
    run, _ = driven(trainer)
    nn.save(tmp_path / "run", run)
    for train, size in ((ROWS, 4), (lambda epoch: [ROWS[:4]] * 3, None)):
        again, texts = driven(trainer, train=train, batch_size=size, run=nn.load(tmp_path / "run"))
        assert identical(run, again)
        assert texts == []


@pytest.mark.slow
def test_it_is_said_where_progress_is_shown(capsys):
    with pytest.warns(RuntimeWarning, match=re.escape(REASONS["loss"])):
        nn.drive(breaking(7, "loss"), KEY, ROWS, **HOW)
    shown = capsys.readouterr().err.splitlines()
    assert f"stopped at step 7, in epoch 3: {REASONS['loss']}. The run is kept as it was before that step." in shown


def row(kind):
    """A trainer that breaks at step 4 for half of the keys."""
    whole, broken = breaking(-1, kind), breaking(4, kind)

    def step(ts, batch):
        a, b = broken.step(ts, batch), whole.step(ts, batch)
        return jax.tree.map(lambda x, y: jnp.where(ts.key[1] % 2 == 0, x, y), a, b)

    return nn.Trainer(whole.init, step, whole.evaluate)


@pytest.mark.slow
def test_members_fail_by_themselves():
    trainer = row("loss")
    keys = jax.random.split(KEY, 6)
    broken = np.asarray(jax.vmap(trainer.init, (0, None))(keys, ROWS).key[:, 1] % 2 == 0)
    assert 0 < broken.sum() < 6
    runs = jax.jit(jax.vmap(partial(nn.fit, trainer, **HOW), (0, None)))(keys, ROWS)
    np.testing.assert_array_equal(runs.failed, np.where(broken, 4, -1))
    np.testing.assert_array_equal(runs.epoch, np.where(broken, 1, 4))
    np.testing.assert_array_equal(runs.ts.step, np.where(broken, 3, 12))
    losses = np.asarray(runs.history["train"]["loss"]).reshape(6, -1)
    np.testing.assert_array_equal(np.isfinite(losses).sum(axis=1), np.where(broken, 4, 12))
    for i in (int(np.argmin(broken)), int(np.argmax(broken))):
        one = jax.jit(partial(nn.fit, trainer, **HOW))(keys[i], ROWS)
        assert_close(losses[i], one.history["train"]["loss"].reshape(-1))
    for train, size in ((ROWS, 4), (lambda epoch: [ROWS[:4]] * 3, None)):
        many, texts = driven(trainer, key=keys, train=train, batch_size=size)
        np.testing.assert_array_equal(many.ts.step, np.where(broken, 4, 12))
        np.testing.assert_array_equal(many.failed, runs.failed)
        assert identical(many.history, runs.history)
        members = "; ".join(
            f"run {i} stopped at step 4, in epoch 2: loss is nan; after the update a is the first param that is not"
            for i in np.flatnonzero(broken)
        )
        assert texts == [f"drive: {members}. The run is kept as it was before that step."]


@pytest.mark.slow
def test_of_a_long_row_only_some_are_told(monkeypatch):
    monkeypatch.setattr(failure, "LISTED", 1)
    _, texts = driven(breaking(0, "loss"), key=jax.random.split(KEY, 3), epochs=1)
    assert texts == [
        f"drive: run 0 stopped at step 0, in epoch 1: {REASONS['loss']}; 2 more stopped. "
        "The run is kept as it was before that step."
    ]


@pytest.mark.slow
def test_an_update_that_overflows():
    run, texts = driven(breaking(-1, "loss", lr=3e38))
    assert texts == [
        "drive: stopped at step 0, in epoch 1: loss is 4, and all gradients are finite; "
        "after the update a is the first param that is not. The run is kept as it was before that step."
    ]
    assert jax.tree.all(jax.tree.map(lambda p: bool(jnp.isfinite(p).all()), run.ts.params))


def test_a_metric_or_an_evaluation_that_is_not_finite_stops_nothing():
    trainer = breaking(-1, "loss")._replace(evaluate=lambda ts, batch: {"loss": jnp.nan * ts.params["a"]})
    run = nn.fit(trainer, KEY, ROWS, ROWS, **HOW)
    assert (int(run.failed), int(run.epoch)) == (-1, 4)
    assert np.isnan(run.history["train"]["odd"][0, 1])


@pytest.mark.slow
def test_params_that_never_were_finite_stop_nothing():
    def objective(params, state, batch, *, key, train):
        return jnp.sum(jnp.where(jnp.isfinite(params["mask"]), params["w"], 0.0) ** 2), (state, {})

    def init(key, batch):
        return {"w": jnp.ones(2), "mask": jnp.array([0.0, -jnp.inf])}, {}

    run = nn.fit(nn.objective_trainer(init, objective, nn.sgd(0.1), frozen="mask"), KEY, ROWS, **HOW)
    assert (int(run.failed), int(run.epoch)) == (-1, 4)


# What the data have to do with it.

INPUTS = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
LABELS = np.arange(12, dtype=np.int32) % 3
CLASSIFIER = nn.trainer(nn.dense(3), nn.losses.softmax_cross_entropy, nn.sgd(0.1))
IGNORING = nn.trainer(nn.dense(3), partial(nn.losses.softmax_cross_entropy, ignore_label=-1), nn.sgd(0.1))
REGRESSION = nn.trainer(nn.dense(2), nn.losses.squared_error, nn.sgd(0.1))


def changed(array, at, value):
    array = np.array(array)
    array[at] = value
    return array


def spoiled(key, batch):
    return jnp.where(batch[0] > 9, jnp.nan, batch[0]), batch[1]


WEIGHTS = changed(np.ones(12, np.float32), 2, 0)
FAULTS = {
    "a label": (CLASSIFIER, (INPUTS, changed(LABELS, 7, 3)), {}, "label 3 with 3 classes at example 7 of train"),
    "a negative label": (
        CLASSIFIER,
        (INPUTS, changed(LABELS, 7, -1)),
        {},
        "label -1 with 3 classes at example 7 of train",
    ),
    "beside labels that are ignored": (
        IGNORING,
        (INPUTS, changed(changed(LABELS, 2, -1), 7, 5)),
        {},
        "label 5 with 3 classes at example 7 of train",
    ),
    "x": (CLASSIFIER, (changed(INPUTS, (5, 1), np.nan), LABELS), {}, "x has nan at example 5 of train"),
    "y": (REGRESSION, (INPUTS, changed(INPUTS, 9, -np.inf)), {}, "y has -inf at example 9 of train"),
    "beside what has no weight": (
        REGRESSION,
        (INPUTS, changed(changed(INPUTS, 2, np.nan), 6, np.nan), WEIGHTS),
        {},
        "y has nan at example 6 of train",
    ),
    "augment": (
        CLASSIFIER,
        (changed(INPUTS, 4, 10.0), LABELS),
        {"augment": spoiled},
        "augmented x has nan at example 4 of train",
    ),
    "fed": (
        CLASSIFIER,
        lambda epoch: [(INPUTS[:6], LABELS[:6]), (INPUTS[6:], changed(LABELS, 8, 4)[6:])],
        {"batch_size": None},
        "label 4 with 3 classes at example 2 of the batch",
    ),
}


@pytest.mark.parametrize("case", only(["a label", "x"], FAULTS))
def test_a_fault_of_the_data_is_named(case):
    trainer, train, how, text = FAULTS[case]
    _, texts = driven(trainer, train=train, **({"epochs": 1, "batch_size": 6} | how))
    assert len(texts) == 1
    assert re.search(r"\((.*)\)", texts[0])[1] == text
