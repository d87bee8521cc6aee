"""ONNX forms of elementwise primitives: each rule maps the values of an equation's inputs to that of its output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxnn.interop._onnx_graph import Graph, Product, Tensor, Value, same_size
from jaxnn.interop._protobuf import CODES

Rule = Callable[..., Any]  # graph, equation, values -> value, or a list of them

UNARY = {
    **{name: name.capitalize() for name in ("abs", "ceil", "cos", "cosh", "erf", "exp", "floor", "log", "neg", "sign")},
    **{name: name.capitalize() for name in ("sin", "sinh", "sqrt", "tan", "tanh", "acos", "asin", "atan", "not")},
    "logistic": "Sigmoid",
}
BINARY = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min", "pow": "Pow"}
COMPARISONS = {"eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual"}
LOGIC = {"and": "And", "or": "Or", "xor": "Xor"}


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
    shape = tuple(next((d for d in of_axis if d is not None and not same_size(d, 1)), 1) for of_axis in sizes)
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
    return x if eqn.invars[0].aval.dtype == dtype else retyped(graph, x, dtype)


def retyped(graph: Graph, x: Value, dtype: Any) -> Value:
    """The value in another dtype."""
    x = graph.placed(x)
    if isinstance(x, np.ndarray):
        return x.astype(dtype)
    return Tensor(graph.node("Cast", x.name, to=CODES[np.dtype(dtype).name]), x.shape, x.order)


RULES: dict[str, Rule] = {
    **{name: elementwise(op) for name, op in (UNARY | BINARY | COMPARISONS | LOGIC).items()},
    **{name: arithmetic(name) for name in ("add", "sub", "mul", "div")},
    "clamp": clamp,
    "convert_element_type": cast,
    "erfc": composed(("Erf",), ("Sub", 1.0, ...)),
    "expm1": composed(("Exp",), ("Sub", ..., 1.0)),
    "integer_pow": integer_pow,
    "log1p": composed(("Add", ..., 1.0), ("Log",)),
    "max": maximum,
    "ne": not_equal,
    "rsqrt": composed(("Sqrt",), ("Reciprocal",)),
    "select_n": select_n,
    "square": square,
}
