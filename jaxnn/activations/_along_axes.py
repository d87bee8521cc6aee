"""Over one or several axes: softmax, its logarithm, and standardisation."""

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

    Computed in at least float32 from x - max(x), so it does not overflow: adding a constant to x leaves it unchanged.
    Its Jacobian is ∂s_i/∂x_j = s_i (δ_ij - s_j). An entry of -inf gets probability and gradient 0, which is how entries
    are masked. A row of nothing but -inf, or one that holds +inf, is 0/0 and gives NaN, as in jax.nn and PyTorch.

    Good for probabilities of exclusive classes, and for attention. It hurts inside a loss: take the logits to
    `losses.softmax_cross_entropy`, since log(softmax(x)) is -inf where softmax underflows.

    Args:
      axis: the axis or axes over which the result sums to 1; the last by default, as in Keras (PyTorch asks for it).

    Raises TypeError if x is not floating, ValueError if it has no such axis.

    Bridle, Probabilistic Interpretation of Feedforward Classification Network Outputs, 1990.

    >>> softmax(jnp.array([[0.0, 0.0], [1e4, -1e4]])).tolist()
    [[0.5, 0.5], [1.0, 0.0]]
    """
    x = check.array_like("softmax", "x", x)
    return jax.nn.softmax(widened(x), axis=check.axes("softmax", "axis", axis, x.ndim)).astype(x.dtype)


def log_softmax(x: ArrayLike, *, axis: int | Sequence[int] = -1) -> Array:
    """Logarithm of softmax along `axis`, [...] -> [...]: x_i - log Σ_j exp(x_j), in (-inf, 0].

    Computed in at least float32 from x - max(x): it is finite where softmax underflows. Its Jacobian is
    δ_ij - softmax(x)_j. An entry of -inf stays -inf and takes no part in the sum; a row of nothing but -inf, or
    one that holds +inf, gives NaN, as in jax.nn and PyTorch.

    Good for log-probabilities of exclusive classes: sampling, beam search, policies. It hurts inside a loss, where only
    the label's entry is needed: `losses.softmax_cross_entropy` takes the logits and does not make the rest.

    Args:
      axis: the axis or axes over which exp of the result sums to 1; the last by default, as in Keras.

    Raises TypeError if x is not floating, ValueError if it has no such axis. As jax.nn.log_softmax and PyTorch.

    >>> log_softmax(jnp.array([[0.0, 0.0], [1e4, -1e4]])).tolist()
    [[-0.693..., -0.693...], [0.0, -20000.0]]
    """
    x = check.array_like("log_softmax", "x", x)
    return jax.nn.log_softmax(widened(x), axis=check.axes("log_softmax", "axis", axis, x.ndim)).astype(x.dtype)


def standardize(x: ArrayLike, *, axis: int | Sequence[int] = -1, eps: ArrayLike = 1e-5) -> Array:
    """Mean 0 and variance 1 along `axis`, [...] -> [...]: (x - mean) / √(var + eps), var = mean of (x - mean)².

    Computed in at least float32 and in two passes, so a large mean costs no digits; jax.nn.standardize takes
    E[x²] - E[x]² by default, which has none left at a mean of 1000 and a deviation of 0.01. Rows near the largest
    number are scaled first, so that no square overflows. A constant row gives 0, also with an eps of 0, and a gradient
    of sane size. A row that holds ±inf or NaN gives NaN.

    Good for inputs of different units (over the examples, `axis=0`, with the training set's own numbers kept) and, with
    a learned scale, as layer norm. It hurts where the size of x itself says something, and on rows of noise around a
    constant: with a variance far above eps, they too are brought to variance 1.

    Args:
      axis: the axis or axes over which mean and variance are taken.
      eps: added to the variance, >= 0, as in norm layers; with 0 a constant row is divided by 1, as scikit-learn's
        StandardScaler does, which adds none; TensorFlow's per_image_standardization divides by max(std, 1/√n). The
        variance is the biased one, as in all three; PyTorch's `std` is not.

    Raises TypeError if x is not floating or eps no scalar, ValueError if x has no such axis or eps < 0.

    >>> standardize(jnp.array([1000.0, 1001.0, 1002.0])).tolist()
    [-1.22..., 0.0, 1.22...]
    """
    x = check.array_like("standardize", "x", x)
    axes = check.axes("standardize", "axis", axis, x.ndim)
    eps = option("standardize", "eps", eps, x, 0.0, "[)")
    z = widened(x)
    top = jax.lax.stop_gradient(jnp.max(jnp.abs(z), axes, keepdims=True, initial=0))
    scale = jnp.where(top > 2.0**50, 2.0**-100, 1).astype(z.dtype)  # exact, as all powers of two
    z = z * scale
    centred = z - jnp.mean(z, axes, keepdims=True)
    var = jnp.mean(jnp.square(centred), axes, keepdims=True) + eps * jnp.square(scale)
    return (centred * jax.lax.rsqrt(jnp.where(var == 0, 1, var))).astype(x.dtype)
