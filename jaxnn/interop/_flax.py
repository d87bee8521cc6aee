"""Modules of flax.linen as layers, and layers as modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn._calls import recorded
from jaxnn._keys import fold_name
from jaxnn._layer import Layer, as_layer, layer
from jaxnn.interop._checks import (
    EVALUATION,
    TRAINING,
    check_flag,
    check_module,
    check_names,
    imported,
    name_of,
    plain_promotion,
)
from jaxnn.types import Arrays, Key, Params, State


@recorded
def flax_module(
    module: Any, *, flag: str | None = None, rngs: Sequence[str] = ("dropout",), name: str | None = None
) -> Layer:
    """Layer of a flax.linen module: its "params" are params, its other collections are state.

    The layer trains, is saved, exported and swept as those of `nn`. Paths are flax's, such as "Dense_0/kernel", and
    collections of state come first: "batch_stats/BatchNorm_0/mean". The module gets x as its only positional argument.

    Args:
      module: an instance of a flax.linen.Module. For a call with several inputs write a module that unpacks x.
      flag: the argument of its call that is set by `train`: "train", "training" or "is_training", or one that is set to
        the opposite, "deterministic", "use_running_average", "inference" or "eval". None: the first of these that the
        call has, if any.
      rngs: names of the random streams that the module draws from; each gets a key of its own, by its name, wherever
        the layer gets a key.
      name: pins the name of the layer; the default is the name of the module's class.

    Returns: a layer. Its collections change at training calls alone.

    Raises:
      ValueError: if flax is not installed, or the module's call does not have the flag.
      TypeError: for something that is not a module.

    Differences: `module.apply(..., train=..., rngs=..., mutable=...)` is called by the layer. flax draws other initial
      values from `layer.init(key, x)` than from `module.init(key, x)`, whose streams share the key.

    >>> import flax.linen
    >>> model = flax_module(flax.linen.Dense(3))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((2, 4)))
    >>> params["kernel"].shape, state, model.apply(params, state, jnp.ones((2, 4)))[0].shape
    ((4, 3), {}, (2, 3))
    """
    linen = imported("flax_module", "flax.linen", "flax")
    core = imported("flax_module", "flax.core", "flax")
    check_module("flax_module", module, linen.Module, "a flax.linen.Module")
    flag = check_flag("flax_module", flag, module, (*TRAINING, *EVALUATION))
    streams = check_names("flax_module", "rngs", rngs)

    def options(train: bool) -> dict[str, bool]:
        return {} if flag is None else {flag: train == (flag in TRAINING)}

    def collections(variables: Any) -> dict[str, Any]:
        plain = linen.meta.unbox(core.unfreeze(variables))
        return {kind: tree for kind, tree in plain.items() if jax.tree.leaves(tree)}

    def init(key: Key, x: Arrays) -> tuple[Params, State]:
        keys = {stream: fold_name(key, stream) for stream in ("params", *streams)}
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), x)
        with plain_promotion():
            state = collections(module.init(keys, zeros, **options(False)))
        return state.pop("params", {}), state

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        keys = None if key is None else {stream: fold_name(key, stream) for stream in streams}
        kept = {kind: tree for kind, tree in state.items() if isinstance(tree, dict)}  # records of `capture` are none
        variables = {**({"params": params} if params else {}), **kept}
        with plain_promotion():
            if not (train and kept):
                return module.apply(variables, x, rngs=keys, **options(train)), state
            y, changed = module.apply(variables, x, rngs=keys, mutable=[*kept], **options(train))
        return y, {**state, **collections(changed)}

    return layer(init, apply, name_of(module), name=name)


def as_flax(model: Layer, *, name: str | None = None) -> Any:
    """A layer as a flax.linen.Module, for models and train loops of flax: module(x, train=False) -> y.

    Params are variables of the collection "params", the state those of "state", under the names of the layer. The state
    changes in calls with train=True in which that collection is mutable. The stream "dropout" is the layer's key.

    Args:
      model: a layer. x has a batch axis, as for the layer.
      name: name of the module inside another one.

    Returns: an instance of flax.linen.Module.

    Raises:
      ValueError: if flax is not installed.
      TypeError: if `model` is neither a layer nor a function.

    Differences: flax derives its own keys, so `module.init(key, x)` draws other values than `model.init(key, x)`, whose
    params and state can be passed instead: {"params": params, "state": state}.

    >>> import flax.linen
    >>> module = as_flax(nn.dense(3))
    >>> variables = module.init(jax.random.key(0), jnp.ones((2, 4)))
    >>> jax.tree.map(jnp.shape, variables), module.apply(variables, jnp.ones((2, 4))).shape
    ({'params': {'b': (3,), 'w': (4, 3)}}, (2, 3))
    """
    linen = imported("as_flax", "flax.linen", "flax")
    model = as_layer(model, "as_flax")

    def __call__(self: Any, x: Arrays, train: bool = False) -> Arrays:
        if self.is_initializing():
            for collection, tree in zip(("params", "state"), model.init(self.make_rng("params"), x), strict=True):
                for part, value in tree.items():
                    self.put_variable(collection, part, value)
        params, state = (dict(self.variables.get(collection, {})) for collection in ("params", "state"))
        key = self.make_rng("dropout") if self.has_rng("dropout") else None
        y, changed = model.apply(params, state, x, key=key, train=train)
        if train and self.is_mutable_collection("state") and not self.is_initializing():
            for part, value in changed.items():
                self.put_variable("state", part, value)
        return y

    return type("LayerModule", (linen.Module,), {"__call__": linen.compact(__call__)})(name=name)
