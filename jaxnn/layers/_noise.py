"""Layers with random behaviour in training: dropout in several forms, and Gaussian noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._dtypes import param_dtype
from jaxnn._errors import invalid
from jaxnn._inputs import known, local_key
from jaxnn._layer import Layer, layer
from jaxnn._padded import Padded, padded_pair
from jaxnn.types import Arrays, Key, Params, State

DROPPING = "It is the probability of dropping."


@recorded
def dropout(rate: float | jax.Array, *, name: str | None = None) -> Layer:
    """Inverted dropout, [...] -> [...]: in training each element is 0 with probability `rate`, else x / (1 - rate).

    The identity with `train=False`, and if `rate` is the number 0; no random numbers are drawn then, and no key is
    needed. Under `shard_map` every shard draws its own mask.

    Args:
      rate: probability of dropping, in [0, 1); may be traced.
      name: pins the name.

    Raises:
      ValueError: if `rate` is out of range, or training has no key.
      TypeError: if x is not floating.

    Differences: as in PyTorch, Keras and flax; the argument of stax's Dropout is the rate of keeping.

    Reference: Srivastava et al., Dropout: A Simple Way to Prevent Neural Networks from Overfitting, 2014.

    >>> y, _ = dropout(0.5).apply({}, {}, jnp.ones(1000), key=jax.random.key(0), train=True)
    >>> sorted(set(y.tolist()))
    [0.0, 2.0]
    """
    return _dropping("dropout", rate, name, lambda shape: shape)


@recorded
def spatial_dropout(rate: float | jax.Array, *, name: str | None = None) -> Layer:
    """Dropout of whole channels, [n, *space, c] -> [n, *space, c], because neighbouring pixels are correlated.

    A channel of an example is 0 everywhere with probability `rate`, else x / (1 - rate); otherwise as `dropout`.

    Args:
      rate: probability of dropping, in [0, 1); may be traced.
      name: pins the name.

    Raises:
      ValueError: if `rate` is out of range, or training has no key.
      TypeError: if x is not floating.

    Differences: PyTorch's Dropout2d, for 1 to 3 space axes.

    Reference: Tompson et al., Efficient Object Localization Using Convolutional Networks, 2014.

    >>> y, _ = spatial_dropout(0.5).apply({}, {}, jnp.ones((1, 9, 8)), key=jax.random.key(0), train=True)
    >>> sorted({tuple(channel) for channel in y[0].T.tolist()}) == [(0.0,) * 9, (2.0,) * 9]
    True
    """
    return _dropping("spatial_dropout", rate, name, lambda shape: (shape[0], *(1,) * (len(shape) - 2), shape[-1]), 2)


@recorded
def stochastic_depth(rate: float | jax.Array, *, name: str | None = None) -> Layer:
    """Dropout of whole examples, [n, ...] -> [n, ...]; at the end of a residual branch, an example skips the branch.

    An example is 0 with probability `rate`, else x / (1 - rate); otherwise as `dropout`.

    Args:
      rate: probability of dropping, in [0, 1); may be traced. It usually grows with depth.
      name: pins the name.

    Raises:
      ValueError: if `rate` is out of range, or training has no key.
      TypeError: if x is not floating.

    Differences: the paper does not rescale in training but in evaluation.

    Reference: Huang et al., Deep Networks with Stochastic Depth, 2016.

    >>> y, _ = stochastic_depth(0.5).apply({}, {}, jnp.ones((9, 3)), key=jax.random.key(0), train=True)
    >>> sorted({tuple(row) for row in y.tolist()})
    [(0.0, 0.0, 0.0), (2.0, 2.0, 2.0)]
    """
    return _dropping("stochastic_depth", rate, name, lambda shape: (shape[0], *(1,) * (len(shape) - 1)), 1)


@recorded
def alpha_dropout(rate: float | jax.Array, *, name: str | None = None) -> Layer:
    """Dropout that preserves mean 0 and variance 1, [...] -> [...], for networks of `selu`.

        y = a (x if kept, else -λα) + b,    a = (q + (λα)² q (1 - q))^(-1/2),    b = a (1 - q) λα,    q = 1 - rate

    Dropped elements get the lowest value of selu. The identity with `train=False`, and if `rate` is the number 0.

    Args:
      rate: probability of dropping, in [0, 1); may be traced.
      name: pins the name.

    Raises:
      ValueError: if `rate` is out of range, or training has no key.
      TypeError: if x is not floating.

    Reference: Klambauer et al., Self-Normalizing Neural Networks, 2017.

    >>> y, _ = alpha_dropout(0.5).apply({}, {}, jnp.zeros(1000), key=jax.random.key(0), train=True)
    >>> len(set(y.tolist()))
    2
    """
    where = name or "alpha_dropout"
    check.scalar(where, "rate", rate, below=1.0, fix=DROPPING)
    low = -1.7580993408473766  # -λα

    def noisy(x: jax.Array, key: Key) -> jax.Array:
        wide = param_dtype(x)
        keep = (1 - jnp.asarray(rate, jnp.float32)).astype(wide)
        a = jax.lax.rsqrt(keep + low**2 * keep * (1 - keep))
        kept = jnp.where(_kept(key, x, x.shape, rate), x.astype(wide), jnp.asarray(low, wide))
        return (a * kept - a * (1 - keep) * low).astype(x.dtype)

    return _training("alpha_dropout", where, name, noisy, rate)


@recorded
def gaussian_noise(stddev: float | jax.Array, *, name: str | None = None) -> Layer:
    """Adds noise from N(0, stddev²) in training, [...] -> [...]; the identity with `train=False`.

    Args:
      stddev: standard deviation >= 0; may be traced.
      name: pins the name.

    Raises:
      ValueError: if `stddev` is out of range, or training has no key.
      TypeError: if x is not floating.

    >>> y, _ = gaussian_noise(0.1).apply({}, {}, jnp.zeros(1000), key=jax.random.key(0), train=True)
    >>> round(float(y.std()), 2)
    0.1
    """
    where = name or "gaussian_noise"
    check.scalar(where, "stddev", stddev)

    def noisy(x: jax.Array, key: Key) -> jax.Array:
        wide = param_dtype(x)
        noise = jax.random.normal(local_key(key, x), x.shape, jnp.float32).astype(wide)
        return (x.astype(wide) + jnp.asarray(stddev, wide) * noise).astype(x.dtype)

    return _training("gaussian_noise", where, name, noisy, stddev)


def _kept(key: Key, x: jax.Array, shape: tuple[int, ...], rate: float | jax.Array) -> jax.Array:
    return jax.random.uniform(local_key(key, x), shape, jnp.float32) < 1 - jnp.asarray(rate, jnp.float32)


def _dropping(kind: str, rate: float | jax.Array, name: str | None, mask: Callable[..., Any], least: int = 0) -> Layer:
    """Inverted dropout with a mask of shape `mask(x.shape)`."""
    where = name or kind
    check.scalar(where, "rate", rate, below=1.0, fix=DROPPING)

    def noisy(x: jax.Array, key: Key) -> jax.Array:
        wide = param_dtype(x)  # 0.9 rounded to bfloat16 would shift the mean by 0.2 %
        keep = (1 - jnp.asarray(rate, jnp.float32)).astype(wide)
        kept = _kept(key, x, mask(x.shape), rate)
        return jnp.where(kept, x.astype(wide) / keep, jnp.zeros((), wide)).astype(x.dtype)

    return _training(kind, where, name, noisy, rate, least)


def _training(kind: str, where: str, name: str | None, noisy: Callable[..., Any], amount: Any, least: int = 0) -> Layer:
    """A layer that computes `noisy(x, key)` in training and the identity otherwise, or always if `amount` is 0."""
    silent = known(amount) and amount == 0
    shape = {0: "[...]", 1: "[n, ...]", 2: "[n, *space, c]"}[least]

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        x = padded_pair(x)
        sequence = x if isinstance(x, Padded) else None
        x = check.array(where, "x", x if sequence is None else sequence.x, least=least, shape=shape)
        if not train or silent:
            return (x if sequence is None else Padded(x, sequence.lengths)), state
        if key is None:
            raise invalid(where, "a key when train=True", told="None", fix="Pass key= to apply.")
        if sequence is None:
            return noisy(x, key), state
        x = sequence.zeroed
        # with time first, the random numbers of a step do not depend on the number of padding steps after it
        y = noisy(x, key) if least else jnp.moveaxis(noisy(jnp.moveaxis(x, 1, 0), key), 0, 1)
        return Padded(y, sequence.lengths), state

    return layer(lambda key, x: ({}, {}), apply, kind, name=name, padded="lengths")
