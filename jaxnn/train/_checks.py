"""Checks of the functions from which a trainer is made, and of the values that they return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jaxnn import _checks as check
from jaxnn import metrics as rooms
from jaxnn._errors import InvalidType, describe, invalid, is_function, wrong_type
from jaxnn._inputs import is_array
from jaxnn._layer import Layer, as_layer
from jaxnn._paths import first_difference
from jaxnn.types import Arrays


def check_parts(model: Any, loss: Any, regularizer: Any) -> None:
    """Raises TypeError unless model, loss and regularizer have the types that a trainer needs."""
    if not isinstance(model, Layer):
        fix = ""
        if is_function(model):
            as_layer(model, "trainer")  # raises for a factory that was not called
            fix = "Make a layer of the function: nn.lift(f)."
        raise wrong_type("trainer", "model to be a Layer", model, fix)
    fix = "The order is trainer(model, loss, optimizer)." if hasattr(loss, "update") else ""
    fix = "Pass the function, such as nn.losses.squared_error." if isinstance(loss, str) else fix
    check.function("trainer", "loss", loss, "(prediction, target) -> loss", fix)
    if regularizer is not None:
        check.function("trainer", "regularizer", regularizer, "of params")


def check_optimizer(optimizer: Any) -> None:
    """Raises TypeError unless `optimizer` has `init` and `update`."""
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        fix = "Make one, for example nn.adam(1e-3)."
        if is_function(optimizer):
            room = "nn." if getattr(optimizer, "__module__", "").startswith("jaxnn.") else ""
            fix = f"Call it: {room}{getattr(optimizer, '__name__', 'optimizer')}(learning_rate)."
        raise InvalidType("trainer", f"optimizer is {describe(optimizer)}, not an optimizer. {fix}")


def named_metrics(metrics: Any) -> dict[str, Callable[..., Any]]:
    """The metrics as a dict name -> function, checked."""
    known = rooms.__all__
    expected = "metrics to be a dict of names and functions (prediction, target) -> value"
    if metrics is not None and not isinstance(metrics, Mapping):
        first = metrics[0] if isinstance(metrics, tuple | list) and metrics else metrics
        name = first if isinstance(first, str) else getattr(first, "__name__", "")
        fix = f"Write {{{name!r}: nn.metrics.{name}}}." if name in known else "Write {'name': function}."
        raise wrong_type("trainer", expected, metrics, fix)
    for name, metric in (metrics or {}).items():
        if name == "loss":
            raise wrong_type("trainer", expected, {name: metric}, "'loss' is the name of the loss.")
        if not (isinstance(name, str) and is_function(metric)):
            fix = f"Pass the function: nn.metrics.{metric}." if isinstance(metric, str) and metric in known else ""
            raise wrong_type("trainer", expected, {name: metric}, fix)
    return dict(metrics or {})


def results(out: Any) -> tuple[Any, tuple[Any, dict[str, Any]]]:
    """The value `(loss, (state, metrics))` that an objective returned, checked."""
    good = isinstance(out, tuple) and len(out) == 2 and isinstance(out[1], tuple) and len(out[1]) == 2
    if not good or not isinstance(out[1][1], Mapping):
        fix = "Without state and metrics return loss, ({}, {})."
        raise wrong_type("trainer", "objective to return (loss, (state, metrics))", out, fix)
    return out


def check_numbers(name: str, value: Any) -> None:
    """Raises TypeError unless a loss or metric is a number or an array of numbers."""
    if not isinstance(value, bool | int | float | complex) and not is_array(value):
        fix = "Does the function have a return statement?" if value is None else ""
        what = "loss" if name == "loss" else f"the metric {name!r}"
        raise wrong_type("trainer", f"{what} to return an array of numbers or an nn.Mean", value, fix)


def check_kept(where: str, before: Arrays, after: Arrays) -> None:
    """Raises unless a step keeps the structure, shapes and dtypes of the run's state, as a loop requires."""
    if (found := first_difference(before, after)) is not None:
        path, old, new = found
        fix = "The objective returns (loss, (state, metrics)), with the state as init made it."
        raise invalid(
            where, f"a step that keeps {old} at {path}", told=new, fix=fix if path.startswith("state") else ""
        )
