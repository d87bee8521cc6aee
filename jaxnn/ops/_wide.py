"""Matrix products with low-precision factors and high-precision sums."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero
from jax.lax import PrecisionLike
from jax.typing import DTypeLike

from jaxnn._mesh import einsum
from jaxnn._platform import on_cpu
from jaxnn.types import Arrays


def wide_einsum(equation: str, a: Array, b: Array, dtype: DTypeLike, precision: PrecisionLike = None) -> Array:
    """`einsum` of two arrays of equal dtype; its sums and its result, and the sums of its gradients, are in `dtype`.

    The factors of all products have the dtype of `a` and `b`: the cotangent, which arrives in `dtype`, is first rounded
    to it, as the gradient is at the end. TPUs and GPUs have units for such products, which sum in float32.
    """
    if a.dtype == dtype:
        return einsum(equation, a, b, precision=precision)
    return _widening(equation, jnp.dtype(dtype), precision)(a, b)


@cache
def _widening(equation: str, dtype: Any, precision: PrecisionLike) -> Any:
    """The product for one equation and dtype, with derivatives.

    Workaround for XLA on CPU (jaxlib 0.10.2), which has no product of bfloat16 with a float32 result: there the factors
    are cast to `dtype` first.
    """

    def wide(a: Array, b: Array) -> Array:
        return einsum(equation, a.astype(dtype), b.astype(dtype), precision=precision)

    def native(a: Array, b: Array) -> Array:
        return einsum(equation, a, b, precision=precision, dtype=dtype)

    def narrow(a: Array, b: Array) -> Array:  # bilinear: its transposes are such products too
        y = on_cpu(
            lambda a, b: wide(a, b).astype(a.dtype), lambda a, b: einsum(equation, a, b, precision=precision), a, b
        )
        return y.astype(dtype)

    @jax.custom_jvp
    def product(a: Array, b: Array) -> Array:
        return on_cpu(wide, native, a, b)

    def jvp(primals: Arrays, tangents: Arrays) -> tuple[Array, Array]:
        (a, b), (da, db) = primals, tangents
        y = product(a, b)
        parts = [] if isinstance(da, SymbolicZero) else [narrow(da, b)]
        parts += [] if isinstance(db, SymbolicZero) else [narrow(a, db)]
        return y, sum(parts[1:], parts[0]) if parts else jnp.zeros_like(y)

    product.defjvp(jvp, symbolic_zeros=True)
    return product
