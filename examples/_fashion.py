"""A pre-activation network on all of Fashion-MNIST, for two minutes, or with --long a wider one on augmented images."""

import sys
from pathlib import Path

import jax
import numpy as np
import optax
from _blocks import PRE, block, network, widen
from _pictures import SHORT

import jaxnn as nn

LONG = "--long" in sys.argv
IMAGES = 2000 if SHORT else 60_000
FEATURES = 8 if SHORT else 40 if LONG else 24  # channels at 14×14 pixels, twice as many at 7×7
EPOCHS = 1 if SHORT else 20 if LONG else 8
BATCH = 128
RATE, DECAY = 1e-2, 0.05  # of AdamW, at the peak of a one-cycle schedule
AVERAGE = 0.998  # decay of a moving average of the params: over the last epoch
SEEN = 10_000  # images for the statistics of the averaged params


def full() -> nn.Layer:
    """Network of 6 convolutions and an output layer."""
    first = [nn.space_to_depth(2), widen(PRE, FEATURES), block(PRE, FEATURES), nn.max_pool(2)]
    return network(PRE, *first, widen(PRE, 2 * FEATURES, 1), block(PRE, 2 * FEATURES))


def learn(seed: int, train: tuple, test: jax.Array, out: Path) -> tuple[np.ndarray, np.ndarray]:
    """Training accuracy by step, and logits of the test images; a long run is kept in `out`, and resumed from there."""
    train = jax.tree.map(lambda a: a[:IMAGES], train)
    schedule = optax.cosine_onecycle_schedule(EPOCHS * IMAGES // BATCH, RATE)
    model, optimizer = full(), nn.adamw(schedule, weight_decay=DECAY)
    loss, metrics = nn.losses.softmax_cross_entropy, {"accuracy": nn.metrics.accuracy}
    trainer = nn.trainer(model, loss, optimizer, metrics=metrics, average=AVERAGE if LONG else None)
    change = nn.augment.chain(nn.augment.flip(), nn.augment.crop(28, padding=2))
    more = {"augment": nn.augment.batched(change), "checkpoint": out / f"depth-long-{seed}"} if LONG else {}
    run = nn.drive(trainer, jax.random.key(seed), train, epochs=EPOCHS, batch_size=BATCH, **more)
    ts, views = run.ts, [test]
    if LONG:
        ts = ts._replace(state=nn.recalibrate(model, ts.average, ts.state, train[0][:SEEN]))
        views = [test, test[:, :, ::-1]]  # an image and its mirror image
    logits = sum(np.asarray(nn.predict(model, ts, x)) for x in views)
    return np.asarray(run.history["train"]["accuracy"]).ravel(), logits
