"""Bounded on both sides: steps, sigmoids and what approximates them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn.activations._checks import option
from jaxnn.activations._elementwise import elementwise


def unit_step(x: ArrayLike, *, at_zero: ArrayLike = 1.0) -> Array:
    """Unit step, [...] -> [...]: H(x) = 1 for x > 0, 0 for x < 0, `at_zero` for x = 0, in x's dtype. NaN stays NaN.

    The derivative is 0 everywhere, at 0 too: nothing before it learns by gradients. `ops.perceptron_update` needs none.

    Good for yes-or-no outputs, and for the perceptron. It hurts as a hidden layer, for that reason; the slope of
    `hard_tanh` or `sigmoid` is put in its place where such layers are trained.

    Args:
      at_zero: H(0), usually 0, 1/2 or 1; with 1, a unit fires when it reaches its threshold. np.heaviside and
        torch.heaviside ask for it.

    Raises TypeError if x is not floating or at_zero no scalar, ValueError if at_zero is not finite.

    McCulloch & Pitts, A Logical Calculus of the Ideas Immanent in Nervous Activity, 1943.

    >>> unit_step(jnp.array([-2.0, 0.0, 3.0])).tolist()
    [0.0, 1.0, 1.0]
    """
    x = check.array_like("unit_step", "x", x)
    zero = option("unit_step", "at_zero", at_zero, x).astype(x.dtype)
    return jnp.where(x > 0, 1, jnp.where(x < 0, 0, jnp.where(x == 0, zero, jnp.nan)))


def sigmoid(x: ArrayLike) -> Array:
    """Logistic function, [...] -> [...]: σ(x) = 1 / (1 + exp(-x)), in (0, 1); in floating point 0 and 1 are reached.

    The derivative is σ (1 - σ), at most 1/4, taken from the rounded σ: in float32 exactly 0 above x = 17, where σ is 1.
    Half precision is computed in float32: XLA's own float16 is 0 below -11, where exp(-x) overflows.

    Good for gates, and for probabilities of independent classes. It hurts as a hidden layer: it saturates on both
    sides, every layer divides the gradient by four or more, and its outputs are not zero-centred. A loss wants the
    logits: `losses.binary_cross_entropy` does better than a sigmoid followed by a logarithm.

    Raises TypeError if x is not floating. As jax.nn.sigmoid, PyTorch and Keras.

    >>> sigmoid(jnp.array([-jnp.inf, 0.0, 1e4])).tolist()
    [0.0, 0.5, 1.0]
    """
    x = check.array_like("sigmoid", "x", x)
    return jax.nn.sigmoid(x) if jnp.finfo(x.dtype).bits >= 32 else _half_sigmoid(x)


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
    return jnp.tanh(check.array_like("tanh", "x", x))


def hard_sigmoid(x: ArrayLike, *, slope: ArrayLike = 1 / 6, offset: ArrayLike = 0.5) -> Array:
    """The sigmoid in three straight pieces, [...] -> [...]: min(max(slope · x + offset, 0), 1), in [0, 1].

    The derivative is `slope` on the slope (|x| < 3), else 0, at its ends too, as in PyTorch and jax.nn. NaN stays NaN;
    its derivative is 0.

    Good for gates where an exp is dear, and in few bits. It hurts as the sigmoid does, and its tails have no gradient
    at all.

    Args:
      slope: > 0. That of PyTorch, jax.nn and Keras 3; Keras 2 and ONNX's HardSigmoid have 0.2 by default, which ends at
        ±2.5: weights trained with one want the same one.
      offset: the value at 0.

    Raises TypeError if x is not floating or an option no scalar, ValueError for a slope that is not > 0.

    Courbariaux, Bengio & David, BinaryConnect, 2015, with a line of its own, (x + 1)/2.

    >>> hard_sigmoid(jnp.array([-4.0, 0.0, 1.5, 3.0])).tolist()
    [0.0, 0.5, 0.75, 1.0]
    """
    x = check.array_like("hard_sigmoid", "x", x)
    a = option("hard_sigmoid", "slope", slope, x, 0.0)
    return _hard_sigmoid(x, a, option("hard_sigmoid", "offset", offset, x))


def hard_tanh(x: ArrayLike) -> Array:
    """The hyperbolic tangent in three straight pieces, [...] -> [...]: min(max(x, -1), 1), in [-1, 1].

    The derivative is 1 for |x| < 1, else 0, at ±1 too, as in PyTorch and as relu's at its bend; jax.nn.hard_tanh has 1
    at ±1. NaN stays NaN; its derivative is 0.

    Good for bounded outputs, and as the slope put in the place of a step's in binarised networks. It hurts as tanh
    does, and its tails have no gradient at all.

    Raises TypeError if x is not floating.

    Collobert, Large Scale Machine Learning, 2004.

    >>> hard_tanh(jnp.array([-2.0, 0.5, 3.0])).tolist()
    [-1.0, 0.5, 1.0]
    """
    return _hard_tanh(check.array_like("hard_tanh", "x", x))


def softsign(x: ArrayLike) -> Array:
    """Softsign, [...] -> [...]: x / (1 + |x|), in (-1, 1); in floating point ±1 are reached.

    The derivative is 1 / (1 + |x|)². At ±inf the values are their limits ±1; jax.nn.soft_sign and PyTorch give NaN.

    Good where tanh saturates too fast: its tails fall as 1/x² and not as an exponential, so some gradient is left. It
    hurts by the same tails: outputs near ±1 need large inputs.

    Raises TypeError if x is not floating. As jax.nn.soft_sign, PyTorch and Keras.

    Bergstra et al., Quadratic Polynomials Learn Better Image Features, 2009.

    >>> softsign(jnp.array([-jnp.inf, -1.0, 3.0])).tolist()
    [-1.0, -0.5, 0.75]
    """
    return _softsign(check.array_like("softsign", "x", x))


def _within(z: Array, a: Array, b: Array) -> Array:
    return (z > -b / a) & (z < (1 - b) / a)


_hard_sigmoid = elementwise(
    lambda z, a, b: jnp.where(z <= -b / a, 0, jnp.where(z >= (1 - b) / a, 1, a * z + b)),
    lambda z, a, b: jnp.where(_within(z, a, b), a, 0),
    lambda z, a, b: jnp.where(_within(z, a, b), z, 0),
    lambda z, a, b: jnp.where(_within(z, a, b), 1, 0),
)
_hard_tanh = elementwise(lambda z: jnp.clip(z, -1, 1), lambda z: jnp.where(jnp.abs(z) < 1, 1, 0))


def _softsign_value(z: Array) -> Array:
    largest = jnp.finfo(z.dtype).max.item()
    z = jnp.clip(z, -largest, largest)
    return z / (1 + jnp.abs(z))


_softsign = elementwise(_softsign_value, lambda z: jnp.square(1 / (1 + jnp.abs(z))))


_half_sigmoid = elementwise(jax.nn.sigmoid, lambda z: jax.nn.sigmoid(z) * jax.nn.sigmoid(-z))
