"""What is fixed about a run before it begins."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.sharding import AxisType

from jaxnn import _checks as check
from jaxnn._errors import describe, invalid, wrong_type
from jaxnn.metrics._direction import direction
from jaxnn.train.trainer import Trainer


class Plan(NamedTuple):
    """What is static about a run; hashable, so that one plan compiles once."""

    trainer: Trainer
    epochs: int
    batch_size: int | None
    patience: int | None
    monitor: str
    mode: str
    augment: Callable | None
    train_spread: tuple | None = None  # the shardings of the arrays, where they lie on several devices
    valid_spread: tuple | None = None
    where: str = "fit"  # what was called, for errors


def make_plan(
    where: str,
    trainer: Any,
    epochs: Any,
    batch_size: Any,
    patience: Any,
    monitor: str,
    mode: str | None,
    augment: Any,
) -> Plan:
    """The plan of a run, its arguments checked."""
    if not isinstance(trainer, Trainer):
        raise wrong_type(where, "a Trainer", trainer, "nn.trainer(model, loss, optimizer) makes one.")
    return Plan(trainer, *checked_settings(where, epochs, batch_size, patience, monitor, mode, augment), where=where)


def checked_settings(
    where: str, epochs: Any, batch_size: Any, patience: Any, monitor: Any, mode: Any, augment: Any
) -> tuple[int, int | None, int | None, str, str, Callable | None]:
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


def is_spread(array: Any) -> bool:
    """Whether an array lies on several devices; of a traced one that is not known."""
    concrete = isinstance(array, jax.Array) and not isinstance(array, jax.core.Tracer)
    return concrete and len(array.sharding.device_set) > 1


def spread(plan: Plan, train: Any, valid: Any) -> Plan:
    """The plan for these arrays: a batch of them stays on the devices over which they are spread."""

    def shardings(data: Any, cut: bool) -> tuple | None:
        leaves = jax.tree.leaves(data)
        for a in filter(is_spread, leaves) if cut else ():
            if AxisType.Explicit in getattr(getattr(a.sharding, "mesh", None), "axis_types", ()):
                got = f"{describe(a)} on a mesh with Explicit axes"
                fix = "Feed batches to drive, or make the mesh with axis_types=(AxisType.Auto,)."
                raise invalid(
                    plan.where, "arrays that may be cut into batches, sharded over Auto axes", told=got, fix=fix
                )
        return tuple(a.sharding if is_spread(a) else None for a in leaves) if any(map(is_spread, leaves)) else None

    return plan._replace(
        train_spread=shardings(train, plan.batch_size is not None), valid_spread=shardings(valid, True)
    )


def taken(data: Any, rows: Any, shardings: tuple | None) -> Any:
    """Some rows of arrays, spread as these are."""
    leaves, structure = jax.tree.flatten(data)
    parts = [_rows(a, rows, s) for a, s in zip(leaves, shardings or [None] * len(leaves), strict=True)]
    return jax.tree.unflatten(structure, parts)


def _rows(array: jax.Array, rows: Any, sharding: Any) -> jax.Array:
    return array[rows] if sharding is None else jax.lax.with_sharding_constraint(array[rows], sharding)


def check_data(where: str, train: Any, valid: Any, batch_size: int | None) -> None:
    """Raises unless there are arrays for a step at least."""
    n = check.examples(where, "train", train)
    if valid is not None:
        check.examples(where, "valid", valid)
    if batch_size is not None and batch_size > n:
        raise invalid(where, f"batch_size to be at most the {n} examples of train", batch_size)
