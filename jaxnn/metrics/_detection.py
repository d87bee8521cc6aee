"""Object detection metrics: mean average precision."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._dtypes import widened
from jaxnn._errors import invalid, wrong_type
from jaxnn._mesh import scan
from jaxnn.metrics._checks import class_numbers, mask

_COCO = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
_WHERE = "mean_average_precision"


def mean_average_precision(
    boxes: ArrayLike,
    scores: ArrayLike,
    classes: ArrayLike,
    true_boxes: ArrayLike,
    true_classes: ArrayLike,
    num_classes: int,
    *,
    iou_thresholds: Sequence[float] = _COCO,
    points: int | None = 101,
    average: str | None = "macro",
    where: ArrayLike | None = None,
    true_where: ArrayLike | None = None,
) -> Array:
    """Mean average precision (mAP) of d detections and g true boxes in each of n images, -> [] or [t, num_classes].

        AP = mean of precision at recalls 0, 1/(points - 1), ..., 1      (0 at recalls that are not reached)

    In each image, detections are matched in order of falling score. Each takes the unmatched true box of its class with
    the largest IoU; it is a true positive if IoU >= threshold, else a false positive. Sorted by score over all images,
    the detections of a class give its precision-recall curve. Precision is replaced by its maximum over all higher
    recalls. The mean runs over thresholds and over the classes that have true boxes; detections of other classes do not
    count.

    Args:
      boxes: floating [n, d, 4]: corners x1, y1, x2, y2 in continuous coordinates (the width is x2 - x1, without VOC's +
        1). A box with x2 < x1 or y2 < y1 is empty and overlaps nothing.
      scores: floating [n, d].
      classes: class numbers [n, d], 0 to num_classes - 1.
      true_boxes: floating [n, g, 4], corners as in `boxes`.
      true_classes: class numbers [n, g].
      num_classes: number of classes, >= 1.
      iou_thresholds: t numbers in (0, 1]. (0.5,) is Pascal VOC's; the default is COCO's 0.5, 0.55, ..., 0.95.
      points: number of recalls, >= 2: 101 as COCO, 11 as VOC 2007. None uses every recall reached (the area under the
        curve, VOC since 2010).
      average: "macro" gives the mean. None gives each threshold and class, NaN for classes without true boxes.
      where: boolean mask [n, d]; False is padding.
      true_where: boolean mask [n, g]; False is padding.

    Returns:
      Scalar, or [t, num_classes] with average=None. NaN without true boxes, and if an unmasked score is NaN, an
      unmasked box is not finite or an unmasked class is out of range.

    Raises:
      TypeError: if a dtype does not fit.
      ValueError: if shapes do not fit, a threshold is out of range or `average` is unknown.

    Differences: as COCO's evaluation of all detections given, without areas, crowds and the limit of 100 detections per
    image. Recalls are compared as exact fractions, COCO's are rounded. On equal scores the earlier image comes first.
    VOC assigns each detection to the true box with the largest overlap even if that box is already matched.

    Reference: Lin et al., Microsoft COCO, 2014; Everingham et al., The Pascal Visual Object Classes Challenge, 2010.

    >>> true = jnp.array([[[0.0, 0.0, 2.0, 2.0], [4.0, 4.0, 6.0, 6.0]]])
    >>> found = true.at[0, 1].add(1.0)  # the second overlaps by 1/7
    >>> found_scores, zeros = jnp.array([[0.9, 0.8]]), jnp.zeros((1, 2), jnp.int32)
    >>> mean_average_precision(found, found_scores, zeros, true, zeros, 1, iou_thresholds=(0.5,), points=None).item()
    0.5
    """
    num_classes = check.count(_WHERE, "num_classes", num_classes)
    check.choice(_WHERE, "average", average, ("macro", None))
    if points is not None:
        points = check.count(_WHERE, "points", points, 2)
    thresholds = _thresholds(iou_thresholds)
    b = _boxes("boxes", boxes, "d")
    t = _boxes("true_boxes", true_boxes, "g")
    if b.shape[0] != t.shape[0]:
        raise invalid(_WHERE, f"true_boxes of {b.shape[0]} images, as boxes", true_boxes, "Pad the images without any.")
    s = check.array_like(_WHERE, "scores", scores)
    c, c_known = class_numbers(_WHERE, "classes", classes, num_classes)
    tc, tc_known = class_numbers(_WHERE, "true_classes", true_classes, num_classes)
    for what, x, shape in (
        ("scores", scores, b.shape[:2]),
        ("classes", classes, b.shape[:2]),
        ("true_classes", true_classes, t.shape[:2]),
    ):
        check.shape(_WHERE, what, x, shape, ", one for each box")
    kept, t_kept = mask(_WHERE, where, b.shape[:2]), mask(_WHERE, true_where, t.shape[:2], "true_where")
    valid = jnp.all(c_known & ~jnp.isnan(s) & jnp.isfinite(b).all(axis=-1) | ~kept)
    valid &= jnp.all(tc_known & jnp.isfinite(t).all(axis=-1) | ~t_kept)

    order = jnp.argsort(-jnp.where(kept, s, -jnp.inf), axis=1, stable=True)
    b, s, c, kept = (
        jnp.take_along_axis(x, order.reshape(*order.shape, *[1] * (x.ndim - 2)), 1) for x in (b, s, c, kept)
    )
    rivals = kept[:, :, None] & t_kept[:, None, :] & (c[:, :, None] == tc[:, None, :])
    hits = _matches(jnp.where(rivals, _box_iou(b, t), -1), thresholds)

    best = jnp.argsort(-s.ravel(), stable=True)
    hits = hits.reshape(best.size, thresholds.size)[best]
    c, tc = jnp.where(kept, c, -1).ravel()[best], jnp.where(t_kept, tc, -1)

    def of_class(k: Array) -> Array:
        return _average_precision(hits, c == k, jnp.sum(tc == k), points)

    value = jax.lax.map(of_class, jnp.arange(num_classes, dtype=jnp.int32)).T
    return jnp.where(valid, value if average is None else jnp.nanmean(value), jnp.nan)


def _thresholds(values: Sequence[float]) -> Array:
    if not isinstance(values, Sequence | jax.Array | np.ndarray) or isinstance(values, str):
        raise wrong_type(_WHERE, "iou_thresholds to be a sequence of numbers", values, "One is (0.5,).")
    for value in () if isinstance(values, jax.Array) else values:
        check.scalar(_WHERE, "each of iou_thresholds", value, below=1.0, ends="(]")
    array = jnp.asarray(values, jnp.float32)
    if array.ndim != 1 or not array.size:
        raise invalid(_WHERE, "iou_thresholds to be a sequence of numbers", values, "One is (0.5,).")
    return array


def _boxes(what: str, boxes: ArrayLike, count: str) -> Array:
    x = check.array_like(_WHERE, what, boxes)
    if x.ndim != 3 or x.shape[-1] != 4:
        raise invalid(_WHERE, f"{what} of shape [n, {count}, 4]", boxes, "The first axis holds the images.")
    return widened(x)


def _box_iou(a: Array, b: Array) -> Array:
    """Intersection over union of the boxes of an image, [n, d, 4], [n, g, 4] -> [n, d, g]; 0 for two empty boxes."""
    low = jnp.maximum(a[:, :, None, :2], b[:, None, :, :2])
    high = jnp.minimum(a[:, :, None, 2:], b[:, None, :, 2:])
    both = jnp.maximum(high - low, 0).prod(axis=-1)
    area_a, area_b = (jnp.maximum(x[..., 2:] - x[..., :2], 0).prod(axis=-1) for x in (a, b))
    union = area_a[:, :, None] + area_b[:, None, :] - both
    return (jnp.where(both > 0, both, 0) / jnp.where(union > 0, union, 1)).astype(jnp.float32)


def _matches(iou: Array, thresholds: Array) -> Array:
    """Mask of detections that match a free box, best first, [n, d, g], [t] -> bool [n, d, t]; IoU -1: no pair."""
    n, d, g = iou.shape
    if not g:
        return jnp.zeros((n, d, thresholds.size), bool)

    def match(taken: Array, overlap: Array) -> tuple[Array, Array]:  # [n, t, g], [n, g]
        free = jnp.where(taken, -1, overlap[:, None, :])
        hit = free.max(axis=-1) >= thresholds[None, :]
        return taken | (hit[..., None] & jax.nn.one_hot(free.argmax(axis=-1), g, dtype=bool)), hit

    _, hits = scan(match, jnp.zeros((n, thresholds.size, g), bool), iou.swapaxes(0, 1))
    return hits.swapaxes(0, 1)


def _average_precision(hits: Array, mine: Array, total: Array, points: int | None) -> Array:
    """AP of one class at each threshold from detections, best first, bool [m, t], [m] -> [t]; NaN if total is 0."""
    hits &= mine[:, None]
    found = jnp.cumsum(hits, axis=0, dtype=jnp.int32)
    precision = jnp.where(hits, found / jnp.maximum(jnp.cumsum(mine, dtype=jnp.int32), 1)[:, None], 0)
    precision = jax.lax.cummax(precision.astype(jnp.float32), axis=0, reverse=True)
    if points is None:
        recalls = hits.astype(jnp.float32) / jnp.maximum(total, 1).astype(jnp.float32)
    else:  # the m-th hit raises recall to m / total: count the points that it is the first to reach
        reached = (points - 1) * found // jnp.maximum(total, 1).astype(jnp.int32) + jnp.minimum(found, 1)
        recalls = jnp.diff(reached, axis=0, prepend=0).astype(jnp.float32) / points
    return jnp.where(total > 0, jnp.sum(precision * recalls, axis=0), jnp.nan)
