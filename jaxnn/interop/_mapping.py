"""The arrays of a weight file by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

import jax
import numpy as np

from jaxnn.interop._source import Entry, Source

# Limits: a hostile file is rejected within 2 seconds and 200 MB, and its arrays are no larger than these.
NAMES = 20_000_000  # characters of all names
SPARE = 64_000_000  # bytes of all arrays, which views and compression can make larger than the file, plus
RATIO = 100  # times the size of the file


class Weights(Mapping[str, np.ndarray]):
    """Arrays of a weight file, name -> read-only NumPy array, as `read` returns them; each is read when it is accessed.

    Names, shapes and dtypes are known without a read: `shapes`, and the text `str(weights)`. An array is a view of the
    memory-mapped file where the format allows, and a new array at each access otherwise.

    Attributes:
      format: "torch", "safetensors", "keras", "npz", "msgpack" or "onnx".
      shapes: name -> `jax.ShapeDtypeStruct`.
      others: name -> description of the values that are not arrays, such as the epoch of a checkpoint.

    >>> import tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "net.npz")
    >>> np.savez(path, w=np.ones((2, 3), np.float32), b=np.zeros(3, np.float32))
    >>> weights = nn.interop.read(path)
    >>> weights, list(weights), weights.shapes["w"]
    (Weights(npz, 2 arrays, 36 bytes), ['w', 'b'], ShapeDtypeStruct(shape=(2, 3), dtype=float32))
    >>> print(weights)
    w  float32[2, 3]
    b  float32[3]
    """

    def __init__(self, format: str, entries: Mapping[str, Entry], others: Mapping[str, str] | None = None):
        self.format = format
        self.others: Mapping[str, str] = MappingProxyType(dict(others or {}))
        self._entries = dict(entries)
        shapes = {name: jax.ShapeDtypeStruct(entry.shape, entry.dtype) for name, entry in entries.items()}
        self.shapes: Mapping[str, jax.ShapeDtypeStruct] = MappingProxyType(shapes)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._entries[name].load()

    def entry(self, name: str) -> Entry:
        """The array of a name, not read yet."""
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        size = sum(entry.nbytes for entry in self._entries.values())
        return f"Weights({self.format}, {len(self)} arrays, {size} bytes)"

    def __str__(self) -> str:
        width = max(map(len, [*self._entries, *self.others]), default=0)
        arrays = {name: f"{e.dtype}[{', '.join(map(str, e.shape))}]" for name, e in self._entries.items()}
        return "\n".join(f"{name:{width}}  {text}" for name, text in (arrays | dict(self.others)).items())


def weights(format: str, source: Source, entries: Mapping[str, Entry], others: Mapping[str, str], size: int) -> Weights:
    """The arrays of a file; raises if they are larger than a file of `size` bytes can reasonably hold."""
    check_names(source, [*entries, *others])
    total, most = sum(entry.nbytes for entry in entries.values()), SPARE + RATIO * size
    if total > most:
        fix = "Compressed or repeated numbers make it so large: save it again with plain arrays."
        raise source.bad(f"arrays of {total} bytes in a file of {size}", fix)
    return Weights(format, entries, others)


def check_names(source: Source, names: list[str]) -> None:
    """Raises unless the names are short enough to be printed, and valid Unicode."""
    if sum(map(len, names)) > NAMES:
        raise source.bad(f"names of more than {NAMES} characters")
    if any(not name.isascii() and _surrogates(name) for name in names):
        raise source.bad("names that are not valid Unicode")


def _surrogates(name: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in name)


def joined(source: Source, entries: dict[str, Entry], name: str, entry: Entry) -> None:
    """Adds an array; raises if there is one of the name."""
    if name in entries:
        raise source.bad(f"two arrays of the name {name[:256]!r}")
    entries[name] = entry
