"""Keys derived by number and by name, and the bits of `jax.random` by faster programs for CPUs.

On a CPU, JAX lowers the 20 rounds of Threefry to a loop: several kernels, compiled again for every shape, which took
most of the time to a model's first step. Unrolled rounds on a flat vector are a single kernel.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import cache
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn._platform import local_cpu
from jaxnn.types import Arrays, Key

ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
PARITY = 0x1BD11BDA
WORD = 0xFFFFFFFF


def quick(key: Key) -> jax.Array:
    """A key that gives the same random numbers by a faster program, if there is one.

    Use it for a single draw; do not store it.

    >>> key = jax.random.key(0)
    >>> bool((jax.random.normal(quick(key), (3,)) == jax.random.normal(key, (3,))).all())
    True
    """
    if _implementation(key) != "threefry2x32" or not local_cpu() or _option("jax_debug_key_reuse"):
        return key
    return jax.random.wrap_key_data(_data(key), impl=_unrolled())


def fold_in(key: Key, number: Arrays) -> jax.Array:
    """`jax.random.fold_in`; for a concrete key and number it runs on the host, without compilation.

    >>> key = jax.random.key(0)
    >>> bool(fold_in(key, 3) == jax.random.fold_in(key, 3))
    True
    """
    if not isinstance(number, int | np.integer):
        return jax.random.fold_in(key, number)
    ours, number = _words(key), int(number) & WORD
    if ours is None:
        return jax.random.fold_in(key, np.uint32(number))
    return _like(key, np.array(_threefry(*ours, 0, number), np.uint32))


def split(key: Key, n: int = 2) -> Sequence[jax.Array] | jax.Array:
    """The n keys of `jax.random.split`; for a concrete key it runs on the host, without compilation.

    >>> key = jax.random.key(0)
    >>> a, b, c = split(key, 3)
    >>> bool(b == jax.random.split(key, 3)[1])
    True
    """
    ours = _words(key)
    if ours is None or not _option("jax_threefry_partitionable"):
        return jax.random.split(key, n)
    return [_like(key, np.array(_threefry(*ours, 0, i), np.uint32)) for i in range(n)]


def fold_name(key: Key | None, name: str) -> jax.Array | None:
    """Key of a child, folded with the crc32 of its name: Python's hash of a string differs between processes.

    >>> key = jax.random.key(0)
    >>> bool(fold_name(key, "dense") == fold_in(key, zlib.crc32(b"dense")))
    True
    """
    return None if key is None else fold_in(key, zlib.crc32(name.encode()))


def _option(name: str) -> Any:
    return getattr(jax.config, name)


def _implementation(key: Key) -> str | None:
    """Name of a key's implementation; None unless `key` is a single key."""
    if not hasattr(key, "dtype") or not hasattr(key, "shape"):
        return None
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return str(jax.random.key_impl(key)) if key.shape == () else None
    if key.dtype == jnp.uint32 and key.shape == (2,):
        return str(_option("jax_default_prng_impl"))
    return None


def _data(key: Key) -> jax.Array:
    return jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jnp.asarray(key)


def _words(key: Key) -> tuple[int, int] | None:
    """The two words of a Threefry key that the host can read at no cost; None for other keys."""
    if isinstance(key, jax.core.Tracer) or _implementation(key) != "threefry2x32" or not local_cpu():
        return None
    if _option("jax_debug_key_reuse") or getattr(key, "committed", False):
        return None
    with jax.ensure_compile_time_eval():  # a key in the closure of a traced function is concrete too
        first, second = np.asarray(_data(key)).tolist()
    return first, second


def _like(key: Key, words: np.ndarray) -> jax.Array:
    with jax.ensure_compile_time_eval():
        if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            return jnp.asarray(words)
        return jax.random.wrap_key_data(jnp.asarray(words), impl="threefry2x32")


def _threefry(k1: Any, k2: Any, a: Arrays, b: Arrays) -> tuple[Any, Any]:
    """Threefry-2x32 with 20 rounds, for integers or uint32 arrays.

    Reference: Salmon et al., Parallel Random Numbers, 2011.
    """
    number = isinstance(a, int)

    def word(n: int) -> Any:
        return n if number else np.uint32(n)

    def added(x: Arrays, y: Arrays) -> Arrays:
        return (x + y) & WORD if number else x + y

    def rotated(x: Arrays, by: int) -> Arrays:
        high = x << word(by)
        return (high & WORD if number else high) | (x >> word(32 - by))

    keys = (k1, k2, k1 ^ k2 ^ word(PARITY))
    a, b = added(a, k1), added(b, k2)
    for i in range(5):
        for by in ROTATIONS[i % 2]:
            a = added(a, b)
            b = rotated(b, by) ^ a
        a, b = added(a, keys[(i + 1) % 3]), added(added(b, keys[(i + 2) % 3]), word(i + 1))
    return a, b


@cache
def _unrolled() -> Any:
    """Key implementation of the unrolled rounds, made at the first draw."""
    from jax.extend.random import define_prng_impl

    def typed(data: jax.Array) -> jax.Array:
        return jax.random.wrap_key_data(data, impl="threefry2x32")

    def seed(number: jax.Array) -> jax.Array:
        return jax.random.key_data(jax.random.key(number, impl="threefry2x32"))

    def split(data: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.key_data(jax.random.split(typed(data), shape))

    def fold_in(data: jax.Array, number: Arrays) -> jax.Array:
        return jax.random.key_data(jax.random.fold_in(typed(data), number))

    def random_bits(data: jax.Array, width: int, shape: tuple[int, ...]) -> jax.Array:
        if width != 32 or not all(isinstance(n, int) for n in shape) or prod(shape) > WORD:
            return jax.random.bits(typed(data), shape, jnp.dtype(f"uint{width}"))
        return _bits(data, prod(shape)).reshape(shape)

    return define_prng_impl(
        key_shape=(2,), seed=seed, split=split, random_bits=random_bits, fold_in=fold_in, name="jaxnn", tag="nn"
    )


def _bits(data: jax.Array, n: int) -> jax.Array:
    """The first n words of a key.

    Partitionable Threefry has one counter for each word, the older scheme one for two words.
    """
    if _option("jax_threefry_partitionable"):
        counts = jnp.arange(n, dtype=jnp.uint32)
        a, b = _threefry(data[0], data[1], jnp.zeros_like(counts), counts)
        return a ^ b
    half = (n + 1) // 2
    counts = jnp.arange(half, dtype=jnp.uint32)
    second = jnp.where(counts + np.uint32(half) < n, counts + np.uint32(half), 0)  # an odd n is padded with 0
    return jnp.concatenate(_threefry(data[0], data[1], counts, second))[:n]
