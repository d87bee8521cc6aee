"""A stack of layers as a pipeline: stages on devices of their own, through which the parts of a batch pass."""

from __future__ import annotations

from collections.abc import Callable
from math import gcd
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxnn._errors import invalid
from jaxnn._gather import STAGE, Use, placed, use_of_stack
from jaxnn.types import Arrays, Params


def use_of_stages(params: Params) -> Use | None:
    """Sharding of the stacked params of a `repeat` if they are spread over the stages of a pipeline."""
    found = use_of_stack(params)
    return found[0] if found is not None and found[1] == STAGE else None


def pipelined(step: Callable[..., Arrays], x: Arrays, copies: Arrays, use: Use) -> Arrays:
    """x after all copies of a layer, of which each stage of the mesh has an equal number: GPipe's schedule.

    In tick t stage i computes part t - i of the batch and passes it to the next stage. In the first and the last ticks
    some stages have none: they compute another part, and the result is not used.

    The stages are an axis of one array, which the compiler partitions together with all other sharding. A shift along
    this axis is a collective-permute.

    Args:
      step: `step(x, copy, part)`, one layer, with the number of the part of the batch.
      x: the batch, with examples on axis 0 of every array.
      copies: params and other arrays of the layers, stacked on axis 0.
      use: sharding of a param, and the number of parts.
    """
    stages, n = use.held.mesh.shape[STAGE], _examples(x)
    m = gcd(use.parts, n)
    number = jnp.arange(stages, dtype=jnp.int32)
    own = jax.tree.map(lambda a: a.reshape(stages, len(a) // stages, *a.shape[1:]), copies)
    # Part i has every m-th example, so that no example leaves its device.
    parts = jax.tree.map(lambda a: jnp.moveaxis(a.reshape(n // m, m, *a.shape[1:]), 1, 0), x)

    def stage(x: Arrays, own: Arrays, part: Array) -> Arrays:
        return jax.lax.scan(lambda x, copy: (step(x, copy, part), None), x, own)[0]

    def tick(held: Arrays, t: Array) -> tuple[Arrays, Arrays]:
        def passed(held: Array, parts: Array) -> Array:
            entering = jax.lax.dynamic_index_in_dim(parts, jnp.minimum(t, m - 1), 0)
            shift = [(1, -1, 0)] + [(0, 0, 0)] * (held.ndim - 1)
            shifted = jax.lax.pad(held, jnp.zeros((), held.dtype), shift)
            return placed(jnp.where(_along(number == 0, held), entering, shifted), use)

        held = jax.tree.map(passed, held, parts)
        part = jnp.clip(t - number, 0, m - 1)
        held = jax.vmap(stage, spmd_axis_name=STAGE)(held, own, part)
        return held, held

    def whole(ticks: Array) -> Array:
        """The batch from the outputs of the last stage, [ticks, stages, n / m, ...] -> [n, ...]."""
        last = _along(number == stages - 1, ticks[0])
        parts = jnp.sum(jnp.where(last[None], ticks[stages - 1 :], 0), axis=1, dtype=ticks.dtype)
        return jnp.moveaxis(parts, 0, 1).reshape(n, *parts.shape[2:])

    first = jax.tree.map(lambda a: placed(jnp.broadcast_to(a[:1], (stages, *a.shape[1:])), use), parts)
    _, ticks = jax.lax.scan(tick, first, jnp.arange(m + stages - 1, dtype=jnp.int32))
    return jax.tree.map(whole, ticks)


def _along(flags: Array, x: Array) -> Array:
    """Flags of the stages with the rank of x, whose axis 0 has the stages."""
    return flags.reshape(-1, *(1,) * (x.ndim - 1))


def _examples(x: Any) -> int:
    """Number of examples, on axis 0 of every array."""
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(x)}
    if len(sizes) != 1 or sizes == {()}:
        raise invalid("repeat", "examples on axis 0 of every array in a pipeline", x)
    return int(next(iter(sizes))[0])
