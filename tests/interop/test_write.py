"""Files for other libraries: their own readers load equal arrays."""

import io
import os
import pickle
import pickletools
import re
import zipfile

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxnn.interop import read, write

RNG = np.random.default_rng(0)
ARRAYS = {
    "layer.weight": RNG.standard_normal((3, 4)).astype(np.float32).T,
    "layer.bias": np.arange(3, dtype=np.float16),
    "n": np.array(5, np.int64),
    "none": np.zeros((2, 0), np.float64),
    "big": np.arange(4, dtype=">i4"),
    "on": np.array([True, False]),
}


@pytest.mark.parametrize("suffix", ["pt", "pth", "bin", "npz", "safetensors"])
def test_what_is_written_is_read(tmp_path, suffix):
    path = tmp_path / f"net.{suffix}"
    arrays = {**ARRAYS, "jax": jnp.arange(3.0), "number": np.float32(2)}
    write(path, arrays)
    found = read(path)
    assert list(found) == list(arrays) or suffix == "safetensors"
    for name, x in arrays.items():
        np.testing.assert_array_equal(found[name], np.asarray(x))
        assert found[name].dtype == x.dtype.newbyteorder("=")
        if suffix != "safetensors" and x.size:
            assert found[name].ctypes.data % 64 == 0 or suffix == "npz"
    content = path.read_bytes()
    write(path, arrays)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == [path.name]


def test_numpy_and_safetensors_load_them(tmp_path):
    from safetensors.numpy import load_file

    write(tmp_path / "net.npz", ARRAYS)
    write(tmp_path / "net.safetensors", ARRAYS)
    for found in (np.load(tmp_path / "net.npz"), load_file(tmp_path / "net.safetensors")):
        assert set(found) == set(ARRAYS)
        for name, x in ARRAYS.items():
            np.testing.assert_array_equal(found[name], x)
    assert zipfile.ZipFile(tmp_path / "net.npz").testzip() is None


class Reader(pickle.Unpickler):
    """Python's own unpickler, with records in place of the classes and functions of PyTorch."""

    def find_class(self, module, name):
        if module == "collections":
            return super().find_class(module, name)
        return lambda *arguments: (f"{module}.{name}", *arguments)

    def persistent_load(self, id):
        kind, storage, key, device, size = id
        assert (kind, device) == ("storage", "cpu")
        return storage()[0], key, size


def test_the_pickle_for_torch(tmp_path):
    path = tmp_path / "net.pt"
    write(path, {"w": np.ones((2, 3), ml_dtypes.bfloat16), "f8": np.ones(3, ml_dtypes.float8_e5m2)})
    with zipfile.ZipFile(path) as archive:
        names = ["archive/data.pkl", "archive/byteorder", "archive/data/0", "archive/data/1", "archive/version"]
        assert archive.namelist() == names
        assert archive.testzip() is None
        assert archive.read("archive/version") == b"3\n"
        assert archive.read("archive/data/1") == b"\x3c\x3c\x3c"
        pickletools.dis(archive.read("archive/data.pkl"), io.StringIO())
        tree = Reader(archive.open("archive/data.pkl")).load()
    assert list(tree) == ["w", "f8"]
    storage = ("torch.BFloat16Storage", "0", 6)
    assert tree["w"] == ("torch._utils._rebuild_tensor_v2", storage, 0, (2, 3), (3, 1), False, {})
    *found, dtype = tree["f8"]
    storage = ("torch.storage.UntypedStorage", "1", 3)
    assert found == ["torch._utils._rebuild_tensor_v3", storage, 0, (3,), (1,), False, {}]
    assert dtype() == ("torch.float8_e5m2",)


@pytest.mark.parametrize("n", [2**31 - 1, 2**31, 2**40])
def test_large_numbers_in_the_pickle(n):
    from jaxnn.interop._write import _integer

    assert pickle.loads(b"\x80\x02" + _integer(n) + b".") == n


KNOWN = (
    "bool, complex128, complex64, float16, float32, float64, int16, int32, int64, int8, uint16, uint32, uint64, uint8"
)
WRONG = {
    "suffix": (
        ("net.h5", {}),
        {},
        "interop.write: expected a path that ends in .pt, .pth, .bin, .safetensors, .npz, got 'PATH/net.h5'. "
        'Pass format="torch", "safetensors" or "npz".',
    ),
    "format": (
        ("net", {}),
        {"format": "keras"},
        "interop.write: expected format to be one of 'torch', 'safetensors', 'npz', got 'keras'.",
    ),
    "list": (
        ("net.pt", [np.ones(2)]),
        {},
        "interop.write: expected a mapping, name -> array, got [float64[2]]. The order is write(path, arrays).",
    ),
    "nested": (
        ("net.pt", {"a": {"b": np.ones(2)}}),
        {},
        "interop.write at a: expected a JAX or NumPy array, got {'b': float64[2]}. "
        "Flatten nested dicts into names first.",
    ),
    "name": (("net.pt", {3: np.ones(2)}), {}, "interop.write: expected names of type str, got 3."),
    "empty name": (
        ("net.pt", {"": np.ones(2)}),
        {},
        "interop.write: expected names that are not empty, and in npz paths without '..', got ''.",
    ),
    "path": (
        ("net.npz", {"../w": np.ones(2)}),
        {},
        "interop.write: expected names that are not empty, and in npz paths without '..', got '../w'.",
    ),
    "many": (
        ("net.pt", {str(i): np.ones(0) for i in range(25_001)}),
        {},
        "interop.write: expected at most 25000 arrays, got 25001. Write several files.",
    ),
    "dtype": (
        ("net.npz", {"w": np.ones(2, ml_dtypes.bfloat16)}),
        {},
        f"interop.write at w: expected an array of {KNOWN}, got bfloat16[2]. Convert it, or choose another format.",
    ),
    "folder": (
        ("none/net.pt", {"w": np.ones(2)}),
        {},
        "interop.write: expected an existing folder, got PATH/none. Create it by os.makedirs(folder, exist_ok=True).",
    ),
    "folder, safetensors": (
        ("none/net.safetensors", {"w": np.ones(2)}),
        {},
        "interop.write: expected an existing folder, got PATH/none. Create it by os.makedirs(folder, exist_ok=True).",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls(tmp_path, case):
    (name, arrays), options, text = WRONG[case]
    with pytest.raises((ValueError, TypeError)) as excinfo:
        write(tmp_path / name, arrays, **options)
    assert str(excinfo.value) == text.replace("PATH", str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_wrong_values(tmp_path):
    with pytest.raises(TypeError, match=re.escape("interop.write: expected a path (str or os.PathLike), got dict.")):
        write({}, tmp_path)
    with pytest.raises(TypeError, match=r"interop\.write at w: expected concrete arrays, got a traced"):
        jax.jit(lambda x: write(tmp_path / "net.pt", {"w": x}))(jnp.ones(2))
    with pytest.raises(TypeError, match=r"interop\.write at k: expected an array of"):
        write(tmp_path / "net.pt", {"k": jax.random.key(0)})
    assert os.listdir(tmp_path) == []
