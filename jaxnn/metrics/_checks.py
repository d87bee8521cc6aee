"""What the metrics do to what they are given: dtypes and shapes, class numbers, and weights and mask made one."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._means import Mean, counted


def whole(name: str, what: str, x: ArrayLike, fix: str = "") -> Array:
    """`x` as an array of integers of at least 32 bits: class numbers, booleans being 0 and 1."""
    check.kind(name, what, x, "integer or boolean", fix)
    x = jnp.asarray(x)
    return x if x.dtype.itemsize >= 4 else x.astype(jnp.int32)


def class_numbers(name: str, what: str, x: ArrayLike, k: int, fix: str = "") -> tuple[Array, Array]:
    """`x` as int32, and where it is a class number, 0 to k - 1; elsewhere it is 0."""
    x = whole(name, what, x, fix)
    known = (x >= 0) & (x < k)
    return jnp.where(known, x, 0).astype(jnp.int32), known


def mask(name: str, where: ArrayLike | None, shape: tuple[int, ...], argument: str = "where") -> Array:
    """The examples that count, as booleans."""
    if where is None:
        return jnp.ones(shape, bool)
    check.kind(name, argument, where, "boolean", "It is a mask: False leaves an example out.")
    check.shape(name, argument, where, shape, ", one for each example")
    return jnp.asarray(where)


def times(name: str, shape: tuple[int, ...], weights: ArrayLike | None, where: ArrayLike | None) -> Array:
    """How often each example counts: float32 weights or, for exact sums, int32 ones; 0 where it is masked."""
    kept = mask(name, where, shape)
    if weights is None:
        return kept.astype(jnp.int32)
    check.kind(name, "weights", weights, "floating or integer", "A mask is passed as where=.")
    check.shape(name, "weights", weights, shape, ", one for each example")
    return jnp.where(kept, jnp.asarray(weights).astype(jnp.float32), 0)


def mean(x: Array, w: Array) -> Array:
    """Σ w x / Σ w in float32, NaN of nothing; what `x` is where w = 0 does not matter. Noted as a total and a count."""
    w = w.astype(jnp.float32)
    total, count = jnp.sum(jnp.where(w != 0, w * x.astype(jnp.float32), 0)), jnp.sum(w)
    return counted(total / count, Mean(total, count))
