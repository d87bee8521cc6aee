"""Keras weights: HDF5 files (`.weights.h5`, `.h5`), and `.keras` archives with one inside."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np

from jaxnn._errors import InvalidValue, describe
from jaxnn.interop._checks import imported
from jaxnn.interop._mapping import NAMES, Weights, joined, weights
from jaxnn.interop._source import Block, Entry, Source, entry
from jaxnn.io._safetensors import shown

START = b"\x89HDF\r\n\x1a\n"
MEMBER = "model.weights.h5"  # of a .keras archive
DEPTH = 100
VALUES = 50_000
CHUNK = 64_000_000  # bytes of one chunk
FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32"}


def read_hdf5(source: Source) -> Weights:
    """The datasets of an HDF5 file."""
    source.kind = "a Keras weight file"
    return _Reader(source, Block(source, 0, source.size)).weights()


def read_keras(source: Source, members: dict[str, Block]) -> Weights:
    """The datasets of the HDF5 file in a `.keras` archive; the configuration of the model is not looked at."""
    source.kind = "a Keras weight file"
    return _Reader(source, members[MEMBER]).weights()


class _Reader:
    """Datasets of an HDF5 file, which is a block of a file.

    Attributes:
      opened: function that opens the block by h5py.
    """

    def __init__(self, source: Source, block: Block):
        self.source, self.block = source, block
        self.h5py = imported(source.where, "h5py", "h5py, which reads HDF5 files")
        self.entries: dict[str, Entry] = {}
        self.others: dict[str, str] = {}
        self.left, self.characters = VALUES, 0

    def opened(self) -> Any:
        """The file, opened by h5py."""
        if self.block.packed is None and self.block.size == self.source.size:
            return self.h5py.File(self.source.path, "r", locking=False)
        return self.h5py.File(io.BytesIO(self.block.copy(self.block.size)), "r")

    def weights(self) -> Weights:
        """The datasets by path."""
        try:
            with self.opened() as file:
                self.walk(file, "", 0)
        except Exception as error:  # h5py raises exceptions of many types for damaged files
            if isinstance(error, InvalidValue | MemoryError):
                raise
            raise self.source.bad(f"one that h5py cannot read ({describe(str(error), 100)})") from error
        return weights("keras", self.source, self.entries, self.others, self.source.size)

    def walk(self, group: Any, name: str, depth: int) -> None:
        """Adds the datasets of a group."""
        for key in group:
            path = f"{name}/{key}" if name else key
            self.left, self.characters = self.left - 1, self.characters + len(path)
            if depth > DEPTH or self.left < 0 or self.characters > NAMES:
                raise self.source.bad(f"groups of more than {DEPTH} levels or {VALUES} members")
            if not isinstance(group.get(key, getlink=True), self.h5py.HardLink):
                raise self.source.bad(f"a link {shown(path)!r} to another place", "Save it again.")
            member = group[key]
            if isinstance(member, self.h5py.Group):
                self.walk(member, path, depth + 1)
            elif isinstance(member, self.h5py.Dataset):
                self.dataset(member, path)

    def dataset(self, dataset: Any, name: str) -> None:
        """Adds the array of a dataset, or the description of one that is not of numbers."""
        dtype = np.dtype(dataset.dtype.str)
        if dtype == np.dtype("V2") and dataset.attrs.get("dtype") == "bfloat16":  # as Keras stores them
            dtype = np.dtype("bfloat16")
        elif dtype.kind not in "biufc" or dataset.shape is None or dtype.itemsize > 16:
            self.others[name] = "strings or records"
            return
        layout, plist, h5d = self.layout(dataset, name), dataset.id.get_create_plist(), self.h5py.h5d
        stored = self.h5py.h5t.py_create(dataset.dtype, logical=True)
        made = entry(name, Block(self.source, 0, 2**62), dataset.shape, dtype)
        if layout == h5d.CONTIGUOUS and dataset.id.get_offset() is not None and dataset.id.get_type() == stored:
            if dataset.id.get_offset() + made.nbytes > self.block.size:
                raise self.source.bad(f"{shown(name)!r} beyond the end of the file")
            made = entry(name, self.block.part(dataset.id.get_offset(), made.nbytes), dataset.shape, dtype)
        else:
            size = math.prod(dataset.chunks or ()) * dtype.itemsize
            if size > CHUNK or plist.get_nfilters() > len(FILTERS):
                raise self.source.bad(f"{shown(name)!r} in chunks of {size} bytes", "Save it without chunks.")
            made = made._replace(load=lambda: self.load(name, dtype))
        joined(self.source, self.entries, name, made)

    def layout(self, dataset: Any, name: str) -> int:
        """The layout of a dataset; raises if its numbers are in other files, or compressed by other methods."""
        plist = dataset.id.get_create_plist()
        filters = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())}
        if plist.get_layout() == self.h5py.h5d.VIRTUAL or plist.get_external_count():
            raise self.source.bad(f"{shown(name)!r} with numbers in other files", "Save it as one file.")
        if not filters <= FILTERS.keys():
            raise self.source.bad(f"{shown(name)!r} with the filters {filters}", f"Known are {[*FILTERS.values()]}.")
        return plist.get_layout()

    def load(self, name: str, dtype: np.dtype) -> np.ndarray:
        """The array of a dataset that cannot be mapped."""
        try:
            with self.opened() as file:
                array = np.asarray(file[name][()])
        except Exception as error:
            raise self.source.bad(f"{shown(name)!r}, which h5py cannot read ({describe(str(error), 100)})") from error
        native = dtype.newbyteorder("=")
        array = array.view(native) if array.dtype.kind == "V" else array.astype(native, copy=False)
        array.flags.writeable = False
        return array
