"""The four networks of the MNIST-1D paper, and what may be added to its CNN."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxnn as nn

RATE = 1e-2  # of Adam, in the authors' notebook


class Recipe(NamedTuple):
    """What is added to the paper's CNN and its training; by default nothing."""

    rate: Any = RATE
    falls: Any = 0.0  # 1: the rate decays to 0 along a cosine
    dropped: Any = 0.0  # of the inputs of the last layer
    decay: Any = 0.0  # adamw's, of the weights
    shift: Any = 0.0  # largest circular shift of a signal, in points
    noise: Any = 0.0  # standard deviation of noise added to each point; points have 1


def channel(x: jax.Array) -> jax.Array:
    """[n, 40] -> [n, 40, 1]"""
    return x[..., None]


def shifted(limit: Any) -> nn.Layer:
    """In training, a circular shift of each signal by up to `limit` points."""

    def apply(params: dict, state: dict, x: Any, *, key: Any, train: bool) -> tuple[Any, dict]:
        if train:
            steps = jnp.round(jax.random.uniform(key, (len(x), 1), minval=-1, maxval=1) * limit).astype(jnp.int32)
            x = jnp.take_along_axis(x, (jnp.arange(x.shape[1])[None] - steps) % x.shape[1], 1)
        return x, state

    return nn.layer(None, apply, "shifted")


def networks(recipe: Recipe | None = None) -> dict[str, nn.Layer]:
    """The four models of the paper, [n, 40] -> logits [n, 10]; the recipe changes the CNN."""
    dense, conv = partial(nn.dense, preset="torch"), partial(nn.conv, 25, stride=2, padding=1, preset="torch")
    changed = () if recipe is None else (shifted(recipe.shift), nn.gaussian_noise(recipe.noise))
    thinned = () if recipe is None else (nn.dropout(recipe.dropped),)
    convolutions = [part for size in (5, 3, 3) for part in (conv(size), nn.relu)]
    return {
        "logistic": dense(10),
        "MLP": nn.serial(dense(100), nn.relu, nn.residual(nn.serial(dense(100), nn.relu)), dense(10)),
        "CNN": nn.serial(*changed, channel, *convolutions, nn.flatten(), *thinned, dense(10)),
        "GRU": nn.serial(channel, nn.gru(6, bidirectional=True, preset="torch"), nn.flatten(), dense(10)),
    }
