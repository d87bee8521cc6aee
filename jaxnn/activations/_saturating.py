"""Saturating activations, bounded on both sides: step, sigmoids, tanh and their piecewise linear approximations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._errors import invalid
from jaxnn._inputs import known
from jaxnn.activations._checks import option
from jaxnn.activations._elementwise import elementwise


def unit_step(x: ArrayLike, *, at_zero: ArrayLike = 1.0) -> Array:
    """Unit step, [...] -> [...]: H(x) = 1 for x > 0, 0 for x < 0, `at_zero` for x = 0, in x's dtype. NaN stays NaN.

    The derivative is 0 everywhere, also at 0, so layers before it cannot be trained by gradients.
    `ops.perceptron_update` needs no gradient.

    Use it for binary outputs and for the perceptron. To train hidden layers of steps, replace its gradient by that of
    `hard_tanh` or `sigmoid` (surrogate gradient).

    Args:
      x: floating array.
      at_zero: H(0), a finite scalar, usually 0, 1/2 or 1; may be traced. With 1, a unit fires when it reaches its
        threshold.

    Raises:
      TypeError: if x is not floating or at_zero is not a real scalar.
      ValueError: if at_zero is not finite.

    Differences: np.heaviside and torch.heaviside require H(0) as an argument.

    Reference: McCulloch & Pitts, A Logical Calculus of the Ideas Immanent in Nervous Activity, 1943.

    >>> unit_step(jnp.array([-2.0, 0.0, 3.0])).tolist()
    [0.0, 1.0, 1.0]
    """
    x = check.array_like("unit_step", "x", x)
    zero = option("unit_step", "at_zero", at_zero, x).astype(x.dtype)
    return jnp.where(x > 0, 1, jnp.where(x < 0, 0, jnp.where(x == 0, zero, jnp.nan)))


def sigmoid(x: ArrayLike) -> Array:
    """Logistic function, [...] -> [...]: σ(x) = 1 / (1 + exp(-x)), in (0, 1); in floating point 0 and 1 are reached.

    The derivative is σ (1 - σ), at most 1/4. It is computed from the rounded σ: in float32 it is exactly 0 above x =
    17, where σ is 1. Half precision is computed in float32: XLA's float16 version is 0 below -11, where exp(-x)
    overflows.

    Use it for gates and for probabilities of independent classes. As a hidden layer it saturates on both sides, divides
    the gradient by four or more per layer, and is not zero-centred. Before a loss use the logits:
    `losses.binary_cross_entropy` is more accurate than the logarithm of a sigmoid.

    Args:
      x: floating array.

    Raises:
      TypeError: if x is not floating.

    Differences: same as jax.nn.sigmoid, PyTorch and Keras.

    >>> sigmoid(jnp.array([-jnp.inf, 0.0, 1e4])).tolist()
    [0.0, 0.5, 1.0]
    """
    x = check.array_like("sigmoid", "x", x)
    return jax.nn.sigmoid(x) if jnp.finfo(x.dtype).bits >= 32 else _half_sigmoid(x)


def tanh(x: ArrayLike) -> Array:
    """Hyperbolic tangent, [...] -> [...]: (exp(x) - exp(-x)) / (exp(x) + exp(-x)) = 2σ(2x) - 1, in (-1, 1).

    It is odd, and so zero-centred: negative inputs give negative outputs (some lecture notes call it non-negative,
    which is wrong). The derivative is 1 - tanh², at most 1, computed from the rounded tanh. In floating point ±1 are
    reached.

    Use it for recurrent states and bounded outputs. Being zero-centred, it trains faster than the sigmoid (LeCun et
    al., Efficient BackProp, 1998). In deep networks it saturates on both sides.

    Args:
      x: floating array.

    Raises:
      TypeError: if x is not floating.

    Differences: same as jnp.tanh, PyTorch and Keras.

    >>> tanh(jnp.array([-jnp.inf, 0.0, 1e4])).tolist()
    [-1.0, 0.0, 1.0]
    """
    return jnp.tanh(check.array_like("tanh", "x", x))


def hard_sigmoid(x: ArrayLike, *, slope: ArrayLike = 1 / 6, offset: ArrayLike = 0.5) -> Array:
    """Hard sigmoid, piecewise linear, [...] -> [...]: min(max(slope · x + offset, 0), 1), in [0, 1].

    The derivative is `slope` on the linear part (|x| < 3 by default), else 0, also at its ends, as in PyTorch and
    jax.nn. NaN stays NaN; its derivative is 0.

    Use it for gates where an exp is too expensive, and in low precision. It has the drawbacks of the sigmoid, and
    exactly no gradient in the tails.

    Args:
      x: floating array.
      slope: finite scalar, > 0; may be traced. Use the value that pretrained weights were trained with.
      offset: value at 0, a finite scalar; may be traced.

    Raises:
      TypeError: if x is not floating or an option is not a real scalar.
      ValueError: if slope is not finite or not > 0, or offset is not finite.

    Differences: the default slope is that of PyTorch, jax.nn and Keras 3. Keras 2 and ONNX's HardSigmoid have 0.2,
    which is linear for |x| < 2.5. The paper has (x + 1)/2.

    Reference: Courbariaux, Bengio & David, BinaryConnect, 2015.

    >>> hard_sigmoid(jnp.array([-4.0, 0.0, 1.5, 3.0])).tolist()
    [0.0, 0.5, 0.75, 1.0]
    """
    x = check.array_like("hard_sigmoid", "x", x)
    a = option("hard_sigmoid", "slope", slope, x, 0.0)
    return _hard_sigmoid(x, a, option("hard_sigmoid", "offset", offset, x))


def hard_tanh(x: ArrayLike, *, low: ArrayLike = -1.0, high: ArrayLike = 1.0) -> Array:
    """Hard tanh, piecewise linear, [...] -> [...]: min(max(x, low), high), in [low, high], by default [-1, 1].

    The derivative is 1 for low < x < high, else 0, also at the bounds. NaN stays NaN; its derivative is 0.

    Use it for bounded outputs, and as a surrogate for the gradient of a step function in binarised networks. It has the
    drawbacks of tanh, and exactly no gradient in the tails.

    Args:
      x: floating array.
      low, high: bounds, finite scalars, low <= high; may be traced and learned: each gets the gradient of the inputs
        beyond it.

    Raises:
      TypeError: if x is not floating or a bound is not a real scalar.
      ValueError: if a bound is not finite, or low > high.

    Differences: same as PyTorch's Hardtanh, whose bounds are `min_val` and `max_val`. jax.nn.hard_tanh has derivative 1
    at ±1 and no bounds.

    Reference: Collobert, Large Scale Machine Learning, 2004.

    >>> hard_tanh(jnp.array([-2.0, 0.5, 3.0])).tolist()
    [-1.0, 0.5, 1.0]
    """
    x = check.array_like("hard_tanh", "x", x)
    bounds = option("hard_tanh", "low", low, x), option("hard_tanh", "high", high, x)
    if known(low) and known(high) and float(low) > float(high):  # type: ignore[arg-type]
        raise invalid("hard_tanh", "low <= high", told=f"{low} and {high}")
    return _hard_tanh(x, *bounds)


def softsign(x: ArrayLike) -> Array:
    """Softsign, [...] -> [...]: x / (1 + |x|), in (-1, 1); in floating point ±1 are reached.

    The derivative is 1 / (1 + |x|)². At ±inf the values are their limits ±1.

    Use it where tanh saturates too fast: its derivative falls as 1/x², not exponentially, so some gradient remains. For
    the same reason, outputs close to ±1 need large inputs.

    Args:
      x: floating array.

    Raises:
      TypeError: if x is not floating.

    Differences: same as jax.nn.soft_sign, PyTorch and Keras, except that jax.nn and PyTorch give NaN at ±inf.

    Reference: Bergstra et al., Quadratic Polynomials Learn Better Image Features, 2009.

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
_hard_tanh = elementwise(
    lambda z, low, high: jnp.clip(z, low, high),
    lambda z, low, high: jnp.where((low < z) & (z < high), 1, 0),
    lambda z, low, high: jnp.where(z <= low, 1, 0),
    lambda z, low, high: jnp.where(z >= high, 1, 0),
)


def _softsign_value(z: Array) -> Array:
    largest = jnp.finfo(z.dtype).max.item()
    z = jnp.clip(z, -largest, largest)
    return z / (1 + jnp.abs(z))


_softsign = elementwise(_softsign_value, lambda z: jnp.square(1 / (1 + jnp.abs(z))))


_half_sigmoid = elementwise(jax.nn.sigmoid, lambda z: jax.nn.sigmoid(z) * jax.nn.sigmoid(-z))
