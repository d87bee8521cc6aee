"""Metrics of regression."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._dtypes import widened
from jaxnn._errors import invalid
from jaxnn.metrics._checks import times


def r2(
    prediction: ArrayLike, target: ArrayLike, *, weights: ArrayLike | None = None, where: ArrayLike | None = None
) -> Array:
    """Coefficient of determination, [n, ...], [n, ...] -> []: 1 - Σ (t - p)² / Σ (t - mean t)².

    1 is perfect, 0 as good as the mean of the targets, and there is no lower bound. Axes after the first are outputs:
    each has its own, and the result is their plain mean. It grows with the spread of the targets, so it does not
    compare models across sets. Takes the predictions of the whole set. Computed about the mean, in two passes.

    Args:
      target: of a real dtype. Constant targets (or a single one) have no spread: NaN, where scikit-learn has 1 or 0, or
        NaN and -inf with `force_finite=False`.
      weights, where: [n], one for each example.

    Raises TypeError for an integer prediction, ValueError if the shapes differ or there is no axis. As scikit-learn's
    `r2_score` with `multioutput="uniform_average"`, and its arguments the other way round.

    >>> r2(jnp.array([1.0, 2.0, 4.0]), jnp.array([1.0, 2.0, 3.0])).item()
    0.5
    """
    p = widened(check.array_like("r2", "prediction", prediction))
    check.kind("r2", "target", target, "real")
    t = jnp.asarray(target)
    check.same_shape("r2", "prediction", prediction, "target", t)
    if not p.ndim:
        raise invalid("r2", "prediction of shape [n, ...]", prediction, "The first axis holds the examples.")
    w = times("r2", p.shape[:1], weights, where).astype(p.dtype)
    w = jnp.broadcast_to(w.reshape(-1, *[1] * (p.ndim - 1)), p.shape)
    p, t = jnp.where(w != 0, p, 0), jnp.where(w != 0, t.astype(p.dtype), 0)

    mean = (w * t).sum(axis=0, keepdims=True) / w.sum(axis=0, keepdims=True)
    spread = (w * (t - mean) ** 2).sum(axis=0)
    least = jnp.where(w != 0, t, jnp.inf).min(axis=0, initial=jnp.inf)  # a constant's mean is off by its rounding
    most = jnp.where(w != 0, t, -jnp.inf).max(axis=0, initial=-jnp.inf)
    value = jnp.where(least == most, jnp.nan, 1 - (w * (t - p) ** 2).sum(axis=0) / spread)
    return value.mean().astype(jnp.float32)
