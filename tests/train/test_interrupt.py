"""Signals at any moment of a run: nothing that is done is lost, and a second one ends at once."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import jax
import numpy as np
import pytest

import jaxnn as nn
from jaxnn.train._interrupt import Signals

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 8)).astype(np.float32)
DATA = X, np.tanh(X[:, :1])
KEY = jax.random.key(0)
SEED = 0


@pytest.fixture(autouse=True)
def interruptible():
    """A shell that starts pytest in the background has it, and its processes, ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def trainer(width):
    model = nn.serial(nn.dense(width), nn.tanh, nn.dense(1))
    return nn.trainer(model, nn.losses.squared_error, nn.adam(1e-3))


def identical(a, b):
    return jax.tree.all(jax.tree.map(partial(np.array_equal, equal_nan=True), a, b))


def after(seconds):
    """Ctrl-C so much later."""

    def press():
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.02)

    thread = threading.Thread(target=press, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("width", "count"),
    [(4, 3), *(pytest.param(w, n, marks=pytest.mark.slow) for w, n in ((4, 60), (32, 60), (256, 50), (1024, 30)))],
)
def test_an_interrupt_at_any_moment_gives_the_run_of_the_epochs_done(width, count):
    t, epochs, moments = trainer(width), 30, random.Random(SEED)
    go = partial(nn.drive, t, KEY, DATA, DATA, epochs=epochs, batch_size=16, progress=False)
    states = {}
    go(on_epoch=lambda look: states.update({look.epoch: jax.tree.map(np.array, look.run)}))
    begun = time.perf_counter()
    whole = go()
    seconds = time.perf_counter() - begun
    broken = 0
    for tried in range(4 * count):
        if tried >= count and 4 * broken >= count:
            break
        try:
            thread = after(moments.uniform(0, seconds))
            run = go()
            thread.join()  # the signal may come after the end
        except KeyboardInterrupt:
            continue
        assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(run))
        epoch = int(run.epoch)
        broken += epoch < epochs
        assert identical(run, whole if epoch == epochs else states[epoch]) if epoch else int(run.ts.step) == 0
    assert 4 * broken >= count, f"seed {SEED}: {broken} of {4 * count} came in time"


TWICE = """
import signal
import jax, numpy as np
import jaxnn as nn
from jaxnn.train._interrupt import Signals
wait = Signals.wait
def told(self, array):
    print("running", flush=True)
    wait(self, array)
Signals.wait = told
x = np.random.default_rng(0).normal(size=(25_600, 8)).astype(np.float32)
t = nn.trainer(nn.serial(nn.dense(512), nn.tanh, nn.dense(1)), nn.losses.squared_error, nn.adam(1e-3))
try:
    nn.drive(t, jax.random.key(0), (x, x[:, :1]), epochs=1000, every=1000, batch_size=16, progress=False)
except KeyboardInterrupt:
    print("restored" if signal.getsignal(signal.SIGINT) is signal.default_int_handler else "taken", flush=True)
"""


@pytest.mark.slow
def test_a_second_one_ends_at_once():
    """The first comes when the program runs, for minutes; JAX itself waits for it when the process ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", TWICE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        assert process.stdout.readline().strip() == "running"
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        begun = time.perf_counter()
        process.send_signal(signal.SIGINT)
        while (line := process.stdout.readline().strip()) == "running":
            pass
        assert line == "restored"
        assert time.perf_counter() - begun < 5
    finally:
        process.kill()
        process.communicate()


def test_sigterm_counts_once():
    """GNU timeout sends it to the process and to its group."""
    with Signals(terminates=True) as signals:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert signals.terminated
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_signals_that_others_took_are_left_to_them():
    seen = []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append(1))
    try:
        run = nn.drive(
            trainer(4), KEY, DATA, epochs=3, progress=False, on_epoch=lambda look: os.kill(os.getpid(), signal.SIGINT)
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert int(run.epoch) == 3
    assert len(seen) == 3


@pytest.mark.slow
def test_in_another_thread_nothing_is_taken():
    runs = []
    thread = threading.Thread(target=lambda: runs.append(nn.drive(trainer(4), KEY, DATA, epochs=2, progress=False)))
    thread.start()
    thread.join()
    assert int(runs[0].epoch) == 2


TERMINATED = """
import sys, time
import jax, numpy as np
import jaxnn as nn
x = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.adam(1e-3))
def slow(look):
    print(look.epoch, flush=True)
    time.sleep(0.05)
data = (x, x[:, :1]) if sys.argv[2] == "arrays" else (lambda epoch: nn.data.batches((x, x[:, :1]), 16, key=epoch))
how = {"batch_size": 16} if sys.argv[2] == "arrays" else {}
nn.drive(t, jax.random.key(0), data, epochs=400, checkpoint=sys.argv[1], progress=False, on_epoch=slow, **how)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["arrays", "fed"])
def test_sigterm_leaves_a_checkpoint_and_a_message(tmp_path, kind):
    process = subprocess.Popen(
        [sys.executable, "-c", TERMINATED, tmp_path, kind], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for _ in range(5):
        process.stdout.readline()
    process.terminate()
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM
    newest = sorted(tmp_path.glob("epoch-*"))[-1]
    epoch = int(nn.load(newest).epoch)
    assert epoch >= 5
    assert f"drive: SIGTERM. The run is in {tmp_path}, after {epoch} epochs; the same call goes on." in said
