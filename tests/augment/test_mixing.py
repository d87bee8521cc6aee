"""Mixup and cutmix by their definitions: labels are mixed as the images are, and mixing factors have their law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnn import augment
from jaxnn.augment import _mixing

KEY = jax.random.key(0)
N = 2000


X = np.broadcast_to(np.arange(N, dtype=np.float32)[:, None, None, None], (N, 6, 9, 1))


@pytest.fixture(scope="module")
def program():
    """Image i is i everywhere and label i is one-hot in N classes: both show what was mixed, and in which parts."""

    @jax.jit
    def run(first, second, labels):
        return [f(KEY, (X, labels)) for f in (augment.mixup(first, N), augment.cutmix(second, N))]

    return lambda *arguments: jax.tree.map(np.asarray, run(*arguments))


@pytest.fixture(scope="module")
def mixed(program):
    return program(0.4, 1.0, np.arange(N))


def parts_of(y):
    """The examples j that were mixed in, and their parts."""
    own = np.arange(N)
    others = y.copy()
    others[own, own] = 0
    j = np.where(others.any(1), others.argmax(1), own)
    return j, np.where(j == own, 0, others[own, j])


@pytest.mark.slow
def test_mixup_mixes_labels_as_images(mixed):
    (x, y), _ = mixed
    j, part = parts_of(y)
    np.testing.assert_allclose(y.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(x[:, 0, 0, 0], (1 - part) * np.arange(N) + part * j, rtol=1e-5, atol=1e-2)
    assert (x == x[:, :1, :1]).all()
    mixing = j != np.arange(N)
    assert len(set(j[mixing])) == mixing.sum()  # a permutation
    assert stats.kstest(1 - part[mixing], stats.beta(0.4, 0.4).cdf).pvalue > 1e-3


@pytest.mark.slow
def test_cutmix_replaces_rectangles_and_counts_their_pixels(mixed):
    _, (x, y) = mixed
    j, part = parts_of(y)
    own = np.arange(N)
    replaced = x[..., 0] == j[:, None, None]
    mixing = j != own
    assert (replaced | (x[..., 0] == own[:, None, None])).all()
    np.testing.assert_allclose(part[mixing], replaced.mean((1, 2))[mixing], atol=1e-6)
    rows, columns = replaced.any(2).sum(1), replaced.any(1).sum(1)
    np.testing.assert_array_equal(replaced.sum((1, 2)), rows * columns)  # rectangles
    assert {*rows[mixing]} == set(range(1, 6))
    middle = np.abs(replaced[mixing].mean(0) - replaced[mixing].mean(0)[::-1, ::-1]).max()
    assert middle < 0.1  # about symmetric


@pytest.mark.slow
def test_alpha_0_is_the_identity_and_a_label_out_of_range_is_nan(program):
    labels = np.arange(N)
    labels[:2] = -1, N
    want = np.eye(N, dtype=np.float32)
    want[:2] = np.nan
    for x, y in program(0.0, 0.0, labels):
        np.testing.assert_array_equal(x, X)
        np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("f", [augment.mixup(), augment.cutmix()], ids=["mixup", "cutmix"])
@pytest.mark.slow
def test_dtypes_stay_for_bytes_soft_labels_and_empty_batches(f):
    for n in (4, 0):
        shapes = jax.ShapeDtypeStruct((n, 3, 3, 1), jnp.uint8), jax.ShapeDtypeStruct((n, 5), jnp.float16)
        new = jax.eval_shape(f, KEY, shapes)
        assert [(a.shape, a.dtype) for a in new] == [(a.shape, a.dtype) for a in shapes]


def test_bytes_are_mixed_and_rounded(monkeypatch):
    monkeypatch.setattr(_mixing, "_beta", lambda key, alpha, n: jnp.full(n, 0.3))
    x = jnp.array([0, 255], jnp.uint8).reshape(2, 1, 1, 1)
    new, soft = augment.mixup()(jax.random.key(4), (x, jnp.array([[0.0], [1.0]])))
    assert new[:, 0, 0, 0].tolist() == [178, 76]  # of 178.5 in float32, and 76.5: halves go to even
    np.testing.assert_allclose(soft[:, 0], [0.7, 0.3], rtol=1e-6)
