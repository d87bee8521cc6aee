"""The structure of a tree as JSON and back: None, bool, str and plain numbers as such, all else as one-key objects."""

import json
import math
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn._errors import InvalidValue, describe, invalid, wrong_type
from jaxnn._flat import Flat, Layout
from jaxnn.train._safetensors import CODES, Tensor, parse_json

Tree = Any

_VERSION = 1
DAMAGED = "It is damaged, or was not written by `save`."

_DEPTH = 100  # levels of nesting; bounds the recursion over a hostile file and over a list that holds itself
_LISTED = 8  # differences named in one error, of each kind


class Stored(NamedTuple):
    """An array of the file and what it comes back as: jax, numpy, scalar, or keys of the implementation `impl`."""

    tensor: Tensor
    kind: str
    spec: str
    impl: str | None = None


def encode(tree: Tree, arrays: dict[str, Any]) -> str:
    """The structure and the Python leaves of a tree as JSON; its arrays go into `arrays` by name."""
    structure = {"version": _VERSION, "tree": _node(tree, (), arrays)}
    return json.dumps(structure, separators=(",", ":"), allow_nan=False)


def _node(node: Tree, path: tuple[str, ...], arrays: dict[str, Any]) -> Any:
    """One node as JSON; the arrays in it go into `arrays` by name."""
    name = name_of(path)
    where = at("save", name)
    if len(path) > _DEPTH:
        raise invalid("save", f"at most {_DEPTH} levels", f"more at {name[:50]}...", "Does a list or dict hold itself?")
    if node is None or type(node) in (bool, str):
        return node
    if type(node) is int:
        return node if abs(node) < 2**63 else {"int": hex(node)}  # other JSON readers stop at 64 bits
    if type(node) is float:
        return node if math.isfinite(node) else {"float": repr(node)}
    if type(node) is complex:
        return {"complex": repr(node)}
    if type(node) is dict:
        for key in node:
            _check_key(key, where)
        return {"dict": {key: _node(child, (*path, key), arrays) for key, child in node.items()}}
    if type(node) is list or type(node) is tuple:
        return {type(node).__name__: [_node(child, (*path, str(i)), arrays) for i, child in enumerate(node)]}
    if type(node) is Flat:
        vectors = {key: _node(vector, (*path, key), arrays) for key, vector in node.vectors.items()}
        return {"flat": [_node(_layout_tree(node.layout), path, arrays), vectors]}
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        fields = {f: _node(child, (*path, f), arrays) for f, child in zip(node._fields, node, strict=True)}
        return {"namedtuple": [type(node).__module__, type(node).__qualname__, fields]}
    if isinstance(node, jax.Array):
        _check_array(node, where)
        if jnp.issubdtype(node.dtype, jax.dtypes.prng_key):
            arrays[name] = jax.random.key_data(node)
            return {"key": str(jax.random.key_impl(node))}
        kind = "jax"
    elif type(node) in (np.ndarray, np.memmap):  # other subclasses hold more than an array, such as a mask
        kind = "numpy"
    elif isinstance(node, np.generic):
        kind = "scalar"
    else:
        expected = "dict, list, tuple, NamedTuple, None, an array or a Python bool, int, float, complex or str"
        fix = "Convert it, or save jax.tree.leaves(tree) and put them back by jax.tree.unflatten."
        raise wrong_type(where, expected, f"{type(node).__module__}.{type(node).__qualname__}", fix)
    if node.dtype.name not in CODES:
        fix = "Convert it, or split it into such arrays."
        raise wrong_type(where, f"an array of {', '.join(CODES)}", describe(node), fix)
    arrays[name] = node
    return {"array": kind}


def parse(text: str, where: str) -> Any:
    """The structure that `encode` wrote, its nodes not looked at yet."""
    error = invalid(where, "a structure as `save` writes it", "one that is not a JSON object", DAMAGED)
    structure = parse_json(text.encode(errors="replace"), error)
    if structure.keys() != {"version", "tree"} or structure["version"] != _VERSION:
        raise invalid(where, f"a structure of version {_VERSION}", "another", "A newer jaxnn may have written it.")
    return structure["tree"]


def decode(
    structure: Any,
    tensors: dict[str, Tensor],
    leaf: Callable[[str, Any], Any],
    instance: Callable[[str, str, dict[str, Any], str], Any],
    where: str,
) -> Tree:
    """The tree of a structure, whose leaves and NamedTuples are made by `leaf` and `instance`."""
    unused = dict(tensors)

    def bad(got: str, name: str) -> InvalidValue:
        return invalid(at(where, name), "a structure as `save` writes it", got, DAMAGED)

    def walk(node: Any, path: tuple[str, ...], leaf: Callable[[str, Any], Any] = leaf) -> Any:
        name = name_of(path)
        if len(path) > _DEPTH:
            raise bad(f"more than {_DEPTH} levels", name)
        if node is None:
            return None
        if isinstance(node, bool | int | float | str):
            return leaf(name, node)
        tag, body = next(iter(node.items())) if type(node) is dict and len(node) == 1 else ("", "")
        match tag, body:
            case "dict", dict():
                return {key: walk(child, (*path, key), leaf) for key, child in body.items()}
            case "list", list():
                return [walk(child, (*path, str(i)), leaf) for i, child in enumerate(body)]
            case "tuple", list():
                return tuple([walk(child, (*path, str(i)), leaf) for i, child in enumerate(body)])
            case "namedtuple", [str(module), str(qualname), dict(fields)]:
                values = {field: walk(child, (*path, field), leaf) for field, child in fields.items()}
                return instance(module, qualname, values, at(where, name))
            case "flat", [layout, dict(vectors)]:
                sizes = {key: tensors[n].shape[-1:] for key in vectors if (n := name_of((*path, key))) in tensors}
                layout = _layout(walk(layout, path, lambda _, text: text), sizes)
                if layout is None:
                    raise bad("vectors with another layout", name)
                return Flat({key: walk(child, (*path, key), leaf) for key, child in vectors.items()}, layout)
            case "int" | "float" | "complex", str():
                return leaf(name, number(tag, body, name))
            case ("array", "jax" | "numpy" | "scalar") | ("key", str()):
                tensor = unused.pop(name, None)
                if tensor is None:
                    raise bad("an array that is not in the file", name)
                return leaf(name, keys(tensor, body, name) if tag == "key" else Stored(tensor, body, spec(tensor)))
        raise bad("an unknown node", name)

    def number(tag: str, text: str, name: str) -> Any:
        try:
            return int(text, 16) if tag == "int" else float(text) if tag == "float" else complex(text)
        except ValueError as error:
            raise bad(f"an unreadable {tag}", name) from error

    def keys(tensor: Tensor, impl: str, name: str) -> Stored:
        try:
            key = jax.eval_shape(lambda: jax.random.key(0, impl=impl))
        except ValueError as error:
            raise bad(f"keys of an unknown implementation {impl!r}", name) from error
        words = jax.eval_shape(jax.random.key_data, key).shape
        if tensor.dtype != np.uint32 or tensor.shape[-1:] != words:
            raise bad(f"keys of {impl} in {spec(tensor)}, which is not uint32[..., {words[0]}]", name)
        return Stored(tensor, "keys", spec(jax.ShapeDtypeStruct(tensor.shape[:-1], key.dtype)), impl)

    tree = walk(structure, ())
    if unused:
        raise invalid(where, "a structure that holds every array", f"one without {some(unused)}", DAMAGED)
    return tree


def _layout_tree(layout: Layout) -> Tree:
    """The tree of a layout, with what a leaf is as text: `float32 3 4`."""
    return jax.tree.unflatten(layout.structure, [" ".join([name, *map(str, shape)]) for name, shape in layout.leaves])


def _layout(tree: Tree, sizes: dict[str, tuple[int, ...]]) -> Layout | None:
    """The layout of such a tree, or None if its leaves do not fill vectors of these sizes."""
    leaves, structure = jax.tree.flatten(tree)
    filled = dict.fromkeys(sizes, 0)
    read = []
    for text in leaves:
        name, *numbers = text.split(" ") if isinstance(text, str) else ("",)
        if name not in filled or not all(n.isdecimal() and n.isascii() for n in numbers):
            return None
        shape = tuple(map(int, numbers))
        filled[name] += math.prod(shape)
        read.append((name, shape))
    return Layout(structure, tuple(read)) if all((n,) == sizes[name] for name, n in filled.items()) else None


def instance(module: str, qualname: str, fields: dict[str, Any], where: str) -> Any:
    """The NamedTuple of a class that is imported already, found and made without running any of its code."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = _static(found, part)
    expected = f"the NamedTuple {module}.{qualname} with the fields ({', '.join(fields)}) in an imported module"
    fix = "Import the module that defines it, or pass `like`, a tree of the same paths."
    if not (issubclass(type(found), type) and issubclass(found, tuple)):
        raise invalid(where, expected, "no such class", fix)
    present = next((p for p in (_static(c, "_fields") for c in _class_mro(found)) if p is not None), None)
    if type(present) is not tuple or any(type(field) is not str for field in present):
        raise invalid(where, expected, "a tuple that is none", fix)
    if list(present) != list(fields):
        raise invalid(where, expected, f"one with ({', '.join(present)})", fix)
    return tuple.__new__(found, fields.values())


def no_instance(module: str, qualname: str, fields: dict[str, Any], where: str) -> None:
    """For a tree of which only the leaves are wanted."""


# Descriptors of the base types, because getattr, and inspect.getattr_static too, may run code of lazy modules and of
# metaclasses.
_module_dict = vars(types.ModuleType)["__dict__"].__get__
_class_dict = vars(type)["__dict__"].__get__
_class_mro = vars(type)["__mro__"].__get__


def _static(holder: Any, name: str) -> Any:
    """What a module or a class itself has under a name, or None."""
    if issubclass(type(holder), types.ModuleType):
        return (_module_dict(holder) or {}).get(name)
    return _class_dict(holder).get(name) if issubclass(type(holder), type) else None


# Checks and names.


def spec(x: Any) -> str:
    """The dtype and shape of an array, the type of another leaf."""
    if isinstance(x, Stored):
        return x.spec
    if not isinstance(x, Tensor | jax.ShapeDtypeStruct | jax.Array | np.ndarray | np.generic):
        return type(x).__name__
    return f"{x.dtype.name}[{', '.join(map(str, x.shape))}]"


def _check_key(key: Any, where: str) -> None:
    if type(key) is not str:
        got = f"the key {key!r} of type {type(key).__name__}"
        raise wrong_type(where, "dict keys of type str", got, "Name the entries by strings, or save a list.")
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise invalid(where, "dict keys that are valid Unicode", f"the key {key!r}", "Rename it.") from error


def check_concrete(x: Any, where: str) -> None:
    """Raises for a traced leaf."""
    if isinstance(x, jax.core.Tracer):
        fix = "Files are read and written outside jit, grad, vmap and scan."
        raise wrong_type(where, "concrete arrays", f"a traced {describe(x)}", fix)


def _check_array(x: jax.Array, where: str) -> None:
    check_concrete(x, where)
    if x.is_deleted():
        fix = "Save before it is donated, or save the result of the call that took it."
        raise invalid(where, "an array that is still there", f"a deleted {describe(x)}", fix)


def name_of(path: Iterable[str]) -> str:
    """The path as one string, different for different paths."""
    name = "/".join(key.replace("~", "~0").replace("/", "~1") for key in path)
    return "~__metadata__" if name == "__metadata__" else name  # the header's own entry has that name


def at(where: str, name: str) -> str:
    """The place of a leaf in an error."""
    return f"{where} at {name or 'the root'}"


def some(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    shown = [name or "the root" for name in names]
    return ", ".join(shown[:_LISTED]) + (f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else "")
