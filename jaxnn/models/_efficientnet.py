"""EfficientNet: networks of inverted residual blocks with squeeze-and-excitation, scaled in width and depth."""

from __future__ import annotations

from functools import partial
from math import ceil

import jax

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._layer import Layer
from jaxnn.activations import relu6, silu
from jaxnn.combinators import serial
from jaxnn.layers import batch_norm, conv, dropout, global_avg_pool
from jaxnn.models._inverted_residual import InvertedResidual, divisible
from jaxnn.models._parts import Norm, head, stacked, unit

# for each stage: number of blocks, kernel size, stride of the first block, expansion, channels
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

NORM = partial(batch_norm, momentum=0.99, eps=1e-3)

# variant -> multiples of width and depth, dropout rate before the head
VARIANTS = {
    "b0": (1.0, 1.0, 0.2),
    "b1": (1.0, 1.1, 0.2),
    "b2": (1.1, 1.2, 0.3),
    "b3": (1.2, 1.4, 0.3),
    "b4": (1.4, 1.8, 0.4),
    "b5": (1.6, 2.2, 0.4),
    "b6": (1.8, 2.6, 0.5),
    "b7": (2.0, 3.1, 0.5),
    "lite0": (1.0, 1.0, 0.2),
    "lite1": (1.0, 1.1, 0.2),
    "lite2": (1.1, 1.2, 0.3),
    "lite3": (1.2, 1.4, 0.3),
    "lite4": (1.4, 1.8, 0.3),
}


@recorded
def efficientnet(
    variant: str = "b0",
    *,
    classes: int | None = 1000,
    rate: float | jax.Array | None = None,
    depth_rate: float | jax.Array = 0.2,
    norm: Norm = NORM,
    preset: str = "jaxnn",
    name: str | None = None,
) -> Layer:
    """EfficientNet, images [n, h, w, c] -> logits [n, classes].

    Seven stages of inverted residual blocks with squeeze-and-excitation and silu. The variants scale width and depth of
    the network together with the image:

        variant           b0     b1     b2     b3     b4     b5     b6     b7     lite0  lite1  lite2  lite3  lite4
        image             224    240    260    300    380    456    528    600    224    240    260    280    300
        dropout           0.2    0.2    0.3    0.3    0.4    0.4    0.5    0.5    0.2    0.2    0.3    0.3    0.3
        params, millions  5.3    7.8    9.1    12.2   19.3   30.4   43.0   66.3   4.7    5.4    6.1    8.2    13.0

    The lite variants, for integer arithmetic, have relu6 in place of silu, no squeeze-and-excitation, and a stem and a
    top that are not scaled. Children stem, stage1 to stage7, top, head; paths such as
    `stage2/block1/depthwise/conv/w`.

    Args:
      variant: one of those in the table.
      classes: number of logits, an integer >= 1; None omits the head and its dropout: the result is the pooled
        features.
      rate: dropout rate before the head, in [0, 1); may be traced. None is that of the table.
      depth_rate: rate of stochastic depth, in [0, 1); may be traced. Block i of m has the rate depth_rate · i / m.
      norm: factory of the norms; the default is `batch_norm(momentum=0.99, eps=1e-3)`.
      preset: the default initialization of convolutions and dense layers.
      name: pins the name.

    Raises:
      ValueError: if there is no such variant, or a number is out of range.
      TypeError: if an argument is of a wrong type.

    Differences: as the original in TensorFlow: padding "same", eps 1e-3. Keras adds a normalization of the input, and
    torchvision pads by kernel_size // 2 on all sides.

    Reference: Tan & Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, 2019,
    arXiv:1905.11946.

    >>> model = efficientnet("lite0", classes=10)
    >>> params, state = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 64, 64, 3)))
    >>> params["stage3"]["block1"]["depthwise"]["conv"]["w"].shape
    (5, 5, 144, 1)
    """
    where = name or "efficientnet"
    check.choice(where, "variant", variant, list(VARIANTS))
    check.scalar(where, "depth_rate", depth_rate, below=1.0)
    lite = variant.startswith("lite")
    width, depth, published = VARIANTS[variant]
    activation = relu6 if lite else silu
    counts = [n if lite and i in (0, 6) else ceil(depth * n) for i, (n, *_) in enumerate(STAGES)]
    blocks = InvertedResidual(norm, activation, preset, same=True, squeeze=0.0 if lite else 0.25)
    channels = first = 32 if lite else divisible(32 * width)
    stages, at = [], 0
    for i, (_, kernel_size, stride, expansion, features) in enumerate(STAGES):
        inside, out = [], divisible(features * width)
        for j in range(counts[i]):
            dropped, stride_ = depth_rate * (at / sum(counts)), stride if j == 0 else 1
            inside.append(blocks(channels, out, kernel_size, stride_, expansion, rate=dropped, name=f"block{j + 1}"))
            channels, at = out, at + 1
        stages.append(serial(*inside, name=f"stage{i + 1}"))
    stem = unit(conv(first, 3, stride=2, bias=False, preset=preset), "stem", norm, activation)
    top = unit(conv(1280 if lite else divisible(1280 * width), 1, bias=False, preset=preset), "top", norm, activation)
    rate = published if rate is None else rate
    end = () if classes is None else (dropout(rate), *head(where, classes, preset))
    return stacked("efficientnet", name, stem, *stages, top, global_avg_pool(), *end)
