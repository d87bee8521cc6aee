"""What the losses share: checks of what they are given, weights and masks, vectors that may be zero."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn._errors import describe, invalid, wrong_type

# Weights and masks.


def _masked(
    name: str,
    loss: Callable[..., Array],
    arrays: Sequence[Array],
    shape: tuple[int, ...],
    weights: ArrayLike | None,
    where: ArrayLike | None,
) -> Array:
    """The loss, weighted and masked. The inputs are masked too, since 0 · nan in the gradient would be nan."""
    mask = None if where is None else _mask(name, where, shape)
    arrays = arrays if mask is None else [_keep(mask, x) for x in arrays]
    value = _weighted(name, loss(*arrays), weights)
    return value if mask is None else _keep(mask, value)


def _mask(name: str, where: ArrayLike, shape: tuple[int, ...], of: str = "the loss") -> Array:
    if not jnp.issubdtype(_kind(where), jnp.bool):
        raise wrong_type(name, "where of dtype bool", where, "It is a mask: False leaves a residual out.")
    return _of_shape(name, "where", where, shape, of)


def _weighted(name: str, value: Array, weights: ArrayLike | None) -> Array:
    if weights is None:
        return value
    if not jnp.issubdtype(_kind(weights), jnp.floating) and not jnp.issubdtype(_kind(weights), jnp.integer):
        raise wrong_type(name, "weights of a floating or integer dtype", weights, "A mask is passed as where=.")
    weights = weights if jnp.shape(weights) == () else _of_shape(name, "weights", weights, value.shape)
    return value * jnp.asarray(weights).astype(value.dtype)


def _keep(mask: Array, x: Array) -> Array:
    """`x`, with 0 where the mask is False; the mask may lack the last axes, those of classes or features."""
    return jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x, 0)


def _of_shape(name: str, what: str, x: ArrayLike, shape: tuple[int, ...], of: str = "the loss") -> Array:
    if jnp.shape(x) != shape:
        raise invalid(name, f"{what} of shape {list(shape)}, that of {of}", x, "Nothing is broadcast.")
    return jnp.asarray(x)


# Predictions and targets.


def _pair(name: str, p_name: str, prediction: ArrayLike, t_name: str, target: ArrayLike) -> tuple[Array, Array]:
    """Both as arrays of one shape: the prediction floating, in at least float32, the target real."""
    prediction = _floating(name, p_name, prediction)
    if not any(jnp.issubdtype(_kind(target), kind) for kind in (jnp.floating, jnp.integer, jnp.bool)):
        raise wrong_type(name, f"{t_name} of a real dtype", target)
    if prediction.shape != jnp.shape(target):
        got = f"{describe(prediction)} and {describe(target)}"
        raise invalid(name, f"{p_name} and {t_name} of one shape", got, "Nothing is broadcast: reshape one of them.")
    return _wide(prediction), jnp.asarray(target)


def _bits(y: Array, dtype: Any) -> Array:
    """Labels of two classes in the dtype of the loss: integers other than 0 and 1 become NaN."""
    if jnp.issubdtype(y.dtype, jnp.integer):
        return jnp.where((y == 0) | (y == 1), y.astype(dtype), jnp.nan)
    return y.astype(dtype)


def _classes(name: str, logits: ArrayLike, labels: ArrayLike, what: str = "logits") -> tuple[Array, Array]:
    """Both as arrays: logits [..., k] floating, labels integer [...] or floating [..., k]."""
    logits = _floating(name, what, logits)
    if not logits.ndim or not logits.shape[-1]:
        raise invalid(name, f"{what} of shape [..., k] with k >= 1", logits, "The last axis holds the classes.")
    if jnp.issubdtype(_kind(labels), jnp.integer):
        kind, shape = "integer", logits.shape[:-1]
    elif jnp.issubdtype(_kind(labels), jnp.floating):
        kind, shape = "float", logits.shape
    else:
        fix = "Pass an array of class numbers or of probabilities; cast one-hot booleans."
        raise wrong_type(name, "integer or float labels", labels, fix)
    if jnp.shape(labels) != shape:
        fix = "Integers are class numbers, floats are probabilities of all k classes."
        raise invalid(name, f"{kind} labels of shape {list(shape)} for {what} {describe(logits)}", labels, fix)
    return logits, jnp.asarray(labels)


def _number(y: Array, k: int) -> tuple[Array, Array]:
    """Class numbers in an integer dtype that holds k, 0 for those out of range, and which of them are in range."""
    y = y if y.dtype.itemsize >= 4 else y.astype(jnp.int32)
    known = (y >= 0) & (y < k)
    return jnp.where(known, y, 0), known


def _distribution(y: Array, k: int, dtype: Any) -> Array:
    """Labels as [..., k] probabilities in the dtype of the loss: NaN for class numbers out of range."""
    if jnp.issubdtype(y.dtype, jnp.floating):
        return y.astype(dtype)
    y, known = _number(y, k)
    return jnp.where(known[..., None], jax.nn.one_hot(y, k, dtype=dtype), jnp.nan)


def _expected(p: Array, cost: Array) -> Array:
    """p · cost, with 0 · inf = 0."""
    return p * jnp.where((p == 0) & (cost == jnp.inf), 0, cost)


def _like(w: Array, p: Array) -> Array:
    """`w` [k] with the rank of `p` [..., k]."""
    return w.reshape((1,) * (p.ndim - 1) + w.shape)


def _class_weights(name: str, class_weights: ArrayLike, k: int, dtype: Any) -> Array:
    if not jnp.issubdtype(_kind(class_weights), jnp.floating) and not jnp.issubdtype(_kind(class_weights), jnp.integer):
        raise wrong_type(name, "class_weights of a floating or integer dtype", class_weights)
    if jnp.shape(class_weights) != (k,):
        raise invalid(name, f"class_weights of shape [{k}], one a class", class_weights, "Nothing is broadcast.")
    return jnp.asarray(class_weights).astype(dtype)


def _option(name: str, what: str, value: ArrayLike, dtype: Any, fits: Callable[[float], bool], expected: str) -> Array:
    """A hyper-parameter as a scalar of the loss's dtype; a Python number has to lie in its range, an array need not."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        if not jnp.issubdtype(_kind(value), jnp.floating) and not jnp.issubdtype(_kind(value), jnp.integer):
            raise wrong_type(name, f"{what} to be a number", describe(value))
        if jnp.shape(value) != ():
            raise invalid(name, f"{what} to be one number", value, "Use jax.vmap for several.")
    elif not fits(value):
        raise invalid(name, f"{what} {expected}", value)
    return jnp.asarray(value).astype(dtype)


def _positive(name: str, what: str, value: ArrayLike, dtype: Any) -> Array:
    return _option(name, what, value, dtype, lambda v: v > 0, "> 0")


def _not_negative(name: str, what: str, value: ArrayLike, dtype: Any) -> Array:
    return _option(name, what, value, dtype, lambda v: v >= 0, ">= 0")


def _share(name: str, what: str, value: ArrayLike, dtype: Any) -> Array:
    return _option(name, what, value, dtype, lambda v: 0 <= v <= 1, "from 0 to 1")


def _small(name: str, what: str, value: ArrayLike, dtype: Any) -> Array:
    return _option(name, what, value, dtype, lambda v: 0 < v < 1, "between 0 and 1")


def _flag(name: str, what: str, value: bool) -> None:
    if not isinstance(value, bool):
        raise wrong_type(name, f"{what} to be True or False", describe(value))


def _floating(name: str, what: str, x: ArrayLike) -> Array:
    if not jnp.issubdtype(_kind(x), jnp.floating):
        raise wrong_type(name, f"{what} of a floating dtype", x, "Cast it: jnp.asarray(x, jnp.float32).")
    return jnp.asarray(x)


def _kind(x: ArrayLike) -> Any:
    return getattr(x, "dtype", type(x))


def _wide(x: Array) -> Array:
    """`x` in at least float32."""
    return x if jnp.finfo(x.dtype).bits >= 32 else x.astype(jnp.float32)


# Probabilities, taken as such.

_ROUNDING = 1e-2  # a probability may lie this far beyond [0, 1], as those of low precision do; beyond that it is none


def _probability(p: Array) -> Array:
    """`p`, but NaN, in the gradient too, where it is no probability (a logit passed by mistake)."""
    return p * jnp.where((p >= -_ROUNDING) & (p <= 1 + _ROUNDING), 1.0, jnp.nan).astype(p.dtype)


@jax.custom_jvp
def _floor(p: Array, eps: Array) -> Array:
    """`p` within [eps, 1], with the derivative 1 everywhere: the gradient of a clipped p still points back."""
    return jnp.clip(p, eps, 1)


@_floor.defjvp
def _floor_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    return _floor(*primals), tangents[0]


# Vectors of features, [..., d].


def _features(name: str, names: Sequence[str], vectors: Sequence[ArrayLike]) -> list[Array]:
    """Arrays [..., d] of one shape, all floating; in the widest of their dtypes and at least float32."""
    arrays = [_floating(name, what, x) for what, x in zip(names, vectors, strict=True)]
    first = arrays[0]
    if not first.ndim or not first.shape[-1]:
        raise invalid(name, f"{names[0]} of shape [..., d] with d >= 1", first, "The last axis holds the features.")
    for what, x in zip(names[1:], arrays[1:], strict=True):
        if x.shape != first.shape:
            got = f"{describe(first)} and {describe(x)}"
            raise invalid(name, f"{names[0]} and {what} of one shape", got, "Nothing is broadcast.")
    wide = [_wide(x) for x in arrays]
    return [x.astype(wide[0].dtype) for x in wide]


def _unit(x: Array) -> Array:
    """x / |x| along the last axis, and 0 in value and gradient where x is 0. No square over- or underflows."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True))
    zero = largest == 0
    scaled = jnp.where(zero, 1, x) / jnp.where(zero, 1, largest)
    unit = scaled / jnp.sqrt(jnp.sum(scaled**2, axis=-1, keepdims=True))
    return jnp.where(zero, 0, unit)


def _distance(x: Array, y: Array, squared: bool = False) -> Array:
    """|x - y| along the last axis, or its square; the gradient is 0 where they meet."""
    square = jnp.sum((x - y) ** 2, axis=-1)
    if squared:
        return square
    return jnp.where(square == 0, 0, jnp.sqrt(jnp.where(square == 0, 1, square)))
