"""Convolutional layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnn import _checks as check
from jaxnn import ops
from jaxnn._call import call
from jaxnn._calls import recorded
from jaxnn._errors import invalid
from jaxnn._keys import split
from jaxnn._layer import Layer, layer
from jaxnn._mesh import plus
from jaxnn._padded import Padded, padded_pair, values_of
from jaxnn.layers._lengths import lengths_after
from jaxnn.layers._weights import Weights, check_fits
from jaxnn.ops._conv import ConvPadding
from jaxnn.ops._pad import PaddingMode, check_mode
from jaxnn.ops._window import Padding, check_padding, check_sizes, per_axis
from jaxnn.types import Arrays, Initializer, Key, Params, State


@recorded
def conv(
    features: int,
    kernel_size: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: ConvPadding = "same",
    padding_mode: PaddingMode = "constant",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    bias: bool = True,
    preset: str = "jaxnn",
    w_init: Initializer | None = None,
    b_init: Initializer | None = None,
    precision: jax.lax.PrecisionLike = None,
    name: str | None = None,
) -> Layer:
    """Convolution with bias, [n, *space, c] -> [n, *space', features], over the 1 to 3 space axes of x.

    Params w [*kernel_size, c / groups, features], b [features]. Computed by `ops.conv`.

    Args:
      features: number of output channels, an integer >= 1.
      kernel_size: an integer >= 1 for all space axes, or one for each. With an integer, the rank is that of x,
        so that images [n, h, w] without a channel axis are treated as sequences of w channels; (3, 3) raises an error
        for them.
      stride, padding, padding_mode, dilation, groups: as in `ops.conv`.
      bias: False omits b, for example before a norm layer, which would cancel it.
      preset: the default initialization, "jaxnn", "torch", "keras" or "flax" (`init.preset`).
      w_init, b_init: initializers (key, shape, dtype) -> array; override the preset.
      precision: of the products, as in `ops.conv`.
      name: pins the name.

    Raises:
      ValueError: if x does not fit, or an argument is out of range.
      TypeError: if x is not floating.

    Differences: PyTorch and Keras use no padding by default; here the default keeps the size.

    >>> params, state = conv(8, 3, stride=2).init(jax.random.key(0), jnp.ones((1, 28, 28, 1)))
    >>> conv(8, 3, stride=2).apply(params, state, jnp.ones((5, 28, 28, 1)))[0].shape
    (5, 14, 14, 8)
    """
    where = name or "conv"
    features = check.count(where, "features", features)
    groups = check.count(where, "groups", groups)
    check_sizes(where, kernel_size=kernel_size, stride=stride, dilation=dilation)
    check_padding(where, padding, names=("same", "valid", "causal"))
    check_mode(where, "padding_mode", padding_mode)
    weights = Weights(where, "conv", preset, {"w": w_init, "b": b_init}, bias)

    def shape(c: int, taps: tuple[int, ...]) -> tuple[int, ...]:
        _check_groups(where, c, features, groups)
        return (*taps, c // groups, features)

    def product(x: jax.Array, w: jax.Array) -> jax.Array:
        how: dict[str, Any] = {"dilation": dilation, "groups": groups, "precision": precision}
        return ops.conv(x, w, stride=stride, padding=padding, padding_mode=padding_mode, **how)

    lengths = partial(lengths_after, where, kernel_size, stride, padding, padding_mode, dilation)
    sizes = _Sizes(shape, lambda shape: prod(shape[:-1]), lambda w: (w[-2] * groups, features), lengths)
    return _convolution("conv", name, weights, kernel_size, sizes, product)


@recorded
def conv_transpose(
    features: int,
    kernel_size: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "same",
    output_padding: int | Sequence[int] | None = None,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    bias: bool = True,
    preset: str = "jaxnn",
    w_init: Initializer | None = None,
    b_init: Initializer | None = None,
    precision: jax.lax.PrecisionLike = None,
    name: str | None = None,
) -> Layer:
    """Transposed convolution with bias, [n, *space, c] -> [n, *space', features], for learned upsampling.

    Params w [*kernel_size, features / groups, c], b [features]. Computed by `ops.conv_transpose`. With the default
    padding, space' is space · stride.

    Args:
      features: number of output channels, an integer >= 1.
      kernel_size: an integer >= 1 for all space axes, or one for each. A multiple of stride avoids checkerboard
        artifacts.
      stride, padding, output_padding, dilation, groups: as in `ops.conv_transpose`.
      bias: False omits b, for example before a norm layer, which would cancel it.
      preset: the default initialization, "jaxnn", "torch", "keras" or "flax" (`init.preset`).
      w_init, b_init: initializers (key, shape, dtype) -> array; override the preset. `w_init` receives the shape of w.
      precision: of the products, as in `ops.conv`.
      name: pins the name.

    Raises:
      ValueError: if x does not fit, or an argument is out of range.
      TypeError: if x is not floating.

    >>> params, state = conv_transpose(8, 4, stride=2).init(jax.random.key(0), jnp.ones((1, 7, 7, 3)))
    >>> conv_transpose(8, 4, stride=2).apply(params, state, jnp.ones((5, 7, 7, 3)))[0].shape
    (5, 14, 14, 8)
    """
    where = name or "conv_transpose"
    features = check.count(where, "features", features)
    groups = check.count(where, "groups", groups)
    check_sizes(where, kernel_size=kernel_size, stride=stride, dilation=dilation)
    if output_padding is not None:
        per_axis(where, "output_padding", output_padding, None, least=0)
    check_padding(where, padding)
    weights = Weights(where, "conv_transpose", preset, {"w": w_init, "b": b_init}, bias, _swapped)

    def shape(c: int, taps: tuple[int, ...]) -> tuple[int, ...]:
        _check_groups(where, c, features, groups)
        return (*taps, features // groups, c)

    def product(x: jax.Array, w: jax.Array) -> jax.Array:
        how: dict[str, Any] = {"output_padding": output_padding, "dilation": dilation, "groups": groups}
        return ops.conv_transpose(x, w, stride=stride, padding=padding, precision=precision, **how)

    sizes = _Sizes(shape, lambda shape: prod(shape[:-1]), lambda w: (w[-1], features))
    return _convolution("conv_transpose", name, weights, kernel_size, sizes, product)


@recorded
def depthwise_conv(
    kernel_size: int | Sequence[int],
    *,
    multiplier: int = 1,
    stride: int | Sequence[int] = 1,
    padding: ConvPadding = "same",
    padding_mode: PaddingMode = "constant",
    dilation: int | Sequence[int] = 1,
    bias: bool = True,
    preset: str = "jaxnn",
    w_init: Initializer | None = None,
    b_init: Initializer | None = None,
    precision: jax.lax.PrecisionLike = None,
    name: str | None = None,
) -> Layer:
    """Depthwise convolution with bias, each channel alone, [n, *space, c] -> [n, *space', c · multiplier].

    Params w [*kernel_size, c, multiplier], b [c · multiplier]. Computed by `ops.depthwise_conv`.

    Args:
      kernel_size: an integer >= 1 for all space axes, or one for each.
      multiplier: number of features for each channel, an integer >= 1.
      stride, padding, padding_mode, dilation: as in `ops.conv`.
      bias: False omits b.
      preset: the default initialization of a grouped convolution, "jaxnn", "torch", "keras" or "flax".
      w_init, b_init: initializers (key, shape, dtype) -> array; override the preset.
      precision: of the products, as in `ops.conv`.
      name: pins the name.

    Raises:
      ValueError: if x does not fit, or an argument is out of range.
      TypeError: if x is not floating.

    >>> params, state = depthwise_conv(3).init(jax.random.key(0), jnp.ones((1, 8, 8, 6)))
    >>> params["w"].shape
    (3, 3, 6, 1)
    """
    where = name or "depthwise_conv"
    multiplier = check.count(where, "multiplier", multiplier)
    check_sizes(where, kernel_size=kernel_size, stride=stride, dilation=dilation)
    check_padding(where, padding, names=("same", "valid", "causal"))
    check_mode(where, "padding_mode", padding_mode)
    weights = Weights(where, "conv", preset, {"w": w_init, "b": b_init}, bias, _one_group_each)

    def shape(c: int, taps: tuple[int, ...]) -> tuple[int, ...]:
        return (*taps, c, multiplier)

    def product(x: jax.Array, w: jax.Array) -> jax.Array:
        how: dict[str, Any] = {"padding_mode": padding_mode, "dilation": dilation, "precision": precision}
        return ops.depthwise_conv(x, w, stride=stride, padding=padding, **how)

    lengths = partial(lengths_after, where, kernel_size, stride, padding, padding_mode, dilation)
    sizes = _Sizes(shape, lambda shape: prod(shape[:-2]), lambda w: (w[-2], w[-2] * multiplier), lengths)
    return _convolution("depthwise_conv", name, weights, kernel_size, sizes, product)


@recorded
def separable_conv(
    features: int,
    kernel_size: int | Sequence[int],
    *,
    multiplier: int = 1,
    stride: int | Sequence[int] = 1,
    padding: ConvPadding = "same",
    padding_mode: PaddingMode = "constant",
    dilation: int | Sequence[int] = 1,
    bias: bool = True,
    preset: str = "jaxnn",
    precision: jax.lax.PrecisionLike = None,
    name: str | None = None,
) -> Layer:
    """Separable convolution: a depthwise one, then one with kernel size 1, [n, *space, c] -> [n, *space', features].

    It has the receptive field of a convolution at a fraction of the multiplications: kernel elements + features for
    each position and channel, in place of kernel elements · features. Children depthwise and pointwise.

    Args:
      features: number of output channels, an integer >= 1.
      kernel_size: size of the depthwise kernel, an integer >= 1 for all space axes or one for each.
      multiplier, stride, padding, padding_mode, dilation: of the depthwise convolution.
      bias: False omits b; the depthwise convolution has no bias.
      preset: the default initialization of both convolutions.
      precision: of the products of both, as in `ops.conv`.
      name: pins the name.

    Raises:
      ValueError: if x does not fit, or an argument is out of range.
      TypeError: if x is not floating.

    >>> params, state = separable_conv(8, 3).init(jax.random.key(0), jnp.ones((1, 8, 8, 6)))
    >>> params["depthwise"]["w"].shape, params["pointwise"]["w"].shape
    ((3, 3, 6, 1), (1, 1, 6, 8))
    """
    check_padding(name or "separable_conv", padding, names=("same", "valid", "causal"))
    how: dict[str, Any] = {"stride": stride, "padding": padding, "padding_mode": padding_mode}
    how |= {"dilation": dilation, "precision": precision}
    depthwise = depthwise_conv(kernel_size, multiplier=multiplier, bias=False, preset=preset, **how)
    pointwise = conv(features, 1, bias=bias, preset=preset, precision=precision)

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        y, state = call(depthwise, "depthwise", params, state, x, key=key, train=train)
        return call(pointwise, "pointwise", params, state, y, key=key, train=train)

    return layer(None, apply, "separable_conv", name=name, padded="seen")


def _check_groups(where: str, c: int, features: int, groups: int) -> None:
    if c % groups or features % groups:
        raise invalid(where, f"channels and features to be multiples of groups={groups}", (c, features))


def _swapped(draw: Callable[..., Any]) -> Callable[..., Any]:
    """An initializer for [..., features, c], drawn as [..., c, features]: its fans are by input and output channels."""
    return lambda key, shape, dtype: jnp.swapaxes(draw(key, (*shape[:-2], shape[-1], shape[-2]), dtype), -1, -2)


def _one_group_each(draw: Callable[..., Any]) -> Callable[..., Any]:
    """An initializer for [..., c, multiplier], drawn as a convolution with c groups, [..., 1, c · multiplier]."""
    return lambda key, shape, dtype: draw(key, (*shape[:-2], 1, prod(shape[-2:])), dtype).reshape(shape)


class _Sizes(NamedTuple):
    """Sizes of the params of a convolution.

    Attributes:
      shape: channels of x, kernel size -> shape of w.
      fan_in: shape of w -> inputs of one feature.
      channels: shape of w -> channels of x and of the result.
      lengths: a `Padded` x -> lengths of the result; None raises an error for a `Padded`.
    """

    shape: Callable[[int, tuple[int, ...]], tuple[int, ...]]
    fan_in: Callable[[tuple[int, ...]], int]
    channels: Callable[[tuple[int, ...]], tuple[int, int]]
    lengths: Callable[[Padded], jax.Array] | None = None


def _convolution(
    kind: str,
    name: str | None,
    weights: Weights,
    kernel_size: int | Sequence[int],
    sizes: _Sizes,
    product: Callable[[jax.Array, jax.Array], jax.Array],
) -> Layer:
    """A layer with params w and b whose `product` takes x and w."""
    where = weights.where

    def images(x: Arrays) -> Arrays:
        x = check.array(where, "x", values_of(x), least=3, shape="[n, *space, c]")
        if len(x.shape) > 5:
            raise invalid(where, "x of shape [n, *space, c] with 1 to 3 space axes", x)
        return x

    def initial(key: Key, x: Arrays) -> tuple[Params, State]:
        x = images(padded_pair(x))
        shape = sizes.shape(x.shape[-1], per_axis(where, "kernel_size", kernel_size, len(x.shape) - 2))
        w_key, b_key = split(key)
        return weights.draw(x, sizes.fan_in(shape), w=(w_key, shape), b=(b_key, sizes.channels(shape)[1:])), {}

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        given = padded_pair(x)
        w, x = params["w"], images(given)
        check_fits(where, x, "w", sizes.channels(w.shape)[0], "[n, *space, {}]")
        if x.ndim != w.ndim:
            raise invalid(where, f"x with {w.ndim - 2} space axes, as w has", x)
        lengths = None
        if isinstance(given, Padded):
            assert sizes.lengths is not None
            x, lengths = given.zeroed, sizes.lengths(given)
        y = product(x, w.astype(x.dtype))
        if weights.bias:
            y = plus(y, jnp.asarray(params["b"]))
        return (y if lengths is None else Padded(y, lengths)), state

    return layer(initial, apply, kind, name=name, padded="lengths" if sizes.lengths else "examples")
