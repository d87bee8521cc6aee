"""Classification losses other than cross-entropy: focal losses and the Kullback-Leibler divergence."""

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
    _floor,
    _like,
    _log_complement,
    _masked,
    _not_ignored,
    _of_class,
    _option,
    _pair,
    _probability,
    _rest,
    _several,
    _share,
    _small,
)

__all__ = ["focal", "focal_on_probabilities", "kl_divergence", "softmax_focal"]


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

        -α y (1 - s)^γ log s - (1 - α) (1 - y) s^γ log(1 - s)        (alpha=None: without the factors α and 1 - α)

    Range [0, inf). The factors (1 - s)^γ and s^γ reduce the loss of examples that are already classified correctly, so
    that many easy negatives do not outweigh few positives. Use it for dense detection. It worsens calibration and slows
    the start of training: initialise the last bias to -log((1 - π) / π), with π a small prior probability of a
    positive. γ = 0 gives `binary_cross_entropy`, and as there logits of ±inf mean certainty.

    Args:
      logits: log-odds, not probabilities; floating.
      labels: array of the logits' shape: booleans, the integers 0 and 1 (others give NaN), or probabilities, which
        weight the two terms.
      gamma: focusing parameter γ >= 0: the larger, the less easy examples count; may be traced.
      alpha: weight α of positives, 0 <= α <= 1; negatives have weight 1 - α. None uses no weights. The paper uses 0.25
        with gamma=2. May be traced.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient to exactly 0.

    Raises:
      TypeError: if the logits are not floating.
      ValueError: if the shapes differ, or `gamma` or `alpha` is out of range.

    Differences: optax and Keras interpolate soft labels inside the factor; for labels 0 and 1 the result is the same.
    Keras's BinaryFocalCrossentropy takes probabilities and by default uses no alpha.

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


def focal_on_probabilities(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    gamma: ArrayLike = 2.0,
    alpha: ArrayLike | None = None,
    eps: ArrayLike = 1e-7,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Focal loss of probabilities against labels, elementwise [...], [...] -> [...]:

        -α y (1 - p)^γ log max(p, ε) - (1 - α) (1 - y) p^γ log max(1 - p, ε)    (alpha=None: without α and 1 - α)

    Range [0, -log ε]. `focal` for networks that already end in a sigmoid; with logits `focal` is more accurate. γ = 0
    gives `binary_cross_entropy_on_probabilities`. As there, clipping bounds the gradient by about 1/ε but does not set
    it to 0.

    Args:
      probabilities: floating, from 0 to 1. Values more than 0.01 outside (logits passed by mistake) give NaN; smaller
        excess counts as rounding.
      labels: array of the same shape: booleans, the integers 0 and 1 (others give NaN), or probabilities, which weight
        the two terms.
      gamma: focusing parameter γ >= 0: the larger, the less easy examples count; may be traced.
      alpha: weight α of positives, 0 <= α <= 1; negatives have weight 1 - α. None uses no weights. May be traced.
      eps: lower bound ε of p and 1 - p, 0 < ε < 1; may be traced.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient to exactly 0.

    Raises:
      TypeError: if the probabilities are not floating.
      ValueError: if the shapes differ, or `gamma`, `alpha` or `eps` is out of range.

    Differences: Keras's BinaryFocalCrossentropy clips p to [ε, 1 - ε] with gradient 0 where it clips, interpolates soft
    labels inside the factor, and averages over the last axis.

    Reference: Lin et al., Focal Loss for Dense Object Detection, 2017.

    >>> focal_on_probabilities(jnp.array([0.5, 0.0]), jnp.array([0, 1]), gamma=1.0).tolist()
    [0.346..., 16.11...]
    """
    name = "focal_on_probabilities"
    p, y = _pair(name, "probabilities", probabilities, "labels", labels)
    gamma, eps = _option(name, "gamma", gamma, p.dtype), _small(name, "eps", eps, p.dtype)
    shares = None if alpha is None else (_share(name, "alpha", alpha, p.dtype), _rest(alpha, p.dtype))

    def loss(p: Array, y: Array) -> Array:
        p = _probability(p)
        yes = -y * _power(1 - p, gamma) * jnp.log(_floor(p, eps))
        no = -(1 - y) * _power(p, gamma) * _log_complement(p, eps)
        return yes + no if shares is None else shares[0] * yes + shares[1] * no

    return _masked(name, loss, [p, _bits(y, p.dtype)], p.shape, weights, where)


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

    Range [0, inf). `focal` for k exclusive classes; γ = 0 gives `softmax_cross_entropy`. Labels, rows with infinite
    logits and numerical precision are treated as there.

    Args:
      logits: unnormalised log-probabilities over the last axis, floating; k >= 2.
      labels: integers 0 to k - 1 of shape [...], or probabilities [..., k], as in `softmax_cross_entropy`.
      gamma: focusing parameter γ >= 0: the larger, the less easy examples count; may be traced.
      class_weights: [k], the α of the paper. They enter a trainer's mean as in `softmax_cross_entropy`.
      ignore_label: class number at which loss and gradient are exactly 0; for integer labels only.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient to exactly 0.

    Raises:
      TypeError: if the logits are not floating, the labels are boolean, or `ignore_label` is not an int or is used with
        float labels.
      ValueError: if the shapes do not fit, there is a single class, or `gamma` < 0.

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
    """-(1 - s)^γ log s from -log s. At s = 0 and 1 the factor's derivative is omitted: its contribution is 0."""
    inside = (cost > 0) & (cost < jnp.inf)
    factor = (-jnp.expm1(-jnp.where(inside, cost, 1))) ** gamma
    return cost * jnp.where(inside, factor, jnp.where(cost > 0, 1, jnp.zeros_like(cost)) ** gamma)


def _power(x: Array, gamma: Array) -> Array:
    """max(x, 0)^γ, with 0^0 = 1; at 0 the derivative is omitted, since it is multiplied by log 1."""
    inside = x > 0
    return jnp.where(inside, jnp.where(inside, x, 1) ** gamma, jnp.zeros_like(x) ** gamma)


def kl_divergence(
    logits: ArrayLike, probabilities: ArrayLike, *, weights: ArrayLike | None = None, where: ArrayLike | None = None
) -> Array:
    """Kullback-Leibler divergence of softmax(logits) from target probabilities, [..., k], [..., k] -> [...]:

        KL(p ‖ softmax(x)) = Σ_i p_i (log p_i - log softmax(x)_i),    0 log 0 = 0

    Range [0, inf) if p sums to 1 within 1 %. It equals `softmax_cross_entropy` minus the entropy of p, so it has the
    same gradient, softmax(x) - p, and is 0 for a perfect fit. Use it for distillation, with `softmax(teacher_logits)`
    as p, and for posteriors over classes. It is inf where softmax(x) is 0 and p is not, and ignores softmax(x) where p
    is 0. The gradient with respect to p is finite: at p_i = 0 the infinite slope of p log p is replaced by 0.

    Computed as Σ_i s_i h(log(p_i / s_i)) + Σ_i p_i - 1, with s = softmax(x) and h(r) = 1 + e^r (r - 1) >= 0, which has
    no cancellation between terms. The remaining errors are the rounding of Σ_i p_i, and that of the logarithms where p
    and s are close.

    Args:
      logits: unnormalised log-probabilities, floating. Normalised log-probabilities may be passed as well: their log
        softmax is equal to them.
      probabilities: target probabilities p of the logits' shape, floating; negative ones give NaN.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient to exactly 0.

    Raises:
      TypeError: if the logits or the probabilities are not floating.
      ValueError: if the shapes differ or there is a single class.

    Differences: PyTorch's KLDivLoss and optax take log-probabilities for the prediction. Keras takes probabilities and
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
