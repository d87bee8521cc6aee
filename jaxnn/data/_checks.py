"""Checks of data on the host: lengths of arrays, seeds, labels and classes."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn._errors import invalid, wrong_type
from jaxnn._inputs import to_arrays, to_numbers, whole
from jaxnn.data._datasets import Dataset
from jaxnn.types import Arrays, Key


def rows_of(where: str, data: Arrays) -> int:
    """Common size of axis 0 of all leaves."""
    if isinstance(data, Dataset):
        raise wrong_type(where, "data to be arrays", data, to_arrays(data))
    leaves = jax.tree_util.tree_leaves_with_path(data)
    lengths = {}
    for path, leaf in leaves:
        name = f"data{jax.tree_util.keystr(path)}"
        if not isinstance(leaf, np.ndarray | jax.Array):
            plain = isinstance(leaf, str | bool | int | float)
            fix = "A list is a tree of its elements: np.asarray it." if plain else to_numbers(leaf)
            raise wrong_type(where, f"{name} to be an array", leaf, fix)
        if isinstance(leaf, jax.core.Tracer):
            raise wrong_type(where, f"{name} to be a concrete array", leaf, "Call it outside of jit and vmap.")
        if leaf.ndim == 0:
            raise invalid(where, f"{name} of shape [n, ...]", leaf)
        lengths[name] = len(leaf)
    if len(set(lengths.values())) != 1:
        got = ", ".join(f"{name} of {length}" for name, length in lengths.items()) or "no array"
        raise invalid(where, "arrays of equal length", told=got)
    return len(leaves[0][1])


def entropy_of(where: str, key: Key | int) -> int | list[int]:
    """A seed or key as a seed of NumPy."""
    seed = whole(key)
    if seed is not None:
        if seed < 0:
            raise invalid(where, "key to be a seed >= 0", key)
        return seed
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.ndim == 0:
            return np.asarray(jax.random.key_data(key)).tolist()
    elif isinstance(key, np.ndarray | jax.Array) and key.dtype == np.uint32 and key.ndim == 1:
        return np.asarray(key).tolist()
    raise wrong_type(where, "key to be an int or one JAX key", key)


def labels_of(labels: Arrays, rows: int) -> np.ndarray:
    """Labels for a stratified split, [rows]."""
    labels = np.asarray(labels)
    if labels.dtype.kind not in "biuU":
        raise wrong_type("split", "stratify of integers or strings", labels)
    if labels.shape != (rows,):
        raise invalid("split", f"stratify of shape [{rows}]", labels)
    return labels


def strings_of(array: np.ndarray) -> list[str]:
    """The labels of an array of strings, in order."""
    strings = array.ravel().tolist()
    for label in strings:
        if not isinstance(label, str):
            raise wrong_type("encode", "labels to be strings", label, "Integers are codes already.")
    return strings


def check_known(labels: list[str], codes: dict[str, int]) -> None:
    """Raises for a label that has no code."""
    for label in labels:
        if label not in codes:
            raise invalid("encode", f"labels among {_some(tuple(codes))}", label, "Add it to classes.")


def check_codes(codes: np.ndarray, classes: tuple[str, ...]) -> None:
    """Raises unless `codes` are integer codes of the classes, or one-hot rows."""
    if jnp.issubdtype(codes.dtype, jnp.floating) or codes.dtype == bool:
        if codes.ndim == 0 or codes.shape[-1] != len(classes):
            raise invalid("decode", f"rows of shape [..., {len(classes)}], or integer codes", codes)
        if not (((codes == 0) | (codes == 1)).all() and (codes.sum(-1) == 1).all()):
            fix = "Take argmax(-1) of scores; a label out of range is NaN."
            raise invalid("decode", "one-hot rows", told="others", fix=fix)
        return
    if not jnp.issubdtype(codes.dtype, jnp.integer):
        raise wrong_type("decode", "integer codes or one-hot rows", codes)
    outside = codes[(codes < 0) | (codes >= len(classes))]
    if outside.size:
        raise invalid("decode", f"codes of {_some(classes)}", told=str(outside[0]))


def classes_of(where: str, classes: Sequence[str]) -> tuple[str, ...]:
    """Classes as a tuple of distinct strings."""
    classes = tuple(classes)
    for name in classes:
        if not isinstance(name, str):
            raise wrong_type(where, "classes to be strings", name)
        if name.endswith("\0"):
            raise invalid(where, "classes that a NumPy string can hold", name, "It drops a null at the end.")
    if len(set(classes)) < len(classes):
        twice = next(name for name in classes if classes.count(name) > 1)
        raise invalid(where, "classes to differ", told=f"{twice!r} twice")
    return classes


def _some(classes: tuple[str, ...]) -> str:
    first = ", ".join(map(repr, classes[:5])) + (", ..." if len(classes) > 5 else "")
    return f"the {len(classes)} classes {first}" if classes else "no classes"
