"""The safetensors format: eight bytes with the length of a JSON header, the header, and the raw arrays without gaps.

Own code instead of the safetensors package: the package's low-level functions changed incompatibly between 0.6 and 0.8
and take whole files as bytes, whereas this code reads and writes one array at a time without a copy. The package's
readers open the files of `write`, and `read_header` opens the files of the package.
"""

import io
import json
import math
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnn._errors import InvalidValue, invalid
from jaxnn.io._files import replacing

CODES = {
    "bool": "BOOL",
    **{f"{kind}{bits}": f"{kind[0].upper()}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2": "F8_E5M2",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
    "complex64": "C64",
}
DTYPES = {code: np.dtype(name) for name, code in CODES.items()}

# Limits for headers: a malformed or hostile header is rejected within 2 seconds and 200 MB.
HEADER_LIMIT = 10_000_000  # bytes
VALUES_LIMIT = 200_000  # commas, colons and opening brackets: an upper bound for the number of JSON values

NAME_LIMIT = 256  # characters of a name in an error

# The checksum is the first entry of the header: its position is known, and it is filled in after the rest is written.
_NO_SUM = b"00000000"
_SUM_AT = 8 + len(b'{"__metadata__":{"crc32":"')


class Tensor(NamedTuple):
    """Shape, dtype and byte position of an array of a file, not read yet; position -1 for an array stored elsewhere."""

    shape: tuple[int, ...]
    dtype: np.dtype
    position: int


def write(
    path: str | os.PathLike[str],
    arrays: Mapping[str, jax.Array | np.ndarray],
    metadata: dict[str, str],
    where: str = "save",
) -> None:
    """Writes arrays by name to one file, atomically; sharded arrays are gathered one at a time.

    The metadata get the additional entry `crc32`: the checksum of the file with eight zeros in place of the checksum.

    Args:
      path: path of the file.
      arrays: name -> array.
      metadata: name -> text.
      where: name of the function, for errors.

    Raises:
      ValueError: if the header would exceed its limits, or as `replacing` raises.
    """
    # Largest elements first: each array then starts at a multiple of its element size, as memory-mapping readers
    # require.
    ordered = dict(sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize))
    header: dict[str, Any] = {"__metadata__": {"crc32": _NO_SUM.decode(), **metadata}}
    end = 0
    for name, x in ordered.items():
        begin, end = end, end + x.nbytes
        header[name] = {"dtype": CODES[x.dtype.name], "shape": x.shape, "data_offsets": (begin, end)}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    for count, limit, unit in ((len(text), HEADER_LIMIT, "bytes"), (_values(text), VALUES_LIMIT, "JSON values")):
        if count > limit:
            fix = "Stack small arrays into large ones, and make arrays of lists of numbers."
            got = f"one of {count}, for {len(arrays)} arrays"
            raise invalid(where, f"a header of at most {limit} {unit}", told=got, fix=fix)
    start = len(text).to_bytes(8, "little") + text
    checksum = zlib.crc32(start)
    with replacing(path, where) as file:
        file.write(start)
        for x in ordered.values():
            data = _bytes(np.asarray(x))
            checksum = zlib.crc32(data, checksum)
            file.write(data)
        file.seek(_SUM_AT)
        file.write(b"%08x" % checksum)


def read_header(file: io.BufferedReader, where: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The arrays of a file by name, not read yet, and its metadata; every number is checked before it is used."""

    def bad(got: str) -> InvalidValue:
        return invalid(where, "a safetensors file", told=got, fix="It is cut short, damaged, or of another format.")

    size = os.fstat(file.fileno()).st_size
    if size < 8:
        raise bad(f"one of {size} bytes")
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, HEADER_LIMIT):
        raise bad(f"one of {size} bytes with a header of {length}")
    header = parse_json(file.read(length), lambda got: bad(f"a header {got}"))
    metadata = header.pop("__metadata__", {})
    if type(metadata) is not dict or any(type(text) is not str for text in metadata.values()):
        raise bad("metadata that are not strings")
    tensors, spans = {}, []
    for name, entry in header.items():
        match entry:
            case {"dtype": str(code), "shape": [*shape], "data_offsets": [begin, stop]} if all(
                type(n) is int and 0 <= n < 2**63 for n in (*shape, begin, stop)
            ):
                pass
            case _:
                raise bad(f"an entry {shown(name)!r} without dtype, shape and offsets")
        if code not in DTYPES:
            raise invalid(
                where,
                f"arrays of {', '.join(DTYPES)}",
                told=f"{shown(name)!r} of {shown(code)}",
                fix="Convert it elsewhere first.",
            )
        dtype = DTYPES[code]
        if not is_possible(shape, dtype.itemsize):
            raise bad(f"an entry {shown(name)!r} of an impossible shape")
        if stop - begin != math.prod(shape) * dtype.itemsize:
            raise bad(f"an entry {shown(name)!r} whose offsets do not fit its shape")
        tensors[name] = Tensor(tuple(shape), dtype, 8 + length + begin)
        spans.append((begin, stop))
    end = 0
    for begin, stop in sorted(spans):
        if begin != end:
            raise bad("arrays that overlap or leave gaps")
        end = stop
    if 8 + length + end != size:
        raise bad(f"one of {size} bytes whose header speaks of {8 + length + end}")
    return tensors, metadata


def check_sum(file: io.BufferedReader, metadata: dict[str, str], where: str) -> None:
    """Raises ValueError if the checksum of a file is wrong; files of other programs have no checksum and pass."""
    if "crc32" not in metadata:
        return
    file.seek(0)
    found = zlib.crc32(file.read(_SUM_AT) + _NO_SUM)
    file.seek(len(_NO_SUM), os.SEEK_CUR)
    while chunk := file.read(1 << 24):
        found = zlib.crc32(chunk, found)
    if metadata["crc32"] != f"{found:08x}":
        got = f"one with {found:08x}"
        raise invalid(
            where, f"a file with the checksum {metadata['crc32']}", told=got, fix="It is damaged, or was edited."
        )


def read_array(file: io.BufferedReader, tensor: Tensor, where: str) -> np.ndarray:
    """Reads one array into newly allocated memory."""
    array = np.empty(tensor.shape, tensor.dtype)
    file.seek(tensor.position)
    if file.readinto(_bytes(array)) != array.nbytes:
        raise invalid(
            where, f"{array.nbytes} bytes", told="the end of the file", fix="It was changed while it was read."
        )
    if array.dtype == np.bool_ and (_bytes(array) > 1).any():
        raise invalid(
            where, "bool in bytes of 0 and 1", told="others", fix="It is damaged, or was written by other means."
        )
    return array


def is_possible(shape: Sequence[int], itemsize: int = 1) -> bool:
    """True for a shape that NumPy supports: at most 64 axes, and below 2**63 bytes with empty axes counted as 1."""
    return len(shape) <= 64 and math.prod(max(n, 1) for n in shape) * itemsize < 2**63


def parse_json(text: bytes, bad: Callable[[str], InvalidValue]) -> dict[str, Any]:
    """The JSON object of a text; raises the error of `bad` for other texts, duplicate keys and too deep nesting."""
    if _values(text) > VALUES_LIMIT:
        raise bad(f"of more than {VALUES_LIMIT} JSON values")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a key given twice")
        return dict(pairs)

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        value = json.loads(text.decode(), object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as cause:
        raise bad("that is not a JSON object") from cause
    if type(value) is not dict:
        raise bad("that is not a JSON object")
    return value


def _values(text: bytes) -> int:
    """Upper bound for the number of values in a JSON text, counted before any of them is created."""
    return sum(map(text.count, (b",", b":", b"{", b"[")))


def shown(name: str) -> str:
    """A name as it is printed in an error, truncated if it is long."""
    return name if len(name) <= NAME_LIMIT else f"{name[:NAME_LIMIT]}..."


def _bytes(x: np.ndarray) -> np.ndarray:
    """The bytes of an array in row-major and native byte order, without a copy if they are stored that way."""
    return np.ascontiguousarray(x, x.dtype.newbyteorder("=")).reshape(-1).view(np.uint8)
