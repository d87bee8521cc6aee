"""Batches from outside: the bits of `fit` on the same batches, a thread that ends, memory that stays flat."""

import subprocess
import sys
import textwrap
import threading
import traceback
import zlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn
from jaxnn.train import _feed as module
from jaxnn.train import _progress as progress

pytestmark = pytest.mark.usefixtures("optimized")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(22, 3)).astype(np.float32)
Y = np.tanh(X[:, :1])
TRAIN, VALID = (X[:14], Y[:14]), (X[14:], Y[14:])
KEY = jax.random.key(0)
TRAINER = nn.trainer(nn.serial(nn.dense(4), nn.dropout(0.2), nn.dense(1)), nn.losses.squared_error, nn.adam(0.03))


def taken(data, rows):
    return jax.tree.map(lambda a: a[rows], data)


def noisy(key, batch):
    return batch[0] + 0.1 * jax.random.normal(key, batch[0].shape), batch[1]


HOW = {"epochs": 4, "augment": noisy}
drive = partial(nn.drive, TRAINER, progress=False, **HOW)
ORDER_KEY = jax.random.fold_in(jax.random.wrap_key_data(TRAINER.init(KEY, TRAIN).key), np.uint32(zlib.crc32(b"order")))


def feed(epoch):
    """The batches that `fit` takes with KEY and batches of 4."""
    order = np.asarray(jax.random.permutation(jax.random.fold_in(ORDER_KEY, epoch), 14))[:12]
    return (taken(TRAIN, rows) for rows in order.reshape(3, 4))


def identical(a, b):
    return jax.tree.all(jax.tree.map(partial(np.array_equal, equal_nan=True), a, b))


def feeders():
    return [thread for thread in threading.enumerate() if thread.name == "jaxnn feed"]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    for thread in feeders():
        thread.join(timeout=5)
    assert feeders() == []


@pytest.fixture(scope="module")
def whole():
    return jax.jit(partial(nn.fit, TRAINER, batch_size=4, **HOW), compiler_options=nn.compiler_options())(
        KEY, TRAIN, VALID
    )


@pytest.mark.parametrize("most", [pytest.param(1, marks=pytest.mark.slow), 2, 64])
def test_the_batches_of_fit_give_the_bits_of_fit(whole, most, monkeypatch):
    monkeypatch.setattr(module, "BATCHES", most)
    assert identical(whole, drive(KEY, feed, VALID))


@pytest.mark.slow
def test_arrays_evaluated_on_a_feed(whole):
    parts = [taken(VALID, slice(0, 5)), taken(VALID, slice(5, 8))]
    run = drive(KEY, TRAIN, lambda epoch: parts, batch_size=4)
    assert identical(run.ts, whole.ts)
    assert identical(run.history["train"], whole.history["train"])
    assert_close(run.history["valid"]["loss"], whole.history["valid"]["loss"])  # means weighted by 5 and 3


class Loader:
    """What a loader is: iterable anew, in an order of its own."""

    def __iter__(self):
        return iter([taken(TRAIN, slice(i, i + 4)) for i in (0, 4, 8)])


class Indexed:
    """The older protocol of a sequence."""

    def __getitem__(self, i):
        return [taken(TRAIN, slice(start, start + 4)) for start in (0, 4, 8)][i]


def test_any_iterable_does():
    runs = [drive(KEY, train) for train in (Loader(), Indexed(), lambda epoch: list(Loader()))]
    assert runs[0].history["train"]["loss"].shape == (4, 3)
    assert identical(runs[0], runs[1])
    assert identical(runs[0], runs[2])


@pytest.mark.slow
def test_a_smaller_last_batch_is_a_step_as_well():
    plain = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.adam(0.03))
    run = nn.drive(plain, KEY, lambda epoch: nn.data.batches(TRAIN, 4), epochs=2, progress=False)
    ts, losses = plain.init(KEY, TRAIN), []
    for start in (0, 4, 8, 12) * 2:
        ts, metrics = plain.step(ts, taken(TRAIN, slice(start, start + 4)))
        losses.append(float(metrics["loss"]))
    assert_close(run.history["train"]["loss"], np.reshape(losses, (2, 4)))
    jax.tree.map(partial(assert_close, scale=1.0), run.ts.params, ts.params)


@pytest.mark.slow
def test_a_row_of_keys_shares_the_batches():
    keys = jax.random.split(KEY, 2)
    runs, one = drive(keys, Loader(), VALID), drive(keys[1], Loader(), VALID)
    for split, shape in (("train", (2, 4, 3)), ("valid", (2, 4))):
        assert runs.history[split]["loss"].shape == shape
        assert_close(runs.history[split]["loss"][1], one.history[split]["loss"])


@pytest.mark.slow
def test_float64(x64):
    run = nn.drive(
        nn.trainer(nn.dense(1), nn.losses.squared_error, nn.sgd(0.1)),
        KEY,
        lambda epoch: [taken((X.astype(np.float64), Y.astype(np.float64)), slice(0, 4))],
        epochs=1,
        progress=False,
    )
    assert run.ts.params["w"].dtype == run.history["train"]["loss"].dtype == jnp.float64


def interrupted(monkeypatch, at, **how):
    """What is left of a run that is interrupted once so many steps are taken."""

    def show(look):
        if look.step >= at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(progress, "silent", lambda: progress.Reporter(show, lambda text: None))
        return drive(KEY, feed, VALID, **how)


@pytest.mark.parametrize(("at", "width"), [(2, 2), (3, 3), (8, 3)])
@pytest.mark.slow
def test_interrupted_saved_loaded_and_continued_gives_the_same_bits(whole, at, width, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "BATCHES", 1)
    part = interrupted(monkeypatch, at)
    assert (int(part.ts.step), part.history["train"]["loss"].shape) == (at, (4, width))
    assert feeders() == []
    nn.save(tmp_path / "run", part)
    assert identical(whole, drive(KEY, feed, VALID, run=nn.load(tmp_path / "run")))


@pytest.mark.slow
def test_a_run_in_an_epoch_needs_its_batches(monkeypatch):
    monkeypatch.setattr(module, "BATCHES", 1)
    part = interrupted(monkeypatch, 5)
    with pytest.raises(ValueError) as excinfo:
        drive(KEY, TRAIN, VALID, batch_size=4, run=part)
    assert str(excinfo.value) == (
        "drive: expected a run between two epochs of arrays, got one 2 steps into an epoch. "
        "Pass the batches with which it was begun."
    )


def test_a_finished_run_stays_and_reads_nothing(whole):
    def never(epoch):
        raise AssertionError("read")

    assert identical(whole, drive(KEY, never, VALID, run=whole))


@pytest.mark.slow
def test_stopping_early_ends_the_reading():
    still = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.sgd(0.0))
    run = nn.drive(still, KEY, Loader(), VALID, epochs=500, patience=1, progress=False)
    assert (int(run.epoch), int(run.wait)) == (3, 2)


def test_no_second_compilation(compilations):
    other = jax.random.key(1)
    drive(KEY, Loader(), VALID)
    before = compilations()
    drive(other, Loader(), VALID)
    assert compilations() == before


def test_what_a_feed_raises_is_raised_with_its_own_traceback_and_the_run():
    def torn(epoch):
        yield taken(TRAIN, slice(0, 4))
        if epoch == 2:
            raise OSError("the file is gone")

    with pytest.raises(OSError, match="the file is gone") as excinfo:
        drive(KEY, torn)
    assert traceback.extract_tb(excinfo.value.__traceback__)[-1].name == "torn"
    assert excinfo.value.__notes__ == ["drive: the run, as far as it got, is the attribute `run` of this exception."]
    assert int(excinfo.value.run.epoch) <= 2
    assert int(excinfo.value.run.ts.step) >= 1


def test_the_thread_is_a_few_ahead_and_no_more():
    made = []

    def items():
        for i in range(100):
            made.append(i)
            yield i

    ahead = module.prefetched(items())
    assert [next(ahead) for _ in range(3)] == [0, 1, 2]
    threading.Event().wait(0.3)
    assert 3 <= len(made) <= 3 + module.AHEAD + 1
    ahead.close()
    assert feeders() == []
    assert list(module.prefetched(iter_of(3))) == [0, 1, 2]


def iter_of(n):
    yield from range(n)


def counting(counts):
    return lambda epoch: [taken(TRAIN, slice(0, 4))] * counts[epoch]


ERRORS = {
    "generator": (
        {"train": (b for b in "ab")},
        TypeError,
        "expected train to be iterable again in each epoch, got the generator <genexpr>. "
        "Pass a function that makes one: lambda epoch: batches().",
    ),
    "batch size": (
        {"train": Loader(), "batch_size": 4},
        ValueError,
        "expected no batch_size where train gives batches, got 4. Leave it out.",
    ),
    "nothing": (
        {"train": lambda epoch: []},
        ValueError,
        "expected train to give batches, got none in epoch 1.",
    ),
    "no iterable": (
        {"train": lambda epoch: 3},
        TypeError,
        "expected train to give an iterable of batches, got 3.",
    ),
    "nothing to evaluate on": (
        {"train": Loader(), "valid": lambda epoch: []},
        ValueError,
        "expected valid to give batches, got none in epoch 1.",
    ),
    "lengths": (
        {"train": lambda epoch: [(X, Y[:3])]},
        ValueError,
        "expected each batch of train to have as many examples in every array, and at least one, "
        "got (float32[22, 3], float32[3, 1]).",
    ),
    "fewer": (
        {"train": counting([3, 2])},
        ValueError,
        "expected train to give 3 batches, as in the first epoch, got 2 in epoch 2. "
        "Cut longer ones, for example by itertools.islice.",
    ),
    "more": (
        {"train": counting([1, 2])},
        ValueError,
        "expected train to give 1 batches, as in the first epoch, got 2 or more in epoch 2. "
        "Cut longer ones, for example by itertools.islice.",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    changes, kind, text = ERRORS[case]
    with pytest.raises(kind) as excinfo:
        nn.drive(TRAINER, KEY, **({"valid": None, "epochs": 2} | changes), progress=False)
    assert str(excinfo.value) == f"drive: {text}"


@pytest.mark.slow
def test_memory_stays_flat_on_a_set_that_is_larger(tmp_path):
    """1.6 GB in a sparse file, in a process whose resident memory may grow by a tenth of it."""
    program = f"""
    import threading
    import jax, numpy as np, jaxnn as nn

    def resident():
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024

    x = np.memmap({str(tmp_path / "x")!r}, np.float32, "w+", shape=(400_000, 1000))
    y = np.zeros((400_000, 1), np.float32)
    t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.sgd(0.1))
    seen = []

    def feed(epoch):
        for i, batch in enumerate(nn.data.batches((x, y), 1000)):
            if i % 50 == 0:
                seen.append(resident())
            yield batch

    run = nn.drive(t, jax.random.key(0), feed, epochs=2, progress=False)
    print(int(run.ts.step), x.nbytes / 2**20, seen[2], max(seen[2:]))
    """
    code = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(code, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    steps, size, early, most = map(float, done.stdout.split())
    assert steps == 800
    assert size > 1500
    assert most - early < size / 10, f"{early} MiB grew to {most} MiB"
