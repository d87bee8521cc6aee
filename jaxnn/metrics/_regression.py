"""Regression metrics: coefficient of determination."""

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
    """Coefficient of determination R², [n, ...], [n, ...] -> []: 1 - Σ (t - p)² / Σ (t - mean t)².

    1 for perfect predictions, 0 for predicting the mean of the targets, without lower bound. Axes after the first are
    outputs: the result is the unweighted mean of their R². It grows with the variance of the targets, so it does not
    compare models across data sets. It needs the predictions of the whole data set. Computed about the mean, in two
    passes.

    Args:
      prediction: floating array [n, ...].
      target: real array of the same shape. Constant targets (or a single one) have variance 0 and give NaN.
      weights: real array [n], one weight per example.
      where: boolean mask [n]; False excludes an example.

    Raises:
      TypeError: if the prediction is not floating or the target is not real.
      ValueError: if the shapes differ or there is no axis.

    Differences: as scikit-learn's `r2_score` with `multioutput="uniform_average"`, which takes the target first. For
    constant targets it gives 1 or 0, or NaN and -inf with `force_finite=False`.

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
    least = jnp.where(w != 0, t, jnp.inf).min(axis=0, initial=jnp.inf)  # finds constants: their mean is rounded
    most = jnp.where(w != 0, t, -jnp.inf).max(axis=0, initial=-jnp.inf)
    value = jnp.where(least == most, jnp.nan, 1 - (w * (t - p) ** 2).sum(axis=0) / spread)
    return value.mean().astype(jnp.float32)
