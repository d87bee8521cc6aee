"""The U-Net of denoising diffusion: residual blocks with a time embedding, and attention at low resolutions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn import _checks as check
from jaxnn._call import Run
from jaxnn._calls import recorded
from jaxnn._dtypes import wide_dtype
from jaxnn._errors import invalid, wrong_type
from jaxnn._layer import Layer
from jaxnn.activations import silu
from jaxnn.combinators import serial
from jaxnn.layers import conv, dense, group_norm, upsample
from jaxnn.models._denoising import TINY, DenoisingBlocks, sinusoids
from jaxnn.models._parts import composed
from jaxnn.types import Arrays


@recorded
def ddpm_unet(
    *,
    channels: int | None = None,
    features: int = 128,
    multiples: Sequence[int] = (1, 2, 2, 2),
    blocks: int = 2,
    attention_at: Sequence[int] = (16,),
    heads: int = 1,
    groups: int = 32,
    rate: float | jax.Array = 0.1,
    preset: str = "jaxnn",
    name: str | None = None,
) -> Layer:
    """U-Net of DDPM, {"x": images [n, h, w, c], "time": steps [n]} -> the predicted noise [n, h, w, channels].

    On the way down each level has residual blocks and halves the image; in the middle are two blocks with attention
    between them; on the way up each level has one block more, each of which also sees an image of the way down. Every
    block adds a function of the time embedding. The defaults are the model of CIFAR-10, 35.7 M params.

    Children time, stem, down1, down2, ..., middle, up1, up2, ..., norm, head; paths such as `down2/block1/conv1/w`.

    Args:
      channels: of the result, an integer >= 1; None is that of x. Twice as many predict a variance as well.
      features: channels of the first level, an integer >= 1 that `groups` divides.
      multiples: channels of each level as multiples of `features`.
      blocks: number of residual blocks of a level, an integer >= 1.
      attention_at: heights of the images after whose blocks there is attention over all pixels.
      heads: number of heads of the attention, an integer >= 1.
      groups: groups of the group norms, an integer >= 1.
      rate: dropout rate inside the blocks, in [0, 1); may be traced.
      preset: the default initialization of attention, convolutions and dense layers.
      name: pins the name.

    Raises:
      ValueError: if the sides of the images are no multiples of 2^(levels - 1), or an argument is out of range.
      TypeError: if x is not a dict of images and steps, or an argument is of a wrong type.

    Differences: as the original in TensorFlow, with its padding "same"; the last convolution of every block and of the
    model begins with weights near 0, the attention's projection does not.

    Reference: Ho et al., Denoising Diffusion Probabilistic Models, 2020, arXiv:2006.11239.

    >>> model = ddpm_unet(features=4, multiples=(1, 2), blocks=1, groups=2, attention_at=(4,))
    >>> x = {"x": jnp.ones((2, 8, 8, 3)), "time": jnp.array([0, 999])}
    >>> params, state = model.init(jax.random.key(0), x)
    >>> model.apply(params, state, x)[0].shape, params["down2"]["attention1"]["attention"]["w_q"].shape
    ((2, 8, 8, 3), (8, 8))
    """
    where = name or "ddpm_unet"
    features, blocks = check.count(where, "features", features), check.count(where, "blocks", blocks)
    widths = [features * check.count(where, "multiples", m) for m in multiples]
    norm, conv3 = partial(group_norm, groups, eps=1e-6), partial(conv, kernel_size=3, preset=preset)
    make = DenoisingBlocks(norm, heads, rate, preset)
    embedded = [dense(4 * features, preset=preset, name=f"dense{k}") for k in (1, 2)]
    clock = serial(embedded[0], silu, embedded[1], name="time")

    def level(name: str, width: int, resize: Layer | None) -> Layer:
        """(h, t, skip connections) -> h after each block, and resized."""

        def forward(run: Run, x: Arrays) -> list[jax.Array]:
            h, t, skips = x
            hs = []
            for k, skip in enumerate(skips, start=1):
                h = h if skip is None else jnp.concatenate([h, skip], axis=-1)
                h = run(make.block(f"block{k}", width), (h, t))
                hs.append(run(make.attention(f"attention{k}"), h) if h.shape[1] in attention_at else h)
                h = hs[-1]
            return hs if resize is None else [*hs, run(resize, h)]

        return composed("level", name, forward)

    def middle(run: Run, x: Arrays) -> jax.Array:
        h = run(make.attention("attention1"), run(make.block("block1", widths[-1]), x))
        return run(make.block("block2", widths[-1]), (h, x[1]))

    def forward(run: Run, x: Arrays) -> jax.Array:
        image, time = _checked(where, x, 2 ** (len(widths) - 1))
        # Outside of a layer, because a cast to bfloat16 rounds step 999 to 1000.
        waves = sinusoids(jnp.asarray(time).astype(wide_dtype(image.dtype)), features=features)
        t = run(clock, waves).astype(image.dtype)
        hs = [run(conv3(features, name="stem"), image)]
        for i, width in enumerate(widths, start=1):
            half = None if i == len(widths) else conv3(width, stride=2, name="halve")
            hs += run(level(f"down{i}", width, half), (hs[-1], t, [None] * blocks))
        h = run(composed("middle", "middle", middle), (hs[-1], t))
        for i, width in reversed([*enumerate(widths, start=1)]):
            twice = None if i == 1 else serial(upsample(2), conv3(width, name="conv"), name="double")
            hs, skips = hs[: -blocks - 1], hs[: -blocks - 2 : -1]
            h = run(level(f"up{i}", width, twice), (h, t, skips))[-1]
        last = conv3(channels or image.shape[-1], w_init=TINY, name="head")
        return run(last, silu(run(norm(name="norm"), h)))

    return composed("ddpm_unet", name, forward)


def _checked(where: str, x: Arrays, multiple: int) -> tuple[Any, Any]:
    """Images and steps of the input."""
    if not isinstance(x, dict) or set(x) != {"x", "time"}:
        raise wrong_type(where, "a dict of 'x' and 'time'", x)
    if any(side % multiple for side in x["x"].shape[1:-1]):
        raise invalid(where, f"images with sides that are multiples of {multiple}", x["x"], "Pad or resize them.")
    check.shape(where, "time", x["time"], x["x"].shape[:1])
    return x["x"], x["time"]
