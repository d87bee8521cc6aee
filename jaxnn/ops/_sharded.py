"""Where results lie on a mesh whose axes are Explicit: JAX asks there, where an Auto mesh lets the compiler choose."""

from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import PrecisionLike
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import DTypeLike


def einsum(
    equation: str, a: Array, b: Array, *, precision: PrecisionLike = None, dtype: DTypeLike | None = None
) -> Array:
    """`jnp.einsum` of two arrays with a result of `dtype`, which keeps the sharding of both.

    On an Explicit mesh every letter lies along the mesh axes that it has in `a`, else along those of `b` that `a` has
    left free. `b` is gathered along the others, as sharded weights are for a batch that is sharded by the same axis; a
    sum over a letter that is sharded is an all-reduce. That is what the compiler finds on an Auto mesh.
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
    """The rows i of a table, [size, d], [...] -> [..., d], NaN where i is no row; sharded as i and then the table."""
    out = None
    if (mesh := explicit_mesh(table, i)) is not None:
        taken = {name for axes in spec(i) for name in _names(axes)}
        columns = spec(table)[1]
        columns = columns if taken.isdisjoint(_names(columns)) else None
        table = _moved(table, mesh, [None, columns])
        out = NamedSharding(mesh, PartitionSpec(*spec(i), columns))
    return table.at[i].get(mode="fill", fill_value=jnp.nan, out_sharding=out)


def gathered(x: Array, axis: int) -> Array:
    """x, on an Explicit mesh no longer sharded along `axis`: what a loop over that axis, or a cut, asks for."""
    mesh = explicit_mesh(x)
    return x if mesh is None else _moved(x, mesh, [None if i == axis else s for i, s in enumerate(spec(x))])


def placed_as(x: Array, like: Any) -> Array:
    """x, on an Explicit mesh sharded as `like`, an array or shape of its rank."""
    sharding = like.sharding if isinstance(like, jax.ShapeDtypeStruct) else jax.typeof(like).sharding
    mesh = None if sharding is None or not sharding.mesh.explicit_axes else sharding.mesh
    return x if mesh is None else _moved(x, mesh, list(sharding.spec))


def fitting(b: Array, a: Array) -> Array:
    """b, to be added to or multiplied with a: of its rank, on an Explicit mesh sharded as a is."""
    mesh = explicit_mesh(a, b)
    return (
        b if mesh is None else _moved(b, mesh, [None if n == 1 else s for n, s in zip(b.shape, spec(a), strict=True)])
    )


def merged(x: Array, start: int, stop: int) -> Array:
    """x with the axes from `start` to `stop` - 1 as one, which on an Explicit mesh is sharded as the first of them."""
    for axis in range(start + 1, stop):
        x = gathered(x, axis)
    return x.reshape(*x.shape[:start], prod(x.shape[start:stop]), *x.shape[stop:])


def spec(x: Array) -> tuple[Any, ...]:
    """The mesh axes along which each axis of x lies, one entry for each."""
    return tuple(jax.typeof(x).sharding.spec)


def explicit_mesh(*arrays: Array) -> Any:
    """The mesh of the first array on one with Explicit axes, or None."""
    meshes = (jax.typeof(x).sharding.mesh for x in arrays)
    return next((mesh for mesh in meshes if mesh.explicit_axes), None)


def _moved(x: Array, mesh: Any, axes: list[Any]) -> Array:
    return x if tuple(axes) == spec(x) else jax.sharding.reshard(x, NamedSharding(mesh, PartitionSpec(*axes)))


def _names(axes: Any) -> tuple[str, ...]:
    return () if axes is None else axes if isinstance(axes, tuple) else (axes,)
