"""Keras weights: HDF5 files (`.weights.h5`, `.h5`), and `.keras` archives with one inside.

Own code instead of h5py: HDF5's C library loops endlessly on some damaged files. It reads the parts of the format that
h5py writes by default: groups of any size, compact groups of newer versions, and arrays that are contiguous, compact
or in chunks with deflate, shuffle and fletcher32.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxnn.interop._mapping import NAMES, SPARE, Weights, joined, weights
from jaxnn.interop._source import Block, Entry, Source, entry
from jaxnn.io._safetensors import shown

START = b"\x89HDF\r\n\x1a\n"
MEMBER = "model.weights.h5"  # of a .keras archive
DEPTH = 100
PARTS = 400_000  # messages, nodes, links, and 256 bytes of any of these
NAME = 65_536  # characters of one name
NOWHERE = 2**64 - 1  # address of data that are not stored

# Types of messages in the header of an object.
SPACE, LINK_INFO, TYPE, LINK, EXTERNAL, LAYOUT, FILTERS, CONTINUATION, TABLE = 1, 2, 3, 6, 7, 8, 11, 16, 17
COMPACT, CONTIGUOUS, CHUNKED = 0, 1, 2  # layouts
DEFLATE, SHUFFLE, FLETCHER = 1, 2, 3  # filters
INTEGER, FLOAT, OPAQUE, ENUMERATION = 0, 1, 5, 8  # classes of types

# Floating dtypes by size, and the sizes of exponent and mantissa.
FLOATS = {(2, 5, 10): "float16", (2, 8, 7): "bfloat16", (4, 8, 23): "float32", (8, 11, 52): "float64"}
PLAIN = "Save it by h5py with its default options."


def read_hdf5(source: Source) -> Weights:
    """The datasets of an HDF5 file."""
    source.kind = "a Keras weight file"
    return Reader(source, Block(source, 0, source.size)).weights()


def read_keras(source: Source, members: dict[str, Block]) -> Weights:
    """The datasets of the HDF5 file in a `.keras` archive; the configuration of the model is not looked at."""
    source.kind = "a Keras weight file"
    return Reader(source, members[MEMBER]).weights()


class Message(NamedTuple):
    """A part of the header of an object: its type and its bytes."""

    kind: int
    data: bytes
    place: int


class Reader:
    """Datasets of an HDF5 file, which is a block of a file."""

    def __init__(self, source: Source, block: Block):
        self.source, self.block = source, block
        memory, self.begin = block.buffer()
        self.memory = memory if block.packed is None else memory[self.begin : self.begin + block.size]
        self.begin = self.begin if block.packed is None else 0
        self.entries: dict[str, Entry] = {}
        self.others: dict[str, str] = {}
        self.left, self.characters = PARTS, 0

    def weights(self) -> Weights:
        """The datasets by path."""
        head = self.take(0, 48)
        version = head[8]
        sizes, base, root = (head[13:15], 24, 64) if version == 0 else (head[13:15], 28, 68)
        if version in (2, 3):
            sizes, base, root = head[9:11], 12, 36
        if version > 3 or sizes != b"\10\10" or self.number(base) != 0:
            raise self.source.bad("an HDF5 file with another superblock", PLAIN)
        self.walk(self.number(root), "", 0)
        return weights("keras", self.source, self.entries, self.others, self.source.size)

    def take(self, place: int, size: int) -> bytes:
        """Copy of a part of the structure, of which there are at most `PARTS`."""
        self.left -= 1 + size // 256
        if self.left < 0:
            raise self.source.bad(f"a structure of more than {PARTS} parts")
        return self.part(place, size)

    def part(self, place: int, size: int) -> bytes:
        """Copy of a part of the file."""
        if size < 0 or place < 0 or place + size > self.block.size:
            raise self.source.bad(f"the end of the file after {self.block.size} bytes, within a part of {size}")
        return self.memory[self.begin + place : self.begin + place + size]

    def number(self, place: int) -> int:
        """A number of 8 bytes, such as an address."""
        return int.from_bytes(self.take(place, 8), "little")

    def walk(self, place: int, name: str, depth: int) -> None:
        """Adds the datasets of an object: of a group, or itself."""
        self.characters += len(name)
        if depth > DEPTH or self.characters > NAMES:
            raise self.source.bad(f"groups of more than {DEPTH} levels, or names of more than {NAMES} characters")
        found: dict[int, Message] = {}
        for message in self.messages(place):
            if message.kind == LINK:
                self.walk(*self.link(message, name), depth + 1)
            elif message.kind == TABLE:
                for key, address in self.table(message):
                    self.walk(address, f"{name}/{key}" if name else key, depth + 1)
            else:
                found[message.kind] = message
        if LINK_INFO in found and self.dense(found[LINK_INFO].data):
            raise self.source.bad(f"a group {shown(name)!r} with an index of links", PLAIN)
        if LAYOUT in found and SPACE in found and TYPE in found:
            self.dataset(name, found)

    # Headers of objects.

    def messages(self, place: int) -> Iterator[Message]:
        """The messages in the header of an object."""
        start = self.take(place, 16)
        if start[:4] == b"OHDR":
            flags = start[5]
            begin = place + 6 + (16 if flags & 32 else 0) + (4 if flags & 16 else 0)
            width = 1 << (flags & 3)
            size = int.from_bytes(self.take(begin, width), "little")
            blocks, extra, new = [(begin + width, size)], 2 if flags & 4 else 0, True
        elif start[0] == 1:
            blocks, extra, new = [(place + 16, int.from_bytes(start[8:12], "little"))], 0, False
        else:
            raise self.source.bad("an object without a header")
        for begin, size in blocks:
            data, at = self.take(begin, size), 0
            head = 4 + extra if new else 8
            while at + head <= size:
                kind, flags = data[at], data[at + 3 if new else at + 4]
                length = int.from_bytes(data[at + 1 : at + 3] if new else data[at + 2 : at + 4], "little")
                self.left -= 1
                if self.left < 0 or at + head + length > size or (not new and data[at + 1]):
                    raise self.source.bad("an object with a damaged header")
                content = data[at + head : at + head + length]
                if kind == CONTINUATION and len(content) >= 16:
                    address, more = struct.unpack_from("<2Q", content)
                    blocks.append((address + 4, more - 8) if new else (address, more))  # "OCHK" and a checksum
                elif flags & 2 and kind in (SPACE, TYPE, LAYOUT, FILTERS):
                    raise self.source.bad("a dataset whose type is stored elsewhere", PLAIN)
                else:
                    yield Message(kind, content, begin + at + head)
                at += head + length

    def link(self, message: Message, parent: str) -> tuple[int, str]:
        """Address and path of a linked object."""
        data = message.data.ljust(32, b"\0")
        flags, at = data[1], 2
        hard = not flags & 8 or data[at] == 0
        at += (1 if flags & 8 else 0) + (8 if flags & 4 else 0) + (1 if flags & 16 else 0)
        width = 1 << (flags & 3)
        size = int.from_bytes(data[at : at + width], "little")
        key = self.text(data[at + width : at + width + size])
        path = f"{parent}/{key}" if parent else key
        if not hard or at + width + size + 8 > len(message.data):
            raise self.source.bad(f"a link {shown(path)!r} to another place", "Save it again.")
        return int.from_bytes(data[at + width + size : at + width + size + 8], "little"), path

    def dense(self, data: bytes) -> bool:
        """True if a group has an index of links in addition to those in its header."""
        at = 10 if data[1:2] and data[1] & 1 else 2
        return int.from_bytes(data[at : at + 8].ljust(8, b"\xff"), "little") != NOWHERE

    def table(self, message: Message) -> Iterator[tuple[str, int]]:
        """Names and addresses of the members of a group, from its B-tree and its heap of names."""
        tree, heap = struct.unpack_from("<2Q", message.data.ljust(16, b"\0"))
        head = self.take(heap, 32)
        size, _, names = struct.unpack_from("<3Q", head, 8)
        if head[:4] != b"HEAP" or names + size > self.block.size:
            raise self.source.bad("a group without names")
        texts = self.take(names, size)
        for _, node in self.tree(tree, 0, 8, 0):
            count = int.from_bytes(self.take(node, 8)[6:8], "little")
            symbols = self.take(node + 8, 40 * count)
            if self.take(node, 4) != b"SNOD":
                raise self.source.bad("a group without members")
            for at in range(0, len(symbols), 40):
                offset, address, kind = struct.unpack_from("<2QI", symbols, at)
                if offset >= size:
                    raise self.source.bad("a member without a name")
                end = texts.find(b"\0", offset, offset + NAME)
                key = self.text(texts[offset : max(end, offset)])
                if kind == 2 or not key:
                    raise self.source.bad(f"a link {shown(key)!r} to another place", "Save it again.")
                yield key, address

    def text(self, raw: bytes) -> str:
        """A name."""
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self.source.bad("a name that is not UTF-8") from None

    def tree(self, place: int, kind: int, width: int, depth: int) -> Iterator[tuple[bytes, int]]:
        """Keys of a number of bytes, and addresses, in the leaves of a B-tree."""
        head = self.take(place, 24)
        level, count = head[5], int.from_bytes(head[6:8], "little")
        if head[:4] != b"TREE" or head[4] != kind or depth > 20 or (depth and level >= 20):
            raise self.source.bad("a damaged tree")
        pairs = self.take(place + 24, count * (width + 8))
        for at in range(0, len(pairs), width + 8):
            address = int.from_bytes(pairs[at + width : at + width + 8], "little")
            if level == 0:
                yield pairs[at : at + width], address
            else:
                yield from self.tree(address, kind, width, depth + 1)

    # Datasets.

    def dataset(self, name: str, found: dict[int, Message]) -> None:
        """Adds the array of a dataset, or the description of one that is not of numbers."""
        shape, dtype = self.shape(found[SPACE].data), self.dtype(found[TYPE].data)
        if shape is None or dtype is None:
            self.others[name] = "strings or records"
            return
        if EXTERNAL in found:
            raise self.source.bad(f"{shown(name)!r} with numbers in other files", "Save it as one file.")
        layout = found[LAYOUT].data.ljust(18, b"\0")
        version, kind = layout[:2]
        size = entry(name, Block(self.source, 0, 2**62), shape, dtype).nbytes
        if version not in (3, 4) or kind > CHUNKED or (kind == CHUNKED and version == 4):
            raise self.source.bad(f"{shown(name)!r} in another layout or in other files", PLAIN)
        if kind == CHUNKED:
            made = self.chunked(name, shape, dtype, found)
        elif size == 0:
            made = entry(name, Block(self.source, 0, 0), shape, dtype)
        else:
            place = found[LAYOUT].place + 4 if kind == COMPACT else int.from_bytes(layout[2:10], "little")
            if place + size > self.block.size:
                raise self.source.bad(f"{shown(name)!r} beyond the end of the file, or not stored")
            made = entry(name, self.block.part(place, size), shape, dtype)
        joined(self.source, self.entries, name, made)

    def shape(self, data: bytes) -> list[int] | None:
        """The shape of a dataset; None for one without elements."""
        rank, begin = (data[1], 8 if data[0] == 1 else 4) if len(data) >= 4 else (0, 0)
        if begin == 0 or data[0] not in (1, 2) or begin + 8 * rank > len(data):
            raise self.source.bad("a dataset of an unknown shape")
        if data[0] == 2 and data[3] == 2:
            return None
        return list(struct.unpack_from(f"<{rank}Q", data, begin))

    def dtype(self, data: bytes) -> np.dtype | None:
        """The dtype of a dataset; None if it is not of numbers."""
        data = data.ljust(32, b"\0")
        kind, order, size = data[0] & 15, data[1], int.from_bytes(data[4:8], "little")
        bits = int.from_bytes(data[10:12], "little")
        if kind == INTEGER and size in (1, 2, 4, 8) and bits == 8 * size and data[8:10] == b"\0\0":
            return np.dtype(f"{'>' if order & 1 else '<'}{'i' if order & 8 else 'u'}{size}")
        if kind == FLOAT and (size, data[13], data[15]) in FLOATS and bits == 8 * size and not order & 64:
            return np.dtype(FLOATS[size, data[13], data[15]]).newbyteorder(">" if order & 1 else "<")
        if kind == OPAQUE and size == 2:  # bfloat16, as h5py writes it for Keras
            return np.dtype("bfloat16")
        if kind == ENUMERATION and size == 1 and b"FALSE\0" in data and b"TRUE\0" in data:  # bool, as h5py writes it
            return np.dtype(np.bool_)
        return None

    # Chunks.

    def chunked(self, name: str, shape: list[int], dtype: np.dtype, found: dict[int, Message]) -> Entry:
        """An array in chunks."""
        layout, filters = found[LAYOUT].data, self.filters(name, found)
        rank = len(shape)
        if len(layout) < 11 + 4 * (rank + 1) or layout[2] != rank + 1:
            raise self.source.bad(f"{shown(name)!r} in chunks of other axes")
        tree = int.from_bytes(layout[3:11], "little")
        *chunk, width = struct.unpack_from(f"<{rank + 1}I", layout, 11)
        size = math.prod(chunk) * width
        if 0 in chunk or width != dtype.itemsize or size > SPARE:
            raise self.source.bad(f"{shown(name)!r} in chunks of {size} bytes", PLAIN)
        made = entry(name, Block(self.source, 0, 2**62), shape, dtype)
        count = math.prod(-(-n // step) for n, step in zip(shape, chunk, strict=True))

        def load() -> np.ndarray:
            self.left = PARTS + 2 * count
            array, seen = np.zeros(shape, dtype), set()
            for key, address in () if count == 0 else self.tree(tree, 1, 8 + 8 * (rank + 1), 0):
                stored, mask, *corner = struct.unpack(f"<2I{rank}Q", key[:-8])
                inside = all(n % step == 0 and n < end for n, step, end in zip(corner, chunk, shape, strict=True))
                if not inside or mask or tuple(corner) in seen:
                    raise self.source.bad(f"{shown(name)!r} with a damaged chunk")
                seen.add(tuple(corner))
                raw = self.filtered(name, self.part(address, stored), filters, size, width)
                part = np.frombuffer(raw, dtype).reshape(chunk)
                slices = [slice(n, n + step) for n, step in zip(corner, chunk, strict=True)]
                target = array[tuple(slices)]
                target[...] = part[tuple(slice(0, n) for n in target.shape)]
            if len(seen) != count:
                raise self.source.bad(f"{shown(name)!r} with {len(seen)} chunks of {count}")
            array = array.astype(dtype.newbyteorder("="), copy=False)
            if array.dtype == np.bool_ and (array.view(np.uint8) > 1).any():
                raise self.source.bad(f"{shown(name)!r} of bool with bytes other than 0 and 1")
            array.flags.writeable = False
            return array

        return made._replace(load=load)

    def filters(self, name: str, found: dict[int, Message]) -> list[int]:
        """The filters of the chunks of a dataset, in the order in which they were applied."""
        if FILTERS not in found:
            return []
        data = found[FILTERS].data
        version, count = data[:2].ljust(2, b"\0")
        filters, at = [], 8 if version == 1 else 2
        for _ in range(min(count, 10)):
            head = data[at : at + 8].ljust(8, b"\0")
            kind = int.from_bytes(head[:2], "little")
            named = version == 1 or kind >= 256
            values = int.from_bytes(head[6:8] if named else head[4:6], "little")
            words = -(-int.from_bytes(head[2:4], "little") // 8) if version == 1 else 0
            at += (8 + 8 * words if named else 6) + 4 * values
            at += 4 if version == 1 and values % 2 else 0
            filters.append(kind)
        if not {DEFLATE, SHUFFLE, FLETCHER}.issuperset(filters) or len(set(filters)) < len(filters):
            raise self.source.bad(f"{shown(name)!r} with the filters {filters}", PLAIN)
        return filters

    def filtered(self, name: str, raw: bytes, filters: list[int], size: int, width: int) -> bytes:
        """The numbers of a chunk, with its filters undone."""
        for kind in reversed(filters):
            if kind == DEFLATE:
                try:
                    raw = zlib.decompressobj().decompress(raw, size + 5)
                except zlib.error:
                    raise self.source.bad(f"{shown(name)!r} with a damaged chunk") from None
            elif kind == FLETCHER:
                raw = raw[:-4]
            elif len(raw) == size:
                raw = np.frombuffer(raw, np.uint8).reshape(width, -1).T.tobytes()
        if len(raw) != size:
            raise self.source.bad(f"{shown(name)!r} with a chunk of {len(raw)} bytes instead of {size}")
        return raw
