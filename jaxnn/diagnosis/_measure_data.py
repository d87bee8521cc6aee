"""Measurements of the data of `diagnose`."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxnn.diagnosis._baselines import Scores, baseline_scores
from jaxnn.diagnosis._data import class_fractions, determination, duplicates, features
from jaxnn.diagnosis._facts import Facts
from jaxnn.types import Data

KNOWN = 2000  # examples of the baselines
WIDEST, TARGETS = 4096, 64  # features, and numbers in a target, up to which there are baselines
LEAST = 50  # examples from which η² is meaningful


def parts_of(data: Data) -> tuple[Any, Any, Any]:
    """x, y and weights of data; None where they are unknown."""
    if isinstance(data, tuple | list) and len(data) in (2, 3):
        return (*data, None)[:3]
    return None, None, None


def facts_of_data(train: Data, part: Data, held: Data, parted: bool) -> dict[str, Any]:
    """Fields of the facts that concern the data alone.

    Args:
      train: all training data.
      part: some of them, in random order.
      held: held-out examples.
      parted: True if the user separated them.
    """
    (x, y, weights), (some, labels, _), (inputs, wanted, _) = map(parts_of, (train, part, held))
    rows, fractions, determined, copied = features(some)[:KNOWN], class_fractions(y, weights), None, None
    if len(rows) > LEAST and fractions is not None:
        eta = determination(rows, np.asarray(labels)[:KNOWN].reshape(-1).astype(np.int64))
        determined = float(eta.max()), int(eta.argmax())
    if parted and x is not None and _kinds(x) == _kinds(inputs):
        copied = len(duplicates(x, inputs)), jax.tree.leaves(held)[0].shape[0]
    return {
        "x": rows if rows.size else None,
        "labels": np.asarray(labels)[:KNOWN] if hasattr(labels, "dtype") else None,
        "y": np.asarray(y) if hasattr(y, "dtype") else None,
        "broken": {name: _not_finite(a) for name, a in (("inputs", x), ("targets", y))},
        "fractions": fractions,
        "absent": _absent(fractions, wanted) if parted else {},
        "determined": determined,
        "copied": copied,
        "baselines": None,
    }


def _absent(known: np.ndarray | None, labels: Any) -> dict[int, float]:
    """Fraction of the labels in each class that has no fraction of the `known` ones."""
    there = None if known is None else class_fractions(labels)
    if known is None or there is None:
        return {}
    return {c: float(there[c]) for c in range(len(there)) if there[c] and not known[c : c + 1].any()}


def _kinds(tree: Any) -> Any:
    return jax.tree.map(lambda a: (np.shape(a)[1:], str(np.asarray(a).dtype)), tree)


def _not_finite(tree: Any) -> int:
    """Number of floating numbers that are not finite."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree) if jax.numpy.issubdtype(leaf.dtype, np.floating)]
    return sum(int((~np.isfinite(leaf.astype(np.float32))).sum()) for leaf in leaves)


def baselines(f: Facts, held: Data) -> Scores | None:
    """Scores of baselines, for inputs and targets that are arrays of moderate size; None for others."""
    x, y, (inputs, wanted, _) = f.x, f.labels, parts_of(held)
    if x is None or y is None or x.shape[1] > WIDEST or sum(f.broken.values()) or len(x) < 20:
        return None
    if y.ndim > 2 or (y.ndim == 2 and y.shape[1] > TARGETS):
        return None
    wanted, classes = np.asarray(wanted), f.classes if y.ndim == 1 else None
    if classes is None and f.fractions is not None and len(f.fractions) == 2:
        y, wanted = (a.reshape(-1).astype(np.int64) for a in (y, wanted))
        classes = 2
    if classes and (min(y.min(), wanted.min()) < 0 or max(y.max(), wanted.max()) >= classes):
        return None
    return baseline_scores(x, y, (features(inputs), wanted), classes)
