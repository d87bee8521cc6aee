"""Logistic regression, binary and multinomial, at its optimum."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn.linear._checks import example_weights, inputs, labelled, penalty
from jaxnn.linear._least_squares import dot, over
from jaxnn.linear._newton import Point, newton, solve
from jaxnn.linear._regression import predict

ROWS = 4096  # examples of a block: its products stay in the cache of a core
PART = 16  # every how many blocks one is in the first search

Blocks = tuple[Array, Array, Array]  # x [blocks, n, d], class numbers and weights [blocks, n]


class Logistic(NamedTuple):
    """A fitted logistic regression, logits = x @ weights + intercept.

    Attributes:
      weights: [d] for two classes, [d, k] for more.
      intercept: [], or [k] of sum 0.
      loss: [], Σ v loss + penalties at the last evaluation.
      converged: [], boolean; False without an optimum, as for separable classes without a penalty.
      steps: [], int32, number of evaluations of the objective on all examples.

    >>> model = logistic_regression(jnp.array([[0.0], [1.0], [2.0], [3.0]]), jnp.array([0, 1, 0, 1]))
    >>> model.converged.item()
    True
    """

    weights: Array
    intercept: Array
    loss: Array
    converged: Array
    steps: Array


def logistic_regression(
    x: ArrayLike,
    y: ArrayLike,
    *,
    classes: int = 2,
    l2: ArrayLike = 1.0,
    l1: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    class_weights: ArrayLike | Literal["balanced"] | None = None,
    intercept: bool = True,
    tolerance: ArrayLike = 1e-8,
    max_steps: int = 100,
) -> Logistic:
    """Minimum of the cross-entropy of a linear model, [n, d], integer [n] -> weights [d] or [d, k], intercept:

        minimise Σ_i v_i c_(y_i) loss(x_i·w + b, y_i) + l2 |w|² / 2 + l1 Σ |w|      (v = weights, c = class_weights)

    The loss is `losses.binary_cross_entropy` for two classes and `losses.softmax_cross_entropy` for more. The method is
    Newton's, with steps that are halved if the objective would rise. With l1 each step is a quadratic problem, solved
    by coordinate descent. An evaluation is one pass over the examples, and the number of evaluations, about 5 to 15,
    depends neither on the units of the features nor on n. The Hessian has (k (d + 1))² numbers, with k = 1 for two
    classes, which limits k d to some thousands.

    Without a penalty there is no optimum if a hyperplane separates the classes: `converged` is False, and weights grow
    with `max_steps`. Derivatives by x, weights, l2 and l1 are those of the optimum, by the implicit function theorem.

    Args:
      x: inputs, floating [n, d].
      y: class numbers, integer [n], or boolean for two classes. Numbers out of range give NaN.
      classes: number of classes k, >= 2.
      l2: strength of the squared penalty, >= 0; may be traced. Classes of k > 2 have a unique optimum for l2 > 0 only.
      l1: strength of the absolute penalty, >= 0, which sets weights to exactly 0; may be traced. None for no such
        penalty.
      weights: weight of each example, real [n], >= 0; None for 1.
      class_weights: [k], weight of each class; "balanced" for Σ v / (k Σ_(i of the class) v_i); None for 1.
      intercept: fit b; otherwise it is 0.
      tolerance: the search ends if the next step is predicted to lower the objective by less than this fraction, > 0.
        That step is then taken, so that the excess of the objective is far smaller.
      max_steps: limit on the number of evaluations, an integer >= 1.

    Returns: `Logistic(weights, intercept, loss, converged, steps)`.

    Raises:
      TypeError: if x is not floating or y is not integer or boolean.
      ValueError: if the shapes do not fit or a number is out of range.

    Differences: scikit-learn's LogisticRegression with l2 = 1 / C; with its `l1_ratio` r, l2 = (1 - r) / C and
      l1 = r / C. Its solvers stop earlier (tol = 1e-4), and liblinear penalises the intercept. Its `coef_` is [1, d] or
      [k, d].

    Reference: Lee, Sun and Saunders, Proximal Newton-type methods for minimizing composite functions, 2014.

    >>> model = logistic_regression(jnp.array([[0.0], [1.0], [2.0], [3.0]]), jnp.array([0, 1, 0, 1]))
    >>> probabilities(model, jnp.array([[1.5]])).round(4).tolist()
    [0.5]
    """
    name = "logistic_regression"
    x = inputs(name, x)
    k = check.count(name, "classes", classes, 2)
    check.flags(name, intercept=intercept)
    limit = jnp.asarray(check.count(name, "max_steps", max_steps), jnp.int32)
    check.scalar(name, "tolerance", tolerance, ends="()")
    least = jnp.asarray(tolerance).astype(x.dtype)
    strength = penalty(name, "l2", l2, x.dtype)
    lasso = None if l1 is None else penalty(name, "l1", l1, x.dtype)
    rows, y, v = x, *labelled(name, y, k, example_weights(name, weights, x))
    v = v if class_weights is None else v * _class_weights(name, class_weights, y, v, k)[y]

    mean = jnp.zeros_like(x[0]) if len(x) else jnp.zeros(x.shape[1], x.dtype)
    if intercept:  # centred, so that the Hessian is well conditioned if means are large
        mean = jax.lax.stop_gradient(over(dot(v, x), v.sum()))
        rows = jnp.concatenate([x - mean[None], jnp.ones_like(x, shape=(len(x), 1))], axis=1)
    outputs = 1 if k == 2 else k
    on = jnp.ones_like(x, shape=(outputs, rows.shape[1])).at[:, len(mean) :].set(0).reshape(-1)  # 0 for intercepts
    ridge, sparse = strength * on, None if lasso is None else lasso * on
    blocks = _blocks(rows, y, v)
    w, converged, last = _minimum(
        *jax.lax.stop_gradient((blocks, ridge, sparse)), outputs=outputs, tolerance=least, limit=limit
    )

    # Another Newton step, whose derivative is that of the optimum: the Hessian and w are constants here.
    live = jnp.ones_like(on, bool) if sparse is None else (w != 0) | (on == 0)
    gradient = _total(_gradient, w.reshape(outputs, -1), blocks) + ridge * w
    gradient = gradient if sparse is None else gradient + sparse * jnp.sign(w)
    h = jnp.where(live[:, None] & live[None], last.hessian, jnp.eye(len(w), dtype=w.dtype))
    step = solve(h, jnp.where(live, gradient, 0))
    w = (w - jnp.where(converged, step, 0)).reshape(outputs, -1)

    w, b = w[:, : len(mean)], w[:, len(mean) :].sum(1)
    b = b - dot(w, mean)
    b = b - b.mean() if k > 2 else b  # softmax is the same for any common constant
    w, b = (w[0], b[0]) if k == 2 else (w.T, b)
    return Logistic(w, b, last.value, converged, last.evaluations)


@partial(jax.jit, static_argnames="outputs")
def _minimum(
    blocks: Blocks, ridge: Array, l1: Array | None, outputs: int, tolerance: Array, limit: Array
) -> tuple[Array, Array, Point]:
    """The minimising weights, flat, whether the search converged, and its last point.

    The search on many blocks begins at the minimum of a sixteenth of them, which saves half of the passes over all.
    """

    def search(blocks: Blocks, fraction: float, w: Array) -> tuple[Array, Array, Point]:
        def evaluate(w: Array) -> tuple[Array, Array, Array]:
            value, g, h = _total(_sums, w.reshape(outputs, -1), blocks)
            l2 = fraction * ridge
            return value + jnp.sum(l2 * w**2) / 2, g + l2 * w, h + jnp.diag(l2)

        last, converged = newton(evaluate, w, None if l1 is None else fraction * l1, tolerance, limit)
        return jnp.where(converged, last.w + last.step, last.w + 0 * last.value), converged, last  # NaN stays NaN

    start = jnp.zeros_like(ridge)
    if len(blocks[0]) >= PART:
        part = jax.tree.map(lambda a: a[::PART], blocks)
        first, converged, _ = search(part, len(part[0]) / len(blocks[0]), start)
        start = jnp.where(converged, first, start)
    return jax.lax.stop_gradient(search(blocks, 1.0, start))


def _blocks(x: Array, y: Array, v: Array) -> Blocks:
    """Data as blocks of at most `ROWS` examples; if none fits, the last is filled up with examples of weight 0."""
    even = next((r for r in range(ROWS, ROWS // 4, -1) if len(x) % r == 0), 0)  # avoids a copy of x
    count = len(x) // even if even else max(1, -(-len(x) // ROWS))
    rows = -(-len(x) // count)
    missing = count * rows - len(x)
    filled = (jnp.pad(a, [(0, missing)] + [(0, 0)] * (a.ndim - 1)) if missing else a for a in (x, y, v))
    x, y, v = (a.reshape(count, rows, *a.shape[1:]) for a in filled)
    return x, y, v


@partial(jax.jit, static_argnames="of")
def _total(of: Callable[..., Any], w: Array, blocks: Blocks) -> Any:
    """Sum over the blocks of a function of weights [m, d] and a block."""

    def add(total: Any, block: Blocks) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, of(w, *block)), None

    shapes = jax.eval_shape(of, w, *(a[0] for a in blocks))
    return jax.lax.scan(add, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes), blocks)[0]


def _residuals(z: Array, y: Array) -> tuple[Array, Array, Array]:
    """Losses [n], their derivatives [n, m] by logits z [n, m], and second derivatives [n, m, m]; m = 1 for two classes.

    The signs are turned so that a small loss, or a small derivative, is no difference of large numbers.
    """
    if z.shape[1] == 1:
        sign = (1 - 2 * y)[:, None].astype(z.dtype)
        wrong = jax.nn.sigmoid(sign * z)  # probability of the other class
        return jax.nn.softplus(sign * z)[:, 0], sign * wrong, (wrong * jax.nn.sigmoid(-sign * z))[..., None]
    p, target = jax.nn.softmax(z), jax.nn.one_hot(y, z.shape[1], dtype=z.dtype)
    loss = jax.nn.logsumexp(z, axis=1) - jnp.sum(target * z, axis=1)
    return loss, p - target, p[:, :, None] * (jnp.eye(z.shape[1], dtype=z.dtype)[None] - p[:, None, :])


def _gradient(w: Array, x: Array, y: Array, v: Array) -> Array:
    """Gradient of Σ v loss by w [m, d], flat."""
    return dot((v[:, None] * _residuals(dot(x, w.T), y)[1]).T, x).reshape(-1)


def _sums(w: Array, x: Array, y: Array, v: Array) -> tuple[Array, Array, Array]:
    """Value, gradient [m d] and Hessian [m d, m d] of Σ v loss at w [m, d] for a block of examples."""
    loss, first, second = _residuals(dot(x, w.T), y)
    gradient = dot((v[:, None] * first).T, x).reshape(-1)

    def rows_of(curvature: Array) -> Array:  # [n, m], of one output with all others -> [d, m d]
        return dot(x.T, ((v[:, None] * curvature)[:, :, None] * x[:, None, :]).reshape(len(x), -1))

    hessian = jax.lax.map(rows_of, jnp.moveaxis(second, 1, 0)) if len(w) > 1 else rows_of(second[:, 0])
    return jnp.sum(v * loss), gradient, hessian.reshape(w.size, w.size)


def _class_weights(name: str, given: ArrayLike | str, y: Array, v: Array, k: int) -> Array:
    """Weights [k] of the classes in the dtype of `v`."""
    if isinstance(given, str):
        check.choice(name, "class_weights", given, ("balanced",))
        return over(v.sum(), k * jnp.zeros_like(v, shape=(k,)).at[y].add(v))
    check.kind(name, "class_weights", given, "real")
    check.shape(name, "class_weights", given, (k,), ", one for each class")
    return jnp.asarray(given).astype(v.dtype)


def probabilities(model: Logistic, x: ArrayLike) -> Array:
    """Probabilities of a logistic regression, [n, d] -> [n] of class 1 for two classes, [n, k] of all for more.

    Args:
      model: the fitted model.
      x: inputs, floating [n, d].

    Raises:
      TypeError: if x is not floating.
      ValueError: if it does not have the features that the model was fitted to.

    Differences: scikit-learn's `predict_proba` has a column for each of two classes.

    >>> model = logistic_regression(jnp.array([[0.0], [1.0], [2.0], [3.0]]), jnp.array([0, 1, 0, 1]))
    >>> probabilities(model, jnp.array([[1.5]])).round(4).tolist()
    [0.5]
    """
    logits = predict(model, x)
    return jax.nn.softmax(logits) if logits.ndim > 1 else jax.nn.sigmoid(logits)


def classify(model: Logistic, x: ArrayLike, *, threshold: ArrayLike = 0.5) -> Array:
    """Class numbers predicted by a logistic regression, [n, d] -> int32 [n].

    Args:
      model: the fitted model.
      x: inputs, floating [n, d].
      threshold: probability above which class 1 of two is predicted, 0 <= threshold <= 1; may be traced. It has no
        effect for more classes, of which the most probable is predicted.

    Raises:
      TypeError: if x is not floating.
      ValueError: if it does not have the features that the model was fitted to, or `threshold` is out of range.

    Differences: scikit-learn's `predict` has the threshold 0.5, and returns the labels it was given.

    >>> model = logistic_regression(jnp.array([[0.0], [1.0], [2.0], [3.0]]), jnp.array([0, 1, 0, 1]))
    >>> classify(model, jnp.array([[0.0], [3.0]])).tolist()
    [0, 1]
    """
    check.scalar("classify", "threshold", threshold, below=1.0, ends="[]")
    p = probabilities(model, x)
    if p.ndim > 1:
        return jnp.argmax(p, axis=1).astype(jnp.int32)
    return (p > jnp.asarray(threshold).astype(p.dtype)).astype(jnp.int32)
