"""Search: the nearest vectors of each block, then of all blocks, then of all devices."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._dtypes import wide_dtype
from jaxnn._errors import invalid, wrong_type
from jaxnn.retrieval._index import BY_VECTOR, Cosine, Euclidean, Index, InnerProduct, nearness, products, values
from jaxnn.retrieval._top import top

QUERIES = 128  # at a time; with blocks of 32768 vectors their products take 16 MiB
SPARE = 8  # further candidates, because products have larger rounding errors than the values that rank them


class Neighbours(NamedTuple):
    """The vectors nearest to each query, nearest first.

    Attributes:
      values: cosines, distances or inner products, [q, k].
      indices: integer numbers of the vectors, [q, k].

    >>> from jaxnn.retrieval import index
    >>> nearest(index(jnp.eye(3)), jnp.eye(3), 1).indices.tolist()
    [[0], [1], [2]]
    """

    values: Array
    indices: Array


def nearest(
    index: Cosine | Euclidean | InnerProduct,
    queries: ArrayLike,
    k: int,
    *,
    block: int = 32768,
    mesh: Mesh | None = None,
) -> Neighbours:
    """The k vectors of an index that are nearest to each query, [q, d] -> [q, k] values and indices, nearest first.

    Exact: every vector is compared. Blocks of vectors are multiplied with the queries, the k + 8 largest products of
    all blocks are candidates, and their values, computed again without cancellation, decide. So the rounding errors of
    products matter only where more than 8 vectors are as near as the k-th up to them: for n vectors around their mean,
    1e-7 of the squared distances.

    Args:
      index: result of `index`.
      queries: floating [q, d]; cast to the dtype of the arithmetic. A single one is `queries[None]`.
      k: number of neighbours, 1 <= k <= n.
      block: number of vectors that are compared at a time, >= 1.
      mesh: devices that share the search: a part of the vectors lies on each, divided along all axes of the mesh. Place
        them once, `jax.device_put(vectors, NamedSharding(mesh, PartitionSpec(mesh.axis_names)))`; others are moved
        at every call. If the number of devices does not divide n, the vectors are copied at every call.

    Returns: `Neighbours(values, indices)`; indices are int32. Gradients pass through the values, not the choice.

    Raises:
      TypeError: if an argument is of another kind.
      ValueError: if the queries are not of shape [q, d], or a number is out of range.

    Differences: scikit-learn's `kneighbors` returns (distances, indices) for distances alone, FAISS's `search` squared
      distances. Both leave the order of equal values open; here the lower index is first.

    >>> from jaxnn.retrieval import index
    >>> found = nearest(index(jnp.arange(5.0)[:, None], metric="euclidean"), jnp.array([[1.5], [9.0]]), 2)
    >>> found.indices.tolist(), found.values.tolist()
    ([[1, 2], [4, 3]], [[0.5, 0.5], [5.0, 6.0]])
    """
    if not isinstance(index, Index):
        raise wrong_type("nearest", "index to be an index", index, "Make it by retrieval.index(vectors).")
    n, d = jnp.shape(index.vectors)
    x = check.array("nearest", "queries", queries, rank=2, shape="[q, d]")
    if x.shape[1] != d:
        raise invalid("nearest", f"queries of shape [q, {d}], as the vectors", queries)
    k = check.count("nearest", "k", k, most=n)
    block = check.count("nearest", "block", block)
    if not isinstance(mesh, Mesh | None):
        raise wrong_type("nearest", "mesh to be a Mesh or None", mesh, "Make it by jax.make_mesh.")
    return _search(index, x, k, block, mesh)


@partial(jax.jit, static_argnames=("k", "block", "mesh"))
def _search(index: Index, queries: Array, k: int, block: int, mesh: Mesh | None) -> Neighbours:
    queries = queries.astype(wide_dtype(index.vectors.dtype))
    if mesh is None:
        return _among(index, queries, k, block, len(index.vectors))
    axes, n, by_vector = mesh.axis_names, len(index.vectors), BY_VECTOR[type(index)]

    def placed(a: Array, spec: PartitionSpec) -> Array:
        a = a if spec == whole else jnp.pad(a, [(0, -n % mesh.size), (0, 0)][: a.ndim])
        return jax.sharding.reshard(a, NamedSharding(mesh, spec)) if AxisType.Explicit in mesh.axis_types else a

    def part(index: Index, queries: Array) -> Neighbours:
        size = len(index.vectors)
        start = lax.axis_index(axes) * size
        found = _among(index, queries, min(k, size), block, n - start)
        every = Neighbours(found.values, found.indices + start)
        return _best(index, lax.all_gather(every, axes, axis=1, tiled=True), k)

    divided, whole = PartitionSpec(axes), PartitionSpec()
    specs = jax.tree.map(lambda of_vectors: divided if of_vectors else whole, by_vector)
    spread = jax.shard_map(part, mesh=mesh, in_specs=(specs, whole), out_specs=whole, check_vma=False)
    return spread(jax.tree.map(placed, index, specs), placed(queries, whole))


def _among(index: Index, queries: Array, k: int, block: int, count: Any) -> Neighbours:
    """Neighbours among the first `count` vectors, in turn for parts of the queries; NaN for others."""
    q, d = queries.shape
    parts = max(-(-q // QUERIES), 1)
    each = -(-q // parts)
    rows = jnp.pad(queries, ((0, parts * each - q), (0, 0))).reshape(parts, each, d)
    found = lax.map(lambda part: _of_part(index, part, k, block, count), rows)
    return jax.tree.map(lambda a: a.reshape(parts * each, k)[:q], found)


def _of_part(index: Index, queries: Array, k: int, block: int, count: Any) -> Neighbours:
    n, q, by_vector = len(index.vectors), len(queries), BY_VECTOR[type(index)]
    block, spared = min(block, n), min(k + SPARE, n)
    lowest = jnp.finfo(queries.dtype).min

    def candidates(i: Array) -> tuple[Array, Array]:
        start = jnp.minimum(i * block, n - block)  # the last block may overlap the one before it
        cut = partial(lax.dynamic_slice_in_dim, start_index=start, slice_size=block)
        scores = products(jax.tree.map(lambda a, cuts: cut(a) if cuts else a, index, by_vector), queries)
        places = start + jnp.arange(block, dtype=jnp.int32)
        new = (places >= i * block) & (places < count)
        ranked = jnp.where(scores >= lowest, scores, lowest)  # NaN ranks last, but before vectors that are not new
        largest, at = top(jnp.where(new[None], ranked, -jnp.inf), min(spared, block))
        return largest, at + start

    blocks = -(-n // block)
    found = lax.map(candidates, jnp.arange(blocks, dtype=jnp.int32))
    scores, at = (jnp.moveaxis(a, 0, 1).reshape(q, blocks * a.shape[2]) for a in found)
    scores, order = lax.top_k(scores, spared)
    at = jnp.where(scores == -jnp.inf, n, jnp.take_along_axis(at, order, axis=1))
    at = jnp.sort(at, axis=1)  # equal values then keep the order of the indices
    return _best(index, Neighbours(jnp.where(at < n, values(index, queries, at), jnp.nan), at), k)


def _best(index: Index, found: Neighbours, k: int) -> Neighbours:
    """The k nearest of several neighbours, [q, m] -> [q, k]; the first of equal ones."""
    _, order = lax.top_k(nearness(index, found.values), k)
    return jax.tree.map(partial(jnp.take_along_axis, indices=order, axis=1), found)
