"""Metrics of order: areas under the curves of a binary score, and what comes first in a search."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._errors import invalid
from jaxnn.metrics._checks import class_numbers, mask, mean, times, whole


def roc_auc(
    scores: ArrayLike, labels: ArrayLike, *, weights: ArrayLike | None = None, where: ArrayLike | None = None
) -> Array:
    """Area under the ROC curve, [n], [n] -> []: P(a positive scores higher than a negative) + P(they tie) / 2.

    1/2 for scores that know nothing, 1 for all positives first. It does not see how rare positives are, so it flatters
    where they are: see `pr_auc`. Takes the predictions of the whole set, and sorts them once.

    Args:
      scores: logits or probabilities; only their order matters. A NaN makes the result NaN.
      labels: booleans, or the integers 0 and 1; others make the result NaN.
      weights, where: [n], one for each example.

    One class alone has no area: NaN. Several classes or labels are `jax.vmap(roc_auc, in_axes=1)` of scores and one-hot
    labels, [n, k] each. Raises TypeError for integer scores or floating labels, ValueError where the shapes do not fit.
    As scikit-learn's `roc_auc_score` with the arguments the other way round; Keras's AUC is a sum over 200 thresholds.

    >>> roc_auc(jnp.array([0.1, 0.4, 0.35, 0.8]), jnp.array([0, 0, 1, 1])).item()
    0.75
    """
    tp, fp, valid = _curve("roc_auc", scores, labels, weights, where)
    area = jnp.sum(jnp.diff(fp) * (tp[1:] + tp[:-1]) / 2) / tp[-1] / fp[-1]
    return jnp.where(valid, area, jnp.nan)


def pr_auc(
    scores: ArrayLike, labels: ArrayLike, *, weights: ArrayLike | None = None, where: ArrayLike | None = None
) -> Array:
    """Average precision, the area under the precision-recall curve as a sum of steps, [n], [n] -> []:

        AP = Σ_i (recall_i - recall_{i-1}) · precision_i      over the distinct scores, falling

    For rare positives: scores that know nothing have their share. The trapezoid (scikit-learn's `auc` of the curve)
    interpolates precision linearly between points, which no threshold reaches, and so is too high. Takes the
    predictions of the whole set, and sorts them once.

    Args:
      scores, labels, weights, where: as of `roc_auc`.

    Without positives it is NaN (scikit-learn has 0). Raises TypeError for integer scores or floating labels, ValueError
    where the shapes do not fit. As scikit-learn's `average_precision_score` with the arguments the other way round;
    Keras's AUC(curve="PR") interpolates.

    >>> pr_auc(jnp.array([0.1, 0.4, 0.35, 0.8]), jnp.array([0, 0, 1, 1])).item()
    0.833...
    """
    tp, fp, valid = _curve("pr_auc", scores, labels, weights, where)
    precision = tp[1:] / jnp.where(tp[1:] > 0, tp[1:] + fp[1:], 1)
    return jnp.where(valid, jnp.sum(jnp.diff(tp) * precision) / tp[-1], jnp.nan)


def _curve(
    name: str, scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None, where: ArrayLike | None
) -> tuple[Array, Array, Array]:
    """True and false positives, [n + 1] each, from none to all, at thresholds falling over the scores; and validity.

    Scores that tie all have the counts at their last, so that between them the curve does not move.
    """
    s = check.array_like(name, "scores", scores)
    y, known = class_numbers(name, "labels", labels, 2, "They are booleans, or 0 and 1.")
    check.same_shape(name, "scores", scores, "labels", labels)
    if s.ndim != 1:
        raise invalid(name, "scores of shape [n]", scores, f"Map over other axes: jax.vmap({name}, in_axes=1).")
    w = times(name, s.shape, weights, where)
    valid = jnp.all(known & ~jnp.isnan(s) | (w == 0))

    falling, y, w = jax.lax.sort((-s, y, w), num_keys=1)
    last = jnp.append(falling[1:] != falling[:-1], jnp.ones(min(1, s.size), bool))

    def curve(amount: Array) -> Array:
        total = jnp.cumsum(amount, dtype=amount.dtype)
        top = jnp.sum(amount, dtype=amount.dtype)
        total = jax.lax.cummin(jnp.where(last, total, top), axis=0, reverse=True)
        return jnp.append(jnp.zeros(1, jnp.float32), total.astype(jnp.float32))

    return curve(jnp.where(y == 1, w, 0)), curve(jnp.where(y == 0, w, 0)), valid


def recall_at_k(similarity: ArrayLike, labels: ArrayLike, k: int, *, where: ArrayLike | None = None) -> Array:
    """Share of examples with one of their own class among the k others most similar to them, [n, n], [n] -> [].

    For learned embeddings (siamese, triplet, contrastive): the similarity is `e @ e.T` of unit vectors, or minus a
    distance. The example itself never counts, whatever the diagonal holds. Of equal similarities the first comes first.
    Examples without another of their class are left out of the mean, though not of the search; one with a NaN
    among its similarities is wrong. In memory it is a few arrays of n².

    Args:
      similarity: row i holds those of query i, larger is nearer; it need not be symmetric.
      labels: any integers, or booleans.
      k: how many neighbours are looked at, >= 1.
      where: [n]; False leaves an example out both as a query and as a neighbour.

    As Recall@K of metric learning: it is a hit rate, and not the share of all relevant items that information
    retrieval calls recall. Raises TypeError for integer similarities or floating labels, ValueError where shapes or k
    do not fit.

    Song et al., Deep Metric Learning via Lifted Structured Feature Embedding, 2016.

    >>> e = jnp.array([0.0, 0.1, 0.3, 1.0])
    >>> recall_at_k(-jnp.abs(e[:, None] - e[None, :]), jnp.array([0, 0, 1, 1]), 1).item()
    0.75
    """
    s = check.array_like("recall_at_k", "similarity", similarity)
    if s.ndim != 2 or s.shape[0] != s.shape[1]:
        fix = "Of embeddings e, [n, d], it is e @ e.T."
        raise invalid("recall_at_k", "similarity of shape [n, n]", similarity, fix)
    n = s.shape[0]
    k = check.count("recall_at_k", "k", k)
    y = whole("recall_at_k", "labels", labels, "They are class numbers.")
    check.shape("recall_at_k", "labels", labels, (n,), ", one for each row")
    kept = mask("recall_at_k", where, (n,))

    other = ~jnp.eye(n, dtype=bool) & kept[None, :]
    match = other & (y[:, None] == y[None, :])
    nearest = jnp.where(match, s, -jnp.inf).max(axis=1, keepdims=True, initial=-jnp.inf)
    column = jax.lax.broadcasted_iota(jnp.int32, (n, n), 1)
    first = jnp.where(match & (s == nearest), column, n).min(axis=1, keepdims=True, initial=n)
    before = other & ((s > nearest) | ((s == nearest) & (column < first)))
    hit = (before.sum(axis=1) < k) & ~(jnp.isnan(s) & other).any(axis=1)
    return mean(hit, kept & match.any(axis=1))
