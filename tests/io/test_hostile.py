import json
import os
import sys
import types
import zlib
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from jaxnn.io._checkpoint import load, save


class Point(NamedTuple):
    x: Any
    y: Any


class Empty(NamedTuple):
    pass


class Outer:
    pass


@pytest.fixture
def file(tmp_path):
    return tmp_path / "run.safetensors"


def sample(file):
    save(file, {"w": np.arange(6.0).reshape(2, 3), "k": jax.random.key(1), "p": Point(3, Empty()), "z": [True, None]})
    return file.read_bytes()


def test_truncated_at_every_byte(file):
    content = sample(file)
    load(file)
    length = int.from_bytes(content[:8], "little")
    fix = "It is cut short, damaged, or of another format."
    for cut in range(len(content)):
        file.write_bytes(content[:cut])
        with pytest.raises(ValueError) as excinfo:
            load(file)
        if cut < 8:
            got = f"one of {cut} bytes"
        elif cut < 8 + length:
            got = f"one of {cut} bytes with a header of {length}"
        else:
            got = f"one of {cut} bytes whose header speaks of {len(content)}"
        assert str(excinfo.value) == f"load {file}: expected a safetensors file, got {got}. {fix}"
    file.write_bytes(content + b"\0")
    with pytest.raises(ValueError) as excinfo:
        load(file)
    got = f"one of {len(content) + 1} bytes whose header speaks of {len(content)}"
    assert str(excinfo.value) == f"load {file}: expected a safetensors file, got {got}. {fix}"


def test_no_flipped_byte_goes_unseen(file):
    content = sample(file)
    length = int.from_bytes(content[:8], "little")
    expected = repr(load(file))
    unseen, errors = [], []
    for place in range(len(content)):
        for flip in (1, 2, 64):
            damaged = bytearray(content)
            damaged[place] ^= flip
            file.write_bytes(damaged)
            try:
                unseen.append((repr(load(file)), content[place : place + 1]))
            except ValueError as error:
                errors.append(str(error))
    assert len(content) > 8 + length
    assert all(text.startswith(f"load {file}") for text in errors)
    assert {loaded for loaded, _ in unseen} <= {expected}
    assert (
        b"".join(byte for _, byte in unseen).strip(b"crc32") == b""
    )  # only in the name of the checksum, which is then not looked for


def test_a_checksum_that_does_not_fit(file):
    content = bytearray(sample(file))
    found = checksum(content)
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError) as excinfo:
        load(file)
    text = f"load {file}: expected a file with the checksum {found}, got one with {checksum(content)}. "
    assert str(excinfo.value) == text + "It is damaged, or was edited."


def checksum(content):
    """That of a file with its own replaced by zeros."""
    place = content.index(b'"crc32":"') + 9
    return f"{zlib.crc32(content[:place] + bytes(8 * [48]) + content[place + 8 :]):08x}"


def forge(file, header, data=b"", structure=None):
    """A file by hand; `structure` is the tree of its metadata."""
    if structure is not None:
        text = structure if isinstance(structure, str) else json.dumps({"version": 1, "tree": structure})
        header = {"__metadata__": {"jaxnn": text}, **header}
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


CUT = "It is cut short, damaged, or of another format."
OTHERS = "It is damaged, or was not written by `save`."
NOT_JSON = f": expected a safetensors file, got a header that is not a JSON object. {CUT}"
NO_ENTRY = f": expected a safetensors file, got an entry 'a' without dtype, shape and offsets. {CUT}"
NO_FIT = f": expected a safetensors file, got an entry 'a' whose offsets do not fit its shape. {CUT}"
IMPOSSIBLE = f": expected a safetensors file, got an entry 'a' of an impossible shape. {CUT}"
GAPS = f": expected a safetensors file, got arrays that overlap or leave gaps. {CUT}"
HEADERS = {
    "text": (b"hello", b"", NOT_JSON),
    "list": (b"[1]", b"", NOT_JSON),
    "not utf-8": (b'{"\xff":1}', b"", NOT_JSON),
    "utf-16": ('{"a":1}'.encode("utf-16"), b"", NOT_JSON),
    "key twice": (b'{"a":1,"a":2}', b"", NOT_JSON),
    "deep": (b'{"a":' * 100_000, b"", NOT_JSON),
    "huge number": (b'{"a":' + b"9" * 100_000 + b"}", b"", NOT_JSON),
    "metadata not text": (
        {"__metadata__": {"jaxnn": 1}},
        b"",
        f": expected a safetensors file, got metadata that are not strings. {CUT}",
    ),
    "no entry": ({"a": 1}, b"", NO_ENTRY),
    "no shape": ({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, b"1234", NO_ENTRY),
    "negative": ({"a": entry([-1], 0, 4)}, b"1234", NO_ENTRY),
    "negative offsets": ({"a": entry([1], -4, 0)}, b"", NO_ENTRY),
    "true": ({"a": entry([True], 0, 4)}, b"1234", NO_ENTRY),
    "float": ({"a": entry([1.0], 0, 4)}, b"1234", NO_ENTRY),
    "past 64 bits": ({"a": entry([2**64], 0, 4)}, b"1234", NO_ENTRY),
    "65 axes": ({"a": entry([1] * 65, 0, 4)}, b"1234", IMPOSSIBLE),
    "overflow": ({"a": entry([2**62, 4], 0, 4)}, b"1234", IMPOSSIBLE),
    "empty and huge": ({"a": entry([0, 2**62], 0, 0)}, b"", IMPOSSIBLE),
    "larger than its data": ({"a": entry([2**40], 0, 4)}, b"1234", NO_FIT),
    "backwards": ({"a": entry([1], 4, 0)}, b"1234", NO_FIT),
    "overlap": ({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, b"1234", GAPS),
    "gap": ({"a": entry([1], 4, 8)}, b"12345678", GAPS),
    "hidden data": (
        {"a": entry([1], 0, 4)},
        b"12345678",
        f": expected a safetensors file, got one of 77 bytes whose header speaks of 73. {CUT}",
    ),
    "float4": (
        {"a": entry([2], 0, 1, "F4")},
        b"1",
        ": expected arrays of BOOL, I8, I16, I32, I64, U8, U16, U32, U64, F16, F32, F64, BF16, F8_E4M3, F8_E4M3FNUZ, "
        "F8_E5M2, F8_E5M2FNUZ, F8_E8M0, C64, got 'a' of F4. Convert it elsewhere first.",
    ),
}


@pytest.mark.parametrize("case", HEADERS)
@pytest.mark.parametrize("like", [None, {"a": np.zeros(1, np.float32)}], ids=["bare", "like"])
def test_headers_that_lie(file, case, like):
    header, data, text = HEADERS[case]
    forge(file, header, data)
    with pytest.raises(ValueError) as excinfo:
        load(file, like)
    assert str(excinfo.value) == f"load {file}{text}"


def test_a_header_longer_than_any_reader_takes(file):
    with open(file, "wb") as sparse:
        sparse.write((100_000_001).to_bytes(8, "little"))
        sparse.truncate(200_000_000)
    with pytest.raises(ValueError) as excinfo:
        load(file)
    assert str(excinfo.value) == (
        f"load {file}: expected a safetensors file, got one of 200000000 bytes with a header of 100000001. {CUT}"
    )


def damaged(got, place="the root"):
    return f" at {place}: expected a structure as `save` writes it, got {got}. {OTHERS}"


def no_class(name, fields=""):
    return (
        f" at the root: expected the NamedTuple {name} with the fields ({fields}) in an imported module, got no such "
        "class. Import the module that defines it, or pass `like`, a tree of the same paths."
    )


def record(module, name, **fields):
    return {"namedtuple": [module, name, fields]}


def nested(levels, leaf):
    for _ in range(levels):
        leaf = {"list": [leaf]}
    return leaf


A = {"a": entry([2], 0, 8, "U32")}
STRUCTURES = {
    "no JSON": ({}, "{", f": expected a structure as `save` writes it, got one that is not a JSON object. {OTHERS}"),
    "deep JSON": (
        {},
        '{"version":1,"tree":' + "[" * 100_000,
        f": expected a structure as `save` writes it, got one that is not a JSON object. {OTHERS}",
    ),
    "key twice": (
        {},
        '{"version":1,"tree":{"dict":{"a":1,"a":2}}}',
        f": expected a structure as `save` writes it, got one that is not a JSON object. {OTHERS}",
    ),
    "version": (
        {},
        '{"version":2,"tree":null}',
        ": expected a structure of version 1, got another. A newer jaxnn may have written it.",
    ),
    "no tree": (
        {},
        '{"version":1}',
        ": expected a structure of version 1, got another. A newer jaxnn may have written it.",
    ),
    "list": ({}, [], damaged("an unknown node")),
    "two tags": ({}, {"dict": {}, "list": []}, damaged("an unknown node")),
    "unknown tag": ({}, {"dict": {"x": {"set": []}}}, damaged("an unknown node", "x")),
    "dict of list": ({}, {"dict": []}, damaged("an unknown node")),
    "tuple of dict": ({}, {"tuple": {}}, damaged("an unknown node")),
    "unknown kind": (A, {"dict": {"a": {"array": "torch"}}}, damaged("an unknown node", "a")),
    "int": ({}, {"int": "twelve"}, damaged("an unreadable int")),
    "float": ({}, {"float": "0x1"}, damaged("an unreadable float")),
    "complex": ({}, {"complex": "1+1"}, damaged("an unreadable complex")),
    "101 levels": ({}, nested(101, 1), damaged("more than 100 levels", "/".join("0" * 101))),
    "no array": ({}, {"dict": {"a": {"array": "jax"}}}, damaged("an array that is not in the file", "a")),
    "no array at the path": (A, {"list": [{"array": "jax"}]}, damaged("an array that is not in the file", "0")),
    "array left over": (
        A,
        {"dict": {}},
        f": expected a structure that holds every array, got one without a. {OTHERS}",
    ),
    "unknown keys": (
        A,
        {"dict": {"a": {"key": "os:system"}}},
        damaged("keys of an unknown implementation 'os:system'", "a"),
    ),
    "short keys": (
        A,
        {"dict": {"a": {"key": "rbg"}}},
        damaged("keys of rbg in uint32[2], which is not uint32[..., 4]", "a"),
    ),
    "float keys": (
        {"a": entry([2], 0, 8)},
        {"dict": {"a": {"key": "threefry2x32"}}},
        damaged("keys of threefry2x32 in float32[2], which is not uint32[..., 2]", "a"),
    ),
    "scalar keys": (
        {"a": entry([], 0, 4, "U32")},
        {"dict": {"a": {"key": "threefry2x32"}}},
        damaged("keys of threefry2x32 in uint32[], which is not uint32[..., 2]", "a"),
    ),
    "bool of other bytes": (
        {"a": entry([2], 0, 2, "BOOL")},
        {"dict": {"a": {"array": "numpy"}}},
        " at a: expected bool in bytes of 0 and 1, got others. It is damaged, or was written by other means.",
    ),
}
CLASSES = {
    "function": (record("os", "system", command="true"), no_class("os.system", "command")),
    "walk": (record("os", "__builtins__.eval"), no_class("os.__builtins__.eval")),
    "dunder walk": (record("builtins", "tuple.__class__"), no_class("builtins.tuple.__class__")),
    "subclasses": (record("builtins", "object.__subclasses__"), no_class("builtins.object.__subclasses__")),
    "not imported": (record("this", "Zen"), no_class("this.Zen")),
    "no module": (record("", "Point"), no_class(".Point")),
    "no name": (record(__name__, ""), no_class(f"{__name__}.")),
    "gone": (record(__name__, "Gone", x=1), no_class(f"{__name__}.Gone", "x")),
    "class of no tuple": (record(__name__, "Outer", value=1), no_class(f"{__name__}.Outer", "value")),
    "tuple itself": (
        record("builtins", "tuple", x=1),
        no_class("builtins.tuple", "x").replace("no such class", "a tuple that is none"),
    ),
    "struct": (
        record("time", "struct_time"),
        no_class("time.struct_time").replace("no such class", "a tuple that is none"),
    ),
    "other fields": (
        record(__name__, "Point", y=1, x=2),
        no_class(f"{__name__}.Point", "y, x").replace("no such class", "one with (x, y)"),
    ),
    "too few": (
        record(__name__, "Point", x=1),
        no_class(f"{__name__}.Point", "x").replace("no such class", "one with (x, y)"),
    ),
}


@pytest.mark.parametrize("case", STRUCTURES)
def test_structures_that_lie(file, case):
    header, structure, text = STRUCTURES[case]
    data = b"\2" * max((e["data_offsets"][1] for e in header.values()), default=0)
    forge(file, header, data, structure)
    with pytest.raises(ValueError) as excinfo:
        load(file)
    assert str(excinfo.value) == f"load {file}{text}"
    if case != "bool of other bytes":
        with pytest.raises(ValueError) as excinfo:
            load(file, like={"a": np.zeros(2)})
        assert str(excinfo.value) == f"load {file}{text}"


@pytest.mark.parametrize("case", CLASSES)
def test_classes_that_are_not_there(file, case):
    structure, text = CLASSES[case]
    forge(file, {}, structure=structure)
    with pytest.raises(ValueError) as excinfo:
        load(file)
    assert str(excinfo.value) == f"load {file}{text}"
    assert "this" not in sys.modules


def test_lookup_runs_no_code(file, monkeypatch):
    ran = []

    class Lazy(types.ModuleType):
        def __getattribute__(self, name):
            ran.append(name)
            return super().__getattribute__(name)

    class Meta(type):
        def __getattribute__(cls, name):
            ran.append(name)
            return super().__getattribute__(name)

        def __subclasscheck__(cls, other):
            ran.append("subclass")
            return True

        @property
        def _fields(cls):
            ran.append("fields")
            return ("x",)

    class Trap(tuple, metaclass=Meta):
        def __new__(cls, *args):
            ran.append("new")

    class Fake:
        @property
        def __class__(self):
            ran.append("class")
            return type

    module = types.ModuleType("traps")
    module.__dict__.update(Trap=Trap, fake=Fake(), __getattr__=ran.append)
    lazy = Lazy("lazy")
    lazy.__dict__["Point"] = Point
    ran.clear()
    monkeypatch.setitem(sys.modules, "traps", module)
    monkeypatch.setitem(sys.modules, "lazy", lazy)
    monkeypatch.setitem(sys.modules, "nothing", None)
    for structure in (
        record("traps", "Trap", x=1),
        record("traps", "Trap.mro", x=1),
        record("traps", "fake", x=1),
        record("traps", "fake.y", x=1),
        record("traps", "absent"),
        record("lazy", "absent"),
        record("nothing", "absent"),
    ):
        forge(file, {}, structure=structure)
        with pytest.raises(ValueError, match="expected the NamedTuple"):
            load(file)
    forge(file, {}, structure=record("lazy", "Point", x=1, y=2))
    out = load(file)
    assert (type(out), out) == (Point, (1, 2))
    assert ran == []


def test_a_class_that_is_gone_loads_into_like(file):
    forge(file, {}, structure=record("gone", "State", x=1, y=record("this", "Zen", z=2.5)))
    assert load(file, like=Point(0, {"z": 0.0})) == Point(1, {"z": 2.5})
    assert "this" not in sys.modules


def test_a_file_that_shrinks_while_it_is_read(file, monkeypatch):
    content = sample(file)
    length = int.from_bytes(content[:8], "little")
    file.write_bytes(content[: 8 + length + 8])
    monkeypatch.setattr(os, "fstat", lambda _: types.SimpleNamespace(st_size=len(content)))
    monkeypatch.setattr("jaxnn.io._checkpoint.check_sum", lambda *_: None)  # it shrinks right after
    with pytest.raises(ValueError) as excinfo:
        load(file)
    assert str(excinfo.value) == (
        f"load {file} at w: expected 48 bytes, got the end of the file. It was changed while it was read."
    )
