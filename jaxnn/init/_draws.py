"""Initializers: constant, normal, uniform, fan-scaled and orthogonal distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxnn import _checks as check
from jaxnn._dtypes import wide_dtype
from jaxnn._errors import invalid, wrong_type
from jaxnn._filled import full
from jaxnn._inputs import known
from jaxnn._keys import quick
from jaxnn.init._orthonormal import orthonormal
from jaxnn.types import Key

Scalar = float | Array
Mode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
Distribution = Literal["truncated_normal", "normal", "uniform"]
TRUNCATED = 0.87962566103423978  # standard deviation of N(0, 1) truncated at ±2


def zeros(key: Key | None, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Array:
    """Zeros, for biases. Hidden weights must not be 0: every unit would get the same gradient.

    Args:
      key, shape, dtype: ignored, may be None; sizes, >= 0; floating dtype of the result.

    Raises:
      TypeError: if shape is not a tuple of ints or dtype is not floating.
      ValueError: if a size is negative.

    >>> zeros(None, (2,)).tolist()
    [0.0, 0.0]
    """
    shape, dtype, _ = _checked("zeros", shape, dtype)
    return full(shape, 0, dtype)


def ones(key: Key | None, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Array:
    """Ones, for the scales of norms.

    Args:
      key, shape, dtype: ignored, may be None; sizes, >= 0; floating dtype of the result.

    Raises:
      TypeError: if shape is not a tuple of ints or dtype is not floating.
      ValueError: if a size is negative.

    >>> ones(None, (2,)).tolist()
    [1.0, 1.0]
    """
    shape, dtype, _ = _checked("ones", shape, dtype)
    return full(shape, 1, dtype)


def constant(key: Key | None, shape: Sequence[int], dtype: DTypeLike = jnp.float32, *, value: ArrayLike) -> Array:
    """Constant `value`, such as 1 for an LSTM's forget gate, or the log-odds of the classes for the last bias.

    Args:
      key, shape, dtype: ignored, may be None; sizes, >= 0; floating dtype of the result.
      value: scalar, or array of exactly `shape`. Nothing else is broadcast.

    Raises:
      TypeError: if shape is not a tuple of ints or dtype is not floating.
      ValueError: if a size is negative, or `value` is neither a scalar nor of `shape`.

    >>> constant(None, (2,), value=-4.6).tolist()
    [-4.59..., -4.59...]
    """
    shape, dtype, _ = _checked("constant", shape, dtype)
    check.kind("constant", "value", value, "real")
    if not (known(value) or (hasattr(value, "dtype") and jnp.shape(value) in ((), shape))):
        raise invalid("constant", f"value to be a scalar or of shape {list(shape)}", value, "Nothing is broadcast.")
    return full(shape, value, dtype) if known(value) else jnp.broadcast_to(jnp.array(value, dtype), shape)


def normal(key: Key, shape: Sequence[int], dtype: DTypeLike = jnp.float32, *, stddev: Scalar = 1e-2) -> Array:
    """Normal distribution N(0, stddev²).

    Args:
      key, shape, dtype: PRNG key; sizes, >= 0; floating dtype of the result.
      stddev: standard deviation, >= 0; GPT-2 and BERT use 0.02.

    Raises:
      TypeError: if shape is not a tuple of ints or dtype is not floating.
      ValueError: if a size is negative, or `stddev` is negative or not finite.

    Differences: the default of PyTorch's `normal_` is 1, that of Keras's RandomNormal 0.05.

    >>> normal(jax.random.key(0), (2, 3), stddev=0.02).shape
    (2, 3)
    """
    shape, dtype, wide = _checked("normal", shape, dtype)
    stddev = _scalar("normal", "stddev", stddev, wide)
    return _drawn("normal", key, shape, dtype, stddev)


def truncated_normal(
    key: Key,
    shape: Sequence[int],
    dtype: DTypeLike = jnp.float32,
    *,
    stddev: Scalar = 1e-2,
    lower: Scalar = -2.0,
    upper: Scalar = 2.0,
) -> Array:
    """Normal distribution N(0, stddev²) conditioned on [lower · stddev, upper · stddev]: tails are cut, not clipped.

    Args:
      key, shape, dtype: PRNG key; sizes, >= 0; floating dtype of the result.
      stddev: standard deviation before truncation, >= 0, as in Keras and jax.nn; 0.8796 stddev after it for the default
        bounds.
      lower: lower bound in standard deviations, < upper.
      upper: upper bound in standard deviations.

    Raises:
      TypeError: if shape is not a tuple of ints or dtype is not floating.
      ValueError: if a size is negative, `stddev` is out of range or lower >= upper.

    Differences: the bounds of PyTorch's `trunc_normal_` are absolute.

    >>> bool(jnp.all(jnp.abs(truncated_normal(jax.random.key(0), (1000,), stddev=1.0)) <= 2))
    True
    """
    shape, dtype, wide = _checked("truncated_normal", shape, dtype)
    stddev = _scalar("truncated_normal", "stddev", stddev, wide)
    bounds = lower, upper
    lower, upper = _bound("lower", lower, wide), _bound("upper", upper, wide)
    if all(map(known, bounds)) and not lower < upper:
        told = f"lower={lower} and upper={upper}"
        raise invalid("truncated_normal", "lower < upper", told=told, fix="They count in stddev.")
    draw = jax.nn.initializers.truncated_normal(stddev, lower=lower, upper=upper)
    return draw(quick(key), shape, wide).astype(dtype)


def uniform(key: Key, shape: Sequence[int], dtype: DTypeLike = jnp.float32, *, scale: Scalar = 1e-2) -> Array:
    """Uniform distribution U[-scale, scale), with mean 0 and standard deviation scale / √3.

    Args:
      key, shape, dtype: PRNG key; sizes, >= 0; floating dtype of the result.
      scale: half the width of the interval, >= 0.

    Raises:
      TypeError: if shape is not a tuple of ints or dtype is not floating.
      ValueError: if a size is negative, or `scale` is negative or not finite.

    Differences: jax.nn.initializers.uniform is U[0, scale), whose mean is not 0. The default of Keras's RandomUniform
    is 0.05.

    >>> bool(jnp.all(jnp.abs(uniform(jax.random.key(0), (1000,), scale=0.5)) <= 0.5))
    True
    """
    shape, dtype, wide = _checked("uniform", shape, dtype)
    scale = _scalar("uniform", "scale", scale, wide)
    return _drawn("uniform", key, shape, dtype, scale)


def variance_scaling(
    key: Key,
    shape: Sequence[int],
    dtype: DTypeLike = jnp.float32,
    *,
    scale: Scalar = 1.0,
    mode: Mode = "fan_in",
    distribution: Distribution = "truncated_normal",
) -> Array:
    """Fan-scaled distribution of mean 0 and variance scale / n, n a fan of the weights `[*space, in, out]`.

        truncated_normal   N(0, s²) truncated at ±2s, s = √(scale / n) / 0.8796
        normal             N(0, scale / n)
        uniform            U[-r, r), r = √(3 scale / n)

    Args:
      key, shape, dtype: PRNG key; sizes [*space, in, out], >= 0; floating dtype of the result.
      scale: squared gain, >= 0; 2 for relu. PyTorch's `calculate_gain` gives the gain.
      mode: n is "fan_in", "fan_out", their mean ("fan_avg") or their geometric mean ("fan_geo_avg").
      distribution: "truncated_normal", "normal" or "uniform".

    Raises:
      TypeError: if shape is not a tuple of ints or dtype is not floating.
      ValueError: if a size is negative, `scale`, `mode` or `distribution` is out of range or there are fewer than two
        axes, which leaves the fans undefined.

    Differences: same defaults as Keras's VarianceScaling.

    Reference: He et al., Delving Deep into Rectifiers, 2015.

    >>> variance_scaling(jax.random.key(0), (3, 3, 16, 32), mode="fan_out", distribution="uniform").shape
    (3, 3, 16, 32)
    """
    return _fan_scaled("variance_scaling", key, shape, dtype, scale, mode, distribution)


def lecun_normal(key: Key, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Array:
    """Truncated normal distribution of variance 1 / fan_in, which preserves variance through linear and selu layers.

    Args:
      key, shape, dtype: PRNG key; sizes [*space, in, out], >= 0; floating dtype of the result.

    Raises:
      TypeError: if shape is not a tuple of ints or dtype is not floating.
      ValueError: if a size is negative or there are fewer than two axes, which leaves the fans undefined.

    Reference: LeCun et al., Efficient BackProp, 1998; Klambauer et al., Self-Normalizing Neural Networks, 2017.

    >>> lecun_normal(jax.random.key(0), (4, 2)).shape
    (4, 2)
    """
    return _fan_scaled("lecun_normal", key, shape, dtype, 1.0, "fan_in", "truncated_normal")


def lecun_uniform(key: Key, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Array:
    """Uniform distribution U[-r, r), r = √(3 / fan_in), of variance 1 / fan_in.

    Args:
      key, shape, dtype: PRNG key; sizes [*space, in, out], >= 0; floating dtype of the result.

    Raises:
      TypeError: if shape is not a tuple of ints or dtype is not floating.
      ValueError: if a size is negative or there are fewer than two axes, which leaves the fans undefined.

    Differences: PyTorch's Linear and Conv use r = √(1 / fan_in), a third of that variance: `variance_scaling` with
    scale=1/3.

    Reference: LeCun et al., Efficient BackProp, 1998.

    >>> lecun_uniform(jax.random.key(0), (4, 2)).shape
    (4, 2)
    """
    return _fan_scaled("lecun_uniform", key, shape, dtype, 1.0, "fan_in", "uniform")


def he_normal(key: Key, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Array:
    """Truncated normal distribution of variance 2 / fan_in, which preserves the mean square through relu layers.

    Args:
      key, shape, dtype: PRNG key; sizes [*space, in, out], >= 0; floating dtype of the result.

    Raises:
      TypeError: if shape is not a tuple of ints or dtype is not floating.
      ValueError: if a size is negative or there are fewer than two axes, which leaves the fans undefined.

    Differences: PyTorch's `kaiming_normal_` is not truncated.

    Reference: He et al., Delving Deep into Rectifiers, 2015.

    >>> he_normal(jax.random.key(0), (3, 3, 8, 16)).shape
    (3, 3, 8, 16)
    """
    return _fan_scaled("he_normal", key, shape, dtype, 2.0, "fan_in", "truncated_normal")


def he_uniform(key: Key, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Array:
    """Uniform distribution U[-r, r), r = √(6 / fan_in), of variance 2 / fan_in, as `he_normal`.

    Args:
      key, shape, dtype: PRNG key; sizes [*space, in, out], >= 0; floating dtype of the result.

    Raises:
      TypeError: if shape is not a tuple of ints or dtype is not floating.
      ValueError: if a size is negative or there are fewer than two axes, which leaves the fans undefined.

    Differences: same as PyTorch's `kaiming_uniform_` with nonlinearity="relu".

    Reference: He et al., Delving Deep into Rectifiers, 2015.

    >>> he_uniform(jax.random.key(0), (4, 2)).shape
    (4, 2)
    """
    return _fan_scaled("he_uniform", key, shape, dtype, 2.0, "fan_in", "uniform")


def glorot_normal(key: Key, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Array:
    """Truncated normal distribution of variance 2 / (fan_in + fan_out), for tanh.

    A compromise between preserving the variance of activations (forward) and of gradients (backward).

    Args:
      key, shape, dtype: PRNG key; sizes [*space, in, out], >= 0; floating dtype of the result.

    Raises:
      TypeError: if shape is not a tuple of ints or dtype is not floating.
      ValueError: if a size is negative or there are fewer than two axes, which leaves the fans undefined.

    Differences: PyTorch's `xavier_normal_` is not truncated.

    Reference: Glorot & Bengio, Understanding the Difficulty of Training Deep Feedforward Neural Networks, 2010.

    >>> glorot_normal(jax.random.key(0), (4, 2)).shape
    (4, 2)
    """
    return _fan_scaled("glorot_normal", key, shape, dtype, 1.0, "fan_avg", "truncated_normal")


def glorot_uniform(key: Key, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Array:
    """Uniform distribution U[-r, r), r = √(6 / (fan_in + fan_out)): the paper's form, and Keras's default.

    Args:
      key, shape, dtype: PRNG key; sizes [*space, in, out], >= 0; floating dtype of the result.

    Raises:
      TypeError: if shape is not a tuple of ints or dtype is not floating.
      ValueError: if a size is negative or there are fewer than two axes, which leaves the fans undefined.

    Differences: same as PyTorch's `xavier_uniform_`.

    Reference: Glorot & Bengio, Understanding the Difficulty of Training Deep Feedforward Neural Networks, 2010.

    >>> glorot_uniform(jax.random.key(0), (4, 2)).shape
    (4, 2)
    """
    return _fan_scaled("glorot_uniform", key, shape, dtype, 1.0, "fan_avg", "uniform")


def orthogonal(key: Key, shape: Sequence[int], dtype: DTypeLike = jnp.float32, *, scale: Scalar = 1.0) -> Array:
    """Orthogonal matrix times `scale`: Haar-distributed orthonormal rows or columns, W as [prod(space) in, out].

        WᵀW = scale² I with at least as many rows as columns, else W Wᵀ = scale² I

    For recurrent weights and deep networks: all singular values are `scale`. Computed by a QR decomposition, O(n³) for
    n × n.

    Args:
      key, shape, dtype: PRNG key; sizes [*space, in, out], >= 0; floating dtype of the result.
      scale: gain, >= 0: √2 for relu.

    Raises:
      TypeError: if shape is not a tuple of ints or dtype is not floating.
      ValueError: if a size is negative, `scale` is out of range or there are fewer than two axes.

    Differences: same as jax.nn, Keras and PyTorch, which flatten the same way.

    Reference: Saxe, McClelland & Ganguli, Exact Solutions to the Nonlinear Dynamics of Learning in Deep Linear
    Networks, 2014.

    >>> w = orthogonal(jax.random.key(0), (3, 2))
    >>> bool(jnp.allclose(w.T @ w, jnp.eye(2), atol=1e-6))
    True
    """
    shape, dtype, wide = _checked("orthogonal", shape, dtype, rank=2)
    scale = _scalar("orthogonal", "scale", scale, wide)
    if 0 in shape:
        return full(shape, 0, dtype)
    n, m = math.prod(shape[:-1]), shape[-1]
    q = orthonormal(jax.random.normal(quick(key), (max(n, m), min(n, m)), wide))
    return (scale * (q if n >= m else q.T).reshape(shape)).astype(dtype)


def _fan_scaled(
    where: str,
    key: Key,
    shape: Sequence[int],
    dtype: DTypeLike,
    scale: Scalar,
    mode: Mode,
    distribution: Distribution,
) -> Array:
    shape, dtype, wide = _checked(where, shape, dtype, rank=2)
    scale = _scalar(where, "scale", scale, wide)
    check.choice(where, "mode", mode, get_args(Mode))
    check.choice(where, "distribution", distribution, get_args(Distribution))
    if 0 in shape:
        return full(shape, 0, dtype)
    variance = (np if known(scale) else jnp).asarray(scale / _fan(shape, mode), wide)
    match distribution:
        case "truncated_normal":
            factor = _root(variance) / np.asarray(TRUNCATED, wide)
        case "normal":
            factor = _root(variance)
        case "uniform":
            factor = _root(np.asarray(3, wide) * variance)
    return _drawn(distribution, key, shape, dtype, factor)


def _fan(shape: tuple[int, ...], mode: Mode) -> float:
    """Number of inputs or outputs of weights [*space, in, out], or a mean of the two."""
    fan_in, fan_out = (math.prod(shape[:-2]) * n for n in shape[-2:])
    means = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
    return means[mode] if mode in means else math.sqrt(fan_in * fan_out)


def _root(x: Any) -> Any:
    return jnp.sqrt(x) if isinstance(x, Array) else np.sqrt(x)


def _drawn(distribution: Distribution, key: Key, shape: tuple[int, ...], dtype: DTypeLike, factor: Any) -> Array:
    """A draw of unit scale times `factor`, as one program for each shape."""
    wide = wide_dtype(dtype)
    factor = factor if isinstance(factor, Array) else np.asarray(factor, wide)
    return _scaled_draw(distribution, quick(key), shape, jnp.dtype(dtype), factor)


@partial(jax.jit, static_argnums=(0, 2, 3), inline=True)
def _scaled_draw(distribution: Distribution, key: Key, shape: tuple[int, ...], dtype: Any, factor: Array) -> Array:
    wide = wide_dtype(dtype)
    match distribution:
        case "truncated_normal":
            unit = jax.random.truncated_normal(key, -2, 2, shape, wide)
        case "normal":
            # The barrier keeps the compiler from merging the two factors, which would round otherwise.
            unit = jax.lax.optimization_barrier(jax.random.normal(key, shape, wide))
        case "uniform":
            unit = jax.random.uniform(key, shape, wide, -1, 1)
    return (unit * factor).astype(dtype)


def _checked(where: str, shape: Any, dtype: Any, rank: int = 0) -> tuple[tuple[int, ...], np.dtype, np.dtype]:
    """The shape, the dtype, and the dtype to draw in."""
    if not isinstance(shape, Sequence) or not all(isinstance(n, int | np.integer) for n in shape):
        raise wrong_type(where, "shape to be a tuple of sizes", shape, "A vector of n is (n,).")
    shape = tuple(shape)
    if min(shape, default=0) < 0:
        raise invalid(where, "sizes >= 0", shape)
    if len(shape) < rank:
        raise invalid(where, "a shape [*space, in, out]", shape, "A vector has no fans: use zeros, ones or normal.")
    dtype = check.dtype(where, "dtype", dtype, "Pass jnp.float32, jnp.bfloat16 or one of their kind.")
    return shape, dtype, wide_dtype(dtype)


def _scalar(where: str, name: str, value: Any, dtype: np.dtype) -> Any:
    """`value` as a Python number, or as a scalar array of `dtype`. Only the range of a Python number is checked."""
    check.scalar(where, name, value)
    return float(value) if known(value) else jnp.asarray(value, dtype)


def _bound(name: str, value: Any, dtype: np.dtype) -> Any:
    """Bound of `truncated_normal`; may be infinite."""
    check.scalar("truncated_normal", name, value, -math.inf, ends="[]")
    return float(value) if known(value) else jnp.asarray(value, dtype)
