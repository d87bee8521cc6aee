"""A model as an ONNX file: its JAX program, translated operation by operation."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.export
import numpy as np

from jaxnn import _checks as check
from jaxnn._errors import invalid
from jaxnn._layer import Layer
from jaxnn._platform import forms
from jaxnn._sketch import structs
from jaxnn.interop import _onnx_elementwise, _onnx_shapes, _onnx_sums
from jaxnn.interop import _protobuf as pb
from jaxnn.interop._onnx_graph import WHERE, Graph, Tensor
from jaxnn.types import Arrays, Params, State

MOST = 2**31 - 1  # bytes of a protobuf message
RULES = _onnx_elementwise.RULES | _onnx_shapes.RULES | _onnx_sums.RULES
LOOPS = ("scan", "while", "cond")
FIX = "nn.export writes any model as StableHLO, which needs jax to run."


def to_onnx(model: Layer, params: Params, state: State, x: Arrays, *, sizes: Any = "n, ...") -> bytes:
    """Model in inference mode, x [n, ...] -> y [n, ...], as an ONNX file for batches of any size.

    `Path("net.onnx").write_bytes(to_onnx(model, params, state, x))` stores it; onnxruntime runs it:

        session = onnxruntime.InferenceSession("net.onnx")
        (y,) = session.run(None, {"x": np.asarray(x)})

    The JAX program of `model.apply` is translated by primitives, so that layers of one's own and whole architectures
    work as well as those of the library. Convolutions and pools are written channels first, as ONNX has them, and
    permutations of axes move to where they are needed. Constants that scale or shift the features of a convolution or
    a dense layer, such as a batch norm's, are multiplied into its weights, and everything that depends on params alone
    is computed here. Nodes and weights have the paths of their layers as names, such as `stage1/block1/conv1/w`.

    Outputs equal those of `model.apply` up to rounding, about 1e-5 of the largest.

    Args:
      model: any layer whose program has neither loops nor random numbers; recurrent layers have loops.
      params, state: params and state of the model.
      x: example input: an array or its shape, or a pytree of them. The inputs of the graph are "x", or the paths of
        the leaves such as "x/0" for a tuple; the outputs "y" in the same way.
      sizes: free axes of x as in `nn.export`; None for exactly the shape of x.

    Returns:
      The bytes of a file with opset 18.

    Raises:
      TypeError: if `model` is not a layer or x contains leaves that are not arrays.
      ValueError: if x lacks the axes of `sizes`, params are shapes, the program has an operation without an ONNX form,
        or the file would have more than 2 GB.

    Differences: `torch.onnx.export` writes channels first, and batch norms as nodes. Keras and flax export through
    TensorFlow.

    Reference: ONNX operators, opset 18, https://onnx.ai/onnx/operators.

    >>> import jaxnn as nn
    >>> model = nn.serial(nn.conv(4, 3), nn.batch_norm(), nn.relu, nn.global_avg_pool(), nn.dense(3))
    >>> x = jnp.ones((1, 8, 8, 2))
    >>> data = nn.interop.to_onnx(model, *model.init(jax.random.key(0), x), x)
    >>> import onnx
    >>> [node.op_type for node in onnx.load_from_string(data).graph.node]
    ['Transpose', 'Conv', 'Relu', 'ReduceSum', 'Div', 'Gemm', 'Identity']
    """
    check.model(WHERE, "model", model)
    like = structs(WHERE, x)
    for v in jax.tree.leaves((params, state)):
        if isinstance(v, jax.ShapeDtypeStruct):
            raise invalid(WHERE, "arrays as params and state", v, "Their values are in the file.")
    held = jax.device_get((params, state))
    try:
        given = jax.export.symbolic_args_specs(like, sizes)
    except ValueError as error:
        fix = "sizes=None takes the shape of x alone."
        raise invalid(WHERE, f"x to have the axes of sizes={sizes!r}", like, fix) from error
    with forms("portable"):
        program, out = jax.make_jaxpr(lambda x: model.apply(*held, x, train=False)[0], return_shape=True)(given)

    graph = Graph()
    inputs, values = [], []
    for name, v in _named("x", given):
        graph.names[name] = 0
        inputs.append(pb.value_info(name, v.shape, v.dtype))
        values.append(Tensor(name, tuple(v.shape), tuple(range(len(v.shape)))))
        for axis, d in enumerate(v.shape):
            graph.sources.setdefault(str(d), (name, axis))
    found = _translated(graph, program.jaxpr, program.consts, values, "")
    graph.scope = ""
    outputs = []
    for (name, v), value in zip(_named("y", out), found, strict=True):
        last = graph.arranged(graph.full(value, v.shape))
        graph.nodes.append(pb.node("Identity", [last], [name], name, {}))
        outputs.append(pb.value_info(name, v.shape, v.dtype))
    if (size := sum(map(len, graph.constants))) > MOST:
        raise invalid(WHERE, f"a model of at most {MOST} bytes", told=str(size), fix=FIX)
    return pb.model("jaxnn", graph.nodes, graph.constants, inputs, outputs)


def _named(first: str, tree: Arrays) -> list[tuple[str, Any]]:
    """Leaves by their paths."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [("/".join([first, *(jax.tree_util.keystr((k,), simple=True) for k in path)]), v) for path, v in leaves]


def _translated(graph: Graph, jaxpr: Any, consts: Any, values: Any, scope: str) -> list[Any]:
    """Values of a program's outputs, with its nodes added to the graph."""
    known: dict[Any, Any] = dict(zip(jaxpr.constvars, map(np.asarray, consts), strict=True))
    known |= dict(zip(jaxpr.invars, values, strict=True))

    def read(v: Any) -> Any:
        return np.asarray(v.val, v.aval.dtype) if hasattr(v, "val") else known[v]

    for eqn in jaxpr.eqns:
        parts = f"{scope}/{eqn.source_info.name_stack}".split("/")
        graph.scope = "/".join(part for part in parts if re.fullmatch(r"\w+", part))  # without equations of einsum
        given = [read(v) for v in eqn.invars]
        inner = next((eqn.params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in eqn.params), None)
        fixed = all(isinstance(d, int | np.integer) for v in (*eqn.invars, *eqn.outvars) for d in v.aval.shape)
        if inner is not None and eqn.primitive.name not in LOOPS:
            made = _translated(graph, getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), given, graph.scope)
        elif fixed and eqn.primitive.name != "dim_as_value" and all(isinstance(v, np.ndarray) for v in given):
            made = eqn.primitive.bind(*map(_full, given, eqn.invars), **eqn.params)
            made = [np.asarray(v) for v in (made if eqn.primitive.multiple_results else [made])]
        elif eqn.primitive.name in RULES:
            made = RULES[eqn.primitive.name](graph, eqn, *given)
            made = made if isinstance(made, list) else [made]
        else:
            raise graph.unsupported(eqn.primitive.name, FIX)
        known.update(zip(eqn.outvars, made, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _full(value: np.ndarray, variable: Any) -> Any:
    """A constant in the shape of its variable."""
    return jax.numpy.asarray(np.broadcast_to(value, variable.aval.shape))
