"""Constants of ONNX models: the initializers of the graph, and the tensors of its Constant nodes.

Own code instead of the onnx package, which reads a whole model into memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxnn.interop._mapping import NAMES, Weights, joined, weights
from jaxnn.interop._source import Block, Entry, Source, entry
from jaxnn.io._safetensors import shown

FIELDS = 500_000
PART = 1 << 24  # bytes that are counted at once
DEPTH = 20  # graphs inside of graphs
STARTS = (0x08, 0x12, 0x3A)  # first bytes of a model: its version, its producer or its graph

# Numbers of fields in onnx.proto.
GRAPH = 7  # of a model
NODE, INITIALIZER, SPARSE = 1, 5, 15  # of a graph
OUTPUT, OPERATOR, ATTRIBUTE = 2, 4, 5  # of a node
TENSOR, SUBGRAPH, SUBGRAPHS = 5, 6, 11  # of an attribute
DIMS, TYPE, FLOATS, INTS, INT64S, NAME, RAW, DOUBLES, UINT64S, EXTERNAL, LOCATION = 1, 2, 4, 5, 7, 8, 9, 10, 11, 13, 14

STRING = 8
DTYPES = {
    **dict(enumerate(("float32", "uint8", "int8", "uint16", "int16", "int32", "int64"), 1)),
    **dict(enumerate(("bool", "float16", "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16"), 9)),
    **dict(enumerate(("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"), 17)),
    24: "float8_e8m0fnu",
}
# Fields for numbers that are not raw, and the dtypes that each holds; fields of fixed size are arrays themselves.
FIXED = {FLOATS: ("float32", "complex64"), DOUBLES: ("float64", "complex128")}
VARINTS = {INT64S: ("int64",), UINT64S: ("uint32", "uint64")}


class Span(NamedTuple):
    """Bytes of the file."""

    begin: int
    size: int


def read_onnx(source: Source) -> Weights:
    """The constants of a model."""
    source.kind = "an ONNX model"
    reader = Reader(source)
    graphs = reader.spans(Span(0, source.size), GRAPH)
    if len(graphs) != 1:
        raise source.bad(f"{len(graphs)} graphs")
    reader.graph(graphs[0], 0)
    size = source.size + sum(file.size for file in reader.files.values())
    return weights("onnx", source, reader.entries, reader.others, size)


class Reader:
    """Fields of protobuf messages, and the arrays in them."""

    def __init__(self, source: Source):
        self.source, self.left = source, FIELDS
        self.entries: dict[str, Entry] = {}
        self.others: dict[str, str] = {}
        self.files: dict[str, Source] = {}

    def varint(self, place: int, end: int) -> tuple[int, int]:
        """An unsigned integer, and the position after it."""
        value = shift = 0
        while place < end and shift < 70:
            byte = self.source.data[place]
            value |= (byte & 127) << shift
            place, shift = place + 1, shift + 7
            if byte < 128:
                return value & (2**64 - 1), place
        raise self.source.bad("the end of a message, or a number of more than 64 bits")

    def fields(self, message: Span) -> Iterator[tuple[int, int | Span]]:
        """Number and value of each field."""
        place, end = message.begin, message.begin + message.size
        while place < end:
            self.left -= 1
            if self.left < 0:
                raise self.source.bad(f"more than {FIELDS} fields")
            tag, place = self.varint(place, end)
            value: int | Span
            match tag & 7:
                case 0:
                    value, place = self.varint(place, end)
                case 2:
                    size, place = self.varint(place, end)
                    value, place = Span(place, size), place + size
                case 1 | 5 as width:
                    size = 8 if width == 1 else 4
                    value, place = Span(place, size), place + size
                case _:
                    raise self.source.bad("a field of an unknown kind")
            if place > end:
                raise self.source.bad("a field that is larger than its message")
            yield tag >> 3, value

    def spans(self, message: Span, number: int) -> list[Span]:
        """The values of a field of messages, texts or bytes."""
        return [value for field, value in self.fields(message) if field == number and isinstance(value, Span)]

    def text(self, span: Span) -> str:
        """A text in the file."""
        try:
            return self.source.take(span.begin, min(span.size, NAMES)).decode()
        except UnicodeDecodeError:
            raise self.source.bad("a name that is not UTF-8") from None

    def graph(self, graph: Span, depth: int) -> None:
        """Adds the constants of a graph and of the graphs in its nodes."""
        if depth > DEPTH:
            raise self.source.bad(f"more than {DEPTH} graphs inside of each other")
        for number, value in self.fields(graph):
            if number == SPARSE:
                raise self.source.bad("sparse constants", "Export the model with dense ones.")
            if number == INITIALIZER and isinstance(value, Span):
                self.tensor(value, None)
            elif number == NODE and isinstance(value, Span):
                self.node(value, depth)

    def node(self, node: Span, depth: int) -> None:
        """Adds the tensor of a Constant node by the name of its output, and those of the graphs of other nodes."""
        found: dict[int, list[Span]] = {OUTPUT: [], OPERATOR: [], ATTRIBUTE: []}
        for number, value in self.fields(node):
            if isinstance(value, Span) and number in found:
                found[number].append(value)
        outputs = found[OUTPUT]
        constant = [self.text(operator) for operator in found[OPERATOR]] == ["Constant"]
        for attribute in found[ATTRIBUTE]:
            for number, value in self.fields(attribute):
                if isinstance(value, Span) and number in (SUBGRAPH, SUBGRAPHS):
                    self.graph(value, depth + 1)
                elif isinstance(value, Span) and number == TENSOR and constant and outputs:
                    self.tensor(value, self.text(outputs[0]))

    def tensor(self, message: Span, name: str | None) -> None:
        """Adds the array of a tensor, by its own name if `name` is None."""
        found: dict[int, list[int | Span]] = {}
        for number, value in self.fields(message):
            found.setdefault(number, []).append(value)
        names = found.get(NAME, [])
        if name is None:
            name = self.text(names[0]) if names and isinstance(names[0], Span) else ""
        kind = found.get(TYPE, [0])[-1]
        if kind == STRING:
            self.others[name] = "strings"
            return
        if kind not in DTYPES:
            raise self.source.bad(f"{shown(name)!r} of the unknown type {kind}", "Convert it before the export.")
        shape = self.shape(found.get(DIMS, []))
        joined(self.source, self.entries, name, self.entry(name, found, shape, np.dtype(DTYPES[int(kind)])))

    def shape(self, dims: list[int | Span]) -> list[int]:
        """The sizes of axes, one in each field, or all in one."""
        sizes: list[int] = []
        for dim in dims[:65]:
            place, end = (0, 0) if isinstance(dim, int) else (dim.begin, dim.begin + dim.size)
            if isinstance(dim, int):
                sizes.append(dim)
            while place < end and len(sizes) <= 64:
                size, place = self.varint(place, end)
                sizes.append(size)
        return sizes

    def entry(self, name: str, found: dict[int, list[int | Span]], shape: list[int], dtype: np.dtype) -> Entry:
        """The array in the one field of a tensor that holds its numbers."""
        if found.get(LOCATION, [0])[-1] == 1:
            return self.external(name, found.get(EXTERNAL, []), shape, dtype)
        numbers = [(n, v) for n, values in found.items() if n in (RAW, *FIXED, INTS, *VARINTS) for v in values]
        if not numbers and 0 in shape:
            return self.whole(name, Block(self.source, 0, 0), shape, dtype)
        match numbers:
            case [(number, Span(begin, size))]:
                block = Block(self.source, begin, size)
            case _:
                raise self.source.bad(f"{shown(name)!r} with numbers in {len(numbers)} fields instead of one")
        if number == RAW or dtype.name in FIXED.get(number, ()):
            return self.whole(name, block, shape, dtype)
        others = {"float32", "complex64", "float64", "complex128", "int64", "uint32", "uint64"}
        if dtype.name not in VARINTS.get(number, ()) and (number != INTS or dtype.name in others):
            raise self.source.bad(f"{shown(name)!r} of {dtype.name} in a field of another dtype")
        return self.varints(name, block, shape, dtype)

    def whole(self, name: str, block: Block, shape: list[int], dtype: np.dtype) -> Entry:
        """An array that fills a block."""
        made = entry(name, block, shape, dtype.newbyteorder("<"))
        if made.nbytes != block.size:
            raise self.source.bad(f"{shown(name)!r} of {made.nbytes} bytes in {block.size}")
        return made

    def varints(self, name: str, block: Block, shape: list[int], dtype: np.dtype) -> Entry:
        """An array of numbers of different sizes; the bits of small floats are integers."""
        data = np.frombuffer(block.source.data, np.uint8, block.size, block.begin)
        made = entry(name, Block(self.source, 0, 2**62), shape, dtype)
        parts = (data[begin : begin + PART] for begin in range(0, data.size, PART))
        count, size = sum(int((part < 128).sum()) for part in parts), made.nbytes // dtype.itemsize
        if count != size or block.size > 10 * size or (block.size and data[-1] >= 128):
            raise self.source.bad(f"{shown(name)!r} of {size} numbers in a field of {count}")

        def load() -> np.ndarray:
            bits = np.dtype(f"u{dtype.itemsize}") if dtype.kind in "fV" else dtype
            array = _decoded(data).astype(bits).view(dtype).reshape(shape)
            array.flags.writeable = False
            return array

        return made._replace(load=load)

    def external(self, name: str, pairs: list[int | Span], shape: list[int], dtype: np.dtype) -> Entry:
        """An array in another file of the same folder."""
        texts: dict[str, str] = {}
        for pair in pairs[:10]:
            if isinstance(pair, Span):
                key, value = self.spans(pair, 1), self.spans(pair, 2)
                texts |= {self.text(key[0]): self.text(value[0])} if key and value else {}
        file, offset, size = texts.get("location", ""), texts.get("offset", "0"), texts.get("length", "")
        if file not in self.files:
            self.files[file] = self.source.neighbor(file)
        external = self.files[file]
        if not all(text.isascii() and text.isdigit() and len(text) < 19 for text in (offset, size or "0")):
            raise self.source.bad(f"{shown(name)!r} at an impossible place of {shown(file)!r}")
        length = int(size) if size else external.size - int(offset)
        return self.whole(name, external.block(int(offset), length), shape, dtype)


def _decoded(data: np.ndarray) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Varints as uint64 numbers; the last byte of each is below 128."""
    ends = np.flatnonzero(data < 128)
    starts = np.concatenate([[0], ends[:-1] + 1]) if ends.size else ends
    places = np.arange(data.size) - np.repeat(starts, ends - starts + 1)
    parts = (data & 127).astype(np.uint64) << (7 * np.minimum(places, 9)).astype(np.uint64)
    return np.add.reduceat(parts, starts) if starts.size else parts
