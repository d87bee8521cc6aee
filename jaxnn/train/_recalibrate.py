"""Recomputed statistics of normalisation layers over a data set."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxnn import _checks as check
from jaxnn._layer import Layer
from jaxnn.types import Arrays, Batch, Key, Params, State


def recalibrate(
    model: Layer, params: Params, state: State, x: Arrays, *, batch_size: int = 256, key: Key | None = None
) -> Any:
    """State with the mean and variance of every batch norm over all of x, [n, ...], instead of moving averages.

    The model runs over batches with `train=True`; each layer merges the statistics of its batches exactly, whatever
    their sizes, so that the result is that of all n of its inputs. Use it after averaging weights (EMA, ensembles) and
    after short training, where the moving averages belong to other weights. A pure function: it can be jitted and
    vmapped.

    Args:
      model: a Layer.
      params, state: params and state of the model.
      x: an array, or a pytree of arrays with examples on axis 0.
      batch_size: examples per batch, >= 1; the last batch may be smaller. The inputs of a layer are normalised by the
        statistics of their batch in the layers before it.
      key: a JAX key for random layers; None if there are none.

    Returns:
      The state; that of other layers is as after training on the same batches.

    Raises:
      TypeError: if `model` is not a Layer, or x is not arrays.
      ValueError: if there are no examples, or arrays differ in length.

    Differences: PyTorch's `update_bn` gives all batches equal weights.

    >>> import jaxnn as nn
    >>> model = nn.batch_norm()
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 1)))
    >>> state = recalibrate(model, params, state, jnp.array([[1.0], [2.0], [6.0]]), batch_size=2)
    >>> jnp.allclose(state["mean"], 3).item(), jnp.allclose(state["var"], 14 / 3).item()
    (True, True)
    """
    check.model("recalibrate", "model", model)
    batch_size = check.count("recalibrate", "batch_size", batch_size)
    x = jax.tree.map(jnp.asarray, x)
    n = check.examples("recalibrate", "x", x)
    whole = n // batch_size

    def step(carry: Arrays, batch: Batch) -> tuple[Any, None]:
        state, i = carry
        k = None if key is None else jax.random.fold_in(key, i)
        return (model.apply(params, state, batch, key=k, train=True)[1], i + 1), None

    carry = _counting(state), jnp.zeros((), jnp.int32)
    if whole:
        cut = jax.tree.map(lambda a: a[: whole * batch_size].reshape(whole, batch_size, *a.shape[1:]), x)
        carry, _ = jax.lax.scan(step, carry, cut)
    if n % batch_size:
        carry, _ = step(carry, jax.tree.map(lambda a: a[whole * batch_size :], x))
    return _counted(carry[0])


def _counting(state: State) -> Arrays:
    """The state with a count of 0 next to every mean and variance, so that a norm merges statistics exactly."""
    if not isinstance(state, dict):
        return state
    new = {name: _counting(node) for name, node in state.items()}
    return new | {"count": jnp.zeros((), jnp.float32)} if {"mean", "var"} <= set(new) else new


def _counted(state: State) -> Arrays:
    if not isinstance(state, dict):
        return state
    gone = {"count"} if {"mean", "var"} <= set(state) else set()
    return {name: _counted(node) for name, node in state.items() if name not in gone}
