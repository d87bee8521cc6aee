"""Measurements of a state on one batch: outputs, gradients, losses, and the range of the predictions."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnn import _checks as check
from jaxnn._layer import Layer
from jaxnn._padded import values_of
from jaxnn.diagnosis._gradients import sizes
from jaxnn.diagnosis._outputs import Outputs, arrays, observe, with_params
from jaxnn.diagnosis._saturation import saturations
from jaxnn.train import Trainer, TrainState
from jaxnn.types import Arrays, Batch, Params, State

FAR = 1e3, 1e4  # factors on the params of the last layer: only a bounding activation keeps predictions bounded


class Range(NamedTuple):
    """Range that a model's predictions can reach.

    Attributes:
      low, high: bounds; -inf and inf where there is none.
      simplex: True if predictions are not negative and sum to 1 along the last axis.
    """

    low: jax.Array
    high: jax.Array
    simplex: jax.Array


class Look(NamedTuple):
    """Measurements of one state.

    Attributes:
      outputs: path of a layer -> `Outputs`.
      gradients: path of a param -> root mean square of its gradient.
      flat: path of a bounded activation -> fraction of its outputs with a slope below 0.01.
      losses: mean loss of the batch, with its targets permuted, and with the target of the first example for all.
      spread: median difference between the predictions of two examples; None without a model.
      range: `Range` of the predictions; None without a model.
    """

    outputs: dict[str, Outputs]
    gradients: dict[str, jax.Array]
    flat: dict[str, jax.Array]
    losses: jax.Array
    spread: jax.Array | None
    range: Range | None


def look(trainer: Trainer, ts: TrainState, batch: Batch) -> Look:
    """`Look` at a state with a batch; traceable. Parts that the trainer does not know are empty.

    Args:
      trainer: a Trainer.
      ts: state of training.
      batch: examples, `(x, y)` or `(x, y, weights)` if the trainer has a model.
    """
    gradients = {} if trainer.gradients is None else sizes(trainer.gradients(ts, batch))
    if trainer.model is None:
        return Look({}, gradients, {}, trainer.evaluate(ts, batch)["loss"][None], None, None)
    x, y = batch[:2]
    key = jax.random.fold_in(check.typed_key("diagnose", ts.key), ts.step)
    inner = arrays(trainer.model, ts.params, ts.state, x, key=key, train=True)
    found = {name: observe(y) for name, y in inner.items()}
    flat = saturations(trainer.model, ts.params, ts.state, x, inner)
    n = jax.tree.leaves(x)[0].shape[0]
    orders = jnp.arange(n), (jnp.arange(n) + n // 2) % n, jnp.zeros(n, jnp.int32)
    targets = [jax.tree.map(lambda a, rows=rows: a[rows], y) for rows in orders]
    losses = jnp.stack([trainer.evaluate(ts, (x, target, *batch[2:]))["loss"] for target in targets])
    prediction = values_of(trainer.model.apply(ts.params, ts.state, x)[0])
    if not hasattr(prediction, "ndim") or not prediction.ndim:
        return Look(found, gradients, flat, losses, None, None)
    spread = jnp.median(jnp.max(jnp.abs(prediction - prediction[orders[1]]).reshape(n, -1), axis=1))
    return Look(found, gradients, flat, losses, spread, output_range(trainer.model, ts.params, ts.state, x))


def output_range(model: Layer, params: Params, state: State, x: Arrays) -> Range:
    """`Range` of a model's predictions on x; traceable.

    A bound is a smallest or largest prediction that stays when the params of the last layer grow from 1000 to 10000
    times their values.

    Args:
      model: layer or model.
      params, state: its arrays.
      x: input.
    """
    last = with_params(model, params, state, x)[-1]
    path = last.split("/") if last else []
    near, far = (values_of(model.apply(_multiplied(params, path, by), state, x)[0]).astype(jnp.float32) for by in FAR)
    low = _bound(jnp.min(near), jnp.min(far), -jnp.inf)
    high = _bound(jnp.max(near), jnp.max(far), jnp.inf)
    simplex = jnp.all(near >= 0) & jnp.all(jnp.abs(jnp.sum(near, axis=-1) - 1) < 1e-3)
    return Range(low, high, simplex & (near.shape[-1] > 1))


def _bound(near: jax.Array, far: jax.Array, free: float) -> jax.Array:
    """An extreme prediction that stays, or `free`."""
    return jnp.where(jnp.abs(far - near) <= 1e-3 * jnp.maximum(1, jnp.abs(near)), near, free)


def _multiplied(params: Any, path: list[str], by: float) -> Any:
    """Params with those below a path multiplied by a number."""
    if path:
        return {**params, path[0]: _multiplied(params[path[0]], path[1:], by)}
    return jax.tree.map(lambda p: p * jnp.asarray(by, p.dtype), params)
