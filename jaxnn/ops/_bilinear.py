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

# Members of a vmap over both operands, and groups on a CPU, that are laid out one by one; more would compile too long.
UNROLLED = 16
HOW = ("stride", "padding", "x_dilation", "w_dilation", "groups")


def bilinear_conv(
    x: Array,
    w: Array,
    *,
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    x_dilation: tuple[int, ...],
    w_dilation: tuple[int, ...],
    groups: int = 1,
) -> Array:
    """[n, *space, c], [*window, c / groups, features] -> [n, *space', features]; one entry a space axis elsewhere."""
    x, w = equally_varying(x, w)
    return _primitives()["conv"].bind(
        x, w, stride=stride, padding=padding, x_dilation=x_dilation, w_dilation=w_dilation, groups=groups
    )


def native_conv(
    x: Array, w: Array, *, stride: Any, padding: Any, x_dilation: Any, w_dilation: Any, groups: int = 1
) -> Array:
    """The same by lax, gradients and all."""
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


def _dx(dy: Array, x: Any, w: Array, **how: Any) -> Array:
    dy, w = equally_varying(dy, w)
    return _primitives()["dx"].bind(dy, w, space=x.aval.shape[1:-1], **how)


def _dw(dy: Array, x: Array, w: Any, **how: Any) -> Array:
    x, dy = equally_varying(x, dy)
    return _primitives()["dw"].bind(x, dy, window=w.aval.shape[:-2], **how)


def _dx_canonical(
    dy: Array, w: Array, *, space: Any, stride: Any, padding: Any, x_dilation: Any, w_dilation: Any, groups: int
) -> Array:
    """dy against the mirrored window with in- and outputs exchanged; stride and x's dilation change places."""
    assert groups == 1
    pads = []
    for i, n in enumerate(space):
        window = (w.shape[i] - 1) * w_dilation[i] + 1
        width = (n - 1) * x_dilation[i] + 1
        spread = (dy.shape[i + 1] - 1) * stride[i] + 1
        before = window - padding[i][0] - 1
        pads.append((before, width + window - 1 - spread - before))
    w = jnp.swapaxes(jnp.flip(w, tuple(range(len(space)))), -1, -2)
    return bilinear_conv(dy, w, stride=x_dilation, padding=tuple(pads), x_dilation=stride, w_dilation=w_dilation)


def _dw_canonical(
    x: Array, dy: Array, *, window: Any, stride: Any, padding: Any, x_dilation: Any, w_dilation: Any, groups: int
) -> Array:
    """x, channels as examples, against dy as window, examples as channels; stride, w's dilation change places."""
    assert groups == 1
    pads = []
    for i, k in enumerate(window):
        width = (x.shape[i + 1] - 1) * x_dilation[i] + 1
        reach = (dy.shape[i + 1] - 1) * stride[i] + 1
        wanted = (k - 1) * w_dilation[i] + 1
        before = padding[i][0]
        pads.append((before, wanted + reach - 1 - width - before))
    x, dy = jnp.swapaxes(x, 0, -1), jnp.moveaxis(dy, 0, -2)
    dw = bilinear_conv(x, dy, stride=w_dilation, padding=tuple(pads), x_dilation=x_dilation, w_dilation=stride)
    return jnp.moveaxis(dw, 0, -2)


def _dx_native(dy: Array, w: Array, *, space: tuple[int, ...], **how: Any) -> Array:
    channels = w.shape[-2] * how["groups"]
    x = equally_varying(dy, jnp.zeros((dy.shape[0], *space, channels), dy.dtype))[1]
    return jax.linear_transpose(lambda x: native_conv(x, w, **how), x)(dy)[0]


def _dw_native(x: Array, dy: Array, *, window: tuple[int, ...], **how: Any) -> Array:
    channels = x.shape[-1] // how["groups"]
    w = equally_varying(dy, jnp.zeros((*window, channels, dy.shape[-1]), dy.dtype))[1]
    return jax.linear_transpose(lambda w: native_conv(x, w, **how), w)(dy)[0]


def _by_group(canonical: Any, native: Any) -> Any:
    """Group by group, since XLA's grouped convolutions and above all their gradients are naive loops on a CPU."""

    def form(a: Array, b: Array, *, groups: int, **how: Any) -> Array:
        if groups == 1:
            return canonical(a, b, groups=1, **how)
        if groups > UNROLLED:
            return native(a, b, groups=groups, **how)
        parts = zip(jnp.split(a, groups, -1), jnp.split(b, groups, -1), strict=True)
        return jnp.concatenate([canonical(*part, groups=1, **how) for part in parts], -1)

    return form


def _one_by_one(f: Any, operands: tuple[Array, Array], axes: tuple[int, int]) -> tuple[Array, int]:
    a, b = (jnp.moveaxis(v, axis, 0) for v, axis in zip(operands, axes, strict=True))
    return jnp.stack([f(a[i], b[i]) for i in range(len(a))]), 0


def _few(operands: tuple[Array, Array], axes: tuple[Any, Any]) -> bool:
    """Whether both operands differ from member to member, and the members are few."""
    return None not in axes and 1 <= operands[0].shape[axes[0]] <= UNROLLED


def _conv_batched(
    operands: tuple[Array, Array], axes: tuple[Any, Any], *, groups: int, **how: Any
) -> tuple[Array, int]:
    (x, w), (x_axis, w_axis) = operands, axes
    conv: Any = partial(bilinear_conv, groups=groups, **how)
    if _few(operands, axes):
        return _one_by_one(conv, operands, axes)
    if w_axis is None:
        x = jnp.moveaxis(x, x_axis, 0)
        y = conv(x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), w)
        return y.reshape(*x.shape[:2], *y.shape[1:]), 0
    if x_axis is None:  # the members' features become features, within each group
        w = jnp.moveaxis(w, w_axis, -2)
        *lead, members, features = w.shape
        w = jnp.swapaxes(w.reshape(*lead, members, groups, -1), -2, -3)
        y = conv(x, w.reshape(*lead, -1))
        y = jnp.swapaxes(y.reshape(*y.shape[:-1], groups, members, -1), -2, -3)
        return y.reshape(*y.shape[:-2], features), y.ndim - 3
    native: Any = partial(native_conv, groups=groups, **how)
    return jax.vmap(native, axes)(x, w), 0


def equally_varying(x: Array, w: Array) -> tuple[Array, Array]:
    """Under `shard_map` both operands must vary over the same mesh axes, so that a shared one's gradient is summed."""
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return x, w
    vx, vw = (jax.typeof(v).manual_axis_type.varying for v in (x, w))
    return tuple(  # type: ignore[return-value]
        lax.pcast(v, tuple(missing), to="varying") if missing else v for v, missing in ((x, vw - vx), (w, vx - vw))
    )


@cache
def _primitives() -> dict[str, Any]:
    """Made at the first convolution: the interpreters take longer to import than the rest of the library.

    Three bilinear maps, each of whose transposes is another of them. The gradients are canonical convolutions on a CPU,
    and lax's own elsewhere, where the compiler puts their dimensions in order.
    """
    from jax.extend.core import Primitive
    from jax.interpreters import ad, batching, mlir

    def primitive(name: str, forms: dict[str | None, Any], like: Any, rule: Any, transposes: tuple) -> Any:
        p, static = Primitive(name), ("space", "window", *HOW)
        p.def_impl(jax.jit(partial(_bound, p), static_argnames=static))
        p.def_abstract_eval(lambda a, b, **how: jax.make_jaxpr(partial(like, **how))(a, b).out_avals[0])
        ad.defbilinear(p, *transposes)
        batching.primitive_batchers[p] = rule
        for platform, form in forms.items():
            mlir.register_lowering(p, mlir.lower_fun(form, multiple_results=False), platform=platform)
        return p

    def batched(name: str, form: Any) -> Any:
        def rule(operands: tuple[Array, Array], axes: tuple[Any, Any], **how: Any) -> tuple[Array, int]:
            if _few(operands, axes):
                return _one_by_one(partial(_primitives()[name].bind, **how), operands, axes)
            return jax.vmap(partial(form, **how), axes)(*operands), 0

        return rule

    def dx_by_dy(x: Array, dy: Any, w: Array, *, space: Any, **how: Any) -> Array:
        return bilinear_conv(x, w, **how)

    def dx_by_w(x: Array, dy: Array, w: Any, *, space: Any, **how: Any) -> Array:
        return _dw(dy, x, w, **how)

    def dw_by_x(w: Array, x: Any, dy: Array, *, window: Any, **how: Any) -> Array:
        return _dx(dy, x, w, **how)

    def dw_by_dy(w: Array, x: Array, dy: Any, *, window: Any, **how: Any) -> Array:
        return bilinear_conv(x, w, **how)

    conv_cpu = _by_group(native_conv, native_conv)
    dx_cpu, dw_cpu = _by_group(_dx_canonical, _dx_native), _by_group(_dw_canonical, _dw_native)
    conv, dx, dw = (
        {None: native_conv, "cpu": conv_cpu},
        {None: _dx_native, "cpu": dx_cpu},
        {None: _dw_native, "cpu": dw_cpu},
    )
    return {
        "conv": primitive("conv", conv, native_conv, _conv_batched, (_dx, _dw)),
        "dx": primitive("conv_dx", dx, dx_cpu, batched("dx", dx_cpu), (dx_by_dy, dx_by_w)),
        "dw": primitive("conv_dw", dw, dw_cpu, batched("dw", dw_cpu), (dw_by_x, dw_by_dy)),
    }


def _bound(p: Any, a: Array, b: Array, **how: Any) -> Array:
    return p.bind(a, b, **how)
