"""Losses: (prediction, target) -> one loss per residual; the mean is the caller's, and there is no `reduction`.

Elementwise losses are `[...], [...] -> [...]`, classification is `[..., k] -> [...]`. `jnp.mean(loss)` is the mean over
residuals, so the mean squared error of a 4 × 3 × 8 × 8 batch divides by 768. In all of them:

* Shapes are equal, integer labels one rank less: `(n, 1)` against `(n,)` raises ValueError, nothing is broadcast.
* The prediction is floating, else TypeError. Losses are computed and returned in its dtype, but at least in float32;
  the target is cast to that.
* `weights` multiplies: an array of the loss's shape or a scalar. Class weights are `weights=class_weights[labels]`; the
  mean still divides by n, where PyTorch divides by the sum of the weights.
* `where`, a boolean mask of the loss's shape, makes loss and gradient exactly 0 where it is False, even if the inputs
  are nan or inf there. The mean over the rest is `jnp.mean(loss, where=where)`.
* An integer label out of range gives NaN, in value and gradient, and never counts as another class.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn._errors import describe, invalid, wrong_type

__all__ = ["absolute_error", "binary_cross_entropy", "softmax_cross_entropy", "squared_error"]


def softmax_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, weights: ArrayLike | None = None, where: ArrayLike | None = None
) -> Array:
    """Cross-entropy of softmax(logits) against labels, [..., k], [..., k] or integer [...] -> [...].

        integer labels:  -log softmax(x)_y      = log Σ_j exp(x_j) - x_y
        float labels:    -Σ_i p_i log softmax(x)_i = log Σ_j exp(x_j) · Σ_i p_i - Σ_i p_i x_i

    In [0, inf) up to rounding, in nats; log k for equal logits. The gradient is softmax(x) - p. A logit of -inf rules
    its class out: it adds nothing where its label is 0 (0 · inf is 0 here), and the loss is inf where it is the label.
    A row without a softmax (all of it -inf, or one +inf) gives NaN or inf, and NaN in its gradient.

    Args:
      logits: unnormalised log-probabilities over the last axis, not probabilities.
      labels: class numbers 0 to k - 1, one rank less than the logits; or probabilities of their shape (one-hot or
        soft), taken as they are: nothing checks that they sum to 1.

    Class numbers out of range give NaN: optax counts negative ones from the end, PyTorch raises, except at
    `ignore_index=-100`: pass `where=labels != -100`. Keras takes probabilities unless `from_logits=True`. optax splits
    the two kinds of labels over two functions.

    Raises TypeError for integer logits and for boolean labels, ValueError where the shapes do not fit.

    >>> softmax_cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3])).tolist()  # log 4
    [1.386..., 1.386...]
    """
    logits, labels = _classes("softmax_cross_entropy", logits, labels)
    logits = _wide(logits)
    numbers = jnp.issubdtype(labels.dtype, jnp.integer)
    loss = _class_number_loss if numbers else _probability_loss
    labels = labels if numbers else labels.astype(logits.dtype)
    return _masked("softmax_cross_entropy", loss, logits, labels, logits.shape[:-1], weights, where)


def _class_number_loss(x: Array, y: Array) -> Array:
    y = y if y.dtype.itemsize >= 4 else y.astype(jnp.int32)  # k may not fit into int8
    known = (y >= 0) & (y < x.shape[-1])
    x_y = jnp.take_along_axis(x, jnp.where(known, y, 0)[..., None], axis=-1).squeeze(-1)
    return (jax.nn.logsumexp(x, axis=-1) - x_y) * jnp.where(known, 1.0, jnp.nan).astype(x.dtype)


def _probability_loss(x: Array, p: Array) -> Array:
    ruled_out = (p == 0) & (x == -jnp.inf)
    return jax.nn.logsumexp(x, axis=-1) * p.sum(axis=-1) - (p * jnp.where(ruled_out, 0, x)).sum(axis=-1)


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
    if jnp.issubdtype(y.dtype, jnp.integer):
        y = jnp.where((y == 0) | (y == 1), y.astype(x.dtype), jnp.nan)
    return _masked("binary_cross_entropy", _binary_loss, x, y.astype(x.dtype), x.shape, weights, where)


def _binary_loss(x: Array, y: Array) -> Array:
    side = x > 0
    size = jnp.where(side, x, -x)  # |x|, but at 0 with the slope of the side that `wrong` takes: σ(x) - y holds there
    wrong = jnp.where(side, 1 - y, y)
    return jnp.log1p(jnp.exp(-size)) + wrong * jnp.where((wrong == 0) & (size == jnp.inf), 0, size)


def squared_error(
    prediction: ArrayLike, target: ArrayLike, *, weights: ArrayLike | None = None, where: ArrayLike | None = None
) -> Array:
    """Squared error, elementwise [...], [...] -> [...]: r² with r = prediction - target; its gradient is 2r.

    Its mean is least at the mean of the targets, and outliers weigh by their square. As optax's `squared_error`
    (`l2_loss` is half of it). PyTorch's MSELoss and Keras take a mean at once, Keras over the last axis.

    Raises TypeError for an integer prediction, ValueError if the shapes differ.

    >>> squared_error(jnp.array([1.0, 5.0]), jnp.array([1.0, 2.0])).tolist()
    [0.0, 9.0]
    """
    p, t = _pair("squared_error", "prediction", prediction, "target", target)
    return _masked("squared_error", lambda p, t: (p - t) ** 2, p, t.astype(p.dtype), p.shape, weights, where)


def absolute_error(
    prediction: ArrayLike, target: ArrayLike, *, weights: ArrayLike | None = None, where: ArrayLike | None = None
) -> Array:
    """Absolute error, elementwise [...], [...] -> [...]: |r| with r = prediction - target.

    Its gradient is sign(r), and 0 at r = 0, the middle of the subgradients [-1, 1] (jnp.abs has 1 there). Its mean is
    least at the median of the targets. As PyTorch's L1Loss and Keras's MeanAbsoluteError, before their means.

    Raises TypeError for an integer prediction, ValueError if the shapes differ.

    >>> absolute_error(jnp.array([1.0, 5.0]), jnp.array([1.0, 8.0])).tolist()
    [0.0, 3.0]
    """
    p, t = _pair("absolute_error", "prediction", prediction, "target", target)
    return _masked("absolute_error", _absolute, p, t.astype(p.dtype), p.shape, weights, where)


def _absolute(p: Array, t: Array) -> Array:
    r = p - t
    return r * jnp.sign(r)


def _masked(
    name: str,
    loss: Callable[[Array, Array], Array],
    prediction: Array,
    target: Array,
    shape: tuple[int, ...],
    weights: ArrayLike | None,
    where: ArrayLike | None,
) -> Array:
    """The loss, weighted and masked. The inputs are masked too, since 0 · nan in the gradient would be nan."""
    if where is not None:
        if not jnp.issubdtype(_kind(where), jnp.bool):
            raise wrong_type(name, "where of dtype bool", where, "It is a mask: False leaves a residual out.")
        where = _of_shape(name, "where", where, shape)
        prediction, target = _keep(where, prediction), _keep(where, target)
    value = loss(prediction, target)
    if weights is not None:
        if not jnp.issubdtype(_kind(weights), jnp.floating) and not jnp.issubdtype(_kind(weights), jnp.integer):
            raise wrong_type(name, "weights of a floating or integer dtype", weights, "A mask is passed as where=.")
        weights = weights if jnp.shape(weights) == () else _of_shape(name, "weights", weights, shape)
        value = value * jnp.asarray(weights).astype(value.dtype)
    return value if where is None else _keep(where, value)


def _keep(mask: Array, x: Array) -> Array:
    """`x`, with 0 where the mask is False; the mask may lack the axis of classes."""
    return jnp.where(mask[..., None] if x.ndim > mask.ndim else mask, x, 0)


def _of_shape(name: str, what: str, x: ArrayLike, shape: tuple[int, ...]) -> Array:
    if jnp.shape(x) != shape:
        raise invalid(name, f"{what} of shape {list(shape)}, that of the loss", x, "Nothing is broadcast.")
    return jnp.asarray(x)


def _pair(name: str, p_name: str, prediction: ArrayLike, t_name: str, target: ArrayLike) -> tuple[Array, Array]:
    """Both as arrays of one shape: the prediction floating, in at least float32, the target real."""
    prediction = _floating(name, p_name, prediction)
    if not any(jnp.issubdtype(_kind(target), kind) for kind in (jnp.floating, jnp.integer, jnp.bool)):
        raise wrong_type(name, f"{t_name} of a real dtype", target)
    if prediction.shape != jnp.shape(target):
        got = f"{describe(prediction)} and {describe(target)}"
        raise invalid(name, f"{p_name} and {t_name} of one shape", got, "Nothing is broadcast: reshape one of them.")
    return _wide(prediction), jnp.asarray(target)


def _classes(name: str, logits: ArrayLike, labels: ArrayLike) -> tuple[Array, Array]:
    """Both as arrays: logits [..., k] floating, labels integer [...] or floating [..., k]."""
    logits = _floating(name, "logits", logits)
    if not logits.ndim or not logits.shape[-1]:
        raise invalid(name, "logits of shape [..., k] with k >= 1", logits, "The last axis holds the classes.")
    if jnp.issubdtype(_kind(labels), jnp.integer):
        kind, shape = "integer", logits.shape[:-1]
    elif jnp.issubdtype(_kind(labels), jnp.floating):
        kind, shape = "float", logits.shape
    else:
        fix = "Pass an array of class numbers or of probabilities; cast one-hot booleans."
        raise wrong_type(name, "integer or float labels", labels, fix)
    if jnp.shape(labels) != shape:
        fix = "Integers are class numbers, floats are probabilities of all k classes."
        raise invalid(name, f"{kind} labels of shape {list(shape)} for logits {describe(logits)}", labels, fix)
    return logits, jnp.asarray(labels)


def _floating(name: str, what: str, x: ArrayLike) -> Array:
    if not jnp.issubdtype(_kind(x), jnp.floating):
        raise wrong_type(name, f"{what} of a floating dtype", x, "Cast it: jnp.asarray(x, jnp.float32).")
    return jnp.asarray(x)


def _kind(x: ArrayLike) -> Any:
    return getattr(x, "dtype", type(x))


def _wide(x: Array) -> Array:
    """`x` in at least float32."""
    return x if jnp.finfo(x.dtype).bits >= 32 else x.astype(jnp.float32)
