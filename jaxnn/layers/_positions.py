"""Positional encodings added to a sequence, sinusoidal and learned, and a class token before it."""

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
from jaxnn._mesh import gathered, placed_as, plus
from jaxnn._mesh import rows as rows_of
from jaxnn._padded import Padded, on_values, padded_pair, values_of
from jaxnn.layers._cache import steps_from
from jaxnn.layers._weights import check_fits
from jaxnn.types import Arrays, Initializer, Key, Params, State


@recorded
def sinusoidal_positions(*, base: float = 10_000.0, cached: bool = False, name: str | None = None) -> Layer:
    """Adds sinusoidal positional encodings, [n, t, d] -> [n, t, d], as `ops.sinusoidal`.

    Args:
      base: > 0, of the frequencies, as in `ops.sinusoidal`.
      cached: if True, positions continue from call to call, for use with an attention with a cache; state position,
        one for all examples or [n].
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
        return ops.sinusoidal(steps_from(first, x.shape[1]), x.shape[2], base=base)

    return _positions(where, "sinusoidal_positions", lambda key, x: {}, rows, cached, name)


@recorded
def learned_positions(
    length: int, *, cached: bool = False, w_init: Initializer | None = None, name: str | None = None
) -> Layer:
    """Adds a learned vector for each position, [n, t, d] -> [n, t, d], with t <= `length`; params w [length, d].

    Args:
      length: number of positions, an integer >= 1.
      cached: if True, positions continue from call to call, for use with an attention with a cache; state position,
        one for all examples or [n].
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
            return lax.slice_in_dim(w, 0, x.shape[1])[None]
        return rows_of(w, steps_from(first, x.shape[1]))

    return _positions(where, "learned_positions", init, rows, cached, name)


@recorded
def class_token(*, w_init: Initializer | None = None, name: str | None = None) -> Layer:
    """Puts a learned vector before a sequence, [n, t, d] -> [n, 1 + t, d]; params w [d].

    The output of a transformer at step 0 then represents the whole sequence, as in BERT and ViT. For a `Padded` the
    lengths grow by one.

    Args:
      w_init: initializer (key, shape, dtype) -> array; None is zeros, as in ViT.
      name: pins the name.

    Raises:
      ValueError: if x has other features than w.
      TypeError: if x is not floating.

    Reference: Dosovitskiy et al., An Image is Worth 16x16 Words, 2020.

    >>> params, state = class_token().init(jax.random.key(0), jnp.ones((2, 49, 32)))
    >>> class_token().apply(params, state, jnp.ones((2, 49, 32)))[0].shape
    (2, 50, 32)
    """
    where = name or "class_token"

    def init(key: Key, x: Arrays) -> tuple[Params, State]:
        x = check.array(where, "x", values_of(padded_pair(x)), rank=3, shape="[n, t, d]")
        shape, dtype = (x.shape[2],), param_dtype(x)
        return {"w": w_init(key, shape, dtype) if w_init else jnp.zeros(shape, dtype)}, {}

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        w, given = params["w"], padded_pair(x)
        x = check.array(where, "x", values_of(given), rank=3, shape=f"[n, t, {w.shape[0]}]")
        check_fits(where, x, "w", w.shape[0], "[n, t, {}]")
        x = gathered(x, axis=1)
        first = placed_as(jnp.broadcast_to(w[None, None], (x.shape[0], 1, w.shape[0])), x).astype(x.dtype)
        y = jnp.concatenate([first, x], axis=1)
        return (Padded(y, jnp.asarray(given.lengths) + 1) if isinstance(given, Padded) else y), state

    return layer(init, apply, "class_token", name=name, padded="lengths")


def _positions(
    where: str, kind: str, init: Callable[..., Any], rows: Callable[..., Any], cached: bool, name: str | None
) -> Layer:
    check.flags(where, cached=cached)

    def initial(key: Key, x: Arrays) -> tuple[Params, State]:
        x = check.array(where, "x", values_of(padded_pair(x)), rank=3, shape="[n, t, d]")
        return init(key, x), ({"position": jnp.zeros((), jnp.int32)} if cached else {})

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        given, first = padded_pair(x), state["position"] if cached else 0
        x = check.array(where, "x", given.zeroed if isinstance(given, Padded) else given, rank=3, shape="[n, t, d]")
        y = on_values(lambda _: plus(x, rows(params, first, x)), given)
        steps = jnp.asarray(given.lengths if isinstance(given, Padded) else x.shape[1], jnp.int32)
        return y, ({"position": first + steps} if cached else state)

    return layer(initial, apply, kind, name=name, padded="lengths")
