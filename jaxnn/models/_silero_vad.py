"""Silero VAD: voice activity in sound samples."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn._calls import recorded
from jaxnn._layer import Layer, lift
from jaxnn.activations import relu
from jaxnn.combinators import serial, time_distributed
from jaxnn.layers import conv, dense, lstm
from jaxnn.models._parts import stacked
from jaxnn.types import Key

SIZE = 256  # samples of a Fourier transform
CONVS = ((128, 1), (64, 2), (64, 2), (128, 1))  # features and stride


@recorded
def silero_vad(*, cached: bool = False, preset: str = "jaxnn", name: str | None = None) -> Layer:
    """Voice activity detector, windows of sound [n, t, 576] -> logits of speech [n, t, 1].

    Short-time Fourier magnitudes of each window, four convolutions over them, an LSTM over the windows and a dense
    layer. A window has 512 samples at 16 kHz, and before them the last 64 of the window before, initially zeros. The
    input may be a `Padded`. Children encoder with stft and conv1 to conv4, lstm, head; 309 121 params.

    Args:
      cached: if True, each call continues where the last one ended, as in `lstm`; the params are the same.
      preset: the default initialization of convolutions, LSTM and dense layer. The kernel of encoder/stft is initially
        the Fourier basis with a Hann window. The authors do not train it: `trainer(frozen="encoder/stft/w")`.
      name: pins the name.

    Raises:
      TypeError: if an argument is of a wrong type.

    Differences: the authors' model returns sigmoid(logits), and its LSTM has two biases, of which this is the sum.

    Reference: Silero Team, Silero VAD: pre-trained enterprise-grade Voice Activity Detector, 2021-2025.

    >>> model = silero_vad()
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 3, 576)))
    >>> model.apply(params, state, jnp.ones((2, 5, 576)))[0].shape
    (2, 5, 1)
    """
    how: dict[str, Any] = {"bias": False, "preset": preset, "w_init": _fourier, "name": "stft"}
    transform = conv(SIZE + 2, SIZE, stride=SIZE // 2, padding="valid", **how)
    layers: list[Any] = [_of_examples(_mirrored), transform, _of_examples(_magnitude)]
    for k, (features, stride) in enumerate(CONVS, 1):
        layers += [conv(features, 3, stride=stride, padding=1, preset=preset, name=f"conv{k}"), relu]
    encoder = time_distributed(serial(*layers, _of_examples(_only_step), name="encoder"))
    over_time = lstm(128, cached=cached, preset=preset, name="lstm")
    return stacked("silero_vad", name, encoder, over_time, relu, dense(1, preset=preset, name="head"))


def _of_examples(f: Any) -> Layer:
    return lift(f, padded="examples")


def _mirrored(x: jax.Array) -> jax.Array:
    """[n, k] -> [n, k + 64, 1], reflected at the end."""
    return jnp.pad(x, ((0, 0), (0, 64)), mode="reflect")[..., None]


def _magnitude(y: jax.Array) -> jax.Array:
    """Real and imaginary parts [n, t, 2 k] -> magnitudes [n, t, k]."""
    real, imaginary = jnp.split(y, 2, axis=-1)
    power = jnp.square(real) + jnp.square(imaginary)
    sound = power > 0
    return jnp.where(sound, jnp.sqrt(jnp.where(sound, power, 1)), 0)  # derivative 0 in silence


def _only_step(y: jax.Array) -> jax.Array:
    """[n, 1, c] -> [n, c]."""
    return jnp.squeeze(y, axis=1)


def _fourier(key: Key, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Real and imaginary parts of the Fourier basis with a Hann window, [size, 1, size + 2]."""
    size = shape[0]
    n = np.arange(size)[:, None]
    angles = 2 * np.pi / size * n * np.arange(size // 2 + 1)
    hann = (1 - np.cos(2 * np.pi / size * n)) / 2
    return jnp.asarray(hann * np.concatenate([np.cos(angles), -np.sin(angles)], axis=1), dtype)[:, None]
