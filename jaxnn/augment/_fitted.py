"""Transformations that are fitted to data and can be undone: normalization and whitening."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxnn import _checks as check
from jaxnn._dtypes import is_kind
from jaxnn._errors import invalid, wrong_type
from jaxnn._inputs import is_array
from jaxnn.augment._images import to_unit


class Normalization(NamedTuple):
    """Mean and standard deviation of each channel; a pytree.

    Attributes:
      mean: of each channel, [c].
      std: standard deviation of each channel, [c].

    >>> n = Normalization(jnp.array([0.5]), jnp.array([0.25]))
    >>> n.apply(jnp.array([[[0.75]]])).tolist(), n.invert(jnp.array([[[1.0]]])).tolist()
    ([[[1.0]]], [[[0.75]]])
    """

    mean: Array
    std: Array

    def apply(self, x: Array) -> Array:
        """(x - mean) / std, [..., c] -> [..., c]; bytes are divided by 255 first, and become float32."""
        wide, mean, std = self._fitting("apply", x)
        return ((wide - mean) / std).astype(_result(x))

    def invert(self, y: Array) -> Array:
        """The x of which `apply` is y: y · std + mean, [..., c] -> [..., c]."""
        wide, mean, std = self._fitting("invert", y)
        return (wide * std + mean).astype(_result(y))

    def _fitting(self, where: str, x: Array) -> tuple[Array, Array, Array]:
        """x, mean and std in equal dtype and rank."""
        x = _real(f"Normalization.{where}", "x", x)
        if x.shape[-1:] != self.mean.shape:
            raise invalid(f"Normalization.{where}", f"x of shape [..., {self.mean.shape[0]}]", x)
        shape = (*(1,) * (x.ndim - 1), *self.mean.shape)
        mean, std = (jnp.asarray(a).astype(x.dtype).reshape(shape) for a in self)
        return x, mean, std


def normalization(data: Array) -> Normalization:
    """Fits mean and standard deviation of each channel to data, [n, ..., c] -> `Normalization`.

    Args:
      data: images, floating, or uint8, which stands for fractions of 255.

    Returns:
      `Normalization(mean, std)` with `apply(x)` and `invert(y)`. The std of a constant channel is 1.

    Raises:
      TypeError: if the data are neither floating nor uint8.
      ValueError: if the data have less than two axes, or are empty.

    Differences: torchvision's `Normalize` takes mean and std, here `Normalization(mean, std).apply`.

    >>> fitted = normalization(jnp.array([[0.0, 1.0], [1.0, 1.0]]))
    >>> fitted.mean.tolist(), fitted.std.tolist()
    ([0.5, 1.0], [0.5, 1.0])
    """
    x = _data("normalization", data)
    x = x.reshape(-1, x.shape[-1])
    shifted = x - x[:1]  # exactly 0 for a constant channel, whose mean would be off by rounding
    mean = shifted.mean(0)
    std = jnp.sqrt(((shifted - mean[None]) ** 2).mean(0))
    return Normalization(x[0] + mean, jnp.where(std > 0, std, 1))


class Whitening(NamedTuple):
    """A linear map to uncorrelated numbers of variance 1, and its inverse; a pytree.

    Attributes:
      mean: of the data, [...].
      matrix: W of y = W (x - mean), x as a vector, [d, d].
      inverse: the inverse of W, [d, d].

    >>> w = Whitening(jnp.array([1.0, 0.0]), 2 * jnp.eye(2), jnp.eye(2) / 2)
    >>> w.apply(jnp.array([[2.0, 3.0]])).tolist(), w.invert(jnp.array([[2.0, 6.0]])).tolist()
    ([[2.0, 6.0]], [[2.0, 3.0]])
    """

    mean: Array
    matrix: Array
    inverse: Array

    def apply(self, x: Array) -> Array:
        """W (x - mean) in the shape of x, one example or a batch; bytes are divided by 255 first."""
        flat, mean, shape = self._flat("apply", x)
        return _times(self.matrix, flat - mean).reshape(shape).astype(_result(x))

    def invert(self, y: Array) -> Array:
        """The x of which `apply` is y, in the shape of y."""
        flat, mean, shape = self._flat("invert", y)
        return (_times(self.inverse, flat) + mean).reshape(shape).astype(_result(y))

    def _flat(self, where: str, x: Array) -> tuple[Array, Array, tuple[int, ...]]:
        """x as vectors [n, d], the mean as [1, d], and the shape of x."""
        x = _real(f"Whitening.{where}", "x", x)
        inner = self.mean.shape
        if x.shape[x.ndim - len(inner) :] != inner:
            raise invalid(f"Whitening.{where}", f"x of shape [..., {', '.join(map(str, inner))}]", x)
        return x.reshape(-1, self.mean.size), self.mean.astype(x.dtype).reshape(1, -1), x.shape


def whitening(data: Array, kind: Literal["pca", "zca"] = "pca", eps: float | Array = 1e-5) -> Whitening:
    """Fits a whitening to data, [n, ...] -> `Whitening`.

        cov = U Λ Uᵀ,    W = (Λ + eps)^(-1/2) Uᵀ for "pca",    W = U (Λ + eps)^(-1/2) Uᵀ for "zca"

    cov is the covariance of the examples as vectors of d numbers: d² numbers in memory, d³ operations.

    Args:
      data: examples, floating, or uint8, which stands for fractions of 255.
      kind: "pca": the principal components, those of largest variance first; "zca": as similar to x as possible, so
        that whitened images look like images.
      eps: added to the variances Λ, >= 0: components of smaller variance are not amplified to 1; may be traced.

    Returns:
      `Whitening(mean, matrix, inverse)` with `apply(x)` and `invert(y)`.

    Raises:
      TypeError: if the data are neither floating nor uint8, or an argument has the wrong type.
      ValueError: if the data have less than two axes or are empty, `kind` is unknown, or `eps` is negative.

    Differences: scikit-learn's `PCA(whiten=True)` divides by n - 1, here by n.

    Reference: Bell and Sejnowski, The Independent Components of Natural Scenes Are Edge Filters, 1997.

    >>> x = jnp.array([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
    >>> jnp.abs(whitening(x, eps=0.0).apply(x)).round(3).tolist()
    [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]
    """
    x = _data("whitening", data)
    check.choice("whitening", "kind", kind, ("pca", "zca"))
    check.scalar("whitening", "eps", eps)
    mean = x.mean(0)
    centred = (x - mean[None]).reshape(len(x), -1)
    covariance = _times(centred.T, centred.T) / len(x)
    variances, vectors = jnp.linalg.eigh(covariance)
    variances, vectors = variances[::-1], vectors[:, ::-1]
    stds = jnp.sqrt(jnp.maximum(variances, 0) + jnp.asarray(eps, x.dtype))
    matrix, inverse = vectors.T / stds[:, None], vectors * stds[None]
    if kind == "zca":
        matrix, inverse = _times(matrix.T, vectors), _times(vectors, inverse)
    return Whitening(mean, matrix, inverse)


def _times(matrix: Array, x: Array) -> Array:
    """The matrix times each row of x, in the highest precision: W is ill-conditioned."""
    return jnp.einsum("ij,nj->ni", matrix.astype(x.dtype), x, precision=lax.Precision.HIGHEST)


def _real(where: str, argument: str, x: Any) -> Array:
    """Images as floating numbers of at least 32 bits, bytes as fractions of 255."""
    if not is_array(x) or not (is_kind(x, "floating") or x.dtype == jnp.uint8):
        raise wrong_type(where, f"{argument} to be a floating or uint8 array", x)
    return to_unit(jnp.asarray(x))


def _result(x: Array) -> Any:
    """The dtype of a result: that of x, float32 for bytes."""
    return jnp.float32 if x.dtype == jnp.uint8 else x.dtype


def _data(where: str, data: Any) -> Array:
    x = _real(where, "data", data)
    if x.ndim < 2 or x.size == 0:
        raise invalid(where, "data of shape [n, ..., c] with at least one example", x)
    return x
