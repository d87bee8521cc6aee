"""Params of a sharded trainer: sharded between steps, gathered where a layer reads them.

A batch and a weight that lie along the same mesh axis cannot be multiplied as they are. FSDP gathers the weight, and
sums and shards its gradient. Without constraints the compiler may gather or move the activations instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from jaxnn.types import Arrays, Key, Params, State

# Operations that are repeated in the backward pass, so that it keeps no gathered weight, nor a cast or transposed one.
REPEATED = {"sharding_constraint", "convert_element_type", "transpose", "reshape"}


STAGE = "stage"  # mesh axis of a pipeline


class Use(NamedTuple):
    """Shardings of a param, with an entry for each of its axes.

    Attributes:
      held: between steps.
      read: in a layer.
      parts: number of parts of a batch in a pipeline.
    """

    held: NamedSharding
    read: NamedSharding
    parts: int = 1


_USES: ContextVar[dict[str, Any] | None] = ContextVar("jaxnn_uses", default=None)
_REPEATS: ContextVar[bool] = ContextVar("jaxnn_repeats", default=False)


@contextmanager
def uses(tree: dict[str, Any] | None) -> Iterator[None]:
    """Inside, layers gather their params: `tree` has a `Use` at the paths of those that are gathered."""
    token = _USES.set(tree)
    try:
        yield
    finally:
        _USES.reset(token)


@contextmanager
def repeats(policy: Callable[..., Any] | None) -> Iterator[None]:
    """Inside a `remat`: its backward pass gathers the params once, for the repeated forward pass and for gradients.

    With repetitions of their own, layers would gather them again for gradients. A policy that keeps everything repeats
    nothing.
    """
    token = _REPEATS.set(policy is not jax.checkpoint_policies.everything_saveable)
    try:
        yield
    finally:
        _REPEATS.reset(token)


def uses_below(name: str) -> Any:
    """Context in which a child of the running layer gathers its params."""
    return uses((_USES.get() or {}).get(name))


def reading(apply: Callable[..., Any]) -> Callable[..., Any]:
    """`apply` of the running layer with its own params gathered; those of its children are gathered when it calls them.

    Its derivative gathers them a second time in place of keeping them from the forward to the backward pass, unless a
    `remat` around it does.
    """
    uses = {name: use for name, use in (_USES.get() or {}).items() if isinstance(use, Use)}
    own = {name: use for name, use in uses.items() if use.held != use.read}
    if not own:
        return apply

    def applied(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> Any:
        def read(params: Params, state: State, x: Arrays, key: Key | None) -> Any:
            params = {name: _gathered(_as_read(p, x), own[name]) if name in own else p for name, p in params.items()}
            return apply(params, state, x, key=key, train=train)

        return (read if _REPEATS.get() else jax.checkpoint(read, policy=_is_kept))(params, state, x, key)

    return applied


def use_of_stack(params: Params, name: str | None = None) -> tuple[Use, Any] | None:
    """A `Use` of the stacked params of a layer, or of its child, and the mesh axes along which all of them lie.

    None if their axis 0 is not sharded, or not in the same way. Only params along mesh axes of the batch and of stages
    are looked at: along others the compiler needs no constraint.
    """
    tree = _USES.get() or {}
    if name is not None:
        tree, params = tree.get(name, {}), params.get(name, {})
    found = list(_stacked(tree, params))
    return found[0] if len({axes for _, axes in found}) == 1 and found[0][1] is not None else None


def _stacked(tree: Any, params: Params) -> Iterator[tuple[Use, Any]]:
    for name, p in params.items():
        if isinstance(use := tree.get(name, {}), Use):
            yield use, use.held.spec[len(use.held.spec) - p.ndim]  # in the scan of a `repeat` its axis 0 is missing
        elif isinstance(p, dict):
            yield from _stacked(use, p)


def exchanged(x: Array, along: tuple[Use, Any] | None, axis: int, *, back: bool = False) -> Array:
    """x, sharded along an axis in place of the axis of examples, or with `back` the reverse: an all-to-all."""
    if along is None:
        return x
    use, axes = along
    order = (axes, None) if back else (None, axes)
    for axes in order:  # in the backward pass the constraints act in the opposite order
        x = placed(x, use, axes, axis)
    return x


def placed(x: Array, use: Use, axes: Any = STAGE, axis: int = 0) -> Array:
    """x with one of its axes along mesh axes; the compiler chooses those of the others."""
    spec = [PartitionSpec.UNCONSTRAINED] * x.ndim
    spec[axis] = axes
    return jax.lax.with_sharding_constraint(x, NamedSharding(use.held.mesh, PartitionSpec(*spec)))


def _is_kept(primitive: Any, *_: Any, **__: Any) -> bool:
    return primitive.name not in REPEATED


def _as_read(p: Array, x: Arrays) -> Array:
    """A weight in the dtype of x, to which a layer under `cast` casts it: half of the bytes are sent.

    Vectors keep their dtype, because norms compute in a wider one.
    """
    wide = [leaf.dtype for leaf in jax.tree.leaves(x) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    dtype = max(wide, key=lambda dtype: dtype.itemsize, default=p.dtype)
    narrower = jnp.issubdtype(p.dtype, jnp.floating) and dtype.itemsize < p.dtype.itemsize
    return p.astype(dtype) if narrower and p.ndim > 1 else p


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _gathered(p: Array, use: Use) -> Array:
    """p with the sharding for a layer; its gradient has the one between steps.

    The transpose of a constraint is the same constraint: a gradient that is first whole and then sharded would be
    summed by an all-reduce.
    """
    return _constrained(_constrained(p, use.held), use.read)


@_gathered.defjvp
def _(use: Use, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (p,), (t,) = primals, tangents
    return _constrained(_constrained(p, use.held), use.read), _constrained(t, use.held)  # operations in `REPEATED`


def _constrained(p: Array, sharding: NamedSharding) -> Array:
    axes = sharding.spec[len(sharding.spec) - p.ndim :]  # in the scan of a `repeat` the axis of copies is missing
    return jax.lax.with_sharding_constraint(p, NamedSharding(sharding.mesh, PartitionSpec(*axes)))
