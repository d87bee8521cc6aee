"""A process that is killed at random moments, and in the end has the bits of one that was not."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxnn as nn

ROOT = Path(__file__).parents[2]
# A state of 6 MB, so that a good part of the time goes to writing it.
START = """
import sys
import jax, numpy as np
import jaxnn as nn
rng = np.random.default_rng(0)
x = rng.normal(size=(40, 16)).astype(np.float32)
y = np.tanh(x[:, :1])
train, valid = (x[:24], y[:24]), (x[24:], y[24:])
def fed(epoch):
    rows = np.random.default_rng(epoch).permutation(24).reshape(3, 8)
    return [(train[0][r], train[1][r]) for r in rows]
def model(width):
    hidden = [nn.dense(width), nn.tanh, nn.dropout(0.1), nn.dense(width), nn.tanh]
    return nn.trainer(nn.serial(*hidden, nn.dense(1)), nn.losses.squared_error, nn.adam(1e-3))
folder, key, epochs = sys.argv[1], jax.random.key(0), int(sys.argv[2])
how = dict(epochs=epochs, checkpoint=folder, progress=False)
print("ready", flush=True)
"""
# What is trained, how many epochs, how often it is killed, and how often at least while it writes.
RUNS = {
    "fed": ("nn.drive(model(512), key, fed, valid, **how)", 60, 5, 1),
    "arrays": ("nn.drive(model(512), key, train, valid, batch_size=8, **how)", 120, 12, 2),
    "a row": ("nn.drive(model(256), jax.random.split(key, 4), train, valid, batch_size=8, **how)", 60, 5, 1),
}


def begin(program, folder, cache, epochs):
    """A process that trains, from where the folder is; returns once it is about to begin."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    command = [sys.executable, "-W", "error", "-c", START + program, str(folder), str(epochs)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    assert child.stdout.readline() == b"ready\n"
    return child


def reached(folder):
    return max((int(path.stem.removeprefix("epoch-")) for path in folder.glob("epoch-*")), default=0)


def finish(child):
    assert child.wait(timeout=300) == 0
    child.stdout.close()


def hidden(folder):
    return {path.name for path in folder.rglob("*") if path.name.endswith(".tmp")}


def kill_when(child, ready, wait):
    """Kills a process some time after `ready()`."""
    while not ready():
        assert child.poll() is None
        time.sleep(1e-4)
    time.sleep(wait)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()


@pytest.mark.slow
@pytest.mark.parametrize("case", RUNS)
def test_killed_at_random_moments(tmp_path, case):
    program, epochs, kills, least = RUNS[case]
    whole, killed, cache = (tmp_path / name for name in ("whole", "killed", "cache"))
    killed.mkdir()
    finish(begin(program, whole, cache, epochs))
    draw = random.Random(0)
    half_written = set()  # the next process clears them
    for i in range(kills):
        child = begin(program, killed, cache, epochs)
        goal, old = reached(killed) + draw.randrange(8), hidden(killed)

        def ready(goal=goal, old=old, writing=i % 2):
            return reached(killed) >= goal and (not writing or hidden(killed) - old)

        kill_when(child, ready, draw.uniform(0, 0.002 if i % 2 else 0.05))
        half_written |= hidden(killed)
    print(f"{len(half_written)} of {kills} during a write, {reached(killed)} epochs done")
    assert len(half_written) >= least
    assert 0 < reached(killed) < epochs
    finish(begin(program, killed, cache, epochs))

    name = f"epoch-{epochs:06d}.safetensors"
    expected, run = nn.load(whole / name), nn.load(killed / name)
    assert int(run.epoch.max()) == epochs
    for part in (lambda r: r.ts.params, lambda r: r.ts.opt_state, lambda r: r.history, lambda r: r.best, lambda r: r):
        assert jax.tree.all(jax.tree.map(np.array_equal, part(expected), part(run)))
    assert sorted(os.listdir(whole)) == sorted(os.listdir(killed))
    for path in whole.iterdir():
        assert path.read_bytes() == (killed / path.name).read_bytes(), path.name


ORBAX = """
import itertools
import jax.numpy as jnp
first = nn.load(folder)["step"] if epochs else 0
for i in itertools.count(first):
    nn.save(folder, {"w": jnp.full((1000, 1000), float(i)), "n": np.full(300_000, i), "step": i})
    print(i, flush=True)
"""


@pytest.mark.slow
def test_a_folder_of_orbax_is_killed_at_random_moments(tmp_path):
    folder, draw, done, left = tmp_path / "run.orbax", random.Random(0), -1, 0
    for _ in range(10):
        child = begin(ORBAX, folder, tmp_path / "cache", int(done >= 0))
        goal = draw.randint(1, 3)
        told = [int(child.stdout.readline()) for _ in range(goal)]
        kill_when(child, lambda: True, draw.uniform(0, 0.05))
        left += len(os.listdir(folder)) > 2
        tree = nn.load(folder)
        done = tree["step"]
        assert done >= told[-1]
        assert all((np.asarray(tree[name]) == done).all() for name in "wn")
    print(f"{left} of 10 during a write, {done} saves done")
    assert left > 0
    nn.save(folder, tree)
    assert len(os.listdir(folder)) == 2


@pytest.mark.slow
def test_starting_leaves_the_files_of_another_alone(tmp_path):
    """A process that saves into a folder, while `drive` is begun there again and again."""
    program = """
import itertools, os
for i in itertools.count():
    nn.save(folder + "/other.safetensors", {"w": np.full(500_000, i)})
    if os.path.exists(folder + "/stop"):
        break
"""
    x = np.ones((4, 2), np.float32)
    trainer = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.sgd(0.1))
    child = begin(program, tmp_path, tmp_path / "cache", 0)
    seen = 0
    for _ in range(40):
        seen += bool(hidden(tmp_path))
        nn.drive(trainer, jax.random.key(0), (x, x[:, :1]), epochs=1, checkpoint=tmp_path, progress=False)
    (tmp_path / "stop").touch()
    finish(child)
    print(f"{seen} of 40 starts during a write")
    assert seen > 5
    assert hidden(tmp_path) == set()
    assert len(np.unique(nn.load(tmp_path / "other.safetensors")["w"])) == 1
