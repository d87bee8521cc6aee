"""Selection of weights in params, by name or by glob patterns of their paths, for regularizers and constraints."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jaxnn import _checks as check
from jaxnn._dtypes import widened
from jaxnn._errors import invalid
from jaxnn._paths import globs, matching, path_tree
from jaxnn.types import Arrays, Params

Where = str | Sequence[str] | None


def patterns_of(name: str, where: Where) -> tuple[str, ...] | None:
    """The glob patterns of `where`; None for the weights."""
    patterns = None if where is None else globs(name, "where", where)
    if patterns == ():
        raise invalid(name, "at least one pattern in where", told="none", fix="Leave where out for the weights.")
    return patterns


def chosen(name: str, params: Params, patterns: tuple[str, ...] | None) -> Arrays:
    """Tree of bools: True for leaves whose path matches, by default those named `w` or `w_...`."""
    if patterns is not None:
        return matching(name, params, patterns)
    paths = path_tree(params)
    weights = jax.tree.map(lambda path: (path.rpartition("/")[2] + "_").startswith("w_"), paths)
    if not any(jax.tree.leaves(weights)):
        got = ", ".join(jax.tree.leaves(paths)) or "no params"
        raise invalid(name, "a param named w or w_...", told=got, fix="Say which ones are meant by where=patterns.")
    return weights


def wide(name: str, path: str, w: Arrays) -> Array:
    """Param in at least float32; raises TypeError, with its path, if it is not real floating."""
    check.kind(f"{name} at {path}", "a param", w, "floating", "Leave it out by where=patterns.")
    return widened(jnp.asarray(w))
