"""Classification of arguments (integers, keys, arrays, text, lists of batches), and conversion hints for errors."""

import operator
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import get_opaque_trace_state

from jaxnn._dtypes import dtype_of
from jaxnn._keys import quick
from jaxnn._mesh import varying
from jaxnn.types import Data

MEMBERS = "jaxnn_members"  # the mesh axis along which whole runs lie, each with a key of its own


def whole(value: Any) -> int | None:
    """A Python, NumPy or JAX integer as an int; None for anything else, for a bool and for a traced value.

    >>> whole(np.int64(3)), whole(3.0), whole(True)
    (3, None, None)
    """
    if isinstance(value, bool | np.bool_ | jax.core.Tracer):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def known(x: Any) -> bool:
    """True if the value of `x` is available without a device: a Python or NumPy number, not a JAX array or a tracer."""
    return isinstance(x, int | float | np.generic) or (isinstance(x, np.ndarray) and x.ndim == 0)


def is_typed_key(key: Any) -> bool:
    """True for a typed key, or a batch of typed keys, of `jax.random.key`."""
    return jnp.issubdtype(dtype_of(key), jax.dtypes.prng_key)


with jax.core.eval_context():
    _EAGER = get_opaque_trace_state()


def under_trace() -> bool:
    """True inside a traced function, even if none of its arguments is traced."""
    return get_opaque_trace_state() != _EAGER


def local_key(key: jax.Array, x: jax.Array) -> jax.Array:
    """Key of a random draw on one shard: under `shard_map`, folded with the index of every axis over which `x` varies.

    The axis of members is not folded in: each member has its own key and draws the same numbers as alone.
    """
    manual = [axis for axis in jax.sharding.get_abstract_mesh().manual_axes if axis != MEMBERS]
    if not manual:
        return quick(key)
    along = varying(jax.typeof(x))
    for axis in manual:
        if not along or axis in along:  # without check_vma JAX reports no varying axes: then fold every axis
            key = jax.random.fold_in(key, jax.lax.axis_index(axis))
    return quick(key)


def is_array(x: Any) -> bool:
    """True if `x` has the shape and the dtype of a numeric array that JAX accepts."""
    return hasattr(x, "shape") and isinstance(getattr(x, "dtype", None), np.dtype) and not is_text(x)


BATCHES_FIX = "For a list of batches call nn.drive(trainer, key, lambda epoch: batches)."


def is_batches(data: Data) -> bool:
    """True for a list of batches: tuples, lists or dicts whose arrays differ in axis 0 only."""
    if type(data) is not list or len(data) < 2 or not all(isinstance(b, tuple | list | dict) for b in data):
        return False
    kinds = {
        (jax.tree.structure(b), *((a.dtype, a.shape[1:]) for a in jax.tree.leaves(b)))
        for b in data[:100]
        if all(hasattr(a, "dtype") and getattr(a, "shape", ()) for a in jax.tree.leaves(b))
    }
    return len(kinds) == 1


def has_examples(leaf: Any) -> bool:
    """True for a numeric array with at least one axis."""
    return bool(getattr(leaf, "shape", ())) and not is_text(leaf)


def is_text(array: Any) -> bool:
    """True for arrays of strings, objects, dates or records, which JAX does not support."""
    dtype = getattr(array, "dtype", None)
    if dtype is None or (type(array).__module__.startswith("pandas") and not isinstance(dtype, np.dtype)):
        dtype = np.asarray(array).dtype  # a frame has one for each column
    kind = getattr(dtype, "kind", "f")
    return kind in "OSUTMm" or (kind == "V" and not jnp.issubdtype(dtype, jnp.number))  # records; bfloat16 is V, too


def to_numbers(x: Any) -> str:
    """Hint for errors: the conversion of `x` to a numeric array, or an empty string."""
    if is_typed_key(x):
        return "The order is init(key, x), and apply(params, state, x, key=key)."
    if isinstance(x, str) or getattr(getattr(x, "dtype", None), "kind", "f") in "SUT":
        return "Labels that are strings become integers by nn.data.encode."
    module = type(x).__module__.partition(".")[0]
    if module in ("pandas", "polars"):
        return "Convert it: x.to_numpy(dtype=np.float32)."
    if module in ("torch", "tensorflow"):
        return "Convert it: x.numpy()."
    if is_text(x) if hasattr(x, "dtype") else isinstance(x, bool | int | float | complex | list):
        return "Convert it: np.asarray(x, np.float32)."
    return ""


def to_arrays(data: Data) -> str:
    """Hint for errors: the argument to pass in place of data that are not arrays."""
    if isinstance(data, tuple) and {"train", "test"} <= set(getattr(data, "_fields", ())):
        return "Pass a part of it, such as data.train."
    if isinstance(data, bool | int | float):
        return ""
    if isinstance(data, str):
        return "A data set is loaded by its name: nn.data.load('digits').train."
    if callable(data) or isinstance(data, Iterator):
        return "Batches from outside go through nn.drive(trainer, key, lambda epoch: batches)."
    if is_batches(data):
        return BATCHES_FIX
    odd = next((leaf for leaf in jax.tree.leaves(data) if not has_examples(leaf)), None)
    return "Convert lists: np.asarray(x)." if isinstance(odd, bool | int | float | np.generic) else to_numbers(odd)
