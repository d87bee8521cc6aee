"""A whole training run as one pure function."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import _checks as check
from jaxnn._filled import copied, full
from jaxnn._means import Mean
from jaxnn._mesh import taken
from jaxnn.train._checks import check_data, check_kept
from jaxnn.train._epoch import augmented, for_any, steps_in, take_steps
from jaxnn.train._plan import Plan, make_plan, spread
from jaxnn.train._trainer import Trainer, TrainState, averaged
from jaxnn.train._weigh import totals_of
from jaxnn.train._while import bounded_while, forward_only
from jaxnn.types import Arrays, Batch, Data, Key, Metrics, Params, State


class Best(NamedTuple):
    """Params and state of the best epoch; the params are the averaged ones if the trainer averages.

    Attributes:
      params: params of the model.
      state: state of the model.

    >>> import jaxnn as nn
    >>> x = jnp.ones((4, 3))
    >>> t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.sgd(0.1))
    >>> nn.predict(nn.dense(1), *nn.fit(t, jax.random.key(0), (x, x[:, :1]), epochs=2).best, x).shape
    (4, 1)
    """

    params: Params
    state: State


class Run(NamedTuple):
    """Complete state and history of a training run; a saved and loaded run resumes bit for bit.

    Attributes:
      ts: the `TrainState` after the last step.
      best: params and state after the epoch with the best monitored value.
      best_value: the best monitored value.
      wait: number of epochs since the best one.
      epoch: number of epochs done.
      history: {"train": {metric: [epochs, steps]}, "valid": {metric: [epochs]}}; NaN for epochs and steps not reached.
      failed: -1, or the step, counted from 0 as in `ts.step`, at which the run became non-finite, as defined in `fit`.

    >>> import jaxnn as nn
    >>> x = jnp.ones((4, 3))
    >>> t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.sgd(0.1))
    >>> run = nn.fit(t, jax.random.key(0), (x, x[:, :1]), epochs=3, batch_size=2)
    >>> int(run.epoch), int(run.ts.step), int(run.wait), run.history["train"]["loss"].shape
    (3, 6, 0, (3, 2))
    """

    ts: TrainState
    best: Best
    best_value: jax.Array
    wait: jax.Array
    epoch: jax.Array
    history: dict[str, dict[str, jax.Array]]
    failed: jax.Array


def fit(
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
    params: Params | None = None,
    state: State | None = None,
) -> Run:
    """Trains a model for some epochs as a pure, traceable function: one program under `jit`, many runs under `vmap`.

    `vmap` runs over seeds (keys), rates or folds; all members compute until the slowest has stopped. Each epoch visits
    the examples in a new random order, in full batches (the remaining examples are left out in that epoch), and then
    evaluates on all of `valid`. On a CPU jit it with `compiler_options`, as `drive` does.

    A run ends at the first step with a non-finite loss, or after an epoch in which params became non-finite. `failed`
    is that step, or the last step of the epoch; `ts` is the state before the epoch; `history` holds everything reached.
    This requires memory for two copies of the state. A non-finite metric or evaluation does not end a run. Members
    under `vmap` fail independently. `drive` describes the failure and returns the state just before it.

    The run is differentiable with respect to everything traced in it: rates and strengths that the trainer closes over,
    data, and weights of data. Forward mode (`jax.jacfwd`) takes the memory of a few runs. Reverse mode (`jax.grad`)
    requires `patience=None` and stores the activations and the state of every step; with
    `trainer._replace(step=jax.checkpoint(trainer.step))` it stores only the states and computes each step twice. Where
    a coordinate has had no gradient yet, hypergradients are finite for the optimizers of `nn` and NaN for optax's Adam.

    Args:
      trainer: a `Trainer`.
      key: a JAX key for initialisation, order and dropout; equal keys give equal runs.
      train: pytree of arrays with examples on axis 0, for `trainer` `(x, y)` or `(x, y, weights)`. Pass data as
        arguments of the compiled function, not as constants.
      valid: data for evaluation in the same form. The means are exact over everything that counts in them, independent
        of the batches. None: no evaluation, and the monitored value is the mean of a training metric over the steps of
        an epoch.
      epochs: maximum number of epochs, >= 1.
      batch_size: examples per step, >= 1; None uses all examples in one step.
      patience: the run stops after more than this number of successive epochs without improvement, >= 0; None never
        stops.
      monitor: name of the metric that determines the best epoch.
      mode: "min" or "max", the direction in which the metric improves; NaN is never better. None infers it for "loss"
        and for metrics named as in `nn.metrics` and `nn.losses`, such as "accuracy"; other names require it.
      augment: `augment(key, batch) -> batch`, a pure function applied to each training batch, not to `valid`. Its key
        is different at each step of each run.
      params, state: initial arrays, as in `trainer.init`: all or some, for example of a trained model; the others are
        drawn at random.

    Returns:
      The `Run`.

    Raises:
      ValueError: before anything compiles, if params or state do not fit the model, sizes do not fit together, or the
        direction of the monitored metric is unknown; in reverse mode with `patience`.

    >>> import jaxnn as nn
    >>> x = jax.random.normal(jax.random.key(1), (64, 3))
    >>> t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.adam(0.1))
    >>> runs = jax.jit(jax.vmap(lambda key: nn.fit(t, key, (x, x[:, :1]), epochs=20, batch_size=16)))(
    ...     jax.random.split(jax.random.key(0), 3))
    >>> runs.history["train"]["loss"].shape, bool(jnp.all(runs.history["train"]["loss"][:, -1] < 1e-2))
    ((3, 20, 4), True)
    """
    plan = make_plan("fit", trainer, epochs, batch_size, patience, monitor, mode, augment)
    check.key("fit", key, "fit(trainer, key, train, valid)", one=True)
    check_data("fit", train, valid, plan.batch_size)
    train, valid = jax.tree.map(jnp.asarray, (train, valid))
    plan = spread(plan, train, valid)
    batch = jax.tree.map(lambda a: a[: plan.batch_size], train)
    run = start(plan, key, batch, steps_in(plan, train), valid, (params, state))
    return advance(plan, run, train, valid, jnp.asarray(plan.epochs, jnp.int32))


def start(plan: Plan, key: Key, batch: Batch, steps: int, valid: Data, given: tuple[Any, ...] = (None, None)) -> Run:
    """The run before its first epoch.

    Args:
      plan: the plan of the run.
      key: key of the run.
      batch: a batch, for shapes.
      steps: steps per epoch.
      valid: data for evaluation, for shapes; None for no evaluation.
      given: initial params and state; None where they are drawn at random.
    """
    batch = augmented(plan, key, batch)
    known = {name: tree for name, tree in zip(("params", "state"), given, strict=True) if tree is not None}
    ts = plan.trainer.init(key, batch, **known)
    after, measured = jax.eval_shape(plan.trainer.step, ts, batch)
    check_kept(plan.where, ts, after)
    history = {"train": {name: full((plan.epochs, steps), np.nan, m.dtype) for name, m in measured.items()}}
    if valid is not None:
        measured = jax.eval_shape(plan.trainer.evaluate, ts, valid)
        history["valid"] = {name: full((plan.epochs,), np.nan, m.dtype) for name, m in measured.items()}
    check.choice(plan.where, "monitor", plan.monitor, tuple(measured))
    best = copied(Best(averaged(ts), ts.state))  # an alias could not be donated
    worst = full((), np.inf if plan.mode == "min" else -np.inf, measured[plan.monitor].dtype)
    wait, epoch, failed = (full((), value, jnp.int32) for value in (0, 0, -1))
    return Run(ts, best, worst, wait, epoch, history, failed)


def prolonged(run: Run, epochs: int) -> Run:
    """The run with its history padded to `epochs` epochs, if it is shorter."""

    def longer(h: Any, axis: int) -> Arrays:
        if (missing := epochs - h.shape[axis]) <= 0:
            return h
        room = [(0, missing if i == axis else 0) for i in range(h.ndim)]
        return jax.device_put(np.pad(np.asarray(h), room, constant_values=np.nan))

    return _with_history(run, longer)


def shortened(run: Run, epochs: int) -> Run:
    """The run as shapes, with a history of `epochs` epochs."""
    return _with_history(
        jax.eval_shape(lambda: run) if isinstance(run.epoch, jax.Array) else run,
        lambda h, axis: jax.ShapeDtypeStruct((*h.shape[:axis], epochs, *h.shape[axis + 1 :]), h.dtype),
    )


def _with_history(run: Run, change: Callable[[Any, int], Any]) -> Run:
    """The run with `change(history, axis of its epochs)` applied to every array of the history."""
    behind = {"train": 2, "valid": 1}
    history = {s: {k: change(h, h.ndim - behind[s]) for k, h in of.items()} for s, of in run.history.items()}
    return run._replace(history=history)


def advance(plan: Plan, run: Run, train: Data, valid: Data, until: jax.Array) -> Run:
    """The run trained up to epoch `until`, a traced bound: a run in several parts uses the same loop and program."""
    count = jnp.asarray(steps_in(plan, train), jnp.int32)

    def going(run: Run) -> jax.Array:
        return unfinished(plan, run) & (run.epoch < until)

    def epoch(run: Run) -> Run:
        goes = going(run)
        like = run.history["train"]
        ts, rows, failed = take_steps(plan, run.ts, train, run.epoch, count, goes, like)
        history = run.history | {"train": _record(like, run.epoch, rows, goes)}
        run = run._replace(ts=ts, history=history, failed=jnp.maximum(run.failed, failed))
        measured = None if valid is None else evaluate(plan, ts, valid)
        return conclude(plan, run, rows, measured, goes & (run.failed < 0))

    def more(run: Run) -> jax.Array:
        return for_any(going(run))

    if plan.patience is None:
        return bounded_while(more, epoch, run, plan.epochs)
    return forward_only(jax.lax.while_loop(more, epoch, run))


def unfinished(plan: Plan, run: Run) -> jax.Array:
    """True if a run has epochs left, has patience left, and has not failed."""
    more = (run.epoch < plan.epochs) & (run.failed < 0)
    return more if plan.patience is None else more & (run.wait <= plan.patience)


def conclude(plan: Plan, run: Run, rows: Metrics, measured: Metrics | None, going: jax.Array) -> Run:
    """The run at the end of an epoch: evaluated, compared with the best, and counted; unchanged where not `going`."""
    value = jnp.mean(rows[plan.monitor]) if measured is None else measured[plan.monitor]
    history = run.history
    if measured is not None:
        history = history | {"valid": _record(history["valid"], run.epoch, measured, going)}
    better = going & (value < run.best_value if plan.mode == "min" else value > run.best_value)
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), Best(averaged(run.ts), run.ts.state), run.best)
    return run._replace(
        best=best,
        best_value=jnp.where(better, value, run.best_value),
        wait=jnp.where(going, jnp.where(better, 0, run.wait + 1), run.wait),
        epoch=run.epoch + going.astype(jnp.int32),
        history=history,
    )


def evaluate(plan: Plan, ts: TrainState, data: Data) -> Metrics:
    """Means of the metrics over everything that counts in the data, from totals and counts of batches.

    Full batches are evaluated in a loop, the remaining examples as one smaller batch.
    """
    n = jax.tree.leaves(data)[0].shape[0]
    size = min(n, max(plan.batch_size or n, 256))  # no backward pass: larger batches fit in memory
    full = n // size * size
    measure = partial(totals_of, plan.trainer, ts) if full > size or full < n else partial(plan.trainer.evaluate, ts)
    if plan.valid_spread is None:
        batches = jax.tree.map(lambda a: a[:full].reshape(-1, size, *a.shape[1:]), data)
        parts = jax.lax.map(measure, batches)
    else:  # each batch is sharded as the arrays are
        rows = jnp.arange(full, dtype=jnp.int32).reshape(-1, size)
        parts = jax.lax.map(lambda r: measure(taken(data, r, plan.valid_spread)), rows)
    if n == size:
        return {name: m[0] for name, m in parts.items()}
    whole = {name: Mean(jnp.sum(m.total), jnp.sum(m.count)) for name, m in parts.items()}
    if full < n:
        rest = totals_of(plan.trainer, ts, taken(data, slice(full, n), None))
        whole = {name: m + rest[name] for name, m in whole.items()}
    shapes = jax.eval_shape(plan.trainer.evaluate, ts, data)
    return {name: m.value.astype(shapes[name].dtype) for name, m in whole.items()}


def _record(history: Metrics, epoch: jax.Array, metrics: Metrics, going: jax.Array) -> Metrics:
    return {name: h.at[epoch].set(jnp.where(going, metrics[name], h[epoch])) for name, h in history.items()}
