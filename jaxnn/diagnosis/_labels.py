"""Suspected wrong labels, the most wrong examples, and failures by class."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check


class LabelNoise(NamedTuple):
    """Result of `label_noise`.

    Attributes:
      suspected: True for examples whose label is probably wrong, [n].
      guess: the class that is probably correct, int32 [n]; the label itself where it is not suspected.
      joint: number of examples by label and by probable class, [k, k].
      margin: probability of the label minus the largest other one, [n]; the most negative are the most suspicious.
    """

    suspected: Array
    guess: Array
    joint: Array
    margin: Array


def label_noise(probabilities: ArrayLike, labels: ArrayLike) -> LabelNoise:
    """Labels that are probably wrong, by confident learning, [n, k], [n] -> `LabelNoise`; pure.

        t_j = mean of p_ij over the examples with label j
        probable class of i = argmax_j p_ij among the j with p_ij >= t_j, or the label if there is none

    An example is suspected if its probable class differs from its label.

    Args:
      probabilities: predicted by models that were not trained on the example, such as `cross_validate`'s, [n, k].
      labels: class numbers, integer [n].

    Raises:
      ValueError: if the shapes do not fit.

    Differences: cleanlab's `find_label_issues` by default prunes by the noise rate of each pair of classes; with
      `filter_by="confident_learning"` it returns these examples.

    Reference: Northcutt, Jiang and Chuang, Confident learning: estimating uncertainty in dataset labels, 2021.

    >>> p = jnp.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.05, 0.95], [0.95, 0.05]])
    >>> label_noise(p, jnp.array([0, 0, 1, 1, 1])).suspected.tolist()
    [False, False, False, False, True]
    """
    p, y = _checked("label_noise", "probabilities", probabilities, labels)
    k = p.shape[1]
    one_hot = jax.nn.one_hot(y, k, dtype=p.dtype)
    count = jnp.sum(one_hot, axis=0)
    threshold = jnp.sum(p * one_hot, axis=0) / jnp.maximum(count, 1)
    confident = (p >= threshold[None]) & (count > 0)[None]
    guess = jnp.argmax(jnp.where(confident, p, -1), axis=1).astype(jnp.int32)
    guess = jnp.where(jnp.any(confident, axis=1), guess, y.astype(jnp.int32))
    own = jnp.sum(p * one_hot, axis=1)
    margin = own - jnp.max(jnp.where(one_hot > 0, -1, p), axis=1)
    joint = jnp.zeros((k, k), jnp.int32).at[y, guess].add(1)
    return LabelNoise(guess != y, guess, joint, margin)


class Failures(NamedTuple):
    """Result of `failures`.

    Attributes:
      recall: fraction of the examples of each class that are predicted correctly, [k]; NaN for absent classes.
      precision: fraction of the predictions of each class that are correct, [k]; NaN for classes never predicted.
      confusion: number of examples by label and prediction, [k, k].
      worst: indices of the examples with the lowest probability of their label, lowest first.
    """

    recall: Array
    precision: Array
    confusion: Array
    worst: Array


def failures(logits: ArrayLike, labels: ArrayLike, *, worst: int = 10) -> Failures:
    """Failures of a classifier by class, and its most wrong examples, [n, k], [n] -> `Failures`; pure.

    Args:
      logits: predicted logits, or log-probabilities, [n, k].
      labels: class numbers, integer [n].
      worst: number of examples to list, at most n.

    Raises:
      ValueError: if the shapes do not fit.

    >>> failures(jnp.array([[2.0, 0.0], [0.0, 5.0], [0.0, 1.0]]), jnp.array([0, 0, 1]), worst=1).worst.tolist()
    [1]
    """
    z, y = _checked("failures", "logits", logits, labels)
    n, k = z.shape
    worst = check.count("failures", "worst", worst, 1, n)
    confusion = jnp.zeros((k, k), jnp.int32).at[y, jnp.argmax(z, axis=1)].add(1)
    right = jnp.diagonal(confusion)
    own = jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], axis=1)[:, 0]
    return Failures(
        right / jnp.sum(confusion, axis=1), right / jnp.sum(confusion, axis=0), confusion, jnp.argsort(own)[:worst]
    )


def _checked(where: str, name: str, scores: ArrayLike, labels: ArrayLike) -> tuple[Array, Array]:
    z = check.array(where, name, scores, rank=2, shape="[n, k]")
    check.kind(where, "labels", labels, "integer")
    check.shape(where, "labels", labels, (z.shape[0],))
    return z, jnp.asarray(labels)
