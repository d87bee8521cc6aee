"""Search against sorts of float64 values in NumPy: metrics, blocks, meshes, ties, NaN, dtypes, transformations."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

from jaxnn import retrieval

METRICS = ("cosine", "euclidean", "inner_product")
RNG = np.random.default_rng(0)
X, Q = RNG.normal(size=(203, 6)).astype(np.float32), RNG.normal(size=(9, 6)).astype(np.float32)
SMALL = RNG.integers(-2, 3, (203, 6)).astype(np.float32), RNG.integers(-2, 3, (9, 6)).astype(np.float32)


def values_of(metric, x, q):
    """Values [q, n] in float64, and such that larger ones are nearer."""
    x, q = np.asarray(x, np.float64), np.asarray(q, np.float64)
    if metric == "euclidean":
        d = np.linalg.norm(x[None] - q[:, None], axis=-1)
        return d, -d
    s = q @ x.T
    s = s / np.outer(np.linalg.norm(q, axis=1), np.linalg.norm(x, axis=1)) if metric == "cosine" else s
    return s, s


def search(metric, x, q, k, **how):
    return retrieval.nearest(retrieval.index(jnp.asarray(x), metric=metric), jnp.asarray(q), k, **how)


def check(metric, x, q, k, **how):
    found = search(metric, x, q, k, **how)
    assert isinstance(found, retrieval.Neighbours)
    values, near = values_of(metric, x, q)
    want = np.argsort(-near, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(found.indices, want)
    assert_close(found.values, np.take_along_axis(values, want, axis=1))


@pytest.mark.parametrize(("k", "block"), [(1, 32768), (4, 16), (203, 50)])
@pytest.mark.parametrize("metric", METRICS)
def test_equal_to_a_sort(metric, k, block):
    check(metric, X, Q, k, block=block)


@pytest.mark.parametrize("metric", ["euclidean", "inner_product"])
@pytest.mark.parametrize("block", [7, 203])
def test_ties_are_in_the_order_of_the_indices(metric, block):
    check(metric, *SMALL, 40, block=block)  # small integers: products are exact, and most values occur several times
    check(metric, SMALL[0] + 500, SMALL[1] + 500, 40, block=block)


def test_equal_vectors_are_in_the_order_of_the_indices():
    x = np.tile(X[:20], (6, 1))
    for metric in METRICS:
        found = search(metric, x, Q, 12, block=32)
        assert (np.diff(np.asarray(found.indices).reshape(9, 2, 6), axis=2) == 20).all()


def test_many_queries_are_searched_in_parts():
    q = np.concatenate([Q] * 31)  # 279, not a multiple of the part
    found = search("cosine", X, q, 3)
    np.testing.assert_array_equal(found.indices, np.tile(search("cosine", X, Q, 3).indices, (31, 1)))


def test_a_large_mean_cancels():
    x = (X + 3000).astype(np.float32)
    q = (Q + 3000).astype(np.float32)
    check("euclidean", x, q, 10)
    assert search("euclidean", x, x[:5], 1).values.tolist() == [[0.0]] * 5  # themselves


def test_nan_is_last_and_shows():
    x, q = X.copy(), Q.copy()
    x[3], q[0] = np.nan, np.nan
    for metric in METRICS:
        found = search(metric, x, q, 203, block=50)
        assert np.isnan(found.values[0]).all()
        assert (np.sort(found.indices, axis=1) == np.arange(203)).all()
        assert (found.indices[1:, -1] == 3).all()
        assert np.isfinite(found.values[1:, :-1]).all()


@pytest.mark.slow
def test_zero_vectors_have_cosine_0_of_either_sign():
    x = np.array([[-1, 0], [0, 0], [0, 1], [1, 0]], np.float32)
    found = search("cosine", x, np.array([[-1e-30, 0.0], [0.0, 0.0]], np.float32), 4)
    assert found.indices.tolist() == [[0, 1, 2, 3], [0, 1, 2, 3]]
    assert found.values.tolist() == [[1, 0, 0, -1], [0, 0, 0, 0]]


def test_no_queries():
    assert [a.shape for a in search("cosine", X, Q[:0], 3)] == [(0, 3), (0, 3)]


@pytest.mark.parametrize("metric", METRICS)
def test_vectors_of_16_bits_are_compared_in_float32(metric):
    x = jnp.asarray(X, jnp.bfloat16)
    found = search(metric, x, Q, 5)
    assert found.values.dtype == jnp.float32
    values, near = values_of(metric, x, Q)
    want = np.argsort(-near, axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(found.indices, want)
    assert_close(found.values, np.take_along_axis(values, want, axis=1))


def test_float64(x64):
    x, q = X.astype(np.float64), Q.astype(np.float64)
    x[100] = x[5] * (1 + 1e-12)  # equal in float32
    assert search("euclidean", x, x[100:101], 2, block=64).indices.tolist() == [[100, 5]]
    check("cosine", x, q, 5, block=64)


@pytest.mark.slow
def test_under_transformations(compilations):
    index = retrieval.index(X, metric="euclidean")
    retrieval.nearest(index, Q, 3)
    before = compilations()
    want = retrieval.nearest(index, Q, 3)
    assert compilations() == before
    jitted = jax.jit(lambda x, q: retrieval.nearest(retrieval.index(x, metric="euclidean"), q, 3))(X, Q)
    np.testing.assert_array_equal(jitted.indices, want.indices)
    three = jnp.asarray(Q.reshape(3, 3, 6))
    mapped = jax.vmap(lambda q: retrieval.nearest(index, q, 3))(three)
    np.testing.assert_array_equal(mapped.indices.reshape(9, 3), want.indices)
    both = jax.vmap(lambda x, q: retrieval.nearest(retrieval.index(x, metric="euclidean"), q, 3))(
        jnp.stack([jnp.asarray(X)] * 3), three
    )
    np.testing.assert_array_equal(both.indices.reshape(9, 3), want.indices)


def test_gradients_are_those_of_the_values():
    def total(q):
        return search("euclidean", X, q, 2).values.sum()

    slopes = jax.grad(total)(jnp.asarray(Q))
    at = np.asarray(search("euclidean", X, Q, 2).indices)
    away = Q[:, None].astype(np.float64) - X[at]
    assert_close(slopes, (away / np.linalg.norm(away, axis=-1, keepdims=True)).sum(1))
    assert np.isfinite(jax.grad(total)(jnp.asarray(X[:9]))).all()  # at distance 0


ON_MESH = """
import sys
sys.path[:0] = {paths}
import jax
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
import json
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from retrieval.test_nearest import SMALL, X, Q
from jaxnn import retrieval

def differs(metric, kind, n, k):
    x, q = (X, Q) if metric == "cosine" else SMALL  # ties, but not of cosines, which are rounded
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(kind, kind))
    rows = NamedSharding(mesh, PartitionSpec(("a", "b")))
    placed = x[:n] if n % 8 else jax.device_put(x[:n], rows)
    want = retrieval.nearest(retrieval.index(x[:n], metric=metric), q, k)
    index = retrieval.index(placed, metric=metric)
    for found in (
        retrieval.nearest(index, q, k, block=10, mesh=mesh),
        jax.jit(lambda index, q: retrieval.nearest(index, q, k, mesh=mesh))(index, q),
    ):
        assert found.indices.sharding.is_fully_replicated
        if (found.indices != want.indices).any() or np.abs(found.values - want.values).max() > 1e-5:
            return True
    return False

cases = [("euclidean", kind, *size) for kind in (AxisType.Auto, AxisType.Explicit) for size in ((200, 5), (203, 60))]
cases += [("cosine", AxisType.Auto, 203, 60), ("inner_product", AxisType.Explicit, 200, 5)]
print(json.dumps([str(case) for case in cases if differs(*case)]))
"""


@pytest.mark.slow
def test_eight_devices_find_what_one_finds():
    tests = Path(__file__).parents[1]
    program = ON_MESH.replace("{paths}", repr([str(tests), str(tests.parent)]))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


INDEX = retrieval.InnerProduct(jnp.ones((5, 3)))
WRONG = {
    "no index": (
        lambda: retrieval.nearest(X, Q, 1),
        "nearest: expected index to be an index, got float32[203, 6]. Make it by retrieval.index(vectors).",
    ),
    "features": (
        lambda: retrieval.nearest(INDEX, jnp.ones((2, 4)), 1),
        "nearest: expected queries of shape [q, 3], as the vectors, got float32[2, 4].",
    ),
    "one query": (
        lambda: retrieval.nearest(INDEX, jnp.ones(3), 1),
        "nearest: expected queries of shape [q, d], got float32[3].",
    ),
    "k": (
        lambda: retrieval.nearest(INDEX, jnp.ones((2, 3)), 6),
        "nearest: expected k to be an integer >= 1 and <= 5, got 6.",
    ),
    "an empty index": (
        lambda: retrieval.nearest(retrieval.index(jnp.ones((0, 3))), jnp.ones((2, 3)), 1),
        "nearest: expected k to be an integer >= 1 and <= 0, got 1.",
    ),
    "a block": (
        lambda: retrieval.nearest(INDEX, jnp.ones((2, 3)), 1, block=0),
        "nearest: expected block to be an integer >= 1, got 0.",
    ),
    "a mesh": (
        lambda: retrieval.nearest(INDEX, jnp.ones((2, 3)), 1, mesh="d"),
        "nearest: expected mesh to be a Mesh or None, got 'd'. Make it by jax.make_mesh.",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls(case):
    call, text = WRONG[case]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert str(caught.value) == text
