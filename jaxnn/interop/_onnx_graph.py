"""A graph of ONNX nodes that is being made: tensors whose axes may be permuted, products whose weights may change."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnn._errors import InvalidValue, invalid
from jaxnn.interop import _protobuf as pb

WHERE = "to_onnx"


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the graph, as an array with its axes in another order.

    Attributes:
      name: name in the graph.
      shape: shape of the array; an axis may have size 1 where JAX has a broadcast one.
      order: axis of the array that each axis of the tensor is.
    """

    name: str
    shape: tuple[Any, ...]
    order: tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Product:
    """A convolution or matrix product with constant weights that is not in the graph yet.

    Constants that scale or shift its features, such as a batch norm's, change its weights instead of adding nodes.

    Attributes:
      op: Conv, ConvTranspose or Gemm.
      x: name of the input tensor.
      w: weights in the operator's layout.
      b: bias [features].
      features: axis of w with the features.
      channel: axis of the array with the features.
      shape, order: those of the result.
      attributes: of the operator.
      scope: path of the layer.
    """

    op: str
    x: str
    w: np.ndarray
    b: np.ndarray
    features: int
    channel: int
    shape: tuple[Any, ...]
    order: tuple[int, ...]
    attributes: dict[str, Any]
    scope: str

    def changed(self, scale: np.ndarray, shift: np.ndarray) -> Product:
        """scale · y + shift for scalars or vectors of features."""
        one = [1] * self.w.ndim
        one[self.features] = -1
        w = self.w * np.broadcast_to(scale, self.b.shape).reshape(one)
        return dataclasses.replace(self, w=w, b=self.b * scale + shift)


Value = Tensor | Product | np.ndarray


class Graph:
    """Nodes and constants in the order in which they are added.

    Attributes:
      scope: path of the layer whose operations are being added.
    """

    def __init__(self) -> None:
        self.nodes: list[bytes] = []
        self.constants: list[bytes] = []
        self.scope = ""
        self.names: dict[str, int] = {}
        self.known: dict[Any, str] = {}  # constants by their bytes, permuted tensors by their axes
        self.sources: dict[str, tuple[str, int]] = {}  # free size -> input and axis that have it
        self.products: dict[Product, Tensor] = {}

    def name(self, kind: str, scope: str | None = None) -> str:
        """A new name: the path of the layer and a kind."""
        scope = self.scope if scope is None else scope
        name = f"{scope}/{kind}" if scope else kind
        self.names[name] = self.names.get(name, -1) + 1
        return f"{name}_{self.names[name]}" if self.names[name] else name

    def unsupported(self, what: str, fix: str = "") -> InvalidValue:
        """The error for an operation that has no form here."""
        of = f" in {self.scope}" if self.scope else ""
        return invalid(WHERE, "operations that ONNX has", told=f"{what}{of}", fix=fix)

    def number(self, size: Any) -> int:
        """A size as an integer; raises for a free one."""
        if isinstance(size, int | np.integer):
            return int(size)
        raise self.unsupported(f"padding that depends on {size}", "Fix the sizes of space: sizes='n, ...'.")

    def constant(self, array: np.ndarray, kind: str = "constant", scope: str | None = None) -> str:
        """Name of a constant; equal ones are stored once."""
        array = np.asarray(array)
        key = array.dtype.name, array.shape, array.tobytes()
        if key not in self.known:
            if array.dtype.name not in pb.CODES:
                raise self.unsupported(f"the dtype {array.dtype}")
            self.known[key] = self.name(kind, scope)
            self.constants.append(pb.tensor(self.known[key], array))
        return self.known[key]

    def node(self, op: str, *inputs: str | np.ndarray, outputs: int = 1, **attributes: Any) -> Any:
        """Names of the outputs of a new node, or the one name."""
        names = [self.constant(v) if isinstance(v, np.ndarray) else v for v in inputs]
        made = [self.name(op.lower()) for _ in range(outputs)]
        self.nodes.append(pb.node(op, names, made, made[0], attributes))
        return made[0] if outputs == 1 else made

    def placed(self, value: Value) -> Tensor | np.ndarray:
        """The value, a product as the node that computes it."""
        if not isinstance(value, Product):
            return value
        if value not in self.products:
            own, self.scope = self.scope, value.scope
            names = [value.x, self.constant(value.w, "w")]
            names += [self.constant(value.b, "b")] if value.b.any() else []
            self.products[value] = Tensor(self.node(value.op, *names, **value.attributes), value.shape, value.order)
            self.scope = own
        return self.products[value]

    def arranged(self, value: Value, order: Sequence[int] | None = None) -> str:
        """Name of the tensor whose axes are those of the array in an order, by default its own."""
        value = self.placed(value)
        order = tuple(
            range(value.ndim if isinstance(value, np.ndarray) else len(value.shape)) if order is None else order
        )
        if isinstance(value, np.ndarray):
            return self.constant(np.transpose(value, order) if value.ndim else value)
        if value.order == order:
            return value.name
        key = value.name, value.order, order
        if key not in self.known:
            self.known[key] = self.node("Transpose", value.name, perm=[value.order.index(axis) for axis in order])
        return self.known[key]

    def full(self, value: Value, shape: Sequence[Any]) -> Value:
        """The value with its axes of size 1 repeated to a shape."""
        value = self.placed(value)
        if tuple(value.shape) == tuple(shape):
            return value
        if isinstance(value, np.ndarray) and all(isinstance(d, int) for d in shape):
            return np.broadcast_to(value, shape)
        return Tensor(self.node("Expand", self.arranged(value), self.sizes(shape)), tuple(shape), _identity(shape))

    def sizes(self, shape: Sequence[Any]) -> str:
        """Name of a tensor with the sizes of a shape; free ones must be those of an input."""
        parts: list[Any] = []
        for d in shape:
            if isinstance(d, int | np.integer):
                parts.append(np.array([d], np.int64))
            elif str(d) in self.sources:
                name, axis = self.sources[str(d)]
                parts.append(self.node("Shape", name, start=axis, end=axis + 1))
            else:
                raise self.unsupported(f"an array of the size {d}")
        return self.node("Concat", *parts, axis=0)

    def reshaped(self, value: Value, shape: Sequence[Any]) -> Value:
        """The value, row-major, in another shape with at most one free size."""
        value, shape = self.placed(value), tuple(shape)
        if isinstance(value, np.ndarray):
            return value.reshape(shape)
        if value.shape == shape:
            return value
        free = [i for i, d in enumerate(shape) if not isinstance(d, int | np.integer)]
        name = self.arranged(value)
        if len(free) > 1:
            return Tensor(self.node("Reshape", name, self.sizes(shape)), shape, _identity(shape))
        sizes = np.array([-1 if i in free else d for i, d in enumerate(shape)], np.int64)
        return Tensor(self.node("Reshape", name, sizes), shape, _identity(shape))


def shape_of(eqn: Any) -> tuple[Any, ...]:
    """Shape of the first output of an equation."""
    return tuple(eqn.outvars[0].aval.shape)


def axes_of(aval: Any) -> tuple[int, ...]:
    """Axes of an array in their own order."""
    return tuple(range(len(aval.shape)))


def same_size(d: Any, n: int) -> bool:
    """True if a size is the integer; False for a free one."""
    return isinstance(d, int | np.integer) and d == n


def _identity(shape: Sequence[Any]) -> tuple[int, ...]:
    return tuple(range(len(shape)))
