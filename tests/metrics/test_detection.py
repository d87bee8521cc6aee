"""Mean average precision against pycocotools, loops over boxes, a published example, and cases worked by hand."""

import json
from fractions import Fraction
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

from jaxnn.metrics import mean_average_precision

NAN, INF = np.nan, np.inf
COCO = tuple((50 + 5 * i) / 100 for i in range(10))
N, D, G, K = 6, 9, 5, 4


def overlap(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return Fraction(0)
    both = width * height
    return Fraction(both, (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def loop(images, num_classes, thresholds, points):
    """AP[t][k] of images of (detections (score, class, box), true (class, box)) with integer boxes, in fractions."""
    table = []
    for threshold in thresholds:
        row = []
        for k in range(num_classes):
            found = []
            for i, (detections, true) in enumerate(images):
                free = [box for c, box in true if c == k]
                for score, c, box in sorted(detections, key=lambda d: -d[0]):
                    if c != k:
                        continue
                    rivals = [(overlap(box, t), -j) for j, t in enumerate(free)]
                    iou, j = max(rivals, default=(Fraction(0), 0))
                    hit = float(iou) >= threshold
                    if hit:
                        free.pop(-j)
                    found.append((score, i, hit))
            found.sort(key=lambda f: -f[0])
            total = sum(c == k for _, true in images for c, _ in true)
            row.append(area([hit for *_, hit in found], total, points) if total else NAN)
        table.append(row)
    return np.asarray(table)


def area(hits, total, points):
    """AP by its definition: at each recall asked for, the best precision among the cuts that reach it."""
    cuts = [(Fraction(sum(hits[:m]), total), Fraction(sum(hits[:m]), m)) for m in range(1, len(hits) + 1)]

    def at(recall):
        return max((p for r, p in cuts if r >= recall), default=Fraction(0))

    asked = [Fraction(i, total) for i in range(1, total + 1)] if points is None else []
    asked = asked or [Fraction(i, points - 1) for i in range(points)]
    return float(sum(map(at, asked)) / len(asked))


def scene(seed, ties=False):
    """Images of true boxes on a grid, and of detections near them or anywhere; some images are empty of either."""
    rng = np.random.default_rng(seed)
    images = []
    for i in range(N):
        true = []
        for _ in range(rng.integers(0, G + 1) if i else 0):
            x, y = rng.integers(0, 30, 2)
            true.append((int(rng.integers(0, K - 1)), (x, y, x + rng.integers(4, 20), y + rng.integers(4, 20))))
        detections = []
        for _ in range(rng.integers(0, D + 1) if i != 1 else 0):
            near = true and rng.uniform() < 0.8
            c, box = true[rng.integers(len(true))] if near else (int(rng.integers(0, K)), (5, 5, 25, 25))
            box = tuple(np.asarray(box) + rng.integers(-1, 2, 4))
            score = rng.integers(1, 5) / 4 if ties else np.float32(rng.uniform())
            detections.append((float(score), c, box))
        images.append((detections, true))
    return images


def arrays(images, dtype=np.float32, rubbish=NAN, d=D, g=G):
    """The arguments, padded with rubbish; the masks."""
    n = len(images)
    boxes, true_boxes = np.full((n, d, 4), rubbish, dtype), np.full((n, g, 4), rubbish, dtype)
    scores = np.full((n, d), rubbish, dtype)
    classes, true_classes = np.full((n, d), -9, np.int32), np.full((n, g), 77, np.int32)
    where, true_where = np.zeros((n, d), bool), np.zeros((n, g), bool)
    for i, (detections, true) in enumerate(images):
        for j, (score, c, box) in enumerate(detections):
            scores[i, j], classes[i, j], boxes[i, j], where[i, j] = score, c, box, True
        for j, (c, box) in enumerate(true):
            true_classes[i, j], true_boxes[i, j], true_where[i, j] = c, box, True
    return (boxes, scores, classes, true_boxes, true_classes), {"where": where, "true_where": true_where}


@pytest.mark.parametrize("points", [101, 11, None])
@pytest.mark.slow
def test_random_scenes(points):
    table = jax.jit(partial(mean_average_precision, num_classes=K, points=points, average=None))
    mean = jax.jit(partial(mean_average_precision, num_classes=K, points=points))
    for seed in range(8):
        images = scene(seed, ties=seed % 2 == 1)
        args, masks = arrays(images)
        want = loop(images, K, COCO, points)
        value = table(*args, **masks)
        assert value.dtype == jnp.float32
        assert_close(value, want)
        assert np.isnan(want[:, K - 1]).all()  # no true boxes
        assert 0.02 < np.nanmean(want) < 0.9
        assert_close(mean(*args, **masks), np.nanmean(want))


@pytest.mark.slow
def test_vmap_scan_and_dtypes():
    some = [arrays(scene(seed)) for seed in range(3)]
    f = partial(mean_average_precision, num_classes=K, iou_thresholds=(0.5, 0.75))
    want = [np.nanmean(loop(scene(seed), K, (0.5, 0.75), 101)) for seed in range(3)]
    args, masks = jax.tree.map(lambda *x: np.stack(x), *some)
    assert_close(jax.jit(jax.vmap(lambda a, m: f(*a, **m)))(args, masks), want)
    assert_close(jax.jit(partial(jax.lax.map, lambda x: f(*x[0], **x[1])))((args, masks)), want)
    assert_close(f(*some[0][0], **some[0][1]), want[0])  # eager
    images = scene(1, ties=True)  # numbers that bfloat16 holds
    want = np.nanmean(loop(images, K, (0.5,), 101))
    for dtype in ("bfloat16", "float16", "float64"):
        with jax.enable_x64(dtype == "float64"):
            args, masks = arrays(images)
            args = [jnp.asarray(x, dtype if x.dtype == np.float32 else "int16") for x in args]
            value = jax.jit(partial(f, iou_thresholds=(0.5,)))(*args, **masks)
            assert value.dtype == jnp.float32
            assert_close(value, want)


def test_pycocotools():
    scenes = json.loads(Path(__file__).with_name("coco.json").read_text())
    images = [([], []) for _ in range(scenes["images"])]
    for i, c, score, (x, y, w, h) in scenes["detections"]:
        images[i][0].append((score, c, (x, y, x + w, y + h)))
    for i, c, (x, y, w, h) in scenes["true"]:
        images[i][1].append((c, (x, y, x + w, y + h)))
    args, masks = arrays(images, d=24, g=12)
    want = scenes["results"]
    table = jitted(3, average=None)(*args, **masks)
    assert_close(table, want["table"])
    assert_close([table.mean(), table[0].mean(), table[5].mean()], [want["mean"], want["at 0.5"], want["at 0.75"]])


# Padilla, Netto, da Silva, A Survey on Performance Metrics for Object-Detection Algorithms, 2020: 24 detections by
# falling confidence, of which those of 1 are right, on 15 true boxes. AP is 26.84 % at 11 points and 24.57 % at all.
SURVEY = [1, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]


@pytest.mark.slow
def test_a_published_example():
    true = np.asarray([[[10 * i, 0, 10 * i + 8, 8] for i in range(15)]], np.float32)
    wrong = np.asarray([0, 50, 8, 58], np.float32)
    boxes = np.asarray([[true[0, sum(SURVEY[:i])] if hit else wrong for i, hit in enumerate(SURVEY)]])
    scores = np.linspace(0.95, 0.14, 24, dtype=np.float32)[None]
    classes, true_classes = np.zeros((1, 24), np.int32), np.zeros((1, 15), np.int32)
    for order in (np.arange(24), np.random.default_rng(0).permutation(24)):
        for points, published in ((11, 0.2684), (None, 0.2457)):
            args = boxes[:, order], scores[:, order], classes, true, true_classes
            assert round(score_of(*args, points=points, iou_thresholds=(0.3,)).item(), 4) == published


BOX = np.asarray([[[0, 0, 10, 10], [20, 0, 30, 10]]], np.float32)
ZEROS = np.zeros((1, 2), np.int32)
SURE = np.asarray([[0.9, 0.8]], np.float32)


@cache
def jitted(k, **options):
    return jax.jit(partial(mean_average_precision, num_classes=k, **options))


def score_of(boxes=BOX, scores=SURE, classes=ZEROS, true=BOX, true_classes=ZEROS, k=1, masks=None, **options):
    return jitted(k, **options)(boxes, scores, classes, true, true_classes, **(masks or {}))


@pytest.mark.slow
def test_worked_by_hand():
    assert_close(score_of(), 1)
    assert_close(score_of(scores=SURE[:, ::-1]), 1)
    twice = BOX[:, [0, 0]]  # a true box is found once
    assert_close(score_of(twice, points=None), 0.5)
    assert_close(score_of(twice), 51 / 101)
    assert_close(score_of(twice, true=BOX[:, :1], true_classes=ZEROS[:, :1]), 1)  # a later false one costs nothing
    half = BOX.copy()
    half[0, 0, 2] = 6  # IoU 0.6 with the first: thresholds 0.5, 0.55 and 0.6
    assert_close(score_of(half, average=None, points=None)[:, 0], [1, 1, 1] + [1 / 4] * 7)  # 2nd right: 1/2 · 1/2
    # class 1 is found as class 0; class 2 has no true boxes and does not count
    classes = np.asarray([[0, 2]], np.int32)
    value = score_of(classes=classes, true_classes=np.asarray([[0, 1]], np.int32), k=3, average=None)
    assert_close(value, np.tile([1, 0, NAN], (10, 1)))
    assert_close(score_of(classes=classes, true_classes=np.asarray([[0, 1]], np.int32), k=3), 0.5)


def test_the_sure_choose_first_and_choose_the_free():
    true = np.asarray([[[0, 0, 10, 10], [2, 0, 12, 10]]], np.float32)
    # both lie nearest to the first: the second takes the other, with which it overlaps by 9 / 11
    boxes = np.asarray([[[0, 0, 10, 10], [1, 0, 11, 10]]], np.float32)
    assert_close(
        score_of(boxes, true=true, iou_thresholds=(0.5, 0.8, 0.85), average=None, points=None)[:, 0], [1, 1, 0.5]
    )


@pytest.mark.slow
def test_nothing_found_nothing_there():
    none, no_numbers = np.zeros((1, 0, 4), np.float32), np.zeros((1, 0), np.int32)
    no_scores = np.zeros((1, 0), np.float32)
    assert score_of(none, no_scores, no_numbers) == 0
    assert jnp.isnan(score_of(true=none, true_classes=no_numbers))
    assert jnp.isnan(score_of(none, no_scores, no_numbers, none, no_numbers))
    assert jnp.isnan(score_of(*(x[:0] for x in (BOX, SURE, ZEROS, BOX, ZEROS))))
    assert score_of(masks={"where": np.zeros((1, 2), bool)}) == 0
    assert jnp.isnan(score_of(masks={"true_where": np.zeros((1, 2), bool)}))
    empty = BOX[:, :, [2, 1, 0, 3]]  # x2 < x1
    assert score_of(empty) == score_of(true=empty) == score_of(empty, true=empty) == 0
    points = BOX[:, :, [0, 1, 0, 1]]
    assert score_of(points, true=points) == 0


@pytest.mark.slow
def test_what_is_not_a_number_makes_no_number():
    for bad in (NAN, INF, -INF):
        for i in range(4):
            box = BOX.copy()
            box[0, 1, i] = bad
            assert jnp.isnan(score_of(box))
            assert jnp.isnan(score_of(true=box))
            assert score_of(true=box, masks={"true_where": np.asarray([[True, False]])}) == 1
    scores = SURE.copy()
    scores[0, 0] = NAN
    assert jnp.isnan(score_of(scores=scores))
    assert_close(score_of(scores=scores, masks={"where": np.asarray([[False, True]])}, points=None), 0.5)
    scores[0] = INF, -INF
    assert score_of(scores=scores) == 1
    for bad in (-1, 1, 2**31 - 1):
        numbers = np.asarray([[0, bad]], np.int32)
        assert jnp.isnan(score_of(classes=numbers))
        assert jnp.isnan(score_of(true_classes=numbers))


def test_traced_thresholds():
    moved = (BOX + np.float32(1), SURE, ZEROS, BOX, ZEROS, 1)
    f = jax.jit(lambda t: mean_average_precision(*moved, iou_thresholds=t))  # IoU 81 / 119 = 0.68
    assert (f(jnp.asarray([0.5, 0.6])), f(jnp.asarray([0.5, 0.7]))) == (1, 0.5)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (
            {"iou_thresholds": 0.5},
            TypeError,
            "iou_thresholds to be a sequence of numbers, got 0.5. One is (0.5,).",
        ),
        ({"iou_thresholds": ()}, ValueError, "iou_thresholds to be a sequence of numbers, got (). One is (0.5,)."),
        ({"iou_thresholds": (0.0, 0.5)}, ValueError, "each of iou_thresholds in (0, 1], got 0.0."),
        ({"iou_thresholds": (50,)}, ValueError, "each of iou_thresholds in (0, 1], got 50."),
        (
            {"boxes": BOX[0]},
            ValueError,
            "boxes of shape [n, d, 4], got float32[2, 4]. The first axis holds the images.",
        ),
        (
            {"true": BOX[..., :3]},
            ValueError,
            "true_boxes of shape [n, g, 4], got float32[1, 2, 3]. The first axis holds the images.",
        ),
        (
            {"true": BOX[[0, 0]]},
            ValueError,
            "true_boxes of 1 images, as boxes, got float32[2, 2, 4]. Pad the images without any.",
        ),
        (
            {"boxes": BOX.astype(int)},
            TypeError,
            "boxes of a floating dtype, got int64[1, 2, 4]. Cast it: jnp.asarray(x, jnp.float32).",
        ),
        (
            {"scores": ZEROS},
            TypeError,
            "scores of a floating dtype, got int32[1, 2]. Cast it: jnp.asarray(x, jnp.float32).",
        ),
        ({"classes": SURE}, TypeError, "classes of an integer or boolean dtype, got float32[1, 2]."),
        ({"true_classes": SURE}, TypeError, "true_classes of an integer or boolean dtype, got float32[1, 2]."),
        (
            {"scores": SURE[0]},
            ValueError,
            "scores of shape [1, 2], one for each box, got float32[2]. Nothing is broadcast.",
        ),
        (
            {"classes": ZEROS[:, :1]},
            ValueError,
            "classes of shape [1, 2], one for each box, got int32[1, 1]. Nothing is broadcast.",
        ),
        (
            {"true_classes": ZEROS[:, :1]},
            ValueError,
            "true_classes of shape [1, 2], one for each box, got int32[1, 1]. Nothing is broadcast.",
        ),
        (
            {"where": ZEROS},
            TypeError,
            "where of a boolean dtype, got int32[1, 2]. It is a mask: False leaves an example out.",
        ),
        (
            {"true_where": ZEROS[0] == 0},
            ValueError,
            "true_where of shape [1, 2], one for each example, got bool[2]. Nothing is broadcast.",
        ),
    ],
)
def test_errors(options, kind, message):
    names = {"boxes": BOX, "scores": SURE, "classes": ZEROS, "true": BOX, "true_classes": ZEROS, "k": 1}
    args = [options.get(name, default) for name, default in names.items()]
    options = {name: value for name, value in options.items() if name not in names}
    with pytest.raises(kind) as caught:
        mean_average_precision(*args, **options)
    assert str(caught.value) == f"mean_average_precision: expected {message}"
