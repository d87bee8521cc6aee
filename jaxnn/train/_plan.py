"""Static settings of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxnn._errors import wrong_type
from jaxnn._mesh import is_spread
from jaxnn.train._checks import check_auto, checked_settings
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


def spread(plan: Plan, train: Data, valid: Data) -> Plan:
    """The plan for these arrays: a batch stays on the devices over which they are sharded."""

    def shardings(data: Data, cut: bool) -> tuple[Any, ...] | None:
        leaves = jax.tree.leaves(data)
        if cut:
            check_auto(plan.where, leaves)
        return tuple(a.sharding if is_spread(a) else None for a in leaves) if any(map(is_spread, leaves)) else None

    return plan._replace(
        train_spread=shardings(train, plan.batch_size is not None), valid_spread=shardings(valid, True)
    )
