"""Constant arrays and copies, with as few compilations as possible."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxnn._inputs import known, under_trace
from jaxnn._platform import local_cpu
from jaxnn.types import Arrays

LARGEST = 1 << 22  # elements; the copy of a larger array takes as long as a compilation, 25 ms


def full(shape: Sequence[int], value: ArrayLike, dtype: DTypeLike) -> Array:
    """`jnp.full`; outside of traced functions, a CPU compiles nothing for it.

    JAX compiles a program for each shape and dtype, which took a third of the time to a model's first params.
    """
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    if under_trace() or not known(value) or not local_cpu() or prod(shape) > LARGEST:
        return jnp.full(shape, value, dtype)
    return jax.device_put(np.full(shape, value, dtype))


def full_like(x: Array, value: ArrayLike, dtype: DTypeLike) -> Array:
    """`jnp.full_like`, with the shape and the sharding of `x`; compiles as little as `full`."""
    if isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer) and not x.committed:
        return full(x.shape, value, dtype)
    return jnp.full_like(x, value, dtype=dtype)


def copied(tree: Arrays) -> Arrays:
    """Copies of the arrays of a tree, by one program where they are on one device."""
    concrete = not under_trace() and all(isinstance(x, jax.Array) and not x.committed for x in jax.tree.leaves(tree))
    return _copied(tree) if concrete else jax.tree.map(jnp.copy, tree)


@jax.jit
def _copied(tree: Arrays) -> Arrays:
    return jax.tree.map(jnp.copy, tree)
