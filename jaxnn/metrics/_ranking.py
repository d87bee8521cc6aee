"""Ranking metrics: areas under the ROC and precision-recall curves, recall at k, mean average precision."""

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

    1/2 for uninformative scores, 1 if all positives rank before all negatives. It does not depend on the fraction of
    positives, so it is misleadingly high for rare positives: see `pr_auc`. It needs the predictions of the whole data
    set, which are sorted once.

    Args:
      scores: logits or probabilities, floating [n]; only their order matters. A NaN makes the result NaN.
      labels: booleans or the integers 0 and 1, [n]; others make the result NaN.
      weights: real array [n], one weight per example.
      where: boolean mask [n]; False excludes an example.

    Returns:
      Scalar; NaN if only one class occurs. For several classes or labels use `jax.vmap(roc_auc, in_axes=1)` on scores
      and one-hot labels, [n, k] each.

    Raises:
      TypeError: if the scores are not floating or the labels are floating.
      ValueError: if the shapes do not fit.

    Differences: scikit-learn's `roc_auc_score` takes the labels first. Keras's AUC is a sum over 200 thresholds.

    >>> roc_auc(jnp.array([0.1, 0.4, 0.35, 0.8]), jnp.array([0, 0, 1, 1])).item()
    0.75
    """
    tp, fp, valid = _curve("roc_auc", scores, labels, weights, where)
    area = jnp.sum(jnp.diff(fp) * (tp[1:] + tp[:-1]) / 2) / tp[-1] / fp[-1]
    return jnp.where(valid, area, jnp.nan)


def pr_auc(
    scores: ArrayLike, labels: ArrayLike, *, weights: ArrayLike | None = None, where: ArrayLike | None = None
) -> Array:
    """Average precision: the area under the precision-recall curve as a step function, [n], [n] -> []:

        AP = Σ_i (recall_i - recall_{i-1}) · precision_i      over the distinct scores, falling

    Use it for rare positives: uninformative scores give the fraction of positives. The trapezoidal rule (scikit-learn's
    `auc` of the curve) interpolates precision linearly between points, which no threshold attains, and overestimates
    the area. It needs the predictions of the whole data set, which are sorted once.

    Args:
      scores: logits or probabilities, floating [n]; only their order matters. A NaN makes the result NaN.
      labels: booleans or the integers 0 and 1, [n]; others make the result NaN.
      weights: real array [n], one weight per example.
      where: boolean mask [n]; False excludes an example.

    Returns:
      Scalar; NaN without positives.

    Raises:
      TypeError: if the scores are not floating or the labels are floating.
      ValueError: if the shapes do not fit.

    Differences: scikit-learn's `average_precision_score` takes the labels first, and gives 0 without positives. Keras's
    AUC(curve="PR") interpolates.

    >>> pr_auc(jnp.array([0.1, 0.4, 0.35, 0.8]), jnp.array([0, 0, 1, 1])).item()
    0.833...
    """
    tp, fp, valid = _curve("pr_auc", scores, labels, weights, where)
    precision = tp[1:] / jnp.where(tp[1:] > 0, tp[1:] + fp[1:], 1)
    return jnp.where(valid, jnp.sum(jnp.diff(tp) * precision) / tp[-1], jnp.nan)


def _curve(
    name: str, scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None, where: ArrayLike | None
) -> tuple[Array, Array, Array]:
    """True and false positives, [n + 1] each, at thresholds from above the highest score to the lowest; and validity.

    Tied scores all have the counts of their last element, so the curve has one point per distinct score.
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
    """Recall@k: the fraction of examples with one of their class among their k nearest others, [n, n], [n] -> [].

    For embeddings from metric learning (Siamese, triplet, contrastive): pass `e @ e.T` of unit vectors, or minus a
    distance. An example never counts as its own neighbour; the diagonal is ignored. Among equal similarities the lower
    index ranks first. Examples without another of their class are excluded from the mean, but remain neighbours. An
    example with NaN among its similarities counts as wrong. Needs memory for a few arrays of size n².

    Args:
      similarity: floating [n, n]; row i holds the similarities of query i, larger is nearer. It need not be symmetric.
      labels: integers or booleans [n]; any integer is a valid label.
      k: number of neighbours, >= 1.
      where: boolean mask [n]; False excludes an example as query and as neighbour.

    Raises:
      TypeError: if the similarity is not floating or the labels are floating.
      ValueError: if the shapes do not fit or `k` is out of range.

    Differences: as Recall@K in metric learning, a hit rate. Recall in information retrieval is the fraction of all
    relevant items that is found.

    Reference: Song et al., Deep Metric Learning via Lifted Structured Feature Embedding, 2016.

    >>> e = jnp.array([0.0, 0.1, 0.3, 1.0])
    >>> recall_at_k(-jnp.abs(e[:, None] - e[None, :]), jnp.array([0, 0, 1, 1]), 1).item()
    0.75
    """
    s = check.array_like("recall_at_k", "similarity", similarity)
    if s.ndim != 2 or s.shape[0] != s.shape[1]:
        fix = "For embeddings e, [n, d], pass e @ e.T."
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


def retrieval_average_precision(
    relevant: ArrayLike, total: ArrayLike, *, weights: ArrayLike | None = None, where: ArrayLike | None = None
) -> Array:
    """Mean average precision of ranked results, [n, k], [n] -> []: the mean over the queries of

        AP = Σ_i relevant_i · precision_i / total,      precision_i = (relevant_1 + ... + relevant_i) / i

    1 if all relevant items come first. Results beyond the k-th count as not found: with k smaller than `total` a
    perfect search has k / total, and `jnp.minimum(total, k)` as the total gives 1. For the results of `nn.retrieval`
    and labels, `relevant = labels[found.indices] == label_of_query[:, None]`. Recall@k, as a hit rate, is
    `relevant.any(axis=1).mean()`.

    Args:
      relevant: booleans, or the integers 0 and 1, [n, k]; results of each query, best first. Others make the result of
        their query NaN.
      total: number of relevant items of each query in the whole collection, integers [n]. Queries with 0 are left out.
      weights: real array [n], one weight per query.
      where: boolean mask [n]; False excludes a query.

    Raises:
      TypeError: if an array is floating.
      ValueError: if the shapes do not fit.

    Differences: torchmetrics' `retrieval_average_precision` sorts scores itself, and divides by the relevant items that
      it is given, so that items beyond k do not count as missed. `pr_auc` is the same number for one query if all items
      are ranked and no scores tie. `mean_average_precision` is that of object detection.

    Reference: Manning, Raghavan and Schuetze, Introduction to Information Retrieval, 2008, section 8.4.

    >>> retrieval_average_precision(jnp.array([[1, 0, 1], [0, 1, 0]]), jnp.array([2, 1])).item()
    0.66...
    """
    name = "retrieval_average_precision"
    if jnp.ndim(relevant) != 2:
        raise invalid(name, "relevant of shape [n, k]", relevant)
    y, known = class_numbers(name, "relevant", relevant, 2, "They are booleans, or 0 and 1.")
    found = whole(name, "total", total, "It counts the relevant items of each query.")
    check.shape(name, "total", total, y.shape[:1], ", one for each query")
    hits = jnp.cumsum(y, axis=1).astype(jnp.float32)
    ranks = jnp.arange(1, y.shape[1] + 1, dtype=jnp.float32)[None]
    each = jnp.sum(y.astype(jnp.float32) * hits / ranks, axis=1) / jnp.maximum(found, 1).astype(jnp.float32)
    w = times(name, found.shape, weights, where)
    return mean(jnp.where(known.all(axis=1), each, jnp.nan), jnp.where(found > 0, w, 0))
