"""Rules that rewrite the names of a file to paths of a model, and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from jaxnn._errors import invalid, is_function, wrong_type

Pairs = Mapping[str, str | None] | Sequence[tuple[str, str | None]]
Names = Pairs | Callable[[str], str | None] | None

FIELD = re.compile(r"\{(\d+)([+-]\d+)?\}")


class Place(NamedTuple):
    """A place in a model.

    Attributes:
      path: path of a layer and a weight inside it, or of a param.
      at: numbers of the copies of `repeat` on the way, written as `block[3]`.
      transposed: the matrix in the file is transposed, compared with the layout.
    """

    path: str
    at: tuple[int, ...] = ()
    transposed: bool = False


class Rule(NamedTuple):
    """A rule: the whole components at the beginning of a name that fit `pattern` are replaced by `target`.

    Attributes:
      pattern: pattern of components, in which each `*` is a run of characters of a component; "" fits every name.
      target: the path, with {1}, {2}, ... for the runs and {1+1} for a number; None leaves the weight out.
    """

    pattern: str
    target: str | None

    def regex(self) -> str:
        """Regular expression of the pattern, with a group for each run and one for the rest of the name."""
        parts = (re.escape(part).replace(r"\*", "([^/]+)") for part in plain(self.pattern).split("/"))
        return f"{'/'.join(parts)}(?:/(.*))?" if self.pattern else "(.*)"

    def forward(self, name: str) -> tuple[bool, str | None]:
        """(True, the path) if the rule applies to the name."""
        match = re.fullmatch(self.regex(), name)
        if match is None or self.target is None:
            return match is not None, None
        runs, rest = match.groups()[:-1], match.groups()[-1]

        def filled(field: re.Match[str]) -> str:
            run = runs[int(field[1]) - 1]
            return run if field[2] is None else str(int(run) + int(field[2]))

        target, mark = re.subn(r"\.T$", "", self.target)
        path = "/".join(filter(None, (FIELD.sub(filled, target), rest)))
        return True, path + (".T" if mark else "")

    def backward(self, path: str, at: tuple[int, ...]) -> tuple[str, int] | None:
        """The name that the rule rewrites to the path at these copies, and the number of components left over."""
        if self.target is None:
            return None
        target = re.sub(r"\.T$", "", self.target)
        regex, fields = "", []
        for i, piece in enumerate(re.split(r"(\{\d+(?:[+-]\d+)?\})", target)):
            field = FIELD.fullmatch(piece) if i % 2 else None
            if field is not None:
                fields.append((int(field[1]), int(field[2] or 0)))
            regex += re.escape(piece) if field is None else r"(\d+)" if field[2] else "([^/]+?)"
        for component, i in zip(re.findall(r"[^/]*\[[^\]]*\]", target), at, strict=False):
            path = _indexed(path, component.partition("[")[0], i)
        match = re.fullmatch(f"{regex}(?:/(.*))?" if target else "(.*)", path)
        if match is None or path.count("[") != len(at):
            return None
        *found, rest = match.groups()
        runs = {
            number: str(int(run) - shift) if run.isdigit() else run
            for (number, shift), run in zip(fields, found, strict=True)
        }
        if set(runs) != set(range(1, self.pattern.count("*") + 1)):
            return None
        numbers = iter(sorted(runs))
        head = re.sub(r"\*", lambda _: runs[next(numbers)], plain(self.pattern))
        return "/".join(filter(None, (head, rest))), len(rest.split("/")) if rest else 0


def _indexed(path: str, stem: str, i: int) -> str:
    """The path with a number behind the first component that fits `stem`, which may contain fields."""
    fitted = "".join("[^/]+" if k % 2 else re.escape(p) for k, p in enumerate(re.split(r"(\{[^}]*\})", stem)))
    return re.sub(rf"(^|/)({fitted})(?=/|$)", rf"\1\2[{i}]", path, count=1)


def plain(name: str) -> str:
    """A name with `/` between its components, without the `:0` of TensorFlow."""
    return re.sub(r":\d+$", "", name).replace(".", "/")


def rules_of(where: str, names: Names) -> list[Rule] | Callable[[str], str | None]:
    """Rules as a list; a function unchanged. Raises for anything else, and for a field without a run."""
    if names is None:
        return []
    if is_function(names):
        return names
    pairs = list(names.items()) if isinstance(names, Mapping) else names
    if not (
        isinstance(pairs, list | tuple)
        and all(isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs)
        and all(isinstance(target, str | None) for _, target in pairs)
    ):
        raise wrong_type(where, "names to map patterns to paths or None, or a function of a name", names)
    rules = [Rule(pattern, target) for pattern, target in pairs]
    for rule in rules:
        fields = [int(field[0]) for field in FIELD.findall(rule.target or "")]
        count = rule.pattern.count("*")
        if any(not 1 <= field <= count for field in fields):
            fix = f"The pattern {rule.pattern!r} has {count} of *."
            raise invalid(where, f"fields {{1}} to {{{count}}} in a rule's path", rule.target, fix)
    return rules


def place_of(name: str, rules: list[Rule] | Callable[[str], str | None]) -> Place | None:
    """The place of a weight; None if a rule leaves it out."""
    path: str | None = plain(name)
    if not isinstance(rules, list):
        path = rules(name)
    else:
        for rule in rules:
            applies, target = rule.forward(plain(name))
            if applies:
                path = target
                break
    if path is None:
        return None
    path, mark = re.subn(r"\.T$", "", path)
    at = tuple(int(i) for i in re.findall(r"\[(\d+)\]", path))
    return Place(re.sub(r"\[\d+\]", "", path), at, bool(mark))
