"""The perceptron: learning without a gradient, by Rosenblatt's rule."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._errors import invalid
from jaxnn._mesh import scan


def perceptron_update(
    w: ArrayLike, b: ArrayLike, x: ArrayLike, y: ArrayLike, *, learning_rate: ArrayLike = 1.0
) -> tuple[Array, Array, Array]:
    """One pass of the perceptron rule over the examples, in order, -> (w [d, features], b, mistakes [features]).

    For each example, with ŷ = 1 if x w + b >= 0, else 0:

        w <- w + η (y - ŷ) x,    b <- b + η (y - ŷ)

    Only mistakes change w and b. If a hyperplane separates the classes with margin γ, and no norm |(x, 1)| exceeds r,
    then all passes from w = b = 0 together make at most (r / γ)² mistakes (Novikoff 1962). If none separates them, as
    for XOR, the rule never converges. Well separated classes need few passes. The rule finds any separating hyperplane,
    not the one with the largest margin.

    The products have the highest precision of the platform, because their sign is the prediction.

    Args:
      w, b: weights [d, features] and biases [features], floating; the updates have their dtype.
      x: examples [n, d], floating.
      y: targets [n, features]: booleans, or 0 and 1 of any real dtype; other values give NaN.
      learning_rate: η > 0; from w = b = 0 it only scales w and b. May be traced.

    Returns:
      (w, b, mistakes), with mistakes int32, counted before the update that each of them causes; 0 means convergence.

    Raises:
      TypeError: if w, b or x is not floating, or y is not of a real dtype.
      ValueError: if the shapes do not fit.

    Differences: scikit-learn's Perceptron without shuffling, except that it counts a score of exactly 0 as a mistake
    for both classes.

    Reference: Rosenblatt, The Perceptron, 1958.

    >>> x, both = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), jnp.array([[0], [0], [0], [1]])
    >>> w, b = jnp.zeros((2, 1)), jnp.zeros(1)
    >>> for _ in range(6):
    ...     w, b, mistakes = perceptron_update(w, b, x, both)
    >>> w.tolist(), b.tolist(), mistakes.tolist()
    ([[2.0], [1.0]], [-3.0], [0])
    """
    name = "perceptron_update"
    for what, value, kind in (("w", w, "floating"), ("b", b, "floating"), ("x", x, "floating"), ("y", y, "real")):
        check.kind(name, what, value, kind)
    check.scalar(name, "learning_rate", learning_rate, -math.inf, ends="()")
    w, b, x = jnp.asarray(w), jnp.asarray(b), jnp.asarray(x)
    if w.ndim != 2 or x.ndim != 2:
        raise invalid(name, "w of shape [d, features] and x of shape [n, d]", (w, x))
    check.shape(name, "b", b, w.shape[1:], ", the features of w")
    check.shape(name, "x", x, (x.shape[0], w.shape[0]))
    check.shape(name, "y", y, (x.shape[0], w.shape[1]))
    y = jnp.asarray(y).astype(w.dtype)
    y = jnp.where((y == 0) | (y == 1), y, jnp.nan)
    rate = jnp.asarray(learning_rate).astype(w.dtype)

    def one(carry: tuple[Array, Array, Array], example: tuple[Array, Array]) -> tuple[tuple[Array, Array, Array], None]:
        w, b, mistakes = carry
        x, y = example
        error = y - (jnp.matmul(x, w, precision=lax.Precision.HIGHEST) + b >= 0).astype(w.dtype)
        return (w + rate * jnp.outer(x, error), b + rate * error, mistakes + (error != 0).astype(jnp.int32)), None

    start = (w, b.astype(w.dtype), jnp.zeros(w.shape[1], jnp.int32))
    return scan(one, start, (x.astype(w.dtype), y))[0]
