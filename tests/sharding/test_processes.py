"""Two processes of two devices each equal one; checkpoints, a killed process, and the errors of their batches."""

import contextlib
import json
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import jaxnn as nn

SCRIPT = Path(__file__).with_name("_processes.py")


@contextlib.contextmanager
def running(task, folder, processes):
    """The processes of a task, which end with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with contextlib.ExitStack() as stack:
        calls = [[sys.executable, SCRIPT, task, folder, str(index), port] for index in range(processes)]
        children = [stack.enter_context(subprocess.Popen(call, **pipes)) for call in calls]
        for child in children:
            stack.callback(child.kill)
        yield children


def results(task, folder, processes):
    with running(task, folder, processes) as children:
        done = [child.communicate(timeout=600) for child in children]
    for child, (_, errors) in zip(children, done, strict=True):
        assert child.returncode == 0, errors
    return [json.loads(out.splitlines()[-1]) for out, _ in done]  # gloo writes to stdout, too


WRONG = {
    "rows": (None, "16 of the 32 examples in process 1, got part[0] of shape [14, 8, 8, 2]."),
    "divides": ("axis 0 of batch[0] of shape [6, 8, 8, 2] to be divisible by data = 4, got 6.",) * 2,
    "seq": ("axis 1 of batch[0] of shape [2, 6, 8, 2] to be divisible by seq = 4, got 6.",) * 2,
    "devices": (None, "mesh to have devices of each process, got none of process 1."),
}


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    two = results("steps", tmp_path, 2)
    (one,) = results("resume", tmp_path, 1)
    for name in [name for name in one if name.startswith("history")]:
        want = one.pop(name)
        for found in two:
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-10), found[name], want)
    assert one.pop("spec") == ["data", "model"]
    assert len(one) == 10
    assert {name: d for name, d in one.items() if not d < 1e-10} == {}
    for index, found in enumerate(two):
        assert found["processes, devices, of this one"] == [2, 4, 2]
        assert found["steps"] == found["equal parts"] == [[32, 8, 8, 2], True]
        texts = {name: row[index] and f"global_batch: expected {row[index]}" for name, row in WRONG.items()}
        assert found["errors"] == texts


@pytest.mark.slow
@pytest.mark.parametrize("killed", [1, pytest.param(0, marks=pytest.mark.nightly)])
def test_a_killed_process_ends_the_other(tmp_path, killed):
    """A collective fails at once, and JAX ends the process when the heartbeats of the killed one are missing."""
    with running("endless", tmp_path, 2) as children:
        for child in children:
            while "begun" not in (line := child.stdout.readline()):
                assert line, child.stderr.read()
        children[killed].kill()
        _, errors = children[1 - killed].communicate(timeout=60)
    assert children[1 - killed].returncode != 0
    assert "another task died" in errors, errors


# In one process.

X = np.arange(24.0).reshape(6, 4)
ONE = nn.mesh("data=1")
EXPLICIT = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Explicit,))


def test_one_process_has_the_whole_batch():
    batch = nn.sharding.global_batch({"x": X, "y": X[:, 0]}, ONE, 6)
    assert jax.tree.map(lambda a: (a.shape, tuple(a.sharding.spec)), batch) == {
        "x": ((6, 4), ("data", None)),
        "y": ((6,), ("data",)),
    }
    np.testing.assert_array_equal(batch["x"], X)


ERRORS = {
    "rows": (
        lambda: nn.sharding.global_batch((X,), ONE, 8),
        ValueError,
        "global_batch: expected 8 of the 8 examples in process 0, got part[0] of shape [6, 4].",
    ),
    "sizes": (
        lambda: nn.sharding.global_batch((X, X[1:]), ONE, 6),
        ValueError,
        "global_batch: expected part to have as many examples in every array, and at least one, got "
        "(float64[6, 4], float64[5, 4]).",
    ),
    "mesh": (
        lambda: nn.sharding.global_batch(X, EXPLICIT, 6),
        TypeError,
        "global_batch: expected a mesh of Auto axes, got a mesh of other axes. nn.mesh('data=4, model=2') makes one.",
    ),
    "batch": (
        lambda: nn.sharding.global_batch(X, ONE, 6, batch=PartitionSpec("model")),
        ValueError,
        "global_batch: expected batch of mesh axes among data, got PartitionSpec('model').",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_calls(case):
    call, error, text = ERRORS[case]
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text
