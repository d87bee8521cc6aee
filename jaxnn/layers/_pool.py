"""Pooling layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxnn import _checks as check
from jaxnn import ops
from jaxnn._calls import recorded
from jaxnn._errors import invalid
from jaxnn._layer import Layer, of_function
from jaxnn._padded import Padded, padded_pair
from jaxnn.layers._lengths import lengths_after
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

    Sequences of a `Padded` are pooled as without their padding, except with `ceil_mode` or "same" with a stride, which
    raise an error for them.

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
    kernel = _Kernel(name or "max_pool", kernel_size, stride, padding, dilation, ceil_mode)
    return of_function(partial(kernel.over, ops.max_pool, filler=-jnp.inf), "max_pool", name, "lengths")


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

    Sequences of a `Padded` are pooled as without their padding, except with `ceil_mode` or "same" with a stride, which
    raise an error for them.

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
    kernel = _Kernel(name or "avg_pool", kernel_size, stride, padding, dilation, ceil_mode)
    check.flags(kernel.where, count_include_pad=count_include_pad)
    mean = partial(ops.avg_pool, count_include_pad=count_include_pad)
    return of_function(partial(kernel.over, mean, share=not count_include_pad), "avg_pool", name, "lengths")


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

    Sequences of a `Padded` are pooled as without their padding, except with `ceil_mode` or "same" with a stride, which
    raise an error for them.

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
    kernel = _Kernel(name or "lp_pool", kernel_size, stride, padding, dilation, ceil_mode)
    return of_function(partial(kernel.over, partial(ops.lp_pool, p=p)), "lp_pool", name, "lengths")


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


class _Kernel:
    """Kernel of a pooling layer, over images or over sequences of different lengths."""

    def __init__(self, where: str, kernel_size: Any, stride: Any, padding: Padding, dilation: Any, ceil_mode: bool):
        stride = kernel_size if stride is None else stride
        check_sizes(where, kernel_size=kernel_size, stride=stride, dilation=dilation)
        check_padding(where, padding)
        check.flags(where, ceil_mode=ceil_mode)
        self.where = where
        self.how = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
        self.ceil_mode = ceil_mode

    def over(self, op: Callable[..., Any], x: Arrays, *, filler: float = 0.0, share: bool = False) -> Arrays:
        """op over x; for a `Padded` with the padding set to `filler`, and the lengths of the result.

        With `share`, op is a mean over the positions inside x, and for a `Padded` over the valid ones.
        """
        x = padded_pair(x)
        if not isinstance(x, Padded):
            return op(x, ceil_mode=self.ceil_mode, **self.how)
        if self.ceil_mode:
            fix = "The last position of the kernel would depend on where each sequence ends."
            raise invalid(self.where, "ceil_mode=False for a Padded", told="True", fix=fix)
        values = check.array(self.where, "x", x.x, least=3, shape="[n, t, ..., c]")
        lengths = lengths_after(self.where, padding_mode="constant", s=x, **self.how)
        mask = jnp.broadcast_to(x.mask_over(values), values.shape)
        y = op(jnp.where(mask, values, jnp.asarray(filler, values.dtype)), **self.how)
        if share:  # both means are over the positions inside x
            part = op(mask.astype(jnp.float32), **self.how)
            y = y / jnp.where(part > 0, part, 1).astype(y.dtype)
        return Padded(y, lengths)


def _global(op: Callable[..., Any], x: Arrays) -> Array:
    x = padded_pair(x)
    return op(x.x, where=x.mask_over(x.x)) if isinstance(x, Padded) else op(x)
