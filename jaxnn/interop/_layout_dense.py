"""Layouts of dense layers, embeddings, norms and PReLU."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from jaxnn.interop._layout import NAMES, Shape, matrix, reparametrized, vectors, whole
from jaxnn.interop._turns import Entry, Turn
from jaxnn.interop._units import Unit


def dense(unit: Unit, layout: str) -> Iterator[Entry]:
    """w [d, features]."""
    weight, bias, *_ = NAMES[layout]
    for param, names in reparametrized(unit, weight, layout):
        shape = unit.own[param].shape
        turn = matrix(shape, layout, unit.flat)
        yield from whole(names, unit, param, turn, shape=shape if layout in ("keras", "flax") else shape[::-1])
    yield from vectors(unit, layout)
    yield from whole(bias, unit, "b")


def norm(unit: Unit, layout: str) -> Iterator[Entry]:
    """scale and bias, and the running mean and var of a batch norm."""
    *_, scale, bias = NAMES[layout]
    statistics = {
        "torch": ("running_mean", "running_var"),
        "keras": ("moving_mean", "moving_variance"),
        "flax": ("mean", "var"),
        "onnx": ("mean", "var"),
    }[layout]
    given = (((scale, "scale"), "scale"), ((bias, "bias"), "bias"))
    for names, param in (*given, *(((name,), p) for name, p in zip(statistics, ("mean", "var"), strict=True))):
        if param in unit.own:
            shape = unit.own[param].shape
            yield from whole(names, unit, param, vector(shape, layout, unit.flat), shape=shape)


def vector(shape: Shape, layout: str, flat: Shape | None) -> Turn:
    """From a vector over features to [features]; those of a flattened image are channels-first in PyTorch."""
    if layout in ("keras", "flax") or flat is None or shape != (prod(flat),):
        return Turn.none(shape)
    *space, c = flat
    return Turn((c, *space), (*range(1, 1 + len(space)), 0), shape)


def table(unit: Unit, layout: str) -> Iterator[Entry]:
    """w [size, features] of an embedding or of learned positions."""
    names = {"keras": ("embeddings", "position_embeddings"), "flax": ("embedding", "pos_embedding")}
    yield from whole(names.get(layout, ("weight",)), unit, "w")


def class_token(unit: Unit, layout: str) -> Iterator[Entry]:
    """w [d], elsewhere a param of the model: [1, 1, d]."""
    yield from whole({"flax": "cls"}.get(layout, "weight"), unit, "w")


def prelu(unit: Unit, layout: str) -> Iterator[Entry]:
    """slope [c] or []."""
    names = {"keras": "alpha", "flax": "negative_slope", "onnx": "slope"}
    shape = unit.own["slope"].shape
    also = ((1,),) if shape == () else ()
    yield from whole(names.get(layout, "weight"), unit, "slope", None, *also)
