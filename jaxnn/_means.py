"""Means as a total and a count: what a loss or a metric of one batch adds to those of others."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array


class Mean(NamedTuple):
    """A mean as its two parts, so that the means of several batches combine exactly: add totals, add counts.

    A loss, an objective or a metric of a trainer may return one where each residual does not count 1.

    Attributes:
      total: the weighted sum of the values, [].
      count: the sum of their weights, [], >= 0.

    >>> Mean(jnp.array(6.0), jnp.array(3.0)).value.item()
    2.0
    """

    total: Array
    count: Array  # type: ignore[assignment]

    @property
    def value(self) -> Array:
        """total / count, and 0 where nothing counts, in value and gradient."""
        some = self.count != 0
        return jnp.where(some, self.total / jnp.where(some, self.count, 1).astype(self.total.dtype), 0)

    def __add__(self, other: Any) -> "Mean":  # type: ignore[override]
        return Mean(self.total + other.total, self.count + other.count.astype(self.count.dtype))


class Counts:
    """The losses and metrics that were computed inside `counting`, each with what its elements weigh."""

    def __init__(self) -> None:
        self.found: list[tuple[Any, Any]] = []

    def of(self, result: Any) -> Any:
        """The note for this very object: weights of a loss's elements, the `Mean` of a metric, or None."""
        return next((weights for value, weights in self.found if value is result), None)


_ACTIVE: ContextVar[Counts | None] = ContextVar("jaxnn_counts", default=None)


@contextmanager
def counting() -> Iterator[Counts]:
    """Collects what `counted` notes, so that the mean of what a user's function returns goes by what counts in it.

    A function such as `lambda p, y: softmax_cross_entropy(p, y, ignore_label=-1)` returns one number per residual;
    which of them count is known inside the loss alone.
    """
    counts = Counts()
    token = _ACTIVE.set(counts)
    try:
        yield counts
    finally:
        _ACTIVE.reset(token)


def counted(result: Array, weights: Any) -> Array:
    """`result`, noted with its weights (an array of its shape, or a `Mean`) for a `counting` around it."""
    active = _ACTIVE.get()
    if active is not None:
        active.found.append((result, weights))
    return result
