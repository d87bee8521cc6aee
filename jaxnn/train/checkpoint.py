"""Trees to disk and back: `save` writes one safetensors file, `load` reads it and runs nothing that it names."""

import io
import json
import math
import os
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn._errors import InvalidValue, describe, invalid, wrong_type
from jaxnn.train._safetensors import CODES, Tensor, check_sum, parse_json, read_array, read_header, write

Tree = Any

_VERSION = 1
_DEPTH = 100  # levels of nesting; bounds the recursion over a hostile file and over a list that holds itself
_LISTED = 8  # differences named in one error, of each kind
_DAMAGED = "It is damaged, or was not written by `save`."


class Differs(InvalidValue):
    """The leaves of a file are not those of `like`."""

    def __init__(self, where: str, differences: str):
        error = invalid(where, "the leaves of `like`", differences, "Change `like`, or load without it.")
        super().__init__(where, error.message)
        self.differences = differences


def save(path: str | os.PathLike[str], tree: Tree) -> None:
    """Write a tree to one safetensors file, all of it or, when anything fails, nothing: an older file stays as it was.

    A tree is nested from dict (with str keys), list, tuple, NamedTuple and None; its leaves are NumPy and JAX arrays
    (bool, int, uint, float, bfloat16, float8 and complex64), NumPy scalars, typed PRNG keys, and Python bool, int,
    float, complex and str. All come back from `load` to the bit, except that arrays become contiguous and of native
    byte order, JAX arrays lose weak types and shardings, and leaves that share memory no longer do.

    An array is stored under its path, `params/stem/conv/w`, for any reader of safetensors; in dict keys `~` is written
    `~0` and `/` is written `~1` (RFC 6901), and a path that is all of `__metadata__` gets a `~` in front. The metadata
    hold the structure and the Python leaves as JSON, under `jaxnn`, and a checksum of the file, under `crc32`. The
    safetensors package reads complex64 from version 0.7 on, float8_e4m3fnuz and float8_e5m2fnuz from 0.8 on.

    The file is written beside `path` under a hidden name, synced, and renamed; a process that is killed may leave that
    hidden file. If only the sync of the folder fails, last of all, the new file is in place and the OSError is raised.
    Through a symbolic link its target is replaced. Arrays sharded over the devices of this process are gathered.

    Raises TypeError for another node, leaf, key or dtype, and for traced arrays; ValueError if the folder is missing or
    `path` is no file, for a deleted (donated) array or one spread over other processes, and past 100 levels. What is
    wrong in the tree is named by its path. Unlike `torch.save`, no pickle: the file cannot run code.

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
    >>> save(path, {"w": jnp.ones((2, 3), jnp.bfloat16), "epoch": 3, "key": jax.random.key(0)})
    >>> load(path)["w"].dtype, load(path)["epoch"], load(path)["key"].dtype
    (dtype(bfloat16), 3, key<fry>)
    """
    _check_path("save", path, "save(path, tree)")
    arrays: dict[str, Any] = {}
    structure = {"version": _VERSION, "tree": _encode(tree, (), arrays)}
    write(path, arrays, {"jaxnn": json.dumps(structure, separators=(",", ":"), allow_nan=False)})


def load(path: str | os.PathLike[str], like: Tree = None) -> Tree:
    """Read a tree that `save` wrote: the same structure, classes and leaves, or those of `like`.

    Without `like`, what was a JAX array comes back as one, uncommitted on the default device, and what was NumPy as
    NumPy. A NamedTuple's class is looked up by module and name among the modules imported by now: none is imported and
    none of the class's code runs.

    Args:
      like: a tree of arrays, `jax.ShapeDtypeStruct`s or Python leaves; any registered pytree will do. The leaves of the
        file are put in its structure by their paths, so a file outlives a class that moved or was renamed; shapes
        and dtypes (of a Python leaf its type) must agree. A leaf comes back as NumPy where `like` has NumPy, else as a
        JAX array, with the sharding of a committed array or of a `ShapeDtypeStruct` that has one. The names of a
        safetensors file from elsewhere are taken for paths.

    Raises ValueError, naming the file, if it is cut short, damaged or lies about itself; without `like`, if it has no
    structure of ours or names a class that is not imported or has other fields; with `like`, if paths are missing or
    unexpected or differ, all in one message; and if a 64-bit array is to become a JAX array while `jax_enable_x64` is
    off: nothing is cut to 32 bits. A missing file is a FileNotFoundError. Unlike `torch.load`, no pickle.

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "weights.safetensors")
    >>> save(path, {"w": np.eye(2), "b": (1.5, None)})
    >>> load(path)
    {'w': array([[1., 0.],
           [0., 1.]]), 'b': (1.5, None)}
    >>> load(path, like={"w": np.zeros((2, 3)), "b": [0.0]})
    Traceback (most recent call last):
    ...
    jaxnn.train.checkpoint.Differs: load .../weights.safetensors: expected the leaves of `like`, got 1 that differ
    (w: float64[2, 2], not float64[2, 3]). Change `like`, or load without it.
    """
    _check_path("load", path, "load(path, like)")
    where = f"load {os.fspath(path)}"
    with open(path, "rb") as file:
        tensors, metadata = read_header(file, where)
        check_sum(file, metadata, where)
        if "jaxnn" not in metadata:
            if like is None:
                fix = "Pass `like`, a tree whose paths are the names of its arrays."
                raise invalid(where, "a file written by `save`", "a safetensors file without our structure", fix)
            found = {name: _Stored(tensor, "jax", _spec(tensor)) for name, tensor in tensors.items()}
            return _fill(file, like, found, where)
        structure = _structure(metadata["jaxnn"], where)
        if like is not None:
            found = {}
            _decode(structure, tensors, found.__setitem__, lambda *_: None, where)
            return _fill(file, like, found, where)

        def read(name: str, leaf: Any) -> Any:
            return _read(file, leaf, _at(where, name)) if isinstance(leaf, _Stored) else leaf

        return _decode(structure, tensors, read, _instance, where)


# The structure: JSON values for None, bool, str and plain numbers, an object of one key for everything else.


def _encode(node: Tree, path: tuple[str, ...], arrays: dict[str, Any]) -> Any:
    """One node as JSON; the arrays in it go into `arrays` by name."""
    name = _name(path)
    where = _at("save", name)
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
        return {"dict": {key: _encode(child, (*path, key), arrays) for key, child in node.items()}}
    if type(node) is list or type(node) is tuple:
        return {type(node).__name__: [_encode(child, (*path, str(i)), arrays) for i, child in enumerate(node)]}
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        fields = {f: _encode(child, (*path, f), arrays) for f, child in zip(node._fields, node, strict=True)}
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


def _structure(text: str, where: str) -> Any:
    error = invalid(where, "a structure as `save` writes it", "one that is not a JSON object", _DAMAGED)
    structure = parse_json(text.encode(errors="replace"), error)
    if structure.keys() != {"version", "tree"} or structure["version"] != _VERSION:
        raise invalid(where, f"a structure of version {_VERSION}", "another", "A newer jaxnn may have written it.")
    return structure["tree"]


def _decode(
    structure: Any,
    tensors: dict[str, Tensor],
    leaf: Callable[[str, Any], Any],
    instance: Callable[[str, str, dict[str, Any], str], Any],
    where: str,
) -> Tree:
    """The tree of a structure, whose leaves and NamedTuples are made by `leaf` and `instance`."""
    unused = dict(tensors)

    def bad(got: str, name: str) -> InvalidValue:
        return invalid(_at(where, name), "a structure as `save` writes it", got, _DAMAGED)

    def decode(node: Any, path: tuple[str, ...]) -> Any:
        name = _name(path)
        if len(path) > _DEPTH:
            raise bad(f"more than {_DEPTH} levels", name)
        if node is None:
            return None
        if isinstance(node, bool | int | float | str):
            return leaf(name, node)
        tag, body = next(iter(node.items())) if type(node) is dict and len(node) == 1 else ("", "")
        match tag, body:
            case "dict", dict():
                return {key: decode(child, (*path, key)) for key, child in body.items()}
            case "list", list():
                return [decode(child, (*path, str(i))) for i, child in enumerate(body)]
            case "tuple", list():
                return tuple([decode(child, (*path, str(i))) for i, child in enumerate(body)])
            case "namedtuple", [str(module), str(qualname), dict(fields)]:
                values = {field: decode(child, (*path, field)) for field, child in fields.items()}
                return instance(module, qualname, values, _at(where, name))
            case "int" | "float" | "complex", str():
                return leaf(name, number(tag, body, name))
            case ("array", "jax" | "numpy" | "scalar") | ("key", str()):
                tensor = unused.pop(name, None)
                if tensor is None:
                    raise bad("an array that is not in the file", name)
                return leaf(name, keys(tensor, body, name) if tag == "key" else _Stored(tensor, body, _spec(tensor)))
        raise bad("an unknown node", name)

    def number(tag: str, text: str, name: str) -> Any:
        try:
            return int(text, 16) if tag == "int" else float(text) if tag == "float" else complex(text)
        except ValueError as error:
            raise bad(f"an unreadable {tag}", name) from error

    def keys(tensor: Tensor, impl: str, name: str) -> _Stored:
        try:
            key = jax.eval_shape(lambda: jax.random.key(0, impl=impl))
        except ValueError as error:
            raise bad(f"keys of an unknown implementation {impl!r}", name) from error
        words = jax.eval_shape(jax.random.key_data, key).shape
        if tensor.dtype != np.uint32 or tensor.shape[-1:] != words:
            raise bad(f"keys of {impl} in {_spec(tensor)}, which is not uint32[..., {words[0]}]", name)
        return _Stored(tensor, "keys", _spec(jax.ShapeDtypeStruct(tensor.shape[:-1], key.dtype)), impl)

    tree = decode(structure, ())
    if unused:
        raise invalid(where, "a structure that holds every array", f"one without {_some(unused)}", _DAMAGED)
    return tree


def _instance(module: str, qualname: str, fields: dict[str, Any], where: str) -> Any:
    """A NamedTuple of a class that is imported already, found and made without running any of its code."""
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


# The leaves.


class _Stored(NamedTuple):
    """An array of the file and what it comes back as: jax, numpy, scalar, or keys of the implementation `impl`."""

    tensor: Tensor
    kind: str
    spec: str
    impl: str | None = None


def _fill(file: io.BufferedReader, like: Tree, found: dict[str, Any], where: str) -> Tree:
    """`like` with the leaves of the file in the places of its own."""
    leaves, treedef = jax.tree_util.tree_flatten_with_path(like)
    wanted = {_name(jax.tree_util.keystr((k,), simple=True) for k in keys): leaf for keys, leaf in leaves}
    if len(wanted) != len(leaves):
        raise invalid(where, "leaves of `like` with different paths", "two with one path", "Convert it to dicts.")
    missing = [name for name in wanted if name not in found]
    unexpected = [name for name in found if name not in wanted]
    different = []
    for name, leaf in wanted.items():
        _check_concrete(leaf, _at(where, name))
        if name in found and _spec(found[name]) != _spec(leaf):
            different.append(f"{name or 'the root'}: {_spec(found[name])}, not {_spec(leaf)}")
    groups = {"missing": missing, "unexpected": unexpected, "that differ": different}
    got = "; ".join(f"{len(names)} {group} ({_some(names)})" for group, names in groups.items() if names)
    if got:
        raise Differs(where, got)
    restored = []
    for name, leaf in wanted.items():
        stored = found[name]
        restored.append(_read(file, stored, _at(where, name), leaf) if isinstance(stored, _Stored) else stored)
    return jax.tree.unflatten(treedef, restored)


def _read(file: io.BufferedReader, stored: _Stored, where: str, like: Any = None) -> Any:
    """One array, as NumPy or JAX or with the sharding as `like` has it, or as it was."""
    tensor, kind = stored.tensor, stored.kind
    if like is not None and stored.impl is None:
        kind = "numpy" if isinstance(like, np.ndarray) else "scalar" if isinstance(like, np.generic) else "jax"
    if kind == "jax" and jax.dtypes.canonicalize_dtype(tensor.dtype) != tensor.dtype:
        fix = "Enable jax_enable_x64, or pass `like` with NumPy arrays."
        raise invalid(where, "an array that JAX holds with jax_enable_x64 off", stored.spec, fix)
    array = read_array(file, tensor, where)
    if kind == "numpy":
        return array
    if kind == "scalar":
        return array[()]
    sharding = getattr(like, "sharding", None) if getattr(like, "committed", True) else None
    placed = jnp.asarray(array) if sharding is None else jax.device_put(array, sharding)
    return placed if stored.impl is None else jax.random.wrap_key_data(placed, impl=stored.impl)


def _spec(x: Any) -> str:
    """The dtype and shape of an array, the type of another leaf."""
    if isinstance(x, _Stored):
        return x.spec
    if not isinstance(x, Tensor | jax.ShapeDtypeStruct | jax.Array | np.ndarray | np.generic):
        return type(x).__name__
    return f"{x.dtype.name}[{', '.join(map(str, x.shape))}]"


# Checks and names.


def _check_path(where: str, path: Any, call: str) -> None:
    if not isinstance(path, str | os.PathLike):
        raise wrong_type(where, "a path (str or os.PathLike)", type(path).__name__, f"The order is {call}.")


def _check_key(key: Any, where: str) -> None:
    if type(key) is not str:
        got = f"the key {key!r} of type {type(key).__name__}"
        raise wrong_type(where, "dict keys of type str", got, "Name the entries by strings, or save a list.")
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise invalid(where, "dict keys that are valid Unicode", f"the key {key!r}", "Rename it.") from error


def _check_concrete(x: Any, where: str) -> None:
    if isinstance(x, jax.core.Tracer):
        fix = "Files are read and written outside jit, grad, vmap and scan."
        raise wrong_type(where, "concrete arrays", f"a traced {describe(x)}", fix)


def _check_array(x: jax.Array, where: str) -> None:
    _check_concrete(x, where)
    if x.is_deleted():
        fix = "Save before it is donated, or save the result of the call that took it."
        raise invalid(where, "an array that is still there", f"a deleted {describe(x)}", fix)
    if not (x.is_fully_addressable or x.is_fully_replicated):
        fix = "Gather it in all processes by jax.experimental.multihost_utils.process_allgather(x, tiled=True)."
        raise invalid(where, "an array on the devices of this process", f"{describe(x)}, partly on others", fix)


def _name(path: Iterable[str]) -> str:
    """The path as one string, different for different paths."""
    name = "/".join(key.replace("~", "~0").replace("/", "~1") for key in path)
    return "~__metadata__" if name == "__metadata__" else name  # the header's own entry has that name


def _at(where: str, name: str) -> str:
    return f"{where} at {name or 'the root'}"


def _some(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    shown = [name or "the root" for name in names]
    return ", ".join(shown[:_LISTED]) + (f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else "")
