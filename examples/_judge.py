"""A judge of generated garments: features and class probabilities of a small CNN, trained once on Fashion-MNIST."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from _pictures import SHORT

import jaxnn as nn

IMAGES = 2000 if SHORT else 60_000
EPOCHS = 1 if SHORT else 3
BATCH = 128
RATE, DECAY = 1e-2, 0.05  # of AdamW, at the peak of a one-cycle schedule
CHANNELS, FEATURES = 24, 64  # at 14×14 pixels and, the features, at 7×7

Judge = Callable[[Any], tuple[np.ndarray, np.ndarray]]


def unit(features: int) -> nn.Layer:
    """Convolution, batch norm and relu."""
    return nn.serial(nn.conv(features, 3, bias=False), nn.batch_norm(), nn.relu)


def judge(out: Path) -> Judge:
    """A function, images [n, 28, 28, 1] in [0, 1] -> features [n, 64] and class probabilities [n, 10].

    The features are the means over the pixels before the output layer. The run is kept in the folder `out`, and loaded
    from there by the next call.
    """
    parts = unit(CHANNELS), unit(CHANNELS), nn.max_pool(2), unit(FEATURES), unit(FEATURES), nn.global_avg_pool()
    body, head = nn.serial(nn.space_to_depth(2), *parts, name="body"), nn.dense(10, name="head")
    optimizer = nn.adamw(optax.cosine_onecycle_schedule(EPOCHS * (IMAGES // BATCH), RATE), weight_decay=DECAY)
    metrics = {"accuracy": nn.metrics.accuracy}
    trainer = nn.trainer(nn.serial(body, head), nn.losses.softmax_cross_entropy, optimizer, metrics=metrics)
    train = jax.tree.map(lambda a: a[:IMAGES], nn.data.load("fashion_mnist").train)
    kept = {"checkpoint": out / ("judge-short" if SHORT else "judge"), "keep": 1}
    ts = nn.drive(trainer, jax.random.key(0), train, epochs=EPOCHS, batch_size=BATCH, **kept).ts

    def look(images: Any) -> tuple[np.ndarray, np.ndarray]:
        features = nn.predict(body, ts.params["body"], ts.state["body"], images)
        logits, _ = head.apply(ts.params["head"], {}, features)
        return np.asarray(features), np.asarray(jax.nn.softmax(logits))

    return look


def distances(samples: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """Fréchet distance of features of samples to those of half of the real images, and of its two halves: the floor.

    Both are between as many examples, half as many as there are real images, and so compare.
    """
    half = len(real) // 2
    distance = jax.jit(nn.metrics.frechet_distance)
    return float(distance(samples[:half], real[:half])), float(distance(real[half:], real[:half]))
