"""Saving and loading trees: `save` writes a safetensors file, or a folder by orbax; `load` runs no code of the file."""

from __future__ import annotations

import io
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn._errors import InvalidValue, invalid, wrong_type
from jaxnn.io._decode import decode, instance, no_instance
from jaxnn.io._orbax import is_folder, listed, read_folder, tree_file, write_folder
from jaxnn.io._safetensors import Tensor, check_sum, read_array, read_header, write
from jaxnn.io._structure import (
    LISTED,
    Stored,
    at,
    check_concrete,
    encode,
    name_of,
    parse,
    some,
    spec,
)
from jaxnn.types import Arrays

Tree = Any

_FOREIGN = object()  # structure of a file that another program wrote; None would be the structure of a saved None


class Differs(InvalidValue):
    """The leaves of a file differ from those of `like`."""

    def __init__(self, where: str, differences: str):
        error = invalid(where, "the leaves of `like`", told=differences, fix="Change `like`, or load without it.")
        super().__init__(where, error.message)
        self.differences = differences


def save(path: str | os.PathLike[str], tree: Tree) -> None:
    """Saves a tree of arrays and Python values as one safetensors file, atomically: on failure an older file remains.

    A tree consists of dict (with str keys), list, tuple, NamedTuple, None and the vectors of `nn.flat`. Its
    leaves are NumPy and JAX arrays (bool, int, uint, float, bfloat16, float8 and complex64), NumPy scalars, typed PRNG
    keys, and Python bool, int, float, complex and str. `load` restores all of them bit for bit, with these exceptions:
    arrays become contiguous and of native byte order, JAX arrays lose weak types and shardings, and leaves no longer
    share memory.

    Each array is stored under its path, such as `params/stem/conv/w`, for any reader of safetensors. In dict keys `~`
    is written `~0` and `/` is written `~1` (RFC 6901); the path `__metadata__` gets the prefix `~`. The metadata hold
    the structure and the Python leaves as JSON, under `jaxnn`, and a checksum of the file, under `crc32`. The
    safetensors package reads complex64 from version 0.7 on, float8_e4m3fnuz and float8_e5m2fnuz from 0.8 on.

    The file is written under a hidden temporary name in the same folder, synced, and renamed; a killed process may
    leave the hidden file. If only the final sync of the folder fails, the new file is in place and the OSError is
    raised. For a symbolic link the target is replaced. Arrays sharded over the devices of this process are gathered.

    A folder is written instead if `path` ends in `.orbax`, or if an array is sharded over several processes, all of
    which must then call `save`. Each process writes its own parts by orbax-checkpoint (`pip install "jaxnn[orbax]"`);
    nothing is gathered. A safetensors file in the folder holds the rest: structure, Python leaves, NumPy arrays, and
    arrays that are local to each process, with the values of the first process. The folder is replaced atomically too.

    Args:
      path: path of the file or folder, str or os.PathLike; its parent folder must exist.
      tree: the tree; at most 100 levels.

    Raises:
      TypeError: for another type of node, leaf, key or dtype, and for traced arrays.
      ValueError: if the parent folder is missing, `path` is not a regular file, an array is deleted (donated), or the
        tree has more than 100 levels or exceeds the limits of the header, about 13 000 arrays or 200 000 Python
        numbers.
      OSError: for example for a full disk. Errors about the tree name the path in the tree, an OSError names `path`.

    Differences: unlike `torch.save` there is no pickle: the file cannot run code.

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
    >>> save(path, {"w": jnp.ones((2, 3), jnp.bfloat16), "epoch": 3, "key": jax.random.key(0)})
    >>> load(path)["w"].dtype, load(path)["epoch"], load(path)["key"].dtype
    (dtype(bfloat16), 3, key<fry>)
    """
    save_with(path, tree, {})


def save_with(path: str | os.PathLike[str], tree: Tree, metadata: dict[str, str]) -> None:
    """`save` with additional metadata, name -> text."""
    _check_path("save", path, "save(path, tree)")
    arrays: dict[str, Any] = {}
    metadata = {"jaxnn": encode(tree, arrays), **metadata}
    (write_folder if is_folder(path, arrays) else write)(path, arrays, metadata)


def load(path: str | os.PathLike[str], like: Tree = None) -> Tree:
    """Loads a tree that `save` wrote: the same structure, classes and leaves, or the structure of `like`.

    Without `like`, JAX arrays are restored as JAX arrays, uncommitted on the default device, and NumPy arrays as NumPy
    arrays. The class of a NamedTuple is looked up by module and name among the modules that are already imported:
    `load` imports no module and runs no code of the class.

    Args:
      path: path of the file or folder, str or os.PathLike.
      like: a tree of arrays, `jax.ShapeDtypeStruct`s or Python leaves, with any registered pytree nodes. The leaves of
        the file are placed in its structure by their paths, so a file remains readable after a class is moved or
        renamed. Shapes and dtypes, or the types of Python leaves, must agree. A leaf is NumPy where `like` has NumPy,
        otherwise a JAX array, with the sharding of a committed array or of a `ShapeDtypeStruct` that has one: from a
        folder each process then reads only its own parts. For a safetensors file of another program the names of the
        arrays are the paths. None restores the saved structure.

    Returns:
      The tree.

    Raises:
      ValueError: if the file is truncated, damaged or inconsistent, found before much time or memory is used; without
        `like`, if the file has no structure written by `save`, or names a class that is not imported or has other
        fields; with `like`, if paths are missing, unexpected or differ, all in one message; and if a 64-bit array would
        become a JAX array while `jax_enable_x64` is off: nothing is truncated to 32 bits. The message names the file.
      FileNotFoundError: if there is no such file.

    Differences: unlike `torch.load` there is no pickle.

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "weights.safetensors")
    >>> save(path, {"w": np.eye(2), "b": (1.5, None)})
    >>> load(path)
    {'w': array([[1., 0.],
           [0., 1.]]), 'b': (1.5, None)}
    >>> load(path, like={"w": np.zeros((2, 3)), "b": [0.0]})
    Traceback (most recent call last):
    ...
    jaxnn.io._checkpoint.Differs: load .../weights.safetensors: expected the leaves of `like`, got 1 that differ
    (w: float64[2, 2], not float64[2, 3]). Change `like`, or load without it.
    """
    _check_path("load", path, "load(path, like)")
    where = f"load {os.fspath(path)}"
    name = tree_file(path, where)
    with open(name, "rb") as file:
        tensors, metadata = read_header(file, where)
        check_sum(file, metadata, where)
        folder, apart = listed(metadata, tensors, where)
        tensors |= apart
        structure = parse(metadata["jaxnn"], where) if "jaxnn" in metadata else _FOREIGN
        if structure is _FOREIGN and like is None:
            fix = "Pass `like`, a tree whose paths are the names of its arrays."
            raise invalid(where, "a file written by `save`", told="a safetensors file without our structure", fix=fix)
        wanted = None if like is None else _wanted(like, where)
        found = _found(structure, tensors, wanted, where)
        values = _read(file, os.path.join(os.path.dirname(name), folder), found, wanted or {}, where)
    if wanted is None:
        return decode(structure, tensors, lambda name, plain: values.get(name, plain), instance, where)
    return jax.tree.unflatten(jax.tree.structure(like), [values[name] for name in wanted])


def _wanted(like: Tree, where: str) -> dict[str, Any]:
    """The leaves of `like` by name."""
    leaves = jax.tree.leaves_with_path(like)
    wanted = {name_of(jax.tree_util.keystr((k,), simple=True) for k in keys): leaf for keys, leaf in leaves}
    if len(wanted) != len(leaves):
        raise invalid(
            where, "leaves of `like` with different paths", told="two with one path", fix="Convert it to dicts."
        )
    for name, leaf in wanted.items():
        check_concrete(leaf, at(where, name))
    return wanted


def _found(structure: Any, tensors: dict[str, Tensor], wanted: dict[str, Any] | None, where: str) -> dict[str, Any]:
    """The arrays of a file by name; with `wanted` all leaves, which must match it."""
    found: dict[str, Any] = {}
    unexpected: list[str] = []

    def take(name: str, leaf: Any) -> None:
        if wanted is None:
            if isinstance(leaf, Stored):  # other leaves are in the structure, and their paths may be long
                found[name] = leaf
        elif name in wanted:
            found[name] = leaf
        else:
            unexpected.append(name if len(unexpected) < LISTED else "")

    if structure is _FOREIGN:
        for name, tensor in tensors.items():
            take(name, Stored(tensor, "jax", spec(tensor)))
    else:
        decode(structure, tensors, take, instance if wanted is None else no_instance, where)
    if wanted is not None:
        _check_leaves(wanted, found, unexpected, where)
    return found


def _check_leaves(wanted: dict[str, Any], found: dict[str, Any], unexpected: list[str], where: str) -> None:
    """Raises `Differs` unless the leaves of a file match those of `like`."""
    missing = [name for name in wanted if name not in found]
    different = [
        f"{name or 'the root'}: {spec(found[name])}, not {spec(leaf)}"
        for name, leaf in wanted.items()
        if name in found and spec(found[name]) != spec(leaf)
    ]
    groups = {"missing": missing, "unexpected": unexpected, "that differ": different}
    got = "; ".join(f"{len(names)} {group} ({some(names)})" for group, names in groups.items() if names)
    if got:
        raise Differs(where, got)


def _read(
    file: io.BufferedReader, folder: str, found: dict[str, Any], wanted: dict[str, Any], where: str
) -> dict[str, Any]:
    """The leaves by name; arrays with the type and sharding of `wanted`, or with the type that was saved."""
    stored = {name: leaf for name, leaf in found.items() if isinstance(leaf, Stored)}
    kinds = {name: _kind(leaf, wanted.get(name), at(where, name)) for name, leaf in stored.items()}
    apart = {name: (leaf.tensor, kinds[name][1]) for name, leaf in stored.items() if leaf.tensor.position < 0}
    arrays = read_folder(folder, apart, where)
    values = dict(found)
    for name, leaf in sorted(stored.items(), key=lambda item: item[1].tensor.dtype != np.bool_):  # bools may be damaged
        kind, sharding = kinds[name]
        array = arrays.pop(name) if name in apart else read_array(file, leaf.tensor, at(where, name))
        if kind == "numpy":
            values[name] = array
        elif kind == "scalar":
            values[name] = array[()]
        else:
            placed = jnp.asarray(array) if sharding is None else jax.device_put(array, sharding)
            values[name] = placed if leaf.impl is None else jax.random.wrap_key_data(placed, impl=leaf.impl)
    return values


def _kind(stored: Stored, like: Arrays, where: str) -> tuple[str, Any]:
    """The type in which an array is returned, and its sharding or None."""
    kind = stored.kind
    if like is not None and stored.impl is None:
        kind = "numpy" if isinstance(like, np.ndarray) else "scalar" if isinstance(like, np.generic) else "jax"
    if kind == "jax" and jax.dtypes.canonicalize_dtype(stored.tensor.dtype) != stored.tensor.dtype:
        fix = "Enable jax_enable_x64, or pass `like` with NumPy arrays."
        raise invalid(where, "an array that JAX holds with jax_enable_x64 off", told=stored.spec, fix=fix)
    return kind, getattr(like, "sharding", None) if getattr(like, "committed", True) else None


def _check_path(where: str, path: Any, call: str) -> None:
    if not isinstance(path, str | os.PathLike):
        raise wrong_type(where, "a path (str or os.PathLike)", told=type(path).__name__, fix=f"The order is {call}.")
