"""Random splits and batches of a pytree of arrays, on the host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxnn import _checks as check
from jaxnn._errors import invalid
from jaxnn.data._checks import entropy_of, labels_of, rows_of
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
    rows = rows_of("split", data)
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
        classes, codes, counts = np.unique(labels_of(stratify, rows), return_inverse=True, return_counts=True)
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
    rows = rows_of("batches", data)
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


def _quota(fraction: float, count: Any) -> Any:
    return np.round(float(fraction) * count, 9)  # makes 0.7 · 45 exactly 31.5


def _permutation(where: str, key: Key | int, rows: int) -> np.ndarray:
    """Random permutation. NumPy keeps the output of its bit generators across versions, but not of `permutation`."""
    return np.argsort(np.random.PCG64(entropy_of(where, key)).random_raw(rows), kind="stable")


def _take(data: Arrays, rows: Arrays) -> Arrays:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[rows], data)
