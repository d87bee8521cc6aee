"""Wide residual networks."""

from __future__ import annotations

from typing import Any

import jax

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._errors import invalid
from jaxnn._layer import Layer
from jaxnn.activations import relu
from jaxnn.combinators import serial
from jaxnn.layers import batch_norm, conv, global_avg_pool
from jaxnn.models._parts import Norm, head, named, stacked
from jaxnn.models._residual import ResidualBlocks


@recorded
def wide_resnet(
    depth: int = 28,
    factor: int = 10,
    *,
    classes: int | None = 10,
    rate: float | jax.Array = 0.0,
    norm: Norm = batch_norm,
    preset: str = "jaxnn",
    name: str | None = None,
) -> Layer:
    """Wide ResNet for small images, [n, h, w, c] -> logits [n, classes].

    Three stages of pre-activation blocks with 16, 32 and 64 times `factor` channels, and dropout between the two
    convolutions of a block. Published for CIFAR: WRN-16-8 (11.0 M params), WRN-40-4 (8.9 M), WRN-28-10 (36.5 M).
    Children stem, stage1, stage2, stage3, norm, head; paths such as `stage2/block1/conv1/w`.

    Args:
      depth: number of convolutions, 6 n + 4 for n blocks in each stage, n >= 1.
      factor: multiple of the channels of a CIFAR ResNet, an integer >= 1.
      classes: number of logits, an integer >= 1; None omits the head: the result is the pooled features.
      rate: dropout rate inside the blocks, in [0, 1); may be traced. The paper uses 0.3 and 0.4.
      norm: factory of the norms.
      preset: the default initialization of convolutions and the dense layer.
      name: pins the name.

    Raises:
      ValueError: if depth is not 6 n + 4, or a number is out of range.
      TypeError: if an argument is of a wrong type.

    Differences: torchvision's wide_resnet50_2 is another network, a bottleneck ResNet with twice the inner channels.

    Reference: Zagoruyko & Komodakis, Wide Residual Networks, 2016, arXiv:1605.07146.

    >>> model = wide_resnet(16, 2)
    >>> params, state = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 32, 32, 3)))
    >>> params["stage1"]["block1"]["skip"]["w"].shape
    (1, 1, 16, 32)
    """
    where = name or "wide_resnet"
    if check.count(where, "depth", depth, least=10) % 6 != 4:
        raise invalid(where, "depth to be 6 n + 4", depth, "10, 16, 22, 28, 34 and 40 are the first ones.")
    blocks = ResidualBlocks(False, True, "project", norm, preset, rate)
    stages = blocks.stages(((depth - 4) // 6,) * 3, 16, 16 * check.count(where, "factor", factor))
    stem = serial(conv(16, 3, padding=1, bias=False, preset=preset, name="conv"), name="stem")
    end: list[Any] = [named(norm(), "norm"), relu, global_avg_pool(), *head(where, classes, preset)]
    return stacked("wide_resnet", name, stem, *stages, *end)
