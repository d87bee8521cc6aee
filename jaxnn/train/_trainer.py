"""Trainers: one training step and one evaluation, as pure functions of a state."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._dtypes import wide_dtype
from jaxnn._errors import InvalidType, InvalidValue, invalid, is_function, wrong_type
from jaxnn._filled import copied, full
from jaxnn._gather import reading
from jaxnn._inputs import BATCHES_FIX, is_batches
from jaxnn._keys import split
from jaxnn._layer import Layer
from jaxnn._mesh import summed
from jaxnn._moments import Average, Time
from jaxnn._numbers import rounded
from jaxnn._paths import globs, matching, part_of
from jaxnn.combinators import cast
from jaxnn.train._accumulate import counting
from jaxnn.train._checks import (
    check_optimizer,
    check_parts,
    checked_precision,
    named_metrics,
    results,
    weights_by_pattern,
)
from jaxnn.train._loss_scale import LossScale, after, begun, check_loss_scale, scaled, unscaled
from jaxnn.train._params import begun_with, merged, split_off
from jaxnn.train._weigh import (
    Predicted,
    check_broadcast,
    divided,
    examples_in,
    measured,
    measures_of,
    over_shards,
    share,
    unjitted,
)
from jaxnn.types import Arrays, Batch, Key, Metrics, OptState, Params, State


class TrainState(NamedTuple):
    """Complete state of training, read and written by a step; no two leaves alias, so all of it can be donated.

    Attributes:
      step: number of steps done, int32.
      params: all params of the model, including frozen ones: a nested dict.
      state: state of the model.
      opt_state: state of the optimizer, for the trained params.
      key: raw key data; step i draws from `fold_in(key, i)`.
      average: moving average of the trained params, in at least float32; None without averaging.
      loss_scale: the current `LossScale`; None without one.

    >>> import jaxnn as nn
    >>> t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.sgd(0.1))
    >>> ts = t.init(jax.random.key(0), (jnp.ones((4, 3)), jnp.zeros((4, 1))))
    >>> int(ts.step), ts.params["w"].shape, ts.key.dtype
    (0, (3, 1), dtype('uint32'))
    """

    step: jax.Array
    params: Params
    state: State
    opt_state: OptState
    key: Key
    average: Any = None
    loss_scale: LossScale | None = None


class Trainer(NamedTuple):
    """Pure functions that train a model: `init`, `step` and `evaluate`, and optional parts that explain it.

    Attributes:
      init: `init(key, batch) -> TrainState`. `init(key, batch, params=..., state=...)` starts from existing arrays,
        such as trained ones: nested dicts with paths, shapes and dtypes of the model. Missing paths are drawn at
        random.
      step: `step(ts, batch) -> (ts, metrics)`, one update.
      evaluate: `evaluate(ts, batch) -> metrics`, means over everything that counts in the batch, with `train=False` and
        the averaged params, if any. `evaluate(ts, batch, totals=True)` returns each as a `nn.Mean`: their sum over the
        parts of a set is exactly that of the set. A user-defined Trainer may omit `totals`: its means are weighted by
        examples.
      gradients: `gradients(ts, batch) -> gradients of the trained params` of the next step. None if unknown. A step of
        your own needs its own, or None.
      outcome: `outcome(ts, batch) -> (prediction, target, losses)` of the next step, the loss per residual or its mean.
        None if unknown.
      model, loss: the layer and the loss per residual that `nn.trainer` was given; `nn.diagnose` observes them. With
        `precision`, the layer computes in it: `predict(t.model, run, x)`. None if unknown.

    >>> import jaxnn as nn
    >>> batch = jnp.ones((4, 3)), jnp.zeros((4, 1))
    >>> t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.sgd(0.1))
    >>> ts, metrics = jax.jit(t.step, donate_argnums=0)(t.init(jax.random.key(0), batch), batch)
    >>> int(ts.step), *metrics
    (1, 'loss')
    """

    init: Callable[..., TrainState]
    step: Callable[..., tuple[TrainState, Metrics]]
    evaluate: Callable[..., Metrics]
    gradients: Callable[..., dict[str, Any]] | None = None
    outcome: Callable[..., tuple[Any, ...]] | None = None
    model: Layer | None = None
    loss: Callable[..., Any] | None = None


@recorded
def trainer(
    model: Layer,
    loss: Callable[..., Any],
    optimizer: optax.GradientTransformation,
    *,
    metrics: Mapping[str, Callable[..., Any]] | None = None,
    regularizer: Callable[..., Any] | None = None,
    auxiliary: Mapping[str, ArrayLike] | None = None,
    frozen: str | Sequence[str] = (),
    average: ArrayLike | None = None,
    axis_name: Hashable | None = None,
    precision: DTypeLike | None = None,
    loss_scale: LossScale | None = None,
) -> Trainer:
    """Trainer for supervised learning on batches `(x, y)` or `(x, y, weights)`: weighted mean of the losses l_i:

        L = Σ_i w_i l_i / Σ_i w_i + regularizer(params) + Σ_j a_j state_j

    The weight of a residual is 1, its weight in the batch, or 0 where `ignore_label` or `where` of a loss excludes it.
    Combined batches add totals and counts: evaluation in parts, batches of any sizes fed to `drive`, gradients
    accumulated by `optax.MultiSteps`, and shards.

    Weights of a batch are numbers or booleans, [n] for examples, or [n, ...], the first axes of the loss, for
    residuals. At weight 0, y and the prediction passed to the loss may hold any value, including NaN. If the model
    predicts an `nn.Padded`, the loss and the metrics get its `x`, and steps after the end of a sequence do not count. A
    batch in which nothing counts has a mean of 0 and changes only `step`.

    Args:
      model: a Layer.
      loss: `(prediction, y) -> residuals`, as in `nn.losses`; or a number, the mean over the examples; or an
        `nn.Mean(total, count)`. A function that calls a loss with `ignore_label`, `where` or weights must return that
        loss unchanged, or an `nn.Mean`: a number computed from it does not have the count, and raises.
      optimizer: any `optax.GradientTransformation` of jaxnn or optax. `optax.MultiSteps(optimizer, k)` accumulates
        gradients over k steps: k uneven parts equal one step on all of them (with `use_grad_mean=False`, k times its
        gradient). Inside a chain MultiSteps is not detected, and its parts get equal weights.
      metrics: name -> `(prediction, y)` -> a value per example or residual, a number or an `nn.Mean`, as for the loss
        (F1 and AUC need the predictions of the whole set). A metric that returns a number is called with `weights=` if
        the batch has weights or the prediction is padded.
      regularizer: `params -> number`, added to the loss; its params include the frozen ones.
      auxiliary: losses that layers compute from the batch and return in their state, such as the balance of
        `mixture_of_experts`: weights a_j by glob patterns of paths of the state, `{"*balance": 0.01}`. The sum over all
        elements at these paths in the state after the call is added to the loss, in `evaluate` too.
      frozen: glob patterns of params paths ("backbone/*") that get no gradient and no optimizer state. Weight decay
        masks of `nn`'s optimizers may cover all params. State is not frozen: running statistics of a batch norm with
        frozen scale and bias still change; use `nn.inference(backbone)` to keep them.
      average: decay d, in [0, 1), of a moving average a of the trained params p, updated after step t by
        `a <- a + (1 - d)/(1 - d^t) (p - a)`, as a debiased `optax.ema`; `evaluate` and the `best` of `fit` use it.
        None: no average. The model's state is not averaged: `recalibrate` recomputes the statistics of batch norms.
      axis_name: mesh axis or axes over which a batch is sharded in `jax.shard_map`, or name of a `vmap` axis: loss,
        metrics and gradients are those of the whole batch, on every shard. Without it they are those of the shard (with
        `check_vma` JAX sums the gradients). Not needed under `jit` with sharded arrays.
      precision: "bfloat16" or "float16" for mixed precision, or "float32". Training and evaluation run
        `cast(model, precision, output="float32")`, the `model` of the trainer, which is also that for `predict`.
        Params, their gradients, the optimizer, statistics, softmax and losses stay in float32. None: the dtype of x.
      loss_scale: dynamic scale of the loss, against underflow of gradients in float16. None: a `LossScale()` if
        precision is "float16", otherwise no scale.

    Returns:
      A `Trainer`.

    Raises:
      TypeError: for an invalid model, loss or optimizer, another precision, and a loss or metric that does not
        determine how much of the batch counts.
      ValueError: for a pattern that matches no path, weights of another shape, and a loss that broadcasts a prediction
        [n, 1] with a target [n].

    Differences: Keras multiplies by `sample_weight` and divides by n; this mean divides by the sum of the weights, as
    PyTorch's cross-entropy does with class weights and `ignore_index`. PyTorch's `AveragedModel` starts at the first
    params and does not debias. For mixed precision PyTorch's autocast has lists of operations by dtype, Keras a global
    policy, flax a `dtype` of each module, and jmp casts params and inputs before the model. Here the layers of a model
    pass each other arrays of `precision`, cast params where they use them, and compute statistics in float32.

    >>> import jaxnn as nn
    >>> t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.sgd(0.1))
    >>> batch = jnp.ones((4, 3)), jnp.zeros((4, 1))
    >>> ts = t.init(jax.random.key(0), batch)
    >>> ts, before = t.step(ts, batch)
    >>> bool(t.evaluate(ts, batch)["loss"] < before["loss"])
    True
    >>> t.evaluate(ts, (*batch, jnp.array([1.0, 0.0, 2.0, 0.0])), totals=True)["loss"].count.item()
    3.0
    """
    check_parts(model, loss, regularizer)
    measures = named_metrics(metrics)
    if (dtype := checked_precision(precision)) is not None:
        model = cast(model, dtype.name, output="float32")
        loss_scale = LossScale() if loss_scale is None and dtype.name == "float16" else loss_scale
    weights_of_state = weights_by_pattern(auxiliary)

    def init(key: Key, batch: Batch) -> tuple[Params, State]:
        try:
            return model.init(key, divided(batch)[0])
        except (TypeError, ValueError) as error:
            if not is_batches(batch):
                raise
            expected, got = "a batch (x, y) or (x, y, weights)", f"a list of {len(batch)} batches"
            raise wrong_type("trainer", expected, told=got, fix=BATCHES_FIX) from error

    def objective(params: Params, state: State, batch: Batch, *, key: Key | None, train: bool) -> tuple[Any, ...]:
        x, y, weights = divided(batch)
        prediction, state = reading(model.apply)(params, state, x, key=key, train=train)
        seen = Predicted.of(prediction, y, weights, examples_in(x))
        check_broadcast(loss, seen.prediction, seen.target)
        value, shape = measured("loss", loss, seen)
        if regularizer is not None:
            value = value._replace(value=value.value + regularizer(params))
        if weights_of_state:
            value = value._replace(value=value.value + _auxiliary(weights_of_state, state, value.value.dtype))
        return value, (state, {name: measured(name, metric, seen, shape)[0] for name, metric in measures.items()})

    def outcome(ts: TrainState, batch: Batch) -> tuple[Any, ...]:
        """The predictions and targets of a step, and the loss per residual, or its mean."""
        x, y, weights = divided(batch)
        key = jax.random.fold_in(typed(ts.key), ts.step)
        prediction, _ = reading(model.apply)(ts.params, ts.state, x, key=key, train=True)
        seen = Predicted.of(prediction, y, weights, examples_in(x))
        return seen.prediction, seen.target, unjitted(loss)(seen.prediction, seen.target)

    how: dict[str, Any] = {"frozen": frozen, "average": average, "axis_name": axis_name, "loss_scale": loss_scale}
    made = objective_trainer(init, objective, optimizer, **how)
    return made._replace(outcome=outcome, model=model, loss=loss)


@recorded
def objective_trainer(
    init: Callable[..., Any],
    objective: Callable[..., Any],
    optimizer: optax.GradientTransformation,
    *,
    frozen: str | Sequence[str] = (),
    average: ArrayLike | None = None,
    axis_name: Hashable | None = None,
    loss_scale: LossScale | None = None,
) -> Trainer:
    """Trainer for an arbitrary objective, the function that is minimised.

    Args:
      init: `init(key, batch) -> (params, state)`, params a nested dict.
      objective: `objective(params, state, batch, *, key, train) -> (loss, (state, metrics))`. The loss and each metric
        is a number, a mean over the examples of the batch, or an `nn.Mean(total, count)` with another count; no metric
        may have the name "loss".
      optimizer, frozen, average, axis_name, loss_scale: as in `trainer`. For mixed precision the objective runs
        `cast(model, dtype, output="float32")`, with `loss_scale=LossScale()` if the dtype is float16.

    Returns:
      A `Trainer`.

    Raises:
      TypeError, ValueError: as `trainer`, and for an objective with another result.

    >>> import jaxnn as nn
    >>> def objective(params, state, batch, *, key, train):
    ...     return jnp.mean((params["centre"] - batch) ** 2), (state, {})
    >>> t = objective_trainer(lambda key, batch: ({"centre": jnp.zeros(())}, {}), objective, nn.sgd(0.5))
    >>> ts, _ = t.step(t.init(jax.random.key(0), jnp.full(4, 3.0)), jnp.full(4, 3.0))
    >>> ts.params["centre"].item()
    3.0
    """
    check.function("trainer", "init", init)
    check.function("trainer", "objective", objective)
    check_optimizer(optimizer)
    check_loss_scale(loss_scale)
    by_count = counting(optimizer)
    patterns = globs("trainer", "frozen", frozen)
    if average is not None:
        if is_function(average):
            raise wrong_type("trainer", "average to be a real number", average, "Pass a float, or None.")
        check.scalar("trainer", "average", average, below=1.0)

    def start(key: Key, batch: Batch, *, params: Params | None = None, state: State | None = None) -> TrainState:
        key, known = typed(key, order="init(key, batch)"), {"params": params, "state": state}
        if key.shape:
            raise invalid("trainer", "one key", key, "For a row of them vmap over init or fit, or call drive.")
        init_key, run_key = split(key)
        params, state = init(init_key, batch)
        if not isinstance(params, dict):
            raise wrong_type("trainer", "init to return params as a nested dict", params)
        params, state = begun_with("params", params, known["params"]), begun_with("state", state, known["state"])
        matching("trainer", params, patterns, argument="frozen")
        trained, _ = split_off(params, patterns)
        with jax.numpy_dtype_promotion("standard"), part_of(params if patterns else None):
            opt_state = _initialised(by_count.init, trained, params)
        mean = None if average is None else jax.tree.map(lambda p: p.astype(wide_dtype(p.dtype)), trained)
        scale = None if loss_scale is None else begun(loss_scale)
        ts = TrainState(full((), 0, jnp.int32), params, state, opt_state, jax.random.key_data(run_key), mean, scale)
        return copied(ts)  # some optimizers keep the params arrays; a buffer is donated only once

    def differentiate(ts: TrainState, batch: Batch) -> tuple[Any, ...]:
        """Trained params, other params, loss as a function of the trained params, state, measures and gradients."""
        _check_state("step", ts)
        trained, kept = split_off(ts.params, patterns)
        key = jax.random.fold_in(typed(ts.key), ts.step)

        def value(trained: Any) -> tuple[Any, ...]:
            loss, (state, metrics) = results(objective(merged(trained, kept), ts.state, batch, key=key, train=True))
            here = measures_of(loss, metrics, batch)
            measures, (part, count) = over_shards(here, axis_name), here["loss"]
            if axis_name is not None:  # gradients of the shards sum to that of the batch
                part = part * share(measures["loss"].count, count, part.dtype)
            return scaled(ts.loss_scale, part), (state, measures)

        (_, (state, measures)), grads = jax.value_and_grad(value, has_aux=True)(trained)
        if axis_name is not None:
            grads = jax.tree.map(partial(summed, axis_name), grads)
        grads = unscaled(ts.loss_scale, grads)
        return trained, kept, lambda p: value(p)[1][1]["loss"].value, state, measures, grads

    def step(ts: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        trained, kept, value, state, measures, grads = differentiate(ts, batch)
        (loss, count), metrics = measures["loss"], {name: m.value for name, m in measures.items()}
        extra = {"value": loss, "grad": grads, "value_fn": value}
        apart = part_of(ts.params if patterns else None)
        with jax.numpy_dtype_promotion("standard"), apart:  # optax's code does not support strict promotion
            update = by_count.update(grads, ts.opt_state, trained, count, **extra)
            trained = optax.apply_updates(trained, update.updates)
        mean = None if average is None else _moved(ts.average, trained, average, ts.step + 1)
        new = TrainState(ts.step + 1, merged(trained, kept), state, update.opt_state, ts.key, mean, ts.loss_scale)
        old = ts._replace(step=ts.step + 1, opt_state=update.unchanged)
        new = _chosen(update.counts, new, old)
        if ts.loss_scale is not None:
            scale, taken = after(ts.loss_scale, grads)
            new = _chosen(taken, new, ts._replace(step=ts.step + 1))._replace(loss_scale=scale)
        return new, metrics

    def gradients(ts: TrainState, batch: Batch) -> dict[str, Any]:
        return differentiate(ts, batch)[-1]

    def evaluate(ts: TrainState, batch: Batch, *, totals: bool = False) -> Any:
        _check_state("evaluate", ts)
        loss, (_, metrics) = results(objective(averaged(ts), ts.state, batch, key=None, train=False))
        measures = over_shards(measures_of(loss, metrics, batch), axis_name)
        return {name: m.mean if totals else m.value for name, m in measures.items()}

    for name, f in (("init", start), ("step", step), ("evaluate", evaluate)):
        f.__qualname__ = f"trainer.{name}"  # for the errors of Python
    return Trainer(start, step, evaluate, gradients)


def _auxiliary(weights: Mapping[str, ArrayLike], state: State, dtype: Any) -> jax.Array:
    """Σ_j a_j state_j over the paths of the state that match a pattern."""
    if not state:
        first = repr(next(iter(weights)))
        raise invalid("trainer", "auxiliary to match some of the state", told=first, fix="The model has no state.")
    total = jnp.zeros((), dtype)
    for pattern, weight in weights.items():
        chosen = matching("trainer", state, pattern, argument="auxiliary")
        for leaf, is_chosen in zip(jax.tree.leaves(state), jax.tree.leaves(chosen), strict=True):
            if is_chosen:
                total += jnp.asarray(weight, dtype) * jnp.sum(leaf).astype(dtype)
    return total


def _check_state(where: str, ts: Any) -> None:
    """Raises TypeError unless `ts` is a TrainState."""
    if not isinstance(ts, TrainState):
        fix = f"The order is {where}(ts, batch), with ts = init(key, batch)."
        raise wrong_type(where, "ts to be a TrainState", ts, fix)


def _chosen(counts: bool | jax.Array, new: TrainState, old: TrainState) -> TrainState:
    if isinstance(counts, bool):
        return new if counts else old
    return jax.tree.map(lambda now, then: now if now is then else jnp.where(counts, now, then), new, old)


def _initialised(init: Callable[[Any], Any], trained: Any, params: Params) -> OptState:
    """The optimizer's state for the trained params; explains the error of an optimizer that was made for all params."""
    try:
        return init(trained)
    except (TypeError, ValueError) as error:
        structures: list[Any] = [jax.tree.structure(tree) for tree in (trained, params)]
        if isinstance(error, InvalidType | InvalidValue) or structures[0] == structures[1]:
            raise
        try:
            jax.eval_shape(init, params)
        except Exception:
            raise error from None
        expected = "an optimizer whose masks and labels are those of the params that are trained"
        fix = "Give optax's masks and labels as functions of params; an optimizer of nn takes those of all params."
        raise wrong_type(
            "trainer", expected, told="one for all params, of which frozen= leaves some out", fix=fix
        ) from error


typed = partial(check.typed_key, "trainer")


def averaged(ts: TrainState) -> Arrays:
    """The params for evaluation: averaged ones in the dtypes of the params, and frozen ones unchanged."""
    if ts.average is None:
        return ts.params

    def over(params: Params, mean: dict[str, Any]) -> dict[str, Any]:
        new = {k: over(params[k], m) if isinstance(m, dict) else m.astype(params[k].dtype) for k, m in mean.items()}
        return {**params, **new}

    return over(ts.params, ts.average)


def _moved(mean: Arrays, params: Params, decay: ArrayLike, t: jax.Array) -> Arrays:
    """The debiased average after step t: increments are those of a mean of t values with the weights d^(t-i)."""
    average, time = Average(decay), Time(t)

    def moved(a: jax.Array, p: jax.Array) -> jax.Array:
        return average.update_debiased(a, rounded(p.astype(a.dtype), p.dtype), time)

    return jax.tree.map(moved, mean, params)
