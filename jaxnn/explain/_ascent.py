"""Gradient ascent on inputs: normalised gradients, jitter, penalties, bounds and octaves, as one compiled program."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn import ops
from jaxnn._errors import invalid, wrong_type
from jaxnn._layer import Layer
from jaxnn.explain._target import Target, check_x, scorer, settled
from jaxnn.types import Key, Params, State

Bounds = tuple[ArrayLike, ArrayLike] | None
Scalar = float | Array


def maximized(
    model: Layer,
    params: Params,
    state: State,
    x: Array,
    target: Target,
    key: Key,
    rate: Scalar,
    decay: Scalar,
    smoothness: Scalar,
    bounds: tuple[Array, Array] | None,
    *,
    caller: str,
    steps: int,
    jitter: int,
    octaves: int,
    octave_scale: float,
) -> Array:
    """Inputs after the ascent of `activation_maximization` on all octaves, a method of `explained`."""
    space = tuple(range(1, x.ndim - 1))
    score = scorer(caller, model, params, state, settled(model, params, state, x, target))
    rate, decay, smoothness = (jnp.asarray(a).astype(x.dtype) for a in (rate, decay, smoothness))

    def step(x: Array, key: Key) -> tuple[Array, None]:
        shift = jax.random.randint(key, (len(space),), -jitter, jitter + 1)
        g = jax.grad(lambda x: score(jnp.roll(x, shift, space)).sum())(x)
        size = jnp.sqrt(jnp.mean(g**2, axis=range(1, g.ndim), keepdims=True))
        g = g / jnp.where(size > 0, size, 1)
        x = x + rate * (g - decay * x - smoothness * _laplacian(x, space))
        return (x if bounds is None else jnp.clip(x, *bounds)), None

    change = None
    for i in range(octaves):
        size = [max(1, round(x.shape[a] / octave_scale ** (octaves - 1 - i))) for a in space]
        base = ops.resize(x, size, antialias=True) if i < octaves - 1 else x
        start = base if change is None else base + ops.resize(change, size)
        end, _ = lax.scan(step, start, jax.random.split(jax.random.fold_in(key, i), steps))
        change = end - base
    return end


def _laplacian(x: Array, space: tuple[int, ...]) -> Array:
    """Σ (x_i - x_j) over the neighbours j of i, the gradient of half the squared differences."""
    total = jnp.zeros_like(x)
    for axis in space:
        zero = jnp.zeros_like(lax.slice_in_dim(x, 0, 1, axis=axis))
        d = jnp.concatenate([zero, jnp.diff(x, axis=axis), zero], axis)
        total -= jnp.diff(d, axis=axis)
    return total


def settings(
    where: str,
    x: Any,
    steps: int,
    jitter: int,
    octaves: int,
    octave_scale: float,
    learning_rate: Scalar,
    decay: Scalar,
    smoothness: Scalar,
) -> dict[str, Any]:
    """The static settings of an ascent; raises for settings out of range."""
    check.scalar(where, "learning_rate", learning_rate, ends="()")
    check.scalar(where, "decay", decay)
    check.scalar(where, "smoothness", smoothness)
    check.scalar(where, "octave_scale", octave_scale, 1, ends="()", static=True)
    octaves = check.count(where, "octaves", octaves)
    if octaves > 1:
        check.array(where, "x", x, least=3, shape="[n, *space, c] for several octaves")
    steps, jitter = check.count(where, "steps", steps), check.count(where, "jitter", jitter, 0)
    return {"caller": where, "steps": steps, "jitter": jitter, "octaves": octaves, "octave_scale": float(octave_scale)}


def limits(where: str, bounds: Any, x: Any) -> tuple[Array, Array] | None:
    """Lowest and highest values as arrays that broadcast with x."""
    if bounds is None:
        return None
    x = check_x(where, x)
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise wrong_type(where, "bounds to be None or the lowest and the highest value", bounds)
    for bound in bounds:
        check.kind(where, "bounds", bound, "floating or integer")
        if jnp.shape(bound) not in ((), x.shape[-1:]):
            raise invalid(where, f"bounds that are scalars or of shape [{x.shape[-1]}]", bound)
    low, high = (jnp.asarray(b).astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,)) for b in bounds)
    return low, high
