"""Facts about data sets, computed on the host."""

from __future__ import annotations

from hashlib import blake2b

import jax
import numpy as np

from jaxnn._errors import invalid
from jaxnn._padded import Padded
from jaxnn.types import Arrays


def features(x: Arrays) -> np.ndarray:
    """Inputs as one float64 row for each example, [n, d]; [0, 0] if they are not one array of numbers."""
    if isinstance(x, Padded) or not hasattr(x, "dtype") or x.ndim < 2 or np.asarray(x).dtype.kind not in "fiub":
        return np.zeros((0, 0))
    return np.asarray(x).reshape(len(x), -1).astype(np.float64)


def duplicates(train: Arrays, valid: Arrays) -> np.ndarray:
    """Indices of the examples of `valid` that are also in `train`, equal in every bit.

    Args:
      train, valid: arrays or pytrees of arrays with examples on axis 0, usually the inputs without the targets.

    Raises:
      ValueError: if the trees, the shapes of an example, or the dtypes differ.

    Differences: cleanlab and fastdup search for near duplicates; this comparison is exact.

    >>> duplicates(np.array([[1.0], [2.0]]), np.array([[3.0], [2.0]])).tolist()
    [1]
    """
    kinds = [jax.tree.map(lambda a: (np.shape(a)[1:], np.asarray(a).dtype), tree) for tree in (train, valid)]
    if kinds[0] != kinds[1]:
        raise invalid("duplicates", "train and valid with examples of equal shape and dtype", (train, valid))
    known = set(_rows(train))
    return np.array([i for i, row in enumerate(_rows(valid)) if row in known], np.int64)


def _rows(tree: Arrays) -> list[bytes]:
    """A hash of 128 bits for each example."""
    leaves = [np.ascontiguousarray(np.asarray(leaf)) for leaf in jax.tree.leaves(tree)]
    flat = [leaf.reshape(len(leaf), -1) for leaf in leaves]
    digest = [blake2b(b"".join(leaf[i].tobytes() for leaf in flat), digest_size=16) for i in range(len(flat[0]))]
    return [found.digest() for found in digest]


def class_fractions(y: Arrays, weights: Arrays = None) -> np.ndarray | None:
    """Fraction of each class among labels [n], by number: integers, or floats that are 0 or 1; None for other targets.

    Args:
      y: targets.
      weights: weight of each example, [n]; None for 1.

    >>> class_fractions(np.array([0, 1, 1, 1])).tolist()
    [0.25, 0.75]
    """
    if not hasattr(y, "dtype"):
        return None
    y = np.asarray(y)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1 or (y.dtype.kind == "f" and not np.isin(y, (0, 1)).all()) or y.dtype.kind not in "fiub":
        return None
    if not len(y) or y.min() < 0:
        return None
    weights = None if weights is None or np.shape(weights) != y.shape else np.asarray(weights, np.float64)
    counts = np.bincount(y.astype(np.int64), weights, minlength=2)
    return counts / max(counts.sum(), 1e-12)


def determination(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Fraction of the variance of each feature that the class determines, [n, d], [n] -> [d]: η², from 0 to 1.

        η²_j = Σ_c n_c (mean_cj - mean_j)² / Σ_i (x_ij - mean_j)²

    Args:
      x: features, [n, d].
      y: class numbers, integer [n].

    Returns:
      η² of each feature; 0 for a constant feature.

    >>> determination(np.array([[0.0, 1.0], [0.0, 2.0], [1.0, 1.0], [1.0, 2.0]]), np.array([0, 0, 1, 1])).tolist()
    [1.0, 0.0]
    """
    x = x - x.mean(0)
    sums = np.zeros((int(y.max()) + 1, x.shape[1]))
    np.add.at(sums, y, x)
    between = (sums**2 / np.maximum(np.bincount(y), 1)[:, None]).sum(0)
    total = (x**2).sum(0)
    return np.where(total > 0, between / np.where(total > 0, total, 1), 0)
