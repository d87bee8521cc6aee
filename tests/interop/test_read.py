"""Weight files as their own libraries write them: equal arrays, dtypes and names, mapped into memory."""

import os
import re
import struct
import zipfile

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from _torch_files import ARRAYS, OTHERS, STREAM, ZIP

import jaxnn as nn
from jaxnn.interop import Weights, read, write

RNG = np.random.default_rng(0)
SMALL = {
    "conv/w": RNG.standard_normal((3, 3, 2, 4)).astype(np.float32),
    "conv/b": RNG.standard_normal(4).astype(np.float16),
    "count": np.array(5, np.int64),
    "double": RNG.standard_normal((2, 3)),
    "small": np.arange(-3, 3, dtype=np.int8),
    "on": np.array([[True, False, True]]),
    "none": np.zeros((0, 3), np.float32),
    "complex": np.array([1 + 2j, 3j], np.complex64),
}
BRAIN = {"bf": np.array([[1.5, -2, 0.1]], ml_dtypes.bfloat16), "f8": np.array([1, 2], ml_dtypes.float8_e4m3fn)}


def npz(path, arrays):
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def npz_compressed(path, arrays):
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)


def safetensors(path, arrays):
    from safetensors.numpy import save_file

    save_file(arrays, path)


def flax(path, arrays):
    serialization = pytest.importorskip("flax.serialization", reason="flax is not installed: its files are not tested")
    path.write_bytes(serialization.to_bytes(nested(arrays)))


def nested(arrays):
    tree = {}
    for name, x in arrays.items():
        *path, last = name.split("/")
        node = tree
        for key in path:
            node = node.setdefault(key, {})
        node[last] = x
    return tree


def keras(path, arrays, **options):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed: Keras files are not tested")
    with h5py.File(path, "w") as file:
        for name, x in arrays.items():
            brain = x.dtype == ml_dtypes.bfloat16
            dataset = file.create_dataset(
                name, data=x.view("V2") if brain else x, **options if x.ndim and x.size else {}
            )
            if brain:
                dataset.attrs["dtype"] = "bfloat16"


def keras_chunked(path, arrays):
    keras(path, arrays, chunks=True, compression="gzip", shuffle=True, fletcher32=True)


def keras_archive(path, arrays, method=zipfile.ZIP_STORED):
    keras(path.with_suffix(".part"), arrays)
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", "{}")
        archive.write(path.with_suffix(".part"), "model.weights.h5")


def keras_archive_compressed(path, arrays):
    keras_archive(path, arrays, zipfile.ZIP_DEFLATED)


def onnx(path, arrays, raw=True):
    from onnx import TensorProto, helper, numpy_helper

    tensors = [numpy_helper.from_array(x, name) for name, x in arrays.items()]
    if not raw:
        tensors = [
            helper.make_tensor(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape, x.reshape(-1).tolist())
            for name, x in arrays.items()
        ]
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    path.write_bytes(helper.make_model(helper.make_graph([], "g", [], [value], tensors)).SerializeToString())


def onnx_fields(path, arrays):
    onnx(path, arrays, raw=False)


def ours(path, arrays):
    write(path, arrays, format=path.suffix[1:])


EVERY = SMALL | BRAIN
FOR_KERAS = {name: x for name, x in SMALL.items() if x.dtype.kind != "c"} | {"bf": BRAIN["bf"]}
# Name -> (writer, suffix, arrays, format, whether the arrays are mapped).
FILES = {
    "npz": (npz, "npz", SMALL, "npz", True),
    "npz, Fortran order": (npz, "npz", {"x": np.asfortranarray(SMALL["conv/w"])}, "npz", True),
    "npz, compressed": (npz_compressed, "npz", SMALL, "npz", False),
    "npz, big-endian": (npz, "npz", {"x": np.arange(3, dtype=">f4")}, "npz", False),
    "safetensors": (safetensors, "safetensors", EVERY, "safetensors", True),
    "flax": (flax, "msgpack", EVERY, "msgpack", True),
    "keras": (keras, "h5", FOR_KERAS, "keras", True),
    "keras, big-endian": (keras, "h5", {"x": np.arange(3, dtype=">f4")}, "keras", False),
    "keras, chunked": (keras_chunked, "h5", FOR_KERAS, "keras", False),
    "keras archive": (keras_archive, "keras", FOR_KERAS, "keras", True),
    "keras archive, compressed": (keras_archive_compressed, "keras", FOR_KERAS, "keras", False),
    "onnx": (onnx, "onnx", EVERY, "onnx", True),
    "onnx, by fields": (onnx_fields, "onnx", EVERY, "onnx", False),
    "ours, torch": (ours, "torch", EVERY, "torch", True),
    "ours, safetensors": (ours, "safetensors", EVERY, "safetensors", True),
    "ours, npz": (ours, "npz", SMALL, "npz", True),
}


def assert_equal(found, expected):
    assert set(found) == set(expected)
    for name, x in expected.items():
        assert found.shapes[name].shape == x.shape, name
        assert found.shapes[name].dtype == found[name].dtype == x.dtype.newbyteorder("="), name
        np.testing.assert_array_equal(found[name], x, name, strict=x.dtype.isnative)
        assert not found[name].flags.writeable
        assert found[name].dtype.isnative


@pytest.mark.parametrize("case", FILES)
def test_files_of_every_library(tmp_path, case):
    make, suffix, arrays, format, mapped = FILES[case]
    path = tmp_path / f"net.{suffix}"
    make(path, arrays)
    weights = read(path)
    assert isinstance(weights, Weights)
    assert weights.format == format
    assert_equal(weights, arrays)
    bases = [type(memory(weights[name])).__name__ == "mmap" for name, x in arrays.items() if x.size > 3]
    assert (all(bases) if mapped else not any(bases)) or case == "onnx, by fields"
    plain = tmp_path / "net"  # recognized by content
    os.rename(path, plain)
    assert_equal(read(str(plain)), arrays)


def memory(x):
    while isinstance(x, np.ndarray | memoryview) and (x.base if isinstance(x, np.ndarray) else x.obj) is not None:
        x = x.base if isinstance(x, np.ndarray) else x.obj
    return x


@pytest.mark.parametrize("content", [ZIP, STREAM], ids=["zip", "stream"])
def test_files_of_torch(tmp_path, content):
    path = tmp_path / "net.pt"
    path.write_bytes(content)
    weights = read(path)
    assert list(weights) == list(ARRAYS)
    assert_equal(weights, ARRAYS)
    assert weights.others == OTHERS
    assert weights["state_dict.a"].ctypes.data == weights["state_dict.a_t"].ctypes.data  # one storage
    assert weights["wide"].strides == (0, 0)


def test_a_mapping_reads_nothing_until_it_is_asked(tmp_path):
    path = tmp_path / "net.npz"
    np.savez_compressed(path, w=np.ones((2, 3), np.float32), b=np.zeros(3))
    weights = read(path)
    content = path.read_bytes()
    with open(path, "r+b") as file:  # in place, where the numbers of `b` are
        file.seek(content.index(b"b.npy") + 80)
        file.write(b"\xff" * 20)
    assert (len(weights), "b" in weights, "c" in weights, weights.get("c")) == (2, True, False, None)
    assert repr(weights) == "Weights(npz, 2 arrays, 48 bytes)"
    assert str(weights) == "w  float32[2, 3]\nb  float64[3]"
    with pytest.raises(KeyError):
        weights["c"]
    with pytest.raises(ValueError, match=r"expected a file of numpy\.savez, got a compressed part that is damaged"):
        weights["b"]
    with pytest.raises(TypeError):
        weights["w"] = 1


HDF5 = {
    "newest version": ({"libver": "latest"}, {}),
    "in order": ({"track_order": True}, {}),
    "chunks of another shape": ({}, {"chunks": (2, 3), "compression": "gzip", "shuffle": True}),
    "chunks without compression": ({}, {"chunks": (4, 4), "fletcher32": True}),
    "big-endian": ({}, {"dtype": ">f4"}),
    "integers": ({}, {"dtype": ">i2", "chunks": (3, 2)}),
}


@pytest.mark.parametrize("case", HDF5)
def test_hdf5_files_of_all_kinds(tmp_path, case):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed: its files are not tested")
    options, numbers = HDF5[case]
    x = np.arange(35).reshape(5, 7)
    with h5py.File(tmp_path / "net.h5", "w", **options) as file:
        group = file.create_group("a/b")
        group.attrs["name"] = "layer"
        group.create_dataset("x", data=x, **numbers)
        compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        compact.set_layout(h5py.h5d.COMPACT)
        space, kind = h5py.h5s.create_simple((3,)), h5py.h5t.NATIVE_DOUBLE
        h5py.h5d.create(group.id, b"compact", kind, space, compact).write(h5py.h5s.ALL, h5py.h5s.ALL, np.ones(3))
    weights = read(tmp_path / "net.h5")
    assert set(weights) == {"a/b/x", "a/b/compact"}
    np.testing.assert_array_equal(weights["a/b/x"], x)
    assert weights["a/b/x"].dtype == np.dtype(numbers.get("dtype", x.dtype)).newbyteorder("=")
    np.testing.assert_array_equal(weights["a/b/compact"], np.ones(3))


def test_hdf5_groups_of_many_members(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed: its files are not tested")
    names = {f"layers/dense_{i}/vars/{j}" for i in range(150) for j in range(2)}
    with h5py.File(tmp_path / "net.h5", "w") as file:
        for name in names:
            file[name] = np.full(2, hash(name) % 100)
    weights = read(tmp_path / "net.h5")
    assert set(weights) == names
    assert all(x.tolist() == [hash(name) % 100] * 2 for name, x in weights.items())
    with h5py.File(tmp_path / "net.h5", "w", track_order=True) as file:
        for i in range(20):
            file[f"{i}"] = np.ones(2)
    with pytest.raises(ValueError, match=r"got a group '' with an index of links\. Save it by h5py with its default"):
        read(tmp_path / "net.h5")


def test_an_index_of_several_files(tmp_path):
    write(tmp_path / "a.safetensors", {"x": np.ones(2), "y": np.zeros(3)})
    write(tmp_path / "b.safetensors", {"z": np.arange(4)})
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"metadata": {}, "weight_map": {"z": "b.safetensors", "x": "a.safetensors"}}')
    weights = read(index)
    assert list(weights) == ["z", "x"]
    assert weights["z"].tolist() == [0, 1, 2, 3]
    cache = tmp_path / "cache"  # as the Hugging Face hub links its files
    cache.mkdir()
    for path in (index, tmp_path / "a.safetensors", tmp_path / "b.safetensors"):
        os.symlink(path, cache / path.name)
    assert read(cache / index.name)["x"].tolist() == [1, 1]


def test_a_header_of_any_length(tmp_path):
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(0x7B08)  # 0x7B is an opening brace
    (tmp_path / "net").write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<f", 2.5))
    assert read(tmp_path / "net")["w"].tolist() == [2.5]


def test_arrays_become_jax_arrays(tmp_path):
    (tmp_path / "net").write_bytes(STREAM)  # not aligned
    weights = read(tmp_path / "net")
    np.testing.assert_array_equal(jnp.asarray(weights["state_dict.a_t"]), ARRAYS["state_dict.a_t"])
    np.testing.assert_array_equal(jnp.asarray(weights["state_dict.bf"]), ARRAYS["state_dict.bf"])


def test_arrays_in_chunks_of_flax(tmp_path, monkeypatch):
    serialization = pytest.importorskip("flax.serialization", reason="flax is not installed: its files are not tested")
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 64)
    x = RNG.standard_normal((5, 7)).astype(np.float32)
    tree = {"params": {"x": x, "list": [x[0], 1j]}, "step": 3, "scalar": np.float32(2), "name": "n", "no": None}
    path = tmp_path / "net.msgpack"
    path.write_bytes(serialization.to_bytes(tree))
    weights = read(path)
    assert_equal(weights, {"params/x": x, "params/list/0": x[0], "scalar": np.array(2, np.float32)})
    assert weights.others == {"params/list/1": "complex", "step": "int 3", "name": "str 'n'", "no": "NoneType None"}


def test_constants_and_other_files_of_onnx(tmp_path):
    import onnx as library
    from onnx import TensorProto, helper, numpy_helper

    x, y = SMALL["conv/w"], SMALL["double"]
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(y, "unused"))
    inner = helper.make_graph([], "inner", [], [], [numpy_helper.from_array(y, "inside")])
    branch = helper.make_node("If", ["c"], ["o"], then_branch=inner, else_branch=inner_of(helper))
    words = helper.make_tensor("words", TensorProto.STRING, [1], [b"hi"])
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    tensors = [numpy_helper.from_array(x, "x"), numpy_helper.from_array(y, "y"), words]
    model = helper.make_model(helper.make_graph([constant, branch], "g", [], [value], tensors))
    path = tmp_path / "net.onnx"
    library.save(model, path, save_as_external_data=True, location="net.data", size_threshold=0)
    weights = read(path)
    assert_equal(weights, {"x": x, "y": y, "c": y, "inside": y})
    assert weights.others == {"words": "strings"}
    (tmp_path / "net.data").unlink()
    with pytest.raises(ValueError, match=r"expected an ONNX model, got none named 'net\.data' next to it\. Put all"):
        read(path)


def inner_of(helper):
    return helper.make_graph([], "other", [], [])


WRONG = {
    "empty": (b"", "a weight file, got a file that begins with b''"),
    "text": (b"hello world", "a weight file, got a file that begins with b'hello wo'"),
    "pickle": (b"\x80\x04K\x01.", "a weight file, got a pickle that torch.save did not write"),
}


@pytest.mark.parametrize("case", WRONG)
def test_files_of_no_format(tmp_path, case):
    content, got = WRONG[case]
    path = tmp_path / "net"
    path.write_bytes(content)
    with pytest.raises(ValueError) as excinfo:
        read(path)
    assert str(excinfo.value).startswith(f"interop.read {path}: expected {got}. ")


def test_paths(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.pt")
    with pytest.raises(
        ValueError, match=r"expected the path of a file, got a folder or a device\. Pass the file itself"
    ):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="expected the path of a file"):
        read(tmp_path / "pipe")
    with pytest.raises(TypeError, match=re.escape("interop.read: expected a path (str or os.PathLike), got int.")):
        nn.interop.read(3)
