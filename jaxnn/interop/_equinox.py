"""Modules of Equinox as layers, and layers as modules."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnn._calls import recorded
from jaxnn._errors import is_function, wrong_type
from jaxnn._layer import Layer, as_layer, layer
from jaxnn.interop._checks import arguments_of, check_module, imported, name_of, plain_promotion
from jaxnn.types import Arrays, Key, Params, State

MODULE = "an equinox.Module, a pair of module and state, or a function of a key that makes one"


@recorded
def equinox_module(module: Any, *, axis_name: Hashable = "batch", name: str | None = None) -> Layer:
    """Layer of an Equinox module for one example, [...] -> [...], applied to batches, [n, ...] -> [n, ...].

    Floating and complex arrays of the module are params, by path: "layers/0/weight". State holds arrays of other
    dtypes, under "buffers", and its `equinox.nn.State`, under "state". Everything else is fixed in the layer. The layer
    trains, is saved, exported and swept as those of `nn`.

    Args:
      module: a function key -> module, from which `init` draws params: lambda key: eqx.nn.MLP(2, 1, 8, 2, key=key). Or
        an equinox.Module, whose arrays `init` returns whatever its key. For modules with state the function returns,
        or the argument is, a pair, as `eqx.nn.make_with_state` makes it.
      axis_name: name of the axis of the batch, as modules such as `eqx.nn.BatchNorm` were given.
      name: pins the name of the layer; the default is the name of the module's class.

    Returns: a layer. The module is called as module(x), with `state=` if it has state, and with `key=`, one for each
      example or None, if its call takes a key. Without `train` it is in inference mode.

    Raises:
      ValueError: if equinox is not installed.
      TypeError: for something that is not a module.

    Differences: `jax.vmap`, `eqx.partition`, `eqx.combine` and `eqx.nn.inference_mode` are called by the layer. State
      changes at training calls alone.

    >>> import equinox
    >>> model = equinox_module(lambda key: equinox.nn.Linear(4, 3, key=key))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((2, 4)))
    >>> params["weight"].shape, state, model.apply(params, state, jnp.ones((2, 4)))[0].shape
    ((3, 4), {}, (2, 3))
    """
    equinox = imported("equinox_module", "equinox", "equinox")

    def made(key: Key) -> tuple[Any, Any]:
        """The module and its state, or None."""
        given = isinstance(module, equinox.Module) or not is_function(module)
        found = module if given else module(key)
        pair = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
        check_module("equinox_module", pair[0], equinox.Module, MODULE)
        if pair[1] is not None and not isinstance(pair[1], equinox.nn.State):
            raise wrong_type("equinox_module", MODULE, found)
        return pair

    with plain_promotion():
        shapes = equinox.filter_eval_shape(made, jax.eval_shape(lambda: jax.random.key(0)))
    parts = Parts.of(*shapes)
    takes_key = "key" in arguments_of(shapes[0])

    def init(key: Key, x: Arrays) -> tuple[Params, State]:
        with plain_promotion():
            return parts.split(*made(key))

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        whole, memory = parts.joined(params, state)
        called = equinox.nn.inference_mode(whole, value=not train)
        keys = None if key is None else jax.random.split(key, jax.tree.leaves(x)[0].shape[0])

        def one(x: Arrays, key: Key | None) -> tuple[Any, Any]:
            options = {"key": key} if takes_key else {}
            if memory is None:
                return called(x, **options), None
            return called(x, state=memory, **options)

        axes = (0, None if keys is None else 0)
        with plain_promotion():
            y, changed = jax.vmap(one, axes, (0, None), axis_name=axis_name)(x, keys)
        return y, parts.remembered(state, changed) if train else state

    return layer(init, apply, name_of(shapes[0]), name=name)


def as_equinox(model: Layer, key: Key, x: Arrays) -> Any:
    """A layer as an equinox.Module with the params of `model.init(key, x)`, for models and train loops of Equinox.

    A layer without state is a module called as module(x, key=None) -> y. With state, such as that of batch norms, the
    result is a pair of module and `equinox.nn.State`, as of `eqx.nn.make_with_state`, and the call is
    module(x, state, key=None) -> (y, state).

    The module trains unless its field `inference` is True, which `eqx.nn.inference_mode` sets. Its other fields are
    `params` and `memory`, the index of its state.

    Args:
      model: a layer.
      key: key of the params.
      x: input of the layer, with its batch axis, or its shape.

    Returns: an equinox.Module, or a pair of it and an equinox.nn.State.

    Raises:
      ValueError: if equinox is not installed.
      TypeError: if `model` is neither a layer nor a function.

    Differences: modules of Equinox act on one example, under `jax.vmap`; this one acts on a batch, without it.

    >>> import equinox
    >>> module = as_equinox(nn.dense(3), jax.random.key(0), jnp.ones((2, 4)))
    >>> module(jnp.ones((2, 4))).shape, equinox.filter_grad(lambda m: m(jnp.ones((2, 4))).sum())(module).params["b"]
    ((2, 3), Array([2., 2., 2.], dtype=float32))
    """
    equinox = imported("as_equinox", "equinox", "equinox")
    model = as_layer(model, "as_equinox")

    class LayerModule(equinox.Module):  # type: ignore[misc, name-defined]
        params: Any
        memory: Any
        inference: bool

        def __init__(self, params: Params, state: State):
            self.params = params
            self.memory = equinox.nn.StateIndex(state) if state else None
            self.inference = False

        def __call__(self, x: Arrays, state: Any = None, *, key: Key | None = None) -> Any:
            held = {} if self.memory is None else state.get(self.memory)
            y, changed = model.apply(self.params, held, x, key=key, train=not self.inference)
            return y if self.memory is None else (y, state.set(self.memory, changed))

    params, state = model.init(key, x)
    return equinox.nn.make_with_state(LayerModule)(params, state) if state else LayerModule(params, state)


class Parts(NamedTuple):
    """The structure of a module and its state, with the paths of arrays and the leaves that are not arrays.

    Attributes:
      module: structure of the module.
      memory: structure of its `equinox.nn.State`, or None.
      leaves: for each leaf of the module its path, its kind, "params", "buffers" or "fixed", and the leaf, which is
        used if it is fixed.
    """

    module: Any
    memory: Any
    leaves: list[tuple[tuple[str, ...], str, Any]]

    @classmethod
    def of(cls, module: Any, memory: Any) -> Parts:
        """The parts of a module and a state of arrays or their shapes."""
        structure: Any
        found, structure = jax.tree_util.tree_flatten_with_path(module)
        leaves = [(tuple(map(_text, path)), _kind(leaf), leaf) for path, leaf in found]
        return cls(structure, None if memory is None else jax.tree.structure(memory), leaves)

    def split(self, module: Any, memory: Any) -> tuple[Params, State]:
        """Params and state of a module and its state."""
        trees: dict[str, dict[str, Any]] = {"params": {}, "buffers": {}}
        for (path, kind, _), leaf in zip(self.leaves, jax.tree.leaves(module), strict=True):
            if kind in trees:
                _put(trees[kind], path, leaf)
        state = {"buffers": trees["buffers"]} if trees["buffers"] else {}
        return trees["params"], self.remembered(state, memory)

    def joined(self, params: Params, state: State) -> tuple[Any, Any]:
        """The module and its state, or None."""
        trees = {"params": params, "buffers": state.get("buffers", {})}
        leaves = [_get(trees[kind], path) if kind in trees else leaf for path, kind, leaf in self.leaves]
        if self.memory is None:
            return jax.tree.unflatten(self.module, leaves), None
        memory = state["state"]
        arrays = [memory[str(i)] for i in range(len(memory))]
        return jax.tree.unflatten(self.module, leaves), jax.tree.unflatten(self.memory, arrays)

    def remembered(self, state: State, memory: Any) -> State:
        """`state` with the arrays of a module's state."""
        arrays = {str(i): jnp.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(memory))}
        return {**state, "state": arrays} if arrays else state


def _kind(leaf: Any) -> str:
    if not isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        return "fixed"
    return "params" if jnp.issubdtype(leaf.dtype, jnp.inexact) else "buffers"


def _text(key: Any) -> str:
    return str(next(getattr(key, name) for name in ("name", "key", "idx") if hasattr(key, name)))


def _put(tree: dict[str, Any], path: tuple[str, ...], leaf: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = leaf


def _get(tree: dict[str, Any], path: tuple[str, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree
