"""Params of a run: given ones in place of drawn ones, and frozen ones apart from trained ones."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn._errors import describe, invalid, wrong_type
from jaxnn.types import Arrays, Params, State

LISTED = 4  # differences named in an error


def begun_with(role: str, drawn: Params, given: Any) -> Params:
    """`drawn` with the arrays of `given` in place of its own; paths missing in `given` stay as drawn.

    For example, a trained backbone leaves the head as drawn.

    Args:
      role: "params" or "state", for errors.
      drawn: nested dict of arrays from `model.init`.
      given: nested dict of arrays, or None.

    Raises:
      TypeError: if `given` is not a nested dict.
      ValueError: if it has a path, shape or dtype that the model does not have.

    >>> begun_with("params", {"a": jnp.zeros(2), "b": {"w": jnp.zeros(1)}}, {"b": {"w": jnp.ones(1)}})["b"]["w"].item()
    1.0
    """
    if given is None:
        return drawn
    if not isinstance(given, dict):
        raise wrong_type("trainer", f"{role} to be a nested dict of arrays, as init makes them", given)
    differences: list[str] = []
    whole = _over(drawn, given, "", differences)
    if differences:
        more = f" and {len(differences) - LISTED} more" if len(differences) > LISTED else ""
        fix = f"{role} may lack paths of the model, not have others. Compare them with those of model.init."
        got = "; ".join(differences[:LISTED]) + more
        raise invalid("trainer", f"{role} with paths, shapes and dtypes of the model", told=got, fix=fix)
    return whole


def _over(drawn: Params, given: Params, prefix: str, differences: list[str]) -> Params:
    whole = dict(drawn)
    for name, node in given.items():
        path, own = f"{prefix}{name}", drawn.get(name)
        if isinstance(node, dict) and (isinstance(own, dict) or not node):
            whole |= {name: _over(own, node, f"{path}/", differences)} if own is not None else {}
        elif isinstance(node, dict) or isinstance(own, dict) or own is None:
            have = "nothing" if own is None else "a dict" if isinstance(own, dict) else describe(own)
            differences.append(f"{'a dict' if isinstance(node, dict) else describe(node)} where {have} is, at {path}")
        elif _kind(node) != _kind(own):
            differences.append(f"{describe(node)} where {describe(own)} is, at {path}")
        else:
            whole[name] = jnp.asarray(node)
    return whole


def _kind(x: Arrays) -> tuple[Any, ...]:
    return jnp.shape(x), jax.dtypes.canonicalize_dtype(getattr(x, "dtype", type(x)))


def split_off(params: Params, patterns: tuple[str, ...], prefix: str = "") -> tuple[Params, State]:
    """Params as two nested dicts, trained and frozen, without empty dicts."""
    trained: Params = {}
    frozen: Params = {}
    for name, node in params.items():
        path = f"{prefix}{name}"
        if isinstance(node, dict):
            for kept, part in zip((trained, frozen), split_off(node, patterns, f"{path}/"), strict=True):
                if part:
                    kept[name] = part
        else:
            (frozen if any(fnmatchcase(path, p) for p in patterns) else trained)[name] = node
    return trained, frozen


def merged(a: Params, b: Params) -> Params:
    """Both parts as one; the inverse of `split_off`."""
    both = {name: merged(a[name], b[name]) for name in a.keys() & b.keys()}
    return {**a, **b, **both}
