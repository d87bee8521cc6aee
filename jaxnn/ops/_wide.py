"""Products of low precision summed in high."""

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike


def wide_einsum(equation: str, a: Array, b: Array, dtype: DTypeLike) -> Array:
    """`einsum` of two arrays of one dtype, its sums and result in `dtype`.

    XLA's CPU has no product of bfloat16 with a result of float32 (jaxlib 0.10.2), so there the factors are widened; TPU
    and GPU have units for it.
    """

    def native(a: Array, b: Array) -> Array:
        return jnp.einsum(equation, a, b, preferred_element_type=dtype)

    def widened(a: Array, b: Array) -> Array:
        return jnp.einsum(equation, a.astype(dtype), b.astype(dtype))

    return native(a, b) if a.dtype == dtype else lax.platform_dependent(a, b, cpu=widened, default=native)
