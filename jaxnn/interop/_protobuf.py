"""Encoding of ONNX's protobuf messages."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxnn.interop._onnx import DTYPES

VERSION, OPSET = 8, 18  # of the format and of the operators: onnx 1.13 and onnxruntime 1.14 of 2023 read them
CODES = {name: code for code, name in DTYPES.items()}

Shape = Sequence[Any]  # integers, and free sizes


def varint(n: int) -> bytes:
    """An integer in groups of 7 bits; a negative one as its two's complement of 64 bits."""
    n %= 1 << 64
    groups = bytearray()
    while n > 127:
        groups.append(n & 127 | 128)
        n >>= 7
    return bytes([*groups, n])


def message(*fields: tuple[int, int | float | str | bytes]) -> bytes:
    """A message of (number, value) pairs."""
    parts: list[bytes] = []
    for number, value in fields:
        if isinstance(value, int):
            parts += [varint(number << 3), varint(value)]
        elif isinstance(value, float):
            parts += [varint(number << 3 | 5), struct.pack("<f", value)]
        else:
            data = value.encode() if isinstance(value, str) else value
            parts += [varint(number << 3 | 2), varint(len(data)), data]
    return b"".join(parts)


def each(number: int, values: Iterable[Any]) -> list[tuple[int, Any]]:
    """A repeated field."""
    return [(number, value) for value in values]


def tensor(name: str, array: np.ndarray) -> bytes:
    """A constant, little-endian."""
    code = CODES[array.dtype.name]
    data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    return message(*each(1, array.shape), (2, code), (8, name), (9, data))


def attribute(name: str, value: Any) -> bytes:
    """An attribute of a node: an integer, a text, or a sequence of integers."""
    if isinstance(value, str):
        return message((1, name), (4, value), (20, 3))
    if isinstance(value, int):
        return message((1, name), (3, value), (20, 2))
    return message((1, name), *each(8, map(int, value)), (20, 7))


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], name: str, attributes: dict[str, Any]) -> bytes:
    """A node, the application of an operator."""
    texts = [attribute(key, value) for key, value in attributes.items()]
    return message(*each(1, inputs), *each(2, outputs), (3, name), (4, op), *each(5, texts))


def value_info(name: str, shape: Shape, dtype: Any) -> bytes:
    """The type of an input or an output."""
    dims = [message((1, int(d))) if isinstance(d, int | np.integer) else message((2, str(d))) for d in shape]
    kind = message((1, CODES[np.dtype(dtype).name]), (2, message(*each(1, dims))))
    return message((1, name), (2, message((1, kind))))


def model(
    producer: str, nodes: list[bytes], constants: list[bytes], inputs: list[bytes], outputs: list[bytes]
) -> bytes:
    """A whole file."""
    graph = message(*each(1, nodes), (2, producer), *each(5, constants), *each(11, inputs), *each(12, outputs))
    return message((1, VERSION), (2, producer), (7, graph), (8, message((1, ""), (2, OPSET))))
