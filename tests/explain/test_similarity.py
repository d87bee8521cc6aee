"""Centred kernel alignment against float64 formulas: biased, unbiased, linear, RBF; its invariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

from jaxnn import explain

RNG = np.random.default_rng(0)
N = 12
A, B = RNG.normal(size=(N, 5)) + 3, RNG.normal(size=(N, 8))
B[:, :2] += A[:, :2]


def kernel(x, bandwidth):
    if bandwidth is None:
        return x @ x.T
    squares = ((x[:, None] - x[None]) ** 2).sum(-1)
    return np.exp(-squares / (2 * bandwidth**2 * np.median(squares[~np.eye(N, dtype=bool)])))


def biased(k, l):
    """tr(K H L H), Gretton et al. 2005."""
    h = np.eye(N) - 1 / N
    return np.trace(k @ h @ l @ h)


def unbiased(k, l):
    """The estimate of Song et al. 2012, equation 5, times n (n - 3)."""
    k, l, one = k - np.diag(np.diag(k)), l - np.diag(np.diag(l)), np.ones(N)
    middle = (one @ k @ one) * (one @ l @ one) / ((N - 1) * (N - 2))
    return np.trace(k @ l) + middle - 2 / (N - 2) * one @ k @ l @ one


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bandwidth", [None, 0.7])
@pytest.mark.parametrize("estimate", [biased, unbiased])
def test_formula(estimate, bandwidth, dtype, x64):
    k, l = kernel(A, bandwidth), kernel(B, bandwidth)
    want = estimate(k, l) / np.sqrt(estimate(k, k) * estimate(l, l))
    how = {"bandwidth": bandwidth, "unbiased": estimate is unbiased}
    found = explain.cka(jnp.asarray(A, dtype), jnp.asarray(B, dtype), **how)
    assert found.dtype == dtype
    assert_close(found, want)


def test_linear_cka_is_that_of_products_of_features():
    a, b = A - A.mean(0), B - B.mean(0)
    want = np.sum((b.T @ a) ** 2) / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))  # Kornblith et al., equation 5
    assert_close(explain.cka(jnp.asarray(A, jnp.float32), jnp.asarray(B, jnp.float32)), want)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("bandwidth", [None, 0.5])
def test_invariances(bandwidth, unbiased):
    how = {"bandwidth": bandwidth, "unbiased": unbiased}
    rotation, _ = np.linalg.qr(RNG.normal(size=(5, 5)))
    a, b, moved = (jnp.asarray(x, jnp.float32) for x in (A, B, 3 * A @ rotation + 1))
    assert_close(explain.cka(a, moved, **how), 1.0)
    assert_close(explain.cka(moved, b, **how), explain.cka(a, b, **how))
    assert abs(float(explain.cka(a * jnp.array([[1, 9, 1, 1, 1.0]]), a, **how)) - 1) > 0.01  # not to other linear maps


def test_independent_data_of_many_dimensions():
    """Biased d / (n + d), unbiased 0, on average."""
    x, y = (jnp.asarray(RNG.normal(size=(50, 200)), jnp.float32) for _ in range(2))
    assert abs(float(explain.cka(x, y)) - 0.8) < 0.02
    assert abs(float(explain.cka(x, y, unbiased=True))) < 0.1


def test_a_matrix_has_the_values_of_the_pairs():
    xs = [jnp.asarray(x, jnp.float32) for x in (A, B, A[:, :1].reshape(N, 1, 1))]
    found = explain.cka_matrix(xs, xs[:2])
    assert_close(found, [[explain.cka(a, b) for b in xs[:2]] for a in xs])


def test_under_transformations():
    a, b = jnp.asarray(A, jnp.float32), jnp.asarray(B, jnp.float32)
    sweep = jax.vmap(lambda s: explain.cka(a, b, bandwidth=s))(jnp.array([0.5, 2.0]))
    assert_close(sweep, [explain.cka(a, b, bandwidth=s) for s in (0.5, 2.0)])
    assert np.isnan(explain.cka(jnp.ones_like(a), b))  # undefined


WRONG = {
    "other examples": (
        lambda: explain.cka(jnp.ones((5, 2)), jnp.ones((6, 2))),
        "cka: expected a and b of the same examples, at least 4, got 5, 6 examples.",
    ),
    "few examples": (
        lambda: explain.cka(jnp.ones((3, 2)), jnp.ones((3, 2))),
        "cka: expected a and b of the same examples, at least 4, got 3 examples.",
    ),
    "an array for a list": (
        lambda: explain.cka_matrix(jnp.ones((5, 2)), [jnp.ones((5, 2))]),
        "cka_matrix: expected a to be a list of arrays [n, ...], got float32[5, 2].",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls(case):
    call, text = WRONG[case]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert str(caught.value) == text
