"""Categorical and normal distributions: rules that hold for both, and the categorical ones against SciPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from _close import TOLERANCE, assert_close
from jax.test_util import check_grads

from jaxnn import distributions as d

INF, NAN = np.inf, np.nan
N, K = (4, 3), 5
RNG = np.random.default_rng(0)


def real(*shape, scale=1.0):
    return RNG.normal(0, scale, (*N, *shape))


def softmax(x):
    return scipy.special.softmax(np.asarray(x, np.float64), axis=-1)


def squashed(m, s, u):
    """The density of tanh(u) by the change of variables, in long double."""
    slope = 1 / np.cosh(np.asarray(u, np.longdouble)) ** 2
    return scipy.stats.norm.logpdf(u, m, np.exp(s)) - np.log(slope)


def normal_divergence(m, s, n, t):
    """∫ p log(p / q) by quadrature over 12 standard deviations."""
    x = m + np.exp(s) * np.linspace(-12, 12, 20001)
    p, q = scipy.stats.norm.logpdf(x, m, np.exp(s)), scipy.stats.norm.logpdf(x, n, np.exp(t))
    return np.trapezoid(np.exp(p) * (p - q), x)


# name -> the arguments of a batch of N, and the value for one element, by SciPy in float64
CASES = {
    "categorical_log_prob": ((real(K, scale=3.0), RNG.integers(0, K, N)), lambda x, y: np.log(softmax(x)[y])),
    "categorical_entropy": ((real(K, scale=3.0),), lambda x: scipy.stats.entropy(softmax(x))),
    "categorical_kl": ((real(K), real(K)), lambda x, y: scipy.stats.entropy(softmax(x), softmax(y))),
    "normal_log_prob": (
        (real(), real(), real(scale=3.0)),
        lambda m, s, x: scipy.stats.norm.logpdf(x, m, np.exp(s)),
    ),
    "normal_entropy": ((real(),), lambda s: scipy.stats.norm.entropy(0, np.exp(s))),
    "normal_kl": ((real(), real(scale=0.5), real(), real(scale=0.5)), normal_divergence),
    "squashed_normal_log_prob": ((real(), real(), real()), squashed),
}
SAMPLES = ("categorical_sample", "normal_sample", "squashed_normal_sample")
every = pytest.mark.parametrize("name", CASES)
dtypes = pytest.mark.parametrize("dtype", [*TOLERANCE])


def batch(name, dtype):
    return [jnp.asarray(x, dtype if x.dtype.kind == "f" else None) for x in CASES[name][0]]


def floating(args):
    return [i for i, x in enumerate(args) if jnp.issubdtype(x.dtype, jnp.floating)]


def one_by_one(name, args):
    arrays = [np.asarray(x) if x.dtype.kind in "iu" else np.asarray(x, np.float64) for x in args]
    return np.array([[CASES[name][1](*(x[i, j] for x in arrays)) for j in range(N[1])] for i in range(N[0])])


def test_every_name_has_a_row():
    assert {*CASES, *SAMPLES} == set(d.__all__)


@every
@dtypes
def test_values(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        args = batch(name, dtype)
        value = getattr(d, name)(*args)
        assert (value.shape, str(value.dtype)) == (N, "float64" if dtype == "float64" else "float32")
        if name == "normal_kl":  # the quadrature
            np.testing.assert_allclose(value, one_by_one(name, args), rtol=1e-5, atol=1e-6)
        else:
            assert_close(value, one_by_one(name, args))


@every
@pytest.mark.slow
def test_gradients_are_slopes(name, x64):
    f, args = getattr(d, name), batch(name, "float64")
    where = floating(args)

    def of(*given):
        full = list(args)
        for i, x in zip(where, given, strict=True):
            full[i] = x
        return f(*full)

    check_grads(jax.jit(of), [args[i] for i in where], order=2, modes=("fwd", "rev"), rtol=1e-4, atol=1e-6)


@every
@pytest.mark.slow
def test_transformed_and_empty(name):
    f, args = getattr(d, name), batch(name, "float32")

    @jax.jit
    def transformed(*args):
        return jax.vmap(jax.vmap(f))(*args), jax.lax.scan(lambda _, row: (None, f(*row)), None, tuple(args))[1]

    want = f(*args)
    for got in transformed(*args):
        assert_close(got, want)
    assert f(*[x[:0] for x in args]).shape == (0, N[1])


@every
def test_nothing_is_broadcast(name):
    args = batch(name, "float32")
    for i in range(1, len(args)):
        with pytest.raises(ValueError, match=r"expected .* got "):
            getattr(d, name)(*[x[:1] if i == j else x for j, x in enumerate(args)])
    for i in floating(args):
        with pytest.raises(TypeError, match=rf"{name}: expected \w+ of a floating dtype, got int32"):
            getattr(d, name)(*[x.astype(jnp.int32) if i == j else x for j, x in enumerate(args)])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: d.categorical_log_prob(jnp.ones((2, 3)), jnp.ones((2, 3), jnp.int32)),
            ValueError,
            "categorical_log_prob: expected value of shape [2] for logits float32[2, 3], got int32[2, 3]. "
            "Nothing is broadcast.",
        ),
        (
            lambda: d.categorical_log_prob(jnp.ones((2, 3)), jnp.ones(2)),
            TypeError,
            "categorical_log_prob: expected value of an integer dtype, got float32[2]. "
            "Values are class numbers, 0 to k - 1.",
        ),
        (
            lambda: d.categorical_entropy(jnp.ones(())),
            ValueError,
            "categorical_entropy: expected logits of shape [..., k] with k >= 1, got float32[]. "
            "The last axis holds the classes.",
        ),
        (
            lambda: d.normal_sample(0, jnp.ones(2), jnp.ones(2)),
            TypeError,
            "normal_sample: expected a key, as jax.random.key(0) makes it, got 0. Pass jax.random.key(0).",
        ),
        (
            lambda: d.categorical_sample(jax.random.split(jax.random.key(0)), jnp.ones(2)),
            ValueError,
            "categorical_sample: expected one key, got key<fry>[2]. For a batch of keys use jax.vmap.",
        ),
        (
            lambda: d.normal_sample(jax.random.key(0), jnp.ones(2), jnp.ones(2), 3),
            TypeError,
            "normal_sample: expected shape to be a tuple of integers, got 3. Pass (n,) for n samples.",
        ),
        (
            lambda: d.normal_sample(jax.random.key(0), jnp.ones(2), jnp.ones(2), (-1,)),
            ValueError,
            "normal_sample: expected shape without negative axes, got (-1,).",
        ),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text


# ---- categorical distributions at their ends

MASKED = jnp.asarray([[1.0, -INF, 2.0], [-INF, -INF, 5.0], [0.0, 3e38, -INF], [-INF, -INF, -INF]])


def value_and_grads(f, *args):
    """Values, and the gradients of every row by every argument, in one program."""
    return jax.jit(jax.vmap(jax.value_and_grad(f, tuple(range(len(args))))))(*args)


def test_masked_classes():
    p = softmax(np.array([1.0, 2.0]))
    value, (slope,) = value_and_grads(d.categorical_entropy, MASKED)
    entropy = scipy.stats.entropy(p)
    assert_close(value, [entropy, 0, 0, NAN])
    assert_close(slope[0], np.array([p[0] * (-np.log(p[0]) - entropy), 0, p[1] * (-np.log(p[1]) - entropy)]))
    assert not slope[1:3].any()

    for y, want in ((0, [np.log(p[0]), -INF, -3e38, NAN]), (2, [np.log(p[1]), 0, -INF, NAN])):
        value, (slope,) = value_and_grads(partial(d.categorical_log_prob, value=y), MASKED)
        assert_close(value, np.array(want))
        assert_close(slope[:2], np.eye(3)[[y, y]] - np.array([[p[0], 0, p[1]], [0, 0, 1]]))
    for y in (-1, 3):
        value, (slope,) = value_and_grads(partial(d.categorical_log_prob, value=y), MASKED)
        assert np.isnan(value).all()
        assert np.isnan(slope).all()


def test_divergences_of_masked_classes():
    plain = jnp.zeros((4, 3))
    value, slopes = value_and_grads(d.categorical_kl, MASKED, plain)
    entropy = scipy.stats.entropy(softmax([1.0, 2.0]))
    assert_close(value, np.array([np.log(3) - entropy, np.log(3), np.log(3), NAN]))
    assert all(np.isfinite(s[:3]).all() for s in slopes)
    assert_close(slopes[1][0], 1 / 3 - softmax([1.0, -INF, 2.0]))
    value, _ = value_and_grads(d.categorical_kl, plain, MASKED)
    assert_close(value[:3], np.array([INF, INF, INF]))
    value, slopes = value_and_grads(d.categorical_kl, MASKED, MASKED)
    assert not value[:3].any()
    assert not any(s[:3].any() for s in slopes)


OFFSETS = np.float32([0, 1e4, -1e6, 1e8])[:, None]


def test_every_digit_at_any_offset_and_confidence():
    x = np.float32([[0, 15, 30, 1], [5, 5, 5, 5], [0, 0, 40, 20], [2, -60, 1, 0]])
    rows = (x[None] + OFFSETS[:, None]).reshape(-1, 4)
    rows = np.concatenate([rows, x]).astype(np.float32)
    wide = rows.astype(np.longdouble)
    shifted = wide - wide.max(-1, keepdims=True)
    e = np.exp(shifted)
    others = e.sum(-1, keepdims=True) - np.where(shifted == 0, 1, 0).sum(-1, keepdims=True)
    count = np.where(shifted == 0, 1, 0).sum(-1, keepdims=True)
    cost = np.log(np.longdouble(count)) + np.log1p(others / count) - shifted
    want = (np.exp(-cost) * cost).sum(-1)
    np.testing.assert_allclose(d.categorical_entropy(rows), want.astype(np.float64), rtol=2e-6)
    for y in range(4):
        got = d.categorical_log_prob(rows, np.full(len(rows), y))
        np.testing.assert_allclose(got, -cost[:, y].astype(np.float64), rtol=4e-6)


@pytest.mark.parametrize("size", [1e-1, 1e-3, 1e-5])
def test_divergences_of_close_distributions(size):
    """To 1e-3 of themselves, where a difference of logarithms is rounding: KL is about size² / 2."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20, 6)).astype(np.float32)
    y = (x + np.float32(size) * rng.normal(size=x.shape)).astype(np.float32)
    a, b = (np.asarray(v, np.longdouble) for v in (x, y))
    log_p, log_q = (v - np.log(np.exp(v).sum(-1, keepdims=True)) for v in (a, b))
    want = (np.exp(log_p) * (log_p - log_q)).sum(-1)
    np.testing.assert_allclose(d.categorical_kl(x, y), want.astype(np.float64), rtol=max(1e-5, 1e-6 / size))
    assert not jax.jit(d.categorical_kl)(x, x).any()


# ---- samples


def test_classes_are_drawn_by_their_probabilities():
    logits = jnp.asarray([[0.0, 1.0, -INF, 2.0], [3.0, -INF, 0.0, -INF]])
    draws = np.asarray(jax.jit(partial(d.categorical_sample, shape=(40_000,)))(jax.random.key(0), logits))
    assert (draws.shape, draws.dtype) == ((40_000, 2), np.int32)
    for row, p in zip(draws.T, softmax(logits), strict=True):
        share = np.bincount(row, minlength=4) / len(row)
        assert (np.abs(share - p) <= 4 * np.sqrt(p * (1 - p) / len(row))).all()  # masked classes: never
    assert len(np.unique(draws, axis=0)) > 3  # rows are independent
    assert d.categorical_sample(jax.random.key_data(jax.random.key(0)), jnp.zeros((0, 3))).shape == (0,)
