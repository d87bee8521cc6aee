"""Interpreter of the pickle operations that a state dict consists of. It imports nothing and calls no global of a file.

Own code instead of `pickle.Unpickler` with another `find_class`: the module's C code allocates memory as a file says
(memo indices, bytes of 8-byte length), hashes keys that a file can make collide, and calls methods of objects.
Dicts become lists of pairs, so no key is hashed.
"""

from __future__ import annotations

import pickle as codes
import pickletools
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxnn.interop._source import Source
from jaxnn.io._safetensors import shown

SIZE = 16_000_000  # bytes of all pickles of a file
OPERATIONS = 1_000_000
INTEGER = 255  # bytes of an integer


class Pairs:
    """A dict as a list of its items."""

    __slots__ = ("items",)

    def __init__(self, items: list[Any] | None = None):
        self.items: list[Any] = [] if items is None else items


class Opaque(NamedTuple):
    """A value that is left out."""

    name: str


class Call(NamedTuple):
    """A global that may be called: our function in its place, which gets the arguments of the file.

    Attributes:
      name: name of the global.
      make: the function.
      least, most: number of arguments.
    """

    name: str
    make: Callable[..., Any]
    least: int
    most: int


class Unpickler:
    """Reads the pickles of a file, which together have at most `SIZE` bytes and `OPERATIONS` operations.

    Attributes:
      find: `find(module, name)` returns the object in place of a global, or raises.
      persistent: `persistent(id)` returns the object in place of a persistent id, or raises.
      place: position in the data.
    """

    def __init__(
        self,
        source: Source,
        data: Any,
        begin: int,
        find: Callable[[str, str], Any],
        persistent: Callable[[Any], Any],
    ):
        self.source, self.data, self.place = source, data, begin
        self.find, self.persistent = find, persistent
        self.end, self.left = min(len(data), begin + SIZE), OPERATIONS
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.found: dict[tuple[str, str], Any] = {}

    def load(self) -> Any:
        """The object of the next pickle."""
        self.stack, self.marks, self.memo = [], [], {}
        operations = _OPERATIONS
        try:
            while True:
                if self.left <= 0:
                    raise self.source.bad(f"more than {OPERATIONS} pickle operations", "Save the state dict alone.")
                self.left -= 1
                if self.place >= self.end:
                    self.take(1)  # raises
                code = self.data[self.place]
                self.place += 1
                if code == _STOP:
                    return self.stack.pop()
                operation = operations.get(code)
                if operation is None:
                    raise self.refused(code)
                operation(self)
        except (IndexError, KeyError, UnicodeDecodeError):
            raise self.source.bad("a damaged pickle") from None

    def take(self, size: int) -> bytes:
        """The next bytes."""
        begin = self.place
        self.place = begin + size
        if self.place > self.end:
            if self.end < len(self.data):
                raise self.source.bad(f"pickles of more than {SIZE} bytes", "Save the state dict alone.")
            raise self.source.bad("the end of the file within a pickle")
        return self.data[begin : self.place]

    def refused(self, code: int) -> Exception:
        """The error for an operation that a state dict does not need."""
        known = next((op.name for op in pickletools.opcodes if op.code == chr(code)), str(code))
        return self.source.bad(
            f"the pickle operation {known}", "Save model.state_dict() by torch.save, with its default protocol."
        )

    def number(self, size: int) -> int:
        """An unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size), "little")

    def line(self) -> str:
        """Text up to the end of its line."""
        end = self.data.find(b"\n", self.place, min(self.end, self.place + 1000))
        if end < 0:
            raise self.source.bad("a damaged pickle")
        return self.take(end + 1 - self.place)[:-1].decode()

    def marked(self) -> list[Any]:
        """The objects above the last mark, taken off the stack."""
        mark = self.marks.pop()
        found = self.stack[mark:]
        del self.stack[mark:]
        return found

    # Operations, by name below.

    def integer(self, size: int) -> None:
        if size > INTEGER:
            raise self.source.bad(f"an integer of {size} bytes")
        self.stack.append(int.from_bytes(self.take(size), "little", signed=True))

    def floating(self) -> None:
        self.stack.append(struct.unpack(">d", self.take(8))[0])

    def text(self, size: int, encoding: str = "utf-8") -> None:
        self.stack.append(self.take(size).decode(encoding))

    def binary(self, size: int) -> None:
        self.take(size)
        self.stack.append(Opaque("bytes"))

    def group(self, size: int) -> None:
        if len(self.stack) < size:
            raise IndexError
        found = tuple(self.stack[len(self.stack) - size :])
        del self.stack[len(self.stack) - size :]
        self.stack.append(found)

    def append(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise self.source.bad("a pickle that appends to something else than a list")
        self.stack[-1].extend(items)

    def setitems(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not Pairs or len(items) % 2:
            raise self.source.bad("a pickle that sets items of something else than a dict")
        self.stack[-1].items.extend(zip(items[::2], items[1::2], strict=True))

    def pairs(self) -> None:
        items = self.marked()
        self.stack.append(Pairs())
        self.setitems(items)

    def pop(self) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def pop2(self) -> list[Any]:
        last = self.stack.pop()
        return [self.stack.pop(), last]

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def globals(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise self.source.bad("a damaged pickle")
        if (module, name) not in self.found:
            self.found[module, name] = self.find(module, name)
        self.stack.append(self.found[module, name])

    def reduce(self) -> None:
        function, arguments = self.pop2()
        self.stack.append(called(self.source, function, arguments))

    def build(self) -> None:
        """Attributes of an object, such as `_metadata` of a state dict, are left out."""
        self.stack.pop()
        if type(self.stack[-1]) not in (Pairs, Opaque):
            raise self.source.bad("a pickle that sets the state of a value without any")


def called(source: Source, function: Any, arguments: Any) -> Any:
    """The object that our function makes in place of a global's."""
    if type(function) is not Call or type(arguments) is not tuple:
        raise source.bad("a pickle that calls something else than a global")
    if not function.least <= len(arguments) <= function.most:
        raise source.bad(f"{shown(function.name)} of {len(arguments)} arguments")
    return function.make(*arguments)


def _constant(make: Callable[[], Any]) -> Callable[[Unpickler], None]:
    return lambda p: p.stack.append(make())


_STOP = codes.STOP[0]
_OPERATIONS: dict[int, Callable[[Unpickler], Any]] = {
    code[0]: operation
    for code, operation in {
        codes.PROTO: lambda p: p.take(1),
        codes.FRAME: lambda p: p.take(8),
        codes.MARK: lambda p: p.marks.append(len(p.stack)),
        codes.POP: Unpickler.pop,
        codes.POP_MARK: lambda p: p.marked(),
        codes.DUP: lambda p: p.stack.append(p.stack[-1]),
        codes.NONE: _constant(lambda: None),
        codes.NEWTRUE: _constant(lambda: True),
        codes.NEWFALSE: _constant(lambda: False),
        codes.BININT: lambda p: p.integer(4),
        codes.BININT1: lambda p: p.stack.append(p.number(1)),
        codes.BININT2: lambda p: p.stack.append(p.number(2)),
        codes.LONG1: lambda p: p.integer(p.number(1)),
        codes.LONG4: lambda p: p.integer(p.number(4)),
        codes.BINFLOAT: Unpickler.floating,
        codes.BINUNICODE: lambda p: p.text(p.number(4)),
        codes.SHORT_BINUNICODE: lambda p: p.text(p.number(1)),
        codes.BINUNICODE8: lambda p: p.text(p.number(8)),
        codes.BINSTRING: lambda p: p.text(p.number(4), "latin-1"),  # str of Python 2
        codes.SHORT_BINSTRING: lambda p: p.text(p.number(1), "latin-1"),
        codes.BINBYTES: lambda p: p.binary(p.number(4)),
        codes.SHORT_BINBYTES: lambda p: p.binary(p.number(1)),
        codes.BINBYTES8: lambda p: p.binary(p.number(8)),
        codes.BYTEARRAY8: lambda p: p.binary(p.number(8)),
        codes.EMPTY_LIST: _constant(list),
        codes.LIST: lambda p: p.stack.append(p.marked()),
        codes.APPEND: lambda p: p.append([p.stack.pop()]),
        codes.APPENDS: lambda p: p.append(p.marked()),
        codes.EMPTY_SET: _constant(list),  # members of a set are not compared
        codes.ADDITEMS: lambda p: p.append(p.marked()),
        codes.FROZENSET: lambda p: p.stack.append(p.marked()),
        codes.EMPTY_TUPLE: _constant(tuple),
        codes.TUPLE: lambda p: p.stack.append(tuple(p.marked())),
        codes.TUPLE1: lambda p: p.group(1),
        codes.TUPLE2: lambda p: p.group(2),
        codes.TUPLE3: lambda p: p.group(3),
        codes.EMPTY_DICT: _constant(Pairs),
        codes.DICT: Unpickler.pairs,
        codes.SETITEM: lambda p: p.setitems(p.pop2()),
        codes.SETITEMS: lambda p: p.setitems(p.marked()),
        codes.BINGET: lambda p: p.get(p.number(1)),
        codes.LONG_BINGET: lambda p: p.get(p.number(4)),
        codes.BINPUT: lambda p: p.put(p.number(1)),
        codes.LONG_BINPUT: lambda p: p.put(p.number(4)),
        codes.MEMOIZE: lambda p: p.put(len(p.memo)),
        codes.GLOBAL: lambda p: p.globals(p.line(), p.line()),
        codes.STACK_GLOBAL: lambda p: p.globals(*p.pop2()),
        codes.REDUCE: Unpickler.reduce,
        codes.NEWOBJ: Unpickler.reduce,
        codes.BUILD: Unpickler.build,
        codes.BINPERSID: lambda p: p.stack.append(p.persistent(p.stack.pop())),
    }.items()
}
