"""An endless data set for linear regression, made by a counter-based generator as it is needed."""

import jax
import jax.numpy as jnp

FEATURES = 100
CHUNK = 2048  # points of a chunk
NOISE = 0.1  # half the width of its uniform distribution


def mixed(n: jax.Array) -> jax.Array:
    """Bits of a counter, by two rounds of multiplication and shift."""
    n = (n ^ (n >> 16)) * jnp.uint32(0x7FEB352D)
    n = (n ^ (n >> 15)) * jnp.uint32(0x846CA68B)
    return n ^ (n >> 16)


def points(number: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Chunk of this number: x [CHUNK, FEATURES], uniform from -1 to 1, and y = Σ x_j j / FEATURES + 1 + noise."""
    place = jax.lax.broadcasted_iota(jnp.uint32, (CHUNK, FEATURES + 1), 0) * jnp.uint32(FEATURES + 1)
    place += jax.lax.broadcasted_iota(jnp.uint32, (CHUNK, FEATURES + 1), 1)
    number = number.astype(jnp.uint32)
    bits = mixed(mixed(place + mixed(number)) ^ mixed(~number))  # two keys: with one, 1e10 numbers would repeat
    z = jax.lax.bitcast_convert_type(bits, jnp.int32).astype(jnp.float32) * jnp.float32(2**-31)
    x = z[:, :FEATURES]
    return x, x @ (jnp.arange(FEATURES, dtype=jnp.float32) / FEATURES) + 1 + NOISE * z[:, FEATURES]
