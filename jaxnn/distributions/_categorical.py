"""The categorical distribution of softmax(logits)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._dtypes import widened
from jaxnn.distributions._checks import class_of, drawn, logits_of
from jaxnn.losses import _cost, _costs, _excess, _number, _of_known
from jaxnn.types import Key


def categorical_log_prob(logits: ArrayLike, value: ArrayLike) -> Array:
    """Log-probability of classes, [..., k], integer [...] -> [...]: log softmax(x)_value; range [-inf, 0].

    The gradient is p - softmax(x), with p the one-hot value. It is `-losses.softmax_cross_entropy`.

    Args:
      logits: unnormalised log-probabilities over the last axis, floating; -inf masks a class, whose value is -inf.
      value: class numbers 0 to k - 1; others give NaN.

    Raises:
      TypeError: if the logits are not floating or the values are not integers.
      ValueError: if the shapes do not fit.

    Differences: PyTorch's Categorical and distrax's take the same logits, and raise for, or clip, values out of range.

    >>> categorical_log_prob(jnp.zeros((2, 4)), jnp.array([0, 3])).tolist()  # -log 4
    [-1.386..., -1.386...]
    """
    logits = logits_of("categorical_log_prob", "logits", logits)
    y = jnp.asarray(class_of("categorical_log_prob", value, logits))
    y, known = _number(y, logits.shape[-1])
    return _of_known(-_cost(widened(logits), y), known)


def categorical_entropy(logits: ArrayLike) -> Array:
    """Entropy of softmax(logits), [..., k] -> [...]: -Σ_i s_i log s_i, with 0 log 0 = 0; range [0, log k].

    The gradient is -s_i (log s_i + H), and 0 for a masked class. Policies add it to their objective to keep exploring.

    Args:
      logits: unnormalised log-probabilities over the last axis, floating; -inf masks a class.

    Raises:
      TypeError: if the logits are not floating.
      ValueError: if they have no axis of classes.

    Differences: PyTorch clips masked logits to the least number; optax and jax.nn have no entropy.

    >>> categorical_entropy(jnp.array([[0.0, 0.0, -jnp.inf], [9.0, -jnp.inf, -jnp.inf]])).tolist()  # log 2
    [0.693..., 0.0]
    """
    return _entropy(widened(logits_of("categorical_entropy", "logits", logits)))


@jax.custom_jvp
def _entropy(x: Array) -> Array:
    cost = _costs(x)
    return _product(jnp.exp(-cost), cost).sum(axis=-1)


@_entropy.defjvp
def _entropy_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    cost = _costs(*primals)
    p = jnp.exp(-cost)
    value = _entropy(*primals)
    return value, (_product(p, cost - value[..., None]) * tangents[0]).sum(axis=-1)


def categorical_kl(logits_p: ArrayLike, logits_q: ArrayLike) -> Array:
    """Kullback-Leibler divergence of two categorical distributions, [..., k], [..., k] -> [...]; range [0, inf]:

        KL(p ‖ q) = Σ_i p_i (log p_i - log q_i),    p = softmax(logits_p), q = softmax(logits_q), 0 log 0 = 0

    The gradient is q - p by logits_q, and p_i (log p_i - log q_i - KL) by logits_p. It is inf where q masks a class
    that p does not. Computed as Σ_i p_i h(log p_i - log q_i) with h(r) = r - 1 + e^-r >= 0, so that nothing cancels for
    distributions that are close, such as those before and after an update of a policy.

    Args:
      logits_p: unnormalised log-probabilities of p over the last axis, floating; -inf masks a class.
      logits_q: those of q, of equal shape.

    Raises:
      TypeError: if logits are not floating.
      ValueError: if the shapes differ.

    Differences: `losses.kl_divergence` takes the probabilities of p. PyTorch's kl_divergence subtracts the logarithms:
      for divergences below 1e-7 it returns rounding, which may be negative.

    >>> categorical_kl(jnp.log(jnp.array([1.0, 0.0])), jnp.zeros(2)).item()  # log 2
    0.693...
    """
    p = logits_of("categorical_kl", "logits_p", logits_p)
    q = logits_of("categorical_kl", "logits_q", logits_q)
    check.same_shape("categorical_kl", "logits_p", p, "logits_q", q)
    p = widened(p)
    return _kl(p, q.astype(p.dtype))


@jax.custom_jvp
def _kl(x: Array, y: Array) -> Array:
    p, q, r = _ratio(x, y)
    near = jnp.abs(r) < 1
    return jnp.where(near, p * _excess(jnp.where(near, r, 0)), _product(p, r) - p + q).sum(axis=-1)


@_kl.defjvp
def _kl_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    p, q, r = _ratio(*primals)
    value = _kl(*primals)
    by_x = _product(p, r - jnp.where(value == jnp.inf, 0, value)[..., None])
    by_y = jnp.where(jnp.abs(r) < 1, p * jnp.expm1(-r), q - p)
    return value, (by_x * tangents[0] + by_y * tangents[1]).sum(axis=-1)


def _ratio(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """p, q and log(p / q), which is -inf where p is 0."""
    of_p, of_q = _costs(x), _costs(y)
    return jnp.exp(-of_p), jnp.exp(-of_q), jnp.where(of_p == jnp.inf, -jnp.inf, of_q - of_p)


def _product(p: Array, x: Array) -> Array:
    """p x, with 0 · ±inf = 0."""
    return p * jnp.where((p == 0) & jnp.isinf(x), 0, x)


def categorical_sample(key: Key, logits: ArrayLike, shape: Sequence[int] = ()) -> Array:
    """Classes drawn with the probabilities softmax(logits), key, [..., k] -> int32 [*shape, ...].

    Args:
      key: a random key; every row has draws of its own.
      logits: unnormalised log-probabilities over the last axis, floating; a class of -inf is never drawn.
      shape: leading axes of the result: (n,) draws n times for each row.

    Raises:
      TypeError: for something that is not a key, logits that are not floating, or a `shape` other than a tuple.
      ValueError: for a batch of keys.

    Differences: PyTorch's Categorical.sample has the same `sample_shape`.

    >>> categorical_sample(jax.random.key(0), jnp.array([[0.0, -jnp.inf], [-jnp.inf, 0.0]]), (3,)).tolist()
    [[0, 1], [0, 1], [0, 1]]
    """
    key, sizes = drawn("categorical_sample", key, shape)
    x = widened(logits_of("categorical_sample", "logits", logits))
    return jax.random.categorical(key, x, shape=(*sizes, *x.shape[:-1])).astype(jnp.int32)
