"""Constraints on weights after the update, as gradient transformations that follow the optimizer in a chain.

    optax.chain(nn.adam(1e-3), max_norm(3.0))

They apply to weights: the params named `w` or `w_...`, including those of `embed`, but not to biases `b` or to the
`scale` and `bias` of norms. `where` selects other params by glob patterns of their paths: `where=("stem/*", "*/w")`. In
`nn.trainer` a constraint does not include frozen params.

Norms are computed in at least float32. Limits may be traced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxnn import _checks as check
from jaxnn import _elsewhere
from jaxnn._errors import invalid
from jaxnn._numbers import number
from jaxnn._paths import path_tree
from jaxnn._weights import Where, chosen, patterns_of, wide
from jaxnn.types import Arrays, OptState

__all__ = ["max_norm", "non_negative", "unit_norm"]

Scalar = float | Array
Axis = int | Sequence[int] | None
Landing = Callable[[str, Array, Array], Array]  # (path, param, update) -> new update, all in at least float32


def max_norm(limit: Scalar, *, axis: Axis = None, where: Where = None) -> optax.GradientTransformation:
    """Max-norm constraint on the weights of each output unit, w [..., out]: ‖w‖₂ <= limit after the update.

        v = w + update;   update <- v · limit / ‖v‖ - w   where ‖v‖ > limit

    Updates elsewhere are unchanged to the bit. Put it last in a chain: later transformations could exceed the limit
    again. With dropout it allows large learning rates without unbounded growth of the weights (Srivastava et al. 2014,
    limit 3 to 4). The optimizer's moments are not changed.

    Args:
      limit: largest norm, > 0; may be traced.
      axis: axes over which one norm is taken; None takes all but the last, one unit of `[*space, in, out]`. For weights
        stacked by `repeat`, count from the end and omit the first axis: axis=-2 for dense.
      where: glob patterns of the paths of the params to constrain; None selects the weights.

    Returns:
      Optimizer whose `update` needs params. It raises ValueError without params, for an axis that a param lacks, if
      there are no weights or a pattern matches no path, and TypeError for a param that is not real floating. The update
      is rounded to its dtype, so the norm may exceed the limit by one ε of the dtype, relative to the limit or, if it
      is larger, to the update.

    Raises:
      TypeError: if `limit` is not a real number or `where` is not a pattern or a sequence of patterns.
      ValueError: if `limit` is out of range.

    Differences: Keras's MaxNorm has axis 0, which treats the kernel positions of a convolution separately. torch.renorm
    takes the axis that is kept.

    Reference: Srebro & Shraibman, Rank, Trace-Norm and Max-Norm, 2005; Srivastava et al., Dropout, 2014.

    >>> optimizer = optax.chain(optax.sgd(1.0), max_norm(5.0))
    >>> params, grads = {"w": jnp.array([[3.0], [4.0]])}, {"w": jnp.array([[-3.0], [-4.0]])}
    >>> updates, _ = optimizer.update(grads, optimizer.init(params), params)
    >>> optax.apply_updates(params, updates)["w"].round(5).tolist()
    [[3.0], [4.0]]
    """
    check.scalar("max_norm", "limit", limit, ends="()")

    def landing(path: str, w: Array, update: Array) -> Array:
        v = w + update
        norm = _norm(v, _axes("max_norm", path, axis, v.ndim))
        over = norm > number(limit, v)
        return jnp.where(over, v * (number(limit, v) / jnp.where(over, norm, 1)) - w, update)

    return _constraint("max_norm", landing, where)


def unit_norm(*, axis: Axis = None, where: Where = None) -> optax.GradientTransformation:
    """Unit-norm constraint on the weights of each output unit, w [..., out]: ‖w‖₂ = 1 after the update.

        v = w + update;   update <- v / ‖v‖ - w

    Use it where only the direction matters: the rows of a classifier on the sphere, dictionaries, weights before a norm
    that ignores their length. If v is all zeros it stays 0. Put it last in a chain.

    Args:
      axis: axes over which one norm is taken, as in `max_norm`; None takes all but the last.
      where: glob patterns of the paths of the params to constrain; None selects the weights.

    Returns:
      Optimizer whose `update` needs params, with the same errors as that of `max_norm`.

    Raises:
      TypeError: if `where` is not a pattern or a sequence of patterns.

    Differences: Keras's UnitNorm has axis 0, and divides by 1e-7 + ‖v‖.

    >>> updates, _ = unit_norm().update({"w": jnp.zeros((2, 1))}, optax.EmptyState(), {"w": jnp.array([[3.0], [4.0]])})
    >>> (jnp.array([[3.0], [4.0]]) + updates["w"]).round(5).tolist()
    [[0.5999...], [0.7999...]]
    """

    def landing(path: str, w: Array, update: Array) -> Array:
        v = w + update
        norm = _norm(v, _axes("unit_norm", path, axis, v.ndim))
        some = norm > 0
        return jnp.where(some, v / jnp.where(some, norm, 1) - w, update)

    return _constraint("unit_norm", landing, where)


def non_negative(*, where: Where = None) -> optax.GradientTransformation:
    """Non-negativity constraint on weights: update <- max(update, -w), so that w + update >= 0 exactly.

    Use it for non-negative matrix factorization and for monotone networks. A weight at 0 grows again as soon as its
    update is positive. Put it last in a chain.

    Args:
      where: glob patterns of the paths of the params to constrain; None selects the weights.

    Returns:
      Optimizer whose `update` needs params, with the same errors as that of `max_norm`.

    Raises:
      TypeError: if `where` is not a pattern or a sequence of patterns.

    Differences: same as Keras's NonNeg, and as optax.keep_params_nonnegative, which constrains biases as well.

    >>> non_negative().update({"w": jnp.array([-2.0, 0.5])}, optax.EmptyState(), {"w": jnp.ones(2)})[0]["w"].tolist()
    [-1.0, 0.5]
    """
    return _constraint("non_negative", lambda path, w, update: jnp.maximum(update, -w), where)


def _constraint(name: str, landing: Landing, where: Where) -> optax.GradientTransformation:
    patterns = patterns_of(name, where)

    def init(params: Arrays) -> optax.EmptyState:
        if jax.tree.leaves(params):  # optax.tree.map_params calls init on a tree without leaves
            chosen(name, params, patterns)
        return optax.EmptyState()

    def land(path: str, yes: bool, update: Arrays, w: Arrays) -> Arrays:
        if not yes:
            return update
        wide_w, update = wide(name, path, w), jnp.asarray(update)
        if update.shape != wide_w.shape:
            raise invalid(f"{name} at {path}", f"an update of shape {list(wide_w.shape)} as the param has", update)
        return landing(path, wide_w, update.astype(wide_w.dtype)).astype(update.dtype)

    def update(updates: Arrays, state: OptState, params: Arrays | None = None) -> tuple[Any, Any]:
        if params is None:
            raise invalid(
                name, "params", told="None", fix="Call update(updates, state, params): a constraint is on them."
            )
        return jax.tree.map(land, path_tree(params), chosen(name, params, patterns), updates, params), state

    return optax.GradientTransformation(init, update)


def _norm(v: Array, axes: tuple[int, ...]) -> Array:
    """‖v‖₂ over `axes`, with axes of size 1 kept. Scaled by the largest entry against overflow; gradient 0 at 0."""
    top = jax.lax.stop_gradient(jnp.max(jnp.abs(v), axis=axes, keepdims=True, initial=0))
    top = jnp.where((top > 0) & (top < jnp.inf), top, 1)
    total = jnp.sum(jnp.square(v / top), axis=axes, keepdims=True)
    return jnp.where(total > 0, top * jnp.sqrt(jnp.where(total > 0, total, 1)), total)


def _axes(name: str, path: str, axis: Axis, rank: int) -> tuple[int, ...]:
    """Axes of one norm, checked against the rank of a param."""
    if axis is None:
        return tuple(range(rank - 1))
    return check.axes(f"{name} at {path}", "axis", axis, rank, "the param", least=0)


if not TYPE_CHECKING:  # lets type checkers report names that do not exist

    def __getattr__(name):
        raise _elsewhere.missing(__name__, name)
