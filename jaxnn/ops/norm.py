"""Normalisation by mean and variance."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jaxnn._inputs import floating, param_dtype


def moments(x: Array, axis: int | Sequence[int]) -> tuple[Array, Array]:
    """Mean and (biased) variance over `axis`, in at least float32.

    In two passes, E[(x - E[x])²]: E[x²] - E[x]² loses all digits where the mean is large.

    Raises TypeError for an x that is not floating.

    >>> [m.item() for m in moments(jnp.array([1000.0, 1000.5]), axis=0)]
    [1000.25, 0.0625]
    """
    x = floating("moments", x)
    x = x.astype(param_dtype(x))
    mean = jnp.mean(x, axis, keepdims=True)
    return jnp.squeeze(mean, axis), jnp.mean(jnp.square(x - mean), axis)


def normalize(x: Array, mean: Array, var: Array, eps: float | Array, scale: Array | None, bias: Array | None) -> Array:
    """(x - mean) / sqrt(var + eps) · scale + bias over the last axis, computed in the statistics' dtype, in x's dtype.

    >>> normalize(jnp.array([[3.0]]), jnp.ones(1), jnp.full(1, 4.0), 0.0, None, None).item()
    1.0
    """
    factor = jax.lax.rsqrt(var + jnp.asarray(eps, var.dtype))
    factor = factor if scale is None else factor * scale.astype(var.dtype)
    around = (1,) * (x.ndim - mean.ndim)
    mean, factor = mean.reshape(*around, *mean.shape), factor.reshape(*around, *factor.shape)
    y = (x.astype(mean.dtype) - mean) * factor
    return (y if bias is None else y + bias.astype(y.dtype).reshape(*around, *bias.shape)).astype(x.dtype)
