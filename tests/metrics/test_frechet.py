"""Fréchet distance of sets of features against SciPy's matrix square root, closed forms, and its errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from scipy.linalg import sqrtm

from jaxnn.metrics import frechet_distance

RNG = np.random.default_rng(0)
MIX = RNG.normal(size=(2, 6, 6))


def sets(n, m, mean=0.0):
    """Two sets of correlated features."""
    return mean + RNG.normal(size=(n, 6)) @ MIX[0], mean + 0.5 + RNG.normal(size=(m, 6)) @ MIX[1]


def by_root(a, b):
    """The definition in float64, with the root by Schur vectors; 1e-9 on the diagonals makes covariances regular."""
    c, d = (np.cov(x, rowvar=False) for x in (a, b))
    root = sqrtm((c + 1e-9 * np.eye(len(c))) @ (d + 1e-9 * np.eye(len(d))))
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(c + d) - 2 * np.trace(root).real


CASES = {
    "as many": sets(60, 60),
    "fewer in one": sets(200, 9),
    "a large mean": sets(60, 60, 100.0),
    "singular": sets(4, 60),
    "both singular": sets(4, 3),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_distance_of_the_definition_in_float32_and_symmetric(case):
    a, b = CASES[case]
    expected = by_root(a, b)
    x, y = jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)
    value, other = jax.jit(frechet_distance)(x, y), jax.jit(frechet_distance)(y, x)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, expected, rtol=1e-4 if "singular" in case else 2e-5)
    assert_close(other, value)


@pytest.mark.slow
def test_equal_sets_are_at_no_distance_whatever_their_rank_and_order():
    for a, _ in (CASES["as many"], CASES["singular"]):
        x = jnp.asarray(a, jnp.float32)
        assert 0 <= frechet_distance(x, x[::-1]) < 1e-5 * float((x**2).mean())
    same = jnp.ones((5, 3))
    assert frechet_distance(same, same) == 0
    assert frechet_distance(same, same + 2) == 12


def test_a_batch_of_sets_and_half_precision():
    a, b = (jnp.asarray(x, jnp.float32) for x in CASES["as many"])
    both = jax.vmap(frechet_distance, (0, None))(jnp.stack([a, b]), b)
    assert_close(both[0], frechet_distance(a, b))
    low = frechet_distance(a.astype(jnp.bfloat16), b)
    assert low.dtype == jnp.float32
    assert_close(low, by_root(*(np.asarray(x, np.float64) for x in (a.astype(jnp.bfloat16), b))))


SHAPE = "of shape [n, d] with n >= 2 and d >= 1"
AXIS = "Axis 0 holds the examples."


@pytest.mark.parametrize(
    ("a", "b", "kind", "message"),
    [
        (jnp.ones(4), jnp.ones((4, 3)), ValueError, f"a {SHAPE}, got float32[4]. {AXIS}"),
        (jnp.ones((4, 3)), jnp.ones((1, 3)), ValueError, f"b {SHAPE}, got float32[1, 3]. {AXIS}"),
        (jnp.ones((4, 0)), jnp.ones((4, 0)), ValueError, f"a {SHAPE}, got float32[4, 0]. {AXIS}"),
        (jnp.ones((4, 3)), jnp.ones((4, 2)), ValueError, "a and b with equal numbers of features, got 3 and 2."),
        (
            jnp.ones((4, 3), int),
            jnp.ones((4, 3)),
            TypeError,
            "a of a floating dtype, got int32[4, 3]. Cast it: jnp.asarray(x, jnp.float32).",
        ),
    ],
)
def test_errors(a, b, kind, message):
    with pytest.raises(kind) as caught:
        frechet_distance(a, b)
    assert str(caught.value) == f"frechet_distance: expected {message}"
