"""How a run shows itself while it goes: a live line in a terminal, plain lines elsewhere, nothing on request."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

SECONDS_BETWEEN_LINES = 2.0


class Reporter:
    """Told of every look at the run: `report(epoch, metrics, seconds_per_epoch)`."""

    def __init__(self, epochs: int):
        """For a run of so many epochs at most."""
        self.epochs = epochs

    def __call__(self, epoch: int, metrics: dict[str, dict[str, np.ndarray]], pace: float) -> None:
        """Shows the latest metrics."""

    def note(self, text: str) -> None:
        """Says something about the run itself."""


class _Lines(Reporter):
    """Plain lines on standard error, not more often than one can read."""

    def __init__(self, epochs: int):
        super().__init__(epochs)
        self.last = -float("inf")

    def __call__(self, epoch: int, metrics: dict[str, dict[str, np.ndarray]], pace: float) -> None:
        if epoch == self.epochs or time.monotonic() - self.last >= SECONDS_BETWEEN_LINES:
            self.last = time.monotonic()
            self.note(f"epoch {epoch}/{self.epochs}  {_text(metrics)}  {pace:.2f} s/epoch")

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class _Live(Reporter):
    """A bar with the time left, by rich."""

    def __init__(self, epochs: int, bar: Any):
        super().__init__(epochs)
        self.bar = bar
        self.task = bar.add_task("compiling", total=epochs, metrics="")

    def __call__(self, epoch: int, metrics: dict[str, dict[str, np.ndarray]], pace: float) -> None:
        self.bar.update(self.task, completed=epoch, description="training", metrics=_text(metrics))

    def note(self, text: str) -> None:
        self.bar.console.print(text)


@contextlib.contextmanager
def reporter(progress: bool, epochs: int) -> Iterator[Reporter]:
    """A reporter for this process's standard error."""
    if not progress:
        yield Reporter(epochs)
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        yield _Lines(epochs)
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(epochs)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[metrics]}"),
    )
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        yield _Live(epochs, bar)


def _text(metrics: dict[str, dict[str, np.ndarray]]) -> str:
    parts = [f"{split} {name} {_number(v)}" for split, named in metrics.items() for name, v in named.items()]
    return "  ".join(parts)


def _number(v: np.ndarray) -> str:
    return f"{v.mean():.4f}" + (f" ± {v.std():.4f}" if v.ndim else "")
