"""Linear regression in closed form, and predictions of linear models."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn.linear._checks import features_of, inputs, penalty, regression, tolerance
from jaxnn.linear._least_squares import dot, least_squares, over

if TYPE_CHECKING:
    from jaxnn.linear._logistic import Logistic


class Linear(NamedTuple):
    """A fitted linear model, y = x @ weights + intercept.

    Attributes:
      weights: [d], or [d, k] for k targets.
      intercept: [], or [k]; 0 without an intercept.

    >>> predict(Linear(jnp.array([2.0, 0.0]), jnp.array(1.0)), jnp.eye(2)).tolist()
    [3.0, 1.0]
    """

    weights: Array
    intercept: Array


def linear_regression(
    x: ArrayLike,
    y: ArrayLike,
    *,
    ridge: ArrayLike = 0.0,
    weights: ArrayLike | None = None,
    intercept: bool = True,
    rcond: float | None = None,
) -> Linear:
    """Least squares with an optional ridge penalty, [n, d], [n] or [n, k] -> weights [d] or [d, k], intercept:

        minimise Σ_i v_i (y_i - x_i·w - b)² + ridge |w|²      (v = weights)

    The columns are centred, and the triangular factor of [x y] is solved by its singular values. Neither an inverse nor
    xᵀx is formed: the relative error of w is about κ roundings for columns of condition number κ, not κ². If several w
    are optimal (fewer examples than features, collinear columns), w is the one of minimum norm.

    Derivatives by x, y, weights and ridge are exact where the rank is constant. `jax.vmap` makes it a batch of
    regressions.

    Args:
      x: inputs, floating [n, d].
      y: targets, real [n] or [n, k].
      ridge: strength of the penalty, >= 0; may be traced.
      weights: weight of each example, real [n], >= 0; None for 1.
      intercept: fit b; otherwise it is 0.
      rcond: singular values of the centred x of at most `rcond` times the largest count as 0; 0 <= rcond < 1. None for
        d roundings of the dtype, such as 1.2e-5 for 100 features in float32.

    Returns: `Linear(weights, intercept)`; zeros if no example has a weight.

    Raises:
      TypeError: if x is not floating or y is not real.
      ValueError: if the shapes do not fit, or `ridge` or `rcond` is out of range.

    Differences: scikit-learn's LinearRegression for ridge = 0, and its Ridge with alpha = ridge. For several targets
      their `coef_` is [k, d]. PyTorch, Keras and optax have no closed form; `torch.linalg.lstsq` has no intercept,
      weights or penalty.

    Reference: Golub and Van Loan, Matrix Computations, 2013, chapter 5.

    >>> model = linear_regression(jnp.array([[0.0], [1.0], [2.0]]), jnp.array([1.0, 3.0, 5.0]))
    >>> model.weights.round(4).tolist(), model.intercept.round(4).item()
    ([2.0], 1.0)
    """
    name = "linear_regression"
    x, y, v = regression(name, x, y, weights)
    check.flags(name, intercept=intercept)
    strength, least = penalty(name, "ridge", ridge, x.dtype), tolerance(name, rcond, x.shape[1], x.dtype)
    columns = y.reshape(len(y), -1)
    if intercept:
        (x, mean), (columns, center) = centred(x, v), centred(columns, v)
        w = least_squares(x, columns, v, strength, least)
        return shaped(w, center - dot(mean, w), y.ndim - 1)
    w = least_squares(x, columns, v, strength, least)
    return shaped(w, jnp.zeros_like(w, shape=w.shape[1:]), y.ndim - 1)


def centred(x: Array, v: Array) -> tuple[Array, Array]:
    """x - mean and the mean, weighted by v, [n, d] -> [n, d], [d].

    The mean is taken twice: the first is rounded in units of x, the second in units of the deviations.
    """
    first = over(dot(v, x), v.sum())
    x = x - first[None]
    second = over(dot(v, x), v.sum())
    return x - second[None], first + second


def shaped(weights: Array, intercept: Array, axes: int) -> Linear:
    """A model of [d, k] and [k], without the axis of targets if y has none."""
    return Linear(weights, intercept) if axes else Linear(weights[:, 0], intercept[0])


def predict(model: Linear | Logistic, x: ArrayLike) -> Array:
    """Predictions of a linear model, [n, d] -> [n] or [n, k]: x @ weights + intercept.

    For a logistic model these are the logits; see `probabilities` and `classify`.

    Args:
      model: a `Linear` or a `Logistic`.
      x: inputs, floating [n, d].

    Raises:
      TypeError: if x is not floating.
      ValueError: if it does not have the features that the model was fitted to.

    Differences: scikit-learn's `predict` for regressions, and its `decision_function` for logistic models.

    >>> predict(Linear(jnp.array([2.0, 0.0]), jnp.array(1.0)), jnp.eye(2)).tolist()
    [3.0, 1.0]
    """
    x = inputs("predict", x)
    features_of("predict", x, len(model.weights))
    y = dot(x, model.weights.astype(x.dtype))
    return y + jnp.broadcast_to(model.intercept.astype(x.dtype), y.shape)
