"""Rectifiers: close to x on the right, bounded or slow on the left."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn.activations._checks import option
from jaxnn.activations._elementwise import elementwise


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
    return jax.nn.relu(check.array_like("relu", "x", x))


def relu6(x: ArrayLike) -> Array:
    """Rectifier that ends at 6, [...] -> [...]: min(max(x, 0), 6), in [0, 6].

    The derivative is 1 for 0 < x < 6, else 0, at both bends too.

    Good for networks that run in few bits, whose activations it keeps in a known range (MobileNet, EfficientNet-Lite).
    It hurts as relu does, and on the right as well: a unit above 6 on all inputs is as dead as one below 0.

    Raises TypeError if x is not floating. As jax.nn.relu6 and PyTorch.

    Krizhevsky, Convolutional Deep Belief Networks on CIFAR-10, 2010.

    >>> relu6(jnp.array([-2.0, 3.0, 8.0])).tolist()
    [0.0, 3.0, 6.0]
    """
    return jax.nn.relu6(check.array_like("relu6", "x", x))


def leaky_relu(x: ArrayLike, *, negative_slope: ArrayLike = 0.01) -> Array:
    """Leaky rectifier, [...] -> [...]: x for x > 0, else negative_slope · x; in (-inf, inf).

    The derivative at 0 is negative_slope, as in PyTorch, so that a slope of 0 is relu; jax.nn.leaky_relu has 1 there.
    With a slope of 0, -inf gives 0, and the slope no gradient.

    Good where relu's units die: there is a gradient on both sides, and the outputs are nearer to zero mean. It hurts
    little; what it gains over relu is often small. `prelu` learns the slope.

    Args:
      negative_slope: usually in [0, 1). 1 is the identity; a negative one is allowed, but the function then has its
        least value at 0 and two inputs for each output, as |x| at -1. The default is that of PyTorch, jax.nn and ONNX;
        Keras has 0.3 in its layer and 0.2 in its function, TensorFlow 0.2.

    Raises TypeError if x is not floating or the slope no scalar, ValueError if the slope is not finite.

    Maas, Hannun & Ng, Rectifier Nonlinearities Improve Neural Network Acoustic Models, 2013.

    >>> leaky_relu(jnp.array([-2.0, 0.0, 3.0]), negative_slope=0.25).tolist()
    [-0.5, 0.0, 3.0]
    """
    x = check.array_like("leaky_relu", "x", x)
    return leaky(x, option("leaky_relu", "negative_slope", negative_slope, x))


def thresholded_relu(x: ArrayLike, *, threshold: ArrayLike = 1.0) -> Array:
    """Rectifier that starts at a threshold, [...] -> [...]: x for x > threshold, else 0.

    The derivative is 1 above the threshold, else 0, at it too; there the function jumps, so `threshold` gets no
    gradient. NaN stays NaN; its derivative is 0.

    Good for sparse codes, whose small entries are noise. It hurts where a unit has to start learning below it.

    Args:
      threshold: usually >= 0; 0 is relu. 1 as in Keras 2 and ONNX.

    Raises TypeError if x is not floating or the threshold no scalar, ValueError if it is not finite.

    Konda, Memisevic & Krueger, Zero-bias Autoencoders and the Benefits of Co-adapting Features, 2014.

    >>> thresholded_relu(jnp.array([-2.0, 0.5, 1.0, 3.0])).tolist()
    [0.0, 0.0, 0.0, 3.0]
    """
    x = check.array_like("thresholded_relu", "x", x)
    return _thresholded(x, option("thresholded_relu", "threshold", threshold, x))


def elu(x: ArrayLike, *, alpha: ArrayLike = 1.0) -> Array:
    """Exponential linear unit, [...] -> [...]: x for x > 0, else alpha (exp(x) - 1); in (-alpha, inf).

    The derivative on the left is alpha exp(x), kept to its last digit where exp(x) - 1 rounds to -1; at 0 it is alpha,
    as in PyTorch and jax.nn, so only alpha = 1 has no bend.

    Good for hidden layers without normalisation: the outputs are near zero mean, and the left side saturates at a
    noise-robust -alpha. It hurts where time counts (an exp per element).

    Args:
      alpha: >= 0, 0 being relu. A negative one is allowed, but lifts the left side to -alpha > 0: the function falls,
        then rises, and is not invertible.

    Raises TypeError if x is not floating or alpha no scalar, ValueError if alpha is not finite. As jax.nn.elu, PyTorch
    and Keras, all with alpha = 1.

    Clevert, Unterthiner & Hochreiter, Fast and Accurate Deep Network Learning by Exponential Linear Units, 2015.

    >>> elu(jnp.array([-1.0, 0.0, 3.0])).tolist()
    [-0.632..., 0.0, 3.0]
    """
    x = check.array_like("elu", "x", x)
    return _elu(x, option("elu", "alpha", alpha, x))


def selu(x: ArrayLike) -> Array:
    """Scaled exponential linear unit, [...] -> [...]: λ elu(x, alpha=α), in (-1.7581, inf).

        λ = 1.0507009873554805,    α = 1.6732632423543773

    With these two, a layer whose weights have mean 0 and variance 1/fan_in draws the mean and the variance of its
    units to 0 and 1. The derivative at 0 is the left one, λα = 1.758; on the right it is λ.

    Good for deep fully connected networks without normalisation. It hurts outside of its assumptions: start from
    `init.lecun_normal`, standardise the inputs, and use no plain dropout, which shifts mean and variance.

    Raises TypeError if x is not floating. As jax.nn.selu, PyTorch and Keras.

    Klambauer et al., Self-Normalizing Neural Networks, 2017.

    >>> selu(jnp.array([-1.0, 0.0, 1.0])).tolist()
    [-1.111..., 0.0, 1.050...]
    """
    return _selu(check.array_like("selu", "x", x))


def celu(x: ArrayLike, *, alpha: ArrayLike = 1.0) -> Array:
    """Differentiable elu, [...] -> [...]: max(x, 0) + alpha (exp(min(x, 0) / alpha) - 1), in (-alpha, inf).

    The derivative is exp(min(x, 0) / alpha), 1 at 0 for every alpha, at most 1 everywhere.

    Good where elu with alpha other than 1 is wanted without its bend at 0; at alpha = 1 it is elu, at alpha -> 0 relu,
    at alpha -> inf the identity. It hurts where time counts (an exp per element).

    Args:
      alpha: > 0.

    Raises TypeError if x is not floating or alpha no scalar, ValueError unless alpha > 0. As jax.nn.celu, PyTorch and
    Keras, all with alpha = 1.

    Barron, Continuously Differentiable Exponential Linear Units, 2017.

    >>> celu(jnp.array([-1.0, 0.0, 3.0]), alpha=0.5).tolist()
    [-0.432..., 0.0, 3.0]
    """
    x = check.array_like("celu", "x", x)
    return _celu(x, option("celu", "alpha", alpha, x, 0.0))


def softplus(x: ArrayLike) -> Array:
    """Softplus, [...] -> [...]: log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), in (0, inf).

    The derivative is σ(x). All digits are kept in the left tail, where it is exp(x).

    Good for outputs that have to be positive: variances, rates, scales. It hurts as a hidden layer: relu is cheaper and
    does as well, and the outputs are not zero-centred (softplus(0) = log 2).

    Raises TypeError if x is not floating. As jax.nn.softplus and Keras. PyTorch returns x above a threshold of 20,
    which is off by up to 2e-9; here there is none. Its beta is `softplus(beta * x) / beta`.

    Dugas et al., Incorporating Second-Order Functional Knowledge for Better Option Pricing, 2000.

    >>> softplus(jnp.array([-jnp.inf, 0.0, 1e4])).tolist()
    [0.0, 0.693..., 10000.0]
    """
    return _softplus(check.array_like("softplus", "x", x))


def log_sigmoid(x: ArrayLike) -> Array:
    """Logarithm of the logistic function, [...] -> [...]: log σ(x) = -log(1 + exp(-x)) = -softplus(-x), in (-inf, 0).

    The derivative is σ(-x). All digits are kept in the right tail, where it is -exp(-x), and on the left, where σ
    underflows and its logarithm would be -inf.

    Good for log-probabilities of yes and no: log(1 - σ(x)) is log_sigmoid(-x). It hurts as a hidden layer: it has no
    bound on the left, and a full slope there.

    Raises TypeError if x is not floating. As jax.nn.log_sigmoid, PyTorch and Keras.

    >>> log_sigmoid(jnp.array([-1e4, 0.0, jnp.inf])).tolist()
    [-10000.0, -0.693..., 0.0]
    """
    return _log_sigmoid(check.array_like("log_sigmoid", "x", x))


def _left(z: Array) -> Array:
    return jnp.where(z > 0, 0, z)


leaky = elementwise(  # the slope may be an array of x's rank, as that of prelu
    lambda z, a: jnp.where(z > 0, z, jnp.where((a == 0) & (z == -jnp.inf), 0, a * z)),
    lambda z, a: jnp.where(z > 0, 1, a),
    lambda z, a: jnp.where((a == 0) & (z == -jnp.inf), 0, _left(z)),
)

_thresholded = elementwise(
    lambda z, t: jnp.where(z <= t, 0, z),
    lambda z, t: jnp.where(z > t, 1, 0),
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
    u = jnp.maximum(_left(z) / a, -800)  # where exp(u) is 0 and u exp(u) not yet NaN
    return jnp.expm1(u) - u * jnp.exp(u)


_celu = elementwise(
    lambda z, a: jnp.where(z > 0, z, a * jnp.expm1(_left(z) / a)),
    lambda z, a: jnp.where(z > 0, 1, jnp.exp(_left(z) / a)),
    _celu_slope_in_alpha,
)

_softplus = elementwise(lambda z: jnp.maximum(z, 0) + jnp.log1p(jnp.exp(-jnp.abs(z))), jax.nn.sigmoid)
_log_sigmoid = elementwise(lambda z: jnp.minimum(z, 0) - jnp.log1p(jnp.exp(-jnp.abs(z))), lambda z: jax.nn.sigmoid(-z))
