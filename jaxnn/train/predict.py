"""Predictions for any number of examples, in batches of a few sizes."""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import _checks as check
from jaxnn._calls import alike
from jaxnn._errors import wrong_type
from jaxnn._flat import Flat
from jaxnn._inputs import under_trace
from jaxnn.compiler import compiler_options
from jaxnn.layer import Layer
from jaxnn.train.fit import Best, Run
from jaxnn.train.trainer import TrainState, averaged

_NOT_GIVEN: Any = object()


def predict(model: Layer, params: Any, state: Any = _NOT_GIVEN, x: Any = _NOT_GIVEN, *, batch_size: int = 256) -> Any:
    """The model's outputs with `train=False` for any number of examples, [n, ...] -> [n, ...], in batches.

    `predict(model, params, state, x)`; or `predict(model, run, x)` of a `Run`, for its best params and state, of its
    `best`, or of a `TrainState`, for its averaged params where it has some.

    A batch has `batch_size` examples or a power of two below it: the rest of the examples is cut into such, or filled
    up to one with copies that are cut off again, where they are at most a sixteenth of the work. So a model is compiled
    for a handful of sizes and no other n. The programs of the 16 models used last are kept; models made by equal calls,
    such as `nn.dense(3)` and `nn.dense(3)`, are one.

    Args:
      model: a Layer.
      params, state: of the model; or a run in the place of both.
      x: an array, or a pytree of arrays with examples on axis 0. Of NumPy, one batch at a time is read. Those sharded
        over devices are taken whole, and the outputs are sharded like x along axis 0. Others that lie on a device are
        cut on the host.
      batch_size: examples at a time, >= 1.

    Returns the outputs on the device on which the model ran. PyTorch's and flax's users write the loop themselves;
    Keras's `predict` gives NumPy arrays.

    Raises TypeError for what is no model and for no arrays, ValueError for arrays of different lengths.

    >>> import jaxnn as nn
    >>> model = nn.dense(3)
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 4)))
    >>> predict(model, params, state, jnp.ones((1000, 4))).shape
    (1000, 3)
    """
    check.model("predict", "model", model)
    batch_size = check.count("predict", "batch_size", batch_size)
    params, state, x = _told(params, state, x)
    if isinstance(x, jax.Array) and not under_trace() and _is_one_batch(x, batch_size):  # the rest takes some 15 µs
        return _program(model)(params, state, x)
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


def _is_one_batch(x: jax.Array, batch_size: int) -> bool:
    """Whether `x` on one device is a batch of a size that is compiled for."""
    n = x.shape[0] if x.ndim else 0
    return (n == batch_size or (0 < n < batch_size and n & (n - 1) == 0)) and len(x.sharding.device_set) == 1


def _told(params: Any, state: Any, x: Any) -> tuple[Any, Any, Any]:
    """Params, state and x from the arguments of `predict`."""
    if isinstance(params, Run | Best | TrainState):
        given = [a for a in (state, x) if a is not _NOT_GIVEN]
        if len(given) != 1:
            raise wrong_type(
                "predict", "(model, run, x), as a run has a state", told=f"{len(given)} arguments after the run"
            )
        best = params.best if isinstance(params, Run) else params
        params, state = (averaged(best), best.state) if isinstance(best, TrainState) else best
        return params.tree() if isinstance(params, Flat) else params, state, given[0]
    if x is _NOT_GIVEN:
        raise wrong_type(
            "predict", "(model, params, state, x) or (model, run, x)", told=f"no x, and params {params!r:.80}"
        )
    return params, state, x


class Piece(NamedTuple):
    """Examples from `start`, `taken` of them, in a batch of `size`."""

    start: int
    taken: int
    size: int


def _pieces(n: int, batch_size: int) -> Iterator[Piece]:
    """Batches of `batch_size` or a power of two below: as few as let copies be no more than a sixteenth of the work."""
    start = 0
    while start < n:
        rest = n - start
        size = min(1 << (rest - 1).bit_length(), batch_size)  # the least that holds them all
        if 16 * (size - rest) > n:
            size = 1 << (rest.bit_length() - 1)  # the largest that they fill
        yield Piece(start, min(rest, size), size)
        start += size


def _applied(apply: Callable, pieces: list[Piece], x: Any) -> Iterator[tuple[Any, int]]:
    """The outputs of each piece, and how many of them are asked for; the next is begun before one is handed over."""
    behind: list = []
    for start, taken, size in pieces:
        copies = np.minimum(np.arange(start, start + size), start + taken - 1)
        batch = jax.tree.map(lambda a: a[start : start + size] if taken == size else a[copies], x)  # noqa: B023
        behind.append((apply(batch), taken))
        if len(behind) > 1:
            yield behind.pop(0)
    yield from behind


def _joined(parts: Iterator[tuple[Any, int]]) -> Any:
    """All outputs, on the device on which they were made; joined on the host, where that compiles nothing."""
    where: list = []

    def fetched(y: Any, taken: int) -> Any:
        where[:] = [jax.tree.map(lambda leaf: leaf.sharding, y)]
        return jax.tree.map(lambda leaf: np.asarray(leaf)[:taken], y)

    whole = jax.tree.map(lambda *ys: np.concatenate(ys), *(fetched(*part) for part in parts))
    return jax.tree.map(jax.device_put, whole, where[0])


def _apply(model: Layer, params: Any, state: Any, x: Any) -> Any:
    return model.apply(params, state, x)[0]


@lru_cache(maxsize=16)
def _program(model: Layer) -> Callable:
    """The compiled model, one for all that were made alike."""
    return _compiled(_Alike(alike(model), model))


class _Alike:
    """A model that is equal to those made by equal calls."""

    def __init__(self, key: Any, model: Layer):
        self.key, self.model = key, model

    def __eq__(self, other: Any) -> bool:
        return self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=16)
def _compiled(of: _Alike) -> Callable:
    return jax.jit(partial(_apply, of.model), compiler_options=compiler_options())


def _beside(x: jax.Array, params: Any) -> Any:
    """`params`, on the devices of an x that is sharded over several, whole on each where they do not lie there."""
    if not isinstance(x.sharding, jax.sharding.NamedSharding):
        return params
    whole = jax.sharding.NamedSharding(x.sharding.mesh, jax.sharding.PartitionSpec())
    there = lambda a: isinstance(a, jax.Array) and a.sharding.device_set == x.sharding.device_set  # noqa: E731
    return jax.tree.map(lambda a: a if there(a) else jax.device_put(a, whole), params)
