"""Cross-entropies: from logits in log space, from probabilities clipped."""

from numbers import Integral

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn._errors import wrong_type
from jaxnn.losses._checks import (
    _bits,
    _class_weights,
    _classes,
    _distribution,
    _floor,
    _keep,
    _like,
    _masked,
    _number,
    _pair,
    _probability,
    _share,
    _small,
    _wide,
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

    In [0, inf) up to rounding, in nats; log k for equal logits. The gradient is softmax(x) - p. A logit of -inf rules
    its class out: it adds nothing where its label is 0 (0 · inf is 0 here), and the loss is inf where it is the label,
    or where label smoothing gives it a share. A row without a softmax (all of it -inf, or one +inf) gives NaN or inf,
    and NaN in its gradient.

    Args:
      logits: unnormalised log-probabilities over the last axis, not probabilities.
      labels: class numbers 0 to k - 1, one rank less than the logits; or probabilities of their shape (one-hot or
        soft), taken as they are: nothing checks that they sum to 1.
      class_weights: [k], for classes of unequal number or cost. A mean over n divides by n; PyTorch's mean divides by
        Σ_n w_y: that is `loss.sum() / class_weights[labels].sum()`.
      label_smoothing: the share a of the label spread evenly over the k classes, from 0 to 1; may be traced. None is
        off. Good against overconfidence; it hurts where the network is distilled from later (Müller et al., When Does
        Label Smoothing Help?, 2019).
      ignore_label: a class number at which loss and gradient are exactly 0, as by `where=labels != ignore_label`, such
        as -100 or 255; integer labels only. A mean still counts those residuals, PyTorch's does not: that is
        `jnp.mean(loss, where=labels != ignore_label)`.

    Class numbers out of range give NaN: optax counts negative ones from the end, PyTorch raises, except at its
    `ignore_index`, which is -100 by default. Keras takes probabilities unless `from_logits=True`. optax splits the two
    kinds of labels over two functions.

    Raises TypeError for integer logits, boolean labels and an `ignore_label` that is not an int or comes with float
    labels; ValueError where the shapes do not fit and for a smoothing out of range.

    Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2016 (label smoothing).

    >>> softmax_cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3])).tolist()  # log 4
    [1.386..., 1.386...]
    >>> softmax_cross_entropy(jnp.zeros((2, 4)), jnp.array([0, -1]), ignore_label=-1).tolist()
    [1.386..., 0.0]
    """
    name = "softmax_cross_entropy"
    logits, labels = _classes(name, logits, labels)
    x, k = _wide(logits), logits.shape[-1]
    live = None if ignore_label is None else _not_ignored(name, labels, ignore_label)
    labels = labels if live is None else jnp.where(live, labels, 0)
    w = None if class_weights is None else _class_weights(name, class_weights, k, x.dtype)
    smoothing = None if label_smoothing is None else _share(name, "label_smoothing", label_smoothing, x.dtype)

    def loss(x: Array, y: Array) -> Array:
        x = x if live is None else _keep(live, x)
        if w is None and smoothing is None and jnp.issubdtype(y.dtype, jnp.integer):
            value = _class_number_loss(x, y)
        else:
            p = _distribution(y, k, x.dtype)
            p = p if smoothing is None else p * (1 - smoothing) + smoothing / k
            value = _probability_loss(x, p if w is None else p * _like(w, p))
        return value if live is None else _keep(live, value)

    return _masked(name, loss, [x, labels], x.shape[:-1], weights, where)


def _class_number_loss(x: Array, y: Array) -> Array:
    y, known = _number(y, x.shape[-1])
    x_y = jnp.take_along_axis(x, y[..., None], axis=-1).squeeze(-1)
    return (jax.nn.logsumexp(x, axis=-1) - x_y) * jnp.where(known, 1.0, jnp.nan).astype(x.dtype)


def _probability_loss(x: Array, p: Array) -> Array:
    ruled_out = (p == 0) & (x == -jnp.inf)
    return jax.nn.logsumexp(x, axis=-1) * p.sum(axis=-1) - (p * jnp.where(ruled_out, 0, x)).sum(axis=-1)


def _not_ignored(name: str, labels: Array, ignore_label: int) -> Array:
    if not isinstance(ignore_label, Integral) or isinstance(ignore_label, bool):
        raise wrong_type(name, "ignore_label to be an int or None", ignore_label)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise wrong_type(name, "integer labels with ignore_label", labels, "Leave residuals out by where=.")
    dtype = jnp.iinfo(labels.dtype)
    if not dtype.min <= ignore_label <= dtype.max:
        return jnp.ones(labels.shape, bool)
    return labels != int(ignore_label)


def binary_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, weights: ArrayLike | None = None, where: ArrayLike | None = None
) -> Array:
    """Cross-entropy of σ(logits) against labels, elementwise [...], [...] -> [...]:

        -y log σ(x) - (1 - y) log(1 - σ(x)) = log(1 + exp(-|x|)) + |x| (1 - y if x > 0 else y)

    In [0, inf), in nats; log 2 for logits of 0. The gradient is σ(x) - y. Logits of ±inf are certainty: loss 0 if the
    label agrees (0 · inf is 0 here), inf if it does not.

    Args:
      logits: log-odds, not probabilities. For several labels an example, [n, labels]; sum or average the last axis.
      labels: booleans, the integers 0 and 1 (others give NaN), or probabilities, taken as they are.

    As PyTorch's BCEWithLogitsLoss (whose `pos_weight` is `weights=jnp.where(labels == 1, w, 1)`) and optax's
    `sigmoid_binary_cross_entropy`, without their broadcasting. Keras takes probabilities unless `from_logits=True`, and
    averages over the last axis.

    Raises TypeError for integer logits, ValueError if the shapes differ.

    >>> binary_cross_entropy(jnp.array([0.0, -50.0, 1e4]), jnp.array([1, 1, 1])).tolist()
    [0.693..., 50.0, 0.0]
    """
    x, y = _pair("binary_cross_entropy", "logits", logits, "labels", labels)
    return _masked("binary_cross_entropy", _binary_loss, [x, _bits(y, x.dtype)], x.shape, weights, where)


def _binary_loss(x: Array, y: Array) -> Array:
    side = x > 0
    size = jnp.where(side, x, -x)  # |x|, but at 0 with the slope of the side that `wrong` takes: σ(x) - y holds there
    wrong = jnp.where(side, 1 - y, y)
    return jnp.log1p(jnp.exp(-size)) + wrong * jnp.where((wrong == 0) & (size == jnp.inf), 0, size)


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
      rounding. labels: booleans, the integers 0 and 1 (others give NaN), or probabilities, taken as they are.
      eps: the smallest probability that counts, between 0 and 1.

    PyTorch's BCELoss clips the logarithms at -100. Keras clips p itself to [ε, 1 - ε], with ε = 1e-7 and no gradient
    where it does.

    Raises TypeError for integer probabilities, ValueError if the shapes differ or for an `eps` out of range.

    >>> binary_cross_entropy_on_probabilities(jnp.array([0.5, 0.0]), jnp.array([1, 1])).tolist()
    [0.693..., 16.11...]
    """
    name = "binary_cross_entropy_on_probabilities"
    p, y = _pair(name, "probabilities", probabilities, "labels", labels)
    eps = _small(name, "eps", eps, p.dtype)

    def loss(p: Array, y: Array) -> Array:
        p = _probability(p)
        return -y * jnp.log(_floor(p, eps)) - (1 - y) * jnp.log(_floor(1 - p, eps))

    return _masked(name, loss, [p, _bits(y, p.dtype)], p.shape, weights, where)


def cross_entropy_on_probabilities(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    class_weights: ArrayLike | None = None,
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
      class_weights: [k]; a mean still divides by n.
      eps: the smallest probability that counts, between 0 and 1.

    Keras clips p to [ε, 1 - ε], with ε = 1e-7 and no gradient where it does. PyTorch's NLLLoss takes log-probabilities.

    Raises TypeError for integer probabilities and boolean labels, ValueError where the shapes do not fit or for an
    `eps` out of range.

    >>> cross_entropy_on_probabilities(jnp.array([[0.25, 0.75], [1.0, 0.0]]), jnp.array([0, 1])).tolist()
    [1.386..., 16.11...]
    """
    name = "cross_entropy_on_probabilities"
    probabilities, labels = _classes(name, probabilities, labels, "probabilities")
    p, k = _wide(probabilities), probabilities.shape[-1]
    w = None if class_weights is None else _class_weights(name, class_weights, k, p.dtype)
    eps = _small(name, "eps", eps, p.dtype)

    def loss(p: Array, y: Array) -> Array:
        y = _distribution(y, k, p.dtype)
        y = y if w is None else y * _like(w, y)
        return -(y * jnp.log(_floor(_probability(p), eps))).sum(axis=-1)

    return _masked(name, loss, [p, labels], p.shape[:-1], weights, where)


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
      class_weights: [k]; a mean still divides by n, where PyTorch's divides by the weights of the labels.
      ignore_label: a class number at which loss and gradient are exactly 0; integer labels only.

    PyTorch's NLLLoss, whose classes are on axis 1.

    Raises TypeError for integer log-probabilities, boolean labels and an `ignore_label` that is not an int or comes
    with float labels; ValueError where the shapes do not fit.

    >>> cross_entropy_on_log_probabilities(jnp.log(jnp.array([[0.25, 0.75]])), jnp.array([0])).tolist()
    [1.386...]
    """
    name = "cross_entropy_on_log_probabilities"
    log_probabilities, labels = _classes(name, log_probabilities, labels, "log_probabilities")
    x, k = _wide(log_probabilities), log_probabilities.shape[-1]
    live = None if ignore_label is None else _not_ignored(name, labels, ignore_label)
    labels = labels if live is None else jnp.where(live, labels, 0)
    w = None if class_weights is None else _class_weights(name, class_weights, k, x.dtype)

    def loss(x: Array, y: Array) -> Array:
        x = x if live is None else _keep(live, x)
        p = _distribution(y, k, x.dtype)
        p = p if w is None else p * _like(w, p)
        value = -(p * jnp.where((p == 0) & (x == -jnp.inf), 0, x)).sum(axis=-1)
        return value if live is None else _keep(live, value)

    return _masked(name, loss, [x, labels], x.shape[:-1], weights, where)
