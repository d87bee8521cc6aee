"""Metrics of logits and labels: how often the right class comes first, and how far confidence can be trusted."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._dtypes import widened
from jaxnn.losses import _classes, _costs, _not_ignored
from jaxnn.metrics._checks import mean, times


def accuracy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    ignore_label: int | None = None,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Share of examples with the largest logit at their label, [..., k], integer [...] or float [..., k] -> [].

    Float labels of the logits' shape (one-hot or soft) count by their own argmax. Ties go to the first maximum. An
    example with a NaN among its logits or labels is wrong, and so is one whose label is out of range. Of no
    examples it is NaN; of one, as under `vmap`, it is 1 or 0. The result is float32.

    Args:
      logits: scores over the last axis, of at least 2 classes; only their order matters, so probabilities do as well.
        One logit for two classes is for `binary_accuracy`.
      labels: class numbers, or float labels of the logits' shape.
      ignore_label: a class number that leaves its example out, such as -100 or 255; integer labels only.
      weights, where: [...], one for each example.

    Raises:
      TypeError for integer logits, boolean labels and an `ignore_label` that is not an int or comes with float labels;
      ValueError where the shapes do not fit and for a single class.

    Differences: scikit-learn's `accuracy_score` takes the argmax. Keras has this as SparseCategoricalAccuracy and
    CategoricalAccuracy.

    >>> accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1])).item()
    0.5
    """
    logits, labels = _classes("accuracy", logits, labels)
    w = _times("accuracy", labels, logits.shape[:-1], ignore_label, weights, where)
    return mean(_right(logits, labels), w)


def binary_accuracy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    threshold: ArrayLike = 0.0,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Fraction of elements on the right side of a threshold, [...], [...] -> []: logit > threshold where label > 1/2.

    For one logit per element: a binary classifier, or several labels an example, [n, labels]. A logit at the threshold
    is a negative. A NaN among logits or labels is wrong, and so is a label out of range. Of no elements it is NaN. The
    result is float32.

    Args:
      logits: log-odds, of which 0 is the probability 1/2. Of probabilities pass `threshold=0.5`.
      labels: booleans, the integers 0 and 1, or probabilities, positive above 1/2.
      threshold: in units of the logits: log(p / (1 - p)) for a probability p; may be traced.
      weights, where: [...], one for each element.

    Raises:
      TypeError for integer logits and a threshold that is no number; ValueError if the shapes differ: logits [n, 1] are
      squeezed first for labels [n].

    Differences: Keras's BinaryAccuracy takes probabilities and 0.5, and never counts soft labels as right. PyTorch has
    none; torchmetrics takes probabilities, or logits if any lies outside [0, 1].

    >>> binary_accuracy(jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 0])).item()
    0.666...
    >>> binary_accuracy(jnp.array([0.9, 0.2, 0.4]), jnp.array([1, 0, 1]), threshold=0.5).item()
    0.666...
    """
    name = "binary_accuracy"
    x = check.array_like(name, "logits", logits)
    check.kind(name, "labels", labels, "real")
    check.same_shape(name, "logits", logits, "labels", labels)
    check.scalar(name, "threshold", threshold, -math.inf, ends="()")
    x, y = widened(x), jnp.asarray(labels)
    above = x > jnp.asarray(threshold).astype(x.dtype)
    y = y.astype(x.dtype)
    sound = ~jnp.isnan(x) & (y >= 0) & (y <= 1)
    return mean((above == (y > 0.5)) & sound, times(name, x.shape, weights, where))


def top_k_accuracy(
    logits: ArrayLike,
    labels: ArrayLike,
    k: int,
    *,
    ignore_label: int | None = None,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Share of examples with their label among the k largest logits, [..., c], integer [...] or float [..., c] -> [].

    Right where fewer than k classes come before the label's; of equal logits the first class does, so k = 1 is
    `accuracy`, whose rules for NaN, for labels of either kind and for those out of range hold here.

    Args:
      k: how many guesses an example has, 1 to c.
      logits, labels, ignore_label, weights, where: as of `accuracy`.

    Raises:
      as `accuracy`, and ValueError for a k out of range.

    Differences: scikit-learn's `top_k_accuracy_score` gives ties to the last class, Keras's
    SparseTopKCategoricalAccuracy takes them all as right.

    >>> top_k_accuracy(jnp.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]]), jnp.array([1, 2]), 2).item()
    0.5
    """
    logits, labels = _classes("top_k_accuracy", logits, labels)
    k = check.count("top_k_accuracy", "k", k, most=logits.shape[-1], fix=f"There are {logits.shape[-1]} classes.")
    w = _times("top_k_accuracy", labels, logits.shape[:-1], ignore_label, weights, where)
    y, known = _of_labels(labels, logits.shape[-1])
    of_label = jnp.take_along_axis(logits, y[..., None], axis=-1)
    classes = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    before = (logits > of_label) | ((logits == of_label) & (classes < y[..., None]))
    return mean((before.sum(axis=-1) < k) & known & ~jnp.isnan(logits).any(axis=-1), w)


def expected_calibration_error(
    logits: ArrayLike,
    labels: ArrayLike,
    bins: int = 15,
    *,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """How far confidence is from accuracy, [..., k], integer [...] or float [..., k] -> []:

        ECE = Σ_b |B_b| / n · |accuracy(B_b) - confidence(B_b)|

    An example's confidence is its largest softmax(logits), and B_b holds the confidences in ((b - 1)/bins, b/bins].
    In [0, 1], 0 when each bin is right as often as it says. It sees the first class alone, and both its value and its
    bias depend on the bins: compare at equal bins and n. A classifier that always says the base rate has 0.

    Args:
      logits: unnormalised log-probabilities; of probabilities p pass jnp.log(p). Binary log-odds z are logits [0, z].
        An example without a softmax (NaN, or all -inf) makes the result NaN.
      bins: how many, of equal width.
      weights, where: [...], one for each example.

    What counts as right is `accuracy`'s.

    Raises:
      TypeError for integer logits and boolean labels; ValueError where the shapes or bins do not fit and for a single
      class.

    Reference: Guo et al., On Calibration of Modern Neural Networks, 2017.

    >>> p = jnp.array([[0.75, 0.25], [0.75, 0.25]])  # sure to 0.75, right once in two
    >>> round(expected_calibration_error(jnp.log(p), jnp.array([0, 1])).item(), 6)
    0.25
    """
    logits, labels = _classes("expected_calibration_error", logits, labels)
    bins = check.count("expected_calibration_error", "bins", bins)
    w = times("expected_calibration_error", logits.shape[:-1], weights, where).astype(jnp.float32)
    confidence = jax.nn.softmax(widened(logits), axis=-1).max(axis=-1)
    doubt = -jnp.expm1(-_costs(widened(logits)).min(axis=-1))  # 1 - confidence, with the digits of a small one
    gap = jnp.where(_right(logits, labels), doubt, -confidence).astype(jnp.float32)
    b = jnp.clip(jnp.ceil(confidence * bins).astype(jnp.int32) - 1, 0, bins - 1)
    gaps = jnp.abs(jnp.zeros(bins, jnp.float32).at[b].add(jnp.where(w != 0, w * gap, 0)))
    return jnp.minimum(gaps.sum() / w.sum(), 1)


def _times(
    name: str,
    labels: Array,
    shape: tuple[int, ...],
    ignore_label: int | None,
    weights: ArrayLike | None,
    where: ArrayLike | None,
) -> Array:
    """`times`, and 0 for the examples whose label is ignored."""
    live = _not_ignored(name, labels, ignore_label)
    w = times(name, shape, weights, where)
    return w if live is None else jnp.where(live, w, 0)


def _right(logits: Array, labels: Array) -> Array:
    """Where the first of the largest logits is that of the label."""
    y, known = _of_labels(labels, logits.shape[-1])
    best = jnp.argmax(logits, axis=-1).astype(y.dtype)
    return (best == y) & known & ~jnp.isnan(logits).any(axis=-1)


def _of_labels(labels: Array, k: int) -> tuple[Array, Array]:
    """Checked labels of either kind as int32 class numbers, and where they are some."""
    if jnp.issubdtype(labels.dtype, jnp.floating):
        return jnp.argmax(labels, axis=-1).astype(jnp.int32), ~jnp.isnan(labels).any(axis=-1)
    y = labels if labels.dtype.itemsize >= 4 else labels.astype(jnp.int32)  # k may not fit into int8
    known = (y >= 0) & (y < k)
    return jnp.where(known, y, 0).astype(jnp.int32), known
