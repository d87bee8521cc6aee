"""Normalisation: by batch statistics, and of each example by itself."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jaxnn import _checks as check
from jaxnn._dtypes import param_dtype
from jaxnn._errors import invalid
from jaxnn._placement import fitting


def moments(x: Array, axis: int | Sequence[int], *, where: Array | None = None) -> tuple[Array, Array]:
    """Mean and (biased) variance over `axis`, in at least float32.

    In two passes, E[(x - E[x])²]: E[x²] - E[x]² loses all digits where the mean is large.

    Args:
      axis: the axes to reduce.
      where: booleans that broadcast with x: False leaves an element out, whatever it holds. Of no elements both are 0.

    Raises: TypeError for an x that is not floating.

    >>> [m.item() for m in moments(jnp.array([1000.0, 1000.5]), axis=0)]
    [1000.25, 0.0625]
    """
    x = check.array("moments", "x", x)
    axis = check.axes("moments", "axis", axis, x.ndim)
    x = x.astype(param_dtype(x))
    mean = _mean(x, axis, where)
    return jnp.squeeze(mean, axis), jnp.squeeze(_mean(jnp.square(x - mean), axis, where), axis)


def normalize(x: Array, mean: Array, var: Array, eps: float | Array, scale: Array | None, bias: Array | None) -> Array:
    """(x - mean) / sqrt(var + eps) · scale + bias over the last axis, computed in the statistics' dtype, in x's dtype.

    PyTorch's and Keras's functions of this name divide by a norm instead: that is `lp_normalize`.

    >>> normalize(jnp.array([[3.0]]), jnp.ones(1), jnp.full(1, 4.0), 0.0, None, None).item()
    1.0
    """
    check.scalar("normalize", "eps", eps)
    factor = _inverse_root(var, eps)
    factor = factor if scale is None else factor * scale.astype(var.dtype)
    wide = x.astype(mean.dtype)
    return _scaled(wide - _fitted(mean, wide), factor, bias).astype(x.dtype)


def lp_normalize(x: Array, p: float = 2.0, *, axis: int | Sequence[int] = -1, eps: float | Array = 1e-12) -> Array:
    """Division by the p-norm along `axis`, [...] -> [...].

        y = x / max(|x|_p, eps),    |x|_p = (Σ |x_i|^p)^(1/p), or max |x_i| for p = inf

    Computed in at least float32, from x over its largest entry: nothing overflows. A row of zeros gives zeros, and gets
    no gradient.

    Args:
      p: a Python number >= 1, or inf.
      axis: the axis or axes of a vector.
      eps: the least norm that is divided by, > 0. A row with a norm below it has a gradient of 1 / eps.

    Raises ValueError for another p, TypeError for an x that is not floating.

    Differences: as PyTorch's `normalize`, whose axis is 1 by default and whose gradient at 0 is 1 / eps; Keras's
    `normalize` has this axis.

    >>> lp_normalize(jnp.array([[3.0, -1.0], [0.0, 0.0]]), 1).tolist()
    [[0.75, -0.25], [0.0, 0.0]]
    """
    x = check.array("lp_normalize", "x", x)
    check.scalar("lp_normalize", "p", p, 1.0, ends="[]", static=True)
    check.scalar("lp_normalize", "eps", eps)
    axis = check.axes("lp_normalize", "axis", axis, x.ndim)
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
    """Layer normalisation over the axes from `axis` on, [..., *d] -> [..., *d], with scale and bias of shape [*d].

        y = (x - mean) / sqrt(var + eps) · scale + bias

    Each example by itself, in training and after it alike; statistics in at least float32, in two passes. A constant
    row gives the bias.

    Args:
      axis: the first of the axes normalised over; -1 is the last alone. PyTorch gives their sizes instead.
      eps: added to the variance, > 0; as PyTorch (Keras has 1e-3, flax 1e-6).

    Raises ValueError where scale or bias has another shape, TypeError for an x that is not floating.

    Ba et al., Layer Normalization, 2016.

    >>> layer_norm(jnp.array([[1.0, 3.0], [-4.0, -4.0]]), eps=0.0001).round(2).tolist()
    [[-1.0, 1.0], [0.0, 0.0]]
    """
    check.scalar("layer_norm", "eps", eps)
    x, axes = _trailing("layer_norm", x, axis, scale=scale, bias=bias)
    return _scaled(_standardized(x, axes, eps), scale, bias).astype(x.dtype)


def rms_norm(x: Array, scale: Array | None = None, *, axis: int = -1, eps: float | Array = 1e-6) -> Array:
    """Division by the root mean square over the axes from `axis` on, [..., *d] -> [..., *d], with scale [*d].

        y = x / sqrt(mean(x²) + eps) · scale

    Layer normalisation without the mean and the bias: cheaper, and as good in transformers.

    Args:
      axis: the first of the axes normalised over; -1 is the last alone.
      eps: added to the mean square, > 0; as flax and LLaMA (PyTorch takes the dtype's own epsilon, ONNX 1e-5).

    Raises ValueError where scale has another shape, TypeError for an x that is not floating.

    Zhang & Sennrich, Root Mean Square Layer Normalization, 2019.

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
    """Normalisation of each example over space and groups of channels, [n, *space, c] -> [n, *space, c], by scale [c].

    One group is layer normalisation over the whole example, c groups are `instance_norm`. The batch plays no part, so
    it serves small batches where batch normalisation fails.

    Args:
      groups: neighbouring channels are cut into that many equal groups.
      eps: added to the variance, > 0.
      where: booleans that broadcast with x, 1 on the last axis: False leaves a place out of the statistics.

    Raises ValueError where shapes do not fit, TypeError for an x that is not floating.

    Wu & He, Group Normalization, 2018.

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
    """Normalisation of each channel of each example over space, [n, *space, c] -> [n, *space, c], by scale [c].

    It takes the contrast out of an image, as style transfer wants. With a single place in space all is the bias.

    Args:
      eps: added to the variance, > 0.
      where: booleans that broadcast with x: False leaves a place out of the statistics.

    Raises ValueError where shapes do not fit, TypeError for an x that is not floating.

    Ulyanov et al., Instance Normalization, 2016.

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
    """Division by the activity of neighbouring channels, [..., c] -> [..., c].

        y_i = x_i / (k + alpha / size · Σ_j x_j²)^beta,    j over the `size` channels around i

    AlexNet's; batch normalisation has taken its place.

    Args:
      size: channels summed over, >= 1, of an even number one more below i, as PyTorch; TensorFlow has a radius, and no
        division of alpha by size.

    Raises ValueError for a size that is none, TypeError for an x that is not floating.

    Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks, 2012.

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
    """x without its mean and of unit variance over `axes`, in at least float32, in two passes."""
    x = x.astype(param_dtype(x))
    return _unit(x - _mean(x, axes, where), axes, eps, where)


def _unit(x: Array, axes: tuple[int, ...], eps: float | Array, where: Array | None = None) -> Array:
    return x * _inverse_root(_mean(jnp.square(x), axes, where), eps)


def _mean(x: Array, axis: int | Sequence[int], where: Array | None) -> Array:
    """The mean over `axis`, whose size becomes 1, of the elements that count; 0 of none."""
    if where is None:
        return jnp.mean(x, axis, keepdims=True)
    where = jnp.broadcast_to(where, x.shape)
    total = jnp.sum(jnp.where(where, x, jnp.zeros((), x.dtype)), axis, keepdims=True)
    return total / jnp.maximum(jnp.sum(where, axis, dtype=x.dtype, keepdims=True), 1)


def _inverse_root(var: Array, eps: float | Array) -> Array:
    return jax.lax.rsqrt(var + jnp.asarray(eps, var.dtype))


def _scaled(y: Array, scale: Array | None, bias: Array | None) -> Array:
    """y · scale + bias, which lie on the last axes of y, in y's dtype."""
    y = y if scale is None else y * _fitted(scale, y)
    return y if bias is None else y + _fitted(bias, y)


def _fitted(v: Array, x: Array) -> Array:
    """v with x's rank, its axes the last, and x's dtype."""
    v = jnp.asarray(v)
    return fitting(v.astype(x.dtype).reshape((1,) * (x.ndim - v.ndim) + v.shape), x)
