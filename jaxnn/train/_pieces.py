"""Training in pieces: several epochs of arrays at a time, or a few batches of a feed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxnn._errors import invalid
from jaxnn._means import Mean
from jaxnn._mesh import is_spread
from jaxnn.compiler import compiler_options
from jaxnn.train._epoch import Ordered, order_of, steps_in, take_steps
from jaxnn.train._feed import Piece, batches_of, is_feed, prefetched
from jaxnn.train._fit import Run, advance, conclude, evaluate, start, unfinished
from jaxnn.train._plan import Plan
from jaxnn.train._programs import Programs
from jaxnn.train._trainer import TrainState
from jaxnn.train._weigh import totals_of
from jaxnn.types import Arrays, Batch, Data, Key, Metrics, Params, State


class Beginning(NamedTuple):
    """A run before its first step.

    Attributes:
      plan: the plan of the run.
      many: True for a batch of runs.
      batch: a batch, whose shapes determine those of the params.
      valid: validation data, or a feed of it.
      given: initial params and state, in place of randomly drawn ones; each may be None.
    """

    plan: Plan
    many: bool
    batch: Batch
    valid: Data
    given: tuple[Params | None, State | None]

    def run(self, key: Key, steps: int | None) -> Run:
        """The run before its first epoch, with `steps` steps per epoch; None while unknown."""
        return programs(self.plan, self.many).starts(steps or 0, key, self.batch, self._valid(), self.given)

    def expected(self, key: Key, steps: int) -> Run:
        """Shapes of that run."""
        begin = partial(_starts, self.plan, self.many, steps)
        return jax.eval_shape(begin, key, self.batch, self._valid(), self.given)

    def _valid(self) -> Any:
        return self.batch if is_feed(self.valid) else self.valid  # the metrics have the same names for any data


class Epochs:
    """Epochs of arrays, several per piece, in the same program as `fit`.

    Attributes:
      beginning: the run before its first step.
      data: data of the last piece.
      steps: steps per epoch.
      epoch, done: 0, as in `Fed`.
      donates: True, since `advance` donates the memory of the run passed to it.
    """

    donates, epoch, done = True, 0, 0

    def __init__(self, beginning: Beginning, train: Data, every: int):
        self.beginning, self.data, self.every = beginning, train, every
        self.steps = steps_in(beginning.plan, train)

    def advance(self, run: Run) -> Run:
        """The run after the next epochs; the run passed to it is donated."""
        plan, many, _, valid, _ = self.beginning
        until = min(int(jnp.max(run.epoch)) + self.every, plan.epochs)
        return programs(plan, many).advances(run, self.data, valid, until)

    def close(self) -> None:
        """Does nothing: no data is read ahead."""


class Fed:
    """Pieces of a feed, with None at the end of each epoch, from a given step of an epoch on; nothing is donated.

    The first epoch determines the number of steps per epoch; during it the history is only as wide as the steps taken.

    Attributes:
      beginning: the run before its first step.
      data: data of the last piece.
      steps: steps per epoch; None while unknown.
      epoch, done: position at which the feed was opened: the epoch, and the number of its steps that are done.
      donates: False.
    """

    donates = False

    def __init__(
        self,
        beginning: Beginning,
        opened: Callable[[Run], Generator[Piece | None, None, None]],
        steps: int | None,
        at: tuple[int, int],
        close: Callable[[], None] = lambda: None,
    ):
        """`opened(run)` gives the pieces, and is called for the first of them; `close()` stops reading ahead."""
        self.beginning, self.opened, self.steps, (self.epoch, self.done) = beginning, opened, steps, at
        self.close = close
        self.plan, self.programs = beginning.plan, programs(beginning.plan, beginning.many)
        self.pieces: Generator[Piece | None, None, None] | None = None
        self.data: Data = None

    def advance(self, run: Run) -> Run:
        """The run after the next piece, or after the evaluation at the end of an epoch."""
        if self.pieces is None:
            self.pieces = self.opened(run)
        piece = next(self.pieces)
        going = unfinished(self.plan, run)
        if piece is None:
            return self._conclude(run, going)
        self.data, history = piece.data, run.history["train"]
        self._check(self.done + piece.steps, whole=False)
        like = {name: jnp.zeros((), h.dtype) for name, h in history.items()}
        ts, rows, failed = self.programs.absorbs(run.ts, self.data, self.epoch, piece.steps, going, like)
        train = {name: self._written(h, rows[name], piece.steps) for name, h in history.items()}
        self.done += piece.steps
        return run._replace(ts=ts, history=run.history | {"train": train}, failed=jnp.maximum(run.failed, failed))

    def _conclude(self, run: Run, going: jax.Array) -> Run:
        self._check(self.done, whole=True)
        measured = self._measured(run)
        rows = {name: np.asarray(h)[..., self.epoch, :] for name, h in run.history["train"].items()}
        run = self.programs.concludes(run, rows, measured, going)
        self.steps, self.epoch, self.done = self.done, self.epoch + 1, 0
        return run

    def _measured(self, run: Run) -> Metrics | None:
        valid, ts = self.beginning.valid, run.ts
        if valid is None:
            return None
        if not is_feed(valid):
            return self.programs.evaluates(ts, valid)
        parts = []
        batches = prefetched(_on_device(batches_of("valid", valid, self.epoch)))
        try:
            for batch in batches:
                parts.append(self.programs.measures(ts, batch))
        finally:
            batches.close()
        history = run.history["valid"]
        return {name: _joined([part[name] for part in parts], h.dtype) for name, h in history.items()}

    def _written(self, history: jax.Array, row: jax.Array, count: int) -> jax.Array:
        """The history with the next `count` steps; NaN where a member has stopped."""
        wide = np.asarray(history)
        if (missing := self.done + count - wide.shape[-1]) > 0:
            wide = np.pad(wide, [(0, 0)] * (wide.ndim - 1) + [(0, missing)], constant_values=np.nan)
        new = np.array(wide)
        new[..., self.epoch, self.done : self.done + count] = np.asarray(row)[..., :count]
        return jax.device_put(new)  # jnp.asarray would compile for each width

    def _check(self, done: int, *, whole: bool) -> None:
        if self.steps is not None and (done > self.steps or (whole and done < self.steps)):
            got = f"{done if whole else f'{done} or more'} in epoch {self.epoch + 1}"
            fix = "Cut longer ones, for example by itertools.islice."
            raise invalid("drive", f"train to give {self.steps} batches, as in the first epoch", told=got, fix=fix)


def epochs_of(data: Data, steps: int, epoch: int, done: int, epochs: int) -> Generator[Piece | None, None, None]:
    """Generator of one piece per epoch of arrays, with None at the end of each epoch."""
    for number in range(epoch, epochs):
        if number > epoch or not done:
            yield Piece(data, steps)
        yield None


def cut(plan: Plan, data: Data, size: int, epoch: int, done: int, run: Run) -> Generator[Piece | None, None, None]:
    """Generator of pieces of up to `size` steps of arrays, with the same batches as `Epochs`."""
    key, steps = run.ts.key, steps_in(plan, data)
    for number in range(epoch, plan.epochs):
        order = np.asarray(order_of(plan, key, data, number))
        first = done if number == epoch else 0
        while first < steps:
            rows = order[first : first + size - first % size]
            first += len(rows)
            filled = np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), 0)])  # padded: one shape, one program
            yield Piece(Ordered(data, jax.device_put(filled)), len(rows))
        yield None


def position(plan: Plan, run: Run) -> tuple[int, int]:
    """The epoch of an unfinished run, and the number of steps done in it."""
    going = np.asarray(unfinished(plan, run))
    epoch, step = (int(np.asarray(a)[going].max()) for a in (run.epoch, run.ts.step))
    return epoch, step - epoch * next(iter(run.history["train"].values())).shape[-1]


def _joined(parts: list[Mean], dtype: DTypeLike) -> jax.Array:
    """The mean over all parts, summed in float64; 0 where nothing counts."""
    total, count = (sum(np.asarray(a, np.float64) for a in column) for column in zip(*parts, strict=True))
    return jnp.asarray(np.divide(total, count, out=np.zeros_like(total), where=count != 0), dtype)


def _on_device(batches: Iterator[Any]) -> Generator[Any, None, None]:
    for batch in batches:
        yield jax.tree.map(lambda a: a if is_spread(a) else jax.device_put(a), batch)


# Compiled functions, for one run or, with `many`, for a batch of runs.


class Compiled(NamedTuple):
    """The compiled functions of a run, as in `Epochs`, `Fed` and `fit`."""

    starts: Callable[..., Run]
    advances: Callable[..., Run]
    absorbs: Callable[..., tuple[TrainState, Metrics, jax.Array]]
    evaluates: Callable[..., Metrics]
    measures: Callable[..., dict[str, Mean]]
    concludes: Callable[..., Run]


def _with(key: Callable[[], tuple[Any, ...]], f: Callable[..., Any]) -> Callable[..., Any]:
    def bound(*args: Any) -> Any:
        return f(*key(), *args)

    return bound


def _compiled(key: Callable[[], tuple[Any, ...]]) -> Compiled:
    """The compiled functions for the pair of plan and `many` that `key` returns."""
    jit = partial(jax.jit, compiler_options=compiler_options())
    return Compiled(
        jit(_with(key, _starts), static_argnums=0),
        jit(_with(key, _advances), donate_argnums=0),
        jit(_with(key, _absorbs)),
        jit(_with(key, _evaluates)),
        jit(_with(key, _measures)),
        jit(_with(key, _concludes)),
    )


_KEPT = Programs(_compiled, size=16)


def programs(plan: Plan, many: bool) -> Compiled:
    """The functions of a plan, compiled at their first call and cached for the latest plans with live trainers."""
    return _KEPT.of(plan, many)


def _starts(plan: Plan, many: bool, steps: int, key: Key, batch: Batch, valid: Data, given: Any) -> Run:
    begin = partial(start, plan, batch=batch, steps=steps, valid=valid, given=given)
    return (jax.vmap(begin) if many else begin)(key)


def _advances(plan: Plan, many: bool, run: Run, train: Data, valid: Data, until: jax.Array) -> Run:
    go_on = partial(advance, plan)
    return (jax.vmap(go_on, (0, None, None, None)) if many else go_on)(run, train, valid, until)


def _absorbs(
    plan: Plan,
    many: bool,
    ts: TrainState,
    data: Data,
    epoch: jax.Array,
    count: jax.Array,
    going: jax.Array,
    like: Arrays,
) -> tuple[TrainState, Metrics, jax.Array]:
    take = partial(take_steps, plan)
    return (jax.vmap(take, (0, None, None, None, 0, None)) if many else take)(ts, data, epoch, count, going, like)


def _evaluates(plan: Plan, many: bool, ts: TrainState, valid: Data) -> Metrics:
    measure = partial(evaluate, plan)
    return (jax.vmap(measure, (0, None)) if many else measure)(ts, valid)


def _measures(plan: Plan, many: bool, ts: TrainState, batch: Batch) -> dict[str, Mean]:
    measure = partial(totals_of, plan.trainer)
    return (jax.vmap(measure, (0, None)) if many else measure)(ts, batch)


def _concludes(plan: Plan, many: bool, run: Run, rows: Metrics, measured: Metrics | None, going: jax.Array) -> Run:
    end = partial(conclude, plan)
    return (jax.vmap(end) if many else end)(run, rows, measured, going)
