"""Files of `flax.serialization.to_bytes`: msgpack with arrays as an extension type."""

from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple

import numpy as np

from jaxnn._errors import describe
from jaxnn.interop._mapping import NAMES, Weights, joined, weights
from jaxnn.interop._source import Block, Entry, Source, entry
from jaxnn.io._safetensors import CODES, is_possible, shown

DEPTH = 100
VALUES = 300_000

NDARRAY, COMPLEX, SCALAR = 1, 2, 3  # extension types of flax
CHUNKED = "__msgpack_chunked_array__"
DTYPES = {name: np.dtype(name) for name in [*CODES, "complex128"]}


class Span(NamedTuple):
    """Bytes of the file: a bin value, or an extension of a type."""

    begin: int
    size: int
    kind: int = 0


def read_msgpack(source: Source) -> Weights:
    """The arrays of a file."""
    source.kind = "a file of flax.serialization.to_bytes"
    decoder = Decoder(source, 0, source.size)
    tree = decoder.value(0)
    if decoder.place != source.size or type(tree) is not dict or not tree:
        raise source.bad(f"a value that ends after {decoder.place} of {source.size} bytes, or is empty or not a dict")
    collected = Collector(source)
    collected.walk(tree, "")
    return weights("msgpack", source, collected.entries, collected.others, source.size)


class Decoder:
    """Reads values one at a time; extensions and bytes stay in the file."""

    def __init__(self, source: Source, begin: int, end: int):
        self.source, self.place, self.end = source, begin, end
        self.left = VALUES

    def take(self, size: int) -> bytes:
        """The next bytes."""
        self.place += size
        if self.place > self.end:
            raise self.source.bad("the end of the file within a value")
        return self.source.data[self.place - size : self.place]

    def number(self, size: int) -> int:
        """An unsigned integer."""
        return int.from_bytes(self.take(size), "big")

    def value(self, depth: int) -> Any:
        """The next value: a dict, a list, a `Span`, or a Python value."""
        self.left -= 1
        if depth > DEPTH or self.left < 0:
            raise self.source.bad(f"more than {DEPTH} levels or {VALUES} values")
        code = self.take(1)[0]
        if code <= 0x7F or code >= 0xE0:
            return code if code <= 0x7F else code - 256
        if code <= 0xBF:
            if code <= 0x8F:
                return self.mapping(code & 15, depth)
            return self.items(code & 15, depth) if code <= 0x9F else self.text(code & 31)
        match code:
            case 0xC0 | 0xC2 | 0xC3:
                return {0xC0: None, 0xC2: False, 0xC3: True}[code]
            case 0xC4 | 0xC5 | 0xC6:
                return self.span(self.number(1 << (code - 0xC4)))
            case 0xC7 | 0xC8 | 0xC9:
                return self.extension(self.number(1 << (code - 0xC7)))
            case 0xCA | 0xCB:
                return struct.unpack(">f" if code == 0xCA else ">d", self.take(4 if code == 0xCA else 8))[0]
            case 0xCC | 0xCD | 0xCE | 0xCF:
                return self.number(1 << (code - 0xCC))
            case 0xD0 | 0xD1 | 0xD2 | 0xD3:
                return int.from_bytes(self.take(1 << (code - 0xD0)), "big", signed=True)
            case 0xD4 | 0xD5 | 0xD6 | 0xD7 | 0xD8:
                return self.extension(1 << (code - 0xD4))
            case 0xD9 | 0xDA | 0xDB:
                return self.text(self.number(1 << (code - 0xD9)))
            case 0xDC | 0xDD:
                return self.items(self.number(2 << (code - 0xDC)), depth)
            case 0xDE | 0xDF:
                return self.mapping(self.number(2 << (code - 0xDE)), depth)
        raise self.source.bad(f"an unknown code {code}")

    def text(self, size: int) -> str:
        """A text of a number of bytes."""
        try:
            if size > NAMES:
                raise self.source.bad(f"a text of {size} bytes")
            return self.take(size).decode()
        except UnicodeDecodeError:
            raise self.source.bad("a text that is not UTF-8") from None

    def span(self, size: int, kind: int = 0) -> Span:
        """Bytes that are left in the file."""
        begin = self.place
        self.place += size
        if self.place > self.end:
            raise self.source.bad("the end of the file within an array")
        return Span(begin, size, kind)

    def extension(self, size: int) -> Span:
        """An extension that is left in the file."""
        kind = self.take(1)[0]
        if kind not in (NDARRAY, COMPLEX, SCALAR):
            raise self.source.bad(f"an extension of the unknown type {kind}")
        return self.span(size, kind)

    def items(self, size: int, depth: int) -> list[Any]:
        """A list of values."""
        return [self.value(depth + 1) for _ in range(size)]

    def mapping(self, size: int, depth: int) -> dict[str, Any]:
        """A dict with keys of str."""
        found: dict[str, Any] = {}
        for _ in range(size):
            key = self.value(depth + 1)
            if type(key) is not str or key in found:
                raise self.source.bad("a dict with a key twice, or one that is not a str")
            found[key] = self.value(depth + 1)
        return found


class Collector:
    """Collects the arrays of a decoded tree by name, with the keys joined by "/"."""

    def __init__(self, source: Source):
        self.source, self.characters = source, 0
        self.entries: dict[str, Entry] = {}
        self.others: dict[str, str] = {}

    def walk(self, node: Any, name: str) -> None:
        """Adds the arrays of a node, and descriptions of other values."""
        self.characters += len(name)
        if self.characters > NAMES:
            raise self.source.bad(f"names of more than {NAMES} characters")
        if type(node) is dict and CHUNKED in node:
            joined(self.source, self.entries, name, self.chunked(node, name))
        elif type(node) in (dict, list):
            for key, child in node.items() if type(node) is dict else enumerate(node):
                self.walk(child, f"{name}/{key}" if name else str(key))
        elif type(node) is Span and node.kind in (NDARRAY, SCALAR):
            joined(self.source, self.entries, name, self.array(node, name))
        elif type(node) is Span:
            self.others[name] = "complex" if node.kind == COMPLEX else f"{node.size} bytes"
        else:
            self.others[name] = f"{type(node).__name__} {describe(node, 60)}"

    def array(self, span: Span, name: str) -> Entry:
        """The array of an extension: its shape, the name of its dtype, and its numbers."""
        decoder = Decoder(self.source, span.begin, span.begin + span.size)
        decoder.left = 100
        match decoder.value(0):
            case [[*shape], str() | Span() as dtype, Span(begin, size, 0)] if decoder.place == decoder.end:
                kind = DTYPES.get(dtype if isinstance(dtype, str) else self.word(dtype))
            case _:
                raise self.source.bad(f"{shown(name)!r} without shape, dtype and numbers")
        if kind is None:
            raise self.source.bad(f"{shown(name)!r} of an unknown dtype", f"Known are {', '.join(DTYPES)}.")
        found = entry(name, Block(self.source, begin, size), shape, kind)
        if found.nbytes != size:
            raise self.source.bad(f"{shown(name)!r} of {found.nbytes} bytes in {size}")
        return found

    def word(self, span: Span) -> str:
        """A short text in bytes."""
        return self.source.take(span.begin, min(span.size, 30)).decode("latin-1")

    def chunked(self, node: dict[str, Any], name: str) -> Entry:
        """An array in pieces, as flax stores those of more than 2³⁰ bytes."""
        match node:
            case {"shape": dict() as shape, "chunks": dict() as chunks} if chunks:
                axes: list[Any] = [shape.get(str(i)) for i in range(len(shape))]
                spans = [chunks.get(str(i)) for i in range(len(chunks))]
            case _:
                axes, spans = [], [None]
        if any(type(axis) is not int or axis < 0 for axis in axes) or any(type(span) is not Span for span in spans):
            raise self.source.bad(f"{shown(name)!r} in chunks without shape or numbers")
        parts = [self.array(span, name) for span in spans if span is not None]
        (dtype, *others), count = {part.dtype for part in parts}, sum(math.prod(part.shape) for part in parts)
        if others or not is_possible(axes, dtype.itemsize) or math.prod(axes) != count:
            raise self.source.bad(f"{shown(name)!r} in chunks that do not fit its shape or each other")

        def load() -> np.ndarray:
            array = np.concatenate([part.load().reshape(-1) for part in parts]).reshape(axes)
            array.flags.writeable = False
            return array

        return Entry(tuple(axes), dtype, load)
