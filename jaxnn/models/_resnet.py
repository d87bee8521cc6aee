"""Residual networks: ResNet with basic, bottleneck and pre-activation blocks, and wide ResNet."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._errors import invalid
from jaxnn._layer import Layer, lift
from jaxnn.activations import relu
from jaxnn.combinators import residual, serial
from jaxnn.layers import batch_norm, conv, dropout, global_avg_pool, max_pool
from jaxnn.models._parts import Norm, Run, composed, head, named, stacked, unit

# depth -> number of blocks in each stage
IMAGENET = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
CIFAR = {20: (3, 3, 3), 32: (5, 5, 5), 44: (7, 7, 7), 56: (9, 9, 9), 110: (18, 18, 18)}
BLOCKS = IMAGENET | CIFAR
BOTTLENECKS = (50, 101, 152)

Shortcut = Literal["project", "pad"]


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
    blocks = _Blocks(depth in BOTTLENECKS, preactivation, shortcut, norm, preset)
    first = conv(features, 3, padding=1, bias=False, preset=preset)
    if stem == "imagenet":
        first = conv(features, 7, stride=2, padding=3, bias=False, preset=preset)
    begin: list[Any] = [serial(named(first, "conv"), name="stem") if preactivation else unit(first, "stem", norm, relu)]
    begin += [max_pool(3, stride=2, padding=1)] if stem == "imagenet" else []
    end: list[Any] = [named(norm(), "norm"), relu] if preactivation else []
    stages = blocks.stages(BLOCKS[depth], features, features)
    return stacked("resnet", name, *begin, *stages, *end, global_avg_pool(), *head(where, classes, preset))


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
    blocks = _Blocks(False, True, "project", norm, preset, rate)
    stages = blocks.stages(((depth - 4) // 6,) * 3, 16, 16 * check.count(where, "factor", factor))
    stem = serial(conv(16, 3, padding=1, bias=False, preset=preset, name="conv"), name="stem")
    end: list[Any] = [named(norm(), "norm"), relu, global_avg_pool(), *head(where, classes, preset)]
    return stacked("wide_resnet", name, stem, *stages, *end)


class _Blocks(NamedTuple):
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
