"""ONNX forms of JAX's primitives: each rule maps the values of an equation's inputs to those of its outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxnn.interop._onnx_graph import Graph, Product, Tensor, Value

Rule = Callable[..., Any]  # graph, equation, values -> value, or a list of them

UNARY = {
    **{name: name.capitalize() for name in ("abs", "ceil", "cos", "cosh", "erf", "exp", "floor", "log", "neg", "sign")},
    **{name: name.capitalize() for name in ("sin", "sinh", "sqrt", "tan", "tanh", "acos", "asin", "atan", "not")},
    "logistic": "Sigmoid",
}
BINARY = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min", "pow": "Pow"}
COMPARISONS = {"eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual"}
LOGIC = {"and": "And", "or": "Or", "xor": "Xor"}
REDUCTIONS = {f"reduce_{kind}": f"Reduce{kind.capitalize()}" for kind in ("sum", "max", "min", "prod")}
SAME = ("stop_gradient", "copy", "optimization_barrier")


def elementwise(op: str) -> Rule:
    """Rule of an operator on arrays of equal shape, scalars and axes of size 1."""

    def rule(graph: Graph, eqn: Any, *values: Value) -> Value:
        return applied(graph, op, values, eqn.outvars[0].aval)

    return rule


def applied(graph: Graph, op: str, values: Sequence[Value], aval: Any) -> Tensor:
    """The operator on values in one order of axes: the first that differs from the array's, for it saves a node."""
    placed = [graph.placed(v) for v in values]
    rank = len(aval.shape)
    orders = [v.order for v in placed if isinstance(v, Tensor) and len(v.order) == rank]
    order = next((o for o in orders if o != tuple(range(rank))), tuple(range(rank)))
    names = [graph.arranged(v, order if len(v.shape) == rank else None) for v in placed]
    sizes = [[v.shape[i] for v in placed if len(v.shape) == rank] for i in range(rank)]
    shape = tuple(next((d for d in of_axis if d is not None and not _is_one(d)), 1) for of_axis in sizes)
    return Tensor(graph.node(op, *names), shape, order)


def arithmetic(op: str) -> Rule:
    """Rule of the four operations; a constant for each feature goes into the weights of a product."""

    def rule(graph: Graph, eqn: Any, x: Value, y: Value) -> Value:
        if isinstance(x, Product) and isinstance(y, np.ndarray) and (c := _of_features(x, y)) is not None:
            if op in ("mul", "div"):
                return x.changed(c if op == "mul" else np.reciprocal(c), np.zeros_like(c))
            return x.changed(np.ones_like(c), c if op == "add" else -c)
        if (
            isinstance(y, Product)
            and isinstance(x, np.ndarray)
            and op != "div"
            and (c := _of_features(y, x)) is not None
        ):
            scale = {"add": np.ones_like(c), "sub": -np.ones_like(c), "mul": c}[op]
            return y.changed(scale, np.zeros_like(c) if op == "mul" else c)
        return applied(graph, BINARY[op], (x, y), eqn.outvars[0].aval)

    return rule


def _of_features(product: Product, c: np.ndarray) -> np.ndarray | None:
    """A constant as a scalar or as a vector of the product's features; None for any other."""
    others = [d for axis, d in enumerate(c.shape) if axis != product.channel]
    return c.reshape(-1) if c.ndim in (0, len(product.shape)) and all(d == 1 for d in others) else None


def composed(*steps: tuple[Any, ...]) -> Rule:
    """Rule of a chain of operators: each step has the operator and its further inputs, with ... for the value."""

    def rule(graph: Graph, eqn: Any, x: Value) -> Value:
        value, aval = x, eqn.outvars[0].aval
        for op, *inputs in steps:
            given = [value if a is ... else np.array(a, aval.dtype) for a in inputs or (...,)]
            value = applied(graph, op, given, aval)
        return value

    return rule


def square(graph: Graph, eqn: Any, x: Value) -> Value:
    return applied(graph, "Mul", (x, x), eqn.outvars[0].aval)


def integer_pow(graph: Graph, eqn: Any, x: Value) -> Value:
    aval = eqn.outvars[0].aval
    return applied(graph, "Pow", (x, np.array(eqn.params["y"], aval.dtype)), aval)


def maximum(graph: Graph, eqn: Any, x: Value, y: Value) -> Value:
    """Relu for the maximum with 0, which runtimes compute together with a convolution."""
    aval = eqn.outvars[0].aval
    for a, b in ((x, y), (y, x)):
        if isinstance(a, np.ndarray) and not a.ndim and a == 0:
            return applied(graph, "Relu", (b,), aval)
    return applied(graph, "Max", (x, y), aval)


def not_equal(graph: Graph, eqn: Any, x: Value, y: Value) -> Value:
    aval = eqn.outvars[0].aval
    return applied(graph, "Not", [applied(graph, "Equal", (x, y), aval)], aval)


def select_n(graph: Graph, eqn: Any, which: Value, *cases: Value) -> Value:
    if len(cases) != 2 or eqn.invars[0].aval.dtype != bool:
        raise graph.unsupported("select_n of integers")
    return applied(graph, "Where", (which, cases[1], cases[0]), eqn.outvars[0].aval)


def clamp(graph: Graph, eqn: Any, low: Value, x: Value, high: Value) -> Value:
    aval = eqn.outvars[0].aval
    return applied(graph, "Min", (applied(graph, "Max", (x, low), aval), high), aval)


def cast(graph: Graph, eqn: Any, x: Value) -> Value:
    dtype = np.dtype(eqn.params["new_dtype"])
    return x if eqn.invars[0].aval.dtype == dtype else _cast(graph, x, dtype)


def _cast(graph: Graph, x: Value, dtype: Any) -> Value:
    from jaxnn.interop._protobuf import CODES

    x = graph.placed(x)
    if isinstance(x, np.ndarray):
        return x.astype(dtype)
    return Tensor(graph.node("Cast", x.name, to=CODES[np.dtype(dtype).name]), x.shape, x.order)


# ---- shapes


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
    return Tensor(graph.node("Concat", *map(graph.arranged, whole), axis=axis), tuple(aval.shape), _axes(aval))


def slice_(graph: Graph, eqn: Any, x: Value) -> Value:
    given = eqn.invars[0].aval.shape
    x, steps = graph.full(x, given), eqn.params["strides"] or (1,) * len(given)
    ends = zip(eqn.params["start_indices"], eqn.params["limit_indices"], steps, given, strict=True)
    cut = [(axis, *p[:3]) for axis, p in enumerate(ends) if not (_is_zero(p[0]) and p[1] == p[3] and p[2] == 1)]
    if not cut or isinstance(x, np.ndarray):
        return x
    axes, starts, limits, jumps = (np.array(column, np.int64) for column in zip(*cut, strict=True))
    assert isinstance(x, Tensor)
    places = np.array([x.order.index(axis) for axis in axes], np.int64)
    return Tensor(graph.node("Slice", x.name, starts, limits, places, jumps), _shape(eqn), x.order)


def split(graph: Graph, eqn: Any, x: Value) -> list[Value]:
    x = graph.full(x, eqn.invars[0].aval.shape)
    order = x.order if isinstance(x, Tensor) else _axes(eqn.invars[0].aval)
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
    order = x.order if isinstance(x, Tensor) else _axes(eqn.invars[0].aval)
    sides = np.array([[config[axis][side] for axis in order] for side in (0, 1)], np.int64).reshape(-1)
    return Tensor(graph.node("Pad", graph.arranged(x, order), sides, fill), _shape(eqn), order)


def gather(graph: Graph, eqn: Any, x: Value, indices: Value) -> Value:
    """x[i, j, ...] for arrays of indices on some axes, and all elements of the others."""
    d, sizes, given = eqn.params["dimension_numbers"], eqn.params["slice_sizes"], eqn.invars[0].aval.shape
    picked = tuple(d.start_index_map)
    rest = [axis for axis in range(len(given)) if axis not in picked]
    whole = set(d.collapsed_slice_dims) == set(picked) and all(sizes[axis] == given[axis] for axis in rest)
    if not whole or d.operand_batching_dims or any(sizes[axis] != 1 for axis in picked):
        raise graph.unsupported("gather of slices")
    data = graph.arranged(graph.full(x, given), (*picked, *rest))
    places = graph.arranged(_cast(graph, graph.full(indices, eqn.invars[1].aval.shape), np.int64))
    shape = _shape(eqn)
    drawn = [axis for axis in range(len(shape)) if axis not in d.offset_dims]
    return Tensor(graph.node("GatherND", data, places), shape, (*drawn, *d.offset_dims))


def dim_as_value(graph: Graph, eqn: Any) -> Value:
    """A free size as a number."""
    name = graph.node("Reshape", graph.sizes([eqn.params["dim"]]), np.zeros(0, np.int64))
    return _cast(graph, Tensor(name, (), ()), eqn.outvars[0].aval.dtype)


# ---- sums


def reduction(op: str) -> Rule:
    """Rule of a reduction over axes."""

    def rule(graph: Graph, eqn: Any, x: Value) -> Value:
        x, axes = graph.full(x, eqn.invars[0].aval.shape), eqn.params["axes"]
        order = x.order if isinstance(x, Tensor) else _axes(eqn.invars[0].aval)
        places = np.array([order.index(axis) for axis in axes], np.int64)
        kept = [axis for axis in order if axis not in axes]
        made = graph.node(op, graph.arranged(x, order), places, keepdims=0)
        return Tensor(made, _shape(eqn), tuple(sorted(kept).index(axis) for axis in kept))

    return rule


def argmax(graph: Graph, eqn: Any, x: Value) -> Value:
    (axis,) = eqn.params["axes"]
    found = graph.node("ArgMax", graph.arranged(graph.full(x, eqn.invars[0].aval.shape)), axis=axis, keepdims=0)
    return _cast(graph, Tensor(found, _shape(eqn), _axes(eqn.outvars[0].aval)), eqn.params["index_dtype"])


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
    how["pads"] = [int(p[side]) for side in (0, 1) for p in sides[1:-1]]
    return Tensor(graph.node(op, name, **how), _shape(eqn), order)


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


# ---- products


def conv(graph: Graph, eqn: Any, x: Value, w: Value) -> Value:
    """Conv, or ConvTranspose if x is dilated, in ONNX's layout with channels first."""
    p = eqn.params
    numbers, dilation, stride = p["dimension_numbers"], p["rhs_dilation"], p["window_strides"]
    if p["batch_group_count"] != 1:
        raise graph.unsupported("a convolution with groups of examples")
    if not isinstance(w, np.ndarray):
        raise graph.unsupported("a convolution whose kernel depends on the input")
    sides = [(int(a), int(b)) for a, b in p["padding"]]
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
    return Product(op, name, kernel, b, axis, channel, _shape(eqn), tuple(numbers.out_spec), how, graph.scope)


def dot_general(graph: Graph, eqn: Any, x: Value, y: Value) -> Value:
    """Gemm for weights, MatMul for a batch of matrices, else Einsum."""
    (cx, cy), (bx, by) = eqn.params["dimension_numbers"]
    a, b = (v.aval.shape for v in eqn.invars)
    fx = [i for i in range(len(a)) if i not in (*cx, *bx)]
    fy = [i for i in range(len(b)) if i not in (*cy, *by)]
    x, y = graph.full(x, a), graph.full(y, b)
    shape = _shape(eqn)
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


def same(graph: Graph, eqn: Any, *values: Value) -> Any:
    return list(values) if len(values) > 1 else values[0]


def _shape(eqn: Any) -> tuple[Any, ...]:
    return tuple(eqn.outvars[0].aval.shape)


def _axes(aval: Any) -> tuple[int, ...]:
    return tuple(range(len(aval.shape)))


def _is_one(d: Any) -> bool:
    return isinstance(d, int | np.integer) and d == 1


def _is_zero(d: Any) -> bool:
    return isinstance(d, int | np.integer) and d == 0


RULES: dict[str, Rule] = {
    **{name: elementwise(op) for name, op in (UNARY | BINARY | COMPARISONS | LOGIC).items()},
    **{name: arithmetic(name) for name in ("add", "sub", "mul", "div")},
    **{name: reduction(op) for name, op in REDUCTIONS.items()},
    **dict.fromkeys(SAME, same),
    **dict.fromkeys(("reshape", "squeeze", "expand_dims"), reshape),
    **dict.fromkeys(("conv_general_dilated", "jaxnn_conv"), conv),
    "argmax": argmax,
    "broadcast_in_dim": broadcast_in_dim,
    "clamp": clamp,
    "concatenate": concatenate,
    "convert_element_type": cast,
    "dim_as_value": dim_as_value,
    "dot_general": dot_general,
    "erfc": composed(("Erf",), ("Sub", 1.0, ...)),
    "expm1": composed(("Exp",), ("Sub", ..., 1.0)),
    "gather": gather,
    "integer_pow": integer_pow,
    "jaxnn_largest": max_pool,
    "log1p": composed(("Add", ..., 1.0), ("Log",)),
    "max": maximum,
    "ne": not_equal,
    "pad": pad,
    "reduce_window_max": window_max,
    "reduce_window_sum": window_sum,
    "rsqrt": composed(("Sqrt",), ("Reciprocal",)),
    "select_n": select_n,
    "slice": slice_,
    "split": split,
    "square": square,
    "stack": stack,
    "transpose": transpose,
}
