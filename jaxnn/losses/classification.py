"""Classification beyond cross-entropy: focal losses, Kullback-Leibler divergence, hinge."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._dtypes import widened
from jaxnn._errors import invalid
from jaxnn.losses._checks import (
    _ROUNDING,
    _at_least_0,
    _bits,
    _class_weights,
    _classes,
    _costs,
    _distribution,
    _excess,
    _expected,
    _like,
    _masked,
    _not_ignored,
    _of_class,
    _option,
    _pair,
    _rest,
    _several,
    _share,
)

__all__ = ["focal", "hinge", "kl_divergence", "softmax_focal"]


def focal(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma: ArrayLike = 2.0,
    alpha: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Focal loss of σ(logits) against labels, elementwise [...], [...] -> [...], with s = σ(x):

        -α y (1 - s)^γ log s - (1 - α) (1 - y) s^γ log(1 - s)        (both without their factor α, 1 - α for None)

    In [0, inf). The factor takes weight from what is already right, so that a flood of easy negatives does not drown
    the rare positives: good for dense detection. It hurts calibration, and it slows the start: begin with a bias of
    -log((1 - π) / π), π a small prior. Logits of ±inf are certainty, as in `binary_cross_entropy`, which γ = 0 is.

    Args:
      gamma: how strongly easy examples fade, >= 0; may be traced.
      alpha: weight of the positives, 1 - alpha that of the negatives, from 0 to 1; the paper takes 0.25 with gamma 2.
      logits: log-odds, not probabilities.
      labels: booleans, the integers 0 and 1 (others give NaN), or probabilities, which weigh the two terms.
      weights: of the loss's shape, or a scalar; multiplies the loss.
      where: of the loss's shape: False leaves a residual out.

    Raises:
      TypeError for integer logits; ValueError if the shapes differ or for options out of range.

    Differences: optax and Keras mix soft labels in the factor instead: the same for labels 0 and 1. Keras's
    BinaryFocalCrossentropy takes probabilities and no alpha by default.

    Reference: Lin et al., Focal Loss for Dense Object Detection, 2017.

    >>> focal(jnp.array([0.0, 0.0]), jnp.array([0, 1]), gamma=1.0).tolist()  # log 2 / 2
    [0.346..., 0.346...]
    """
    x, y = _pair("focal", "logits", logits, "labels", labels)
    gamma = _option("focal", "gamma", gamma, x.dtype)
    shares = None if alpha is None else (_share("focal", "alpha", alpha, x.dtype), _rest(alpha, x.dtype))

    def loss(x: Array, y: Array) -> Array:
        yes = _expected(y, _faded(-jax.nn.log_sigmoid(x), gamma))
        no = _expected(1 - y, _faded(-jax.nn.log_sigmoid(-x), gamma))
        return yes + no if shares is None else shares[0] * yes + shares[1] * no

    return _masked("focal", loss, [x, _bits(y, x.dtype)], x.shape, weights, where)


def softmax_focal(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma: ArrayLike = 2.0,
    class_weights: ArrayLike | None = None,
    ignore_label: int | None = None,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Focal loss of s = softmax(logits) against labels, [..., k], [..., k] or integer [...] -> [...]:

        -Σ_i w_i p_i (1 - s_i)^γ log s_i

    In [0, inf). `focal` for k exclusive classes, and `softmax_cross_entropy` at γ = 0; labels, rows with infinite
    logits and precision are as there.

    Args:
      logits: unnormalised log-probabilities over the last axis; k >= 2.
      gamma: how strongly easy examples fade, >= 0; may be traced.
      class_weights: [k], the α of the paper; what they mean for a mean is said at `softmax_cross_entropy`.
      labels, ignore_label, weights, where: as of `softmax_cross_entropy`.

    Raises:
      TypeError for integer logits, boolean labels and an `ignore_label` that is not an int or comes with float labels;
      ValueError where the shapes do not fit, for a single class or for gamma < 0.

    Differences: Keras's CategoricalFocalCrossentropy has a constant factor `alpha`, 0.25 by default.

    Reference: Lin et al., Focal Loss for Dense Object Detection, 2017.

    >>> softmax_focal(jnp.zeros((1, 4)), jnp.array([2])).tolist()  # (3/4)² log 4
    [0.779...]
    """
    logits, labels = _classes("softmax_focal", logits, labels)
    x, k = widened(logits), logits.shape[-1]
    gamma = _option("softmax_focal", "gamma", gamma, x.dtype)
    live = _not_ignored("softmax_focal", labels, ignore_label)
    w = None if class_weights is None else _class_weights("softmax_focal", class_weights, k, x.dtype)

    def loss(x: Array, y: Array) -> Array:
        p = _distribution(y, k, x.dtype)
        p = p if w is None else p * _like(w, p)
        return _expected(p, _faded(_costs(x), gamma)).sum(axis=-1)

    share = None if w is None else _of_class(w, labels)
    return _masked("softmax_focal", loss, [x, labels], x.shape[:-1], weights, where, live, share)


def _faded(cost: Array, gamma: Array) -> Array:
    """-(1 - s)^γ log s, of -log s; the factor's derivative is left out at s = 0 and 1, where it comes to nothing."""
    inside = (cost > 0) & (cost < jnp.inf)
    factor = (-jnp.expm1(-jnp.where(inside, cost, 1))) ** gamma
    return cost * jnp.where(inside, factor, jnp.where(cost > 0, 1, jnp.zeros_like(cost)) ** gamma)


def kl_divergence(
    logits: ArrayLike, probabilities: ArrayLike, *, weights: ArrayLike | None = None, where: ArrayLike | None = None
) -> Array:
    """Kullback-Leibler divergence of softmax(logits) from target probabilities, [..., k], [..., k] -> [...]:

        KL(p ‖ softmax(x)) = Σ_i p_i (log p_i - log softmax(x)_i),    0 log 0 = 0

    In [0, inf) if p sums to 1, to 1 %; it is `softmax_cross_entropy` less the entropy of p, so the gradient is the
    same: softmax(x) - p. Good for distillation and for posteriors over classes, since 0 is a perfect fit. It hurts
    where p has to cover less than it: it is inf where softmax(x) is 0 and p is not, and blind where p is 0. A teacher's
    logits are passed as `softmax(teacher)`. The gradient by p is finite: at p_i = 0 the infinite slope of p log p is 0.

    Summed as Σ_i s_i h(log(p_i / s_i)) + Σ_i p_i - 1, s = softmax(x) and h(r) = 1 + e^r (r - 1) >= 0: no term cancels
    another. What remains is the rounding of the sum of p, and that of the logarithms where p and s are close.

    Args:
      logits: unnormalised log-probabilities; log-probabilities that sum to 1 do as well, being their own log softmax.
      probabilities: of the logits' shape, floating; negative ones give NaN.
      weights: of the loss's shape, or a scalar; multiplies the loss.
      where: of the loss's shape: False leaves a residual out.

    Raises:
      TypeError for integer logits or probabilities; ValueError where the shapes do not fit and for a single class.

    Differences: PyTorch's KLDivLoss and optax take log-probabilities for the prediction; Keras takes probabilities and
    clips them.

    >>> kl_divergence(jnp.log(jnp.array([0.5, 0.5])), jnp.array([1.0, 0.0])).item()  # log 2
    0.693...
    """
    check.kind("kl_divergence", "probabilities", probabilities, "floating")
    x = check.array_like("kl_divergence", "logits", logits)
    if not x.ndim or not x.shape[-1]:
        raise invalid("kl_divergence", "logits of shape [..., k] with k >= 1", x, "The last axis holds the classes.")
    _several("kl_divergence", "logits", x)
    check.same_shape("kl_divergence", "logits", x, "probabilities", probabilities)
    x = widened(x)
    p = jnp.asarray(probabilities).astype(x.dtype)

    def loss(x: Array, p: Array) -> Array:
        cost = _costs(x)
        s = jnp.exp(-cost)
        r = jnp.log(jnp.where(p == 0, 1, p)) + jnp.where((p == 0) & (cost == jnp.inf), 0, cost)
        near = (jnp.abs(r) < 1) & (p > 0)
        each = jnp.where(near, p * _excess(jnp.where(near, r, 0)), p * r - p + s)
        beyond = p.sum(axis=-1) - 1
        value = each.sum(axis=-1) + beyond
        return jnp.where(jnp.abs(beyond) <= _ROUNDING, _at_least_0(value), value)

    return _masked("kl_divergence", loss, [x, p], x.shape[:-1], weights, where)


def hinge(
    scores: ArrayLike, labels: ArrayLike, *, weights: ArrayLike | None = None, where: ArrayLike | None = None
) -> Array:
    """Hinge loss of a linear separation, elementwise [...], [...] -> [...]: max(0, 1 - y x) with y = ±1.

    In [0, inf). Its gradient is -y short of the margin and exactly 0 beyond (and at y x = 1, where the subgradients are
    [-y, 0]): good for support vector machines, since what is safely right no longer counts. It hurts where
    probabilities are wanted, which the scores are not.

    Args:
      scores: signed distances, not probabilities.
      labels: booleans, or 1 against 0 or -1, in integers or floats; others give NaN.
      weights: of the loss's shape, or a scalar; multiplies the loss.
      where: of the loss's shape: False leaves a residual out.

    Raises:
      TypeError for integer scores; ValueError if the shapes differ.

    Differences: scikit-learn's `hinge_loss`, before its mean, and Keras's Hinge, which reads its labels as 0 and 1 if
    no other is among them, are the same. optax takes ±1 alone.

    >>> hinge(jnp.array([0.25, -3.0, 2.0]), jnp.array([1, 0, 1])).tolist()
    [0.75, 0.0, 0.0]
    """
    x, y = _pair("hinge", "scores", scores, "labels", labels)
    y = y.astype(x.dtype)
    sign = jnp.where(y == 1, 1.0, jnp.where((y == 0) | (y == -1), -1.0, jnp.nan)).astype(x.dtype)
    return _masked("hinge", _hinge, [x, sign], x.shape, weights, where)


def _hinge(x: Array, sign: Array) -> Array:
    short = 1 - sign * x
    return jnp.where(short <= 0, 0, short)
