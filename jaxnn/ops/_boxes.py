"""Object detection: overlap, encoding and suppression of boxes, anchors, RoI align. A box is (x1, y1, x2, y2)."""

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
from jaxnn._mesh import scan
from jaxnn.ops._window import per_axis


def box_iou(a: Array, b: Array) -> Array:
    """Intersection over union of all pairs of boxes, [n, 4], [m, 4] -> [n, m], in [0, 1]:

        IoU = |A ∩ B| / |A ∪ B|

    The value for two boxes without area is 0.

    Args:
      a, b: boxes (x1, y1, x2, y2), two opposite corners; floating.

    Raises:
      ValueError: if the shapes do not fit.
      TypeError: if the boxes are not floating.

    >>> box_iou(jnp.array([[0.0, 0.0, 2.0, 2.0]]), jnp.array([[1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 6.0, 6.0]])).tolist()
    [[0.333..., 0.0]]
    """
    return _overlap("box_iou", a, b)[0]


def box_giou(a: Array, b: Array) -> Array:
    """Generalized intersection over union of all pairs of boxes, [n, 4], [m, 4] -> [n, m], in [-1, 1]:

        GIoU = IoU - (|C| - |A ∪ B|) / |C|,    C the smallest box around A and B

    Unlike that of IoU, its gradient is not 0 for disjoint boxes; 1 - GIoU is a loss for boxes.

    Args:
      a, b: boxes (x1, y1, x2, y2), two opposite corners; floating.

    Raises:
      ValueError: if the shapes do not fit.
      TypeError: if the boxes are not floating.

    Reference: Rezatofighi et al., Generalized Intersection over Union, 2019.

    >>> box_giou(jnp.array([[0.0, 0.0, 1.0, 1.0]]), jnp.array([[0.0, 0.0, 1.0, 1.0], [2.0, 0.0, 3.0, 1.0]])).tolist()
    [[1.0, -0.333...]]
    """
    iou, union, around = _overlap("box_giou", a, b)
    none = around <= 0
    return iou - jnp.where(none, 0, around - union) / jnp.where(none, 1, around)


def box_corners(boxes: Array) -> Array:
    """Converts boxes (centre x, centre y, width, height) to (x1, y1, x2, y2), [..., 4] -> [..., 4].

    Args:
      boxes: floating.

    Raises:
      ValueError: if the last axis is not of size 4.
      TypeError: if the boxes are not floating.

    >>> box_corners(jnp.array([2.0, 3.0, 2.0, 4.0])).tolist()
    [1.0, 1.0, 3.0, 5.0]
    """
    boxes = _boxes("box_corners", boxes)
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return jnp.concatenate([centre - half, centre + half], -1)


def box_centers(boxes: Array) -> Array:
    """Converts boxes (x1, y1, x2, y2) to (centre x, centre y, width, height), [..., 4] -> [..., 4].

    Args:
      boxes: two opposite corners, in any order; floating.

    Raises:
      ValueError: if the last axis is not of size 4.
      TypeError: if the boxes are not floating.

    >>> box_centers(jnp.array([1.0, 1.0, 3.0, 5.0])).tolist()
    [2.0, 3.0, 2.0, 4.0]
    """
    boxes = _boxes("box_centers", boxes)
    low, high = _ordered(boxes)
    return jnp.concatenate([(low + high) / 2, high - low], -1)


def box_encode(boxes: Array, anchors: Array) -> Array:
    """Encodes boxes as regression targets relative to anchors, [..., 4], [..., 4] -> [..., 4].

        ((x - x_a) / w_a, (y - y_a) / h_a, log(w / w_a), log(h / h_a))

    x, y are centres, w, h widths and heights, those with index a the anchor's. The inverse is `box_decode`. A box
    without area gives -inf.

    Args:
      boxes, anchors: boxes (x1, y1, x2, y2) of equal shape, floating.

    Raises:
      ValueError: if the shapes differ or the last axis is not of size 4.
      TypeError: if boxes or anchors are not floating.

    Reference: Girshick et al., Rich Feature Hierarchies for Accurate Object Detection, 2014.

    >>> box_encode(jnp.array([0.0, 0.0, 2.0, 2.0]), jnp.array([0.0, 0.0, 1.0, 1.0])).round(3).tolist()
    [0.5, 0.5, 0.693..., 0.693...]
    """
    box, anchor = (box_centers(b) for b in _same_boxes("box_encode", boxes, anchors))
    shift = (box[..., :2] - anchor[..., :2]) / anchor[..., 2:]
    return jnp.concatenate([shift, jnp.log(box[..., 2:] / anchor[..., 2:])], -1)


def box_decode(deltas: Array, anchors: Array, *, largest: float = 1000 / 16) -> Array:
    """Decodes a network's regression outputs into boxes, [..., 4], [..., 4] -> [..., 4]; the inverse of `box_encode`.

    Args:
      deltas: outputs relative to the anchors, encoded as by `box_encode`; floating.
      anchors: boxes (x1, y1, x2, y2) of the deltas' shape, floating.
      largest: upper limit of width and height relative to the anchor's, > 0, which avoids overflow for wrong
        predictions.

    Raises:
      ValueError: if the shapes differ or the last axis is not of size 4.
      TypeError: if deltas or anchors are not floating.

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
    """Anchor boxes of every scale and ratio at every position of a feature map, -> [h · w · scales · ratios, 4].

    The order is positions (row by row), then scales, then ratios: that of the outputs of a convolution with scales ·
    ratios · 4 features.

    Args:
      size: (h, w) of the feature map.
      stride: distance between adjacent positions in pixels of the image, an integer >= 1; the first position lies at
        stride / 2.
      scales: sides of the square boxes, in pixels, > 0.
      ratios: height / width, > 0; boxes of one scale have equal area.

    Raises:
      ValueError: if an argument is out of range.

    Reference: Ren et al., Faster R-CNN, 2015.

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
    """Non-maximum suppression, boxes [n, 4], scores [n] -> int32 indices [size], best first, padded with -1.

    Greedy: keeps the box of the highest score, drops the boxes that overlap it, and repeats. The result has a fixed
    size, so the function works under `jit` and under `vmap` over images and classes. A step makes n comparisons; no [n,
    n] array is built.

    Args:
      boxes: (x1, y1, x2, y2), floating.
      scores: floating; boxes with a NaN score are not considered.
      size: the maximum number of boxes to keep, an integer >= 1.
      iou_threshold: boxes whose IoU with a kept box is greater are dropped. May be traced.
      score_threshold: boxes with scores not greater than this are not considered. May be traced.

    Raises:
      ValueError: if the shapes do not fit or `size` is less than 1.
      TypeError: if boxes or scores are not floating.

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
    """RoI align: the content of each box resampled to a fixed size, [n, h, w, c], [m, 4], [m] -> [m, h', w', c].

    Each of the h' · w' bins is the mean of samples² bilinear samples. Coordinates are not rounded, unlike in RoI
    pooling.

    Args:
      x: images or feature maps, floating.
      boxes: (x1, y1, x2, y2) in pixels of the image, floating.
      image: integers [m], the index of the image, 0 to n - 1, that each box belongs to.
      size: (h', w'), or one integer for both.
      scale: factor from pixels of the image to those of x.
      samples: samples along each side of a bin, an integer >= 1. The 0 of PyTorch and ONNX, as many samples as a bin
        has pixels, is not supported: it would have no fixed shape.
      aligned: if True, pixels are areas and half a pixel is subtracted, as PyTorch's `aligned=True` and ONNX's
        "half_pixel".
      mode: "mean", or "max", which is taken over the weighted neighbours of the samples, as in ONNX.

    Raises:
      ValueError: if the shapes do not fit, `mode` is unknown, or `size` or `samples` is less than 1.
      TypeError: if x or the boxes are not floating, or `image` is not an integer array.

    Reference: He et al., Mask R-CNN, 2017.

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
        """Indices and weights of the two neighbours of each sample along an axis, two of [m, bins · samples, 2]."""
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
    """IoU, area of the union and area of the smallest enclosing box, each [n, m]."""
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
