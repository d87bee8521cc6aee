"""Normal distributions, by mean and logarithm of the standard deviation, and squashed by tanh."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn.distributions._checks import alike, drawn
from jaxnn.losses import _excess
from jaxnn.types import Key

HALF_LOG_2_PI = math.log(2 * math.pi) / 2


def normal_log_prob(mean: ArrayLike, log_std: ArrayLike, value: ArrayLike) -> Array:
    """Log-density of a normal distribution, elementwise [...], [...], [...] -> [...]:

        -z²/2 - log_std - log(2π)/2,    z = (value - mean) / exp(log_std)

    The gradient is z / std by the mean and z² - 1 by log_std. For vectors with independent elements sum over the last
    axis.

    Args:
      mean: mean, floating.
      log_std: logarithm of the standard deviation, of the mean's shape, so that any output of a network is valid.
      value: values of the mean's shape, floating.

    Raises:
      TypeError: if an argument is not floating.
      ValueError: if the shapes differ.

    Differences: PyTorch's Normal takes the standard deviation. `losses.gaussian_nll` takes the logarithm of the
      variance, 2 log_std.

    >>> normal_log_prob(jnp.zeros(2), jnp.zeros(2), jnp.array([0.0, 2.0])).tolist()
    [-0.918..., -2.918...]
    """
    m, s, x = alike("normal_log_prob", mean=mean, log_std=log_std, value=value)
    return _log_density(_standard(x - m, s), s)


def _log_density(z: Array, s: Array) -> Array:
    return -z * z / 2 - s - HALF_LOG_2_PI


def _standard(r: Array, s: Array) -> Array:
    """r / exp(s); 0 where r is 0, whatever s is."""
    certain = (r == 0) & (jnp.exp(-s) == jnp.inf)
    return r * jnp.exp(-jnp.where(certain, 0, s))


def normal_entropy(log_std: ArrayLike) -> Array:
    """Entropy of a normal distribution, elementwise [...] -> [...]: log_std + (1 + log 2π) / 2; range (-inf, inf).

    Args:
      log_std: logarithm of the standard deviation, floating.

    Raises:
      TypeError: if `log_std` is not floating.

    >>> normal_entropy(jnp.zeros(1)).tolist()
    [1.418...]
    """
    (s,) = alike("normal_entropy", log_std=log_std)
    return s + (0.5 + HALF_LOG_2_PI)


def normal_kl(mean_p: ArrayLike, log_std_p: ArrayLike, mean_q: ArrayLike, log_std_q: ArrayLike) -> Array:
    """Kullback-Leibler divergence of two normal distributions, elementwise, four [...] -> [...]; range [0, inf]:

        KL(p ‖ q) = (e^(2d) - 1 - 2d + z²) / 2,    d = log_std_p - log_std_q, z = (mean_p - mean_q) / exp(log_std_q)

    With mean_q and log_std_q of 0 it is the regularizer of a variational autoencoder. Accurate for distributions that
    are close: e^(2d) - 1 - 2d is a series for small d.

    Args:
      mean_p: mean of p, floating.
      log_std_p: logarithm of the standard deviation of p.
      mean_q: mean of q.
      log_std_q: logarithm of the standard deviation of q; all of the shape of mean_p.

    Raises:
      TypeError: if an argument is not floating.
      ValueError: if the shapes differ.

    Differences: PyTorch's kl_divergence takes standard deviations.

    Reference: Kingma and Welling, Auto-encoding variational Bayes, 2014, appendix B.

    >>> normal_kl(jnp.ones(1), jnp.zeros(1), jnp.zeros(1), jnp.zeros(1)).tolist()
    [0.5]
    """
    m, s, n, u = alike("normal_kl", mean_p=mean_p, log_std_p=log_std_p, mean_q=mean_q, log_std_q=log_std_q)
    r = 2 * (u - s)
    near = jnp.abs(r) < 1
    spread = jnp.where(near, _excess(jnp.where(near, r, 0)), jnp.exp(jnp.where(near, 0, -r)) - 1 + r)
    return (spread + _standard(m - n, u) ** 2) / 2


def normal_sample(key: Key, mean: ArrayLike, log_std: ArrayLike, shape: Sequence[int] = ()) -> Array:
    """Draws from a normal distribution, key, [...], [...] -> [*shape, ...]: mean + exp(log_std) ε, ε standard normal.

    Derivatives by mean and log_std pass through the draw (reparametrization).

    Args:
      key: a random key; every element has a draw of its own.
      mean: mean, floating.
      log_std: logarithm of the standard deviation, of the mean's shape.
      shape: leading axes of the result: (n,) draws n times for each element.

    Raises:
      TypeError: for something that is not a key, parameters that are not floating, or a `shape` other than a tuple.
      ValueError: for a batch of keys, and shapes that differ.

    Differences: it is PyTorch's Normal.rsample; `jax.lax.stop_gradient` around it gives sample.

    >>> x = normal_sample(jax.random.key(0), jnp.array([3.0, -3.0]), jnp.full(2, -20.0), (4,))
    >>> x.shape, x[0].round().tolist()
    ((4, 2), [3.0, -3.0])
    """
    key, sizes = drawn("normal_sample", key, shape)
    m, s = alike("normal_sample", mean=mean, log_std=log_std)
    noise = jax.random.normal(key, (*sizes, *m.shape), m.dtype)
    return (_ahead(m, noise) + _ahead(jnp.exp(s), noise) * noise).astype(jnp.asarray(mean).dtype)


def _ahead(x: Array, like: Array) -> Array:
    """`x` with leading axes of length 1 up to the rank of `like`."""
    return x.reshape((1,) * (like.ndim - x.ndim) + x.shape)


def squashed_normal_log_prob(mean: ArrayLike, log_std: ArrayLike, pre_tanh: ArrayLike) -> Array:
    """Log-density of tanh(u) with a normal u, elementwise [...], [...], [...] -> [...]; u is the value before tanh:

        log N(u; mean, std) - log(1 - tanh²(u)),    log(1 - tanh²(u)) = 2 (log 2 - |u| - log(1 + e^(-2|u|)))

    The policy of soft actor-critic, for actions in (-1, 1). Computed from u: near ±1, float32's tanh(u) has few of its
    digits, and beyond |u| = 9 none. For stored actions a pass `jnp.arctanh(jnp.clip(a, -1 + 1e-6, 1 - 1e-6))`, or store
    u.

    Args:
      mean: mean of u, floating.
      log_std: logarithm of the standard deviation of u, of the mean's shape.
      pre_tanh: u, of the mean's shape.

    Raises:
      TypeError: if an argument is not floating.
      ValueError: if the shapes differ.

    Differences: PyTorch's TransformedDistribution with TanhTransform inverts tanh unless it has cached u.

    Reference: Haarnoja et al., Soft actor-critic: off-policy maximum entropy deep reinforcement learning with a
      stochastic actor, 2018, appendix C.

    >>> squashed_normal_log_prob(jnp.zeros(2), jnp.zeros(2), jnp.array([0.0, 20.0])).tolist()
    [-0.918..., -162.305...]
    """
    m, s, u = alike("squashed_normal_log_prob", mean=mean, log_std=log_std, pre_tanh=pre_tanh)
    return _log_density(_standard(u - m, s), s) + 2 * _log_cosh(u)


def _log_cosh(u: Array) -> Array:
    size = jnp.abs(u)
    return size + jnp.log1p(jnp.exp(-2 * size)) - math.log(2)


def squashed_normal_sample(
    key: Key, mean: ArrayLike, log_std: ArrayLike, shape: Sequence[int] = ()
) -> tuple[Array, Array]:
    """Draws tanh(u) with a normal u, and their log-density, key, [...], [...] -> [*shape, ...], [*shape, ...].

    Both have derivatives by mean and log_std, as soft actor-critic needs. There is no closed form of the entropy: the
    mean of minus the log-density estimates it.

    Args:
      key: a random key; every element has a draw of its own.
      mean: mean of u, floating.
      log_std: logarithm of the standard deviation of u, of the mean's shape.
      shape: leading axes of the result: (n,) draws n times for each element.

    Returns:
      The actions, in [-1, 1], in the mean's dtype; and their log-density, as `squashed_normal_log_prob` of u, in at
      least float32.

    Raises:
      TypeError: for something that is not a key, parameters that are not floating, or a `shape` other than a tuple.
      ValueError: for a batch of keys, and shapes that differ.

    >>> action, log_prob = squashed_normal_sample(jax.random.key(0), jnp.zeros(3), jnp.zeros(3))
    >>> bool((jnp.abs(action) < 1).all()), log_prob.shape
    (True, (3,))
    """
    key, sizes = drawn("squashed_normal_sample", key, shape)
    m, s = alike("squashed_normal_sample", mean=mean, log_std=log_std)
    noise = jax.random.normal(key, (*sizes, *m.shape), m.dtype)
    u = _ahead(m, noise) + _ahead(jnp.exp(s), noise) * noise
    action = jnp.tanh(u).astype(jnp.asarray(mean).dtype)
    return action, _log_density(noise, _ahead(s, noise)) + 2 * _log_cosh(u)
