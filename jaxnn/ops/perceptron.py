"""Learning without a gradient: Rosenblatt's rule."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._errors import describe, invalid
from jaxnn._placement import scan


def perceptron_update(
    w: ArrayLike, b: ArrayLike, x: ArrayLike, y: ArrayLike, *, learning_rate: ArrayLike = 1.0
) -> tuple[Array, Array, Array]:
    """Rosenblatt's rule once through the examples, in order: -> w [d, features], b [features], mistakes [features].

    For each example, with ŷ = 1 where x w + b >= 0, else 0:

        w <- w + η (y - ŷ) x,    b <- b + η (y - ŷ)

    Only mistakes move anything. If a plane with a margin γ separates the classes and no |x, 1| exceeds r, there are at
    most (r / γ)² mistakes however often it is called, from w = b = 0 (Novikoff 1962); if none does, as with XOR, they
    never end. Classes far apart take few rounds, and the plane it stops at is any that separates, not the best one.

    Args:
      w, b: floating; updates have their dtype.
      x: [n, d], floating.
      y: [n, features]: booleans, or 0 and 1 of any real dtype; others give NaN.
      learning_rate: η > 0; from w = b = 0 it changes their length alone. May be traced.

    Returns the mistakes as int32, before the update that each of them caused; 0 is convergence.

    The product is of the highest precision of the platform: its sign is the prediction.

    Raises TypeError for dtypes and ValueError for shapes that do not fit.

    Rosenblatt, The Perceptron, 1958. As scikit-learn's Perceptron without shuffling, whose mistakes include y x = 0 on
    either side.

    >>> x, both = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), jnp.array([[0], [0], [0], [1]])
    >>> w, b = jnp.zeros((2, 1)), jnp.zeros(1)
    >>> for _ in range(6):
    ...     w, b, mistakes = perceptron_update(w, b, x, both)
    >>> w.tolist(), b.tolist(), mistakes.tolist()
    ([[2.0], [1.0]], [-3.0], [0])
    """
    name = "perceptron_update"
    for what, value in (("w", w), ("b", b), ("x", x)):
        check.kind(name, what, value, "floating")
    check.scalar(name, "learning_rate", learning_rate, -math.inf, ends="()")
    w, b, x = jnp.asarray(w), jnp.asarray(b), jnp.asarray(x)
    if w.ndim != 2 or b.shape != w.shape[1:]:
        raise invalid(
            name, "w of shape [d, features] and b of shape [features]", told=f"{describe(w)} and {describe(b)}"
        )
    if x.ndim != 2 or x.shape[1] != w.shape[0]:
        raise invalid(name, f"x of shape [n, {w.shape[0]}]", x)
    check.kind(name, "y", y, "real")
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
