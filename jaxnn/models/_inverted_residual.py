"""Inverted residual blocks of MobileNetV2 and EfficientNet, with squeeze-and-excitation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxnn import ops
from jaxnn._call import Run
from jaxnn._layer import Layer
from jaxnn.activations import sigmoid
from jaxnn.combinators import residual, serial
from jaxnn.layers import conv, dense, depthwise_conv, stochastic_depth
from jaxnn.models._parts import Norm, composed, unit


class InvertedResidual(NamedTuple):
    """Makes inverted residual blocks: expand, depthwise, squeeze_excite, project; a skip connection if shapes agree.

    Attributes:
      norm: factory of the norms.
      activation: elementwise function after the first two convolutions.
      preset: the default initialization.
      same: if True, TensorFlow's padding "same", otherwise PyTorch's kernel_size // 2 on all sides.
      squeeze: hidden features of squeeze-and-excitation for each channel of the input; 0 omits it.
    """

    norm: Norm
    activation: Callable[..., Any]
    preset: str
    same: bool = False
    squeeze: float = 0.0

    def __call__(
        self,
        channels: int,
        features: int,
        kernel_size: int,
        stride: int,
        expansion: int,
        *,
        rate: float | jax.Array = 0.0,
        name: str,
    ) -> Layer:
        """A block from `channels` to `features`; `rate` is that of stochastic depth."""
        inner = channels * expansion
        padding: Any = "same" if self.same else kernel_size // 2
        how: dict[str, Any] = {"bias": False, "preset": self.preset}
        depthwise = depthwise_conv(kernel_size, stride=stride, padding=padding, **how)
        layers = [unit(conv(inner, 1, **how), "expand", self.norm, self.activation)] if expansion > 1 else []
        layers.append(unit(depthwise, "depthwise", self.norm, self.activation))
        if self.squeeze:
            hidden = max(1, int(channels * self.squeeze))
            layers.append(squeeze_excite(hidden, inner, self.activation, self.preset))
        layers.append(unit(conv(features, 1, **how), "project", self.norm))
        if stride > 1 or channels != features:
            return serial(*layers, name=name)
        return residual(serial(*layers, stochastic_depth(rate)), name=name)


def squeeze_excite(hidden: int, channels: int, activation: Callable[..., Any], preset: str) -> Layer:
    """Channels scaled by functions of their means: x · sigmoid(expand(activation(reduce(mean of x)))).

    Reference: Hu et al., Squeeze-and-Excitation Networks, 2017, arXiv:1709.01507.
    """
    reduce, expand = dense(hidden, preset=preset, name="reduce"), dense(channels, preset=preset, name="expand")

    def forward(run: Run, x: jax.Array) -> jax.Array:
        gate = sigmoid(run(expand, activation(run(reduce, ops.global_avg_pool(x)))))
        return x * gate[:, None, None, :]

    return composed("squeeze_excite", "squeeze_excite", forward)


def divisible(channels: float, by: int = 8) -> int:
    """The nearest multiple of `by`, at least `by`, and the next one if that reduces the channels by more than 10 %."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * channels else rounded
