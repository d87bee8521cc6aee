"""x times a gate: gelu, silu, mish, their piecewise relative, and gated linear units."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._errors import invalid
from jaxnn.activations._checks import option
from jaxnn.activations._elementwise import elementwise


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
    check.flags("gelu", "True is the tanh form.", approximate=approximate)
    return (_gelu_tanh if approximate else _gelu)(check.array_like("gelu", "x", x))


def silu(x: ArrayLike, *, beta: ArrayLike = 1.0) -> Array:
    """Sigmoid linear unit, [...] -> [...]: x σ(beta x), in [-0.278 / beta, inf); `swish` is the same function.

    The derivative is σ(u) (1 + u σ(-u)) with u = beta x. silu(-inf) is its limit 0, and the derivatives at ±inf are 1
    and 0; jax.nn and PyTorch give NaN.

    Good for deep networks, convolutional ones above all (EfficientNet): smooth, and close to relu far from 0. It hurts
    where time counts (an exp per element); it is not monotonic, with its minimum -0.278 / beta at x = -1.278 / beta.

    Args:
      beta: 1 in jax.nn, PyTorch and Keras, which have no such option, and as ONNX's alpha. It may be learned: 0 is x/2,
        large ones approach relu, negative ones give -silu(-x) with |beta|.

    Raises TypeError if x is not floating or beta no scalar, ValueError if beta is not finite.

    Elfwing, Uchibe & Doya, Sigmoid-Weighted Linear Units, 2017; Ramachandran, Zoph & Le, Searching for Activation
    Functions, 2017 (Swish).

    >>> silu(jnp.array([-1.0, 0.0, 1.0])).tolist()
    [-0.268..., 0.0, 0.731...]
    """
    x = check.array_like("silu", "x", x)
    return _silu(x, option("silu", "beta", beta, x))


swish = silu


def mish(x: ArrayLike) -> Array:
    """Mish, [...] -> [...]: x tanh(softplus(x)), in [-0.309, inf).

        tanh(log(1 + e)) = n / (n + 2),    e = exp(x),  n = e (e + 2)

    mish(-inf) is its limit 0 and the derivatives at ±inf are 1 and 0; jax.nn and PyTorch give NaN.

    Good where silu is, such as for detectors (YOLOv4); smooth. It hurts where time counts (an exp and a division per
    element); it is not monotonic, with its minimum -0.309 at x = -1.192.

    Raises TypeError if x is not floating. As jax.nn.mish, PyTorch and Keras.

    Misra, Mish: A Self Regularized Non-Monotonic Activation Function, 2019.

    >>> mish(jnp.array([-1.0, 0.0, 1.0])).tolist()
    [-0.303..., 0.0, 0.865...]
    """
    return _mish(check.array_like("mish", "x", x))


def hard_swish(x: ArrayLike) -> Array:
    """silu with `hard_sigmoid` for its gate, [...] -> [...]: x min(max(x/6 + 1/2, 0), 1), in [-3/8, inf).

    The derivative is x/3 + 1/2 for |x| < 3, and that of the outer side, 0 or 1, at -3 and 3, where the inner ones are
    -1/2 and 3/2. hard_swish(-inf) is its limit 0; jax.nn gives NaN.

    Good for small networks on small machines (MobileNetV3): no exp. It hurts by its bends; it is not monotonic, with
    its minimum -3/8 at x = -3/2.

    Raises TypeError if x is not floating. As jax.nn.hard_swish, PyTorch's Hardswish and Keras's hard_swish.

    Howard et al., Searching for MobileNetV3, 2019.

    >>> hard_swish(jnp.array([-4.0, -1.5, 1.0, 5.0])).tolist()
    [0.0, -0.375, 0.666..., 5.0]
    """
    return _hard_swish(check.array_like("hard_swish", "x", x))


def glu(x: ArrayLike, *, axis: int = -1) -> Array:
    """Gated linear unit, [..., 2d] -> [..., d]: a σ(b), where a and b are the first and the second half of x.

    Good for hidden layers of transformers and of convolutions over time, after a map to twice the width: the linear
    half lets the gradient through. It hurts by that width: twice the weights for the same number of outputs.

    Where the gate is 0 the output is 0 also for an infinite a, and an infinite a gives the gate no gradient; jax.nn and
    PyTorch give NaN.

    Args:
      axis: the axis that is halved; the last by default, as in jax.nn, PyTorch and Keras.

    Raises TypeError if x is not floating, ValueError if it has no such axis or an odd number of entries along it.

    Dauphin et al., Language Modeling with Gated Convolutional Networks, 2017.

    >>> glu(jnp.array([1.0, 2.0, 0.0, 1e4])).tolist()
    [0.5, 2.0]
    """
    x = check.array_like("glu", "x", x)
    axis = check.axis("glu", "axis", axis, x.ndim)
    if x.shape[axis] % 2:
        fix = "The first half is gated by the second."
        raise invalid("glu", f"an even number of entries along axis {axis}", x, fix)
    return _gated(*jnp.split(x, 2, axis))


_FAR = 40.0  # Φ(-40) is 0 and Φ(40) is 1 in float64, and 40³ is harmless


def _gaussian(z: Array) -> tuple[Array, Array]:
    """Φ(z) and its derivative φ(z)."""
    return jax.lax.erfc(z * -(0.5**0.5)) / 2, jnp.exp(-z * z / 2) * (2 * jnp.pi) ** -0.5


def _nearly_gaussian(z: Array) -> tuple[Array, Array]:
    """σ(2u(z)) and its derivative."""
    slope = (2 / jnp.pi) ** 0.5
    u, du = slope * (z + 0.044715 * z**3), slope * (1 + 3 * 0.044715 * z**2)
    distribution = jax.nn.sigmoid(2 * u)
    return distribution, 2 * du * distribution * (1 - distribution)


def _gelu_slope(z: Array, distribution: Array, density: Array) -> Array:
    return distribution + z * density


def _bounded(z: Array) -> Array:
    """Gates are constant beyond ±_FAR: clipping there makes every derivative finite."""
    return jnp.clip(z, -_FAR, _FAR)


# Value and slope take their gate from the same expression, so that a compiler computes it once for both.
_gelu = elementwise(
    lambda z: jnp.maximum(z, -_FAR) * _gaussian(_bounded(z))[0],
    lambda z: _gelu_slope(_bounded(z), *_gaussian(_bounded(z))),
)
_gelu_tanh = elementwise(
    lambda z: jnp.maximum(z, -_FAR) * _nearly_gaussian(_bounded(z))[0],
    lambda z: _gelu_slope(_bounded(z), *_nearly_gaussian(_bounded(z))),
)


def _logit(z: Array, beta: Array) -> Array:
    """beta z, but 0 for beta = 0 and z = ±inf, within ±800: there σ is 0 or 1, and u σ(-u) not yet NaN."""
    largest = jnp.finfo(z.dtype).max.item()
    return jnp.clip(beta * jnp.clip(z, -largest, largest), -800, 800)


def _silu_value(z: Array, beta: Array) -> Array:
    gate = jax.nn.sigmoid(_logit(z, beta))
    return jnp.where(gate == 0, 0, z) * gate


def _silu_slope(z: Array, beta: Array) -> Array:
    u = _logit(z, beta)
    gate = jax.nn.sigmoid(u)
    return gate * (1 + u * (1 - gate))


def _silu_slope_in_beta(z: Array, beta: Array) -> Array:
    u = _logit(z, beta)
    bump = jax.nn.sigmoid(u) * jax.nn.sigmoid(-u)
    return jnp.where(bump == 0, 0, z) * (jnp.where(bump == 0, 0, z) * bump)


_silu = elementwise(_silu_value, _silu_slope, _silu_slope_in_beta)


def _mish_gate(z: Array) -> tuple[Array, Array]:
    """tanh(softplus(z)) and what it lacks to 1, for z <= 20."""
    e = jnp.exp(z)
    n = e * (e + 2)
    return n / (n + 2), 2 / (n + 2)


def _mish_slope(z: Array) -> Array:
    z = jnp.clip(z, -800, 20)
    gate, rest = _mish_gate(z)
    return gate + z * (rest * (1 + gate) * jax.nn.sigmoid(z))


_mish = elementwise(
    lambda z: jnp.maximum(z, -800) * _mish_gate(jnp.clip(z, -800, 20))[0],  # exp(-800) is 0, and exp(-20)² nothing to 1
    _mish_slope,
)

_hard_swish = elementwise(
    lambda z: jnp.where(z <= -3, 0, jnp.where(z >= 3, z, z * (z + 3) / 6)),
    lambda z: jnp.where(z <= -3, 0, jnp.where(z >= 3, 1, z / 3 + 0.5)),
)


def _let_through(a: Array, gate: Array) -> Array:
    """a · gate, and 0 where an infinite a meets a closed gate."""
    return jnp.where((gate == 0) & jnp.isinf(a), 0, a) * gate


_gated = elementwise(
    lambda a, b: _let_through(a, jax.nn.sigmoid(b)),
    lambda a, b: jax.nn.sigmoid(b),
    lambda a, b: jnp.where(jnp.isinf(a), 0, a) * (jax.nn.sigmoid(b) * jax.nn.sigmoid(-b)),
)
