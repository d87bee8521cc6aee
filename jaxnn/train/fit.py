"""A whole training run as one pure function."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxnn._errors import invalid, wrong_type
from jaxnn._inputs import check_count, check_examples
from jaxnn.layer import fold_name
from jaxnn.train.trainer import Trainer, TrainState, averaged, typed


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


class Plan(NamedTuple):
    """What is static about a run; hashable, so that one plan compiles once."""

    trainer: Trainer
    epochs: int
    batch_size: int | None
    patience: int | None
    monitor: str
    mode: str
    augment: Callable | None


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
    mode: Literal["min", "max"] = "min",
    augment: Callable | None = None,
) -> Run:
    """A whole training run, pure and traceable: under `jit` one program; seeds, rates and folds are `vmap`.

    Each epoch visits the examples in a new order, in full batches (what does not fill a batch waits for another epoch's
    order), then evaluates on all of `valid`. Under `vmap` all members compute until the slowest has stopped. On a CPU
    jit it with `compiler_options`, as `drive` does.

    Args:
      key: of init, order and dropout; the same key gives the same run.
      train: a pytree of arrays with examples on axis 0, for `trainer` a pair `(x, y)`. Pass data as arguments of the
        function that is compiled, not as constants.
      valid: the same for evaluation; None evaluates on nothing, and the means of the training metrics are monitored.
      epochs: how often the data are visited, at most.
      batch_size: examples a step; None takes all of them in one step.
      patience: stops after more than so many epochs without a better value; None never.
      monitor, mode: which metric decides what is best, and whether "min" or "max" is better. NaN never is.
      augment: `augment(key, batch) -> batch`, applied to each training batch and to none of `valid`; a pure function,
        whose key is another at each step of each run.

    Raises ValueError for sizes that do not fit together, before anything compiles.

    >>> import jaxnn as nn
    >>> x = jax.random.normal(jax.random.key(1), (64, 3))
    >>> t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.adam(0.1))
    >>> runs = jax.jit(jax.vmap(lambda key: nn.fit(t, key, (x, x[:, :1]), epochs=20, batch_size=16)))(
    ...     jax.random.split(jax.random.key(0), 3))
    >>> runs.history["train"]["loss"].shape, bool(jnp.all(runs.history["train"]["loss"][:, -1] < 1e-2))
    ((3, 20, 4), True)
    """
    plan = make_plan("fit", trainer, train, valid, epochs, batch_size, patience, monitor, mode, augment)
    train, valid = jax.tree.map(jnp.asarray, (train, valid))
    return advance(plan, start(plan, key, train, valid), train, valid, jnp.asarray(epochs, jnp.int32))


def start(plan: Plan, key: jax.Array, train: Any, valid: Any) -> Run:
    """The run before its first epoch."""
    batch = _augmented(plan, key, jax.tree.map(lambda a: a[: plan.batch_size], train))
    ts = plan.trainer.init(key, batch)
    _, measured = jax.eval_shape(plan.trainer.step, ts, batch)
    steps = 1 if plan.batch_size is None else _size(train) // plan.batch_size
    history = {"train": {name: jnp.full((plan.epochs, steps), jnp.nan, m.dtype) for name, m in measured.items()}}
    if valid is not None:
        measured = jax.eval_shape(plan.trainer.evaluate, ts, valid)
        history["valid"] = {name: jnp.full(plan.epochs, jnp.nan, m.dtype) for name, m in measured.items()}
    if plan.monitor not in measured:
        raise invalid("fit", f"monitor to be one of {', '.join(measured)}", plan.monitor)
    best = jax.tree.map(jnp.copy, Best(averaged(ts), ts.state))  # an alias could not be donated
    worst = jnp.asarray(jnp.inf if plan.mode == "min" else -jnp.inf, measured[plan.monitor].dtype)
    return Run(ts, best, worst, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), history)


def advance(plan: Plan, run: Run, train: Any, valid: Any, until: jax.Array) -> Run:
    """Epochs up to `until`, a traced bound: however a run is cut into pieces, it runs this same loop."""

    def going(run: Run) -> jax.Array:
        more = run.epoch < jnp.minimum(until, plan.epochs)
        return more if plan.patience is None else more & (run.wait <= plan.patience)

    def epoch(run: Run) -> Run:
        ts, metrics = _epoch(plan, run, train)
        history = {"train": _record(run.history["train"], run.epoch, metrics)}
        value = jnp.mean(metrics[plan.monitor])
        if valid is not None:
            measured = _evaluate(plan, ts, valid)
            history["valid"] = _record(run.history["valid"], run.epoch, measured)
            value = measured[plan.monitor]
        better = value < run.best_value if plan.mode == "min" else value > run.best_value
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), Best(averaged(ts), ts.state), run.best)
        best_value = jnp.where(better, value, run.best_value)
        return Run(ts, best, best_value, jnp.where(better, 0, run.wait + 1), run.epoch + 1, history)

    return jax.lax.while_loop(going, epoch, run)


def _epoch(plan: Plan, run: Run, train: Any) -> tuple[TrainState, dict]:
    if plan.batch_size is None:
        ts, metrics = _step(plan, run.ts, train)
        return ts, {name: m[None] for name, m in metrics.items()}
    n = _size(train)
    steps = n // plan.batch_size
    key = jax.random.fold_in(fold_name(typed(run.ts.key), "order"), run.epoch)  # type: ignore[arg-type]
    order = jax.random.permutation(key, n)[: steps * plan.batch_size].reshape(steps, plan.batch_size)

    def step(ts: TrainState, rows: jax.Array) -> tuple[TrainState, dict]:
        return _step(plan, ts, jax.tree.map(lambda a: a[rows], train))

    return jax.lax.scan(step, run.ts, order)


def _step(plan: Plan, ts: TrainState, batch: Any) -> tuple[TrainState, dict]:
    return plan.trainer.step(ts, _augmented(plan, ts.key, batch, ts.step))


def _augmented(plan: Plan, key: jax.Array, batch: Any, step: Any = 0) -> Any:
    """The batch as a step sees it, drawn from the run's key and the number of the step, whatever piece it is in."""
    if plan.augment is None:
        return batch
    return plan.augment(jax.random.fold_in(fold_name(typed(key), "augment"), step), batch)  # type: ignore[arg-type]


def _evaluate(plan: Plan, ts: TrainState, data: Any) -> dict[str, jax.Array]:
    """Means over all examples: full batches in a scan, what is left over as one smaller batch, weighted by size."""
    n, size = _size(data), plan.batch_size or _size(data)
    size = min(n, max(size, 256))  # nothing is kept for a backward pass: larger batches than in training fit
    full = n // size * size
    totals: dict[str, jax.Array] = {}
    if full:
        batches = jax.tree.map(lambda a: a[:full].reshape(-1, size, *a.shape[1:]), data)
        _, means = jax.lax.scan(lambda c, b: (c, plan.trainer.evaluate(ts, b)), None, batches)
        totals = {name: jnp.mean(m) * (full / n) for name, m in means.items()}
    if full < n:
        rest = plan.trainer.evaluate(ts, jax.tree.map(lambda a: a[full:], data))
        totals = {name: totals.get(name, 0) + m * ((n - full) / n) for name, m in rest.items()}
    return totals


def _record(history: dict, epoch: jax.Array, metrics: dict) -> dict:
    return {name: history[name].at[epoch].set(m) for name, m in metrics.items()}


def make_plan(
    where: str,
    trainer: Any,
    train: Any,
    valid: Any,
    epochs: Any,
    batch_size: Any,
    patience: Any,
    monitor: str,
    mode: str,
    augment: Any,
) -> Plan:
    """The plan of a run, its arguments checked."""
    if not isinstance(trainer, Trainer):
        raise wrong_type(where, "a Trainer", trainer, "nn.trainer(model, loss, optimizer) makes one.")
    check_count(where, "epochs", epochs)
    for argument, value, least in (("batch_size", batch_size, 1), ("patience", patience, 0)):
        if value is not None:
            check_count(where, argument, value, least)
    if mode not in ("min", "max"):
        raise invalid(where, "mode to be 'min' or 'max'", mode)
    if augment is not None and not callable(augment):
        raise wrong_type(where, "augment to be a function (key, batch) -> batch", augment)
    n = check_examples(where, "train", train)
    if valid is not None:
        check_examples(where, "valid", valid)
    if batch_size is not None and batch_size > n:
        raise invalid(where, f"batch_size to be at most the {n} examples of train", batch_size)
    return Plan(trainer, epochs, batch_size, patience, monitor, mode, augment)


def _size(data: Any) -> int:
    return jax.tree.leaves(data)[0].shape[0]
