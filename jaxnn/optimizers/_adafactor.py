"""Adafactor: RMSProp with the second moments of a matrix kept as those of its rows and columns."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._dtypes import wide_dtype
from jaxnn._moments import Average, Time, bounded, nan_of, over_root, root, square
from jaxnn._numbers import number
from jaxnn.optimizers._checks import check_dtype, check_flags, check_numbers, check_params
from jaxnn.optimizers._decay import WeightDecay, rate
from jaxnn.optimizers._lift import Included, Slots, SlotValues, per_leaf, zeros_f32
from jaxnn.types import Arrays, Mask

SMALLEST_SCALE = 1e-3  # of a parameter's root mean square: params that start at 0 must move


@recorded
def adafactor(
    learning_rate: optax.ScalarOrSchedule | None = None,
    min_dim_size_to_factor: int = 128,
    decay_rate: ArrayLike = 0.8,
    decay_offset: ArrayLike = 0,
    multiply_by_parameter_scale: bool = True,
    clipping_threshold: ArrayLike | None = 1.0,
    momentum: ArrayLike | None = None,
    dtype_momentum: DTypeLike | None = jnp.float32,
    weight_decay_rate: optax.ScalarOrSchedule | None = None,
    eps: ArrayLike = 1e-30,
    factored: bool = True,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    """Adafactor for every leaf, [...] -> [...]: second moments of an n × m matrix in n + m numbers.

        w = (t - decay_offset)^(-decay_rate)                             the weight of the newest gradient
        v <- v + w (|g|² + eps - v);   u = g / sqrt(v)
        factored:   v_row, v_col: v's means over columns and over rows;   u = g / sqrt(v_row / mean(v_row) v_col)
        u <- u / max(1, rms(u) / clipping_threshold);   u <- lr max(rms(p), 1e-3) u
        m <- m + (1 - momentum)(u - m) in place of u;   update = -(u + λ p)

    Args:
      learning_rate: lr >= 0: a number, a traced scalar, or a schedule (updates so far -> rate); None is 1, for a
        schedule outside. Relative to the size of the parameter unless `multiply_by_parameter_scale` is False.
      min_dim_size_to_factor: arrays are factored whose two largest axes have at least this length; others keep v.
      decay_rate: exponent of the weight, >= 0: larger values average over fewer gradients.
      decay_offset: steps done before fine-tuning starts, >= 0, if the state continues.
      multiply_by_parameter_scale: multiply by the root mean square of the parameter, at least 1e-3.
      clipping_threshold: largest root mean square of an update before the rate, > 0; None for no limit.
      momentum: decay of the slot `ema` (m), in [0, 1), not debiased; None for no momentum and no slot.
      dtype_momentum: dtype of `ema`; None is the parameter's, at least float32.
      weight_decay_rate: λ >= 0, a traced scalar or a schedule; not multiplied by the rate. None is no decay.
      eps: >= 0, added to |g|².
      factored: False keeps v of all arrays.
      weight_decay_mask: the leaves that decay, as `mask` in `adam`; None is all.

    Returns: an optimizer whose `update` requires params if they scale it. Slots `v_row`, `v_col` and `v`, each of shape
      [1] where it is not used. It is not elementwise.

    Raises: ValueError for a number out of its range, TypeError for an argument of the wrong type.

    Differences: The formula is that of optax. PyTorch and Keras bound the rate by 1 / sqrt(t) and factor every matrix;
      PyTorch's decay is multiplied by lr. Slots are at least float32 and move by increments. A finite gradient beyond
      4.6e18 (in float32) counts as 4.6e18.

    Reference: Shazeer and Stern, Adafactor: adaptive learning rates with sublinear memory cost, 2018.

    >>> opt, p = adafactor(0.1, min_dim_size_to_factor=2), jnp.full((4, 3), 2.0)
    >>> update, state = opt.update(p, opt.init(p), p)
    >>> round(float(update[0, 0]), 4), state["v_row"].shape, state["v_col"].shape
    (-0.2, (3,), (4,))
    """
    name = "adafactor"
    least = check.count(name, "min_dim_size_to_factor", min_dim_size_to_factor)
    check_flags(name, multiply_by_parameter_scale=multiply_by_parameter_scale, factored=factored)
    check_numbers(name, decay_rate=decay_rate, decay_offset=decay_offset, eps=eps)
    optional = {"clipping_threshold": clipping_threshold, "momentum": momentum}
    check_numbers(name, **{argument: value for argument, value in optional.items() if value is not None})
    # optax.inject_hyperparams calls a dtype as if it were a schedule, which makes a number of that dtype
    dtype_momentum = getattr(dtype_momentum, "dtype", dtype_momentum)
    check_dtype(name, "dtype_momentum", dtype_momentum)
    rate_at = rate(name, "learning_rate", 1.0 if learning_rate is None else learning_rate)
    average = None if momentum is None else Average(momentum)

    def factored_axes(p: Arrays) -> tuple[int, int] | None:
        """The second largest and the largest axis of an array that is factored."""
        if not factored or p.ndim < 2:
            return None
        *_, second, first = np.argsort(p.shape)
        return (int(second), int(first)) if p.shape[second] >= least else None

    def start(kind: str, p: Arrays) -> Array:
        axes, dtype = factored_axes(p), jnp.finfo(wide_dtype(p.dtype)).dtype
        if (axes is None) != (kind == "v"):
            return jnp.zeros(1, dtype)
        if axes is None:
            return jnp.zeros_like(p, dtype=dtype)
        dropped = axes[1] if kind == "v_row" else axes[0]
        return jnp.zeros([n for axis, n in enumerate(p.shape) if axis != dropped], dtype)

    def weight(t: Array, dtype: DTypeLike) -> Array:
        t = t.astype(dtype)
        return (t - number(decay_offset, t)) ** -number(decay_rate, t)

    def lr(t: Array, dtype: DTypeLike) -> Arrays:
        return rate_at(t)

    def preconditioned(g: Array, s: SlotValues, t: Time) -> tuple[Array, SlotValues]:
        nan, g = nan_of(g), bounded(g)
        w, x = t.once(weight, s["v"].dtype), square(g) + nan + number(eps, s["v"])
        axes = factored_axes(g)
        if axes is None:
            v = s["v"] + w * (x - s["v"])
            return over_root(g, v), {**s, "v": v}
        second, first = axes
        row = s["v_row"] + w * (x.mean(axis=first) - s["v_row"])
        col = s["v_col"] + w * (x.mean(axis=second) - s["v_col"])
        mean = row.mean(axis=second - (second > first), keepdims=True)
        rows = jnp.expand_dims(row / jnp.where(mean == 0, 1.0, mean), first)
        return over_root(over_root(g, rows), jnp.expand_dims(col, second)), {**s, "v_row": row, "v_col": col}

    def step(g: Array, s: SlotValues, p: Arrays, t: Time) -> tuple[Array, SlotValues]:
        u, new = preconditioned(g, s, t)
        factor = number(t.once(lr, s["v"].dtype), s["v"])
        if clipping_threshold is not None:
            factor = factor / jnp.maximum(rms(u) / number(clipping_threshold, s["v"]), 1.0)
        if multiply_by_parameter_scale:
            check_params(name, p, "the scale of a parameter")
            factor = factor * jnp.maximum(rms(p), SMALLEST_SCALE)
        u = u * jnp.asarray(factor, u.dtype)
        if average is not None:
            u = average.update(s["ema"], u)
            new["ema"] = u
        return u, new

    slots: Slots = {kind: partial(start, kind) for kind in ("v_row", "v_col", "v")}
    if momentum is not None:
        slots = {**slots, "ema": partial(zeros_f32, dtype=dtype_momentum)}
    decay = WeightDecay(weight_decay_rate, weight_decay_mask, True, "weight_decay_rate")
    return per_leaf(name, slots, step, Included(lambda t: 1.0), decay, elementwise=False)


def rms(x: Array) -> Array:
    """sqrt(mean |x|²), [...] -> [], real, with gradient 0 at 0."""
    return root(jnp.mean(square(x)))
