"""Means as total and count, so that losses and metrics of several batches combine exactly."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxnn.types import Arrays


class Mean(NamedTuple):
    """Mean as total and count. The means of several batches combine exactly: add totals, add counts.

    A loss, an objective or a metric of a trainer may return one if residuals have weights other than 1.

    Attributes:
      total: weighted sum of the values, [].
      count: sum of their weights, [], >= 0.

    >>> Mean(jnp.array(6.0), jnp.array(3.0)).value.item()
    2.0
    """

    total: Array
    count: Array  # type: ignore[assignment]

    @property
    def value(self) -> Array:
        """total / count, and 0 in value and gradient if the count is 0."""
        some = self.count != 0
        return jnp.where(some, self.total / jnp.where(some, self.count, 1).astype(self.total.dtype), 0)

    def __add__(self, other: Any) -> "Mean":
        return Mean(self.total + other.total, self.count + other.count.astype(self.count.dtype))


class Counts:
    """Losses and metrics that were computed inside `counting`, each with the weights of its elements."""

    def __init__(self) -> None:
        self.found: list[tuple[Any, Any]] = []

    def of(self, result: Any) -> Any:
        """Record of this very object: weights of a loss's elements, the `Mean` of a metric, or None."""
        return next((weights for value, weights in self.found if value is result), None)


_ACTIVE: ContextVar[Counts | None] = ContextVar("jaxnn_counts", default=None)


@contextmanager
def counting() -> Iterator[Counts]:
    """Collects the records of `counted`, so that the mean of a user's loss is taken over the elements that count.

    A function such as `lambda p, y: softmax_cross_entropy(p, y, ignore_label=-1)` returns one number per residual; only
    the loss knows which of them count.
    """
    counts = Counts()
    token = _ACTIVE.set(counts)
    try:
        yield counts
    finally:
        _ACTIVE.reset(token)


def counted(result: Array, weights: Arrays) -> Array:
    """`result`, recorded with its weights (an array of its shape, or a `Mean`) for an enclosing `counting`."""
    active = _ACTIVE.get()
    if active is not None:
        active.found.append((result, weights))
    return result
