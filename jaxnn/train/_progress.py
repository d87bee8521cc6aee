"""Progress display: a live line in a terminal, plain lines otherwise, nothing if it is off."""

import contextlib
import datetime
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

SECONDS_BETWEEN_LINES = 2.0

Measured = dict[str, dict[str, np.ndarray]]


class Look(NamedTuple):
    """Snapshot of a run.

    Attributes:
      epoch: number of epochs done.
      step: number of steps done.
      steps: total number of steps of all epochs; None while unknown.
      rate: steps per second.
      metrics: split -> metric -> a number, or one number for each member of a batch of runs. "train": means over the
        steps of the latest epoch; "valid": the latest evaluation.
      elapsed: seconds since this call of `drive` began.
      run: the `Run`. The next step may donate its memory: copy the parts you keep by `jax.tree.map(jnp.copy, run)`.
    """

    epoch: int
    step: int
    steps: int | None
    rate: float
    metrics: Measured
    elapsed: float = 0.0
    run: Any = None


class Count(NamedTuple):
    """Snapshot of a sweep.

    Attributes:
      done: number of members done.
      rate: members per second.
      metrics: as in a `Look`.
    """

    done: int
    rate: float
    metrics: Measured


class Reporter(NamedTuple):
    """Receiver of snapshots.

    Attributes:
      show: `show(look)` shows the latest metrics.
      note: `note(text)` shows a message about the run.
    """

    show: Callable[[Look | Count], None]
    note: Callable[[str], None]


def silent() -> Reporter:
    """A reporter that shows nothing."""
    return Reporter(lambda look: None, lambda text: None)


def lines(total: int) -> Reporter:
    """A reporter of plain lines on standard error, at most one every `SECONDS_BETWEEN_LINES`.

    `total` is the maximum number of epochs of the run, or the number of members of the sweep.
    """
    last = -float("inf")

    def show(look: Look | Count) -> None:
        nonlocal last
        done = look.epoch if isinstance(look, Look) else look.done
        if done == total or time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            parts = [_place(look, total), _text(look.metrics), _time(look, total)]
            note("  ".join(part for part in parts if part))

    def note(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    return Reporter(show, note)


def live(total: int, bar: Any) -> Reporter:
    """A reporter with a progress bar of rich and the metrics below it; `total` as in `lines`."""
    task = bar.add_task("compiling", total=total, metrics="", time="")

    def show(look: Look | Count) -> None:
        text, left = _text(look.metrics), _time(look, total)
        bar.update(task, completed=_done(look, total), description=_place(look, total), metrics=text, time=left)

    def note(text: str) -> None:
        bar.console.print(text, markup=False)

    return Reporter(show, note)


@contextlib.contextmanager
def reporter(progress: bool, total: int) -> Iterator[Reporter]:
    """Context manager: a reporter that suits standard error of this process."""
    if not progress:
        yield silent()
        return
    try:
        from rich.console import Console, RenderableType
        from rich.progress import BarColumn, Progress, TextColumn
    except ImportError:
        yield lines(total)
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lines(total)
        return

    class Bar(Progress):
        """The bar, and the metrics in as many lines as they need below it."""

        def get_renderables(self) -> Iterable[RenderableType]:
            yield self.make_tasks_table(self.tasks)
            yield from (task.fields["metrics"] for task in self.tasks if task.fields["metrics"])

    columns = BarColumn(20), TextColumn("{task.description}"), TextColumn("{task.fields[time]}")
    with Bar(*columns, console=console) as bar:
        yield live(total, bar)


def _done(look: Look | Count, total: int) -> float:
    if isinstance(look, Count):
        return look.done
    return look.epoch if look.steps is None else total * look.step / look.steps


def _place(look: Look | Count, total: int) -> str:
    if isinstance(look, Count):
        return f"members {look.done}/{total}"
    return f"epoch {look.epoch}/{total}  step {look.step}" + ("" if look.steps is None else f"/{look.steps}")


def _time(look: Look | Count, total: int) -> str:
    """The rate and, if the end is known, the time left."""
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
    """A number, or mean and standard deviation over members that have not stopped."""
    if not v.ndim:
        return f"{v:.4f}"
    kept = v[~np.isnan(v)]
    return f"{kept.mean():.4f} ± {kept.std():.4f}" if kept.size else "nan"
