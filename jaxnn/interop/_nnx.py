"""Modules of flax.nnx as layers, and layers as modules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn._calls import recorded
from jaxnn._errors import invalid, is_function
from jaxnn._keys import fold_name
from jaxnn._layer import Layer, as_layer, layer
from jaxnn.interop._checks import (
    EVALUATION,
    TRAINING,
    arguments_of,
    check_flag,
    check_module,
    imported,
    name_of,
    plain_promotion,
)
from jaxnn.types import Arrays, Key, Params, State

MODULE = "a flax.nnx.Module, or a function of an nnx.Rngs that makes one"

Variables = list[tuple[tuple[Any, ...], Any]]  # paths and variables of flax.nnx


@recorded
def nnx_module(module: Any, *, flag: str | None = None, name: str | None = None) -> Layer:
    """Layer of a flax.nnx module: its variables of the kind nnx.Param are params, all others are state.

    The layer trains, is saved, exported and swept as those of `nn`. Paths are those of the module: "layers/0/kernel",
    and in the state "norm/mean". Random streams of the module are no state: each call derives their keys from its key,
    by their paths. The module gets x as its only positional argument.

    Args:
      module: a function rngs -> module, from which `init` draws params: lambda rngs: nnx.Linear(4, 3, rngs=rngs). Or an
        nnx.Module, whose arrays `init` returns whatever its key.
      flag: an argument of the module's call that `train` sets, as in `flax_module`. Attributes need none: the module is
        in the mode of module.train() or module.eval().
      name: pins the name of the layer; the default is the name of the module's class.

    Returns: a layer. Its state changes at training calls alone. If the module's call takes `rngs`, it gets the key.

    Raises:
      ValueError: if flax is not installed, the module's call does not have the flag, or a call without a key draws
        random numbers.
      TypeError: for something that is not a module.

    Differences: `nnx.split`, `nnx.merge` and the modes are called by the layer; the module given is never changed.
      Intermediate values that it stores are dropped.

    >>> from flax import nnx
    >>> model = nnx_module(lambda rngs: nnx.Linear(4, 3, rngs=rngs))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((2, 4)))
    >>> params["kernel"].shape, state, model.apply(params, state, jnp.ones((2, 4)))[0].shape
    ((4, 3), {}, (2, 3))
    """
    nnx = imported("nnx_module", "flax.nnx", "flax")

    given = isinstance(module, nnx.Module) or not is_function(module)

    def made(key: Key | None) -> Any:
        found = module if given else module(nnx.Rngs(key))
        check_module("nnx_module", found, nnx.Module, MODULE)
        return found

    with plain_promotion():
        shapes = made(None) if given else nnx.eval_shape(lambda: made(jax.random.key(0)))
    where = name or name_of(shapes)
    flag = check_flag("nnx_module", flag, shapes, (*TRAINING, *EVALUATION))
    takes_rngs = "rngs" in arguments_of(shapes)
    graph, *parts = nnx.split(shapes, nnx.Param, nnx.RngState, ...)
    trained, streams, kept = (nnx.to_flat_state(part) for part in parts)

    def init(key: Key, x: Arrays) -> tuple[Params, State]:
        with plain_promotion():
            _, params, _, state = nnx.split(made(key), nnx.Param, nnx.RngState, ...)
        return _values(nnx.to_flat_state(params)), _values(nnx.to_flat_state(state))

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        seeds = {path: _seed(path, v, nnx, key) for path, v in streams}
        started = [(path, v.replace(seeds[path])) for path, v in streams]
        whole = nnx.merge(graph, nnx.from_flat_state([*_filled(trained, params), *started, *_filled(kept, state)]))
        options: dict[str, Any] = {} if flag is None else {flag: train == (flag in TRAINING)}
        options |= {"rngs": nnx.Rngs(key)} if takes_rngs and key is not None else {}
        with plain_promotion():
            (whole.train if train else whole.eval)()
            y = whole(x, **options)
        changed = dict(nnx.to_flat_state(nnx.state(whole)))
        if key is None and any(changed[path].get_value() is not seed for path, seed in seeds.items()):
            raise invalid(where, "a key, from which the module draws", told="None", fix="Pass key= to apply.")
        if not train:
            return y, state
        return y, {**state, **_values((path, changed[path]) for path, _ in kept)}

    return layer(init, apply, name_of(shapes), name=name)


def as_nnx(model: Layer, x: Arrays, *, rngs: Any) -> Any:
    """A layer as a flax.nnx.Module, for models and train loops of nnx: module(x) -> y.

    The attributes `params` and `state` are nested dicts of variables of the kinds nnx.Param and nnx.BatchStat, under
    the names of the layer. The module trains, with keys from its stream `rngs` and a new state after each call, unless
    its attribute `deterministic` is True, which module.eval() and `nnx.view` set.

    Args:
      model: a layer.
      x: input of the layer, with its batch axis, or its shape.
      rngs: an nnx.Rngs, whose stream "params" draws the params and whose stream "dropout" the keys of calls.

    Returns: an instance of flax.nnx.Module.

    Raises:
      ValueError: if flax is not installed.
      TypeError: if `model` is neither a layer nor a function.

    Differences: modules of nnx have the size of their input as an argument; this one takes it from x.

    >>> from flax import nnx
    >>> module = as_nnx(nn.dense(3), jnp.ones((2, 4)), rngs=nnx.Rngs(0))
    >>> module(jnp.ones((2, 4))).shape, module.params["w"].shape
    ((2, 3), (4, 3))
    """
    nnx = imported("as_nnx", "flax.nnx", "flax")
    model = as_layer(model, "as_nnx")

    def values(variables: Any) -> Any:
        return jax.tree.map(lambda v: v.get_value(), variables, is_leaf=lambda v: isinstance(v, nnx.Variable))

    class LayerModule(nnx.Module):  # type: ignore[misc, name-defined]
        def __init__(self, params: Params, state: State, stream: Any):
            self.params = nnx.data(jax.tree.map(nnx.Param, params))
            self.state = nnx.data(jax.tree.map(nnx.BatchStat, state))
            self.rngs = stream
            self.deterministic = False

        def set_view(self, deterministic: bool | None = None) -> None:
            """Sets the mode of the copy that `nnx.view` makes."""
            self.deterministic = self.deterministic if deterministic is None else deterministic

        def __call__(self, x: Arrays) -> Arrays:
            train = not self.deterministic
            key = self.rngs() if train else None
            y, changed = model.apply(values(self.params), values(self.state), x, key=key, train=train)
            if train:
                jax.tree.map(lambda new, v: v.set_value(new), changed, self.state)
            return y

    return LayerModule(*model.init(rngs.params(), x), rngs.dropout.fork())


def _seed(path: tuple[Any, ...], variable: Any, nnx: Any, key: Key | None) -> jax.Array:
    """The start of a random stream: keys derived from its path, or a count of 0."""
    if not isinstance(variable, nnx.RngKey):
        return jnp.zeros(variable.shape, variable.dtype)
    own: Any = fold_name(jax.random.key(0) if key is None else key, "/".join(map(str, path)))
    return jax.random.split(own, variable.shape) if variable.shape else own


def _values(variables: Iterable[tuple[tuple[Any, ...], Any]]) -> dict[str, Any]:
    """Values of variables as nested dicts."""
    tree: dict[str, Any] = {}
    for path, variable in variables:
        inner = tree
        for part in path[:-1]:
            inner = inner.setdefault(str(part), {})
        inner[str(path[-1])] = variable.get_value()
    return tree


def _filled(variables: Variables, tree: Any) -> Variables:
    """The variables with values from nested dicts."""

    def value(path: tuple[Any, ...]) -> Any:
        inner = tree
        for part in path:
            inner = inner[str(part)]
        return inner

    return [(path, variable.replace(value(path))) for path, variable in variables]
