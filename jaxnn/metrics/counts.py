"""Metrics that are ratios of counts of classes: who was taken for whom, precision, recall, F1, intersection over union.

They take class numbers, of scores by `jnp.argmax(logits, axis=-1)` or `logits > 0`, and the predictions of the whole
set at once; of single outputs (several labels an example) by `jax.vmap(f1, in_axes=1)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

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
    """How many examples of class i were taken for class j, integer [...], [...] -> [num_classes, num_classes].

    Rows are labels, columns predictions. Matrices of batches add up to that of the set. Counts are made in int32
    and returned in float32, exact to 2^24 in a cell. Of no examples it is all 0.

    Args:
      prediction, labels: class numbers 0 to num_classes - 1, or booleans. One out of range makes the whole matrix NaN
        (scikit-learn raises or, given `labels=`, leaves it out): pass `where=labels != 255` for one to be ignored.
      weights, where: [...], one for each example.

    Raises TypeError for scores, ValueError if the shapes differ. As scikit-learn's `confusion_matrix`, with the
    arguments the other way round.

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
    """Which share of what was taken for a class is of it, integer [...], [...] -> [] or [num_classes]: TP / (TP + FP).

    Blind to what was missed: see `recall`, and `f1` for both. Takes the predictions of the whole set.

    Args:
      prediction, labels: class numbers 0 to num_classes - 1, or booleans. One out of range makes the result NaN.
      average: "binary" is class 1 of two; None is each class, [num_classes]; "macro" the mean over the classes that
        occur in prediction or labels, "weighted" the same weighted by their labels, "micro" the ratio of summed counts.
      zero_division: the ratio of a class never predicted, 0 / 0. NaN is left out of the means.
      weights, where: [...], one for each example.

    Raises TypeError for scores, ValueError if the shapes differ or `average` does not fit. As scikit-learn's
    `precision_score`, with the arguments the other way round; there absent classes have no entry under None.

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
    """Which share of a class was taken for it, integer [...], [...] -> [] or [num_classes]: TP / (TP + FN).

    Also sensitivity; blind to false alarms. Its macro average is the balanced accuracy when every class predicted
    has labels. Takes the predictions of the whole set.

    Args:
      prediction, labels, average, weights, where: as of `precision`.
      zero_division: the ratio of a class without labels, 0 / 0. NaN is left out of the means.

    Raises TypeError for scores, ValueError if the shapes differ or `average` does not fit. As scikit-learn's
    `recall_score`, with the arguments the other way round.

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
    """Harmonic mean of precision and recall, integer [...], [...] -> [] or [num_classes]: 2 TP / (2 TP + FP + FN).

    For rare classes, where accuracy flatters; blind to true negatives. Its macro average is the mean of the classes'
    F1. Takes the predictions of the whole set: it is no mean over examples or batches.

    Args:
      prediction, labels, average, weights, where: as of `precision`.
      zero_division: the ratio of a class neither predicted nor labelled, 0 / 0. NaN is left out of the means.

    Raises TypeError for scores, ValueError if the shapes differ or `average` does not fit. As scikit-learn's
    `f1_score`, with the arguments the other way round.

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
    """Intersection over union, integer or boolean [...], [...] -> [] or [num_classes]: TP / (TP + FP + FN).

    Of segmentations: two masks by "binary", maps of classes by "macro", the mean over the classes that occur in
    prediction or labels ("mean IoU"). Counts run over all pixels of all images, as in Pascal VOC; the mean over
    images is `jax.vmap(iou)`'s. It is F1 / (2 - F1), class by class. A class that occurs in neither has NaN.

    Args:
      prediction, labels, average, weights, where: as of `precision`; `where=labels != 255` ignores pixels.

    Raises TypeError for scores, ValueError if the shapes differ or `average` does not fit. As scikit-learn's
    `jaccard_score` with the arguments the other way round, but for the NaN; the classes of the mean
    are those of Keras's MeanIoU.

    >>> iou(jnp.array([[True, True], [False, False]]), jnp.array([[True, False], [True, False]])).item()
    0.333...
    """
    counts = ("iou", prediction, labels, num_classes, weights, where)
    return _ratio(lambda tp, predicted, true: (tp, predicted + true - tp), counts, average, jnp.nan)


def _ratio(
    formula: Callable[[Array, Array, Array], tuple[Array, Array]],
    counts: tuple,
    average: str | None,
    zero_division: ArrayLike,
) -> Array:
    """The ratio that `formula` makes of true positives, predictions and labels of each class, averaged."""
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
    """Predictions, labels and weights as flat arrays, and whether all class numbers that count are in range."""
    num_classes = check.count(name, "num_classes", num_classes)
    p, p_known = class_numbers(name, "prediction", prediction, num_classes, _DECIDE)
    y, y_known = class_numbers(name, "labels", labels, num_classes, "One-hot labels are decided by jnp.argmax.")
    check.same_shape(name, "prediction", prediction, "labels", labels)
    w = times(name, y.shape, weights, where)
    return p.ravel(), y.ravel(), w.ravel(), jnp.all(p_known & y_known | (w == 0))


def _tally(numbers: Array, w: Array, length: int) -> Array:
    """The sum of w at each number; int32 is summed exactly."""
    return jnp.zeros(length, w.dtype).at[numbers].add(w).astype(jnp.float32)
