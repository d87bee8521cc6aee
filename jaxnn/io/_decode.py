"""Decoder of the structure that `_structure.encode` writes; it validates every node of an untrusted file."""

import math
import re
import sys
import types
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxnn._errors import InvalidValue, invalid
from jaxnn._flat import Flat, Layout
from jaxnn.io._safetensors import Tensor, is_possible, shown
from jaxnn.io._structure import DAMAGED, DEPTH, TEXTS, Stored, at, entry, escaped, is_plain, some, spec

Tree = Any
Leaf = Callable[[str, Any], Any]
Instance = Callable[[str, str, dict[str, Any], str], Any]

_NAMES = 200_000_000  # total characters of all paths: a long key is repeated in the path of every leaf below it
_NUMBERS: dict[str, Callable[[str], Any]] = {"int": partial(int, base=16), "float": float, "complex": complex}


def decode(structure: Any, tensors: dict[str, Tensor], leaf: Leaf, instance: Instance, where: str) -> Tree:
    """The tree described by a structure; `leaf` makes its leaves and `instance` its NamedTuples.

    Args:
      structure: JSON value as `_structure.parse` returns it.
      tensors: arrays of the file by name.
      leaf: `leaf(name, value) -> leaf`; the value is a plain Python value or a `Stored`.
      instance: `instance(module, qualname, fields, where)`, returns a NamedTuple.
      where: start of error messages.

    Raises:
      ValueError: if `encode` cannot have written the structure, or an array of the file is not in it.
    """
    decoder = _Decoder(tensors, instance, where)
    tree = decoder.walk(structure, "", 0, leaf)
    if decoder.unused:
        raise invalid(
            where, "a structure that holds every array", told=f"one without {some(decoder.unused)}", fix=DAMAGED
        )
    return tree


class _Decoder:
    """Recursive walk over a structure that raises for everything that `encode` does not write.

    Attributes:
      unused: arrays of the file that no node has named yet.
    """

    def __init__(self, tensors: dict[str, Tensor], instance: Instance, where: str):
        self.tensors, self.instance, self.where = tensors, instance, where
        self.unused, self.characters, self.words = dict(tensors), 0, dict[str, Any]()

    def bad(self, got: str, name: str) -> InvalidValue:
        return invalid(at(self.where, name), "a structure as `save` writes it", told=got, fix=DAMAGED)

    def walk(self, node: Any, name: str, depth: int, leaf: Leaf) -> Any:
        """Decodes one node.

        Args:
          node: the JSON value.
          name: the joined path. It is extended from the parent's name, so the cost per node does not grow with depth.
          depth: number of nested levels above.
          leaf: as in `decode`.
        """
        self.characters += len(name)
        if depth > DEPTH:
            raise self.bad(f"more than {DEPTH} levels", name)
        if self.characters > _NAMES:
            raise self.bad(f"paths of more than {_NAMES} characters", name)
        if node is None:
            return None
        if is_plain(node):
            return leaf(entry(name), node)
        tag, body = next(iter(node.items())) if type(node) is dict and len(node) == 1 else ("", "")
        below = partial(self.below, name, depth, leaf)
        match tag, body:
            case "dict", dict():
                return {key: below(key, child) for key, child in body.items()}
            case "list", list():
                return [below(str(i), child) for i, child in enumerate(body)]
            case "tuple", list():
                return tuple([below(str(i), child) for i, child in enumerate(body)])
            case "namedtuple", [str(module), str(qualname), dict(fields)]:
                values = {field: below(field, child) for field, child in fields.items()}
                return self.instance(module, qualname, values, at(self.where, name))
            case "flat", [layout, dict(vectors), *leading]:
                found = self.layout(layout, vectors, leading, name, depth)
                return Flat({key: below(key, child) for key, child in vectors.items()}, found)
            case "int" | "float" | "complex", str():
                return leaf(entry(name), self.number(tag, body, name))
            case ("array", "jax" | "numpy" | "scalar") | ("key", str()):
                tensor = self.unused.pop(entry(name), None)
                if tensor is None:
                    raise self.bad("an array that is not in the file", name)
                stored = self.keys(tensor, body, name) if tag == "key" else Stored(tensor, body, spec(tensor))
                return leaf(entry(name), stored)
        raise self.bad("an unknown node", name)

    def below(self, name: str, depth: int, leaf: Leaf, key: str, child: Any) -> Any:
        return self.walk(child, _joined(name, depth, key), depth + 1, leaf)

    def layout(self, node: Any, vectors: dict[str, Any], leading: list[Any], name: str, depth: int) -> Layout:
        """The layout of a `Flat` whose vectors are arrays [*leading, n].

        Older files do not store the leading axes. With `like` they are read from the vectors, without it there are
        none.
        """
        arrays = {key: self.tensors.get(entry(_joined(name, depth, key))) for key in vectors}
        shapes = {key: x.shape for key, x in arrays.items() if x is not None and x.shape and vectors[key] in _VECTORS}
        if not leading:
            leading = [[*s[:-1]] for s in shapes.values() if self.instance is no_instance][:1] or [[]]
        found = _layout(self.walk(node, name, depth, lambda _, text: text), {key: s[-1] for key, s in shapes.items()})
        begins = {str([[*s[:-1]]]) for s in shapes.values()} or {"[[]]"}
        if shapes.keys() != vectors.keys() or begins != {str(leading)} or found is None:
            raise self.bad("vectors with another layout", name)
        return found

    def number(self, tag: str, text: str, name: str) -> Any:
        """A number that JSON cannot represent, from its text; raises unless `encode` would write the same text."""
        try:
            number = _NUMBERS[tag](text)
        except ValueError as error:
            raise self.bad(f"an unreadable {tag}", name) from error
        if is_plain(number) or TEXTS[type(number)](number) != text:
            raise self.bad(f"an unreadable {tag}", name)
        return number

    def keys(self, tensor: Tensor, impl: str, name: str) -> Stored:
        """A stored array of PRNG keys, checked against the key shape of its implementation."""
        if impl not in self.words:
            try:
                key = jax.eval_shape(lambda: jax.random.key(0, impl=impl))
            except ValueError as error:
                raise self.bad(f"keys of an unknown implementation {shown(impl)!r}", name) from error
            self.words[impl] = key.dtype, jax.eval_shape(jax.random.key_data, key).shape
        dtype, words = self.words[impl]
        if tensor.dtype != np.uint32 or tensor.shape[-1:] != words:
            raise self.bad(f"keys of {impl} in {spec(tensor)}, which is not uint32[..., {words[0]}]", name)
        return Stored(tensor, "keys", spec(jax.ShapeDtypeStruct(tensor.shape[:-1], dtype)), impl)


_LEAF = re.compile(r"(\S+)((?: \d{1,19}){0,64})", re.ASCII)  # such as "float32 3 4"
_VECTORS = ({"array": "jax"}, {"array": "numpy"})


def _joined(name: str, depth: int, key: str) -> str:
    return f"{name}/{escaped(key)}" if depth else escaped(key)


def _layout(tree: Tree, sizes: dict[str, int]) -> Layout | None:
    """The layout in a tree of texts such as `float32 3 4`, or None if such leaves do not fill vectors of these sizes.

    A layout describes all params. The vectors may cover a part of them, for example the params that are not frozen.
    """
    leaves, structure = jax.tree.flatten(tree)
    filled: dict[str, int] = {}
    read = []
    for text in leaves:
        found = _LEAF.fullmatch(text) if isinstance(text, str) else None
        shape = tuple(map(int, found[2].split())) if found else ()
        if found is None or not is_possible(shape):
            return None
        name = found[1]
        filled[name] = filled.get(name, 0) + math.prod(shape)
        if filled[name] > sizes.get(name, 2**63):
            return None
        read.append((name, shape))
    return Layout(structure, tuple(read)) if all(filled.get(name) == n for name, n in sizes.items()) else None


def instance(module: str, qualname: str, fields: dict[str, Any], where: str) -> Any:
    """The NamedTuple of an already imported class, found and constructed without running any code of the class.

    If the module does not hold the class, as it was moved since, the packages around it may. Last fields that the file
    lacks are None, if that is their default.
    """
    found: Any = None
    packages = module.split(".", DEPTH)
    while found is None and packages:
        found = sys.modules.get(".".join(packages))
        for part in qualname.split(".", DEPTH):
            found = _static(found, part)
        packages.pop()
    expected = (
        f"the NamedTuple {shown(f'{module}.{qualname}')} with the fields ({_listed(fields)}) in an imported module"
    )
    fix = "Import the module that defines it, or pass `like`, a tree of the same paths."
    if not (issubclass(type(found), type) and issubclass(found, tuple)):
        raise invalid(where, expected, told="no such class", fix=fix)
    present, defaults = (
        next((p for p in (_static(c, name) for c in _class_mro(found)) if p is not None), None)
        for name in ("_fields", "_field_defaults")
    )
    if type(present) is not tuple or any(type(field) is not str for field in present):
        raise invalid(where, expected, told="a tuple that is none", fix=fix)
    known, added = present[: len(fields)], present[len(fields) :]
    optional = type(defaults) is dict and all(defaults.get(field, field) is None for field in added)
    if list(known) != list(fields) or not (optional or not added):
        raise invalid(where, expected, told=f"one with ({_listed(present)})", fix=fix)
    return tuple.__new__(found, (*fields.values(), *(None for _ in added)))


def no_instance(module: str, qualname: str, fields: dict[str, Any], where: str) -> None:
    """Stand-in for `instance` when only the leaves are needed."""


def _listed(fields: Iterable[str]) -> str:
    return shown(", ".join(fields))


# Descriptors of the base types are used because getattr, and inspect.getattr_static too, may run code of lazy modules
# and of metaclasses.
_module_dict = vars(types.ModuleType)["__dict__"].__get__
_class_dict = vars(type)["__dict__"].__get__
_class_mro = vars(type)["__mro__"].__get__


def _static(holder: Any, name: str) -> Any:
    """The value under a name in the own `__dict__` of a module or class, or None."""
    if issubclass(type(holder), types.ModuleType):
        return (_module_dict(holder) or {}).get(name)
    return _class_dict(holder).get(name) if issubclass(type(holder), type) else None
