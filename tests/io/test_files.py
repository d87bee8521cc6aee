"""Files that take the place of others: whose temporary files are removed, and what an error names."""

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.io import _files as module
from jaxnn.io._checkpoint import load, save
from jaxnn.io._files import alone, remove_abandoned, replacing

ROOT = Path(__file__).parents[2]
WRITER = """
import sys
from jaxnn.io._files import replacing
with replacing(sys.argv[1]) as file:
    file.write(b"half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def hidden(folder):
    return [name for name in os.listdir(folder) if name.endswith(".tmp")]


@pytest.mark.slow
def test_a_temporary_file_goes_when_its_writer_is_gone(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path / "a")]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert child.stdout.readline() == b"writing\n"
    (tmp_path / f".{'0a' * 16}.tmp").write_bytes(b"left")
    remove_abandoned(tmp_path)
    assert len(hidden(tmp_path)) == 1
    child.send_signal(signal.SIGKILL)
    child.communicate()
    remove_abandoned(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_removed_before_it_is_locked_is_begun_anew(tmp_path, monkeypatch):
    lock, removed = module._lock, []

    def late(descriptor):
        if not removed:
            removed.extend(hidden(tmp_path))
            remove_abandoned(tmp_path)
        lock(descriptor)

    monkeypatch.setattr(module, "_lock", late)
    with replacing(tmp_path / "a") as file:
        file.write(b"whole")
    assert len(removed) == 1
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["a"]


def test_without_locks_nothing_is_removed(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(module.fcntl, "flock", refuse)
    (tmp_path / f".{'0a' * 16}.tmp").write_bytes(b"half")
    remove_abandoned(tmp_path)
    save(tmp_path / "a", 1)
    assert load(tmp_path / "a") == 1
    assert len(hidden(tmp_path)) == 1


def test_one_at_a_time(tmp_path):
    order = []

    def second():
        with alone(str(tmp_path)):
            order.append(2)

    with alone(str(tmp_path)):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.1)
        order.append(1)
    thread.join()
    assert order == [1, 2]


# Errors of the system.


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def read_only(*_):
    raise PermissionError(errno.EACCES, "Permission denied", "/some/hidden/name", None, "/another")


FAILURES = {
    "full at the sync": ("fsync", full, OSError, "[Errno 28] No space left on device"),
    "unwritable at the rename": ("replace", read_only, PermissionError, "[Errno 13] Permission denied"),
}


@pytest.mark.parametrize("name", ["run.safetensors", pytest.param("run.orbax", marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", FAILURES)
def test_an_error_of_the_system_names_the_path(tmp_path, monkeypatch, case, name):
    function, failure, kind, text = FAILURES[case]
    path = tmp_path / name
    with monkeypatch.context() as patch:
        patch.setattr(os, function, failure)
        with pytest.raises(kind) as excinfo:
            save(path, {"w": np.ones(3)})
    assert str(excinfo.value) == f"{text}: '{path}'"
    assert (excinfo.value.filename, hidden(tmp_path)) == (str(path), [])


@pytest.mark.parametrize("tree", [{"w": np.ones(100_000)}, {"w": jnp.arange(100_000.0)}], ids=["file", "orbax"])
def test_a_limit_of_the_system_names_the_path(tmp_path, tree):
    path = tmp_path / ("run.safetensors" if isinstance(tree["w"], np.ndarray) else "run.orbax")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        with pytest.raises(OSError, match=str(path)):
            save(path, tree)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert hidden(tmp_path) == []
    save(path, tree)
    assert np.array_equal(load(path)["w"], tree["w"])


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError) as excinfo:
        load(tmp_path / "pipe")
    assert str(excinfo.value) == (
        f"load {tmp_path / 'pipe'}: expected a file or a folder written by `save`, got a device or a pipe."
    )
