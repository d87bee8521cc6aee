"""Static settings of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.sharding import AxisType

from jaxnn import _checks as check
from jaxnn._errors import describe, invalid, wrong_type
from jaxnn._mesh import is_spread
from jaxnn.metrics._direction import direction
from jaxnn.train._trainer import Trainer
from jaxnn.types import Data


class Plan(NamedTuple):
    """Static settings of a run; hashable, so that equal plans share one compiled program.

    Attributes:
      train_spread, valid_spread: shardings of the arrays if they are sharded over devices, otherwise None.
      where: name of the public function, for errors.
    """

    trainer: Trainer
    epochs: int
    batch_size: int | None
    patience: int | None
    monitor: str
    mode: str
    augment: Callable[..., Any] | None
    train_spread: tuple[Any, ...] | None = None  # shardings of arrays that are sharded over devices
    valid_spread: tuple[Any, ...] | None = None
    where: str = "fit"  # the public function, for errors


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
    """The plan of a run, with its arguments checked."""
    if not isinstance(trainer, Trainer):
        raise wrong_type(where, "a Trainer", trainer, "nn.trainer(model, loss, optimizer) makes one.")
    return Plan(trainer, *checked_settings(where, epochs, batch_size, patience, monitor, mode, augment), where=where)


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


def spread(plan: Plan, train: Data, valid: Data) -> Plan:
    """The plan for these arrays: a batch stays on the devices over which they are sharded."""

    def shardings(data: Data, cut: bool) -> tuple[Any, ...] | None:
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


def check_data(where: str, train: Data, valid: Data, batch_size: int | None) -> None:
    """Raises unless the arrays have examples for at least one step."""
    n = check.examples(where, "train", train)
    if valid is not None:
        check.examples(where, "valid", valid)
    if batch_size is not None and batch_size > n:
        raise invalid(where, f"batch_size to be at most the {n} examples of train", batch_size)
