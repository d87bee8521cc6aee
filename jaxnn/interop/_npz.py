"""Archives of `numpy.savez`, without pickles."""

from __future__ import annotations

import re

import numpy as np

from jaxnn.interop._mapping import Weights, joined, weights
from jaxnn.interop._source import Block, Entry, Source, entry
from jaxnn.io._safetensors import shown

DTYPES = {"b1", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)), "f2", "f4", "f8", "c8", "c16"}
HEADER = 4000  # bytes

_MAGIC = b"\x93NUMPY"
_HEADER = re.compile(
    r"\{\s*'descr':\s*'([<>|=])(\w{2,3})',\s*'fortran_order':\s*(True|False),\s*'shape':\s*\(([0-9, ]*)\),?\s*\}\s*"
)


def read_npz(source: Source, members: dict[str, Block]) -> Weights:
    """The arrays of an archive."""
    source.kind = "a file of numpy.savez"
    entries: dict[str, Entry] = {}
    for member, block in members.items():
        name = member.removesuffix(".npy")
        joined(source, entries, name, _entry(name, block))
    return weights("npz", source, entries, {}, source.size)


def _entry(name: str, block: Block) -> Entry:
    start = block.start(HEADER + 12)
    version, width = start[6:7], 2 if start[6:7] == b"\1" else 4
    begin = 8 + width
    end = begin + int.from_bytes(start[8:begin], "little")
    text = start[begin:end].decode("latin-1")
    header = _HEADER.fullmatch(text)
    if not start.startswith(_MAGIC) or version not in (b"\1", b"\2", b"\3") or end > len(start) or header is None:
        raise block.source.bad(f"{shown(name)!r} without the header of an array of numbers", "Save plain arrays.")
    order, code, fortran, axes = header.groups()
    numbers = axes.replace(",", " ").split()
    if code not in DTYPES or len(numbers) > 64 or any(len(number) > 19 for number in numbers):
        raise block.source.bad(f"{shown(name)!r} of dtype {code} or of an impossible shape", "Save plain arrays.")
    shape, dtype = [int(number) for number in numbers], np.dtype(f"{order}{code}")
    strides = [int(np.prod(shape[:axis], dtype=object)) for axis in range(len(shape))] if fortran == "True" else None
    return entry(name, block.part(end, block.size - end), shape, dtype, 0, strides)
