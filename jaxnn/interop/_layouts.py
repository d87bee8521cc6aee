"""Layouts of the weights of PyTorch, Keras, flax and ONNX, for every kind of layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod

from jaxnn.interop._turns import Entry, Part, Turn
from jaxnn.interop._units import Unit
from jaxnn.ops._window import per_axis

Shape = tuple[int, ...]
Maker = Callable[[Unit], Iterator[Entry]]

# Orders of gates in a file, as numbers of ours: input, forget, cell, output and reset, update, candidate.
GATES = {
    ("torch", "lstm"): (0, 1, 2, 3),
    ("keras", "lstm"): (0, 1, 2, 3),
    ("onnx", "lstm"): (0, 3, 1, 2),
    ("torch", "gru"): (0, 1, 2),
    ("keras", "gru"): (1, 0, 2),
    ("onnx", "gru"): (1, 0, 2),
}
NAMES = {  # of weight and bias, of scale and bias of a norm
    "torch": ("weight", "bias", "weight", "bias"),
    "onnx": ("weight", "bias", "weight", "bias"),
    "keras": ("kernel", "bias", "gamma", "beta"),
    "flax": ("kernel", "bias", "scale", "bias"),
}
LETTERS = {"q": ("q_proj", "query"), "k": ("k_proj", "key"), "v": ("v_proj", "value"), "o": ("o_proj", "out_proj")}


def entries_of(unit: Unit, layout: str) -> list[Entry]:
    """Weights of a layer in the layout of a library: their names inside the layer, shapes and turns."""
    if unit.kind == "gru" and unit.argument("reset", "after") == "before" and layout in ("torch", "flax"):
        return []  # they have no such network, though its weights would fit
    known = unit.kind in MAKERS and all(param in unit.own for param in NEEDED.get(unit.kind, ()))
    found = list(MAKERS[unit.kind](unit, layout)) if known else []
    present = [entry for entry in found if all(part.param in unit.own for part in entry.parts)]
    if layout != "keras":
        return present
    numbered = []  # files of Keras have the numbers of the variables of a layer in place of their names
    for entry in present:
        of_layer = [other for other in present if _folder(other) == _folder(entry)]
        also = tuple(f"{folder}/vars/{of_layer.index(entry)}".lstrip("/") for folder in _folders(entry))
        numbered.append(entry._replace(names=(*entry.names, *also)))
    return numbered


def _folder(entry: Entry) -> str:
    return entry.names[0].rpartition("/")[0]


def _folders(entry: Entry) -> list[str]:
    """Folders of the names of an entry, with those of Keras's files."""
    folders = list(dict.fromkeys(name.rpartition("/")[0] for name in entry.names))
    return folders + [KERAS_FOLDERS[f] for f in folders if f in KERAS_FOLDERS]


KERAS_FOLDERS = {"query": "query_dense", "key": "key_dense", "value": "value_dense", "attention_output": "output_dense"}


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


def vector(shape: Shape, layout: str, flat: Shape | None) -> Turn:
    """From a vector over features to [features]; those of a flattened image are channels-first in PyTorch."""
    if layout in ("keras", "flax") or flat is None or shape != (prod(flat),):
        return Turn.none(shape)
    *space, c = flat
    return Turn((c, *space), (*range(1, 1 + len(space)), 0), shape)


def dense(unit: Unit, layout: str) -> Iterator[Entry]:
    """w [d, features]."""
    weight, bias, *_ = NAMES[layout]
    for param, names in _reparametrized(unit, weight, layout):
        shape = unit.own[param].shape
        turn = matrix(shape, layout, unit.flat)
        yield from whole(names, unit, param, turn, shape=shape if layout in ("keras", "flax") else shape[::-1])
    yield from _vectors(unit, layout)
    yield from whole(bias, unit, "b")


def _reparametrized(unit: Unit, weight: str, layout: str) -> list[tuple[str, tuple[str, ...]]]:
    """Param and names of the weight: w, or w_v of `weight_norm`."""
    if "w_v" in unit.own:
        return [("w_v", ("weight_v", "parametrizations/weight/original1"))]
    return [("w", (weight, "weight_orig", "parametrizations/weight/original"))] if "w" in unit.own else []


def _vectors(unit: Unit, layout: str) -> Iterator[Entry]:
    """w_g of `weight_norm`, [features], in PyTorch with axes of size 1, and w_u of `spectral_norm`, [features]."""
    if "w_g" in unit.own:
        shape = unit.own["w_g"].shape
        if layout in ("torch", "onnx"):
            shape += (1,) * (len(unit.own["w_v"].shape) - 1)
        yield from whole(("weight_g", "parametrizations/weight/original0"), unit, "w_g", shape=shape)
    yield from whole(("weight_u", "parametrizations/weight/0/_u"), unit, "w_u")


def conv(unit: Unit, layout: str) -> Iterator[Entry]:
    """w [*kernel_size, c / groups, features]."""
    weight, bias, *_ = NAMES[layout]
    for param, names in _reparametrized(unit, weight, layout):
        shape = unit.own[param].shape
        yield from whole(names, unit, param, _kernel(shape, layout))
    yield from _vectors(unit, layout)
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


# Params without which a layer has no weights of the library: wrappers may replace them.
NEEDED = {
    "attention": ("w_q", "w_k", "w_v", "w_o"),
    "conv_transpose": ("w",),
    "depthwise_conv": ("w",),
    "patches": ("w",),
}

MAKERS: dict[str, Callable[[Unit, str], Iterator[Entry]]] = {
    "attention": attention,
    "batch_norm": norm,
    "class_token": class_token,
    "conv": conv,
    "conv_lstm": conv_lstm,
    "conv_transpose": conv_transpose,
    "dense": dense,
    "depthwise_conv": depthwise_conv,
    "embed": table,
    "group_norm": norm,
    "gru": recurrent,
    "instance_norm": norm,
    "layer_norm": norm,
    "learned_positions": table,
    "lstm": recurrent,
    "patches": patches,
    "perceptron": dense,
    "prelu": prelu,
    "rms_norm": norm,
    "rnn": recurrent,
    "separable_conv": separable_conv,
}
