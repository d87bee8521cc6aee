"""Metrics of class counts: confusion matrix, precision, recall, F1, intersection over union.

They take class numbers: `jnp.argmax(logits, axis=-1)`, or `logits > 0` for two classes. They need the predictions of
the whole data set. For multi-label outputs use `jax.vmap(f1, in_axes=1)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._errors import invalid
from jaxnn.metrics._checks import class_numbers, times

_DECIDE = "Scores are decided first: jnp.argmax(logits, axis=-1), or logits > 0 for two classes."
_AVERAGES = ("binary", "macro", "micro", "weighted", None)


def confusion_matrix(
    prediction: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    *,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Confusion matrix: counts of label i predicted as class j, integer [...], [...] -> [num_classes, num_classes].

    Rows are labels, columns predictions. The matrices of batches add up to that of the data set. Counts are summed in
    int32 and returned in float32, exact up to 2^24 per cell. Without examples it is all 0.

    Args:
      prediction: class numbers 0 to num_classes - 1, or booleans. One out of range makes the whole matrix NaN.
      labels: class numbers or booleans of the same shape; out of range as for `prediction`. To ignore a label pass
        `where=labels != 255`.
      num_classes: number of classes, >= 1.
      weights: real array [...], one weight per example.
      where: boolean mask [...]; False excludes an example.

    Raises:
      TypeError: if prediction or labels are scores (floating).
      ValueError: if the shapes differ.

    Differences: scikit-learn's `confusion_matrix` takes the labels first. It raises for class numbers out of range, or
    leaves them out given `labels=`.

    >>> confusion_matrix(jnp.array([0, 1, 1]), jnp.array([0, 0, 1]), 2).tolist()
    [[1.0, 1.0], [0.0, 1.0]]
    """
    p, y, w, valid = _read("confusion_matrix", prediction, labels, num_classes, weights, where)
    matrix = _tally(y * num_classes + p, w, num_classes**2).reshape(num_classes, num_classes)
    return jnp.where(valid, matrix, jnp.nan)


def precision(
    prediction: ArrayLike,
    labels: ArrayLike,
    num_classes: int = 2,
    *,
    average: str | None = "binary",
    zero_division: ArrayLike = 0.0,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Precision: the fraction of predicted positives that are correct, integer [...], [...] -> [] or [num_classes].

        TP / (TP + FP)

    It ignores missed positives: see `recall`, and `f1` for both. It needs the predictions of the whole data set.

    Args:
      prediction: class numbers 0 to num_classes - 1, or booleans. One out of range makes the result NaN.
      labels: class numbers or booleans of the same shape; out of range as for `prediction`.
      num_classes: number of classes, >= 1.
      average: "binary" gives class 1 of two classes. None gives each class, [num_classes]. "macro" is the mean over the
        classes that occur in prediction or labels, "weighted" the mean weighted by the number of labels of each class,
        "micro" the ratio of the summed counts.
      zero_division: value of 0 / 0, for classes that are never predicted. NaN excludes these classes from the mean.
      weights: real array [...], one weight per example.
      where: boolean mask [...]; False excludes an example.

    Raises:
      TypeError: if prediction or labels are scores (floating).
      ValueError: if the shapes differ or `average` is unknown or does not suit `num_classes`.

    Differences: scikit-learn's `precision_score` takes the labels first, and with average=None has no entry for absent
    classes.

    >>> precision(jnp.array([1, 1, 0, 1]), jnp.array([1, 0, 0, 1])).item()
    0.666...
    """
    counts = ("precision", prediction, labels, num_classes, weights, where)
    return _ratio(lambda tp, predicted, true: (tp, predicted), counts, average, zero_division)


def recall(
    prediction: ArrayLike,
    labels: ArrayLike,
    num_classes: int = 2,
    *,
    average: str | None = "binary",
    zero_division: ArrayLike = 0.0,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Recall (sensitivity): the fraction of a class that is found, integer [...], [...] -> [] or [num_classes].

        TP / (TP + FN)

    It ignores false positives: see `precision`, and `f1` for both. Its macro average is the balanced accuracy if every
    predicted class has labels. It needs the predictions of the whole data set.

    Args:
      prediction: class numbers 0 to num_classes - 1, or booleans. One out of range makes the result NaN.
      labels: class numbers or booleans of the same shape; out of range as for `prediction`.
      num_classes: number of classes, >= 1.
      average: "binary", "macro", "weighted", "micro" or None, as in `precision`.
      zero_division: value of 0 / 0, for classes without labels. NaN excludes these classes from the mean.
      weights: real array [...], one weight per example.
      where: boolean mask [...]; False excludes an example.

    Raises:
      TypeError: if prediction or labels are scores (floating).
      ValueError: if the shapes differ or `average` is unknown or does not suit `num_classes`.

    Differences: scikit-learn's `recall_score` takes the labels first.

    >>> recall(jnp.array([1, 0, 0, 1]), jnp.array([1, 1, 0, 1])).item()
    0.666...
    """
    counts = ("recall", prediction, labels, num_classes, weights, where)
    return _ratio(lambda tp, predicted, true: (tp, true), counts, average, zero_division)


def f1(
    prediction: ArrayLike,
    labels: ArrayLike,
    num_classes: int = 2,
    *,
    average: str | None = "binary",
    zero_division: ArrayLike = 0.0,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """F1 score: harmonic mean of precision and recall, integer [...], [...] -> [] or [num_classes].

        2 TP / (2 TP + FP + FN)

    Use it for rare classes, where accuracy is misleadingly high. It ignores true negatives. Its macro average is the
    mean of the F1 scores of the classes. It needs the predictions of the whole data set: it is not a mean over examples
    or batches.

    Args:
      prediction: class numbers 0 to num_classes - 1, or booleans. One out of range makes the result NaN.
      labels: class numbers or booleans of the same shape; out of range as for `prediction`.
      num_classes: number of classes, >= 1.
      average: "binary", "macro", "weighted", "micro" or None, as in `precision`.
      zero_division: value of 0 / 0, for classes that are neither predicted nor labelled. NaN excludes these classes
        from the mean.
      weights: real array [...], one weight per example.
      where: boolean mask [...]; False excludes an example.

    Raises:
      TypeError: if prediction or labels are scores (floating).
      ValueError: if the shapes differ or `average` is unknown or does not suit `num_classes`.

    Differences: scikit-learn's `f1_score` takes the labels first.

    >>> f1(jnp.array([0, 2, 1, 0]), jnp.array([0, 1, 1, 0]), 3, average=None).tolist()
    [1.0, 0.666..., 0.0]
    """
    counts = ("f1", prediction, labels, num_classes, weights, where)
    return _ratio(lambda tp, predicted, true: (2 * tp, predicted + true), counts, average, zero_division)


def iou(
    prediction: ArrayLike,
    labels: ArrayLike,
    num_classes: int = 2,
    *,
    average: str | None = "binary",
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Intersection over union (Jaccard index), integer or boolean [...], [...] -> [] or [num_classes].

        TP / (TP + FP + FN)

    For segmentations: "binary" compares two masks, "macro" class maps; the latter, the mean over the classes that occur
    in prediction or labels, is the mean IoU. Counts run over all pixels of all images, as in Pascal VOC; for the mean
    over images use `jax.vmap(iou)`. For each class IoU = F1 / (2 - F1). A class in neither prediction nor labels has
    IoU NaN.

    Args:
      prediction: class numbers 0 to num_classes - 1, or booleans. One out of range makes the result NaN.
      labels: class numbers or booleans of the same shape; out of range as for `prediction`.
      num_classes: number of classes, >= 1.
      average: "binary", "macro", "weighted", "micro" or None, as in `precision`.
      weights: real array [...], one weight per pixel.
      where: boolean mask [...]; False excludes a pixel. `where=labels != 255` ignores a label.

    Raises:
      TypeError: if prediction or labels are scores (floating).
      ValueError: if the shapes differ or `average` is unknown or does not suit `num_classes`.

    Differences: scikit-learn's `jaccard_score` takes the labels first, and gives 0 in place of NaN. The mean runs over
    the same classes as Keras's MeanIoU.

    >>> iou(jnp.array([[True, True], [False, False]]), jnp.array([[True, False], [True, False]])).item()
    0.333...
    """
    counts = ("iou", prediction, labels, num_classes, weights, where)
    return _ratio(lambda tp, predicted, true: (tp, predicted + true - tp), counts, average, jnp.nan)


def _ratio(
    formula: Callable[[Array, Array, Array], tuple[Array, Array]],
    counts: tuple[Any, ...],
    average: str | None,
    zero_division: ArrayLike,
) -> Array:
    """Averaged ratio of the counts that `formula` computes from true positives, predictions and labels per class."""
    name, num_classes = counts[0], counts[3]
    check.choice(name, "average", average, _AVERAGES)
    check.scalar(name, "zero_division", zero_division, -math.inf, ends="[]", nan=True)
    p, y, w, valid = _read(*counts)
    if average == "binary" and num_classes != 2:
        raise invalid(name, "num_classes of 2 for average='binary'", num_classes, "Choose average='macro' or another.")
    tp = _tally(y, jnp.where(p == y, w, 0), num_classes)
    predicted, true = _tally(p, w, num_classes), _tally(y, w, num_classes)
    micro = average == "micro"
    top, bottom = formula(tp.sum(), predicted.sum(), true.sum()) if micro else formula(tp, predicted, true)
    value = jnp.where(bottom > 0, top / jnp.where(bottom > 0, bottom, 1), jnp.asarray(zero_division, jnp.float32))
    if average == "binary":
        value = value[1]
    elif average in ("macro", "weighted"):
        share = (predicted + true > 0).astype(jnp.float32) if average == "macro" else true
        share = jnp.where(jnp.isnan(value), 0, share)
        value = jnp.where(share > 0, share * value, 0).sum() / share.sum()
    return jnp.where(valid & (true.sum() > 0), value, jnp.nan)


def _read(
    name: str,
    prediction: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    weights: ArrayLike | None,
    where: ArrayLike | None,
) -> tuple[Array, Array, Array, Array]:
    """Predictions, labels and weights as flat arrays; and True if all class numbers of weight > 0 are in range."""
    num_classes = check.count(name, "num_classes", num_classes)
    p, p_known = class_numbers(name, "prediction", prediction, num_classes, _DECIDE)
    y, y_known = class_numbers(name, "labels", labels, num_classes, "One-hot labels are decided by jnp.argmax.")
    check.same_shape(name, "prediction", prediction, "labels", labels)
    w = times(name, y.shape, weights, where)
    return p.ravel(), y.ravel(), w.ravel(), jnp.all(p_known & y_known | (w == 0))


def _tally(numbers: Array, w: Array, length: int) -> Array:
    """Sum of w for each number, [length]; int32 weights are summed exactly."""
    return jnp.zeros(length, w.dtype).at[numbers].add(w).astype(jnp.float32)
