"""`drive` is `fit` to the bit, however it is cut, continued or interrupted; and what it shows."""

import builtins
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn
from jaxnn.train import pieces, progress

RNG = np.random.default_rng(0)
X = RNG.normal(size=(22, 3)).astype(np.float32)
Y = np.tanh(X[:, :1])
TRAIN, VALID = (X[:14], Y[:14]), (X[14:], Y[14:])
KEY = jax.random.key(0)
MODEL = nn.serial(nn.dense(4), nn.tanh, nn.dropout(0.2), nn.dense(1))
TRAINER = nn.trainer(MODEL, nn.losses.squared_error, nn.adam(0.03))
HOW = {"epochs": 5, "batch_size": 4}
drive = partial(nn.drive, TRAINER, progress=False, **HOW)


def identical(a, b):
    return jax.tree.all(jax.tree.map(partial(np.array_equal, equal_nan=True), a, b))


@pytest.fixture(scope="module")
def whole():
    return drive(KEY, TRAIN, VALID)


def interrupting(at):
    """A reporter that is interrupted, as a Ctrl-C between two pieces, once epoch `at` is shown."""

    class Interrupting(progress.Reporter):
        def __call__(self, look):
            if look.epoch >= at:
                raise KeyboardInterrupt

    return Interrupting


@pytest.mark.slow
def test_drive_is_fit_to_the_bit(whole):
    assert identical(whole, jax.jit(partial(nn.fit, TRAINER, **HOW))(KEY, TRAIN, VALID))


@pytest.mark.parametrize("every", [pytest.param(2, marks=pytest.mark.slow), 3, 100])
def test_any_cut_gives_the_same_bits(whole, every):
    assert identical(whole, drive(KEY, TRAIN, VALID, every=every))


@pytest.mark.parametrize("at", [1, 3])
def test_interrupted_saved_loaded_and_continued_gives_the_same_bits(whole, at, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(progress, "Reporter", interrupting(at))
        part = drive(KEY, TRAIN, VALID)
    assert int(part.epoch) == at
    nn.save(tmp_path / "run", part)
    loaded = nn.load(tmp_path / "run")
    assert identical(loaded, part)
    assert identical(whole, drive(KEY, TRAIN, VALID, run=loaded))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(loaded))  # the caller's run is left intact
    assert identical(whole, drive(jax.random.key(9), TRAIN, VALID, run=loaded))  # its own key goes on


def test_a_finished_run_stays(whole):
    assert identical(whole, drive(KEY, TRAIN, VALID, run=whole))


def test_interrupt_inside_a_piece_keeps_the_last_one(whole, monkeypatch):
    real, calls = pieces.programs(), []

    def once(*args):
        if calls:
            raise KeyboardInterrupt
        calls.append(args)
        return real.advances(*args)

    monkeypatch.setattr(pieces, "programs", lambda: real._replace(advances=once))
    part = drive(KEY, TRAIN, VALID, every=2)
    assert int(part.epoch) == 2
    monkeypatch.undo()
    assert identical(whole, drive(KEY, TRAIN, VALID, run=part))


def test_interrupt_that_took_the_run_is_not_hidden(monkeypatch):
    real = pieces.programs()

    def lost(*args):
        real.advances(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(pieces, "programs", lambda: real._replace(advances=lost))
    with pytest.raises(KeyboardInterrupt):
        drive(KEY, TRAIN, VALID)


@pytest.mark.slow
def test_a_row_of_keys_is_vmap():
    keys = jax.random.split(KEY, 3)
    trainer = nn.trainer(nn.serial(nn.dropout(0.2), nn.dense(1)), nn.losses.squared_error, nn.sgd(0.1))
    rows = partial(nn.drive, trainer, train=TRAIN, valid=VALID, progress=False, **HOW)
    runs = rows(keys)
    expected = jax.jit(jax.vmap(partial(nn.fit, trainer, **HOW), (0, None, None)))(keys, TRAIN, VALID)
    assert identical(runs, expected)
    assert identical(runs, rows(jax.random.key_data(keys)))
    assert_close(runs.history["valid"]["loss"][1], rows(keys[1]).history["valid"]["loss"])


def test_early_stopping():
    still = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.sgd(0.0))
    run = nn.drive(still, KEY, TRAIN, VALID, epochs=50, patience=1, every=7, progress=False)
    assert (int(run.epoch), int(run.wait)) == (3, 2)
    assert np.isnan(run.history["valid"]["loss"][3:]).all()


def test_no_second_compilation():
    trainer = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.sgd(0.1))
    sizes = []
    for key in (KEY, jax.random.key(1), jax.random.key_data(KEY)):
        for every in (1, 3):
            nn.drive(trainer, key, TRAIN, epochs=3, every=every, progress=False)
            sizes.append([program._cache_size() for program in pieces.programs()])
    assert sizes.count(sizes[0]) == len(sizes)


# What is shown.


def lines(capsys, monkeypatch, **how):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    nn.drive(TRAINER, how.pop("key", KEY), TRAIN, VALID, **HOW, **how)
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_plain_lines_where_there_is_no_terminal(capsys, monkeypatch, whole):
    shown = lines(capsys, monkeypatch, every=2)
    assert [line.split("  ")[0] for line in shown] == ["epoch 2/5", "epoch 4/5", "epoch 5/5"]
    train, valid = (whole.history[split]["loss"][-1] for split in ("train", "valid"))
    values = [part for part in shown[-1].split("  ")[1:] if part]
    assert values[0] == "step 15/15"
    assert values[1:3] == [f"train loss {float(jnp.mean(train)):.4f}", f"valid loss {float(valid):.4f}"]
    assert re.fullmatch(r"[0-9.e+]+ steps/s", values[3])
    assert values[4] == "0:00:00 left"


def test_not_more_lines_than_one_can_read(capsys):
    nn.drive(TRAINER, KEY, TRAIN, VALID, **HOW)
    shown = capsys.readouterr().err.splitlines()
    assert shown[-1].startswith("epoch 5/5  ")
    assert len(shown) < 5


@pytest.mark.slow
def test_a_row_of_runs_shows_mean_and_spread(capsys, monkeypatch):
    shown = lines(capsys, monkeypatch, key=jax.random.split(KEY, 3), every=5)
    assert shown[0].count(" ± ") == 2


def test_quiet(capsys, monkeypatch):
    assert lines(capsys, monkeypatch, progress=False) == []


def test_without_rich(capsys, monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.startswith("rich"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    assert len(lines(capsys, monkeypatch)) == 5


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    nn.drive(TRAINER, KEY, TRAIN, VALID, **HOW)
    shown = capsys.readouterr().err
    assert "5/5" in shown
    assert "train loss" in shown


def test_an_interrupt_is_said(capsys, monkeypatch):
    def interrupt(self, look):
        raise KeyboardInterrupt

    monkeypatch.setattr(progress._Lines, "__call__", interrupt)
    assert lines(capsys, monkeypatch) == ["interrupted: the run is kept as far as it got"]


# What is refused.


def test_under_a_trace():
    with pytest.raises(TypeError) as excinfo:
        jax.jit(lambda key: drive(key, TRAIN))(KEY)
    assert str(excinfo.value) == (
        "drive: expected concrete arrays, got traced ones. Inside jit, vmap or grad call fit: it is pure."
    )


FIX = "expected a run of the same key shape, trainer, data, epochs and batch_size, got one with"
ERRORS = {
    "every": ({"every": 0}, ValueError, "drive: expected every to be a whole number >= 1, got 0."),
    "keys": (
        {"key": jax.random.split(KEY, (2, 2))},
        ValueError,
        "drive: expected one key or a row of keys, got key<fry>[2, 2].",
    ),
    "seed": (
        {"key": 0},
        TypeError,
        "drive: expected a key, as jax.random.key(0) makes it, got 0. Pass jax.random.key(0).",
    ),
    "run": ({"run": 3}, TypeError, "drive: expected run to be a Run, got 3."),
    "other epochs": (
        {"run": {"epochs": 6}},
        ValueError,
        f"drive: {FIX} float32[6, 3] where float32[5, 3] should be, at history/train/loss.",
    ),
    "no valid": (
        {"run": {"valid": None}},
        ValueError,
        f"drive: {FIX} nothing where float32[5] should be, at history/valid/loss.",
    ),
    "a row of runs": (
        {"run": {"key": jax.random.split(KEY, 2)}},
        ValueError,
        f"drive: {FIX} float32[2, 4] where float32[4] should be, at best/params/dense/b.",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    changes, kind, text = ERRORS[case]
    given = {"key": KEY, "train": TRAIN, "valid": VALID, **HOW}
    if isinstance(changes.get("run"), dict):
        other = given | changes["run"]
        keys, fit = other.pop("key"), lambda key: nn.fit(TRAINER, key, **other)
        changes = {"run": jax.eval_shape(jax.vmap(fit) if keys.shape else fit, keys)}
    with pytest.raises(kind) as excinfo:
        nn.drive(TRAINER, **(given | changes), progress=False)
    assert str(excinfo.value) == text
