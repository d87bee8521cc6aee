"""Kind of a loss, found by its values: on logits of a softmax or a sigmoid, on probabilities, or another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

Kind = Literal["softmax", "sigmoid", "probabilities", "other"]


def kind_of(loss: Callable[..., Any] | None, prediction: jax.Array, target: jax.Array) -> Kind:
    """Kind of a loss for predictions and targets like those given; works for user-defined losses.

    A loss on logits of a softmax does not change if a number is added to all logits of an example. A loss on the logit
    of a sigmoid is 0 for a large logit of class 1, and linear for a large negative one. A loss on probabilities is the
    negative logarithm of the predicted probability.

    Args:
      loss: `(prediction, target) -> residuals`; None is "other".
      prediction: predictions.
      target: targets.

    >>> import jaxnn as nn
    >>> kind_of(nn.losses.softmax_cross_entropy, jnp.zeros((4, 3)), jnp.array([0, 1, 2, 0]))
    'softmax'
    >>> kind_of(nn.losses.squared_error, jnp.zeros((4, 3)), jnp.ones((4, 3)))
    'other'
    """
    if loss is None or not all(hasattr(a, "ndim") for a in (prediction, target)):
        return "other"

    def at(prediction: jax.Array, target: jax.Array = target) -> Any:
        value = loss(prediction, target)
        return jnp.mean(value.total / value.count if hasattr(value, "total") else value)

    try:
        z = jax.random.normal(jax.random.key(0), prediction.shape, prediction.dtype)
        if prediction.shape != target.shape or prediction.shape[-1] > 1:
            p = jax.nn.softmax(z)
            if jnp.isfinite(at(z)) and jnp.allclose(at(z), at(z + 3), rtol=1e-3) and not jnp.allclose(at(z), at(-z)):
                return "softmax"
            if target.ndim == prediction.ndim - 1 and jnp.issubdtype(target.dtype, jnp.integer):
                chosen = jnp.take_along_axis(p, target[..., None], -1)
                return "probabilities" if jnp.allclose(at(p), -jnp.mean(jnp.log(chosen)), rtol=1e-2) else "other"
        one, large = jnp.ones_like(target), jnp.full_like(prediction, 50)
        if at(large, one) < 1 and 30 < at(-large, one) < 70:
            return "sigmoid"
        half = jnp.full_like(prediction, 0.3)
        return "probabilities" if jnp.allclose(at(half, one), -jnp.log(0.3), rtol=1e-2) else "other"
    except (TypeError, ValueError):  # a loss of other arguments
        return "other"
