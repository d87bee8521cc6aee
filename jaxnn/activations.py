"""Activation functions: array -> array of the same shape and dtype, `(x)` plus keyword options.

x is floating (float64, float32, bfloat16 or float16); anything else is a TypeError, since an integer input is nearly
always an image that was not scaled. Derivatives are finite wherever x is, and take their limits at ±inf.
"""

from collections.abc import Sequence
from functools import partial
from typing import SupportsIndex

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn._errors import describe, invalid, wrong_type

__all__ = ["gelu", "relu", "sigmoid", "softmax", "tanh"]


def relu(x: ArrayLike) -> Array:
    """Rectified linear unit, [...] -> [...]: max(x, 0), in [0, inf).

    The derivative is 1 for x > 0, else 0, at 0 too: among the choices there, plain SGD did best with 0 (Bertoin et al.,
    Numerical Influence of ReLU'(0) on Backpropagation, 2021). NaN stays NaN; its derivative is 0.

    Good for hidden layers: cheap, and it does not saturate for x > 0. It hurts where a unit is negative on all inputs:
    no gradient reaches it and it stays dead; its outputs are not zero-centred. Start from `init.he_normal`.

    Raises TypeError if x is not floating. As jax.nn.relu, PyTorch and Keras.

    Nair & Hinton, Rectified Linear Units Improve Restricted Boltzmann Machines, 2010.

    >>> relu(jnp.array([-2.0, 0.0, 3.0])).tolist()
    [0.0, 0.0, 3.0]
    """
    return jax.nn.relu(_floating("relu", x))


def gelu(x: ArrayLike, *, approximate: bool = False) -> Array:
    """Gaussian error linear unit, [...] -> [...]: x Φ(x), Φ the normal distribution function, in [-0.17, inf).

        exact:        x erfc(-x / √2) / 2
        approximate:  x σ(2u) = x (1 + tanh u) / 2,    u = √(2/π) (x + 0.044715 x³)

    Both are computed in at least float32, with derivatives of their own, so that bfloat16 keeps its digits in the left
    tail and float16 does not overflow in x³. gelu(-inf) is its limit 0 and the derivatives at ±inf are 1 and 0; jax.nn
    and PyTorch give NaN.

    Good for transformers: smooth, and close to relu far from 0. It hurts where time counts (an erf or a tanh per
    element); it is not monotonic, with its minimum -0.17 at x = -0.75.

    Args:
      approximate: the tanh form, at most 5e-4 from the exact one; weights trained with one want the same one.
        Exact is the default here, in PyTorch and in Keras; jax.nn.gelu's default is the tanh form.

    Raises TypeError if x is not floating or `approximate` is not a bool (PyTorch's "none" and "tanh" are strings).

    Hendrycks & Gimpel, Gaussian Error Linear Units, 2016.

    >>> gelu(jnp.array([-1.0, 0.0, 1.0])).tolist()
    [-0.158..., 0.0, 0.841...]
    """
    if not isinstance(approximate, bool):
        raise wrong_type("gelu", "approximate to be True or False", approximate, "True is the tanh form.")
    return _gelu(_floating("gelu", x), approximate)


def sigmoid(x: ArrayLike) -> Array:
    """Logistic function, [...] -> [...]: σ(x) = 1 / (1 + exp(-x)), in (0, 1); in floating point 0 and 1 are reached.

    The derivative is σ (1 - σ), at most 1/4, taken from the rounded σ: in float32 exactly 0 above x = 17, where σ is 1.

    Good for gates, and for probabilities of independent classes. It hurts as a hidden layer: it saturates on both
    sides, every layer divides the gradient by four or more, and its outputs are not zero-centred. A loss wants the
    logits: `losses.binary_cross_entropy` does better than a sigmoid followed by a logarithm.

    Raises TypeError if x is not floating. As jax.nn.sigmoid, PyTorch and Keras.

    >>> sigmoid(jnp.array([-jnp.inf, 0.0, 1e4])).tolist()
    [0.0, 0.5, 1.0]
    """
    return jax.nn.sigmoid(_floating("sigmoid", x))


def tanh(x: ArrayLike) -> Array:
    """Hyperbolic tangent, [...] -> [...]: (exp(x) - exp(-x)) / (exp(x) + exp(-x)) = 2σ(2x) - 1, in (-1, 1).

    It is odd and so zero-centred: negative inputs give negative outputs (some lecture notes call it non-negative, which
    is wrong). The derivative is 1 - tanh², at most 1, taken from the rounded tanh. In floating point ±1 are reached.

    Good for recurrent states and for bounded outputs; being zero-centred, it trains faster than the sigmoid
    (LeCun et al., Efficient BackProp, 1998). It hurts in deep stacks: it saturates on both sides.

    Raises TypeError if x is not floating. As jnp.tanh, PyTorch and Keras.

    >>> tanh(jnp.array([-jnp.inf, 0.0, 1e4])).tolist()
    [-1.0, 0.0, 1.0]
    """
    return jnp.tanh(_floating("tanh", x))


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
    x = _floating("softmax", x)
    axes = tuple(axis) if isinstance(axis, Sequence) else (axis,)
    if not all(isinstance(a, SupportsIndex) and -x.ndim <= a < x.ndim for a in axes):
        raise invalid("softmax", "an axis of x", f"axis={axis!r} for {describe(x)}", "Axes count from 0.")
    return jax.nn.softmax(_wide(x), axis=axes).astype(x.dtype)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _gelu(x: Array, approximate: bool) -> Array:
    z = _wide(x)
    distribution, _ = _gaussian(z, approximate)
    return (jnp.maximum(z, -_FAR) * distribution).astype(x.dtype)


@_gelu.defjvp
def _gelu_jvp(approximate: bool, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    # The slope is constant beyond ±_FAR: clipping there makes every derivative finite. One array in x's dtype is saved.
    z = jnp.clip(_wide(x), -_FAR, _FAR)
    distribution, density = _gaussian(z, approximate)
    return _gelu(x, approximate), dx * (distribution + z * density).astype(x.dtype)


_FAR = 40.0  # Φ(-40) is 0 and Φ(40) is 1 in float64, and 40³ is harmless


def _gaussian(z: Array, approximate: bool) -> tuple[Array, Array]:
    """Φ(z) and its derivative φ(z), or the logistic approximation σ(2u(z)) of the two."""
    if not approximate:
        return jax.lax.erfc(z * -(0.5**0.5)) / 2, jnp.exp(-z * z / 2) * (2 * jnp.pi) ** -0.5
    slope = (2 / jnp.pi) ** 0.5
    u, du = slope * (z + 0.044715 * z**3), slope * (1 + 3 * 0.044715 * z**2)
    distribution = jax.nn.sigmoid(2 * u)
    return distribution, 2 * du * distribution * jax.nn.sigmoid(-2 * u)


def _floating(where: str, x: ArrayLike) -> Array:
    """`x` as an array, if it is floating."""
    if not jnp.issubdtype(getattr(x, "dtype", type(x)), jnp.floating):
        raise wrong_type(where, "x of a floating dtype", x, "Cast it: jnp.asarray(x, jnp.float32).")
    return jnp.asarray(x)


def _wide(x: Array) -> Array:
    """`x` in at least float32."""
    return x if jnp.finfo(x.dtype).bits >= 32 else x.astype(jnp.float32)
