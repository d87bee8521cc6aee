"""Layouts of convolutions and patches."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from jaxnn.interop._layout import NAMES, Shape, reparametrized, vectors, whole
from jaxnn.interop._turns import Entry, Turn
from jaxnn.interop._units import Unit
from jaxnn.ops._window import per_axis


def conv(unit: Unit, layout: str) -> Iterator[Entry]:
    """w [*kernel_size, c / groups, features]."""
    weight, bias, *_ = NAMES[layout]
    for param, names in reparametrized(unit, weight, layout):
        shape = unit.own[param].shape
        yield from whole(names, unit, param, _kernel(shape, layout))
    yield from vectors(unit, layout)
    yield from whole(bias, unit, "b")


def _kernel(shape: Shape, layout: str) -> Turn:
    if layout in ("keras", "flax"):
        return Turn.none(shape)
    *taps, i, o = shape
    return Turn.of((o, i, *taps), (*range(2, 2 + len(taps)), 1, 0))


def depthwise_conv(unit: Unit, layout: str) -> Iterator[Entry]:
    """w [*kernel_size, c, multiplier]."""
    weight, bias, *_ = NAMES[layout]
    *taps, c, m = unit.own["w"].shape
    if layout == "keras":
        yield from whole(("kernel", "depthwise_kernel"), unit, "w")
    elif layout == "flax":
        yield from whole(weight, unit, "w", Turn.none((*taps, 1, c * m), (*taps, c, m)))
    else:
        turn = Turn.of((c, m, *taps), (*range(2, 2 + len(taps)), 0, 1))
        yield from whole(weight, unit, "w", turn, shape=(c * m, 1, *taps))
    yield from whole(bias, unit, "b")


def separable_conv(unit: Unit, layout: str) -> Iterator[Entry]:
    """Params of the children depthwise and pointwise, which Keras keeps in one layer."""
    if layout == "keras":
        yield from whole("depthwise_kernel", unit, "depthwise/w")
        yield from whole("pointwise_kernel", unit, "pointwise/w")
        yield from whole("bias", unit, "pointwise/b")


def conv_transpose(unit: Unit, layout: str) -> Iterator[Entry]:
    """w [*kernel_size, features / groups, c]; flax's is correlated with the input, so its taps are reversed."""
    weight, bias, *_ = NAMES[layout]
    *taps, o, i = unit.own["w"].shape
    k = len(taps)
    turn = Turn.none((*taps, o, i))
    if layout == "flax":
        turn = Turn.of((*taps, i, o), (*range(k), k + 1, k), tuple(range(k)))
    elif layout != "keras":
        turn = Turn.of((i, o, *taps), (*range(2, 2 + k), 1, 0))
    yield from whole(weight, unit, "w", turn)
    yield from whole(bias, unit, "b")


def patches(unit: Unit, layout: str) -> Iterator[Entry]:
    """w [size · c, features], elsewhere a convolution's kernel."""
    weight, bias, *_ = NAMES[layout]
    joined = unit.own["w"].shape
    if unit.call is not None and unit.x is not None:
        size = per_axis("patches", "size", unit.call.args[1], len(unit.x) - 2)
        kernel = _kernel((*size, joined[0] // prod(size), joined[1]), layout)
        yield from whole(weight, unit, "w", kernel.then(joined))
    yield from whole(bias, unit, "b")
