"""jaxnn: `trainer`, `fit`, `predict` and `generate`, compiled with `compiler_options` as the documentation tells."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxnn as nn
from _peers.pure import bytes_of, running, size, stepping
from _peers.rows import (
    B1,
    B2,
    DEPTH,
    EPS,
    HEADS,
    LENGTH,
    PROMPT,
    RATE,
    TOKENS,
    VOCABULARY,
    WIDTH,
    Job,
    Row,
    gpt2_shapes,
)

compiled = partial(jax.jit, compiler_options=nn.compiler_options())


def chain(_: int, *features: int) -> nn.Layer:
    parts = [part for n in features for part in (nn.dense(n), nn.relu)]
    return nn.serial(*parts[:-1])


def cnn(*widths: int, hidden: tuple[int, ...] = ()) -> nn.Layer:
    convs = [part for width in widths for part in (nn.conv(width, 3), nn.relu, nn.max_pool(2))]
    denses = [part for width in hidden for part in (nn.dense(width), nn.relu)]
    return nn.serial(*convs, nn.flatten(), *denses, nn.dense(10))


def gpt(**how: Any) -> nn.Layer:
    return nn.models.gpt(VOCABULARY, **{"length": LENGTH, "features": WIDTH, "layers": DEPTH, "heads": HEADS} | how)


def deep_gpt() -> nn.Layer:
    """A GPT of 48 blocks that are compiled once; its head is not tied."""
    block = nn.encoder_block(HEADS, activation=partial(nn.gelu, approximate=True), causal=True)
    symbols, positions = nn.embed(VOCABULARY, WIDTH), nn.learned_positions(LENGTH)
    return nn.serial(symbols, positions, nn.repeat(block, 48), nn.layer_norm(), nn.dense(VOCABULARY, bias=False))


def bert() -> nn.Layer:
    return nn.models.bert(features=384, layers=6, heads=12, rate=0.0)


NETS = {
    "mlp": lambda: chain(784, 512, 512, 10),
    "tiny": lambda: chain(64, 32, 10),
    "chain": chain,
    "cnn": lambda: cnn(32, 64, hidden=(128,)),
    "small_cnn": lambda: cnn(16, 32),
    "lstm": lambda: nn.serial(nn.lstm(256, last=True), nn.dense(10)),
    "gru": lambda: nn.serial(nn.gru(256, last=True), nn.dense(10)),
    "gpt": lambda length=LENGTH: gpt(length=length),
    "gpt48": deep_gpt,
    "resnet20": lambda: nn.models.resnet(20, classes=10),
    "unet": lambda: nn.models.unet(2, features=16),
    "resnet50": lambda: nn.models.resnet(50),
    "lite0": lambda: nn.models.efficientnet("lite0"),
    "bert": bert,
}


def jobs(row: Row, x: np.ndarray, y: np.ndarray) -> dict[str, Job]:
    key = jax.random.key(0)
    if row.kind == "update":
        return update()
    if row.kind == "tokens":
        return tokens(key, jnp.asarray(x))
    model = NETS[row.net](*row.sizes)
    x, y = jnp.asarray(x), jnp.asarray(y)
    if row.kind == "outputs":
        params, state = model.init(key, x)
        apply = compiled(lambda params, state, x: model.apply(params, state, x)[0])
        return {
            "predict": Job(lambda: nn.predict(model, params, state, x), size(params)),
            "apply": Job(lambda: apply(params, state, x), size(params)),
        }
    trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, nn.adam(RATE, B1, B2, EPS))
    if row.kind == "run":
        fit = compiled(lambda key, train: nn.fit(trainer, key, train, epochs=1, batch_size=row.batch))

        def run() -> Any:
            done = fit(key, (x, y))
            return done, done.history["train"]["loss"]

        return {"fit": running(run, size(jax.eval_shape(model.init, key, x[: row.batch])[0]))}
    if row.kind == "members":
        ts = jax.vmap(trainer.init)(jax.random.split(key, row.members), (x, y))
        forms = {
            "vmap": compiled(jax.vmap(by_loss(trainer)), donate_argnums=0),
            "lax.map": compiled(
                lambda ts, b: jax.lax.map(lambda each: by_loss(trainer)(*each), (ts, b)), donate_argnums=0
            ),
        }
        count = size(ts.params) // row.members
        return {k: stepping(f, jax.tree.map(jnp.copy, ts), (x, y), count) for k, f in forms.items()}
    ts, step = trainer.init(key, (x, y)), compiled(trainer.step, donate_argnums=0)
    shapes = jax.eval_shape(lambda: (ts, (x, y)))

    def one(ts: nn.TrainState, batch: Any) -> Any:
        ts, metrics = step(ts, batch)
        return ts, metrics["loss"]

    return {"step": stepping(one, ts, (x, y), size(ts.params), lambda: bytes_of(step.lower(*shapes).compile()))}


def by_loss(trainer: nn.Trainer) -> Any:
    def step(ts: nn.TrainState, batch: Any) -> Any:
        ts, metrics = trainer.step(ts, batch)
        return ts, metrics["loss"]

    return step


def update() -> dict[str, Job]:
    """Adam on arrays of GPT-2 small's shapes, gradients of one draw."""
    import optax

    opt = nn.adam(RATE, B1, B2, EPS)
    params = [jnp.full(shape, 0.02) for shape in gpt2_shapes()]
    grads = [jnp.full(shape, 1e-3) for shape in gpt2_shapes()]

    def change(carry: Any, grads: Any) -> Any:
        params, state = carry
        updates, state = opt.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), params[-1][0]

    job = stepping(compiled(change, donate_argnums=0), (params, opt.init(params)), grads, size(params))
    return {"update": job._replace(losses=None)}


def tokens(key: jax.Array, prompt: jax.Array) -> dict[str, Job]:
    model = gpt(length=PROMPT + TOKENS, cache=PROMPT + TOKENS)
    params, _ = model.init(key, prompt)
    return {
        "generate": Job(
            lambda: nn.generate(model, params, {}, prompt, None, TOKENS, temperature=0).x,
            size(params),
        )
    }
