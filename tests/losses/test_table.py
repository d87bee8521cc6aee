"""The losses beyond the first four, one residual at a time, against float64 loops and peers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics
from _close import TOLERANCE, assert_close
from jax.test_util import check_grads

from jaxnn import losses

INF, NAN = np.inf, np.nan
K, D = 5, 3
N = (4, 3)  # residuals in a batch
W = np.asarray([0.5, 1.0, 2.0, 0.25, 3.0])


@dataclass(frozen=True)
class Case:
    f: Callable
    args: Callable  # rng -> arrays of a batch of N, those of float64 to be differentiated
    reference: Callable  # the same of one residual, in float64 -> loss


def normal(*shape, scale=2.0):
    return lambda rng: rng.normal(0, scale, (*N, *shape))


def drawn(*makers):
    return lambda rng: tuple(make(rng) for make in makers)


def numbers(rng):
    return rng.integers(0, K, N)


def bits(rng):
    return rng.integers(0, 2, N)


def soft(rng):
    return rng.dirichlet(np.full(K, 5.0), N)


def log_soft(rng):
    return np.log(soft(rng))


def chances(rng):
    return rng.uniform(0.2, 0.8, N)


def distribution(y):
    return np.eye(K)[y] if np.ndim(y) == 0 else y


def softmax_reference(x, y, weights=(1.0,) * K, smoothing=0.0, gamma=0.0):
    s = np.exp(x) / np.exp(x).sum()
    p = [(1 - smoothing) * p_i + smoothing / K for p_i in distribution(y)]
    return -sum(w * p_i * (1 - s_i) ** gamma * np.log(s_i) for w, p_i, s_i in zip(weights, p, s, strict=True))


def focal_reference(x, y, gamma=2.0, alpha=None):
    s = 1 / (1 + np.exp(-x))
    yes, no = -y * (1 - s) ** gamma * np.log(s), -(1 - y) * s**gamma * np.log(1 - s)
    return yes + no if alpha is None else alpha * yes + (1 - alpha) * no


def focal_of_probabilities(p, y, gamma=2.0, alpha=None):
    yes, no = -y * (1 - p) ** gamma * np.log(p), -(1 - y) * p**gamma * np.log(1 - p)
    return yes + no if alpha is None else alpha * yes + (1 - alpha) * no


def huber_reference(p, t, delta=1.0):
    r = abs(p - t)
    return r * r / 2 if r <= delta else delta * (r - delta / 2)


def multi_class_hinge_reference(x, y, margin=1.0):
    return max(0.0, margin - x[y] + max(x[j] for j in range(K) if j != y))


def cosine_embedding_reference(x, y, same, margin=0.25):
    c = np.dot(x, y) / np.linalg.norm(x) / np.linalg.norm(y)
    return same * (1 - c) + (1 - same) * max(0.0, c - margin)


def contrastive_reference(x, y, same, margin=2.0):
    d = np.linalg.norm(x - y)
    return same * d * d / 2 + (1 - same) * max(0.0, margin - d) ** 2 / 2


def triplet_reference(a, p, n, margin=1.0, power=1):
    return max(0.0, np.linalg.norm(a - p) ** power - np.linalg.norm(a - n) ** power + margin)


PAIR = drawn(normal(), normal())
CLASSES = drawn(normal(K), numbers)
VECTORS = drawn(normal(D), normal(D))
TRIPLETS = drawn(normal(D), normal(D), normal(D))

CASES = {
    "softmax_cross_entropy(weighted)": Case(
        partial(losses.softmax_cross_entropy, class_weights=W), CLASSES, partial(softmax_reference, weights=W)
    ),
    "softmax_cross_entropy(weighted, soft)": Case(
        partial(losses.softmax_cross_entropy, class_weights=W),
        drawn(normal(K), soft),
        partial(softmax_reference, weights=W),
    ),
    "softmax_cross_entropy(smoothed)": Case(
        partial(losses.softmax_cross_entropy, label_smoothing=0.1), CLASSES, partial(softmax_reference, smoothing=0.1)
    ),
    "softmax_cross_entropy(smoothed, weighted)": Case(
        partial(losses.softmax_cross_entropy, label_smoothing=0.25, class_weights=W),
        CLASSES,
        partial(softmax_reference, smoothing=0.25, weights=W),
    ),
    "softmax_cross_entropy(ignoring)": Case(
        partial(losses.softmax_cross_entropy, ignore_label=2),
        CLASSES,
        lambda x, y: 0.0 if y == 2 else softmax_reference(x, y),
    ),
    "binary_cross_entropy_on_probabilities": Case(
        losses.binary_cross_entropy_on_probabilities,
        drawn(chances, bits),
        lambda p, y: -np.log(p if y else 1 - p),
    ),
    "binary_cross_entropy_on_probabilities(soft)": Case(
        losses.binary_cross_entropy_on_probabilities,
        drawn(chances, chances),
        lambda p, y: scipy.stats.entropy([y, 1 - y]) + scipy.special.rel_entr([y, 1 - y], [p, 1 - p]).sum(),
    ),
    "cross_entropy_on_log_probabilities": Case(
        losses.cross_entropy_on_log_probabilities, drawn(log_soft, numbers), lambda x, y: -x[y]
    ),
    "cross_entropy_on_log_probabilities(weighted, soft)": Case(
        partial(losses.cross_entropy_on_log_probabilities, class_weights=W),
        drawn(log_soft, soft),
        lambda x, y: -np.sum(W * y * x),
    ),
    "cross_entropy_on_probabilities": Case(
        losses.cross_entropy_on_probabilities, drawn(soft, numbers), lambda p, y: -np.log(p[y])
    ),
    "cross_entropy_on_probabilities(weighted, soft)": Case(
        partial(losses.cross_entropy_on_probabilities, class_weights=W),
        drawn(soft, soft),
        lambda p, y: -sum(W[i] * y[i] * np.log(p[i]) for i in range(K)),
    ),
    "focal": Case(losses.focal, drawn(normal(), bits), focal_reference),
    "focal(alpha)": Case(
        partial(losses.focal, gamma=1.5, alpha=0.25),
        drawn(normal(), chances),
        partial(focal_reference, gamma=1.5, alpha=0.25),
    ),
    "focal_on_probabilities": Case(losses.focal_on_probabilities, drawn(chances, bits), focal_of_probabilities),
    "focal_on_probabilities(alpha)": Case(
        partial(losses.focal_on_probabilities, gamma=0.5, alpha=0.25),
        drawn(chances, chances),
        partial(focal_of_probabilities, gamma=0.5, alpha=0.25),
    ),
    "softmax_focal": Case(
        partial(losses.softmax_focal, class_weights=W), CLASSES, partial(softmax_reference, weights=W, gamma=2.0)
    ),
    "softmax_focal(soft)": Case(
        partial(losses.softmax_focal, gamma=1.0), drawn(normal(K), soft), partial(softmax_reference, gamma=1.0)
    ),
    "kl_divergence": Case(
        losses.kl_divergence,
        drawn(normal(K), soft),
        lambda x, p: scipy.special.rel_entr(p, scipy.special.softmax(x)).sum(),
    ),
    "hinge": Case(losses.hinge, drawn(normal(), bits), lambda x, y: max(0.0, 1 - (2 * y - 1) * x)),
    "hinge(±1)": Case(losses.hinge, drawn(normal(), lambda rng: 2 * bits(rng) - 1), lambda x, y: max(0.0, 1 - y * x)),
    "squared_hinge": Case(losses.squared_hinge, drawn(normal(), bits), lambda x, y: max(0.0, 1 - (2 * y - 1) * x) ** 2),
    "multi_class_hinge": Case(losses.multi_class_hinge, CLASSES, multi_class_hinge_reference),
    "multi_class_hinge(2.5)": Case(
        partial(losses.multi_class_hinge, margin=2.5), CLASSES, partial(multi_class_hinge_reference, margin=2.5)
    ),
    "margin_ranking": Case(
        losses.margin_ranking, drawn(normal(), normal(), bits), lambda x, y, s: max(0.0, (1 - 2 * s) * (x - y))
    ),
    "margin_ranking(±1)": Case(
        partial(losses.margin_ranking, margin=1.5),
        drawn(normal(), normal(), lambda rng: 2 * bits(rng) - 1),
        lambda x, y, s: max(0.0, 1.5 - s * (x - y)),
    ),
    "binary_cross_entropy(smoothed)": Case(
        partial(losses.binary_cross_entropy, label_smoothing=0.2),
        drawn(normal(), bits),
        lambda x, y: np.logaddexp(0, -x) * (0.8 * y + 0.1) + np.logaddexp(0, x) * (0.9 - 0.8 * y),
    ),
    "binary_cross_entropy(smoothed, weighted, soft)": Case(
        partial(losses.binary_cross_entropy, label_smoothing=0.2, positive_weight=3.0),
        drawn(normal(), chances),
        lambda x, y: 3 * np.logaddexp(0, -x) * (0.8 * y + 0.1) + np.logaddexp(0, x) * (0.9 - 0.8 * y),
    ),
    "absolute_percentage_error": Case(
        losses.absolute_percentage_error, drawn(normal(), chances), lambda p, t: abs(p - t) / t
    ),
    "squared_log_error": Case(
        losses.squared_log_error, drawn(chances, chances), lambda p, t: np.log((1 + p) / (1 + t)) ** 2
    ),
    "huber": Case(losses.huber, PAIR, huber_reference),
    "huber(2.5)": Case(partial(losses.huber, delta=2.5), PAIR, partial(huber_reference, delta=2.5)),
    "log_cosh": Case(losses.log_cosh, PAIR, lambda p, t: np.log(np.cosh(p - t))),
    "quantile": Case(partial(losses.quantile, q=0.9), PAIR, lambda p, t: max(0.9 * (t - p), 0.1 * (p - t))),
    "poisson_nll": Case(
        losses.poisson_nll,
        drawn(normal(scale=1.0), lambda rng: rng.integers(0, 9, N)),
        lambda x, y: -scipy.stats.poisson.logpmf(y, np.exp(x)) - scipy.special.gammaln(y + 1),
    ),
    "poisson_nll(full)": Case(
        partial(losses.poisson_nll, full=True),
        drawn(normal(scale=1.0), lambda rng: rng.integers(0, 9, N)),
        lambda x, y: -scipy.stats.poisson.logpmf(y, np.exp(x)),
    ),
    "gaussian_nll": Case(
        losses.gaussian_nll,
        drawn(normal(), normal(), normal()),
        lambda m, t, s: -scipy.stats.norm.logpdf(t, m, np.exp(s / 2)) - np.log(2 * np.pi) / 2,
    ),
    "gaussian_nll(full)": Case(
        partial(losses.gaussian_nll, full=True),
        drawn(normal(), normal(), normal()),
        lambda m, t, s: -scipy.stats.norm.logpdf(t, m, np.exp(s / 2)),
    ),
    "cosine_distance": Case(
        losses.cosine_distance, VECTORS, lambda x, y: 1 - np.dot(x, y) / np.linalg.norm(x) / np.linalg.norm(y)
    ),
    "cosine_embedding": Case(
        partial(losses.cosine_embedding, margin=0.25),
        drawn(normal(D), normal(D), bits),
        cosine_embedding_reference,
    ),
    "contrastive": Case(
        partial(losses.contrastive, margin=2.0),
        drawn(normal(D, scale=1.0), normal(D, scale=1.0), bits),
        contrastive_reference,
    ),
    "triplet": Case(losses.triplet, TRIPLETS, triplet_reference),
    "triplet(squared)": Case(
        partial(losses.triplet, squared=True, margin=0.5), TRIPLETS, partial(triplet_reference, margin=0.5, power=2)
    ),
}

every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
dtypes = pytest.mark.parametrize("dtype", [*TOLERANCE])


def batch(case: Case, dtype: str = "float32", seed: int = 0) -> list[jax.Array]:
    args = case.args(np.random.default_rng(seed))
    return [jnp.asarray(x, dtype if x.dtype == np.float64 else None) for x in args]


def floating(args) -> list[int]:
    return [i for i, x in enumerate(args) if jnp.issubdtype(x.dtype, jnp.floating)]


def slopes_of(f, args):
    """The gradients by all floating arguments."""
    return jax.grad(lambda *args: jnp.sum(f(*args)), floating(args))(*args)


def one_by_one(reference, args):
    arrays = [np.asarray(x) for x in args]
    arrays = [x if x.dtype.kind in "iu" else x.astype(np.float64) for x in arrays]
    return np.asarray([[reference(*(x[i, j] for x in arrays)) for j in range(N[1])] for i in range(N[0])])


@every
@dtypes
def test_values(case, dtype):
    with jax.enable_x64(dtype == "float64"):
        args = batch(case, dtype)
        value = case.f(*args)
        assert (value.shape, str(value.dtype)) == (N, "float64" if dtype == "float64" else "float32")
        assert_close(value, one_by_one(case.reference, args))


@every
@pytest.mark.slow
def test_gradients_are_slopes(case, x64):
    """Against differences of the float64 loop, by every argument; and of second order against our own."""
    args = batch(case, "float64")
    for i, slope in zip(floating(args), slopes_of(case.f, args), strict=True):
        direction = np.random.default_rng(1).normal(size=args[i].shape)
        step = 1e-6
        ends = [
            one_by_one(case.reference, [*args[:i], args[i] + s * step * direction, *args[i + 1 :]]) for s in (-1, 1)
        ]
        along = (np.asarray(slope) * direction).reshape(*N, -1).sum(-1)
        np.testing.assert_allclose(along, (ends[1] - ends[0]) / (2 * step), rtol=1e-6, atol=1e-8)
    first = floating(args)[0]

    def slope_by(x):
        return slopes_of(case.f, [*args[:first], x, *args[first + 1 :]])[0]

    check_grads(jax.jit(slope_by), (args[first],), order=1, modes=("fwd",), atol=1e-5, rtol=1e-5)


@every
@dtypes
@pytest.mark.slow
def test_transformed_is_the_same(case, dtype):
    with jax.enable_x64(dtype == "float64"):
        args = batch(case, dtype)
        value, slopes = case.f(*args), slopes_of(case.f, args)

        @jax.jit
        def transformed(*args):
            if dtype != "float32":
                return case.f(*args), slopes_of(case.f, args)
            scanned = jax.lax.scan(lambda _, row: (None, case.f(*row)), None, tuple(args))[1]
            return case.f(*args), slopes_of(case.f, args), jax.vmap(jax.vmap(case.f))(*args), scanned

        jitted = transformed(*args)
        assert_close(jitted[0], value)
        for slope, arg, ours in zip(slopes, [args[i] for i in floating(args)], jitted[1], strict=True):
            assert (slope.shape, slope.dtype) == (arg.shape, arg.dtype)
            assert_close(ours, slope)
        for mapped in jitted[2:]:
            assert_close(mapped, value)


@every
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.slow
def test_weights_masks_and_nothing_at_all(case, dtype):
    args = batch(case, dtype)
    rng = np.random.default_rng(1)
    weights = jnp.asarray(rng.uniform(1, 2, N), dtype)
    value, weighted = jax.jit(lambda *args: (case.f(*args), case.f(*args, weights=weights)))(*args)
    assert_close(weighted, np.asarray(value) * np.asarray(weights, np.float32))
    mask = np.asarray([[True, False, True], [True] * 3, [False] * 3, [False, True, True]])
    masked = jax.jit(lambda *args: (case.f(*args, where=mask), slopes_of(partial(case.f, where=mask), args)))
    clean = masked(*args)
    assert_close(clean[0], np.where(mask, value, 0))
    for rubbish in (NAN, INF, -INF):
        spoiled = []
        for x in args:
            keep = mask.reshape(mask.shape + (1,) * (x.ndim - 2))
            bad = rubbish if jnp.issubdtype(x.dtype, jnp.floating) else -7
            spoiled.append(np.where(keep, x, np.asarray(bad, x.dtype)))
        for a, b in zip(jax.tree.leaves(clean), jax.tree.leaves(masked(*spoiled)), strict=True):
            a, b = np.asarray(a), np.asarray(b)
            assert (a == b).all()
            assert (a[~mask] == 0).all()
    whole = jax.jit(lambda *args: (case.f(*args), slopes_of(case.f, args)))
    for rows in ((slice(0), slice(None)), (slice(None), slice(0))):
        none = [np.asarray(x)[rows] for x in args]
        nothing, slopes = whole(*none)
        assert nothing.shape == none[0].shape[:2]
        assert [s.shape for s in slopes] == [none[i].shape for i in floating(none)]


@pytest.mark.parametrize("name", CASES)
def test_nan_in_nan_out(name):
    """A NaN in a residual is not lost, by a maximum or a comparison, and stays in its own."""
    case = CASES[name]
    args = batch(case)
    expected = np.asarray([[True] * 3] + [[False] * 3] * 3)
    if name == "softmax_cross_entropy(ignoring)":
        expected &= np.asarray(args[1]) != 2
    for i in floating(args):
        value = case.f(*[x.at[0].set(NAN) if j == i else x for j, x in enumerate(args)])
        assert (jnp.isnan(value) == expected).all()


@every
def test_shapes_are_equal_or_refused(case):
    args = batch(case)
    for i in range(len(args)):
        fewer = [args[i][..., :1]] if args[i].ndim == args[1 - min(i, 1)].ndim else []  # fewer classes are no mistake
        for bad in (args[i][:1], args[i][0], args[i][None], *fewer):
            with pytest.raises(ValueError, match=r"expected .* got "):
                case.f(*[bad if j == i else x for j, x in enumerate(args)])
    for dtype in ("int32", "bool", "complex64"):
        with pytest.raises(TypeError, match=r"expected .* of a floating dtype, got "):
            case.f(args[0].astype(dtype), *args[1:])


PEERS = {
    "focal": optax.sigmoid_focal_loss,
    "huber": optax.huber_loss,
    "log_cosh": optax.log_cosh,
    "cosine_distance": partial(optax.cosine_distance, epsilon=1e-12),
    "kl_divergence": lambda x, p: optax.kl_divergence(jax.nn.log_softmax(x), p),
    "hinge(±1)": optax.hinge_loss,
    "multi_class_hinge": optax.losses.multiclass_hinge_loss,
    "softmax_cross_entropy(smoothed)": lambda x, y: optax.softmax_cross_entropy(
        x, optax.smooth_labels(jax.nn.one_hot(y, K), 0.1)
    ),
}


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.slow
def test_optax_agrees(name):
    args = batch(CASES[name])
    with jax.numpy_dtype_promotion("standard"):
        theirs = PEERS[name](*args)
    assert_close(CASES[name].f(*args), theirs)


@pytest.mark.slow
def test_scikit_learn_agrees(x64):
    rng = np.random.default_rng(0)
    p, t, bit = rng.normal(0, 1, 50), rng.normal(0, 1, 50), rng.integers(0, 2, 50)
    assert_close(losses.quantile(p, t, q=0.3).mean(), sklearn.metrics.mean_pinball_loss(t, p, alpha=0.3))
    assert_close(losses.hinge(p, bit).mean(), sklearn.metrics.hinge_loss(bit, p))
    assert_close(losses.absolute_percentage_error(p, t).mean(), sklearn.metrics.mean_absolute_percentage_error(t, p))
    assert_close(
        losses.squared_log_error(abs(p), abs(t)).mean(), sklearn.metrics.mean_squared_log_error(abs(t), abs(p))
    )
    x, y = rng.normal(0, 1, (50, K)), rng.integers(0, K, 50)
    assert_close(losses.multi_class_hinge(x, y).mean(), sklearn.metrics.hinge_loss(y, x, labels=range(K)))
    s = scipy.special.softmax(x, -1)
    assert_close(losses.cross_entropy_on_probabilities(s, y).mean(), sklearn.metrics.log_loss(y, s, labels=range(K)))
    ours = losses.poisson_nll(p, bit).mean() - losses.poisson_nll(np.log(np.maximum(bit, 1e-300)), bit).mean()
    assert_close(2 * ours, sklearn.metrics.mean_poisson_deviance(bit, np.exp(p)))


# Edges, in value and gradient: arguments, loss, gradient by the first.

EDGES = [
    (losses.binary_cross_entropy_on_probabilities, (0.0, 1), -np.log(1e-7), -1e7),
    (losses.binary_cross_entropy_on_probabilities, (1.0, 1), 0.0, -1.0),
    (losses.binary_cross_entropy_on_probabilities, (1.0, 0), -np.log(1e-7), 1e7),
    (losses.binary_cross_entropy_on_probabilities, (0.0, 0), 0.0, 1.0),
    (losses.binary_cross_entropy_on_probabilities, (7.0, 1), NAN, NAN),
    (losses.binary_cross_entropy_on_probabilities, (-7.0, 0), NAN, NAN),
    (losses.focal_on_probabilities, (0.0, 1), -np.log(1e-7), -1e7 + 2 * np.log(1e-7)),
    (losses.focal_on_probabilities, (1.0, 1), 0.0, 0.0),
    (losses.focal_on_probabilities, (1.0, 0), -np.log(1e-7), 1e7 - 2 * np.log(1e-7)),
    (losses.focal_on_probabilities, (0.0, 0), 0.0, 0.0),
    (losses.focal_on_probabilities, (7.0, 1), NAN, NAN),
    (losses.focal, (1e4, 1), 0.0, 0.0),
    (losses.focal, (1e4, 0), 1e4, 1.0),
    (losses.focal, (INF, 1), 0.0, 0.0),
    (losses.focal, (INF, 0), INF, 1.0),
    (losses.focal, (-INF, 0), 0.0, 0.0),
    (losses.focal, (-1e4, 1), 1e4, -1.0),
    (losses.hinge, (1.0, 1), 0.0, 0.0),
    (losses.hinge, (-1e4, 1), 1e4 + 1, -1.0),
    (losses.hinge, (INF, 1), 0.0, 0.0),
    (losses.hinge, (-INF, 1), INF, -1.0),
    (losses.hinge, (0.5, 3), NAN, NAN),
    (losses.squared_hinge, (1.0, 1), 0.0, 0.0),
    (losses.squared_hinge, (-1e4, 1), 10001.0**2, -20002.0),
    (losses.squared_hinge, (INF, 1), 0.0, 0.0),
    (losses.squared_hinge, (-INF, 1), INF, -INF),
    (losses.squared_hinge, (0.5, 3), NAN, NAN),
    (losses.margin_ranking, (1.0, 1.0, 1), 0.0, 0.0),
    (losses.margin_ranking, (-1e30, 0.0, 1), 1e30, -1.0),
    (losses.margin_ranking, (INF, 0.0, -1), INF, 1.0),
    (losses.margin_ranking, (INF, 0.0, True), 0.0, 0.0),
    (losses.margin_ranking, (0.5, 0.0, 3), NAN, NAN),
    (losses.absolute_percentage_error, (2.0, 2.0), 0.0, 0.0),
    (losses.absolute_percentage_error, (1e-7, 0.0), 1.0, 1e7),
    (losses.absolute_percentage_error, (INF, 1.0), INF, 1.0),
    (losses.squared_log_error, (3.0, 3.0), 0.0, 0.0),
    (losses.squared_log_error, (-1.0, 0.0), INF, -INF),
    (losses.squared_log_error, (-2.0, 0.0), NAN, NAN),
    (losses.squared_log_error, (0.0, -2.0), NAN, NAN),
    (losses.huber, (0.0, 0.0), 0.0, 0.0),
    (losses.huber, (1.0, 0.0), 0.5, 1.0),
    (losses.huber, (-1e30, 0.0), 1e30, -1.0),
    (losses.huber, (INF, 0.0), INF, 1.0),
    (losses.log_cosh, (0.0, 0.0), 0.0, 0.0),
    (losses.log_cosh, (1e-4, 0.0), 4.9999999916666667e-9, 9.9999999666666668e-5),
    (losses.log_cosh, (-1e30, 0.0), 1e30, -1.0),
    (losses.log_cosh, (INF, 0.0), INF, 1.0),
    (losses.quantile, (0.0, 0.0), 0.0, 0.0),
    (losses.quantile, (INF, 0.0), INF, 0.5),
    (losses.quantile, (-1e30, 0.0), 5e29, -0.5),
    (losses.poisson_nll, (-INF, 0), 0.0, 0.0),
    (losses.poisson_nll, (-INF, 2), INF, -2.0),
    (losses.poisson_nll, (INF, 2), INF, INF),
    (losses.poisson_nll, (1e4, 0), INF, INF),
    (losses.poisson_nll, (0.0, -1), NAN, NAN),
    (losses.gaussian_nll, (0.0, 0.0, -1e4), -5e3, 0.0),
    (losses.gaussian_nll, (0.0, 1.0, -1e4), INF, -INF),
    (losses.gaussian_nll, (0.0, 1.0, 1e4), 5e3, 0.0),
    (losses.gaussian_nll, (INF, 1.0, 0.0), INF, INF),
]


@pytest.mark.parametrize("row", EDGES, ids=lambda row: f"{row[0].__name__}{row[1]}")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_edges(row, dtype):
    f, args, value, slope = row
    with jax.enable_x64(dtype == "float64"):
        args = [jnp.asarray(x, dtype if isinstance(x, float) else None) for x in args]
        if dtype == "float64" and f is losses.poisson_nll and args[0] == 1e4:
            assert jnp.isinf(f(*args))
            return
        got = jax.jit(jax.value_and_grad(f))(*args)
        assert_close(got[0], np.float64(value))
        assert_close(got[1], np.float64(slope))


@pytest.mark.slow
def test_vectors_that_meet_or_vanish_have_finite_gradients():
    zero, one = jnp.zeros((1, 3)), jnp.ones((1, 3))
    for f, args in (
        (losses.cosine_distance, (zero, one)),
        (losses.cosine_distance, (zero, zero)),
        (losses.triplet, (one, one, zero)),
        (losses.triplet, (one, zero, one)),
        (partial(losses.contrastive, same=jnp.asarray([0])), (one, one)),
        (partial(losses.contrastive, same=jnp.asarray([1])), (one, one)),
    ):
        assert all(bool(jnp.isfinite(s).all()) for s in slopes_of(f, args)), f
    assert losses.cosine_distance(zero, one).tolist() == [1.0]
    for size in (1e-30, 1e30):
        assert_close(losses.cosine_distance(size * one, one), [0.0], scale=1)
    assert float(jax.grad(lambda x: losses.contrastive(x, one, jnp.asarray([0])).sum())(one).sum()) == 0


@pytest.mark.slow
def test_an_ignored_label_may_be_any_number():
    x = jax.random.normal(jax.random.key(0), (4, K))
    y = jnp.asarray([0, -100, 255, 2])
    value = losses.softmax_cross_entropy(x, y, ignore_label=-100)
    assert jnp.isnan(value).tolist() == [False, False, True, False]
    assert float(value[1]) == 0
    spoiled = x.at[1].set(NAN)
    assert_close(losses.softmax_cross_entropy(spoiled, y, ignore_label=-100), value)
    slope = jax.grad(lambda x: losses.softmax_cross_entropy(x, y[:2], ignore_label=-100).sum())(spoiled[:2])
    assert bool(jnp.isfinite(slope).all())
    assert not slope[1].any()
    small = jnp.asarray([0, 1, 2, 3], jnp.int8)
    assert_close(losses.softmax_cross_entropy(x, small, ignore_label=255), losses.softmax_cross_entropy(x, small))


@pytest.mark.slow
def test_smoothing_and_ignoring_together():
    x, y = jax.random.normal(jax.random.key(0), (3, K)), jnp.asarray([0, 9, 4])
    both = losses.softmax_cross_entropy(x, y, ignore_label=9, label_smoothing=0.1, class_weights=W)
    assert float(both[1]) == 0
    assert_close(both[::2], losses.softmax_cross_entropy(x[::2], y[::2], label_smoothing=0.1, class_weights=W))


@pytest.mark.slow
def test_hyper_parameters_may_be_traced():
    p, t = jnp.asarray([0.5, -3.0]), jnp.zeros(2)
    for f, name in (
        (losses.huber, "delta"),
        (losses.quantile, "q"),
        (partial(losses.focal, labels=jnp.asarray([0, 1])), "gamma"),
        (partial(losses.softmax_cross_entropy, labels=jnp.asarray(1)), "label_smoothing"),
    ):
        args = (p,) if isinstance(f, partial) else (p, t)
        many = jax.jit(jax.vmap(lambda h, f=f, name=name, args=args: f(*args, **{name: h})))(jnp.asarray([0.25, 0.5]))
        assert_close(many[1], f(*args, **{name: 0.5}))
        assert bool((many[0] != many[1]).any())


LABELS = jnp.asarray([0, 1])
PAIRS = (jnp.zeros((2, 3)), jnp.zeros((2, 3)))
REFUSED = [
    (
        losses.softmax_cross_entropy,
        (jnp.zeros((2, 3)), LABELS),
        {"class_weights": jnp.ones(2)},
        "softmax_cross_entropy: expected class_weights of shape [3], one for each class, got float32[2]. Nothing is "
        "broadcast.",
    ),
    (
        losses.softmax_cross_entropy,
        PAIRS,
        {"ignore_label": 1},
        "softmax_cross_entropy: expected integer labels with ignore_label, got float32[2, 3]. Leave residuals out "
        "by where=.",
    ),
    (
        losses.gaussian_nll,
        (jnp.zeros(2), jnp.zeros(2), jnp.zeros((2, 1))),
        {},
        "gaussian_nll: expected mean and log_variance of equal shape, got float32[2] and float32[2, 1]. Nothing is "
        "broadcast: reshape one of them.",
    ),
    (
        losses.contrastive,
        (*PAIRS, jnp.zeros((2, 1))),
        {},
        "contrastive: expected same of shape [2], one for each pair, got float32[2, 1]. Nothing is broadcast.",
    ),
    (
        losses.triplet,
        (*PAIRS, jnp.zeros((2, 4))),
        {},
        "triplet: expected anchor and negative of equal shape, got float32[2, 3] and float32[2, 4]. Nothing is "
        "broadcast: reshape one of them.",
    ),
    (
        losses.cosine_distance,
        (jnp.zeros(()), jnp.zeros(())),
        {},
        "cosine_distance: expected x of shape [..., d] with d >= 1, got float32[]. The last axis holds the features.",
    ),
    (
        losses.kl_divergence,
        (jnp.zeros((2, 3)), jnp.zeros((2, 3), int)),
        {},
        "kl_divergence: expected probabilities of a floating dtype, got int32[2, 3].",
    ),
]


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row[3].split(",")[0])
def test_errors_by_their_whole_text(row):
    f, args, options, message = row
    with pytest.raises((TypeError, ValueError)) as caught:
        f(*args, **options)
    assert str(caught.value) == message
