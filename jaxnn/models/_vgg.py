"""VGG: stacks of 3×3 convolutions."""

from __future__ import annotations

from typing import Any

import jax

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._errors import invalid
from jaxnn._layer import Layer
from jaxnn.activations import relu
from jaxnn.combinators import serial
from jaxnn.layers import adaptive_avg_pool, conv, dense, dropout, flatten, max_pool
from jaxnn.models._parts import Norm, head, named, stacked

# depth -> number of convolutions in each stage
CONVS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def convolutions(stage: int, count: int, features: int, norm: Norm | None, preset: str) -> list[Any]:
    """The convolutions of a stage, counted from 1, with norms and activations; `features` are those of the first."""
    layers: list[Any] = []
    for k in range(1, count + 1):
        layers.append(conv(features * min(2 ** (stage - 1), 8), 3, padding=1, preset=preset, name=f"conv{k}"))
        layers += [relu] if norm is None else [named(norm(), f"norm{k}"), relu]
    return layers


@recorded
def vgg(
    depth: int,
    *,
    classes: int | None = 1000,
    features: int = 64,
    hidden: int = 4096,
    rate: float | jax.Array = 0.5,
    norm: Norm | None = None,
    preset: str = "jaxnn",
    name: str | None = None,
) -> Layer:
    """VGG, images [n, h, w, c] -> logits [n, classes].

    Five stages of 3×3 convolutions with relu, each followed by a 2×2 max pool; average pooling to 7×7, the identity for
    images of 224×224; three dense layers. Depth 11, 13, 16 and 19 are the configurations A, B, D and E of the paper:
    132.9 M, 133.0 M, 138.4 M and 143.7 M params for 3 channels and 1000 classes. Children stage1 to stage5, dense1,
    dense2, head; paths such as `stage1/conv1/w`.

    Args:
      depth: number of layers with weights, 11, 13, 16 or 19.
      classes: number of logits, an integer >= 1; None omits the head: the result is that of the second dense layer.
      features: channels of the first stage, an integer >= 1; later stages have 2, 4, 8 and 8 times as many.
      hidden: features of the two dense layers before the head, an integer >= 1.
      rate: dropout rate after each of them, in [0, 1); may be traced.
      norm: factory of a norm after each convolution, such as `batch_norm` (torchvision's vgg16_bn); None omits it, as
        in the paper.
      preset: the default initialization of convolutions and dense layers.
      name: pins the name.

    Raises:
      ValueError: if there is no such depth, the image is too small for five pools, or a number is out of range.
      TypeError: if an argument is of a wrong type.

    Differences: as torchvision, whose convolutions keep their biases before batch norms, too. PyTorch flattens
    channels first, so the rows of dense1/w are in another order: `interop.load` reorders them. Keras has no
    dropout and needs images of 224×224 for its dense layers.

    Reference: Simonyan & Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, 2014,
    arXiv:1409.1556.

    >>> model = vgg(11, classes=10)
    >>> params, state = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 64, 64, 3)))
    >>> params["stage5"]["conv2"]["w"].shape, params["dense1"]["w"].shape
    ((3, 3, 512, 512), (25088, 4096))
    """
    where = name or "vgg"
    if check.count(where, "depth", depth) not in CONVS:
        raise invalid(where, f"depth to be one of {', '.join(map(str, CONVS))}", depth)
    features, hidden = check.count(where, "features", features), check.count(where, "hidden", hidden)

    stages = [
        serial(*convolutions(i, count, features, norm, preset), max_pool(2), name=f"stage{i}")
        for i, count in enumerate(CONVS[depth], 1)
    ]
    layers: list[Any] = [adaptive_avg_pool(7), flatten()]
    for k in (1, 2):
        layers += [dense(hidden, preset=preset, name=f"dense{k}"), relu, dropout(rate)]
    return stacked("vgg", name, *stages, *layers, *head(where, classes, preset))
