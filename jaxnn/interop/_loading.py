"""Weights of other libraries as params and state of a layer, and back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxnn import _checks as check
from jaxnn._errors import invalid, wrong_type
from jaxnn._layer import Layer, as_layer, initial_state
from jaxnn.interop._match import Flatten, Matcher, Plan
from jaxnn.interop._names import Names, rules_of
from jaxnn.interop._read import read
from jaxnn.interop._units import Tree
from jaxnn.types import Arrays, Key, Params, State

Given = str | os.PathLike[str] | Mapping[str, Any]

LISTED = 5  # names in an error


def plan(
    model: Layer,
    x: Arrays,
    weights: Given,
    *,
    names: Names = None,
    layout: str = "torch",
    flatten: Flatten = None,
) -> Plan:
    """Table of the weights of a file and the params of a model that `load` would fill with them; nothing is loaded.

    Args:
      model, x, weights, names, layout, flatten: as in `load`.

    Returns:
      `Plan`, a named tuple that prints as a table.

    Raises:
      TypeError, ValueError: as `load`, but not for weights and params that do not match.

    >>> weights = {"fc.weight": np.ones((3, 4), np.float32), "fc.bias": np.ones(3, np.float32)}
    >>> plan(nn.dense(3, name="fc"), jnp.ones((1, 4)), weights, names={"fc": ""})
    weight     param  shape   param's shape  turn
    ────────────────────────────────────────────────────────
    fc.weight  w      [3, 4]  [4, 3]         transposed 1, 0
    fc.bias    b      [3]     [3]
    """
    model = as_layer(model, "interop.plan")
    return Matcher.of("interop.plan", model, x, layout, flatten).plan(
        "interop.plan", _mapping("interop.plan", weights), names
    )[0]


def load(
    model: Layer,
    x: Arrays,
    weights: Given,
    *,
    names: Names = None,
    layout: str = "torch",
    flatten: Flatten = None,
    strict: bool = True,
    key: Key | None = None,
) -> tuple[Params, State]:
    """Params and state of a model from the weights of another library.

    A weight is found by its name, turned into the layout of its layer and cast to the dtype of its param. The kind of
    the layer decides how, never the shape alone: square matrices of dense layers are transposed from PyTorch, those of
    embeddings are not. The kinds are dense, convolutions of 1 to 3 axes with groups, transposed and depthwise ones,
    norms with their running statistics, embeddings, positions, patches, prelu, rnn, lstm, gru, attention with fused or
    separate projections. A param of another layer is stored under its own name, in its own layout.

    A name such as "layer1.0.conv1.weight" is the path of a layer, "layer1/0/conv1", and the name of a weight in its
    library. Without rules the layer has this path. Rules rewrite the beginning of a name, component by component:

        names={
            "conv1": "stem/conv",                         # conv1.weight -> stem/conv/w
            "layer*.*.conv1": "stage{1}/block{2+1}/conv1",  # each * is a part of a component, {2+1} its number + 1
            "encoder.*.query": "block[{1}]/attention/q",  # [i]: copy i of a `repeat`
            "h.*.attn.c_attn": "block{1}/attention/qkv.T",  # .T: a matrix stored transposed, as in GPT-2
            "cls_token": "token/w",                       # a path of a param
            "fc": None,                                   # left out
            "": "backbone",                               # all other names, below this path
        }

    The first rule that fits a name is applied. Parts of an attention are q, k, v, o, kv and qkv.

    Args:
      model: a layer.
      x: input of the model, or its shape; nothing is computed from it but shapes.
      weights: a path, which `read` reads, or a mapping from names to arrays.
      names: rules, as a dict or a sequence of pairs, or a function from a name to a path or None.
      layout: library in whose layout the weights are: "torch", "keras", "flax" or "onnx". Layers of a Keras file may be
        numbered, as in "layers/dense/vars/0".
      flatten: shape [*space, c] of the features that are flattened before a dense layer, by its path, for "torch" and
        "onnx", which have channels first; None for a layer is no such order. Images, and sequences of convolutions,
        are known if `nn.flatten` flattens them.
      strict: if False, weights without a param are ignored and params without a weight are drawn.
      key: key for params that are drawn.

    Returns:
      (params, state), as `model.init(key, x)` returns them.

    Raises:
      ValueError: if a weight and its param have different shapes; with `strict`, if a weight or a param is left over;
        without it, if a param is to be drawn and there is no key.
      TypeError: if an argument is of a wrong type.

    Differences: PyTorch's `load_state_dict`, Keras's `load_weights`. PyTorch's batch norms have an unbiased running
    variance; eps is an argument of the layer and no weight.

    >>> weights = {"0.weight": np.ones((3, 4), np.float32), "0.bias": np.zeros(3, np.float32)}
    >>> model = nn.serial(nn.dense(3), nn.relu)
    >>> params, state = load(model, jnp.ones((1, 4)), weights, names={"0": "dense"})
    >>> params["dense"]["w"].shape
    (4, 3)
    """
    where = "interop.load"
    model = as_layer(model, where)
    check.flags(where, strict=strict)
    given = _mapping(where, weights)
    match = Matcher.of(where, model, x, layout, flatten)
    found, work = match.plan(where, given, names)
    _check_complete(where, found, strict, key)
    values = match.values(given, work)
    missing = [leaf for leaf in match.leaves.values() if (leaf.tree, leaf.path) not in values]
    drawn: Tree = ({}, {})
    if any(leaf.tree == 0 for leaf in missing):
        drawn = jax.jit(lambda key: model.init(key, match.x))(key)
    elif missing:
        drawn = ({}, initial_state(model, match.x, key=key))
    return match.trees(values, drawn)


def dump(
    model: Layer,
    x: Arrays,
    params: Params,
    state: State,
    *,
    names: Names = None,
    layout: str = "torch",
    flatten: Flatten = None,
) -> dict[str, np.ndarray]:
    """Params and state of a model as the weights of another library, the inverse of `load` with the same arguments.

    Weights that the rules leave out are absent. Of two biases that PyTorch adds, the second is 0. Loading the result
    gives the same params and state to the bit.

    Args:
      model, x: the model and its input, or its shape.
      params, state: as `init` returns them.
      names: rules as in `load`, applied backwards; not a function.
      layout, flatten: as in `load`.

    Returns:
      A dict from names to arrays, which `write` stores.

    Raises:
      ValueError: if params or state do not have the shapes of the model's.
      TypeError: if an argument is of a wrong type.

    Differences: PyTorch's `state_dict`, without counters of batches, which `load_state_dict` does not need.

    >>> model = nn.serial(nn.dense(3), nn.relu)
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 4)))
    >>> weights = dump(model, jnp.ones((1, 4)), params, state, names={"0": "dense"})
    >>> {name: weight.shape for name, weight in weights.items()}
    {'0.weight': (3, 4), '0.bias': (3,)}
    """
    where = "interop.dump"
    model = as_layer(model, where)
    match = Matcher.of(where, model, x, layout, flatten)
    rules = rules_of(where, names)
    if not isinstance(rules, list):
        raise wrong_type(where, "names as rules, which can be inverted", names, "Pass a dict from patterns to paths.")
    return match.weights(where, params, state, rules)


def _mapping(where: str, weights: Given) -> Mapping[str, Any]:
    """Weights as a mapping."""
    if isinstance(weights, str | os.PathLike):
        return read(weights)
    if not isinstance(weights, Mapping):
        raise wrong_type(where, "weights to be a path or a mapping from names to arrays", weights)
    return weights


def _counted(names: tuple[str, ...], one: str, several: str) -> str:
    """Number of names and the first of them, such as `2 params without a weight (a, b)`."""
    more = f", ... {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{len(names)} {one if len(names) == 1 else several} ({', '.join(names[:LISTED])}{more})"


def _check_complete(where: str, found: Plan, strict: bool, key: Key | None) -> None:
    """Raises for misfits, with `strict` for weights and params that are left over, and for a missing key."""
    misfits = tuple(f"{name}: {reason}" for name, reason in found.misfits)
    kinds = [(misfits, "misfit", "misfits")]
    if strict:
        kinds.append((found.missing, "param without a weight", "params without a weight"))
        kinds.append((found.unused, "weight without a param", "weights without a param"))
    parts = [_counted(*kind) for kind in kinds if kind[0]]
    if parts:
        fix = "Print interop.plan(...) for all of them; rules in names= rewrite names or leave weights out."
        raise invalid(where, "each weight to fit one param", told="; ".join(parts), fix=fix)
    if found.missing and key is None:
        told = f"None and {_counted(found.missing, 'param without a weight', 'params without a weight')}"
        raise invalid(where, "a key to draw params", told=told, fix="Pass key=jax.random.key(0).")
