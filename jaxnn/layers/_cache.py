"""The keys and values of the steps so far, for attention over a sequence that is passed in pieces."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxnn import _checks as check
from jaxnn._errors import invalid
from jaxnn._mesh import gathered, placed_as
from jaxnn.types import Arrays, State


class Cache(NamedTuple):
    """State of an attention with a cache: k and v [n, length, heads, size], and position, the steps so far, [] or [n].

    Attributes:
      where: name of the layer, for errors.
      length: number of steps that fit.
    """

    where: str
    length: int

    @classmethod
    def checked(cls, where: str, length: int, causal: bool) -> Cache:
        """A cache for so many steps; raises for a length that is not valid, or without `causal`."""
        length = check.count(where, "cache", length)
        if not causal:
            fix = "A step cannot see those that are still to come."
            raise invalid(where, "causal=True with a cache", told="False", fix=fix)
        return cls(where, length)

    def empty(self, x: Arrays, heads: int, size: int) -> dict[str, Any]:
        """The state before the first piece."""
        shape = (x.shape[0], self.length, heads, size)
        k, v = (jnp.zeros(shape, x.dtype) for _ in range(2))  # two arrays, which can be donated
        return {"k": k, "v": v, "position": jnp.zeros((), jnp.int32)}

    def check(self, state: State, x: Array, given: dict[str, Array]) -> None:
        """Raises unless x is a valid next piece."""
        if "context" in given:
            raise invalid(self.where, "no context with a cache", told=", ".join(given))
        n, length, *_ = state["k"].shape
        if x.shape[0] != n or x.shape[1] > length:
            fix = "Give it in pieces, or make a longer cache: cache=."
            if x.shape[0] != n:
                fix = "init makes the cache for the examples of its x: for another number call init again."
            raise invalid(self.where, f"x of shape [{n}, t, d] with t <= {length}, as the cache was made for", x, fix)

    def extend(self, state: State, k: Array, v: Array, steps: Arrays) -> tuple[Array, Array, dict[str, Any]]:
        """All keys and values so far, and the state that holds them.

        The next piece overwrites the steps of this one beyond `steps`, [] or [n].
        """
        first = state["position"]
        keys, values = _written(state["k"], k, first), _written(state["v"], v, first)
        return keys, values, {**state, "k": keys, "v": values, "position": first + jnp.asarray(steps, jnp.int32)}

    def within(self, y: Array, first: Arrays) -> Array:
        """y [n, t, features] with NaN for the steps beyond the end; a traced position cannot raise an error."""
        return jnp.where((steps_from(first, y.shape[1]) < self.length)[..., None], y, jnp.nan)


def steps_from(first: Arrays, t: int) -> Array:
    """Positions of t steps after `first` steps, [] or [n] -> [1, t] or [n, t]."""
    return jnp.asarray(first, jnp.int32).reshape(-1, 1) + jnp.arange(t, dtype=jnp.int32)[None]


def _written(cache: Array, piece: Array, first: Array) -> Array:
    """The cache with a piece written at `first`, [n, length, ...], [n, t, ...] -> [n, length, ...]."""
    piece = gathered(piece.astype(cache.dtype), axis=1)
    cache = placed_as(jnp.asarray(cache), piece)
    if jnp.ndim(first):
        return jax.vmap(partial(_inserted, axis=0))(cache, piece, first)
    return _inserted(cache, piece, first, axis=1)


def _inserted(cache: Array, piece: Array, first: Array, axis: int) -> Array:
    """The cache with a piece from step `first` on; steps that do not fit are discarded."""
    t = piece.shape[axis]
    start = jnp.clip(first, 0, cache.shape[axis] - t)
    lost = first - start  # number of steps that do not fit; the others are written after the existing ones
    steps = jnp.arange(t, dtype=jnp.int32).reshape(t, *(1,) * (cache.ndim - axis - 1))
    steps = lax.expand_dims(steps, range(axis))
    there = lax.dynamic_slice_in_dim(cache, start, t, axis=axis)
    return lax.dynamic_update_slice_in_dim(
        cache, jnp.where(steps < lost, there, jnp.roll(piece, lost, axis=axis)), start, axis=axis
    )
