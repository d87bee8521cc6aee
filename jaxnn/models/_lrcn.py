"""LRCN: convolutions on each frame of a video, and an LSTM over the frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._layer import Layer, as_layer
from jaxnn.activations import relu
from jaxnn.combinators import serial, time_distributed
from jaxnn.layers import conv, dropout, global_avg_pool, lstm, max_pool
from jaxnn.models._parts import head, named, stacked


@recorded
def lrcn(
    classes: int | None = 101,
    *,
    encoder: Layer | Callable[..., Any] | None = None,
    features: int = 256,
    rate: float | jax.Array = 0.0,
    preset: str = "jaxnn",
    name: str | None = None,
) -> Layer:
    """Long-term recurrent convolutional network, videos [n, t, h, w, c] -> logits [n, classes].

    An encoder on each frame, an LSTM over the frames, a dense layer on each step, and the mean of its logits over the
    steps. Videos of different lengths are a `Padded`. Children encoder, lstm, head.

    Args:
      classes: number of logits, an integer >= 1; 101 are those of UCF-101. None omits the head: the result is the mean
        state.
      encoder: a layer on images, [m, h, w, c] -> [m, d], such as `resnet(18, classes=None)`. None is a small one: three
        3×3 convolutions with 32, 64 and 128 channels, each with relu and a 2×2 max pool, and the mean over space.
      features: size of the LSTM's state, an integer >= 1.
      rate: dropout rate after the LSTM, in [0, 1); may be traced.
      preset: the default initialization of all layers but a given encoder.
      name: pins the name.

    Raises:
      ValueError: if an argument is out of range, or a frame does not fit the encoder.
      TypeError: if an argument is of a wrong type.

    Differences: the paper's encoder is the CaffeNet up to its first dense layer, and it averages probabilities.

    Reference: Donahue et al., Long-term Recurrent Convolutional Networks for Visual Recognition and Description, 2014,
    arXiv:1411.4389.

    >>> model = lrcn(4, features=8)
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 3, 16, 16, 1)))
    >>> model.apply(params, state, jnp.ones((2, 5, 16, 16, 1)))[0].shape
    (2, 4)
    """
    where = name or "lrcn"
    features = check.count(where, "features", features)
    frames = _small(preset) if encoder is None else as_layer(encoder, where)
    over_time = lstm(features, preset=preset)
    end = head(where, classes, preset)
    frames = time_distributed(named(frames, "encoder"))
    return stacked("lrcn", name, frames, over_time, dropout(rate), *end, global_avg_pool())


def _small(preset: str) -> Layer:
    layers: list[Any] = []
    for k, width in enumerate((32, 64, 128), start=1):
        layers += [conv(width, 3, preset=preset, name=f"conv{k}"), relu, max_pool(2)]
    return serial(*layers, global_avg_pool())
