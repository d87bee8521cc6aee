"""Mixture of experts: layers of which each token passes through a few, chosen by a router."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxnn import _checks as check
from jaxnn._call import OBSERVED, call
from jaxnn._calls import recorded
from jaxnn._dtypes import PASSED, wide_dtype, widened
from jaxnn._errors import invalid
from jaxnn._gather import exchanged, use_of_stack
from jaxnn._layer import Layer, as_layer, layer
from jaxnn._padded import Padded, on_values, values_of
from jaxnn._sketch import init_child
from jaxnn.activations import gelu
from jaxnn.combinators import serial
from jaxnn.layers._linear import dense
from jaxnn.types import Arrays, Key, Params, State


@recorded
def mixture_of_experts(
    experts: int,
    *,
    k: int = 2,
    hidden: int | None = None,
    expert: Layer | Callable[..., Any] | None = None,
    capacity_factor: float | None = None,
    normalize: bool | None = None,
    preset: str = "jaxnn",
    name: str | None = None,
) -> Layer:
    """Mixture of experts, [..., d] -> [..., d]: each token, a vector of d features, passes through k of the experts.

        p = softmax(x w_router)
        y = Σ_e g_e expert_e(x), over the k largest p_e, with g_e = p_e / Σ p of these

    Of equal p the lower index is chosen. The router computes in at least float32. Its params are router/w [d, experts];
    those of the experts are stacked, [experts, ...], below "experts".

    Without a capacity every expert computes all tokens, so the cost is that of `experts` layers. With one, an expert
    computes at most

        ⌈capacity_factor · k · tokens / experts⌉

    tokens of each example of x [n, ..., d], or of the batch x [n, d], the first ones in order of position: a later
    token displaces no earlier one, as causal models need. For the others the expert adds 0, and only the skip
    connection of a `residual` around the layer is left. Inside `time_distributed` the tokens of a whole batch share the
    capacity.

    The state describes the last call, over all its tokens: "balance", the loss of load balancing
    experts · Σ_e f_e mean(p_e), with f_e the fraction of choices that fall on expert e (it is 1 for equal loads, at
    most `experts`); "router_z", the mean of logsumexp(x w_router)²; "load" [experts], the f_e; "dropped", the fraction
    of choices above the capacity. `trainer(auxiliary={"*balance": 0.01})` adds the first to the loss. Without it a few
    experts may get all tokens.

    Padding of a `Padded` is not routed, takes no capacity and gives 0; the capacity is that of the valid tokens.

    Args:
      experts: number of experts, an integer >= 1.
      k: number of experts of a token, an integer from 1 to `experts`.
      hidden: features of the inner dense layer of the default expert, `dense(hidden)`, gelu, `dense(d)`; None is 4 d.
      expert: layer without state, or function, that computes each token independently, [n, m, d] -> [n, m, features].
        None is the default one.
      capacity_factor: capacity relative to equal loads, > 0, usually 1 to 2; None is no limit.
      normalize: if False, g_e = p_e. None is True for k > 1: for one expert g_e would be 1, without a gradient for the
        router.
      preset: the default initialization of the router and the default expert.
      name: pins the name.

    Raises:
      ValueError: if an argument is out of range, `hidden` is given together with `expert`, or the expert has state.
      TypeError: if x is not floating, or the expert does not return an array.

    Differences: Switch is k=1 and GShard k=2, with capacities per device or group; GShard ranks all first choices
    before the second ones. MaxText has capacities per sequence. Mixtral has no capacity, and f_e that sum to k.

    Reference: Shazeer et al., Outrageously Large Neural Networks, 2017; Lepikhin et al., GShard, 2020; Fedus et al.,
    Switch Transformers, 2021; Zoph et al., ST-MoE, 2022.

    >>> import jaxnn as nn
    >>> block = nn.residual(nn.serial(nn.layer_norm(), mixture_of_experts(4, hidden=16, capacity_factor=1.25)))
    >>> params, state = block.init(jax.random.key(0), jnp.ones((2, 10, 8)))
    >>> params["mixture_of_experts"]["experts"]["up"]["w"].shape
    (4, 8, 16)
    >>> y, state = block.apply(params, state, jnp.ones((2, 10, 8)))
    >>> y.shape, state["mixture_of_experts"]["dropped"].item()  # of equal tokens 7 have room in each expert
    ((2, 10, 8), 0.3000...)
    """
    where = name or "mixture_of_experts"
    experts = check.count(where, "experts", experts)
    k = check.count(where, "k", k, most=experts)
    if capacity_factor is not None:
        check.scalar(where, "capacity_factor", capacity_factor, ends="()", static=True)
    if hidden is not None:
        hidden = check.count(where, "hidden", hidden)
        if expert is not None:
            raise invalid(where, "hidden without expert, whose size it does not set", told=f"hidden={hidden}")
    if normalize is not None:
        check.flags(where, normalize=normalize)
    own = None if expert is None else as_layer(expert, where)
    router = dense(experts, bias=False, preset=preset, name="router")
    normalized = k > 1 if normalize is None else normalize

    def expert_for(d: int) -> Layer:
        affine = partial(dense, preset=preset)
        return own or serial(affine(hidden or 4 * d, name="up"), gelu, affine(d, name="down"))

    def checked(x: Arrays) -> Array:
        values = check.array(where, "x", values_of(x), least=1, shape="[..., d]")
        if isinstance(x, Padded) and x.lengths.dtype != bool and values.ndim < 3:
            raise invalid(where, "a Padded with x of shape [n, t, ..., d]", Padded(*x))
        return values

    def init(key: Key, x: Arrays) -> tuple[Params, State]:
        values = checked(x)
        d, wide = values.shape[-1], wide_dtype(values.dtype)
        params, _ = init_child(router, "router", key, jax.ShapeDtypeStruct(values.shape, wide))
        token = jax.ShapeDtypeStruct((1, 1, d), values.dtype)

        def one(i: Array) -> tuple[Params, State]:
            return init_child(expert_for(d), "experts", jax.random.fold_in(key, i), token)

        stacked, of_experts = jax.vmap(one)(jnp.arange(experts))
        if of_experts:
            raise invalid(where, "an expert without state", told="one with state", fix="Put such layers before it.")
        numbers = {name: jnp.zeros((), wide) for name in ("balance", "dropped", "router_z")}
        return params | stacked, numbers | {"load": jnp.zeros(experts, wide)}

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        values, mask = checked(x), None
        if isinstance(x, Padded):
            values = x.zeroed
            mask = jnp.broadcast_to(x.mask_over(values[..., 0]), values.shape[:-1])
        wide = widened(values)
        with PASSED(wide.dtype):  # inside a `cast`, too
            logits, state = call(router, "router", params, state, wide, key=key, train=train)
        route = _routed(logits, mask, k, normalized)
        compute = partial(_outputs, where, expert_for(values.shape[-1]), experts, params, state, key=key, train=train)
        if capacity_factor is None:
            y, state = _of_all(compute, values, route)
            kept = route.total
        else:
            y, state, kept = _of_few(where, compute, values, route, capacity_factor, use_of_stack(params, "experts"))
        return on_values(lambda _: y.astype(values.dtype), x), state | _measured(route, kept)

    return layer(init, apply, "mixture_of_experts", name=name, padded="seen")


class Route(NamedTuple):
    """Choices of the router for tokens [...].

    Attributes:
      logits: [..., experts].
      choice: the experts of each token, [..., k]; -1 for padding.
      gates: their weights, [..., k].
      mask: True for valid tokens, [...]; None if all are.
    """

    logits: Array
    choice: Array
    gates: Array
    mask: Array | None

    @property
    def chosen(self) -> Array:
        """1 for the experts of each token, [..., k, experts]."""
        return _is(self.choice, self.logits.shape[-1]).astype(self.logits.dtype)

    @property
    def total(self) -> Array:
        """Number of choices, []."""
        return jnp.sum((self.choice >= 0).astype(self.logits.dtype))


def _routed(logits: Array, mask: Array | None, k: int, normalized: bool) -> Route:
    """The k experts of the largest logits, and their weights.

    k maxima in sequence: on a mesh `jax.lax.top_k` gathers the logits of all devices.
    """
    rest, found = jax.lax.stop_gradient(logits), []
    for _ in range(k):
        found.append(jax.lax.argmax(rest, rest.ndim - 1, jnp.int32))
        rest = jnp.where(_is(found[-1], rest.shape[-1]), -jnp.inf, rest)
    choice = jnp.stack(found, axis=-1)
    largest = jnp.sum(jnp.where(_is(choice, logits.shape[-1]), logits[..., None, :], 0), axis=-1)
    over = jax.nn.logsumexp(largest if normalized else logits, axis=-1, keepdims=True)
    choice = choice if mask is None else jnp.where(mask[..., None], choice, -1)
    return Route(logits, choice, jnp.exp(largest - over), mask)


def _is(choice: Array, experts: int) -> Array:
    """True for the chosen expert, [...] -> [..., experts]."""
    return choice[..., None] == jnp.arange(experts, dtype=jnp.int32).reshape(*(1,) * choice.ndim, experts)


def _measured(route: Route, kept: Array) -> dict[str, Array]:
    """The state after a call, in which `kept` of the choices were computed."""
    experts, axes = route.logits.shape[-1], tuple(range(route.logits.ndim - 1))
    total, k = route.total, route.choice.shape[-1]
    some = jnp.where(total == 0, 1, total)

    def mean(values: Array) -> Array:  # over the valid tokens
        if route.mask is not None:
            values = jnp.where(route.mask.reshape(route.mask.shape + (1,) * (values.ndim - route.mask.ndim)), values, 0)
        return jnp.sum(values, axes) * (k / some)

    load = jnp.sum(route.chosen, (*axes, len(axes))) / some
    return {
        "balance": experts * jnp.sum(load * mean(jax.nn.softmax(route.logits))),
        "dropped": (total - kept) / some,
        "load": load,
        "router_z": mean(jnp.square(jax.nn.logsumexp(route.logits, axis=-1))),
    }


def _outputs(
    where: str,
    expert: Layer,
    experts: int,
    params: Params,
    state: State,
    x: Array,
    axis: int | None,
    *,
    key: Key | None,
    train: bool,
) -> tuple[Array, State]:
    """Outputs of the experts for their parts of x along `axis`, or each for all of x if it is None, on a new axis 0."""
    seen = {name: state[name] for name in ("experts", OBSERVED) if name in state}

    def one(i: Array, own: Params, seen: State, x: Array) -> tuple[Array, State]:
        inner = None if key is None else jax.random.fold_in(key, i)
        y, new = call(expert, "experts", own, seen, x, key=inner, train=train)
        if getattr(y, "shape", ())[:-1] != x.shape[:-1]:
            kept = f"{x.dtype}[{', '.join(map(str, x.shape[:-1]))}, ...]"
            raise invalid(where, f"an expert that returns {kept}", y)
        return y, new

    own = {name: params[name] for name in ("experts",) if name in params}
    y, new = jax.vmap(one, (0, 0, 0, axis))(jnp.arange(experts), own, seen, x)
    return y, state | new


def _of_all(compute: Callable[..., Any], x: Array, route: Route) -> tuple[Array, State]:
    """Weighted sums of the outputs of all experts for all tokens."""
    weights = jnp.sum(route.gates[..., None] * route.chosen, axis=-2)  # [..., experts]
    ys, state = compute(x, None)
    return jnp.sum(jnp.moveaxis(weights, -1, 0)[..., None] * widened(ys), axis=0), state


def _of_few(
    where: str, compute: Callable[..., Any], x: Array, route: Route, capacity_factor: float, along: Any
) -> tuple[Array, State, Array]:
    """Weighted sums of the outputs of experts with a capacity, and the number of choices within it."""
    experts, k, d = route.logits.shape[-1], route.choice.shape[-1], x.shape[-1]
    groups = (x.shape[0], prod(x.shape[1:-1])) if x.ndim > 2 else (1, prod(x.shape[:-1]))
    if not isinstance(groups[1], int):
        fix = 'With x of shape [n, t, d] an export may have a free n, sizes="n, ...".'
        raise invalid(where, "a fixed number of tokens, since the capacity depends on it", x, fix)
    if groups[1] == 0:
        return *_of_all(compute, x, route), route.total
    tokens, choice, gates = (a.reshape(*groups, a.shape[-1]) for a in (x, route.choice, route.gates))
    limits = np.ceil(np.round(capacity_factor * k * np.arange(groups[1] + 1) / experts, 6)).astype(np.int32)
    capacity = max(1, min(int(limits[-1]), groups[1]))
    limit = jnp.full_like(choice[:, 0, 0], limits[-1])
    if route.mask is not None:
        valid = jnp.sum(route.mask.reshape(groups), 1, dtype=jnp.int32)
        limit = jax.vmap(lambda n: jnp.asarray(limits)[n])(valid)
    slot = jax.vmap(partial(_slots, experts, capacity))(choice, limit)
    sent = jax.vmap(partial(_sent, experts * capacity))(tokens, slot).reshape(groups[0], experts, capacity, d)
    ys, state = compute(exchanged(sent, along, 1), 1)  # [experts, groups, capacity, features]
    ys = jnp.moveaxis(exchanged(ys, along, 0, back=True), 0, 1)
    ys = ys.reshape(groups[0], experts * capacity, ys.shape[-1])
    received = jax.vmap(_taken)(ys, slot).reshape(*groups, k, ys.shape[-1])
    y = jnp.sum(gates[..., None] * widened(received), axis=-2)
    kept = jnp.sum((slot < experts * capacity).astype(gates.dtype))
    return y.reshape(*x.shape[:-1], y.shape[-1]), state, kept


def _slots(experts: int, capacity: int, choice: Array, limit: Array) -> Array:
    """Slots of the choices of one group, [t, k] -> [t · k]: number of the expert · capacity + place among its tokens.

    Choices without an expert, and those after the first `limit` of an expert, get experts · capacity.
    """
    choice = choice.reshape(-1)
    mine = _is(choice, experts).astype(jnp.int32)
    place = jnp.sum(mine * (jnp.cumsum(mine, axis=0, dtype=jnp.int32) - 1), axis=1, dtype=jnp.int32)
    return jnp.where((choice >= 0) & (place < limit), choice * capacity + place, experts * capacity)


def _sent(slots: int, tokens: Array, slot: Array) -> Array:
    """Tokens of one group at their slots, [t, d], [t · k] -> [slots, d]; 0 in the others."""
    t, k = len(tokens), slot.shape[0] // max(len(tokens), 1)
    token = jnp.full(slots, t, jnp.int32).at[slot].set(jnp.arange(t * k, dtype=jnp.int32) // max(k, 1), mode="drop")
    return _taken(tokens, token)


def _taken(rows: Array, i: Array) -> Array:
    """Rows i, and 0 for an index above their number."""
    return rows.at[i].get(mode="fill", fill_value=0)
