"""Dtypes: kinds of values, and the dtypes of sums, of params, and of the arrays that layers pass to each other."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from jaxnn.types import Arrays

KINDS: dict[str, tuple[Any, ...]] = {
    "boolean": (jnp.bool,),
    "integer": (jnp.integer,),
    "integer or boolean": (jnp.integer, jnp.bool),
    "floating": (jnp.floating,),
    "floating or integer": (jnp.floating, jnp.integer),
    "real": (jnp.floating, jnp.integer, jnp.bool),
}

# The dtype of floating arrays between the layers inside a `cast`; None outside. It is a key of JAX's caches of traces.
PASSED = jax.make_user_context(None)


def dtype_of(x: Arrays) -> Any:
    """The dtype of an array or the type of a Python number, for `issubdtype`; object for other libraries' dtypes."""
    dtype = getattr(x, "dtype", type(x))
    known = isinstance(dtype, np.dtype | type) or isinstance(x, jax.Array | jax.ShapeDtypeStruct)
    return dtype if known else np.dtype(object)


def is_kind(x: Arrays, kind: str) -> bool:
    """True if an array, a shape with a dtype or a Python number is of this kind, one of `KINDS`.

    >>> is_kind(np.zeros(2), "floating"), is_kind(True, "integer"), is_kind([1.0], "real")
    (True, False, False)
    """
    dtype = dtype_of(x)
    return any(jnp.issubdtype(dtype, k) for k in KINDS[kind])


def wide_dtype(dtype: DTypeLike) -> np.dtype:
    """The dtype arithmetic runs in: float32 for anything narrower, else `dtype` itself (float64 and complex stay).

    >>> wide_dtype(jnp.bfloat16), wide_dtype(jnp.complex64)
    (dtype('float32'), dtype('complex64'))
    """
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    return dtype if jnp.finfo(dtype).bits >= 32 else np.dtype(np.float32)


def widened(x: Array) -> Array:
    """`x` in at least float32, [...] -> [...].

    >>> widened(jnp.ones(2, jnp.bfloat16)).dtype
    dtype('float32')
    """
    return x if jnp.finfo(x.dtype).bits >= 32 else x.astype(jnp.float32)


def param_dtype(x: Arrays) -> Any:
    """The dtype in which a layer's params are made for an input: that of `x`, but at least float32."""
    return jnp.float32 if jnp.finfo(x.dtype).bits < 32 else x.dtype


def floating_to(dtype: DTypeLike, tree: Arrays) -> Arrays:
    """The tree with its floating arrays in a dtype; other leaves are unchanged.

    >>> floating_to(jnp.bfloat16, (jnp.ones(2), 3))[0].dtype
    dtype(bfloat16)
    """

    def to(v: Any) -> Any:
        return v.astype(dtype) if hasattr(v, "astype") and is_kind(v, "floating") else v

    return jax.tree.map(to, tree)


def passed(tree: Arrays) -> Arrays:
    """Input or output of a layer, in the dtype that an enclosing `cast` sets; unchanged outside of a `cast`."""
    return tree if PASSED.value is None else floating_to(PASSED.value, tree)
