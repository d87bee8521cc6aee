"""Activations that are flat for most of their inputs."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import jax
import jax.numpy as jnp

from jaxnn._capture import watched
from jaxnn._layer import Layer
from jaxnn.diagnosis._outputs import at
from jaxnn.types import Arrays, Params, State

FLAT = 0.01  # slope below which a unit hardly learns


def saturations(
    model: Layer, params: Params, state: State, x: Arrays, inner: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """Fraction of the outputs other than 0 of each bounded activation at which its slope is below 0.01, by path.

    A bounded activation is a layer without params that maps each number independently into [-1, 1]; the fraction of
    others is 0. The last layer is left out: probabilities near 0 and 1 are its purpose.

    Args:
      model: layer or model.
      params, state: its arrays.
      x: input.
      inner: path of a layer -> its output.
    """
    record = watched(model, params, state, x)
    paths = [path for path in record.seen if not any(other.startswith(f"{path}/") for other in record.seen)]
    found = {}
    for before, path in pairwise(paths[:-1]):
        if not {before, path} <= inner.keys() or jax.tree.leaves((at(params, path), at(state, path))):
            continue
        u, y = inner[before], inner[path]
        layer, shape = record.layers[path]
        if u.shape == y.shape == shape and u.dtype == y.dtype:
            found[path] = _flat(layer, u, y)
    return found


def _flat(layer: Layer, u: jax.Array, y: jax.Array) -> jax.Array:
    """Fraction of the outputs y other than 0 with a small slope; 0 if y is not bounded or not made of u by element."""

    def apply(u: jax.Array) -> jax.Array:
        out: jax.Array = layer.apply({}, {}, u)[0]
        return out

    signs = [jax.random.rademacher(jax.random.key(i), u.shape, u.dtype) for i in range(2)]
    made, slope = jax.jvp(apply, (u,), (signs[0],))
    slope, other = jnp.abs(slope), jnp.abs(jax.jvp(apply, (u,), (signs[1],))[1])
    single = jnp.all(made == y) & jnp.all(jnp.abs(y) <= 1) & jnp.all(jnp.abs(slope - other) <= 1e-3 * (slope + other))
    flat = jnp.sum((y != 0) & (slope < FLAT)) / jnp.maximum(jnp.sum(y != 0), 1)
    return jnp.where(single, flat, 0)
