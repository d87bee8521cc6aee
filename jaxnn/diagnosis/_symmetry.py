"""Matrices whose units start equal and stay equal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.diagnosis._outputs import at
from jaxnn.types import Params

GATES = 1, 3, 4  # groups of units along the last axis: 3 in a GRU, 4 in an LSTM
ROUNDING = 1e-3  # difference between the changes of two units over the largest change


class Symmetry(NamedTuple):
    """A matrix before and after some steps.

    Attributes:
      equal: True if the weights of all units were equal before.
      kept: True if the steps changed all units equally.
      moved: True if the steps changed a weight.
      value: value of all weights before; NaN if they differ.
    """

    equal: jax.Array
    kept: jax.Array
    moved: jax.Array
    value: jax.Array


def symmetries(before: Params, after: Params, paths: Iterable[str]) -> dict[str, Symmetry]:
    """`Symmetry` of each param with two axes or more, by path. The last axis is that of the units.

    Args:
      before, after: params before and after some steps.
      paths: paths of params.

    >>> found = symmetries({"w": jnp.zeros((2, 3))}, {"w": jnp.ones((2, 3))}, ["w"])["w"]
    >>> bool(found.equal & found.kept), found.value.item()
    (True, 0.0)
    """
    pairs = {path: (at(before, path), at(after, path)) for path in paths}
    return {path: _symmetry(*pair) for path, pair in pairs.items() if pair[0].ndim >= 2}


def _symmetry(before: jax.Array, after: jax.Array) -> Symmetry:
    w = before.astype(jnp.float32)
    change = after.astype(jnp.float32) - w
    largest = jnp.max(jnp.abs(change), initial=0)
    value = jnp.where(jnp.all(w == w.ravel()[0]), w.ravel()[0], jnp.nan)
    return Symmetry(_alike(w, jnp.zeros(())), _alike(change, ROUNDING * largest), largest > 0, value)


def _alike(w: jax.Array, tolerance: jax.Array) -> jax.Array:
    """True if the units, or those of each gate, differ by no more than the tolerance."""
    k = w.shape[-1]
    gates = [w.reshape(*w.shape[:-1], g, k // g) for g in GATES if k % g == 0 and k // g > 1]
    same = [jnp.all(jnp.abs(units - units[..., :1]) <= tolerance) for units in gates]
    return jnp.any(jnp.stack(same)) if same else jnp.zeros((), bool)
