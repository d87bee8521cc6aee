"""The lift from a rule on one array to an optax.GradientTransformationExtraArgs on trees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxnn._dtypes import wide_dtype
from jaxnn._elementwise import Elementwise, Optimizer
from jaxnn._filled import full, full_like
from jaxnn._moments import Time
from jaxnn._numbers import number
from jaxnn.optimizers._checks import check_trees, inexact
from jaxnn.optimizers._decay import Decay, Rate, rate
from jaxnn.optimizers._trust_ratio import TrustRatio
from jaxnn.types import Arrays

Slots = Mapping[str, Callable[[Any], Array]]  # name of a slot -> function of a parameter that makes its start
SlotValues = dict[str, Array]  # the slots of one leaf
Rule = Callable[[Array, SlotValues, Any, Time], tuple[Array, SlotValues]]  # g, slots, p, t -> direction, slots

# A plain dict: `count`, the updates so far (int32), and for each slot a tree shaped like params. A class for it, even
# a named tuple, costs 1.6 µs more in every jitted call that carries it.
SlotState = dict[str, Any]


class Included(NamedTuple):
    """The learning rate of a rule whose direction includes it; the lift multiplies only decoupled decay by it."""

    rate: Rate


def per_leaf(
    name: str,
    slots: Slots,
    rule: Rule,
    learning_rate: optax.ScalarOrSchedule | Included,
    decay: Decay,
    *,
    elementwise: bool = True,
    trust: TrustRatio | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Lift a rule on one array to trees: update = -learning_rate · direction, in the dtype of the parameter.

    For every leaf the rule is called as `rule(g, slots, p, t) -> (direction, slots)`. It gets the gradient, its slots
    and the parameter in at least float32 (float64 and complex stay); the update is cast to the parameter's dtype, and
    each slot to the dtype of its start. Unless `elementwise` is False, the result of the rule for an element may depend
    on that element alone, not on the array that contains it.

    Args:
      name: the optimizer's name, for errors.
      slots: name -> function of a parameter that makes the slot's start. Names are static, so that `init` works on
        trees without leaves, as `optax.tree.map_params` requires.
      rule: the rule; p is None if `update` was called without params, t is the step, 1 at the first.
      learning_rate: number, traced scalar, schedule of the updates so far (0, 1, ...), or the rate the rule `Included`.
      decay: weight decay.
      elementwise: False for a rule on whole arrays. Its slots may have shapes of their own, functions of p's shape.
      trust: trust ratio, by which the gradient with L2 decay, or the direction with decoupled decay, is scaled.

    Returns: an `Elementwise` unless the rule is not elementwise or the decay has a mask.

    Raises: TypeError for a leaf of params or gradients that is not floating or complex and for gradients whose tree
      differs from that of params or state, ValueError for a gradient of another shape; all name the path.

    >>> from jaxnn.optimizers._decay import WeightDecay
    >>> sgd = per_leaf("sgd", {}, lambda g, s, p, t: (g, s), 0.5, WeightDecay())
    >>> sgd.update({"w": jnp.ones(2)}, sgd.init({"w": jnp.zeros(2)}))[0]
    {'w': Array([-0.5, -0.5], dtype=float32)}
    """
    included = isinstance(learning_rate, Included)
    rate_at = learning_rate.rate if included else rate(name, "learning_rate", learning_rate)
    strengths_at = decay.checked(name)

    def init(params: Arrays) -> SlotState:
        params = inexact(name, "parameter", params)
        return {"count": full((), 0, jnp.int32)} | {k: jax.tree.map(start, params) for k, start in slots.items()}

    def leaf(g: Array, s: SlotValues, p: Arrays, t: Time, lr: Any, strength: Any, scaled: bool) -> Any:
        like, stored = g if p is None else p, {k: x.dtype for k, x in s.items()}
        dtype = np.result_type(*map(wide_dtype, (like.dtype, *stored.values())))
        s = {k: jnp.asarray(x, dtype if jnp.iscomplexobj(x) else jnp.finfo(dtype).dtype) for k, x in s.items()}
        g, p = g.astype(dtype), None if p is None else p.astype(dtype)
        if strength is not None and not decay.decoupled:
            g = g + number(strength, p) * p
        if scaled and trust is not None and not decay.decoupled:
            g = trust.scaled(g, p)
        direction, s = rule(g, s, p, t)
        if strength is not None and decay.decoupled:
            shrink = number(strength, p) * p
            direction = direction + (number(lr, p) * shrink if included else shrink)
        if scaled and trust is not None and decay.decoupled:
            direction = trust.scaled(direction, p)
        update = -direction if included else -number(lr, direction) * direction
        return update.astype(like.dtype), {k: x.astype(stored[k]) for k, x in s.items()}

    def update(updates: Arrays, state: SlotState, params: Arrays = None, **extra: Any) -> tuple[Any, SlotState]:
        del extra
        updates = inexact(name, "gradient", updates)
        params = None if params is None else inexact(name, "parameter", params)
        check_trees(name, updates, params, state, slots, elementwise)

        t = Time(optax.safe_increment(state["count"]))
        lr = rate_at(t.count)
        gs, structure = jax.tree.flatten(updates)
        ps = [None] * len(gs) if params is None else jax.tree.leaves(params)
        strengths = strengths_at(t.count, params, len(gs))
        scaled = [False] * len(gs) if trust is None else trust.leaves(name, params)
        columns = {k: jax.tree.leaves(state[k]) for k in slots}
        done = [
            leaf(g, {k: column[i] for k, column in columns.items()}, ps[i], t, lr, strengths[i], scaled[i])
            for i, g in enumerate(gs)
        ]
        new = {k: jax.tree.unflatten(structure, [s[k] for _, s in done]) for k in slots}
        return jax.tree.unflatten(structure, [u for u, _ in done]), {"count": t.count} | new

    kind = Elementwise if elementwise and trust is None and decay.mask is None else Optimizer
    return kind(init, update)


def zeros_f32(p: Arrays, dtype: DTypeLike | None = None) -> Array:
    """A slot of zeros shaped like `p`, [...] -> [...], in `dtype`; None is p's, at least float32. Complex if p is."""
    dtype = wide_dtype(p.dtype) if dtype is None else jax.dtypes.canonicalize_dtype(dtype)
    if jnp.issubdtype(p.dtype, jnp.complexfloating):
        dtype = np.result_type(wide_dtype(dtype), np.complex64)
    return full_like(p, 0, dtype)


def real_f32(p: Arrays, value: ArrayLike = 0.0) -> Array:
    """A slot of `value` shaped like `p`, [...] -> [...], real and at least float32: the start of a second moment."""
    return full_like(p, value, jnp.finfo(wide_dtype(p.dtype)).dtype)
