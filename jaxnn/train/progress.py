"""How a run shows itself while it goes: a live line in a terminal, plain lines elsewhere, nothing on request."""

import contextlib
import datetime
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

SECONDS_BETWEEN_LINES = 2.0

Measured = dict[str, dict[str, np.ndarray]]


class Look(NamedTuple):
    """A run at one moment.

    Attributes:
      epoch: epochs done.
      step: steps taken.
      steps: steps of all epochs, None while that is not known.
      rate: steps per second.
      metrics: split -> metric -> a number, or one for each member of a row: of "train" the means over the steps of the
        latest epoch, of "valid" the latest evaluation.
      elapsed: seconds since this call of `drive` began.
      run: the `Run`. The next step may take its memory: keep copies of what you need, `jax.tree.map(jnp.copy, run)`.
    """

    epoch: int
    step: int
    steps: int | None
    rate: float
    metrics: Measured
    elapsed: float = 0.0
    run: Any = None


class Reporter:
    """Told of every look at the run: `report(look)`."""

    def __init__(self, epochs: int):
        """For a run of so many epochs at most."""
        self.epochs = epochs

    def __call__(self, look: Look) -> None:
        """Shows the latest metrics."""

    def note(self, text: str) -> None:
        """Says something about the run itself."""


class _Lines(Reporter):
    """Plain lines on standard error, not more often than one can read."""

    def __init__(self, epochs: int):
        super().__init__(epochs)
        self.last = -float("inf")

    def __call__(self, look: Look) -> None:
        if look.epoch == self.epochs or time.monotonic() - self.last >= SECONDS_BETWEEN_LINES:
            self.last = time.monotonic()
            self.note("  ".join([f"epoch {look.epoch}/{self.epochs}", _steps(look), _text(look.metrics), _time(look)]))

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class _Live(Reporter):
    """A bar with the metrics under it, by rich."""

    def __init__(self, epochs: int, bar: Any):
        super().__init__(epochs)
        self.bar = bar
        self.task = bar.add_task("compiling", total=epochs, metrics="", time="")

    def __call__(self, look: Look) -> None:
        done = look.epoch if look.steps is None else self.epochs * look.step / look.steps
        text = f"epoch {look.epoch}/{self.epochs}  {_steps(look)}"
        self.bar.update(self.task, completed=done, description=text, metrics=_text(look.metrics), time=_time(look))

    def note(self, text: str) -> None:
        self.bar.console.print(text, markup=False)


@contextlib.contextmanager
def reporter(progress: bool, epochs: int) -> Iterator[Reporter]:
    """A reporter for this process's standard error."""
    if not progress:
        yield Reporter(epochs)
        return
    try:
        from rich.console import Console, RenderableType
        from rich.progress import BarColumn, Progress, TextColumn
    except ImportError:
        yield _Lines(epochs)
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(epochs)
        return

    class Bar(Progress):
        """The bar, and under it the metrics, as many lines as they need."""

        def get_renderables(self) -> Iterable[RenderableType]:
            yield self.make_tasks_table(self.tasks)
            yield from (task.fields["metrics"] for task in self.tasks if task.fields["metrics"])

    columns = BarColumn(20), TextColumn("{task.description}"), TextColumn("{task.fields[time]}")
    with Bar(*columns, console=console) as bar:
        yield _Live(epochs, bar)


def _steps(look: Look) -> str:
    return f"step {look.step}" + ("" if look.steps is None else f"/{look.steps}")


def _time(look: Look) -> str:
    """The rate and, where the end is known, the time left."""
    rate = f"{look.rate:.4g} steps/s" if look.rate < 1000 else f"{look.rate:.0f} steps/s"
    if look.steps is None:
        return rate
    left = datetime.timedelta(seconds=round(max(look.steps - look.step, 0) / look.rate)) if look.rate else "?"
    return f"{rate}  {left} left"


def _text(metrics: Measured) -> str:
    parts = [f"{split} {name} {_number(v)}" for split, named in metrics.items() for name, v in named.items()]
    return "  ".join(parts)


def _number(v: np.ndarray) -> str:
    """A number, or mean and deviation of a row, without members that stopped."""
    if not v.ndim:
        return f"{v:.4f}"
    kept = v[~np.isnan(v)]
    return f"{kept.mean():.4f} ± {kept.std():.4f}" if kept.size else "nan"
