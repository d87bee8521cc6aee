"""HED: edges from all stages of a VGG16."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from jaxnn import _checks as check
from jaxnn import ops
from jaxnn._call import Run
from jaxnn._calls import recorded
from jaxnn._layer import Layer
from jaxnn.combinators import serial
from jaxnn.init import constant, zeros
from jaxnn.layers import conv, max_pool
from jaxnn.models._parts import composed
from jaxnn.models._vgg import CONVS, convolutions


@recorded
def hed(*, sides: bool = False, features: int = 64, preset: str = "jaxnn", name: str | None = None) -> Layer:
    """Holistically-nested edge detection, images [n, h, w, c] -> logits of an edge at each pixel, [n, h, w, 1].

    The five stages of VGG16, without its dense layers. The result of each is mapped to one channel, the side output,
    which is interpolated to the size of the image. The logits are a linear combination of the five. 14.7 M params for 3
    channels. Children stage1 to stage5, as of `vgg(16)`, side1 to side5, fuse; paths such as `stage1/conv1/w`.

    Args:
      sides: if True, the result is [n, h, w, 6], the five side outputs and then the logits. The paper trains all of
        them against the edges.
      features: channels of the first stage, an integer >= 1; later stages have 2, 4, 8 and 8 times as many.
      preset: the default initialization of the stages. Side outputs are initially 0, and their weights in the sum 1/5.
      name: pins the name.

    Raises:
      ValueError: if an argument is out of range.
      TypeError: if an argument is of a wrong type.

    Differences: the paper's code in Caffe adds a border of 35 pixels to the image and crops the side outputs; here
    convolutions keep the size, as in Keras.

    Reference: Xie & Tu, Holistically-Nested Edge Detection, 2015, arXiv:1504.06375.

    >>> model = hed(features=4)
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 32, 48, 3)))
    >>> model.apply(params, state, jnp.ones((1, 32, 48, 3)))[0].shape
    (1, 32, 48, 1)
    """
    where = name or "hed"
    check.flags(where, sides=sides)
    features = check.count(where, "features", features)
    pool = max_pool(2, padding="same")
    stages = [
        serial(*([pool] if i > 1 else []), *convolutions(i, count, features, None, preset), name=f"stage{i}")
        for i, count in enumerate(CONVS[16], 1)
    ]
    ones = [conv(1, 1, preset=preset, w_init=zeros, name=f"side{i}") for i in range(1, 6)]
    fuse = conv(1, 1, preset=preset, w_init=partial(constant, value=1 / 5), name="fuse")

    def forward(run: Run, x: jax.Array) -> jax.Array:
        size, found = x.shape[1:3], []
        for stage, side in zip(stages, ones, strict=True):
            x = run(stage, x)
            found.append(ops.resize(run(side, x), size))
        y = jnp.concatenate(found, axis=-1)
        return jnp.concatenate([y, run(fuse, y)], axis=-1) if sides else run(fuse, y)

    return composed("hed", name, forward)
