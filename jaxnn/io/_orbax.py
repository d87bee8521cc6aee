"""Trees saved as a folder: one safetensors file, and next to it an orbax checkpoint with the large arrays.

    tree.safetensors    structure, Python leaves and the arrays that orbax does not store; names the arrays folder
    arrays-1/           the other arrays, by name, in the format of orbax: each process writes its own parts

The folder is replaced atomically: new arrays are written next to the old ones, `tree.safetensors` is replaced, and the
old arrays are removed. If a process is killed at any point, the folder holds the old tree or the new one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxnn._errors import InvalidValue, invalid
from jaxnn.io._files import TEMPORARY, alone, naming, remove_abandoned
from jaxnn.io._safetensors import CODES, DTYPES, Tensor, is_possible, parse_json, shown, write
from jaxnn.io._structure import DAMAGED
from jaxnn.types import Arrays

TREE = "tree.safetensors"
SUFFIX = ".orbax"
_ARRAYS = re.compile(r"arrays-(\d{1,9})")

Path = str | os.PathLike[str]


def is_folder(path: Path, arrays: Mapping[str, Any]) -> bool:
    """True if a tree is saved as a folder: `path` ends in `.orbax` or is such a folder, or processes share an array."""
    asked = os.fspath(path).rstrip("/").endswith(SUFFIX) or os.path.isfile(os.path.join(path, TREE))
    return asked or any(_is_spread(x) for x in arrays.values())


def _is_spread(x: Arrays) -> bool:
    return isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated)


def _is_for_orbax(x: Arrays) -> bool:
    """True for the arrays that orbax stores: not empty, and with several processes only arrays that span processes."""
    return isinstance(x, jax.Array) and x.size > 0 and (jax.process_count() == 1 or not x.is_fully_addressable)


def write_folder(path: Path, arrays: Mapping[str, Any], metadata: dict[str, str]) -> None:
    """Writes arrays by name and metadata into a folder; all processes must call it, each with its own parts."""
    folder = os.path.realpath(path)
    if not os.path.isdir(os.path.dirname(folder)):
        fix = "Create it by os.makedirs(folder, exist_ok=True)."
        raise invalid("save", "an existing folder", told=os.path.dirname(folder), fix=fix)
    if os.path.lexists(folder) and not _is_ours(folder):
        raise invalid(
            "save", "a path that is free or was written by `save`", told=f"{folder}, which is neither", fix="Move it."
        )
    large = {name: x for name, x in arrays.items() if _is_for_orbax(x)}
    with naming(folder), contextlib.ExitStack() as stack:
        checkpointer = stack.enter_context(_checkpointer("save")) if large else None
        os.makedirs(folder, exist_ok=True)
        if jax.process_index() == 0:
            stack.enter_context(alone(folder))  # another writer would remove the new arrays as old ones
        current = ""
        if large:
            current = _next(folder)
            _write_arrays(checkpointer, os.path.join(folder, current), large)
            entries = {name: [CODES[x.dtype.name], x.shape] for name, x in large.items()}
            metadata = {**metadata, "orbax": json.dumps({"folder": current, "arrays": entries}, separators=(",", ":"))}
        if jax.process_index() == 0:
            write(os.path.join(folder, TREE), {name: x for name, x in arrays.items() if name not in large}, metadata)
            for entry in os.listdir(folder):
                if _ARRAYS.match(entry) and entry != current:
                    shutil.rmtree(os.path.join(folder, entry), ignore_errors=True)
            remove_abandoned(folder)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"save {folder}")


def _write_arrays(checkpointer: Any, folder: str, arrays: Mapping[str, Any]) -> None:
    """Writes arrays by orbax; its errors, for example for a full disk, are raised as OSError."""
    try:
        checkpointer.save(folder, arrays)
        checkpointer.wait_until_finished()
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"orbax cannot write, {type(error).__name__}: {shown(str(error))}") from error


def _is_ours(folder: str) -> bool:
    """True for a folder that holds nothing but files of `write_folder`, complete or left by a killed process."""
    return os.path.isdir(folder) and all(
        name == TREE or _ARRAYS.match(name) or TEMPORARY.fullmatch(name) for name in os.listdir(folder)
    )


def _next(folder: str) -> str:
    """Name of the next arrays folder, the same in all processes."""
    number = 1 + max((int(m[1]) for m in map(_ARRAYS.match, os.listdir(folder)) if m), default=0)
    if jax.process_count() > 1:
        number = int(multihost_utils.broadcast_one_to_all(np.int32(number)))
    return f"arrays-{number}"


def tree_file(path: Path, where: str) -> str:
    """Path of the safetensors file at `path`, which is this file or a folder that `write_folder` wrote."""
    if not os.path.isdir(path):
        if os.path.exists(path) and not os.path.isfile(path):  # to open a pipe would wait for its writer
            raise invalid(where, "a file or a folder written by `save`", told="a device or a pipe")
        return os.fspath(path)
    file = os.path.join(path, TREE)
    if not os.path.isfile(file):
        raise invalid(where, "a file or a folder written by `save`", told=f"a folder without {TREE}")
    return file


def listed(metadata: Mapping[str, str], others: Collection[str], where: str) -> tuple[str, dict[str, Tensor]]:
    """The name of the arrays folder and the arrays in it by name; ("", {}) if there is none.

    Args:
      metadata: metadata of the safetensors file.
      others: names of the arrays in that file; none of them may be repeated.
      where: start of error messages.
    """
    if "orbax" not in metadata:
        return "", {}

    def bad(_: str = "") -> InvalidValue:
        return invalid(where, "a list of the arrays with orbax, as `save` writes it", told="another", fix=DAMAGED)

    match parse_json(metadata["orbax"].encode(errors="replace"), bad):
        case {"folder": str(folder), "arrays": dict(entries)} if _ARRAYS.fullmatch(folder):
            pass
        case _:
            raise bad()
    tensors = {}
    for name, entry in entries.items():
        match entry:
            case [str(code), [*shape]] if (
                name not in others
                and code in DTYPES
                and all(type(n) is int and 0 < n < 2**63 for n in shape)
                and is_possible(shape, DTYPES[code].itemsize)
            ):
                tensors[name] = Tensor(tuple(shape), DTYPES[code], -1)
            case _:
                raise bad()
    return folder, tensors


def read_folder(folder: str, wanted: Mapping[str, tuple[Tensor, Any]], where: str) -> dict[str, Any]:
    """Arrays of an orbax folder by name: JAX arrays if a sharding is given, NumPy arrays otherwise.

    Args:
      folder: path of the arrays folder.
      wanted: name -> (tensor, sharding or None); exactly the arrays of the folder.
      where: start of error messages.
    """
    if not wanted:
        return {}
    targets = {
        name: np.broadcast_to(np.zeros((), tensor.dtype), tensor.shape)
        if sharding is None
        else jax.ShapeDtypeStruct(tensor.shape, tensor.dtype, sharding=sharding)
        for name, (tensor, sharding) in wanted.items()
    }
    with _checkpointer("load") as checkpointer:
        expected = f"the arrays of {TREE} in {os.path.basename(folder)}"
        if not os.path.isdir(folder):
            raise invalid(where, expected, told="no such folder", fix=DAMAGED)
        try:
            there = dict(checkpointer.metadata(os.path.abspath(folder)).item_metadata)
            if {name: (x.shape, x.dtype) for name, x in there.items()} != {
                name: (tensor.shape, tensor.dtype) for name, (tensor, _) in wanted.items()
            }:
                raise invalid(
                    where, expected, told="others", fix=DAMAGED
                )  # orbax would cut them, fill them up and convert them
            return checkpointer.restore(os.path.abspath(folder), targets)
        except InvalidValue:
            raise
        except Exception as error:  # which ones orbax and tensorstore raise for damaged files is not documented
            raise invalid(where, expected, told=f"an error of orbax, {type(error).__name__}", fix=DAMAGED) from error


@contextlib.contextmanager
def _checkpointer(where: str) -> Iterator[Any]:
    try:
        import orbax.checkpoint
    except ImportError as error:
        fix = 'Run `pip install "jaxnn[orbax]"`.'
        raise invalid(where, "orbax-checkpoint, which writes and reads sharded arrays", told="none", fix=fix) from error
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        yield checkpointer
