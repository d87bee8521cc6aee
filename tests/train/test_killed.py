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
KILLS = 20
EPOCHS = 300
LEAST_DURING_A_WRITE = 3

# A state of 6 MB, so that a good part of the time goes to writing it.
PROGRAM = f"""
import sys
import jax, numpy as np
import jaxnn as nn
rng = np.random.default_rng(0)
x = rng.normal(size=(40, 16)).astype(np.float32)
y = np.tanh(x[:, :1])
model = nn.serial(nn.dense(512), nn.tanh, nn.dropout(0.1), nn.dense(512), nn.tanh, nn.dense(1))
trainer = nn.trainer(model, nn.losses.squared_error, nn.adam(1e-3))
print("ready", flush=True)
nn.drive(trainer, jax.random.key(0), (x[:24], y[:24]), (x[24:], y[24:]), epochs={EPOCHS}, batch_size=8,
         checkpoint=sys.argv[1], progress=False)
"""


def begin(folder, cache):
    """A process that trains, from where the folder is; returns once it is about to begin."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    command = [sys.executable, "-W", "error", "-c", PROGRAM, str(folder)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    assert child.stdout.readline() == b"ready\n"
    return child


def reached(folder):
    return max((int(path.stem.removeprefix("epoch-")) for path in folder.glob("epoch-*")), default=0)


def finish(child):
    assert child.wait(timeout=300) == 0
    child.stdout.close()


@pytest.mark.slow
def test_killed_at_twenty_random_moments(tmp_path):
    whole, killed, cache = (tmp_path / name for name in ("whole", "killed", "cache"))
    killed.mkdir()
    finish(begin(whole, cache))
    draw = random.Random(0)
    half_written = set()  # the hidden files that were left; the next process clears them
    for _ in range(KILLS):
        child = begin(killed, cache)
        until = reached(killed) + draw.randrange(8)
        while reached(killed) < until:
            assert child.poll() is None
            time.sleep(1e-3)
        time.sleep(draw.uniform(0, 0.05))
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        child.stdout.close()
        half_written |= {name for name in os.listdir(killed) if name.endswith(".tmp")}
    print(f"{len(half_written)} of {KILLS} during a write, {reached(killed)} epochs done")
    assert len(half_written) >= LEAST_DURING_A_WRITE
    assert 0 < reached(killed) < EPOCHS
    finish(begin(killed, cache))

    name = f"epoch-{EPOCHS:06d}.safetensors"
    expected, run = nn.load(whole / name), nn.load(killed / name)
    assert int(run.epoch) == EPOCHS
    for part in (lambda r: r.ts.params, lambda r: r.ts.opt_state, lambda r: r.history, lambda r: r.best, lambda r: r):
        assert jax.tree.all(jax.tree.map(np.array_equal, part(expected), part(run)))
    assert sorted(os.listdir(whole)) == sorted(os.listdir(killed))
    for path in whole.iterdir():
        assert path.read_bytes() == (killed / path.name).read_bytes(), path.name
