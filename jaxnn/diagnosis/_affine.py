"""Layers in a row that compute one affine map."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn._call import Tap
from jaxnn._capture import capture, watched
from jaxnn._layer import Layer
from jaxnn._padded import values_of
from jaxnn.compiler import compiler_options
from jaxnn.diagnosis._outputs import at
from jaxnn.types import Arrays, Key, Params, State

FAR = 10.0  # standard deviations of random inputs: smooth activations are far from linear there
CURVED = 1e-2  # deviation from an affine map over the difference of two outputs; TF32 has 1e-3


def linear_stacks(model: Layer, params: Params, state: State, x: Arrays, key: Key) -> list[tuple[str, ...]]:
    """Rows of weighted layers without a nonlinearity between them, as tuples of paths.

    The whole model is one row if it is affine and has two weighted layers or more. Otherwise two dense or convolutional
    layers are neighbours in a row if the output of the second is an affine function of that of the first, of nothing
    else, and the first has no other use. Factorizations save work and are left out: a first layer with fewer units than
    its inputs and than the second layer, and grouped convolutions.

    Args:
      model: layer or model.
      params, state: its arrays.
      x: a few inputs.
      key: random key.
    """
    random = np.random.default_rng(int(jax.random.bits(key)))
    record = watched(model, params, state, x)
    inner = [path for path in record.seen if not any(other.startswith(f"{path}/") for other in record.seen)]
    weights = {path: [w for w in jax.tree.leaves(at(params, path)) if w.ndim >= 2] for path in inner}
    weighted = [path for path, ws in weights.items() if ws]

    @cache
    def affine(path: str) -> bool:
        layer, shape = record.layers[path]
        return shape is not None and _is_affine(layer, at(params, path), at(state, path), shape, random)

    activations_first = sorted(inner, key=lambda path: path in weighted)  # one that is not affine ends the search
    if len(weighted) > 1 and all(map(affine, activations_first)) and _whole(model, params, state, x, random):
        return [tuple(weighted)]

    def sizes(path: str) -> tuple[int, int]:
        shapes = record.layers[path][1], getattr(values_of(record.seen[path]), "shape", None)
        given, made = (shape[-1] if shape else 0 for shape in shapes)
        return given, made

    def plain(path: str) -> bool:
        """True if each unit has a weight for each input channel."""
        return len(weights[path]) == 1 and prod(weights[path][0].shape[-2:]) == prod(sizes(path))

    pairs = []
    for a, b in pairwise(weighted):
        span = [*inner[inner.index(a) + 1 : inner.index(b)], a, b]
        if plain(a) and plain(b) and sizes(a)[1] >= min(sizes(a)[0], sizes(b)[1]) and all(map(affine, span)):
            pairs.append((a, b))
    rows: list[tuple[str, ...]] = []
    for a, b in _composed(model, params, state, x, random, pairs):
        rows = [*rows[:-1], (*rows[-1], b)] if rows and rows[-1][-1] == a else [*rows, (a, b)]
    return rows


def _is_affine(layer: Layer, params: Params, state: State, shape: tuple[int, ...], random: np.random.Generator) -> bool:
    """True if a layer alone is affine, for inputs of a shape. NumPy draws and compares, as it compiles nothing."""
    a, b = (FAR * random.normal(size=shape).astype(np.float32) for _ in range(2))
    try:
        ya, yb, middle = (
            np.asarray(values_of(layer.apply(params, state, jnp.asarray(x))[0])) for x in (a, b, (a + b) / 2)
        )
        return bool(_straight(ya, yb, middle))
    except Exception:  # a layer that does not run alone: it takes integers, or its params are stacked or transformed
        return False


def _whole(model: Layer, params: Params, state: State, x: Arrays, random: np.random.Generator) -> bool:
    """True if a model is an affine function of an array."""
    if not hasattr(x, "dtype") or not jnp.issubdtype(x.dtype, jnp.floating):
        return False
    return _is_affine(model, params, state, x.shape, random)


def _straight(ya: Any, yb: Any, middle: Any) -> Any:
    """True if the values of a function at two points and in their middle are on a line, and not equal."""
    length = abs(ya - yb).max()
    return (abs(ya + yb - 2 * middle).max() <= CURVED * length) & (length > 0)


def _composed(
    model: Layer, params: Params, state: State, x: Arrays, random: np.random.Generator, pairs: list[tuple[str, str]]
) -> Iterator[tuple[str, str]]:
    """The pairs whose second output is an affine function of the first alone, the first having no other effect.

    One program serves all pairs: it adds an array to each of their outputs.
    """
    paths = list(dict.fromkeys(path for pair in pairs for path in pair))
    program = jax.jit(_tapped(model), compiler_options=compiler_options())
    shapes = jax.eval_shape(capture(model, paths).apply, params, state, x)[0][1] if pairs else {}
    zeros = {path: np.zeros(s.shape, s.dtype) for path, s in shapes.items() if hasattr(s, "shape")}

    def run(**add: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        y, inner = program(params, state, x, zeros | add)
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(y)]), jax.device_get(inner)

    for a, b in pairs:
        if not {a, b} <= zeros.keys():  # layers that run several times
            continue
        y, at_start = run()
        first, second = at_start[a], at_start[b]
        far = (FAR * first.std() * random.normal(size=first.shape)).astype(first.dtype)
        moved, ahead = run(**{a: far})
        straight = _straight(ahead[b], run(**{a: -far})[1][b], second)
        equal = run(**{a: random.normal(size=first.shape[1:]).astype(first.dtype) - first})[1][b]
        alone = abs(equal - equal[:1]).max() <= CURVED * equal.std()
        restored = run(**{a: far, b: second - ahead[b]})[0]
        effect = abs(moved - y).max()
        if straight and alone and abs(restored - y).max() <= CURVED * effect and effect > 0:
            yield a, b


def _tapped(model: Layer) -> Callable[..., Any]:
    """Function of params, state, x and arrays by path, which are added to the outputs there."""

    def run(params: Params, state: State, x: Arrays, add: dict[str, jax.Array]) -> Any:
        return capture(model, {path: Tap(add=array) for path, array in add.items()}).apply(params, state, x)[0]

    return run
