"""The run of `fit` driven from outside: compiled here, its progress shown, an interrupt survived."""

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
from jaxnn.train.failure import diagnose
from jaxnn.train.feed import check_feed, is_feed, pieces_of, prefetched
from jaxnn.train.fit import Run, prolonged, unfinished
from jaxnn.train.folder import epochs_done, newest, record
from jaxnn.train.interrupt import Signals
from jaxnn.train.pieces import Cut, Epochs, Fed, Pieces, epochs_of, position
from jaxnn.train.plan import Plan, check_data, make_plan, spread
from jaxnn.train.progress import Look, reporter
from jaxnn.train.settings import Kept, settings_of
from jaxnn.train.steps import steps_in
from jaxnn.train.trainer import Trainer

Hook = Callable[[Look], bool | None]


def drive(
    trainer: Trainer,
    key: jax.Array,
    train: Any,
    valid: Any = None,
    *,
    epochs: int,
    batch_size: int | None = None,
    patience: int | None = None,
    monitor: str = "loss",
    mode: Literal["min", "max"] | None = None,
    augment: Callable | None = None,
    run: Run | None = None,
    every: int = 1,
    checkpoint: str | os.PathLike[str] | None = None,
    keep: int = 3,
    changed: str | Sequence[str] = (),
    progress: bool = True,
    on_epoch: Hook | None = None,
    on_steps: tuple[int, Hook] | None = None,
    params: Any = None,
    state: Any = None,
) -> Run:
    """The run of `fit`, compiled here and driven piece by piece: progress is shown, an interrupt keeps what is done.

    Args:
      key: one key, or a row of keys for as many runs at once: every leaf of the `Run` then has a leading axis.
      train: as in `fit`; or batches from outside, without `batch_size`: a function `epoch -> iterable of batches`, or
        what can be iterated anew in each epoch, such as a loader (a list is a pytree of arrays: pass
        `lambda epoch: batches`). A thread reads a few pieces ahead, each of up to 64 batches and 8 MiB. Batches, or
        batches of arrays, that are sharded over devices stay so: each device trains on its part.
      valid: as in `fit`, or batches from outside, of any sizes: the means are over all that counts in them.
      run: an earlier `Run` to go on with, in place of a new one, with the same other arguments; it is left intact, and
        `key` only says whether it is one run or a row of them. More `epochs` than it was begun with prolong it, as in a
        folder: to the bit of one long run, where nothing but `epochs` says how long it is (a schedule may).
      every: epochs of arrays between two looks at the run, >= 1; it leaves the numbers as they are.
      checkpoint: a folder, made if need be, into which `save` writes the run at every look that ends an epoch: the last
        `keep` of them as `epoch-000012.safetensors`, and `Best(params, state)` as `best.safetensors`. Called again with
        the same arguments after whatever ended it, `drive` goes on from the newest intact one, to the last bit; a file
        that is damaged, or holds another epoch than its name says, is passed over with a warning. The settings that are
        known are kept in the files and compared: `monitor`, `mode`, `patience`, `batch_size`, `augment`, the numbers of
        examples, a checksum of the first ones or of the first batch (of a loader that gives the same when asked again),
        and the arguments of `trainer`: `model`, `loss`, `optimizer/learning_rate` and so on; functions by name, optax's
        optimizers not at all. `every`, `keep` and `progress` may differ.
      keep: runs kept in the folder, >= 1.
      on_epoch: called with a `Look` at each look that ends an epoch: `look.epoch`, `step`, `metrics`, `elapsed`, `run`.
        It may return True to end the run there. What it raises is raised here, with the run as its attribute `run`.
      on_steps: `(n, f)`: `f` is called so after every n steps of an epoch, and after its last. Arrays then go in pieces
        of n steps; one run, not a row of them.
      params, state: arrays to begin a new run with, as in `trainer.init`.
      changed: settings that may differ from those of the folder, with all below them: "patience", or
        ["optimizer", "first_batch"]. The run goes on with the new ones, if its shapes allow it.
      progress: shows epoch, step, metrics, rate and time left: a live line in a terminal, plain lines elsewhere.

    It compiles with `compiler_options`, and gives the bits of a `fit` that is jitted with them, also where the batches
    that `fit` would take come from outside. Each shape of a batch, such as that of a smaller last one, compiles a
    program. The first epoch tells how many batches there are, and the others must have as many; until it is over, the
    history is as wide as what was reached. A run that was interrupted in an epoch skips what it has seen.

    An interrupt (Ctrl-C) ends the run, and what is done is returned; epochs that are being computed are finished, and a
    second one ends at once. With `checkpoint`, SIGTERM writes the run, says so and exits with 143. Both are so in the
    main thread; elsewhere an interrupt is raised.

    A run that fails, as `fit` says, has the `ts` just before the step that broke it, and `failed` is that step. A
    RuntimeWarning names it, the metrics and the first path whose gradient is not finite. The run stays as it is when
    it is driven on. Any other exception has the run, as far as it got, as its attribute `run`.

    The other arguments are those of `fit`; a second call with the same trainer and `augment`, as objects, compiles
    nothing. Raises as `fit` does, TypeError under a trace, where `fit` is the one to call, and ValueError for a `run`
    of other arguments, and for a folder of a run with another key or of other paths, shapes, dtypes or settings, which
    it names, or without an intact run: the folder then stays as it is.

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
        raise invalid("drive", "one key or a row of keys", key)
    hooks = Hooks(on_epoch, on_steps, key.ndim == 1)
    if run is not None and not isinstance(run, Run):
        raise wrong_type("drive", "run to be a Run", run)
    if run is not None:
        run = prolonged(run, epochs)
        if fed and not unfinished(plan, run).any():
            return jax.tree.map(jnp.copy, run)
    opened = partial(_pieces, plan, key.ndim == 1, train, valid, every=every, steps=hooks.every)
    pieces = opened(run)
    pieces.given = (params, state)
    with Signals(terminates=checkpoint is not None) as signals:
        try:
            if run is None:
                with signals.held():
                    run = pieces.begin(key)
            else:
                _check_run(run, pieces.expected(key, _width(run)))
                if isinstance(pieces, Epochs) and unfinished(plan, run).any() and (done := position(plan, run)[1]):
                    fix = "Pass the batches with which it was begun."
                    raise invalid(
                        "drive", "a run between two epochs of arrays", told=f"one {done} steps into an epoch", fix=fix
                    )
                run = jax.tree.map(jnp.copy, run)
            write = None
            if checkpoint is not None:
                first = None if pieces.epoch else pieces.batch
                kept = Kept(settings_of(pieces.plan, train, valid, first), changed, train)
                found = newest(checkpoint, run, partial(pieces.expected, key), kept)
                write = partial(record, checkpoint, keep=keep, kept=kept)
                if found is not run and isinstance(pieces, Fed):  # to be opened where that one stands
                    if not unfinished(plan, found).any():
                        return found
                    pieces.close()
                    pieces = opened(found)
                run = found
            return _go_on(pieces, run, progress, checkpoint, write, hooks, signals)
        finally:
            pieces.close()


class Hooks:
    """What is called while a run goes on: at the end of an epoch, and after every so many steps of one."""

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
                "drive", "one key with on_steps", told="a row of keys", fix="Call drive for each, or use on_epoch."
            )
        self.every, self.on_steps = every, on_steps[1]

    def end(self, look: Look, within: int, ended: bool) -> bool:
        """Calls those that are due, `within` steps into an epoch or at its end; whether one of them ends the run."""
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
    plan: Plan, many: bool, train: Any, valid: Any, run: Run | None, *, every: int, steps: int | None
) -> Pieces:
    """What a run, or a new one, goes on with; a feed is opened where the run stands.

    Args:
      steps: of a piece, at most, where it is asked for.
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
        return Epochs(plan, many, train, valid, every)
    epoch, done = (0, 0) if run is None else position(plan, run)
    if "train" not in fed:
        if steps is not None:
            return Cut(plan, train, valid, steps, (epoch, done))
        each, first = steps_in(plan, train), jax.tree.map(lambda a: a[: plan.batch_size], train)
        return Fed(plan, many, epochs_of(train, each, epoch, done, plan.epochs), first, valid, each, (epoch, done))
    known = None if run is None or not epoch else _width(run)
    source = prefetched(pieces_of(train, epoch, done, plan.epochs, steps))
    first = next(source)
    plan = plan._replace(batch_size=jax.tree.leaves(first)[0].shape[0])
    return Fed(plan, many, source, first, valid, known, (epoch, done))


def _go_on(
    pieces: Pieces,
    run: Run,
    progress: bool,
    checkpoint: Any,
    write: Callable | None,
    hooks: Hooks,
    signals: Signals,
) -> Run:
    """The loop over pieces, with its looks at the run."""
    plan, texts = pieces.plan, []
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
                    run, text = diagnose(plan, pieces.many, run, pieces.data, new)
                    known = failed
                    report.note(text)
                    texts.append(text)
                ended = epochs_done(run) > done
                if write is not None and ended:
                    write(run)
                    written = int(jnp.max(run.ts.step))
                done = epochs_done(run)
                look = _look(pieces, run, clock)
                report(look)
                if hooks.end(look, pieces.done, ended):
                    break
        except KeyboardInterrupt:
            if _taken(run):
                raise  # not in the main thread, and between the old run and the new one
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
                with contextlib.suppress(AttributeError):  # a class may have no room for it
                    error.run = run  # type: ignore[attr-defined]
                    error.add_note("drive: the run, as far as it got, is the attribute `run` of this exception.")
            raise
    for text in texts:
        warnings.warn(f"drive: {text}", RuntimeWarning, stacklevel=3)
    return run


def _taken(run: Run) -> bool:
    return any(leaf.is_deleted() for leaf in jax.tree.leaves(run))


class _Clock:
    """Steps per second since the first look, which waited for compilation."""

    def __init__(self, step: int):
        self.begun = self.since = time.perf_counter()
        self.step, self.looks = step, 0

    def rate(self, step: int) -> float:
        """The rate at a look."""
        now = time.perf_counter()
        rate = (step - self.step) / (now - self.since)
        if not self.looks:
            self.since, self.step = now, step
        self.looks += 1
        return rate


def _look(pieces: Pieces, run: Run, clock: _Clock) -> Look:
    """Where the run stands: means over the steps of the latest epoch, and the latest evaluation."""
    epoch, step = int(jnp.max(run.epoch)), int(jnp.max(run.ts.step))
    total = None if pieces.steps is None else pieces.plan.epochs * pieces.steps
    within = step - epoch * _width(run) if epoch else step
    row = epoch if within > 0 and epoch < pieces.plan.epochs else epoch - 1
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
    """Raises unless `run` has the leaves that a new run would have: a row missing in the history would be dropped."""
    if (found := first_difference(run, expected)) is not None:
        path, leaf, known = found
        got = f"one with {leaf} where {known} should be, at {path}"
        raise invalid("drive", "a run of the same key shape, trainer, data, epochs and batch_size", told=got)
