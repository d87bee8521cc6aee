"""Segmentation losses on the overlap of regions: Dice and Tversky."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._errors import invalid
from jaxnn.losses._checks import (
    _bits,
    _counted,
    _floor,
    _keep,
    _mask,
    _option,
    _pair,
    _probability,
    _weighted,
)

__all__ = ["dice", "tversky"]


def dice(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int | Sequence[int] | None = None,
    smooth: ArrayLike = 1.0,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Dice loss of a segmentation, [n, ...], [n, ...] -> [n]: 1 - (2 Σ p y + s) / (Σ p + Σ y + s); range [0, 1].

    One minus the F1 score of soft masks. The overlap is relative to the size of the region, so small objects count as
    much as large ones: use it where the object is small compared to the background. The loss of a very small object
    changes abruptly with single pixels, and probabilities are badly calibrated; often combined with a cross-entropy.

    Args:
      probabilities: floating, from 0 to 1, such as `nn.sigmoid(logits)`. Values more than 0.01 outside give NaN.
      labels: array of the same shape: booleans, the integers 0 and 1 (others give NaN), or probabilities. Convert class
        numbers to one-hot first.
      axis: axis or axes of one region, which are summed over; None sums over all but the first. `axis=(1, 2)` for [n,
        h, w, classes] gives one loss per class, [n, classes].
      smooth: s >= 0, in pixels; may be traced. If mask and prediction are both empty, the loss is 0 for s > 0 and NaN
        for s = 0.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the labels' shape; False excludes a pixel.

    Raises:
      TypeError: if the probabilities are not floating.
      ValueError: if the shapes differ, or `axis` or `smooth` is out of range.

    Differences: optax's `dice_loss` takes logits, and its `smooth` is half of this one. Some implementations square p
    and y in the denominator (V-Net, 2016). Keras's Dice also sums over the batch unless axis is given, and adds 1e-7 to
    numerator and denominator.

    Reference: Milletari, Navab and Ahmadi, V-Net, 2016.

    >>> dice(jnp.array([[1.0, 1.0, 0.0, 0.0]]), jnp.array([[1, 0, 0, 0]]), smooth=0.0).tolist()
    [0.333...]
    """
    smooth = _option("dice", "smooth", smooth, jnp.result_type(float))
    return _overlap("dice", probabilities, labels, 0.5, 0.5, smooth / 2, axis, weights, where)


def tversky(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: ArrayLike = 0.5,
    beta: ArrayLike = 0.5,
    axis: int | Sequence[int] | None = None,
    smooth: ArrayLike = 1.0,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Tversky loss of a segmentation, [n, ...], [n, ...] -> [n]: 1 - (TP + s) / (TP + α FP + β FN + s); range [0, 1].

        TP = Σ p y,    FP = Σ p (1 - y),    FN = Σ (1 - p) y

    Generalises `dice` by weighting false positives and false negatives: β > α finds more of a small lesion at the cost
    of more false positives. α = β = 1/2 is `dice` with twice the `smooth`; α = β = 1 is the Jaccard loss, 1 - IoU.

    Args:
      probabilities: floating, from 0 to 1, such as `nn.sigmoid(logits)`. Values more than 0.01 outside give NaN.
      labels: array of the same shape: booleans, the integers 0 and 1 (others give NaN), or probabilities.
      alpha: weight of false positives, >= 0; may be traced.
      beta: weight of false negatives, >= 0; may be traced.
      axis: axis or axes of one region, which are summed over; None sums over all but the first.
      smooth: s >= 0, in pixels; may be traced.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the labels' shape; False excludes a pixel.

    Raises:
      TypeError: if the probabilities are not floating.
      ValueError: if the shapes differ, or `axis`, `alpha`, `beta` or `smooth` is out of range.

    Differences: Keras's Tversky exchanges the names: its `alpha` weights false negatives and its `beta` false
    positives, so `tversky(alpha=a, beta=b)` is keras.losses.Tversky(alpha=b, beta=a). Keras also sums over the batch
    unless axis is given. The paper, and Tversky's index with the prediction first, have alpha with false positives, as
    here.

    Reference: Salehi, Erdogmus and Gholipour, Tversky Loss Function for Image Segmentation, 2017.

    >>> p, y = jnp.array([[1.0, 1.0, 0.0, 0.0]]), jnp.array([[1, 0, 0, 0]])
    >>> tversky(p, y, alpha=0.5, beta=2.0, smooth=0.0).tolist()  # 1 - 1 / (1 + 1/2)
    [0.333...]
    """
    return _overlap("tversky", probabilities, labels, alpha, beta, smooth, axis, weights, where)


def _overlap(
    name: str,
    probabilities: ArrayLike,
    labels: ArrayLike,
    alpha: ArrayLike,
    beta: ArrayLike,
    smooth: ArrayLike,
    axis: int | Sequence[int] | None,
    weights: ArrayLike | None,
    where: ArrayLike | None,
) -> Array:
    p, y = _pair(name, "probabilities", probabilities, "labels", labels)
    if axis is None and not p.ndim:
        raise invalid(name, "probabilities of shape [n, ...]", p, "Name the axes of a region by axis=.")
    axes = _axes(name, axis, p.ndim)
    y = _bits(y, p.dtype)
    if where is not None:
        mask = _mask(name, where, p.shape, "the labels")
        p, y = _keep(mask, p), _keep(mask, y)
    alpha = _option(name, "alpha", alpha, p.dtype)
    beta = _option(name, "beta", beta, p.dtype)
    smooth = _option(name, "smooth", smooth, p.dtype)
    p = _floor(_probability(p), jnp.zeros((), p.dtype))
    hit, false_alarm, miss = ((a * b).sum(axis=axes) for a, b in ((p, y), (p, 1 - y), (1 - p, y)))
    wrong = alpha * false_alarm + beta * miss
    return _counted(_weighted(name, wrong / (hit + wrong + smooth), weights), weights)


def _axes(name: str, axis: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(1, rank))
    return check.axes(name, "axis", axis, rank, "probabilities", least=0)
