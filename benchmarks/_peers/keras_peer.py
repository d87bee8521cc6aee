"""Keras on JAX: `train_on_batch`, `fit`, and the stateless loop of its guide on JAX, which donates and can scan."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from keras import layers

from _peers.pure import bytes_of, order, running, stepping
from _peers.rows import B1, B2, DEPTH, EPS, HEADS, LENGTH, RATE, SHAPES, VOCABULARY, WIDTH, Job, Row

narrow = keras.initializers.RandomNormal(0.0, 0.02, seed=0)


def mlp(*sizes: int) -> list:
    return [*(layers.Dense(n, "relu") for n in sizes[:-1]), layers.Dense(sizes[-1])]


def cnn(*widths: int, hidden: tuple[int, ...] = ()) -> list:
    convs = [
        part for n in widths for part in (layers.Conv2D(n, 3, padding="same", activation="relu"), layers.MaxPool2D())
    ]
    return [*convs, layers.Flatten(), *mlp(*hidden, 10)]


class Positions(layers.Layer):
    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=(LENGTH, WIDTH), initializer=narrow)

    def call(self, x: Any) -> Any:
        return x + self.table


def gpt() -> keras.Model:
    tokens = keras.Input((LENGTH,), dtype="int32")
    embed = layers.ReversibleEmbedding(VOCABULARY, WIDTH, embeddings_initializer=narrow)
    x = Positions()(embed(tokens))
    gelu = partial(keras.activations.gelu, approximate=True)
    for _ in range(DEPTH):
        h = layers.LayerNormalization(epsilon=1e-5)(x)
        x = x + layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(h, h, use_causal_mask=True)
        h = layers.LayerNormalization(epsilon=1e-5)(x)
        x = x + layers.Dense(WIDTH)(layers.Dense(4 * WIDTH, gelu)(h))
    return keras.Model(tokens, embed(layers.LayerNormalization(epsilon=1e-5)(x), reverse=True))


def resnet20() -> keras.Model:
    def unit(x: Any, features: int, stride: int = 1) -> Any:
        x = layers.Conv2D(features, 3, stride, padding="same", use_bias=False)(x)
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)

    image = keras.Input((32, 32, 3))
    x = layers.ReLU()(unit(image, 16))
    for features, first in ((16, 1), (32, 2), (64, 2)):
        for stride in (first, 1, 1):
            h = unit(layers.ReLU()(unit(x, features, stride)), features)
            skip = x[:, ::stride, ::stride]
            skip = keras.ops.pad(skip, ((0, 0), (0, 0), (0, 0), (0, features - skip.shape[-1])))
            x = layers.ReLU()(h + skip)
    return keras.Model(image, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def stack(net: str, parts: list) -> keras.Model:
    return keras.Sequential([keras.Input(SHAPES[net]), *parts])


NETS: dict[str, Callable[[], keras.Model]] = {
    "mlp": lambda: stack("mlp", mlp(512, 512, 10)),
    "tiny": lambda: stack("tiny", mlp(32, 10)),
    "cnn": lambda: stack("cnn", cnn(32, 64, hidden=(128,))),
    "small_cnn": lambda: stack("small_cnn", cnn(16, 32)),
    "lstm": lambda: stack("lstm", [layers.LSTM(256), layers.Dense(10)]),
    "gru": lambda: stack("gru", [layers.GRU(256), layers.Dense(10)]),
    "gpt": gpt,
    "resnet20": resnet20,
}


def made(net: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = NETS[net]()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(RATE, B1, B2, EPS), loss)
    model.optimizer.build(model.trainable_variables)
    return model


def count(model: keras.Model) -> int:
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def variables(model: keras.Model) -> Any:
    """Copies of the values that a stateless step carries."""
    parts = model.trainable_variables, model.non_trainable_variables, model.optimizer.variables
    return tuple([jnp.copy(v.value) for v in part] for part in parts)


def stateless(model: keras.Model) -> Callable:
    """The step of the guide on custom loops with JAX: (trainable, other, optimizer), (x, y) -> the same, loss."""

    def loss(trainable: Any, other: Any, x: jax.Array, y: jax.Array) -> Any:
        logits, other = model.stateless_call(trainable, other, x, training=True)
        return model.loss(y, logits), other

    def step(carry: Any, batch: Any) -> Any:
        trainable, other, optimizer = carry
        (value, other), grads = jax.value_and_grad(loss, has_aux=True)(trainable, other, *batch)
        trainable, optimizer = model.optimizer.stateless_apply(optimizer, grads, trainable)
        return (trainable, other, optimizer), value

    return step


def jobs(row: Row, x: np.ndarray, y: np.ndarray) -> dict[str, Job]:
    if row.net not in NETS or row.kind in ("tokens", "members"):
        return {}
    model = made(row.net)
    total = count(model)
    if row.kind == "outputs":
        params, other, _ = variables(model)
        call = jax.jit(lambda params, other, x: model.stateless_call(params, other, x, training=False)[0])
        given = jnp.asarray(x)
        return {
            "predict_on_batch": Job(lambda: model.predict_on_batch(x), total),
            "stateless": Job(lambda: call(params, other, given), total),
        }
    if row.kind == "run":
        return runs(model, row, x, y)
    pure, batch = jax.jit(stateless(model), donate_argnums=0), (jnp.asarray(x), jnp.asarray(y))
    carry = variables(model)
    shapes = jax.eval_shape(lambda: (carry, batch))
    stateless_job = stepping(pure, carry, batch, total, lambda: bytes_of(pure.lower(*shapes).compile()))
    if row.kind == "memory":
        return {"stateless": stateless_job}
    trained = stepping(lambda carry, batch: (carry, model.train_on_batch(x, y)), None, None, total)
    return {"train_on_batch": trained} | ({"stateless": stateless_job} if row.kind == "step" else {})


def runs(model: keras.Model, row: Row, x: np.ndarray, y: np.ndarray) -> dict[str, Job]:
    """The steps in a scan, from given weights, and `fit`, an epoch that goes on from the weights of the call before."""
    start, step = variables(model), stateless(model)

    @jax.jit
    def scan(key: jax.Array, carry: Any, x: jax.Array, y: jax.Array) -> Any:
        return jax.lax.scan(lambda carry, i: step(carry, (x[i], y[i])), carry, order(key, len(x), row.batch))

    key, given = jax.random.key(0), (jnp.asarray(x), jnp.asarray(y))

    def fit() -> Any:
        history = model.fit(x, y, row.batch, 1, verbose=0).history["loss"]
        return history, history

    total = count(model)
    forms = {"scan": running(lambda: scan(key, start, *given), total)}
    return forms | ({} if row.steps < 100 else {"fit": running(fit, total)._replace(losses=None)})
