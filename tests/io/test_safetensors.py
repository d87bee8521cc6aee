import collections
import dataclasses
import errno
import json
import os
import stat
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from _trees import assert_same, full_range

from jaxnn.io._checkpoint import load, save

# The dtypes by the codes of the format, as the installed safetensors package knows them.
VERSION = tuple(map(int, safetensors.__version__.split(".")[:2]))
CODES = {
    "BOOL": "bool",
    "I8": "int8",
    "U8": "uint8",
    "I16": "int16",
    "U16": "uint16",
    "I32": "int32",
    "U32": "uint32",
    "I64": "int64",
    "U64": "uint64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    **({"C64": "complex64"} if VERSION >= (0, 7) else {}),
    **({"F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz"} if VERSION >= (0, 8) else {}),
}
WIDE = ("int64", "uint64", "float64")


class Point(NamedTuple):
    x: Any
    y: Any


@pytest.fixture
def file(tmp_path):
    return tmp_path / "run.safetensors"


# What comes back as what


def test_each_array_comes_back_as_what_it_was(file):
    save(file, {"j": jnp.ones(2), "n": np.ones(2), "s": np.float64(3), "p": 3.0})
    out = load(file)
    assert isinstance(out["j"], jax.Array)
    assert not out["j"].committed
    assert [type(out[k]) for k in "nsp"] == [np.ndarray, np.float64, float]


def test_like_decides_on_numpy_or_jax(file):
    save(file, {"a": np.ones(2, np.float32), "b": jnp.ones(2), "c": jnp.zeros([]), "d": 1})
    out = load(file, like={"a": jnp.zeros(2), "b": np.zeros(2, np.float32), "c": np.float32(1), "d": 5})
    assert isinstance(out["a"], jax.Array)
    assert [type(out[k]) for k in "bcd"] == [np.ndarray, np.float32, int]
    assert out["d"] == 1


@pytest.mark.parametrize("dtype", WIDE)
def test_64_bits_are_never_cut(file, dtype):
    with jax.enable_x64(True):
        tree = {"w": jnp.asarray(full_range(dtype, (2, 3)))}
        save(file, tree)
        assert_same(load(file), tree)
    text = (
        f"load {file} at w: expected an array that JAX holds with jax_enable_x64 off, got {dtype}[2, 3]. "
        "Enable jax_enable_x64, or pass `like` with NumPy arrays."
    )
    for like in (None, {"w": jax.ShapeDtypeStruct((2, 3), dtype)}):
        with pytest.raises(ValueError) as excinfo:
            load(file, like=like)
        assert str(excinfo.value) == text
    out = load(file, like={"w": np.zeros((2, 3), dtype)})
    assert_same(out, {"w": np.asarray(tree["w"])})


class Moved(NamedTuple):
    x: Any
    y: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Registered:
    x: Any
    y: Any


def test_like_takes_leaves_by_path_into_other_classes(file):
    save(file, [Point(np.arange(2), {"k": 1.5})])
    for like in ((Moved(np.zeros(2, int), {"k": 0.0}),), [{"y": {"k": 0.0}, "x": np.zeros(2, int)}]):
        out = load(file, like=like)
        assert jax.tree.structure(out) == jax.tree.structure(like)
        assert_same(sorted(map(str, jax.tree.leaves(out))), ["1.5", "[0 1]"])


@pytest.mark.parametrize("node", [Registered, collections.OrderedDict])
def test_like_may_be_any_registered_node(file, node):
    save(file, {"a": Point(np.arange(2), 1)})
    out = load(file, like={"a": node(x=np.zeros(2, int), y=3)})["a"]
    assert type(out) is node
    x, y = jax.tree.leaves(out)
    assert_same((x, y), (np.arange(2), 1))


def test_like_may_be_deleted(file):
    x = jax.device_put(jnp.arange(3.0), jax.devices()[0])
    save(file, x)
    jax.jit(lambda x: x + 1, donate_argnums=0)(x)
    assert x.is_deleted()
    out = load(file, like=x)
    assert out.committed
    assert out.tolist() == [0, 1, 2]


SHARDED = """
import os, sys
os.environ |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from jaxnn.io._checkpoint import load, save
path = sys.argv[1]
mesh = jax.make_mesh((4,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
split, whole = NamedSharding(mesh, P("d")), NamedSharding(mesh, P())
tree = {"w": jax.device_put(jnp.arange(24.0).reshape(8, 3), split), "b": jax.device_put(jnp.ones(3), whole),
        "k": jax.device_put(jax.random.split(jax.random.key(0), 4), split), "free": jnp.ones(2)}
save(path, tree)
plain = load(path)
assert all(x.devices() == {jax.devices()[0]} for x in plain.values())
abstract = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) for name, x in tree.items()}
for like in (tree, abstract):
    out = load(path, like=like)
    assert all(out[k].sharding == tree[k].sharding for k in "wbk"), out
    assert (np.asarray(out["w"]) == np.arange(24.0).reshape(8, 3)).all() and (out["k"] == tree["k"]).all()
assert not load(path, like=tree)["free"].committed
print(jax.jit(lambda t: t["w"].sum() + t["free"].sum())(load(path, like=tree)))
os.replace = lambda *_: os._exit(9)  # killed after everything is written, before it counts
save(path, {"w": np.zeros(1000)})
"""


@pytest.mark.slow
def test_shardings_and_a_killed_process(file):
    done = subprocess.run([sys.executable, "-c", SHARDED, file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (9, "278.0\n"), done.stderr
    assert load(file)["w"].shape == (8, 3)


# The file


def test_names_and_bytes_as_the_safetensors_package_reads_them(file):
    tree = {code: full_range(dtype, (3, 2)) for code, dtype in CODES.items()}
    save(file, {"params": {"stem": [tree]}, "epoch": 3})
    found = dict(safetensors.deserialize(file.read_bytes()))
    assert found.keys() == {f"params/stem/0/{code}" for code in CODES}
    for code, x in tree.items():
        entry = found[f"params/stem/0/{code}"]
        assert (entry["dtype"], entry["shape"], bytes(entry["data"])) == (code, [3, 2], x.tobytes())
    with safetensors.safe_open(file, "np") as opened:
        assert json.loads(opened.metadata()["jaxnn"])["tree"]["dict"]["epoch"] == 3


def test_the_package_loads_transposed_arrays_and_odd_names(file):
    x = full_range("int32", (3, 4))
    key = jax.random.key(5)
    save(file, {"a/b": x.T, "a": {"b": jnp.asarray(x)}, "~": x[:1], "__metadata__": x[:2], "": x[0], "k": key})
    out = safetensors.numpy.load_file(file)
    expected = {"a~1b": x.T, "a/b": x, "~0": x[:1], "~__metadata__": x[:2], "": x[0], "k": jax.random.key_data(key)}
    assert out.keys() == expected.keys()
    for name, y in expected.items():
        np.testing.assert_array_equal(out[name], y, strict=True)


def test_the_structure_is_json_that_any_reader_takes(file):
    save(
        file, {"a": [2**63 - 1, 2**63, 1.5, float("inf"), float("nan"), 1 - 2j], "b": (None, True), "c": Point(1, "x")}
    )
    with safetensors.safe_open(file, "np") as opened:
        structure = json.loads(opened.metadata()["jaxnn"], parse_constant=pytest.fail)
    numbers = [2**63 - 1, {"int": "0x8000000000000000"}, 1.5, {"float": "inf"}, {"float": "nan"}, {"complex": "(1-2j)"}]
    point = {"namedtuple": [__name__, "Point", {"x": 1, "y": "x"}]}
    tree = {"dict": {"a": {"list": numbers}, "b": {"tuple": [None, True]}, "c": point}}
    assert structure == {"version": 1, "tree": tree}


def test_wide_elements_come_first_so_that_all_are_aligned(file):
    save(file, {"a": np.ones(3, np.int8), "b": np.ones(3, np.float16), "c": np.ones(3), "d": np.ones(1, np.float32)})
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    header = json.loads(content[8 : 8 + length])
    offsets = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
    assert offsets == {"c": [0, 24], "d": [24, 28], "b": [28, 34], "a": [34, 37]}


def test_files_of_others_load_into_like(file):
    weights = {"layer.b": full_range("float16", (3,)), "layer.w": full_range("float32", (2, 3))}
    safetensors.numpy.save_file(weights, file, metadata={"format": "pt"})
    assert_same(load(file, like=weights), weights)
    out = load(file, like={k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in weights.items()})
    assert_same(out, {k: jnp.asarray(v) for k, v in weights.items()})
    with pytest.raises(ValueError) as excinfo:
        load(file, like={"w": np.zeros((2, 3)), "layer.b": np.zeros(3)})
    assert str(excinfo.value) == (
        f"load {file}: expected the leaves of `like`, got 1 missing (w); 1 unexpected (layer.w); "
        "1 that differ (layer.b: float16[3], not float64[3]). Change `like`, or load without it."
    )
    with pytest.raises(ValueError) as excinfo:
        load(file)
    assert str(excinfo.value) == (
        f"load {file}: expected a file written by `save`, got a safetensors file without our structure. "
        "Pass `like`, a tree whose paths are the names of its arrays."
    )


# Atomicity


def fail_on(number, error):
    """A stand-in for os.fsync or os.replace whose call of that number fails."""
    calls = []

    def call(*_):
        calls.append(1)
        if len(calls) == number:
            raise error

    return call


@pytest.mark.parametrize("error", [OSError(errno.EIO, "disk"), KeyboardInterrupt()], ids=["error", "interrupt"])
@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(file, monkeypatch, function, error):
    save(file, {"w": np.arange(3)})
    before = file.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail_on(1, error))
        with pytest.raises(type(error)):
            save(file, {"w": np.zeros(100)})
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


def test_an_array_that_fails_halfway_leaves_the_old_file(file, monkeypatch):
    save(file, [np.arange(3)])
    before = file.read_bytes()
    whole = np.asarray

    def gone(x):
        if x.shape == (5,):
            raise OSError("the device is gone")
        return whole(x)

    with monkeypatch.context() as patch:
        patch.setattr(np, "asarray", gone)
        with pytest.raises(OSError, match="gone"):
            save(file, [np.zeros(1000), np.ones(5)])
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


def test_a_folder_that_cannot_be_synced(file, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_on(2, OSError(errno.EINVAL, "not on this file system")))
        save(file, [1])
        patch.setattr(os, "fsync", fail_on(2, OSError(errno.EIO, "disk")))
        with pytest.raises(OSError, match="disk"):
            save(file, [2])
    assert load(file) == [2]
    assert os.listdir(file.parent) == [file.name]


def test_the_file_has_ordinary_permissions_and_links_stay(file, tmp_path):
    link = tmp_path / "latest"
    link.symlink_to(file)
    save(link, [1])
    assert link.is_symlink()
    assert load(file) == [1]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~mask
