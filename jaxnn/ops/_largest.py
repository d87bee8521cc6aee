"""Maximum over each pooling kernel; its gradient goes to the first of equal values.

One primitive computes the value and two its derivative, the tangent and its transpose. On all platforms except CPU they
are lax's `reduce_window` and `select_and_scatter`. On a CPU a small kernel is a chain of strided slices, whose gradient
takes 0.07 of the time of `select_and_scatter` at 2 by 2, 0.3 at 3 by 3 with stride 2, and 0.9 at 3 by 3 with stride 1;
at 4 by 4 it takes 4 times, and at 5 by 5 twice the time. The value alone is a faster chain up to 5 by 5, but
`reduce_window` where XLA fuses that well with the layers around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial, reduce
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.export import is_symbolic_dim

from jaxnn._platform import plain, primitive_by_platform
from jaxnn.ops._window import taps
from jaxnn.types import Arrays

SLICED_TAPS, SLICED_TAPS_OF_A_GRADIENT = 32, 9  # largest numbers of elements of a kernel that a CPU slices

FUSED_ELEMENTS = 2**16  # of x, from which on XLA's fusion loses

Sizes = tuple[Any, ...]  # one for each axis, or a pair for each; may be symbolic


def largest(
    x: Array, kernel_size: Sequence[Any], stride: Sequence[Any], dilation: Sequence[Any], sides: Sequence[Any]
) -> Array:
    """Maximum of each kernel position, [n, *space, c] -> [n, *space', c]; never padding, always the first NaN."""
    how = {"kernel_size": kernel_size, "stride": stride, "dilation": dilation}
    every = {name: (1, *sizes, 1) for name, sizes in how.items()}
    return _primitives(plain())[0].bind(x, **every, sides=((0, 0), *sides, (0, 0)), differentiated=False)


def wins(a: Array, b: Array, a_inside: Any = True, b_inside: Any = True) -> Array:
    """True where the later value b replaces a: b is larger, the first NaN, or the first value that is not padding."""
    larger = (a == a) & ~(a >= b)
    return larger if a_inside is True else b_inside & (larger | ~a_inside)


def chain(x: Array, *, kernel_size: Sizes, stride: Sizes, dilation: Sizes, sides: Sizes) -> Array:
    """Maximum as a chain of strided slices."""
    x = jnp.pad(x, sides, constant_values=-jnp.inf)
    parts = taps(x, kernel_size=kernel_size[1:-1], stride=stride[1:-1], dilation=dilation[1:-1])
    return reduce(lambda a, b: jnp.where(wins(a, b), b, a), parts)


def windowed(x: Array, *, kernel_size: Sizes, stride: Sizes, dilation: Sizes, sides: Sizes) -> Array:
    """Maximum by `reduce_window`."""
    return lax.reduce_window(x, -jnp.inf, lax.max, kernel_size, stride, sides, window_dilation=dilation)


def _ordered(x: Array, sides: Sizes) -> Array:
    """x with values that `select_and_scatter` orders as `wins` does: NaN above all others, -inf above the padding."""
    x = jnp.where(x != x, jnp.inf, x)
    return jnp.maximum(x, jnp.finfo(x.dtype).min) if _is_padded(sides) else x


def _derivative(sliced: bool, transposed: bool, v: Array, x: Array, **how: Any) -> Array:
    """Derivative of the maximum at x, applied to v: the tangent, or the cotangent if `transposed`.

    lax has no `select_and_scatter` of a dilated kernel; those are always a chain. The chain is differentiated at a
    padded x: with the padding inside its derivative, XLA would evaluate the padding for each slice, in 10 times the
    time.
    """
    sides = how["sides"]
    f: Callable[..., Any] = partial(windowed, **how)
    if sliced or set(how["dilation"]) != {1}:
        f, at = partial(chain, **how | {"sides": ((0, 0),) * x.ndim}), x
        if _is_padded(sides):
            at = jnp.pad(jnp.maximum(x, jnp.finfo(x.dtype).min), sides, constant_values=-jnp.inf)
            v = v if transposed else jnp.pad(v, sides)
    else:
        at = _ordered(x, sides)
    if not transposed:
        return jax.jvp(f, (at,), (v,))[1]
    slopes = jax.vjp(f, at)[1](v)[0]
    if at.shape == x.shape:
        return slopes
    ends = [before + n for (before, _), n in zip(sides, x.shape, strict=True)]
    return lax.slice(slopes, [before for before, _ in sides], ends)


def _is_padded(sides: Sizes) -> bool:
    return any(side != (0, 0) for side in sides)


def _few(x: Array, kernel_size: Sizes, most: int) -> bool:
    """True if a CPU uses the chain, for at most `most` elements.

    With symbolic sizes it cannot: the gradient of a slice does not recover x's shape.
    """
    return prod(kernel_size) <= most and not any(map(is_symbolic_dim, x.shape))


def _is_fused(x: Array, kernel_size: Sizes, stride: Sizes, sides: Sizes) -> bool:
    """True if a CPU computes a value without derivative by `reduce_window`.

    XLA (jaxlib 0.10.2) fuses it with convolutions and dense layers into one kernel: a network of two convolutions with
    pools and two dense layers takes 0.75 of the time for one image. For 32 images it takes 1.9 times, because one core
    computes the convolutions. Other shapes lose up to 1.4 times.
    """
    images = x.ndim == 4 and x.dtype == jnp.float32 and x.shape[-1] >= 16 and x.size < FUSED_ELEMENTS
    return images and kernel_size == stride == (1, 2, 2, 1) and not _is_padded(sides)


def _value_on_cpu(x: Array, differentiated: bool, **how: Any) -> Array:
    if not _few(x, how["kernel_size"], SLICED_TAPS):
        return windowed(x, **how)
    fused = not differentiated and _is_fused(x, how["kernel_size"], how["stride"], how["sides"])
    return (windowed if fused else chain)(x, **how)


def _value(x: Array, differentiated: bool, **how: Any) -> Array:
    return windowed(x, **how)


def _derivative_on_cpu(transposed: bool, v: Array, x: Array, **how: Any) -> Array:
    return _derivative(_few(x, how["kernel_size"], SLICED_TAPS_OF_A_GRADIENT), transposed, v, x, **how)


@cache
def _primitives(plain: bool) -> tuple[Any, Any, Any]:
    """The three primitives, made at the first pool; if `plain`, all platforms lower them to lax's operations.

    JAX's interpreters take longer to import than the rest of the library.
    """
    from jax.experimental.jet import jet_rules
    from jax.interpreters import ad, batching

    def made(name: str, on_cpu: Callable[..., Any], default: Callable[..., Any]) -> Any:
        return primitive_by_platform(name, default if plain else on_cpu, default)

    value = made("jaxnn_largest", _value_on_cpu, _value)
    tangent, cotangent = (
        made(name, partial(_derivative_on_cpu, transposed), partial(_derivative, False, transposed))
        for name, transposed in (("jaxnn_largest_tangent", False), ("jaxnn_largest_cotangent", True))
    )

    def shape(x: Arrays, *, kernel_size: Sizes, stride: Sizes, dilation: Sizes, sides: Sizes) -> Any:
        how = {
            "window_dimensions": kernel_size,
            "window_strides": stride,
            "window_dilation": dilation,
            "padding": sides,
        }
        return lax.reduce_window_max_p.abstract_eval(x, base_dilation=(1,) * len(kernel_size), **how)[0]

    value.def_abstract_eval(lambda x, differentiated, **how: shape(x, **how))
    tangent.def_abstract_eval(lambda t, x, **how: shape(t, **how))
    cotangent.def_abstract_eval(lambda dy, x, **how: x)

    def jvp(primals: Arrays, tangents: Arrays, differentiated: bool, **how: Any) -> Sizes:
        return value.bind(*primals, **how, differentiated=True), tangent.bind(*tangents, *primals, **how)

    ad.primitive_jvps[value] = jvp
    for linear, transpose in ((tangent, cotangent), (cotangent, tangent)):
        ad.defjvp(linear, partial(_along, linear), None)  # positions of maxima are piecewise constant in x
        ad.primitive_transposes[linear] = partial(_transposed, transpose)
        jet_rules[linear] = partial(_linear_series, linear)
    jet_rules[value] = lambda x, series, differentiated, **how: (
        value.bind(*x, **how, differentiated=True),
        [tangent.bind(t, *x, **how) for t in series[0]],
    )

    def batched(p: Arrays, operands: Arrays, axes: Any, **how: Any) -> tuple[Array, int]:
        size = next(v.shape[axis] for v, axis in zip(operands, axes, strict=True) if axis is not None)
        operands = [batching.bdim_at_front(v, axis, size) for v, axis in zip(operands, axes, strict=True)]
        marks = {"differentiated": how.pop("differentiated")} if p is value else {}
        more = {name: (((0, 0),) if name == "sides" else (1,)) + sizes for name, sizes in how.items()}
        return p.bind(*operands, **more, **marks), 0

    for p in (value, tangent, cotangent):
        batching.primitive_batchers[p] = partial(batched, p)
    return value, tangent, cotangent


def _along(p: Arrays, t: Array, _: Array, x: Array, **how: Any) -> Array:
    return p.bind(t, x, **how)


def _transposed(p: Arrays, v: Any, unknown: Any, x: Array, **how: Any) -> Sizes:
    from jax.interpreters import ad

    return (ad.Zero(unknown.aval) if type(v) is ad.Zero else p.bind(v, x, **how)), None


def _linear_series(p: Arrays, primals: Arrays, series: Any, **how: Any) -> Sizes:
    v, x = primals
    return p.bind(v, x, **how), [p.bind(t, x, **how) for t in series[0]]
