"""The run of `fit` driven from outside: compiled here, its progress shown, an interrupt survived."""

import contextlib
import os
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn._errors import describe, invalid, wrong_type
from jaxnn._inputs import check_concrete, check_count, check_examples, typed_key
from jaxnn.train.failure import diagnose
from jaxnn.train.feed import check_feed, is_feed, pieces_of, prefetched
from jaxnn.train.fit import Run, unfinished
from jaxnn.train.folder import epochs_done, newest, record
from jaxnn.train.pieces import Epochs, Fed, Pieces, epochs_of, position
from jaxnn.train.plan import Plan, check_data, make_plan, spread
from jaxnn.train.progress import Look, reporter
from jaxnn.train.steps import steps_in
from jaxnn.train.trainer import Trainer


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
    progress: bool = True,
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
        `key` only says whether it is one run or a row of them.
      every: epochs of arrays between two looks at the run, >= 1; it leaves the numbers as they are.
      checkpoint: a folder, made if need be, into which `save` writes the run at every look that ends an epoch: the last
        `keep` of them as `epoch-000012.safetensors`, and `Best(params, state)` as `best.safetensors`. Called again with
        the same arguments after whatever ended it, `drive` goes on from the newest intact one, to the last bit; a
        damaged file is passed over with a warning. `every` may differ; that data, rates and the like are the same is
        for the caller to see to.
      keep: runs kept in the folder, >= 1.
      progress: shows epoch, step, metrics, rate and time left: a live line in a terminal, plain lines elsewhere.

    It compiles with `compiler_options`, and gives the bits of a `fit` that is jitted with them, also where the batches
    that `fit` would take come from outside. Each shape of a batch, such as that of a smaller last one, compiles a
    program. The first epoch tells how many batches there are, and the others must have as many; until it is over, the
    history is as wide as what was reached. A run that was interrupted in an epoch skips what it has seen.

    A run that fails, as `fit` says, has the `ts` just before the step that broke it, and `failed` is that step. A
    RuntimeWarning names it, the metrics and the first path whose gradient is not finite. The run stays as it is when
    it is driven on. Any other exception has the run, as far as it got, as its attribute `run`.

    The other arguments are those of `fit`; a second call with the same trainer and `augment`, as objects, compiles
    nothing. Raises as `fit` does, TypeError under a trace, where `fit` is the one to call, and ValueError for a `run`
    of other arguments, and for a folder of a run with another key or of other paths, shapes or dtypes, which it names,
    or without an intact run: the folder then stays as it is.

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
    check_concrete("drive", (key, arrays, run), "Inside jit, vmap, grad or sweep call fit: it is pure.")
    plan = make_plan("drive", trainer, epochs, batch_size, patience, monitor, mode, augment)
    every = check_count("drive", "every", every)
    keep = check_count("drive", "keep", keep)
    key = typed_key("drive", key, "drive(trainer, key, train, valid)")
    if key.ndim > 1:
        raise invalid("drive", "one key or a row of keys", describe(key))
    if run is not None and not isinstance(run, Run):
        raise wrong_type("drive", "run to be a Run", describe(run))
    if run is not None and fed and not unfinished(plan, run).any():
        return jax.tree.map(jnp.copy, run)
    pieces = _pieces(plan, key.ndim == 1, train, valid, run, every)
    try:
        if run is None:
            run = pieces.begin(key)
        else:
            _check_run(run, pieces.expected(key, _width(run)))
            if isinstance(pieces, Epochs) and unfinished(plan, run).any() and (done := position(plan, run)[1]):
                fix = "Pass the batches with which it was begun."
                raise invalid("drive", "a run between two epochs of arrays", f"one {done} steps into an epoch", fix)
            run = jax.tree.map(jnp.copy, run)
        if checkpoint is not None:
            found = newest(checkpoint, run, partial(pieces.expected, key))
            if found is not run and (is_feed(train) or is_feed(valid)):  # to be opened where that one stands
                if not unfinished(plan, found).any():
                    return found
                pieces.close()
                pieces = _pieces(plan, key.ndim == 1, train, valid, found, every)
            run = found
        return _go_on(pieces, run, progress, checkpoint, keep)
    finally:
        pieces.close()


def _pieces(plan: Plan, many: bool, train: Any, valid: Any, run: Run | None, every: int) -> Pieces:
    """What a run, or a new one, goes on with; a feed is opened where the run stands."""
    fed = {name: feed for name, feed in (("train", train), ("valid", valid)) if is_feed(feed)}
    for name, feed in fed.items():
        check_feed(name, feed, plan.epochs)
    if "train" not in fed:
        check_data("drive", train, None if "valid" in fed else valid, plan.batch_size)
        train = jax.tree.map(jnp.asarray, train)
    elif plan.batch_size is not None:
        raise invalid("drive", "no batch_size where train gives batches", describe(plan.batch_size), "Leave it out.")
    if valid is not None and "valid" not in fed:
        check_examples("drive", "valid", valid)
        valid = jax.tree.map(jnp.asarray, valid)
    plan = spread(plan, None if "train" in fed else train, None if "valid" in fed else valid)
    if not fed:
        return Epochs(plan, many, train, valid, every)
    epoch, done = (0, 0) if run is None else position(plan, run)
    if "train" not in fed:
        steps = steps_in(plan, train)
        first = jax.tree.map(lambda a: a[: plan.batch_size], train)
        return Fed(plan, many, epochs_of(train, steps, epoch, done, plan.epochs), first, valid, steps, (epoch, done))
    known = None if run is None or not epoch else _width(run)
    source = prefetched(pieces_of(train, epoch, done, plan.epochs))
    first = next(source)
    plan = plan._replace(batch_size=jax.tree.leaves(first)[0].shape[0])
    return Fed(plan, many, source, first, valid, known, (epoch, done))


def _go_on(pieces: Pieces, run: Run, progress: bool, checkpoint: Any, keep: int) -> Run:
    """The loop over pieces, with its looks at the run."""
    plan, texts = pieces.plan, []
    known = np.asarray(run.failed) >= 0
    with reporter(progress, plan.epochs) as report:
        begun, done = int(jnp.max(run.ts.step)), epochs_done(run)
        clock = _Clock(begun)
        try:
            while unfinished(plan, run).any():
                run = pieces.advance(run)
                failed = np.asarray(run.failed) >= 0
                if (new := failed & ~known).any():
                    run, text = diagnose(plan, pieces.many, run, pieces.data, new)
                    known = failed
                    report.note(text)
                    texts.append(text)
                if checkpoint is not None and epochs_done(run) > done:
                    record(checkpoint, run, keep)
                    done = epochs_done(run)
                report(_look(pieces, run, clock))
        except KeyboardInterrupt:
            if _taken(run):
                raise  # it came after the old run was donated and before the new one was handed over
            report.note("interrupted: the run is kept as far as it got")
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
        self.since, self.step, self.looks = time.perf_counter(), step, 0

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
    return Look(epoch, step, total, clock.rate(step), metrics)


def _width(run: Run) -> int:
    return next(iter(run.history["train"].values())).shape[-1]


def _check_run(run: Any, expected: Run) -> None:
    """Raises unless `run` has the leaves that a new run would have: a row missing in the history would be dropped."""
    leaves, known = (
        {jax.tree_util.keystr(path, simple=True, separator="/"): describe(leaf) for path, leaf in found}
        for found in map(jax.tree_util.tree_leaves_with_path, (run, expected))
    )
    for path in sorted(leaves.keys() | known.keys()):
        if leaves.get(path) != known.get(path):
            got = f"one with {leaves.get(path, 'nothing')} where {known.get(path, 'nothing')} should be, at {path}"
            raise invalid("drive", "a run of the same key shape, trainer, data, epochs and batch_size", got)
