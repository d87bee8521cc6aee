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


class Count(NamedTuple):
    """A sweep at one moment.

    Attributes:
      done: members done.
      rate: members per second.
      metrics: as in a `Look`.
    """

    done: int
    rate: float
    metrics: Measured


class Reporter:
    """Told of every look at the run: `report(look)`."""

    def __init__(self, total: int):
        """For a run of so many epochs at most, or a sweep of so many members."""
        self.total = total

    def __call__(self, look: Look | Count) -> None:
        """Shows the latest metrics."""

    def note(self, text: str) -> None:
        """Says something about the run itself."""


class _Lines(Reporter):
    """Plain lines on standard error, not more often than one can read."""

    def __init__(self, total: int):
        super().__init__(total)
        self.last = -float("inf")

    def __call__(self, look: Look | Count) -> None:
        done = look.epoch if isinstance(look, Look) else look.done
        if done == self.total or time.monotonic() - self.last >= SECONDS_BETWEEN_LINES:
            self.last = time.monotonic()
            parts = [_place(look, self.total), _text(look.metrics), _time(look, self.total)]
            self.note("  ".join(part for part in parts if part))

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class _Live(Reporter):
    """A bar with the metrics under it, by rich."""

    def __init__(self, total: int, bar: Any):
        super().__init__(total)
        self.bar = bar
        self.task = bar.add_task("compiling", total=total, metrics="", time="")

    def __call__(self, look: Look | Count) -> None:
        text, left = _text(look.metrics), _time(look, self.total)
        done = _done(look, self.total)
        self.bar.update(self.task, completed=done, description=_place(look, self.total), metrics=text, time=left)

    def note(self, text: str) -> None:
        self.bar.console.print(text, markup=False)


@contextlib.contextmanager
def reporter(progress: bool, total: int) -> Iterator[Reporter]:
    """A reporter for this process's standard error."""
    if not progress:
        yield Reporter(total)
        return
    try:
        from rich.console import Console, RenderableType
        from rich.progress import BarColumn, Progress, TextColumn
    except ImportError:
        yield _Lines(total)
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(total)
        return

    class Bar(Progress):
        """The bar, and under it the metrics, as many lines as they need."""

        def get_renderables(self) -> Iterable[RenderableType]:
            yield self.make_tasks_table(self.tasks)
            yield from (task.fields["metrics"] for task in self.tasks if task.fields["metrics"])

    columns = BarColumn(20), TextColumn("{task.description}"), TextColumn("{task.fields[time]}")
    with Bar(*columns, console=console) as bar:
        yield _Live(total, bar)


def _done(look: Look | Count, total: int) -> float:
    if isinstance(look, Count):
        return look.done
    return look.epoch if look.steps is None else total * look.step / look.steps


def _place(look: Look | Count, total: int) -> str:
    if isinstance(look, Count):
        return f"members {look.done}/{total}"
    return f"epoch {look.epoch}/{total}  step {look.step}" + ("" if look.steps is None else f"/{look.steps}")


def _time(look: Look | Count, total: int) -> str:
    """The rate and, where the end is known, the time left."""
    counts = (look.done, total, "members") if isinstance(look, Count) else (look.step, look.steps, "steps")
    done, end, unit = counts
    rate = f"{look.rate:.4g} {unit}/s" if look.rate < 1000 else f"{look.rate:.0f} {unit}/s"
    if end is None:
        return rate
    left = datetime.timedelta(seconds=round(max(end - done, 0) / look.rate)) if look.rate else "?"
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
