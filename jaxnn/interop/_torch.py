"""Files of `torch.save`: a zip archive with a pickle and raw storages, or before PyTorch 1.6 one stream of both."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxnn._errors import InvalidValue, describe, invalid
from jaxnn.interop._mapping import NAMES, Weights, joined, weights
from jaxnn.interop._pickle import SIZE, Call, Opaque, Pairs, Unpickler, called
from jaxnn.interop._source import Block, Entry, Source, entry
from jaxnn.io._safetensors import shown

MAGIC = 0x1950A86A20F9469CFC6C
START = re.compile(rb"\x80[\2-\5](\x95.{8})?\x8a\x0a" + re.escape(MAGIC.to_bytes(10, "little")), re.DOTALL)
VERSION = 1001
DEPTH = 100  # levels of nesting
VALUES = 500_000  # of all containers, each as often as it is referred to

# Storage classes by dtype, and dtypes that have none: these are views of untyped storages.
STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
UNTYPED = (
    *("uint16", "uint32", "uint64"),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
)
DTYPES = {name: np.dtype(name) for name in (*STORAGES.values(), *UNTYPED)}


class Kind(NamedTuple):
    """The class of a storage, and the dtype of its elements; bytes for an untyped storage."""

    dtype: np.dtype


class Storage(NamedTuple):
    """A storage that a pickle refers to: its key, dtype, number of elements, and first element in the keyed one."""

    key: str
    dtype: np.dtype
    size: int
    offset: int = 0


class Tensor(NamedTuple):
    """A view of a storage, as it is in the file: nothing about it is checked yet."""

    storage: Any
    offset: Any
    shape: Any
    strides: Any
    dtype: np.dtype | None = None


def read_zip(source: Source, members: dict[str, Block]) -> Weights:
    """The arrays of a zip archive by `torch.save`."""
    source.kind = "a PyTorch file of a state dict"
    (root,) = (name.removesuffix("data.pkl") for name in members if re.fullmatch("[^/]+/data.pkl", name))
    if f"{root}constants.pkl" in members:
        raise source.bad("a TorchScript archive", "Save module.state_dict() by torch.save.")
    order = members[f"{root}byteorder"].copy(100) if f"{root}byteorder" in members else b"little"
    reader = Reader(source, order != b"big")
    tree = Unpickler(source, members[f"{root}data.pkl"].copy(SIZE), 0, reader.find, reader.storage).load()

    def block(storage: Storage) -> Block:
        return members.get(f"{root}data/{storage.key}", Block(source, 0, 0))

    return reader.weights(tree, block)


def read_stream(source: Source) -> Weights:
    """The arrays of a file by `torch.save(..., _use_new_zipfile_serialization=False)`."""
    source.kind = "a PyTorch file of a state dict"
    reader = Reader(source, True)
    pickles = Unpickler(source, source.data, 0, reader.find, reader.storage)
    magic, version, system = pickles.load(), pickles.load(), pickles.load()
    if magic != MAGIC or version != VERSION or type(system) is not Pairs:
        raise source.bad("a stream of another version")
    reader.little = not any(key == "little_endian" and value is False for key, value in items_of(source, system))
    tree, keys = pickles.load(), pickles.load()
    if type(keys) is not list or any(type(key) is not str for key in keys):
        raise source.bad("a list of storages that are not names")
    blocks: dict[str, Block] = {}
    place = pickles.place
    for key in keys:
        if key not in reader.storages or key in blocks:
            raise source.bad(f"a storage {shown(key)!r} without a tensor, or twice")
        dtype, size = reader.storages[key]
        if int.from_bytes(source.take(place, 8), "little") != size:
            raise source.bad(f"a storage {shown(key)!r} of another size than its tensors say")
        blocks[key] = source.block(place + 8, size * dtype.itemsize)
        place += 8 + size * dtype.itemsize
    if place != source.size:
        raise source.bad(f"{source.size - place} bytes after its last storage")
    return reader.weights(tree, lambda storage: blocks.get(storage.key, Block(source, 0, 0)))


class Reader:
    """Globals and storages of a file, and the arrays made of them.

    Attributes:
      storages: dtype and number of elements of each storage, by key.
      little: False for big-endian storages.
    """

    def __init__(self, source: Source, little: bool):
        self.source, self.little = source, little
        self.storages: dict[str, tuple[np.dtype, int]] = {}
        self.entries: dict[str, Entry] = {}
        self.others: dict[str, str] = {}
        self.seen = self.characters = 0

    def find(self, module: str, name: str) -> Any:
        """The object in place of a global."""
        full = f"{module}.{name}"
        if full in _CALLS:
            make, least, most = _CALLS[full]
            return Call(full, lambda *arguments: make(self.source, *arguments), least, most)
        if module in ("torch", "torch.cuda") and name in STORAGES:
            return Kind(np.dtype(STORAGES[name]))
        if full in ("torch.storage.UntypedStorage", "torch.UntypedStorage"):
            return Kind(np.dtype(np.uint8))
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if full in _LEFT_OUT:
            return Call(full, lambda *_: Opaque(_LEFT_OUT[full]), 0, 10)
        if re.fullmatch("torch._utils._rebuild_(sparse|q|nested|meta|wrapper|device).*", full):
            raise self.refused(f"one rebuilt by {name}", "Convert it in PyTorch first: to_dense(), dequantize().")
        fix = "It was not called. Save model.state_dict() alone."
        raise self.refused(f"the global {shown(full)}", fix)

    def refused(self, got: str, fix: str) -> InvalidValue:
        """The error for an object that is not made."""
        return invalid(
            self.source.where, "dense tensors and plain values in dicts, lists and tuples", told=got, fix=fix
        )

    def storage(self, id: Any) -> Storage:
        """The storage in place of a persistent id."""
        match id:
            case ("storage", Kind(dtype), str(key), str(), int(size), *rest) if type(size) is int and 0 <= size < 2**60:
                pass
            case _:
                raise self.source.bad("a storage that is described in another way")
        if self.storages.setdefault(key, (dtype, size)) != (dtype, size):
            raise self.source.bad(f"a storage {shown(key)!r} of two sizes or dtypes")
        match rest:
            case [] | [None]:
                return Storage(key, dtype, size)
            case [(str(), int(offset), int(length))] if min(offset, length) >= 0 and offset + length <= size:
                return Storage(key, dtype, length, offset)
        raise self.source.bad(f"a storage {shown(key)!r} with a view outside of it")

    def weights(self, tree: Any, block: Callable[[Storage], Block]) -> Weights:
        """The arrays of an unpickled object by name."""
        self.walk(tree, "", 0, block)
        return weights("torch", self.source, self.entries, self.others, self.source.size)

    def walk(self, node: Any, name: str, depth: int, block: Callable[[Storage], Block]) -> None:
        """Adds the arrays of a node, and descriptions of other values."""
        self.seen, self.characters = self.seen + 1, self.characters + len(name)
        self.seen += len(node.items) if type(node) is Pairs else len(node) if type(node) in (list, tuple) else 0
        if depth > DEPTH or self.seen > VALUES or self.characters > NAMES:
            raise self.source.bad("values that are nested too deep, or too many", "Save the state dict alone.")
        children: Iterable[tuple[Any, Any]]
        if type(node) is Tensor:
            return joined(self.source, self.entries, name, self.entry(name, node, block))
        if type(node) is Pairs:
            children = items_of(self.source, node)
        elif type(node) in (list, tuple) and any(type(child) in (Tensor, Pairs, list, tuple) for child in node):
            children = enumerate(node)
        else:
            self.others[name] = _described(node)
            return None
        for key, child in children:
            if type(key) not in (str, int):
                raise self.source.bad(f"a key of type {type(key).__name__} in a dict at {shown(name) or 'the root'}")
            self.walk(child, f"{name}.{key}" if name else str(key), depth + 1, block)
        return None

    def entry(self, name: str, tensor: Tensor, block: Callable[[Storage], Block]) -> Entry:
        """The array of a tensor."""
        storage, offset, shape, strides, dtype = tensor
        if type(storage) is not Storage or type(shape) is not tuple or type(strides) is not tuple:
            raise self.source.bad(f"{shown(name)!r}, a tensor without storage, shape or strides")
        found, width = block(storage), storage.dtype.itemsize
        if found.size < (storage.offset + storage.size) * width:
            got = f"{shown(name)!r}, whose storage has {found.size} bytes of {storage.size * width}"
            raise self.source.bad(got)
        found = found.part(storage.offset * width, storage.size * width)
        kind = storage.dtype if dtype is None else dtype
        return entry(name, found, shape, kind if self.little else kind.newbyteorder(">"), offset, strides)


def items_of(source: Source, pairs: Pairs) -> Iterator[tuple[Any, Any]]:
    """The items of a dict, which in files of Python 2 are a list of any values."""
    for item in pairs.items:
        if type(item) not in (list, tuple) or len(item) != 2:
            raise source.bad("a dict of something else than pairs")
        yield item[0], item[1]


def _described(value: Any) -> str:
    """A value that is not an array, as text."""
    if type(value) is Opaque:
        return value.name
    if isinstance(value, np.dtype):
        return f"dtype {value.name}"
    if type(value) in (list, tuple):
        return f"{type(value).__name__} of {len(value)}"
    if value is None or type(value) in (bool, int, float, str):
        return f"{type(value).__name__} {describe(value, 60)}"
    return type(value).__name__


# ---- objects in place of globals: functions (source, *arguments of the file)


def _pairs(source: Source, *arguments: Any) -> Pairs:
    """An OrderedDict, which before Python 3 had its items as an argument."""
    return Pairs(arguments[0] if arguments and type(arguments[0]) is list else None)


def _tensor(source: Source, storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Tensor:
    metadata = rest[2] if len(rest) > 2 else None
    if type(metadata) is Pairs and metadata.items:
        raise source.bad("a tensor that is a lazy conjugate or negative", "Save x.resolve_conj().resolve_neg().")
    return Tensor(storage, offset, shape, strides)


def _tensor_of_dtype(
    source: Source, storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, dtype: Any, *rest: Any
) -> Tensor:
    if not isinstance(dtype, np.dtype):
        raise source.bad("a tensor of an unknown dtype")
    return _tensor(source, storage, offset, shape, strides, grad, hooks, *rest)._replace(dtype=dtype)


def _parameter(source: Source, data: Any, *rest: Any) -> Any:
    return data


def _subclass(source: Source, function: Any, kind: Any, arguments: Any, state: Any) -> Any:
    return called(source, function, arguments)


def _size(source: Source, shape: Any = ()) -> Any:
    return shape


_CALLS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "collections.OrderedDict": (_pairs, 0, 1),
    "collections.defaultdict": (lambda source, *_: Pairs(), 0, 1),
    "torch._utils._rebuild_tensor": (_tensor, 4, 4),
    "torch._utils._rebuild_tensor_v2": (_tensor, 6, 7),
    "torch._utils._rebuild_tensor_v3": (_tensor_of_dtype, 7, 8),
    "torch._utils._rebuild_parameter": (_parameter, 3, 3),
    "torch._utils._rebuild_parameter_with_state": (_parameter, 4, 4),
    "torch._tensor._rebuild_from_type_v2": (_subclass, 4, 4),
    "torch.Size": (_size, 0, 1),
}

# Globals of plain values in checkpoints, which are left out, and their descriptions.
_LEFT_OUT = {
    "torch.Tensor": "class",
    "torch.nn.parameter.Parameter": "class",
    "torch.device": "torch.device",
    "torch.serialization._get_layout": "torch.layout",
    "_codecs.encode": "bytes",
    "argparse.Namespace": "argparse.Namespace",
    "numpy.dtype": "numpy.dtype",
    "numpy.ndarray": "class",
    **{f"numpy.{core}.multiarray.scalar": "number of NumPy" for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": "array of NumPy" for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": "array of NumPy" for core in ("core", "_core")},
    **{f"{home}.{name}": name for home in ("builtins", "__builtin__") for name in ("set", "complex", "bytearray")},
    **{f"pathlib.{name}": "path" for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")},
    **{f"datetime.{name}": name for name in ("datetime", "date", "timedelta")},
}
