"""Equinox, trained by optax: `filter_jit`, and `jax.jit` of flattened models, which calls faster."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from _peers.pure import adam, bytes_of, cross_entropy, order, running, size, stepping
from _peers.rows import DEPTH, HEADS, LENGTH, VOCABULARY, WIDTH, Job, Row


class MLP(eqx.Module):
    layers: list

    def __init__(self, *sizes: int, key: jax.Array):
        keys = jax.random.split(key, len(sizes) - 1)
        pairs = pairwise(sizes)
        self.layers = [eqx.nn.Linear(*pair, key=k) for pair, k in zip(pairs, keys, strict=True)]

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        return self.layers[-1](x)


class CNN(eqx.Module):
    convs: list
    head: MLP

    def __init__(self, widths: tuple[int, ...], hidden: tuple[int, ...], key: jax.Array):
        first, last = jax.random.split(key)
        keys = jax.random.split(first, len(widths))
        pairs = zip((1, *widths[:-1]), widths, strict=True)
        self.convs = [eqx.nn.Conv2d(*pair, 3, padding=1, key=k) for pair, k in zip(pairs, keys, strict=True)]
        self.head = MLP((28 // 2 ** len(widths)) ** 2 * widths[-1], *hidden, 10, key=last)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.transpose(2, 0, 1)
        for conv in self.convs:
            x = eqx.nn.MaxPool2d(2, 2)(jax.nn.relu(conv(x)))
        return self.head(x.ravel())


class Recurrent(eqx.Module):
    cell: Any
    head: eqx.nn.Linear

    def __init__(self, cell: Callable, key: jax.Array):
        first, last = jax.random.split(key)
        self.cell, self.head = cell(128, 256, key=first), eqx.nn.Linear(256, 10, key=last)

    def __call__(self, x: jax.Array) -> jax.Array:
        zeros = jnp.zeros(256)
        carry = (zeros, zeros) if isinstance(self.cell, eqx.nn.LSTMCell) else zeros
        carry, _ = jax.lax.scan(lambda carry, x: (self.cell(x, carry), None), carry, x)
        return self.head(carry[0] if isinstance(carry, tuple) else carry)


class Block(eqx.Module):
    norm1: eqx.nn.LayerNorm
    norm2: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    up: eqx.nn.Linear
    down: eqx.nn.Linear

    def __init__(self, key: jax.Array):
        a, b, c = jax.random.split(key, 3)
        bias = {f"use_{part}_bias": True for part in ("query", "key", "value", "output")}
        self.norm1, self.norm2 = eqx.nn.LayerNorm(WIDTH), eqx.nn.LayerNorm(WIDTH)
        self.attention = eqx.nn.MultiheadAttention(HEADS, WIDTH, **bias, key=a)
        self.up, self.down = eqx.nn.Linear(WIDTH, 4 * WIDTH, key=b), eqx.nn.Linear(4 * WIDTH, WIDTH, key=c)

    def __call__(self, x: jax.Array) -> jax.Array:
        h = jax.vmap(self.norm1)(x)
        x = x + self.attention(h, h, h, mask=jnp.tril(jnp.ones((len(x), len(x)), bool)))
        h = jax.vmap(self.up)(jax.vmap(self.norm2)(x))
        return x + jax.vmap(self.down)(jax.nn.gelu(h))


class GPT(eqx.Module):
    embed: eqx.nn.Embedding
    positions: jax.Array
    blocks: list
    norm: eqx.nn.LayerNorm

    def __init__(self, key: jax.Array):
        a, b, c = jax.random.split(key, 3)
        self.embed = eqx.nn.Embedding(weight=0.02 * jax.random.normal(a, (VOCABULARY, WIDTH)))
        self.positions = 0.02 * jax.random.normal(b, (LENGTH, WIDTH))
        self.blocks = [Block(k) for k in jax.random.split(c, DEPTH)]
        self.norm = eqx.nn.LayerNorm(WIDTH)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = jax.vmap(self.embed)(tokens) + self.positions
        for block in self.blocks:
            x = block(x)
        return jax.vmap(self.norm)(x) @ self.embed.weight.T


class Unit(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm

    def __init__(self, d: int, features: int, stride: int, key: jax.Array):
        self.conv = eqx.nn.Conv2d(d, features, 3, stride, padding=1, use_bias=False, key=key)
        self.norm = eqx.nn.BatchNorm(features, "batch", momentum=0.9, mode="batch")

    def __call__(self, x: jax.Array, state: eqx.nn.State) -> tuple[jax.Array, eqx.nn.State]:
        return self.norm(self.conv(x), state)


class ResNet20(eqx.Module):
    stem: Unit
    blocks: list
    head: eqx.nn.Linear

    def __init__(self, key: jax.Array):
        keys = iter(jax.random.split(key, 20))
        self.stem, self.blocks, d = Unit(3, 16, 1, next(keys)), [], 16
        for features, first in ((16, 1), (32, 2), (64, 2)):
            for stride in (first, 1, 1):
                pair = Unit(d, features, stride, next(keys)), Unit(features, features, 1, next(keys))
                self.blocks.append(pair)
                d = features
        self.head = eqx.nn.Linear(64, 10, key=next(keys))

    def __call__(self, x: jax.Array, state: eqx.nn.State) -> tuple[jax.Array, eqx.nn.State]:
        x, state = self.stem(x.transpose(2, 0, 1), state)
        x = jax.nn.relu(x)
        for first, second in self.blocks:
            h, state = first(x, state)
            h, state = second(jax.nn.relu(h), state)
            stride = x.shape[1] // h.shape[1]
            skip = jnp.pad(x[:, ::stride, ::stride], ((0, len(h) - len(x)), (0, 0), (0, 0)))
            x = jax.nn.relu(h + skip)
        return self.head(x.mean((1, 2))), state


NETS: dict[str, Callable[[jax.Array], Any]] = {
    "mlp": lambda key: MLP(784, 512, 512, 10, key=key),
    "tiny": lambda key: MLP(64, 32, 10, key=key),
    "cnn": lambda key: CNN((32, 64), (128,), key),
    "small_cnn": lambda key: CNN((16, 32), (), key),
    "lstm": lambda key: Recurrent(eqx.nn.LSTMCell, key),
    "gru": lambda key: Recurrent(eqx.nn.GRUCell, key),
    "gpt": GPT,
    "resnet20": ResNet20,
}


def forward(model: Any, state: Any, x: jax.Array) -> Any:
    """The outputs of a batch, and the state of batch norms if there is one."""
    if state is None:
        return jax.vmap(model)(x), None
    return jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)


def step(carry: Any, batch: Any) -> Any:
    """(model, state, opt_state), (x, y) -> the same, loss."""
    model, state, opt_state = carry
    x, y = batch

    @partial(eqx.filter_value_and_grad, has_aux=True)
    def loss(model: Any) -> Any:
        logits, new = forward(model, state, x)
        return cross_entropy(logits, y), new

    (value, state), grads = loss(model)
    updates, opt_state = adam.update(grads, opt_state, model)
    return (eqx.apply_updates(model, updates), state, opt_state), value


def begin(make: Callable, key: jax.Array) -> Any:
    model, state = eqx.nn.make_with_state(make)(key)
    state = state if make is ResNet20 else None
    return model, state, adam.init(eqx.filter(model, eqx.is_inexact_array))


def count(model: Any) -> int:
    return size(eqx.filter(model, eqx.is_inexact_array))


def jobs(row: Row, x: np.ndarray, y: np.ndarray) -> dict[str, Job]:
    if row.net not in NETS or row.kind == "tokens":
        return {}
    key, make = jax.random.key(0), NETS[row.net]
    x, y = jnp.asarray(x), jnp.asarray(y)
    if row.kind == "outputs":
        model = eqx.nn.inference_mode(make(key))
        predict = eqx.filter_jit(lambda model, x: jax.vmap(model)(x))
        return {"filter_jit": Job(lambda: predict(model, x), count(model))}
    if row.kind == "run":
        return {"scan": scan(make, row, key, x, y)}
    if row.kind == "members":
        carry = eqx.filter_vmap(partial(begin, make))(jax.random.split(key, row.members))
        vmap = eqx.filter_jit(eqx.filter_vmap(step), donate="all")
        return {"filter_vmap": stepping(vmap, carry, (x, y), count(carry[0]) // row.members)}
    carry = begin(make, key)
    jitted = eqx.filter_jit(lambda batch, carry: step(carry, batch), donate="all-except-first")
    if row.kind == "memory":
        compiled = jitted.lower((x, y), carry).compile().compiled
        return {"filter_jit": Job(lambda: None, count(carry[0]), None, lambda: bytes_of(compiled))}
    forms = {"filter_jit": stepping(lambda carry, batch: jitted(batch, carry), carry, (x, y), count(carry[0]))}
    if row.kind == "step":
        forms["flat jit"] = flat(jax.tree.map(lambda a: jnp.copy(a) if eqx.is_array(a) else a, carry), (x, y))
    return forms


def flat(carry: Any, batch: Any) -> Job:
    """The loop of Equinox's page on low overheads: leaves pass the boundary of jit, the model is built inside."""
    arrays, static = eqx.partition(carry, eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)

    @partial(jax.jit, donate_argnums=0)
    def jitted(leaves: list, batch: Any) -> Any:
        carry, value = step(eqx.combine(jax.tree.unflatten(structure, leaves), static), batch)
        return jax.tree.leaves(eqx.filter(carry, eqx.is_array)), value

    return stepping(jitted, leaves, batch, count(carry[0]))


def scan(make: Callable, row: Row, key: jax.Array, x: jax.Array, y: jax.Array) -> Job:
    @eqx.filter_jit
    def run(key: jax.Array, x: jax.Array, y: jax.Array) -> Any:
        first, second = jax.random.split(key)
        arrays, static = eqx.partition(begin(make, first), eqx.is_array)

        def one(arrays: Any, i: jax.Array) -> Any:
            carry, value = step(eqx.combine(arrays, static), (x[i], y[i]))
            return eqx.filter(carry, eqx.is_array), value

        return jax.lax.scan(one, arrays, order(second, len(x), row.batch))

    return running(lambda: run(key, x, y), count(make(key)))
