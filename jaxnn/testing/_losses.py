"""Properties of losses."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import _checks as check
from jaxnn._errors import describe
from jaxnn.testing._properties import Property, cast, differs, is_floating, not_finite, quick, verify, weak
from jaxnn.types import Arrays

STEP = 1e-6  # of central differences in float64


@dataclass(frozen=True)
class Case:
    """A loss with a prediction and a target, and its programs, each of which is compiled once."""

    loss: Callable[..., Any]
    prediction: jax.Array
    target: Any
    axes: int
    minimum: float | None
    extremes: tuple[float, ...]
    slack: float

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the residuals."""
        return self.prediction.shape[: self.prediction.ndim - self.axes]

    @cached_property
    def value(self) -> Callable[..., Any]:
        return quick(lambda p, t: self.loss(p, t))

    @cached_property
    def slope(self) -> Callable[..., Any]:
        return quick(jax.grad(lambda p, t: jnp.sum(self.loss(p, t))))

    def takes(self, argument: str) -> bool:
        try:
            return argument in inspect.signature(self.loss).parameters
        except (TypeError, ValueError):  # some built-in functions have no signature
            return False


def _residuals(case: Case) -> str:
    value = case.loss(case.prediction, case.target)
    fine = isinstance(value, jax.Array) and value.shape == case.shape and is_floating(value)
    return "" if fine else describe(value)


def _weak(case: Case) -> str:
    return weak({"loss": case.loss(case.prediction, case.target)})


def _equal_shapes(case: Case) -> str:
    for bad in (case.target[:1], case.target[None], case.target[..., None]):
        try:
            value = jax.eval_shape(case.loss, case.prediction, bad)
        except (TypeError, ValueError):
            continue
        shapes = " and ".join(describe(a) for a in (case.prediction, bad))
        return f"{describe(value)} for prediction and target {shapes}"
    return ""


def _pure(case: Case) -> str:
    first, second = (case.loss(case.prediction, case.target) for _ in range(2))
    return differs({"loss": first}, {"loss": second})


def _jit(case: Case) -> str:
    value = case.loss(case.prediction, case.target)
    return differs({"loss": case.value(case.prediction, case.target)}, {"loss": value}, case.slack)


def _vmap(case: Case) -> str:
    mapped = quick(jax.vmap(case.loss))(case.prediction, case.target)
    return differs({"loss": mapped}, {"loss": case.value(case.prediction, case.target)}, case.slack)


def _dtypes(case: Case) -> str:
    with jax.enable_x64(True):
        for dtype in (jnp.bfloat16, jnp.float32, jnp.float64):
            value = jax.eval_shape(case.loss, cast(case.prediction, dtype), cast(case.target, dtype))
            least = jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)
            if value.dtype.itemsize < least.itemsize:
                return f"{value.dtype} for a prediction of {jnp.dtype(dtype)}"
    return ""


def _precision(case: Case) -> str:
    with jax.enable_x64(True):
        for dtype in (jnp.bfloat16, jnp.float32):
            args = cast((case.prediction, case.target), dtype)
            wide = case.loss(*cast(args, jnp.float64))
            value = case.loss(*args)
            slack = case.slack if dtype == jnp.float32 else 1000 * case.slack  # bfloat16 to 1e-2
            if text := differs({"loss": value}, {"loss": jnp.asarray(wide, value.dtype)}, slack):
                return f"{text}, for {jnp.dtype(dtype)}"
    return ""


def _gradient(case: Case) -> str:
    with jax.enable_x64(True):
        p, t = cast((case.prediction, case.target), jnp.float64)
        along = jnp.asarray(np.random.default_rng(0).standard_normal(p.shape))
        slope = case.slope(p, t)
        if text := not_finite({"gradient": slope}):
            return text
        up, down = (case.value(p + sign * STEP * along, t) for sign in (1.0, -1.0))
        difference = np.asarray((up - down) / (2 * STEP))
        got = np.asarray(slope * along).reshape(*case.shape, -1).sum(-1)
        gaps = np.abs(got - difference) - 1e-6 * case.slack * (1 + np.abs(difference))
        if (gaps > 0).any():
            at = np.unravel_index(gaps.argmax(), gaps.shape)
            return f"{got[at]:.6g} along a direction in which the difference is {difference[at]:.6g}"
    return ""


def _extremes(case: Case) -> str:
    for extreme in case.extremes:
        p = jnp.full_like(case.prediction, extreme)
        if text := not_finite({"loss": case.value(p, case.target), "gradient": case.slope(p, case.target)}):
            return f"{text} for a prediction of {extreme:g}"
    if is_floating(case.target) and case.target.shape == case.prediction.shape:
        at = {"loss": case.value(case.target, case.target), "gradient": case.slope(case.target, case.target)}
        if text := not_finite(at):
            return f"{text} for a prediction equal to the target"
    return ""


def _nan(case: Case) -> str:
    bad = case.value(case.prediction.at[0].set(jnp.nan), case.target)
    if not bool(jnp.isnan(bad[0]).all()):
        return "a number for a prediction of NaN"
    return "NaN for other predictions" if bool(jnp.isnan(bad[1:]).any()) else ""


def _weights(case: Case) -> str | None:
    if not case.takes("weights"):
        return None
    weights = jnp.asarray(np.random.default_rng(1).uniform(1, 2, case.shape), case.prediction.dtype)
    value = case.loss(case.prediction, case.target, weights=weights)
    want = case.loss(case.prediction, case.target) * weights
    return differs({"loss": value}, {"loss": want}, case.slack)


def _where(case: Case) -> str | None:
    if not case.takes("where"):
        return None
    mask = jnp.arange(int(np.prod(case.shape)), dtype=jnp.int32).reshape(case.shape) % 2 == 0
    value = case.value(case.prediction, case.target)
    inside = mask.reshape(mask.shape + (1,) * case.axes)
    rubbish = jnp.where(inside, case.prediction, jnp.asarray(jnp.nan, case.prediction.dtype))

    def masked(p: Any) -> Any:
        return case.loss(p, case.target, where=mask)

    if text := differs({"loss": masked(rubbish)}, {"loss": jnp.where(mask, value, jnp.zeros_like(value))}, case.slack):
        return text
    slope = jax.grad(lambda p: jnp.sum(masked(p)))(rubbish)
    return not_finite({"gradient": slope})


def _minimum(case: Case) -> str | None:
    if case.minimum is None:
        return None
    target = jnp.asarray(case.target, case.prediction.dtype)
    at, slope = case.value(target, case.target), case.slope(target, case.target)
    level = jnp.full_like(at, case.minimum)
    if text := differs({"loss": at}, {"loss": level}, case.slack):
        return f"{text} from {case.minimum:g} at the target"
    if text := differs({"gradient": slope}, {"gradient": jnp.zeros_like(slope)}):
        return f"{text} from 0 at the target"
    lowest = float(case.value(case.prediction, case.target).min())
    return f"{lowest:.6g} away from it" if lowest < case.minimum else ""


PROPERTIES = {
    "residuals": Property(
        "one floating value for each residual, of the shape of the prediction without its last `axes` axes",
        _residuals,
        "Return the losses without a mean or sum: the trainer takes the mean, by weights and lengths.",
    ),
    "weak types": Property(
        "a loss that is not weakly typed",
        _weak,
        "Compute with the dtype of the prediction: jnp.zeros_like(p), and not a Python number alone.",
    ),
    "equal shapes": Property(
        "an error for a target of another shape",
        _equal_shapes,
        "Compare the shapes and raise ValueError: [n] and [n, 1] broadcast to [n, n], with a plausible mean.",
    ),
    "pure": Property(
        "equal losses from two calls",
        _pure,
        "A loss must be a pure function: no counter, no generator outside of it.",
    ),
    "jit": Property(
        "the same losses under jax.jit",
        _jit,
        "Compute with jax.numpy; branch by jnp.where.",
    ),
    "vmap": Property(
        "with jax.vmap over the first axis the same losses",
        _vmap,
        "A residual must depend on no other. A loss of a whole batch, such as a contrastive one, has "
        'without=("vmap", "NaN").',
    ),
    "dtypes": Property(
        "a loss of at least float32, and of float64 for float64",
        _dtypes,
        "Widen the prediction first, p.astype(jnp.promote_types(p.dtype, jnp.float32)): bfloat16 has 3 digits.",
    ),
    "precision": Property(
        "the loss in float64 up to rounding",
        _precision,
        "Write it without cancellation: jax.nn.log_softmax, log1p, expm1, logaddexp.",
    ),
    "gradient": Property(
        "a finite gradient equal to central differences in float64",
        _gradient,
        "Check the rules of custom_vjp and custom_jvp, stop_gradient, and the place of the corners.",
    ),
    "extremes": Property(
        "a finite loss and gradient at the predictions in extremes=, and at the target",
        _extremes,
        "Replace the argument before a division, root or logarithm: jnp.where(ok, f(jnp.where(ok, x, 1)), 0). Pass "
        "extremes=(0.0, 1.0) for a loss of probabilities.",
    ),
    "NaN": Property(
        "NaN for the residuals of a prediction of NaN, and for no others",
        _nan,
        "Comparisons with NaN are False: jnp.where(x > 0, x, 0) loses it, jnp.maximum(x, 0) keeps it.",
    ),
    "weights": Property(
        "with weights= the losses times the weights",
        _weights,
        "Multiply the losses by the weights, and divide by nothing.",
    ),
    "where": Property(
        "with where= zeros, and a finite gradient, where it is False, even if the prediction is NaN there",
        _where,
        "Replace the prediction, p = jnp.where(where, p, 0), before the loss, and the loss after it.",
    ),
    "minimum": Property(
        "its minimum= with a gradient of 0 where the prediction equals the target, and no less elsewhere",
        _minimum,
        "Check the constant, or leave out minimum=.",
    ),
}


def check_loss(
    loss: Callable[..., Any],
    prediction: Arrays,
    target: Arrays,
    *,
    axes: int = 0,
    minimum: float | None = None,
    extremes: Sequence[float] = (0.0, 1e4, -1e4),
    slack: float = 4.0,
    without: Sequence[str] = (),
) -> tuple[str, ...]:
    """Tests the properties that a loss needs for a trainer, prediction [n, ...], target [n, ...] -> losses [n, ...].

    In this order: "residuals", "weak types", "equal shapes", "pure", "jit", "vmap", "dtypes", "precision", "gradient"
    against differences in float64, "extremes", "NaN"; "weights" and "where" if the loss has arguments of these names;
    "minimum".

    Args:
      loss: `loss(prediction, target)`; bind further arguments by functools.partial.
      prediction: floating array with at least two examples on axis 0, away from corners of the loss.
      target: array of the prediction's shape, or of class numbers and similar.
      axes: number of the prediction's last axes that make one residual: 0 for an elementwise loss, 1 for logits of
        classes.
      minimum: value of the loss where the prediction equals the target, if that is its minimum. None is no claim.
      extremes: values of predictions for which loss and gradient are finite.
      slack: factor on the tolerances, > 0. At 1 they are 1e-5 of the largest element in float32, 1e-6 of the slope
        for gradients in float64.
      without: names of properties that are left out.

    Returns:
      The names of the properties that hold; those that do not apply are missing.

    Raises:
      AssertionError: if a property does not hold; with its name, the expectation, the finding and the usual fix.
      TypeError: if `loss` is not a function, or the prediction is not floating.
      ValueError: if a name in `without` is unknown, or an argument is out of range.

    Differences: PyTorch has `torch.autograd.gradcheck` for the gradient alone.

    >>> import jaxnn as nn
    >>> p, t = jax.random.normal(jax.random.key(0), (2, 4, 3))
    >>> held = nn.testing.check_loss(nn.losses.squared_error, p, t, minimum=0.0)
    >>> len(held), held[-1]
    (14, 'minimum')
    >>> nn.testing.check_loss(lambda p, t: jnp.mean((p - t) ** 2), p, t)
    Traceback (most recent call last):
    AssertionError: check_loss: <lambda> fails 'residuals'.
      expected: one floating value for each residual, of the shape of the prediction without its last `axes` axes
      got: float32[]
      fix: Return the losses without a mean or sum: the trainer takes the mean, by weights and lengths.
    """
    check.function("check_loss", "loss", loss, "(prediction, target) -> losses")
    prediction = check.array("check_loss", "prediction", prediction, least=1)
    axes = check.count("check_loss", "axes", axes, least=0, most=prediction.ndim - 1)
    if minimum is not None:
        check.scalar("check_loss", "minimum", minimum, -np.inf, ends="()", static=True)
    check.scalar("check_loss", "slack", slack, ends="()", static=True)
    name = getattr(getattr(loss, "func", loss), "__name__", "the loss")
    case = Case(loss, prediction, jnp.asarray(target), axes, minimum, tuple(extremes), float(slack))
    return verify("check_loss", name, PROPERTIES, case, without)
