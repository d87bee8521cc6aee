"""`drive(checkpoint=...)`: what is kept, and that a run goes on to the last bit however it ended."""

import os
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn as nn
from jaxnn.io._files import replacing
from jaxnn.train import Best, Run
from jaxnn.train import _folder as module
from jaxnn.train import _progress as progress

RNG = np.random.default_rng(0)
X = RNG.normal(size=(22, 3)).astype(np.float32)
Y = np.tanh(X[:, :1])
TRAIN, VALID = (X[:14], Y[:14]), (X[14:], Y[14:])
KEY = jax.random.key(0)
MODEL = nn.serial(nn.dense(4), nn.tanh, nn.dropout(0.2), nn.dense(1))
TRAINER = nn.trainer(MODEL, nn.losses.squared_error, nn.adam(0.03))
HOW = {"epochs": 7, "batch_size": 4}
drive = partial(nn.drive, TRAINER, progress=False, **HOW)


def identical(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and jax.tree.all(
        jax.tree.map(partial(np.array_equal, equal_nan=True), a, b)
    )


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names(*epochs):
    return {"best.safetensors", *(f"epoch-{epoch:06d}.safetensors" for epoch in epochs)}


@pytest.fixture(scope="module")
def whole():
    return drive(KEY, TRAIN, VALID)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, whole):
    """The folder of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("finished")
    assert identical(whole, drive(KEY, TRAIN, VALID, checkpoint=folder))
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copied")


class Ended(BaseException):
    """As a kill: nothing catches it."""


def ending(monkeypatch, module, name, number):
    """Lets the call of that number, counted from 0, end the process; says afterwards whether it came to that."""
    function, calls = getattr(module, name), []

    def call(*args, **kwargs):
        calls.append(1)
        if len(calls) == number + 1:
            raise Ended
        return function(*args, **kwargs)

    monkeypatch.setattr(module, name, call)
    return lambda: len(calls) > number


# What is kept.


@pytest.mark.slow
def test_the_last_and_the_best_are_kept(finished, whole):
    assert content(finished).keys() == names(5, 6, 7)
    last = nn.load(finished / "epoch-000007.safetensors")
    assert type(last) is Run
    assert identical(last, whole)
    best = nn.load(finished / "best.safetensors")
    assert type(best) is Best
    assert identical(best, whole.best)
    for epoch in (5, 6):
        run = nn.load(finished / f"epoch-{epoch:06d}.safetensors")
        assert int(run.epoch) == epoch
        assert identical(whole, drive(KEY, TRAIN, VALID, run=run))


@pytest.mark.parametrize(
    ("every", "keep", "kept"), [(1, 1, [7]), (1, 9, [1, 2, 3, 4, 5, 6, 7]), (3, 2, [6, 7]), (100, 3, [7])]
)
@pytest.mark.slow
def test_how_many_are_kept(tmp_path, whole, every, keep, kept):
    folder = tmp_path / "made" / "by drive"
    assert identical(whole, drive(KEY, TRAIN, VALID, checkpoint=str(folder), every=every, keep=keep))
    assert content(folder).keys() == names(*kept)
    assert identical(nn.load(folder / "best.safetensors"), whole.best)


@pytest.mark.slow
def test_the_best_is_written_when_it_is_new_and_not_else(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(
        module, "save_with", lambda path, tree, _: (nn.save(path, tree), written.append(os.path.basename(path)))
    )
    rising = nn.trainer(nn.dense(1), nn.losses.squared_error, optax.scale(0.01))
    nn.drive(rising, KEY, TRAIN, VALID, epochs=4, patience=2, progress=False, checkpoint=tmp_path)
    runs = [f"epoch-{epoch:06d}.safetensors" for epoch in (1, 2, 3, 4)]
    assert written == ["best.safetensors", *runs]
    assert int(nn.load(tmp_path / runs[-1]).wait) == 3
    written.clear()
    falling = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.sgd(0.01))
    nn.drive(falling, KEY, TRAIN, VALID, epochs=4, progress=False, every=2, checkpoint=tmp_path / "falling")
    assert written == ["best.safetensors", runs[1], "best.safetensors", runs[3]]


@pytest.mark.slow
def test_a_row_of_runs(tmp_path):
    keys = jax.random.split(KEY, 3)
    rows = partial(nn.drive, TRAINER, keys, TRAIN, VALID, progress=False, patience=1, **HOW)
    expected = rows()
    assert identical(expected, rows(checkpoint=tmp_path, every=2))
    assert identical(nn.load(tmp_path / "best.safetensors"), expected.best)
    os.unlink(tmp_path / sorted(content(tmp_path))[-1])
    assert identical(expected, rows(checkpoint=tmp_path))


# Going on.


def test_called_again_it_goes_on_or_is_done(finished, copied, whole, monkeypatch):
    assert identical(whole, drive(KEY, TRAIN, VALID, checkpoint=copied))  # done: nothing is written
    assert content(copied) == content(finished)
    os.unlink(copied / "epoch-000007.safetensors")
    assert identical(whole, drive(KEY, TRAIN, VALID, checkpoint=copied))
    assert content(copied) == content(finished)


@pytest.mark.parametrize("function", [pytest.param("fsync", marks=pytest.mark.slow), "replace", "unlink"])
def test_ended_at_any_call_of_the_file_system(tmp_path, finished, whole, monkeypatch, function):
    number = 0
    while True:
        folder = tmp_path / str(number)
        with monkeypatch.context() as patch:
            came = ending(patch, os, function, number)
            try:
                run = drive(KEY, TRAIN, VALID, checkpoint=folder)
            except Ended:
                run = drive(KEY, TRAIN, VALID, checkpoint=folder)
        assert identical(whole, run)
        assert content(folder).items() >= content(finished).items()  # one more if it ended before the last was removed
        if not came():
            break
        number += 1
    assert number >= {"fsync": 16, "replace": 8, "unlink": 4}[function]


def test_of_two_runs_the_one_further_on_goes_on(copied, tmp_path, whole):
    early = nn.load(copied / "epoch-000005.safetensors")
    assert identical(whole, drive(KEY, TRAIN, VALID, run=early, checkpoint=copied))
    folder = tmp_path / "early"
    folder.mkdir()
    shutil.copy(copied / "epoch-000005.safetensors", folder)
    late = nn.load(copied / "epoch-000006.safetensors")
    assert identical(whole, drive(KEY, TRAIN, VALID, run=late, checkpoint=folder))
    assert content(folder).keys() == names(5, 7)
    assert identical(nn.load(folder / "best.safetensors"), whole.best)


def interrupting():
    """A reporter that is interrupted after the third epoch."""

    def show(look):
        if look.epoch == 3:
            raise KeyboardInterrupt

    return progress.Reporter(show, lambda text: None)


def test_an_interrupt_goes_on_from_the_folder(tmp_path, whole, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(progress, "silent", interrupting)
        assert int(drive(KEY, TRAIN, VALID, checkpoint=tmp_path).epoch) == 3
    assert content(tmp_path).keys() == names(1, 2, 3)
    assert identical(whole, drive(KEY, TRAIN, VALID, checkpoint=tmp_path))


@pytest.mark.slow
def test_batches_from_outside_go_on_where_the_folder_stands(tmp_path, monkeypatch):
    def fed(epoch):
        asked.append(epoch)
        order = np.random.default_rng(epoch).permutation(len(TRAIN[0]))
        return [jax.tree.map(lambda a, rows=rows: a[rows], TRAIN) for rows in order[:12].reshape(3, 4)]

    asked = []
    how = {"epochs": 5, "progress": False}
    whole = nn.drive(TRAINER, KEY, fed, VALID, **how)
    with monkeypatch.context() as patch:
        patch.setattr(progress, "silent", interrupting)
        nn.drive(TRAINER, KEY, fed, VALID, **how, checkpoint=tmp_path)
    assert content(tmp_path).keys() == names(1, 2, 3)
    asked.clear()
    assert identical(whole, nn.drive(TRAINER, KEY, fed, VALID, **how, checkpoint=tmp_path))
    assert asked[-2:] == [3, 4]  # after the first ones, which tell the shapes of a batch
    assert identical(whole, nn.drive(TRAINER, KEY, fed, VALID, **how, checkpoint=tmp_path))


def test_what_a_kill_left_is_cleared_and_the_rest_is_not_touched(copied, whole):
    left = copied / f".{'0a' * 16}.tmp"
    others = [
        copied / name for name in (".hidden.tmp", "epoch-3.safetensors", "notes.txt", "epoch-000001.safetensors~")
    ]
    for path in (left, *others):
        path.write_bytes(b"half")
    os.unlink(copied / "epoch-000007.safetensors")
    assert identical(whole, drive(KEY, TRAIN, VALID, checkpoint=copied))
    assert content(copied).keys() == names(5, 6, 7) | {path.name for path in others}


def test_what_others_are_writing_stays(copied, whole):
    os.unlink(copied / "epoch-000007.safetensors")
    with replacing(copied / "other.safetensors") as file:
        file.write(b"half")
        assert identical(whole, drive(KEY, TRAIN, VALID, checkpoint=copied))
        file.write(b" and half")
    assert (copied / "other.safetensors").read_bytes() == b"half and half"
    assert content(copied).keys() == names(5, 6, 7) | {"other.safetensors"}


@pytest.mark.parametrize("keep", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_a_file_that_holds_another_epoch_is_passed_over(copied, whole, keep):
    shutil.copy(copied / "epoch-000005.safetensors", copied / "epoch-000099.safetensors")
    os.unlink(copied / "epoch-000007.safetensors")
    with pytest.warns(UserWarning, match="epoch-000099") as caught:
        assert identical(whole, drive(KEY, TRAIN, VALID, checkpoint=copied, keep=keep))
    path = copied / "epoch-000099.safetensors"
    assert [str(w.message) for w in caught] == [
        f"drive: {path} is passed over. load {path}: expected the epochs of its name, got a run of 5 epochs."
    ]
    assert content(copied).keys() == names(*[5, 6, 7][-keep:], 99)


# optax keeps rates and counts of its own, some of them weakly typed, among bfloat16 params.
STATES = {
    "inject": lambda: optax.inject_hyperparams(optax.sgd)(optax.linear_schedule(0.1, 0.01, 20), momentum=0.9),
    "inject a number": lambda: optax.inject_hyperparams(optax.sgd)(0.1),
    "chain": lambda: optax.chain(optax.clip(1.0), optax.trace(0.9), optax.scale_by_learning_rate(0.1)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_states_of_optax_go_on_to_the_bit(tmp_path, name, dtype):
    def init(key, batch):
        return {"w": jax.random.normal(key, (3, 1), dtype)}, {}

    def objective(params, state, batch, *, key, train):
        x, y = (a.astype(dtype) for a in batch)
        return jnp.mean((x @ params["w"] - y) ** 2), (state, {})

    trainer = nn.objective_trainer(init, objective, STATES[name]())
    expected = nn.drive(trainer, KEY, TRAIN, progress=False, **HOW)
    nn.drive(trainer, KEY, TRAIN, progress=False, checkpoint=tmp_path, **HOW)
    os.unlink(tmp_path / "epoch-000007.safetensors")
    os.unlink(tmp_path / "epoch-000006.safetensors")
    assert identical(expected, nn.drive(trainer, KEY, TRAIN, progress=False, checkpoint=tmp_path, **HOW))


# Damaged files.


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def empty(path):
    path.write_bytes(b"")


def zeros(path):
    path.write_bytes(bytes(path.stat().st_size))


def tail_of_zeros(path):
    data = path.read_bytes()
    path.write_bytes(data[:-64] + bytes(64))


DAMAGES = [cut, flip, empty, zeros, tail_of_zeros]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
def test_damaged_files_are_passed_over(copied, finished, whole, damage):
    for epoch in (6, 7):
        damage(copied / f"epoch-{epoch:06d}.safetensors")
    with pytest.warns(UserWarning, match="passed over") as caught:
        assert identical(whole, drive(KEY, TRAIN, VALID, checkpoint=copied))
    assert content(copied) == content(finished)
    assert len(caught) == 2
    path = copied / "epoch-000007.safetensors"
    assert str(caught[0].message).startswith(f"drive: {path} is passed over. load {path}: expected a")
    assert caught[0].filename == __file__


@pytest.mark.parametrize("damage", [*DAMAGES, os.unlink], ids=lambda f: f.__name__)
def test_a_damaged_best_is_written_again(copied, finished, whole, damage):
    damage(copied / "best.safetensors")
    if damage is os.unlink:
        assert identical(whole, drive(KEY, TRAIN, VALID, checkpoint=copied))
    else:
        with pytest.warns(UserWarning, match=r"best.safetensors is passed over. load "):
            assert identical(whole, drive(KEY, TRAIN, VALID, checkpoint=copied))
    assert content(copied) == content(finished)
