"""Weighted means of losses and metrics over a batch, together with their counts."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxnn._dtypes import wide_dtype
from jaxnn._errors import InvalidValue, describe, invalid, wrong_type
from jaxnn._inputs import BATCHES_FIX, is_batches
from jaxnn._means import Mean, counting
from jaxnn._padded import Padded, values_of
from jaxnn.train._checks import check_numbers
from jaxnn.types import Arrays, Batch


@jax.tree_util.register_static
@dataclass(frozen=True)
class Known:
    """A count determined by shapes alone: the batch has no weights, and the program is the one without weights."""

    n: int


class Measure(NamedTuple):
    """Mean [] of a loss or metric over a batch, and the sum of the weights in it.

    Attributes:
      value: the mean.
      count: the sum of the weights.
    """

    value: Any
    count: Array | Known  # type: ignore[assignment]

    @property
    def mean(self) -> Mean:
        """The mean as total and count, in at least float32."""
        value = self.value.astype(wide_dtype(self.value.dtype))
        count = number_of(self.count, value.dtype)
        return Mean(value * count, count)


def number_of(count: Array | Known, dtype: DTypeLike) -> Array:
    """A count as an array []."""
    return jnp.full((), count.n, dtype) if isinstance(count, Known) else count.astype(dtype)


def floating(m: Any) -> Array:
    """A number as a floating array, so that its means and NaN have its dtype."""
    return jnp.asarray(m, None if jnp.issubdtype(jnp.result_type(m), jnp.floating) else jnp.float32)


def of_mean(mean: Mean) -> Measure:
    """The measure of a `Mean` that a user's function returned."""
    total, count = floating(mean.total), floating(mean.count)
    for name, part in (("total", total), ("count", count)):
        if part.shape != ():
            raise invalid("trainer", f"the {name} of a Mean to be one number", part, "Sum over the batch.")
    return Measure(Mean(total, count).value, jax.lax.stop_gradient(count))


def examples_in(batch: Batch) -> int:
    """Number of examples on axis 0 of a batch; 1 if it holds no arrays."""
    return next((a.shape[0] for a in jax.tree.leaves(batch) if getattr(a, "shape", ())), 1)


def divided(batch: Batch) -> tuple[Any, Any, Any]:
    """x, y and weights of a batch; weights are None for `(x, y)`."""
    if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
        fix = BATCHES_FIX if is_batches(batch) else "Other batches go through objective_trainer."
        if hasattr(batch, "shape"):
            fix = "Pass (x, y) as one argument; other batches go through objective_trainer."
        raise wrong_type("trainer", "a batch (x, y) or (x, y, weights)", batch, fix)
    x, y, weights = (*batch, None)[:3]
    kinds = jnp.floating, jnp.integer, jnp.bool
    if weights is not None and (
        not getattr(weights, "shape", ()) or not any(jnp.issubdtype(weights.dtype, kind) for kind in kinds)
    ):
        fix = "They are numbers or booleans, one for each example or each residual."
        raise wrong_type("trainer", "the weights of a batch to be an array [n, ...]", weights, fix)
    return x, y, weights


class Predicted(NamedTuple):
    """The arguments of the loss and the metrics for a batch.

    Attributes:
      prediction, target: with values that do not count replaced by 0, as 0 · nan would make a gradient nan.
      weights: weights of examples or residuals, [n] or [n, ...], 0 after the end of a sequence; None if all are 1.
      n: number of examples.
    """

    prediction: Arrays
    target: Arrays
    weights: Array | None
    n: int

    @classmethod
    def of(cls, prediction: Arrays, target: Arrays, weights: Arrays, n: int) -> Predicted:
        """A batch; its weights combine those given with the lengths of a `Padded` prediction, or else target."""
        padded = next((a for a in (prediction, target) if isinstance(a, Padded)), None)
        prediction, target = map(values_of, (prediction, target))
        weights = None if weights is None else jnp.asarray(weights)
        if weights is not None and not jnp.issubdtype(weights.dtype, jnp.floating):
            weights = weights.astype(jnp.float32)
        if padded is not None:
            weights = _product(padded.mask, weights)
        if weights is not None:
            prediction, target = jax.tree.map(partial(_kept, weights), (prediction, target))
        return cls(prediction, target, weights, n)


def _product(mask: Array, weights: Array | None) -> Array:
    """The weights of residuals, [n, t, ...], from a mask [n, t] and weights [n], [n, t] or [n, t, ...]."""
    if weights is None:
        return mask.astype(jnp.float32)
    rank = max(weights.ndim, 2)
    if weights.shape[:2] != mask.shape[: weights.ndim]:
        expected = f"weights of shape {list(mask.shape[:1])} or {list(mask.shape)}, that of the sequences"
        raise invalid("trainer", expected, weights)
    weights, mask = (a.reshape(a.shape + (1,) * (rank - a.ndim)) for a in (weights, mask))
    return jnp.where(mask, weights, 0)


def _kept(weights: Array, leaf: Arrays) -> Arrays:
    """An array with 0 where the weight is 0; unchanged if it does not have the leading axes of the weights."""
    if jnp.shape(leaf)[: weights.ndim] != weights.shape:
        return leaf
    leaf = jnp.asarray(leaf)
    return jnp.where(_over(weights, leaf.shape) != 0, leaf, jnp.zeros((), leaf.dtype))


def _over(weights: Array, shape: tuple[int, ...]) -> Array:
    """Weights of the leading axes, broadcast over the others."""
    return jnp.broadcast_to(weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)), shape)


def measured(
    name: str, f: Callable[..., Any], batch: Predicted, shape: tuple[int, ...] | None = None
) -> tuple[Measure, tuple[int, ...]]:
    """The weighted mean of a loss or metric over a batch, and the shape of the value that the function returned.

    If the function returns an array of residuals [n, ...], the mean is weighted by the weights recorded for this array
    object (`ignore_label`, `where`, or weights inside the function), times those of the batch. If it returns a `Mean`
    or a number, it has taken the mean itself, and receives the weights of the batch as `weights=`.

    Args:
      name: name of the loss or metric, for errors.
      f: `(prediction, target) -> value`.
      batch: the batch.
      shape: shape of the loss, if weights of its residuals may have to be broadcast for a metric.
    """
    f, weights = unjitted(f), batch.weights
    with counting() as counts:
        value = f(batch.prediction, batch.target)
    if not isinstance(value, Mean):
        check_numbers(name, value)
    if weights is not None and (isinstance(value, Mean) or jnp.shape(value) == ()):
        with counting() as counts:
            value = _told(name, f, batch, weights, shape)
        if not isinstance(value, Mean) and counts.of(value) is None:
            return Measure(floating(value), jnp.sum(weights)), ()
    if isinstance(value, Mean):
        return of_mean(value), ()
    noted = counts.of(value)
    if isinstance(noted, Mean):
        return Measure(floating(value), of_mean(noted).count), ()
    known = any(result is value for result, _ in counts.found)
    if not known and any(not isinstance(w, Mean) and w is not None for _, w in counts.found):
        fix = "Return the loss itself, or nn.Mean(total, count)."
        raise wrong_type(
            "trainer",
            f"{name} to return the result of a loss of nn.losses, which leaves residuals out or weighs them",
            told=f"{describe(value)} computed from it, without its count",
            fix=fix,
        )
    if jnp.shape(value) == ():
        return Measure(floating(value), Known(batch.n)), ()
    return _weighed(name, jnp.asarray(value), noted, weights), jnp.shape(value)


def _weighed(name: str, values: Array, noted: Any, weights: Array | None) -> Measure:
    """The mean of values already multiplied by their recorded weights `noted`, but not yet by those of the batch."""
    if values.size == 0:
        return Measure(floating(jnp.sum(values)), Known(0))
    if noted is None and weights is None:
        return Measure(jnp.mean(values), Known(values.size))
    values = floating(values)
    dtype = wide_dtype(values.dtype)
    total = values.astype(dtype)
    count = _over(jnp.ones((), bool) if noted is None else jnp.asarray(noted), values.shape).astype(dtype)
    if weights is not None:
        if values.shape[: weights.ndim] != weights.shape:
            expected = f"weights of the first axes of {name}, {list(values.shape)}"
            raise invalid("trainer", expected, weights, "They are those of examples, [n], or of residuals.")
        w = _over(weights, values.shape).astype(dtype)
        total = jnp.where(w != 0, total * w, 0)
        count = jnp.where(w != 0, count * w, 0)
    mean = Mean(jnp.sum(total), jnp.sum(count))
    return Measure(mean.value.astype(values.dtype), mean.count)


def _told(name: str, f: Callable[..., Any], batch: Predicted, weights: Array, shape: tuple[int, ...] | None) -> Any:
    """The value of a function that takes the mean itself, called with weights in their shape or that of the loss."""
    if not takes(f, "weights"):
        fix = "Return one value for each example or residual, or give it the parameter weights=."
        got = "one that returns a mean"
        raise wrong_type("trainer", f"{name} to be a function that knows the weights of the batch", told=got, fix=fix)
    try:
        return f(batch.prediction, batch.target, weights=weights)
    except InvalidValue:
        if shape is None or shape[: weights.ndim] != weights.shape or shape == weights.shape:
            raise
    return f(batch.prediction, batch.target, weights=_over(weights, shape))


def takes(f: Callable[..., Any], parameter: str) -> bool:
    """True if a function has a parameter of this name."""
    try:
        return parameter in inspect.signature(f).parameters
    except (TypeError, ValueError):  # built-in functions may have no signature
        return False


_JITTED = type(jax.jit(lambda: None))


def unjitted(f: Callable[..., Any]) -> Callable[..., Any]:
    """The function inside a `jax.jit`: a cached program is not traced again and would not record its counts."""
    if isinstance(f, partial):
        return partial(unjitted(f.func), *f.args, **f.keywords)
    return inspect.unwrap(f, stop=lambda g: not isinstance(g, _JITTED))


def check_broadcast(loss: Callable[..., Any], prediction: Arrays, target: Arrays) -> None:
    """Raises if a loss broadcasts a prediction [n, 1] and a target [n] to [n, n], detected by JAX's rank promotion.

    Only shapes whose broadcast shape equals neither of them are checked: otherwise the loss may reshape one of them.
    """
    if not all(hasattr(a, "dtype") for a in (prediction, target)):  # pytrees are not checked
        return
    shapes = jnp.shape(prediction), jnp.shape(target)
    if len(shapes[0]) == len(shapes[1]):
        return
    try:
        if jnp.broadcast_shapes(*shapes) in shapes:
            return
    except ValueError:
        return
    try:
        with jax.numpy_rank_promotion("raise"):
            jax.eval_shape(unjitted(loss), prediction, target)
    except ValueError as error:
        texts = [" ".join(map(str, pair)) for pair in (shapes, shapes[::-1])]
        if "rank_promotion" in str(error) and any(f"on shapes {text} " in str(error) for text in texts):
            got = f"{describe(prediction)} and {describe(target)}, broadcast to {list(jnp.broadcast_shapes(*shapes))}"
            fix = "Reshape one of them, for example y[:, None]."
            raise invalid("trainer", "a loss of prediction and target of equal shape", told=got, fix=fix) from None
    except Exception:  # the call itself will raise it
        return


def totals_of(trainer: Any, ts: Any, batch: Batch) -> dict[str, Mean]:
    """The metrics of a batch as totals and counts; if `evaluate` of a Trainer returns numbers, by examples."""
    evaluate = unjitted(trainer.evaluate)
    if takes(evaluate, "totals"):
        return evaluate(ts, batch, totals=True)
    n = Known(examples_in(batch))
    return {name: Measure(floating(m), n).mean for name, m in evaluate(ts, batch).items()}


def measures_of(loss: Any, metrics: dict[str, Any], batch: Batch) -> dict[str, Measure]:
    """Loss and metrics with their counts, as floating numbers, so that their means and NaN have their dtype."""
    if "loss" in metrics:
        raise invalid("trainer", "metrics under names other than 'loss'", told=f"{', '.join(metrics)}")
    measures: dict[str, Any] = {"loss": loss, **metrics}
    for name, m in measures.items():
        if isinstance(m, Mean):
            measures[name] = of_mean(m)
        elif not isinstance(m, Measure):
            check_numbers(name, m)
            if jnp.shape(m) != ():
                raise invalid("trainer", f"{name} to be one number, the mean over examples", m)
            measures[name] = Measure(floating(m), Known(examples_in(batch)))
    return measures


def over_shards(measures: dict[str, Measure], axis_name: Any) -> dict[str, Measure]:
    """The measures of the whole batch, combined over the shards."""
    if axis_name is None:
        return measures
    new = {}
    for name, (value, count) in measures.items():
        whole = (
            Known(count.n * jax.lax.axis_size(axis_name))
            if isinstance(count, Known)
            else jax.lax.psum(count, axis_name)
        )
        new[name] = Measure(jax.lax.psum(value * share(whole, count, value.dtype), axis_name), whole)
    return new


def share(whole: Arrays, part: Arrays, dtype: DTypeLike) -> Array:
    """The fraction of a batch on one shard; 0 if the count of the batch is 0."""
    whole, part = number_of(whole, dtype), number_of(part, dtype)
    return part / jnp.where(whole == 0, 1, whole)
