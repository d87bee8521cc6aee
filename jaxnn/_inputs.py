"""What the rooms check and derive from what they are given: counts, shapes, dtypes, a shard's key."""

import operator
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import get_opaque_trace_state

from jaxnn._errors import describe, invalid, wrong_type
from jaxnn._placement import varying
from jaxnn._random import quick

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


def check_count(where: str, argument: str, value: Any, least: int = 1) -> int:
    """The value as an int; raises unless it is a whole number >= `least`."""
    n = whole(value)
    if n is None or n < least:
        expected = f"{argument} to be a whole number >= {least}"
        if isinstance(value, jax.core.Tracer):
            fix = "It is fixed while tracing: pass a Python int, under jit by static_argnames."
            raise invalid(where, expected, told=f"a traced {describe(value)}", fix=fix)
        raise invalid(where, expected, value)
    return n


IMPLEMENTATIONS = {2: "threefry2x32", 4: "rbg"}  # of raw key data, by their width


def typed_key(where: str, key: Any, order: str = "") -> jax.Array:
    """A typed key, or a batch of keys, from typed ones or from raw key data; raises for anything else."""
    check_key(where, key, order)
    return key if _is_typed(key) else jax.random.wrap_key_data(key, impl=IMPLEMENTATIONS[key.shape[-1]])


def check_key(where: str, key: Any, order: str = "", *, one: bool = False) -> None:
    """Raises unless `key` is a key, typed or raw, or a batch of keys.

    Args:
      order: the call with its arguments in order, for errors: they may have been exchanged.
      one: refuse a batch.
    """
    shape = getattr(key, "shape", None) or ()
    if not _is_typed(key):
        if getattr(key, "dtype", None) != jnp.uint32 or not shape or shape[-1] not in IMPLEMENTATIONS:
            seed = whole(key)
            fix = f"The order is {order}." if order else ""
            fix = fix if seed is None else f"Pass jax.random.key({seed})."
            raise wrong_type(where, "a key, as jax.random.key(0) makes it", key, fix)
        shape = shape[:-1]
    if one and shape:
        raise invalid(where, "one key", key, "For a batch of keys use jax.vmap.")


def _is_typed(key: Any) -> bool:
    return jnp.issubdtype(kind_of(key), jax.dtypes.prng_key)


def kind_of(x: Any) -> Any:
    """The dtype of an array or the type of a Python number, for `issubdtype`; object for other libraries' dtypes."""
    dtype = getattr(x, "dtype", type(x))
    known = isinstance(dtype, np.dtype | type) or isinstance(x, jax.Array | jax.ShapeDtypeStruct)
    return dtype if known else np.dtype(object)


def check_concrete(where: str, tree: Any, fix: str) -> None:
    """Raises under a trace, whether or not something traced is in `tree`."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree)):
        raise wrong_type(where, "concrete arrays", told="traced ones", fix=fix)
    if under_trace():
        raise wrong_type(where, "a call outside of jit, vmap, grad and scan", told="one inside", fix=fix)


with jax.core.eval_context():
    _EAGER = get_opaque_trace_state()


def under_trace() -> bool:
    """Whether a function is being traced, whatever its arguments are."""
    return get_opaque_trace_state() != _EAGER


def local_key(key: jax.Array, x: jax.Array) -> jax.Array:
    """The key of one draw of a shard: under `shard_map`, folded with its index along every axis over which `x` varies.

    The axis of members is left out: their keys are their own, and they draw what they would draw alone.
    """
    manual = [axis for axis in jax.sharding.get_abstract_mesh().manual_axes if axis != MEMBERS]
    if not manual:
        return quick(key)
    along = varying(jax.typeof(x))
    for axis in manual:
        if not along or axis in along:  # without check_vma nothing is known to vary: then fold every axis
            key = jax.random.fold_in(key, jax.lax.axis_index(axis))
    return quick(key)


def floating(where: str, x: Any, *, rank: int | None = None, least: int = 0, shape: str = "[...]") -> Any:
    """`x` as an array or shape of a floating dtype and the rank that a layer needs, or the error that says so."""
    if not is_array(x):
        raise wrong_type(where, f"x to be an array of shape {shape}", x, to_numbers(x))
    if not jnp.issubdtype(x.dtype, jnp.floating):
        fix = "Convert it first, for example x.astype(jnp.float32) / 255 for images of bytes."
        raise wrong_type(where, f"x of shape {shape} and a floating dtype", x, fix)
    if len(x.shape) < least or (rank is not None and len(x.shape) != rank):
        raise invalid(where, f"x of shape {shape}", x)
    return x if isinstance(x, jax.ShapeDtypeStruct) else jnp.asarray(x)


def is_array(x: Any) -> bool:
    """Whether `x` has the shape and the dtype of an array of numbers that JAX takes."""
    return hasattr(x, "shape") and isinstance(getattr(x, "dtype", None), np.dtype) and not is_text(x)


def check_examples(where: str, argument: str, data: Any, least: int = 1) -> int:
    """How many examples there are, on axis 0 of all arrays; raises where that is not so."""
    leaves: list[Any] = [data] if isinstance(data, Iterator) else jax.tree.leaves(data)
    if not leaves or not all(map(_has_examples, leaves)):
        expected = f"{argument} to be arrays with examples on axis 0"
        raise wrong_type(where, expected, data, to_arrays(data))
    lengths = {a.shape[0] for a in leaves}
    if len(lengths) > 1 or min(lengths) < least:
        some = ", and at least one" if least else ""
        fix = BATCHES_FIX if is_batches(data) else ""
        raise invalid(where, f"{argument} to have as many examples in every array{some}", data, fix)
    return lengths.pop()


BATCHES_FIX = "For a list of batches call nn.drive(trainer, key, lambda epoch: batches)."


def is_batches(data: Any) -> bool:
    """Whether `data` looks like a list of batches: tuples, lists or dicts of the same arrays but for axis 0."""
    if type(data) is not list or len(data) < 2 or not all(isinstance(b, tuple | list | dict) for b in data):
        return False
    kinds = {
        (jax.tree.structure(b), *((a.dtype, a.shape[1:]) for a in jax.tree.leaves(b)))
        for b in data[:100]
        if all(hasattr(a, "dtype") and getattr(a, "shape", ()) for a in jax.tree.leaves(b))
    }
    return len(kinds) == 1


def _has_examples(leaf: Any) -> bool:
    return bool(getattr(leaf, "shape", ())) and not is_text(leaf)


def is_text(array: Any) -> bool:
    """Whether an array holds strings, objects, dates or records, of which JAX knows nothing."""
    dtype = getattr(array, "dtype", None)
    if dtype is None or (type(array).__module__.startswith("pandas") and not isinstance(dtype, np.dtype)):
        dtype = np.asarray(array).dtype  # a frame has one for each column
    kind = getattr(dtype, "kind", "f")
    return kind in "OSUTMm" or (kind == "V" and not jnp.issubdtype(dtype, jnp.number))  # records; bfloat16 is V, too


def to_numbers(x: Any) -> str:
    """How to make an array of numbers of `x`, for errors; nothing where that is not known."""
    if _is_typed(x):
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


def to_arrays(data: Any) -> str:
    """What to pass in place of data that are no arrays, for errors."""
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
    odd = next((leaf for leaf in jax.tree.leaves(data) if not _has_examples(leaf)), None)
    return "Convert lists: np.asarray(x)." if isinstance(odd, bool | int | float | np.generic) else to_numbers(odd)


def param_dtype(x: Any) -> Any:
    """The dtype in which a layer's params are made for an input: that of `x`, but float32 at least."""
    return jnp.float32 if jnp.finfo(x.dtype).bits < 32 else x.dtype
