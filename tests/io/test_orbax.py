"""`save` and `load` through orbax: what comes back, in which sharding, and what a kill or damage leaves."""

import gc
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest

from jaxnn.io import _orbax as module
from jaxnn.io._checkpoint import load, save

ROOT = Path(__file__).parents[2]


class Point(NamedTuple):
    x: Any
    y: Any


def same(a, b):
    """Equal in structure, in the kind of each leaf and in every bit."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert type(x) is type(y)
        if hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            assert x.dtype == y.dtype
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        if hasattr(x, "dtype"):
            assert (x.dtype, x.shape, np.asarray(x).tobytes()) == (y.dtype, y.shape, np.asarray(y).tobytes())
        else:
            assert x == y


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run.orbax"


TREE = {
    "a/b": jnp.arange(6.0).reshape(2, 3),
    "a": {"b": jnp.arange(4, dtype=jnp.bfloat16), "": jnp.ones(2, bool)},
    "__metadata__": jnp.zeros((2, 2), jnp.complex64),
    "key": jax.random.key(3),
    "keys": Point(jax.random.split(jax.random.key(0, impl="rbg"), 3), (jnp.float32(2), np.float64(2), 2, "two", None)),
    "empty": [jnp.zeros((0, 3)), {}, ()],
    "numpy": np.arange(3.0),
    "small": [jnp.ones(2, dtype) for dtype in ("float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "int8", "uint16")],
}


def test_a_tree_comes_back_to_the_bit(folder):
    save(folder, TREE)
    assert sorted(os.listdir(folder)) == ["arrays-1", "tree.safetensors"]
    same(load(folder), TREE)
    assert not load(folder)["a/b"].committed
    same(load(folder, like=TREE), TREE)
    same(load(folder / "tree.safetensors"), TREE)
    turned = load(folder, like={**TREE, "a/b": np.zeros((2, 3), np.float32), "numpy": TREE["numpy"]})
    assert type(turned["a/b"]) is np.ndarray
    assert turned["a/b"].tolist() == TREE["a/b"].tolist()


def test_orbax_alone_reads_the_arrays_by_their_names(folder):
    save(folder, {"params": {"w": jnp.arange(3.0)}, "epoch": 3})
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        found = checkpointer.restore(folder / "arrays-1", {"params/w": np.zeros(3, np.float32)})
    assert found["params/w"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("tree", [3, {"n": np.ones(2)}, jnp.zeros((0, 3)), {}], ids=str)
def test_a_tree_without_arrays_for_orbax(folder, tree):
    save(folder, tree)
    assert os.listdir(folder) == ["tree.safetensors"]
    same(load(folder), tree)


@pytest.mark.parametrize("name", ["run.orbax/", "run.orbax"])
def test_it_is_replaced(folder, tmp_path, name):
    for tree in ({"w": jnp.ones(3)}, {"w": 3}, {"w": jnp.zeros(5), "b": jnp.ones(2)}):
        save(f"{tmp_path}/{name}", tree)
        same(load(f"{tmp_path}/{name}"), tree)
    assert sorted(os.listdir(folder)) == ["arrays-1", "tree.safetensors"]


def test_wide_arrays(folder):
    with jax.enable_x64(True):
        tree = {"w": jnp.arange(3, dtype=jnp.float64), "i": jnp.arange(3)}
        save(folder, tree)
        same(load(folder), tree)
    with pytest.raises(ValueError) as excinfo:
        load(folder)
    assert str(excinfo.value) == (
        f"load {folder} at w: expected an array that JAX holds with jax_enable_x64 off, got float64[3]. "
        "Enable jax_enable_x64, or pass `like` with NumPy arrays."
    )
    same(load(folder, like={"w": np.zeros(3), "i": np.zeros(3, int)}), {"w": np.arange(3.0), "i": np.arange(3)})


# Where it ends.


class Ended(BaseException):
    """As a kill: nothing catches it."""


def end(*_, **__):
    raise Ended


ENDS = {
    "before orbax": (orbax.checkpoint.StandardCheckpointer, "save"),
    "before our file": (module, "write"),
    "before the old is removed": (shutil, "rmtree"),
}


@pytest.mark.parametrize("old", [{"w": jnp.ones(3)}, None], ids=["over an older", "the first"])
@pytest.mark.parametrize("where", ENDS)
def test_ended_between_any_two_steps(folder, monkeypatch, where, old):
    new = {"w": jnp.zeros(5), "b": jnp.ones(2)}
    if old is not None:
        save(folder, old)
    if old is None and where == "before the old is removed":
        (folder / "arrays-1.orbax-checkpoint-tmp").mkdir(parents=True)  # from a kill inside orbax
    with monkeypatch.context() as patch:
        patch.setattr(*ENDS[where], end)
        with pytest.raises(Ended):
            save(folder, new)
    written = new if where == "before the old is removed" else old
    if written is None:
        with pytest.raises(ValueError) as excinfo:
            load(folder)
        expected = "a file or a folder written by `save`, got a folder without tree.safetensors"
        assert str(excinfo.value) == f"load {folder}: expected {expected}."
    else:
        same(load(folder), written)
    save(folder, new)
    same(load(folder), new)
    assert len(os.listdir(folder)) == 2


# What is refused.


def test_without_orbax(folder, monkeypatch):
    save(folder, {"w": jnp.ones(2), "n": np.ones(2)})
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    with pytest.raises(ValueError) as excinfo:
        load(folder)
    assert str(excinfo.value) == (
        "load: expected orbax-checkpoint, which writes and reads sharded arrays, got none. "
        'Run `pip install "jaxnn[orbax]"`.'
    )
    save(folder, {"n": np.ones(2)})  # of NumPy alone, it needs none
    same(load(folder), {"n": np.ones(2)})


def test_the_leaves_of_like(folder):
    save(folder, {"w": jnp.ones((2, 3)), "n": np.ones(2), "k": jax.random.key(0), "e": 1})
    with pytest.raises(ValueError) as excinfo:
        load(folder, like={"w": jnp.ones((2, 4)), "m": np.ones(2), "k": jax.random.key(0, impl="rbg"), "e": 2})
    assert str(excinfo.value) == (
        f"load {folder}: expected the leaves of `like`, got 1 missing (m); 1 unexpected (n); 2 that differ "
        "(k: key<fry>[], not key<rbg>[], w: float32[2, 3], not float32[2, 4]). Change `like`, or load without it."
    )


def test_a_path_that_is_taken(tmp_path):
    for name in ("file.orbax", "folder.orbax"):
        path = tmp_path / name
        if name.startswith("file"):
            path.write_text("mine")
        else:
            path.mkdir()
            (path / "notes.txt").write_text("mine")
        with pytest.raises(ValueError) as excinfo:
            save(path, {"w": jnp.ones(2)})
        expected = "a path that is free or was written by `save`"
        assert str(excinfo.value) == f"save: expected {expected}, got {path}, which is neither. Move it."
    assert (tmp_path / "file.orbax").read_text() == "mine"
    assert os.listdir(tmp_path / "folder.orbax") == ["notes.txt"]
    with pytest.raises(ValueError) as excinfo:
        save(tmp_path / "no" / "run.orbax", 3)
    assert str(excinfo.value) == (
        f"save: expected an existing folder, got {tmp_path}/no. Create it by os.makedirs(folder, exist_ok=True)."
    )


FIX = "It is damaged, or was not written by `save`."


def test_arrays_that_are_gone(folder):
    save(folder, {"w": jnp.ones(2)})
    shutil.rmtree(folder / "arrays-1")
    with pytest.raises(ValueError) as excinfo:
        load(folder)
    assert str(excinfo.value) == (
        f"load {folder}: expected the arrays of tree.safetensors in arrays-1, got no such folder. {FIX}"
    )


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # orbax drops its coroutines
@pytest.mark.slow
def test_no_damaged_file_of_orbax_goes_unseen(folder):
    tree = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.arange(100)}
    save(folder, tree)
    refused = set()
    for path in sorted(path for path in (folder / "arrays-1").rglob("*") if path.is_file()):
        content = path.read_bytes()
        damaged = bytearray(content)
        damaged[len(content) // 2] ^= 1
        for other in (bytes(damaged), content[:-3], b"", bytes(len(content)), None):
            path.unlink() if other is None else path.write_bytes(other)
            try:
                same(load(folder, like=tree), tree)  # a file that is not needed
            except ValueError as error:
                refused.add((path.parent.name, str(error).startswith(f"load {folder}: expected the arrays of tree.")))
            path.write_bytes(content)
    gc.collect()  # here, where the warnings are looked for
    assert ("d", True) in refused
    assert all(ours for _, ours in refused)


LISTS = {
    "no json": "{",
    "another folder": json.dumps({"folder": "../arrays-1", "arrays": {}}),
    "no folder": json.dumps({"arrays": {}}),
    "no shape": json.dumps({"folder": "arrays-1", "arrays": {"w": ["F32"]}}),
    "negative": json.dumps({"folder": "arrays-1", "arrays": {"w": ["F32", [-1]]}}),
    "true": json.dumps({"folder": "arrays-1", "arrays": {"w": ["F32", [True]]}}),
    "unknown dtype": json.dumps({"folder": "arrays-1", "arrays": {"w": ["F33", [1]]}}),
    "of our file": json.dumps({"folder": "arrays-1", "arrays": {"n": ["F32", [1]]}}),
}


@pytest.mark.parametrize("case", LISTS)
def test_lists_that_lie(folder, case):
    save(folder, {"w": jnp.ones(2), "n": np.ones(2)})
    text = json.dumps({"version": 1, "tree": {"dict": {"w": {"array": "jax"}, "n": {"array": "numpy"}}}})
    module.write(folder / "tree.safetensors", {"n": np.ones(2)}, {"jaxnn": text, "orbax": LISTS[case]})
    with pytest.raises(ValueError) as excinfo:
        load(folder)
    assert str(excinfo.value) == (
        f"load {folder}: expected a list of the arrays with orbax, as `save` writes it, got another. {FIX}"
    )


@pytest.mark.parametrize("entry", [["F32", [3]], ["F32", [2, 1]], ["F32", [1]], ["I32", [2]]], ids=str)
def test_shapes_and_dtypes_that_lie(folder, entry):
    save(folder, {"w": jnp.ones(2)})
    text = json.dumps({"version": 1, "tree": {"dict": {"w": {"array": "jax"}}}})
    entries = json.dumps({"folder": "arrays-1", "arrays": {"w": entry}})
    module.write(folder / "tree.safetensors", {}, {"jaxnn": text, "orbax": entries})
    with pytest.raises(ValueError) as excinfo:
        load(folder)
    assert str(excinfo.value) == (
        f"load {folder}: expected the arrays of tree.safetensors in arrays-1, got others. {FIX}"
    )


# Several devices and several processes.

SHARDED = """
import os, sys
import jax, jax.numpy as jnp, numpy as np
from functools import partial
from jax.sharding import NamedSharding, PartitionSpec as P
path, index, processes, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
jax.config.update("jax_num_cpu_devices", 8 // processes)
if processes > 1:
    jax.distributed.initialize(f"localhost:{port}", processes, index)
assert (jax.process_count(), len(jax.devices())) == (processes, 8)
from jaxnn.train import Best, Run, TrainState
from jaxnn.train import _folder as folder
from jaxnn.io._checkpoint import load, save
mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
shardings = {"w": P("a", "b"), "b": P(), "half": P(None, "b"), "keys": P("a")}
shardings = {name: NamedSharding(mesh, spec) for name, spec in shardings.items()}

@partial(jax.jit, out_shardings=shardings)
def make(seed):
    key = jax.random.key(seed)
    return {"w": jax.random.normal(key, (8, 6)), "b": jnp.ones(3), "half": jnp.arange(8.0).reshape(2, 4),
            "keys": jax.random.split(key, 4)}

def same(a, b):
    raw = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if isinstance(x, jax.Array):
            assert x.sharding == y.sharding and x.dtype == y.dtype and x.shape == y.shape, (x.sharding, y.sharding)
            for p, q in zip(raw(x).addressable_shards, raw(y).addressable_shards, strict=True):
                assert p.index == q.index and np.array_equal(p.data, q.data)
        else:
            assert np.array_equal(x, y)

spread = make(0)
tree = {**spread, "free": jnp.arange(2), "numpy": np.arange(3.0), "epoch": 3, "empty": jnp.zeros((0, 2))}
name = path + ("/run.orbax" if processes == 1 else "/run")  # spread over processes, it needs no name
for seed in (1, 0):
    save(name, {**tree, **make(seed)})
assert os.path.isdir(name)
abstract = {k: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) for k, x in spread.items()}
for like in (tree, {**tree, **abstract}):
    out = load(name, like=like)
    same(out, tree)
assert not out["free"].committed
plain = load(name)
assert plain["w"].devices() == {jax.local_devices()[0]}
for shard in tree["w"].addressable_shards:
    assert np.array_equal(plain["w"][shard.index], shard.data)
turned = {"w": NamedSharding(mesh, P("b")), "keys": NamedSharding(mesh, P())}  # another sharding than it was saved in
like = {**tree, **{k: jax.ShapeDtypeStruct(spread[k].shape, spread[k].dtype, sharding=s) for k, s in turned.items()}}
out = load(name, like=like)
assert all(out[k].sharding.is_equivalent_to(s, out[k].ndim) for k, s in turned.items()), out
for shard in out["w"].addressable_shards:
    assert np.array_equal(plain["w"][shard.index], shard.data)
try:
    load(name, like={**tree, "w": jax.ShapeDtypeStruct((8, 7), jnp.float32, sharding=shardings["w"])})
except ValueError as error:
    assert str(error) == (f"load {name}: expected the leaves of `like`, got 1 that differ "
                          "(w: float32[8, 6], not float32[8, 7]). Change `like`, or load without it."), error
else:
    raise AssertionError("a shape that differs passed")

def run(epoch):
    params = make(epoch)
    ts = TrainState(jnp.int32(epoch), params, {}, {}, jnp.zeros(2, jnp.uint32))
    history = {"train": {"loss": jnp.zeros((4, 2))}}
    return Run(ts, Best(params, {}), jnp.float32(0), jnp.int32(0), jnp.int32(epoch), history, jnp.int32(-1))

runs = path + "/runs"
assert folder.newest(runs, run(0), run).epoch == 0
for epoch in (1, 2, 3):
    folder.record(runs, run(epoch), keep=2)
same(folder.newest(runs, run(0), run), run(3))
if processes > 1:
    from jax.experimental import multihost_utils
    multihost_utils.sync_global_devices("removed")
assert sorted(os.listdir(runs)) == ["best.safetensors", "epoch-000002.safetensors", "epoch-000003.safetensors"]
assert os.path.isdir(runs + "/best.safetensors") == (processes > 1)
print("done", index)
"""


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.slow
def test_eight_devices(tmp_path, processes):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    children = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SHARDED, str(tmp_path), str(index), str(processes), str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for index in range(processes)
    ]
    try:
        results = [(child.communicate(timeout=120), child.returncode) for child in children]
    finally:
        for child in children:
            child.kill()
    for index, ((out, errors), code) in enumerate(results):
        assert (code, out.splitlines()[-1:]) == (0, [f"done {index}"]), errors
