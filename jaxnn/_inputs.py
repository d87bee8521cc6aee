"""What the rooms check and derive from what they are given: counts, shapes, dtypes, a shard's key."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnn._errors import describe, invalid, wrong_type
from jaxnn._placement import varying
from jaxnn._random import quick

MEMBERS = "jaxnn_members"  # the mesh axis along which whole runs lie, each with a key of its own


def check_count(where: str, argument: str, value: Any, least: int = 1) -> None:
    """Raises unless `value` is a whole number >= `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise invalid(where, f"{argument} to be a whole number >= {least}", describe(value))


def check_concrete(where: str, tree: Any, fix: str) -> None:
    """Raises under a trace."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree)):
        raise wrong_type(where, "concrete arrays", "traced ones", fix)


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
    if not hasattr(x, "shape") or not hasattr(x, "dtype"):
        raise wrong_type(where, f"x to be an array of shape {shape}", x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        fix = "Convert it first, for example x.astype(jnp.float32) / 255 for images of bytes."
        raise wrong_type(where, f"x of shape {shape} and a floating dtype", x, fix)
    if len(x.shape) < least or (rank is not None and len(x.shape) != rank):
        raise invalid(where, f"x of shape {shape}", x)
    return x if isinstance(x, jax.ShapeDtypeStruct) else jnp.asarray(x)


def check_examples(where: str, argument: str, data: Any, least: int = 1) -> int:
    """How many examples there are, on axis 0 of all arrays; raises where that is not so."""
    leaves = jax.tree.leaves(data)
    if not leaves or any(not hasattr(a, "shape") or not a.shape for a in leaves):
        raise wrong_type(where, f"{argument} to be arrays with examples on axis 0", data)
    lengths = {a.shape[0] for a in leaves}
    if len(lengths) > 1 or min(lengths) < least:
        some = ", and at least one" if least else ""
        raise invalid(where, f"{argument} to have as many examples in every array{some}", data)
    return lengths.pop()


def param_dtype(x: Any) -> Any:
    """The dtype in which a layer's params are made for an input: that of `x`, but float32 at least."""
    return jnp.float32 if jnp.finfo(x.dtype).bits < 32 else x.dtype
