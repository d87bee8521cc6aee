"""Cross-entropy losses: of logits, computed in log space, and of probabilities, clipped."""

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
    _log_complement,
    _masked,
    _not_ignored,
    _number,
    _of_class,
    _of_known,
    _option,
    _pair,
    _probability,
    _small,
    _smoother,
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

        integer labels:  -log softmax(x)_y         = log Σ_j exp(x_j) - x_y
        float labels:    -Σ_i p_i log softmax(x)_i = log Σ_j exp(x_j) · Σ_i p_i - Σ_i p_i x_i
        class weights w and label smoothing a:  as above with w_i ((1 - a) p_i + a / k) in place of p_i

    Range [0, inf), in nats; log k for equal logits. The gradient is softmax(x) - p. A logit of -inf gives its class
    probability 0: it contributes nothing where its label is 0 (0 · inf counts as 0), and the loss is inf where its
    label is not 0, which includes labels smoothed by `label_smoothing`. A row whose softmax is undefined (all logits
    -inf, or one +inf) gives NaN or inf, and NaN in its gradient.

    A constant added to all logits of a row changes neither loss nor gradient. The relative error is a few roundings,
    times the distance d of a logit from the largest where d determines the loss: a loss of exp(-d) has a relative error
    of d roundings, 1e-6 for d = 15 in float32.

    Args:
      logits: unnormalised log-probabilities over the last axis, not probabilities; floating; k >= 2.
      labels: class numbers 0 to k - 1 of shape [...], or probabilities [..., k] (one-hot or soft). Probabilities are
        used as given: their sum is not checked.
      class_weights: [k], for imbalanced classes or unequal costs. A trainer's mean divides by Σ_n w_y for integer
        labels and by n for float labels, as PyTorch's does. `jnp.mean` always divides by n.
      label_smoothing: fraction a of the label that is distributed evenly over the k classes, 0 <= a <= 1; may be
        traced. None disables it. It reduces overconfidence, but makes the network a worse teacher for distillation
        (Müller et al., When Does Label Smoothing Help?, 2019).
      ignore_label: class number, such as -100 or 255, at which loss and gradient are exactly 0, equivalent to
        `where=labels != ignore_label`; for integer labels only. A trainer's mean leaves these residuals out, as
        PyTorch's does. `jnp.mean` counts them: use `jnp.mean(loss, where=labels != ignore_label)`.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient to exactly 0.

    Raises:
      TypeError: if the logits are not floating, the labels are boolean, or `ignore_label` is not an int or is used with
        float labels.
      ValueError: if the shapes do not fit, there is a single class, or `label_smoothing` is out of range.

    Differences: class numbers out of range give NaN. optax counts negative ones from the end; PyTorch raises, except
    for its `ignore_index`, -100 by default. Keras takes probabilities unless `from_logits=True`. optax has separate
    functions for the two kinds of labels.

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
    smoothed = _smoother(name, label_smoothing, k, x.dtype)

    def loss(x: Array, y: Array) -> Array:
        if smoothed is None and jnp.issubdtype(y.dtype, jnp.integer):
            y, known = _number(y, k)
            value = _cost(x, y) if w is None else _expected(w[y], _cost(x, y))
            return _of_known(value, known)
        p = _distribution(y, k, x.dtype)
        p = p if smoothed is None else smoothed(p)
        return _expected(p if w is None else p * _like(w, p), _costs(x)).sum(axis=-1)

    share = None if w is None else _of_class(w, labels)
    return _masked(name, loss, [x, labels], x.shape[:-1], weights, where, live, share)


def binary_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    positive_weight: ArrayLike | None = None,
    label_smoothing: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Cross-entropy of σ(logits) against labels, elementwise [...], [...] -> [...]:

        -w y log σ(x) - (1 - y) log(1 - σ(x))
        = log(1 + exp(-|x|)) (w y + 1 - y) + |x| (1 - y if x > 0 else w y)      (w = positive_weight, 1 for None)

    Range [0, inf), in nats; log 2 for logits of 0. The gradient is (1 - y) σ(x) - w y (1 - σ(x)), which is σ(x) - y for
    w = 1. Logits of ±inf mean certainty: the loss is 0 if the label agrees (0 · inf counts as 0), otherwise inf.

    Args:
      logits: log-odds, not probabilities; floating. For multi-label classification [n, labels]: sum or average the loss
        over the last axis.
      labels: array of the logits' shape: booleans, the integers 0 and 1 (others give NaN), or probabilities, used as
        given.
      positive_weight: weight w of positives, for imbalanced classes: the ratio of negatives to positives balances them.
        A number >= 0, or an array [labels] for the last axis; may be traced. It scales the loss of a residual, not its
        weight in a trainer's mean.
      label_smoothing: fraction a of the label that is distributed evenly over the two classes, 0 <= a <= 1: y becomes
        (1 - a) y + a / 2. May be traced. None disables it.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient to exactly 0.

    Raises:
      TypeError: if the logits are not floating.
      ValueError: if the shapes differ or `positive_weight` or `label_smoothing` is out of range.

    Differences: same as PyTorch's BCEWithLogitsLoss with its `pos_weight` and as optax's
    `sigmoid_binary_cross_entropy`, but nothing is broadcast. TensorFlow's `weighted_cross_entropy_with_logits` is the
    same with w. Keras takes probabilities unless `from_logits=True`, averages over the last axis, and has the
    same `label_smoothing`.

    >>> binary_cross_entropy(jnp.array([0.0, -50.0, 1e4]), jnp.array([1, 1, 1])).tolist()
    [0.693..., 50.0, 0.0]
    >>> binary_cross_entropy(jnp.zeros(3), jnp.array([1.0, 0.5, 0.0]), positive_weight=3.0).tolist()
    [2.079..., 1.386..., 0.693...]
    """
    name = "binary_cross_entropy"
    x, y = _pair(name, "logits", logits, "labels", labels)
    w = None if positive_weight is None else _positive_weight(name, positive_weight, x)
    smoothed = _smoother(name, label_smoothing, 2, x.dtype)

    def loss(x: Array, y: Array) -> Array:
        no = 1 - y
        if smoothed is not None:
            y, no = smoothed(y), smoothed(no)
        yes = y if w is None else w * y
        side = x > 0
        size = jnp.where(side, x, -x)  # |x|; at 0 the same branch as `wrong`, so that the gradient is σ(x) - y
        wrong = jnp.where(side, no, yes)
        both = jnp.log1p(jnp.exp(-size))
        both = both if w is None else both * (yes + no)
        return both + wrong * jnp.where((wrong == 0) & (size == jnp.inf), 0, size)

    return _masked(name, loss, [x, _bits(y, x.dtype)], x.shape, weights, where)


def _positive_weight(name: str, w: ArrayLike, x: Array) -> Array:
    """The weight as a scalar, or as an array that broadcasts along the last axis of `x`."""
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

    Range [0, -log ε], in nats. For networks that already end in a sigmoid. Otherwise use `binary_cross_entropy`, which
    is more accurate: in float32 a sigmoid rounds to 1 for logits over 17. The gradient is (1 - y) / max(1 - p, ε) - y /
    max(p, ε): clipping bounds it, but does not set it to 0, so a confident mistake has a gradient of magnitude 1/ε
    towards the label.

    Args:
      probabilities: floating, from 0 to 1. Values more than 0.01 outside (logits passed by mistake) give NaN; smaller
        excess counts as rounding.
      labels: array of the same shape: booleans, the integers 0 and 1 (others give NaN), or probabilities, used as
        given.
      eps: lower bound ε of p and 1 - p, 0 < ε < 1; may be traced.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient to exactly 0.

    Raises:
      TypeError: if the probabilities are not floating.
      ValueError: if the shapes differ or `eps` is out of range.

    Differences: PyTorch's BCELoss clips the logarithms at -100. Keras clips p to [ε, 1 - ε] with ε = 1e-7, and has
    gradient 0 where it clips.

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
        class weights w: as above with w_i y_i in place of y_i

    Range [0, -log ε], in nats. For networks that already end in a softmax. Otherwise use `softmax_cross_entropy`, which
    is accurate where a softmax rounds to 0. The gradient is -y_i / max(p_i, ε): clipping bounds it, but does not set it
    to 0.

    Args:
      probabilities: floating, from 0 to 1, over the last axis. Values more than 0.01 outside (logits passed by mistake)
        give NaN. Rows are not normalised.
      labels: class numbers 0 to k - 1 of shape [...] (others give NaN), or probabilities [..., k].
      class_weights: [k], for imbalanced classes or unequal costs, as in `softmax_cross_entropy`.
      ignore_label: class number at which loss and gradient are exactly 0; for integer labels only.
      eps: lower bound ε of the probabilities, 0 < ε < 1; may be traced.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient to exactly 0.

    Raises:
      TypeError: if the probabilities are not floating, the labels are boolean, or `ignore_label` is not an int or is
        used with float labels.
      ValueError: if the shapes do not fit, there is a single class, or `eps` is out of range.

    Differences: Keras divides each row by its sum and clips p to [ε, 1 - ε] with ε = 1e-7, with gradient 0 where it
    clips. PyTorch's NLLLoss takes log-probabilities.

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
        class weights w: as above with w_i p_i in place of p_i

    Negative log-likelihood for models that output log-probabilities, such as a mixture or `log_softmax`. For logits,
    `softmax_cross_entropy` computes the same faster. The gradient is -p.

    Args:
      log_probabilities: floating, over the last axis; -inf contributes nothing where its label is 0. The sum of the
        exponentials is not checked.
      labels: class numbers 0 to k - 1 of shape [...] (others give NaN), or probabilities [..., k].
      class_weights: [k], for imbalanced classes or unequal costs, as in `softmax_cross_entropy`.
      ignore_label: class number at which loss and gradient are exactly 0; for integer labels only.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient to exactly 0.

    Raises:
      TypeError: if the log-probabilities are not floating, the labels are boolean, or `ignore_label` is not an int or
        is used with float labels.
      ValueError: if the shapes do not fit or there is a single class.

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
