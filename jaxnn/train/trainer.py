"""One step of training and one evaluation, as pure functions of a state that is the whole of it."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxnn._errors import describe, invalid, wrong_type
from jaxnn._flat import Flat, check_elementwise
from jaxnn._numbers import check_decay, complement, ema, number, rounded, weight, wide
from jaxnn._paths import globs, matching
from jaxnn.layer import Layer

Metrics = dict[str, jax.Array]


class TrainState(NamedTuple):
    """All that a step reads and writes; no two leaves alias, so all of it can be donated.

    Attributes:
      step: number of steps taken, int32.
      params: all params of the model, frozen ones too: a nested dict, or their vectors with `flat=True`.
      state: the model's state.
      opt_state: the optimizer's state, for the params that are trained.
      key: raw key data; step i draws from `fold_in(key, i)`.
      average: the moving mean of the params that are trained, in at least float32; None where there is none.

    >>> import jaxnn as nn
    >>> t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.sgd(0.1))
    >>> ts = t.init(jax.random.key(0), (jnp.ones((4, 3)), jnp.zeros((4, 1))))
    >>> int(ts.step), ts.params["w"].shape, ts.key.dtype
    (0, (3, 1), dtype('uint32'))
    """

    step: jax.Array
    params: Any
    state: Any
    opt_state: Any
    key: jax.Array
    average: Any = None


class Trainer(NamedTuple):
    """How a model is trained: three pure functions.

    Attributes:
      init: `init(key, batch) -> TrainState`.
      step: `step(ts, batch) -> (ts, metrics)`, one update.
      evaluate: `evaluate(ts, batch) -> metrics`, means over the examples of the batch, with `train=False`, and with the
        averaged params where there are some.

    >>> import jaxnn as nn
    >>> batch = jnp.ones((4, 3)), jnp.zeros((4, 1))
    >>> init, step, evaluate = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.sgd(0.1))
    >>> ts, metrics = jax.jit(step, donate_argnums=0)(init(jax.random.key(0), batch), batch)
    >>> int(ts.step), *metrics
    (1, 'loss')
    """

    init: Callable[..., TrainState]
    step: Callable[..., tuple[TrainState, Metrics]]
    evaluate: Callable[..., Metrics]


def trainer(
    model: Layer,
    loss: Callable,
    optimizer: optax.GradientTransformation,
    *,
    metrics: Mapping[str, Callable] | None = None,
    regularizer: Callable | None = None,
    frozen: str | Sequence[str] = (),
    average: ArrayLike | None = None,
    flat: bool = False,
) -> Trainer:
    """Supervised training on batches `(x, y)`: the loss is the mean over residuals of `loss(model(x), y)`.

    Args:
      loss: `(prediction, y) -> one loss per residual`, as in `nn.losses`.
      optimizer: any `optax.GradientTransformation`, ours or optax's or a chain; `optax.MultiSteps(optimizer, k)`
        accumulates gradients over k steps.
      metrics: name -> `(prediction, y) -> number`, a mean over the examples of the batch (others, F1 or AUC, take the
        predictions of the whole set).
      regularizer: `params -> number`, added to the loss; it sees the frozen params too.
      frozen: glob patterns of params paths ("backbone/*") that get no gradient and no optimizer state.
      average: the decay d, in [0, 1), of a moving mean of the trained params, by which `evaluate` and the `best` of
        `fit` go: a <- a + (1 - d)/(1 - d^t) (p - a) after step t. None is off. As `optax.ema` of the params, debiased;
        PyTorch's `AveragedModel` starts at the first params and does not debias. The model's state is not averaged:
        `recalibrate` takes batch norm's statistics anew.
      flat: keep params, gradients and the optimizer's state as one vector per dtype, split where the model reads them.
        The numbers stay. It is for steps called one by one: with hundreds of small arrays a call takes 0.7 to 0.87 of
        the time on a CPU, in a scan, as in `fit`, 0.9 to 1.25, and compiling about twice as long. `params.tree()` gives
        the dict that the model takes; the optimizer must treat every element alike, as in `nn.flat`.

    Raises TypeError for what is no model, loss or optimizer, and for one that `flat` cannot serve, ValueError for a
    pattern that matches no path.

    >>> import jaxnn as nn
    >>> t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.sgd(0.1))
    >>> batch = jnp.ones((4, 3)), jnp.zeros((4, 1))
    >>> ts = t.init(jax.random.key(0), batch)
    >>> ts, before = t.step(ts, batch)
    >>> bool(t.evaluate(ts, batch)["loss"] < before["loss"])
    True
    """
    if not isinstance(model, Layer):
        raise wrong_type("trainer", "model to be a Layer", model)
    if not callable(loss):
        raise wrong_type("trainer", "loss to be a function (prediction, target) -> loss", loss)
    if regularizer is not None and not callable(regularizer):
        raise wrong_type("trainer", "regularizer to be a function of params", regularizer)
    measures = dict(metrics or {})
    for name, metric in measures.items():
        if name == "loss" or not callable(metric):
            raise wrong_type(
                "trainer", "metrics as functions (prediction, target) under names other than 'loss'", {name: metric}
            )

    def init(key: jax.Array, batch: Any) -> tuple[dict, dict]:
        return model.init(key, _pair(batch)[0])

    def objective(params: dict, state: dict, batch: Any, *, key: jax.Array | None, train: bool) -> tuple:
        x, y = _pair(batch)
        prediction, state = model.apply(params, state, x, key=key, train=train)
        value = jnp.mean(loss(prediction, y))
        if regularizer is not None:
            value = value + regularizer(params)
        return value, (state, {name: metric(prediction, y) for name, metric in measures.items()})

    return objective_trainer(init, objective, optimizer, frozen=frozen, average=average, flat=flat)


def objective_trainer(
    init: Callable,
    objective: Callable,
    optimizer: optax.GradientTransformation,
    *,
    frozen: str | Sequence[str] = (),
    average: ArrayLike | None = None,
    flat: bool = False,
) -> Trainer:
    """Training of anything, from the function that is minimised.

    Args:
      init: `init(key, batch) -> (params, state)`, params a nested dict.
      objective: `objective(params, state, batch, *, key, train) -> (loss, (state, metrics))`; the loss and each of the
        metrics is one number, a mean over the examples of the batch; none of them is named "loss".
      optimizer: as in `trainer`.
      frozen, average, flat: as in `trainer`.

    >>> import jaxnn as nn
    >>> def objective(params, state, batch, *, key, train):
    ...     return jnp.mean((params["centre"] - batch) ** 2), (state, {})
    >>> t = objective_trainer(lambda key, batch: ({"centre": jnp.zeros(())}, {}), objective, nn.sgd(0.5))
    >>> ts, _ = t.step(t.init(jax.random.key(0), jnp.full(4, 3.0)), jnp.full(4, 3.0))
    >>> ts.params["centre"].item()
    3.0
    """
    for role, f in (("init", init), ("objective", objective)):
        if not callable(f):
            raise wrong_type("trainer", f"a function for {role}", f)
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise wrong_type("trainer", "optimizer to be an optax.GradientTransformation", optimizer)
    optimizer = optax.with_extra_args_support(_transformation(optimizer))
    patterns = globs("trainer", "frozen", frozen)
    if average is not None:
        if callable(average):
            raise wrong_type("trainer", "average to be a real number", average, "Pass a float, or None.")
        check_decay("trainer", "average", average)
    if flat:
        check_elementwise("trainer", optimizer)
    divided: Callable = Flat.divided if flat else partial(_split, patterns=patterns)
    joined: Callable = Flat.joined if flat else _merge
    whole: Callable = Flat.tree if flat else lambda params: params

    def start(key: jax.Array, batch: Any) -> TrainState:
        key = typed(key)
        if key.shape:
            raise invalid("trainer", "one key", key, "For a row of them vmap over init or fit, or call drive.")
        init_key, run_key = jax.random.split(key)
        params, state = init(init_key, batch)
        if not isinstance(params, dict):
            raise wrong_type("trainer", "init to return params as a nested dict", params)
        rests = matching("trainer", params, patterns, argument="frozen")
        params = Flat.of(params, frozen=rests) if flat else params
        trained, _ = divided(params)
        with jax.numpy_dtype_promotion("standard"):
            opt_state = optimizer.init(trained)
        mean = None if average is None else jax.tree.map(lambda p: p.astype(wide(p.dtype)), trained)
        ts = TrainState(jnp.zeros((), jnp.int32), params, state, opt_state, jax.random.key_data(run_key), mean)
        return jax.tree.map(jnp.copy, ts)  # some optimizers keep params as they came, and a buffer is donated only once

    def differentiate(ts: TrainState, batch: Any) -> tuple:
        """The trained params and the others, the function of the former that is minimised, its value and gradients."""
        trained, kept = divided(ts.params)
        key = jax.random.fold_in(typed(ts.key), ts.step)

        def value(trained: Any) -> tuple:
            loss, aux = objective(whole(joined(trained, kept)), ts.state, batch, key=key, train=True)
            return loss, (aux[0], _measures(loss, aux[1]))

        return trained, kept, value, jax.value_and_grad(value, has_aux=True)(trained)

    def step(ts: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        trained, kept, value, ((loss, (state, metrics)), grads) = differentiate(ts, batch)
        with jax.numpy_dtype_promotion("standard"):  # optax's own code is not strict about dtypes
            updates, opt_state = optimizer.update(
                grads, ts.opt_state, trained, value=loss, grad=grads, value_fn=lambda p: value(p)[0]
            )
            trained = optax.apply_updates(trained, updates)
        mean = None if average is None else _moved(ts.average, trained, average, ts.step + 1)
        return TrainState(ts.step + 1, joined(trained, kept), state, opt_state, ts.key, mean), metrics

    def gradients(ts: TrainState, batch: Any) -> dict:
        _, kept, _, (_, grads) = differentiate(ts, batch)
        return joined(grads, jax.tree.map(jnp.zeros_like, kept)).tree() if flat else grads

    step.gradients = gradients  # type: ignore[attr-defined]  # for `drive`, to say which of them were not finite

    def evaluate(ts: TrainState, batch: Any) -> Metrics:
        loss, (_, metrics) = objective(whole(averaged(ts)), ts.state, batch, key=None, train=False)
        return _measures(loss, metrics)

    return Trainer(start, step, evaluate)


def _transformation(optimizer: Any) -> optax.GradientTransformation:
    """What has `init` and `update` as an optax.GradientTransformation, which `optax.MultiSteps` is not."""
    if isinstance(optimizer, optax.GradientTransformation):
        return optimizer
    extra = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(optimizer.update).parameters.values())
    kind = optax.GradientTransformationExtraArgs if extra else optax.GradientTransformation
    return kind(optimizer.init, optimizer.update)


def typed(key: jax.Array) -> jax.Array:
    """A typed key from a typed one or from raw key data, whose width tells the implementation."""
    dtype, shape = getattr(key, "dtype", None), jnp.shape(key)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return key
    impl = {2: "threefry2x32", 4: "rbg"}.get(shape[-1] if shape else 0)
    if dtype != jnp.uint32 or impl is None:
        raise wrong_type("trainer", "a key, as jax.random.key(0) makes it", key)
    return jax.random.wrap_key_data(key, impl=impl)


def averaged(ts: TrainState) -> Any:
    """The params to evaluate: the averaged ones, in the dtypes of the params, and those that are not trained."""
    if ts.average is None:
        return ts.params
    if isinstance(ts.params, Flat):
        vectors = {name: v.astype(ts.params.vectors[name].dtype) for name, v in ts.average.vectors.items()}
        return ts.params.joined(Flat(vectors, ts.params.layout))

    def over(params: dict, mean: dict) -> dict:
        new = {k: over(params[k], m) if isinstance(m, dict) else m.astype(params[k].dtype) for k, m in mean.items()}
        return {**params, **new}

    return over(ts.params, ts.average)


def _moved(mean: Any, params: Any, decay: ArrayLike, t: jax.Array) -> Any:
    """The mean after params number t, debiased: its increments are those of a mean of t numbers that weigh d^(t-i)."""
    w = complement(decay)

    def moved(a: jax.Array, p: jax.Array) -> jax.Array:
        share = weight(w, t, jnp.finfo(a.dtype).dtype)
        return ema(a, rounded(p.astype(a.dtype), p.dtype), number(w, share) / share)

    return jax.tree.map(moved, mean, params)


def _measures(loss: Any, metrics: dict[str, Any]) -> Metrics:
    """Loss and metrics as floating numbers, so that means of them and NaN are of their dtype."""
    if "loss" in metrics:
        raise invalid("trainer", "metrics under names other than 'loss'", f"{', '.join(metrics)}")
    measures: dict[str, Any] = {"loss": loss, **metrics}
    for name, m in measures.items():
        if jnp.shape(m) != ():
            raise invalid("trainer", f"{name} to be one number, the mean over examples", m)
    return {name: _floating(m) for name, m in measures.items()}


def _floating(m: Any) -> jax.Array:
    return jnp.asarray(m, None if jnp.issubdtype(jnp.result_type(m), jnp.floating) else jnp.float32)


def _pair(batch: Any) -> tuple[Any, Any]:
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise wrong_type("trainer", "a batch (x, y)", describe(batch), "Other batches go through objective_trainer.")
    return batch[0], batch[1]


def _split(params: dict, patterns: tuple[str, ...], prefix: str = "") -> tuple[dict, dict]:
    """Params as two nested dicts, trained and frozen, without empty nodes."""
    trained: dict = {}
    frozen: dict = {}
    for name, node in params.items():
        path = f"{prefix}{name}"
        if isinstance(node, dict):
            for kept, part in zip((trained, frozen), _split(node, patterns, f"{path}/"), strict=True):
                if part:
                    kept[name] = part
        else:
            (frozen if any(fnmatchcase(path, p) for p in patterns) else trained)[name] = node
    return trained, frozen


def _merge(a: dict, b: dict) -> dict:
    both = {name: _merge(a[name], b[name]) for name in a.keys() & b.keys()}
    return {**a, **b, **both}
