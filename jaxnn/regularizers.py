"""Regularizers, `params -> number` added to the loss, and constraints, which follow the optimizer in a chain.

    nn.trainer(model, loss, optimizer, regularizer=l2(1e-4))
    optax.chain(nn.adam(1e-3), max_norm(3.0))

Both apply to weights: the params named `w` or `w_...`, including those of `embed`, but not to biases `b` or to the
`scale` and `bias` of norms. `where` selects other params by glob patterns of their paths: `where=("stem/*", "*/w")`. In
`nn.trainer` a regularizer includes frozen params, a constraint does not.

Sums and norms are computed in at least float32. Strengths and limits may be traced.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxnn import _checks as check
from jaxnn import _elsewhere
from jaxnn._dtypes import widened
from jaxnn._errors import invalid
from jaxnn._inputs import known
from jaxnn._paths import globs, matching, path_tree

__all__ = ["elastic_net", "l1", "l2", "max_norm", "non_negative", "unit_norm"]

Scalar = float | Array
Where = str | Sequence[str] | None
Axis = int | Sequence[int] | None
Regularizer = Callable[[Any], Array]
Landing = Callable[[str, Array, Array], Array]  # (path, param, update) -> new update, all in at least float32


# ---- regularizers


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
    return partial(_penalty, "l1", strength, None, _patterns("l1", where))


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
    return partial(_penalty, "l2", None, strength, _patterns("l2", where))


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
    return partial(_penalty, "elastic_net", l1, l2, _patterns("elastic_net", where))


def _penalty(name: str, a: Scalar | None, b: Scalar | None, patterns: tuple[str, ...] | None, params: Any) -> Array:
    """a Σ |w| + b Σ w² over the selected leaves of `params`; None omits a term."""
    paths, chosen = jax.tree.leaves(path_tree(params)), jax.tree.leaves(_chosen(name, params, patterns))
    ws = [_wide(name, path, w) for path, w, yes in zip(paths, jax.tree.leaves(params), chosen, strict=True) if yes]
    dtype = np.result_type(np.float32, *(w.dtype for w in ws))
    total = jnp.zeros((), dtype)
    for w in ws:
        if a is not None:
            size = w * jax.lax.stop_gradient(jnp.sign(w))  # |w| with gradient 0 at 0; that of jnp.abs is 1
            total = total + _number(a, dtype) * jnp.sum(size).astype(dtype)
        if b is not None:
            total = total + _number(b, dtype) * jnp.sum(jnp.square(w)).astype(dtype)
    return total


# ---- constraints


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
        over = norm > _number(limit, v.dtype)
        return jnp.where(over, v * (_number(limit, v.dtype) / jnp.where(over, norm, 1)) - w, update)

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
    patterns = _patterns(name, where)

    def init(params: Any) -> optax.EmptyState:
        if jax.tree.leaves(params):  # optax.tree.map_params calls init on a tree without leaves
            _chosen(name, params, patterns)
        return optax.EmptyState()

    def land(path: str, yes: bool, update: Any, w: Any) -> Any:
        if not yes:
            return update
        wide, update = _wide(name, path, w), jnp.asarray(update)
        if update.shape != wide.shape:
            raise invalid(f"{name} at {path}", f"an update of shape {list(wide.shape)} as the param has", update)
        return landing(path, wide, update.astype(wide.dtype)).astype(update.dtype)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        if params is None:
            raise invalid(
                name, "params", told="None", fix="Call update(updates, state, params): a constraint is on them."
            )
        return jax.tree.map(land, path_tree(params), _chosen(name, params, patterns), updates, params), state

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


# ---- selection of params


def _patterns(name: str, where: Where) -> tuple[str, ...] | None:
    patterns = None if where is None else globs(name, "where", where)
    if patterns == ():
        raise invalid(name, "at least one pattern in where", told="none", fix="Leave where out for the weights.")
    return patterns


def _chosen(name: str, params: Any, patterns: tuple[str, ...] | None) -> Any:
    """Tree of bools: True for leaves whose path matches, by default those named `w` or `w_...`."""
    if patterns is not None:
        return matching(name, params, patterns)
    paths = path_tree(params)
    chosen = jax.tree.map(lambda path: (path.rpartition("/")[2] + "_").startswith("w_"), paths)
    if not any(jax.tree.leaves(chosen)):
        got = ", ".join(jax.tree.leaves(paths)) or "no params"
        raise invalid(name, "a param named w or w_...", told=got, fix="Say which ones are meant by where=patterns.")
    return chosen


def _wide(name: str, path: str, w: Any) -> Array:
    """Param in at least float32; raises TypeError, with its path, if it is not real floating."""
    check.kind(f"{name} at {path}", "a param", w, "floating", "Leave it out by where=patterns.")
    return widened(jnp.asarray(w))


def _number(x: Any, dtype: Any) -> float | Array:
    """Scalar as a Python float, or an array of `dtype`: neither promotes the arrays that it is combined with."""
    return float(x) if known(x) else jnp.asarray(x, dtype)


if not TYPE_CHECKING:  # lets type checkers report names that do not exist

    def __getattr__(name):
        raise _elsewhere.missing(__name__, name)
