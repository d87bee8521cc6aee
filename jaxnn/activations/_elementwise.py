"""Elementwise functions whose derivatives are designed, not inherited."""

from collections.abc import Callable
from functools import reduce
from operator import add

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero

from jaxnn._dtypes import widened


def elementwise(value: Callable[..., Array], *slopes: Callable[..., Array]) -> Callable[..., Array]:
    """`value(x, *options)` in x's dtype, with one slope for each argument as its derivative.

    All are computed in at least float32 and rounded once. The backward pass keeps one array for each argument that is
    differentiated, for x in x's dtype. What is not differentiated costs nothing, and cannot turn 0 · inf into NaN.

    >>> cube = elementwise(lambda z: z**3, lambda z: 3 * z**2)
    >>> [v.item() for v in jax.value_and_grad(cube)(jnp.float32(2))]
    [8.0, 12.0]
    """

    @jax.custom_jvp
    def f(*args: Array) -> Array:
        return value(*map(widened, args)).astype(args[0].dtype)

    def jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
        y, z = f(*primals), [widened(p) for p in primals]
        parts = [
            (dx * slope(*z).astype(dx.dtype)).astype(y.dtype)
            for dx, slope in zip(tangents, slopes, strict=True)
            if not isinstance(dx, SymbolicZero)
        ]
        return y, reduce(add, parts) if parts else jnp.zeros_like(y)

    f.defjvp(jvp, symbolic_zeros=True)
    return f
