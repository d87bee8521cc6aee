"""Reader of weight files of other libraries, whose format it recognizes by content."""

from __future__ import annotations

import os
import re
from typing import Any

from jaxnn._errors import wrong_type
from jaxnn.interop import _keras, _onnx, _torch, _zip
from jaxnn.interop._mapping import Weights
from jaxnn.interop._msgpack import read_msgpack
from jaxnn.interop._npz import read_npz
from jaxnn.interop._safetensors import read_index, read_safetensors
from jaxnn.interop._source import Source

FORMATS = "PyTorch (.pt, .pth, .bin), safetensors, Keras (.weights.h5, .h5, .keras), .npz, flax msgpack or ONNX"


def read(path: str | os.PathLike[str]) -> Weights:
    """Arrays of a weight file by name, without the library that wrote it, and without running anything in it.

    The content decides the format, not the suffix:

    | format | names |
    |---|---|
    | PyTorch: `torch.save` of tensors in dicts, lists and tuples, of any version since 0.4 | keys joined by "." |
    | safetensors | as they are |
    | index of either (`*.index.json` with "weight_map") | as they are; the files are next to the index |
    | Keras: `.weights.h5`, `.h5`, `.keras` | paths, "layers/dense/vars/0" |
    | NumPy: `savez`, `savez_compressed` | as they are |
    | flax: `serialization.to_bytes` | keys joined by "/" |
    | ONNX: initializers, and tensors of Constant nodes, by output | as they are |

    Each array is read when it is accessed, as a view of the memory-mapped file unless it is compressed. So the file
    must not be changed in place while its arrays are in use. Shared storages, strides and offsets of PyTorch are kept.

    Args:
      path: path of the file, str or os.PathLike.

    Returns: a `Weights`: name -> read-only NumPy array, in the order of the file. bfloat16 and float8 are dtypes of
      ml_dtypes. Other values, such as the epoch of a checkpoint, are listed in its `others`.

    Raises:
      ValueError: if the file is truncated, damaged or inconsistent, or of another format, found before much time or
        memory is used; if it refers to a class or function other than those of tensors and plain values, as a pickled
        model does; and for sparse, quantized and nested tensors. Some damage is found at the access of an array.
      FileNotFoundError: if there is no such file.

    Differences: `torch.load` unpickles; here an interpreter of the needed operations calls nothing. Checksums of zip
      archives are verified for compressed arrays only, those of files by `nn.save` not at all: `nn.load` does. Of
      HDF5, which Keras uses, no h5py is needed; links, virtual datasets and filters other than deflate, shuffle and
      fletcher32 are refused.

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "net.pth")
    >>> nn.interop.write(path, {"fc.weight": np.ones((2, 3), np.float32), "fc.bias": np.zeros(2, np.float32)})
    >>> weights = nn.interop.read(path)
    >>> weights["fc.weight"].shape, weights.shapes["fc.bias"]
    ((2, 3), ShapeDtypeStruct(shape=(2,), dtype=float32))
    """
    if not isinstance(path, str | os.PathLike):
        raise wrong_type("interop.read", "a path (str or os.PathLike)", told=type(path).__name__)
    source = Source(os.fspath(path), f"interop.read {os.fspath(path)}")
    start = source.take(0, min(source.size, 4096))
    if re.match(rb'\s*\{\s*"', start):
        return read_index(source, _arrays)
    return _arrays(source)


def _arrays(source: Source) -> Weights:
    """The arrays of one file."""
    start = source.take(0, min(source.size, 1024))
    if start.startswith(_zip.START):
        source.kind = "a zip archive of PyTorch, Keras or NumPy"
        return _archive(source)
    if _torch.START.match(start):
        return _torch.read_stream(source)
    if start.startswith(_keras.START):
        return _keras.read_hdf5(source)
    if re.match(rb".{7}\0\{", start, re.DOTALL):
        return read_safetensors(source)
    if re.match(rb"\x80[\2-\5][^\0-\x1f]", start):
        raise source.bad("a pickle that torch.save did not write", "Save its arrays by numpy.savez or torch.save.")
    if re.match(rb"[\x80-\x8f\xde\xdf]", start):
        return read_msgpack(source)
    if start and start[0] in _onnx.STARTS:
        return _onnx.read_onnx(source)
    raise source.bad(f"a file that begins with {start[:8]!r}", f"Known are {FORMATS}.")


def _archive(source: Source) -> Weights:
    """The arrays of a zip archive."""
    members: dict[str, Any] = _zip.members(source)
    pickles = [name for name in members if re.fullmatch("[^/]+/data.pkl", name)]
    if len(pickles) == 1:
        return _torch.read_zip(source, members)
    if _keras.MEMBER in members:
        return _keras.read_keras(source, members)
    if all(name.endswith(".npy") for name in members):
        return read_npz(source, members)
    raise source.bad("a zip archive of other content", f"Known are {FORMATS}.")
