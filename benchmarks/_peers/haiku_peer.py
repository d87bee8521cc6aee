"""Haiku, trained by optax."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from _peers import pure
from _peers.pure import Net
from _peers.rows import DEPTH, HEADS, LENGTH, VOCABULARY, WIDTH, Job, Row

narrow = hk.initializers.RandomNormal(0.02)
lecun = hk.initializers.VarianceScaling(1.0)
norm = partial(hk.LayerNorm, -1, create_scale=True, create_offset=True)


def cnn(widths: tuple[int, ...], hidden: tuple[int, ...], x: jax.Array) -> jax.Array:
    for features in widths:
        x = hk.max_pool(jax.nn.relu(hk.Conv2D(features, 3)(x)), 2, 2, "VALID", channel_axis=-1)
    return hk.nets.MLP([*hidden, 10])(hk.Flatten()(x))


def recurrent(cell: Callable, x: jax.Array) -> jax.Array:
    core = cell(256)
    y, _ = hk.dynamic_unroll(core, x, core.initial_state(len(x)), time_major=False)
    return hk.Linear(10)(y[:, -1])


def block(x: jax.Array) -> jax.Array:
    d = x.shape[-1]
    h = norm()(x)
    mask = jnp.tril(jnp.ones((1, 1, x.shape[1], x.shape[1])))
    x = x + hk.MultiHeadAttention(HEADS, d // HEADS, model_size=d, w_init=lecun)(h, h, h, mask)
    h = norm()(x)
    return x + hk.Linear(d)(jax.nn.gelu(hk.Linear(4 * d)(h)))


def gpt(tokens: jax.Array) -> jax.Array:
    embed = hk.Embed(VOCABULARY, WIDTH, w_init=narrow)
    x = embed(tokens) + hk.get_parameter("positions", (LENGTH, WIDTH), init=narrow)
    for _ in range(DEPTH):
        x = block(x)
    return norm()(x) @ embed.embeddings.T


def deep_gpt(tokens: jax.Array) -> jax.Array:
    """48 blocks by layer_stack; the head is not tied."""
    x = hk.Embed(VOCABULARY, WIDTH, w_init=narrow)(tokens)
    x = x + hk.get_parameter("positions", (LENGTH, WIDTH), init=narrow)
    x = hk.experimental.layer_stack(48)(block)(x)
    return hk.Linear(VOCABULARY, with_bias=False)(norm()(x))


def resnet20(x: jax.Array, train: bool = True) -> jax.Array:
    def unit(x: jax.Array, features: int, stride: int = 1) -> jax.Array:
        x = hk.Conv2D(features, 3, stride, with_bias=False)(x)
        return hk.BatchNorm(create_scale=True, create_offset=True, decay_rate=0.9)(x, train)

    x = jax.nn.relu(unit(x, 16))
    for features, first in ((16, 1), (32, 2), (64, 2)):
        for stride in (first, 1, 1):
            h = unit(jax.nn.relu(unit(x, features, stride)), features)
            skip = x[:, ::stride, ::stride]
            skip = jnp.pad(skip, ((0, 0), (0, 0), (0, 0), (0, features - skip.shape[-1])))
            x = jax.nn.relu(h + skip)
    return hk.Linear(10)(x.mean((1, 2)))


NETS: dict[str, Callable[..., jax.Array]] = {
    "mlp": lambda x: hk.nets.MLP([512, 512, 10])(x),
    "tiny": lambda x: hk.nets.MLP([32, 10])(x),
    "cnn": partial(cnn, (32, 64), (128,)),
    "small_cnn": partial(cnn, (16, 32), ()),
    "lstm": partial(recurrent, hk.LSTM),
    "gru": partial(recurrent, hk.GRU),
    "gpt": gpt,
    "gpt48": deep_gpt,
    "resnet20": resnet20,
    "resnet50": lambda x, train=True: hk.nets.ResNet50(1000, bn_config={"decay_rate": 0.9})(x, train),
}


def net(forward: Callable[..., jax.Array]) -> Net:
    """The function, transformed."""
    made = hk.transform_with_state(forward)

    def apply(params: Any, state: Any, x: jax.Array, **how: bool) -> Any:
        return made.apply(params, state, None, x, **how)

    still = {"train": False} if forward in (NETS["resnet20"], NETS["resnet50"]) else {}
    return Net(made.init, apply, lambda params, state, x: apply(params, state, x, **still)[0])


def jobs(row: Row, x: np.ndarray, y: np.ndarray) -> dict[str, Job]:
    return pure.jobs(net(NETS[row.net]), row, x, y) if row.net in NETS and row.kind != "tokens" else {}
