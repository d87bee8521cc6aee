"""ONNX forms of reductions, pools, convolutions and matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxnn.interop._onnx_elementwise import Rule, applied, retyped
from jaxnn.interop._onnx_graph import Graph, Product, Tensor, Value, axes_of, shape_of

REDUCTIONS = {f"reduce_{kind}": f"Reduce{kind.capitalize()}" for kind in ("sum", "max", "min", "prod")}


def reduction(op: str) -> Rule:
    """Rule of a reduction over axes."""

    def rule(graph: Graph, eqn: Any, x: Value) -> Value:
        x, axes = graph.full(x, eqn.invars[0].aval.shape), eqn.params["axes"]
        order = x.order if isinstance(x, Tensor) else axes_of(eqn.invars[0].aval)
        places = np.array([order.index(axis) for axis in axes], np.int64)
        kept = [axis for axis in order if axis not in axes]
        made = graph.node(op, graph.arranged(x, order), places, keepdims=0)
        return Tensor(made, shape_of(eqn), tuple(sorted(kept).index(axis) for axis in kept))

    return rule


def argmax(graph: Graph, eqn: Any, x: Value) -> Value:
    (axis,) = eqn.params["axes"]
    found = graph.node("ArgMax", graph.arranged(graph.full(x, eqn.invars[0].aval.shape)), axis=axis, keepdims=0)
    return retyped(graph, Tensor(found, shape_of(eqn), axes_of(eqn.outvars[0].aval)), eqn.params["index_dtype"])


def _channels_first(rank: int) -> tuple[int, ...]:
    return (0, rank - 1, *range(1, rank - 1))


def _pooled(graph: Graph, eqn: Any, x: Value, op: str, sizes: Any, stride: Any, sides: Any, **how: Any) -> Tensor:
    """A pool over the space axes of channels-last images or sequences."""
    rank = len(eqn.invars[0].aval.shape)
    if rank < 3 or any(n != 1 for n in (sizes[0], sizes[-1], stride[0], stride[-1])):
        raise graph.unsupported("a reduction over a window of other axes than those of space")
    order = _channels_first(rank)
    name = graph.arranged(graph.full(x, eqn.invars[0].aval.shape), order)
    how |= {"kernel_shape": sizes[1:-1], "strides": stride[1:-1]}
    how["pads"] = [graph.number(p[side]) for side in (0, 1) for p in sides[1:-1]]
    return Tensor(graph.node(op, name, **how), shape_of(eqn), order)


def max_pool(graph: Graph, eqn: Any, x: Value) -> Value:
    p = eqn.params
    return _pooled(graph, eqn, x, "MaxPool", p["kernel_size"], p["stride"], p["sides"], dilations=p["dilation"][1:-1])


def window_max(graph: Graph, eqn: Any, x: Value) -> Value:
    p = eqn.params
    sizes, stride, dilations = p["window_dimensions"], p["window_strides"], p["window_dilation"][1:-1]
    return _pooled(graph, eqn, x, "MaxPool", sizes, stride, p["padding"], dilations=dilations)


def window_sum(graph: Graph, eqn: Any, x: Value) -> Value:
    """The mean with padding, times the size of the window."""
    p = eqn.params
    if set(p["window_dilation"]) != {1} or set(p["base_dilation"]) != {1}:
        raise graph.unsupported("a sum over a dilated window")
    sizes = p["window_dimensions"]
    mean = _pooled(graph, eqn, x, "AveragePool", sizes, p["window_strides"], p["padding"], count_include_pad=1)
    aval = eqn.outvars[0].aval
    return applied(graph, "Mul", (mean, np.array(np.prod(sizes), aval.dtype)), aval)


def conv(graph: Graph, eqn: Any, x: Value, w: Value) -> Value:
    """Conv, or ConvTranspose if x is dilated, in ONNX's layout with channels first."""
    p = eqn.params
    numbers, dilation, stride = p["dimension_numbers"], p["rhs_dilation"], p["window_strides"]
    if p["batch_group_count"] != 1:
        raise graph.unsupported("a convolution with groups of examples")
    if not isinstance(w, np.ndarray):
        raise graph.unsupported("a convolution whose kernel depends on the input")
    sides = [(graph.number(a), graph.number(b)) for a, b in p["padding"]]
    groups = p["feature_group_count"]
    kernel = np.transpose(w, numbers.rhs_spec)
    how: dict[str, Any] = {"group": groups, "dilations": dilation}
    name = graph.arranged(graph.full(x, eqn.invars[0].aval.shape), numbers.lhs_spec)
    op, features, axis = "Conv", kernel.shape[0], 0
    if set(p["lhs_dilation"]) != {1}:
        reach = [d * (k - 1) for d, k in zip(dilation, kernel.shape[2:], strict=True)]
        cut = [(r - a, r - b) for r, (a, b) in zip(reach, sides, strict=True)]
        if set(stride) != {1} or groups != 1 or any(a < 0 for a, _ in cut):
            raise graph.unsupported("a transposed convolution with groups or more padding than its kernel")
        op, axis, stride = "ConvTranspose", 1, p["lhs_dilation"]
        kernel = np.flip(kernel.swapaxes(0, 1), tuple(range(2, kernel.ndim)))
        how["output_padding"] = [max(-b, 0) for _, b in cut]
        sides = [(a, max(b, 0)) for a, b in cut]
    elif any(side < 0 for pair in sides for side in pair):
        raise graph.unsupported("a convolution with negative padding")
    how |= {"strides": stride, "pads": [pair[side] for side in (0, 1) for pair in sides]}
    b = np.zeros(features, kernel.dtype)
    channel = numbers.out_spec[1]
    return Product(op, name, kernel, b, axis, channel, shape_of(eqn), tuple(numbers.out_spec), how, graph.scope)


def dot_general(graph: Graph, eqn: Any, x: Value, y: Value) -> Value:
    """Gemm for weights, MatMul for a batch of matrices, else Einsum."""
    (cx, cy), (bx, by) = eqn.params["dimension_numbers"]
    a, b = (v.aval.shape for v in eqn.invars)
    fx = [i for i in range(len(a)) if i not in (*cx, *bx)]
    fy = [i for i in range(len(b)) if i not in (*cy, *by)]
    x, y = graph.full(x, a), graph.full(y, b)
    shape = shape_of(eqn)
    if isinstance(y, np.ndarray) and y.ndim == 2 and len(cx) == 1 and len(a) == 2 and not bx:
        w = np.transpose(y, (*cy, *fy))
        name = graph.arranged(x, (*fx, *cx))
        return Product("Gemm", name, w, np.zeros(w.shape[1], w.dtype), 1, 1, shape, (0, 1), {}, graph.scope)
    if len(cx) == 1 and len(fy) == 1 and (len(fx) == 1 or not bx):
        names = graph.arranged(x, (*bx, *fx, *cx)), graph.arranged(y, (*by, *cy, *fy))
        return Tensor(graph.node("MatMul", *names), shape, tuple(range(len(shape))))
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    of_x = [next(letters) for _ in a]
    of_y = [
        of_x[cx[cy.index(i)]] if i in cy else of_x[bx[by.index(i)]] if i in by else next(letters) for i in range(len(b))
    ]
    out = "".join([of_x[i] for i in (*bx, *fx)] + [of_y[i] for i in fy])
    equation = f"{''.join(of_x)},{''.join(of_y)}->{out}"
    made = graph.node("Einsum", graph.arranged(x), graph.arranged(y), equation=equation)
    return Tensor(made, shape, tuple(range(len(shape))))


RULES: dict[str, Rule] = {
    **{name: reduction(op) for name, op in REDUCTIONS.items()},
    **dict.fromkeys(("conv_general_dilated", "jaxnn_conv"), conv),
    "argmax": argmax,
    "dot_general": dot_general,
    "jaxnn_largest": max_pool,
    "reduce_window_max": window_max,
    "reduce_window_sum": window_sum,
}
