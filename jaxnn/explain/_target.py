"""Scores of a model that an explanation explains, and its compiled program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._calls import alike
from jaxnn._dtypes import is_kind
from jaxnn._errors import describe, invalid, wrong_type
from jaxnn._inputs import is_array, under_trace
from jaxnn._layer import Layer, as_layer
from jaxnn.compiler import compiler_options
from jaxnn.train._programs import Alike, Programs
from jaxnn.types import Arrays, Params, State

Target: TypeAlias = ArrayLike | Callable[[Any], Array] | None
"""The explained score of each example: None is that of the predicted class, an integer or integers [n] are classes, and
a function maps the outputs of the model to scores [n]."""

ModelLike: TypeAlias = Layer | Callable[..., Any]


def scores(where: str, y: Arrays, target: Target, n: int) -> Array:
    """Score of each example, outputs [n, classes] -> [n]. An unknown class has the score NaN and gradients NaN."""
    if callable(target):
        s = target(y)
        if not is_array(s) or s.shape != (n,) or not jnp.issubdtype(s.dtype, jnp.floating):
            raise invalid(where, f"target(outputs) of shape [{n}] and a floating dtype, a score for each example", s)
        return s
    if not is_array(y) or y.ndim != 2 or len(y) != n:
        fix = "Pass target=, a function of the outputs that returns a score for each example."
        raise invalid(where, f"outputs of shape [{n}, classes]", y, fix)
    classes = jnp.argmax(y, axis=1) if target is None else jnp.broadcast_to(target, (n,))
    known = (classes >= 0) & (classes < y.shape[1])
    return y[jnp.arange(n), jnp.where(known, classes, 0)] * jnp.where(known, 1, jnp.nan).astype(y.dtype)


def scorer(where: str, model: Layer, params: Params, state: State, target: Target) -> Callable[[Array], Array]:
    """Function x [n, ...] -> scores [n] of the model in inference mode."""
    return lambda x: scores(where, model.apply(params, state, x)[0], target, len(x))


def settled(model: Layer, params: Params, state: State, x: Array, target: Target) -> Target:
    """The target with None replaced by the classes predicted for x, for methods that change x."""
    if target is not None:
        return target
    y = model.apply(params, state, x)[0]
    return jnp.argmax(y, axis=1) if is_array(y) and y.ndim == 2 else None  # `scores` raises for other outputs


def gradient(score: Callable[[Array], Array], x: Array) -> Array:
    """∂ score_i / ∂ x_i of each example, [n, ...] -> [n, ...]; the sum over the batch has these gradients."""
    return jax.grad(lambda x: score(x).sum())(x)


def explained(
    method: Callable[..., Any],
    where: str,
    model: ModelLike,
    params: Params,
    state: State,
    x: Any,
    target: Target = None,
    *arrays: Any,
    **settings: Any,
) -> Any:
    """`method(model, params, state, x, target, *arrays, **settings)`, compiled once for equal models and settings.

    Args:
      method: function of this module's arguments; `settings` are static and hashable.
      where: name of the public function, for errors.
      x: floating array [n, ...].
      arrays: further arrays, such as keys.
    """
    model = as_layer(model, where)
    x = check_x(where, x)
    function, classes = (target, None) if callable(target) else (None, check_classes(where, target, len(x)))
    of = Alike(alike(model), model)
    program = _PROGRAMS.of(under_trace(), method, of, function, tuple(sorted(settings.items())))
    return program(params, state, x, classes, arrays)


def check_x(where: str, x: Any) -> Any:
    """`x` as an array; raises unless it is floating with examples on axis 0."""
    if is_array(x) and not jnp.issubdtype(x.dtype, jnp.floating):
        fix = "Cast images to float32. For tokens explain the output of their embedding, with nn.explain.from_layer."
        raise wrong_type(where, "x of a floating dtype, which has gradients", x, fix)
    return check.array(where, "x", x, least=1, shape="[n, ...]")


def filled(where: str, argument: str, value: Any, x: Array) -> Array:
    """A number, or an array of the shape of x, of one example or of its last axis, in the shape and dtype of x."""
    expected = f"{argument} to be a number or an array of the shape of x, of one example or of its last axis"
    if isinstance(value, bool) or not is_kind(value, "floating or integer"):
        raise wrong_type(where, expected, value)
    if jnp.shape(value) not in ((), x.shape, x.shape[1:], x.shape[-1:]):
        raise invalid(where, expected, value, f"x is {describe(x)}.")
    return jnp.broadcast_to(jnp.asarray(value, x.dtype), x.shape)


def check_classes(where: str, target: Any, n: int) -> Any:
    """The target as an array of integers, or None; raises unless it is an integer or [n] integers."""
    if target is None:
        return None
    expected = f"target to be None, a class, classes [{n}] or a function of the outputs"
    if isinstance(target, bool) or not is_kind(target, "integer"):
        raise wrong_type(where, expected, target)
    if jnp.shape(target) not in ((), (n,)):
        raise invalid(where, expected, target)
    return jnp.asarray(target)


def _program(key: Callable[[], tuple[Any, ...]]) -> Callable[..., Any]:
    """Compiled method of a key (under a trace, method, model, function target, settings).

    Within a trace JAX takes no compiler options.
    """

    def run(params: Params, state: State, x: Array, classes: Array | None, arrays: tuple[Any, ...]) -> Any:
        _, method, of, function, settings = key()
        target = classes if function is None else function
        return method(of.model, params, state, x, target, *arrays, **dict(settings))

    traced = key()[0]
    return jax.jit(run) if traced else jax.jit(run, compiler_options=compiler_options())


_PROGRAMS = Programs(_program, size=64)
