"""Principal components and t-SNE against scikit-learn."""

import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from jaxnn import explain

RNG = np.random.default_rng(0)
SCALES = 0.7 ** np.arange(6)
TALL, WIDE = RNG.normal(size=(40, 6)) * SCALES + 5, RNG.normal(size=(6, 40)) * SCALES[:, None] - 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("x", [TALL, WIDE], ids=["more examples", "more numbers"])
def test_components_as_scikit_learn(x, dtype, x64):
    peer = PCA(4, svd_solver="full").fit(x)
    fitted = explain.pca(jnp.asarray(x, dtype), 4)
    assert {a.dtype for a in fitted} == {jnp.dtype(dtype)}
    assert_close(fitted.mean, peer.mean_)
    assert_close(fitted.components, peer.components_)
    assert_close(fitted.variances, peer.explained_variance_)
    assert_close(fitted.ratios, peer.explained_variance_ratio_)
    assert_close(fitted.apply(jnp.asarray(x, dtype)), peer.transform(x))
    assert_close(fitted.invert(fitted.apply(jnp.asarray(x, dtype))), peer.inverse_transform(peer.transform(x)))


def test_images_and_16_bits():
    x = jnp.asarray(RNG.normal(size=(9, 3, 2, 4)), jnp.bfloat16)
    fitted, flat = explain.pca(x, 3), explain.pca(x.reshape(9, -1), 3)
    assert fitted.components.shape == (3, 3, 2, 4)
    assert fitted.components.dtype == jnp.float32
    assert_close(fitted.components.reshape(3, -1), flat.components)
    assert_close(fitted.apply(x), flat.apply(x.reshape(9, -1)))
    assert fitted.invert(fitted.apply(x)).shape == x.shape


def test_data_without_variance():
    fitted = explain.pca(jnp.ones((3, 5)), 2)
    assert fitted.variances.tolist() == fitted.ratios.tolist() == [0, 0]
    assert np.isfinite(fitted.components).all()


@pytest.mark.slow
def test_tsne_is_that_of_scikit_learn():
    x = RNG.normal(size=(20, 3, 2)).astype(np.float32)
    ours = explain.tsne(jnp.asarray(x), perplexity=5.0, seed=3)
    assert_close(ours, TSNE(perplexity=5.0, random_state=3).fit_transform(x.reshape(20, -1)))


WRONG = {
    "one example": (
        lambda: explain.pca(jnp.ones((1, 3)), 1),
        "pca: expected x with at least two examples, got float32[1, 3].",
    ),
    "too many components": (
        lambda: explain.pca(jnp.ones((4, 3)), 4),
        "pca: expected k to be an integer >= 1 and <= 3, got 4.",
    ),
    "other examples": (
        lambda: explain.pca(jnp.ones((4, 3)), 1).apply(jnp.ones((4, 2))),
        "PCA.apply: expected x of shape [n, 3], got float32[4, 2].",
    ),
    "other coordinates": (
        lambda: explain.pca(jnp.ones((4, 3)), 1).invert(jnp.ones((4, 2))),
        "PCA.invert: expected y of shape [n, 1], got float32[4, 2].",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls(case):
    call, text = WRONG[case]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert str(caught.value) == text
