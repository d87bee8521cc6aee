"""Plain JAX and optax: the best straightforward form of each network that is known to us, parameters in dicts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from _peers import pure
from _peers.pure import Net, size
from _peers.rows import DEPTH, HEADS, LENGTH, PROMPT, TOKENS, VOCABULARY, WIDTH, Job, Row

Params = dict[str, Any]
normal = jax.random.normal


# Parameters.


def dense_init(key: jax.Array, d: int, features: int) -> Params:
    return {"w": normal(key, (d, features)) * d**-0.5, "b": jnp.zeros(features)}


def conv_init(key: jax.Array, k: int, d: int, features: int, bias: bool = True) -> Params:
    params = {"w": normal(key, (k, k, d, features)) * (k * k * d) ** -0.5}
    return params | ({"b": jnp.zeros(features)} if bias else {})


def norm_init(d: int) -> Params:
    return {"scale": jnp.ones(d), "bias": jnp.zeros(d)}


# Layers.


def dense(p: Params, x: jax.Array) -> jax.Array:
    y = x.reshape(-1, x.shape[-1]) @ p["w"] + p["b"]
    return y.reshape(*x.shape[:-1], -1)


def conv(p: Params, x: jax.Array, stride: int = 1) -> jax.Array:
    y = lax.conv_general_dilated(x, p["w"], (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return y + p["b"] if "b" in p else y


def pool_of_slices(x: jax.Array) -> jax.Array:
    """The faster max pool where a gradient is taken."""
    rows = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(rows[:, :, ::2], rows[:, :, 1::2])


def pool_of_windows(x: jax.Array) -> jax.Array:
    """The faster max pool without a gradient."""
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def layer_norm(p: Params, x: jax.Array) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred * lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]


def batch_norm(p: Params, s: Params, x: jax.Array) -> tuple[jax.Array, Params]:
    mean = x.mean((0, 1, 2))
    var = ((x - mean) ** 2).mean((0, 1, 2))
    a = p["scale"] * lax.rsqrt(var + 1e-5)
    n = x.size // x.shape[-1]
    moved = {"mean": 0.9 * s["mean"] + 0.1 * mean, "var": 0.9 * s["var"] + 0.1 * var * n / (n - 1)}
    return x * a + (p["bias"] - mean * a), moved


# Networks without state.


def stateless(init: Callable, apply: Callable, predict: Callable | None = None) -> Net:
    return Net(
        lambda key, x: (init(key), {}), lambda p, s, x: (apply(p, x), s), lambda p, s, x: (predict or apply)(p, x)
    )


def mlp(*sizes: int) -> Net:
    def init(key: jax.Array) -> list[Params]:
        keys = jax.random.split(key, len(sizes) - 1)
        return [dense_init(k, *pair) for k, pair in zip(keys, pairwise(sizes), strict=True)]

    def apply(params: list[Params], x: jax.Array) -> jax.Array:
        for p in params[:-1]:
            x = jax.nn.relu(dense(p, x))
        return dense(params[-1], x)

    return stateless(init, apply)


def cnn(widths: tuple[int, ...], hidden: tuple[int, ...]) -> Net:
    pairs = list(zip((1, *widths[:-1]), widths, strict=True))
    head = mlp((28 // 2 ** len(widths)) ** 2 * widths[-1], *hidden, 10)

    def init(key: jax.Array) -> Params:
        first, last = jax.random.split(key)
        keys = jax.random.split(first, len(widths))
        return {
            "convs": [conv_init(k, 3, *pair) for k, pair in zip(keys, pairs, strict=True)],
            "head": head.init(last, None)[0],
        }

    def apply(pool: Callable, params: Params, x: jax.Array) -> jax.Array:
        for p in params["convs"]:
            x = pool(jax.nn.relu(conv(p, x)))
        return head.predict(params["head"], {}, x.reshape(len(x), -1))

    return stateless(init, partial(apply, pool_of_slices), partial(apply, pool_of_windows))


def lstm(d: int, features: int) -> Net:
    def init(key: jax.Array) -> Params:
        a, b = jax.random.split(key)
        return {"lstm": dense_init(a, d + features, 4 * features), "head": dense_init(b, features, 10)}

    def apply(params: Params, x: jax.Array) -> jax.Array:
        def step(carry: Any, x: jax.Array) -> Any:
            h, c = carry
            i, f, g, o = jnp.split(dense(params["lstm"], jnp.concatenate([x, h], -1)), 4, -1)
            c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

        zeros = jnp.zeros((len(x), features))
        (h, _), _ = lax.scan(step, (zeros, zeros), x.swapaxes(0, 1))
        return dense(params["head"], h)

    return stateless(init, apply)


def gru(d: int, features: int) -> Net:
    def init(key: jax.Array) -> Params:
        a, b, c = jax.random.split(key, 3)
        hidden = {"w": normal(b, (features, 3 * features)) * features**-0.5, "b": jnp.zeros(features)}
        return {"in": dense_init(a, d, 3 * features), "hidden": hidden, "head": dense_init(c, features, 10)}

    def apply(params: Params, x: jax.Array) -> jax.Array:
        def step(h: jax.Array, x: jax.Array) -> Any:
            r, z, n = jnp.split(dense(params["in"], x), 3, -1)
            r_, z_, n_ = jnp.split(h @ params["hidden"]["w"], 3, -1)
            r, z = jax.nn.sigmoid(r + r_), jax.nn.sigmoid(z + z_)
            n = jnp.tanh(n + r * (n_ + params["hidden"]["b"]))
            return n + z * (h - n), None

        h, _ = lax.scan(step, jnp.zeros((len(x), features)), x.swapaxes(0, 1))
        return dense(params["head"], h)

    return stateless(init, apply)


# Transformers.


def block_init(key: jax.Array, d: int) -> Params:
    keys = jax.random.split(key, 6)
    projections = {name: dense_init(k, d, d) for name, k in zip("qkvo", keys[:4], strict=True)}
    mlp = {"up": dense_init(keys[4], d, 4 * d), "down": dense_init(keys[5], 4 * d, d)}
    return projections | mlp | {"norm1": norm_init(d), "norm2": norm_init(d)}


def heads_of(x: jax.Array) -> jax.Array:
    """[n, t, d] -> [n, heads, t, d / heads]."""
    return x.reshape(*x.shape[:2], HEADS, -1).swapaxes(1, 2)


def attention(q: jax.Array, k: jax.Array, v: jax.Array, seen: jax.Array) -> jax.Array:
    """Attention of [n, heads, t, d] to the steps where `seen`, [n, t, heads · d]."""
    scores = (q * q.shape[-1] ** -0.5) @ k.swapaxes(-1, -2)
    y = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf)) @ v
    return y.swapaxes(1, 2).reshape(len(y), q.shape[2], -1)


def block(p: Params, x: jax.Array) -> jax.Array:
    h = layer_norm(p["norm1"], x)
    q, k, v = (heads_of(dense(p[name], h)) for name in "qkv")
    x = x + dense(p["o"], attention(q, k, v, np.tri(x.shape[1], dtype=bool)))
    h = layer_norm(p["norm2"], x)
    return x + dense(p["down"], jax.nn.gelu(dense(p["up"], h)))


def gpt_init(key: jax.Array, depth: int = DEPTH, length: int = LENGTH) -> Params:
    a, b, c = jax.random.split(key, 3)
    return {
        "embed": normal(a, (VOCABULARY, WIDTH)) * 0.02,
        "positions": normal(b, (length, WIDTH)) * 0.02,
        "blocks": [block_init(k, WIDTH) for k in jax.random.split(c, depth)],
        "norm": norm_init(WIDTH),
    }


def scores(params: Params, x: jax.Array) -> jax.Array:
    x = layer_norm(params["norm"], x)
    return (x.reshape(-1, WIDTH) @ params["embed"].T).reshape(*x.shape[:-1], -1)


def gpt(length: int = LENGTH) -> Net:
    def apply(params: Params, tokens: jax.Array) -> jax.Array:
        x = params["embed"][tokens] + params["positions"]
        for p in params["blocks"]:
            x = block(p, x)
        return scores(params, x)

    return stateless(partial(gpt_init, length=length), apply)


def deep_gpt() -> Net:
    """48 blocks by a scan over their stacked parameters; the head is not tied."""

    def init(key: jax.Array) -> Params:
        a, b = jax.random.split(key)
        params = gpt_init(a, depth=1)
        params["blocks"] = jax.vmap(lambda k: block_init(k, WIDTH))(jax.random.split(b, 48))
        return params | {"head": normal(b, (WIDTH, VOCABULARY)) * WIDTH**-0.5}

    def apply(params: Params, tokens: jax.Array) -> jax.Array:
        x = params["embed"][tokens] + params["positions"]
        x, _ = lax.scan(lambda x, p: (block(p, x), None), x, params["blocks"])
        x = layer_norm(params["norm"], x)
        return (x.reshape(-1, WIDTH) @ params["head"]).reshape(*x.shape[:-1], -1)

    return stateless(init, apply)


def generate(params: Params, prompt: jax.Array) -> jax.Array:
    """TOKENS greedy tokens after a prompt, through a cache of keys and values."""
    n, t = prompt.shape
    length = t + TOKENS
    empty = jnp.zeros((n, HEADS, length, WIDTH // HEADS))

    def forward(caches: list, tokens: jax.Array, start: jax.Array | int) -> Any:
        steps = start + jnp.arange(tokens.shape[1])
        x = params["embed"][tokens] + params["positions"][steps]
        seen, kept = jnp.arange(length) <= steps[:, None], []
        for p, (keys, values) in zip(params["blocks"], caches, strict=True):
            h = layer_norm(p["norm1"], x)
            q, k, v = (heads_of(dense(p[name], h)) for name in "qkv")
            keys = lax.dynamic_update_slice_in_dim(keys, k, start, 2)
            values = lax.dynamic_update_slice_in_dim(values, v, start, 2)
            x = x + dense(p["o"], attention(q, keys, values, seen))
            h = layer_norm(p["norm2"], x)
            x = x + dense(p["down"], jax.nn.gelu(dense(p["up"], h)))
            kept.append((keys, values))
        return kept, scores(params, x[:, -1:])[:, 0].argmax(-1)

    def step(carry: Any, i: jax.Array) -> Any:
        caches, token = carry
        caches, after = forward(caches, token[:, None], i)
        return (caches, after), token

    first = forward([(empty, empty)] * len(params["blocks"]), prompt, 0)
    _, tokens = lax.scan(step, first, t + jnp.arange(TOKENS))
    return tokens.T


# Networks of convolutions.


def resnet20() -> Net:
    stages = [(16, 1), (32, 2), (64, 2)]

    def init(key: jax.Array, x: jax.Array) -> Any:
        keys = iter(jax.random.split(key, 20))
        params, state = [], []

        def unit(d: int, features: int) -> None:
            params.append(conv_init(next(keys), 3, d, features, bias=False) | {"norm": norm_init(features)})
            state.append({"mean": jnp.zeros(features), "var": jnp.ones(features)})

        unit(3, 16)
        d = 16
        for features, _ in stages:
            for _ in range(3):
                unit(d, features)
                unit(features, features)
                d = features
        return {"units": params, "head": dense_init(next(keys), 64, 10)}, state

    def apply(params: Params, state: list, x: jax.Array) -> Any:
        units, moved = iter(zip(params["units"], state, strict=True)), []

        def unit(x: jax.Array, stride: int = 1) -> jax.Array:
            p, s = next(units)
            y, s = batch_norm(p["norm"], s, conv(p, x, stride))
            moved.append(s)
            return y

        x = jax.nn.relu(unit(x))
        for features, first in stages:
            for stride in (first, 1, 1):
                h = unit(jax.nn.relu(unit(x, stride)))
                skip = x[:, ::stride, ::stride]
                skip = jnp.pad(skip, ((0, 0), (0, 0), (0, 0), (0, features - skip.shape[-1])))
                x = jax.nn.relu(h + skip)
        return dense(params["head"], x.mean((1, 2))), moved

    return Net(init, apply, lambda p, s, x: apply(p, s, x)[0])


def unet() -> Net:
    widths = (16, 32, 64, 128)

    def twice(key: jax.Array, d: int, features: int) -> list[Params]:
        a, b = jax.random.split(key)
        return [conv_init(a, 3, d, features), conv_init(b, 3, features, features)]

    def init(key: jax.Array) -> Params:
        keys = iter(jax.random.split(key, 16))
        downs = [twice(next(keys), d, w) for d, w in zip((3, *widths[:-1]), widths, strict=True)]
        return {
            "downs": downs,
            "middle": twice(next(keys), widths[-1], 2 * widths[-1]),
            "rises": [conv_init(next(keys), 2, 2 * w, w) for w in widths],
            "ups": [twice(next(keys), 2 * w, w) for w in widths],
            "head": conv_init(next(keys), 1, widths[0], 2),
        }

    def double(params: list[Params], x: jax.Array) -> jax.Array:
        for p in params:
            x = jax.nn.relu(conv(p, x))
        return x

    def rise(p: Params, x: jax.Array) -> jax.Array:
        """A transposed convolution of kernel and stride 2: a matrix product, each pixel becoming four."""
        n, h, w, d = x.shape
        y = x.reshape(-1, d) @ p["w"].transpose(2, 0, 1, 3).reshape(d, -1)
        y = y.reshape(n, h, w, 2, 2, -1).swapaxes(2, 3)
        return y.reshape(n, 2 * h, 2 * w, -1) + p["b"]

    def apply(params: Params, x: jax.Array) -> jax.Array:
        skips = []
        for p in params["downs"]:
            skips.append(double(p, x))
            x = pool_of_slices(skips[-1])
        x = double(params["middle"], x)
        for up, p, skip in zip(reversed(params["ups"]), reversed(params["rises"]), reversed(skips), strict=True):
            x = double(up, jnp.concatenate([skip, rise(p, x)], -1))
        return conv(params["head"], x)

    return stateless(init, apply)


NETS: dict[str, Callable[..., Net]] = {
    "mlp": lambda: mlp(784, 512, 512, 10),
    "tiny": lambda: mlp(64, 32, 10),
    "chain": mlp,
    "cnn": lambda: cnn((32, 64), (128,)),
    "small_cnn": lambda: cnn((16, 32), ()),
    "lstm": lambda: lstm(128, 256),
    "gru": lambda: gru(128, 256),
    "gpt": gpt,
    "gpt48": deep_gpt,
    "resnet20": resnet20,
    "unet": unet,
}


def jobs(row: Row, x: np.ndarray, y: np.ndarray) -> dict[str, Job]:
    if row.kind == "tokens":
        params = jax.jit(partial(gpt_init, length=PROMPT + TOKENS))(jax.random.key(0))
        program, prompt = jax.jit(generate), jnp.asarray(x)
        return {"scan": Job(lambda: program(params, prompt), size(params))}
    return pure.jobs(NETS[row.net](*row.sizes), row, x, y) if row.net in NETS else {}
