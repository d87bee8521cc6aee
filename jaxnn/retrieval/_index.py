"""Indexes: vectors with what their metric needs of each; products that rank them, and the values of the metric."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._dtypes import widened
from jaxnn.losses import _distance, _unit


class Cosine(NamedTuple):
    """Index for cosines x·q / (|x| |q|).

    Attributes:
      vectors: x [n, d].
      scale: 1 / |x|, 0 for a zero vector, [n].

    >>> index(jnp.array([[3.0, 4.0]])).scale.tolist()
    [0.2...]
    """

    vectors: Array
    scale: Array


class Euclidean(NamedTuple):
    """Index for distances |x - q|.

    Attributes:
      vectors: x [n, d].
      halves: |x - center|² / 2, [n].
      center: mean of the finite vectors, rounded to a power of two below their deviation, [d].

    >>> index(jnp.array([[1.0], [3.5]]), metric="euclidean").center.tolist()
    [2.0]
    """

    vectors: Array
    halves: Array
    center: Array


class InnerProduct(NamedTuple):
    """Index for inner products x·q.

    Attributes:
      vectors: x [n, d].

    >>> index(jnp.ones((5, 2)), metric="inner_product").vectors.shape
    (5, 2)
    """

    vectors: Array


Index = Cosine | Euclidean | InnerProduct

# True for fields with an entry for each vector.
BY_VECTOR: dict[type, Any] = {
    Cosine: Cosine(True, True),  # type: ignore[arg-type]
    Euclidean: Euclidean(True, True, False),  # type: ignore[arg-type]
    InnerProduct: InnerProduct(True),  # type: ignore[arg-type]
}


def index(
    vectors: ArrayLike, *, metric: Literal["cosine", "euclidean", "inner_product"] = "cosine"
) -> Cosine | Euclidean | InnerProduct:
    """Index of vectors [n, d] for `nearest`; it holds the vectors themselves and one number for each.

        cosine           x·q / (|x| |q|), 0 if one of them is 0
        euclidean        |x - q|
        inner_product    x·q

    Args:
      vectors: floating [n, d]. bfloat16 takes half of the memory; products are in float32 all the same.
      metric: "cosine" ignores lengths, as suits most embeddings; "inner_product" prefers long vectors.

    Returns: a `Cosine`, `Euclidean` or `InnerProduct`.

    Raises:
      TypeError: if the vectors are not floating or the metric is not a str.
      ValueError: if they are not of shape [n, d], or the metric is unknown.

    Differences: scikit-learn's `NearestNeighbors.fit`, with an argument metric, is Euclidean by default. FAISS's
      IndexFlatIP and IndexFlatL2 know no cosines, and have squared distances.

    >>> from jaxnn.retrieval import nearest
    >>> vectors = jnp.array([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]])
    >>> jax.tree.map(lambda a: a.tolist(), nearest(index(vectors), jnp.array([[0.0, 1.0]]), 2))
    Neighbours(values=[[1.0, 0.8...]], indices=[[2, 1]])
    """
    x = check.array("index", "vectors", vectors, rank=2, shape="[n, d]")
    check.choice("index", "metric", metric, ("cosine", "euclidean", "inner_product"))
    if metric == "cosine":
        return Cosine(x, _scale(x))
    return InnerProduct(x) if metric == "inner_product" else Euclidean(x, *_halves(x))


@jax.jit
def _scale(x: Array) -> Array:
    x = widened(x)
    length = _distance(x, jnp.zeros_like(x))
    return jnp.where(length == 0, 0, 1 / jnp.where(length == 0, 1, length))


@jax.jit
def _halves(x: Array) -> tuple[Array, Array]:
    x = widened(x)
    rows = jnp.isfinite(x).all(axis=1, keepdims=True)
    x_finite, count = jnp.where(rows, x, 0), jnp.maximum(rows.sum(), 1).astype(x.dtype)
    mean = x_finite.sum(axis=0) / count
    variance = jnp.sum(jnp.where(rows, (x - mean[None]) ** 2, 0)) / (count * max(x.shape[1], 1))
    step = jnp.ldexp(jnp.ones_like(variance), jnp.frexp(jnp.sqrt(variance))[1] - 1)
    center = jnp.where(variance > 0, jnp.round(mean / step) * step, mean)
    return jnp.sum((x - center[None]) ** 2, axis=1) / 2, center


def products(index: Index, queries: Array) -> Array:
    """Scores that rank the vectors, larger for nearer ones, [q, d] -> [q, n]: one product and one number per vector.

    |x - q|² = |q - c|² - 2 ((q - c)·x - |x - c|² / 2) + 2 (q - c)·c, in which the first and the last term are equal
    for all vectors. A center c near their mean keeps the difference of large numbers small. It is a multiple of a power
    of two, so that the products of integers are exact and their ties are found.
    """
    x = widened(index.vectors).T
    if isinstance(index, Euclidean):
        return _dot(queries - index.center[None], x) - index.halves[None]
    return _dot(queries, x) * index.scale[None] if isinstance(index, Cosine) else _dot(queries, x)


_dot = partial(jnp.matmul, precision="highest")


def values(index: Index, queries: Array, at: Array) -> Array:
    """Values of the metric of each query [q, d] and its vectors with the numbers `at` [q, k], -> [q, k]."""
    x, queries = widened(index.vectors[at]), queries[:, None]
    if isinstance(index, Euclidean):
        return _distance(x, queries)
    return jnp.sum(_unit(x) * _unit(queries) if isinstance(index, Cosine) else x * queries, axis=-1)


def nearness(index: Index, values: Array) -> Array:
    """Values such that larger ones are nearer, -inf for NaN, and never -0, which would rank behind 0."""
    near = -values if isinstance(index, Euclidean) else values
    return jnp.where(jnp.isnan(near), -jnp.inf, jnp.where(near == 0, 0, near))
