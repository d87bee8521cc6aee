"""Layouts of attention: fused or separate projections, and weights with an axis of heads."""

from __future__ import annotations

from collections.abc import Iterator

from jaxnn.interop._layout import matrix, whole
from jaxnn.interop._turns import Entry, Part, Turn
from jaxnn.interop._units import Unit

LETTERS = {"q": ("q_proj", "query"), "k": ("k_proj", "key"), "v": ("v_proj", "value"), "o": ("o_proj", "out_proj")}


def attention(unit: Unit, layout: str) -> Iterator[Entry]:
    """w_q, w_k, w_v, w_o and their biases: fused or separate matrices, or a weight with an axis of heads."""
    heads = int(unit.call.args[0]) if unit.call is not None else 1
    kv = unit.argument("kv_heads", None) or heads
    yield from (_torch_attention if layout in ("torch", "onnx") else _headed)(unit, layout, heads, int(kv))


def _torch_attention(unit: Unit, layout: str, heads: int, kv: int) -> Iterator[Entry]:
    """Fused weights, unless keys and values have other features than queries; biases are always fused."""
    shapes = {part: unit.own[f"w_{part}"].shape for part in "qkvo"}
    equal = len({shapes[part][0] for part in "qkv"}) == 1
    for letters in ("qkv", "kv"):
        wide = sum(shapes[part][1] for part in letters)
        turn, flat = Turn.of((wide, shapes["k"][0]), (1, 0)), Turn.none((wide,))
        for kind, prefix, turned, exists in (
            ("weight", "w", turn, equal or letters == "kv"),
            ("bias", "b", flat, True),
        ):
            if exists:
                names = (f"in_proj_{kind}", f"qkv/{kind}") if letters == "qkv" else (f"kv/{kind}",)
                parts = tuple(Part(f"{prefix}_{part}", shapes[part][1]) for part in letters)
                yield Entry(names, turned.split, turned, parts, written=letters == "qkv")
    for part in "qkvo":
        folders = ("out_proj", "o", "o_proj") if part == "o" else (part, *LETTERS[part])
        weights = tuple(f"{folder}/weight" for folder in folders)
        separate = part != "o" and not equal
        weights = (f"{part}_proj_weight", *weights) if separate else weights
        yield from whole(weights, unit, f"w_{part}", matrix(shapes[part], layout), written=part == "o" or separate)
        yield from whole(tuple(f"{folder}/bias" for folder in folders), unit, f"b_{part}", written=part == "o")


def _headed(unit: Unit, layout: str, heads: int, kv: int) -> Iterator[Entry]:
    outer = "attention_output" if layout == "keras" else "out"
    for part, name, n in (("q", "query", heads), ("k", "key", kv), ("v", "value", kv), ("o", outer, heads)):
        d, wide = shape = unit.own[f"w_{part}"].shape
        split = (n, d // n, wide) if part == "o" else (d, n, wide // n)
        folders = (name, part, *LETTERS[part])
        kernels = tuple(dict.fromkeys(f"{folder}/kernel" for folder in folders))
        yield from whole(kernels, unit, f"w_{part}", Turn.none(split, shape), shape)
        biases = tuple(dict.fromkeys(f"{folder}/bias" for folder in folders))
        flat = Turn.none((wide,) if part == "o" else split[1:], (wide,))
        yield from whole(biases, unit, f"b_{part}", flat, (wide,))
