"""Matches of the weights of a file with the params of a model, and the arrays of both sides."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import _checks as check
from jaxnn._errors import describe, invalid
from jaxnn._layer import Layer
from jaxnn._sketch import structs
from jaxnn.interop._layouts import entries_of
from jaxnn.interop._names import Names, Place, Rule, place_of, plain, rules_of
from jaxnn.interop._turns import Entry, Part, Turn
from jaxnn.interop._units import Leaf, Tree, Unit, shapes_of, units_of
from jaxnn.types import Arrays, Params, State

Flatten = Mapping[str, tuple[int, ...] | None] | None
Covered = dict[tuple[int, str], np.ndarray]  # a bool for each column of a leaf and each copy

LAYOUTS = ("torch", "keras", "flax", "onnx")
COLLECTIONS = ("params", "batch_stats")  # of flax, for params and state
NO_RULE = 1000  # more than the components of any name


class Match(NamedTuple):
    """A weight of a file and the params that it holds.

    Attributes:
      name: its name in the file.
      paths: paths of the params, separated by commas.
      shape: its shape in the file.
      target: shape of the params, that of all copies of a `repeat` included.
      turn: the rearrangement, such as "transposed 2, 3, 1, 0"; "" for none.
    """

    name: str
    paths: str
    shape: tuple[int, ...]
    target: tuple[int, ...]
    turn: str


class Plan(NamedTuple):
    """Matches between the weights of a file and the params and state of a model. Prints as a table.

    Attributes:
      matches: weights and the params that they hold.
      misfits: pairs of the name of a weight and the reason for which it does not fit its param.
      unused: names of weights without a param.
      missing: paths of params and state without a weight.
      left_out: names of weights that the rules leave out, and counters of batches.
    """

    matches: tuple[Match, ...]
    misfits: tuple[tuple[str, str], ...]
    unused: tuple[str, ...]
    missing: tuple[str, ...]
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        rows = [("weight", "param", "shape", "param's shape", "turn")]
        rows += [(m.name, m.paths, str(list(m.shape)), str(list(m.target)), m.turn) for m in self.matches]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.insert(1, "─" * max(map(len, lines)))
        for title, names in (
            ("does not fit", tuple(f"{name}: {reason}" for name, reason in self.misfits)),
            ("weight without a param", self.unused),
            ("param without a weight", self.missing),
            ("left out", self.left_out),
        ):
            lines += [f"{title}: {name}" for name in names]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)


class Work(NamedTuple):
    """A weight of a file with the entry that describes it, and its place in the model."""

    name: str
    unit: Unit
    entry: Entry
    place: Place

    def turned(self, a: np.ndarray) -> np.ndarray:
        """The array of the file in the layout of the layer, with the axes of copies unless it is of one copy."""
        copies = () if self.place.at else self.unit.stack
        if self.place.transposed and a.ndim == len(copies) + 2:
            a = np.swapaxes(a, -1, -2)
        turned = [self.entry.turn(each) for each in a.reshape((prod(copies), *self.entry.shape))]
        return np.stack(turned).reshape((*copies, *(self.entry.turn.joined or (1,))))

    def back(self, a: np.ndarray) -> np.ndarray:
        """The inverse of `turned`, of the shape in the file."""
        copies = () if self.place.at else self.unit.stack
        back = [self.entry.turn.back(each) for each in a.reshape((prod(copies), *self.entry.turn.joined))]
        a = np.stack(back).reshape((*copies, *self.entry.shape))
        if self.place.transposed and a.ndim == len(copies) + 2:
            a = np.swapaxes(a, -1, -2)
        return np.ascontiguousarray(a)

    def regions(self) -> Iterator[tuple[Leaf, Part, Any, slice]]:
        """For each part: its leaf, its place in the leaf's array and its columns in the turned weight."""
        first = 0
        for part in self.entry.parts:
            at = (*self.place.at, ..., slice(part.start, part.start + part.size))
            yield self.unit.own[part.param], part, at, slice(first, first + part.size)
            first += part.size

    def misfit(self, a: Any) -> str:
        """The reason for which an array does not fit; "" if it does."""
        shape, unit = tuple(a.shape), self.unit
        if not jnp.issubdtype(a.dtype, jnp.floating):
            return f"{describe(a)} is not floating"
        if self.place.at and not (
            len(self.place.at) == len(unit.stack) and all(i < n for i, n in zip(self.place.at, unit.stack, strict=True))
        ):
            return f"no copy {list(self.place.at)} of {list(unit.stack)}"
        copies = () if self.place.at else unit.stack
        inner = shape[len(copies) :]
        if self.place.transposed and len(inner) == 2:
            inner = inner[::-1]
        if shape[: len(copies)] != copies or not self.entry.fits(inner):
            expected = self.entry.shape
            if self.place.transposed and len(expected) == 2:
                expected = expected[::-1]
            paths = ", ".join(dict.fromkeys(unit.own[part.param].path for part in self.entry.parts))
            return f"{list(shape)}, but {paths} needs {[*copies, *expected]}"
        return ""


class Matcher(NamedTuple):
    """The weights that a model has in a layout.

    Attributes:
      x: shapes of the input.
      shapes: shapes of params and state.
      layout: name of the layout.
      units: layers with params, and the entries of their weights.
      places: unit and entry by the path of a layer and a name of a weight inside it.
      direct: unit and entry by the path of a param.
      leaves: leaves by tree and path.
      stacks: axes of copies of each leaf.
      known: leaves for which the layout has a weight.
    """

    x: Any
    shapes: Tree
    layout: str
    units: list[tuple[Unit, list[Entry]]]
    places: dict[str, tuple[Unit, Entry]]
    direct: dict[str, tuple[Unit, Entry]]
    leaves: dict[tuple[int, str], Leaf]
    stacks: dict[tuple[int, str], tuple[int, ...]]
    known: set[tuple[int, str]]

    @classmethod
    def of(cls, where: str, model: Layer, x: Arrays, layout: str, flatten: Flatten) -> Matcher:
        check.choice(where, "layout", layout, LAYOUTS)
        flat = dict(flatten or {})
        shapes = shapes_of(model, x)
        match = cls(structs(where, x), shapes, layout, [], {}, {}, {}, {}, set())
        for unit in units_of(model, x, shapes):
            unit = unit._replace(flat=flat.pop(unit.path)) if unit.path in flat else unit
            entries = entries_of(unit, layout)
            match.units.append((unit, entries))
            match.places.update(
                {f"{unit.path}/{name}".lstrip("/"): (unit, entry) for entry in entries for name in entry.names}
            )
            of_entries = (unit.own[part.param] for entry in entries for part in entry.parts)
            match.known.update((leaf.tree, leaf.path) for leaf in of_entries)
            for path, leaf in unit.own.items():
                size = leaf.shape[-1] if leaf.shape else 1
                own = Entry((path,), leaf.shape, Turn.none(leaf.shape), (Part(path, size),))
                entry = next((e for e in entries if e.parts == own.parts), own)
                match.leaves[leaf.tree, leaf.path] = leaf
                match.stacks[leaf.tree, leaf.path] = unit.stack
                match.direct[leaf.path] = unit, entry
        if flat:
            raise invalid(where, "flatten to name layers with params", told=", ".join(map(repr, flat)))
        return match

    def named(self, name: str, rules: list[Rule] | Callable[[str], str | None]) -> tuple[Place | None, Any]:
        """The place of a weight, None if it is left out, and its unit and entry, None if there are none."""
        if self.layout == "flax":
            name = re.sub(rf"^({'|'.join(COLLECTIONS)})[./]", "", name)
        place = place_of(name, rules)
        if place is None or (self.layout == "torch" and plain(name).split("/")[-1] == "num_batches_tracked"):
            return None, None
        return place, self.places.get(place.path) or self.direct.get(place.path)

    def plan(self, where: str, weights: Mapping[str, Any], names: Names) -> tuple[Plan, list[Work]]:
        """The plan, and the weights that fit."""
        rules = rules_of(where, names)
        work, matches, misfits, unused, left_out = [], [], [], [], []
        bad: set[tuple[int, str]] = set()
        covered = {key: self._columns(key) for key in self.leaves}
        shapes = getattr(weights, "shapes", weights)  # of a file, without reading it
        for name in weights:
            place, found = self.named(name, rules)
            if place is None:
                left_out.append(name)
            elif found is None:
                unused.append(name)
            else:
                one = Work(name, found[0], found[1], place)
                reason = one.misfit(shapes[name]) or _taken(one, covered)
                if reason:
                    bad.update((leaf.tree, leaf.path) for leaf, *_ in one.regions())
                    misfits.append((name, reason))
                else:
                    _cover(one, covered)
                    work.append(one)
                    matches.append(self._row(one, shapes[name]))
        missing = tuple(
            leaf.path
            for key, leaf in self.leaves.items()
            if not covered[key].all() and self._is_weight(leaf) and key not in bad
        )
        return Plan(tuple(matches), tuple(misfits), tuple(unused), missing, tuple(left_out)), work

    def values(self, weights: Mapping[str, Any], work: list[Work]) -> dict[tuple[int, str], np.ndarray]:
        """Arrays of the leaves for which there are weights."""
        values: dict[tuple[int, str], np.ndarray] = {}
        second = []
        for one in work:
            turned = one.turned(np.asarray(weights[one.name]))
            for leaf, part, at, columns in one.regions():
                key = leaf.tree, leaf.path
                shape = (*self.stacks[key], *(leaf.shape or (1,)))
                value = values.setdefault(key, np.zeros(shape, leaf.dtype))
                own = turned[..., columns].astype(leaf.dtype)
                if part.adds:
                    second.append((value, at, own))
                else:
                    value[at] = own
        for value, at, own in second:
            value[at] += own
        return values

    def trees(self, values: dict[tuple[int, str], np.ndarray], drawn: Tree) -> Tree:
        """Params and state from values, and from those drawn for the others."""

        def tree(i: int) -> Any:
            of_drawn = {leaf.path: a for leaf, a in _with_paths(i, drawn[i])}
            made = []
            for leaf, struct in _with_paths(i, self.shapes[i]):
                value = values.get((i, leaf.path))
                made.append(of_drawn[leaf.path] if value is None else jnp.asarray(value.reshape(struct.shape)))
            return jax.tree.unflatten(jax.tree.structure(self.shapes[i]), made)

        return tree(0), tree(1)

    def weights(self, where: str, params: Params, state: State, rules: list[Rule]) -> dict[str, np.ndarray]:
        """Weights of a file from params and state."""
        arrays = {}
        for i, given in enumerate((params, state)):
            for leaf, a in _with_paths(i, given):
                arrays[i, leaf.path] = np.asarray(a)
        for key, leaf in self.leaves.items():
            shape = (*self.stacks[key], *leaf.shape)
            if key not in arrays or arrays[key].shape != shape:
                got = describe(arrays[key]) if key in arrays else "none"
                raise invalid(where, f"{leaf.path} of shape {list(shape)}", told=got)
        covered = {key: self._columns(key) for key in self.leaves}
        found = {}
        for unit, entries in self.units:
            candidates = [self._written(unit, entry, rules) for entry in entries]
            chosen = []
            for i in sorted(range(len(entries)), key=lambda i: (candidates[i][0], not entries[i].written, i)):
                rest, works = candidates[i]
                if (rest < NO_RULE or entries[i].written) and not any(_taken(one, covered) for one in works):
                    chosen.append(i)
                    for one in works:
                        _cover(one, covered)
            for i in sorted(chosen):
                found.update({one.name: self._stored(one, arrays) for one in candidates[i][1] if one.name})
        for key, leaf in self.leaves.items():
            if not covered[key].any() and self._is_weight(leaf):
                unit, entry = self.direct[leaf.path]
                _, works = self._written(unit, entry, rules)
                found.update({one.name: self._stored(one, arrays) for one in works if one.name})
        return found

    def _columns(self, key: tuple[int, str]) -> np.ndarray:
        """A bool for each column of a leaf, the last axis, and each copy."""
        return np.zeros((*self.stacks[key], *(self.leaves[key].shape[-1:] or (1,))), bool)

    def _is_weight(self, leaf: Leaf) -> bool:
        """True for params, and for state of which files have weights: not for caches and counts."""
        return leaf.tree == 0 or (leaf.tree, leaf.path) in self.known

    def _row(self, one: Work, a: Any) -> Match:
        paths = tuple(dict.fromkeys(leaf.path for leaf, *_ in one.regions()))
        inside = "".join(f"[{i}]" for i in one.place.at)
        leaf = next(leaf for leaf, *_ in one.regions())
        turn = str(one.entry.turn)
        if one.place.transposed and len(one.entry.shape) == 2:
            turn = "" if turn == "transposed 1, 0" else "transposed 1, 0"
        target = (*(() if one.place.at else one.unit.stack), *leaf.shape)
        return Match(one.name, ", ".join(f"{path}{inside}" for path in paths), tuple(a.shape), target, turn)

    def _written(self, unit: Unit, entry: Entry, rules: list[Rule]) -> tuple[int, list[Work]]:
        """Weights of a file for an entry, of each copy or of all, and the length of the rest of a name after a rule.

        A weight that is left out has the name "".
        """
        candidates = list(entry.names)
        if len(entry.parts) == 1:
            candidates.append(entry.parts[0].param)
        best: tuple[int, list[Work]] | None = None
        for copies in ([()], list(product(*map(range, unit.stack)))) if unit.stack else ([()],):
            for candidate in candidates:
                path = f"{unit.path}/{candidate}".lstrip("/")
                named = [self._named_back(path, at, rules, unit, entry) for at in copies]
                of_param = candidate not in entry.names  # then a rule must name the param itself
                if all(named) and not (of_param and named[0][1]) and (best is None or named[0][1] < best[0]):
                    works = [
                        Work(name, unit, entry, Place(path, at, transposed))
                        for at, (name, _, transposed) in zip(copies, named, strict=True)
                    ]
                    best = named[0][1], works
        if best is not None:
            return best
        path = f"{unit.path}/{entry.names[0]}".lstrip("/")
        name = self._file_name(path, unit, entry)
        return NO_RULE, [Work(name if self._leads_to(name, rules, entry, ()) else "", unit, entry, Place(path))]

    def _named_back(self, path: str, at: tuple[int, ...], rules: list[Rule], unit: Unit, entry: Entry) -> Any:
        """Name, length of the rest and transposition by the first rule that leads back to the path."""
        for rule in rules:
            found = rule.backward(path, at)
            if found is None:
                continue
            name = self._file_name(found[0], unit, entry)
            if self._leads_to(name, rules, entry, at):
                return name, found[1], (rule.target or "").endswith(".T")
        return None

    def _leads_to(self, name: str, rules: list[Rule], entry: Entry, at: tuple[int, ...]) -> bool:
        place, found = self.named(name, rules)
        return place is not None and found is not None and found[1] is entry and place.at == at

    def _file_name(self, path: str, unit: Unit, entry: Entry) -> str:
        if self.layout == "flax":
            return f"{COLLECTIONS[unit.own[entry.parts[0].param].tree]}/{path}"
        return path if self.layout == "keras" else path.replace("/", ".")

    def _stored(self, one: Work, arrays: dict[tuple[int, str], np.ndarray]) -> np.ndarray:
        """The array of a weight in the layout of the file."""
        parts = []
        for leaf, part, at, _ in one.regions():
            a = arrays[leaf.tree, leaf.path]
            a = (a if leaf.shape else a[..., None])[at]
            parts.append(np.full_like(a, -0.0) if part.adds else a)  # x + -0.0 is x, also for -0.0
        return one.back(np.concatenate(parts, axis=-1))


def _places(one: Work, covered: Covered) -> Iterator[tuple[Leaf, np.ndarray]]:
    """The leaves that a weight fills, and the columns of each as a view of `covered`."""
    for leaf, part, at, _ in one.regions():
        if not part.adds:
            yield leaf, covered[leaf.tree, leaf.path][at]


def _taken(one: Work, covered: Covered) -> str:
    """The reason for which a weight has no place left, a leaf that another weight fills; "" if there is none."""
    taken = (leaf.path for leaf, columns in _places(one, covered) if columns.any())
    return next((f"another weight is {path}, too" for path in taken), "")


def _cover(one: Work, covered: Covered) -> None:
    """Marks the place of a weight as filled."""
    for _, columns in _places(one, covered):
        columns[...] = True


def _with_paths(i: int, tree: Any) -> list[tuple[Leaf, Any]]:
    """Leaves of a tree with their paths."""
    found = jax.tree_util.tree_leaves_with_path(tree)
    named = ((jax.tree_util.keystr(path, simple=True, separator="/"), a) for path, a in found)
    return [(Leaf(i, path, tuple(a.shape), a.dtype), a) for path, a in named]
