"""The structure of a tree as JSON: None, bool, str and plain numbers unchanged, other nodes as objects with one key."""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn._errors import InvalidValue, describe, invalid, wrong_type
from jaxnn._flat import Flat, Layout
from jaxnn.io._safetensors import CODES, Tensor, parse_json, shown
from jaxnn.types import Arrays

Tree = Any

_VERSION = 1
DAMAGED = "It is damaged, or was not written by `save`."

DEPTH = 100  # levels of nesting; bounds the recursion for hostile files and for lists that contain themselves
LISTED = 8  # differences of each kind that an error names


class Stored(NamedTuple):
    """An array of a file, its kind after loading (jax, numpy, scalar or keys), its `spec`, its key implementation."""

    tensor: Tensor
    kind: str
    spec: str
    impl: str | None = None


def encode(tree: Tree, arrays: dict[str, Any]) -> str:
    """The structure and the Python leaves of a tree as JSON text; adds the arrays of the tree to `arrays` by name."""
    structure = {"version": _VERSION, "tree": _node(tree, (), arrays)}
    return json.dumps(structure, separators=(",", ":"), allow_nan=False)


def _node(node: Tree, path: tuple[str, ...], arrays: dict[str, Any]) -> Any:
    """One node as a JSON value; adds the arrays in it to `arrays` by name."""
    name = name_of(path)
    where = at("save", name)
    if len(path) > DEPTH:
        raise invalid(
            "save", f"at most {DEPTH} levels", told=f"more at {name[:50]}...", fix="Does a list or dict hold itself?"
        )
    if is_plain(node):
        return node
    if type(node) in TEXTS:
        return {type(node).__name__: TEXTS[type(node)](node)}
    if type(node) is dict:
        for key in node:
            _check_key(key, where)
        return {"dict": {key: _node(child, (*path, key), arrays) for key, child in node.items()}}
    if type(node) is list or type(node) is tuple:
        return {type(node).__name__: [_node(child, (*path, str(i)), arrays) for i, child in enumerate(node)]}
    if type(node) is Flat:
        vectors = {key: _node(vector, (*path, key), arrays) for key, vector in node.vectors.items()}
        leading = next((list(np.shape(vector)[:-1]) for vector in node.vectors.values()), [])
        return {"flat": [_node(_layout_tree(node.layout), path, arrays), vectors, leading]}
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        fields = {f: _node(child, (*path, f), arrays) for f, child in zip(node._fields, node, strict=True)}
        return {"namedtuple": [_home(type(node)), type(node).__qualname__, fields]}
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
        raise wrong_type(where, expected, told=f"{type(node).__module__}.{type(node).__qualname__}", fix=fix)
    if node.dtype.name not in CODES:
        fix = "Convert it, or split it into such arrays."
        raise wrong_type(where, f"an array of {', '.join(CODES)}", node, fix)
    arrays[name] = node
    return {"array": kind}


def _home(kind: type) -> str:
    """The outermost package that has a class as an attribute: files stay readable if its module is moved."""
    parts = kind.__module__.split(".")
    packages = (".".join(parts[:n]) for n in range(1, len(parts)))
    holders = (name for name in packages if vars(sys.modules.get(name, kind)).get(kind.__qualname__) is kind)
    return next(holders, kind.__module__)


def is_plain(node: Any) -> bool:
    """True for a leaf that JSON represents directly; integers are limited to 64 bits, as in other JSON readers."""
    if type(node) is int:
        return -(2**63) < node < 2**63
    return node is None or type(node) in (bool, str) or (type(node) is float and math.isfinite(node))


# Text forms of the numbers that JSON cannot represent, by type.
TEXTS: dict[type, Callable[[Any], str]] = {int: hex, float: repr, complex: repr}


def parse(text: str, where: str) -> Any:
    """The structure in a text that `encode` wrote; its nodes are not checked yet."""

    def bad(got: str) -> InvalidValue:
        return invalid(where, "a structure as `save` writes it", told=f"one {got}", fix=DAMAGED)

    structure = parse_json(text.encode(errors="replace"), bad)
    version = structure.get("version")
    if structure.keys() != {"version", "tree"} or type(version) is not int or version != _VERSION:
        raise invalid(
            where, f"a structure of version {_VERSION}", told="another", fix="A newer jaxnn may have written it."
        )
    return structure["tree"]


def _layout_tree(layout: Layout) -> Tree:
    """The tree of a layout, with a text such as `float32 3 4` for each leaf."""
    return jax.tree.unflatten(layout.structure, [" ".join([name, *map(str, shape)]) for name, shape in layout.leaves])


# Checks and names.


def spec(x: Arrays) -> str:
    """The dtype and shape of an array as text; the type name of another leaf."""
    if isinstance(x, Stored):
        return x.spec
    if not isinstance(x, Tensor | jax.ShapeDtypeStruct | jax.Array | np.ndarray | np.generic):
        return type(x).__name__
    return f"{x.dtype.name}[{', '.join(map(str, x.shape))}]"


def _check_key(key: Any, where: str) -> None:
    if type(key) is not str:
        got = f"the key {key!r} of type {type(key).__name__}"
        raise wrong_type(where, "dict keys of type str", told=got, fix="Name the entries by strings, or save a list.")
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise invalid(where, "dict keys that are valid Unicode", told=f"the key {key!r}", fix="Rename it.") from error


def check_concrete(x: Arrays, where: str) -> None:
    """Raises TypeError for a traced leaf."""
    if isinstance(x, jax.core.Tracer):
        fix = "Files are read and written outside jit, grad, vmap and scan."
        raise wrong_type(where, "concrete arrays", told=f"a traced {describe(x)}", fix=fix)


def _check_array(x: jax.Array, where: str) -> None:
    check_concrete(x, where)
    if x.is_deleted():
        fix = "Save before it is donated, or save the result of the call that took it."
        raise invalid(where, "an array that is still there", told=f"a deleted {describe(x)}", fix=fix)


def name_of(path: Iterable[str]) -> str:
    """A path as one string, unique for each path."""
    return entry("/".join(map(escaped, path)))


def escaped(key: str) -> str:
    """A key as it is written in such a string."""
    return key.replace("~", "~0").replace("/", "~1")


def entry(joined: str) -> str:
    """The header name of a joined path. `__metadata__` is escaped: the header uses that name itself."""
    return "~__metadata__" if joined == "__metadata__" else joined


def at(where: str, name: str) -> str:
    """The location of a leaf as text for an error."""
    return f"{where} at {shown(name) or 'the root'}"


def some(names: Collection[str]) -> str:
    """The first names of a collection as text, and the number of the remaining ones."""
    listed = ", ".join(shown(name) or "the root" for name in itertools.islice(names, LISTED))
    return listed + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
