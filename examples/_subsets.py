"""One hidden layer of any width with dropout and a penalty: its errors in folds, and after training on subsets.

A setting is (hidden units, dropout rate, penalty on the squares of the weights).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _pictures import SHORT

import jaxnn as nn

UNITS = 256  # of the widest network
EPOCHS = 2 if SHORT else 20
BATCH, RATE = 50, 2e-3  # of Adam; not selected


def trained(setting: Any, key: jax.Array, train: tuple, valid: Any = None) -> tuple[nn.Run, Callable]:
    """A run, and the function (params, x [n, 196]) -> logits [n, 10] of its network."""
    width, dropped, penalty = setting

    def first(units: jax.Array) -> jax.Array:  # the others are 0, so that one program serves every width
        return units * (jnp.arange(UNITS) < width)[None].astype(units.dtype)

    model = nn.serial(nn.dense(UNITS), nn.relu, first, nn.dropout(dropped), nn.dense(10))
    loss, decay = nn.losses.softmax_cross_entropy, nn.regularizers.l2(penalty)
    trainer = nn.trainer(model, loss, nn.adam(RATE), regularizer=decay)
    run = nn.fit(trainer, key, train, valid, epochs=EPOCHS, batch_size=BATCH)
    return run, lambda params, x: model.apply(params, {}, x)[0]


def wrong(logits: Any, y: Any) -> Any:
    """Fraction of errors, over axis 0, of logits [n, ..., 10] for labels y [n]."""
    return jnp.mean(jnp.argmax(logits, -1) != y.reshape(-1, *[1] * (logits.ndim - 2)), 0)


def validated(settings: list[tuple], known: tuple, folds: int) -> np.ndarray:
    """Errors [folds, settings, 3] on training digits, held-out ones, and those with early stopping, in one program."""

    def run(key: jax.Array, train: tuple, x: jax.Array) -> dict[str, jax.Array]:
        order = jax.random.permutation(key, len(train[1]))  # a fifth of the training folds is for early stopping
        valid, rest = (jax.tree.map(lambda a, r=r: a[r], train) for r in jnp.split(order, [len(order) // 5]))

        def one(setting: jax.Array) -> tuple:
            run, logits = trained(setting, key, rest, valid)
            last, early = (logits(params, x) for params in (run.ts.params, run.best.params))
            return last, early, wrong(logits(run.ts.params, rest[0]), rest[1])

        last, early, fitted = jax.lax.map(one, jnp.array(settings))
        fitted = jnp.broadcast_to(fitted[None], (len(x), len(settings)))  # predictions have an axis of examples
        return {"last": last.swapaxes(0, 1), "early": early.swapaxes(0, 1), "fitted": fitted}

    def score(found: dict, y: np.ndarray) -> np.ndarray:
        return np.stack([found["fitted"][0], wrong(found["last"], y), wrong(found["early"], y)], -1)

    return nn.cross_validate(run, jax.random.key(1), known, score, folds=folds).scores


def fitted(settings: list[tuple], rows: np.ndarray, known: tuple, held: tuple) -> np.ndarray:
    """Errors [settings, seeds, sets, 2] on training and held-out digits, after training on rows [seeds, sets, n]."""

    def one(point: tuple, known: tuple) -> jax.Array:
        key, rows, setting = point
        train = jax.tree.map(lambda a: a[rows], known)
        run, logits = trained(setting, key, train)
        return jnp.stack([wrong(logits(run.ts.params, x), y) for x, y in (train, held)])

    n, sets = len(settings), rows.reshape(-1, rows.shape[-1])
    keys = jnp.tile(jax.random.split(jax.random.key(2), len(sets)), n)
    points = keys, jnp.tile(sets, (n, 1)), jnp.repeat(jnp.array(settings), len(sets), 0)
    found = nn.sweep(one, points, jax.tree.map(jnp.asarray, known), progress=True).results
    return np.asarray(found).reshape(n, *rows.shape[:2], 2)
