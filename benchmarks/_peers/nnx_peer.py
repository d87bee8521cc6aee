"""flax.nnx: `nnx.jit`, and the functional loop of its page on performance, whose calls are faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from _peers.pure import adam, bytes_of, cross_entropy, order, running, size, stepping
from _peers.rows import DEPTH, HEADS, LENGTH, VOCABULARY, WIDTH, Job, Row


class MLP(nnx.Module):
    def __init__(self, sizes: Sequence[int], rngs: nnx.Rngs):
        pairs = pairwise(sizes)
        self.layers = nnx.List([nnx.Linear(*pair, rngs=rngs) for pair in pairs])

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers[:-1]:
            x = nnx.relu(layer(x))
        return self.layers[-1](x)


class CNN(nnx.Module):
    def __init__(self, widths: tuple[int, ...], hidden: tuple[int, ...], rngs: nnx.Rngs):
        pairs = zip((1, *widths[:-1]), widths, strict=True)
        self.convs = nnx.List([nnx.Conv(*pair, (3, 3), rngs=rngs) for pair in pairs])
        self.head = MLP(((28 // 2 ** len(widths)) ** 2 * widths[-1], *hidden, 10), rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for conv in self.convs:
            x = nnx.max_pool(nnx.relu(conv(x)), (2, 2), (2, 2))
        return self.head(x.reshape(len(x), -1))


class Recurrent(nnx.Module):
    def __init__(self, cell: Callable, rngs: nnx.Rngs):
        self.rnn = nnx.RNN(cell(128, 256, rngs=rngs), rngs=rngs)
        self.head = nnx.Linear(256, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(self.rnn(x)[:, -1])


class Block(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.norm1, self.norm2 = (nnx.LayerNorm(WIDTH, epsilon=1e-5, rngs=rngs) for _ in range(2))
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
        self.up, self.down = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs), nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attention(self.norm1(x), mask=nnx.make_causal_mask(x[..., 0]))
        return x + self.down(nnx.gelu(self.up(self.norm2(x))))


class GPT(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        narrow = nnx.initializers.normal(0.02)
        self.embed = nnx.Embed(VOCABULARY, WIDTH, embedding_init=narrow, rngs=rngs)
        self.positions = nnx.Param(narrow(rngs.params(), (LENGTH, WIDTH)))
        self.blocks = nnx.List([Block(rngs) for _ in range(DEPTH)])
        self.norm = nnx.LayerNorm(WIDTH, epsilon=1e-5, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = self.embed(tokens) + self.positions[...]
        for block in self.blocks:
            x = block(x)
        return self.embed.attend(self.norm(x))


class Unit(nnx.Module):
    def __init__(self, d: int, features: int, stride: int, rngs: nnx.Rngs):
        self.conv = nnx.Conv(d, features, (3, 3), (stride, stride), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(features, momentum=0.9, epsilon=1e-5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv(x))


class ResNet20(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.stem, blocks, d = Unit(3, 16, 1, rngs), [], 16
        for features, first in ((16, 1), (32, 2), (64, 2)):
            for stride in (first, 1, 1):
                blocks.append(nnx.List([Unit(d, features, stride, rngs), Unit(features, features, 1, rngs)]))
                d = features
        self.blocks, self.head = nnx.List(blocks), nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.stem(x))
        for first, second in self.blocks:
            h = second(nnx.relu(first(x)))
            stride = x.shape[1] // h.shape[1]
            skip = x[:, ::stride, ::stride]
            skip = jnp.pad(skip, ((0, 0), (0, 0), (0, 0), (0, h.shape[-1] - x.shape[-1])))
            x = nnx.relu(h + skip)
        return self.head(x.mean((1, 2)))


NETS: dict[str, Callable[[nnx.Rngs], nnx.Module]] = {
    "mlp": lambda rngs: MLP((784, 512, 512, 10), rngs),
    "tiny": lambda rngs: MLP((64, 32, 10), rngs),
    "cnn": lambda rngs: CNN((32, 64), (128,), rngs),
    "small_cnn": lambda rngs: CNN((16, 32), (), rngs),
    "lstm": lambda rngs: Recurrent(nnx.OptimizedLSTMCell, rngs),
    "gru": lambda rngs: Recurrent(nnx.GRUCell, rngs),
    "gpt": GPT,
    "resnet20": ResNet20,
}


def update(model: nnx.Module, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array) -> jax.Array:
    """One step in place; the loss."""
    loss, grads = nnx.value_and_grad(lambda model: cross_entropy(model(x), y))(model)
    optimizer.update(model, grads)
    return loss


def begin(make: Callable, key: jax.Array) -> tuple[nnx.Module, nnx.Optimizer]:
    model = make(nnx.Rngs(key))
    model.train()
    return model, nnx.Optimizer(model, adam, wrt=nnx.Param)


def step(graph: Any, carry: Any, batch: Any) -> Any:
    """The step as a function of the state."""
    model, optimizer = nnx.merge(graph, carry)
    loss = update(model, optimizer, *batch)
    return nnx.state((model, optimizer)), loss


def count(model: Any) -> int:
    return size(nnx.state(model, nnx.Param))


def jobs(row: Row, x: np.ndarray, y: np.ndarray) -> dict[str, Job]:
    if row.net not in NETS or row.kind == "tokens":
        return {}
    key, make = jax.random.key(0), NETS[row.net]
    x, y = jnp.asarray(x), jnp.asarray(y)
    if row.kind == "outputs":
        model = make(nnx.Rngs(key))
        model.eval()
        call = nnx.jit(lambda model, x: model(x))
        graph, state = nnx.split(model)
        pure = jax.jit(lambda state, x: nnx.merge(graph, state)(x))
        return {
            "nnx.jit": Job(lambda: call(model, x), count(model)),
            "split": Job(lambda: pure(state, x), count(model)),
        }
    model, optimizer = nnx.eval_shape(partial(begin, make), key) if row.kind == "run" else begin(make, key)
    graph, state = nnx.split((model, optimizer))
    total = count(model)
    if row.kind == "run":
        return {"scan": scan(make, total, row, key, x, y)}
    if row.kind == "members":
        carry = jax.vmap(lambda key: nnx.state(begin(make, key)))(jax.random.split(key, row.members))
        vmap = jax.jit(jax.vmap(partial(step, graph)), donate_argnums=0)
        return {"vmap": stepping(vmap, carry, (x, y), total)}
    pure = jax.jit(partial(step, graph), donate_argnums=0)
    state = jax.tree.map(jnp.copy, state)
    shapes = jax.eval_shape(lambda: (state, (x, y)))
    split = stepping(pure, state, (x, y), total, lambda: bytes_of(pure.lower(*shapes).compile()))
    if row.kind == "memory":
        return {"split": split}
    jitted = nnx.jit(update, donate_argnums=(0, 1))
    in_place = stepping(lambda carry, batch: (carry, jitted(*carry, *batch)), (model, optimizer), (x, y), total)
    return {"nnx.jit": in_place} | ({"split": split} if row.kind == "step" else {})


def scan(make: Callable, total: int, row: Row, key: jax.Array, x: jax.Array, y: jax.Array) -> Job:
    @jax.jit
    def run(key: jax.Array, x: jax.Array, y: jax.Array) -> Any:
        first, second = jax.random.split(key)
        graph, state = nnx.split(begin(make, first))

        def one(carry: Any, i: jax.Array) -> Any:
            return step(graph, carry, (x[i], y[i]))

        return jax.lax.scan(one, state, order(second, len(x), row.batch))

    return running(lambda: run(key, x, y), total)
