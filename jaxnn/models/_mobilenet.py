"""MobileNetV2, and the inverted residual block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxnn import _checks as check
from jaxnn import ops
from jaxnn._calls import recorded
from jaxnn._layer import Layer
from jaxnn.activations import relu6, sigmoid
from jaxnn.combinators import residual, serial
from jaxnn.layers import (
    batch_norm,
    conv,
    dense,
    depthwise_conv,
    dropout,
    global_avg_pool,
    stochastic_depth,
)
from jaxnn.models._parts import Norm, Run, composed, head, stacked, unit

# for each stage: expansion, channels, number of blocks, stride of the first block
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


@recorded
def mobilenet_v2(
    *,
    classes: int | None = 1000,
    width: float = 1.0,
    rate: float | jax.Array = 0.2,
    norm: Norm = batch_norm,
    preset: str = "jaxnn",
    name: str | None = None,
) -> Layer:
    """MobileNetV2, images [n, h, w, c] -> logits [n, classes].

    Seven stages of inverted residual blocks: a 1×1 convolution to 6 times the channels, a 3×3 depthwise convolution,
    and a 1×1 convolution back without activation. 3.5 M params for width 1 and 1000 classes. Children stem, stage1 to
    stage7, top, head; paths such as `stage2/block1/depthwise/conv/w`.

    Args:
      classes: number of logits, an integer >= 1; None omits the head and its dropout: the result is the pooled
        features.
      width: multiple of all channels, > 0; 0.35 to 1.4 in the paper. The last 1280 are not reduced.
      rate: dropout rate before the head, in [0, 1); may be traced.
      norm: factory of the norms.
      preset: the default initialization of convolutions and the dense layer.
      name: pins the name.

    Raises:
      ValueError: if a number is out of range.
      TypeError: if an argument is of a wrong type.

    Differences: as torchvision. The original and Keras have `batch_norm(momentum=0.999, eps=1e-3)` and TensorFlow's
    padding "same", which differs for even sizes and stride 2.

    Reference: Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, 2018, arXiv:1801.04381.

    >>> model = mobilenet_v2(classes=10)
    >>> params, state = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 64, 64, 3)))
    >>> params["stage2"]["block1"]["depthwise"]["conv"]["w"].shape
    (3, 3, 96, 1)
    """
    where = name or "mobilenet_v2"
    check.scalar(where, "width", width, ends="()", static=True)
    blocks = InvertedResidual(norm, relu6, preset)
    channels = divisible(32 * width)
    stages = []
    for i, (expansion, features, count, stride) in enumerate(STAGES):
        inside, out = [], divisible(features * width)
        for j in range(count):
            inside.append(blocks(channels, out, 3, stride if j == 0 else 1, expansion, name=f"block{j + 1}"))
            channels = out
        stages.append(serial(*inside, name=f"stage{i + 1}"))
    first = conv(divisible(32 * width), 3, stride=2, padding=1, bias=False, preset=preset)
    last = conv(divisible(1280 * max(width, 1.0)), 1, bias=False, preset=preset)
    begin, top = unit(first, "stem", norm, relu6), unit(last, "top", norm, relu6)
    end = [global_avg_pool(), *((dropout(rate), *head(where, classes, preset)) if classes is not None else ())]
    return stacked("mobilenet_v2", name, begin, *stages, top, *end)


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
