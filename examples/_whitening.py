"""Gradient descent on raw, standardized and whitened images of 14×14 pixels, each at the rate that is fastest."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _pictures import SHORT

import jaxnn as nn
from jaxnn import augment

INPUTS = ("raw", "standardized", "ZCA, ε = 0.01", "ZCA, ε = 1e-5")
RATES = (0.04, 0.64) if SHORT else (0.04, 0.16, 0.64, 2.56)  # of gradient descent, constant
SEEDS, EPOCHS, BATCH = (1, 2, 50) if SHORT else (3, 20, 50)
LEVEL = 0.5  # training loss whose first epoch is reported


def versions(x: np.ndarray, x_test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Training and test images in the forms of INPUTS, which are fitted to the training images."""
    small, test = (jnp.asarray(a.reshape(-1, 14, 2, 14, 2, 1).mean((2, 4))) for a in (x, x_test))
    fitted = augment.normalization(small), *(augment.whitening(small, "zca", eps) for eps in (1e-2, 1e-5))
    return np.stack([small, *(f.apply(small) for f in fitted)]), np.stack([test, *(f.apply(test) for f in fitted)])


def descend(model: nn.Layer, point: tuple, train: Any, test: Any) -> tuple[jax.Array, jax.Array]:
    """Training loss by epoch, and test accuracy; a point is key, numbers of the inputs and the images, and rate."""
    (key, inputs, seed, rate), (x, y), (x_test, y_test) = point, train, test
    trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, nn.sgd(rate))
    run = nn.fit(trainer, key, (x[inputs, seed], y[seed]), epochs=EPOCHS, batch_size=BATCH)
    logits = model.apply(run.ts.params, run.ts.state, x_test[inputs, seed])[0]
    return run.history["train"]["loss"].mean(-1), nn.metrics.accuracy(logits, y_test).mean()


def fastest(model: nn.Layer, train: tuple, test: tuple) -> dict[str, tuple]:
    """Form -> best rate, training losses [seeds, epochs], epochs to LEVEL [seeds], and test accuracies [seeds].

    `train` has images [seeds, n, 28, 28, 1] and labels [seeds, n]. A run that does not reach LEVEL counts as one epoch
    more than it has.
    """
    forms = (versions(train[0][seed], test[0]) for seed in range(SEEDS))
    x, x_test = (np.stack(a, 1) for a in zip(*forms, strict=True))
    shape = len(INPUTS), len(RATES), SEEDS
    inputs, rates, seeds = (a.ravel() for a in np.indices(shape))
    points = jax.random.split(jax.random.key(1), SEEDS)[seeds], inputs, seeds, np.float32(RATES)[rates]
    data = (x, train[1]), (x_test, test[1])
    swept = nn.sweep(partial(descend, model), points, *data, strategy="shard", chunk=1).results
    loss, right = (np.asarray(a).reshape(*shape, *a.shape[1:]) for a in swept)
    loss = np.nan_to_num(loss, nan=np.inf)  # of runs that have diverged
    epochs = np.where((loss < LEVEL).any(-1), 1 + (loss < LEVEL).argmax(-1), EPOCHS + 1)
    found = {}
    for i, form in enumerate(INPUTS):
        best = np.lexsort((loss[i, ..., -1].mean(1), epochs[i].mean(1)))[0]
        found[form] = RATES[best], loss[i, best], epochs[i, best], right[i, best]
    return found
