"""Checks of optimizers: their arguments, the gradients they are given, their state. Values of arrays are not read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import _checks as check
from jaxnn._errors import InvalidType, InvalidValue, describe, invalid, is_function, wrong_type
from jaxnn._inputs import known
from jaxnn.types import Arrays, OptState

POSITIVE = (0.0, math.inf, "()")
DECAY = (0.0, 1.0, "[)")
RANGES = {  # argument -> low, high, and whether the ends belong to it; any other argument is in [0, inf)
    **dict.fromkeys(("b1", "b2", "beta", "adam_b1", "adam_b2", "decay", "rho", "momentum", "eta_minus"), DECAY),
    "dampening": (0.0, 1.0, "[]"),
    "threshold": (4.0, math.inf, "[)"),
    "eta_plus": (1.0, math.inf, "[)"),
    **dict.fromkeys(("max_step_size", "clipping_threshold"), POSITIVE),
}


def check_numbers(name: str, **values: Any) -> None:
    """Raise unless each value is a number in the range of its argument, or a scalar array."""
    for argument, value in values.items():
        fix = "Schedule it with optax.inject_hyperparams." if is_function(value) else ""
        check.scalar(name, argument, value, *RANGES.get(argument, (0.0, math.inf, "[)")), fix=fix)


def check_flags(name: str, **values: Any) -> None:
    """Raise unless each value is a Python bool."""
    check.flags(name, "It is fixed when the optimizer is made.", **values)


def check_momentum(name: str, momentum: Any, nesterov: Any) -> None:
    """Raise unless `momentum` is None or in [0, 1), and set if `nesterov` is."""
    check_flags(name, nesterov=nesterov)
    if momentum is not None:
        check_numbers(name, momentum=momentum)
    elif nesterov:
        raise invalid(name, "momentum with nesterov=True", momentum, "Set momentum, or leave nesterov False.")


PRESETS = ("optax", "torch", "keras")


def check_preset(name: str, preset: Any, **given: bool) -> None:
    """Raise unless `preset` is known, and unless it is "optax" for arguments that the other libraries lack."""
    check.choice(name, "preset", preset, PRESETS)
    for argument in (argument for argument, is_set in given.items() if is_set and preset != "optax"):
        raise InvalidValue(name, f"preset={preset!r} has no option {argument}. Leave it out, or use preset='optax'.")


def check_dtype(name: str, argument: str, value: Any) -> None:
    """Raise unless `value` is None or a real floating dtype."""
    if value is not None:
        check.dtype(name, argument, value, "Pass jnp.float32 or the like, or None.")


def check_coefficients(name: str, value: Any, presets: Mapping[str, Any], steps: int) -> list[Any]:
    """Coefficients (a, b, c) of each step: those of a preset, one row for all steps, or a row for each."""
    if isinstance(value, str):
        check.choice(name, "ns_coeffs", value, tuple(presets))
        value = presets[value]
    leaves = jax.tree.leaves(value)
    try:
        array = np.asarray(value, np.float64) if all(map(known, leaves)) else jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise wrong_type(name, "ns_coeffs to be (a, b, c), or a sequence of them", value) from error
    if array.shape[-1:] != (3,) or array.ndim > 2 or not array.size:
        raise invalid(name, "ns_coeffs of shape [3] or [steps, 3]", value)
    return [tuple(row) for row in array] if array.ndim == 2 else [tuple(array)] * steps


def check_params(name: str, params: Arrays, of: str) -> None:
    """Raise unless `update` was called with params; `of` is the operation that needs them."""
    if params is None:
        raise invalid(name, "params", params, f"Call update(grads, state, params): {of} needs them.")


def check_line_search(name: str, params: Arrays, search: Any, given: Mapping[str, Any]) -> None:
    """Raise unless `update` got params and, for a line search, value, grad and value_fn."""
    check_params(name, params, "a quasi-Newton method")
    missing = [key for key in ("value", "grad", "value_fn") if given.get(key) is None]
    if search is not None and missing:
        fix = "Call update(grads, state, params, value=loss, grad=grads, value_fn=loss_of_params), or use nn.trainer."
        raise wrong_type(
            name, "value=, grad= and value_fn= for the line search", told=f"no {', '.join(missing)}", fix=fix
        )


# ---- trees

SAME = "Pass gradients of the tree that was given to init."


def inexact(name: str, what: str, tree: Arrays) -> Arrays:
    """`tree` with arrays as leaves; raises, naming the path, for a leaf that is neither floating nor complex."""
    for path, x in jax.tree_util.tree_leaves_with_path(tree):
        if not jnp.issubdtype(x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype, jnp.inexact):
            fix = "Keep such leaves out of params, or leave them out with optax.masked."
            raise wrong_type(_at(name, path), f"a floating or complex {what}", x, fix)
    return jax.tree.map(lambda x: x if isinstance(x, jax.ShapeDtypeStruct) else jnp.asarray(x), tree)


def check_trees(
    name: str, grads: Arrays, params: Arrays, state: OptState, slots: Mapping[str, Callable[..., Any]], same: bool
) -> None:
    """Raise unless `state` has `count` and the slots, and gradients fit them and `params`, unless these are None.

    Args:
      slots: name -> function of a parameter that makes the slot's start.
      same: the slots have the shapes of the parameters; otherwise their shapes are those of the starts.
    """
    if not isinstance(state, dict) or state.keys() != {"count", *slots}:
        got = ", ".join(state) if isinstance(state, dict) else f"a {type(state).__name__}"
        fix = "Call update(grads, state, params) with the state that init or the last update returned."
        raise wrong_type(name, f"a state of {', '.join(['count', *slots])}", told=got, fix=fix)
    if params is not None:
        check_same(name, grads, params, "params")
    for slot, start in slots.items():
        check_same(name, grads, state[slot], slot, None if same else start)


def check_same(name: str, grads: Arrays, tree: Arrays, what: str, start: Callable[..., Any] | None = None) -> None:
    """Raise, naming the path, unless `grads` and `tree` have the same structure and shapes.

    Args:
      what: the name of `tree` for errors: params, or a slot of the state.
      start: function of a parameter that makes the start of a slot with a shape of its own.
    """
    given: Any = jax.tree.structure(grads)
    if given != jax.tree.structure(tree):
        raise _other_structure(name, grads, tree, what)
    for (path, g), x in zip(jax.tree_util.tree_leaves_with_path(grads), jax.tree.leaves(tree), strict=True):
        if start is not None:
            shape = jax.eval_shape(start, g).shape
            if shape != x.shape:
                raise invalid(_at(name, path), f"{what} of shape {list(shape)} for a gradient {describe(g)}", x, SAME)
        elif g.shape != x.shape:
            raise invalid(_at(name, path), f"a gradient of shape {list(x.shape)} as in {what}", g, SAME)
        if jnp.iscomplexobj(g) and what == "params" and not jnp.iscomplexobj(x):
            raise wrong_type(_at(name, path), "a real gradient for a real parameter", g, "Take its real part.")


def _other_structure(name: str, grads: Arrays, tree: Arrays, what: str) -> InvalidType:
    have, want = (dict(jax.tree_util.tree_leaves_with_path(x)) for x in (grads, tree))
    owner = "params have" if what == "params" else f"{what} of the optimizer state has"
    for path in (path for path in want if path not in have):
        return InvalidType(name, f"gradients have no leaf {_text(path)}, but {owner}. {SAME}")
    for path in (path for path in have if path not in want):
        return InvalidType(name, f"gradients have a leaf {_text(path)}, but {owner} none. {SAME}")
    wanted: Any = jax.tree.structure(tree)
    told = str(jax.tree.structure(grads))
    return wrong_type(name, f"gradients in the containers of {what}, {wanted}", told=told, fix=SAME)


def _text(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _at(name: str, path: Any) -> str:
    return f"{name} at {_text(path)}" if path else name


def check_groups(groups: Any) -> None:
    """Raises unless `groups` is a dict of patterns and optimizers."""
    if not isinstance(groups, Mapping):
        raise wrong_type("by_path", "a dict of patterns and optimizers", groups)
    if not groups:
        raise invalid("by_path", "at least one pattern", told="none", fix="'*' matches every param.")
    for pattern, optimizer in groups.items():
        if not isinstance(pattern, str):
            raise wrong_type("by_path", "glob patterns, as 'stem/*'", pattern)
        if optimizer is not None and not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
            fix = "None freezes the group."
            raise wrong_type("by_path", f"an optax.GradientTransformation for {pattern!r}", optimizer, fix)


def check_all_in_groups(first: dict[str, str | None], patterns: tuple[str, ...]) -> None:
    """Raises unless each path has a pattern, the first that matches it, and each pattern a path."""
    missed = [path for path, pattern in first.items() if pattern is None]
    if missed:
        fix = "Add '*' last, with an optimizer for the rest or with None to freeze it."
        raise invalid("by_path", "every param to match some pattern", told=", ".join(missed), fix=fix)
    for pattern in patterns:
        if first and pattern not in first.values():
            got, fix = "none that an earlier pattern does not take", "The first match wins: put it before them."
            raise invalid("by_path", f"a param for {pattern!r}", told=got, fix=fix)
