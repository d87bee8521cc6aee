"""Normal distributions at their ends, and their samples."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from _close import assert_close

from jaxnn import distributions as d

INF, NAN = np.inf, np.nan

# name, arguments of one element, value, gradients by all arguments
EDGES = [
    ("normal_log_prob", (0.0, -200.0, 0.0), 200 - np.log(2 * np.pi) / 2, (0, -1, 0)),
    ("normal_log_prob", (0.0, -200.0, 1.0), -INF, (INF, INF, -INF)),
    ("normal_log_prob", (0.0, 200.0, 1e30), -200 - np.log(2 * np.pi) / 2, (0, -1, 0)),
    ("normal_log_prob", (0.0, 0.0, NAN), NAN, (NAN, NAN, NAN)),
    ("normal_log_prob", (1.0, np.log(2.0), 4.0), -9 / 8 - np.log(8 * np.pi) / 2, (0.75, 1.25, -0.75)),
    ("normal_entropy", (-300.0,), -300 + (1 + np.log(2 * np.pi)) / 2, (1,)),
    ("normal_kl", (2.0, 1.0, 2.0, 1.0), 0.0, (0, 0, 0, 0)),
    ("normal_kl", (0.0, -300.0, 0.0, 0.0), 299.5, (0, -1, 0, 1)),
    ("normal_kl", (1e-5, 0.0, 0.0, 0.0), 5e-11, (1e-5, 0, -1e-5, -1e-10)),
    ("normal_kl", (0.0, 1e-5, 0.0, 0.0), 1e-10 + 2e-15 / 3, (0, 2.00002e-5, 0, -2.00002e-5)),
    ("normal_kl", (0.0, 300.0, 0.0, 0.0), INF, (0, INF, 0, -INF)),
    ("squashed_normal_log_prob", (0.0, 0.0, 0.0), -np.log(2 * np.pi) / 2, (0, -1, 0)),
    (
        "squashed_normal_log_prob",
        (30.0, 0.0, 30.0),
        -np.log(2 * np.pi) / 2 + 60 - 2 * np.log(2),
        (0, -1, 2),
    ),
    ("squashed_normal_log_prob", (0.0, 9.0, -1e4), None, (None, None, None)),
]


@pytest.mark.parametrize("row", EDGES, ids=lambda row: f"{row[0]}{row[1]}")
def test_edges(row):
    name, args, value, slopes = row
    f = getattr(d, name)
    got, grads = jax.jit(jax.value_and_grad(lambda *args: f(*args), tuple(range(len(args)))))(*map(jnp.float32, args))
    if value is None:
        m, s, u = args
        value = scipy.stats.norm.logpdf(u, m, np.exp(s)) + 2 * (abs(u) - np.log(2))
        z = (u - m) / np.exp(s)
        slopes = z / np.exp(s), z**2 - 1, -z / np.exp(s) - 2
    np.testing.assert_allclose(got, value, rtol=1e-5)
    for grad, slope in zip(grads, slopes, strict=True):
        np.testing.assert_allclose(grad, slope, rtol=2e-5, atol=1e-12)


def test_squashed_densities_are_those_of_float64():
    u = np.float32(np.concatenate([np.linspace(-12, 12, 97), [1e-4, -1e-4, 50, -50]]))
    m, s = np.full_like(u, 0.3), np.full_like(u, 0.5)
    wide = np.asarray(u, np.longdouble)
    want = scipy.stats.norm.logpdf(u.astype(np.float64), np.float64(np.float32(0.3)), np.exp(0.5))
    slope = np.float64(2 * (np.abs(wide) + np.log1p(np.exp(-2 * np.abs(wide))) - np.log(np.longdouble(2))))
    error = np.abs(d.squashed_normal_log_prob(m, s, u) - (want + slope))
    assert (error <= 4e-7 * (np.abs(want) + slope + 1)).all()


def test_close_normals():
    rng = np.random.default_rng(0)
    for size in (1e-1, 1e-3, 1e-5):
        m, s = rng.normal(size=(2, 50)).astype(np.float32)
        n, t = ((x + np.float32(size) * rng.normal(size=50)).astype(np.float32) for x in (m, s))
        a, b, c, e = (np.asarray(x, np.longdouble) for x in (m, s, n, t))
        want = e - b + (np.exp(2 * (b - e)) + ((a - c) / np.exp(e)) ** 2 - 1) / 2
        np.testing.assert_allclose(d.normal_kl(m, s, n, t), want.astype(np.float64), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_samples(dtype):
    mean, log_std = jnp.asarray([3.0, -1.0], dtype), jnp.asarray([0.0, 1.0], dtype)
    draw = jax.jit(partial(d.normal_sample, shape=(20_000,)))
    x = draw(jax.random.key(0), mean, log_std)
    assert (x.shape, str(x.dtype)) == ((20_000, 2), dtype)
    z = (np.asarray(x, np.float64) - [3, -1]) / np.exp([0.0, 1.0])
    for column in z.T:
        assert scipy.stats.kstest(column, "norm").pvalue > (1e-3 if dtype == "float32" else 1e-12)
    assert abs(np.corrcoef(z.T)[0, 1]) < 0.03
    assert d.normal_sample(jax.random.key(0), mean, log_std).shape == (2,)
    assert d.normal_sample(jax.random.key(0), mean[:0], log_std[:0], (3,)).shape == (3, 0)


def test_samples_have_derivatives():
    m, s = jnp.asarray([0.5, -1.0]), jnp.asarray([-1.0, 0.2])
    x = d.normal_sample(jax.random.key(0), m, s)
    by_mean, by_std = jax.jacobian(lambda m, s: d.normal_sample(jax.random.key(0), m, s), (0, 1))(m, s)
    assert_close(by_mean, np.eye(2))
    assert_close(by_std, np.diag(x - m))


def test_squashed_samples_and_their_densities():
    m, s = jnp.asarray([0.5, -1.0]), jnp.asarray([-1.0, 0.2])
    key = jax.random.key(0)
    action, log_prob = jax.jit(partial(d.squashed_normal_sample, shape=(1000,)))(key, m, s)
    u = d.normal_sample(key, m, s, (1000,))
    assert_close(action, np.tanh(u))
    assert_close(log_prob, d.squashed_normal_log_prob(*(jnp.broadcast_to(p, u.shape) for p in (m, s)), u))

    def mean_of(f):
        return lambda m, s: f(m, s).mean()

    def again(m, s):
        u = d.normal_sample(key, m, s, (1000,))
        return d.squashed_normal_log_prob(*(jnp.broadcast_to(p, u.shape) for p in (m, s)), u)

    ours = jax.jit(jax.grad(mean_of(lambda m, s: d.squashed_normal_sample(key, m, s, (1000,))[1]), (0, 1)))(m, s)
    for a, b in zip(ours, jax.jit(jax.grad(mean_of(again), (0, 1)))(m, s), strict=True):
        assert_close(a, b)
    total = np.exp(np.asarray(d.squashed_normal_log_prob(*np.float32([[0.5], [-1.0]]).repeat(4001, 1), GRID)))
    assert abs(np.trapezoid(total, np.tanh(np.asarray(GRID, np.float64))) - 1) < 1e-4  # a density over (-1, 1)


GRID = np.linspace(-6, 6, 4001).astype(np.float32)
