"""Gated activations, x times a gate: GELU, SiLU, Mish, hard swish, gated linear units."""

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
    """Gaussian error linear unit (GELU), [...] -> [...]: x Φ(x), in [-0.17, inf), Φ the standard normal CDF.

        exact:        x erfc(-x / √2) / 2
        approximate:  x σ(2u) = x (1 + tanh u) / 2,    u = √(2/π) (x + 0.044715 x³)

    Both forms are computed in at least float32 with explicitly defined derivatives: bfloat16 stays accurate in the left
    tail, and x³ does not overflow in float16. At ±inf, value and derivative are their limits: gelu(-inf) = 0, with
    derivative 0 at -inf and 1 at inf.

    Use it for transformers: smooth, and close to relu far from 0. It needs an erf or a tanh per element. It is not
    monotonic: its minimum is -0.17 at x = -0.75.

    Args:
      x: floating array.
      approximate: True uses the tanh form, at most 5e-4 from the exact one. Use the form that pretrained weights were
        trained with.

    Raises:
      TypeError: if x is not floating or `approximate` is not a bool.

    Differences: the exact form is the default here, in PyTorch and in Keras; the tanh form is jax.nn.gelu's. PyTorch's
    `approximate` is a string, "none" or "tanh". jax.nn and PyTorch give NaN in place of the limits at ±inf.

    Reference: Hendrycks & Gimpel, Gaussian Error Linear Units, 2016.

    >>> gelu(jnp.array([-1.0, 0.0, 1.0])).tolist()
    [-0.158..., 0.0, 0.841...]
    """
    check.flags("gelu", "True is the tanh form.", approximate=approximate)
    return (_gelu_tanh if approximate else _gelu)(check.array_like("gelu", "x", x))


def silu(x: ArrayLike, *, beta: ArrayLike = 1.0) -> Array:
    """Sigmoid linear unit (SiLU, Swish), [...] -> [...]: x σ(beta x), in [-0.278 / beta, inf). Alias: `swish`.

    The derivative is σ(u) (1 + u σ(-u)) with u = beta x. At ±inf, value and derivative are their limits: silu(-inf) =
    0, with derivative 0 at -inf and 1 at inf.

    Use it for deep networks, above all convolutional ones (EfficientNet): smooth, and close to relu far from 0. It
    needs an exp per element. It is not monotonic: its minimum is -0.278 / beta at x = -1.278 / beta.

    Args:
      x: floating array.
      beta: finite scalar; may be learned. 0 gives x/2, large values approach relu, negative ones give -silu(-x) with
        |beta|.

    Raises:
      TypeError: if x is not floating or beta is not a real scalar.
      ValueError: if beta is not finite.

    Differences: jax.nn, PyTorch and Keras have no beta (1); ONNX calls it alpha. jax.nn and PyTorch give NaN in place
    of the limits at ±inf.

    Reference: Elfwing, Uchibe & Doya, Sigmoid-Weighted Linear Units, 2017; Ramachandran, Zoph & Le, Searching for
    Activation Functions, 2017 (Swish).

    >>> silu(jnp.array([-1.0, 0.0, 1.0])).tolist()
    [-0.268..., 0.0, 0.731...]
    """
    x = check.array_like("silu", "x", x)
    return _silu(x, option("silu", "beta", beta, x))


swish = silu


def mish(x: ArrayLike) -> Array:
    """Mish, [...] -> [...]: x tanh(softplus(x)), in [-0.309, inf).

        tanh(log(1 + e)) = n / (n + 2),    e = exp(x),  n = e (e + 2)

    At ±inf, value and derivative are their limits: mish(-inf) = 0, with derivative 0 at -inf and 1 at inf.

    Use it in place of silu, for example in detectors (YOLOv4); smooth. It needs an exp and a division per element. It
    is not monotonic: its minimum is -0.309 at x = -1.192.

    Args:
      x: floating array.

    Raises:
      TypeError: if x is not floating.

    Differences: same as jax.nn.mish, PyTorch and Keras, except that jax.nn and PyTorch give NaN in place of the limits
    at ±inf.

    Reference: Misra, Mish: A Self Regularized Non-Monotonic Activation Function, 2019.

    >>> mish(jnp.array([-1.0, 0.0, 1.0])).tolist()
    [-0.303..., 0.0, 0.865...]
    """
    return _mish(check.array_like("mish", "x", x))


def hard_swish(x: ArrayLike) -> Array:
    """Hard swish, SiLU with the gate `hard_sigmoid`, [...] -> [...]: x min(max(x/6 + 1/2, 0), 1), in [-3/8, inf).

    The derivative is x/3 + 1/2 for |x| < 3. At -3 and 3 it is that of the outer side, 0 or 1 (the inner ones are -1/2
    and 3/2). hard_swish(-inf) is its limit 0.

    Use it for small networks on weak hardware (MobileNetV3): it needs no exp. Its derivative has jumps. It is not
    monotonic: its minimum is -3/8 at x = -3/2.

    Args:
      x: floating array.

    Raises:
      TypeError: if x is not floating.

    Differences: same as jax.nn.hard_swish, PyTorch's Hardswish and Keras's hard_swish, except that jax.nn gives NaN at
    -inf.

    Reference: Howard et al., Searching for MobileNetV3, 2019.

    >>> hard_swish(jnp.array([-4.0, -1.5, 1.0, 5.0])).tolist()
    [0.0, -0.375, 0.666..., 5.0]
    """
    return _hard_swish(check.array_like("hard_swish", "x", x))


def glu(x: ArrayLike, *, axis: int = -1) -> Array:
    """Gated linear unit (GLU), [..., 2d] -> [..., d]: a σ(b), where a and b are the first and the second half of x.

    Use it for hidden layers of transformers and of temporal convolutions, after a layer with twice the features: the
    linear half passes the gradient on. It needs twice the weights for the same number of outputs. Where the gate is 0
    the output is 0 even for infinite a, and an infinite a gives the gate no gradient.

    Args:
      x: floating array with an even size along `axis`.
      axis: axis that is split in halves; the last by default.

    Raises:
      TypeError: if x is not floating.
      ValueError: if x has no such axis or its size is odd.

    Differences: same default axis as jax.nn, PyTorch and Keras. jax.nn and PyTorch give NaN for an infinite a at a gate
    of 0.

    Reference: Dauphin et al., Language Modeling with Gated Convolutional Networks, 2017.

    >>> glu(jnp.array([1.0, 2.0, 0.0, 1e4])).tolist()
    [0.5, 2.0]
    """
    x = check.array_like("glu", "x", x)
    axis = check.axis("glu", "axis", axis, x.ndim)
    if x.shape[axis] % 2:
        fix = "The first half is gated by the second."
        raise invalid("glu", f"an even number of entries along axis {axis}", x, fix)
    return _gated(*jnp.split(x, 2, axis))


_FAR = 40.0  # Φ(-40) is 0 and Φ(40) is 1 in float64, and 40³ does not overflow


def _gaussian(z: Array) -> tuple[Array, Array]:
    """Φ(z) and its derivative φ(z)."""
    return jax.lax.erfc(z * -(0.5**0.5)) / 2, jnp.exp(-z * z / 2) * (2 * jnp.pi) ** -0.5


def _nearly_gaussian(z: Array) -> tuple[Array, Array]:
    """σ(2u(z)), the tanh approximation of Φ, and its derivative."""
    slope = (2 / jnp.pi) ** 0.5
    u, du = slope * (z + 0.044715 * z**3), slope * (1 + 3 * 0.044715 * z**2)
    distribution = jax.nn.sigmoid(2 * u)
    return distribution, 2 * du * distribution * (1 - distribution)


def _gelu_slope(z: Array, distribution: Array, density: Array) -> Array:
    return distribution + z * density


def _bounded(z: Array) -> Array:
    """`z` clipped to ±_FAR. Gates are constant beyond, and clipping keeps every derivative finite."""
    return jnp.clip(z, -_FAR, _FAR)


# Value and slope use the same expression for the gate, so that the compiler computes it once for both.
_gelu = elementwise(
    lambda z: jnp.maximum(z, -_FAR) * _gaussian(_bounded(z))[0],
    lambda z: _gelu_slope(_bounded(z), *_gaussian(_bounded(z))),
)
_gelu_tanh = elementwise(
    lambda z: jnp.maximum(z, -_FAR) * _nearly_gaussian(_bounded(z))[0],
    lambda z: _gelu_slope(_bounded(z), *_nearly_gaussian(_bounded(z))),
)


def _logit(z: Array, beta: Array) -> Array:
    """beta z clipped to ±800, and 0 for beta = 0, z = ±inf. At ±800 σ is 0 or 1, and u σ(-u) is not yet NaN."""
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
    """tanh(softplus(z)) and one minus it, for z <= 20."""
    e = jnp.exp(z)
    n = e * (e + 2)
    return n / (n + 2), 2 / (n + 2)


def _mish_slope(z: Array) -> Array:
    z = jnp.clip(z, -800, 20)
    gate, rest = _mish_gate(z)
    return gate + z * (rest * (1 + gate) * jax.nn.sigmoid(z))


_mish = elementwise(
    # exp(-800) is 0, and exp(-20)² is negligible against 1.
    lambda z: jnp.maximum(z, -800) * _mish_gate(jnp.clip(z, -800, 20))[0],
    _mish_slope,
)

_hard_swish = elementwise(
    lambda z: jnp.where(z <= -3, 0, jnp.where(z >= 3, z, z * (z + 3) / 6)),
    lambda z: jnp.where(z <= -3, 0, jnp.where(z >= 3, 1, z / 3 + 0.5)),
)


def _let_through(a: Array, gate: Array) -> Array:
    """a · gate, and 0 for an infinite `a` at a gate of 0."""
    return jnp.where((gate == 0) & jnp.isinf(a), 0, a) * gate


_gated = elementwise(
    lambda a, b: _let_through(a, jax.nn.sigmoid(b)),
    lambda a, b: jax.nn.sigmoid(b),
    lambda a, b: jnp.where(jnp.isinf(a), 0, a) * (jax.nn.sigmoid(b) * jax.nn.sigmoid(-b)),
)
