"""Successive halving: many runs start, and only the best continue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from math import ceil
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import _checks as check
from jaxnn._errors import invalid
from jaxnn.metrics._direction import direction
from jaxnn.runs._chunks import placed
from jaxnn.runs._sweep import Strategy, Sweep, checked, sweep_members, warn_interrupted
from jaxnn.train._checks import check_data, checked_settings
from jaxnn.train._epoch import steps_in
from jaxnn.train._fit import Run, advance, start
from jaxnn.train._plan import Plan, make_plan
from jaxnn.train._trainer import Trainer, typed
from jaxnn.types import Arrays, Data, Key


def halving(
    make: Callable[[Any], Trainer],
    points: Arrays,
    key: Key,
    train: Data,
    valid: Data = None,
    *,
    epochs: int,
    rungs: Sequence[int] | None = None,
    keep: float = 1 / 3,
    batch_size: int | None = None,
    patience: int | None = None,
    monitor: str = "loss",
    mode: Literal["min", "max"] | None = None,
    augment: Callable[..., Any] | None = None,
    strategy: Strategy = "auto",
    chunk: int | None = None,
    progress: bool = False,
) -> Sweep:
    """Successive halving: a sweep of `fit` over points in which only the best runs continue after each rung.

    All runs train up to the first rung, a number of epochs. The fraction `keep` with the best `best_value` trains up to
    the next rung, and so on up to `epochs`. With the default rungs this takes about a quarter of the epochs of a full
    sweep. A run that reaches the end equals the run of `fit` with these epochs, including schedules of rates. A good
    point that starts slowly may be dropped: then raise `keep` or the rungs.

    Args:
      make: `make(point) -> nn.trainer(...)`, traceable: the trainer of one point. One function object compiles once for
        each number of members.
      points: tree of arrays stacked on axis 0, as in `sweep`.
      key: one key for all runs, or a batch of n keys, one for each run.
      train, valid: as in `fit`.
      epochs: number of epochs of a run that reaches the end, >= 1.
      rungs: increasing numbers of epochs, each >= 1 and < `epochs`, at which runs are dropped. None: `epochs keep²` and
        `epochs keep`, rounded.
      keep: fraction of the runs that continue, in (0, 1); at least one run does. Failed runs are dropped first.
      batch_size, patience, augment: as in `fit`.
      monitor, mode: as in `fit`; the monitored metric decides which runs continue.
      strategy, chunk, progress: as in `sweep`, without "measure".

    Returns:
      A `Sweep` whose results are the `Run`s [n, ...]. A dropped run is returned as it was at its last rung:
      `results.epoch` is the number of its epochs, and its `history` is NaN after them. An interrupt returns the sweep
      as far as it got, with a RuntimeWarning; other exceptions have it as their attribute `sweep`.

    Raises:
      ValueError: for rungs or `keep` out of range; otherwise as `sweep` and `fit`.

    Differences: scikit-learn's HalvingGridSearchCV restarts runs at each rung and increases the number of examples, not
    of epochs. Hyperband is successive halving with several choices of rungs.

    Reference: Jamieson & Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, 2016; Li et
    al., Hyperband, 2018.

    >>> import jaxnn as nn
    >>> x = jax.random.normal(jax.random.key(1), (64, 3))
    >>> def make(point):
    ...     return nn.trainer(nn.dense(1), nn.losses.squared_error, nn.adam(point["rate"]))
    >>> points = nn.points.grid(rate=np.geomspace(1e-5, 0.1, 9))
    >>> found = nn.halving(make, points, jax.random.key(0), (x, x[:, :1]), epochs=27)
    >>> found.results.epoch.tolist(), round(found.best().point["rate"].item(), 1)
    ([3, 3, 3, 3, 3, 3, 9, 9, 27], 0.1)
    """
    check.function("halving", "make", make, "point -> trainer")
    check.choice("halving", "strategy", strategy, ("auto", "vmap", "map", "shard"))
    check.flags("halving", progress=progress)
    points, data = checked("halving", points, (train, valid), strategy, chunk)
    key, n = typed(key), len(jax.tree.leaves(points)[0])
    if key.shape not in ((), (n,)):
        raise invalid("halving", f"one key or a row of {n}", key)
    checked_settings("halving", epochs, batch_size, patience, monitor, mode, augment)
    ends = _ends(epochs, rungs, keep)
    begin, go_on = _steps(make, epochs, batch_size, patience, monitor, mode, augment)
    members = {"point": points, "key": jnp.broadcast_to(key, (n,))}
    how: dict[str, Any] = {"strategy": strategy, "chunk": chunk, "progress": progress}

    whole: Sweep | None = None
    alive = np.arange(n)
    for end in ends:
        step, some = begin, members
        if whole is not None:
            alive = _kept(whole.results, alive, ceil(len(alive) * keep), mode or direction(monitor))
            step = go_on
            some = jax.tree.map(lambda a, alive=alive: a[alive], members | {"run": whole.results})
        try:
            found = sweep_members("halving", step, some, (*data, jnp.int32(end)), **how)
        except Exception as error:
            partial = getattr(error, "sweep", None)
            if whole is not None or partial is not None:
                error.sweep = _joined(whole, partial, alive, points)  # type: ignore[attr-defined]
            raise
        whole = _joined(whole, found, alive, points)
        if not found.done.all():
            warn_interrupted("halving", found)
            break
    assert whole is not None
    return whole


def _joined(whole: Sweep | None, found: Sweep | None, alive: np.ndarray, points: Arrays) -> Sweep:
    """The whole sweep, updated with the latest results of the members that are still running."""
    if whole is None or found is None:
        first = whole or found
        assert first is not None
        return first._replace(points=points)
    part = jax.tree.map(lambda a: a[found.done], found.results)
    return whole._replace(results=placed(alive[found.done], part, len(whole.done), whole.results))


def _ends(epochs: int, rungs: Sequence[int] | None, keep: float) -> list[int]:
    """Epochs at which a part of the runs ends, including `epochs`."""
    check.scalar(
        "halving", "keep", keep, below=1.0, ends="()", static=True, fix="It is the fraction of the runs that go on."
    )
    if rungs is None:
        rungs = sorted({max(1, round(epochs * keep**2)), max(1, round(epochs * keep))} - {epochs})
    ends = [*rungs, epochs]
    for rung in ends:
        check.count("halving", "a rung", rung)
    if any(a >= b for a, b in pairwise(ends)):
        raise invalid("halving", f"rungs that rise and are less than epochs={epochs}", list(rungs))
    return ends


@lru_cache(maxsize=32)
def _steps(make: Callable[[Any], Trainer], *settings: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Functions that start and continue the run of one member; cached, so that equal settings compile once."""

    def planned(point: Arrays) -> Plan:
        return make_plan("halving", make(point), *settings)

    def begin(member: dict[str, Any], train: Data, valid: Data, until: jax.Array) -> Run:
        plan = planned(member["point"])
        check_data("halving", train, valid, plan.batch_size)
        batch = jax.tree.map(lambda a: a[: plan.batch_size], train)
        run = start(plan, member["key"], batch, steps_in(plan, train), valid)
        return advance(plan, run, train, valid, until)

    def go_on(member: dict[str, Any], train: Data, valid: Data, until: jax.Array) -> Run:
        return advance(planned(member["point"]), member["run"], train, valid, until)

    return begin, go_on


def _kept(runs: Run, alive: np.ndarray, number: int, mode: str | None) -> np.ndarray:
    """The indices of the members that continue, in ascending order: the best ones that did not fail."""
    value, failed = np.asarray(runs.best_value, np.float64)[alive], np.asarray(runs.failed)[alive] >= 0
    order = np.lexsort((-value if mode == "max" else value, failed))
    return np.sort(alive[order[:number]])
