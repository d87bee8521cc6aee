"""Positional encodings added to a sequence: sinusoidal and learned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxnn import _checks as check
from jaxnn import ops
from jaxnn._calls import recorded
from jaxnn._dtypes import param_dtype
from jaxnn._errors import invalid
from jaxnn._keys import quick
from jaxnn._layer import Layer, layer
from jaxnn._mesh import fitting
from jaxnn._mesh import rows as rows_of
from jaxnn.types import Arrays, Initializer, Key, Params, State


@recorded
def sinusoidal_positions(*, base: float = 10_000.0, cached: bool = False, name: str | None = None) -> Layer:
    """Adds sinusoidal positional encodings, [n, t, d] -> [n, t, d], as `ops.sinusoidal`.

    Args:
      base: > 0, of the frequencies, as in `ops.sinusoidal`.
      cached: if True, positions continue from call to call, for use with an attention with a cache; state position.
      name: pins the name.

    Raises:
      ValueError: if d is odd.
      TypeError: if x is not floating.

    >>> sinusoidal_positions().apply({}, {}, jnp.zeros((1, 1, 4)))[0].tolist()
    [[[0.0, 1.0, 0.0, 1.0]]]
    """
    where = name or "sinusoidal_positions"

    check.scalar(where, "base", base, ends="()", static=True)

    def rows(params: Params, first: Arrays, x: Array) -> Array:
        return ops.sinusoidal(first + jnp.arange(x.shape[1], dtype=jnp.int32), x.shape[2], base=base)

    return _positions(where, "sinusoidal_positions", lambda key, x: {}, rows, cached, name)


@recorded
def learned_positions(
    length: int, *, cached: bool = False, w_init: Initializer | None = None, name: str | None = None
) -> Layer:
    """Adds a learned vector for each position, [n, t, d] -> [n, t, d], with t <= `length`; params w [length, d].

    Args:
      length: number of positions, an integer >= 1.
      cached: if True, positions continue from call to call, for use with an attention with a cache; state position.
        Steps beyond the end give NaN, the steps before them are unaffected.
      w_init: initializer (key, shape, dtype) -> array; None is N(0, 0.02²), as in GPT-2 and ViT.
      name: pins the name.

    Raises:
      ValueError: if x is longer than `length` or has other features.
      TypeError: if x is not floating.

    >>> params, state = learned_positions(8).init(jax.random.key(0), jnp.ones((2, 5, 3)))
    >>> params["w"].shape
    (8, 3)
    """
    where = name or "learned_positions"
    length = check.count(where, "length", length)

    def init(key: Key, x: Arrays) -> dict[str, Any]:
        shape, dtype = (length, x.shape[2]), param_dtype(x)
        return {"w": w_init(key, shape, dtype) if w_init else 0.02 * jax.random.normal(quick(key), shape, dtype)}

    def rows(params: Params, first: Arrays, x: Array) -> Array:
        w = jnp.asarray(params["w"])
        if x.shape[1] > length or x.shape[2] != w.shape[1]:
            raise invalid(where, f"x of shape [n, t <= {length}, {w.shape[1]}]", x)
        if not cached:
            return lax.slice_in_dim(w, 0, x.shape[1])
        return rows_of(w, first + jnp.arange(x.shape[1], dtype=jnp.int32))

    return _positions(where, "learned_positions", init, rows, cached, name)


def _positions(
    where: str, kind: str, init: Callable[..., Any], rows: Callable[..., Any], cached: bool, name: str | None
) -> Layer:
    check.flags(where, cached=cached)

    def initial(key: Key, x: Arrays) -> tuple[Params, State]:
        x = check.array(where, "x", x, rank=3, shape="[n, t, d]")
        return init(key, x), ({"position": jnp.zeros((), jnp.int32)} if cached else {})

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        x = check.array(where, "x", x, rank=3, shape="[n, t, d]")
        first = state["position"] if cached else 0
        y = x + fitting(rows(params, first, x).astype(x.dtype)[None], x)
        return y, ({"position": first + x.shape[1]} if cached else state)

    return layer(initial, apply, kind, name=name, padded=1)
