"""Regularizers, `params -> number`, a penalty that is added to the loss.

    nn.trainer(model, loss, optimizer, regularizer=l2(1e-4))

They apply to weights: the params named `w` or `w_...`, including those of `embed`, but not to biases `b` or to the
`scale` and `bias` of norms. `where` selects other params by glob patterns of their paths: `where=("stem/*", "*/w")`. In
`nn.trainer` a regularizer includes frozen params.

Sums are computed in at least float32. Strengths may be traced.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxnn import _checks as check
from jaxnn import _elsewhere
from jaxnn._numbers import number
from jaxnn._paths import path_tree
from jaxnn._weights import Where, chosen, patterns_of, wide
from jaxnn.types import Params

__all__ = ["elastic_net", "l1", "l2"]

Scalar = float | Array
Regularizer = Callable[[Any], Array]


def l1(strength: Scalar, *, where: Where = None) -> Regularizer:
    """L1 penalty (lasso), params -> []: strength Σ |w|. It drives weights that the loss needs little to zero.

    The gradient is strength · sign(w), and 0 at w = 0. Gradient steps overshoot zero: weights end within about one
    learning rate of 0, not exactly at 0.

    Args:
      strength: λ >= 0; may be traced.
      where: glob patterns of the paths of the params to penalise; None selects the weights.

    Returns:
      Function params -> scalar. It raises ValueError if there are no weights or a pattern matches no path, and
      TypeError for a param that is not real floating.

    Raises:
      TypeError: if `strength` is not a real number or `where` is not a pattern or a sequence of patterns.
      ValueError: if `strength` is out of range.

    Differences: same as Keras's L1.

    Reference: Tibshirani, Regression Shrinkage and Selection via the Lasso, 1996.

    >>> l1(0.1)({"w": jnp.array([1.0, -2.0]), "b": jnp.array([9.0])}).item()
    0.3000...
    """
    check.scalar("l1", "strength", strength)
    return partial(_penalty, "l1", strength, None, patterns_of("l1", where))


def l2(strength: Scalar, *, where: Where = None) -> Regularizer:
    """L2 penalty (ridge), params -> []: strength Σ w². It shrinks weights in proportion to their size.

    The gradient is 2 · strength · w. Adam and related optimizers divide it by the size of the gradients, so it is
    weakest where gradients are large; the decoupled `weight_decay` of `adamw` is not divided (Loshchilov & Hutter
    2019).

    Args:
      strength: λ >= 0; may be traced.
      where: glob patterns of the paths of the params to penalise; None selects the weights.

    Returns:
      Function params -> scalar. It raises the same errors as that of `l1`.

    Raises:
      TypeError: if `strength` is not a real number or `where` is not a pattern or a sequence of patterns.
      ValueError: if `strength` is out of range.

    Differences: without a factor 1/2, as Keras's L2. PyTorch's `weight_decay=λ` and `optax.add_decayed_weights(λ)`
    before sgd add λ w to the gradient, so their λ is twice this strength.

    Reference: Krogh & Hertz, A Simple Weight Decay Can Improve Generalization, 1992.

    >>> l2(0.1)({"w": jnp.array([1.0, -2.0]), "b": jnp.array([9.0])}).item()
    0.5
    """
    check.scalar("l2", "strength", strength)
    return partial(_penalty, "l2", None, strength, patterns_of("l2", where))


def elastic_net(l1: Scalar, l2: Scalar, *, where: Where = None) -> Regularizer:
    """Elastic net penalty, params -> []: l1 Σ |w| + l2 Σ w². Sparse, with similar values for correlated weights.

    Unlike `l1`, it does not select one of several correlated weights and drop the others.

    Args:
      l1: strength of Σ |w|, >= 0; may be traced.
      l2: strength of Σ w², >= 0; may be traced.
      where: glob patterns of the paths of the params to penalise; None selects the weights.

    Returns:
      Function params -> scalar. It raises the same errors as that of `l1`.

    Raises:
      TypeError: if a strength is not a real number or `where` is not a pattern or a sequence of patterns.
      ValueError: if a strength is out of range.

    Differences: same as Keras's L1L2. scikit-learn's ElasticNet(alpha, l1_ratio) has l1 = alpha · l1_ratio and l2 =
    alpha (1 - l1_ratio)/2, added to half the mean squared error.

    Reference: Zou & Hastie, Regularization and Variable Selection via the Elastic Net, 2005.

    >>> elastic_net(0.5, 0.25)({"w": jnp.array([1.0, -2.0])}).item()
    2.75
    """
    check.scalar("elastic_net", "l1", l1)
    check.scalar("elastic_net", "l2", l2)
    return partial(_penalty, "elastic_net", l1, l2, patterns_of("elastic_net", where))


def _penalty(name: str, a: Scalar | None, b: Scalar | None, patterns: tuple[str, ...] | None, params: Params) -> Array:
    """a Σ |w| + b Σ w² over the selected leaves of `params`; None omits a term."""
    paths, selected = jax.tree.leaves(path_tree(params)), jax.tree.leaves(chosen(name, params, patterns))
    ws = [wide(name, path, w) for path, w, yes in zip(paths, jax.tree.leaves(params), selected, strict=True) if yes]
    dtype = np.result_type(np.float32, *(w.dtype for w in ws))
    total = jnp.zeros((), dtype)
    for w in ws:
        if a is not None:
            size = w * jax.lax.stop_gradient(jnp.sign(w))  # |w| with gradient 0 at 0; that of jnp.abs is 1
            total = total + number(a, total) * jnp.sum(size).astype(dtype)
        if b is not None:
            total = total + number(b, total) * jnp.sum(jnp.square(w)).astype(dtype)
    return total


if not TYPE_CHECKING:  # lets type checkers report names that do not exist

    def __getattr__(name):
        raise _elsewhere.missing(__name__, name)
