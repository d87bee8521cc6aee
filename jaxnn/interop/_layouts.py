"""Weights of every kind of layer in the layouts of PyTorch, Keras, flax and ONNX."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from jaxnn.interop._layout_attention import attention
from jaxnn.interop._layout_conv import conv, conv_transpose, depthwise_conv, patches, separable_conv
from jaxnn.interop._layout_dense import class_token, dense, norm, prelu, table
from jaxnn.interop._layout_recurrent import conv_lstm, recurrent
from jaxnn.interop._turns import Entry
from jaxnn.interop._units import Unit


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
