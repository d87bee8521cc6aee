"""Leaderboard: points and values of many runs as a table, best first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import _checks as check
from jaxnn._errors import invalid, wrong_type
from jaxnn.metrics._direction import direction
from jaxnn.types import Arrays


class Leaderboard(NamedTuple):
    """Table of plain Python values, best first; printing shows it as text.

    Attributes:
      columns: "row", the paths of the numbers in the points, and the name of the value.
      rows: for each member its row in the sweep, the numbers of its point, and its value.

    >>> import jaxnn as nn
    >>> found = nn.sweep(lambda p: {"loss": (p["x"] - 2) ** 2}, nn.points.grid(x=[0.0, 1.0, 2.0, 3.5]))
    >>> print(found.leaderboard("loss"))
    row    x  loss
      2    2     0
      1    1     1
      3  3.5  2.25
      0    0     4
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __str__(self) -> str:
        cells = [self.columns, *(tuple(map(_cell, row)) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return "\n".join("  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in cells)

    def __repr__(self) -> str:
        return str(self)


class Member(NamedTuple):
    """One member of a `Sweep`.

    Attributes:
      row: its index in the sweep.
      value: the value by which members are compared.
      point: its point.
      result: its result.

    >>> import jaxnn as nn
    >>> found = nn.sweep(lambda p: (p["x"] - 2) ** 2, nn.points.grid(x=[0.0, 1.0, 2.0, 3.0]))
    >>> best = found.best()
    >>> best.row, best.value, best.point["x"].item()
    (2, 0.0, 2.0)
    """

    row: int
    value: Any
    point: Arrays
    result: Any


def leaderboard(
    points: Arrays,
    results: Arrays,
    value: str | Callable[[Any], Any] | None,
    mode: str | None,
    numbers: np.ndarray | None = None,
) -> Leaderboard:
    """`Sweep.leaderboard`; `numbers` are the row numbers of the members, by default 0, 1, ..."""
    name, values, mode = _compared(points, results, value, mode)
    numbers = np.arange(len(values)) if numbers is None else numbers
    columns = {
        path or "point": np.asarray(leaf)
        for path, leaf in _leaves(points).items()
        if leaf.ndim == 1 and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    }
    wide = values.astype(np.float64)
    order = np.lexsort((wide if mode == "min" else -wide, np.isnan(wide)))
    rows = zip(*(c[order].tolist() for c in (numbers, *columns.values(), values)), strict=True)
    return Leaderboard(("row", *columns, name), tuple(rows))


def best_value(points: Arrays, results: Arrays) -> tuple[float, str]:
    """The best value, as `leaderboard` determines it, and the mode; NaN if all values are NaN."""
    _, values, mode = _compared(points, results, None, None)
    known = values[~np.isnan(values)]
    return float(getattr(known, mode)()) if known.size else float("nan"), mode


def _compared(points: Arrays, results: Arrays, value: Any, mode: str | None) -> tuple[str, np.ndarray, str]:
    """The name of the value, the values [n], and the mode, "min" or "max"."""
    check.choice("leaderboard", "mode", mode, ("min", "max", None))
    name, values = _valued(results, value, len(jax.tree.leaves(points)[0]))
    mode = mode or _direction(name, value, results, values)
    if mode is None:
        fix = (
            "It is known for the names in nn.metrics and nn.losses, and for the best_value of a run that monitors one."
        )
        raise invalid("leaderboard", f"mode='min' or mode='max' for {name}", told="none", fix=fix)
    return name, values, mode


def _direction(name: str, value: Any, results: Arrays, values: np.ndarray) -> str | None:
    """The mode of a value, "min" or "max", from its name; "min" for results that are one array; None if unknown.

    For "best_value" it is the mode of the metric in the run's history whose best values equal it.
    """
    leaves = _leaves(results)
    if name != "best_value" or callable(value):
        return "min" if "" in leaves and not callable(value) else None if callable(value) else direction(name)
    found = set()
    split = "valid" if any(path.startswith("history/valid/") for path in leaves) else "train"
    for path, history in leaves.items():
        which = direction(path.rsplit("/", 1)[-1])
        if path.startswith(f"history/{split}/") and which is not None:
            epochs = np.asarray(history, np.float64)
            epochs = epochs if split == "valid" else epochs.mean(-1)
            worst = np.inf if which == "min" else -np.inf
            best = getattr(np, which)(np.where(np.isnan(epochs), worst, epochs), axis=-1)
            if np.allclose(best, values, rtol=1e-4):
                found.add(which)
    return found.pop() if len(found) == 1 else None


def _valued(results: Arrays, value: str | Callable[[Any], Any] | None, n: int) -> tuple[str, np.ndarray]:
    """The name and the values [n] by which members are compared."""
    leaves = _leaves(results)
    if callable(value):
        name, found = "value", value(results)
    else:
        path = value if value is not None else "best_value" if "best_value" in leaves else min(leaves, default="")
        if path not in leaves or (value is None and path != "best_value" and len(leaves) > 1):
            some = ", ".join(path for path, leaf in leaves.items() if leaf.ndim == 1) or "none"
            fix = "Pass its path, or a function of results that gives an array."
            raise invalid(
                "leaderboard", f"value to name an array [{n}] in results", told=f"{value}; there are {some}", fix=fix
            )
        name, found = path.rsplit("/", 1)[-1] or "value", leaves[path]
    if jnp.shape(found) != (n,) or not jnp.issubdtype(jnp.result_type(found), jnp.number):
        raise wrong_type("leaderboard", f"value to be numbers, one for each member, [{n}]", found)
    return name, np.asarray(found)


def _leaves(tree: Arrays) -> dict[str, Any]:
    found = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in found}


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
