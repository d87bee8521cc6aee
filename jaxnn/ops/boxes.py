"""Boxes of objects in images: how far they agree, how they are written, which are kept, what lies in them.

A box is (x1, y1, x2, y2), two opposite corners.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._dtypes import param_dtype
from jaxnn._errors import invalid
from jaxnn._placement import scan
from jaxnn.ops._window import per_axis


def box_iou(a: Array, b: Array) -> Array:
    """Intersection over union of each box with each other, [n, 4], [m, 4] -> [n, m], in [0, 1].

    Two boxes without area have 0.

    Raises ValueError where shapes do not fit, TypeError for boxes that are not floating.

    >>> box_iou(jnp.array([[0.0, 0.0, 2.0, 2.0]]), jnp.array([[1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 6.0, 6.0]])).tolist()
    [[0.333..., 0.0]]
    """
    return _overlap("box_iou", a, b)[0]


def box_giou(a: Array, b: Array) -> Array:
    """Generalized intersection over union, [n, 4], [m, 4] -> [n, m], in [-1, 1].

        GIoU = IoU - |C without the union| / |C|,    C the smallest box around both

    Unlike IoU it has a gradient where boxes do not meet; 1 - GIoU is a loss for boxes.

    Raises ValueError where shapes do not fit, TypeError for boxes that are not floating.

    Rezatofighi et al., Generalized Intersection over Union, 2019.

    >>> box_giou(jnp.array([[0.0, 0.0, 1.0, 1.0]]), jnp.array([[0.0, 0.0, 1.0, 1.0], [2.0, 0.0, 3.0, 1.0]])).tolist()
    [[1.0, -0.333...]]
    """
    iou, union, around = _overlap("box_giou", a, b)
    none = around <= 0
    return iou - jnp.where(none, 0, around - union) / jnp.where(none, 1, around)


def box_corners(boxes: Array) -> Array:
    """(centre x, centre y, width, height) as (x1, y1, x2, y2), [..., 4] -> [..., 4].

    >>> box_corners(jnp.array([2.0, 3.0, 2.0, 4.0])).tolist()
    [1.0, 1.0, 3.0, 5.0]
    """
    boxes = _boxes("box_corners", boxes)
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return jnp.concatenate([centre - half, centre + half], -1)


def box_centers(boxes: Array) -> Array:
    """(x1, y1, x2, y2) as (centre x, centre y, width, height), [..., 4] -> [..., 4].

    >>> box_centers(jnp.array([1.0, 1.0, 3.0, 5.0])).tolist()
    [2.0, 3.0, 2.0, 4.0]
    """
    boxes = _boxes("box_centers", boxes)
    low, high = _ordered(boxes)
    return jnp.concatenate([(low + high) / 2, high - low], -1)


def box_encode(boxes: Array, anchors: Array) -> Array:
    """What a network has to say to turn anchors into boxes, [..., 4], [..., 4] -> [..., 4].

        ((x - x_a) / w_a, (y - y_a) / h_a, log(w / w_a), log(h / h_a))

    with centres, widths and heights; the inverse of `box_decode`. A box without area gives -inf.

    Girshick et al., Rich Feature Hierarchies for Accurate Object Detection, 2014.

    >>> box_encode(jnp.array([0.0, 0.0, 2.0, 2.0]), jnp.array([0.0, 0.0, 1.0, 1.0])).round(3).tolist()
    [0.5, 0.5, 0.693..., 0.693...]
    """
    box, anchor = (box_centers(b) for b in _same_boxes("box_encode", boxes, anchors))
    shift = (box[..., :2] - anchor[..., :2]) / anchor[..., 2:]
    return jnp.concatenate([shift, jnp.log(box[..., 2:] / anchor[..., 2:])], -1)


def box_decode(deltas: Array, anchors: Array, *, largest: float = 1000 / 16) -> Array:
    """The boxes that a network means, [..., 4], [..., 4] -> [..., 4]; the inverse of `box_encode`.

    Args:
      largest: width and height over the anchor's are cut off there, so that a wild guess does not overflow.

    >>> box_decode(jnp.array([0.5, 0.5, 0.0, 0.0]), jnp.array([0.0, 0.0, 2.0, 2.0])).tolist()
    [1.0, 1.0, 3.0, 3.0]
    """
    check.scalar("box_decode", "largest", largest, ends="()", static=True)
    deltas, anchors = _same_boxes("box_decode", deltas, anchors)
    anchor = box_centers(anchors)
    size = jnp.exp(jnp.minimum(deltas[..., 2:], float(np.log(largest)))) * anchor[..., 2:]
    return box_corners(jnp.concatenate([deltas[..., :2] * anchor[..., 2:] + anchor[..., :2], size], -1))


def anchors(
    size: Sequence[int], stride: int, scales: Sequence[float], ratios: Sequence[float] = (0.5, 1.0, 2.0)
) -> Array:
    """Boxes of every scale and ratio around every place of a feature map, -> [h · w · scales · ratios, 4].

    In the order of places, row by row, then scales, then ratios, as a convolution with scales · ratios · 4 features
    gives its deltas.

    Args:
      size: (h, w) of the feature map.
      stride: pixels from one place of it to the next; the first lies at stride / 2.
      scales: sides of the square boxes, in pixels.
      ratios: height over width, of boxes of the same area.

    Ren et al., Faster R-CNN, 2015.

    >>> anchors((1, 2), 8, [4.0], [1.0]).tolist()
    [[2.0, 2.0, 6.0, 6.0], [10.0, 2.0, 14.0, 6.0]]
    """
    h, w = per_axis("anchors", "size", size, 2)
    stride = check.count("anchors", "stride", stride)
    for argument, values in (("scales", scales), ("ratios", ratios)):
        for value in values:
            check.scalar("anchors", f"each of {argument}", value, ends="()", static=True)
    sides = np.array([(s / r**0.5, s * r**0.5) for s in scales for r in ratios]).reshape(-1, 2)
    y, x = np.meshgrid((np.arange(h) + 0.5) * stride, (np.arange(w) + 0.5) * stride, indexing="ij")
    centre = np.stack([x, y], -1).reshape(-1, 1, 2)
    return jnp.asarray(np.concatenate([centre - sides / 2, centre + sides / 2], -1).reshape(-1, 4), jnp.float32)


def non_maximum_suppression(
    boxes: Array,
    scores: Array,
    size: int,
    *,
    iou_threshold: ArrayLike = 0.5,
    score_threshold: ArrayLike = -jnp.inf,
) -> Array:
    """The best boxes that do not cover each other, [n, 4], [n] -> indices [size], best first, -1 where none is left.

    Greedy: the box of the highest score is kept, those that overlap it are dropped, and so on. Of fixed size, so it
    jits and vmaps, over images and classes; one step takes n comparisons, and no [n, n] is made.

    Args:
      size: the most boxes kept.
      iou_threshold: boxes whose IoU with a kept one is greater are dropped.
      score_threshold: boxes whose score is not greater are not considered; nor are those whose score is NaN.

    Raises ValueError where shapes do not fit, TypeError for boxes or scores that are not floating.

    >>> boxes = jnp.array([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9], [5.0, 5.0, 6.0, 6.0]])
    >>> non_maximum_suppression(boxes, jnp.array([0.8, 0.9, 0.1]), 3).tolist()
    [1, 2, -1]
    """
    where = "non_maximum_suppression"
    size = check.count(where, "size", size)
    check.scalar(where, "iou_threshold", iou_threshold, -math.inf, ends="[]")
    check.scalar(where, "score_threshold", score_threshold, -math.inf, ends="[]")
    boxes, scores = _boxes(where, boxes), check.array(where, "scores", scores, rank=1, shape="[n]")
    if boxes.shape != (scores.shape[0], 4):
        raise invalid(where, "boxes [n, 4] and scores [n]", (boxes, scores))
    if not scores.size:
        return jnp.full(size, -1, jnp.int32)

    def keep(left: Array, _: None) -> tuple[Array, Array]:
        best = jnp.argmax(jnp.where(left, scores, -jnp.inf))
        cover = box_iou(boxes[best][None], boxes)[0] > iou_threshold
        others = left & ~cover & (jnp.arange(left.size) != best)
        return others, jnp.where(left[best], best, -1).astype(jnp.int32)

    return scan(keep, scores > score_threshold, None, length=size)[1]


def roi_align(
    x: Array,
    boxes: Array,
    image: Array,
    size: int | Sequence[int],
    *,
    scale: float = 1.0,
    samples: int = 2,
    aligned: bool = True,
    mode: Literal["mean", "max"] = "mean",
) -> Array:
    """What lies in each box, resampled to one size, [n, h, w, c], [m, 4], [m] -> [m, h', w', c].

    Each of the h' · w' bins is the mean of samples² bilinear reads; nothing is rounded, unlike in RoI pooling.

    Args:
      boxes: in pixels of the image.
      image: for each box which of the n it lies in.
      size: (h', w'), or one number for both.
      scale: from pixels of the image to those of x.
      samples: reads along each side of a bin. PyTorch's and ONNX's 0, as many as a bin has pixels, would have no fixed
        shape.
      aligned: pixels are areas, so half a pixel is taken off, as PyTorch's `aligned=True` and ONNX's "half_pixel".
      mode: "mean", or "max", over the reads' weighted neighbours, as ONNX has it.

    Raises ValueError where shapes do not fit, TypeError for an x or boxes that are not floating.

    He et al., Mask R-CNN, 2017.

    >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> roi_align(x, jnp.array([[0.0, 0.0, 4.0, 4.0]]), jnp.array([0]), 2)[0, :, :, 0].tolist()
    [[2.5, 4.5], [10.5, 12.5]]
    """
    x = check.array("roi_align", "x", x, rank=4, shape="[n, h, w, c]")
    boxes = _boxes("roi_align", boxes)
    check.kind("roi_align", "image", image, "integer", "It is the index of the image of each box.")
    if boxes.ndim != 2 or image.shape != boxes.shape[:1]:
        raise invalid("roi_align", "boxes [m, 4] and image [m]", (boxes, image))
    check.choice("roi_align", "mode", mode, ("mean", "max"))
    check.scalar("roi_align", "scale", scale, ends="()")
    check.flags("roi_align", aligned=aligned)
    samples = check.count("roi_align", "samples", samples)
    height, width = per_axis("roi_align", "size", size, 2)
    wide = jnp.promote_types(param_dtype(x), param_dtype(boxes))
    corners = boxes.astype(wide) * scale - (0.5 if aligned else 0.0)

    def reads(low: Array, high: Array, bins: int, n: int) -> tuple[Array, Array]:
        """Index and weight of the two neighbours of each read along an axis, two of [m, bins · samples, 2]."""
        extent = high - low if aligned else jnp.maximum(high - low, 1)
        steps = np.asarray((np.arange(bins * samples) + 0.5) / (samples * bins), wide)
        at = low[:, None] + extent[:, None] * steps[None]
        inside = (at >= -1) & (at <= n)
        at = jnp.clip(at, 0, n - 1)
        first = jnp.minimum(jnp.floor(at), max(n - 2, 0))
        index = jnp.stack([first, jnp.minimum(first + 1, n - 1)], -1).astype(jnp.int32)
        weight = jnp.where(inside[..., None], jnp.stack([1 - (at - first), at - first], -1), 0)
        return index, weight

    rows, row_weights = reads(corners[:, 1], corners[:, 3], height, x.shape[1])
    columns, column_weights = reads(corners[:, 0], corners[:, 2], width, x.shape[2])
    parts = []
    for i in (0, 1):
        for j in (0, 1):
            value = x[image[:, None, None], rows[:, :, None, i], columns[:, None, :, j]].astype(wide)
            parts.append(value * (row_weights[:, :, None, i] * column_weights[:, None, :, j])[..., None])
    binned = (len(boxes), height, samples, width, samples, x.shape[-1])
    if mode == "mean":
        return sum(parts[1:], parts[0]).reshape(binned).mean((2, 4)).astype(x.dtype)
    return jnp.stack(parts).max(0).reshape(binned).max((2, 4)).astype(x.dtype)


def _overlap(where: str, a: Array, b: Array) -> tuple[Array, Array, Array]:
    """IoU, area of the union and of the smallest box around, each [n, m]."""
    a, b = _boxes(where, a), _boxes(where, b)
    if a.ndim != 2 or b.ndim != 2:
        raise invalid(where, "boxes of shapes [n, 4] and [m, 4]", (a, b))
    wide = jnp.promote_types(param_dtype(a), param_dtype(b))
    low_a, high_a = _ordered(a.astype(wide)[:, None])
    low_b, high_b = _ordered(b.astype(wide)[None])
    both = _area(jnp.maximum(low_a, low_b), jnp.minimum(high_a, high_b))
    union = _area(low_a, high_a) + _area(low_b, high_b) - both
    around = _area(jnp.minimum(low_a, low_b), jnp.maximum(high_a, high_b))
    return jnp.where(union > 0, both / jnp.where(union > 0, union, 1), 0), union, around


def _ordered(boxes: Array) -> tuple[Array, Array]:
    return jnp.minimum(boxes[..., :2], boxes[..., 2:]), jnp.maximum(boxes[..., :2], boxes[..., 2:])


def _area(low: Array, high: Array) -> Array:
    return jnp.prod(jnp.maximum(high - low, 0), -1)


def _boxes(where: str, boxes: Array) -> Array:
    boxes = check.array(where, "boxes", boxes, least=1, shape="[..., 4]")
    if boxes.shape[-1] != 4:
        raise invalid(where, "boxes of shape [..., 4]", boxes)
    return boxes


def _same_boxes(where: str, boxes: Array, anchors: Array) -> tuple[Array, Array]:
    boxes, anchors = _boxes(where, boxes), _boxes(where, anchors)
    check.same_shape(where, "boxes", boxes, "anchors", anchors)
    return boxes, anchors
