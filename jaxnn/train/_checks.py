"""Checks of the functions from which a trainer is made, of the values that they return, and of a run's settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

from jaxnn import _checks as check
from jaxnn import metrics as rooms
from jaxnn._errors import InvalidType, describe, invalid, is_function, wrong_type
from jaxnn._inputs import is_array
from jaxnn._layer import Layer, as_layer
from jaxnn._mesh import is_spread
from jaxnn._paths import first_difference
from jaxnn.metrics._direction import direction
from jaxnn.types import Arrays, Data

PRECISIONS = "float32", "bfloat16", "float16"


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


def checked_precision(precision: Any) -> np.dtype | None:
    """The dtype of a run, one of `PRECISIONS`, or None; raises TypeError for another."""
    if precision is None:
        return None
    try:
        dtype = jnp.dtype(precision)
        name = dtype.name
    except TypeError:
        name = describe(precision)
    if name in PRECISIONS:
        return dtype
    near = next((known for known in PRECISIONS[1:] if re.search(f"{known[0]}.*16", name)), None)
    fix = f"Did you mean {near!r}?" if near else ""
    if re.search("high|default|tensor|tf32", name):
        fix = "That of products in float32 is jax.default_matmul_precision, or an argument of a layer."
    raise wrong_type("trainer", f"precision to be {', '.join(PRECISIONS)} or None", told=name, fix=fix)


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


def weights_by_pattern(auxiliary: Any) -> dict[str, Any]:
    """The weights of losses in the state by glob pattern, checked."""
    if auxiliary is not None and not isinstance(auxiliary, Mapping):
        fix = "Such as {'*balance': 0.01}."
        raise wrong_type("trainer", "auxiliary to be a dict of patterns of state paths and weights", auxiliary, fix)
    for pattern, weight in (auxiliary or {}).items():
        check.text("trainer", "auxiliary", pattern, "a pattern")
        check.scalar("trainer", f"auxiliary[{pattern!r}]", weight)
    return dict(auxiliary or {})


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


def checked_settings(
    where: str, epochs: Any, batch_size: Any, patience: Any, monitor: Any, mode: Any, augment: Any
) -> tuple[int, int | None, int | None, str, str, Callable[..., Any] | None]:
    """The arguments of a run with Python ints and the mode of its monitor."""
    epochs = check.count(where, "epochs", epochs)
    batch_size = None if batch_size is None else check.count(where, "batch_size", batch_size)
    patience = None if patience is None else check.count(where, "patience", patience, least=0)
    check.text(where, "monitor", monitor, "the name of a metric")
    if mode is None:
        mode = direction(monitor)
        if mode is None:
            fix = "It is known for 'loss' and for the names in nn.metrics and nn.losses."
            if monitor.startswith("val"):
                fix = "Where there is valid its metrics are monitored, under the names of the trainer: 'loss', ..."
            raise invalid(where, f"mode='min' or mode='max' with monitor={monitor!r}", told="none", fix=fix)
    check.choice(where, "mode", mode, ("min", "max"))
    if augment is not None:
        check.function(where, "augment", augment, "(key, batch) -> batch")
    return epochs, batch_size, patience, monitor, mode, augment


def check_data(where: str, train: Data, valid: Data, batch_size: int | None) -> None:
    """Raises unless the arrays have examples for at least one step."""
    n = check.examples(where, "train", train)
    if valid is not None:
        check.examples(where, "valid", valid)
    if batch_size is not None and batch_size > n:
        raise invalid(where, f"batch_size to be at most the {n} examples of train", batch_size)


def check_auto(where: str, arrays: list[Any]) -> None:
    """Raises for an array on a mesh with Explicit axes, which cannot be cut into batches."""
    for a in filter(is_spread, arrays):
        if AxisType.Explicit in getattr(getattr(a.sharding, "mesh", None), "axis_types", ()):
            got = f"{describe(a)} on a mesh with Explicit axes"
            fix = "Feed batches to drive, or make the mesh with axis_types=(AxisType.Auto,)."
            raise invalid(where, "arrays that may be cut into batches, sharded over Auto axes", told=got, fix=fix)
