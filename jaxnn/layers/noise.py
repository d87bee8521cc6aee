"""Layers that draw at random while training."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnn._errors import invalid
from jaxnn._inputs import floating, local_key, param_dtype
from jaxnn.layer import Layer, layer
from jaxnn.layers._checks import check_number


def dropout(rate: float | jax.Array, *, name: str | None = None) -> Layer:
    """Inverted dropout, [...] -> [...]: training, each element is 0 with probability `rate`, else x / (1 - rate).

    The identity with `train=False`. Under `shard_map` every shard draws a mask of its own.

    Args:
      rate: probability of dropping, in [0, 1); may be traced. As in PyTorch, Keras and flax; stax has the keep rate.

    Raises ValueError when training without a key, TypeError for an x that is not floating.

    Srivastava et al., Dropout: A Simple Way to Prevent Neural Networks from Overfitting, 2014.

    >>> y, _ = dropout(0.5).apply({}, {}, jnp.ones(1000), key=jax.random.key(0), train=True)
    >>> sorted(set(y.tolist()))
    [0.0, 2.0]
    """
    where = name or "dropout"
    check_number(where, "rate in [0, 1)", rate, lambda v: 0 <= v < 1, "It is the probability of dropping.")

    def apply(params: dict, state: dict, x: Any, *, key: jax.Array | None, train: bool) -> tuple[Any, dict]:
        x = floating(where, x)
        if not train:
            return x, state
        if key is None:
            raise invalid(where, "a key when train=True", "None", "Pass key= to apply.")
        keep = 1 - jnp.asarray(rate, jnp.float32)
        kept = jax.random.uniform(local_key(key, x), x.shape, jnp.float32) < keep
        wide = param_dtype(x)  # the nearest bfloat16 to 0.9 would shift the mean by 0.2 %
        return jnp.where(kept, x.astype(wide) / keep.astype(wide), jnp.zeros((), wide)).astype(x.dtype), state

    return layer(lambda key, x: ({}, {}), apply, "dropout", name=name)
