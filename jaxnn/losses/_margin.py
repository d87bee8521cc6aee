"""Losses with a margin: hinge losses of scores, and rankings of pairs."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxnn import _checks as check
from jaxnn._dtypes import widened
from jaxnn.losses._checks import (
    _at_label,
    _classes,
    _masked,
    _number,
    _of_known,
    _option,
    _pair,
    _positive,
    _positive_part,
)

__all__ = ["hinge", "margin_ranking", "multi_class_hinge", "squared_hinge"]


def hinge(
    scores: ArrayLike, labels: ArrayLike, *, weights: ArrayLike | None = None, where: ArrayLike | None = None
) -> Array:
    """Hinge loss, elementwise [...], [...] -> [...]: max(0, 1 - y x) with y = ±1; range [0, inf).

    The gradient is -y inside the margin (y x < 1) and exactly 0 outside; at y x = 1, where the subgradients are [-y,
    0], it is 0. Use it for support vector machines: examples beyond the margin do not count. The scores are not
    calibrated probabilities.

    Args:
      scores: signed distances from the decision boundary, not probabilities; floating.
      labels: array of the scores' shape: booleans, or 1 for positives and 0 or -1 for negatives, integer or floating.
        Other values give NaN.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient to exactly 0.

    Raises:
      TypeError: if the scores are not floating.
      ValueError: if the shapes differ.

    Differences: same as scikit-learn's `hinge_loss` before the mean, and as Keras's Hinge, which converts labels 0 and
    1 to ±1 if there are no others. optax accepts ±1 only.

    >>> hinge(jnp.array([0.25, -3.0, 2.0]), jnp.array([1, 0, 1])).tolist()
    [0.75, 0.0, 0.0]
    """
    x, y = _pair("hinge", "scores", scores, "labels", labels)
    return _masked("hinge", _hinge, [x, _sign(y, x.dtype)], x.shape, weights, where)


def squared_hinge(
    scores: ArrayLike, labels: ArrayLike, *, weights: ArrayLike | None = None, where: ArrayLike | None = None
) -> Array:
    """Squared hinge loss, elementwise [...], [...] -> [...]: max(0, 1 - y x)² with y = ±1; range [0, inf).

    The gradient is -2 y max(0, 1 - y x), so unlike that of `hinge` it is continuous. A score far on the wrong side
    counts by its square.

    Args:
      scores: signed distances from the decision boundary, not probabilities; floating.
      labels: array of the scores' shape: booleans, or 1 for positives and 0 or -1 for negatives, integer or floating.
        Other values give NaN.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient to exactly 0.

    Raises:
      TypeError: if the scores are not floating.
      ValueError: if the shapes differ.

    Differences: same as Keras's SquaredHinge before the mean. scikit-learn's `LinearSVC(loss="squared_hinge")`
    minimises the sum of this times C.

    >>> squared_hinge(jnp.array([0.5, -3.0, 2.0]), jnp.array([1, 0, 1])).tolist()
    [0.25, 0.0, 0.0]
    """
    x, y = _pair("squared_hinge", "scores", scores, "labels", labels)
    return _masked("squared_hinge", lambda x, s: _hinge(x, s) ** 2, [x, _sign(y, x.dtype)], x.shape, weights, where)


def multi_class_hinge(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 1.0,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Multi-class hinge loss, [..., k], integer [...] -> [...]: max(0, margin - x_y + max_{j ≠ y} x_j).

    Range [0, inf). Only the score of the label and the largest of the others have a gradient, -1 and 1; equal largest
    scores share it. Exactly 0 beyond the margin.

    Args:
      scores: one score for each class on the last axis, not probabilities; floating; k >= 2.
      labels: class numbers 0 to k - 1 of shape [...].
      margin: how far the score of the label must exceed the others, > 0; may be traced.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient to exactly 0.

    Raises:
      TypeError: if the scores are not floating or the labels are not integers.
      ValueError: if the shapes do not fit, there is a single class, or `margin` is out of range.

    Differences: same as optax's `multiclass_hinge_loss` and, for one-hot labels and scores >= 0, Keras's
    CategoricalHinge. PyTorch's MultiMarginLoss adds up all classes j ≠ y and divides by k.

    Reference: Crammer and Singer, On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines, 2001.

    >>> multi_class_hinge(jnp.array([[2.0, 0.5, 0.0], [2.0, 0.5, 0.0]]), jnp.array([0, 1])).tolist()
    [0.0, 2.5]
    """
    name = "multi_class_hinge"
    check.kind(name, "labels", labels, "integer", "Pass class numbers; argmax(-1) gives those of one-hot rows.")
    scores, labels = _classes(name, scores, labels, "scores")
    x, k = widened(scores), scores.shape[-1]
    margin = _positive(name, "margin", margin, x.dtype)

    def loss(x: Array, y: Array) -> Array:
        y, known = _number(y, k)
        own = _at_label(x, y)
        gap = jnp.where(own, x, 0).sum(-1) - jnp.where(own, -jnp.inf, x).max(-1)
        return _of_known(_positive_part(margin - gap), known)

    return _masked(name, loss, [x, labels], x.shape[:-1], weights, where)


def margin_ranking(
    x: ArrayLike,
    y: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 0.0,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Ranking loss of pairs of scores, elementwise [...], [...], [...] -> [...]: max(0, margin - s (x - y)), s = ±1.

    Range [0, inf). The label decides whether x or y should have the higher score, by at least the margin. The gradient
    with respect to x is -s while the pair is closer than the margin or in the wrong order, and exactly 0 otherwise.

    Args:
      x: scores of the first of each pair; floating.
      y: scores of the second, of the shape of x; floating.
      labels: array of the shape of x: booleans, or 1 where x should be higher and 0 or -1 where y should, integer or
        floating. Other values give NaN.
      margin: least difference between the two scores, >= 0; may be traced.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient to exactly 0.

    Raises:
      TypeError: if a score is not floating.
      ValueError: if the shapes differ or `margin` is out of range.

    Differences: same as PyTorch's MarginRankingLoss before the mean, which accepts ±1 only and broadcasts.

    >>> margin_ranking(jnp.array([2.0, 2.0]), jnp.array([1.5, 1.5]), jnp.array([1, -1]), margin=1.0).tolist()
    [0.5, 1.5]
    """
    name = "margin_ranking"
    check.kind(name, "y", y, "floating")
    x, y = _pair(name, "x", x, "y", y)
    check.kind(name, "labels", labels, "real")
    check.same_shape(name, "x", x, "labels", labels)
    margin = _option(name, "margin", margin, x.dtype)

    def loss(x: Array, y: Array, sign: Array) -> Array:
        return _positive_part(margin - sign * (x - y))

    sign = _sign(jnp.asarray(labels), x.dtype)
    return _masked(name, loss, [x, y.astype(x.dtype), sign], x.shape, weights, where)


def _sign(y: Array, dtype: DTypeLike) -> Array:
    """Labels 1, and 0 or -1, as ±1; NaN for others."""
    y = y.astype(dtype)
    return jnp.where(y == 1, 1.0, jnp.where((y == 0) | (y == -1), -1.0, jnp.nan)).astype(dtype)


def _hinge(x: Array, sign: Array) -> Array:
    return _positive_part(1 - sign * x)
