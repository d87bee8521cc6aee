"""Training with weights in bfloat16 or float16: compensated summation and stochastic rounding."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import DTypeLike

from jaxnn._calls import recorded
from jaxnn._dtypes import wide_dtype
from jaxnn._elementwise import Elementwise, Optimizer
from jaxnn._errors import invalid, wrong_type
from jaxnn._numbers import rounded
from jaxnn.types import Arrays, Key, OptState


@recorded
def compensated(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Kahan summation of the updates, [...] -> [...]: keeps what rounding removes, and adds it to the next update.

        wanted = lost + update;   p' = p + wanted, as `optax.apply_updates` rounds it;   lost <- wanted - (p' - p)

    A bfloat16 weight near 1 moves in steps of 1/128: without compensation, updates of 1e-3 never change it. The inner
    optimizer gets params + lost and gradients in float32, so that its moments are float32. float32 params gain their
    last bits. Wrap it around every transformation that changes the updates, as the last of a chain: it assumes that its
    updates are applied.

    Args:
      optimizer: an optimizer of `nn` or optax.

    Returns: an optimizer whose `update` requires params, with the state `inner` and `lost`. `lost` has the dtype of
      params: a bfloat16 weight has 16 bits more. With float16, amounts below 3e-8, half the smallest positive number,
      are still lost.

    Raises: TypeError for something that is not an optimizer; `update` raises ValueError without params.

    Reference: Kahan, Further remarks on reducing truncation errors, 1965; Zamirai et al., Revisiting bfloat16 training,
      2021.

    >>> import jaxnn as nn
    >>> opt, p = compensated(nn.sgd(1.0)), jnp.ones((), jnp.bfloat16)
    >>> state = opt.init(p)
    >>> for _ in range(8):
    ...     update, state = opt.update(jnp.full((), 1e-3, jnp.bfloat16), state, p)
    ...     p = optax.apply_updates(p, update)
    >>> p.item(), state["lost"].item()
    (0.9921875, -0.00018310546875)
    """
    inner = _checked("compensated", optimizer)

    def init(params: Arrays) -> dict[str, Any]:
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            return {"inner": inner.init(_widened(params)), "lost": jax.tree.map(jnp.zeros_like, params)}

    def update(updates: Arrays, state: OptState, params: Arrays = None, **extra: Any) -> tuple[Any, dict[str, Any]]:
        if params is None:
            raise invalid("compensated", "params", told="None", fix="Call update(grads, state, params).")
        exact = jax.tree.map(jnp.add, _widened(params), _widened(state["lost"]))
        with jax.numpy_dtype_promotion("standard"):
            changes, after = inner.update(_widened(updates), state["inner"], exact, **extra)

        def add(p: Array, lost: Array, change: Array) -> tuple[Array, Array]:
            dtype, p = p.dtype, p.astype(wide_dtype(p.dtype))
            wanted = lost.astype(p.dtype) + change.astype(p.dtype)
            given = rounded(rounded(p + wanted, dtype) - p, dtype)
            became = rounded(p + given, dtype)
            return given.astype(dtype), ((p - became) + wanted).astype(dtype)

        given, lost = _two(add, params, state["lost"], changes)
        return given, {"inner": after, "lost": lost}

    kind = Elementwise if isinstance(optimizer, Elementwise) else Optimizer
    return kind(init, update)


@recorded
def stochastic_rounding(optimizer: optax.GradientTransformation, key: Key) -> optax.GradientTransformationExtraArgs:
    """Stochastic rounding of p + update to the dtype of p, with the exact mean, [...] -> [...].

        p' = one of the two neighbours of p + update, the nearer with the higher probability;   update' = p' - p

    Needs no memory per weight, unlike `compensated`, but adds noise of the size of a weight's last bit. The inner
    optimizer gets params and gradients in float32, so that its moments are float32. Params of 32 and 64 bits are not
    changed.

    Args:
      optimizer: an optimizer of `nn` or optax.
      key: a typed key for the rounding; `vmap` over it to give each member of an ensemble its own.

    Returns: an optimizer whose `update` requires params, with the state `inner` and `key`: raw key data, new at every
      step. p' - p is rounded to nearest where a weight changes its sign or more than doubles.

    Raises: TypeError for something that is not an optimizer or not a key; `update` raises ValueError without params.

    Reference: Gupta et al., Deep learning with limited numerical precision, 2015.

    >>> import jaxnn as nn
    >>> opt, p = stochastic_rounding(nn.sgd(1.0), jax.random.key(0)), jnp.ones(4096, jnp.bfloat16)
    >>> update, _ = opt.update(jnp.full(4096, 1e-3, jnp.bfloat16), opt.init(p), p)
    >>> sorted(set(update.tolist())), round(update.astype(jnp.float32).mean().item(), 4)
    ([-0.00390625, 0.0], -0.001)
    """
    inner = _checked("stochastic_rounding", optimizer)
    dtype = getattr(key, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key) or key.shape:
        raise wrong_type("stochastic_rounding", "one key, as jax.random.key(0) makes it", key)
    implementation, start = jax.random.key_impl(key), jax.random.key_data(key)

    def init(params: Arrays) -> dict[str, Any]:
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            return {"inner": inner.init(_widened(params)), "key": jnp.copy(start)}  # to be donated

    def update(updates: Arrays, state: OptState, params: Arrays = None, **extra: Any) -> tuple[Any, dict[str, Any]]:
        if params is None:
            raise invalid("stochastic_rounding", "params", told="None", fix="Call update(grads, state, params).")
        with jax.numpy_dtype_promotion("standard"):
            changes, after = inner.update(_widened(updates), state["inner"], _widened(params), **extra)
        following, now = jax.random.split(jax.random.wrap_key_data(state["key"], impl=implementation))

        def change(p: Array, exact: Array, key: Key) -> Array:
            if jnp.finfo(p.dtype).bits >= 32:
                return exact.astype(p.dtype)
            own = p.astype(jnp.float32)
            new = _drawn(own + exact.astype(jnp.float32), p.dtype, key)
            return rounded(new - own, p.dtype).astype(p.dtype)

        leaves, structure = jax.tree.flatten(params)
        keys = jax.tree.unflatten(structure, [jax.random.fold_in(now, i) for i in range(len(leaves))])
        given = jax.tree.map(change, params, changes, keys)
        return given, {"inner": after, "key": jax.random.key_data(following)}

    return Optimizer(init, update)


def _checked(name: str, optimizer: Any) -> optax.GradientTransformationExtraArgs:
    if not isinstance(optimizer, optax.GradientTransformation):
        raise wrong_type(name, "an optax.GradientTransformation", optimizer)
    return optax.with_extra_args_support(optimizer)


def _widened(tree: Arrays) -> Arrays:
    """The tree with leaves narrower than float32 cast to float32."""

    def widened(x: Arrays) -> Arrays:
        if isinstance(x, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(x.shape, wide_dtype(x.dtype), sharding=x.sharding)
        return jnp.asarray(x).astype(wide_dtype(x.dtype)) if jnp.issubdtype(x.dtype, jnp.inexact) else x

    return jax.tree.map(widened, tree)


def _drawn(x: Array, dtype: DTypeLike, key: Key) -> Array:
    """`x`, float32, rounded stochastically to one of its two neighbours in `dtype`."""
    near = rounded(x, dtype)
    side = jnp.where(x > near, jnp.inf, -jnp.inf).astype(dtype)
    far = jnp.nextafter(near.astype(dtype), side).astype(x.dtype)
    chance = jnp.where(x == near, 0.0, (x - near) / jnp.where(x == near, 1.0, far - near))
    return jnp.where(jax.random.uniform(key, x.shape, x.dtype) < chance, far, near)


def _two(f: Any, tree: Arrays, *others: Any) -> tuple[Any, Any]:
    """The two results of `f` for every leaf, as two trees."""
    structure: Any
    leaves, structure = jax.tree.flatten(tree)
    pairs = [f(*xs) for xs in zip(leaves, *map(structure.flatten_up_to, others), strict=True)]
    return structure.unflatten([a for a, _ in pairs]), structure.unflatten([b for _, b in pairs])
