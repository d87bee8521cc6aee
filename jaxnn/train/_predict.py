"""Batched prediction with few compiled batch sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import _checks as check
from jaxnn._calls import alike
from jaxnn._errors import wrong_type
from jaxnn._inputs import under_trace
from jaxnn._layer import Layer
from jaxnn.compiler import compiler_options
from jaxnn.train._fit import Best, Run
from jaxnn.train._programs import Alike
from jaxnn.train._trainer import TrainState, averaged
from jaxnn.types import Arrays, Params, State

_NOT_GIVEN: Any = object()
_WITH_STATE = (Run, Best, TrainState)  # a union would be built at each call


def predict(
    model: Layer, params: Params, state: State = _NOT_GIVEN, x: Arrays = _NOT_GIVEN, *, batch_size: int = 256
) -> Any:
    """Outputs of a model with `train=False` for any number of examples, [n, ...] -> [n, ...], computed in batches.

    Call it as `predict(model, params, state, x)`; or as `predict(model, run, x)` with a `Run`, whose best params and
    state are used, with its `best`, or with a `TrainState`, whose averaged params are used if it has any.

    A batch has `batch_size` examples or a smaller power of two. The remaining examples are split into such batches, or
    padded to one by copies, if the copies are at most a sixteenth of the work; their outputs are dropped. A model
    therefore compiles for a few batch sizes only, whatever n is. The programs of the 16 most recently used models are
    cached; models made by equal calls, such as `nn.dense(3)` and `nn.dense(3)`, share a program.

    Args:
      model: a Layer; of a trainer with `precision`, `trainer.model` computes in it, and the model it was made from in
        the dtype of x.
      params, state: params and state of the model; or one run in place of both.
      x: an array, or a pytree of arrays with examples on axis 0. NumPy arrays are read one batch at a time. Arrays
        sharded over devices are processed in one piece, with outputs sharded like x along axis 0. Other arrays on a
        device are split on the host.
      batch_size: examples per batch, >= 1.

    Returns:
      The outputs, on the device on which the model ran.

    Raises:
      TypeError: if `model` is not a Layer, or x is not arrays.
      ValueError: if the arrays differ in length.

    Differences: PyTorch and flax have no such function; Keras's `predict` returns NumPy arrays.

    >>> import jaxnn as nn
    >>> model = nn.dense(3)
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 4)))
    >>> predict(model, params, state, jnp.ones((1000, 4))).shape
    (1000, 3)
    """
    # Calls with one example are common, and each check costs a hundredth of a small model. Cases that the program
    # refuses go to `_in_batches`: several arrays, several devices, a trace, a wrong call.
    try:
        program = _of_one_batch(model, x.shape, batch_size) if type(batch_size) is int else None
        if program is not None:
            return program(params, state, x)
    except (AttributeError, TypeError, ValueError):
        pass
    return _in_batches(model, params, state, x, batch_size)


@lru_cache(maxsize=16)
def _of_one_batch(model: Layer, shape: tuple[int, ...], batch_size: int) -> Callable[..., Any] | None:
    """The program for an array of this shape if that is a batch of a compiled size, otherwise None."""
    n = shape[0] if shape else 0
    compiled = n == batch_size > 0 or (0 < n < batch_size and n & (n - 1) == 0)
    return _program(model) if compiled and type(model) is Layer else None


def _in_batches(model: Layer, params: Params, state: State, x: Arrays, batch_size: int) -> Any:
    """`predict` for any arguments."""
    check.model("predict", "model", model)
    batch_size = check.count("predict", "batch_size", batch_size)
    params, state, x = _told(params, state, x)
    leaves, structure = jax.tree.flatten(x)
    n = check.examples("predict", "x", x, least=0)
    if not all(isinstance(a, jax.Array | np.ndarray) for a in leaves):
        x = jax.tree.map(jnp.asarray, x)
        leaves = jax.tree.leaves(x)
    if n == 0:
        one = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype), x)
        shape = jax.eval_shape(partial(_apply, model), params, state, one)
        return jax.tree.map(lambda y: jnp.zeros((0, *y.shape[1:]), y.dtype), shape)
    if under_trace():
        parts = [jax.tree.map(lambda a, i=i: a[i : i + batch_size], x) for i in range(0, n, batch_size)]
        return jax.tree.map(lambda *ys: jnp.concatenate(ys), *(_apply(model, params, state, part) for part in parts))
    apply = _program(model)
    if spread := [a for a in leaves if isinstance(a, jax.Array) and len(a.sharding.device_set) > 1]:
        return apply(*_beside(spread[0], (params, state)), x)
    pieces = list(_pieces(n, batch_size))
    if len(pieces) == 1 and pieces[0].size == n:
        return apply(params, state, x)
    host = jax.tree.unflatten(structure, [np.asarray(a) for a in leaves])
    return _joined(_applied(partial(apply, params, state), pieces, host))


def _told(params: Params, state: State, x: Arrays) -> tuple[Any, Any, Any]:
    """Params, state and x from the arguments of `predict`."""
    if isinstance(params, _WITH_STATE):
        given = [a for a in (state, x) if a is not _NOT_GIVEN]
        if len(given) != 1:
            raise wrong_type(
                "predict", "(model, run, x), as a run has a state", told=f"{len(given)} arguments after the run"
            )
        best = params.best if isinstance(params, Run) else params
        params, state = (averaged(best), best.state) if isinstance(best, TrainState) else best
        return params, state, given[0]
    if x is _NOT_GIVEN:
        raise wrong_type(
            "predict", "(model, params, state, x) or (model, run, x)", told=f"no x, and params {params!r:.80}"
        )
    return params, state, x


class Piece(NamedTuple):
    """A batch of `size` examples from `start` on, of which `taken` are examples and the others are padding."""

    start: int
    taken: int
    size: int


def _pieces(n: int, batch_size: int) -> Iterator[Piece]:
    """The fewest batches of `batch_size` or a smaller power of two with padding of at most a sixteenth of the work."""
    start = 0
    while start < n:
        rest = n - start
        size = min(1 << (rest - 1).bit_length(), batch_size)  # the smallest that holds them all
        if 16 * (size - rest) > n:
            size = 1 << (rest.bit_length() - 1)  # the largest that they fill completely
        yield Piece(start, min(rest, size), size)
        start += size


def _applied(apply: Callable[..., Any], pieces: list[Piece], x: Arrays) -> Iterator[tuple[Any, int]]:
    """The outputs of each piece and its number of examples; the next piece is started before the last is yielded."""
    behind: list[Any] = []
    for start, taken, size in pieces:
        copies = np.minimum(np.arange(start, start + size), start + taken - 1)
        batch = jax.tree.map(lambda a: a[start : start + size] if taken == size else a[copies], x)  # noqa: B023
        behind.append((apply(batch), taken))
        if len(behind) > 1:
            yield behind.pop(0)
    yield from behind


def _joined(parts: Iterator[tuple[Any, int]]) -> Arrays:
    """All outputs on the device on which they were computed; concatenated on the host, which compiles nothing."""
    where: list[Any] = []

    def fetched(y: Arrays, taken: int) -> Arrays:
        where[:] = [jax.tree.map(lambda leaf: leaf.sharding, y)]
        return jax.tree.map(lambda leaf: np.asarray(leaf)[:taken], y)

    whole = jax.tree.map(lambda *ys: np.concatenate(ys), *(fetched(*part) for part in parts))
    return jax.tree.map(jax.device_put, whole, where[0])


def _apply(model: Layer, params: Params, state: State, x: Arrays) -> Arrays:
    return model.apply(params, state, x)[0]


@lru_cache(maxsize=16)
def _program(model: Layer) -> Callable[..., Any]:
    """The compiled model, shared by models made by equal calls."""
    return _compiled(Alike(alike(model), model))


@lru_cache(maxsize=16)
def _compiled(of: Alike) -> Callable[..., Any]:
    return jax.jit(partial(_apply, of.model), compiler_options=compiler_options())


def _beside(x: jax.Array, params: Arrays) -> Arrays:
    """`params` on the devices of a sharded x, replicated unless they are there already."""
    if not isinstance(x.sharding, jax.sharding.NamedSharding):
        return params
    whole = jax.sharding.NamedSharding(x.sharding.mesh, jax.sharding.PartitionSpec())

    def beside(a: Any) -> Arrays:
        there = isinstance(a, jax.Array) and a.sharding.device_set == x.sharding.device_set
        return a if there else jax.device_put(a, whole)

    return jax.tree.map(beside, params)
