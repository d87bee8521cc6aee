"""Layouts of recurrent layers, whose weights have all gates along one axis or one weight for each gate."""

from __future__ import annotations

from collections.abc import Iterator

from jaxnn.interop._layout import whole
from jaxnn.interop._turns import Entry, Part, Turn
from jaxnn.interop._units import Unit

# Orders of gates in a file, as numbers of ours: input, forget, cell, output and reset, update, candidate.
GATES = {
    ("torch", "lstm"): (0, 1, 2, 3),
    ("keras", "lstm"): (0, 1, 2, 3),
    ("onnx", "lstm"): (0, 3, 1, 2),
    ("torch", "gru"): (0, 1, 2),
    ("keras", "gru"): (1, 0, 2),
    ("onnx", "gru"): (1, 0, 2),
}


def recurrent(unit: Unit, layout: str) -> Iterator[Entry]:
    """Weights of every layer and direction of an rnn, lstm or gru."""
    for folder in _cells(unit):
        yield from {"torch": _torch_cell, "keras": _keras_cell, "flax": _flax_cell, "onnx": _onnx_cell}[layout](
            unit, folder
        )


def _cells(unit: Unit) -> list[str]:
    """Paths of all cells inside a recurrent layer, by layers, forward before backward."""
    of_x, of_h = (
        {param.rpartition("/")[0] for param in unit.own if param.rpartition("/")[2] == name} for name in ("w_x", "w_h")
    )
    folders = of_x & of_h  # of one that is reparametrized there are others, of its skip connection none
    return sorted(
        folders, key=lambda folder: (folder.partition("/")[0] * folder.count("/"), not folder.endswith("forward"))
    )


def _inside(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _sizes(unit: Unit, folder: str) -> tuple[int, int, int, int]:
    """Features of x and of h, size of a gate and number of gates."""
    count = {"rnn": 1, "lstm": 4, "gru": 3}[unit.kind]
    inputs, wide = unit.own[_inside(folder, "w_x")].shape
    return inputs, unit.own[_inside(folder, "w_h")].shape[0], wide // count, count


def _gates(unit: Unit, layout: str, param: str, size: int, *, adds: bool = False) -> tuple[Part, ...]:
    """Parts of the last axis of a weight with all gates, in the order of the file."""
    order = GATES.get((layout, unit.kind), (0,))
    return tuple(Part(param, size, gate * size, adds) for gate in order)


def _second_bias(unit: Unit, layout: str, folder: str, size: int) -> tuple[Part, ...]:
    """Parts of the bias of h: added to that of x, but for the candidate of a GRU that has b_h."""
    parts = _gates(unit, layout, _inside(folder, "b"), size, adds=True)
    own = _inside(folder, "b_h")
    return tuple(Part(own, size) if own in unit.own and part.start == 2 * size else part for part in parts)


def _torch_cell(unit: Unit, folder: str) -> Iterator[Entry]:
    inputs, outputs, size, count = _sizes(unit, folder)
    number = folder.partition("/")[0] if folder.partition("/")[0].isdigit() else "0"
    end = f"_l{number}" + ("_reverse" if folder.endswith("backward") else "")

    def names(kind: str) -> tuple[str, ...]:
        return (f"{kind}{end}", *([kind] if not folder else []))

    for kind, param, rows in (("weight_ih", "w_x", inputs), ("weight_hh", "w_h", outputs)):
        turn = Turn.of((count * size, rows), (1, 0))
        yield Entry(names(kind), turn.split, turn, _gates(unit, "torch", _inside(folder, param), size))
    flat = Turn.none((count * size,))
    yield Entry(names("bias_ih"), flat.split, flat, _gates(unit, "torch", _inside(folder, "b"), size))
    yield Entry(names("bias_hh"), flat.split, flat, _second_bias(unit, "torch", folder, size))
    if _inside(folder, "projection") in unit.own:
        turn = Turn.of((outputs, size), (1, 0))
        yield from whole(names("weight_hr"), unit, _inside(folder, "projection"), turn)


def _keras_cell(unit: Unit, folder: str) -> Iterator[Entry]:
    inputs, outputs, size, count = _sizes(unit, folder)

    def names(kind: str) -> tuple[str, ...]:
        head, _, tail = folder.rpartition("/")
        plain = [folder] if tail not in ("forward", "backward") else [folder, _inside(head, f"{tail}_layer")]
        return tuple(_inside(f, name) for f in plain for name in (kind, f"cell/{kind}"))

    def gates(param: str) -> tuple[Part, ...]:
        return _gates(unit, "keras", _inside(folder, param), size)

    for kind, param, rows in (("kernel", "w_x", inputs), ("recurrent_kernel", "w_h", outputs)):
        turn = Turn.none((rows, count * size))
        yield Entry(names(kind), turn.split, turn, gates(param))
    if _inside(folder, "b_h") in unit.own:
        both = Turn.none((2, count * size), (2 * count * size,))
        yield Entry(names("bias"), both.split, both, gates("b") + _second_bias(unit, "keras", folder, size))
    else:
        turn = Turn.none((count * size,))
        yield Entry(names("bias"), turn.split, turn, gates("b"))


# For each kind: the gates' letters, and those with a bias for x and for h.
FLAX_CELLS = {"rnn": ("", "", ""), "lstm": ("ifgo", "", "ifgo"), "gru": ("rzn", "rzn", "n")}


def _flax_cell(unit: Unit, folder: str) -> Iterator[Entry]:
    inputs, outputs, size, _ = _sizes(unit, folder)
    letters, of_x, of_h = FLAX_CELLS[unit.kind]
    for side, param, rows, biased in (("i", "w_x", inputs, of_x), ("h", "w_h", outputs, of_h)):
        for gate, letter in enumerate(letters or [""]):
            name, start = _inside(folder, f"{side}{letter}"), gate * size
            turn, flat = Turn.none((rows, size)), Turn.none((size,))
            yield Entry((f"{name}/kernel",), turn.split, turn, (Part(_inside(folder, param), size, start),))
            if letter in biased and (letters or side == "i"):
                own = _inside(folder, "b_h")
                part = Part(own, size) if side == "h" and own in unit.own else Part(_inside(folder, "b"), size, start)
                yield Entry((f"{name}/bias",), flat.split, flat, (part,))


def _onnx_cell(unit: Unit, folder: str) -> Iterator[Entry]:
    """W [directions, gates · h, d], R [directions, gates · h, h], B [directions, 2 · gates · h]."""
    if folder.endswith("backward"):
        return
    head, _, tail = folder.rpartition("/")
    both = [folder] if tail != "forward" else [folder, _inside(head, "backward")]
    inputs, outputs, size, count = _sizes(unit, folder)
    n = len(both)
    for name, param, rows in (("W", "w_x", inputs), ("R", "w_h", outputs)):
        turn = Turn((n, count * size, rows), (2, 0, 1), (rows, n * count * size))
        parts = tuple(p for f in both for p in _gates(unit, "onnx", _inside(f, param), size))
        yield Entry((_inside(head if n > 1 else folder, name),), turn.split, turn, parts)
    turn = Turn.none((n, 2 * count * size), (2 * n * count * size,))
    biases = (_gates(unit, "onnx", _inside(f, "b"), size) + _second_bias(unit, "onnx", f, size) for f in both)
    parts = tuple(part for bias in biases for part in bias)
    yield Entry((_inside(head if n > 1 else folder, "B"),), turn.split, turn, parts)


def conv_lstm(unit: Unit, layout: str) -> Iterator[Entry]:
    """w_x [*kernel_size, c, 4 features] and w_h, in Keras's layout."""
    for folder in _cells(unit):
        for name, param in (("kernel", "w_x"), ("recurrent_kernel", "w_h"), ("bias", "b")):
            plain = _inside(folder, name)
            yield from whole((plain, _inside(folder, f"cell/{name}")), unit, _inside(folder, param))
