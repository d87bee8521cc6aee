"""Layers of a model with params, and the facts about them on which the layout of their weights depends."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import jax

from jaxnn._call import OBSERVED, Observed, Watch
from jaxnn._calls import Call, call_of
from jaxnn._errors import is_layer
from jaxnn._layer import Layer
from jaxnn._sketch import structs
from jaxnn.types import Arrays

WRAPPERS = ("residual", "repeat", "remat", "inference", "time_distributed", "cast", "weight_norm", "spectral_norm")

# Layers that keep the order of features: a flatten before them still determines the order after them.
ELEMENTWISE = {"lift", "identity", "dropout", "alpha_dropout", "gaussian_noise", "batch_norm", "layer_norm", "prelu"}

# Layers whose results PyTorch has as [n, c, t], in contrast to [n, t, c] of recurrent layers, attention and embeddings.
CONVOLUTIONS = {"conv", "depthwise_conv", "separable_conv", "conv_transpose"}
SEQUENCES = {"attention", "dense", "embed", "encoder_block", "decoder_block", "gru", "lstm", "patches", "rnn"}

Tree = tuple[Any, Any]  # params and state


class Leaf(NamedTuple):
    """A param or an array of the state.

    Attributes:
      tree: 0 for params, 1 for state.
      path: its path in that tree.
      shape: its shape, without the axes of copies of `repeat`.
      dtype: its dtype.
    """

    tree: int
    path: str
    shape: tuple[int, ...]
    dtype: Any


class Unit(NamedTuple):
    """A layer with params.

    Attributes:
      path: its path, "" for the model itself.
      kind: name of the factory that made it; "" if unknown.
      call: the call of that factory, or None.
      own: its leaves, and those of its children, by their paths inside it.
      stack: sizes of the leading axes that `repeat` adds.
      x: shape of its first input, or None.
      flat: shape (*space, c) of the features before a flatten, if its input is flattened, or None.
    """

    path: str
    kind: str
    call: Call | None
    own: dict[str, Leaf]
    stack: tuple[int, ...]
    x: tuple[int, ...] | None
    flat: tuple[int, ...] | None

    def argument(self, name: str, default: Any) -> Any:
        """An optional argument of the call that made the layer."""
        return default if self.call is None else self.call.kwargs.get(name, default)


def shapes_of(model: Layer, x: Arrays) -> Tree:
    """Shapes of the params and the state of a model, without drawing them."""
    return jax.eval_shape(model.init, jax.random.key(0), structs(model.name, x))


def units_of(model: Layer, x: Arrays, shapes: Tree) -> list[Unit]:
    """All layers that have params, the model itself first, in the order of their first calls."""
    watch = Watch()
    x = structs(model.name, x)

    def forward(params: Any, state: Any, x: Arrays) -> Arrays:
        return model.apply(params, {**state, OBSERVED: Observed(watch=watch)}, x)[0]

    jax.eval_shape(forward, *shapes, x)
    layers = {"": (model, getattr(x, "shape", None)), **watch.layers}
    made = {path: _unwrapped(layer) for path, (layer, _) in layers.items()}
    leaves = [leaf for tree in (0, 1) for leaf in _leaves(tree, shapes[tree])]
    units = []
    for path, (_, shape) in layers.items():
        call, _ = made[path]
        stack = tuple(n for above in _above(path) for n in made[above][1])
        inside = f"{path}/" if path else ""
        own = {
            leaf.path.removeprefix(inside): leaf._replace(shape=leaf.shape[len(stack) :])
            for leaf in leaves
            if leaf.path.startswith(inside)
        }
        if own:
            flat = _flattened(path, layers, made, watch.seen)
            kind = "" if call is None else call.function.__name__
            units.append(Unit(path, kind, call, own, stack, shape, flat))
    return units


def _leaves(tree: int, shapes: Any) -> list[Leaf]:
    paths = jax.tree_util.tree_leaves_with_path(shapes)
    named = ((jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in paths)
    return [Leaf(tree, path, tuple(leaf.shape), leaf.dtype) for path, leaf in named]


def _above(path: str) -> list[str]:
    """The path and those of all layers around it, the outermost first."""
    parts = path.split("/") if path else []
    return ["/".join(parts[:i]) for i in range(len(parts) + 1)]


def _unwrapped(layer: Layer) -> tuple[Call | None, tuple[int, ...]]:
    """The call that made the layer inside all wrappers, and the numbers of copies of each `repeat` around it."""
    stack: tuple[int, ...] = ()
    call = call_of(layer)
    while call is not None and call.function.__name__ in WRAPPERS:
        if call.function.__name__ == "repeat":
            stack = (*stack, int(call.args[1]))
        child = call.args[0]
        call = call_of(child) if is_layer(child) else None
    return call, stack


def _flattened(path: str, layers: dict[str, Any], made: dict[str, Any], seen: dict[str, Any]) -> tuple[int, ...] | None:
    """Shape [*space, c] of images that a `flatten` before the layer merged into its features, or None.

    A shape [t, c] counts only behind a convolution.
    """
    shape = layers[path][1]
    if shape is None or len(shape) != 2:
        return None
    before = list(layers)[: list(layers).index(path)]
    kinds = {other: "lift" if made[other][0] is None else made[other][0].function.__name__ for other in before}
    for i, other in reversed(list(enumerate(before))):
        if f"{path}/".startswith(f"{other}/") or not other:
            continue
        kind, given = kinds[other], layers[other][1]
        if kind == "flatten" and given is not None and len(given) > 2 and prod(given[1:]) == shape[1]:
            last = next((k for k in map(kinds.get, reversed(before[:i])) if k in CONVOLUTIONS | SEQUENCES), None)
            return tuple(given[1:]) if len(given) > 3 or last in CONVOLUTIONS else None
        same = given == shape and getattr(seen[other], "shape", None) == shape
        if not (kind in ELEMENTWISE and same):
            return None
    return None
