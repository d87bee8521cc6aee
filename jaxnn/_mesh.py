"""Meshes: specs of arrays on Explicit axes, variation along Manual ones (`jax.shard_map`), arrays on several devices.

On an Auto mesh the compiler chooses the sharding; on the other two JAX requires the program to declare it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import PrecisionLike
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from jaxnn.types import Arrays


def scan(f: Callable[[Any, Any], tuple[Any, Any]], carry: Arrays, xs: Arrays, **how: Any) -> tuple[Any, Any]:
    """`lax.scan` whose initial carry may have another sharding than the carry that a step returns.

    JAX requires the type of a carry to stay the same. The type includes the mesh axes over which the carry varies under
    `shard_map`, and its sharding under a mesh of Explicit axes. Initial zeros and replicated arrays have neither until
    a step adds sharded data; they are cast before the first step.

    >>> scan(lambda total, x: (total + x, total), jnp.zeros(()), jnp.arange(3.0))[0].item()
    3.0
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not (mesh.manual_axes or mesh.explicit_axes):
        return jax.lax.scan(f, carry, xs, **how)

    def step(carry: Arrays, x: Arrays) -> tuple[Any, Any]:
        new, y = f(carry, x)
        return jax.tree.map(_carried_as, new, jax.tree.map(jax.typeof, carry)), y

    def made(carry: Arrays) -> Arrays:  # carry after one step, stacked, because xs may hold no arrays
        return jax.lax.scan(lambda _, x: (None, f(carry, x)[0]), None, xs, **how)[1]

    for _ in range(1 + len(mesh.manual_axes)):  # every round except the last adds an axis to some leaf
        before = jax.tree.map(jax.typeof, carry)
        carry = jax.tree.map(partial(_carried_as, drop=1), carry, jax.eval_shape(made, carry))
        if jax.tree.map(jax.typeof, carry) == before:
            break
    return jax.lax.scan(step, carry, xs, **how)


def _carried_as(x: Arrays, like: Arrays, drop: int = 0) -> Arrays:
    """`x` with the sharding of `like` without its first `drop` axes, and varying along the same mesh axes."""
    mesh, own = jax.sharding.get_abstract_mesh(), jax.typeof(x)
    if mesh.explicit_axes and own.sharding.spec != (spec := PartitionSpec(*like.sharding.spec[drop:])):
        x = jax.sharding.reshard(x, spec)
    return _varied(x, varying(like)) if mesh.manual_axes else x


def einsum(
    equation: str, a: Array, b: Array, *, precision: PrecisionLike = None, dtype: DTypeLike | None = None
) -> Array:
    """`jnp.einsum` of two arrays with a result of `dtype`, which keeps the sharding of both.

    On an Explicit mesh every letter has the mesh axes that it has in `a`, otherwise those of `b` that `a` does not use.
    `b` is gathered along the others, as for sharded weights and a batch sharded along the same axis. A sum over a
    sharded letter is an all-reduce. An Auto mesh gives the same result.
    """
    out = None
    if (mesh := explicit_mesh(a, b)) is not None:
        of_a, of_b, of_y = equation.replace("->", ",").split(",")
        lies = dict(zip(of_a, spec(a), strict=True))
        for letter, axes in zip(of_b, spec(b), strict=True):
            free = set(_names(axes)).isdisjoint(name for taken in lies.values() for name in _names(taken))
            lies[letter] = lies.get(letter) or (axes if free else None)
        a, b = (_moved(v, mesh, [lies[letter] for letter in letters]) for v, letters in ((a, of_a), (b, of_b)))
        out = NamedSharding(mesh, PartitionSpec(*(lies[letter] for letter in of_y)))
    return jnp.einsum(equation, a, b, precision=precision, preferred_element_type=dtype, out_sharding=out)


def rows(table: Array, i: Array) -> Array:
    """Rows i of a table, [size, d], [...] -> [..., d], NaN for indices out of range.

    On an Explicit mesh the result is sharded as i on its leading axes and, where free, as the table on the last.
    """
    out = None
    if (mesh := explicit_mesh(table, i)) is not None:
        taken = {name for axes in spec(i) for name in _names(axes)}
        columns = spec(table)[1]
        columns = columns if taken.isdisjoint(_names(columns)) else None
        table = _moved(table, mesh, [None, columns])
        out = NamedSharding(mesh, PartitionSpec(*spec(i), columns))
    return table.at[i].get(mode="fill", fill_value=jnp.nan, out_sharding=out)


def gathered(x: Array, axis: int) -> Array:
    """x, on an Explicit mesh gathered along `axis`, as loops over that axis and slices require."""
    mesh = explicit_mesh(x)
    return x if mesh is None else _moved(x, mesh, [None if i == axis else s for i, s in enumerate(spec(x))])


def placed_as(x: Array, like: Arrays) -> Array:
    """x, on an Explicit mesh sharded as `like`, an array or shape of equal rank."""
    sharding = like.sharding if isinstance(like, jax.ShapeDtypeStruct) else jax.typeof(like).sharding
    mesh = None if sharding is None or not sharding.mesh.explicit_axes else sharding.mesh
    return x if mesh is None else _moved(x, mesh, list(sharding.spec))


def fitting(b: Array, a: Array) -> Array:
    """b, of a's rank, on an Explicit mesh sharded as a, so that it can be added to a or multiplied with it."""
    mesh = explicit_mesh(a, b)
    return (
        b if mesh is None else _moved(b, mesh, [None if n == 1 else s for n, s in zip(b.shape, spec(a), strict=True)])
    )


def plus(y: Array, b: Array) -> Array:
    """y + b in y's dtype, with b's axes the last of y's: a bias. The gradient of b is summed in the wider dtype.

    Summed in bfloat16 on a CPU, the bias of a convolution got a tenth of the gradient of 10 000 positions.
    """
    b = fitting(b.reshape((1,) * (y.ndim - b.ndim) + b.shape), y)
    if jnp.finfo(b.dtype).bits > jnp.finfo(y.dtype).bits:
        b = placed_as(jnp.broadcast_to(b, y.shape), y)
    return y + b.astype(y.dtype)


def merged(x: Array, start: int, stop: int) -> Array:
    """x with axes `start` to `stop` - 1 merged; on an Explicit mesh the result is sharded as the first of them."""
    for axis in range(start + 1, stop):
        x = gathered(x, axis)
    return x.reshape(*x.shape[:start], prod(x.shape[start:stop]), *x.shape[stop:])


def spec(x: Array) -> tuple[Any, ...]:
    """Mesh axes of each axis of x, one entry for each."""
    return tuple(jax.typeof(x).sharding.spec)


def explicit_mesh(*arrays: Array) -> Any:
    """Mesh of the first array that is on a mesh with Explicit axes, or None."""
    meshes = (jax.typeof(x).sharding.mesh for x in arrays)
    return next((mesh for mesh in meshes if mesh.explicit_axes), None)


def _moved(x: Array, mesh: Any, axes: list[Any]) -> Array:
    return x if tuple(axes) == spec(x) else jax.sharding.reshard(x, NamedSharding(mesh, PartitionSpec(*axes)))


def _names(axes: Any) -> tuple[str, ...]:
    return () if axes is None else axes if isinstance(axes, tuple) else (axes,)


def varying(kind: Any) -> frozenset[Any]:
    """Mesh axes along which an array of this type, or shape, varies; none without `check_vma`."""
    manual = kind.manual_axis_type
    return frozenset() if manual is None else frozenset(manual.varying)


def equally_varying(*arrays: Array) -> tuple[Array, ...]:
    """Arrays cast to vary along the union of their varying axes, so that the gradient of a shared array is summed."""
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return arrays
    along = frozenset().union(*(varying(jax.typeof(x)) for x in arrays))
    return tuple(_varied(x, along) for x in arrays)


def zeros_like(kind: Any) -> Array:
    """Zeros of this type or shape, varying along the same mesh axes."""
    return _varied(jnp.zeros(kind.shape, kind.dtype), varying(kind))


def _varied(x: Array, along: frozenset[Any]) -> Array:
    missing = along - varying(jax.typeof(x))
    return jax.lax.pcast(x, tuple(missing), to="varying") if missing else x


def summed(axis_name: Any, gradient: Array) -> Array:
    """The sum of a gradient over shards; with `check_vma` JAX has already summed it where params are replicated."""
    checked = varying(jax.typeof(jax.lax.axis_index(axis_name)))
    return gradient if checked else jax.lax.psum(gradient, axis_name)


def is_spread(array: Arrays) -> bool:
    """True if an array is sharded over several devices; False for traced arrays, where it is unknown."""
    concrete = isinstance(array, jax.Array) and not isinstance(array, jax.core.Tracer)
    return concrete and len(array.sharding.device_set) > 1


def taken(data: Arrays, rows: Arrays, shardings: tuple[Any, ...] | None) -> Arrays:
    """Rows of arrays, with the shardings of the arrays."""
    leaves, structure = jax.tree.flatten(data)
    parts = [_rows(a, rows, s) for a, s in zip(leaves, shardings or [None] * len(leaves), strict=True)]
    return jax.tree.unflatten(structure, parts)


def _rows(array: Array, rows: Arrays, sharding: Any) -> Array:
    return array[rows] if sharding is None else jax.lax.with_sharding_constraint(array[rows], sharding)
