"""What is fixed about a run before it begins."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxnn._errors import invalid, wrong_type
from jaxnn._inputs import check_count, check_examples
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
    check_count(where, "epochs", epochs)
    for argument, value, least in (("batch_size", batch_size, 1), ("patience", patience, 0)):
        if value is not None:
            check_count(where, argument, value, least)
    if mode is None:
        mode = direction(monitor)
        if mode is None:
            fix = "It is known for 'loss' and for the names in nn.metrics and nn.losses."
            raise invalid(where, f"mode='min' or mode='max' with monitor={monitor!r}", "none", fix)
    if mode not in ("min", "max"):
        raise invalid(where, "mode to be 'min' or 'max'", mode)
    if augment is not None and not callable(augment):
        raise wrong_type(where, "augment to be a function (key, batch) -> batch", augment)
    return Plan(trainer, epochs, batch_size, patience, monitor, mode, augment)


def check_data(where: str, train: Any, valid: Any, batch_size: int | None) -> None:
    """Raises unless there are arrays for a step at least."""
    n = check_examples(where, "train", train)
    if valid is not None:
        check_examples(where, "valid", valid)
    if batch_size is not None and batch_size > n:
        raise invalid(where, f"batch_size to be at most the {n} examples of train", batch_size)
