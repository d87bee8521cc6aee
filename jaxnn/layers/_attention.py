"""Multi-head attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.lax import PrecisionLike

from jaxnn import _checks as check
from jaxnn import ops
from jaxnn._calls import recorded
from jaxnn._dtypes import param_dtype
from jaxnn._errors import invalid
from jaxnn._inputs import known
from jaxnn._keys import fold_in
from jaxnn._layer import Layer, layer
from jaxnn._mesh import gathered, placed_as
from jaxnn._padded import Padded, padded_pair, values_of
from jaxnn.layers._checks import check_preset, drawn_by
from jaxnn.layers._linear import affine
from jaxnn.ops._attention import check_implementation, checked_window
from jaxnn.ops._lengths import check_lengths, without_padding

BESIDE_X = ("context", "mask", "bias", "lengths", "positions")


@recorded
def attention(
    heads: int,
    *,
    features: int | None = None,
    size: int | None = None,
    kv_heads: int | None = None,
    causal: bool = False,
    window: tuple[int | None, int | None] | None = None,
    rotary: bool | float = False,
    softcap: float | None = None,
    cache: int | None = None,
    dropout: float | Array = 0.0,
    precision: PrecisionLike = None,
    implementation: Literal["xla", "cudnn"] | None = None,
    bias: bool = True,
    preset: str = "jaxnn",
    w_init: Callable | None = None,
    b_init: Callable | None = None,
    name: str | None = None,
) -> Layer:
    """Multi-head attention, [n, t, d] -> [n, t, features], as `ops.attention`.

    The input is x [n, t, d], or a dict with it as "x" and any of: "context" [n, s, e], the source of keys and values (x
    itself by default); boolean "mask", "bias" and "lengths" [n], which refer to the keys, as in `ops.attention`;
    "positions" [t] or [n, t], for `rotary`. x and context may each be a `Padded`: padded keys are ignored, and the
    result has the lengths of x. The result is an array or a `Padded` without the other entries of the dict.

    Params w_q [d, heads · size], w_k and w_v [e, kv_heads · size], w_o [heads · size, features], b_q, b_k, b_v, b_o.
    State, with a cache: k and v [n, cache, kv_heads, size], and position.

    Args:
      heads: number of heads of the queries, an integer >= 1.
      features: size of the last axis of the result; None is that of x.
      size: features of a head; None is d / heads.
      kv_heads: number of heads of keys and values, a divisor of heads; None is heads.
      causal, window, softcap: as in `ops.attention`.
      rotary: True rotates queries and keys by their positions (`ops.rotary`); a number is the base, 10000 by default.
        Not allowed with a context.
      cache: number of steps whose keys and values are kept in the state, so that a sequence passed in pieces gives the
        same result as in one call. Requires causal=True; no context and no lengths. `init` makes the cache empty, for
        the n of its x; the params are those of the same layer without a cache. Steps beyond its end give NaN, the steps
        before them are unaffected. None keeps nothing.
      dropout: probability of dropping an attention weight in training, in [0, 1); may be traced. The name is that of
        PyTorch and Keras; flax has dropout_rate.
      precision: of all products, as in `dense`.
      implementation: None, or "xla" or "cudnn" for `jax.nn.dot_product_attention`, as in `ops.attention`; not with
        softcap, cache, precision or dropout.
      bias: False omits all biases.
      preset: the default initialization, "jaxnn", "torch", "keras" or "flax" (`init.preset`).
      w_init, b_init: initializers (key, shape, dtype) -> array for all weights and all biases; override the preset.
      name: pins the name.

    Raises:
      ValueError: if x does not fit, an argument is out of range, or dropout in training has no key.
      TypeError: if x or the context is not floating, or the lengths are not integers.

    >>> model = attention(4, causal=True)
    >>> params, state = model.init(jax.random.key(0), jnp.ones((2, 5, 16)))
    >>> model.apply(params, state, jnp.ones((2, 7, 16)))[0].shape
    (2, 7, 16)
    """
    where = name or "attention"
    check.flags(where, causal=causal, bias=bias)
    heads = check.count(where, "heads", heads)
    kv = heads if kv_heads is None else check.count(where, "kv_heads", kv_heads)
    if heads % kv:
        raise invalid(where, f"kv_heads that divide heads={heads}", told=f"{kv}")
    features, size, cache = (
        None if value is None else check.count(where, argument, value)
        for argument, value in (("features", features), ("size", size), ("cache", cache))
    )
    if cache is not None and not causal:
        raise invalid(
            where, "causal=True with a cache", told="False", fix="A step cannot see those that are still to come."
        )
    if not isinstance(rotary, bool):
        check.scalar(where, "rotary", rotary, ends="()", static=True)
    check_preset(where, preset)
    if softcap is not None:
        check.scalar(where, "softcap", softcap, ends="()")
    check.scalar(where, "dropout", dropout, below=1.0, fix="It is the probability of dropping.")
    drops = not (known(dropout) and dropout == 0)
    window = checked_window(where, window)
    given_too = {"softcap": softcap is not None, "cache": cache is not None, "dropout": drops, "precision": precision}
    check_implementation(where, implementation, causal, window, given_too)

    def head_size(d: int) -> int:
        if size is None and d % heads:
            raise invalid(where, f"features of x that heads={heads} divide, or size=", told=f"{d}")
        return size or d // heads

    def initial(key: Array, x: Any) -> tuple[dict, dict]:
        x, given, _ = _inputs(where, x)
        context = given.get("context", x)
        d, dtype, each = x.shape[-1], param_dtype(x), head_size(x.shape[-1])
        out = features or d
        w = dict.fromkeys(("w_q", "w_k", "w_v", "w_o"), w_init)
        b = dict.fromkeys(("b_q", "b_k", "b_v", "b_o"), b_init)
        shapes = {
            "q": (d, heads * each),
            "k": (context.shape[-1], kv * each),
            "v": (context.shape[-1], kv * each),
            "o": (heads * each, out),
        }
        params = {}
        for i, (part, shape) in enumerate(shapes.items()):
            draw = drawn_by(preset, "attention", shape[0], heads=kv if part in "kv" else heads, **w, **b)
            k = fold_in(key, i)
            if bias:  # before w, whose draw consumes k
                params[f"b_{part}"] = draw[f"b_{part}"](fold_in(k, 0), shape[1:], dtype)
            params[f"w_{part}"] = draw[f"w_{part}"](k, shape, dtype)
        if cache is None:
            return params, {}
        empty = jnp.zeros((x.shape[0], cache, kv, each), x.dtype)
        return params, {"k": empty, "v": empty, "position": jnp.zeros((), jnp.int32)}

    def apply(params: dict, state: dict, x: Any, *, key: Array | None, train: bool) -> tuple[Any, dict]:
        x, given, lengths = _inputs(where, x)
        context = given.get("context", x)
        for part, source in (("q", x), ("k", context)):
            d = params[f"w_{part}"].shape[0]
            if source.shape[-1] != d:
                raise invalid(where, f"{'x' if part == 'q' else 'context'} of shape [n, steps, {d}]", source)
        each = params["w_q"].shape[1] // heads
        if drops and train and key is None:
            raise invalid(where, "a key when train=True", told="None", fix="Pass key= to apply.")
        q = projected(params, "q", x).reshape(*x.shape[:2], heads, each)
        k, v = (projected(params, part, context).reshape(*context.shape[:2], kv, each) for part in "kv")
        how: dict[str, Any] = {k: given[k] for k in ("mask", "bias", "lengths") if k in given}
        first = state["position"] if cache is not None else 0
        if rotary is not False:
            if "context" in given:
                raise invalid(
                    where, "rotary=False with a context", told="rotary", fix="Their positions have no common zero."
                )
            positions = given.get("positions", first + jnp.arange(x.shape[1], dtype=jnp.int32))
            cos, sin = ops.rotary_tables(positions, each, **({} if rotary is True else {"base": rotary}))
            q, k = ops.rotary(q, cos, sin), ops.rotary(k, cos, sin)
        if cache is not None:
            _check_piece(where, state, x, given)
            k, v, state = _remembered(state, k, v)
            how["lengths"] = jnp.full(x.shape[0], first + x.shape[1], jnp.int32)
        if drops and train:
            how |= {"dropout": dropout, "key": key}
        how |= {"precision": precision, "implementation": implementation}
        y = ops.attention(q, k, v, causal=causal, window=window, offset=first, softcap=softcap, **how)
        y = projected(params, "o", y.reshape(*x.shape[:2], heads * each))
        if cache is not None:  # positions may be traced, so an error cannot be raised
            steps = first + jnp.arange(x.shape[1], dtype=jnp.int32).reshape(1, -1, 1)
            y = jnp.where(steps < cache, y, jnp.nan)
        return (y if lengths is None else Padded(y, lengths)), state

    def projected(params: dict, part: str, x: Array) -> Array:
        return affine(x, params[f"w_{part}"], params.get(f"b_{part}"), precision)

    return layer(initial, apply, "attention", name=name, padded="lengths")


def _inputs(where: str, x: Any) -> tuple[Any, dict[str, Any], Any]:
    """x, the other inputs with the lengths of the keys, and the lengths of x; x and context with padding set to 0."""
    given: dict[str, Any] = {}
    if isinstance(x, dict):
        if "x" not in x or set(x) - {"x", *BESIDE_X}:
            raise invalid(where, f"x alone or a dict with 'x' and some of {', '.join(BESIDE_X)}", told=", ".join(x))
        given = {k: v for k, v in x.items() if k != "x" and v is not None}
        x = x["x"]
    keys = "context" if "context" in given else "x"
    parts = {"x": padded_pair(x), "context": given.get("context")}
    if "lengths" in given:
        if isinstance(parts[keys], Padded):
            raise invalid(where, f"lengths once, in {keys} or beside it", told="both")
        parts[keys] = Padded(parts[keys], given["lengths"])
    lengths = {name: part.lengths for name, part in parts.items() if isinstance(part, Padded)}
    for name, shape in (("x", "[n, t, d]"), ("context", "[n, s, e]")):
        if (part := parts[name]) is not None:
            array = check.array(where, name, values_of(part), rank=3, shape=shape)
            if name in lengths and not isinstance(array, jax.ShapeDtypeStruct):
                check_lengths(where, lengths[name], array.shape[0])
                array = without_padding(array, lengths[name])
            parts[name] = array
    given |= {"context": parts["context"]} if "context" in given else {}
    given |= {"lengths": lengths[keys]} if keys in lengths else {}
    return parts["x"], given, lengths.get("x")


def _check_piece(where: str, state: dict, x: Array, given: dict) -> None:
    """Raises unless x is a valid next piece for the cache."""
    if "context" in given or "lengths" in given:
        raise invalid(where, "no context and no lengths with a cache", told=", ".join(given))
    n, length, *_ = state["k"].shape
    if x.shape[0] != n or x.shape[1] > length:
        fix = "Give it in pieces, or make a longer cache: cache=."
        if x.shape[0] != n:
            fix = "init makes the cache for the examples of its x: for another number call init again."
        raise invalid(where, f"x of shape [{n}, t, d] with t <= {length}, as the cache was made for", x, fix)


def _remembered(state: dict, k: Array, v: Array) -> tuple[Array, Array, dict]:
    """All keys and values so far, and the state that holds them."""
    first = state["position"]
    kept = {name: _written(state[name], new, first) for name, new in (("k", k), ("v", v))}
    return kept["k"], kept["v"], {**kept, "position": first + k.shape[1]}


def _written(cache: Array, piece: Array, first: Array) -> Array:
    """The cache with a piece written at `first`, [n, length, ...], [n, t, ...] -> [n, length, ...].

    Steps that do not fit are discarded.
    """
    piece = gathered(piece.astype(cache.dtype), axis=1)
    cache = placed_as(jnp.asarray(cache), piece)
    t = piece.shape[1]
    start = jnp.clip(first, 0, cache.shape[1] - t)
    lost = first - start  # number of steps that do not fit; the others are written after the existing ones
    steps = jnp.arange(t, dtype=jnp.int32).reshape(1, t, 1, 1)
    there = lax.dynamic_slice_in_dim(cache, start, t, axis=1)
    return lax.dynamic_update_slice_in_dim(
        cache, jnp.where(steps < lost, there, jnp.roll(piece, lost, axis=1)), start, axis=1
    )
