"""ResNet with basic, bottleneck and pre-activation blocks."""

from __future__ import annotations

from typing import Any, Literal

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._errors import invalid
from jaxnn._layer import Layer
from jaxnn.activations import relu
from jaxnn.combinators import serial
from jaxnn.layers import batch_norm, conv, global_avg_pool, max_pool
from jaxnn.models._parts import Norm, head, named, stacked, unit
from jaxnn.models._residual import ResidualBlocks, Shortcut

# depth -> number of blocks in each stage
IMAGENET = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
CIFAR = {20: (3, 3, 3), 32: (5, 5, 5), 44: (7, 7, 7), 56: (9, 9, 9), 110: (18, 18, 18)}
BLOCKS = IMAGENET | CIFAR
BOTTLENECKS = (50, 101, 152)


@recorded
def resnet(
    depth: int,
    *,
    classes: int | None = 1000,
    preactivation: bool = False,
    shortcut: Shortcut | None = None,
    stem: Literal["imagenet", "cifar"] | None = None,
    features: int | None = None,
    norm: Norm = batch_norm,
    preset: str = "jaxnn",
    name: str | None = None,
) -> Layer:
    """ResNet, images [n, h, w, c] -> logits [n, classes].

        x <- relu(norm(conv(relu(norm(conv(x))))) + skip(x))

    Each stage but the first halves the image and doubles the channels.

        depth                 designed for    blocks        stages   channels of the stages     params, classes
        18, 34                ImageNet        basic         4        64 to 512                  11.7 M, 21.8 M; 1000
        50, 101, 152          ImageNet        bottleneck    4        256 to 2048                25.6 M, 44.5 M, 60.2 M
        20, 32, 44, 56, 110   CIFAR-10        basic         3        16 to 64                   0.27 M to 1.7 M; 10

    A basic block has two 3×3 convolutions. A bottleneck has a 1×1, a 3×3 and a 1×1 one with 4 times the channels; the
    3×3 convolution has the stride. Children stem, stage1, ..., head; paths such as `stage2/block1/conv1/w`.

    Args:
      depth: number of convolutions and dense layers on the longest path, one of those in the table.
      classes: number of logits, an integer >= 1; None omits the head: the result is the pooled features.
      preactivation: if True, norm and relu precede each convolution, and one norm follows the last stage.
      shortcut: skip connection of a block that changes the shape: "project" (option B of the paper) is a 1×1
        convolution, with a norm unless `preactivation`; "pad" (option A) takes every second pixel and appends channels
        of zeros. None is "pad" for the depths of CIFAR and "project" otherwise.
      stem: "imagenet" is a 7×7 convolution with stride 2 and a max pool, "cifar" a 3×3 convolution. None is that of the
        depth.
      features: channels of the first stage before the expansion of bottlenecks; None is 64, or 16 for CIFAR.
      norm: factory of the norms, such as `batch_norm` or `partial(group_norm, 32)`.
      preset: the default initialization of convolutions and the dense layer.
      name: pins the name.

    Raises:
      ValueError: if there is no such depth, shortcut or stem, or a number is out of range.
      TypeError: if an argument is of a wrong type.

    Differences: paddings, strides and norms are those of torchvision, so that its weights give equal outputs. It draws
    convolutions by He's normal distribution with fan_out. Keras's ResNet50 has the stride in the first 1×1 convolution
    and biases in all convolutions.

    Reference: He et al., Deep Residual Learning for Image Recognition, 2015, arXiv:1512.03385; with preactivation: He
    et al., Identity Mappings in Deep Residual Networks, 2016, arXiv:1603.05027.

    >>> model = resnet(18, classes=10)
    >>> params, state = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 64, 64, 3)))
    >>> params["stage2"]["block1"]["conv1"]["w"].shape
    (3, 3, 64, 128)
    """
    where = name or "resnet"
    if check.count(where, "depth", depth) not in BLOCKS:
        raise invalid(where, f"depth to be one of {', '.join(map(str, sorted(BLOCKS)))}", depth)
    cifar = depth in CIFAR
    shortcut, stem = shortcut or ("pad" if cifar else "project"), stem or ("cifar" if cifar else "imagenet")
    check.choice(where, "shortcut", shortcut, ("project", "pad"))
    check.choice(where, "stem", stem, ("imagenet", "cifar"))
    check.flags(where, preactivation=preactivation)
    features = check.count(where, "features", (16 if cifar else 64) if features is None else features)
    blocks = ResidualBlocks(depth in BOTTLENECKS, preactivation, shortcut, norm, preset)
    first = conv(features, 3, padding=1, bias=False, preset=preset)
    if stem == "imagenet":
        first = conv(features, 7, stride=2, padding=3, bias=False, preset=preset)
    begin: list[Any] = [serial(named(first, "conv"), name="stem") if preactivation else unit(first, "stem", norm, relu)]
    begin += [max_pool(3, stride=2, padding=1)] if stem == "imagenet" else []
    end: list[Any] = [named(norm(), "norm"), relu] if preactivation else []
    stages = blocks.stages(BLOCKS[depth], features, features)
    return stacked("resnet", name, *begin, *stages, *end, global_avg_pool(), *head(where, classes, preset))
