"""`drive` is `fit` to the bit, however it is cut, continued or interrupted; and what it shows."""

import builtins
import gc
import re
import weakref
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn
from jaxnn.train import _pieces as pieces
from jaxnn.train import _progress as progress
from jaxnn.train._programs import Programs

pytestmark = pytest.mark.usefixtures("optimized")

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

    def show(look):
        if look.epoch >= at:
            raise KeyboardInterrupt

    return lambda: progress.Reporter(show, lambda text: None)


@pytest.mark.slow
def test_drive_is_fit_to_the_bit(whole):
    assert identical(whole, jax.jit(partial(nn.fit, TRAINER, **HOW))(KEY, TRAIN, VALID))


@pytest.mark.parametrize("every", [pytest.param(2, marks=pytest.mark.slow), 3, 100])
def test_any_cut_gives_the_same_bits(whole, every):
    assert identical(whole, drive(KEY, TRAIN, VALID, every=every))


@pytest.mark.parametrize("at", [1, 3])
def test_interrupted_saved_loaded_and_continued_gives_the_same_bits(whole, at, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(progress, "silent", interrupting(at))
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
    real, calls = pieces.programs, []

    def once(plan, many):
        def advances(*args):
            if calls:
                raise KeyboardInterrupt
            calls.append(args)
            return real(plan, many).advances(*args)

        return real(plan, many)._replace(advances=advances)

    monkeypatch.setattr(pieces, "programs", once)
    part = drive(KEY, TRAIN, VALID, every=2)
    assert int(part.epoch) == 2
    monkeypatch.undo()
    assert identical(whole, drive(KEY, TRAIN, VALID, run=part))


def test_interrupt_that_took_the_run_is_not_hidden(monkeypatch):
    real = pieces.programs

    def lost(plan, many):
        def advances(*args):
            real(plan, many).advances(*args)
            raise KeyboardInterrupt

        return real(plan, many)._replace(advances=advances)

    monkeypatch.setattr(pieces, "programs", lost)
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


@pytest.mark.slow
def test_early_stopping():
    still = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.sgd(0.0))
    run = nn.drive(still, KEY, TRAIN, VALID, epochs=50, patience=1, every=7, progress=False)
    assert (int(run.epoch), int(run.wait)) == (3, 2)
    assert np.isnan(run.history["valid"]["loss"][3:]).all()


def test_no_second_compilation(compilations):
    trainer = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.sgd(0.1))
    nn.drive(trainer, KEY, TRAIN, epochs=3, progress=False)
    before = compilations()
    for key in (KEY, jax.random.key(1), jax.random.key_data(KEY)):
        for every in (1, 3):
            nn.drive(trainer, key, TRAIN, epochs=3, every=every, progress=False)
    assert compilations() == before


@pytest.mark.slow
def test_programs_live_no_longer_than_their_trainer():
    trainer = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.sgd(0.1))
    there = [weakref.ref(part) for part in (*trainer[:5], *trainer.model[:2])]
    for data in ((TRAIN,), (lambda epoch: [TRAIN], lambda epoch: [VALID])):
        nn.drive(trainer, KEY, *data, epochs=2, progress=False)
    del trainer
    gc.collect()
    assert [ref() for ref in there] == [None] * len(there)


class _Unhashable:
    __hash__ = None

    def __call__(self, prediction, target):
        return nn.losses.squared_error(prediction, target)


@dataclass(frozen=True)
class _OfAnArray:
    scale: jax.Array

    def __call__(self, prediction, target):
        return self.scale * nn.losses.squared_error(prediction, target)


@pytest.mark.parametrize("loss", [_Unhashable(), _OfAnArray(jnp.ones(()))], ids=type)
@pytest.mark.slow
def test_a_loss_that_cannot_be_hashed(loss):
    made = [nn.trainer(nn.dense(1), f, nn.sgd(0.1)) for f in (loss, nn.losses.squared_error)]
    runs = [nn.drive(trainer, KEY, TRAIN, epochs=2, progress=False) for trainer in made]
    assert identical(runs[0].ts, runs[1].ts)
    assert nn.diagnose(made[0], KEY, TRAIN)


def test_the_programs_of_the_latest_are_kept():
    kept = Programs(lambda key: object(), size=2)
    made = [kept.of(i) for i in (1, 2, 1, 3)]
    assert made[0] is made[2]
    assert kept.of(1) is made[0]
    assert kept.of(2) is not made[1]


# What is called while it goes.


def test_on_epoch_is_told_of_each_epoch(whole):
    looks = []
    run = drive(KEY, TRAIN, VALID, on_epoch=looks.append)
    assert identical(run, whole)
    assert [(look.epoch, look.step) for look in looks] == [(i, 3 * i) for i in range(1, 6)]
    for i, look in enumerate(looks):
        assert_close(look.metrics["train"]["loss"], whole.history["train"]["loss"][i].mean())
        assert_close(look.metrics["valid"]["loss"], whole.history["valid"]["loss"][i])
    seconds = [look.elapsed for look in looks]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


@pytest.mark.parametrize("feed", [False, True])
@pytest.mark.slow
def test_a_hook_may_end_the_run(whole, feed):
    train = (lambda epoch: nn.data.batches(TRAIN, 4, key=epoch)) if feed else TRAIN
    how = HOW | ({"batch_size": None} if feed else {})
    part = nn.drive(TRAINER, KEY, train, VALID, **how, progress=False, on_epoch=lambda look: look.epoch == 2)
    assert int(part.epoch) == 2
    rest = nn.drive(TRAINER, KEY, train, VALID, **how, progress=False, run=part)
    assert feed or identical(rest, whole)


def test_what_a_hook_raises_is_the_users_own():
    class Mine(Exception):
        pass

    def stop(look):
        if look.epoch == 3:
            raise Mine("enough")

    with pytest.raises(Mine) as excinfo:
        drive(KEY, TRAIN, VALID, on_epoch=stop)
    assert str(excinfo.value) == "enough"
    assert int(excinfo.value.run.epoch) == 3


@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.slow), 5])
@pytest.mark.parametrize("feed", [pytest.param(False), pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_on_steps_is_told_after_every_n(whole, n, feed):
    steps = []
    train = (lambda epoch: nn.data.batches(TRAIN, 4, key=epoch)) if feed else TRAIN
    how = HOW | ({"batch_size": None} if feed else {})
    run = nn.drive(
        TRAINER, KEY, train, VALID, **how, progress=False, on_steps=(n, lambda look: steps.append(look.step))
    )
    assert feed or identical(run, whole)
    width = run.history["train"]["loss"].shape[-1]
    assert steps == [s for s in range(1, 5 * width + 1) if s % width == 0 or (s % width) % n == 0]


def test_on_steps_ends_within_an_epoch_and_goes_on(whole):
    part = drive(KEY, TRAIN, VALID, on_steps=(1, lambda look: look.step == 7))
    assert (int(part.epoch), int(part.ts.step)) == (2, 7)
    assert identical(drive(KEY, TRAIN, VALID, run=part, on_steps=(2, lambda look: None)), whole)


# A run is prolonged.


@pytest.mark.parametrize("many", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_more_epochs_are_one_long_run(whole, many, tmp_path):
    key = jax.random.split(KEY, 2) if many else KEY
    long = drive(key, TRAIN, VALID)
    short = nn.drive(TRAINER, key, TRAIN, VALID, **(HOW | {"epochs": 2}), progress=False)
    assert identical(drive(key, TRAIN, VALID, run=short), long)
    assert int(np.max(short.epoch)) == 2
    nn.drive(TRAINER, key, TRAIN, VALID, **(HOW | {"epochs": 2}), progress=False, checkpoint=tmp_path)
    assert identical(drive(key, TRAIN, VALID, checkpoint=tmp_path), long)


@pytest.mark.slow
def test_a_fed_run_is_prolonged(tmp_path):
    train = lambda epoch: nn.data.batches(TRAIN, 4, key=epoch)  # noqa: E731
    go = partial(nn.drive, TRAINER, KEY, train, VALID, progress=False)
    long = go(epochs=4)
    assert identical(go(epochs=4, run=go(epochs=2)), long)
    go(epochs=2, checkpoint=tmp_path)
    assert identical(go(epochs=4, checkpoint=tmp_path), long)


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
    def interrupt(look):
        raise KeyboardInterrupt

    plain = progress.lines
    monkeypatch.setattr(progress, "lines", lambda total: plain(total)._replace(show=interrupt))
    assert lines(capsys, monkeypatch) == ["interrupted: the run is kept as far as it got"]


# What is refused.


def test_under_a_trace():
    with pytest.raises(TypeError) as excinfo:
        jax.jit(lambda key: drive(key, TRAIN))(KEY)
    assert str(excinfo.value) == (
        "drive: expected concrete arrays, got a traced key<fry>[]. "
        "Inside jit, vmap, grad or sweep call fit: it is pure."
    )


FIX = "expected a run of the same key shape, trainer, data, epochs and batch_size, got one with"
ERRORS = {
    "keys": (
        {"key": jax.random.split(KEY, (2, 2))},
        ValueError,
        "drive: expected one key or a batch of keys, got key<fry>[2, 2].",
    ),
    "seed": (
        {"key": 0},
        TypeError,
        "drive: expected a key, as jax.random.key(0) makes it, got 0. Pass jax.random.key(0).",
    ),
    "run": ({"run": 3}, TypeError, "drive: expected run to be a Run, got 3."),
    "on_epoch": ({"on_epoch": 3}, TypeError, "drive: expected on_epoch to be a function of a Look, got 3."),
    "an answer": (
        {"on_epoch": lambda look: "stop"},
        TypeError,
        "drive: expected a hook to return True, to end the run, False or None, got 'stop'.",
    ),
    "on_steps": (
        {"on_steps": print},
        TypeError,
        "drive: expected on_steps to be (n, a function of a Look), got the function print.",
    ),
    "n of on_steps": (
        {"on_steps": (0, print)},
        ValueError,
        "drive: expected the n of on_steps to be an integer >= 1, got 0.",
    ),
    "on_steps of a row": (
        {"key": jax.random.split(KEY, 2), "on_steps": (1, print)},
        ValueError,
        "drive: expected one key with on_steps, got a batch of keys. Call drive for each, or use on_epoch.",
    ),
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
