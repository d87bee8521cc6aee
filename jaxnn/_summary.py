"""Table of a model's layers, from shapes alone: output, params, bytes and FLOPs."""

from __future__ import annotations

import html
from math import prod
from typing import Any, NamedTuple

import jax

from jaxnn._call import OBSERVED, Observed, Watch
from jaxnn._errors import describe
from jaxnn._flops import flops_of, programs_in
from jaxnn._layer import Layer, as_layer
from jaxnn._sketch import structs
from jaxnn.types import Arrays, Params, State

HEADER = ("layer", "output", "params", "bytes", "FLOPs")


class Row(NamedTuple):
    """One layer of a `Summary`.

    Attributes:
      path: path of the layer.
      output: dtype and shape of its output.
      params: number of params in it and in its sublayers.
      bytes: bytes of params and state in it and in its sublayers.
      flops: FLOPs of it and of its sublayers.
    """

    path: str
    output: str
    params: int
    bytes: int
    flops: int


class Summary(NamedTuple):
    """Layers of a model in the order in which they run, and the total. Prints as a table.

    Attributes:
      rows: one `Row` per layer.
      total: `Row` of the whole model.
    """

    rows: tuple[Row, ...]
    total: Row

    def __str__(self) -> str:
        cells = [HEADER, *map(_cells, self.rows), _cells(self.total)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
            for row in cells
        ]
        rule = "─" * len(lines[0])
        return "\n".join(line.rstrip() for line in [lines[0], rule, *lines[1:-1], rule, lines[-1]])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        def line(cells: tuple[str, ...], tag: str) -> str:
            style = ' style="text-align:left;white-space:pre"'
            row = "".join(f"<{tag}{style if i < 2 else ''}>{html.escape(c)}</{tag}>" for i, c in enumerate(cells))
            return f"<tr>{row}</tr>"

        body = "".join(line(_cells(row), "td") for row in self.rows)
        return f"<table>{line(HEADER, 'th')}{body}{line(_cells(self.total), 'th')}</table>"


def summary(model: Layer, x: Arrays) -> Summary:
    """Table of a model for an input like `x`: path, output, params, bytes and FLOPs of each layer.

    Only shapes are computed. FLOPs are those of one forward pass with `train=False`, counted on the traced program: 2
    for each multiply-add of a matrix product or convolution, 1 for each element of any other arithmetic. Every copy in
    a `repeat` counts.

    Args:
      model: layer to describe.
      x: array or `ShapeDtypeStruct` of the input's shape, batch axis included, or a pytree of them.

    Returns:
      `Summary`, a named tuple of rows that prints as a table.

    Raises:
      TypeError: if `model` is neither a layer nor a function, or x contains leaves that are not arrays.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> nn.summary(nn.serial(nn.dense(16), nn.relu, nn.dense(2)), jax.ShapeDtypeStruct((8, 4), jnp.float32))
    layer    output          params  bytes  FLOPs
    ─────────────────────────────────────────────
    dense    float32[8, 16]      80    320  1 152
    relu     float32[8, 16]       0      0    128
    dense_1  float32[8, 2]       34    136    528
    ─────────────────────────────────────────────
    total    float32[8, 2]      114    456  1 808
    """
    model = as_layer(model, "summary")
    x = structs("summary", x)
    params, state = jax.eval_shape(model.init, jax.random.key(0), x)
    watch = Watch()

    def forward(params: Params, state: State, x: Arrays) -> Arrays:
        return model.apply(params, {**state, OBSERVED: Observed(watch=watch)}, x)[0]

    traced, output = jax.make_jaxpr(forward, return_shape=True)(params, state, x)
    flops: dict[str, int] = {}
    _count(traced.jaxpr, "", 1, flops)

    def row(path: str, label: str, y: Arrays) -> Row:
        held = jax.tree.leaves(_at(params, path))
        stored = held + jax.tree.leaves(_at(state, path))
        inside = sum(n for scope, n in flops.items() if not path or f"{scope}/".startswith(f"{path}/"))
        size = sum(prod(p.shape) * p.dtype.itemsize for p in stored)
        return Row(label, describe(y), sum(prod(p.shape) for p in held), size, inside)

    rows = tuple(row(path, path, y) for path, y in watch.seen.items())
    return Summary(rows, row("", "total", output))


def _cells(row: Row) -> tuple[str, ...]:
    depth = row.path.count("/")
    name = "  " * depth + row.path.rsplit("/", 1)[-1]
    return (name, row.output, *(f"{v:,}".replace(",", " ") for v in row[2:]))


def _at(tree: Params, path: str) -> Arrays:
    for name in path.split("/") if path else ():
        tree = tree.get(name, {})
    return tree


def _count(jaxpr: Any, scope: str, times: int, flops: dict[str, int]) -> None:
    """Adds the FLOPs of a program to `flops`, by the scope (layer path) of each operation."""
    for eqn in jaxpr.eqns:
        inner = "/".join(filter(None, (scope, str(eqn.source_info.name_stack))))
        programs = [p for v in eqn.params.values() for p in programs_in(v)]
        if eqn.primitive.name == "cond":  # one branch runs: count the most expensive
            branches: list[dict[str, int]] = [{} for _ in programs]
            for program, counted in zip(programs, branches, strict=True):
                _count(program, inner, times, counted)
            for path, n in max(branches, key=lambda counted: sum(counted.values())).items():
                flops[path] = flops.get(path, 0) + n
        elif programs:
            repeats = eqn.params["length"] if eqn.primitive.name == "scan" else 1
            for program in programs[:1] if "custom" in eqn.primitive.name else programs:
                _count(program, inner, times * repeats, flops)
        else:
            flops[inner] = flops.get(inner, 0) + times * flops_of(eqn)
