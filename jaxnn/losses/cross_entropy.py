"""Cross-entropies: from logits in log space, from probabilities clipped."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._dtypes import widened
from jaxnn._errors import invalid
from jaxnn.losses._checks import (
    _bits,
    _class_weights,
    _classes,
    _cost,
    _costs,
    _distribution,
    _expected,
    _floor,
    _like,
    _masked,
    _not_ignored,
    _number,
    _of_class,
    _option,
    _pair,
    _probability,
    _rest,
    _share,
    _small,
)

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_on_probabilities",
    "cross_entropy_on_log_probabilities",
    "cross_entropy_on_probabilities",
    "softmax_cross_entropy",
]


def softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    class_weights: ArrayLike | None = None,
    label_smoothing: ArrayLike | None = None,
    ignore_label: int | None = None,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Cross-entropy of softmax(logits) against labels, [..., k], [..., k] or integer [...] -> [...].

        integer labels:  -log softmax(x)_y      = log Σ_j exp(x_j) - x_y
        float labels:    -Σ_i p_i log softmax(x)_i = log Σ_j exp(x_j) · Σ_i p_i - Σ_i p_i x_i
        class weights w and label smoothing a:  the same with w_i ((1 - a) p_i + a / k) for p_i

    In [0, inf), in nats; log k for equal logits. The gradient is softmax(x) - p. A logit of -inf rules its class out:
    it adds nothing where its label is 0 (0 · inf is 0 here), and the loss is inf where it is the label, or where label
    smoothing gives it a share. A row without a softmax (all of it -inf, or one +inf) gives NaN or inf, and NaN in its
    gradient.

    Only differences of logits count: adding a number to all of a row changes neither loss nor gradient. The relative
    error is a few roundings, times the distance of a logit from the largest where that is what the loss is made of:
    a loss of exp(-d) has an error of d roundings, 1e-6 for d = 15 in float32.

    Args:
      logits: unnormalised log-probabilities over the last axis, not probabilities; k >= 2.
      labels: class numbers 0 to k - 1, one rank less than the logits; or probabilities of their shape (one-hot or
        soft), taken as they are: nothing checks that they sum to 1.
      class_weights: [k], for classes of unequal number or cost. `jnp.mean` of the loss divides by n. The mean of a
        trainer divides by Σ_n w_y for integer labels, as PyTorch's does, and by n for float labels, as PyTorch's does.
      label_smoothing: the fraction a of the label spread evenly over the k classes, from 0 to 1; may be traced. None is
        off. Good against overconfidence; it hurts where the network is distilled from later (Müller et al., When Does
        Label Smoothing Help?, 2019).
      ignore_label: a class number at which loss and gradient are exactly 0, as by `where=labels != ignore_label`, such
        as -100 or 255; integer labels only. The mean of a trainer is over the other residuals, as PyTorch's; by hand
        that is `jnp.mean(loss, where=labels != ignore_label)`, since `jnp.mean` alone counts them all.
      weights: of the loss's shape, or a scalar; multiplies the loss.
      where: of the loss's shape: False leaves a residual out.

    Raises:
      TypeError for integer logits, boolean labels and an `ignore_label` that is not an int or comes with float labels;
      ValueError where the shapes do not fit, for a single class and for a smoothing out of range.

    Differences: class numbers out of range give NaN: optax counts negative ones from the end, PyTorch raises, except at
    its `ignore_index`, which is -100 by default. Keras takes probabilities unless `from_logits=True`. optax splits the
    two kinds of labels over two functions.

    Reference: Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2016 (label smoothing).

    >>> softmax_cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3])).tolist()  # log 4
    [1.386..., 1.386...]
    >>> softmax_cross_entropy(jnp.zeros((2, 4)), jnp.array([0, -1]), ignore_label=-1).tolist()
    [1.386..., 0.0]
    >>> softmax_cross_entropy(jnp.array([30.0, 15.0, 10.0]), jnp.array(0)).item()
    3.079...e-07
    """
    name = "softmax_cross_entropy"
    logits, labels = _classes(name, logits, labels)
    x, k = widened(logits), logits.shape[-1]
    live = _not_ignored(name, labels, ignore_label)
    w = None if class_weights is None else _class_weights(name, class_weights, k, x.dtype)
    smoothing = None
    if label_smoothing is not None:
        smoothing = _share(name, "label_smoothing", label_smoothing, x.dtype), _rest(label_smoothing, x.dtype)

    def loss(x: Array, y: Array) -> Array:
        if smoothing is None and jnp.issubdtype(y.dtype, jnp.integer):
            y, known = _number(y, k)
            value = _cost(x, y) if w is None else _expected(w[y], _cost(x, y))
            return value * jnp.where(known, 1.0, jnp.nan).astype(x.dtype)
        p = _distribution(y, k, x.dtype)
        if smoothing is not None:
            p = p * smoothing[1] + smoothing[0] / k
        return _expected(p if w is None else p * _like(w, p), _costs(x)).sum(axis=-1)

    share = None if w is None else _of_class(w, labels)
    return _masked(name, loss, [x, labels], x.shape[:-1], weights, where, live, share)


def binary_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    positive_weight: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Cross-entropy of σ(logits) against labels, elementwise [...], [...] -> [...]:

        -w y log σ(x) - (1 - y) log(1 - σ(x))
        = log(1 + exp(-|x|)) (w y + 1 - y) + |x| (1 - y if x > 0 else w y)      (w is the positive weight, 1 for None)

    In [0, inf), in nats; log 2 for logits of 0. The gradient is σ(x) - y, with w (1 - y) σ(x) - w y (1 - σ(x)). Logits
    of ±inf are certainty: loss 0 if the label agrees (0 · inf is 0 here), inf if it does not.

    Args:
      logits: log-odds, not probabilities. For several labels an example, [n, labels]; sum or average the last axis.
      labels: booleans, the integers 0 and 1 (others give NaN), or probabilities, taken as they are.
      positive_weight: w >= 0, for rare positives: negatives over positives balances them. A number, or [labels] for the
        last axis; may be traced. It changes the loss of a residual and not what the residual weighs in a mean.
      weights: of the loss's shape, or a scalar; multiplies the loss.
      where: of the loss's shape: False leaves a residual out.

    Raises:
      TypeError for integer logits; ValueError if the shapes differ or for a positive weight out of range.

    Differences: PyTorch's BCEWithLogitsLoss with its `pos_weight`, and optax's `sigmoid_binary_cross_entropy`, without
    their broadcasting. TensorFlow's `weighted_cross_entropy_with_logits` is the same with w. Keras takes probabilities
    unless `from_logits=True`, and averages over the last axis.

    >>> binary_cross_entropy(jnp.array([0.0, -50.0, 1e4]), jnp.array([1, 1, 1])).tolist()
    [0.693..., 50.0, 0.0]
    >>> binary_cross_entropy(jnp.zeros(3), jnp.array([1.0, 0.5, 0.0]), positive_weight=3.0).tolist()
    [2.079..., 1.386..., 0.693...]
    """
    name = "binary_cross_entropy"
    x, y = _pair(name, "logits", logits, "labels", labels)
    w = None if positive_weight is None else _positive_weight(name, positive_weight, x)

    def loss(x: Array, y: Array) -> Array:
        yes, no = y if w is None else w * y, 1 - y
        side = x > 0
        size = jnp.where(side, x, -x)  # |x|, but at 0 with the slope of the side that `wrong` takes: σ(x) - y holds
        wrong = jnp.where(side, no, yes)
        both = jnp.log1p(jnp.exp(-size))
        both = both if w is None else both * (yes + no)
        return both + wrong * jnp.where((wrong == 0) & (size == jnp.inf), 0, size)

    return _masked(name, loss, [x, _bits(y, x.dtype)], x.shape, weights, where)


def _positive_weight(name: str, w: ArrayLike, x: Array) -> Array:
    """A scalar, or an array with the rank of `x` for its last axis."""
    check.kind(name, "positive_weight", w, "floating or integer")
    if jnp.shape(w) == ():
        return _option(name, "positive_weight", w, x.dtype)
    if not x.ndim or jnp.shape(w) != x.shape[-1:]:
        last = f" or [{x.shape[-1]}], the logits' last axis" if x.ndim else ""
        raise invalid(name, f"positive_weight of shape []{last}", w, "Nothing is broadcast.")
    return _like(jnp.asarray(w).astype(x.dtype), x)


def binary_cross_entropy_on_probabilities(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    eps: ArrayLike = 1e-7,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Cross-entropy of probabilities against labels, elementwise [...], [...] -> [...]:

        -y log max(p, ε) - (1 - y) log max(1 - p, ε)

    In [0, -log ε], in nats. For a network that ends in a sigmoid already; else `binary_cross_entropy` from logits is
    the better one: a sigmoid rounds to 1 in float32 beyond 17, and the logit behind it is lost. The gradient is
    (1 - y) / max(1 - p, ε) - y / max(p, ε), clipped but not cut off: a confident mistake still points back, with 1/ε.

    Args:
      probabilities: from 0 to 1; numbers that are none (logits by mistake) give NaN. 1 % beyond is forgiven as
        rounding.
      labels: booleans, the integers 0 and 1 (others give NaN), or probabilities, taken as they are.
      eps: the smallest probability that counts, between 0 and 1.
      weights: of the loss's shape, or a scalar; multiplies the loss.
      where: of the loss's shape: False leaves a residual out.

    Raises:
      TypeError for integer probabilities; ValueError if the shapes differ or for an `eps` out of range.

    Differences: PyTorch's BCELoss clips the logarithms at -100. Keras clips p itself to [ε, 1 - ε], with ε = 1e-7 and
    no gradient where it does.

    >>> binary_cross_entropy_on_probabilities(jnp.array([0.5, 0.0]), jnp.array([1, 1])).tolist()
    [0.693..., 16.11...]
    """
    name = "binary_cross_entropy_on_probabilities"
    p, y = _pair(name, "probabilities", probabilities, "labels", labels)
    eps = _small(name, "eps", eps, p.dtype)

    def loss(p: Array, y: Array) -> Array:
        p = _probability(p)
        return -y * jnp.log(_floor(p, eps)) - (1 - y) * _log_complement(p, eps)

    return _masked(name, loss, [p, _bits(y, p.dtype)], p.shape, weights, where)


def _log_complement(p: Array, eps: Array) -> Array:
    """log max(1 - p, ε), with the digits of a small p, which 1 - p has not."""
    small = 1 - p > jnp.maximum(eps, 0.5)
    near = jnp.log1p(-_floor(jnp.where(small, p, 0), jnp.zeros_like(eps)))
    return jnp.where(small, near, jnp.log(_floor(jnp.where(small, 1, 1 - p), eps)))


def cross_entropy_on_probabilities(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    class_weights: ArrayLike | None = None,
    ignore_label: int | None = None,
    eps: ArrayLike = 1e-7,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Cross-entropy of probabilities against labels, [..., k], [..., k] or integer [...] -> [...]:

        integer labels:  -log max(p_y, ε)
        float labels:    -Σ_i y_i log max(p_i, ε)
        class weights w: the same with w_i y_i for y_i

    In [0, -log ε], in nats. For a network that ends in a softmax already; else `softmax_cross_entropy` from logits is
    the better one, exact where a softmax rounds to 0. The gradient is -y_i / max(p_i, ε): clipped, but not cut off.

    Args:
      probabilities: from 0 to 1, over the last axis; numbers that are none (logits by mistake) give NaN. They are taken
        as they are: a row is not divided by its sum, as Keras does.
      labels: class numbers 0 to k - 1 (others give NaN), one rank less; or probabilities of the same shape.
      class_weights, ignore_label, weights, where: as of `softmax_cross_entropy`.
      eps: the smallest probability that counts, between 0 and 1.

    Raises:
      TypeError for integer probabilities, boolean labels and an `ignore_label` that is not an int or comes with float
      labels; ValueError where the shapes do not fit, for a single class or for an `eps` out of range.

    Differences: Keras divides a row by its sum and clips p to [ε, 1 - ε], with ε = 1e-7 and no gradient where it does.
    PyTorch's NLLLoss takes log-probabilities.

    >>> cross_entropy_on_probabilities(jnp.array([[0.25, 0.75], [1.0, 0.0]]), jnp.array([0, 1])).tolist()
    [1.386..., 16.11...]
    """
    name = "cross_entropy_on_probabilities"
    probabilities, labels = _classes(name, probabilities, labels, "probabilities")
    p, k = widened(probabilities), probabilities.shape[-1]
    live = _not_ignored(name, labels, ignore_label)
    w = None if class_weights is None else _class_weights(name, class_weights, k, p.dtype)
    eps = _small(name, "eps", eps, p.dtype)

    def loss(p: Array, y: Array) -> Array:
        y = _distribution(y, k, p.dtype)
        y = y if w is None else y * _like(w, y)
        return -(y * jnp.log(_floor(_probability(p), eps))).sum(axis=-1)

    share = None if w is None else _of_class(w, labels)
    return _masked(name, loss, [p, labels], p.shape[:-1], weights, where, live, share)


def cross_entropy_on_log_probabilities(
    log_probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    class_weights: ArrayLike | None = None,
    ignore_label: int | None = None,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Cross-entropy of log-probabilities against labels, [..., k], [..., k] or integer [...] -> [...]:

        integer labels:  -x_y
        float labels:    -Σ_i p_i x_i
        class weights w: the same with w_i p_i for p_i

    The negative log-likelihood of a model that gives log-probabilities itself, such as a mixture or `log_softmax`; from
    logits `softmax_cross_entropy` is the same and faster. Nothing checks that the exponentials sum to 1. The gradient
    is -p.

    Args:
      log_probabilities: over the last axis; -inf adds nothing where its label is 0.
      labels: class numbers 0 to k - 1 (others give NaN), one rank less; or probabilities of the same shape.
      class_weights, ignore_label, weights, where: as of `softmax_cross_entropy`.

    Raises:
      TypeError for integer log-probabilities, boolean labels and an `ignore_label` that is not an int or comes with
      float labels; ValueError where the shapes do not fit and for a single class.

    Differences: PyTorch's NLLLoss has the classes on axis 1.

    >>> cross_entropy_on_log_probabilities(jnp.log(jnp.array([[0.25, 0.75]])), jnp.array([0])).tolist()
    [1.386...]
    """
    name = "cross_entropy_on_log_probabilities"
    log_probabilities, labels = _classes(name, log_probabilities, labels, "log_probabilities")
    x, k = widened(log_probabilities), log_probabilities.shape[-1]
    live = _not_ignored(name, labels, ignore_label)
    w = None if class_weights is None else _class_weights(name, class_weights, k, x.dtype)

    def loss(x: Array, y: Array) -> Array:
        p = _distribution(y, k, x.dtype)
        p = p if w is None else p * _like(w, p)
        return -(p * jnp.where((p == 0) & (x == -jnp.inf), 0, x)).sum(axis=-1)

    share = None if w is None else _of_class(w, labels)
    return _masked(name, loss, [x, labels], x.shape[:-1], weights, where, live, share)
