"""Directory of a zip archive, with every number checked before it is used.

Own code instead of `zipfile`: that module builds the directory of any number of members, does not see members that
overlap, and raises exceptions of many types for damaged archives.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator

from jaxnn.interop._mapping import RATIO, SPARE
from jaxnn.interop._source import Block, Source
from jaxnn.io._safetensors import shown

START = b"PK\3\4"
MEMBERS = 50_000
DIRECTORY = 20_000_000  # bytes

_END, _CENTRAL, _LOCAL = "<4s4H2LH", "<4s6H3L5H2L", "<4s5H3L2H"
_END64 = "<4sQ2H2L4Q"


def members(source: Source) -> dict[str, Block]:
    """The members of an archive by name, without folders."""
    found: dict[str, Block] = {}
    spans = []
    begin, size = _directory(source)
    for name, header in _headers(source, begin, size):
        block, start = _member(source, name, header, begin)
        if name in found:
            raise source.bad(f"two members {shown(name)!r}")
        found[name] = block
        spans.append((start, block.begin + (block.size if block.packed is None else block.packed)))
    end = 0
    for start, stop in sorted(spans):
        if start < end:
            raise source.bad("members that overlap")
        end = stop
    total = sum(block.size for block in found.values() if block.packed is not None)
    if total > SPARE + RATIO * source.size:
        raise source.bad(f"members of {total} bytes compressed in a file of {source.size}", "Save it uncompressed.")
    return {name: block for name, block in found.items() if not name.endswith("/")}


def is_inside(name: str) -> bool:
    """True for the name of a member that stays inside of the folder to which an archive is unpacked."""
    parts = name.split("/")
    return {"", ".", ".."}.isdisjoint(parts) and "\\" not in name and "\0" not in name and ":" not in parts[0]


def _directory(source: Source) -> tuple[int, int]:
    """Position and size of the directory."""
    length = struct.calcsize(_END)
    source.take(0, length)
    tail = source.data[max(0, source.size - 65535 - length) :]
    place = len(tail) - length
    while (place := tail.rfind(b"PK\5\6", 0, place + 4)) >= 0:
        if place + length + int.from_bytes(tail[place + 20 : place + 22], "little") == len(tail):
            break
        place -= 1
    if place < 0:
        raise source.bad("a zip archive without its end")
    _, disk, first, here, count, size, begin, _ = struct.unpack_from(_END, tail, place)
    end = source.size - len(tail) + place
    if source.data[max(0, end - 20) : end].startswith(b"PK\6\7"):  # PyTorch writes 64-bit sizes always
        end, (disk, first, here, count, size, begin) = _end64(source, end)
    if (disk, first) != (0, 0) or here != count or begin + size != end or size > DIRECTORY or count > MEMBERS:
        raise source.bad("a zip archive whose directory does not fit, or is too large")
    return begin, size


def _end64(source: Source, end: int) -> tuple[int, tuple[int, ...]]:
    """The same of an archive with 64-bit sizes."""
    length = struct.calcsize(_END64)
    place = int.from_bytes(source.take(end - 12, 8), "little")
    record = source.take(place, length)
    if record[:4] != b"PK\6\6":
        raise source.bad("a zip archive without its 64-bit end")
    return place, struct.unpack(_END64, record)[4:]


def _headers(source: Source, begin: int, size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and header of each member; sizes and positions of 64 bits are put in their places."""
    directory = source.take(begin, size)
    place, length = 0, struct.calcsize(_CENTRAL)
    while place < size:
        if place + length > size or directory[place : place + 4] != b"PK\1\2":
            raise source.bad("a zip archive with a damaged directory")
        header = list(struct.unpack_from(_CENTRAL, directory, place)[1:])
        names, extras, comments = header[9:12]
        raw = directory[place + length : place + length + names]
        extra = directory[place + length + names : place + length + names + extras]
        place += length + names + extras + comments
        try:
            name = raw.decode("utf-8" if header[2] & 0x800 else "cp437")
        except UnicodeDecodeError:
            raise source.bad("a member whose name is not UTF-8") from None
        if place > size:
            raise source.bad("a zip archive with a damaged directory")
        if not is_inside(name.removesuffix("/")):
            raise source.bad(f"a member {shown(name)!r} outside of the archive")
        yield name, tuple(_wide(header, extra))


def _wide(header: list[int], extra: bytes) -> list[int]:
    """The header with the 64-bit numbers of its extra field."""
    place = 0
    while place + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, place)
        numbers = extra[place + 4 : place + 4 + size]
        if kind == 1:
            for field in (8, 7, 15):  # size, compressed size, position
                if header[field] == 0xFFFFFFFF and len(numbers) >= 8:
                    header[field], numbers = int.from_bytes(numbers[:8], "little"), numbers[8:]
        place += 4 + size
    return header


def _member(source: Source, name: str, header: tuple[int, ...], end: int) -> tuple[Block, int]:
    """The data of a member, and the position of its local header."""
    _, _, flags, method, _, _, crc, packed, size, _, _, _, disk, _, attributes, start = header
    if flags & 1 or method not in (0, 8) or disk or (method == 0 and packed != size):
        raise source.bad(
            f"a member {shown(name)!r} that is encrypted or compressed by another method", "Save it again."
        )
    if stat.S_ISLNK(attributes >> 16):
        raise source.bad(f"a member {shown(name)!r} that is a symbolic link", "Save it again.")
    local = struct.calcsize(_LOCAL)
    signature, *_, names, extras = struct.unpack(_LOCAL, source.take(start, local))
    begin = start + local + names + extras
    same = source.data[start + local : start + local + names] == name.encode("utf-8" if flags & 0x800 else "cp437")
    if signature != START or not same or begin + packed > end:
        raise source.bad(f"a member {shown(name)!r} whose header does not fit")
    if method == 0:
        return Block(source, begin, size), start
    return Block.deflated(source, begin, size, packed, crc), start
