"""Table of a model's layers, from shapes alone: output, params, bytes and FLOPs."""

from __future__ import annotations

import html
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh, PartitionSpec

from jaxnn import _checks as check
from jaxnn._call import OBSERVED, Observed, Watch
from jaxnn._errors import describe
from jaxnn._flops import flops_of, programs_in
from jaxnn._kept import bytes_of, kept_in
from jaxnn._layer import Layer, as_layer
from jaxnn._sketch import structs
from jaxnn.sharding._axes import sizes_in
from jaxnn.sharding._checks import Rule, names_of, parts_of
from jaxnn.sharding._rules import specs
from jaxnn.types import Arrays, Params, State

HEADER = ("layer", "output", "params", "bytes", "FLOPs")
KEPT = ("kept",)
ON_MESH = ("bytes/device", "sharding")
LEFT = {"layer", "output", "sharding"}  # columns of text


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


class Part(NamedTuple):
    """One layer of a `Summary` on a mesh.

    Attributes:
      bytes: bytes on each device of params and state in the layer and in its sublayers.
      specs: PartitionSpec of each param of the layer itself, by name.
    """

    bytes: int
    specs: dict[str, PartitionSpec]


class Summary(NamedTuple):
    """Layers of a model in the order in which they run, and the total. Prints as a table.

    Attributes:
      rows: one `Row` per layer.
      total: `Row` of the whole model.
      parts: one `Part` for each row and for the total; empty without a mesh.
      kept: bytes kept for the backward pass, for each row and for the total; empty without `train`.
    """

    rows: tuple[Row, ...]
    total: Row
    parts: tuple[Part, ...] = ()
    kept: tuple[int, ...] = ()

    def _table(self) -> list[tuple[str, ...]]:
        """The cells of all lines, the header first."""
        lines = [HEADER, *map(_cells, (*self.rows, self.total))]
        if self.kept:
            lines = _beside(lines, [KEPT, *((_number(n),) for n in self.kept)])
        return _beside(lines, [ON_MESH, *map(_cells_on_mesh, self.parts)]) if self.parts else lines

    def __str__(self) -> str:
        cells = self._table()
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(c.ljust(w) if of in LEFT else c.rjust(w) for c, w, of in zip(row, widths, cells[0], strict=True))
            for row in cells
        ]
        rule = "─" * len(lines[0])
        return "\n".join(line.rstrip() for line in [lines[0], rule, *lines[1:-1], rule, lines[-1]])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        header, *lines, total = self._table()

        def line(cells: tuple[str, ...], tag: str) -> str:
            style = ' style="text-align:left;white-space:pre"'
            pairs = zip(cells, header, strict=True)
            row = "".join(f"<{tag}{style if of in LEFT else ''}>{html.escape(c)}</{tag}>" for c, of in pairs)
            return f"<tr>{row}</tr>"

        return f"<table>{line(header, 'th')}{''.join(line(row, 'td') for row in lines)}{line(total, 'th')}</table>"


def summary(
    model: Layer,
    x: Arrays,
    *,
    train: bool = False,
    mesh: Mesh | str | None = None,
    rules: Rule | Sequence[Rule] = (),
) -> Summary:
    """Table of a model for an input like `x`: path, output, params, bytes and FLOPs of each layer.

    Only shapes are computed. FLOPs are those of one forward pass with `train=False`, counted on the traced program: 2
    for each multiply-add of a matrix product or convolution, 1 for each element of any other arithmetic. Every copy in
    a `repeat` counts.

    Args:
      model: layer to describe.
      x: array or `ShapeDtypeStruct` of the input's shape, batch axis included, or a pytree of them.
      train: True adds the bytes of the values that each layer keeps from the forward to the backward pass of a gradient
        with respect to the params, for all of x. `remat` and its policies reduce them. Params and x themselves, and
        values in the memory of the host, do not count. XLA may keep less: it recomputes cheap values.
      mesh: adds the bytes on each device and the sharding of each param, as `nn.shard` places them: a mesh, or its axes
        as for `nn.mesh`, of devices that need not exist.
      rules: rules of `nn.shard`.

    Returns:
      `Summary`, a named tuple of rows that prints as a table.

    Raises:
      TypeError: if `model` is neither a layer nor a function, x contains leaves that are not arrays, or a rule is none.
      ValueError: as `nn.shard`, if a rule does not fit the params.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> nn.summary(nn.serial(nn.dense(16), nn.relu, nn.dense(2)), jax.ShapeDtypeStruct((8, 4), jnp.float32))
    layer    output          params  bytes  FLOPs
    ─────────────────────────────────────────────
    dense    float32[8, 16]      80    320  1 152
    relu     float32[8, 16]       0      0    128
    dense_1  float32[8, 2]       34    136    528
    ─────────────────────────────────────────────
    total    float32[8, 2]      114    456  1 808
    >>> print(nn.summary(nn.dense(512), jax.ShapeDtypeStruct((8, 64), jnp.float32), mesh="data=8",
    ...     rules=nn.sharding.fsdp()))
    layer  output           params    bytes    FLOPs  bytes/device  sharding
    ─────────────────────────────────────────────────────────────────────────────────────
    ─────────────────────────────────────────────────────────────────────────────────────
    total  float32[8, 512]  33 280  133 120  528 384        16 640  b [data], w [-, data]
    """
    model = as_layer(model, "summary")
    check.flags("summary", train=train)
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
        size = sum(map(bytes_of, stored))
        return Row(label, describe(y), sum(prod(p.shape) for p in held), size, _inside(flops, path))

    table = Summary(tuple(row(path, path, y) for path, y in watch.seen.items()), row("", "total", output))
    if train:
        of = kept_in(model, params, state, x)
        table = table._replace(kept=(*(_inside(of, row.path) for row in table.rows), sum(of.values())))
    return table if mesh is None else table._replace(parts=_parts(table, params, mesh, rules))


def _inside(of: dict[str, int], path: str) -> int:
    """Sum over the layer at a path and the layers in it."""
    return sum(n for scope, n in of.items() if not path or f"{scope}/".startswith(f"{path}/"))


def _parts(table: Summary, params: Params, mesh: Mesh | str, rules: Rule | Sequence[Rule]) -> tuple[Part, ...]:
    sizes = sizes_in("summary", mesh)
    of, shapes = specs("summary", params, sizes, rules), jax.tree.leaves(params)
    saved = {
        path: bytes_of(p) - bytes_of(p) // parts_of(spec, sizes)
        for (path, spec), p in zip(of.items(), shapes, strict=True)
    }
    owners: dict[str, dict[str, PartitionSpec]] = {row.path: {} for row in table.rows}
    whole: dict[str, PartitionSpec] = {}
    for path, spec in of.items():
        owner = max((row for row in owners if path.startswith(f"{row}/")), key=len, default=None)
        if owner is None:
            whole[path] = spec
        else:
            owners[owner][path.removeprefix(f"{owner}/")] = spec
    inside = [sum(n for path, n in saved.items() if path.startswith(f"{row.path}/")) for row in table.rows]
    parts = [Part(row.bytes - n, owners[row.path]) for row, n in zip(table.rows, inside, strict=True)]
    return (*parts, Part(table.total.bytes - sum(saved.values()), whole))


def _beside(lines: list[tuple[str, ...]], more: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [line + end for line, end in zip(lines, more, strict=True)]


def _cells(row: Row) -> tuple[str, ...]:
    depth = row.path.count("/")
    name = "  " * depth + row.path.rsplit("/", 1)[-1]
    return (name, row.output, *map(_number, row[2:]))


def _cells_on_mesh(part: Part) -> tuple[str, str]:
    texts = (f"{name} [{', '.join(map(_axes, spec))}]" for name, spec in part.specs.items())
    return _number(part.bytes), ", ".join(texts)


def _axes(axes: Any) -> str:
    return "·".join(names_of(axes)) or "-"


def _number(n: int) -> str:
    return f"{n:,}".replace(",", " ")


def _at(tree: Params, path: str) -> Arrays:
    for name in path.split("/") if path else ():
        tree = tree.get(name, {})
    return tree


def _count(jaxpr: Any, scope: str, times: int, flops: dict[str, int]) -> None:
    """Adds the FLOPs of a program to `flops`, by the scope (layer path) of each operation."""
    for eqn in jaxpr.eqns:
        names = str(eqn.source_info.name_stack).replace("vmap(", "").replace(")", "")  # vmap(experts)/up
        inner = "/".join(filter(None, (scope, *names.split("/"))))
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
