"""Boxes against loops, and the choice among them against the greedy rule written out."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from jaxnn import ops


def boxes(n, seed=0, size=10.0):
    a, b = np.random.default_rng(seed).uniform(0, size, (2, n, 2))
    return np.concatenate([np.minimum(a, b), np.maximum(a, b)], 1)


def overlap(a, b):
    """IoU and GIoU of two boxes."""
    wide = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    area = lambda c: (c[2] - c[0]) * (c[3] - c[1])  # noqa: E731
    union = area(a) + area(b) - wide * high
    around = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    iou = wide * high / union
    return iou, iou - (around - union) / around


@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_iou_and_giou():
    a, b = boxes(5), boxes(7, seed=1)
    want = np.array([[overlap(x, y) for y in b] for x in a])
    assert_close(ops.box_iou(jnp.asarray(a), jnp.asarray(b)), want[..., 0])
    assert_close(ops.box_giou(jnp.asarray(a), jnp.asarray(b)), want[..., 1])
    flipped = jnp.asarray(a)[:, [2, 1, 0, 3]]
    assert_close(ops.box_iou(flipped, jnp.asarray(b)), want[..., 0])
    check_grads(ops.box_giou, (jnp.asarray(a), jnp.asarray(b)), order=1, atol=1e-6, rtol=1e-6)


@pytest.mark.slow
def test_boxes_without_area():
    point = jnp.array([[1.0, 1.0, 1.0, 1.0]])
    for f in (ops.box_iou, ops.box_giou):
        y, g = jax.value_and_grad(lambda a, f=f: f(a, point).sum())(point)
        assert float(y) == 0
        assert np.isfinite(g).all()
    assert ops.box_iou(jnp.zeros((0, 4)), point).shape == (0, 1)


@pytest.mark.usefixtures("x64")
def test_codes_of_boxes_are_undone():
    b, a = jnp.asarray(boxes(6)), jnp.asarray(boxes(6, seed=1))
    assert_close(ops.box_corners(ops.box_centers(b)), b)
    assert_close(ops.box_decode(ops.box_encode(b, a), a, largest=1e9), b)
    assert_close(ops.box_encode(a, a), np.zeros((6, 4)))
    wild = ops.box_decode(jnp.full((1, 4), 1e6), jnp.array([[0.0, 0.0, 2.0, 2.0]]))
    np.testing.assert_allclose(wild[0, 2] - wild[0, 0], 2 * 1000 / 16, rtol=1e-6)


def test_anchors():
    got = ops.anchors((2, 3), 16, [8.0, 32.0], [0.5, 1.0, 2.0]).reshape(2, 3, 6, 4)
    centers = ops.box_centers(got)
    np.testing.assert_allclose(centers[1, 2, :, :2], np.tile([40.0, 24.0], (6, 1)), rtol=1e-5)
    np.testing.assert_allclose(
        centers[..., 2] * centers[..., 3], np.broadcast_to([64] * 3 + [1024] * 3, (2, 3, 6)), rtol=1e-5
    )
    np.testing.assert_allclose(
        centers[..., 3] / centers[..., 2], np.broadcast_to([0.5, 1, 2] * 2, (2, 3, 6)), rtol=1e-5
    )


def greedy(b, scores, size, iou, least):
    left = [i for i in np.argsort(-scores, kind="stable") if scores[i] > least]
    kept = []
    while left and len(kept) < size:
        best = left.pop(0)
        kept.append(best)
        left = [i for i in left if overlap(b[best], b[i])[0] <= iou]
    return kept + [-1] * (size - len(kept))


@pytest.mark.slow
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 12), st.floats(0.05, 0.95), st.floats(-1, 1))
@settings(max_examples=30, deadline=None)
def test_suppression_is_the_greedy_rule(seed, n, size, iou, least):
    b = boxes(n, seed).astype(np.float32).astype(np.float64)
    scores = np.random.default_rng(seed).permutation(n) / n * 2 - 1
    got = _suppressed(jnp.asarray(b, jnp.float32), jnp.asarray(scores, jnp.float32), size, iou, least)
    assert got.tolist() == greedy(b, scores.astype(np.float32), size, np.float32(iou), np.float32(least))


@partial(jax.jit, static_argnums=2)
def _suppressed(b, scores, size, iou, least):
    return ops.non_maximum_suppression(b, scores, size, iou_threshold=iou, score_threshold=least)


def test_suppression_of_scores_that_are_none_and_of_nothing():
    b = jnp.asarray(boxes(3), jnp.float32)
    assert ops.non_maximum_suppression(b, jnp.array([jnp.nan, 1.0, -jnp.inf]), 3)[0] == 1
    assert jnp.nan not in ops.non_maximum_suppression(b, jnp.array([jnp.nan] * 3), 2).tolist()
    assert ops.non_maximum_suppression(b, jnp.array([jnp.nan] * 3), 2).tolist() == [-1, -1]
    assert ops.non_maximum_suppression(b[:0], jnp.zeros(0), 2).tolist() == [-1, -1]
    every = jax.vmap(partial(ops.non_maximum_suppression, size=2), (None, 0))(b, jnp.array([[1.0, 2, 3], [3, 2, 1]]))
    assert every.shape == (2, 2)


@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_roi_align_of_a_plane_reads_the_centres():
    """Of values that grow linearly, the mean over a bin is the value in its middle."""
    y, x = np.mgrid[:8, :9]
    image = jnp.asarray((2.0 * y + 3 * x)[None, :, :, None])
    box = jnp.array([[1.0, 2.0, 7.0, 6.0]])
    got = ops.roi_align(image, box, jnp.array([0]), (2, 3))[0, :, :, 0]
    want = 2 * (2 + np.array([1, 3]) - 0.5)[:, None] + 3 * (1 + np.array([1, 3, 5]) - 0.5)
    assert_close(got, want)
    finer = ops.roi_align(image, 2 * box, jnp.array([0]), (2, 3), scale=0.5, samples=3)[0, :, :, 0]
    assert_close(finer, want)
    two = jnp.concatenate([image, 0 * image])
    assert not ops.roi_align(two, box, jnp.array([1]), 2).any()
    f = lambda x, b: ops.roi_align(x, b, jnp.array([0]), 2)  # noqa: E731
    check_grads(f, (image, box + 0.13), order=1, eps=1e-6, atol=1e-5, rtol=1e-5)


ONES = partial(np.ones, dtype=np.float32)
ERRORS = {
    "scales": (lambda: ops.anchors((1, 1), 8, [-1.0]), "anchors: expected each of scales in (0, inf), got -1.0."),
    "four": (
        lambda: ops.box_iou(ONES((2, 3)), ONES((2, 4))),
        "box_iou: expected boxes of shape [..., 4], got float32[2, 3].",
    ),
    "pairs": (
        lambda: ops.box_encode(ONES((2, 4)), ONES((3, 4))),
        "box_encode: expected boxes and anchors of equal shape, got float32[2, 4] and float32[3, 4]. "
        "Nothing is broadcast: reshape one of them.",
    ),
    "scores": (
        lambda: ops.non_maximum_suppression(ONES((2, 4)), ONES(3), 2),
        "non_maximum_suppression: expected boxes [n, 4] and scores [n], got (float32[2, 4], float32[3]).",
    ),
    "image": (
        lambda: ops.roi_align(ONES((1, 4, 4, 1)), ONES((1, 4)), np.array([0, 0]), 2),
        "roi_align: expected boxes [m, 4] and image [m], got (float32[1, 4], int64[2]).",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    wrong, text = ERRORS[case]
    with pytest.raises(ValueError) as caught:
        wrong()
    assert str(caught.value) == text
