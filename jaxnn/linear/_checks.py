"""Checks of the arguments of linear models."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxnn import _checks as check
from jaxnn._dtypes import is_kind, widened
from jaxnn._errors import invalid, wrong_type
from jaxnn.losses import _number, _of_known


def inputs(where: str, x: ArrayLike) -> Array:
    """`x` [n, d] in at least float32."""
    return widened(check.array(where, "x", x, rank=2, shape="[n, d]"))


def example_weights(where: str, weights: ArrayLike | None, x: Array) -> Array:
    """Weights [n] in the dtype of `x`; 1 for None."""
    if weights is None:
        return jnp.ones_like(x, shape=x.shape[:1])
    check.kind(where, "weights", weights, "real")
    check.shape(where, "weights", weights, x.shape[:1], ", one for each example")
    return jnp.asarray(weights).astype(x.dtype)


def regression(where: str, x: ArrayLike, y: ArrayLike, weights: ArrayLike | None) -> tuple[Array, Array, Array]:
    """x [n, d], y [n] or [n, k] and weights [n] in the dtype of `x`, at least float32."""
    rows = inputs(where, x)
    check.kind(where, "y", y, "real")
    if jnp.ndim(y) not in (1, 2) or jnp.shape(y)[0] != len(rows):
        raise invalid(where, f"y of shape [{len(rows)}] or [{len(rows)}, k], one target for each row of x", y)
    return rows, jnp.asarray(y).astype(rows.dtype), example_weights(where, weights, rows)


def labelled(where: str, y: ArrayLike, k: int, v: Array) -> tuple[Array, Array]:
    """Class numbers [n] from 0 to k - 1, and weights `v` [n], NaN where a number was out of range."""
    if not is_kind(y, "integer or boolean"):
        fix = "Strings and other labels become class numbers by nn.data.encode."
        raise wrong_type(where, "y of an integer or boolean dtype, class numbers", y, fix)
    check.shape(where, "y", y, v.shape, ", one class number for each row of x")
    labels = jnp.asarray(y)
    labels, known = _number(labels.astype(jnp.int32) if labels.dtype == bool else labels, k)
    return labels, _of_known(v, known)


def features_of(where: str, x: Array, features: int) -> None:
    """Raises unless `x` has the number of features that a model was fitted to."""
    if x.shape[1] != features:
        raise invalid(where, f"x of shape [n, {features}], with the features of the model", x)


def penalty(where: str, argument: str, value: ArrayLike, dtype: DTypeLike) -> Array:
    """The strength of a penalty, >= 0, in a dtype."""
    check.scalar(where, argument, value)
    return jnp.asarray(value).astype(dtype)


def tolerance(where: str, rcond: float | None, features: int, dtype: DTypeLike) -> Array:
    """`rcond` in a dtype; for None as many roundings as features."""
    if rcond is None:
        return jnp.asarray(features * jnp.finfo(dtype).eps, dtype)
    check.scalar(where, "rcond", rcond, below=1.0)
    return jnp.asarray(rcond).astype(dtype)
