"""Normalisation: moments, layer, RMS, group, instance and local response normalisation, division by a norm."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jaxnn import _checks as check
from jaxnn._dtypes import param_dtype
from jaxnn._errors import invalid
from jaxnn._mesh import fitting
from jaxnn._platform import local_cpu


def moments(x: Array, axis: int | Sequence[int], *, where: Array | None = None) -> tuple[Array, Array]:
    """Mean and biased variance over `axis`, [...] -> two arrays without those axes, in at least float32.

        mean = E[x],    var = E[(x - E[x])²]

    Computed in two passes, or on a CPU, for all axes but the last, in one pass over x minus one of its values: E[x²] -
    E[x]² loses all digits where the mean is large compared with the deviation.

    Args:
      x: floating.
      axis: the axis or axes to reduce.
      where: boolean, broadcast with x; elements where it is False are ignored, whatever they hold. Without any element
        both results are 0.

    Raises:
      TypeError: if x is not floating.

    >>> [m.item() for m in moments(jnp.array([1000.0, 1000.5]), axis=0)]
    [1000.25, 0.0625]
    """
    x = check.array("moments", "x", x)
    axis = check.axes("moments", "axis", axis, x.ndim, least=0)
    x = x.astype(param_dtype(x))
    if where is None and x.size and axis == tuple(range(x.ndim - 1)) and local_cpu():
        return _moments_of_rows(x.reshape(-1, x.shape[-1]))
    mean = _mean(x, axis, where)
    return jnp.squeeze(mean, axis), jnp.squeeze(_mean(jnp.square(x - mean), axis, where), axis)


def _moments_of_rows(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance over axis 0, [n, c] -> [c], [c], in one pass over x - a.

    Forward and backward take 0.65 of the time of two passes ([64, 32, 32, 16] on two cores). Result and derivatives are
    the same for any constant a; the error of the variance grows with ((a - mean) / deviation)². The median of three
    values is near the mean even if one of them is an outlier, and equal to x where x is constant.
    """
    first, second, third = (x[i : i + 1] for i in (k * x.shape[0] // 6 for k in (1, 3, 5)))
    lower, upper = jnp.minimum(first, second), jnp.maximum(first, second)
    a = jax.lax.stop_gradient(jnp.maximum(lower, jnp.minimum(upper, third)))
    mean = jnp.mean(x - a, 0)
    return mean + a[0], jnp.maximum(jnp.mean(jnp.square(x - a), 0) - jnp.square(mean), 0)


def normalize(x: Array, mean: Array, var: Array, eps: float | Array, scale: Array | None, bias: Array | None) -> Array:
    """Normalisation with given statistics over the last axis, [..., c] -> [..., c]:

        (x - mean) / sqrt(var + eps) · scale + bias

    Computed in the dtype of the statistics; the result has x's dtype.

    Args:
      x: floating.
      mean, var: statistics [c].
      eps: added to the variance, >= 0.
      scale: [c], or None for 1.
      bias: [c], or None for 0.

    Differences: PyTorch's and Keras's functions of this name divide by a norm; here that is `lp_normalize`.

    >>> normalize(jnp.array([[3.0]]), jnp.ones(1), jnp.full(1, 4.0), 0.0, None, None).item()
    1.0
    """
    check.scalar("normalize", "eps", eps)
    factor = _inverse_root(var, eps)
    factor = factor if scale is None else factor * scale.astype(var.dtype)
    # (x - a) f + (bias - (mean - a) f) for any constant a; with a = mean, the gradients of mean and bias share one sum.
    a = jax.lax.stop_gradient(mean)
    offset = (a - mean) * factor
    offset = offset if bias is None else offset + bias.astype(var.dtype)
    wide = x.astype(mean.dtype)
    return _scaled(wide - _fitted(a, wide), factor, offset).astype(x.dtype)


def lp_normalize(x: Array, p: float = 2.0, *, axis: int | Sequence[int] = -1, eps: float | Array = 1e-12) -> Array:
    """Division by the p-norm along `axis`, [...] -> [...].

        y = x / max(|x|_p, eps),    |x|_p = (Σ |x_i|^p)^(1/p), or max |x_i| for p = inf

    Computed in at least float32, from x divided by its largest entry, which avoids overflow. For a vector of zeros the
    result and the gradient are 0.

    Args:
      x: floating.
      p: a Python number >= 1, or inf.
      axis: the axis or axes of a vector.
      eps: lower limit of the divisor, > 0. Vectors with a smaller norm are divided by `eps`, with gradient 1 / eps.

    Raises:
      ValueError: if `p` is not a number >= 1.
      TypeError: if x is not floating.

    Differences: in PyTorch's `normalize`, axis is 1 by default and the gradient at 0 is 1 / eps. Keras's `normalize`
    has the same axis as here.

    >>> lp_normalize(jnp.array([[3.0, -1.0], [0.0, 0.0]]), 1).tolist()
    [[0.75, -0.25], [0.0, 0.0]]
    """
    x = check.array("lp_normalize", "x", x)
    check.scalar("lp_normalize", "p", p, 1.0, ends="[]", static=True)
    check.scalar("lp_normalize", "eps", eps)
    axis = check.axes("lp_normalize", "axis", axis, x.ndim, least=0)
    wide = x.astype(param_dtype(x))
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(wide), axis, keepdims=True, initial=0))
    zero = largest == 0
    scale = jnp.where(zero, 1, largest)
    direction = wide / scale
    size = jnp.abs(direction)
    if p == math.inf:
        norm = jnp.max(size, axis, keepdims=True, initial=0)
    else:
        total = jnp.where(zero, 1, jnp.sum(size**p, axis, keepdims=True))
        norm = jnp.sqrt(total) if p == 2 else total ** (1 / p)
    y = direction / jnp.maximum(norm, jnp.asarray(eps, wide.dtype) / scale)
    return jnp.where(zero, 0, y).astype(x.dtype)


def layer_norm(
    x: Array,
    scale: Array | None = None,
    bias: Array | None = None,
    *,
    axis: int = -1,
    eps: float | Array = 1e-5,
) -> Array:
    """Layer normalisation over the axes from `axis` to the last, [..., *d] -> [..., *d].

        y = (x - mean) / sqrt(var + eps) · scale + bias

    Each example is normalised independently, in the same way in training and in evaluation. The statistics are in at
    least float32, in two passes. A constant vector gives the bias.

    Args:
      x: floating.
      scale: [*d], or None for 1.
      bias: [*d], or None for 0.
      axis: first of the normalised axes; -1 is the last axis alone. PyTorch takes the sizes of these axes instead.
      eps: added to the variance, > 0. The default is PyTorch's; Keras's is 1e-3, flax's 1e-6.

    Raises:
      ValueError: if `scale` or `bias` has another shape, or x has no such axis.
      TypeError: if x is not floating.

    Reference: Ba et al., Layer Normalization, 2016.

    >>> layer_norm(jnp.array([[1.0, 3.0], [-4.0, -4.0]]), eps=0.0001).round(2).tolist()
    [[-1.0, 1.0], [0.0, 0.0]]
    """
    check.scalar("layer_norm", "eps", eps)
    x, axes = _trailing("layer_norm", x, axis, scale=scale, bias=bias)
    return _scaled(_standardized(x, axes, eps), scale, bias).astype(x.dtype)


def rms_norm(x: Array, scale: Array | None = None, *, axis: int = -1, eps: float | Array = 1e-6) -> Array:
    """RMS normalisation over the axes from `axis` to the last, [..., *d] -> [..., *d].

        y = x / sqrt(mean(x²) + eps) · scale

    Layer normalisation without mean and bias: cheaper, and equally good in transformers.

    Args:
      x: floating.
      scale: [*d], or None for 1.
      axis: first of the normalised axes; -1 is the last axis alone.
      eps: added to the mean square, > 0. The default is that of flax and LLaMA; PyTorch's is the machine epsilon of the
        dtype, ONNX's 1e-5.

    Raises:
      ValueError: if `scale` has another shape, or x has no such axis.
      TypeError: if x is not floating.

    Reference: Zhang & Sennrich, Root Mean Square Layer Normalization, 2019.

    >>> rms_norm(jnp.array([[3.0, -4.0]])).round(3).tolist()
    [[0.849..., -1.13...]]
    """
    check.scalar("rms_norm", "eps", eps)
    x, axes = _trailing("rms_norm", x, axis, scale=scale)
    return _scaled(_unit(x.astype(param_dtype(x)), axes, eps), scale, None).astype(x.dtype)


def group_norm(
    x: Array,
    groups: int,
    scale: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float | Array = 1e-5,
    where: Array | None = None,
) -> Array:
    """Group normalisation: each example over space and groups of channels, [n, *space, c] -> [n, *space, c].

        y = (x - mean) / sqrt(var + eps) · scale + bias

    One group is layer normalisation over the whole example; c groups are `instance_norm`. The result does not depend on
    the rest of the batch, so it suits small batches, where batch normalisation fails.

    Args:
      x: floating.
      groups: number of equal groups of consecutive channels, an integer >= 1 that divides c.
      scale: [c], or None for 1.
      bias: [c], or None for 0.
      eps: added to the variance, > 0.
      where: boolean, broadcast with x, of size 1 on the last axis; positions where it is False are left out of the
        statistics.

    Raises:
      ValueError: if the shapes do not fit.
      TypeError: if x is not floating.

    Reference: Wu & He, Group Normalization, 2018.

    >>> group_norm(jnp.array([[1.0, 3.0, 10.0, 30.0]]), 2).round(2).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """
    check.scalar("group_norm", "eps", eps)
    x = check.array("group_norm", "x", x, least=2, shape="[n, *space, c]")
    c = x.shape[-1]
    groups = check.count("group_norm", "groups", groups)
    if c % groups:
        raise invalid("group_norm", f"x with channels in {groups} equal groups", x)
    _check_vectors("group_norm", (c,), scale=scale, bias=bias)
    where = None if where is None else where[..., None]
    y = _standardized(x.reshape(*x.shape[:-1], groups, c // groups), (*range(1, x.ndim - 1), x.ndim), eps, where)
    return _scaled(y.reshape(x.shape), scale, bias).astype(x.dtype)


def instance_norm(
    x: Array,
    scale: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float | Array = 1e-5,
    where: Array | None = None,
) -> Array:
    """Instance normalisation: each channel of each example over space, [n, *space, c] -> [n, *space, c].

        y = (x - mean) / sqrt(var + eps) · scale + bias

    It removes the contrast of an image; use it for style transfer. If space has a single position, the result is the
    bias.

    Args:
      x: floating.
      scale: [c], or None for 1.
      bias: [c], or None for 0.
      eps: added to the variance, > 0.
      where: boolean, broadcast with x; positions where it is False are left out of the statistics.

    Raises:
      ValueError: if the shapes do not fit.
      TypeError: if x is not floating.

    Reference: Ulyanov et al., Instance Normalization, 2016.

    >>> instance_norm(jnp.array([[[1.0, 7.0], [3.0, 7.0]]])).round(2).tolist()
    [[[-1.0, 0.0], [1.0, 0.0]]]
    """
    check.scalar("instance_norm", "eps", eps)
    x = check.array("instance_norm", "x", x, least=3, shape="[n, *space, c]")
    _check_vectors("instance_norm", x.shape[-1:], scale=scale, bias=bias)
    return _scaled(_standardized(x, tuple(range(1, x.ndim - 1)), eps, where), scale, bias).astype(x.dtype)


def local_response_norm(
    x: Array,
    size: int = 5,
    *,
    alpha: float | Array = 1e-4,
    beta: float | Array = 0.75,
    k: float | Array = 1.0,
) -> Array:
    """Local response normalisation, division by the activity of neighbouring channels, [..., c] -> [..., c].

        y_i = x_i / (k + alpha / size · Σ_j x_j²)^beta,    j over the `size` channels around i

    Used by AlexNet; batch normalisation has replaced it.

    Args:
      x: floating.
      size: number of channels in the sum, an integer >= 1. If it is even, one more channel below i than above is
        summed, as in PyTorch.
      alpha: factor of the mean square.
      beta: exponent.
      k: offset >= 0. With 0, a channel whose sum is 0 gives NaN.

    Raises:
      ValueError: if `size` is not an integer >= 1.
      TypeError: if x is not floating.

    Differences: TensorFlow has a radius in place of a size, and does not divide alpha by the size.

    Reference: Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks, 2012.

    >>> local_response_norm(jnp.array([3.0, 4.0]), 3, alpha=3.0, beta=0.5, k=0.0).tolist()
    [0.6..., 0.8...]
    """
    x = check.array("local_response_norm", "x", x, least=1, shape="[..., c]")
    size = check.count("local_response_norm", "size", size)
    for name, value in (("alpha", alpha), ("beta", beta), ("k", k)):
        check.scalar("local_response_norm", name, value, -math.inf, ends="()")
    wide = x.astype(param_dtype(x))
    alpha, beta, k = (jnp.asarray(v, wide.dtype) for v in (alpha, beta, k))
    around, only = [(0, 0)] * (x.ndim - 1), (1,) * (x.ndim - 1)
    sides = [*around, (size // 2, (size - 1) // 2)]
    energy = jax.lax.reduce_window(jnp.square(wide), 0.0, jax.lax.add, (*only, size), (1,) * x.ndim, sides)
    return (wide / (k + alpha / size * energy) ** beta).astype(x.dtype)


def _trailing(where: str, x: Array, axis: int, **vectors: Array | None) -> tuple[Array, tuple[int, ...]]:
    x = check.array(where, "x", x, least=1, shape="[..., *d]")
    axes = tuple(range(check.axis(where, "axis", axis, x.ndim) % x.ndim, x.ndim))
    _check_vectors(where, x.shape[axes[0] :], **vectors)
    return x, axes


def _check_vectors(where: str, shape: tuple[int, ...], **vectors: Array | None) -> None:
    for argument, v in vectors.items():
        if v is not None:
            check.shape(where, argument, v, shape)


def _standardized(x: Array, axes: tuple[int, ...], eps: float | Array, where: Array | None = None) -> Array:
    """Standardises x to mean 0 and variance 1 over `axes`, in at least float32, in two passes."""
    x = x.astype(param_dtype(x))
    return _unit(x - _mean(x, axes, where), axes, eps, where)


def _unit(x: Array, axes: tuple[int, ...], eps: float | Array, where: Array | None = None) -> Array:
    return x * _inverse_root(_mean(jnp.square(x), axes, where), eps)


def _mean(x: Array, axis: int | Sequence[int], where: Array | None) -> Array:
    """Mean of the elements selected by `where` over `axis`, which keeps size 1; 0 without any element."""
    if where is None:
        return jnp.mean(x, axis, keepdims=True)
    where = jnp.broadcast_to(where, x.shape)
    total = jnp.sum(jnp.where(where, x, jnp.zeros((), x.dtype)), axis, keepdims=True)
    return total / jnp.maximum(jnp.sum(where, axis, dtype=x.dtype, keepdims=True), 1)


def _inverse_root(var: Array, eps: float | Array) -> Array:
    return jax.lax.rsqrt(var + jnp.asarray(eps, var.dtype))


def _scaled(y: Array, scale: Array | None, bias: Array | None) -> Array:
    """y · scale + bias in y's dtype, with scale and bias on the last axes of y."""
    y = y if scale is None else y * _fitted(scale, y)
    return y if bias is None else y + _fitted(bias, y)


def _fitted(v: Array, x: Array) -> Array:
    """v in x's dtype, reshaped to x's rank with its axes last."""
    v = jnp.asarray(v)
    return fitting(v.astype(x.dtype).reshape((1,) * (x.ndim - v.ndim) + v.shape), x)
