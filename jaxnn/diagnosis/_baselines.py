"""Baselines that need no training: the best constant answer, a linear model, and nearest neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import _checks as check
from jaxnn.linear import linear_regression, predict
from jaxnn.retrieval import index, nearest

NEIGHBOURS = 5
RIDGE = 1.0  # times the number of examples over 100, on standardized features


class Scores(NamedTuple):
    """Scores of baselines on held-out examples: accuracy, or R² for regression.

    Attributes:
      constant: the best constant answer: the most frequent held-out class, or the mean, R² = 0.
      linear: ridge regression, on one-hot targets for classes.
      nearest: the vote, or the mean, of the 5 nearest neighbours.
      deviation: standard deviation of the accuracy of a constant answer by chance; 0 for regression.
    """

    constant: float
    linear: float
    nearest: float
    deviation: float


def best_constant(loss: Callable[..., Any], prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Smallest mean loss of one constant prediction, [n, ...], [n, ...] -> [].

    Candidates are the mean and the median of the targets, their logits, and, for integer targets, the fractions of the
    classes and their logarithms. These contain the optimum of squared and absolute errors and of cross-entropies.

    Args:
      loss: `(prediction, target) -> residuals`, or a number.
      prediction: predictions, for their shape and dtype.
      target: targets.

    >>> import jaxnn as nn
    >>> y = jnp.array([0, 1, 1, 1])
    >>> entropy = best_constant(nn.losses.softmax_cross_entropy, jnp.zeros((4, 2)), y)
    >>> f"{entropy:.4f}"
    '0.5623'
    """
    last = prediction.shape[-1] if prediction.ndim else 1
    if jnp.issubdtype(target.dtype, jnp.integer) and target.ndim == prediction.ndim - 1:
        share = jnp.mean(jax.nn.one_hot(target.ravel(), last), axis=0)
        candidates = [jnp.log(jnp.maximum(share, 1e-7)), share]
    else:
        y = target.astype(jnp.float32)
        mean = jnp.mean(y, axis=0)
        inside = jnp.clip(mean, 1e-6, 1 - 1e-6)
        candidates = [mean, jnp.median(y, axis=0), jnp.log(inside) - jnp.log1p(-inside)]
    like, dtype = prediction.shape, prediction.dtype
    values = [_mean_loss(loss, jnp.broadcast_to(c, like).astype(dtype), target) for c in candidates]
    return jnp.nanmin(jnp.stack(values))


def _mean_loss(loss: Callable[..., Any], prediction: jax.Array, target: jax.Array) -> jax.Array:
    value = loss(prediction, target)
    value = value.total / value.count if hasattr(value, "total") else value
    return jnp.mean(value).astype(jnp.float32)


def baseline_scores(x: np.ndarray, y: np.ndarray, held: tuple[np.ndarray, np.ndarray], classes: int | None) -> Scores:
    """Scores of constant, linear model and nearest neighbours, trained on [n, d], [n, ...], on held-out examples.

    Args:
      x, y: training inputs and targets: integer [n] for classes, else floating [n, ...].
      held: inputs and targets of the held-out examples.
      classes: number of classes; None for regression.

    >>> x = np.arange(40.0)[:, None]
    >>> baseline_scores(x, 2 * x, (x, 2 * x), None).linear > 0.98
    True
    """
    classes = None if classes is None else check.count("baseline_scores", "classes", classes)
    train, test = _standardized(x, held[0])
    targets = np.eye(classes)[y] if classes else y.reshape(len(y), -1)
    wanted = held[1] if classes else held[1].reshape(len(held[1]), -1)
    model = linear_regression(train, targets.astype(np.float32), ridge=RIDGE * len(x) / 100)
    straight = np.asarray(predict(model, test))
    voted = targets[_near(train, test, NEIGHBOURS)].mean(1)
    if classes:
        constant = float(np.bincount(wanted).max() / len(wanted))
        found = [float(np.mean(p.argmax(-1) == wanted)) for p in (straight, voted)]
        return Scores(constant, found[0], found[1], float(np.sqrt(max(constant * (1 - constant), 0.01) / len(wanted))))
    total = ((wanted - targets.mean(0)) ** 2).sum() + 1e-12
    found = [float(1 - ((p - wanted) ** 2).sum() / total) for p in (straight, voted)]
    return Scores(0.0, found[0], found[1], 0.0)


def votes(x: np.ndarray, y: np.ndarray, held: np.ndarray, classes: int, neighbours: int) -> np.ndarray:
    """Fraction of the nearest neighbours in each class, [n, d], [n], [m, d] -> [m, classes].

    Args:
      x, y: training inputs and class numbers.
      held: inputs of the held-out examples.
      classes: number of classes.
      neighbours: number of neighbours.

    >>> votes(np.arange(4.0)[:, None], np.array([0, 0, 1, 1]), np.array([[0.4]]), 2, 2).tolist()
    [[1.0, 0.0]]
    """
    train, test = _standardized(x, held)
    return np.asarray(np.eye(classes)[y][_near(train, test, neighbours)].mean(1))


def _standardized(x: np.ndarray, held: np.ndarray) -> list[np.ndarray]:
    mean, std = x.mean(0), x.std(0) + 1e-6 * (np.abs(x).max() + 1e-12)
    return [(np.clip((a - mean) / std, -10, 10)).astype(np.float32) for a in (x, held)]


def _near(train: np.ndarray, test: np.ndarray, neighbours: int) -> np.ndarray:
    """Indices of the nearest training examples, [m, neighbours]."""
    return np.asarray(nearest(index(train, metric="euclidean"), test, min(neighbours, len(train))).indices)
