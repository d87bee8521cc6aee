"""Convolutional layers."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import jax

from jaxnn import ops
from jaxnn._errors import invalid
from jaxnn._inputs import check_count, floating, param_dtype
from jaxnn.layer import Layer, layer
from jaxnn.layers._checks import check_preset, drawn_by
from jaxnn.ops._window import Padding, per_axis


def conv(
    features: int,
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "same",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    bias: bool = True,
    init: str = "jaxnn",
    w_init: Callable | None = None,
    b_init: Callable | None = None,
    name: str | None = None,
) -> Layer:
    """Convolution plus bias, [n, *space, c] -> [n, *space', features], over 1 to 3 space axes: as many as x has.

    Params w [*window, c / groups, features], b [features]; the arithmetic is `ops.conv`, where padding, stride,
    dilation and groups are explained. PyTorch and Keras pad nothing by default; here the default keeps the size.

    Args:
      window: steps per window, one number for all space axes or one for each.
      bias: False leaves b out, as before a norm layer, which would cancel it.
      init: whose default initialization, "jaxnn", "torch", "keras" or "flax" (`init.preset`); `w_init` and `b_init`,
        functions (key, shape, dtype) -> array, go before it.

    Raises ValueError where x does not fit, TypeError for an x that is not floating.

    >>> params, state = conv(8, 3, stride=2).init(jax.random.key(0), jnp.ones((1, 28, 28, 1)))
    >>> conv(8, 3, stride=2).apply(params, state, jnp.ones((5, 28, 28, 1)))[0].shape
    (5, 14, 14, 8)
    """
    where = name or "conv"
    check_count(where, "features", features)
    check_count(where, "groups", groups)
    check_preset(where, init)

    def check(x: Any, channels: int | None = None) -> Any:
        x = floating(where, x, least=3, shape="[n, *space, c]")
        if len(x.shape) > 5:
            raise invalid(where, "x of shape [n, *space, c] with 1 to 3 space axes", x)
        if channels is not None and x.shape[-1] != channels:
            fix = f"w was made for {channels} channels: initialise with x of this shape, or feed it the other."
            raise invalid(where, f"x of shape [n, *space, {channels}]", x, fix)
        return x

    def initial(key: jax.Array, x: Any) -> tuple[dict, dict]:
        check(x)
        if x.shape[-1] % groups or features % groups:
            raise invalid(where, f"channels and features to be multiples of groups={groups}", (x.shape[-1], features))
        shape = (*per_axis(where, "window", window, len(x.shape) - 2), x.shape[-1] // groups, features)
        draw = drawn_by(init, "conv", prod(shape[:-1]), w=w_init, b=b_init)
        w_key, b_key = jax.random.split(key)
        params = {"w": draw["w"](w_key, shape, param_dtype(x))}
        return params | ({"b": draw["b"](b_key, (features,), param_dtype(x))} if bias else {}), {}

    def apply(params: dict, state: dict, x: Any, *, key: jax.Array | None, train: bool) -> tuple[Any, dict]:
        w = params["w"]
        x = check(x, w.shape[-2] * groups)
        if x.ndim != w.ndim:
            raise invalid(where, f"x with {w.ndim - 2} space axes, as w has", x)
        y = ops.conv(x, w.astype(x.dtype), stride=stride, padding=padding, dilation=dilation, groups=groups)
        if bias:
            y = y + params["b"].astype(x.dtype).reshape(*(1,) * (y.ndim - 1), features)
        return y, state

    return layer(initial, apply, "conv", name=name)
