"""Entries of weights that are one param of a layer each, in the layouts of PyTorch, Keras, flax and ONNX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jaxnn.interop._turns import Entry, Part, Turn
from jaxnn.interop._units import Unit

Shape = tuple[int, ...]

NAMES = {  # of weight and bias, of scale and bias of a norm
    "torch": ("weight", "bias", "weight", "bias"),
    "onnx": ("weight", "bias", "weight", "bias"),
    "keras": ("kernel", "bias", "gamma", "beta"),
    "flax": ("kernel", "bias", "scale", "bias"),
}


def whole(
    names: Sequence[str] | str,
    unit: Unit,
    param: str,
    turn: Turn | None = None,
    *also: Shape,
    shape: Shape | None = None,
    written: bool = True,
) -> Iterator[Entry]:
    """The entry of a weight that is one param, if the layer has it.

    Without a turn it has the param's shape; `shape` is that in the file, if it is not that of the turn.
    """
    if param in unit.own:
        own = unit.own[param].shape
        turn = Turn.none(own) if turn is None else turn
        part = Part(param, own[-1] if own else 1)
        names = (names,) if isinstance(names, str) else tuple(names)
        yield Entry(names, turn.split if shape is None else shape, turn, (part,), also, written)


def matrix(shape: Shape, layout: str, flat: Shape | None = None) -> Turn:
    """From the weight of a dense layer to [d, features]."""
    if layout in ("keras", "flax"):
        return Turn.none(shape)
    if flat is None:
        return Turn.of((shape[1], shape[0]), (1, 0))
    *space, c = flat
    k = len(space)
    return Turn((shape[1], c, *space), (*range(2, 2 + k), 1, 0), shape)


def reparametrized(unit: Unit, weight: str, layout: str) -> list[tuple[str, tuple[str, ...]]]:
    """Param and names of the weight: w, or w_v of `weight_norm`."""
    if "w_v" in unit.own:
        return [("w_v", ("weight_v", "parametrizations/weight/original1"))]
    return [("w", (weight, "weight_orig", "parametrizations/weight/original"))] if "w" in unit.own else []


def vectors(unit: Unit, layout: str) -> Iterator[Entry]:
    """w_g of `weight_norm`, [features], in PyTorch with axes of size 1, and w_u of `spectral_norm`, [features]."""
    if "w_g" in unit.own:
        shape = unit.own["w_g"].shape
        if layout in ("torch", "onnx"):
            shape += (1,) * (len(unit.own["w_v"].shape) - 1)
        yield from whole(("weight_g", "parametrizations/weight/original0"), unit, "w_g", shape=shape)
    yield from whole(("weight_u", "parametrizations/weight/0/_u"), unit, "w_u")
