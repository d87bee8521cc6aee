"""U-Net: an encoder and a decoder with skip connections at every resolution."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxnn import _checks as check
from jaxnn import ops
from jaxnn._call import Run
from jaxnn._calls import recorded
from jaxnn._errors import invalid
from jaxnn._layer import Layer
from jaxnn.activations import relu
from jaxnn.combinators import serial
from jaxnn.layers import conv, conv_transpose, dropout, upsample
from jaxnn.models._parts import Norm, composed, head_conv, named


@recorded
def unet(
    classes: int = 2,
    *,
    features: int = 64,
    levels: int = 4,
    padding: Literal["same", "valid"] = "same",
    upsampling: Literal["conv_transpose", "linear"] = "conv_transpose",
    rate: float | jax.Array = 0.0,
    norm: Norm | None = None,
    preset: str = "jaxnn",
    name: str | None = None,
) -> Layer:
    """U-Net for segmentation, images [n, *space, c] -> logits of each pixel [n, *space, classes].

    `levels` times two 3×3 convolutions and a max pool, two convolutions in the middle, and as many times an upsampling,
    the concatenation with the image of the same size on the way down, and two convolutions. Each pool halves the
    image, and the convolutions after it have twice the channels. 31.0 M params for 4 levels of 64 features. 1 to 3
    space axes, so that sequences and volumes work as well.

    Children down1, down2, ..., middle, upsample1, up1, ..., head; paths such as `down2/conv1/w`. Level 1 has the full
    resolution.

    Args:
      classes: number of logits of a pixel, an integer >= 1; 1 for a single foreground class.
      features: channels of the first level, an integer >= 1.
      levels: number of pools, an integer >= 1.
      padding: "same" keeps the size; its multiples of 2^levels are accepted. "valid", as in the paper, loses a border,
        and the skip connections are cropped: 572×572 gives 388×388.
      upsampling: "conv_transpose", with kernel size and stride 2, or "linear", interpolation and a 3×3 convolution,
        which avoids checkerboard artifacts.
      rate: dropout rate after the middle, in [0, 1); may be traced.
      norm: factory of a norm after each 3×3 convolution, such as `batch_norm`; None omits it, as in the paper.
      preset: the default initialization of the convolutions.
      name: pins the name.

    Raises:
      ValueError: if the sides of the image are no multiples of 2^levels, or an argument is out of range.
      TypeError: if an argument is of a wrong type.

    Reference: Ronneberger et al., U-Net: Convolutional Networks for Biomedical Image Segmentation, 2015,
    arXiv:1505.04597.

    >>> model = unet(3, features=4, levels=2)
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 16, 16, 1)))
    >>> model.apply(params, state, jnp.ones((1, 16, 16, 1)))[0].shape
    (1, 16, 16, 3)
    """
    where = name or "unet"
    features, levels = check.count(where, "features", features), check.count(where, "levels", levels)
    check.choice(where, "padding", padding, ("same", "valid"))
    check.choice(where, "upsampling", upsampling, ("conv_transpose", "linear"))

    def double(at: str, width: int, *after: Layer) -> Layer:
        layers: list[Any] = []
        for k in (1, 2):
            layers.append(conv(width, 3, padding=padding, preset=preset, name=f"conv{k}"))
            layers += [relu] if norm is None else [named(norm(), f"norm{k}"), relu]
        return serial(*layers, *after, name=at)

    def twice(at: str, width: int) -> Layer:
        if upsampling == "conv_transpose":
            return conv_transpose(width, 2, stride=2, preset=preset, name=at)
        return serial(upsample(2, method="linear"), conv(width, 3, preset=preset, name="conv"), name=at)

    widths = [features * 2**i for i in range(levels)]
    downs = [double(f"down{i}", width) for i, width in enumerate(widths, start=1)]
    middle = double("middle", 2 * widths[-1], dropout(rate))
    rises = [twice(f"upsample{i}", width) for i, width in enumerate(widths, start=1)]
    ups = [double(f"up{i}", width) for i, width in enumerate(widths, start=1)]
    last = head_conv(where, classes, preset)

    def forward(run: Run, x: jax.Array) -> jax.Array:
        if padding == "same" and any(side % 2**levels for side in x.shape[1:-1]):
            raise invalid(where, f"an image with sides that are multiples of {2**levels}", x, "Pad it, or resize it.")
        skips = []
        for down in downs:
            skips.append(run(down, x))
            x = ops.max_pool(skips[-1], 2)
        x = run(middle, x)
        for rise, up, skip in reversed(list(zip(rises, ups, skips, strict=True))):
            x = run(rise, x)
            x = run(up, jnp.concatenate([_cropped(skip, x.shape), x], axis=-1))
        return run(last, x)

    return composed("unet", name, forward)


def _cropped(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The centre of images [n, *space, c], of the space of `shape`."""
    starts = [(have - size) // 2 for have, size in zip(x.shape[1:-1], shape[1:-1], strict=True)]
    middle = (slice(start, start + size) for start, size in zip(starts, shape[1:-1], strict=True))
    return x[(slice(None), *middle)]
