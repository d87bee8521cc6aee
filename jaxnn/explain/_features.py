"""Outputs of inner layers: a model that ends at a layer, activations of many examples, neighbours among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._capture import capture, layer_paths
from jaxnn._errors import invalid, wrong_type
from jaxnn._inputs import is_array
from jaxnn._layer import Layer, as_layer, wrap
from jaxnn.explain._target import ModelLike
from jaxnn.retrieval import Neighbours, index, nearest
from jaxnn.train import predict
from jaxnn.types import Arrays, Key, Params, State

Reduce = Callable[[Any], Any]


@recorded
def to_layer(model: ModelLike, path: str) -> Layer:
    """Model that ends at an inner layer: its output is that of the layer, with the params and state of the whole model.

    Layers inside `repeat` give [n, blocks, ...], a layer that runs several times a tuple. Under `jit` the compiler
    drops the rest of the model.

    Args:
      model: layer, model or function of one input.
      path: path of a layer, such as `stem/conv`.

    Raises:
      TypeError: if `model` is neither a layer nor a function, or `path` is not a str.
      ValueError: in its apply, with a list of the paths, if the path is unknown.

    Differences: torchvision's `create_feature_extractor` and Keras's `Model(inputs, layer.output)` cut a graph;
      `capture` in `nn` has the output of the model as well, and keeps the axis of `repeat` first.

    >>> model = nn.serial(nn.dense(3), nn.relu, nn.dense(2))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((4, 5)))
    >>> to_layer(model, "relu").apply(params, state, jnp.ones((4, 5)))[0].shape
    (4, 3)
    """
    return at_layers(model, (path,), None, "to_layer")


@recorded
def at_layers(model: ModelLike, paths: tuple[str, ...], reduce: Reduce | None, where: str) -> Layer:
    """Model with the reduced output of one layer, or those of several by path."""
    inside = as_layer(model, where)
    for path in paths:
        check.text(where, "path", path, "the path of a layer")
    observed = capture(inside, paths)

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Any, State]:
        (_, inner), new = observed.apply(params, state, x, key=key, train=train)
        shapes = layer_paths(inside, params, state, x)
        found = {path: _examples_first(inner[path], shapes[path]) for path in paths}
        found = {path: y if reduce is None else reduce(y) for path, y in found.items()}
        return (found[paths[0]] if len(paths) == 1 else found), new

    return wrap(inside, inside.init, apply)


def _examples_first(outputs: Any, shape: Any) -> Any:
    """Outputs with the axes that `repeat` stacks, which precede those of one run, behind the axis of the examples."""

    def moved(y: Array, one: jax.ShapeDtypeStruct) -> Array:
        return jnp.moveaxis(y, y.ndim - len(one.shape), 0)

    if type(outputs) is tuple and type(shape) is not tuple:  # of a layer that runs several times
        return tuple(_examples_first(y, shape) for y in outputs)
    return jax.tree.map(moved, outputs, shape)


def activations(
    model: ModelLike,
    params: Params,
    state: State,
    x: Arrays,
    path: str | Sequence[str],
    *,
    reduce: Reduce | None = None,
    batch_size: int = 256,
) -> Any:
    """Outputs of an inner layer for any number of examples, x [n, ...] -> [n, ...], computed in batches.

    Args:
      model: layer, model or function of one input.
      params, state: params and state of the model, which runs in inference mode.
      x: inputs, an array or a pytree of arrays with examples on axis 0; NumPy arrays are read one batch at a time.
      path: path of a layer, or several, whose outputs are computed in one pass.
      reduce: function of the outputs of a batch, [b, ...] -> [b, ...], such as a mean over space, which limits the
        memory of the result; None keeps the outputs.
      batch_size: examples per batch, >= 1.

    Returns:
      The outputs; for several paths a dict by path.

    Raises:
      TypeError: if an argument has a wrong type.
      ValueError: if a path is unknown, or `batch_size` is out of range.

    Differences: in PyTorch forward hooks collect these in a loop over batches.

    >>> model = nn.serial(nn.dense(3), nn.relu, nn.dense(2))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 5)))
    >>> activations(model, params, state, jnp.ones((600, 5)), "relu").shape
    (600, 3)
    """
    paths = (path,) if isinstance(path, str) else path
    if not isinstance(paths, Sequence) or not paths:
        raise wrong_type("activations", "path to be the path of a layer or several", path)
    if reduce is not None:
        check.function("activations", "reduce", reduce, "of the outputs of a batch")
    made = at_layers(as_layer(model, "activations"), tuple(paths), reduce, "activations")
    found = predict(made, params, state, x, batch_size=batch_size)
    if isinstance(path, str):
        return found
    return {paths[0]: found} if len(paths) == 1 else {path: found[path] for path in paths}  # jit sorts by path


def neighbours(
    model: ModelLike,
    params: Params,
    state: State,
    x: Arrays,
    queries: Arrays,
    path: str,
    k: int,
    *,
    metric: Literal["cosine", "euclidean", "inner_product"] = "cosine",
    reduce: Reduce | None = None,
    batch_size: int = 256,
) -> Neighbours:
    """Examples whose activations are nearest to those of each query, x [n, ...], queries [q, ...] -> [q, k].

    Args:
      model, params, state: as in `activations`.
      x: examples to search.
      queries: examples to find neighbours of.
      path: path of the layer; its outputs of each example are one vector.
      k: number of neighbours, 1 <= k <= n.
      metric: as in `nn.retrieval.index`.
      reduce, batch_size: as in `activations`.

    Returns:
      `Neighbours(values, indices)`, nearest first.

    Raises:
      TypeError, ValueError: as `activations` and `nn.retrieval.nearest`.

    Differences: none of the other libraries has it; with scikit-learn it is `NearestNeighbors` on activations.

    >>> model = nn.serial(nn.flatten(), nn.relu)
    >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> neighbours(model, {}, {}, x, jnp.array([[5.0, 1.0]]), "relu", 2).indices.tolist()
    [[0, 2]]
    """
    check.text("neighbours", "path", path, "the path of a layer")
    both = [activations(model, params, state, a, path, reduce=reduce, batch_size=batch_size) for a in (x, queries)]
    vectors, wanted = (flat("neighbours", y) for y in both)
    return nearest(index(vectors, metric=metric), wanted, k)


def flat(where: str, y: Any) -> Array:
    """Activations as vectors, [n, ...] -> [n, d]; raises for a pytree."""
    if not is_array(y):
        fix = "Select an array with reduce=, or another layer."
        raise wrong_type(where, "activations that are an array [n, ...]", y, fix)
    if len(y.shape) < 1:
        raise invalid(where, "activations of shape [n, ...]", y)
    return check.array(where, "activations", y).reshape(len(y), -1)
