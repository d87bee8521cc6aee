"""The largest elements of rows, by bins."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

BIN = 32  # elements; 32 is the fastest on a CPU
FEW = 4  # bins per result below which the maxima of bins save nothing


def top(x: Array, k: int) -> tuple[Array, Array]:
    """Largest k elements of each row and their places, [q, n] -> [q, k], [q, k]; the first of equal ones; no NaN.

    The k largest elements are in the k bins of largest maxima: of another bin, k bins have a larger element, or an
    equal one before it. On a CPU this takes a fifth of the time of `lax.top_k` for 100 rows of 1e6.
    """
    q, n = x.shape
    bins = n // BIN
    if bins < FEW * k:
        return lax.top_k(x, k)
    binned, rest = x[:, : bins * BIN].reshape(q, bins, BIN), x[:, bins * BIN :]
    chosen = jnp.sort(lax.top_k(binned.max(axis=2), k)[1], axis=1)[..., None]
    within = jnp.take_along_axis(binned, chosen, axis=1).reshape(q, k * BIN)
    places = (chosen * BIN + jnp.arange(BIN, dtype=jnp.int32)[None, None]).reshape(q, k * BIN)
    behind = jnp.broadcast_to(jnp.arange(bins * BIN, n, dtype=jnp.int32)[None], rest.shape)
    values, at = lax.top_k(jnp.concatenate([within, rest], axis=1), k)
    return values, jnp.take_along_axis(jnp.concatenate([places, behind], axis=1), at, axis=1)
