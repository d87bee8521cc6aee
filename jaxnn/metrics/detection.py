"""Metrics of detection: boxes with classes and scores against the true ones."""

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
from jaxnn._placement import scan
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
    """Mean average precision of d detections in each of n images against g true boxes -> [], or [t, num_classes].

    In each image detections, best score first, each take the free true box of their class with which they overlap
    most, if by IoU >= threshold: a true positive, else a false one. Over all images, by falling score, recall and
    precision then make the curve of a class, and precision is raised to the largest at any higher recall:

        AP = mean of precision at recalls 0, 1/(points - 1), ..., 1      (0 where recall does not come)

    The mean runs over thresholds and over the classes that have true boxes; detections of others do not count.
    As COCO's evaluation, all detections given being used: no areas, no crowds, and its limit of 100 an image is yours.
    Recalls are compared as exact fractions, where COCO's are rounded; of equal scores the earlier image comes first.

    Args:
      boxes: [n, d, 4], corners x1, y1, x2, y2 on continuous coordinates (x2 - x1 wide, without VOC's + 1).
      scores, classes: [n, d], floating and class numbers 0 to num_classes - 1.
      true_boxes, true_classes: [n, g, 4], [n, g].
      iou_thresholds: t numbers in (0, 1]; (0.5,) is Pascal VOC's, the default COCO's 0.5, 0.55, ..., 0.95.
      points: how many recalls: 101 as COCO, 11 as VOC 2007, None for each recall reached (the area, VOC since 2010).
        VOC also gives each detection its most overlapping true box, be it free or not.
      average: "macro" is the mean; None is each threshold and class, NaN for classes without true boxes.
      where, true_where: [n, d], [n, g]: False is padding.

    A NaN score, a box that is not finite or a class out of range, if it counts, makes the result NaN, as do no true
    boxes at all. A box with x2 < x1 or y2 < y1 is empty and overlaps nothing. Raises TypeError for dtypes and
    ValueError for shapes that do not fit, thresholds out of range and an `average` not known.

    Lin et al., Microsoft COCO, 2014; Everingham et al., The Pascal Visual Object Classes Challenge, 2010.

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
    """Intersection over union of boxes of an image, [n, d, 4], [n, g, 4] -> [n, d, g]; 0 of two empty ones."""
    low = jnp.maximum(a[:, :, None, :2], b[:, None, :, :2])
    high = jnp.minimum(a[:, :, None, 2:], b[:, None, :, 2:])
    both = jnp.maximum(high - low, 0).prod(axis=-1)
    area_a, area_b = (jnp.maximum(x[..., 2:] - x[..., :2], 0).prod(axis=-1) for x in (a, b))
    union = area_a[:, :, None] + area_b[:, None, :] - both
    return (jnp.where(both > 0, both, 0) / jnp.where(union > 0, union, 1)).astype(jnp.float32)


def _matches(iou: Array, thresholds: Array) -> Array:
    """Which detections, best first, find a free true box, [n, d, g], [t] -> bool [n, d, t]; -1 rules a pair out."""
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
    """AP at each threshold of the detections of a class, best first, bool [m, t], [m] -> [t]; NaN if total is 0."""
    hits &= mine[:, None]
    found = jnp.cumsum(hits, axis=0, dtype=jnp.int32)
    precision = jnp.where(hits, found / jnp.maximum(jnp.cumsum(mine, dtype=jnp.int32), 1)[:, None], 0)
    precision = jax.lax.cummax(precision.astype(jnp.float32), axis=0, reverse=True)
    if points is None:
        recalls = hits.astype(jnp.float32) / jnp.maximum(total, 1).astype(jnp.float32)
    else:  # the m-th hit brings recall to m / total: to which points does it come first?
        reached = (points - 1) * found // jnp.maximum(total, 1).astype(jnp.int32) + jnp.minimum(found, 1)
        recalls = jnp.diff(reached, axis=0, prepend=0).astype(jnp.float32) / points
    return jnp.where(total > 0, jnp.sum(precision * recalls, axis=0), jnp.nan)
