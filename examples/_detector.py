"""A small anchor-free detector: each cell of a grid predicts the classes at its place and the sides of a box around it.

Lin, Goyal, Girshick, He, Dollár, Focal Loss for Dense Object Detection, 2017, arXiv:1708.02002.
Tian, Shen, Chen, He, FCOS: Fully Convolutional One-Stage Object Detection, 2019, arXiv:1904.01355: cells near the
centre of a box predict it, the smallest box where several overlap.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from _pictures import band, spread

import jaxnn as nn

CELL = 4  # pixels along the side of a cell
FEATURES = 48
PRIOR = 0.01  # probability of an object in a cell before training, as in the paper on the focal loss
USUAL = 10.0  # distance from a cell to the sides of its box before training, in pixels
MIDDLE = 0.25  # the cells up to this fraction of a box's sides away from its centre are to predict it
OVERLAP = 0.5  # IoU above which the box with the lower score is dropped
LEAST_SCORE = 0.05
THRESHOLDS = np.linspace(0.5, 0.95, 10)  # least IoU of a right box, COCO's


class Boxes(NamedTuple):
    """Objects of an image: boxes [..., k, 4], classes [..., k] and scores [..., k]; those with score 0 are padding."""

    boxes: Any
    classes: Any
    scores: Any


def block(features: int, stride: int = 1) -> nn.Layer:
    """Convolution, norm and relu; a group norm has no statistics that depend on the kind of images."""
    return nn.serial(nn.conv(features, 3, stride=stride, bias=False), nn.group_norm(8), nn.relu)


def network(classes: int) -> nn.Layer:
    """Images [n, h, w, 1] -> {"class": logits [n, h', w', classes], "box": [n, h', w', 4]}, with h' = h / CELL.

    Features at half and at a quarter of the resolution are scaled up and added, so that a cell sees a whole object.
    Height and width are multiples of 4 · CELL.
    """
    coarse = nn.serial(block(2 * FEATURES, 2), nn.upsample(2), block(FEATURES))
    middle = nn.serial(block(FEATURES, 2), nn.residual(coarse), nn.upsample(2), block(FEATURES))
    body = nn.space_to_depth(CELL), block(FEATURES), nn.residual(middle), block(FEATURES)
    rare = partial(nn.init.constant, value=-np.log(1 / PRIOR - 1))
    heads = nn.conv(classes, 3, b_init=rare, name="class"), nn.conv(4, 3, name="box")
    return nn.serial(*body, nn.parallel(*heads, join=lambda *y: dict(zip(("class", "box"), y, strict=True))))


def places(h: int, w: int) -> jax.Array:
    """Centres x, y of the cells in pixels [h, w, 2]."""
    rows, columns = jnp.meshgrid(jnp.arange(h), jnp.arange(w), indexing="ij")
    return CELL * (jnp.stack([columns, rows], -1) + 0.5)


def around(logs: jax.Array) -> jax.Array:
    """Boxes from logarithms of the distances between cells and the sides of their boxes, [h, w, 4] -> [h · w, 4]."""
    centre, distance = places(*logs.shape[:2]), USUAL * jnp.exp(logs)
    return jnp.concatenate([centre - distance[..., :2], centre + distance[..., 2:]], -1).reshape(-1, 4)


def area(boxes: jax.Array) -> jax.Array:
    """Areas of boxes [..., 4]."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def assigned(true: Boxes, h: int, w: int) -> tuple[jax.Array, jax.Array]:
    """Index of the smallest object whose middle contains a cell, and a mask of the cells with one, [h · w]."""
    corners = true.boxes.reshape(-1, 2, 2)
    far = jnp.abs(places(h, w).reshape(-1, 1, 2) - corners.mean(1))  # [h · w, k, 2]
    middle = jnp.maximum(MIDDLE * (corners[:, 1] - corners[:, 0]), CELL / 2)  # at least one cell
    inside = (far <= middle).all(-1) & (true.scores > 0)
    return jnp.where(inside, area(true.boxes), jnp.inf).argmin(-1), inside.any(-1)


def loss(y: dict[str, jax.Array], true: Boxes) -> jax.Array:
    """Focal loss of the classes and GIoU loss of the boxes, for each cell that is to predict an object, [n]."""

    def of_image(y: dict[str, jax.Array], true: Boxes) -> jax.Array:
        h, w, classes = y["class"].shape
        index, there = assigned(true, h, w)
        labels = there[:, None] & (true.classes[index][:, None] == jnp.arange(classes))
        giou = jax.vmap(lambda a, b: nn.ops.box_giou(a[None], b[None])[0, 0])
        off = jnp.where(there, 1 - giou(around(y["box"]), true.boxes[index]), 0)
        total = nn.losses.focal(y["class"].reshape(-1, classes), labels).sum() + off.sum()
        return total / jnp.maximum(there.sum(), 1)

    return jax.vmap(of_image)(y, true)


def detect(model: nn.Layer, params: Any, x: jax.Array, most: int) -> Boxes:
    """Objects in images [n, h, w, 1] after non-maximum suppression, at most `most` of each class."""

    def of_image(x: jax.Array) -> Boxes:
        y, _ = model.apply(params, {}, x[None])
        boxes, scores = around(y["box"][0]), nn.sigmoid(y["class"][0])

        def of_class(scores: jax.Array) -> Boxes:
            how = {"iou_threshold": OVERLAP, "score_threshold": LEAST_SCORE}
            kept = nn.ops.non_maximum_suppression(boxes, scores, most, **how)
            return Boxes(boxes[kept], kept, jnp.where(kept >= 0, scores[kept], 0))

        found = jax.vmap(of_class, 1)(scores.reshape(len(boxes), -1))
        classes = jnp.repeat(jnp.arange(len(found.boxes)), most)
        return Boxes(found.boxes.reshape(-1, 4), classes, found.scores.ravel())

    return jax.lax.map(of_image, x)


_precisions = jax.jit(
    partial(nn.metrics.mean_average_precision, iou_thresholds=THRESHOLDS, average=None), static_argnums=5
)


def precision(found: Boxes, true: Boxes, classes: int) -> np.ndarray:
    """Mean average precision over the classes at each of THRESHOLDS; all arguments start with the axis of images."""
    masks = {"where": found.scores > 0, "true_where": true.scores > 0}
    args = found.boxes, found.scores, found.classes, true.boxes, true.classes
    return np.nanmean(_precisions(*args, classes, **masks), 1)


def report(curves: dict[str, np.ndarray]) -> None:
    """Prints average precisions by seed and threshold [seeds, 10]: at IoU 0.5, and the mean over the thresholds."""
    print(f"{'average precision, %':24}{'IoU 0.5':>14}{'0.5 to 0.95':>14}")
    for name, values in curves.items():
        print(f"{name:24}{spread(values[:, 0]):>14}{spread(values.mean(1)):>14}", flush=True)


def by_threshold(place: Any, curves: dict[str, np.ndarray], colours: tuple[str, ...]) -> None:
    """Draws average precisions [seeds, 10] by the IoU asked for."""
    for (name, of), colour in zip(curves.items(), colours, strict=True):
        band(place, THRESHOLDS, 100 * of, name, colour, marker=".")
    place.set(xlabel="least IoU with the true box", ylabel="average precision, %", ylim=(0, 100))
    place.grid(alpha=0.3)
    place.legend()


def outlined(place: Any, image: Any, found: Boxes, true: Boxes, names: Any = None, least: float = 0.0) -> None:
    """Draws an image [h, w], the true boxes dotted, and the boxes with at least a score, with it if there are names."""
    from matplotlib.patches import Rectangle

    place.imshow(image, cmap="gray", vmin=np.quantile(image, 0.02), vmax=np.quantile(image, 0.995))
    for boxes, colour, style, limit in ((true, "white", ":", 0.0), (found, "lime", "-", least)):
        for box, kind, score in zip(*map(np.asarray, boxes), strict=True):
            if score > limit:
                place.add_patch(Rectangle(box[:2], *(box[2:] - box[:2]), fill=False, ec=colour, ls=style, lw=1.2))
                if names and boxes is found:
                    text = f"{names[kind]} {score:.2f}".strip()
                    frame = {"facecolor": "black", "alpha": 0.5, "pad": 0.8, "lw": 0}
                    place.text(*box[:2], text, color="yellow", fontsize=7, va="bottom", bbox=frame, clip_on=True)
    place.set_axis_off()
