"""Statistics of the outputs of all layers of a model."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnn import _checks as check
from jaxnn._capture import capture, layer_paths
from jaxnn._layer import Layer
from jaxnn._padded import values_of
from jaxnn.types import Arrays, Key, Params, State

NEAR = 0.01  # distance from a bound at which a bounded unit counts as saturated


class Outputs(NamedTuple):
    """Statistics of one layer's output over the examples.

    Attributes:
      mean, std: over all elements.
      size: root mean square of all elements.
      zeros: fraction of elements that are exactly 0.
      dead: fraction of units, along the last axis, that are 0 for all examples.
      saturated: fraction of elements within 0.01 of -1 or 1, or of 0 or 1, for an output in [-1, 1] or [0, 1]; 0
        for other outputs, and for those with exact zeros.

    >>> observe(jnp.array([[0.0, 1.0], [0.0, 0.0]])).dead.item()
    0.5
    """

    mean: jax.Array
    std: jax.Array
    size: jax.Array
    zeros: jax.Array
    dead: jax.Array
    saturated: jax.Array


def observe(y: jax.Array) -> Outputs:
    """`Outputs` of an array [..., units].

    Args:
      y: floating array, examples and positions on the first axes.

    >>> observe(jnp.array([[3.0], [5.0]])).std.item()
    1.0
    """
    y = y.astype(jnp.float32)
    y = y.reshape(-1, y.shape[-1] if y.ndim else 1)
    low, high = jnp.min(y), jnp.max(y)
    zero = y == 0
    signed = (jnp.abs(y) > 1 - NEAR) & (low >= -1) & (low < 0) & (high <= 1)
    unsigned = ((y < NEAR) | (y > 1 - NEAR)) & (low >= 0) & (high <= 1) & ~jnp.any(zero)
    return Outputs(
        jnp.mean(y),
        jnp.std(y),
        jnp.sqrt(jnp.mean(y**2)),
        jnp.mean(zero),
        jnp.mean(jnp.all(zero, axis=0)),
        jnp.mean(signed | unsigned),
    )


def outputs(
    model: Layer, params: Params, state: State, x: Arrays, *, key: Key | None = None, train: bool = False
) -> dict[str, Outputs]:
    """Statistics of the output of every layer, by path in the order of the calls; a model without layers has path "".

    A layer that runs several times is described by its first output. Outputs that are not floating are left out. `jit`
    sorts the dict it returns by path.

    Args:
      model: layer or model.
      params, state: its arrays.
      x: input.
      key: random key, for dropout.
      train: a Python bool, as in `apply`.

    >>> import jaxnn as nn
    >>> model = nn.serial(nn.dense(8), nn.relu)
    >>> found = outputs(model, *model.init(jax.random.key(0), jnp.ones((2, 4))), jnp.ones((2, 4)))
    >>> list(found), bool(found["relu"].dead == found["relu"].zeros)
    (['dense', 'relu'], True)
    """
    check.flags("outputs", train=train)
    return {name: observe(y) for name, y in arrays(model, params, state, x, key=key, train=train).items()}


def arrays(
    model: Layer, params: Params, state: State, x: Arrays, *, key: Key | None = None, train: bool = False
) -> dict[str, jax.Array]:
    """The first floating output of every layer, by path in the order of the calls."""
    names = order(model, params, state, x)
    (y, inner), _ = capture(model, names).apply(params, state, x, key=key, train=train)
    found = {name: _first(v) for name, v in (inner if names else {"": y}).items()}
    return {name: v for name, v in found.items() if v is not None}


def _first(y: Arrays) -> Any:
    """The first floating array in an output, or None."""
    leaves = jax.tree.leaves(values_of(y))
    return next((leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.size), None)


def with_params(model: Layer, params: Params, state: State, x: Arrays) -> list[str]:
    """Paths of the innermost layers that have params, in the order of the calls; [""] for a model without layers.

    Args:
      model: layer or model.
      params, state: its arrays, or their shapes.
      x: input, or its shapes.
    """
    names = order(model, params, state, x)
    inner = [name for name in names if not any(other.startswith(f"{name}/") for other in names)]
    return [name for name in inner if jax.tree.leaves(at(params, name))] or [""]


def order(model: Layer, params: Params, state: State, x: Arrays) -> list[str]:
    """Paths of all layers in the order of the calls.

    Args:
      model: layer or model.
      params, state: its arrays, or their shapes.
      x: input, or its shapes.
    """
    return list(layer_paths(model, params, state, x))


def ordered(named: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """A dict by path with its keys in the order of `names`; other keys come last."""
    return {name: named[name] for name in dict.fromkeys([*names, *named]) if name in named}


def at(tree: Params, path: str) -> Arrays:
    """Node of a nested dict at a path; {} if there is none."""
    for name in path.split("/") if path else ():
        tree = tree.get(name, {}) if isinstance(tree, dict) else {}
    return tree
