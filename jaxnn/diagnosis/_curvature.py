"""Sharpness: the largest eigenvalue of the Hessian of the loss."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxnn import _checks as check
from jaxnn.train import Trainer, TrainState
from jaxnn.types import Batch, Key


def sharpness(trainer: Trainer, ts: TrainState, batch: Batch, key: Key, *, steps: int = 20) -> jax.Array:
    """Largest eigenvalue of the Hessian of the loss by the trained params, by Lanczos' method, -> [].

    The loss is that of the next step: `train=True`, with its dropout masks. Gradient descent of rate r is stable only
    while the sharpness is below 2 / r.

    Args:
      trainer: a Trainer with `gradients`.
      ts: state of training.
      batch: batch of the step.
      key: key of the first vector.
      steps: number of Hessian-vector products and of vectors of the size of the params in memory, >= 1. Twenty give
        the largest eigenvalue to about a percent.

    Reference: Cohen et al., Gradient descent on neural networks typically occurs at the edge of stability, 2021.

    >>> import jaxnn as nn
    >>> t = nn.trainer(nn.dense(1, bias=False), nn.losses.squared_error, nn.sgd(0.1))
    >>> batch = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.zeros((2, 1))
    >>> sharpness(t, t.init(jax.random.key(0), batch), batch, jax.random.key(1), steps=2).round(3).item()  # of x^T x
    4.0
    """
    steps = check.count("sharpness", "steps", steps)
    assert trainer.gradients is not None
    gradient = trainer.gradients
    shapes = jax.eval_shape(gradient, ts, batch)
    params = _like(ts.params, shapes)
    flat, unravel = ravel_pytree(params)

    def product(v: jax.Array) -> jax.Array:
        def moved(p: Any) -> Any:
            return gradient(ts._replace(params=_put(ts.params, p)), batch)

        return ravel_pytree(jax.jvp(moved, (params,), (unravel(v),))[1])[0]

    steps = min(steps, flat.size)
    first = jax.random.normal(key, flat.shape, flat.dtype)

    def step(basis: jax.Array, i: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        v = basis[i]
        w = product(v)
        alpha = w @ v
        for _ in range(2):  # once more, as rounding errors would bring back the largest eigenvectors
            w = w - basis.T @ (basis @ w)
        beta = jnp.linalg.norm(w)
        w = jnp.where(beta > 1e-6 * jnp.abs(alpha), w / jnp.where(beta > 0, beta, 1), 0)
        return basis.at[i + 1].set(w), (alpha, beta)

    basis = jnp.zeros((steps + 1, flat.size), flat.dtype).at[0].set(first / jnp.linalg.norm(first))
    _, (alpha, beta) = jax.lax.scan(step, basis, jnp.arange(steps))
    matrix = jnp.diag(alpha) + jnp.diag(beta[:-1], 1) + jnp.diag(beta[:-1], -1)
    return jnp.linalg.eigvalsh(matrix)[-1]


def _like(tree: Any, part: Any) -> Any:
    """The leaves of a nested dict that `part`, a nested dict with fewer keys, has."""
    return {k: _like(tree[k], v) for k, v in part.items()} if isinstance(part, dict) else tree


def _put(tree: Any, part: Any) -> Any:
    """A nested dict with the leaves of `part`, a nested dict with fewer keys, in their places."""
    return {**tree, **{k: _put(tree[k], v) for k, v in part.items()}} if isinstance(part, dict) else part
