"""Trainers of `data_parallel` on eight devices, in a process of its own; prints its findings as JSON."""

import json

import jax
import numpy as np
from _difference import difference

import jaxnn as nn

RNG = np.random.default_rng(0)
CE = nn.losses.softmax_cross_entropy
IMAGES, SEQUENCES = RNG.normal(size=(16, 6, 6, 2)), RNG.normal(size=(16, 5, 3))
LABELS, WEIGHTS = RNG.integers(0, 4, 16), RNG.uniform(size=16)


def cnn(axis_name):
    hidden = nn.conv(4, 3, bias=False), nn.batch_norm(axis_name=axis_name), nn.relu
    return nn.serial(*hidden, nn.flatten(), nn.dense(4)), (IMAGES, LABELS, WEIGHTS)


def gru(axis_name):
    return nn.serial(nn.gru(4), lambda y: y[:, -1], nn.dense(4)), (SEQUENCES, LABELS)


def trained(trainer, batch):
    ts = trainer.init(jax.random.key(0), batch)
    step = jax.jit(trainer.step, donate_argnums=0)
    for _ in range(5):
        ts, metrics = step(ts, batch)
    few = jax.tree.map(lambda a: a[:13], batch)
    evaluate = jax.jit(trainer.evaluate, static_argnames="totals")
    return (
        ts,
        metrics,
        jax.jit(trainer.gradients)(ts, batch),
        *(evaluate(ts, part, totals=True) for part in (batch, few)),
    )


def made(make, axis_name=None, mesh=None):
    model, batch = make(axis_name)
    trainer = nn.trainer(model, CE, nn.adam(1e-2), metrics={"again": CE}, axis_name=axis_name)
    return trainer if mesh is None else nn.sharding.data_parallel(trainer, mesh, axis_name=axis_name), batch


def findings():
    mesh = nn.mesh("data=8")
    found = {make.__name__: difference(trained(*made(make, "data", mesh)), trained(*made(make))) for make in (cnn, gru)}
    one, several = made(gru)[0], made(gru, "rows", nn.mesh("copies=2, rows=4"))[0]  # another axis
    batch = gru(None)[1]
    runs = [
        nn.drive(t, jax.random.key(1), batch, batch, epochs=3, batch_size=8, progress=False) for t in (one, several)
    ]
    found["drive"] = difference(*(r.history for r in runs))

    dropped = nn.trainer(
        nn.dropout(0.5), lambda p, y: p, nn.sgd(1.0), metrics={"kept": lambda p, y: p}, axis_name="data"
    )
    dropped = nn.sharding.data_parallel(dropped, mesh)
    ones = np.ones((8, 64)), np.zeros(8)
    _, metrics = jax.jit(dropped.step)(dropped.init(jax.random.key(0), ones), ones)
    found["kept by equal masks"] = float(metrics["kept"]) * 32 % 1 == 0

    several, batch = made(gru, "data", mesh)
    try:
        jax.eval_shape(several.step, several.init(jax.random.key(0), batch), jax.tree.map(lambda a: a[:12], batch))
    except ValueError as error:
        found["error"] = str(error)
    model, batch = cnn(None)  # its batch norm sees a part of the batch
    parted = nn.sharding.data_parallel(nn.trainer(model, CE, nn.adam(1e-2), axis_name="data"), mesh)
    try:
        jax.eval_shape(parted.step, parted.init(jax.random.key(0), batch), batch)
    except ValueError as error:
        found["state"] = str(error)
    return found


if __name__ == "__main__":
    nn.cores_as_devices(8)
    jax.config.update("jax_enable_x64", True)
    print(json.dumps(findings()))
