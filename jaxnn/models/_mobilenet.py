"""MobileNetV2."""

from __future__ import annotations

import jax

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._layer import Layer
from jaxnn.activations import relu6
from jaxnn.combinators import serial
from jaxnn.layers import batch_norm, conv, dropout, global_avg_pool
from jaxnn.models._inverted_residual import InvertedResidual, divisible
from jaxnn.models._parts import Norm, head, stacked, unit

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
