"""Sequences of different lengths in one array."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array


class Padded(NamedTuple):
    """Sequences of different lengths in one array, with how many first steps of each count.

    Attributes:
      x: [n, t, ...]; the steps after a sequence's length are padding and may hold anything, NaN included.
      lengths: integers [n], from 0 to t.

    >>> import jaxnn as nn
    >>> s = nn.Padded(jnp.ones((2, 3, 4)), jnp.array([3, 1]))
    >>> s.mask.tolist()
    [[True, True, True], [True, False, False]]
    """

    x: Any
    lengths: Any

    @property
    def mask(self) -> Array:
        """Which steps count, booleans [n, t]."""
        return jnp.arange(self.x.shape[1], dtype=jnp.int32)[None, :] < jnp.asarray(self.lengths, jnp.int32)[:, None]

    @property
    def zeroed(self) -> Array:
        """x with zeros after the end."""
        mask = self.mask.reshape(*self.x.shape[:2], *(1,) * (self.x.ndim - 2))
        return jnp.where(mask, self.x, jnp.zeros((), self.x.dtype))
