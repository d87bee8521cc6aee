"""A whole training run as one pure function."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import _checks as check
from jaxnn._means import Mean
from jaxnn.train.checks import check_kept
from jaxnn.train.loop import bounded_while, forward_only
from jaxnn.train.plan import Plan, check_data, make_plan, spread, taken
from jaxnn.train.steps import augmented, for_any, steps_in, take_steps
from jaxnn.train.trainer import Metrics, Trainer, TrainState, averaged
from jaxnn.train.weigh import totals_of


class Best(NamedTuple):
    """Params and state of the best epoch, the averaged params where the trainer averages.

    >>> import jaxnn as nn
    >>> x = jnp.ones((4, 3))
    >>> t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.sgd(0.1))
    >>> nn.predict(nn.dense(1), *nn.fit(t, jax.random.key(0), (x, x[:, :1]), epochs=2).best, x).shape
    (4, 1)
    """

    params: Any
    state: Any


class Run(NamedTuple):
    """The whole of a fit; saved and loaded, it goes on to the last bit.

    Attributes:
      ts: the state after the last step.
      best: params and state after the epoch whose monitored value was best.
      best_value: that value.
      wait: epochs since then.
      epoch: epochs done.
      history: {"train": {metric: [epochs, steps]}, "valid": {metric: [epochs]}}, NaN for what was not reached.
      failed: -1, or the step, counted from 0 as in `ts.step`, at which numbers were finite no more: see `fit`.

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
    params: Any = None,
    state: Any = None,
) -> Run:
    """A whole training run, pure and traceable: under `jit` one program; seeds, rates and folds are `vmap`.

    Each epoch visits the examples in a new order, in full batches (what does not fill a batch waits for another epoch's
    order), then evaluates on all of `valid`. Under `vmap` all members compute until the slowest has stopped. On a CPU
    jit it with `compiler_options`, as `drive` does.

    A run ends at the first step whose loss is not finite, or after an epoch that leaves params which are not: `failed`
    is that step, or the last of the epoch; `ts` is what it was before the epoch, and `history` has all that was
    reached. That takes memory for the state twice over. A metric that is not finite, or an evaluation, ends nothing.
    Members under `vmap` fail by themselves. `drive` says in words what failed, and has the state just before it.

    The run is differentiable with respect to all that is traced in it: rates and strengths that the trainer closes
    over, data, weights of data. Forward mode (`jax.jacfwd`) takes the memory of a few runs. Reverse mode (`jax.grad`)
    is for a run without `patience` and keeps what every step of it needs: steps times the activations and the state of
    one. With `trainer._replace(step=jax.checkpoint(trainer.step))` it keeps the state alone and computes each step
    twice. Optimizers of `nn` have finite hypergradients where a coordinate had no gradient yet; optax's Adam has NaN.

    Args:
      key: of init, order and dropout; the same key gives the same run.
      train: a pytree of arrays with examples on axis 0, for `trainer` `(x, y)` or `(x, y, weights)`. Pass data as
        arguments of the function that is compiled, not as constants.
      valid: the same for evaluation, whose means are over all that counts in it, whatever the parts; None evaluates on
        nothing, and the means of the training metrics over the steps of an epoch are monitored.
      epochs: how often the data are visited, at most.
      batch_size: examples a step; None takes all of them in one step.
      patience: stops after more than so many epochs without a better value; None never.
      monitor: the metric that decides which epoch is best.
      mode: whether "min" or "max" of it is better; NaN never is. None knows it for "loss" and for metrics under the
        names of those in `nn.metrics` and `nn.losses`, such as "accuracy"; another name raises without it.
      augment: `augment(key, batch) -> batch`, applied to each training batch and to none of `valid`; a pure function,
        whose key is another at each step of each run.
      params, state: arrays to begin with, as in `trainer.init`: trained ones, all or some; the others are drawn.

    Raises ValueError for params or state that are not the model's, for sizes that do not fit together and for a
    monitored metric without a known direction, before anything compiles, and in reverse mode with `patience`.

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


def start(plan: Plan, key: jax.Array, batch: Any, steps: int, valid: Any, given: tuple = (None, None)) -> Run:
    """The run before its first epoch, from a batch, the steps of an epoch, and something to evaluate on.

    Args:
      given: params and state to begin with, None where they are drawn.
    """
    batch = augmented(plan, key, batch)
    known = {name: tree for name, tree in zip(("params", "state"), given, strict=True) if tree is not None}
    ts = plan.trainer.init(key, batch, **known)
    after, measured = jax.eval_shape(plan.trainer.step, ts, batch)
    check_kept(plan.where, ts, after)
    history = {"train": {name: jnp.full((plan.epochs, steps), jnp.nan, m.dtype) for name, m in measured.items()}}
    if valid is not None:
        measured = jax.eval_shape(plan.trainer.evaluate, ts, valid)
        history["valid"] = {name: jnp.full(plan.epochs, jnp.nan, m.dtype) for name, m in measured.items()}
    check.choice(plan.where, "monitor", plan.monitor, tuple(measured))
    best = jax.tree.map(jnp.copy, Best(averaged(ts), ts.state))  # an alias could not be donated
    worst = jnp.asarray(jnp.inf if plan.mode == "min" else -jnp.inf, measured[plan.monitor].dtype)
    zero = jnp.zeros((), jnp.int32)
    return Run(ts, best, worst, zero, jnp.copy(zero), history, jnp.full((), -1, jnp.int32))


def prolonged(run: Run, epochs: int) -> Run:
    """The run with room in its history for so many epochs, if it has less."""

    def longer(h: Any, axis: int) -> Any:
        if (missing := epochs - h.shape[axis]) <= 0:
            return h
        room = [(0, missing if i == axis else 0) for i in range(h.ndim)]
        return jax.device_put(np.pad(np.asarray(h), room, constant_values=np.nan))

    return _with_history(run, longer)


def shortened(run: Run, epochs: int) -> Run:
    """The shapes of the run with room for so many epochs."""
    return _with_history(
        jax.eval_shape(lambda: run) if isinstance(run.epoch, jax.Array) else run,
        lambda h, axis: jax.ShapeDtypeStruct((*h.shape[:axis], epochs, *h.shape[axis + 1 :]), h.dtype),
    )


def _with_history(run: Run, change: Callable[[Any, int], Any]) -> Run:
    """The run with other arrays in its history, by the axis of their epochs."""
    behind = {"train": 2, "valid": 1}
    history = {s: {k: change(h, h.ndim - behind[s]) for k, h in of.items()} for s, of in run.history.items()}
    return run._replace(history=history)


def advance(plan: Plan, run: Run, train: Any, valid: Any, until: jax.Array) -> Run:
    """Epochs up to `until`, a traced bound: however a run is cut into pieces, it runs this same loop."""
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
    """Whether a run has epochs left, patience left and finite numbers."""
    more = (run.epoch < plan.epochs) & (run.failed < 0)
    return more if plan.patience is None else more & (run.wait <= plan.patience)


def conclude(plan: Plan, run: Run, rows: Metrics, measured: Metrics | None, going: jax.Array) -> Run:
    """The run after the last step of an epoch: evaluated, compared and counted; as it was if it is not `going`."""
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


def evaluate(plan: Plan, ts: TrainState, data: Any) -> Metrics:
    """Means over all that counts: full batches in a loop, what is left over as one smaller batch; totals and counts."""
    n = jax.tree.leaves(data)[0].shape[0]
    size = min(n, max(plan.batch_size or n, 256))  # nothing is kept for a backward pass: larger batches fit
    full = n // size * size
    measure = partial(totals_of, plan.trainer, ts) if full > size or full < n else partial(plan.trainer.evaluate, ts)
    if plan.valid_spread is None:
        batches = jax.tree.map(lambda a: a[:full].reshape(-1, size, *a.shape[1:]), data)
        parts = jax.lax.map(measure, batches)
    else:  # each batch is spread as the arrays are
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
