"""Selection of a tree's leaves by glob patterns of their paths, such as `stem/conv/w`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from fnmatch import fnmatchcase
from typing import Any

import jax

from jaxnn._errors import describe, invalid, wrong_type
from jaxnn.types import Arrays, Params

LISTED = 12  # number of paths listed in an error


def path_tree(tree: Arrays) -> Any:
    """Tree with each leaf replaced by its path. Nodes without leaves, such as optax.MaskedNode, are kept.

    >>> path_tree({"stem": {"w": 1.0, "b": 2.0}})
    {'stem': {'b': 'stem/b', 'w': 'stem/w'}}
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: jax.tree_util.keystr(path, simple=True, separator="/"), tree
    )


def first_difference(a: Arrays, b: Arrays) -> tuple[str, str, str] | None:
    """First path at which two trees differ in dtype or shape, and the leaf of each tree there; None if there is none.

    >>> first_difference({"w": np.zeros(2)}, {"w": np.zeros(3), "x": 1})
    ('w', 'float64[2]', 'float64[3]')
    """
    first, second = (
        {jax.tree_util.keystr(path, simple=True, separator="/"): describe(leaf) for path, leaf in leaves}
        for leaves in map(jax.tree_util.tree_leaves_with_path, (a, b))
    )
    for path in sorted(first.keys() | second.keys()):
        if first.get(path) != second.get(path):
            return path, first.get(path, "nothing"), second.get(path, "nothing")
    return None


def globs(where: str, argument: str, patterns: str | Sequence[str]) -> tuple[str, ...]:
    """Pattern or patterns as a tuple. Raises TypeError if they are not strings.

    >>> globs("trainer", "frozen", "stem/*")
    ('stem/*',)
    """
    if isinstance(patterns, str):
        return (patterns,)
    if not isinstance(patterns, Sequence) or not all(isinstance(pattern, str) for pattern in patterns):
        fix = "A pattern is a str such as 'stem/*'."
        raise wrong_type(where, f"{argument} to be a glob pattern or several", patterns, fix)
    return tuple(patterns)


def matching(where: str, tree: Arrays, patterns: str | Sequence[str], *, argument: str = "where") -> Arrays:
    """Tree of bools shaped like `tree`: True for leaves whose path matches a pattern, as in `fnmatchcase`.

    In a pattern `*` matches any characters, including `/`; `?` matches one character; `[ab]` matches one of these.
    Matching is case-sensitive.

    Args:
      where: function that the patterns were passed to, for errors.
      tree: pytree, usually of params.
      patterns: glob pattern or patterns.
      argument: argument that the patterns were passed to, for errors.

    Raises:
      TypeError: if a pattern is not a string.
      ValueError: if a pattern matches no path, unless the tree has no leaves.

    >>> matching("l2", {"stem": {"w": 1.0, "b": 2.0}, "head": {"w": 3.0}}, "stem/*")
    {'head': {'w': False}, 'stem': {'b': True, 'w': True}}
    """
    patterns = globs(where, argument, patterns)
    paths = path_tree(tree)
    known = jax.tree.leaves(paths)
    for pattern in patterns:
        if known and not any(fnmatchcase(path, pattern) for path in known):
            inside = f"{pattern.rstrip('/')}/*"
            fix = f"Write {inside!r} for all of it." if any(fnmatchcase(path, inside) for path in known) else ""
            some = ", ".join(known[:LISTED]) + (f", ... {len(known) - LISTED} more" if len(known) > LISTED else "")
            raise invalid(where, f"{argument} to match some of {some}", pattern, fix)
    return jax.tree.map(lambda path: any(fnmatchcase(path, pattern) for pattern in patterns), paths)


_WHOLE: ContextVar[Any] = ContextVar("jaxnn_whole_params", default=None)


@contextmanager
def part_of(whole: Arrays) -> Iterator[None]:
    """Tells optimizers called inside that their params are part of `whole`, a nested dict; the rest is frozen."""
    token = _WHOLE.set(whole)
    try:
        yield
    finally:
        _WHOLE.reset(token)


def whole_of(params: Params) -> Arrays:
    """The params that `params` are a part of (see `part_of`), or `params`."""
    whole = _WHOLE.get()
    return params if whole is None else whole


def cut(tree: Arrays, part: Arrays) -> Arrays:
    """`tree`, a nested dict or a prefix of one, without the keys that `part` lacks.

    >>> cut({"stem": False, "head": {"w": True, "b": False}}, {"head": {"w": 1.0}})
    {'head': {'w': True}}
    """
    if not (isinstance(tree, dict) and isinstance(part, dict)):
        return tree
    return {name: cut(tree[name], node) for name, node in part.items() if name in tree}
