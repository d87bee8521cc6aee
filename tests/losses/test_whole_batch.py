"""The losses that look at a whole batch, region or sequence: mining, contrast among views, overlap, alignments."""

from functools import partial
from itertools import groupby, product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
from _close import TOLERANCE, assert_close
from jax.test_util import check_grads

from jaxnn import losses
from jaxnn.losses import circle, ctc, dice, nt_xent, triplet_semi_hard, tversky

INF, NAN = np.inf, np.nan
dtypes = pytest.mark.parametrize("dtype", [*TOLERANCE])
RNG = np.random.default_rng(0)
TEN = RNG.normal(0, 1, (10, 4))
CLASSES = np.asarray([0, 0, 0, 1, 1, 2, 2, 2, 2, 3])  # the last has no positive
VIEWS = RNG.normal(0, 1, (6, 4)), RNG.normal(0, 1, (6, 4))


# Triplets with semi-hard negatives


def mined(x, y, margin, squared):
    """By loops over anchors, positives and negatives."""
    n = len(x)

    def distance(i, j):
        return np.linalg.norm(x[i] - x[j]) ** (2 if squared else 1)

    out = []
    for a in range(n):
        positives = [p for p in range(n) if p != a and y[p] == y[a]]
        negatives = [distance(a, i) for i in range(n) if y[i] != y[a]]
        costs = []
        for p in positives:
            beyond = [d for d in negatives if d > distance(a, p)]
            if negatives:
                costs.append(max(0.0, distance(a, p) - (min(beyond) if beyond else max(negatives)) + margin))
        out.append(np.mean(costs) if costs else 0.0)
    return np.asarray(out)


@pytest.mark.parametrize("squared", [True, False])
@dtypes
@pytest.mark.slow
def test_semi_hard_triplets(squared, dtype):
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray(TEN, dtype)
        f = partial(triplet_semi_hard, margin=3.0, squared=squared)
        expected = mined(np.asarray(x).astype(np.float64), CLASSES, 3.0, squared)
        assert_close(f(x, CLASSES), expected)
        assert_close(jax.jit(f)(x, CLASSES), expected)
        assert f(x, CLASSES).dtype == ("float64" if dtype == "float64" else "float32")
        assert jax.grad(lambda x: f(x, CLASSES).sum())(x).dtype == dtype


@pytest.mark.slow
def test_semi_hard_triplets_of_masked_and_missing_examples(x64):
    triplet_semi_hard = jax.jit(losses.triplet_semi_hard, static_argnames="squared")
    x, keep = jnp.asarray(TEN), np.arange(10) != 4
    f = partial(triplet_semi_hard, margin=3.0)
    clean = f(x, CLASSES, where=keep)
    assert_close(clean[keep], mined(TEN[keep], CLASSES[keep], 3.0, True))
    assert float(clean[4]) == 0
    spoiled = x.at[4].set(NAN)
    assert_close(f(spoiled, CLASSES, where=keep), clean)
    slope = jax.grad(lambda x: f(x, CLASSES, where=keep).sum())(spoiled)
    assert bool(jnp.isfinite(slope).all())
    assert not slope[4].any()
    assert f(x, np.zeros(10, int)).tolist() == [0.0] * 10  # no negatives
    assert f(x, np.arange(10)).tolist() == [0.0] * 10  # no positives
    assert f(x[:0], CLASSES[:0]).shape == (0,)
    assert_close(f(x, CLASSES, weights=2.0), 2 * f(x, CLASSES))
    assert_close(f(x, CLASSES - 10**9), f(x, CLASSES))  # any numbers do
    check_grads(jax.jit(lambda x: f(x, CLASSES)), (x,), order=1, modes=("rev",), atol=1e-6, rtol=1e-6)
    twice = jnp.concatenate([x[:3], x[:3]])  # examples that meet
    assert bool(jnp.isfinite(jax.grad(lambda x: f(x, CLASSES[:6], squared=False).sum())(twice)).all())


# Circle loss


def circled(x, y, margin, gamma):
    """By loops over anchors and pairs, in long double."""
    z = [np.asarray(v / np.abs(v).max(), np.longdouble) for v in x]
    z = [v / np.sqrt((v * v).sum()) for v in z]
    out = []
    for i, a in enumerate(z):
        near = [(a * b).sum() for j, b in enumerate(z) if j != i and y[j] == y[i]]
        far = [(a * b).sum() for j, b in enumerate(z) if y[j] != y[i]]
        logs = [-gamma * max(0, 1 + margin - s) * (s - 1 + margin) for s in near]
        others = [gamma * max(0, s + margin) * (s - margin) for s in far]
        total = sum(np.exp(np.longdouble(p + q)) for p in logs for q in others)
        out.append(np.log1p(total) if near and far else 0.0)
    return np.asarray(out, np.float64)


@dtypes
def test_circles(dtype):
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray(TEN, dtype)
        expected = circled(np.asarray(x, np.float64), CLASSES, 0.4, 8.0)
        f = partial(circle, margin=0.4, gamma=8.0)
        value, slope = jax.jit(lambda x: (f(x, CLASSES), jax.grad(lambda x: f(x, CLASSES).sum())(x)))(x)
        assert_close(value, expected)
        assert value.dtype == ("float64" if dtype == "float64" else "float32")
        assert slope.dtype == dtype


@pytest.mark.slow
def test_circles_of_masked_and_missing_examples(x64):
    x, keep = jnp.asarray(TEN), np.arange(10) != 4
    f = jax.jit(partial(losses.circle, gamma=8.0))
    clean = f(x, CLASSES, where=keep)
    assert_close(clean[keep], circled(TEN[keep], CLASSES[keep], 0.25, 8.0))
    assert float(clean[4]) == 0
    spoiled = x.at[4].set(NAN)
    assert_close(f(spoiled, CLASSES, where=keep), clean)
    slope = jax.grad(lambda x: f(x, CLASSES, where=keep).sum())(spoiled)
    assert bool(jnp.isfinite(slope).all())
    assert not slope[4].any()
    for classes in (np.zeros(10, int), np.arange(10)):  # no negatives, no positives
        value, slope = jax.value_and_grad(lambda x, c=classes: f(x, c).sum())(x)
        assert value == 0
        assert not slope.any()
    assert f(x[:0], CLASSES[:0]).shape == (0,)
    assert_close(f(x, CLASSES, weights=2.0), 2 * f(x, CLASSES))
    assert_close(f(x, CLASSES - 10**9), f(x, CLASSES))
    assert bool(jnp.isfinite(jax.grad(lambda x: f(x, CLASSES).sum())(x.at[0].set(0.0))).all())


@pytest.mark.slow
def test_the_gradient_of_a_circle_leaves_out_its_factors():
    """By each cosine it is γ α times a softmax: positives pull and negatives push, along the pair's unit vectors."""
    x = jnp.asarray([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    m, g = 0.25, 2.0
    slope = jax.grad(lambda x: circle(x, jnp.asarray([0, 0, 1]), margin=m, gamma=g)[0])(x)
    s_p, s_q = 0.8, 0.0
    a_p, a_q = 1 + m - s_p, s_q + m
    share = 1 / (1 + np.exp(-(g * a_q * (s_q - m) - g * a_p * (s_p - 1 + m))))
    by_p, by_q = -share * g * a_p, share * g * a_q
    u = np.asarray(x, np.float64)
    tangent = [np.eye(2) - np.outer(v, v) for v in u]
    assert_close(slope[0], tangent[0] @ (by_p * u[1] + by_q * u[2]))
    assert_close(slope[1], tangent[1] @ u[0] * by_p)
    assert_close(slope[2], tangent[2] @ u[0] * by_q)


# NT-Xent


def nt_xent_reference(x, y, temperature):
    z = [v / np.linalg.norm(v) for v in (*x, *y)]
    n = len(x)
    e = np.exp(np.asarray([[np.dot(a, b) / temperature for b in z] for a in z]))

    def one_way(i, j):
        return -np.log(e[i, j] / sum(e[i, k] for k in range(2 * n) if k != i))

    return np.asarray([(one_way(i, n + i) + one_way(n + i, i)) / 2 for i in range(n)])


@dtypes
@pytest.mark.slow
def test_nt_xent(dtype):
    with jax.enable_x64(dtype == "float64"):
        x, y = (jnp.asarray(v, dtype) for v in VIEWS)
        wide = [np.asarray(v).astype(np.float64) for v in (x, y)]
        for temperature in (0.1, 0.5, 2.0):
            expected = nt_xent_reference(*wide, temperature)
            assert_close(nt_xent(x, y, temperature=temperature), expected)
            assert_close(
                jax.jit(nt_xent)(
                    x, y, temperature=jnp.asarray(temperature, "float64" if dtype == "float64" else "float32")
                ),
                expected,
            )
        assert jax.grad(lambda x: nt_xent(x, y).sum())(x).dtype == dtype


@pytest.mark.slow
def test_nt_xent_of_masked_pairs_and_of_few(x64):
    nt_xent = jax.jit(losses.nt_xent)
    x, y = map(jnp.asarray, VIEWS)
    keep = np.asarray([True, True, False, True, False, True])
    clean = nt_xent(x, y, where=keep)
    assert_close(clean[keep], nt_xent_reference(VIEWS[0][keep], VIEWS[1][keep], 0.5))
    assert (clean[~keep] == 0).all()
    spoiled = x.at[2].set(NAN), y.at[4].set(INF)
    assert_close(nt_xent(*spoiled, where=keep), clean)
    slope = jax.grad(lambda x: nt_xent(x, spoiled[1], where=keep).sum())(spoiled[0])
    assert bool(jnp.isfinite(slope).all())
    assert nt_xent(x[:1], y[:1]).tolist() == [0.0]
    assert nt_xent(x[:0], y[:0]).shape == (0,)
    assert_close(nt_xent(jnp.ones((6, 4)), jnp.ones((6, 4))), np.full(6, np.log(11)))
    assert bool(jnp.isfinite(jax.grad(lambda x: nt_xent(x, y).sum())(x.at[0].set(0.0))).all())
    check_grads(nt_xent, (x, y), order=1, modes=("rev",), atol=1e-6, rtol=1e-6)
    with jax.numpy_dtype_promotion("standard"):
        both, labels = jnp.concatenate([x, y]), jnp.tile(jnp.arange(6), 2)
        theirs = optax.losses.ntxent(both, labels, temperature=0.5)
    np.testing.assert_allclose(nt_xent(x, y).mean(), theirs, rtol=1e-6)  # theirs adds an epsilon


# Overlap

P = RNG.uniform(0, 1, (3, 4, 5, 2))
MASK = RNG.integers(0, 2, (3, 4, 5, 2))


@dtypes
@pytest.mark.parametrize("labels", [MASK, MASK == 1, MASK.astype(float) * 0.9], ids=["int", "bool", "soft"])
@pytest.mark.slow
def test_overlap(labels, dtype):
    with jax.enable_x64(dtype == "float64"):
        p = jnp.asarray(P, dtype)
        y = jnp.asarray(labels, dtype if labels.dtype == np.float64 else None)
        p64, y64 = np.asarray(p).astype(np.float64), np.asarray(y).astype(np.float64)
        for axis, axes in ((None, (1, 2, 3)), ((1, 2), (1, 2)), (-1, 3), ([-2, 1], (1, 2)), ((), ())):
            tp, all_p, all_y = (np.sum(v, axes) for v in (p64 * y64, p64, y64))
            expected = 1 - (2 * tp + 0.5) / (all_p + all_y + 0.5)
            assert_close(jax.jit(partial(dice, axis=axis))(p, y, smooth=0.5), expected)
            expected = 1 - (tp + 0.5) / (tp + 0.3 * (all_p - tp) + 0.9 * (all_y - tp) + 0.5)
            assert_close(jax.jit(partial(tversky, axis=axis, alpha=0.3, beta=0.9))(p, y, smooth=0.5), expected)
        assert_close(dice(p, y, smooth=2.0), tversky(p, y, smooth=1.0))
        assert jax.grad(lambda p: dice(p, y).sum())(p).dtype == dtype


@pytest.mark.slow
def test_overlap_at_its_edges(x64):
    dice = jax.jit(losses.dice, static_argnames="axis")
    p, y = jnp.asarray(P), jnp.asarray(MASK)
    nothing = jnp.zeros((1, 4))
    assert dice(nothing, nothing).tolist() == [0.0]
    assert jnp.isnan(dice(nothing, nothing, smooth=0.0)).all()
    assert dice(jnp.ones((1, 4)), jnp.ones((1, 4)), smooth=0.0).tolist() == [0.0]
    assert dice(jnp.ones((1, 4)), nothing, smooth=0.0).tolist() == [1.0]
    assert jnp.isnan(dice(jnp.full((1, 4), 3.0), nothing)).all()
    assert jnp.isnan(dice(nothing, jnp.full((1, 4), 2))).all()
    assert dice(p[:0], y[:0]).shape == (0,)
    where = np.arange(5)[None, None, :, None] < np.asarray([5, 3, 0])[:, None, None, None]
    where = np.broadcast_to(where, P.shape)
    cut = dice(jnp.where(where, p, NAN), jnp.where(where, y, -1), where=where)
    assert_close(cut[:2], jnp.stack([dice(p[0], y[0], axis=(0, 1, 2)), dice(p[1, :, :3], y[1, :, :3], axis=(0, 1, 2))]))
    assert float(cut[2]) == 0
    slope = jax.grad(lambda p: dice(p, y, where=where).sum())(jnp.where(where, p, NAN))
    assert (np.asarray(slope)[~where] == 0).all()
    assert bool(jnp.isfinite(slope).all())
    assert_close(dice(p, y, weights=jnp.arange(3.0)), dice(p, y) * jnp.arange(3.0))
    assert_close(jax.vmap(partial(dice, axis=(0, 1, 2)))(p, y), dice(p, y))
    check_grads(dice, (p, y.astype(float)), order=1, modes=("rev",), atol=1e-6, rtol=1e-6)
    logits = jnp.asarray(RNG.normal(0, 1, (3, 20)))
    flat = jnp.asarray(RNG.integers(0, 2, (3, 20))).astype(float)
    with jax.numpy_dtype_promotion("standard"):
        theirs = optax.losses.binary_dice_loss(logits, flat, smooth=1.0)
    assert_close(dice(jax.nn.sigmoid(logits), flat, smooth=2.0).mean(), jnp.mean(theirs))


# CTC


def ctc_reference(x, y, frames, length, blank):
    """The sum over every way through the frames that reads as the labels."""
    log_p = x[:frames] - scipy.special.logsumexp(x[:frames], axis=1, keepdims=True)
    wanted = [int(label) for label in y[:length]]
    ways = []
    for way in product(range(x.shape[1]), repeat=frames):
        if [label for label, _ in groupby(way) if label != blank] == wanted:
            ways.append(sum(log_p[t, label] for t, label in enumerate(way)))
    return -scipy.special.logsumexp(ways) if ways else INF


X = RNG.normal(0, 2, (7, 5, 3))
FRAMES = np.asarray([5, 5, 4, 5, 3, 0, 5])
LENGTHS = np.asarray([3, 2, 1, 0, 3, 0, 3])


@pytest.mark.parametrize("blank", [0, 2])
@dtypes
@pytest.mark.slow
def test_ctc_sums_over_all_alignments(blank, dtype):
    one, two = (label for label in range(3) if label != blank)
    y = np.asarray([[one, two, one], [one, one, 9], [two, 0, -5], [0, 1, 2], [one, two, two], [one] * 3, [two] * 3])
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray(X, dtype)
        wide = np.asarray(x).astype(np.float64)
        expected = [ctc_reference(*row, blank) for row in zip(wide, y, FRAMES, LENGTHS, strict=True)]
        assert expected[4] == INF  # an impossible one among them

        def total(x):
            each = ctc(x, y, FRAMES, LENGTHS, blank=blank)
            return jnp.where(each == INF, 0, each).sum(), each

        (_, value), slope = jax.jit(jax.value_and_grad(total, has_aux=True))(x)
        assert_close(value, expected)
        assert value.dtype == ("float64" if dtype == "float64" else "float32")
        assert slope.dtype == dtype
        assert not slope[4].any()
        assert all(not slope[i, n:].any() for i, n in enumerate(FRAMES))
        assert bool(jnp.isfinite(slope).all())


@pytest.mark.slow
def test_ctc_gradients_masks_and_errors_of_data(x64):
    ctc = jax.jit(losses.ctc)
    y = jnp.asarray([[1, 2, 1], [1, 1, 0], [2, 0, 0], [0, 0, 0], [1, 2, 1], [0, 0, 0], [2, 1, 2]])
    x, rows = jnp.asarray(X), jnp.asarray([0, 1, 2, 3, 6])

    def some(x):
        return ctc(x, y[rows], FRAMES[rows], LENGTHS[rows])

    check_grads(jax.jit(some), (x[rows],), order=1, modes=("rev",), atol=1e-6, rtol=1e-6)
    clean = some(x[rows])
    ragged = x.at[2, 4:].set(NAN)
    assert_close(some(ragged[rows]), clean)  # padding of any value
    strange = jnp.asarray([[3, 1, 1], [-1, 1, 1], [0, 1, 1], [1, 2, 7]])
    lengths = jnp.asarray([3, 3, 3, 2])
    value, slope = jax.value_and_grad(lambda x: ctc(x, strange, jnp.full(4, 5), lengths).sum())(x[:4])
    assert jnp.isnan(value)
    assert jnp.isnan(ctc(x[:4], strange, jnp.full(4, 5), lengths)).tolist() == [True, True, True, False]
    assert jnp.isnan(slope).any(axis=(1, 2)).tolist() == [True, True, True, False]
    for frames, length in (([6], [1]), ([-1], [1]), ([5], [4]), ([5], [-1])):
        assert jnp.isnan(ctc(x[:1], y[:1], jnp.asarray(frames), jnp.asarray(length))).all()
    keep = jnp.asarray([True, False, True, False, True])
    masked = ctc(x[rows].at[1].set(NAN), y[rows], FRAMES[rows], LENGTHS[rows], where=keep)
    assert_close(masked, jnp.where(keep, clean, 0))
    assert_close(ctc(x[rows], y[rows], FRAMES[rows], LENGTHS[rows], weights=3.0), 3 * clean)
    singles = jax.vmap(lambda *row: ctc(*(v[None] for v in row))[0])(x[rows], y[rows], FRAMES[rows], LENGTHS[rows])
    assert_close(singles, clean)


@pytest.mark.slow
def test_ctc_of_nothing():
    ctc = jax.jit(losses.ctc)
    none = jnp.zeros(2, int)
    assert ctc(jnp.zeros((2, 0, 3)), jnp.zeros((2, 0), int), none, none).tolist() == [0.0, 0.0]
    assert ctc(jnp.zeros((2, 0, 3)), jnp.ones((2, 1), int), none, none + 1).tolist() == [INF, INF]
    assert_close(ctc(jnp.zeros((2, 4, 3)), jnp.zeros((2, 0), int), none + 4, none), [4 * np.log(3)] * 2)
    assert ctc(jnp.zeros((0, 4, 3)), jnp.zeros((0, 2), int), none[:0], none[:0]).shape == (0,)


@pytest.mark.slow
def test_ctc_of_extreme_logits():
    """A path that costs more than optax's stand-in for infinity is still counted right."""
    x = 1e4 * jax.nn.one_hot(jnp.asarray([[2] * 40]), 3)
    assert_close(ctc(x, jnp.asarray([[1]]), jnp.asarray([40]), jnp.asarray([1])), [40e4])
    ruled_out = jnp.asarray([[[0.0, 0.0, -INF]] * 3])
    assert_close(ctc(ruled_out, jnp.asarray([[1]]), jnp.asarray([3]), jnp.asarray([1])), [np.log(8 / 6)])
    assert ctc(ruled_out, jnp.asarray([[2]]), jnp.asarray([3]), jnp.asarray([1])).tolist() == [INF]


# Errors

ONE = jnp.ones((2, 3, 4)), jnp.ones((2, 2), int), jnp.full(2, 3), jnp.full(2, 2)
REFUSED = [
    (
        circle,
        (jnp.ones((2, 3)), jnp.ones(3, int)),
        {},
        "circle: expected labels of shape [2] for embeddings float32[2, 3], got int32[3].",
    ),
    (
        triplet_semi_hard,
        (jnp.ones((2, 3, 4)), jnp.ones(2, int)),
        {},
        "triplet_semi_hard: expected embeddings of shape [n, d], got float32[2, 3, 4].",
    ),
    (
        triplet_semi_hard,
        (jnp.ones((2, 3)), jnp.ones(2)),
        {},
        "triplet_semi_hard: expected labels of an integer dtype, got float32[2].",
    ),
    (
        triplet_semi_hard,
        (jnp.ones((2, 3)), jnp.ones(3, int)),
        {},
        "triplet_semi_hard: expected labels of shape [2] for embeddings float32[2, 3], got int32[3].",
    ),
    (
        nt_xent,
        (jnp.ones((2, 3)), jnp.ones((3, 3))),
        {},
        "nt_xent: expected x and y of equal shape, got float32[2, 3] and float32[3, 3]. Nothing is broadcast: "
        "reshape one of them.",
    ),
    (nt_xent, (jnp.ones(3), jnp.ones(3)), {}, "nt_xent: expected x of shape [n, d], got float32[3]."),
    (
        dice,
        (jnp.ones(()), jnp.ones(())),
        {},
        "dice: expected probabilities of shape [n, ...], got float32[]. Name the axes of a region by axis=.",
    ),
    (
        dice,
        (jnp.ones((2, 3)), jnp.ones(2, int)),
        {},
        "dice: expected probabilities and labels of equal shape, got float32[2, 3] and int32[2]. Nothing is "
        "broadcast: reshape one of them.",
    ),
    (
        dice,
        (jnp.ones((2, 3)), jnp.ones((2, 3))),
        {"where": jnp.ones(2, bool)},
        "dice: expected where of shape [2, 3], that of the labels, got bool[2]. Nothing is broadcast.",
    ),
    (ctc, (ONE[0][0], *ONE[1:]), {}, "ctc: expected logits of shape [n, t, k] with k >= 1, got float32[3, 4]."),
    (
        ctc,
        (ONE[0], ONE[1][:1], *ONE[2:]),
        {},
        "ctc: expected labels of shape [2, l] for logits float32[2, 3, 4], got int32[1, 2].",
    ),
    (
        ctc,
        (ONE[0], ONE[1].astype(jnp.float32), *ONE[2:]),
        {},
        "ctc: expected labels of an integer dtype, got float32[2, 2].",
    ),
    (
        ctc,
        (*ONE[:2], ONE[2][:1], ONE[3]),
        {},
        "ctc: expected logit_lengths of shape [2] for logits float32[2, 3, 4], got int32[1].",
    ),
]


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row[3][:50])
def test_errors_by_their_whole_text(row):
    f, args, options, message = row
    with pytest.raises((TypeError, ValueError)) as caught:
        f(*args, **options)
    assert str(caught.value) == message
