"""Attention layers, the blocks made of them, positions, and patches of images."""

from collections.abc import Callable
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxnn import ops
from jaxnn._errors import invalid, wrong_type
from jaxnn._inputs import check_count, floating, param_dtype
from jaxnn.activations import gelu
from jaxnn.layer import Layer, call, layer
from jaxnn.layers._checks import check_preset, drawn_by
from jaxnn.layers.linear import dense
from jaxnn.layers.noise import dropout
from jaxnn.layers.norm import layer_norm
from jaxnn.ops._window import per_axis

BESIDE_X = ("context", "mask", "bias", "lengths", "positions")


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
    bias: bool = True,
    init: str = "jaxnn",
    w_init: Callable | None = None,
    b_init: Callable | None = None,
    name: str | None = None,
) -> Layer:
    """Multi-head attention, [n, t, d] -> [n, t, features], as `ops.attention`.

    x is [n, t, d], or a dict with it as "x" and any of "context" [n, s, e], where keys and values come from (x itself
    by default); "mask" of booleans, "bias", "lengths" [n], all over the keys, as in `ops.attention`; and "positions"
    [t] or [n, t], for `rotary`.

    Args:
      heads: of the queries.
      features: of the result; None is those of x.
      size: features of a head; None is d / heads.
      kv_heads: of keys and values, a divisor of heads; None is heads.
      causal, window, softcap: as in `ops.attention`.
      rotary: turn queries and keys by their positions (`ops.rotary`), a number being the base instead of 10000.
      cache: keep the keys and values of so many steps in the state and go on where the last call stopped: a sequence
        fed piece by piece gives what it gives at once. With causal=True alone. `init` makes it empty, for the n of its
        x; params are those of the same layer without it. Steps beyond its end give NaN.
      bias: False leaves all biases out.
      init: whose default initialization, "jaxnn", "torch", "keras" or "flax" (`init.preset`); `w_init` and `b_init`,
        functions (key, shape, dtype) -> array, go before it.

    Params w_q [d, heads · size], w_k and w_v [e, kv_heads · size], w_o [heads · size, features], b_q, b_k, b_v, b_o;
    state, with a cache, k and v [n, cache, kv_heads, size] and position. Raises ValueError where x does not fit,
    TypeError for an x that is not floating.

    >>> model = attention(4, causal=True)
    >>> params, state = model.init(jax.random.key(0), jnp.ones((2, 5, 16)))
    >>> model.apply(params, state, jnp.ones((2, 7, 16)))[0].shape
    (2, 7, 16)
    """
    where = name or "attention"
    check_count(where, "heads", heads)
    kv = heads if kv_heads is None else kv_heads
    check_count(where, "kv_heads", kv)
    if heads % kv:
        raise invalid(where, f"kv_heads that divide heads={heads}", f"{kv}")
    for argument, value in (("features", features), ("size", size), ("cache", cache)):
        if value is not None:
            check_count(where, argument, value)
    if cache is not None and not causal:
        raise invalid(where, "causal=True with a cache", "False", "A step cannot see those that are still to come.")
    check_preset(where, init)

    def head_size(d: int) -> int:
        if size is None and d % heads:
            raise invalid(where, f"features of x that heads={heads} divide, or size=", f"{d}")
        return size or d // heads

    def initial(key: Array, x: Any) -> tuple[dict, dict]:
        x, given = _inputs(where, x)
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
            draw = drawn_by(init, "attention", shape[0], heads=kv if part in "kv" else heads, **w, **b)
            k = jax.random.fold_in(key, i)
            params[f"w_{part}"] = draw[f"w_{part}"](k, shape, dtype)
            if bias:
                params[f"b_{part}"] = draw[f"b_{part}"](jax.random.fold_in(k, 0), shape[1:], dtype)
        if cache is None:
            return params, {}
        empty = jnp.zeros((x.shape[0], cache, kv, each), x.dtype)
        return params, {"k": empty, "v": empty, "position": jnp.zeros((), jnp.int32)}

    def apply(params: dict, state: dict, x: Any, *, key: Array | None, train: bool) -> tuple[Any, dict]:
        x, given = _inputs(where, x)
        context = given.get("context", x)
        for part, source in (("q", x), ("k", context)):
            d = params[f"w_{part}"].shape[0]
            if source.shape[-1] != d:
                raise invalid(where, f"{'x' if part == 'q' else 'context'} of shape [n, steps, {d}]", source)
        each = params["w_q"].shape[1] // heads
        q = _projected(params, "q", x).reshape(*x.shape[:2], heads, each)
        k, v = (_projected(params, part, context).reshape(*context.shape[:2], kv, each) for part in "kv")
        how = {k: given[k] for k in ("mask", "bias", "lengths") if k in given}
        first = state["position"] if cache is not None else 0
        if rotary is not False:
            if "context" in given:
                raise invalid(where, "rotary=False with a context", "rotary", "Their positions have no common zero.")
            positions = given.get("positions", first + jnp.arange(x.shape[1], dtype=jnp.int32))
            cos, sin = ops.rotary_tables(positions, each, **({} if rotary is True else {"base": rotary}))
            q, k = ops.rotary(q, cos, sin), ops.rotary(k, cos, sin)
        if cache is not None:
            k, v, state = _remembered(where, state, k, v, given)
            how["lengths"] = jnp.full(x.shape[0], first + x.shape[1], jnp.int32)
        y = ops.attention(q, k, v, causal=causal, window=window, offset=first, softcap=softcap, **how)
        y = _projected(params, "o", y.reshape(*x.shape[:2], heads * each))
        if cache is not None:  # under jit nothing can be raised
            y = jnp.where(first + x.shape[1] <= cache, y, jnp.nan)
        return y, state

    return layer(initial, apply, "attention", name=name)


def _inputs(where: str, x: Any) -> tuple[Any, dict[str, Any]]:
    """x and what is given beside it."""
    given: dict[str, Any] = {}
    if isinstance(x, dict):
        if "x" not in x or set(x) - {"x", *BESIDE_X}:
            raise invalid(where, f"x alone or a dict with 'x' and some of {', '.join(BESIDE_X)}", ", ".join(x))
        given = {k: v for k, v in x.items() if k != "x" and v is not None}
        x = x["x"]
    x = floating(where, x, rank=3, shape="[n, t, d]")
    if "context" in given:
        given["context"] = floating(where, given["context"], rank=3, shape="[n, s, e] (context)")
    return x, given


def _projected(params: dict, part: str, x: Array) -> Array:
    n, t, d = x.shape
    y = x.reshape(n * t, d) @ params[f"w_{part}"].astype(x.dtype)  # one product: three axes are slower in the gradient
    b = params.get(f"b_{part}")
    return (y if b is None else y + b.astype(x.dtype)[None]).reshape(n, t, -1)


def _remembered(where: str, state: dict, k: Array, v: Array, given: dict) -> tuple[Array, Array, dict]:
    """All keys and values so far, and the state that holds them."""
    if "context" in given or "lengths" in given:
        raise invalid(where, "no context and no lengths with a cache", ", ".join(given))
    n, length, *_ = state["k"].shape
    if k.shape[0] != n or k.shape[1] > length:
        raise invalid(where, f"x of shape [{n}, t, d] with t <= {length}, as the cache was made for", k)
    at = (0, state["position"], 0, 0)
    position = state["position"] + k.shape[1]
    k = lax.dynamic_update_slice(state["k"], k.astype(state["k"].dtype), at)
    v = lax.dynamic_update_slice(state["v"], v.astype(state["v"].dtype), at)
    return k, v, {"k": k, "v": v, "position": position}


def encoder_block(
    heads: int,
    *,
    hidden: int | None = None,
    rate: float | Array = 0.0,
    activation: Callable = gelu,
    norm: Callable[[], Layer] = layer_norm,
    init: str = "jaxnn",
    name: str | None = None,
    **how: Any,
) -> Layer:
    """A pre-norm transformer block, [n, t, d] -> [n, t, d].

        x <- x + attention(norm(x))
        x <- x + dense(activation(dense(norm(x))))

    With causal=True it is that of a decoder alone, as GPT's. x is [n, t, d] or a dict as for `attention`, without
    context; a dict comes out as one, so that blocks follow each other.

    Args:
      heads: of the attention.
      hidden: features of the inner dense layer; None is 4 d.
      rate: of dropout, after the attention and after the last dense layer.
      norm: the factory of both norms: `layer_norm` or `rms_norm`.
      init: whose default initialization the attention and the dense layers have.
      how: `kv_heads`, `size`, `causal`, `window`, `rotary`, `softcap`, `cache`, `bias`, for the attention.

    Children attention_norm, attention, mlp_norm, up, down. Raises as `attention`.

    Xiong et al., On Layer Normalization in the Transformer Architecture, 2020.

    >>> params, state = encoder_block(2).init(jax.random.key(0), jnp.ones((2, 5, 8)))
    >>> sorted(params)
    ['attention', 'attention_norm', 'down', 'mlp_norm', 'up']
    """
    parts = _Block(heads, hidden, rate, activation, norm, init, how)

    def apply(params: dict, state: dict, x: Any, *, key: Array | None, train: bool) -> tuple[Any, dict]:
        run = _Runner(params, state, key, train)
        given = x if isinstance(x, dict) else {}
        h = given.get("x", x)
        h = parts.attend(run, h, "attention", {k: v for k, v in given.items() if k != "x"}, parts.attention)
        h = parts.mlp(run, h)
        return ({**given, "x": h} if given else h), run.state

    return layer(None, apply, "encoder_block", name=name)


def decoder_block(
    heads: int,
    *,
    hidden: int | None = None,
    rate: float | Array = 0.0,
    activation: Callable = gelu,
    norm: Callable[[], Layer] = layer_norm,
    init: str = "jaxnn",
    name: str | None = None,
    **how: Any,
) -> Layer:
    """A pre-norm transformer block that also looks at a context, {"x": [n, t, d], "context": [n, s, e]} -> the same.

        x <- x + attention(norm(x)), causal
        x <- x + attention(norm(x), context)
        x <- x + dense(activation(dense(norm(x))))

    "lengths" [n] of the dict are those of the context, "mask" and "bias" too; the dict comes out with x renewed, so
    that blocks follow each other.

    Args:
      heads: of both attentions.
      hidden, rate, activation, norm, init: as in `encoder_block`.
      how: `kv_heads`, `size`, `bias` for both attentions, `window`, `rotary`, `softcap`, `cache` for the first.

    Children attention_norm, attention, context_norm, context_attention, mlp_norm, up, down. Raises as `attention`.

    >>> x = {"x": jnp.ones((2, 5, 8)), "context": jnp.ones((2, 3, 8))}
    >>> params, state = decoder_block(2).init(jax.random.key(0), x)
    >>> decoder_block(2).apply(params, state, x)[0]["x"].shape
    (2, 5, 8)
    """
    parts = _Block(heads, hidden, rate, activation, norm, init, {**how, "causal": True})
    over = {k: v for k, v in how.items() if k in ("kv_heads", "size", "bias")}
    cross = attention(heads, init=init, **over)
    where = name or "decoder_block"

    def apply(params: dict, state: dict, x: Any, *, key: Array | None, train: bool) -> tuple[Any, dict]:
        if not isinstance(x, dict) or "context" not in x:
            raise wrong_type(where, "a dict with 'x' and 'context'", x)
        run = _Runner(params, state, key, train)
        given = {k: v for k, v in x.items() if k != "x"}
        own = {k: given.pop(k) for k in ("positions",) if k in given}
        h = parts.attend(run, x["x"], "attention", own, parts.attention)
        h = parts.attend(run, h, "context", given, cross)
        return {**x, "x": parts.mlp(run, h)}, run.state

    return layer(None, apply, "decoder_block", name=name)


class _Runner:
    """Calls children one after the other, the state passed on."""

    def __init__(self, params: dict, state: dict, key: Array | None, train: bool):
        self.params, self.state, self.key, self.train = params, state, key, train

    def __call__(self, child: Layer, name: str, x: Any) -> Any:
        y, self.state = call(child, name, self.params, self.state, x, key=self.key, train=self.train)
        return y


class _Block:
    """What encoder and decoder share."""

    def __init__(self, heads: int, hidden: Any, rate: Any, activation: Any, norm: Any, init: str, how: dict):
        if hidden is not None:
            check_count("encoder_block", "hidden", hidden)
        self.attention = attention(heads, init=init, **how)
        self.norm, self.dropout = norm(), dropout(rate)
        self.hidden, self.activation, self.init, self.drops = hidden, activation, init, not _is_zero(rate)

    def attend(self, run: _Runner, x: Array, part: str, given: dict, child: Layer) -> Array:
        h = run(self.norm, f"{part}_norm", x)
        h = run(child, part if part == "attention" else f"{part}_attention", {"x": h, **given} if given else h)
        return x + self.dropped(run, h, f"{part}_dropout")

    def mlp(self, run: _Runner, x: Array) -> Array:
        h = run(self.norm, "mlp_norm", x)
        h = self.activation(run(dense(self.hidden or 4 * x.shape[-1], init=self.init), "up", h))
        return x + self.dropped(run, run(dense(x.shape[-1], init=self.init), "down", h), "mlp_dropout")

    def dropped(self, run: _Runner, x: Array, name: str) -> Array:
        return run(self.dropout, name, x) if self.drops else x


def _is_zero(rate: Any) -> bool:
    return isinstance(rate, int | float) and rate == 0


def sinusoidal_positions(*, base: float = 10_000.0, cached: bool = False, name: str | None = None) -> Layer:
    """Sines and cosines of the positions added, [n, t, d] -> [n, t, d], as `ops.sinusoidal`.

    Args:
      base: of the frequencies.
      cached: count on from call to call, beside an attention with a cache; state position.

    Raises ValueError for an odd d, TypeError for an x that is not floating.

    >>> sinusoidal_positions().apply({}, {}, jnp.zeros((1, 1, 4)))[0].tolist()
    [[[0.0, 1.0, 0.0, 1.0]]]
    """
    where = name or "sinusoidal_positions"

    def rows(params: dict, first: Any, x: Array) -> Array:
        return ops.sinusoidal(first + jnp.arange(x.shape[1], dtype=jnp.int32), x.shape[2], base=base)

    return _positions(where, "sinusoidal_positions", lambda key, x: {}, rows, cached, name)


def learned_positions(
    length: int, *, cached: bool = False, w_init: Callable | None = None, name: str | None = None
) -> Layer:
    """A learned vector for each position added, [n, t, d] -> [n, t, d], with t <= `length`.

    Args:
      length: the positions that there are.
      cached: count on from call to call, beside an attention with a cache; state position. Beyond the end: NaN.
      w_init: a function (key, shape, dtype) -> array; None is N(0, 0.02²), as GPT-2 and ViT.

    Params w [length, d]. Raises ValueError for a longer x, TypeError for an x that is not floating.

    >>> params, state = learned_positions(8).init(jax.random.key(0), jnp.ones((2, 5, 3)))
    >>> params["w"].shape
    (8, 3)
    """
    where = name or "learned_positions"
    check_count(where, "length", length)

    def init(key: Array, x: Any) -> dict:
        shape, dtype = (length, x.shape[2]), param_dtype(x)
        return {"w": w_init(key, shape, dtype) if w_init else 0.02 * jax.random.normal(key, shape, dtype)}

    def rows(params: dict, first: Any, x: Array) -> Array:
        w = params["w"]
        if x.shape[1] > length or x.shape[2] != w.shape[1]:
            raise invalid(where, f"x of shape [n, t <= {length}, {w.shape[1]}]", x)
        if not cached:
            return w[: x.shape[1]]
        return w.at[first + jnp.arange(x.shape[1], dtype=jnp.int32)].get(mode="fill", fill_value=jnp.nan)

    return _positions(where, "learned_positions", init, rows, cached, name)


def _positions(where: str, kind: str, init: Callable, rows: Callable, cached: bool, name: str | None) -> Layer:
    def initial(key: Array, x: Any) -> tuple[dict, dict]:
        x = floating(where, x, rank=3, shape="[n, t, d]")
        return init(key, x), ({"position": jnp.zeros((), jnp.int32)} if cached else {})

    def apply(params: dict, state: dict, x: Any, *, key: Array | None, train: bool) -> tuple[Any, dict]:
        x = floating(where, x, rank=3, shape="[n, t, d]")
        first = state["position"] if cached else 0
        y = x + rows(params, first, x).astype(x.dtype)[None]
        return y, ({"position": first + x.shape[1]} if cached else state)

    return layer(initial, apply, kind, name=name)


def patches(features: int, size: int | tuple[int, ...], *, init: str = "jaxnn", name: str | None = None) -> Layer:
    """An image cut into patches, each through one dense layer, [n, *space, c] -> [n, patches, features].

    The first layer of a vision transformer; the same as a convolution whose stride is its window.

    Args:
      size: of a patch, one number for all space axes or one for each; it divides the image.
      init: whose default initialization, of a dense layer.

    Params w [size, c, features] with the axes of a patch as one, b [features]. Raises ValueError for an image that size
    does not divide, TypeError for an x that is not floating.

    Dosovitskiy et al., An Image is Worth 16x16 Words, 2020.

    >>> params, state = patches(32, 4).init(jax.random.key(0), jnp.ones((2, 28, 28, 1)))
    >>> patches(32, 4).apply(params, state, jnp.ones((2, 28, 28, 1)))[0].shape
    (2, 49, 32)
    """
    where = name or "patches"
    check_count(where, "features", features)
    check_preset(where, init)
    through = dense(features, init=init)

    def cut(x: Any) -> Array:
        x = floating(where, x, least=3, shape="[n, *space, c]")
        n, *space, c = x.shape
        sizes = per_axis(where, "size", size, len(space))
        if any(s % p for s, p in zip(space, sizes, strict=True)):
            raise invalid(where, f"an image that patches of {list(sizes)} divide", x)
        k = len(space)
        x = x.reshape(n, *(v for s, p in zip(space, sizes, strict=True) for v in (s // p, p)), c)
        x = x.transpose(0, *range(1, 2 * k, 2), *range(2, 2 * k + 1, 2), 2 * k + 1)
        return x.reshape(n, -1, c * prod(sizes))

    def init_(key: Array, x: Any) -> tuple[dict, dict]:
        return through.init(key, jax.eval_shape(cut, x))

    def apply(params: dict, state: dict, x: Any, *, key: Array | None, train: bool) -> tuple[Any, dict]:
        return through.apply(params, state, cut(x))

    return layer(init_, apply, "patches", name=name)
