"""Linear regression over any number of chunks, in the memory of one chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxnn import _checks as check
from jaxnn._errors import invalid, wrong_type
from jaxnn.linear._checks import penalty, regression, tolerance
from jaxnn.linear._least_squares import dot, least_squares, over, triangular
from jaxnn.linear._regression import Linear, centred, shaped


class Root(NamedTuple):
    """State of a stream with method "qr", whose examples are z = [x y] with weights v.

    Attributes:
      total: Σ v.
      x_mean: [d], weighted mean of x.
      y_mean: [] or [k], weighted mean of y.
      root: [d + k, d + k], triangular R with Rᵀ R = Σ v (z - mean)(z - mean)ᵀ.

    >>> stream(3).root.shape
    (4, 4)
    """

    total: Array
    x_mean: Array
    y_mean: Array
    root: Array


class Gram(NamedTuple):
    """State of a stream with method "gram", whose examples are z = [x y] with weights v.

    Attributes:
      total: Σ v.
      x_mean: [d], weighted mean of x.
      y_mean: [] or [k], weighted mean of y.
      gram: [d + k, d + k], Σ v (z - mean)(z - mean)ᵀ.

    >>> stream(3, method="gram").gram.shape
    (4, 4)
    """

    total: Array
    x_mean: Array
    y_mean: Array
    gram: Array


S = TypeVar("S", Root, Gram)


def stream(
    features: int, targets: int | None = None, *, method: Literal["qr", "gram"] = "qr", dtype: DTypeLike = jnp.float32
) -> Root | Gram:
    """State of a linear regression before its first example, for `update`, `merge`, `gather` and `solve`.

    A state has (d + k)² numbers, however many examples it has seen, and each example is seen once. States merge in any
    order, so chunks may be spread over devices and processes. The means are kept apart, so that a large mean costs no
    accuracy.

    Rounding adds up over consecutive updates. For thousands of chunks, fill a new state with each hundred of them and
    merge it into a total, as `examples/linear.py` does.

    Largest error of 100 weights of 1, of 16 000 examples without noise, by condition number (`examples/linear.py`):

                          1      1e2      1e4      1e6      1e8
        gram, float32   2e-6     1e-3       5        –        –
        qr, float32     4e-6     2e-5     3e-4      0.2       –
        gram, float64   5e-15    1e-12    8e-9     6e-5      0.9
        qr, float64     9e-15    7e-14    5e-13    4e-11    3e-9

    Args:
      features: d, >= 1.
      targets: k >= 1 for y [n, k]; None for y [n].
      method: "qr" keeps a triangular factor: the relative error of the weights is about κ roundings for columns of
        condition number κ. "gram" keeps the matrix of products: about κ² roundings, in less time.
      dtype: dtype of the arithmetic, float32 or float64; chunks are cast to it.

    Returns: a `Root` or a `Gram`.

    Raises:
      TypeError: if a number is not an integer or the dtype is not floating.
      ValueError: if a number is less than 1, the method is unknown or the dtype is narrower than float32.

    Differences: scikit-learn's `SGDRegressor.partial_fit` takes a step towards the solution with each chunk; a stream
      has the solution of all examples.

    Reference: Demmel, Grigori, Hoemmen and Langou, Communication-optimal parallel and sequential QR and LU
      factorizations, 2012 ("qr"). Chan, Golub and LeVeque, Algorithms for computing the sample variance, 1983 (means).

    >>> state = stream(1)
    >>> for chunk in ([0.0, 1.0], [2.0, 3.0]):
    ...     x = jnp.array(chunk)[:, None]
    ...     state = update(state, x, 2 * x[:, 0] + 1)
    >>> jax.tree.map(lambda a: a.round(4).tolist(), solve(state))
    Linear(weights=[2.0], intercept=1.0)
    """
    d = check.count("stream", "features", features)
    k = () if targets is None else (check.count("stream", "targets", targets),)
    check.choice("stream", "method", method, ("qr", "gram"))
    kind = check.dtype("stream", "dtype", dtype)
    if jnp.finfo(kind).bits < 32:
        raise invalid("stream", "dtype to be float32 or float64", told=kind.name)
    p = d + sum(k or (1,))
    of = Root if method == "qr" else Gram
    return of(jnp.zeros((), kind), jnp.zeros(d, kind), jnp.zeros(k, kind), jnp.zeros((p, p), kind))


def update(state: S, x: ArrayLike, y: ArrayLike, *, weights: ArrayLike | None = None) -> S:
    """State of a stream after another chunk of examples, [n, d], [n] or [n, k].

    The work is a QR factorization ("qr") or a product of matrices ("gram") of n rows and d + k columns. On a CPU the
    factorization is LAPACK's, whose threads slow it down up to ten times: start the process with
    OPENBLAS_NUM_THREADS=1, and spread chunks over the cores as devices.

    Args:
      state: state so far.
      x: inputs of the chunk, floating [n, d], for any n; 50 times d is fast.
      y: targets of the chunk, real [n] or [n, k].
      weights: weight of each example, real [n], >= 0; None for 1.

    Raises:
      TypeError: if the state is not that of a stream, x is not floating or y is not real.
      ValueError: if the shapes do not fit.

    >>> update(stream(2), jnp.ones((5, 2)), jnp.ones(5)).total.item()
    5.0
    """
    _check_states("update", state)
    x, y, v = regression("update", x, y, weights)
    if (x.shape[1:], y.shape[1:]) != (state.x_mean.shape, state.y_mean.shape):
        like = f"x of shape [n, {len(state.x_mean)}] and y of shape {['n', *state.y_mean.shape]}".replace("'", "")
        raise invalid("update", f"{like}, as in stream(features, targets)", (x, y))
    kind = state.total.dtype
    z, v = jnp.concatenate([x, y.reshape(len(y), -1)], axis=1).astype(kind), v.astype(kind)
    z, mean = centred(z, v)
    rows = jnp.sqrt(v)[:, None] * z
    scatter = rows if isinstance(state, Root) else dot(rows.T, rows)
    return _joined(state, [_parts(state), (v.sum(), mean, scatter)])


def merge(*states: S) -> S:
    """State of a stream that has seen the examples of all states, in any order.

    Args:
      states: states of streams with equal features, targets, method and dtype; at least one.

    Raises:
      TypeError: if they are not states of streams with equal methods.
      ValueError: if there is none, or their shapes or dtypes differ.

    >>> a, b = (update(stream(1), jnp.ones((n, 1)), jnp.ones(n)) for n in (2, 3))
    >>> merge(a, b).total.item()
    5.0
    """
    _check_states("merge", *states)
    return _joined(states[0], [_parts(state) for state in states])


def gather(state: S, axis_name: str) -> S:
    """State of the examples of all devices along a mesh axis, under `shard_map` or `vmap`; equal on all of them.

    Args:
      state: state of the examples of this device.
      axis_name: mesh axis, or axis of a `vmap`.

    Raises: TypeError if the state is not that of a stream or the name is not a str.

    >>> total = lambda x: gather(update(stream(2), x, x[:, 0]), "parts").total
    >>> jax.vmap(total, axis_name="parts")(jnp.ones((3, 5, 2))).tolist()
    [15.0, 15.0, 15.0]
    """
    _check_states("gather", state)
    check.text("gather", "axis_name", axis_name)
    return _joined(state, list(zip(*jax.lax.all_gather(_parts(state), axis_name), strict=True)))


def solve(state: Root | Gram, *, ridge: ArrayLike = 0.0, intercept: bool = True, rcond: float | None = None) -> Linear:
    """Linear regression on all examples of a stream, -> weights [d] or [d, k], intercept [] or [k].

    It solves the problem of `linear_regression`, with the same penalty and the solution of minimum norm. A state can be
    solved at any time, and for several `ridge` by `jax.vmap`.

    Args:
      state: state of the stream.
      ridge: strength of the penalty, >= 0; may be traced.
      intercept: fit b; otherwise it is 0. The state serves both.
      rcond: singular values of the centred x of at most `rcond` times the largest count as 0; 0 <= rcond < 1. None for
        d roundings, and with method "gram" for the square root of d roundings, the accuracy of its singular values.

    Raises:
      TypeError: if the state is not that of a stream.
      ValueError: if `ridge` or `rcond` is out of range.

    >>> x = jnp.array([[0.0], [1.0], [2.0]])
    >>> solve(update(stream(1), x, 2 * x[:, 0] + 1)).weights.round(4).tolist()
    [2.0]
    """
    _check_states("solve", state)
    check.flags("solve", intercept=intercept)
    d, kind = len(state.x_mean), state.total.dtype
    strength = penalty("solve", "ridge", ridge, kind)
    least = tolerance("solve", rcond, d, kind)
    total, mean, scatter = _parts(state)
    row = jnp.sqrt(total) * mean[None]
    if isinstance(state, Root):
        z = scatter if intercept else jnp.concatenate([scatter, row])
        w = least_squares(z[:, :d], z[:, d:], jnp.ones_like(z[:, 0]), strength, least)
    else:
        z = scatter if intercept else scatter + row.T * row
        least = jnp.sqrt(least) if rcond is None else least
        squares, v = jnp.linalg.eigh(z[:d, :d])
        squares = jnp.where(squares > least**2 * squares[-1], squares, 0)
        v = jnp.where(squares > 0, v, 0)
        w = dot(over(v, (squares + strength)[None]), dot(v.T, z[:d, d:]))
    center = mean[d:] - dot(mean[:d], w) if intercept else jnp.zeros_like(mean[d:])
    return shaped(w, center, state.y_mean.ndim)


Parts = tuple[Array, Array, Array]  # Σ v, the mean of z, and rows whose products are the scatter, or the scatter


def _parts(state: Root | Gram) -> Parts:
    return state[0], jnp.concatenate([state.x_mean, state.y_mean.reshape(-1)]), state[3]


def _joined(state: S, parts: Sequence[Parts]) -> S:
    """A state like `state` of all parts: their scatters, and that of their means about the common mean, add up."""
    totals, means = (jnp.stack(of) for of in list(zip(*parts, strict=True))[:2])
    total = totals.sum()
    shift = over(dot(totals, means - means[:1]), total)
    between = jnp.sqrt(totals)[:, None] * (means - means[:1] - shift[None])
    if isinstance(state, Root):
        scatter = triangular(jnp.concatenate([*(rows for _, _, rows in parts), between]))
    else:
        scatter = sum(gram for _, _, gram in parts) + dot(between.T, between)
    mean, d = means[0] + shift, len(state.x_mean)
    return type(state)(total, mean[:d], mean[d:].reshape(state.y_mean.shape), scatter)


def _check_states(where: str, *states: Root | Gram) -> None:
    if not states:
        raise invalid(where, "at least one state", told="none")
    for state in states:
        if not isinstance(state, Root | Gram) or type(state) is not type(states[0]):
            fix = "Make it by linear.stream(features)."
            raise wrong_type(
                where, "states of streams with equal methods" if states[1:] else "a state of a stream", state, fix
            )
        if [(a.shape, a.dtype) for a in state] != [(a.shape, a.dtype) for a in states[0]]:
            raise invalid(where, "states of equal features, targets and dtype", states)
