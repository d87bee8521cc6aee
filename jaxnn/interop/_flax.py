"""Modules of flax.linen as layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn._calls import recorded
from jaxnn._keys import fold_name
from jaxnn._layer import Layer, layer
from jaxnn.interop._checks import check_flag, check_module, check_names, imported, name_of, plain_promotion
from jaxnn.types import Arrays, Key, Params, State

TRAINING = ("train", "training", "is_training")
EVALUATION = ("deterministic", "use_running_average", "inference", "eval")


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
