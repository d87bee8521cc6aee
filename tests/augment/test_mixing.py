"""Mixup and cutmix by their definitions: labels are mixed as the images are, and mixing factors have their law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnn import augment

KEY = jax.random.key(0)
N = 2000


@pytest.fixture(scope="module")
def mixed():
    """Image i is i everywhere and label i is one-hot in N classes: both show what was mixed, and in which parts."""
    x = jnp.broadcast_to(jnp.arange(N, dtype=jnp.float32)[:, None, None, None], (N, 6, 9, 1))
    labels = jnp.arange(N)

    @jax.jit
    def run(alpha):
        return augment.mixup(alpha, N)(KEY, (x, labels)), augment.cutmix(1.0, N)(KEY, (x, labels))

    return jax.tree.map(np.asarray, run(0.4))


def parts_of(y):
    """The examples j that were mixed in, and their parts."""
    own = np.arange(N)
    others = y.copy()
    others[own, own] = 0
    j = np.where(others.any(1), others.argmax(1), own)
    return j, np.where(j == own, 0, others[own, j])


def test_mixup_mixes_labels_as_images(mixed):
    (x, y), _ = mixed
    j, part = parts_of(y)
    np.testing.assert_allclose(y.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(x[:, 0, 0, 0], (1 - part) * np.arange(N) + part * j, rtol=1e-5, atol=1e-2)
    assert (x == x[:, :1, :1]).all()
    mixing = j != np.arange(N)
    assert len(set(j[mixing])) == mixing.sum()  # a permutation
    assert stats.kstest(1 - part[mixing], stats.beta(0.4, 0.4).cdf).pvalue > 1e-3


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


def test_soft_labels_bytes_and_a_label_out_of_range():
    x = jnp.asarray(np.random.default_rng(0).integers(0, 256, (4, 3, 3, 1)), jnp.uint8)
    y = jnp.asarray(np.random.default_rng(0).uniform(size=(4, 5)), jnp.float16)
    for f in (augment.mixup(), augment.cutmix()):
        new, soft = jax.jit(f)(KEY, (x, y))
        assert (new.dtype, new.shape, soft.dtype, soft.shape) == (x.dtype, x.shape, y.dtype, y.shape)
    _, soft = augment.mixup(0.0, classes=3)(KEY, (x, jnp.array([0, 2, 3, -1])))
    np.testing.assert_array_equal(soft, [[1, 0, 0], [0, 0, 1], [np.nan] * 3, [np.nan] * 3])


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_alpha_0_is_the_identity_to_the_bit(name):
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(5, 4, 3, 2)), jnp.float32)
    y = jax.nn.softmax(x.sum((1, 2)))
    new = jax.jit(lambda alpha: getattr(augment, name)(alpha)(KEY, (x, y)))(0.0)
    jax.tree.map(np.testing.assert_array_equal, new, (x, y))
    empty = getattr(augment, name)(classes=3)(KEY, (x[:0], jnp.zeros(0, int)))
    assert (empty[0].shape, empty[1].shape) == ((0, 4, 3, 2), (0, 3))
