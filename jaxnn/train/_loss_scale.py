"""A dynamic loss scale: small gradients stay above the underflow of float16."""

from __future__ import annotations

from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._dtypes import widened
from jaxnn._errors import wrong_type
from jaxnn.types import Arrays

LEAST, MOST = 2.0**-24, 2.0**24  # the smallest number of float16, and its inverse


class LossScale(NamedTuple):
    """Dynamic loss scale S: gradients are those of S · loss, divided by S in float32; S adapts to overflow.

        all gradients finite:  S <- 2 S after `period` such steps in sequence
        otherwise:             S <- S / 2, and the step changes neither params nor optimizer state nor model state

    The smallest number of float16 is 6e-8; gradients below it become 0 in a backward pass without a scale. S stays
    between 2^-24 and 2^24, and powers of 2 make scaling exact. At 2^-24 a step is no longer skipped: gradients that are
    not finite there have another cause than S, and the run fails as it does without a scale.

    `trainer(loss_scale=)` takes one with the first values. `TrainState.loss_scale` is the current one, three arrays,
    which `save` stores and a `vmap` over S or `period` maps.

    Attributes:
      value: S, in [2^-24, 2^24].
      period: number of finite steps in sequence after which S doubles, an integer >= 1.
      finite: number of finite steps since S changed.

    Differences: the rule and the period are those of PyTorch's GradScaler, which starts at 2^16 and has no bounds; of
    mini-batches that `optax.MultiSteps` accumulates, only those that overflow are left out, not the whole sum.

    Reference: Micikevicius et al., Mixed Precision Training, 2018.

    >>> import jaxnn as nn
    >>> t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.sgd(0.1), precision="float16")
    >>> ts = t.init(jax.random.key(0), (jnp.ones((4, 3)), jnp.zeros((4, 1))))
    >>> ts.loss_scale.value.item()
    32768.0
    """

    value: ArrayLike = 2.0**15
    period: ArrayLike = 2000
    finite: ArrayLike = 0


def check_loss_scale(scale: Any) -> None:
    """Raises unless `scale` is a `LossScale` with values in range, or None."""
    if scale is None:
        return
    if not isinstance(scale, LossScale):
        raise wrong_type("trainer", "loss_scale to be a LossScale or None", scale, "Write nn.LossScale(2.0**15).")
    check.scalar("trainer", "value of loss_scale", scale.value, LEAST, MOST, "[]")
    for name, number, least in (("period", scale.period, 1), ("finite", scale.finite, 0)):
        if not isinstance(number, jax.Array):
            check.count("trainer", f"{name} of loss_scale", number, least)


def begun(scale: LossScale) -> LossScale:
    """The scale as arrays: a float32 and two int32."""
    return LossScale(jnp.asarray(scale.value, jnp.float32), *(jnp.asarray(n, jnp.int32) for n in scale[1:]))


def scaled(scale: LossScale | None, loss: Array) -> Array:
    """S · loss, in at least float32."""
    if scale is None:
        return loss
    wide = widened(loss)
    return wide * jnp.asarray(scale.value).astype(wide.dtype)


def unscaled(scale: LossScale | None, grads: Arrays) -> Arrays:
    """Gradients of S · loss, divided by S."""
    return grads if scale is None else jax.tree.map(lambda g: g / jnp.asarray(scale.value).astype(g.dtype), grads)


def after(scale: LossScale, grads: Arrays) -> tuple[LossScale, Array]:
    """The scale after a step with these gradients, and whether the step is taken."""
    finite = reduce(jnp.logical_and, [jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(grads)], jnp.ones((), bool))
    value, count = jnp.asarray(scale.value), jnp.asarray(scale.finite) + 1
    grown = count >= scale.period
    new = jnp.where(finite, jnp.where(grown, 2 * value, value), value / 2)
    count = jnp.where(finite & ~grown, count, 0)
    return LossScale(jnp.clip(new, LEAST, MOST), scale.period, count), finite | (value <= LEAST)
