"""ONNX forms of primitives that move elements: reshape, transpose, concatenate, slice, gather, ..."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxnn.interop._onnx_elementwise import Rule, retyped
from jaxnn.interop._onnx_graph import Graph, Tensor, Value, axes_of, same_size, shape_of


def reshape(graph: Graph, eqn: Any, x: Value) -> Value:
    return graph.reshaped(graph.full(x, eqn.invars[0].aval.shape), eqn.outvars[0].aval.shape)


def broadcast_in_dim(graph: Graph, eqn: Any, x: Value, *_: Value) -> Value:
    """The axes of the result have size 1 where x is repeated; elementwise operators repeat them."""
    x, shape = graph.placed(x), [1] * len(eqn.outvars[0].aval.shape)
    for axis, size in zip(eqn.params["broadcast_dimensions"], x.shape, strict=True):
        shape[axis] = size
    return graph.reshaped(x, shape)


def transpose(graph: Graph, eqn: Any, x: Value) -> Value:
    x, axes = graph.placed(x), list(eqn.params["permutation"])
    if isinstance(x, np.ndarray):
        return np.transpose(x, axes)
    return Tensor(x.name, tuple(x.shape[a] for a in axes), tuple(axes.index(a) for a in x.order))


def concatenate(graph: Graph, eqn: Any, *parts: Value) -> Value:
    """In the order of axes of the first tensor."""
    values = [graph.full(v, a.aval.shape) for v, a in zip(parts, eqn.invars, strict=True)]
    order = next((v.order for v in values if isinstance(v, Tensor)), tuple(range(len(eqn.outvars[0].aval.shape))))
    names = [graph.arranged(v, order) for v in values]
    made = graph.node("Concat", *names, axis=order.index(eqn.params["dimension"]))
    return Tensor(made, tuple(eqn.outvars[0].aval.shape), order)


def stack(graph: Graph, eqn: Any, *parts: Value) -> Value:
    axis, aval = eqn.params["axis"], eqn.outvars[0].aval
    one = (*aval.shape[:axis], 1, *aval.shape[axis + 1 :])
    whole = [graph.reshaped(graph.full(v, a.aval.shape), one) for v, a in zip(parts, eqn.invars, strict=True)]
    return Tensor(graph.node("Concat", *map(graph.arranged, whole), axis=axis), tuple(aval.shape), axes_of(aval))


def slice_(graph: Graph, eqn: Any, x: Value) -> Value:
    given = eqn.invars[0].aval.shape
    x, steps = graph.full(x, given), eqn.params["strides"] or (1,) * len(given)
    ends = zip(eqn.params["start_indices"], eqn.params["limit_indices"], steps, given, strict=True)
    cut = [(axis, *p[:3]) for axis, p in enumerate(ends) if not (same_size(p[0], 0) and p[1] == p[3] and p[2] == 1)]
    if not cut or isinstance(x, np.ndarray):
        return x
    axes, starts, limits, jumps = (np.array(column, np.int64) for column in zip(*cut, strict=True))
    assert isinstance(x, Tensor)
    places = np.array([x.order.index(axis) for axis in axes], np.int64)
    return Tensor(graph.node("Slice", x.name, starts, limits, places, jumps), shape_of(eqn), x.order)


def split(graph: Graph, eqn: Any, x: Value) -> list[Value]:
    x = graph.full(x, eqn.invars[0].aval.shape)
    order = x.order if isinstance(x, Tensor) else axes_of(eqn.invars[0].aval)
    sizes = np.array(eqn.params["sizes"], np.int64)
    axis = order.index(eqn.params["axis"])
    names = graph.node("Split", graph.arranged(x, order), sizes, outputs=len(sizes), axis=axis)
    names = [names] if isinstance(names, str) else names
    return [Tensor(name, tuple(v.aval.shape), order) for name, v in zip(names, eqn.outvars, strict=True)]


def pad(graph: Graph, eqn: Any, x: Value, fill: Value) -> Value:
    config = [tuple(map(int, c)) for c in eqn.params["padding_config"]]
    if any(min(c) < 0 or c[2] for c in config) or not isinstance(fill, np.ndarray):
        raise graph.unsupported("padding between elements, or a negative one")
    x = graph.full(x, eqn.invars[0].aval.shape)
    order = x.order if isinstance(x, Tensor) else axes_of(eqn.invars[0].aval)
    sides = np.array([[config[axis][side] for axis in order] for side in (0, 1)], np.int64).reshape(-1)
    return Tensor(graph.node("Pad", graph.arranged(x, order), sides, fill), shape_of(eqn), order)


def gather(graph: Graph, eqn: Any, x: Value, indices: Value) -> Value:
    """x[i, j, ...] for arrays of indices on some axes, and all elements of the others."""
    d, sizes, given = eqn.params["dimension_numbers"], eqn.params["slice_sizes"], eqn.invars[0].aval.shape
    picked = tuple(d.start_index_map)
    rest = [axis for axis in range(len(given)) if axis not in picked]
    whole = set(d.collapsed_slice_dims) == set(picked) and all(sizes[axis] == given[axis] for axis in rest)
    if not whole or d.operand_batching_dims or any(sizes[axis] != 1 for axis in picked):
        raise graph.unsupported("gather of slices")
    data = graph.arranged(graph.full(x, given), (*picked, *rest))
    places = graph.arranged(retyped(graph, graph.full(indices, eqn.invars[1].aval.shape), np.int64))
    shape = shape_of(eqn)
    drawn = [axis for axis in range(len(shape)) if axis not in d.offset_dims]
    return Tensor(graph.node("GatherND", data, places), shape, (*drawn, *d.offset_dims))


def dim_as_value(graph: Graph, eqn: Any) -> Value:
    """A free size as a number."""
    name = graph.node("Reshape", graph.sizes([eqn.params["dim"]]), np.zeros(0, np.int64))
    return retyped(graph, Tensor(name, (), ()), eqn.outvars[0].aval.dtype)


def unchanged(graph: Graph, eqn: Any, *values: Value) -> Any:
    return list(values) if len(values) > 1 else values[0]


RULES: dict[str, Rule] = {
    **dict.fromkeys(("reshape", "squeeze", "expand_dims"), reshape),
    **dict.fromkeys(("stop_gradient", "copy", "optimization_barrier"), unchanged),
    "broadcast_in_dim": broadcast_in_dim,
    "concatenate": concatenate,
    "dim_as_value": dim_as_value,
    "gather": gather,
    "pad": pad,
    "slice": slice_,
    "split": split,
    "stack": stack,
    "transpose": transpose,
}
