"""Classification metrics of logits and labels: accuracy, top-k accuracy, calibration error."""

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
    """Accuracy: the fraction of correct predictions, logits [..., k], labels integer [...] or float [..., k] -> [].

        argmax(logits) = label

    Float labels of the logits' shape (one-hot or soft) count by their argmax. On ties the first maximum is the
    prediction. An example with NaN among its logits or labels, or with a label out of range, counts as wrong. Without
    examples the result is NaN.

    Args:
      logits: scores over the last axis, floating, of at least 2 classes. Only their order matters, so probabilities may
        be passed as well. For one logit and two classes use `binary_accuracy`.
      labels: class numbers 0 to k - 1 of shape [...], or float labels [..., k].
      ignore_label: class number, such as -100 or 255, whose examples are excluded; for integer labels only.
      weights: real array [...], one weight per example.
      where: boolean mask [...]; False excludes an example.

    Raises:
      TypeError: if the logits are not floating, the labels are boolean, or `ignore_label` is not an int or is used with
        float labels.
      ValueError: if the shapes do not fit or there is a single class.

    Differences: scikit-learn's `accuracy_score` takes class numbers, the argmax of the logits. Keras calls this
    SparseCategoricalAccuracy and CategoricalAccuracy.

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
    """Fraction of elements on the correct side of a threshold, [...], [...] -> []: logit > threshold iff label > 1/2.

    For one logit per element: binary classification, or multi-label classification [n, labels]. A logit equal to the
    threshold is a negative. An element with a NaN logit or label, or a label outside [0, 1], counts as wrong. Without
    elements the result is NaN.

    Args:
      logits: log-odds, floating; 0 corresponds to probability 1/2. For probabilities pass `threshold=0.5`.
      labels: array of the logits' shape: booleans, the integers 0 and 1, or probabilities, positive above 1/2.
      threshold: finite number in units of the logits: log(p / (1 - p)) for a probability p; may be traced.
      weights: real array [...], one weight per element.
      where: boolean mask [...]; False excludes an element.

    Raises:
      TypeError: if the logits are not floating, the labels are not real, or the threshold is not a number.
      ValueError: if the shapes differ (for labels [n], squeeze logits [n, 1] first), or the threshold is not a finite
        scalar.

    Differences: Keras's BinaryAccuracy takes probabilities with threshold 0.5, and counts every soft label as wrong.
    PyTorch has no such metric; torchmetrics takes probabilities, or logits if any value is outside [0, 1].

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
    """Fraction of examples with the label among the k largest logits, [..., c], integer [...] or float [..., c] -> [].

    Correct if fewer than k classes rank before the label's class. Among equal logits the class with the lower number
    ranks first, so k = 1 is `accuracy`. NaN, soft labels and labels out of range are treated as in `accuracy`.

    Args:
      logits: scores over the last axis, floating, of at least 2 classes; only their order matters.
      labels: class numbers 0 to c - 1 of shape [...], or float labels [..., c].
      k: number of guesses, 1 <= k <= c.
      ignore_label: class number whose examples are excluded; for integer labels only.
      weights: real array [...], one weight per example.
      where: boolean mask [...]; False excludes an example.

    Raises:
      TypeError: as `accuracy`.
      ValueError: as `accuracy`, and if `k` is out of range.

    Differences: on ties, scikit-learn's `top_k_accuracy_score` ranks the class with the higher number first, and
    Keras's SparseTopKCategoricalAccuracy counts all tied classes as correct.

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
    """Expected calibration error of confidences, logits [..., k], labels integer [...] or float [..., k] -> []:

        ECE = Σ_b |B_b| / n · |accuracy(B_b) - confidence(B_b)|

    The confidence of an example is the maximum of softmax(logits). B_b holds the examples with confidence in ((b -
    1)/bins, b/bins]. Range [0, 1]; 0 if the accuracy of each bin equals its mean confidence. Only the predicted class
    enters. Value and bias depend on the number of bins: compare at equal bins and n. A classifier that always predicts
    the class frequencies has ECE 0. Predictions are correct or wrong as in `accuracy`.

    Args:
      logits: unnormalised log-probabilities, floating; for probabilities p pass jnp.log(p), for binary log-odds z the
        logits [0, z]. An example with an undefined softmax (NaN, or all -inf) makes the result NaN.
      labels: class numbers 0 to k - 1 of shape [...], or float labels [..., k].
      bins: number of bins of equal width, >= 1.
      weights: real array [...], one weight per example.
      where: boolean mask [...]; False excludes an example.

    Raises:
      TypeError: if the logits are not floating or the labels are boolean.
      ValueError: if the shapes do not fit, `bins` is out of range or there is a single class.

    Reference: Guo et al., On Calibration of Modern Neural Networks, 2017.

    >>> p = jnp.array([[0.75, 0.25], [0.75, 0.25]])  # confidence 0.75, accuracy 1/2
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
    """`times`, with 0 for examples whose label is ignored."""
    live = _not_ignored(name, labels, ignore_label)
    w = times(name, shape, weights, where)
    return w if live is None else jnp.where(live, w, 0)


def _right(logits: Array, labels: Array) -> Array:
    """Mask of the examples whose first maximum is at the label."""
    y, known = _of_labels(labels, logits.shape[-1])
    best = jnp.argmax(logits, axis=-1).astype(y.dtype)
    return (best == y) & known & ~jnp.isnan(logits).any(axis=-1)


def _of_labels(labels: Array, k: int) -> tuple[Array, Array]:
    """Checked labels of either kind as int32 class numbers, and a mask of the valid ones."""
    if jnp.issubdtype(labels.dtype, jnp.floating):
        return jnp.argmax(labels, axis=-1).astype(jnp.int32), ~jnp.isnan(labels).any(axis=-1)
    y = labels if labels.dtype.itemsize >= 4 else labels.astype(jnp.int32)  # k may not fit into int8
    known = (y >= 0) & (y < k)
    return jnp.where(known, y, 0).astype(jnp.int32), known
