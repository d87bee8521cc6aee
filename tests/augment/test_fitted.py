"""Normalization and whitening: moments of the result, inverses, and scikit-learn's PCA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA

from jaxnn import augment


def correlated(n=500, seed=0):
    """Small images [n, 3, 4, 2] of correlated numbers."""
    random = np.random.default_rng(seed)
    return (random.normal(size=(n, 24)) @ random.normal(size=(24, 24)) + random.normal(size=24)).reshape(n, 3, 4, 2)


@pytest.mark.parametrize("kind", ["pca", "zca"])
@pytest.mark.usefixtures("x64")
def test_whitened_data_are_uncorrelated(kind):
    x = jnp.asarray(correlated())
    w = jax.jit(lambda x: augment.whitening(x, kind, eps=0.0))(x)
    y = w.apply(x)
    assert y.shape == x.shape
    flat = np.asarray(y).reshape(len(x), -1)
    np.testing.assert_allclose(flat.T @ flat / len(x), np.eye(24), atol=1e-8)
    np.testing.assert_allclose(flat.mean(0), 0, atol=1e-8)
    np.testing.assert_allclose(w.invert(y), x, atol=1e-8)
    np.testing.assert_allclose(w.apply(x[3]), y[3], atol=1e-8)
    if kind == "zca":
        np.testing.assert_allclose(w.matrix, w.matrix.T, atol=1e-8)  # the symmetric root


@pytest.mark.usefixtures("x64")
def test_pca_as_scikit_learn():
    """Components up to their sign, in the same order; scikit-learn divides by n - 1."""
    x = correlated()
    ours = np.asarray(augment.whitening(jnp.asarray(x), eps=0.0).apply(jnp.asarray(x))).reshape(500, -1)
    theirs = PCA(whiten=True).fit_transform(x.reshape(500, -1)) * (500 / 499) ** 0.5
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-8)


@pytest.mark.parametrize("kind", ["pca", "zca"])
def test_in_single_precision_eps_bounds_what_is_amplified(kind):
    """Fewer examples than numbers: without eps the inverse of a variance of 0 would be infinite."""
    x = jnp.asarray(correlated(20), jnp.float32)
    w = augment.whitening(x, kind)
    y = np.asarray(w.apply(x)).reshape(20, -1)
    assert np.isfinite(y).all()
    assert (y**2).mean(0).max() < 1.01 if kind == "pca" else np.isfinite(y).all()
    # The inverse amplifies a rounding error of y by at most the largest over the smallest deviation, √(λ / eps).
    largest = np.linalg.eigvalsh(np.cov(np.asarray(x, np.float64).reshape(20, -1).T, bias=True)).max()
    atol = np.finfo(np.float32).eps * np.abs(x).max() * np.sqrt(largest / 1e-5)
    np.testing.assert_allclose(w.invert(w.apply(x)), x, rtol=0, atol=atol)


def test_normalization_by_channel():
    x = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), np.uint8)
    x[..., 2] = 51
    n = jax.jit(augment.normalization)(x)
    unit = x.astype(float) / 255
    np.testing.assert_allclose(n.mean, unit.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(n.std[:2], unit.std((0, 1, 2))[:2], rtol=1e-5)
    y = n.apply(x)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y[..., :2].mean((0, 1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(y[..., :2].std((0, 1, 2)), 1, rtol=1e-5)
    np.testing.assert_allclose(y[..., 2], 0, atol=1e-6)  # constant: centred only
    np.testing.assert_allclose(n.invert(y), unit, atol=1e-6)
    assert n.apply(x[0]).shape == (8, 8, 3)


def test_the_dtype_stays_and_traced_arrays_are_taken():
    x = jnp.asarray(correlated(30), jnp.bfloat16)
    n, w = augment.normalization(x), augment.whitening(x)
    assert n.mean.dtype == w.matrix.dtype == jnp.float32
    for fitted in (n, w):
        new = jax.jit(lambda fitted, x: fitted.invert(fitted.apply(x)))(fitted, x)
        assert new.dtype == x.dtype
        assert isinstance(jax.tree.map(lambda a: a, fitted), type(fitted))
