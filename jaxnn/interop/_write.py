"""Writer of weight files for other libraries."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import jax
import numpy as np

from jaxnn._checks import choice
from jaxnn._errors import describe, invalid, wrong_type
from jaxnn.interop import _npz, _torch
from jaxnn.interop._zip import is_inside
from jaxnn.io._files import replacing
from jaxnn.io._safetensors import CODES
from jaxnn.io._safetensors import write as write_safetensors

SUFFIXES = {".pt": "torch", ".pth": "torch", ".bin": "torch", ".safetensors": "safetensors", ".npz": "npz"}
ALIGNMENT = 64  # bytes; so that other programs can map the arrays into memory
MOST = 25_000  # arrays; `read` accepts about 30 000 in a PyTorch file
DATE = (1980, 1, 1, 0, 0, 0)

_CLASSES = {np.dtype(dtype): name for name, dtype in _torch.STORAGES.items()}
_KNOWN = {
    "torch": {*_CLASSES, *_torch.DTYPES.values()},
    "safetensors": {np.dtype(name) for name in CODES},
    "npz": {np.dtype(code) for code in _npz.DTYPES},
}


def write(
    path: str | os.PathLike[str], arrays: Mapping[str, jax.Array | np.ndarray], *, format: str | None = None
) -> None:
    """Writes arrays by name as a file for other libraries, atomically; equal arrays give equal bytes.

    A PyTorch file is loaded by `model.load_state_dict(torch.load(path, weights_only=True))`, a safetensors file by the
    safetensors package, and a `.npz` file by `np.load(path)`.

    Args:
      path: path of the file, str or os.PathLike; its folder must exist.
      arrays: name -> JAX or NumPy array. The order is kept; in safetensors larger dtypes come first.
      format: "torch", "safetensors" or "npz"; None: by the suffix, `.pt`, `.pth` and `.bin` for "torch".

    Raises:
      TypeError: for values that are not concrete arrays, names that are not str, and dtypes that the format does not
        have: bfloat16 and float8 in "npz".
      ValueError: for an unknown suffix or format, an empty name, a missing folder, or too many arrays: above 25 000,
        in safetensors about 13 000.

    Differences: unlike `torch.save` no memory is shared, and nothing but a dict of tensors is written.

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "net.safetensors")
    >>> nn.interop.write(path, {"w": jnp.ones((2, 3), jnp.bfloat16)})
    >>> nn.interop.read(path)["w"].dtype
    dtype(bfloat16)
    """
    if not isinstance(path, str | os.PathLike):
        raise wrong_type("interop.write", "a path (str or os.PathLike)", told=type(path).__name__)
    if format is None:
        suffix = os.path.splitext(os.fspath(path))[1].lower()
        if suffix not in SUFFIXES:
            fix = 'Pass format="torch", "safetensors" or "npz".'
            raise invalid("interop.write", f"a path that ends in {', '.join(SUFFIXES)}", os.fspath(path), fix)
        format = SUFFIXES[suffix]
    choice("interop.write", "format", format, tuple(_KNOWN))
    check_arrays(arrays, format)
    if format == "safetensors":
        write_safetensors(path, arrays, {"format": "pt"}, "interop.write")  # transformers requires this entry
        return
    with replacing(path, "interop.write") as file, zipfile.ZipFile(file, "w") as archive:
        for name, parts in (_torch_members if format == "torch" else _npz_members)(arrays):
            _add(archive, file, name, parts)


def check_arrays(arrays: Any, format: str) -> None:
    """Raises unless `arrays` are concrete arrays by name, of dtypes of the format."""
    if not isinstance(arrays, Mapping):
        raise wrong_type("interop.write", "a mapping, name -> array", arrays, "The order is write(path, arrays).")
    if len(arrays) > MOST:
        raise invalid("interop.write", f"at most {MOST} arrays", told=str(len(arrays)), fix="Write several files.")
    for name, x in arrays.items():
        if not isinstance(name, str):
            raise wrong_type("interop.write", "names of type str", name)
        if not name or (format == "npz" and not is_inside(name)):
            raise invalid("interop.write", "names that are not empty, and in npz paths without '..'", name)
        where = f"interop.write at {name[:256]}"
        if isinstance(x, jax.core.Tracer):
            raise wrong_type(where, "concrete arrays", told=f"a traced {describe(x)}", fix="Write outside of jit.")
        if not isinstance(x, jax.Array | np.ndarray | np.generic):
            raise wrong_type(where, "a JAX or NumPy array", x, "Flatten nested dicts into names first.")
        if (x.dtype.newbyteorder("=") if isinstance(x.dtype, np.dtype) else x.dtype) not in _KNOWN[format]:
            known = ", ".join(sorted(dtype.name for dtype in _KNOWN[format]))
            raise wrong_type(where, f"an array of {known}", x, "Convert it, or choose another format.")


def _add(archive: zipfile.ZipFile, file: BinaryIO, name: str, parts: Iterable[bytes | np.ndarray]) -> None:
    """Adds a member without compression, its data at a multiple of `ALIGNMENT`."""
    info = zipfile.ZipInfo(name, DATE)
    info.create_system, info.external_attr = 3, 0o600 << 16  # the same on every system
    begin = file.tell() + 30 + len(name.encode()) + 20 + 4  # local header, name, 64-bit sizes, header of the padding
    padding = -begin % ALIGNMENT
    info.extra = struct.pack("<2H", 0x4246, padding) + b"Z" * padding  # "FB", as PyTorch names its padding
    with archive.open(info, "w", force_zip64=True) as member:
        for part in parts:
            member.write(memoryview(part))


def _raw(x: Any) -> np.ndarray:
    """The bytes of an array in row-major and little-endian order."""
    array = np.asarray(x)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)


# ---- NumPy


def _npz_members(arrays: Mapping[str, Any]) -> Iterator[tuple[str, list[bytes | np.ndarray]]]:
    for name, x in arrays.items():
        header = io.BytesIO()
        descr = np.dtype(x.dtype).newbyteorder("<").str
        np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": x.shape})
        yield f"{name}.npy", [header.getvalue(), _raw(x)]


# ---- PyTorch


def _torch_members(arrays: Mapping[str, Any]) -> Iterator[tuple[str, list[bytes | np.ndarray]]]:
    yield "archive/data.pkl", [_pickled(arrays)]
    yield "archive/byteorder", [b"little"]
    for i, x in enumerate(arrays.values()):
        yield f"archive/data/{i}", [_raw(x)]
    yield "archive/version", [b"3\n"]


def _pickled(arrays: Mapping[str, Any]) -> bytes:
    """Pickle of an OrderedDict of tensors, by protocol 2, without memo."""
    empty = b"ccollections\nOrderedDict\n)R"
    out = [b"\x80\x02", empty, b"("]
    for i, (name, x) in enumerate(arrays.items()):
        kind, size = np.dtype(x.dtype).newbyteorder("="), int(np.size(x))
        known = kind in _CLASSES
        strides = [int(np.prod(x.shape[axis + 1 :], dtype=object)) for axis in range(x.ndim)]
        storage = f"ctorch\n{_CLASSES[kind]}\n" if known else "ctorch.storage\nUntypedStorage\n"
        out += [_text(name), f"ctorch._utils\n_rebuild_tensor_v{2 if known else 3}\n".encode(), b"(("]
        out += [_text("storage"), storage.encode(), _text(str(i)), _text("cpu")]
        out += [_integer(size if known else size * kind.itemsize), b"tQ", _integer(0)]
        out += [b"(", *map(_integer, x.shape), b"t(", *map(_integer, strides), b"t\x89", empty]
        out += [b"tR" if known else f"ctorch\n{kind.name}\ntR".encode()]
    return b"".join([*out, b"u."])


def _text(text: str) -> bytes:
    raw = text.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _integer(n: int) -> bytes:
    return b"J" + struct.pack("<i", n) if n < 2**31 else b"\x8a\x09" + n.to_bytes(9, "little")
