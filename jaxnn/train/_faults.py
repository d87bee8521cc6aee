"""Faults in the data of a failed step: labels out of range, and non-finite numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn._padded import Padded
from jaxnn.train._epoch import Ordered, Whole, augmented, batches
from jaxnn.train._plan import Plan
from jaxnn.train._trainer import TrainState
from jaxnn.types import Arrays, Batch, Data


class Seen(NamedTuple):
    """The data of a step.

    Attributes:
      batch, augmented: the batch before and after `augment`.
      rows: indices of its examples in `train`; None if unknown.
      outcome: predictions, targets and losses; None for a Trainer that was not made by `nn.trainer`.
    """

    batch: Batch
    augmented: Any
    rows: Arrays
    outcome: Any


def seen(plan: Plan, ts: TrainState, data: Data, epoch: jax.Array, i: jax.Array) -> Seen:
    """The data of step `i` of an epoch; traceable."""
    batch = batches(plan, ts, data, epoch)(i)
    rows = None
    if not isinstance(data, Ordered | Whole):
        numbers = jnp.arange(jax.tree.leaves(data)[0].shape[0], dtype=jnp.int32)
        rows = batches(plan._replace(train_spread=None), ts, numbers, epoch)(i)
    changed = augmented(plan, ts.key, batch, ts.step)
    outcome = plan.trainer.outcome
    found = None if outcome is None else tuple(map(_numbers, outcome(ts, changed)))
    return Seen(_numbers(batch), _numbers(changed), rows, found)


def _numbers(tree: Arrays) -> Arrays:
    """The tree with leaves that are not numeric arrays, such as keys, replaced by 0."""
    kinds = jnp.number, jnp.bool
    return jax.tree.map(
        lambda a: a if any(jnp.issubdtype(jnp.result_type(a), kind) for kind in kinds) else jnp.zeros(()), tree
    )


def fault_of(data: Seen) -> str:
    """Text that names the first fault, such as "label 3 with 3 classes at example 17 of train"; "" without a fault."""
    found = _label(data) or _not_finite(data.batch, data.rows)
    return found or _not_finite(data.augmented, data.rows, after="augmented ")


def _label(data: Seen) -> str:
    """Text for the first label outside the predicted classes, among those with non-finite loss; "" if none."""
    if data.outcome is None:
        return ""
    prediction, target, values = data.outcome
    if not all(isinstance(a, np.ndarray) for a in (prediction, target)) or not np.issubdtype(target.dtype, np.integer):
        return ""
    if prediction.shape[:-1] != target.shape or not target.ndim:
        return ""
    classes = prediction.shape[-1]
    odd = (target < 0) | (target >= classes)
    if isinstance(values, np.ndarray) and values.shape == target.shape:
        odd &= ~np.isfinite(values)
    if not odd.any():
        return ""
    at = tuple(np.argwhere(odd)[0])
    return f"label {target[at]} with {classes} classes at {_example(at[0], data.rows)}"


def _not_finite(batch: Batch, rows: Arrays, after: str = "") -> str:
    """Text for the first array with a non-finite number at an example with non-zero weight; "" if there is none."""
    parts = dict(zip(("x", "y", "weights"), batch, strict=False)) if type(batch) in (tuple, list) else {"data": batch}
    weights = parts.get("weights")
    for name, part in parts.items():
        leaves = jax.tree_util.tree_leaves_with_path(part, is_leaf=lambda v: isinstance(v, Padded))
        for path, leaf in leaves:
            where = jax.tree_util.keystr(path, simple=True, separator="/")
            values = np.asarray(leaf.zeroed if isinstance(leaf, Padded) else leaf)
            if not values.ndim or not jnp.issubdtype(values.dtype, jnp.inexact):
                continue
            bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
            if isinstance(weights, np.ndarray) and weights.ndim and len(weights) == len(bad):
                bad &= (weights != 0).reshape(len(weights), -1).any(axis=1)
            if bad.any():
                i = int(np.argmax(bad))
                number = next(v for v in np.ravel(values[i]).tolist() if not np.isfinite(v))
                return f"{after}{'/'.join(filter(None, (name, where)))} has {number} at {_example(i, rows)}"
    return ""


def _example(i: int, rows: Arrays) -> str:
    return f"example {i} of the batch" if rows is None else f"example {rows[i]} of train"
