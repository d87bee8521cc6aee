"""Pooling layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from jax import Array

from jaxnn import ops
from jaxnn._calls import recorded
from jaxnn._layer import Layer, of_function
from jaxnn._padded import Padded, padded_pair
from jaxnn.ops._window import Padding, check_padding, check_sizes
from jaxnn.types import Arrays


@recorded
def max_pool(
    kernel_size: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    name: str | None = None,
) -> Layer:
    """Max pooling, [n, *space, c] -> [n, *space', c], as `ops.max_pool`.

    Args:
      kernel_size: an integer >= 1 for all space axes, or one for each.
      stride: distance between kernel positions; None is the kernel size.
      padding, dilation, ceil_mode: as in `ops.max_pool`.
      name: pins the name.

    Raises:
      ValueError, TypeError: as `ops.max_pool`.

    >>> max_pool(2).apply({}, {}, jnp.ones((1, 8, 8, 3)))[0].shape
    (1, 4, 4, 3)
    """
    _check_pool(name or "max_pool", kernel_size, stride, padding, dilation)
    how = partial(
        ops.max_pool, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
    )
    return of_function(how, "max_pool", name, "examples")


@recorded
def avg_pool(
    kernel_size: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
    name: str | None = None,
) -> Layer:
    """Average pooling, [n, *space, c] -> [n, *space', c], as `ops.avg_pool`.

    Args:
      kernel_size: an integer >= 1 for all space axes, or one for each.
      stride: distance between kernel positions; None is the kernel size.
      padding, dilation, ceil_mode: as in `ops.max_pool`.
      count_include_pad: if True, padding counts as zeros, as is PyTorch's default.
      name: pins the name.

    Raises:
      ValueError, TypeError: as `ops.avg_pool`.

    >>> avg_pool(2, stride=1).apply({}, {}, jnp.ones((1, 8, 3)))[0].shape
    (1, 7, 3)
    """
    _check_pool(name or "avg_pool", kernel_size, stride, padding, dilation)
    how = partial(
        ops.avg_pool, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
    )
    return of_function(partial(how, count_include_pad=count_include_pad), "avg_pool", name, "examples")


@recorded
def lp_pool(
    kernel_size: int | Sequence[int],
    *,
    p: float = 2.0,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    name: str | None = None,
) -> Layer:
    """p-norm pooling, [n, *space, c] -> [n, *space', c], as `ops.lp_pool`.

    Args:
      kernel_size: an integer >= 1 for all space axes, or one for each.
      p: exponent, a finite number >= 1.
      stride: distance between kernel positions; None is the kernel size.
      padding, dilation, ceil_mode: as in `ops.max_pool`.
      name: pins the name.

    Raises:
      ValueError, TypeError: as `ops.lp_pool`.

    >>> lp_pool(2).apply({}, {}, jnp.ones((1, 8, 8, 3)))[0].shape
    (1, 4, 4, 3)
    """
    _check_pool(name or "lp_pool", kernel_size, stride, padding, dilation)
    how = partial(
        ops.lp_pool, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
    )
    return of_function(partial(how, p=p), "lp_pool", name, "examples")


@recorded
def global_max_pool(*, name: str | None = None) -> Layer:
    """Global max pooling: maximum over space, [n, *space, c] -> [n, c], as `ops.global_max_pool`.

    For a `Padded`, over the valid steps; a sequence without any gives 0.

    Args:
      name: pins the name.

    Raises:
      ValueError, TypeError: as `ops.global_max_pool`.

    >>> global_max_pool().apply({}, {}, jnp.ones((2, 8, 8, 3)))[0].shape
    (2, 3)
    """
    return of_function(partial(_global, ops.global_max_pool), "global_max_pool", name, "lengths")


@recorded
def global_avg_pool(*, name: str | None = None) -> Layer:
    """Global average pooling: mean over space, [n, *space, c] -> [n, c], as `ops.global_avg_pool`.

    Use it in place of dense layers at the end of a convolutional network. For a `Padded`, over the valid steps; a
    sequence without any gives 0.

    Args:
      name: pins the name.

    Raises:
      ValueError, TypeError: as `ops.global_avg_pool`.

    Reference: Lin et al., Network In Network, 2013.

    >>> global_avg_pool().apply({}, {}, jnp.ones((2, 8, 8, 3)))[0].shape
    (2, 3)
    """
    return of_function(partial(_global, ops.global_avg_pool), "global_avg_pool", name, "lengths")


@recorded
def adaptive_avg_pool(size: int | Sequence[int], *, name: str | None = None) -> Layer:
    """Average pooling to a given size, [n, *space, c] -> [n, *size, c], as `ops.adaptive_avg_pool`.

    The images may have any size.

    Args:
      size: size of the result, an integer >= 1 for all space axes or one for each.
      name: pins the name.

    Raises:
      ValueError, TypeError: as `ops.adaptive_avg_pool`.

    >>> adaptive_avg_pool(4).apply({}, {}, jnp.ones((2, 9, 11, 3)))[0].shape
    (2, 4, 4, 3)
    """
    check_sizes(name or "adaptive_avg_pool", size=size)
    return of_function(partial(ops.adaptive_avg_pool, size=size), "adaptive_avg_pool", name, "examples")


@recorded
def adaptive_max_pool(size: int | Sequence[int], *, name: str | None = None) -> Layer:
    """Max pooling to a given size, [n, *space, c] -> [n, *size, c], as `ops.adaptive_max_pool`.

    The images may have any size.

    Args:
      size: size of the result, an integer >= 1 for all space axes or one for each.
      name: pins the name.

    Raises:
      ValueError, TypeError: as `ops.adaptive_max_pool`.

    >>> adaptive_max_pool(4).apply({}, {}, jnp.ones((2, 9, 11, 3)))[0].shape
    (2, 4, 4, 3)
    """
    check_sizes(name or "adaptive_max_pool", size=size)
    return of_function(partial(ops.adaptive_max_pool, size=size), "adaptive_max_pool", name, "examples")


def _check_pool(where: str, kernel_size: Any, stride: Any, padding: Any, dilation: Any) -> None:
    check_sizes(where, kernel_size=kernel_size, stride=kernel_size if stride is None else stride, dilation=dilation)
    check_padding(where, padding)


def _global(op: Callable[..., Any], x: Arrays) -> Array:
    x = padded_pair(x)
    return op(x.x, where=x.mask_over(x.x)) if isinstance(x, Padded) else op(x)
