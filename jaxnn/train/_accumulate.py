"""Updates of an optimizer by the count of a loss; `optax.MultiSteps` with each mini-batch weighted by its count."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
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


class Update(NamedTuple):
    """One update of an optimizer.

    Attributes:
      updates: to be added to the params.
      opt_state: the new state.
      unchanged: the state if the batch does not count, in which case the params stay.
      counts: whether the batch counts: a bool, or an array if this depends on its weights.
    """

    updates: Arrays
    opt_state: OptState
    unchanged: OptState
    counts: bool | Array


class Counting(NamedTuple):
    """An optimizer whose update gets the count of the loss.

    Attributes:
      init: `init(params) -> opt_state`.
      update: `update(grads, opt_state, params, count, **extra) -> Update`.
    """

    init: Callable[[Params], OptState]
    update: Callable[..., Update]


def counting(optimizer: optax.GradientTransformation) -> Counting:
    """The optimizer with counts: MultiSteps weights its mini-batches by them, others skip a batch of count 0."""
    owner = getattr(getattr(optimizer, "update", None), "__self__", optimizer)
    extended = optax.with_extra_args_support(_transformation(optimizer))
    if isinstance(owner, optax.MultiSteps):
        return Counting(lambda params: _begun(extended.init(params)), partial(_accumulated, owner))
    return Counting(extended.init, partial(_unless_empty, extended))


def _transformation(optimizer: Any) -> optax.GradientTransformation:
    """An object with `init` and `update`, such as `optax.MultiSteps`, as an optax.GradientTransformation."""
    if isinstance(optimizer, optax.GradientTransformation):
        return optimizer
    extra = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(optimizer.update).parameters.values())
    kind = optax.GradientTransformationExtraArgs if extra else optax.GradientTransformation
    return kind(optimizer.init, optimizer.update)


def _unless_empty(
    optimizer: optax.GradientTransformationExtraArgs,
    grads: Arrays,
    state: OptState,
    params: Params,
    count: Array | Known,
    **extra: Any,
) -> Update:
    updates, new = optimizer.update(grads, state, params, **extra)
    return Update(updates, new, state, bool(count.n) if isinstance(count, Known) else count != 0)


def _begun(state: OptState) -> OptState:
    """The state of MultiSteps extended by a count of 0."""
    count = jnp.zeros((), jax.dtypes.canonicalize_dtype(float))
    return state._replace(skip_state=Weighed(count, state.skip_state))


def _accumulated(
    multi: optax.MultiSteps, grads: Arrays, state: OptState, params: Params, count: Array | Known, **extra: Any
) -> Update:
    """One update of MultiSteps in which each mini-batch is weighted by its count.

    After m mini-batches MultiSteps updates acc <- acc + (g - acc) / (m + 1). To make this the mean weighted by counts
    c, the gradient g is replaced by

        g' = acc + (g - acc) c (m + 1) / (C + c)        C: the sum of the earlier counts

    which is g if all counts are equal. With `use_grad_mean=False` the sum is k times this mean.

    MultiSteps advances even if a mini-batch does not count.
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
        return Update(updates, new, new, True)
    still = taken & over & (total == 0)  # all counts of the cycle are 0
    held = plain.inner_opt_state, plain.gradient_step
    inner, step = jax.tree.map(
        lambda old, now: jnp.where(still, old, now), held, (new.inner_opt_state, new.gradient_step)
    )
    updates = jax.tree.map(lambda u: jnp.where(still, jnp.zeros((), u.dtype), u), updates)
    moved = (c != 0) | (taken & over & (total != 0))
    new = new._replace(inner_opt_state=inner, gradient_step=step)
    return Update(updates, new, new, moved)
