"""Random splits and batches of a pytree of arrays, on the host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxnn import _checks as check
from jaxnn._errors import invalid, wrong_type
from jaxnn._inputs import to_arrays, to_numbers, whole
from jaxnn.data._datasets import Dataset
from jaxnn.types import Arrays, Key


def split(key: Key | int, data: Arrays, fraction: float, *, stratify: Arrays = None) -> tuple[Arrays, Arrays]:
    """Random split of a pytree of arrays [n, ...] into two: the rest, and a part with `fraction` of the examples.

    The part has round(fraction·n) examples, halves rounded up. With `stratify`, class c contributes fraction·n_c
    examples, rounded so that the total is the same: all are rounded down, and the classes with the largest remainders
    (on ties the first) get one more. Both parts are shuffled NumPy arrays that depend only on the seed, not on the
    version of NumPy.

    Args:
      key: int seed >= 0 or a JAX key.
      data: pytree of arrays with equal sizes of axis 0.
      fraction: size of the second part, in (0, 1).
      stratify: labels [n], integers or strings; both parts keep the class proportions. None ignores classes.

    Returns:
      (rest, part), pytrees like `data`.

    Raises:
      TypeError: if `key`, `fraction` or the labels have the wrong type, or a leaf is not an array.
      ValueError: if leaves differ in length, a part or the examples of a class in a part would be empty, or `fraction`
        is out of range.

    Differences: scikit-learn's `train_test_split` breaks ties at random and rounds the test part up.

    >>> rest, part = split(0, {"x": np.arange(8.0), "y": np.arange(8) % 2}, 0.5, stratify=np.arange(8) % 2)
    >>> np.bincount(part["y"]).tolist()
    [2, 2]
    """
    rows = _rows("split", data)
    check.scalar("split", "fraction", fraction, below=1.0, ends="()", static=True)
    size = int(_quota(fraction, rows) + 0.5)
    if not 0 < size < rows:
        raise invalid(
            "split", "an example or more in each part", told=f"{rows - size} and {size}", fix="Choose another fraction."
        )
    order = _permutation("split", key, rows)
    if stratify is None:
        chosen = np.arange(rows) < size
    else:
        classes, codes, counts = np.unique(_labels(stratify, rows), return_inverse=True, return_counts=True)
        quota = _quota(fraction, counts)
        share = np.floor(quota).astype(int)
        remainder = np.round(quota - share, 9)
        share[np.argsort(-remainder, kind="stable")[: size - share.sum()]] += 1
        for name, count, taken in zip(classes.tolist(), counts, share, strict=True):
            if not 0 < taken < count:
                got = f"class {name!r} with {count - taken} and {taken} of its {count}"
                raise invalid(
                    "split", "an example or more of each class in each part", told=got, fix="Choose another fraction."
                )
        codes = codes[order]
        chosen = np.empty(rows, bool)
        for code, taken in enumerate(share):
            (places,) = np.nonzero(codes == code)
            chosen[places] = np.arange(len(places)) < taken
    return _take(data, order[~chosen]), _take(data, order[chosen])


def batches(
    data: Arrays, batch_size: int, *, key: Key | int | None = None, drop_remainder: bool = False
) -> Iterator[Arrays]:
    """Iterator over batches [batch_size, ...] of a pytree of arrays [n, ...], as NumPy arrays.

    One pass over the data. The last batch holds the remaining examples, unless `drop_remainder`. Without a key, batches
    are views in order: a memory-mapped array is read one batch at a time, so five billion examples need the memory of
    one batch (some lecture notes call them infeasible). For training over many epochs see `fit`, which takes batches on
    the device.

    Args:
      data: pytree of arrays with equal sizes of axis 0.
      batch_size: examples per batch, >= 1.
      key: int seed >= 0 or a JAX key for shuffling; pass a different one for each epoch. None keeps the order.
      drop_remainder: True drops a last batch smaller than `batch_size`.

    Returns:
      Iterator of pytrees like `data`.

    Raises:
      TypeError: if `key` or `batch_size` has the wrong type, or a leaf is not an array.
      ValueError: if leaves differ in length, `batch_size` < 1, or `drop_remainder` would drop all examples.

    >>> [batch.tolist() for batch in batches(np.arange(5), 2)]
    [[0, 1], [2, 3], [4]]
    """
    rows = _rows("batches", data)
    size = check.count("batches", "batch_size", batch_size)
    check.flags("batches", drop_remainder=drop_remainder)
    if drop_remainder and size > rows:
        fix = "Lower it, or keep the remainder."
        raise invalid("batches", f"batch_size <= {rows}, the examples", batch_size, fix)
    stop = rows - rows % size if drop_remainder else rows
    order = None if key is None else _permutation("batches", key, rows)
    data = jax.tree.map(np.asarray, data)
    starts = range(0, stop, size)
    slices = (slice(start, min(start + size, stop)) for start in starts)
    return (_take(data, rows if order is None else order[rows]) for rows in slices)


def _rows(where: str, data: Arrays) -> int:
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


def _quota(fraction: float, count: Any) -> Any:
    return np.round(float(fraction) * count, 9)  # makes 0.7 · 45 exactly 31.5


def _labels(labels: Arrays, rows: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.dtype.kind not in "biuU":
        raise wrong_type("split", "stratify of integers or strings", labels)
    if labels.shape != (rows,):
        raise invalid("split", f"stratify of shape [{rows}]", labels)
    return labels


def _permutation(where: str, key: Key | int, rows: int) -> np.ndarray:
    """Random permutation. NumPy keeps the output of its bit generators across versions, but not of `permutation`."""
    return np.argsort(np.random.PCG64(_entropy(where, key)).random_raw(rows), kind="stable")


def _entropy(where: str, key: Key | int) -> int | list[int]:
    seed = whole(key)
    if seed is not None:
        if seed < 0:
            raise invalid(where, "key to be a seed >= 0", key)
        return seed
    if isinstance(key, jax.Array) and jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.ndim == 0:
            return np.asarray(jax.random.key_data(key)).tolist()
    elif isinstance(key, np.ndarray | jax.Array) and key.dtype == np.uint32 and key.ndim == 1:
        return np.asarray(key).tolist()
    raise wrong_type(where, "key to be an int or one JAX key", key)


def _take(data: Arrays, rows: Arrays) -> Arrays:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[rows], data)
