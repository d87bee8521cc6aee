"""Regularizers, `params -> number` for the loss, and constraints, which follow the optimizer in a chain.

    nn.trainer(model, loss, optimizer, regularizer=l2(1e-4))
    optax.chain(nn.adam(1e-3), max_norm(3.0))

Both act on weights: the params named `w` or `w_...`, those of `embed` among them, and not on biases `b` and the `scale`
and `bias` of norms. `where` takes other params instead, by glob patterns of their paths: `where=("stem/*", "*/w")`. In
`nn.trainer` a regularizer sees frozen params too, a constraint does not.

Sums and norms are taken in at least float32. Strengths and limits may be traced.
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
Landing = Callable[
    [str, Array, Array], Array
]  # its path, a param and its update, in float32 at least -> the new update


# ---- regularizers


def l1(strength: Scalar, *, where: Where = None) -> Regularizer:
    """params -> strength Σ |w|, a number: drives weights to zero, and the more so the less the loss needs them.

    The gradient is strength · sign(w), and 0 at w = 0. A gradient step crosses zero rather than ending there, so
    weights come to within about a learning rate of 0, not to it. As Keras's L1.

    Args:
      strength: λ >= 0.
      where: glob patterns of params paths in place of the weights.

    Calling it raises ValueError if there are no weights or a pattern matches no path, TypeError for a param that is not
    of real floats.

    Tibshirani, Regression Shrinkage and Selection via the Lasso, 1996.

    >>> l1(0.1)({"w": jnp.array([1.0, -2.0]), "b": jnp.array([9.0])}).item()
    0.3000...
    """
    check.scalar("l1", "strength", strength)
    return partial(_penalty, "l1", strength, None, _patterns("l1", where))


def l2(strength: Scalar, *, where: Where = None) -> Regularizer:
    """params -> strength Σ w², a number: pulls weights to zero in proportion to their size (ridge, weight decay).

    Without a factor ½, as Keras's L2: the gradient is 2 · strength · w. PyTorch's `weight_decay=λ` and
    `optax.add_decayed_weights(λ)` before sgd add λ w to the gradient, so λ is twice this strength. Adam and its kin
    divide the pull by the size of the gradients, weakest where they are large; `weight_decay` of an `adamw` does not
    (Loshchilov & Hutter 2019).

    Args:
      strength: λ >= 0.
      where: glob patterns of params paths in place of the weights.

    Raises as `l1`.

    Krogh & Hertz, A Simple Weight Decay Can Improve Generalization, 1992.

    >>> l2(0.1)({"w": jnp.array([1.0, -2.0]), "b": jnp.array([9.0])}).item()
    0.5
    """
    check.scalar("l2", "strength", strength)
    return partial(_penalty, "l2", None, strength, _patterns("l2", where))


def elastic_net(l1: Scalar, l2: Scalar, *, where: Where = None) -> Regularizer:
    """params -> l1 Σ |w| + l2 Σ w², a number: as sparse as `l1`, and correlated weights share instead of one winning.

    As Keras's L1L2. scikit-learn's ElasticNet(alpha, l1_ratio) has l1 = alpha · l1_ratio, l2 = alpha (1 - l1_ratio)/2,
    beside half the mean squared error.

    Args:
      l1, l2: the two strengths, >= 0.
      where: glob patterns of params paths in place of the weights.

    Raises as `l1`.

    Zou & Hastie, Regularization and Variable Selection via the Elastic Net, 2005.

    >>> elastic_net(0.5, 0.25)({"w": jnp.array([1.0, -2.0])}).item()
    2.75
    """
    check.scalar("elastic_net", "l1", l1)
    check.scalar("elastic_net", "l2", l2)
    return partial(_penalty, "elastic_net", l1, l2, _patterns("elastic_net", where))


def _penalty(name: str, a: Scalar | None, b: Scalar | None, patterns: tuple[str, ...] | None, params: Any) -> Array:
    """a Σ |w| + b Σ w² over the leaves of `params` that are meant; None leaves a term out."""
    paths, chosen = jax.tree.leaves(path_tree(params)), jax.tree.leaves(_chosen(name, params, patterns))
    ws = [_wide(name, path, w) for path, w, yes in zip(paths, jax.tree.leaves(params), chosen, strict=True) if yes]
    dtype = np.result_type(np.float32, *(w.dtype for w in ws))
    total = jnp.zeros((), dtype)
    for w in ws:
        if a is not None:
            size = w * jax.lax.stop_gradient(jnp.sign(w))  # |w|, whose gradient at 0 is 1 in jax
            total = total + _number(a, dtype) * jnp.sum(size).astype(dtype)
        if b is not None:
            total = total + _number(b, dtype) * jnp.sum(jnp.square(w)).astype(dtype)
    return total


# ---- constraints


def max_norm(limit: Scalar, *, axis: Axis = None, where: Where = None) -> optax.GradientTransformation:
    """Updates after which no output unit's weights, w [..., out], are longer than `limit`: ‖w‖₂ <= limit.

        v = w + update;   update <- v · limit / ‖v‖ - w   where ‖v‖ > limit

    and unchanged elsewhere, to the bit. The last link of a chain: what comes after it could leave the ball again. With
    dropout it lets rates be large without weights growing for good (Srivastava et al. 2014, limit 3 to 4). Moments of
    the optimizer do not see it.

    Args:
      limit: > 0.
      axis: the axes of one norm; by default all but the last, which is one unit of `[*space, in, out]`. For weights
        stacked by `repeat` count from the end and leave the first out: axis=-2 for dense. Keras's MaxNorm has axis 0,
        which leaves the axes of a convolution's window apart; torch.renorm names the axis that is kept.
      where: glob patterns of params paths in place of the weights.

    `update` raises ValueError without params, for an axis that a param lacks, if there are no weights or a pattern
    matches no path, TypeError for a param that is not of real floats. The update is rounded to its dtype: the norm may
    pass the limit by an ε of the dtype, of the move rather than of the limit if the params come from far outside.

    Srebro & Shraibman, Rank, Trace-Norm and Max-Norm, 2005; Srivastava et al., Dropout, 2014.

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
    """Updates after which every output unit's weights, w [..., out], have length 1: ‖w‖₂ = 1.

        v = w + update;   update <- v / ‖v‖ - w

    For directions: the rows of a classifier on the sphere, dictionaries, weights before a norm that ignores their
    length. A v of all zeros has no direction and stays 0. The last link of a chain.

    Args:
      axis: the axes of one norm, as in `max_norm`. Keras's UnitNorm has axis 0, and divides by 1e-7 + ‖v‖.
      where: glob patterns of params paths in place of the weights.

    Raises as `max_norm`.

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
    """Updates after which no weight is negative: update <- max(update, -w), so that w + update >= 0 exactly.

    For parts that only add, as in non-negative matrix factorization, and for monotone networks. A weight at 0 moves
    again as soon as its update is positive. The last link of a chain. As Keras's NonNeg, and as
    optax.keep_params_nonnegative, which takes biases too.

    Args:
      where: glob patterns of params paths in place of the weights.

    Raises as `max_norm`.

    >>> non_negative().update({"w": jnp.array([-2.0, 0.5])}, optax.EmptyState(), {"w": jnp.ones(2)})[0]["w"].tolist()
    [-1.0, 0.5]
    """
    return _constraint("non_negative", lambda path, w, update: jnp.maximum(update, -w), where)


def _constraint(name: str, landing: Landing, where: Where) -> optax.GradientTransformation:
    patterns = _patterns(name, where)

    def init(params: Any) -> optax.EmptyState:
        if jax.tree.leaves(params):  # optax.tree.map_params asks for the state of a tree without leaves
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
    """‖v‖₂ over `axes`, kept as axes of 1: scaled by the largest, so that no square leaves float32; gradient 0 at 0."""
    top = jax.lax.stop_gradient(jnp.max(jnp.abs(v), axis=axes, keepdims=True, initial=0))
    top = jnp.where((top > 0) & (top < jnp.inf), top, 1)
    total = jnp.sum(jnp.square(v / top), axis=axes, keepdims=True)
    return jnp.where(total > 0, top * jnp.sqrt(jnp.where(total > 0, total, 1)), total)


def _axes(name: str, path: str, axis: Axis, rank: int) -> tuple[int, ...]:
    """The axes of one norm, checked against the rank of a param."""
    if axis is None:
        return tuple(range(rank - 1))
    return check.axes(f"{name} at {path}", "axis", axis, rank, "the param", least=0)


# ---- which params, and of what dtype


def _patterns(name: str, where: Where) -> tuple[str, ...] | None:
    patterns = None if where is None else globs(name, "where", where)
    if patterns == ():
        raise invalid(name, "at least one pattern in where", told="none", fix="Leave where out for the weights.")
    return patterns


def _chosen(name: str, params: Any, patterns: tuple[str, ...] | None) -> Any:
    """A tree of bools: the leaves whose path matches, by default those named `w` or `w_...`."""
    if patterns is not None:
        return matching(name, params, patterns)
    paths = path_tree(params)
    chosen = jax.tree.map(lambda path: (path.rpartition("/")[2] + "_").startswith("w_"), paths)
    if not any(jax.tree.leaves(chosen)):
        got = ", ".join(jax.tree.leaves(paths)) or "no params"
        raise invalid(name, "a param named w or w_...", told=got, fix="Say which ones are meant by where=patterns.")
    return chosen


def _wide(name: str, path: str, w: Any) -> Array:
    """A param in at least float32, or the error that names the one that is not of real floats."""
    check.kind(f"{name} at {path}", "a param", w, "floating", "Leave it out by where=patterns.")
    return widened(jnp.asarray(w))


def _number(x: Any, dtype: Any) -> float | Array:
    """A scalar to be combined with arrays of `dtype`: a Python float, or an array of it, so that nothing promotes."""
    return float(x) if known(x) else jnp.asarray(x, dtype)


if not TYPE_CHECKING:  # a type checker shall see which names there are

    def __getattr__(name):
        raise _elsewhere.missing(__name__, name)
