"""The convolution underneath all others: one bilinear primitive whose transposes are that primitive again.

lax writes the gradients of a convolution with permuted dimension numbers. XLA's CPU compiler puts those in order at
the top level of a program but not inside a loop, where they then run as naive loops, tens of times slower. Here the
gradients are written as convolutions in canonical order, [n, *space, c] by [*space, c, features], with explicit
transposes, so a train step costs the same inside `lax.scan` as outside. Closed under differentiation: jvp, reverse and
any mixture stay in the family.
"""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

# Members of a vmap over both operands that are laid out one by one; beyond it a grouped convolution compiles faster.
UNROLLED_MEMBERS = 16


def bilinear_conv(
    x: Array,
    w: Array,
    *,
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    x_dilation: tuple[int, ...],
    w_dilation: tuple[int, ...],
) -> Array:
    """[n, *space, c], [*window, c, features] -> [n, *space', features]; one entry a space axis in each argument."""
    x, w = equally_varying(x, w)
    return _primitive().bind(x, w, stride=stride, padding=padding, x_dilation=x_dilation, w_dilation=w_dilation)


def native_conv(
    x: Array, w: Array, *, stride: Any, padding: Any, x_dilation: Any, w_dilation: Any, groups: int = 1
) -> Array:
    """The same by lax, gradients and all; with groups, which the primitive does not know."""
    space = "DHW"[3 - len(stride) :]
    numbers = (f"N{space}C", f"{space}IO", f"N{space}C")
    more = [
        s * _taken_for_groups(*axis)
        for s, *axis in zip(stride, x.shape[1:], w.shape, stride, padding, x_dilation, w_dilation, strict=False)
    ]
    padding = [(before, after + m) for (before, after), m in zip(padding, more, strict=True)]
    y = lax.conv_general_dilated(x, w, stride, padding, x_dilation, w_dilation, numbers, groups)
    for axis, m in enumerate(more, start=1):
        y = lax.slice_in_dim(y, 0, -1, axis=axis) if m else y
    return y


def _taken_for_groups(n: int, k: int, stride: int, padding: tuple[int, int], x_dilation: int, w_dilation: int) -> bool:
    """Whether XLA's simplifier may take an axis of space for one of groups.

    Where the window is no smaller than x it exchanges the two, asks this and forgets n = k; a wrong guess ends the
    process (jaxlib 0.10.2, 0.12). One place more in the result, cut off again, keeps it from guessing.
    """
    return padding == (0, 0) and w_dilation == 1 and x_dilation == k > 1 and stride == k - 1 and n != k


def _dx(dy: Array, x: Any, w: Array, *, stride: Any, padding: Any, x_dilation: Any, w_dilation: Any) -> Array:
    """dy against the mirrored window with in- and outputs exchanged; stride and x's dilation change places."""
    space = range(len(stride))
    pads = []
    for i in space:
        window = (w.shape[i] - 1) * w_dilation[i] + 1
        width = (x.aval.shape[i + 1] - 1) * x_dilation[i] + 1
        spread = (dy.shape[i + 1] - 1) * stride[i] + 1
        before = window - padding[i][0] - 1
        pads.append((before, width + window - 1 - spread - before))
    w = jnp.swapaxes(jnp.flip(w, tuple(space)), -1, -2)
    return bilinear_conv(dy, w, stride=x_dilation, padding=tuple(pads), x_dilation=stride, w_dilation=w_dilation)


def _dw(dy: Array, x: Array, w: Any, *, stride: Any, padding: Any, x_dilation: Any, w_dilation: Any) -> Array:
    """x, channels as examples, against dy as window, examples as channels; stride, w's dilation change places."""
    pads = []
    for i in range(len(stride)):
        width = (x.shape[i + 1] - 1) * x_dilation[i] + 1
        window = (dy.shape[i + 1] - 1) * stride[i] + 1
        wanted = (w.aval.shape[i] - 1) * w_dilation[i] + 1
        before = padding[i][0]
        pads.append((before, wanted + window - 1 - width - before))
    x, dy = jnp.swapaxes(x, 0, -1), jnp.moveaxis(dy, 0, -2)
    dw = bilinear_conv(x, dy, stride=w_dilation, padding=tuple(pads), x_dilation=x_dilation, w_dilation=stride)
    return jnp.moveaxis(dw, 0, -2)


def _batched(operands: tuple[Array, Array], axes: tuple[Any, Any], **how: Any) -> tuple[Array, int]:
    (x, w), (x_axis, w_axis) = operands, axes
    if w_axis is None:
        x = jnp.moveaxis(x, x_axis, 0)
        y = bilinear_conv(x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), w, **how)
        return y.reshape(*x.shape[:2], *y.shape[1:]), 0
    if x_axis is None:
        w = jnp.moveaxis(w, w_axis, -2)
        y = bilinear_conv(x, w.reshape(*w.shape[:-2], -1), **how)
        return y.reshape(*y.shape[:-1], *w.shape[-2:]), y.ndim - 1
    x, w = jnp.moveaxis(x, x_axis, 0), jnp.moveaxis(w, w_axis, 0)
    if 1 <= len(x) <= UNROLLED_MEMBERS:
        return jnp.stack([bilinear_conv(x[i], w[i], **how) for i in range(len(x))]), 0
    return jax.vmap(lambda x, w: native_conv(x, w, **how))(x, w), 0


def _abstract(x: Any, w: Any, **how: Any) -> Any:
    return jax.make_jaxpr(partial(native_conv, **how))(x, w).out_avals[0]


def equally_varying(x: Array, w: Array) -> tuple[Array, Array]:
    """Under `shard_map` both operands must vary over the same mesh axes, so that a shared one's gradient is summed."""
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return x, w
    vx, vw = (jax.typeof(v).manual_axis_type.varying for v in (x, w))
    return tuple(  # type: ignore[return-value]
        lax.pcast(v, tuple(missing), to="varying") if missing else v for v, missing in ((x, vw - vx), (w, vx - vw))
    )


@cache
def _primitive() -> Any:
    """Made at the first convolution: the interpreters take longer to import than the rest of the library."""
    from jax.extend.core import Primitive
    from jax.interpreters import ad, batching, mlir

    conv_p = Primitive("conv")
    conv_p.def_impl(jax.jit(native_conv, static_argnames=("stride", "padding", "x_dilation", "w_dilation")))
    conv_p.def_abstract_eval(_abstract)
    ad.defbilinear(conv_p, _dx, _dw)
    batching.primitive_batchers[conv_p] = _batched
    mlir.register_lowering(conv_p, mlir.lower_fun(native_conv, multiple_results=False))
    return conv_p
