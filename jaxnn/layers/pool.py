"""Pooling layers."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxnn import ops
from jaxnn.layer import Layer, layer
from jaxnn.ops._window import Padding


def max_pool(
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    name: str | None = None,
) -> Layer:
    """Largest value of each window, [n, *space, c] -> [n, *space', c], as `ops.max_pool`.

    >>> max_pool(2).apply({}, {}, jnp.ones((1, 8, 8, 3)))[0].shape
    (1, 4, 4, 3)
    """
    return _pool("max_pool", ops.max_pool, window, stride, padding, name)


def avg_pool(
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    name: str | None = None,
) -> Layer:
    """Mean of each window, [n, *space, c] -> [n, *space', c], as `ops.avg_pool`: padding does not count.

    >>> avg_pool(2, stride=1).apply({}, {}, jnp.ones((1, 8, 3)))[0].shape
    (1, 7, 3)
    """
    return _pool("avg_pool", ops.avg_pool, window, stride, padding, name)


def _pool(kind: str, op: Callable, window: Any, stride: Any, padding: Padding, name: str | None) -> Layer:
    def apply(params: dict, state: dict, x: Any, *, key: jax.Array | None, train: bool) -> tuple[jax.Array, dict]:
        return op(x, window, stride=stride, padding=padding), state

    return layer(lambda key, x: ({}, {}), apply, kind, name=name)
