"""What the metrics do to what they are given: dtypes and shapes, class numbers, and weights and mask made one."""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn._errors import describe, invalid, wrong_type
from jaxnn._inputs import kind_of
from jaxnn._means import Mean, counted


def floating(name: str, what: str, x: ArrayLike) -> Array:
    """`x` as an array of a floating dtype."""
    if not jnp.issubdtype(kind_of(x), jnp.floating):
        raise wrong_type(name, f"{what} of a floating dtype", x, "Cast it: jnp.asarray(x, jnp.float32).")
    return jnp.asarray(x)


def wide(x: Array) -> Array:
    """`x` in at least float32."""
    return x if jnp.finfo(x.dtype).bits >= 32 else x.astype(jnp.float32)


def whole(name: str, what: str, x: ArrayLike, fix: str = "") -> Array:
    """`x` as an array of integers of at least 32 bits: class numbers, booleans being 0 and 1."""
    if not jnp.issubdtype(kind_of(x), jnp.integer) and not jnp.issubdtype(kind_of(x), jnp.bool):
        raise wrong_type(name, f"{what} of an integer or boolean dtype", x, fix)
    x = jnp.asarray(x)
    return x if x.dtype.itemsize >= 4 else x.astype(jnp.int32)


def class_numbers(name: str, what: str, x: ArrayLike, k: int, fix: str = "") -> tuple[Array, Array]:
    """`x` as int32, and where it is a class number, 0 to k - 1; elsewhere it is 0."""
    x = whole(name, what, x, fix)
    known = (x >= 0) & (x < k)
    return jnp.where(known, x, 0).astype(jnp.int32), known


def shaped(name: str, what: str, x: Any, shape: tuple[int, ...], of: str = "") -> None:
    """Raises unless `x` is of the shape."""
    if jnp.shape(x) != shape:
        raise invalid(name, f"{what} of shape {list(shape)}{of}", x, "Nothing is broadcast.")


def one_shape(name: str, a_name: str, a: ArrayLike, b_name: str, b: ArrayLike) -> None:
    """Raises unless `a` and `b` are of one shape."""
    if jnp.shape(a) != jnp.shape(b):
        got = f"{describe(a)} and {describe(b)}"
        raise invalid(
            name, f"{a_name} and {b_name} of one shape", told=got, fix="Nothing is broadcast: reshape one of them."
        )


def mask(name: str, where: ArrayLike | None, shape: tuple[int, ...], argument: str = "where") -> Array:
    """The examples that count, as booleans."""
    if where is None:
        return jnp.ones(shape, bool)
    if not jnp.issubdtype(kind_of(where), jnp.bool):
        raise wrong_type(name, f"{argument} of dtype bool", where, "It is a mask: False leaves an example out.")
    shaped(name, argument, where, shape, ", one for each example")
    return jnp.asarray(where)


def times(name: str, shape: tuple[int, ...], weights: ArrayLike | None, where: ArrayLike | None) -> Array:
    """How often each example counts: float32 weights or, for exact sums, int32 ones; 0 where it is masked."""
    kept = mask(name, where, shape)
    if weights is None:
        return kept.astype(jnp.int32)
    if not jnp.issubdtype(kind_of(weights), jnp.floating) and not jnp.issubdtype(kind_of(weights), jnp.integer):
        raise wrong_type(name, "weights of a floating or integer dtype", weights, "A mask is passed as where=.")
    shaped(name, "weights", weights, shape, ", one for each example")
    return jnp.where(kept, jnp.asarray(weights).astype(jnp.float32), 0)


def mean(x: Array, w: Array) -> Array:
    """Σ w x / Σ w in float32, NaN of nothing; what `x` is where w = 0 does not matter. Noted as a total and a count."""
    w = w.astype(jnp.float32)
    total, count = jnp.sum(jnp.where(w != 0, w * x.astype(jnp.float32), 0)), jnp.sum(w)
    return counted(total / count, Mean(total, count))


def choice(name: str, argument: str, value: Any, choices: tuple[str | None, ...]) -> None:
    """Raises unless `value` is one of the choices."""
    if not (value is None or isinstance(value, str)) or value not in choices:
        raise invalid(name, f"{argument} to be one of {', '.join(map(repr, choices))}", value)
