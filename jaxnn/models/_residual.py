"""Blocks of residual networks: basic, bottleneck and pre-activation."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxnn._call import Run
from jaxnn._layer import Layer, lift
from jaxnn.activations import relu
from jaxnn.combinators import residual, serial
from jaxnn.layers import conv, dropout
from jaxnn.models._parts import Norm, composed, named, unit

Shortcut = Literal["project", "pad"]


class ResidualBlocks(NamedTuple):
    """Makes the blocks of a residual network; `rate` is that of dropout before the last convolution of a block."""

    bottleneck: bool
    preactivation: bool
    shortcut: Shortcut
    norm: Norm
    preset: str
    rate: float | jax.Array = 0.0

    def stages(self, counts: tuple[int, ...], channels: int, width: int) -> list[Layer]:
        """Stages with `counts` blocks, from an image of `channels`; `width` is that of the first stage."""
        stages = []
        for i, count in enumerate(counts):
            blocks: list[Any] = []
            out = (4 if self.bottleneck else 1) * width * 2**i
            for j in range(count):
                stride = 2 if i and not j else 1
                skip = None if stride == 1 and channels == out else self._skip(out, stride)
                make = self._preactivated if self.preactivation else self._block
                blocks += make(self._convs(width * 2**i, stride), skip, f"block{j + 1}")
                channels = out
            stages.append(serial(*blocks, name=f"stage{i + 1}"))
        return stages

    def _conv(self, features: int, kernel_size: int, stride: int = 1) -> Layer:
        padding = kernel_size // 2
        return conv(features, kernel_size, stride=stride, padding=padding, bias=False, preset=self.preset)

    def _convs(self, width: int, stride: int) -> list[Layer]:
        if self.bottleneck:
            return [self._conv(width, 1), self._conv(width, 3, stride), self._conv(4 * width, 1)]
        return [self._conv(width, 3, stride), self._conv(width, 3)]

    def _skip(self, features: int, stride: int) -> Layer:
        if self.shortcut == "pad":
            return lift(partial(_padded, features=features, stride=stride), name="skip")
        projection = self._conv(features, 1, stride)
        return named(projection, "skip") if self.preactivation else unit(projection, "skip", self.norm)

    def _block(self, convs: list[Layer], skip: Layer | None, name: str) -> list[Any]:
        layers: list[Any] = []
        for k, made in enumerate(convs, start=1):
            layers += [named(made, f"conv{k}"), named(self.norm(), f"norm{k}"), relu]
        return [residual(serial(*layers[:-1]), skip=skip, name=name), relu]

    def _preactivated(self, convs: list[Layer], skip: Layer | None, name: str) -> list[Layer]:
        norms = [named(self.norm(), f"norm{k + 1}") for k in range(len(convs))]
        convs = [named(made, f"conv{k + 1}") for k, made in enumerate(convs)]

        def forward(run: Run, x: jax.Array) -> jax.Array:
            h = relu(run(norms[0], x))
            around = x if skip is None else run(skip, h)
            for made, norm in zip(convs[:-1], norms[1:], strict=True):
                h = relu(run(norm, run(made, h)))
            return around + run(convs[-1], run(dropout(self.rate), h))

        return [composed("block", name, forward)]


def _padded(x: jax.Array, *, features: int, stride: int) -> jax.Array:
    """Every `stride`-th pixel of images [n, h, w, c], with channels of zeros appended to make `features`."""
    return jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (0, features - x.shape[-1])))
