"""MTCNN's cascade of three networks as a function of a photo, with non-maximum suppression after each.

Zhang, Zhang, Li, Qiao, Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks, 2016,
arXiv:1604.02878.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxnn as nn

SIDES = {"pnet": 12, "rnet": 24, "onet": 48}  # of the part of an image that a network looks at
LEAST_SIDE = 24  # of a face, in pixels
STEP = 2**0.5  # between the scales of the pyramid
SURE = {"pnet": 0.6, "rnet": 0.7, "onet": 0.7}  # least probabilities, those of the authors
KEPT = {"pnet": 128, "rnet": 32, "onet": 16}  # boxes after each network
OVERLAP = 0.5  # boxes that overlap more are one

Nets = dict[str, Any]


class Found(NamedTuple):
    """Boxes [n, 4], probabilities [n] and five points x, y of each [n, 5, 2]; those with probability 0 are padding."""

    boxes: Any
    scores: Any
    points: Any = None


def networks() -> tuple[dict[str, nn.Layer], Nets]:
    """The three networks, and their published weights."""
    models, weights = {}, {}
    for net, side in SIDES.items():
        checkpoint = nn.interop.fetch(f"mtcnn_{net}")
        models[net] = nn.models.mtcnn(net)
        how = {"names": checkpoint.names, "layout": checkpoint.layout}
        weights[net] = nn.interop.load(models[net], jnp.ones((1, side, side, 3)), checkpoint.path, **how)
    return models, weights


def best(net: str, found: Found) -> Found:
    """The boxes that are kept after a network."""
    how = {"iou_threshold": OVERLAP, "score_threshold": SURE[net]}
    kept = nn.ops.non_maximum_suppression(found.boxes, found.scores, KEPT[net], **how)
    scores = jnp.where(kept >= 0, found.scores[kept], 0)
    return Found(found.boxes[kept], scores, None if found.points is None else found.points[kept])


def proposals(net: Any, x: jax.Array) -> Found:
    """Boxes by the P-Net in all scales of an image [h, w, 3]: each cell is a square of 12 pixels in its scale."""
    found, side = [], float(LEAST_SIDE)
    while side < min(x.shape[:2]):
        shape = [round(n * SIDES["pnet"] / side) for n in x.shape[:2]]
        y = net(nn.ops.resize(x[None], shape, antialias=True))
        rows, columns = jnp.meshgrid(*map(jnp.arange, y["face"].shape[1:3]), indexing="ij")
        corner = jnp.stack([columns, rows], -1) * 2 * side / SIDES["pnet"]
        boxes = jnp.concatenate([corner, corner + side], -1) + side * y["box"][0]
        found.append(Found(boxes.reshape(-1, 4), nn.softmax(y["face"])[0, ..., 1].ravel()))
        side *= STEP
    return Found(jnp.concatenate([f.boxes for f in found]), jnp.concatenate([f.scores for f in found]))


def refined(net: Any, side: int, x: jax.Array, given: Found) -> Found:
    """The boxes corrected by a network that looks at a square around each, resampled to `side` pixels."""
    centre, size = jnp.split(nn.ops.box_centers(given.boxes), 2, 1)
    half = size.max(1, keepdims=True) / 2
    squares = jnp.concatenate([centre - half, centre + half], 1)
    y = net(nn.ops.roi_align(x[None], squares, jnp.zeros(len(half), jnp.int32), side, samples=4))
    scores = jnp.where(given.scores > 0, nn.softmax(y["face"])[:, 1], 0)
    points = None
    if "landmarks" in y:
        points = squares[:, None, :2] + 2 * half[:, None] * jnp.stack(jnp.split(y["landmarks"], 2, 1), -1)
    return Found(squares + 2 * half * y["box"], scores, points)


def cascade(models: dict[str, nn.Layer], weights: Nets, photo: jax.Array) -> dict[str, Found]:
    """Faces in a photo [h, w, 3] of bytes after each network."""
    x = (photo.astype(jnp.float32) - 127.5) / 128
    run = {net: lambda x, net=net: models[net].apply(*weights[net], x)[0] for net in models}
    found = {"pnet": best("pnet", proposals(run["pnet"], x))}
    for net, before in (("rnet", "pnet"), ("onet", "rnet")):
        found[net] = best(net, refined(run[net], SIDES[net], x, found[before]))
    return found
