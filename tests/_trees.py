"""Trees that are compared to the last bit, and arrays of any bits."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def raw(x: Any) -> tuple:
    return x.dtype.name, x.shape, np.asarray(x).tobytes()


def assert_same(a: Any, b: Any) -> None:
    """Equal in structure, classes, order of keys and every bit."""
    if isinstance(a, jax.Array):
        assert isinstance(b, jax.Array)
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            assert a.dtype == b.dtype
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert raw(a) == raw(b)
        return
    assert type(a) is type(b)
    if isinstance(a, np.ndarray | np.generic):
        assert raw(a) == raw(b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, float | complex):
        assert repr(a) == repr(b)  # tells -0.0 from 0.0, and nan is nan
    else:
        assert a == b


def full_range(dtype: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Every bit pattern is as likely as any other."""
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(rng.bytes(size), dtype).reshape(shape).copy()
