"""Training loop on the host around the run of `fit`: compilation, progress, checkpoints, hooks and interrupts."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import _checks as check
from jaxnn._errors import invalid, wrong_type
from jaxnn._paths import first_difference
from jaxnn.train._checks import check_data
from jaxnn.train._epoch import steps_in
from jaxnn.train._failure import diagnose
from jaxnn.train._feed import check_feed, is_feed, pieces_of, prefetched
from jaxnn.train._fit import Run, prolonged, unfinished
from jaxnn.train._folder import epochs_done, newest, record
from jaxnn.train._interrupt import Signals
from jaxnn.train._pieces import Beginning, Epochs, Fed, cut, epochs_of, position
from jaxnn.train._plan import Plan, make_plan, spread
from jaxnn.train._progress import Look, reporter
from jaxnn.train._settings import Kept, settings_of
from jaxnn.train._trainer import Trainer
from jaxnn.types import Batch, Data, Key, Params, State

Hook = Callable[[Look], bool | None]


def drive(
    trainer: Trainer,
    key: Key,
    train: Data,
    valid: Data = None,
    *,
    epochs: int,
    batch_size: int | None = None,
    patience: int | None = None,
    monitor: str = "loss",
    mode: Literal["min", "max"] | None = None,
    augment: Callable[..., Any] | None = None,
    run: Run | None = None,
    every: int = 1,
    checkpoint: str | os.PathLike[str] | None = None,
    keep: int = 3,
    changed: str | Sequence[str] = (),
    progress: bool = True,
    on_epoch: Hook | None = None,
    on_steps: tuple[int, Hook] | None = None,
    params: Params | None = None,
    state: State | None = None,
) -> Run:
    """Trains like `fit`, but runs the training loop on the host, with progress, checkpoints, hooks and safe interrupts.

    It compiles with `compiler_options` and returns bit for bit the `Run` of `fit` jitted with these options, also if an
    iterable supplies the same batches. Each batch shape, such as that of a smaller last batch, compiles a program. For
    an iterable the first epoch determines the number of batches, and later epochs must have as many; during the first
    epoch the history is only as wide as the steps taken. A run interrupted within an epoch skips the batches it has
    seen. A second call with the same trainer and `augment` objects compiles nothing.

    An interrupt (Ctrl-C) ends the run and returns it as far as it got: epochs that are being computed are finished. A
    second interrupt raises KeyboardInterrupt at once; JAX cannot stop a program that runs, and a process that exits
    waits for it. With `checkpoint`, SIGTERM writes the run, prints a message and exits with status 143; a second
    SIGTERM is ignored. Both hold for the main thread; in other threads KeyboardInterrupt is raised.

    A failed run, as defined in `fit`, has in `ts` the state just before the failing step, and `failed` is that step. A
    RuntimeWarning names the step, the metrics, and the first path with a non-finite gradient. A failed run that is
    passed as `run` is returned unchanged. Any other exception has the run, as far as it got, as its attribute `run`.

    Args:
      trainer: as in `fit`.
      key: one key, or a batch of keys [n] for n runs at once: every leaf of the `Run` then has a leading axis.
      train: arrays as in `fit`; or, without `batch_size`, a source of batches: a function
        `epoch -> iterable of batches`, or an object that can be iterated again in each epoch, such as a loader. A list
        is a pytree of arrays: pass `lambda epoch: batches`. A thread reads a few pieces ahead, each of up to 64 batches
        and 8 MiB. Arrays or batches that are sharded over devices stay sharded: each device trains on its part.
      valid: as in `fit`, or a source of batches of any sizes, whose means are over everything that counts in them.
      epochs, batch_size, patience, monitor, mode, augment: as in `fit`.
      run: an earlier `Run` to resume, with otherwise equal arguments; it is not modified. `key` then only determines if
        it is one run or a batch of runs. A larger `epochs` prolongs the run, as it does for a run from a checkpoint
        folder. The result equals one long run bit for bit, unless something else, such as a schedule, depends on its
        length.
      every: epochs computed between two reports if the data are arrays, >= 1. It does not change the results.
      checkpoint: folder, created if missing, in which `save` writes the run at every report at the end of an epoch: the
        last `keep` runs as `epoch-000012.safetensors`, and `Best(params, state)` as `best.safetensors`. A later call
        with equal arguments resumes from the newest intact run, bit for bit. A damaged file, or one with another epoch
        than its name, is skipped with a warning. The known settings are stored and compared: `monitor`, `mode`,
        `patience`, `batch_size`, `augment`, the numbers of examples, a checksum of the first examples or of the first
        batch (for a loader that returns the same batch again), and the arguments of `trainer`: `model`, `loss`,
        `optimizer/learning_rate` and so on. Functions are compared by name, optax's optimizers not at all. `every`,
        `keep` and `progress` may differ.
      keep: number of runs kept in the folder, >= 1.
      changed: names of settings that may differ from those in the folder, including all settings below them:
        "patience", or ["optimizer", "first_batch"]. The run resumes with the new settings, if its shapes allow it.
      progress: True prints epoch, step, metrics, rate and time left: a live line in a terminal, plain lines otherwise.
      on_epoch: function called with a `Look` at each report at the end of an epoch; it has `look.epoch`, `step`,
        `metrics`, `elapsed`, `run`. Returning True ends the run. Its exceptions are raised by `drive`, with the run as
        their attribute `run`.
      on_steps: `(n, f)` calls `f` in the same way after every n steps of an epoch and after its last step. Arrays are
        then computed n steps at a time. For one run, not a batch of runs.
      params, state: initial arrays of a new run, as in `trainer.init`.

    Returns:
      The `Run`.

    Raises:
      TypeError: as `fit`, and under a trace: use `fit` there.
      ValueError: as `fit`; if `run` does not fit the other arguments; and if the folder holds a run with another key,
        paths, shapes, dtypes or settings, which the message names, or has no intact run. The folder is then unchanged.

    >>> import jaxnn as nn
    >>> x = jax.random.normal(jax.random.key(1), (64, 3))
    >>> t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.adam(0.1))
    >>> run = nn.drive(t, jax.random.key(0), (x, x[:, :1]), epochs=20, batch_size=16, progress=False)
    >>> int(run.epoch), run.history["train"]["loss"].shape
    (20, (20, 4))
    >>> fed = nn.drive(t, jax.random.key(0), lambda epoch: nn.data.batches((x, x[:, :1]), 16, key=epoch), epochs=2,
    ...     progress=False)
    >>> int(fed.ts.step)
    8
    """
    fed = is_feed(train) or is_feed(valid)
    arrays = [data for data in (train, valid) if not is_feed(data)]
    check.eager("drive", (key, arrays, run), "Inside jit, vmap, grad or sweep call fit: it is pure.")
    plan = make_plan("drive", trainer, epochs, batch_size, patience, monitor, mode, augment)
    every = check.count("drive", "every", every)
    keep = check.count("drive", "keep", keep)
    check.flags("drive", progress=progress)
    key = check.typed_key("drive", key, "drive(trainer, key, train, valid)")
    if key.ndim > 1:
        raise invalid("drive", "one key or a batch of keys", key)
    hooks = Hooks(on_epoch, on_steps, key.ndim == 1)
    if run is not None and not isinstance(run, Run):
        raise wrong_type("drive", "run to be a Run", run)
    if run is not None:
        run = prolonged(run, epochs)
        if fed and not unfinished(plan, run).any():
            return jax.tree.map(jnp.copy, run)
    given = (params, state)
    opened = partial(_pieces, plan, key.ndim == 1, train, valid, given, every=every, steps=hooks.every)
    pieces = opened(run)
    with Signals(terminates=checkpoint is not None) as signals:
        try:
            if run is None:
                with signals.held():
                    run = pieces.beginning.run(key, pieces.steps)
            else:
                _check_run(run, _expected(pieces, key, _width(run)))
                if isinstance(pieces, Epochs) and unfinished(plan, run).any() and (done := position(plan, run)[1]):
                    fix = "Pass the batches with which it was begun."
                    raise invalid(
                        "drive", "a run between two epochs of arrays", told=f"one {done} steps into an epoch", fix=fix
                    )
                run = jax.tree.map(jnp.copy, run)
            write = None
            if checkpoint is not None:
                first = None if pieces.epoch else pieces.beginning.batch
                kept = Kept(settings_of(pieces.beginning.plan, train, valid, first), changed, train)
                found = newest(checkpoint, run, partial(_expected, pieces, key), kept)
                write = partial(record, checkpoint, keep=keep, kept=kept)
                if found is not run and isinstance(pieces, Fed):  # reopen the feed at the checkpoint
                    if not unfinished(plan, found).any():
                        return found
                    pieces.close()
                    pieces = opened(found)
                run = found
            return _go_on(pieces, run, progress, checkpoint, write, hooks, signals)
        finally:
            pieces.close()


class Hooks:
    """The hooks of the user: `on_epoch` at the end of an epoch, `on_steps` after every n steps."""

    def __init__(self, on_epoch: Any, on_steps: Any, many: bool):
        if on_epoch is not None:
            check.function("drive", "on_epoch", on_epoch, "of a Look")
        self.on_epoch, self._told = on_epoch, -1
        self.every: Any = None
        self.on_steps: Any = None
        if on_steps is None:
            return
        if not (isinstance(on_steps, tuple) and len(on_steps) == 2 and callable(on_steps[1])):
            raise wrong_type("drive", "on_steps to be (n, a function of a Look)", on_steps)
        every = check.count("drive", "the n of on_steps", on_steps[0])
        if many:
            raise invalid(
                "drive", "one key with on_steps", told="a batch of keys", fix="Call drive for each, or use on_epoch."
            )
        self.every, self.on_steps = every, on_steps[1]

    def end(self, look: Look, within: int, ended: bool) -> bool:
        """Calls the hooks that are due; True if one of them ends the run.

        Args:
          look: the snapshot passed to the hooks.
          within: steps done in the epoch.
          ended: True at the end of an epoch.
        """
        answers = []
        if self.on_steps is not None and look.step != self._told and (ended or within % self.every == 0):
            self._told = look.step
            answers.append(self.on_steps(look))
        if self.on_epoch is not None and ended:
            answers.append(self.on_epoch(look))
        for answer in answers:
            if answer is not None and not isinstance(answer, bool | np.bool_):
                raise wrong_type("drive", "a hook to return True, to end the run, False or None", answer)
        return any(map(bool, answers))


def _pieces(
    plan: Plan,
    many: bool,
    train: Data,
    valid: Data,
    given: tuple[Params | None, State | None],
    run: Run | None,
    *,
    every: int,
    steps: int | None,
) -> Epochs | Fed:
    """The pieces of a new or resumed run; a feed is opened at the position of the run.

    Args:
      plan: the plan of the run.
      many: True for a batch of runs.
      train, valid: as in `drive`.
      given: initial params and state.
      run: the run to resume, or None.
      every: epochs per piece for arrays.
      steps: maximum number of steps per piece; None for no limit.
    """
    fed = {name: feed for name, feed in (("train", train), ("valid", valid)) if is_feed(feed)}
    for name, feed in fed.items():
        check_feed(name, feed, plan.epochs)
    if "train" not in fed:
        check_data("drive", train, None if "valid" in fed else valid, plan.batch_size)
        train = jax.tree.map(jnp.asarray, train)
    elif plan.batch_size is not None:
        raise invalid("drive", "no batch_size where train gives batches", plan.batch_size, "Leave it out.")
    if valid is not None and "valid" not in fed:
        check.examples("drive", "valid", valid)
        valid = jax.tree.map(jnp.asarray, valid)
    plan = spread(plan, None if "train" in fed else train, None if "valid" in fed else valid)
    if not fed and steps is None:
        return Epochs(Beginning(plan, many, _first(plan, train), valid, given), train, every)
    epoch, done = at = (0, 0) if run is None else position(plan, run)
    if "train" in fed:
        known = None if run is None or not epoch else _width(run)
        source = prefetched(pieces_of(train, epoch, done, plan.epochs, steps))
        first = next(source)
        plan = plan._replace(batch_size=jax.tree.leaves(first)[0].shape[0])
        return Fed(Beginning(plan, many, first, valid, given), lambda run: source, known, at, source.close)
    each = steps_in(plan, train)
    if steps is not None:
        opened: Any = partial(cut, plan, train, steps, epoch, done)
    else:
        opened = lambda run: epochs_of(train, each, epoch, done, plan.epochs)  # noqa: E731
    return Fed(Beginning(plan, many, _first(plan, train), valid, given), opened, each, at)


def _expected(pieces: Epochs | Fed, key: Key, steps: int) -> Run:
    """Shapes of the run before its first epoch; `steps` per epoch are those of a saved run, if they are unknown."""
    return pieces.beginning.expected(key, steps if pieces.steps is None else pieces.steps)


def _first(plan: Plan, train: Data) -> Batch:
    return jax.tree.map(lambda a: a[: plan.batch_size], train)


def _go_on(
    pieces: Epochs | Fed,
    run: Run,
    progress: bool,
    checkpoint: Any,
    write: Callable[..., Any] | None,
    hooks: Hooks,
    signals: Signals,
) -> Run:
    """The loop over pieces, with a snapshot of the run after each."""
    plan, texts = pieces.beginning.plan, []
    known = np.asarray(run.failed) >= 0
    with reporter(progress, plan.epochs) as report:
        begun, done = int(jnp.max(run.ts.step)), epochs_done(run)
        written, clock = begun, _Clock(begun)
        try:
            while unfinished(plan, run).any():
                with signals.held() if pieces.donates else contextlib.nullcontext():
                    run = pieces.advance(run)
                signals.wait(run.epoch)
                failed = np.asarray(run.failed) >= 0
                if (new := failed & ~known).any():
                    run, text = diagnose(plan, pieces.beginning.many, run, pieces.data, new)
                    known = failed
                    report.note(text)
                    texts.append(text)
                ended = epochs_done(run) > done
                if write is not None and ended:
                    write(run)
                    written = int(jnp.max(run.ts.step))
                done = epochs_done(run)
                look = _look(pieces, run, clock)
                report.show(look)
                if hooks.end(look, pieces.done, ended):
                    break
        except KeyboardInterrupt:
            if _taken(run):
                raise  # outside the main thread, between the donation of the old run and the new one
            report.note("interrupted: the run is kept as far as it got")
            signals.wait(run.epoch)
            if signals.terminated and write is not None:
                if int(jnp.max(run.ts.step)) > written:
                    write(run)
                there = f"{os.fspath(checkpoint)}, after {epochs_done(run)} epochs"
                print(f"drive: SIGTERM. The run is in {there}; the same call goes on.", file=sys.stderr)
                raise SystemExit(128 + signal.SIGTERM) from None
        except Exception as error:
            if not _taken(run) and int(jnp.max(run.ts.step)) > begun:
                with contextlib.suppress(AttributeError):  # a class with __slots__ has no such attribute
                    error.run = run  # type: ignore[attr-defined]
                    error.add_note("drive: the run, as far as it got, is the attribute `run` of this exception.")
            raise
    for text in texts:
        warnings.warn(f"drive: {text}", RuntimeWarning, stacklevel=3)
    return run


def _taken(run: Run) -> bool:
    return any(leaf.is_deleted() for leaf in jax.tree.leaves(run))


class _Clock:
    """Steps per second since the first snapshot, so that compilation is excluded."""

    def __init__(self, step: int):
        self.begun = self.since = time.perf_counter()
        self.step, self.looks = step, 0

    def rate(self, step: int) -> float:
        """Steps per second at a snapshot."""
        now = time.perf_counter()
        rate = (step - self.step) / (now - self.since)
        if not self.looks:
            self.since, self.step = now, step
        self.looks += 1
        return rate


def _look(pieces: Epochs | Fed, run: Run, clock: _Clock) -> Look:
    """Snapshot of a run, with means over the steps of the latest epoch and the latest evaluation."""
    epoch, step = int(jnp.max(run.epoch)), int(jnp.max(run.ts.step))
    total = None if pieces.steps is None else pieces.beginning.plan.epochs * pieces.steps
    within = step - epoch * _width(run) if epoch else step
    row = epoch if within > 0 and epoch < pieces.beginning.plan.epochs else epoch - 1
    train = {k: np.asarray(v)[..., row, :] for k, v in run.history["train"].items()}
    if within > 0:
        train = {k: v[..., :within] for k, v in train.items()}
    valid = {k: np.asarray(v)[..., epoch - 1] for k, v in run.history.get("valid", {}).items()} if epoch else {}
    metrics = {"train": {k: v.mean(axis=-1) for k, v in train.items()}, "valid": valid}
    rate = clock.rate(step)
    return Look(epoch, step, total, rate, metrics, time.perf_counter() - clock.begun, run)


def _width(run: Run) -> int:
    return next(iter(run.history["train"].values())).shape[-1]


def _check_run(run: Any, expected: Run) -> None:
    """Raises unless `run` has the leaves of a new run: JAX silently drops writes to missing rows of a history."""
    if (found := first_difference(run, expected)) is not None:
        path, leaf, known = found
        got = f"one with {leaf} where {known} should be, at {path}"
        raise invalid("drive", "a run of the same key shape, trainer, data, epochs and batch_size", told=got)
