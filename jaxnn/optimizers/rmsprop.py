"""RMSProp: the gradient over its root mean square, or over its standard deviation, with or without momentum."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxnn._calls import recorded
from jaxnn._numbers import check_decay, check_number, complement, ema, number, weight
from jaxnn.optimizers._lift import Slots, per_leaf
from jaxnn.optimizers._rule import (
    bounded,
    check_flag,
    check_momentum,
    check_style,
    ema_square,
    epsilon,
    nan_of,
    over,
    over_root,
    plus_eps,
    rate,
    real_f32,
    root,
    square,
    zeros_f32,
)


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
    style: str = "optax",
    weight_decay: optax.ScalarOrSchedule | None = None,
    mask: Any = None,
    decoupled: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """RMSProp on every leaf, [...] -> [...]: the gradient over its root mean square.

        v <- v + (1 - decay)(|g|² - v);   update = -lr g / sqrt(v + eps)
        centered   v <- decay (v + (1 - decay)|g - m|²);   m <- m + (1 - decay)(g - m)
        momentum   u <- μ u + lr g / sqrt(v + eps);   update = -u,   with Nesterov -(μ u + lr g / sqrt(v + eps))

    The centered v is the mean of |g|² less |m|², by a recursion of its own that neither cancels nor turns negative.

    Args:
      learning_rate: lr >= 0, or a schedule (count from 0 -> rate).
      decay: in [0, 1); an array is held half a spacing of its dtype below 1, so a bfloat16 0.999 stays finite.
      eps: >= 0; at 0 a gradient of 0 gives 0, NaN in optax and PyTorch.
      initial_scale: >= 0, v at the start: 0 in PyTorch, 1 in TensorFlow 1.
      eps_in_sqrt: sqrt(v + eps), or sqrt(v) + eps.
      centered: divide by the standard deviation; slots `mu` and `var`. Otherwise the slot is `nu`.
      momentum: μ in [0, 1), in the slot `trace`; None is off and keeps no slot.
      nesterov: look one step ahead; needs momentum.
      bias_correction: divide m and v by 1 - decay^t. Then the first centered v is exactly 0, and the first update is
        -lr g / sqrt(eps).
      style: whose numbers: "optax" and "keras" as above; "torch" has sqrt(v) + eps, whatever eps_in_sqrt says, and
        keeps the rate out of u, update = -lr u. It sets the formula alone, not the defaults: PyTorch has decay 0.99,
        Keras eps 1e-7.
      weight_decay: λ >= 0 or a schedule: λ p is added to g (L2), and `update` needs params. None leaves it out.
      mask: which leaves decay: globs of their paths ("*/w"), a tree of bools, a prefix of params, or a function to one.
      decoupled: λ p is added to the direction instead, as in `adamw`; update gains -lr λ p.

    Raises ValueError for an argument out of range, for nesterov without momentum and for what another style lacks,
    TypeError for one of another kind.

    As optax. Unlike optax: slots are at least float32, and real but for `mu` and `trace`; 1 - decay and 1 - decay^t are
    taken without cancellation; centered keeps `var` in place of `nu`, as nu - |mu|² rounds negative and optax's update
    is then NaN; a finite gradient beyond 4.6e18 (in float32) counts as 4.6e18, as its square would overflow and stop
    the coordinate for good; nesterov without momentum raises, as it would do nothing.

    Tieleman and Hinton, Lecture 6.5, Neural networks for machine learning, 2012; centered and momentum: Graves,
    Generating sequences with recurrent neural networks, 2013.

    >>> opt = rmsprop(0.5, decay=0.75)
    >>> update, state = opt.update(jnp.array([3.0, -0.01]), opt.init(jnp.zeros(2)))
    >>> update.round(3), optax.tree.get(state, "nu").round(6)
    (Array([-1.,  1.], dtype=float32), Array([2.25e+00, 2.50e-05], dtype=float32))
    """
    check_flag("rmsprop", "eps_in_sqrt", eps_in_sqrt)
    torch = style == "torch"
    check_style(
        "rmsprop", style, nesterov=nesterov, bias_correction=bias_correction, eps_in_sqrt=not (eps_in_sqrt or torch)
    )
    check_decay("rmsprop", "decay", decay)
    check_number("rmsprop", "eps", eps)
    check_number("rmsprop", "initial_scale", initial_scale)
    check_momentum("rmsprop", momentum, nesterov)
    check_flag("rmsprop", "centered", centered)
    check_flag("rmsprop", "bias_correction", bias_correction)
    rate_at = rate("rmsprop", "learning_rate", learning_rate)
    w = complement(decay)
    start = partial(real_f32, value=initial_scale)
    moments: Slots = {"mu": zeros_f32, "var": start} if centered else {"nu": start}
    slots = moments if momentum is None else {**moments, "trace": zeros_f32}

    def share(t: Array, dtype: np.dtype) -> dict[str, Any]:
        if not bias_correction:
            return {"lr": rate_at(t), "of_v": 1.0, "of_mu": 1.0, "of_deviation": 1.0 - w}
        before, now = weight(w, jnp.maximum(t - 1, 1), dtype), weight(w, t, dtype)
        keep = number(1.0 - w, now)
        # the mean before step 1 is 0/0: no deviation from it counts then
        deviation = jnp.where(t > 1, keep * before / now, 0.0)
        return {"lr": rate_at(t), "of_v": 1.0 / now, "of_mu": 1.0 / before, "of_deviation": deviation}

    def step(g: Array, s: dict[str, Array], p: Any, shared: dict[str, Any]) -> tuple[Array, dict[str, Array]]:
        if centered:
            mean = number(shared["of_mu"], s["mu"]) * s["mu"]
            deviation = number(shared["of_deviation"], s["var"]) * square(bounded(g) - mean)
            v = ema(s["var"], deviation, w) + nan_of(g)
            # nan_of(v) also makes m wait for v, which reads the old m: XLA would copy that instead
            new = {"var": v, "mu": ema(s["mu"], bounded(g), w) + nan_of(v).astype(g.dtype)}
        else:
            v = ema_square(s["nu"], g, w)
            new = {"nu": v}
        v = number(shared["of_v"], v) * v
        e = epsilon(eps, v)
        in_root = eps_in_sqrt and not torch
        direction = over_root(bounded(g), v + e) if in_root else over(bounded(g), plus_eps(root(v), eps))
        if momentum is None:
            return direction, new
        mu, scaled = number(momentum, g), direction if torch else number(shared["lr"], g) * direction
        trace = scaled + mu * s["trace"]
        return scaled + mu * trace if nesterov else trace, {**new, "trace": trace}

    decays: dict[str, Any] = {"weight_decay": weight_decay, "mask": mask, "decoupled": decoupled}
    inside = momentum is not None and not torch
    return per_leaf(slots, step, learning_rate, name="rmsprop", share=share, scaled=inside, elementwise=True, **decays)
