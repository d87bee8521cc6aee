"""Functions along axes: softmax, log-softmax, standardisation."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._dtypes import widened
from jaxnn.activations._checks import option


def softmax(x: ArrayLike, *, axis: int | Sequence[int] = -1) -> Array:
    """Softmax along `axis`, [...] -> [...]: s_i = exp(x_i) / Σ_j exp(x_j), in [0, 1], summing to 1.

    Computed in at least float32 from x - max(x), so it does not overflow. A constant added to x does not change the
    result. The Jacobian is ∂s_i/∂x_j = s_i (δ_ij - s_j). An entry of -inf gets probability 0 and gradient 0: use it for
    masking. A row that is all -inf, or contains +inf, gives NaN (0/0), as in jax.nn and PyTorch.

    Use it for probabilities of exclusive classes and for attention. Do not use it before a loss: log(softmax(x)) is
    -inf where softmax underflows. Pass the logits to `losses.softmax_cross_entropy`.

    Args:
      x: floating array.
      axis: axis or axes over which the result sums to 1; the last by default.

    Raises:
      TypeError: if x is not floating.
      ValueError: if x has no such axis.

    Differences: PyTorch requires the axis. The default is Keras's and jax.nn's.

    Reference: Bridle, Probabilistic Interpretation of Feedforward Classification Network Outputs, 1990.

    >>> softmax(jnp.array([[0.0, 0.0], [1e4, -1e4]])).tolist()
    [[0.5, 0.5], [1.0, 0.0]]
    """
    x = check.array_like("softmax", "x", x)
    return jax.nn.softmax(widened(x), axis=check.axes("softmax", "axis", axis, x.ndim)).astype(x.dtype)


def log_softmax(x: ArrayLike, *, axis: int | Sequence[int] = -1) -> Array:
    """Logarithm of softmax along `axis`, [...] -> [...]: x_i - log Σ_j exp(x_j), in (-inf, 0].

    Computed in at least float32 from x - max(x), so it is finite where softmax underflows. The Jacobian is δ_ij -
    softmax(x)_j. An entry of -inf stays -inf and does not enter the sum. A row that is all -inf, or contains +inf,
    gives NaN, as in jax.nn and PyTorch.

    Use it for log-probabilities of exclusive classes: sampling, beam search, policies. For a loss,
    `losses.softmax_cross_entropy` of the logits is cheaper: it computes only the entry of the label.

    Args:
      x: floating array.
      axis: axis or axes over which exp of the result sums to 1; the last by default, as in Keras.

    Raises:
      TypeError: if x is not floating.
      ValueError: if x has no such axis.

    Differences: same values as jax.nn.log_softmax and PyTorch.

    >>> log_softmax(jnp.array([[0.0, 0.0], [1e4, -1e4]])).tolist()
    [[-0.693..., -0.693...], [0.0, -20000.0]]
    """
    x = check.array_like("log_softmax", "x", x)
    return jax.nn.log_softmax(widened(x), axis=check.axes("log_softmax", "axis", axis, x.ndim)).astype(x.dtype)


def standardize(x: ArrayLike, *, axis: int | Sequence[int] = -1, eps: ArrayLike = 1e-5) -> Array:
    """Standardisation along `axis` to mean 0 and variance 1, [...] -> [...]: (x - mean) / √(var + eps).

        var = mean of (x - mean)²

    Computed in at least float32 and in two passes, so a large mean costs no precision. Rows close to the largest finite
    number are scaled first, so that squares do not overflow. A constant row gives 0, also with eps=0, with a gradient
    of ordinary size. A row that contains ±inf or NaN gives NaN.

    Use it for inputs of different units (over the examples with `axis=0`, keeping the mean and variance of the training
    set) and, with a learned scale, as layer norm. It discards the scale of x. Rows of noise around a constant are also
    scaled to variance 1 if their variance is far above eps.

    Args:
      x: floating array.
      axis: axis or axes over which mean and variance are taken; the last by default.
      eps: added to the variance, >= 0, as in norm layers; may be traced. With eps=0 a constant row is divided by 1.

    Raises:
      TypeError: if x is not floating or eps is not a real scalar.
      ValueError: if x has no such axis or eps < 0.

    Differences: jax.nn.standardize computes E[x²] - E[x]² by default, which has no correct digits at mean 1000 and
    standard deviation 0.01. scikit-learn's StandardScaler adds no eps and divides constant columns by 1. TensorFlow's
    per_image_standardization divides by max(std, 1/√n). All three use the biased variance, as here; PyTorch's `std` is
    unbiased.

    >>> standardize(jnp.array([1000.0, 1001.0, 1002.0])).tolist()
    [-1.22..., 0.0, 1.22...]
    """
    x = check.array_like("standardize", "x", x)
    axes = check.axes("standardize", "axis", axis, x.ndim)
    eps = option("standardize", "eps", eps, x, 0.0, "[)")
    z = widened(x)
    top = jax.lax.stop_gradient(jnp.max(jnp.abs(z), axes, keepdims=True, initial=0))
    scale = jnp.where(top > 2.0**50, 2.0**-100, 1).astype(z.dtype)  # a power of two, so scaling is exact
    z = z * scale
    centred = z - jnp.mean(z, axes, keepdims=True)
    centred = centred - jnp.mean(centred, axes, keepdims=True)  # the rounding of a large mean
    var = jnp.mean(jnp.square(centred), axes, keepdims=True) + eps * jnp.square(scale)
    return (centred * jax.lax.rsqrt(jnp.where(var == 0, 1, var))).astype(x.dtype)
