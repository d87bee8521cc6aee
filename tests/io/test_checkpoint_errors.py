import collections
import dataclasses
import os
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.io._checkpoint import load, save

DTYPE_LIST = (
    "bool, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float16, float32, float64, bfloat16, "
    "float8_e4m3fn, float8_e4m3fnuz, float8_e5m2, float8_e5m2fnuz, float8_e8m0fnu, complex64"
)


class Point(NamedTuple):
    x: Any
    y: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Registered:
    x: Any
    y: Any


@pytest.fixture
def file(tmp_path):
    return tmp_path / "run.safetensors"


# Errors of save

NODE = "dict, list, tuple, NamedTuple, None, an array or a Python bool, int, float, complex or str"
CONVERT = "Convert it, or save jax.tree.leaves(tree) and put them back by jax.tree.unflatten."
DTYPE = f"an array of {DTYPE_LIST}"
SPLIT = "Convert it, or split it into such arrays."


def deleted():
    x = jnp.ones((2, 3))
    x.delete()
    return x


def itself():
    x: list = []
    x.append(x)
    return x


class Shade(int):
    pass


REFUSED = {
    "object": (lambda: [{"a": object()}], f"save at 0/a: expected {NODE}, got builtins.object. {CONVERT}"),
    "set": (lambda: {1}, f"save at the root: expected {NODE}, got builtins.set. {CONVERT}"),
    "bytes": (lambda: (b"",), f"save at 0: expected {NODE}, got builtins.bytes. {CONVERT}"),
    "function": (lambda: {"f": len}, f"save at f: expected {NODE}, got builtins.builtin_function_or_method. {CONVERT}"),
    "int subclass": (lambda: Shade(1), f"save at the root: expected {NODE}, got {__name__}.Shade. {CONVERT}"),
    "ordered dict": (
        lambda: Point(1, collections.OrderedDict(a=1)),
        f"save at y: expected {NODE}, got collections.OrderedDict. {CONVERT}",
    ),
    "registered class": (
        lambda: {"m": Registered(1, 2)},
        f"save at m: expected {NODE}, got {__name__}.Registered. {CONVERT}",
    ),
    "masked array": (
        lambda: np.ma.masked_array([1.0], [True]),
        f"save at the root: expected {NODE}, got numpy.ma.MaskedArray. {CONVERT}",
    ),
    "key of int": (
        lambda: {"layers": {3: 1.0}},
        "save at layers: expected dict keys of type str, got the key 3 of type int. "
        "Name the entries by strings, or save a list.",
    ),
    "key of numpy str": (
        lambda: {np.str_("a"): 1.0},
        "save at the root: expected dict keys of type str, got the key np.str_('a') of type str_. "
        "Name the entries by strings, or save a list.",
    ),
    "complex128": (lambda: {"z": np.zeros(2, complex)}, f"save at z: expected {DTYPE}, got complex128[2]. {SPLIT}"),
    "int4": (lambda: {"q": jnp.zeros(2, jnp.int4)}, f"save at q: expected {DTYPE}, got int4[2]. {SPLIT}"),
    "objects": (lambda: [np.array([None])], f"save at 0: expected {DTYPE}, got object[1]. {SPLIT}"),
    "text": (lambda: [np.array("ab")], f"save at 0: expected {DTYPE}, got <U2[]. {SPLIT}"),
    "text scalar": (lambda: [np.str_("ab")], f"save at 0: expected {DTYPE}, got <U2[]. {SPLIT}"),
    "dates": (lambda: [np.datetime64(0, "s")], f"save at 0: expected {DTYPE}, got datetime64[s][]. {SPLIT}"),
    "float0": (
        lambda: np.zeros(2, jax.dtypes.float0),
        f"save at the root: expected {DTYPE}, got [('float0', 'V')][2]. {SPLIT}",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_save_refuses_by_type(file, case):
    tree, text = REFUSED[case]
    with pytest.raises(TypeError) as excinfo:
        save(file, tree())
    assert str(excinfo.value) == text
    assert os.listdir(file.parent) == []


def test_what_save_refuses_by_value(file, tmp_path):
    def text(path, tree):
        with pytest.raises(ValueError) as excinfo:
            save(path, tree)
        return str(excinfo.value)

    assert text(file, {"w": deleted()}) == (
        "save at w: expected an array that is still there, got a deleted float32[2, 3]. "
        "Save before it is donated, or save the result of the call that took it."
    )
    assert text(file, {"k": {"\ud800": 1}}) == (
        "save at k: expected dict keys that are valid Unicode, got the key '\\ud800'. Rename it."
    )
    assert text(file, itself()) == (
        f"save: expected at most 100 levels, got more at {'0/' * 25}.... Does a list or dict hold itself?"
    )
    assert text(tmp_path / "no" / "x", [1]) == (
        f"save: expected an existing folder, got {tmp_path}/no. Create it by os.makedirs(folder, exist_ok=True)."
    )
    assert text(tmp_path, [1]) == f"save: expected the path of a file, got {tmp_path}, which is none. Add a file name."
    os.mkfifo(tmp_path / "pipe")
    assert text(tmp_path / "pipe", [1]) == (
        f"save: expected the path of a file, got {tmp_path}/pipe, which is none. Add a file name."
    )
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_path_that_is_none():
    with pytest.raises(TypeError) as excinfo:
        save({"w": np.ones(2)}, "run.safetensors")
    assert str(excinfo.value) == (
        "save: expected a path (str or os.PathLike), got dict. The order is save(path, tree)."
    )
    with pytest.raises(TypeError) as excinfo:
        load(3)
    assert str(excinfo.value) == "load: expected a path (str or os.PathLike), got int. The order is load(path, like)."


def test_tracers(file):
    text = (
        "expected concrete arrays, got a traced float32[3]. "
        "Files are read and written outside jit, grad, vmap and scan."
    )
    for transform in (jax.jit, jax.vmap, jax.grad):
        with pytest.raises(TypeError) as excinfo:
            transform(lambda x: (save(file, {"a": [x]}), x.sum())[1])(jnp.ones((3, 3) if transform is jax.vmap else 3))
        assert str(excinfo.value) == f"save at a/0: {text}"
    save(file, {"a": jnp.ones(3)})
    with pytest.raises(TypeError) as excinfo:
        jax.jit(lambda x: load(file, like={"a": x}))(jnp.ones(3))
    assert str(excinfo.value) == f"load {file} at a: {text}"


def test_without_orbax(file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "orbax", None)
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    x = jnp.ones((2, 3))
    text = (
        "save: expected orbax-checkpoint, which writes and reads sharded arrays, got none. "
        'Run `pip install "jaxnn[orbax]"`.'
    )
    with pytest.raises(ValueError) as excinfo:
        save(tmp_path / "run.orbax", {"w": x})
    assert str(excinfo.value) == text
    monkeypatch.setattr(type(x), "is_fully_addressable", property(lambda _: False))
    save(file, x)  # replicated: whole on every process
    os.unlink(file)
    monkeypatch.setattr(type(x), "is_fully_replicated", property(lambda _: False))
    with pytest.raises(ValueError) as excinfo:
        save(file, {"w": x})
    assert str(excinfo.value) == text
    assert os.listdir(tmp_path) == []


def test_a_header_past_the_limit(file, monkeypatch):
    monkeypatch.setattr("jaxnn.io._safetensors.HEADER_LIMIT", 100)
    with pytest.raises(ValueError) as excinfo:
        save(file, [np.ones(1), np.ones(1)])
    assert str(excinfo.value) == (
        "save: expected a header of at most 100 bytes, got one of 240, for 2 arrays. "
        "Stack small arrays into large ones, and make arrays of lists of numbers."
    )
    assert os.listdir(file.parent) == []


# Errors of load


def test_all_differences_at_once(file):
    save(file, {"a": [np.float32(i) for i in range(20)], "k": jax.random.key(0), "e": 3, "w": jnp.ones((2, 3))})
    like = {
        "b": [0.0] * 10,
        "k": jax.random.key(0, impl="rbg"),
        "e": 3.0,
        "w": jax.ShapeDtypeStruct((2, 3), jnp.bfloat16),
    }
    with pytest.raises(ValueError) as excinfo:
        load(file, like=like)
    assert str(excinfo.value) == (
        f"load {file}: expected the leaves of `like`, "
        "got 10 missing (b/0, b/1, b/2, b/3, b/4, b/5, b/6, b/7 and 2 more); "
        "20 unexpected (a/0, a/1, a/2, a/3, a/4, a/5, a/6, a/7 and 12 more); "
        "3 that differ (e: int, not float, k: key<fry>[], not key<rbg>[], w: float32[2, 3], not bfloat16[2, 3]). "
        "Change `like`, or load without it."
    )
    save(file, jnp.ones(3))
    with pytest.raises(ValueError) as excinfo:
        load(file, like=jnp.ones(4))
    assert str(excinfo.value) == (
        f"load {file}: expected the leaves of `like`, got 1 that differ (the root: float32[3], not float32[4]). "
        "Change `like`, or load without it."
    )


@jax.tree_util.register_pytree_with_keys_class
class Twins:
    def __init__(self, *children):
        self.children = children

    def tree_flatten_with_keys(self):
        return [(jax.tree_util.GetAttrKey("twin"), child) for child in self.children], None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


def test_two_leaves_of_like_with_one_path(file):
    save(file, {"twin": 1})
    with pytest.raises(ValueError) as excinfo:
        load(file, like=Twins(0, 0))
    assert str(excinfo.value) == (
        f"load {file}: expected leaves of `like` with different paths, got two with one path. Convert it to dicts."
    )


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none")
