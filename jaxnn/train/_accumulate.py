"""Gradient accumulation by `optax.MultiSteps`, with each mini-batch weighted by the count of its loss."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxnn.train._weigh import Known, number_of
from jaxnn.types import Arrays, OptState, Params


class Weighed(NamedTuple):
    """The `skip_state` of MultiSteps together with the sum of the counts of the mini-batches so far."""

    count: Array  # type: ignore[assignment]
    skip_state: Any


def accumulates(optimizer: Any) -> optax.MultiSteps | None:
    """The MultiSteps object of an optimizer, or of its `gradient_transformation`; None for other optimizers."""
    owner = getattr(getattr(optimizer, "update", None), "__self__", optimizer)
    return owner if isinstance(owner, optax.MultiSteps) else None


def begun(state: OptState) -> Any:
    """The state of MultiSteps extended by a count of 0."""
    count = jnp.zeros((), jax.dtypes.canonicalize_dtype(float))
    return state._replace(skip_state=Weighed(count, state.skip_state))


def accumulated(
    multi: optax.MultiSteps, grads: Arrays, state: OptState, params: Params, count: Array | Known, **extra: Any
) -> tuple[Any, Any, Array | None]:
    """One update of MultiSteps in which each mini-batch is weighted by its count.

    After m mini-batches MultiSteps updates acc <- acc + (g - acc) / (m + 1). To make this the mean weighted by counts
    c, the gradient g is replaced by

        g' = acc + (g - acc) c (m + 1) / (C + c)        C: the sum of the earlier counts

    which is g if all counts are equal. With `use_grad_mean=False` the sum is k times this mean.

    Args:
      multi: the MultiSteps object.
      grads: gradients of the mini-batch.
      state: state of MultiSteps as `begun` returns it.
      params: trained params.
      count: count of the mini-batch.
      extra: further arguments of the inner optimizer's update.

    Returns:
      The updates, the new state, and a boolean: True if params may have changed or the mini-batch counted. None if this
      is certain.
    """
    before, m = state.skip_state.count, state.mini_step
    c = number_of(count, before.dtype)
    both = before + c
    share = c / jnp.where(both == 0, 1, both)
    even = before == c * m.astype(c.dtype)
    sums = not getattr(multi, "_use_grad_mean", True)

    def weighed(g: Array, acc: Array) -> Array:
        def at(x: Array) -> Array:
            return x.astype(jnp.finfo(acc.dtype).dtype)

        if sums:
            mean = acc / at(jnp.maximum(m, 1))
            new = at(m + 1) * (mean + (g.astype(acc.dtype) - mean) * at(share)) - acc
            none = mean
        else:
            new = acc + (g.astype(acc.dtype) - acc) * at(share * (m + 1).astype(share.dtype))
            none = acc
        new = jnp.where(even, g, new.astype(g.dtype))
        return new if isinstance(count, Known) else jnp.where(c == 0, none.astype(g.dtype), new)

    grads = jax.tree.map(weighed, grads, state.acc_grads)
    plain = state._replace(skip_state=state.skip_state.skip_state)
    updates, new = multi.update(grads, plain, params, **extra)
    taken = (new.mini_step != m) | (new.gradient_step != state.gradient_step)
    total, over = jnp.where(taken, both, before), new.mini_step == 0
    new = new._replace(skip_state=Weighed(jnp.where(over, 0, total), new.skip_state))
    if isinstance(count, Known) and count.n:
        return updates, new, None
    still = taken & over & (total == 0)  # all counts of the cycle are 0
    held = plain.inner_opt_state, plain.gradient_step
    inner, step = jax.tree.map(
        lambda old, now: jnp.where(still, old, now), held, (new.inner_opt_state, new.gradient_step)
    )
    updates = jax.tree.map(lambda u: jnp.where(still, jnp.zeros((), u.dtype), u), updates)
    moved = (c != 0) | (taken & over & (total != 0))
    return updates, new._replace(inner_opt_state=inner, gradient_step=step), moved
