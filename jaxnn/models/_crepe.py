"""CREPE: pitch from sound samples."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._layer import Layer, lift
from jaxnn.activations import relu
from jaxnn.layers import batch_norm, conv, dense, dropout, max_pool
from jaxnn.models._parts import stacked

FEATURES = (32, 4, 4, 4, 8, 16)
VARIANTS = {"tiny": 4, "small": 8, "medium": 16, "large": 24, "full": 32}  # multiples of these features
PITCHES = 360
NORM = partial(batch_norm, momentum=0.99, eps=1e-3)


@recorded
def crepe(
    variant: str = "full", *, rate: float | jax.Array = 0.25, preset: str = "jaxnn", name: str | None = None
) -> Layer:
    """CREPE, frames of sound [n, 1024, 1] -> logits of 360 pitches, [n, 360].

    Six convolutions over time, each followed by relu, a batch norm and a max pool, and a dense layer. Frames have 1024
    samples at 16 kHz, with mean 0 and variance 1. Logit k is that of the pitch 10 · 2^((20 k + 1997.38) / 1200) Hz,
    20 cents above that of logit k - 1, from 31.7 Hz to 2006 Hz. Children conv1, norm1, ..., conv6, norm6, head.

    Args:
      variant: "tiny", "small", "medium", "large" or "full", of 0.49 M to 22.2 M params.
      rate: dropout rate after each pool, in [0, 1); may be traced.
      preset: the default initialization of convolutions and the dense layer.
      name: pins the name.

    Raises:
      ValueError: if there is no such variant, or an argument is out of range.
      TypeError: if an argument is of a wrong type.

    Differences: Keras's CREPE returns sigmoid(logits), for binary cross-entropies with a Gaussian around the pitch.

    Reference: Kim et al., CREPE: A Convolutional Representation for Pitch Estimation, 2018, arXiv:1802.06182.

    >>> model = crepe("tiny")
    >>> params, state = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 1024, 1)))
    >>> params["conv1"]["w"].shape, params["head"]["w"].shape
    ((512, 1, 128), (256, 360))
    """
    check.choice(name or "crepe", "variant", variant, list(VARIANTS))
    layers: list[Any] = []
    for k, features in enumerate(FEATURES, 1):
        size, stride = (512, 4) if k == 1 else (64, 1)
        layers.append(conv(features * VARIANTS[variant], size, stride=stride, preset=preset, name=f"conv{k}"))
        layers += [relu, NORM(name=f"norm{k}"), max_pool(2), dropout(rate)]
    return stacked("crepe", name, *layers, lift(_flat, name="flatten"), dense(PITCHES, preset=preset, name="head"))


def _flat(x: jax.Array) -> jax.Array:
    """[n, t, c] -> [n, t · c]; `interop.load` would take the features of `flatten` as channels-first in PyTorch."""
    return jnp.reshape(x, (x.shape[0], -1))
