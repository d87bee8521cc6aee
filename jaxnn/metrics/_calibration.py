"""Calibration of confidences: the temperature of logits."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxnn._dtypes import widened
from jaxnn.losses import _classes, _number, _of_known
from jaxnn.metrics._checks import times

LIMIT = 1000.0  # of the temperature and of its inverse
HALVINGS = 20  # of [-log LIMIT, log LIMIT], to 7e-6; the Newton step doubles the digits


def calibration_temperature(
    logits: ArrayLike, labels: ArrayLike, *, weights: ArrayLike | None = None, where: ArrayLike | None = None
) -> Array:
    """Temperature T that calibrates logits by logits / T, [..., k], labels integer [...] or float [..., k] -> []:

        T = argmin_T Σ_i w_i softmax_cross_entropy(logits_i / T, labels_i)        (w = weights)

    T is fitted on examples that the model was not trained on, such as the validation set. Division by T > 0 changes
    confidences but not predictions. T > 1 means that the model is overconfident, T = 1 that it is calibrated.

    The loss is convex in 1 / T. Its derivative, the mean of Σ_j softmax(logits / T)_j logits_j - logits_label, has one
    root, which is found by bisection of log T and a Newton step. T is differentiable in logits, float labels and
    weights, by the implicit function theorem.

    Args:
      logits: unnormalised log-probabilities, floating; for probabilities p pass jnp.log(p), for binary log-odds z the
        logits [0, z].
      labels: class numbers 0 to k - 1 of shape [...], or probabilities [..., k].
      weights: real array [...], one weight per example.
      where: boolean mask [...]; False excludes an example.

    Returns:
      T in [1/1000, 1000]. The lower end means that the predicted class is always the label, or that all logits of each
      example are equal; the upper end that the logits predict the labels no better than equal probabilities do. NaN
      if a label is out of range, the softmax of an example is undefined, or a label has probability 0.

    Raises:
      TypeError: if the logits are not floating or the labels are boolean.
      ValueError: if the shapes do not fit or there is a single class.

    Differences: PyTorch, Keras, optax and flax have no such function. scikit-learn's CalibratedClassifierCV with
    method="temperature" fits the same T.

    Reference: Guo et al., On Calibration of Modern Neural Networks, 2017, arXiv:1706.04599.

    >>> logits = jnp.array([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]])  # confidence 0.88, accuracy 3/4
    >>> t = calibration_temperature(logits, jnp.array([0, 0, 0, 1]))
    >>> round(t.item(), 4), jax.nn.softmax(logits[0] / t).round(4).tolist()
    (1.8205, [0.75, 0.25])
    """
    name = "calibration_temperature"
    logits, labels = _classes(name, logits, labels)
    w = times(name, logits.shape[:-1], weights, where)
    x = widened(logits)
    x, w = jnp.where((w != 0)[..., None], x, 0), w.astype(x.dtype)
    x = x - lax.stop_gradient(x.max(axis=-1, keepdims=True))
    if jnp.issubdtype(labels.dtype, jnp.integer):
        y, known = _number(labels, x.shape[-1])
        total = jnp.ones_like(w)
        of_label = _of_known(jnp.take_along_axis(x, y[..., None], axis=-1)[..., 0], known)
    else:
        p = labels.astype(x.dtype)
        total, of_label = p.sum(axis=-1), _product(p, x).sum(axis=-1)

    def mean(value: Array) -> Array:
        return jnp.sum(jnp.where(w != 0, w * value, 0)) / w.sum()

    def slopes(x: Array, log_t: Array) -> tuple[Array, Array]:
        """First and second derivative of the mean loss by 1 / T."""
        p = jax.nn.softmax(x * jnp.exp(-log_t), axis=-1)
        first = _product(p, x).sum(axis=-1)
        return mean(total * first - of_label), mean(total * (_product(p, x * x).sum(axis=-1) - first**2))

    def halved(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        colder = slopes(lax.stop_gradient(x), middle)[0] <= 0  # 0: no probability of another class is above underflow
        return jnp.where(colder, low, middle), jnp.where(colder, middle, high)

    # The product with 0 makes a NaN, and the axes of a mesh over which the arrays vary, those of the first ends, too.
    end = jnp.full_like(x, math.log(LIMIT), shape=()) + 0 * lax.stop_gradient(mean(of_label))
    if not w.size:  # a loop over constants alone: jaxlib 0.10.2 returns its counter
        return end.astype(jnp.float32)
    low, high = lax.fori_loop(0, HALVINGS, halved, (-end, end))
    log_t = lax.stop_gradient((low + high) / 2)
    first, second = slopes(x, log_t)
    curvature = lax.stop_gradient(second) * jnp.exp(-log_t)
    step = first / jnp.where(curvature > 0, curvature, jnp.inf)
    return jnp.exp(jnp.clip(log_t + step, -end, end)).astype(jnp.float32)


def _product(p: Array, x: Array) -> Array:
    """p · x, with 0 · inf = 0."""
    return p * jnp.where((p == 0) & (x == -jnp.inf), 0, x)
