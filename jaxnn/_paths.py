"""Leaves of a tree by the glob patterns of their paths, `stem/conv/w`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from fnmatch import fnmatchcase
from typing import Any

import jax

from jaxnn._errors import describe, invalid, wrong_type

LISTED = 12  # paths that an error names


def path_tree(tree: Any) -> Any:
    """The tree with each leaf's path in its place. Nodes without leaves, such as optax.MaskedNode, stay as they are.

    >>> path_tree({"stem": {"w": 1.0, "b": 2.0}})
    {'stem': {'b': 'stem/b', 'w': 'stem/w'}}
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: jax.tree_util.keystr(path, simple=True, separator="/"), tree
    )


def first_difference(a: Any, b: Any) -> tuple[str, str, str] | None:
    """The first path at which two trees have other leaves, by dtype and shape, and what each has there; None if none.

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
    """One pattern or several as a tuple, or the error that says that they are no patterns.

    >>> globs("trainer", "frozen", "stem/*")
    ('stem/*',)
    """
    if isinstance(patterns, str):
        return (patterns,)
    if not isinstance(patterns, Sequence) or not all(isinstance(pattern, str) for pattern in patterns):
        fix = "A pattern is a str such as 'stem/*'."
        raise wrong_type(where, f"{argument} to be a glob pattern or several", patterns, fix)
    return tuple(patterns)


def matching(where: str, tree: Any, patterns: str | Sequence[str], *, argument: str = "where") -> Any:
    """A tree of bools shaped like `tree`: whether the path of a leaf matches some pattern, as `fnmatchcase` has it.

    In a pattern `*` is any run of characters, `/` among them, `?` is one, `[ab]` one of these; case counts.

    Args:
      where, argument: the function and the argument that the patterns were passed to, for errors.

    Raises ValueError for a pattern that matches no path, unless the tree has no leaves; TypeError for what is no
    pattern.

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
def part_of(whole: Any) -> Iterator[None]:
    """Tells the optimizers called inside that their params are a part of `whole`, a nested dict: others are frozen."""
    token = _WHOLE.set(whole)
    try:
        yield
    finally:
        _WHOLE.reset(token)


def whole_of(params: Any) -> Any:
    """The params that `params` are a part of, or themselves."""
    whole = _WHOLE.get()
    return params if whole is None else whole


def cut(tree: Any, part: Any) -> Any:
    """`tree`, a nested dict or a prefix of one, without the keys that `part` does not have.

    >>> cut({"stem": False, "head": {"w": True, "b": False}}, {"head": {"w": 1.0}})
    {'head': {'w': True}}
    """
    if not (isinstance(tree, dict) and isinstance(part, dict)):
        return tree
    return {name: cut(tree[name], node) for name, node in part.items() if name in tree}
