"""Rectifiers: close to x for positive x, bounded or flatter for negative x."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn.activations._checks import option
from jaxnn.activations._elementwise import elementwise


def relu(x: ArrayLike) -> Array:
    """Rectified linear unit (ReLU), [...] -> [...]: max(x, 0), in [0, inf).

    The derivative is 1 for x > 0, else 0. At 0 it is 0, the choice with the best results for plain SGD (Bertoin et al.,
    Numerical Influence of ReLU'(0) on Backpropagation, 2021). NaN stays NaN; its derivative is 0.

    Use it for hidden layers: cheap, and it does not saturate for x > 0. A unit that is negative for all inputs gets no
    gradient and stays dead. Outputs are not zero-centred. Initialise with `init.he_normal`.

    Args:
      x: floating array.

    Raises:
      TypeError: if x is not floating.

    Differences: same as jax.nn.relu, PyTorch and Keras.

    Reference: Nair & Hinton, Rectified Linear Units Improve Restricted Boltzmann Machines, 2010.

    >>> relu(jnp.array([-2.0, 0.0, 3.0])).tolist()
    [0.0, 0.0, 3.0]
    """
    return jax.nn.relu(check.array_like("relu", "x", x))


def relu6(x: ArrayLike) -> Array:
    """ReLU clipped at 6, [...] -> [...]: min(max(x, 0), 6), in [0, 6].

    The derivative is 1 for 0 < x < 6, else 0, also at 0 and 6.

    Use it for low-precision networks, whose activations it keeps in a known range (MobileNet, EfficientNet-Lite). Units
    die as with relu, and also if they are above 6 for all inputs.

    Args:
      x: floating array.

    Raises:
      TypeError: if x is not floating.

    Differences: same as jax.nn.relu6 and PyTorch.

    Reference: Krizhevsky, Convolutional Deep Belief Networks on CIFAR-10, 2010.

    >>> relu6(jnp.array([-2.0, 3.0, 8.0])).tolist()
    [0.0, 3.0, 6.0]
    """
    return jax.nn.relu6(check.array_like("relu6", "x", x))


def leaky_relu(x: ArrayLike, *, negative_slope: ArrayLike = 0.01) -> Array:
    """Leaky ReLU, [...] -> [...]: x for x > 0, else negative_slope · x; in (-inf, inf).

    The derivative at 0 is negative_slope, so that slope 0 is relu. With slope 0, x = -inf gives 0 and the slope gets no
    gradient there.

    Use it where relu units die: both sides have a gradient, and outputs are closer to zero mean. The gain over relu is
    often small. `prelu` learns the slope.

    Args:
      x: floating array.
      negative_slope: finite scalar, usually in [0, 1); may be traced. 1 is the identity. A negative slope is allowed,
        but makes the function non-monotonic with its minimum at 0, as |x| for -1.

    Raises:
      TypeError: if x is not floating or negative_slope is not a real scalar.
      ValueError: if negative_slope is not finite.

    Differences: the default slope is that of PyTorch, jax.nn and ONNX; Keras has 0.3 in its layer and 0.2 in its
    function, TensorFlow 0.2. The derivative at 0 is PyTorch's; that of jax.nn.leaky_relu is 1.

    Reference: Maas, Hannun & Ng, Rectifier Nonlinearities Improve Neural Network Acoustic Models, 2013.

    >>> leaky_relu(jnp.array([-2.0, 0.0, 3.0]), negative_slope=0.25).tolist()
    [-0.5, 0.0, 3.0]
    """
    x = check.array_like("leaky_relu", "x", x)
    return leaky(x, option("leaky_relu", "negative_slope", negative_slope, x))


def thresholded_relu(x: ArrayLike, *, threshold: ArrayLike = 1.0) -> Array:
    """Thresholded ReLU, [...] -> [...]: x for x > threshold, else 0.

    The derivative is 1 above the threshold, else 0, also at the threshold. The function jumps there, so `threshold`
    gets no gradient. NaN stays NaN; its derivative is 0.

    Use it for sparse codes, in which small entries are noise. A unit below the threshold for all inputs cannot learn.

    Args:
      x: floating array.
      threshold: finite scalar, usually >= 0; may be traced. 0 is relu.

    Raises:
      TypeError: if x is not floating or threshold is not a real scalar.
      ValueError: if threshold is not finite.

    Differences: the default threshold 1 is that of Keras 2 and ONNX.

    Reference: Konda, Memisevic & Krueger, Zero-bias Autoencoders and the Benefits of Co-adapting Features, 2014.

    >>> thresholded_relu(jnp.array([-2.0, 0.5, 1.0, 3.0])).tolist()
    [0.0, 0.0, 0.0, 3.0]
    """
    x = check.array_like("thresholded_relu", "x", x)
    return _thresholded(x, option("thresholded_relu", "threshold", threshold, x))


def soft_shrink(x: ArrayLike, *, threshold: ArrayLike = 0.5) -> Array:
    """Soft shrinkage, [...] -> [...]: sign(x) max(0, |x| - λ), with λ = threshold.

    The derivative is 1 for |x| > λ, else 0, also at ±λ. NaN stays NaN; its derivative is 0. With respect to λ it is
    -sign(x) for |x| > λ.

    The proximal operator of λ |x|: it makes small entries exactly 0 and moves the others towards 0. Use it for sparse
    codes and denoising (ISTA).

    Args:
      x: floating array.
      threshold: finite scalar λ >= 0; may be traced and learned.

    Raises:
      TypeError: if x is not floating or threshold is not a real scalar.
      ValueError: if threshold is negative or not finite.

    Differences: same as PyTorch's Softshrink and Keras's `soft_shrink`, whose threshold is `lambd`.

    Reference: Donoho & Johnstone, Ideal Spatial Adaptation by Wavelet Shrinkage, 1994.

    >>> soft_shrink(jnp.array([-2.0, -0.5, 0.25, 3.0])).tolist()
    [-1.5, 0.0, 0.0, 2.5]
    """
    x = check.array_like("soft_shrink", "x", x)
    return _soft_shrink(x, option("soft_shrink", "threshold", threshold, x, 0.0, "[)"))


def hard_shrink(x: ArrayLike, *, threshold: ArrayLike = 0.5) -> Array:
    """Hard shrinkage, [...] -> [...]: x for |x| > λ, else 0, with λ = threshold.

    The derivative is 1 for |x| > λ, else 0, also at ±λ. The function jumps there, so `threshold` gets no gradient. NaN
    stays NaN; its derivative is 0.

    Use it for sparse codes whose large entries keep their size, unlike with `soft_shrink`.

    Args:
      x: floating array.
      threshold: finite scalar λ >= 0; may be traced.

    Raises:
      TypeError: if x is not floating or threshold is not a real scalar.
      ValueError: if threshold is negative or not finite.

    Differences: same as PyTorch's Hardshrink and Keras's `hard_shrink`, whose threshold is `lambd`.

    Reference: Donoho & Johnstone, Ideal Spatial Adaptation by Wavelet Shrinkage, 1994.

    >>> hard_shrink(jnp.array([-2.0, -0.5, 0.25, 3.0])).tolist()
    [-2.0, 0.0, 0.0, 3.0]
    """
    x = check.array_like("hard_shrink", "x", x)
    return _hard_shrink(x, option("hard_shrink", "threshold", threshold, x, 0.0, "[)"))


def elu(x: ArrayLike, *, alpha: ArrayLike = 1.0) -> Array:
    """Exponential linear unit (ELU), [...] -> [...]: x for x > 0, else alpha (exp(x) - 1); in (-alpha, inf).

    The derivative for x <= 0 is alpha exp(x), accurate where exp(x) - 1 rounds to -1. At 0 it is alpha, so only alpha =
    1 has no kink.

    Use it for hidden layers without normalisation: outputs are close to zero mean, and the negative side saturates at
    -alpha, which is robust to noise. It needs an exp per element.

    Args:
      x: floating array.
      alpha: finite scalar, >= 0; may be traced. 0 is relu. A negative alpha is allowed, but makes the function
        non-monotonic and not invertible: it approaches -alpha > 0 on the left.

    Raises:
      TypeError: if x is not floating or alpha is not a real scalar.
      ValueError: if alpha is not finite.

    Differences: same as jax.nn.elu, PyTorch and Keras, all with alpha = 1.

    Reference: Clevert, Unterthiner & Hochreiter, Fast and Accurate Deep Network Learning by Exponential Linear Units,
    2015.

    >>> elu(jnp.array([-1.0, 0.0, 3.0])).tolist()
    [-0.632..., 0.0, 3.0]
    """
    x = check.array_like("elu", "x", x)
    return _elu(x, option("elu", "alpha", alpha, x))


def selu(x: ArrayLike) -> Array:
    """Scaled exponential linear unit (SELU), [...] -> [...]: λ elu(x, alpha=α), in (-1.7581, inf).

        λ = 1.0507009873554805,    α = 1.6732632423543773

    With these constants, layers whose weights have mean 0 and variance 1/fan_in drive the mean and variance of their
    units to 0 and 1. The derivative for x > 0 is λ. At 0 it is that of the negative side, λα = 1.758.

    Use it for deep fully connected networks without normalisation. Its assumptions must hold: initialise with
    `init.lecun_normal`, standardise the inputs, and do not use plain dropout, which changes mean and variance.

    Args:
      x: floating array.

    Raises:
      TypeError: if x is not floating.

    Differences: same as jax.nn.selu, PyTorch and Keras.

    Reference: Klambauer et al., Self-Normalizing Neural Networks, 2017.

    >>> selu(jnp.array([-1.0, 0.0, 1.0])).tolist()
    [-1.111..., 0.0, 1.050...]
    """
    return _selu(check.array_like("selu", "x", x))


def celu(x: ArrayLike, *, alpha: ArrayLike = 1.0) -> Array:
    """Continuously differentiable ELU (CELU), [...] -> [...], in (-alpha, inf).

        max(x, 0) + alpha (exp(min(x, 0) / alpha) - 1)

    The derivative is exp(min(x, 0) / alpha): 1 at 0 for every alpha, and at most 1 everywhere.

    Use it in place of elu with alpha other than 1, which has a kink at 0. alpha = 1 is elu, alpha -> 0 approaches relu,
    alpha -> inf the identity. It needs an exp per element.

    Args:
      x: floating array.
      alpha: finite scalar, > 0; may be traced.

    Raises:
      TypeError: if x is not floating or alpha is not a real scalar.
      ValueError: if alpha is not finite or not > 0.

    Differences: same as jax.nn.celu, PyTorch and Keras, all with alpha = 1.

    Reference: Barron, Continuously Differentiable Exponential Linear Units, 2017.

    >>> celu(jnp.array([-1.0, 0.0, 3.0]), alpha=0.5).tolist()
    [-0.432..., 0.0, 3.0]
    """
    x = check.array_like("celu", "x", x)
    return _celu(x, option("celu", "alpha", alpha, x, 0.0))


def softplus(x: ArrayLike) -> Array:
    """Softplus, [...] -> [...]: log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), in (0, inf).

    The derivative is σ(x). The left tail, exp(x), keeps its full relative precision.

    Use it for positive outputs: variances, rates, scales. In hidden layers relu is cheaper and works as well; outputs
    are not zero-centred (softplus(0) = log 2).

    Args:
      x: floating array.

    Raises:
      TypeError: if x is not floating.

    Differences: same as jax.nn.softplus and Keras. PyTorch returns x above a threshold of 20, an error of up to 2e-9;
    its beta is `softplus(beta * x) / beta` here.

    Reference: Dugas et al., Incorporating Second-Order Functional Knowledge for Better Option Pricing, 2000.

    >>> softplus(jnp.array([-jnp.inf, 0.0, 1e4])).tolist()
    [0.0, 0.693..., 10000.0]
    """
    return _softplus(check.array_like("softplus", "x", x))


def log_sigmoid(x: ArrayLike) -> Array:
    """Logarithm of the logistic function, [...] -> [...]: log σ(x) = -log(1 + exp(-x)) = -softplus(-x), in (-inf, 0).

    The derivative is σ(-x). The right tail, -exp(-x), keeps its full relative precision, and the left side is finite
    where σ underflows.

    Use it for log-probabilities of binary outcomes: log(1 - σ(x)) is log_sigmoid(-x). It is unsuited to hidden layers:
    it is unbounded on the left, with slope 1.

    Args:
      x: floating array.

    Raises:
      TypeError: if x is not floating.

    Differences: same as jax.nn.log_sigmoid, PyTorch and Keras.

    >>> log_sigmoid(jnp.array([-1e4, 0.0, jnp.inf])).tolist()
    [-10000.0, -0.693..., 0.0]
    """
    return _log_sigmoid(check.array_like("log_sigmoid", "x", x))


def _left(z: Array) -> Array:
    return jnp.where(z > 0, 0, z)


leaky = elementwise(  # the slope may be an array of x's rank, as in prelu
    lambda z, a: jnp.where(z > 0, z, jnp.where((a == 0) & (z == -jnp.inf), 0, a * z)),
    lambda z, a: jnp.where(z > 0, 1, a),
    lambda z, a: jnp.where((a == 0) & (z == -jnp.inf), 0, _left(z)),
)

_thresholded = elementwise(
    lambda z, t: jnp.where(z <= t, 0, z),
    lambda z, t: jnp.where(z > t, 1, 0),
    lambda z, t: jnp.zeros_like(z),
)

_soft_shrink = elementwise(
    lambda z, t: jnp.where(jnp.abs(z) <= t, 0, z - jnp.sign(z) * t),
    lambda z, t: jnp.where(jnp.abs(z) > t, 1, 0),
    lambda z, t: jnp.where(jnp.abs(z) > t, -jnp.sign(z), 0),
)

_hard_shrink = elementwise(
    lambda z, t: jnp.where(jnp.abs(z) <= t, 0, z),
    lambda z, t: jnp.where(jnp.abs(z) > t, 1, 0),
    lambda z, t: jnp.zeros_like(z),
)

_elu = elementwise(
    lambda z, a: jnp.where(z > 0, z, a * jnp.expm1(_left(z))),
    lambda z, a: jnp.where(z > 0, 1, a * jnp.exp(_left(z))),
    lambda z, a: jnp.expm1(_left(z)),
)

_LAMBDA, _ALPHA = 1.0507009873554805, 1.6732632423543773

_selu = elementwise(
    lambda z: _LAMBDA * jnp.where(z > 0, z, _ALPHA * jnp.expm1(_left(z))),
    lambda z: _LAMBDA * jnp.where(z > 0, 1, _ALPHA * jnp.exp(_left(z))),
)


def _celu_slope_in_alpha(z: Array, a: Array) -> Array:
    u = jnp.maximum(_left(z) / a, -800)  # at -800 exp(u) is 0 and u exp(u) is not yet NaN
    return jnp.expm1(u) - u * jnp.exp(u)


_celu = elementwise(
    lambda z, a: jnp.where(z > 0, z, a * jnp.expm1(_left(z) / a)),
    lambda z, a: jnp.where(z > 0, 1, jnp.exp(_left(z) / a)),
    _celu_slope_in_alpha,
)

_softplus = elementwise(lambda z: jnp.maximum(z, 0) + jnp.log1p(jnp.exp(-jnp.abs(z))), jax.nn.sigmoid)
_log_sigmoid = elementwise(lambda z: jnp.minimum(z, 0) - jnp.log1p(jnp.exp(-jnp.abs(z))), lambda z: jax.nn.sigmoid(-z))
