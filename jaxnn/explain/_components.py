"""Maps of activations to few dimensions: principal components and t-SNE."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._dtypes import widened
from jaxnn._errors import invalid
from jaxnn.explain._extras import imported


class PCA(NamedTuple):
    """Principal components of data; a pytree.

    Attributes:
      mean: of the data, [...].
      components: unit vectors of largest variance, orthogonal, [k, ...].
      variances: variance of the data along each component, divided by n - 1, [k].
      ratios: fractions of the whole variance, [k].

    >>> fitted = pca(jnp.array([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]]), 1)
    >>> fitted.apply(jnp.array([[3.0, 7.0]])).tolist(), fitted.invert(jnp.array([[1.0]])).tolist()
    ([[1.0]], [[3.0, 1.0]])
    """

    mean: Array
    components: Array
    variances: Array
    ratios: Array

    def apply(self, x: ArrayLike) -> Array:
        """Coordinates of examples along the components, [n, ...] -> [n, k]."""
        data: Array = check.array("PCA.apply", "x", x, least=1)
        if data.shape[1:] != self.mean.shape:
            raise invalid("PCA.apply", f"x of shape [n, {', '.join(map(str, self.mean.shape))}]", x)
        return _dot(widened(data).reshape(len(data), -1) - self.mean.reshape(1, -1), self._matrix().T)

    def invert(self, y: ArrayLike) -> Array:
        """Examples with given coordinates and no other components, [n, k] -> [n, ...]."""
        at: Array = check.array("PCA.invert", "y", y, rank=2, shape="[n, k]")
        if at.shape[1] != len(self.components):
            raise invalid("PCA.invert", f"y of shape [n, {len(self.components)}]", y)
        return (_dot(widened(at), self._matrix()) + self.mean.reshape(1, -1)).reshape(len(at), *self.mean.shape)

    def _matrix(self) -> Array:
        return self.components.reshape(len(self.components), -1)


def pca(x: ArrayLike, k: int = 2) -> PCA:
    """Principal component analysis, [n, ...] -> `PCA` with k components.

        (x - mean) = U S Vᵀ,    components = rows of Vᵀ,    variances = S² / (n - 1)

    S² and V are eigenvalues and eigenvectors of the smaller one of the two matrices of products, n × n or d × d. In
    float32, components with less than a millionth of the largest variance are rounding errors.

    Args:
      x: examples, floating; the arithmetic is in at least float32.
      k: number of components, 1 <= k <= min(n, d).

    Returns:
      `PCA(mean, components, variances, ratios)` with `apply(x)` and `invert(y)`. The largest element of each component
      is positive.

    Raises:
      TypeError: if x is not floating or k is not an integer.
      ValueError: if x has less than two examples or axes, or k is out of range.

    Differences: equal to scikit-learn's `PCA(k)` with its attributes `components_`, `explained_variance_` and
      `explained_variance_ratio_`. `nn.augment.whitening` keeps all components and scales them to variance 1.

    >>> fitted = pca(jnp.array([[0.0, 0.0], [2.0, 2.0], [4.0, 4.0], [2.0, 2.0]]), 2)
    >>> (fitted.components[0] * 2**0.5).round().tolist(), fitted.ratios.round().tolist()
    ([1.0, 1.0], [1.0, 0.0])
    """
    data: Array = check.array("pca", "x", x, least=2, shape="[n, ...]")
    if len(data) < 2:
        raise invalid("pca", "x with at least two examples", x)
    shape = data.shape[1:]
    k = check.count("pca", "k", k, most=min(len(data), prod(shape)))
    mean, components, variances, ratios = _pca(data.reshape(len(data), -1), k)
    return PCA(mean.reshape(shape), components.reshape(k, *shape), variances, ratios)


@partial(jax.jit, static_argnames="k")
def _pca(x: Array, k: int) -> tuple[Array, Array, Array, Array]:
    x = widened(x)
    n, d = x.shape
    mean = x.mean(0)
    x = x - mean[None]
    squares, vectors = jnp.linalg.eigh(_dot(x.T, x) if d <= n else _dot(x, x.T))
    squares, vectors = jnp.maximum(squares[::-1][:k], 0), vectors[:, ::-1][:, :k].T
    if d > n:
        vectors = _dot(vectors, x)
        length = jnp.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors / jnp.where(length > 0, length, 1)
    largest = jnp.take_along_axis(vectors, jnp.abs(vectors).argmax(1)[:, None], axis=1)
    whole = jnp.sum(x**2)
    return mean, vectors * jnp.sign(largest), squares / (n - 1), squares / jnp.where(whole > 0, whole, 1)


def _dot(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def tsne(x: ArrayLike, *, perplexity: float = 30.0, seed: int = 0) -> Array:
    """t-SNE, [n, ...] -> [n, 2]: points on a plane with the neighbours of the examples, by scikit-learn.

    Distances between clusters and their sizes have no meaning. For hundreds of dimensions, pass the coordinates of some
    fifty principal components: `tsne(pca(x, 50).apply(x))`.

    Args:
      x: examples, floating.
      perplexity: number of neighbours that count, in (0, n).
      seed: integer >= 0 of the random numbers.

    Raises:
      TypeError: if an argument has a wrong type.
      ValueError: if an argument is out of range, or scikit-learn is not installed.

    Differences: scikit-learn's `TSNE` with its defaults, initialised by principal components.

    Reference: van der Maaten & Hinton, Visualizing Data using t-SNE, 2008.

    >>> tsne(jnp.eye(12), perplexity=3.0).shape
    (12, 2)
    """
    data: Array = check.array("tsne", "x", x, least=2, shape="[n, ...]")
    check.scalar("tsne", "perplexity", perplexity, 0, len(data), "()", static=True)
    seed = check.count("tsne", "seed", seed, 0)
    check.concrete("tsne", x, "It runs on the host: call it outside of jit.")
    manifold: Any = imported("tsne", "sklearn.manifold", "scikit-learn")
    rows = np.asarray(widened(data)).reshape(len(data), -1)
    return jnp.asarray(manifold.TSNE(perplexity=perplexity, random_state=seed).fit_transform(rows))
