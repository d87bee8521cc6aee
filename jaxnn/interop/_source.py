"""Bytes of a weight file, memory-mapped, and the arrays in them; every position is checked before it is used."""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import stat
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxnn._errors import InvalidValue, invalid
from jaxnn.io._safetensors import is_possible, shown

CUT = "It is cut short, damaged, or of another format."


class Source:
    """A file that is read by position.

    Attributes:
      where: start of error messages, with the path.
      kind: format of the file with an article, for error messages; readers set it.
      data: the bytes.
      size: their number.
    """

    def __init__(self, path: str, where: str):
        self.path, self.where, self.kind = path, where, "a weight file"
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would block
            raise invalid(where, "the path of a file", told="a folder or a device", fix="Pass the file itself.")
        with open(path, "rb") as file:
            self.size = os.fstat(file.fileno()).st_size
            self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self.size else b""

    def bad(self, got: str, fix: str = CUT) -> InvalidValue:
        """Error for a file that is not as its format requires."""
        return invalid(self.where, self.kind, told=got, fix=fix)

    def take(self, begin: int, size: int) -> bytes:
        """Copy of `size` bytes; raises if the file has fewer."""
        if size < 0 or begin + size > self.size:
            raise self.bad(f"the end of the file after {self.size} bytes, within a part of {size}")
        return self.data[begin : begin + size]

    def block(self, begin: int, size: int) -> Block:
        """The bytes at a position as a block; raises if the file has fewer."""
        if size < 0 or begin + size > self.size:
            raise self.bad(f"the end of the file after {self.size} bytes, within an array of {size}")
        return Block(self, begin, size)

    def neighbor(self, name: str) -> Source:
        """A file of the same folder; raises if the name, or a symbolic link of the name, leads out of it."""
        folder = os.path.dirname(os.path.abspath(self.path))
        path = os.path.join(folder, name)
        plain = name not in ("", ".", "..") and not any(c in name for c in "/\\\0:")
        # Caches of the Hugging Face hub link a file and its neighbors to one other folder.
        folders = {os.path.realpath(folder), os.path.dirname(os.path.realpath(self.path))}
        if not plain or os.path.dirname(os.path.realpath(path)) not in folders:
            raise self.bad(f"the name {shown(name)!r} of a file elsewhere", "Put all files into one folder.")
        if not os.path.exists(path):
            raise self.bad(f"none named {shown(name)!r} next to it", "Put all files into one folder.")
        with contextlib.suppress(OSError):
            return Source(path, f"{self.where}, {shown(name)}")
        raise self.bad(f"{shown(name)!r}, which cannot be opened", "Check its permissions.")


class Block(NamedTuple):
    """A part of a file, as it is or compressed by deflate.

    Attributes:
      source: the file.
      begin: position of its first byte, or of the first compressed byte.
      size: number of bytes, after decompression.
      packed: number of compressed bytes, or None if they are stored as they are.
      crc: CRC-32 of all bytes after decompression.
      skip, total: the bytes are those from `skip` on, of `total` after decompression.
    """

    source: Source
    begin: int
    size: int
    packed: int | None = None
    crc: int = 0
    skip: int = 0
    total: int = 0

    @classmethod
    def deflated(cls, source: Source, begin: int, size: int, packed: int, crc: int) -> Block:
        """A compressed block."""
        return cls(source, begin, size, packed, crc, 0, size)

    def part(self, begin: int, size: int) -> Block:
        """The block of `size` bytes from `begin` on; the caller knows that there are as many."""
        if self.packed is None:
            return Block(self.source, self.begin + begin, size)
        return self._replace(skip=self.skip + begin, size=size)

    def copy(self, most: int) -> bytes:
        """Copy of its bytes; raises if there are more than `most`."""
        if self.size > most:
            raise self.source.bad(f"a part of {self.size} bytes, of which at most {most} are read")
        memory, begin = self.buffer()
        return memory[begin : begin + self.size]

    def start(self, most: int) -> bytes:
        """Copy of its first bytes, `most` or fewer, without a check that they are undamaged."""
        if self.packed is None:
            return self.source.take(self.begin, min(self.size, most))
        packed = self.source.take(self.begin, min(self.packed, most + 1024))
        with contextlib.suppress(zlib.error):
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, most)
        raise self.source.bad("a compressed part that is damaged")

    def buffer(self) -> tuple[bytes | mmap.mmap, int]:
        """Memory with its bytes, and the position of the first."""
        if self.packed is None:
            return self.source.data, self.begin
        out = b""
        with contextlib.suppress(zlib.error):
            packed = self.source.take(self.begin, self.packed)
            out = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, self.total + 1)
        if len(out) != self.total or zlib.crc32(out) != self.crc:
            raise self.source.bad("a compressed part that is damaged")
        return out, self.skip


class Entry(NamedTuple):
    """An array of a file that is not read yet.

    Attributes:
      shape: its shape.
      dtype: its dtype, in native byte order.
      load: function that returns the array.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    load: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def entry(
    name: str,
    block: Block,
    shape: Sequence[int],
    dtype: np.dtype,
    offset: int = 0,
    strides: Sequence[int] | None = None,
) -> Entry:
    """An array in a block.

    Args:
      name: its name, for errors.
      block: the bytes.
      shape: its shape.
      dtype: its dtype, of either byte order.
      offset: position in the block, in elements.
      strides: distance of neighbors along each axis, in elements; None for row-major order.
    """
    bad = block.source.bad
    if len(shape) > 64 or (strides is not None and len(strides) != len(shape)):
        raise bad(f"{shown(name)!r} of {len(shape)} axes and {len(shape if strides is None else strides)} strides")
    numbers = (offset, *shape, *(strides or ()))
    if not all(type(n) is int and 0 <= n < 2**63 for n in numbers) or not is_possible(shape, dtype.itemsize):
        raise bad(f"{shown(name)!r} of an impossible shape")
    if strides is None:
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    strides = [stride if n > 1 else 1 for n, stride in zip(shape, strides, strict=True)]
    count = offset + 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) if all(shape) else 0
    if count * dtype.itemsize > block.size:
        raise bad(f"{shown(name)!r}, which needs {count * dtype.itemsize} bytes of {block.size}")
    steps = tuple(stride * dtype.itemsize for stride in strides)
    native = dtype.newbyteorder("=")

    def load() -> np.ndarray:
        if not all(shape):
            array = np.empty(shape, native)
        else:
            memory, begin = block.buffer()
            array = np.ndarray(tuple(shape), dtype, memory, begin + offset * dtype.itemsize, steps)
            if dtype == np.bool_ and (array.view(np.uint8) > 1).any():
                raise bad(f"{shown(name)!r} of bool with bytes other than 0 and 1")
            array = array.astype(native, copy=False)
        array.flags.writeable = False
        return array

    return Entry(tuple(shape), native, load)
