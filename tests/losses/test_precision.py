"""Every loss in float32 against float64 on the same inputs: offsets, magnitudes, confidence; ranges; gradients at 0."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from _tiers import only

from jaxnn import losses
from tests.losses.test_whole_batch import circled, ctc_reference, mined

pytestmark = pytest.mark.usefixtures("optimized")

INF = np.inf
ROUNDING = 2.0**-23
LIMIT = 2e-6
OFFSETS = [0.0, 1e3, -1e3, 1e4, 1e5, -1e6, 1e8, -1e8]
SIZES = 10.0 ** np.arange(-6, 7)
RNG = np.random.default_rng(0)
FAST = {"softmax_cross_entropy"}  # the others run with the slow tests


@dataclass(frozen=True)
class Row:
    f: Callable
    args: tuple  # NumPy arrays; those of float64 become float32 before anything else sees them
    reference: Callable  # the same in float64 -> losses
    low: float = -INF
    high: float = INF
    shifted: bool = False  # only differences of the first argument count, along the last axis
    each: bool = True  # a residual depends on its own inputs alone
    inner: Callable = lambda loss: 0.0  # roundings within the loss that its docstring names, from the loss


# The inputs.

K = 4
BASES = np.concatenate(
    [
        [[30, 15, 10, 0], [5, 0, 0, 0], [0, 0, 0, 0], [8, 8, -40, 8], [0, -80, -80, -80], [-16, 64, -16, 0]],
        RNG.normal(0, 1, (13, K)) * SIZES[:, None],
        RNG.normal(0, 3, (12, K)),
    ]
)
LOGITS = np.concatenate([BASES + c for c in OFFSETS])
NUMBERS = RNG.integers(0, K, len(LOGITS))
RIGHT, WRONG = LOGITS.argmax(-1), LOGITS.argmin(-1)
ALL_LOGITS = np.concatenate([LOGITS] * 3)
ALL_NUMBERS = np.concatenate([NUMBERS, RIGHT, WRONG])
SOFT = np.concatenate([RNG.dirichlet(np.ones(K), len(LOGITS)), np.eye(K)[RIGHT], np.eye(K)[WRONG]])
W = np.asarray([0.5, 1.0, 2.0, 1e-3])
X = (SIZES[:, None] * RNG.normal(0, 1, (13, 40))).ravel()
SCORES = np.concatenate([X, RNG.normal(0, 5, 200), [0.0, 50.0, -50.0, 80.0, -80.0]])
BITS = RNG.integers(0, 2, SCORES.size)
SHARES = np.where(BITS == 1, RNG.uniform(0, 1, SCORES.size), 10.0 ** RNG.uniform(-9, 0, SCORES.size))
TARGETS = np.where(BITS == 1, RNG.normal(0, 1, SCORES.size), SCORES * RNG.uniform(0.5, 2, SCORES.size))
CHANCES = np.concatenate([10.0 ** RNG.uniform(-9, 0, 100), 1 - 10.0 ** RNG.uniform(-7, 0, 100), [0.0, 1.0, 0.5]])
CHANCE_BITS = RNG.integers(0, 2, CHANCES.size)
EXTREMES = 10.0 ** np.repeat(np.arange(-30, 31, 5), 4)
VECTORS = RNG.normal(0, 1, (3, EXTREMES.size, 3))
FAR = VECTORS * EXTREMES[:, None]
NEAR = FAR[0] * (1 + 10.0 ** RNG.uniform(-6, 0, FAR[0].shape))
COUNTS = RNG.poisson(10.0 ** np.repeat(np.arange(-1, 7), 20))
LOG_RATES = np.log(np.maximum(COUNTS, 0.5)) * RNG.uniform(0.9, 1.1, COUNTS.size)
TEN, CLASSES = RNG.normal(0, 1, (10, 4)), np.asarray([0, 0, 0, 1, 1, 2, 2, 2, 2, 3])
P, MASK = CHANCES[:200].reshape(10, 20), RNG.integers(0, 2, (10, 20))
FRAMES = np.concatenate([BASES[:20].reshape(4, 5, K)[..., :3] / np.asarray([1, 1, 1e3, 1])[:, None, None]] * 8)
FRAMES = np.clip(FRAMES, -60, 60) + np.repeat(OFFSETS, 4)[:, None, None]
WAYS = np.tile([[1, 2], [1, 1], [2, 0], [0, 0]], (8, 1)), np.full(32, 5), np.tile([2, 2, 1, 0], 8)


# The references, in float64 or longer.


def costs(x):
    """-log softmax by the sum over the classes other than the largest."""
    x = np.asarray(x, np.longdouble)
    top = x.argmax(-1)[..., None]
    d = x - np.take_along_axis(x, top, -1)
    e = np.exp(d)
    np.put_along_axis(e, top, 0, -1)
    return np.log1p(e.sum(-1, keepdims=True)) - d


def cost_of(x, y):
    return np.take_along_axis(costs(x), y[..., None], -1)[..., 0]


def smoothed(y, a=0.1):
    return (1 - np.float64(np.float32(a))) * np.eye(K)[y] + np.float64(np.float32(a)) / K


def binary(x, y, w=1.0):
    return w * y * np.logaddexp(0, -x) + (1 - y) * np.logaddexp(0, x)


def faded(cost, gamma):
    return cost * (-np.expm1(-cost)) ** gamma


def binary_focal(x, y, gamma=2.0, alpha=None):
    yes, no = y * faded(np.logaddexp(0, -x), gamma), (1 - y) * faded(np.logaddexp(0, x), gamma)
    return yes + no if alpha is None else alpha * yes + (1 - alpha) * no


def focal_of(p, y, gamma, alpha):
    p = np.asarray(p, np.longdouble)
    yes, no = (q * faded(-np.log(np.maximum(s, E32)), gamma) for q, s in ((y, p), (1 - y, 1 - p)))
    return yes + no if alpha is None else alpha * yes + (1 - alpha) * no


def divergence(x, p):
    return (scipy.special.xlogy(p, p) + p * costs(x)).sum(-1)


def log_cosh(p, t):
    r = np.asarray(p - t, np.longdouble)
    return np.where(np.abs(r) < 1e-3, r**2 / 2 - r**4 / 12, np.logaddexp(r, -r) - np.log(np.longdouble(2)))


def huber(p, t, delta):
    r = np.abs(p - t)
    return np.where(r <= delta, r * r / 2, delta * (r - delta / 2))


def cosine(x, y):
    x, y = (np.asarray(v, np.longdouble) for v in (x, y))
    value = 1 - (x * y).sum(-1) / np.sqrt((x * x).sum(-1)) / np.sqrt((y * y).sum(-1))
    return np.where(np.abs(value) < 1e-17, 0, value)  # what a longdouble tells from 0


def others(x, y):
    """How far the score of the label is above the largest of the others."""
    own = np.eye(K, dtype=bool)[y]
    return x[own] - np.where(own, -INF, x).max(-1)


def norm(x):
    return np.linalg.norm(x, axis=-1)


def nt_xent(x, y, temperature):
    z = np.concatenate([x, y])
    z = np.asarray(z / np.linalg.norm(z, axis=-1, keepdims=True), np.longdouble)
    scores = -((z[:, None] - z[None]) ** 2).sum(-1) / 2 / np.longdouble(np.float32(temperature))
    n = len(x)
    rows = [np.delete(np.roll(row, -i), 0) for i, row in enumerate(scores)]  # without itself, its own view n - 1 on
    each = np.asarray([costs(row)[n - 1] for row in rows])
    return (each[:n] + each[n:]) / 2


def poisson(x, y, full):
    x = np.asarray(x, np.longdouble)
    return np.exp(x) - y * x + (scipy.special.gammaln(y + 1) if full else 0)


def rows_of_softmax(f, reference, weighted, **options):
    ints = partial(Row, args=(ALL_LOGITS, ALL_NUMBERS), low=0.0, shifted=True)
    floats = partial(Row, args=(ALL_LOGITS, SOFT), low=0.0, shifted=True)
    return [
        ints(partial(f, **options), reference=lambda x, y: reference(cost_of(x, y))),
        floats(partial(f, **options), reference=lambda x, p: (p * reference(costs(x))).sum(-1)),
        ints(partial(f, class_weights=W, **options), reference=lambda x, y: weighted[y] * reference(cost_of(x, y))),
        floats(
            partial(f, class_weights=W, **options), reference=lambda x, p: (weighted * p * reference(costs(x))).sum(-1)
        ),
    ]


E32 = np.float64(np.float32(1e-7))
W32 = W.astype(np.float32).astype(np.float64)
TABLE = {
    "softmax_cross_entropy": [
        *rows_of_softmax(losses.softmax_cross_entropy, lambda c: c, W32),
        Row(
            partial(losses.softmax_cross_entropy, label_smoothing=0.1),
            (ALL_LOGITS, ALL_NUMBERS),
            lambda x, y: (smoothed(y) * costs(x)).sum(-1),
            low=0.0,
            shifted=True,
        ),
    ],
    "softmax_focal": [
        *rows_of_softmax(losses.softmax_focal, partial(faded, gamma=2.0), W32),
        *rows_of_softmax(losses.softmax_focal, partial(faded, gamma=0.5), W32, gamma=0.5),
    ],
    "kl_divergence": [Row(losses.kl_divergence, (ALL_LOGITS, SOFT), divergence, shifted=True)],
    "binary_cross_entropy": [
        Row(losses.binary_cross_entropy, (SCORES, y), binary, 0.0) for y in (BITS, SHARES, BITS == 1)
    ]
    + [
        Row(
            partial(losses.binary_cross_entropy, positive_weight=w),
            (SCORES, y),
            partial(binary, w=np.float64(np.float32(w))),
            0.0,
            inner=lambda loss, w=w: w * np.finfo(np.float32).tiny / ROUNDING,  # e^-x may be too small for float32
        )
        for w in (1e-8, 3.0, 1e8)
        for y in (BITS, SHARES)
    ],
    "binary_cross_entropy_on_probabilities": [
        Row(
            losses.binary_cross_entropy_on_probabilities,
            (CHANCES, CHANCE_BITS),
            lambda p, y: -np.where(y == 1, np.log(np.maximum(p, EPS)), np.log1p(-np.minimum(p, 1 - EPS))),
            0.0,
            16.118097,
        )
    ],
    "cross_entropy_on_probabilities": [
        Row(
            losses.cross_entropy_on_probabilities,
            (np.stack([CHANCES, 1 - CHANCES], -1), CHANCE_BITS),
            lambda p, y: -np.log(np.maximum(np.take_along_axis(p, y[:, None], -1)[:, 0], EPS)),
            0.0,
            16.118097,
        )
    ],
    "cross_entropy_on_log_probabilities": [
        Row(
            losses.cross_entropy_on_log_probabilities,
            (-np.abs(ALL_LOGITS), ALL_NUMBERS),
            lambda x, y: -np.take_along_axis(x, y[:, None], -1)[:, 0],
            0.0,
        )
    ],
    "focal_on_probabilities": [
        Row(
            partial(losses.focal_on_probabilities, gamma=g, alpha=a),
            (CHANCES, CHANCE_BITS),
            partial(focal_of, gamma=g, alpha=a),
            0.0,
            16.118097,
        )
        for g in (0.0, 0.5, 2.0)
        for a in (None, 0.25)
    ],
    "focal": [
        Row(partial(losses.focal, gamma=g, alpha=a), (SCORES, y), partial(binary_focal, gamma=g, alpha=a), 0.0)
        for g in (0.0, 0.5, 2.0, 5.0)
        for a in (None, 0.25)
        for y in (BITS, SHARES)
    ],
    "hinge": [Row(losses.hinge, (SCORES, BITS), lambda x, y: np.maximum(0, 1 - (2 * y - 1) * x), 0.0)],
    "squared_hinge": [
        Row(losses.squared_hinge, (SCORES, BITS), lambda x, y: np.maximum(0, 1 - (2 * y - 1) * x) ** 2, 0.0)
    ],
    "multi_class_hinge": [
        Row(
            partial(losses.multi_class_hinge, margin=float(size)),
            (LOGITS * size, NUMBERS),
            lambda x, y, size=size: np.maximum(0, np.float64(np.float32(size)) - others(x, y)),
            0.0,
            shifted=True,
        )
        for size in (1e-6, 1.0)
    ],
    "margin_ranking": [
        Row(
            partial(losses.margin_ranking, margin=m),
            (SCORES, TARGETS, BITS),
            lambda x, y, s, m=m: np.maximum(0, np.float64(np.float32(m)) - (2 * s - 1) * (x - y)),
            0.0,
        )
        for m in (0.0, 1e-6, 1.0, 1e6)
    ],
    "absolute_percentage_error": [
        Row(
            losses.absolute_percentage_error,
            (SCORES, TARGETS),
            lambda p, t: np.abs(p - t) / np.maximum(np.abs(t), E32),
            0.0,
        )
    ],
    "squared_log_error": [
        Row(losses.squared_log_error, pair, lambda p, t: np.log1p((p - t) / (1 + t)) ** 2, 0.0)
        for pair in (
            (np.abs(SCORES), np.abs(TARGETS)),
            (np.abs(TARGETS), np.abs(SCORES)),
            (CHANCES - 0.999, CHANCES[::-1]),
        )
    ],
    "squared_error": [Row(losses.squared_error, (SCORES, TARGETS), lambda p, t: (p - t) ** 2, 0.0)],
    "absolute_error": [Row(losses.absolute_error, (SCORES, TARGETS), lambda p, t: np.abs(p - t), 0.0)],
    "huber": [
        Row(partial(losses.huber, delta=d), (SCORES, TARGETS), partial(huber, delta=np.float64(np.float32(d))), 0.0)
        for d in (1e-6, 1.0, 1e6)
    ],
    "log_cosh": [Row(losses.log_cosh, (SCORES, TARGETS), log_cosh, 0.0)],
    "quantile": [
        Row(
            partial(losses.quantile, q=q),
            (SCORES, TARGETS),
            lambda p, t, q=q: np.where(t > p, q * (t - p), (1 - q) * (p - t)),
            0.0,
        )
        for q in (1e-7, 0.3, 1 - 1e-7)
    ],
    "poisson_nll": [
        Row(partial(losses.poisson_nll, full=full), (LOG_RATES, COUNTS), partial(poisson, full=full), low)
        for full, low in ((False, -INF), (True, 0.0))
    ],
    "gaussian_nll": [
        Row(
            partial(losses.gaussian_nll, full=full),
            (SCORES, TARGETS, RNG.normal(0, 5, SCORES.size)),
            lambda m, t, s, full=full: (s + (m - t) ** 2 * np.exp(-s) + full * np.log(2 * np.pi)) / 2,
        )
        for full in (False, True)
    ],
    "cosine_distance": [
        Row(losses.cosine_distance, pair, cosine, 0.0, 2.0)
        for pair in ((FAR[0], FAR[1]), (FAR[0], NEAR), (FAR[0], -NEAR), (FAR[0], FAR[0]), (FAR[0], -3 * FAR[0]))
    ],
    "cosine_embedding": [
        Row(
            partial(losses.cosine_embedding, margin=m),
            (*pair, np.arange(len(FAR[0])) % 2),
            lambda x, y, s, m=m: (
                s * cosine(x, y) + (1 - s) * np.maximum(0, 1 - cosine(x, y) - np.float64(np.float32(m)))
            ),
            0.0,
            2.0,
        )
        for m in (0.0, 0.3)
        for pair in ((FAR[0], FAR[1]), (FAR[0], NEAR), (FAR[0], -NEAR), (FAR[0], FAR[0]))
    ],
    "contrastive": [
        Row(
            partial(losses.contrastive, margin=2.0),
            (x, y, np.arange(len(x)) % 2),
            lambda x, y, s: (s * norm(x - y) ** 2 + (1 - s) * np.maximum(0, 2 - norm(x - y)) ** 2) / 2,
            0.0,
        )
        for x, y in ((FAR[0, :24], FAR[1, :24]), (VECTORS[0], VECTORS[1]))
    ],
    "triplet": [
        Row(losses.triplet, args, lambda a, p, n: np.maximum(0, norm(a - p) - norm(a - n) + 1), 0.0)
        for args in (tuple(FAR), tuple(VECTORS), (VECTORS[0], FAR[1], VECTORS[2]))
    ],
    "triplet_semi_hard": [
        Row(
            partial(losses.triplet_semi_hard, margin=float(size), squared=squared),
            (TEN * size ** (0.5 if squared else 1), CLASSES),
            lambda x, y, size=size, squared=squared: mined(x, y, np.float64(np.float32(size)), squared),
            0.0,
            each=False,
        )
        for size in (1e-6, 1.0, 1e6)
        for squared in (False, True)
    ],
    "circle": [
        Row(
            partial(losses.circle, gamma=g),
            (x, CLASSES),
            lambda x, y, g=g: circled(x, y, 0.25, g),
            0.0,
            each=False,
            inner=lambda loss, g=g: -8 * g * np.expm1(-loss),  # of cosines, times γ and their factors
        )
        for g in (1e-3, 1.0, 256.0)
        for x in (TEN, TEN * 1e30, TEN * 1e-30)
    ],
    "nt_xent": [
        Row(
            partial(losses.nt_xent, temperature=t),
            views,
            partial(nt_xent, temperature=t),
            0.0,
            each=False,
            inner=lambda loss, t=t: -2 * np.expm1(-loss) / t,  # of cosines / t: all that is not the other view's
        )
        for t in (1e-6, 1e-4, 1e-2, 0.5, 100.0)
        for views in ((TEN[:5], TEN[5:]), (TEN, TEN), (TEN, TEN * 1.5), (TEN * 1e30, TEN[::-1] * 1e-30))
    ]
    + [
        Row(
            partial(losses.nt_xent, temperature=t),
            (np.full((6, 4), 0.3), np.full((6, 4), 0.7)),
            lambda x, y: np.full(6, np.log(11)),
            0.0,
            each=False,
        )
        for t in (1e-6, 1e-4, 1.0)
    ],
    "dice": [
        Row(
            partial(losses.dice, smooth=s),
            (P, MASK),
            lambda p, y, s=s: (p + y - 2 * p * y).sum(-1) / ((p + y).sum(-1) + s),
            0.0,
            1.0,
            each=False,
        )
        for s in (1e-6, 1.0)
    ]
    + [Row(losses.dice, (np.full((3, 8), 1.005), np.ones((3, 8))), lambda p, y: np.zeros(3), 0.0, 1.0, each=False)],
    "tversky": [
        Row(
            partial(losses.tversky, alpha=0.25, beta=2.0, smooth=s),
            (P, MASK),
            lambda p, y, s=s: 1 - ((p * y).sum(-1) + s) / ((p * y + p * (1 - y) / 4 + 2 * (1 - p) * y).sum(-1) + s),
            0.0,
            1.0,
            each=False,
        )
        for s in (1e-6, 1.0)
    ],
    "ctc": [
        Row(
            losses.ctc,
            (FRAMES, *WAYS),
            lambda x, *ways: [ctc_reference(*row, 0) for row in zip(x, ways[0], ways[1], ways[2], strict=True)],
            0.0,
            shifted=True,
        )
    ],
}
EPS = 1e-7


def test_every_loss_has_rows():
    assert set(TABLE) == set(losses.__all__)


def single(x):
    return np.asarray(x, np.float32) if np.asarray(x).dtype == np.float64 else np.asarray(x)


def double(x):
    return x.astype(np.float64) if x.dtype == np.float32 else x


def sensitivity(row, args):
    """Σ |∂loss/∂input| |input| for each loss, by float64: what a relative change of the inputs does to it."""
    floats = [i for i, x in enumerate(args) if x.dtype == np.float64]

    def of(*inputs):
        given = dict(zip(floats, inputs, strict=True))
        value = row.f(*[given.get(i, x) for i, x in enumerate(args)])
        return jnp.where(jnp.isfinite(value), value, 0)

    with jax.enable_x64(True):
        inputs = [jnp.asarray(args[i]) for i in floats]
        if row.each:
            slopes = jax.jit(jax.grad(lambda *a: of(*a).sum(), range(len(floats))))(*inputs)
        else:
            slopes = jax.jit(jax.jacrev(of, range(len(floats))))(*inputs)
    total = 0.0
    for i, slope in zip(floats, slopes, strict=True):
        size = args[i] - args[i].max(-1, keepdims=True) if row.shifted and i == 0 else args[i]
        moved = np.nan_to_num(np.abs(np.asarray(slope)) * np.abs(size))
        total = total + moved.reshape(len(moved), -1).sum(-1)
    return total


CASES = [(name, i) for name, rows in TABLE.items() for i in range(len(rows))]
FEW = [case if case[0] in FAST else pytest.param(*case, marks=pytest.mark.slow) for case in CASES]


@pytest.mark.parametrize(
    ("name", "i"), [case if case[0] in FAST else pytest.param(*case, marks=pytest.mark.slow) for case in CASES]
)
def test_float32_is_float64_to_2e6_or_a_rounding_of_its_inputs(name, i):
    row = TABLE[name][i]
    args = [single(x) for x in row.args]
    value = np.asarray(jax.jit(row.f)(*args))
    assert value.dtype == np.float32
    wide = [double(x) for x in args]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        expected = np.asarray(row.reference(*wide), np.float64)
    assert value.shape == expected.shape
    fits = np.abs(expected) < np.finfo(np.float32).max
    assert (np.abs(value[~fits]) == INF).all()
    assert ((value >= row.low) & (value <= row.high)).all()
    tiny = np.finfo(np.float32).tiny
    allowed = LIMIT * np.abs(expected) + ROUNDING * (sensitivity(row, wide) + row.inner(expected)) + tiny
    excess = np.abs(value.astype(np.float64) - expected)[fits] / allowed[fits]
    assert excess.max() <= 1, (int(np.flatnonzero(fits)[excess.argmax()]), excess.max())


@pytest.mark.parametrize("offset", only([1e8], OFFSETS))
@pytest.mark.parametrize("soft", only([False], [False, True]))
@pytest.mark.slow
def test_softmax_losses_are_the_same_at_every_offset(offset, soft):
    """To the bit, where the offset leaves the logits' differences as they were."""
    x = jnp.asarray([[0.0, 0.0, 0.0], [64.0, 0.0, 0.0], [0.0, 8.0, 16.0], [-64.0, 0.0, 64.0]])
    y = jnp.eye(3)[jnp.asarray([0, 0, 2, 0])] if soft else jnp.asarray([0, 0, 2, 0])
    c = 8.0 * round(offset / 8)
    for f in (
        losses.softmax_cross_entropy,
        partial(losses.softmax_cross_entropy, class_weights=np.asarray([0.5, 1.0, 3.0])),
        partial(losses.softmax_cross_entropy, label_smoothing=0.1),
        losses.softmax_focal,
        *([losses.kl_divergence] if soft else []),
    ):
        both = [jax.value_and_grad(lambda x, f=f: f(x, y).sum())(x + shift) for shift in (0.0, c)]
        assert all((a == b).all() for a, b in zip(*both, strict=True))


@pytest.mark.slow
def test_confident_logits_keep_their_digits():
    """log(1 + e^-15 + e^-20), and the gradient that goes with it."""
    x = jnp.asarray([[30.0, 15.0, 10.0]])
    for y in (jnp.asarray([0]), jnp.eye(3)[:1]):
        np.testing.assert_allclose(losses.softmax_cross_entropy(x, y), 3.0796341260e-7, rtol=1e-6)
    slope = jax.grad(lambda x: losses.softmax_cross_entropy(x, jnp.asarray([0])).sum())(x)
    np.testing.assert_allclose(slope, [[-3.0796336518e-7, 3.0590222622e-7, 2.0611538957e-9]], rtol=2e-6)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.slow
def test_second_derivatives_of_softmax_losses(soft):
    """The Hessian of a softmax's log is diag(s) - s s^T, at a perfect fit of the divergence too."""
    x = jnp.asarray([1.0, -2.0, 3.0, -INF])
    s = scipy.special.softmax(np.asarray(x, np.float64))
    y = jnp.asarray(s, jnp.float32) if soft else jnp.asarray(2)
    for f in (losses.softmax_cross_entropy, *([losses.kl_divergence] if soft else [])):
        np.testing.assert_allclose(jax.hessian(f)(x, y), np.diag(s) - np.outer(s, s), atol=1e-6)


# Gradients where there is little to go by.

KINDS = ["zero", "constant", "one", "empty", "perfect"]


def given(name, kind):
    """Arguments of the loss for 4 examples (1, 0), all zero, all the same, or a prediction that is right."""
    softmax = partial(scipy.special.softmax, axis=-1)
    n = {"one": 1, "empty": 0}.get(kind, 4)
    fill = 0.0 if kind == "zero" else 1.0
    row, labels = np.full(n, fill, np.float32), np.full(n, 0 if kind == "zero" else 1, np.int32)
    square = np.full((n, 3), fill, np.float32)
    hot = np.eye(3, dtype=np.float32)[labels]
    right = 30 * hot
    if name in ("softmax_cross_entropy", "softmax_focal"):
        return right if kind == "perfect" else square, labels
    if name == "kl_divergence":
        return right if kind == "perfect" else square, softmax(right if kind == "perfect" else square)
    if name == "cross_entropy_on_log_probabilities":
        return np.log(np.maximum(softmax(right), np.float32(1e-9))) if kind == "perfect" else -square, labels
    if name == "cross_entropy_on_probabilities":
        return hot if kind == "perfect" else square, labels
    if name == "multi_class_hinge":
        return right if kind == "perfect" else square, labels
    if name == "margin_ranking":
        return row, -row if kind == "perfect" else row, labels
    if name in ("cosine_distance", "nt_xent"):
        return square, square
    if name in ("contrastive", "cosine_embedding"):
        return square, square, labels
    if name == "triplet":
        return square, square, -square
    if name in ("circle", "triplet_semi_hard"):
        return square, np.arange(n) % 2
    if name == "gaussian_nll":
        return row, row, row
    if name in ("dice", "tversky"):
        return square, square.astype(np.int32)
    if name == "ctc":
        length = np.full(n, 1, np.int32)
        x = np.repeat(right[:, None], 4, axis=1) if kind == "perfect" else np.full((n, 4, 3), fill, np.float32)
        return x, np.ones((n, 1), np.int32), 4 * length, length
    if name in ("binary_cross_entropy", "focal", "hinge", "squared_hinge"):
        return (30 * row if kind == "perfect" else row), labels
    return row, labels if name in ("binary_cross_entropy_on_probabilities", "focal_on_probabilities") else row


LARGEST = {"cross_entropy_on_probabilities": 1.01e7}  # a label of probability 0 points back with 1 / eps, as documented


@pytest.mark.parametrize("name", only(FAST, losses.__all__))
def test_gradients_are_finite_and_of_sane_size(name):
    f = getattr(losses, name)

    @jax.jit
    def sloped(*args, **options):
        floats = [i for i, x in enumerate(args) if jnp.issubdtype(x.dtype, jnp.floating)]
        return jax.value_and_grad(lambda *a: f(*a, **options).sum(), floats)(*args)

    for kind in KINDS:
        args = given(name, kind)
        mask = np.zeros(args[0].shape if name in ("dice", "tversky") else args[0].shape[:1], bool)
        for options in ({}, {"where": mask}):
            value, slopes = sloped(*args, **options)
            size = max(float(np.abs(slope).max(initial=0)) for slope in slopes)
            assert np.isfinite(float(value)), (kind, options)
            assert size <= (0 if options else LARGEST.get(name, 100)), (kind, options, size)
