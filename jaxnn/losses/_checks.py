"""Shared parts of the losses: checks of arguments, weights and masks, stable softmax, vectors that may be zero."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxnn import _checks as check
from jaxnn._dtypes import is_kind, widened
from jaxnn._errors import describe, invalid, wrong_type
from jaxnn._inputs import known, whole
from jaxnn._means import counted

# Weights and masks.


def _masked(
    name: str,
    loss: Callable[..., Array],
    arrays: Sequence[Array],
    shape: tuple[int, ...],
    weights: ArrayLike | None,
    where: ArrayLike | None,
    live: Array | None = None,
    share: Array | None = None,
) -> Array:
    """Weighted and masked loss, recorded together with the weight of each residual in a mean.

    The inputs are masked as well as the loss: otherwise 0 · NaN in the gradient would be NaN.

    Args:
      name: name of the loss, for errors.
      loss: function of the arrays that returns one loss per residual.
      arrays: inputs of the loss, with its shape as leading axes.
      shape: shape of the loss.
      weights: scalar or array of the loss's shape, or None.
      where: mask given by the caller, or None.
      live: second mask, False where a label is ignored.
      share: weight of each residual by its class.
    """
    mask = None if where is None else _mask(name, where, shape)
    mask = live if mask is None else mask if live is None else mask & live
    arrays = arrays if mask is None else [_keep(mask, x) for x in arrays]
    value = _weighted(name, loss(*arrays), weights)
    return _counted(value if mask is None else _keep(mask, value), weights, mask, share)


def _counted(value: Array, weights: ArrayLike | None, mask: Array | None = None, share: Array | None = None) -> Array:
    """`value`, recorded with the weight of each residual in a mean. Scalar `weights` scale the loss only."""
    each = None if share is None else share.astype(value.dtype)
    if weights is not None and jnp.shape(weights) != ():
        w = jnp.asarray(weights).astype(value.dtype)
        each = w if each is None else w * each
    if mask is not None:
        each = mask.astype(value.dtype) if each is None else _keep(mask, each)
    return counted(value, each)


def _mask(name: str, where: ArrayLike, shape: tuple[int, ...], of: str = "the loss") -> Array:
    check.kind(name, "where", where, "boolean", "It is a mask: False leaves a residual out.")
    return _of_shape(name, "where", where, shape, of)


def _weighted(name: str, value: Array, weights: ArrayLike | None) -> Array:
    if weights is None:
        return value
    check.kind(name, "weights", weights, "floating or integer", "A mask is passed as where=.")
    weights = weights if jnp.shape(weights) == () else _of_shape(name, "weights", weights, value.shape)
    return value * jnp.asarray(weights).astype(value.dtype)


def _keep(mask: Array, x: Array) -> Array:
    """`x` with 0 where the mask is False. The mask may lack the last axes of `x` (classes or features)."""
    return jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x, 0)


def _of_shape(name: str, what: str, x: ArrayLike, shape: tuple[int, ...], of: str = "the loss") -> Array:
    check.shape(name, what, x, shape, f", that of {of}")
    return jnp.asarray(x)


# Predictions and targets.


def _pair(name: str, p_name: str, prediction: ArrayLike, t_name: str, target: ArrayLike) -> tuple[Array, Array]:
    """Prediction and target as arrays of equal shape: a floating prediction, at least float32, and a real target."""
    prediction = check.array_like(name, p_name, prediction)
    check.kind(name, t_name, target, "real")
    check.same_shape(name, p_name, prediction, t_name, target)
    return widened(prediction), jnp.asarray(target)


def _bits(y: Array, dtype: DTypeLike) -> Array:
    """Binary labels in the dtype of the loss. Integers other than 0 and 1 become NaN."""
    if jnp.issubdtype(y.dtype, jnp.integer):
        return jnp.where((y == 0) | (y == 1), y.astype(dtype), jnp.nan)
    return y.astype(dtype)


def _classes(name: str, logits: ArrayLike, labels: ArrayLike, what: str = "logits") -> tuple[Array, Array]:
    """Logits and labels as arrays: floating logits [..., k], labels integer [...] or floating [..., k]."""
    logits = check.array_like(name, what, logits)
    if not logits.ndim or not logits.shape[-1]:
        raise invalid(name, f"{what} of shape [..., k] with k >= 1", logits, "The last axis holds the classes.")
    _several(name, what, logits)
    if is_kind(labels, "integer"):
        kind, shape = "integer", logits.shape[:-1]
    elif is_kind(labels, "floating"):
        kind, shape = "float", logits.shape
    else:
        fix = "Pass an array of class numbers or of probabilities; cast one-hot booleans."
        raise wrong_type(name, "integer or float labels", labels, fix)
    if jnp.shape(labels) != shape:
        fix = "Integers are class numbers, floats are probabilities of all k classes."
        raise invalid(name, f"{kind} labels of shape {list(shape)} for {what} {describe(logits)}", labels, fix)
    return logits, jnp.asarray(labels)


def _several(name: str, what: str, x: Array) -> None:
    """Raises ValueError for a single class, whose softmax is always 1, and points to the binary loss."""
    if x.shape[-1] == 1:
        fix = (
            "With one class softmax is always 1. One logit for two classes is for losses.binary_cross_entropy and "
            "metrics.binary_accuracy, with labels of the logits' shape: logits.squeeze(-1) for labels [...]."
        )
        raise invalid(name, f"{what} of at least 2 classes, [..., k]", x, fix)


def _number(y: Array, k: int) -> tuple[Array, Array]:
    """Class numbers in an integer dtype that can hold k, 0 for those out of range; and a mask of those in range."""
    y = y if y.dtype.itemsize >= 4 else y.astype(jnp.int32)
    known = (y >= 0) & (y < k)
    return jnp.where(known, y, 0), known


def _of_known(value: Array, known: Array) -> Array:
    """`value`, or NaN in value and gradient where the label is not known."""
    return value * jnp.where(known, 1.0, jnp.nan).astype(value.dtype)


def _at_label(x: Array, y: Array) -> Array:
    """Mask [..., k] of the label's class in x [..., k], for class numbers y [...]."""
    return jax.lax.broadcasted_iota(y.dtype, x.shape, x.ndim - 1) == y[..., None]


def _distribution(y: Array, k: int, dtype: DTypeLike) -> Array:
    """Labels as probabilities [..., k] in the dtype of the loss. Class numbers out of range give NaN."""
    if jnp.issubdtype(y.dtype, jnp.floating):
        return y.astype(dtype)
    y, known = _number(y, k)
    return jnp.where(known[..., None], jax.nn.one_hot(y, k, dtype=dtype), jnp.nan)


def _expected(p: Array, cost: Array) -> Array:
    """p · cost, with 0 · inf = 0."""
    return p * jnp.where((p == 0) & (cost == jnp.inf), 0, cost)


def _like(w: Array, p: Array) -> Array:
    """`w` [k], reshaped to the rank of `p` [..., k]."""
    return w.reshape((1,) * (p.ndim - 1) + w.shape)


def _of_class(w: Array, labels: Array) -> Array | None:
    """Weight of each residual in a mean by class weights, [k], integer [...] -> [...]; None for float labels."""
    return None if jnp.issubdtype(labels.dtype, jnp.floating) else w[_number(labels, len(w))[0]]


def _smoother(
    name: str, label_smoothing: ArrayLike | None, k: int, dtype: DTypeLike
) -> Callable[[Array], Array] | None:
    """p -> (1 - a) p + a / k, the labels smoothed over k classes; None without smoothing."""
    if label_smoothing is None:
        return None
    share, rest = _share(name, "label_smoothing", label_smoothing, dtype), _rest(label_smoothing, dtype)
    return lambda p: p * rest + share / k


def _class_weights(name: str, class_weights: ArrayLike, k: int, dtype: DTypeLike) -> Array:
    check.kind(name, "class_weights", class_weights, "floating or integer")
    check.shape(name, "class_weights", class_weights, (k,), ", one for each class")
    return jnp.asarray(class_weights).astype(dtype)


def _not_ignored(name: str, labels: Array, ignore_label: int | None) -> Array | None:
    """Mask of the labels that are not `ignore_label`, or None if `ignore_label` is None."""
    if ignore_label is None:
        return None
    ignored = whole(ignore_label)
    if ignored is None:
        raise wrong_type(name, "ignore_label to be an integer or None", ignore_label)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise wrong_type(name, "integer labels with ignore_label", labels, "Leave residuals out by where=.")
    dtype = jnp.iinfo(labels.dtype)
    if not dtype.min <= ignored <= dtype.max:
        return jnp.ones(labels.shape, bool)
    return labels != ignored


def _option(
    name: str, what: str, value: ArrayLike, dtype: DTypeLike, *, below: float = math.inf, ends: str = "[)"
) -> Array:
    """Scalar hyper-parameter in the loss's dtype. The range of a Python or NumPy number is checked."""
    check.scalar(name, what, value, below=below, ends=ends)
    return jnp.asarray(value).astype(dtype)


def _positive(name: str, what: str, value: ArrayLike, dtype: DTypeLike, ends: str = "()") -> Array:
    return _option(name, what, value, dtype, ends=ends)


def _share(name: str, what: str, value: ArrayLike, dtype: DTypeLike) -> Array:
    return _option(name, what, value, dtype, below=1.0, ends="[]")


def _small(name: str, what: str, value: ArrayLike, dtype: DTypeLike) -> Array:
    return _option(name, what, value, dtype, below=1.0, ends="()")


def _rest(value: ArrayLike, dtype: DTypeLike) -> Array:
    """1 - value; Python floats for a Python number, since 1 - 0.9999999 has few correct digits in float32."""
    return jnp.asarray(1 - float(value) if known(value) else 1 - jnp.asarray(value).astype(dtype), dtype)  # type: ignore[arg-type]


# Softmax, with every digit that the differences of the logits have.


@jax.custom_jvp
def _costs(x: Array) -> Array:
    """-log softmax(x) along the last axis, [..., k] -> [..., k]: log(1 + r) - (x - max x), both terms >= 0.

    The maximum is subtracted first, so nothing cancels at any offset of x. r is the sum of the exponentials without the
    maximum's 1, so log(1 + r) keeps the digits of a small r.
    """
    d, e = _from_largest(x)
    whole = e.sum(axis=-1, keepdims=True)
    below = jnp.minimum(e, d * -(2.0**100)).sum(axis=-1, keepdims=True)  # without maxima (d = 0); faster than where()
    return jnp.log1p(jnp.where(whole < 1.5, below, whole - 1)) - d


@_costs.defjvp
def _costs_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    e = _from_largest(*primals)[1]
    softmax = e * (1 / e.sum(axis=-1, keepdims=True))
    return _costs(*primals), (softmax * tangents[0]).sum(axis=-1, keepdims=True) - tangents[0]


@jax.custom_jvp
def _cost(x: Array, y: Array) -> Array:
    """`_costs` at one class only, [..., k], integer [...] -> [...]."""
    return _against_others(x, y)[0]


@_cost.defjvp
def _cost_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Any]) -> tuple[Array, Array]:
    """Derivative softmax(x) - p; at y it is minus the sum of the other probabilities."""
    x, y = primals
    value, e, others, total = _against_others(x, y)
    slope = jnp.where(_at_label(x, y), -others, e) * (1 / (1 + total))
    return value, (slope * tangents[0]).sum(axis=-1)


def _against_others(x: Array, y: Array) -> tuple[Array, Array, Array, Array]:
    """The cost of class y; exp(x - max x); its sum over the other classes; its sum over all classes minus 1."""
    largest = _largest(x)
    e = jnp.exp(x - largest)
    d_y = jnp.take_along_axis(x, y[..., None], axis=-1, mode="promise_in_bounds") - largest
    place = jax.lax.broadcasted_iota(x.dtype, x.shape, x.ndim - 1) - y[..., None].astype(x.dtype)
    others = jnp.minimum(e, 4 * place * place).sum(axis=-1, keepdims=True)  # 0 at y, else e <= 1; faster than where()
    total = others + jnp.expm1(d_y)
    return (jnp.log1p(total) - d_y).squeeze(-1), e, others, total


def _from_largest(x: Array) -> tuple[Array, Array]:
    """x - max x along the last axis, and its exponential."""
    d = x - _largest(x)
    return d, jnp.exp(d)


def _largest(x: Array) -> Array:
    return jax.lax.stop_gradient(jnp.max(x, axis=-1, keepdims=True, initial=-jnp.inf))


# Probabilities.

_ROUNDING = 1e-2  # tolerance outside [0, 1], for the rounding of low precision; beyond it p is not a probability


def _probability(p: Array) -> Array:
    """`p`, or NaN in value and gradient where it is not a probability (a logit passed by mistake)."""
    return p * jnp.where((p >= -_ROUNDING) & (p <= 1 + _ROUNDING), 1.0, jnp.nan).astype(p.dtype)


@jax.custom_jvp
def _floor(p: Array, eps: Array) -> Array:
    """`p` clipped to [eps, 1], with derivative 1 everywhere: the gradient of a clipped p points back into the range."""
    return jnp.clip(p, eps, 1)


@_floor.defjvp
def _floor_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    return _floor(*primals), tangents[0]


def _log_complement(p: Array, eps: Array) -> Array:
    """log max(1 - p, ε), accurate for small p, where 1 - p would lose digits."""
    small = 1 - p > jnp.maximum(eps, 0.5)
    near = jnp.log1p(-_floor(jnp.where(small, p, 0), jnp.zeros_like(eps)))
    return jnp.where(small, near, jnp.log(_floor(jnp.where(small, 1, 1 - p), eps)))


@jax.custom_jvp
def _excess(r: Array) -> Array:
    """r - 1 + e^-r >= 0 for |r| <= 1, by its series: r²/2 (1 - r/3 (1 - r/4 (...)))."""
    tail = jnp.ones_like(r)
    for n in range(20, 2, -1):
        tail = 1 - r * tail / n
    return r * r * tail / 2


_excess.defjvps(lambda tangent, value, r: tangent * -jnp.expm1(-r))


def _positive_part(x: Array) -> Array:
    """max(0, x), with gradient 0 at 0."""
    return jnp.where(x <= 0, 0, x)


def _at_least_0(x: Array) -> Array:
    """`x`, or 0 where rounding made it negative, with the derivatives of `x`: the Hessian at the minimum is kept."""
    return x + jax.lax.stop_gradient(jnp.where(x < 0, -x, 0))


# Vectors of features, [..., d].


def _features(name: str, names: Sequence[str], vectors: Sequence[ArrayLike]) -> list[Array]:
    """Floating arrays [..., d] of equal shape, in at least float32."""
    arrays = [check.array_like(name, what, x) for what, x in zip(names, vectors, strict=True)]
    first = arrays[0]
    if not first.ndim or not first.shape[-1]:
        raise invalid(name, f"{names[0]} of shape [..., d] with d >= 1", first, "The last axis holds the features.")
    for what, x in zip(names[1:], arrays[1:], strict=True):
        check.same_shape(name, names[0], first, what, x)
    wide = [widened(x) for x in arrays]
    return [x.astype(wide[0].dtype) for x in wide]


def _unit(x: Array) -> Array:
    """x / |x| along the last axis, and 0 in value and gradient where x is 0. No square overflows or underflows."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True))
    zero = largest == 0
    scaled = jnp.where(zero, 1, x) / jnp.where(zero, 1, largest)
    unit = scaled / jnp.sqrt(jnp.sum(scaled**2, axis=-1, keepdims=True))
    return jnp.where(zero, 0, unit)


def _distance(x: Array, y: Array, squared: bool = False) -> Array:
    """|x - y| along the last axis, or its square; gradient 0 where x = y. No square overflows or underflows."""
    r = x - y
    if squared:
        return jnp.sum(r**2, axis=-1)
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(r), axis=-1, keepdims=True))
    plain = (largest == 0) | (largest > 1e-15) & (largest < 1e15) | (largest == jnp.inf)
    scale = jnp.where(plain, 1, largest)
    square = jnp.sum((r / scale) ** 2, axis=-1)
    return jnp.where(square == 0, 0, jnp.sqrt(jnp.where(square == 0, 1, square))) * scale.squeeze(-1)
