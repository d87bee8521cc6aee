"""Gradients and updates by layer."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxnn._paths import path_tree
from jaxnn.train import Trainer, TrainState
from jaxnn.types import Arrays, Batch


def sizes(tree: Arrays) -> dict[str, jax.Array]:
    """Root mean square of each floating leaf, over its elements that are not 0, by path.

    Elements that are 0, such as the rows of an embedding that no example of the batch uses, do not lower it.

    Args:
      tree: pytree of arrays.

    >>> {path: v.item() for path, v in sizes({"w": jnp.array([3.0, 0.0, 3.0])}).items()}
    {'w': 3.0}
    """
    pairs = zip(jax.tree.leaves(path_tree(tree)), jax.tree.leaves(tree), strict=True)
    return {path: _size(a) for path, a in pairs if jnp.issubdtype(a.dtype, jnp.inexact)}


def _size(a: jax.Array) -> jax.Array:
    a = jnp.abs(a).astype(jnp.float32)
    return jnp.sqrt(jnp.sum(a**2) / jnp.maximum(jnp.sum(a != 0, dtype=jnp.float32), 1))


def gradient_sizes(trainer: Trainer, ts: TrainState, batch: Batch) -> dict[str, jax.Array]:
    """Root mean square of the gradient of each trained param, by path.

    Args:
      trainer: a Trainer with `gradients`.
      ts: state of training.
      batch: batch of the step.

    >>> import jaxnn as nn
    >>> t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.sgd(0.1))
    >>> batch = jnp.ones((4, 3)), jnp.zeros((4, 1))
    >>> list(gradient_sizes(t, t.init(jax.random.key(0), batch), batch))
    ['b', 'w']
    """
    assert trainer.gradients is not None
    return sizes(trainer.gradients(ts, batch))


def update_ratios(trainer: Trainer, ts: TrainState, batch: Batch) -> dict[str, jax.Array]:
    """Ratio |update| / |param| of the next step for each param that is not 0, by path.

    Values near 1e-3 are usual; above 0.1 a step replaces the param instead of improving it.

    Args:
      trainer: a Trainer.
      ts: state of training.
      batch: batch of the step.

    >>> import jaxnn as nn
    >>> t = nn.trainer(nn.dense(1, bias=False), nn.losses.squared_error, nn.sgd(0.0))
    >>> batch = jnp.ones((4, 3)), jnp.zeros((4, 1))
    >>> update_ratios(t, t.init(jax.random.key(0), batch), batch)["w"].item()
    0.0
    """
    after, _ = trainer.step(ts, batch)
    moved = _norms(jax.tree.map(jnp.subtract, after.params, ts.params))
    return {path: _ratio(moved[path], norm) for path, norm in _norms(ts.params).items()}


def _norms(tree: Arrays) -> dict[str, jax.Array]:
    pairs: Any = zip(jax.tree.leaves(path_tree(tree)), jax.tree.leaves(tree), strict=True)
    return {path: jnp.linalg.norm(a.astype(jnp.float32).ravel()) for path, a in pairs}


def _ratio(moved: jax.Array, norm: jax.Array) -> jax.Array:
    return jnp.where(norm > 0, moved / jnp.where(norm > 0, norm, 1), 0)
