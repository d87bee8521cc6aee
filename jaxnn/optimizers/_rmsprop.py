"""RMSProp: the gradient over its root mean square or its standard deviation, with optional momentum."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxnn._calls import recorded
from jaxnn._moments import Average, Time, bounded, epsilon, nan_of, over_root, root_plus_eps, square
from jaxnn._numbers import number
from jaxnn.optimizers._checks import check_flags, check_momentum, check_numbers, check_preset
from jaxnn.optimizers._decay import WeightDecay, rate
from jaxnn.optimizers._lift import Included, Slots, SlotValues, per_leaf, real_f32, zeros_f32
from jaxnn.types import Arrays, Mask


@recorded
def rmsprop(
    learning_rate: optax.ScalarOrSchedule,
    decay: ArrayLike = 0.9,
    eps: ArrayLike = 1e-8,
    initial_scale: ArrayLike = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: ArrayLike | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
    *,
    preset: str = "optax",
    weight_decay: optax.ScalarOrSchedule | None = None,
    mask: Mask = None,
    decoupled: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp for every leaf, [...] -> [...]: the gradient over its root mean square.

        v <- v + (1 - decay)(|g|² - v);   update = -lr g / sqrt(v + eps)
        centered   v <- decay (v + (1 - decay)|g - m|²);   m <- m + (1 - decay)(g - m)
        momentum   u <- μ u + lr g / sqrt(v + eps);   update = -u
        nesterov   update = -(μ u + lr g / sqrt(v + eps))

    The centered v equals the average of |g|² minus |m|²; the recursion neither cancels nor turns negative.

    Args:
      learning_rate: lr >= 0: a number, a traced scalar, or a schedule (updates so far -> rate).
      decay: in [0, 1); an array is kept half a spacing of its dtype below 1, so that bfloat16(0.999) stays finite.
      eps: >= 0. With eps = 0 a zero gradient gives a zero update.
      initial_scale: start of v, >= 0: 0 in PyTorch, 1 in TensorFlow 1.
      eps_in_sqrt: sqrt(v + eps); False is sqrt(v) + eps.
      centered: divide by the standard deviation; slots `mu` (m) and `var` (v). Otherwise the slot is `nu` (v).
      momentum: μ in [0, 1), with the slot `trace` (u); None is no momentum and no slot.
      nesterov: Nesterov momentum; requires `momentum`.
      bias_correction: divide m and v by 1 - decay^t. The first centered v is then 0, and the first update
        -lr g / sqrt(eps).
      preset: the library whose formula is used. "optax" and "keras" are the formula above; "torch" is sqrt(v) + eps
        whatever `eps_in_sqrt` is, and leaves the rate out of u, update = -lr u. Defaults do not change with it:
        PyTorch's decay is 0.99, Keras's eps 1e-7.
      weight_decay, mask, decoupled: weight decay, as in `adam`.

    Raises: ValueError for a number out of its range, for `nesterov` without `momentum`, and for `nesterov`,
      `bias_correction` or `eps_in_sqrt=False` with a preset that lacks it; TypeError for an argument of the wrong type.

    Differences: The formula is that of optax. Slots are at least float32, and real except `mu` and `trace`. 1 - decay
      and 1 - decay^t are computed without cancellation. `centered` keeps `var` in place of `nu`: nu - |mu|² rounds to
      negative numbers, and optax's update is then NaN. A finite gradient beyond 4.6e18 (in float32) counts as 4.6e18,
      since its square would overflow and stop the element permanently. With eps = 0, a zero gradient gives NaN in optax
      and PyTorch.

    Reference: Tieleman and Hinton, Lecture 6.5, Neural networks for machine learning, 2012; centered and momentum:
      Graves, Generating sequences with recurrent neural networks, 2013.

    >>> opt = rmsprop(0.5, decay=0.75)
    >>> update, state = opt.update(jnp.array([3.0, -0.01]), opt.init(jnp.zeros(2)))
    >>> update.round(3), optax.tree.get(state, "nu").round(6)
    (Array([-1.,  1.], dtype=float32), Array([2.25e+00, 2.50e-05], dtype=float32))
    """
    check_flags("rmsprop", eps_in_sqrt=eps_in_sqrt, centered=centered, bias_correction=bias_correction)
    check_momentum("rmsprop", momentum, nesterov)
    torch = preset == "torch"
    no_root = not (eps_in_sqrt or torch)
    check_preset(
        "rmsprop", preset, nesterov=nesterov, bias_correction=bias_correction, **{"eps_in_sqrt=False": no_root}
    )
    check_numbers("rmsprop", decay=decay, eps=eps, initial_scale=initial_scale)
    average, rate_at = Average(decay), rate("rmsprop", "learning_rate", learning_rate)
    debiased = average.debias if bias_correction else (lambda v, t: v)
    factors = partial(_centered_factors, average) if bias_correction else (lambda t, dtype: (1.0, 1.0 - average.w))
    second_moment = partial(_centered, average, factors) if centered else partial(_raw, average)

    def step(g: Array, s: SlotValues, p: Arrays, t: Time) -> tuple[Array, SlotValues]:
        v, new = second_moment(g, s, t)
        v, g = debiased(v, t), bounded(g)
        if eps_in_sqrt and not torch:
            return over_root(g, v + epsilon(eps, v)), new
        return g / root_plus_eps(v, eps).astype(g.dtype), new

    def momentum_step(g: Array, s: SlotValues, p: Arrays, t: Time) -> tuple[Array, SlotValues]:
        d, new = step(g, s, p, t)
        mu, d = number(momentum, g), d if torch else number(t.once(lr, jnp.finfo(g.dtype).dtype), g) * d
        trace = d + mu * s["trace"]
        return d + mu * trace if nesterov else trace, {**new, "trace": trace}

    def lr(t: Array, dtype: DTypeLike) -> Arrays:
        return rate_at(t)

    start, weight = partial(real_f32, value=initial_scale), WeightDecay(weight_decay, mask, decoupled)
    slots: Slots = {"mu": zeros_f32, "var": start} if centered else {"nu": start}
    if momentum is None:
        return per_leaf("rmsprop", slots, step, learning_rate, weight)
    slots = {**slots, "trace": zeros_f32}
    return per_leaf("rmsprop", slots, momentum_step, learning_rate if torch else Included(rate_at), weight)


def _raw(average: Average, g: Array, s: SlotValues, t: Time) -> tuple[Array, SlotValues]:
    v = average.update_square(s["nu"], g)
    return v, {"nu": v}


def _centered(
    average: Average, factors: Callable[..., Any], g: Array, s: SlotValues, t: Time
) -> tuple[Array, SlotValues]:
    of_mean, of_deviation = t.once(factors, s["var"].dtype)
    deviation = number(of_deviation, s["var"]) * square(bounded(g) - number(of_mean, s["mu"]) * s["mu"])
    v = average.update(s["var"], deviation) + nan_of(g)
    # nan_of(v) also orders m after v, which reads the old m: otherwise XLA would copy it
    return v, {"var": v, "mu": average.update(s["mu"], bounded(g)) + nan_of(v).astype(g.dtype)}


def _centered_factors(average: Average, t: Array, dtype: DTypeLike) -> tuple[Array, Array]:
    """The factors of m and of |g - m|² with bias correction, scalars of the real `dtype`."""
    before, now = average.weight(jnp.maximum(t - 1, 1), dtype), average.weight(t, dtype)
    # at step 1 the debiased average of no values is 0/0; no deviation from it counts
    return 1.0 / before, jnp.where(t > 1, number(1.0 - average.w, now) * before / now, 0.0)
