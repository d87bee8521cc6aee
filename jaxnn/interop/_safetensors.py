"""Safetensors files, and indices of files by name."""

from __future__ import annotations

from collections.abc import Callable

from jaxnn._errors import InvalidValue
from jaxnn.interop._mapping import Weights, joined, weights
from jaxnn.interop._source import Entry, Source, entry
from jaxnn.io._safetensors import HEADER_LIMIT, parse_json, read_header, shown

FILES = 1000


def read_safetensors(source: Source) -> Weights:
    """The arrays of a file."""
    with open(source.path, "rb") as file:
        tensors, metadata = read_header(file, source.where)
    source.kind = "a safetensors file"
    entries = {
        name: entry(name, source.block(position, source.size - position), shape, dtype)
        for name, (shape, dtype, position) in tensors.items()
    }
    others = {f"__metadata__.{key}": f"str of {len(text)} characters" for key, text in metadata.items()}
    return weights("safetensors", source, entries, others, source.size)


def read_index(source: Source, read: Callable[[Source], Weights]) -> Weights:
    """The arrays of several files, by an index of their names."""
    source.kind = "an index of weight files"

    def bad(got: str) -> InvalidValue:
        return source.bad(f"one {got}")

    index = parse_json(source.take(0, min(source.size, HEADER_LIMIT)), bad)
    places = index.get("weight_map")
    if type(places) is not dict or any(type(file) is not str for file in places.values()):
        raise bad('without "weight_map", name -> file')
    files = sorted(set(places.values()))
    if len(files) > FILES:
        raise bad(f"of {len(files)} files")
    sources = {file: source.neighbor(file) for file in files}
    parts = {file: read(sources[file]) for file in files}
    entries: dict[str, Entry] = {}
    for name, file in places.items():
        if name not in parts[file]:
            raise bad(f"of {shown(name)!r} in {shown(file)!r}, which is not there")
        joined(source, entries, name, parts[file].entry(name))
    return weights(next(iter(parts.values())).format, source, entries, {}, sum(file.size for file in sources.values()))
