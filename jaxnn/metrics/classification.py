"""Metrics of logits and labels: how often the right class comes first, and how far confidence can be trusted."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn._errors import invalid
from jaxnn._inputs import check_count
from jaxnn.losses import _classes
from jaxnn.metrics._checks import counted, mean, wide


def accuracy(
    logits: ArrayLike, labels: ArrayLike, *, weights: ArrayLike | None = None, where: ArrayLike | None = None
) -> Array:
    """Share of examples with the largest logit at their label, [..., k], integer [...] or float [..., k] -> [].

    Float labels of the logits' shape (one-hot or soft) count by their own argmax. Ties go to the first maximum. An
    example with a NaN among its logits or labels is wrong, and so is one whose label is out of range. Of no
    examples it is NaN; of one, as under `vmap`, it is 1 or 0. The result is float32.

    Args:
      logits: scores over the last axis; only their order matters, so probabilities do as well.
      weights, where: [...], one for each example.

    Raises TypeError for integer logits and boolean labels, ValueError where the shapes do not fit. As scikit-learn's
    `accuracy_score` of the argmax, and Keras's SparseCategoricalAccuracy and CategoricalAccuracy in one.

    >>> accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1])).item()
    0.5
    """
    logits, labels = _classes("accuracy", logits, labels)
    w = counted("accuracy", logits.shape[:-1], weights, where)
    return mean(_right(logits, labels), w)


def top_k_accuracy(
    logits: ArrayLike, labels: ArrayLike, k: int, *, weights: ArrayLike | None = None, where: ArrayLike | None = None
) -> Array:
    """Share of examples with their label among the k largest logits, [..., c], integer [...] or float [..., c] -> [].

    Right where fewer than k classes come before the label's; of equal logits the first class does, so k = 1 is
    `accuracy`, whose rules for NaN, for labels of either kind and for those out of range hold here.

    Args:
      k: how many guesses an example has, 1 to c.
      weights, where: [...], one for each example.

    Raises TypeError for integer logits and boolean labels, ValueError where the shapes or k do not fit. As
    scikit-learn's `top_k_accuracy_score`, which gives ties to the last class, and Keras's
    SparseTopKCategoricalAccuracy, which takes them all as right.

    >>> top_k_accuracy(jnp.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]]), jnp.array([1, 2]), 2).item()
    0.5
    """
    logits, labels = _classes("top_k_accuracy", logits, labels)
    check_count("top_k_accuracy", "k", k)
    if k > logits.shape[-1]:
        raise invalid("top_k_accuracy", f"k of at most {logits.shape[-1]}, the number of classes", k)
    w = counted("top_k_accuracy", logits.shape[:-1], weights, where)
    y, known = _of_labels(labels, logits.shape[-1])
    of_label = jnp.take_along_axis(logits, y[..., None], axis=-1)
    classes = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    before = (logits > of_label) | ((logits == of_label) & (classes < y[..., None]))
    return mean((before.sum(axis=-1) < k) & known & ~jnp.isnan(logits).any(axis=-1), w)


def expected_calibration_error(
    logits: ArrayLike,
    labels: ArrayLike,
    bins: int = 15,
    *,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """How far confidence is from accuracy, [..., k], integer [...] or float [..., k] -> []:

        ECE = Σ_b |B_b| / n · |accuracy(B_b) - confidence(B_b)|

    An example's confidence is its largest softmax(logits), and B_b holds the confidences in ((b - 1)/bins, b/bins].
    In [0, 1], 0 when each bin is right as often as it says. It sees the first class alone, and both its value and its
    bias depend on the bins: compare at equal bins and n. A classifier that always says the base rate has 0.

    Args:
      logits: unnormalised log-probabilities; of probabilities p pass jnp.log(p). Binary log-odds z are logits [0, z].
        An example without a softmax (NaN, or all -inf) makes the result NaN.
      bins: how many, of equal width.
      weights, where: [...], one for each example.

    What counts as right is `accuracy`'s. Raises TypeError for integer logits and boolean labels, ValueError where the
    shapes or bins do not fit.

    Guo et al., On Calibration of Modern Neural Networks, 2017.

    >>> p = jnp.array([[0.75, 0.25], [0.75, 0.25]])  # sure to 0.75, right once in two
    >>> round(expected_calibration_error(jnp.log(p), jnp.array([0, 1])).item(), 6)
    0.25
    """
    logits, labels = _classes("expected_calibration_error", logits, labels)
    check_count("expected_calibration_error", "bins", bins)
    w = counted("expected_calibration_error", logits.shape[:-1], weights, where).astype(jnp.float32)
    confidence = jax.nn.softmax(wide(logits), axis=-1).max(axis=-1)
    gap = _right(logits, labels).astype(jnp.float32) - confidence.astype(jnp.float32)
    b = jnp.clip(jnp.ceil(confidence * bins).astype(jnp.int32) - 1, 0, bins - 1)
    return jnp.abs(jnp.zeros(bins, jnp.float32).at[b].add(jnp.where(w != 0, w * gap, 0))).sum() / w.sum()


def _right(logits: Array, labels: Array) -> Array:
    """Where the first of the largest logits is that of the label."""
    y, known = _of_labels(labels, logits.shape[-1])
    best = jnp.argmax(logits, axis=-1).astype(y.dtype)
    return (best == y) & known & ~jnp.isnan(logits).any(axis=-1)


def _of_labels(labels: Array, k: int) -> tuple[Array, Array]:
    """Checked labels of either kind as int32 class numbers, and where they are some."""
    if jnp.issubdtype(labels.dtype, jnp.floating):
        return jnp.argmax(labels, axis=-1).astype(jnp.int32), ~jnp.isnan(labels).any(axis=-1)
    y = labels if labels.dtype.itemsize >= 4 else labels.astype(jnp.int32)  # k may not fit into int8
    known = (y >= 0) & (y < k)
    return jnp.where(known, y, 0).astype(jnp.int32), known
