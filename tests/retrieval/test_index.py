"""Lengths that neither overflow nor underflow, a center of the finite vectors, indexes in files."""

import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn
from jaxnn import retrieval

RNG = np.random.default_rng(0)


def test_scales_are_inverse_lengths():
    x = np.array([[3, 4], [0, 0], [3e30, 4e30], [3e-30, 4e-30]], np.float32)
    assert_close(retrieval.index(x).scale, [0.2, 0, 2e-31, 2e29], scale=0)


def test_the_center_is_the_mean_of_finite_vectors():
    x = RNG.normal(size=(50, 3)).astype(np.float32) + 1000
    x[4], x[7, 1] = np.nan, np.inf
    made = retrieval.index(x, metric="euclidean")
    rest = np.delete(x, [4, 7], axis=0).astype(np.float64)
    assert np.abs(np.asarray(made.center) - rest.mean(0)).max() < rest.std()
    halves = ((rest - np.asarray(made.center)) ** 2).sum(1) / 2
    assert_close(np.delete(made.halves, [4, 7]), halves)
    assert np.isnan(made.halves[4])
    assert made.halves[7] == np.inf


KINDS = {
    "cosine": retrieval.Cosine,
    "euclidean": retrieval.Euclidean,
    "inner_product": retrieval.InnerProduct,
}


@pytest.mark.parametrize("metric", KINDS)
def test_an_index_is_saved_and_loaded(metric, tmp_path):
    made = retrieval.index(jnp.asarray(RNG.normal(size=(20, 4)), jnp.bfloat16), metric=metric)
    nn.save(tmp_path / "index.safetensors", made)
    again = nn.load(tmp_path / "index.safetensors")
    assert type(again) is type(made) is KINDS[metric]
    assert again.vectors.dtype == jnp.bfloat16
    queries = jnp.asarray(RNG.normal(size=(3, 4)), jnp.float32)
    for a, b in zip(retrieval.nearest(again, queries, 5), retrieval.nearest(made, queries, 5), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_index_holds_the_array_itself():
    x = jnp.ones((4, 2))
    assert all(retrieval.index(x, metric=m).vectors is x for m in KINDS)


WRONG = {
    "a metric": (
        lambda: retrieval.index(jnp.ones((3, 2)), metric="l2"),
        "index: expected metric to be one of 'cosine', 'euclidean', 'inner_product', got 'l2'.",
    ),
    "one vector": (lambda: retrieval.index(jnp.ones(3)), "index: expected vectors of shape [n, d], got float32[3]."),
    "bytes": (
        lambda: retrieval.index(jnp.ones((3, 2), jnp.uint8)),
        "index: expected vectors of shape [n, d] and a floating dtype, got uint8[3, 2]. Convert it first, for example "
        "x.astype(jnp.float32) / 255 for images of bytes.",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls(case):
    call, text = WRONG[case]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert str(caught.value) == text
