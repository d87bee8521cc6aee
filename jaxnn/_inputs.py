"""What the rooms check and derive from what they are given: counts, shapes, dtypes, a shard's key."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn._errors import describe, invalid, wrong_type

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
    """The key of this shard: under `shard_map`, folded with the index along every mesh axis over which `x` varies.

    But for that of members, whose keys are their own: they draw what they would draw alone.
    """
    manual = [axis for axis in jax.sharding.get_abstract_mesh().manual_axes if axis != MEMBERS]
    if not manual:
        return key
    varying = jax.typeof(x).manual_axis_type.varying
    for axis in manual:
        if not varying or axis in varying:  # without check_vma nothing is known to vary: then fold every axis
            key = jax.random.fold_in(key, jax.lax.axis_index(axis))
    return key


def scan(f: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any, **how: Any) -> tuple[Any, Any]:
    """`lax.scan` whose carry may begin with arrays of another sharding than those that it becomes.

    The type of a carry must stay. Under `shard_map` it says over which mesh axes the carry varies, and under a mesh of
    Explicit axes how it is sharded: zeros and replicated arrays are neither, until a step adds what is. They are cast
    before the first step.

    >>> scan(lambda total, x: (total + x, total), jnp.zeros(()), jnp.arange(3.0))[0].item()
    3.0
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not (mesh.manual_axes or mesh.explicit_axes):
        return jax.lax.scan(f, carry, xs, **how)

    def step(carry: Any, x: Any) -> tuple[Any, Any]:
        new, y = f(carry, x)
        return jax.tree.map(_placed_as, new, jax.tree.map(jax.typeof, carry)), y

    def made(carry: Any) -> Any:  # by one step; stacked, as xs may have none
        return jax.lax.scan(lambda _, x: (None, f(carry, x)[0]), None, xs, **how)[1]

    for _ in range(1 + len(mesh.manual_axes)):  # each round but the last adds an axis to some leaf
        before = jax.tree.map(jax.typeof, carry)
        carry = jax.tree.map(partial(_placed_as, drop=1), carry, jax.eval_shape(made, carry))
        if jax.tree.map(jax.typeof, carry) == before:
            break
    return jax.lax.scan(step, carry, xs, **how)


def _placed_as(x: Any, like: Any, drop: int = 0) -> Any:
    """`x` with the sharding of `like`, but for its first `drop` axes, and varying where `like` does, too."""
    mesh, own = jax.sharding.get_abstract_mesh(), jax.typeof(x)
    spec = jax.sharding.PartitionSpec(*like.sharding.spec[drop:])
    if mesh.explicit_axes and own.sharding.spec != spec:
        x = jax.sharding.reshard(x, spec)
    if not mesh.manual_axes:
        return x
    missing = like.manual_axis_type.varying - own.manual_axis_type.varying
    return jax.lax.pcast(x, tuple(missing), to="varying") if missing else x


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
