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
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    name: str | None = None,
) -> Layer:
    """Largest value of each window, [n, *space, c] -> [n, *space', c], as `ops.max_pool`.

    >>> max_pool(2).apply({}, {}, jnp.ones((1, 8, 8, 3)))[0].shape
    (1, 4, 4, 3)
    """
    how: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
    return _pool("max_pool", lambda x: ops.max_pool(x, window, **how), name)


def avg_pool(
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
    name: str | None = None,
) -> Layer:
    """Mean of each window, [n, *space, c] -> [n, *space', c], as `ops.avg_pool`: padding does not count unless asked.

    >>> avg_pool(2, stride=1).apply({}, {}, jnp.ones((1, 8, 3)))[0].shape
    (1, 7, 3)
    """
    how: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
    return _pool("avg_pool", lambda x: ops.avg_pool(x, window, **how, count_include_pad=count_include_pad), name)


def lp_pool(
    window: int | Sequence[int],
    *,
    p: float = 2.0,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    name: str | None = None,
) -> Layer:
    """p-norm of each window, [n, *space, c] -> [n, *space', c], as `ops.lp_pool`.

    >>> lp_pool(2).apply({}, {}, jnp.ones((1, 8, 8, 3)))[0].shape
    (1, 4, 4, 3)
    """
    how: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
    return _pool("lp_pool", lambda x: ops.lp_pool(x, window, p=p, **how), name)


def global_max_pool(*, name: str | None = None) -> Layer:
    """Largest value over all of space, [n, *space, c] -> [n, c], as `ops.global_max_pool`.

    >>> global_max_pool().apply({}, {}, jnp.ones((2, 8, 8, 3)))[0].shape
    (2, 3)
    """
    return _pool("global_max_pool", ops.global_max_pool, name)


def global_avg_pool(*, name: str | None = None) -> Layer:
    """Mean over all of space, [n, *space, c] -> [n, c], as `ops.global_avg_pool`; it takes the place of a dense head.

    Lin et al., Network In Network, 2013.

    >>> global_avg_pool().apply({}, {}, jnp.ones((2, 8, 8, 3)))[0].shape
    (2, 3)
    """
    return _pool("global_avg_pool", ops.global_avg_pool, name)


def adaptive_avg_pool(size: int | Sequence[int], *, name: str | None = None) -> Layer:
    """Mean over windows that cut space into `size` parts, [n, *space, c] -> [n, *size, c], for images of any size.

    As `ops.adaptive_avg_pool`.

    >>> adaptive_avg_pool(4).apply({}, {}, jnp.ones((2, 9, 11, 3)))[0].shape
    (2, 4, 4, 3)
    """
    return _pool("adaptive_avg_pool", lambda x: ops.adaptive_avg_pool(x, size), name)


def adaptive_max_pool(size: int | Sequence[int], *, name: str | None = None) -> Layer:
    """Largest value of windows that cut space into `size` parts, [n, *space, c] -> [n, *size, c].

    As `ops.adaptive_max_pool`.

    >>> adaptive_max_pool(4).apply({}, {}, jnp.ones((2, 9, 11, 3)))[0].shape
    (2, 4, 4, 3)
    """
    return _pool("adaptive_max_pool", lambda x: ops.adaptive_max_pool(x, size), name)


def _pool(kind: str, op: Callable, name: str | None) -> Layer:
    def apply(params: dict, state: dict, x: Any, *, key: jax.Array | None, train: bool) -> tuple[jax.Array, dict]:
        return op(x), state

    return layer(lambda key, x: ({}, {}), apply, kind, name=name)
