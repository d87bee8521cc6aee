"""The U-Net of denoising diffusion: residual blocks with a time embedding, and attention at low resolutions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import log
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._dtypes import wide_dtype
from jaxnn._errors import invalid, wrong_type
from jaxnn._layer import Layer
from jaxnn.activations import silu
from jaxnn.combinators import serial
from jaxnn.init import variance_scaling
from jaxnn.layers import attention, conv, dense, dropout, group_norm, upsample
from jaxnn.models._parts import Run, composed
from jaxnn.types import Arrays

TINY = partial(variance_scaling, scale=1e-10, mode="fan_avg", distribution="uniform")  # branches begin near 0


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
    norm = partial(group_norm, groups, eps=1e-6)
    parts = _Parts(norm, tuple(attention_at), heads, rate, preset)
    embedded = [dense(4 * features, preset=preset, name=f"dense{k}") for k in (1, 2)]
    clock = serial(partial(_sinusoids, features=features), embedded[0], silu, embedded[1], name="time")
    downs = [parts.down(f"down{i + 1}", width, blocks, i < len(widths) - 1) for i, width in enumerate(widths)]
    ups = [parts.up(f"up{i + 1}", width, blocks + 1, i > 0) for i, width in enumerate(widths)]
    stem, middle = conv(features, 3, preset=preset, name="stem"), parts.middle(widths[-1])

    def forward(run: Run, x: Arrays) -> jax.Array:
        image, time = _checked(where, x, 2 ** (len(widths) - 1))
        t = run(clock, jnp.asarray(time).astype(wide_dtype(image.dtype))).astype(image.dtype)
        skips = [run(stem, image)]
        for down in downs:
            skips += run(down, (skips[-1], t))
        h = run(middle, (skips[-1], t))
        for up in reversed(ups):
            skips, seen = skips[: -blocks - 1], skips[-blocks - 1 :]
            h = run(up, (h, t, seen))
        last = conv(channels or image.shape[-1], 3, preset=preset, w_init=TINY, name="head")
        return run(last, silu(run(norm(name="norm"), h)))

    return composed("ddpm_unet", name, forward)


class _Parts:
    """Makes the parts of the network; each receives (image, time embedding) or more in a tuple."""

    def __init__(self, norm: Any, attention_at: tuple[int, ...], heads: int, rate: float | jax.Array, preset: str):
        self.norm, self.attention_at, self.heads, self.rate, self.preset = norm, attention_at, heads, rate, preset

    def down(self, name: str, width: int, count: int, halve: bool) -> Layer:
        """(h, t) -> images after each block, and the halved one."""
        half = conv(width, 3, stride=2, preset=self.preset, name="halve")

        def forward(run: Run, x: Arrays) -> list[jax.Array]:
            h, t = x
            skips = []
            for k in range(1, count + 1):
                h = self._attended(run, run(self.block(f"block{k}", width), (h, t)), k)
                skips.append(h)
            return [*skips, run(half, h)] if halve else skips

        return composed("down", name, forward)

    def up(self, name: str, width: int, count: int, double: bool) -> Layer:
        """(h, t, images of the way down) -> h, doubled."""
        twice = serial(upsample(2), conv(width, 3, preset=self.preset, name="conv"), name="double")

        def forward(run: Run, x: Arrays) -> jax.Array:
            h, t, skips = x
            for k, skip in zip(range(1, count + 1), reversed(skips), strict=True):
                h = run(self.block(f"block{k}", width), (jnp.concatenate([h, skip], axis=-1), t))
                h = self._attended(run, h, k)
            return run(twice, h) if double else h

        return composed("up", name, forward)

    def middle(self, width: int) -> Layer:
        """(h, t) -> h by two blocks with attention between them."""

        def forward(run: Run, x: Arrays) -> jax.Array:
            h = run(self.attention("attention1"), run(self.block("block1", width), x))
            return run(self.block("block2", width), (h, x[1]))

        return composed("middle", "middle", forward)

    def block(self, name: str, width: int) -> Layer:
        """(h, t) -> skip(h) + conv(dropout(silu(norm(conv(silu(norm(h))) + dense(silu(t))))))."""
        first = conv(width, 3, preset=self.preset, name="conv1")
        second = conv(width, 3, preset=self.preset, w_init=TINY, name="conv2")
        shift = dense(width, preset=self.preset, name="time")
        skip = conv(width, 1, preset=self.preset, name="skip")

        def forward(run: Run, x: Arrays) -> jax.Array:
            x, t = x
            h = run(first, silu(run(self.norm(name="norm1"), x)))
            h = silu(run(self.norm(name="norm2"), h + run(shift, silu(t))[:, None, None, :]))
            h = run(second, run(dropout(self.rate), h))
            return h + (x if x.shape == h.shape else run(skip, x))

        return composed("block", name, forward)

    def attention(self, name: str) -> Layer:
        """h + attention over the pixels of norm(h)."""
        over = attention(self.heads, preset=self.preset)

        def forward(run: Run, x: jax.Array) -> jax.Array:
            n, h, w, c = x.shape
            y = run(self.norm(name="norm"), x).reshape(n, h * w, c)
            return x + run(over, y).reshape(x.shape)

        return composed("attention", name, forward)

    def _attended(self, run: Run, h: jax.Array, k: int) -> Any:
        return run(self.attention(f"attention{k}"), h) if h.shape[1] in self.attention_at else h


def _checked(where: str, x: Arrays, multiple: int) -> tuple[Any, Any]:
    """Images and steps of the input."""
    if not isinstance(x, dict) or set(x) != {"x", "time"}:
        raise wrong_type(where, "a dict of 'x' and 'time'", x)
    if any(side % multiple for side in x["x"].shape[1:-1]):
        raise invalid(where, f"images with sides that are multiples of {multiple}", x["x"], "Pad or resize them.")
    check.shape(where, "time", x["time"], x["x"].shape[:1])
    return x["x"], x["time"]


def _sinusoids(time: jax.Array, *, features: int) -> jax.Array:
    """Sines, then cosines of the steps, [n] -> [n, features], of frequencies from 1 to 1/10000."""
    half = features // 2
    angles = time[:, None] * jnp.exp(-log(10_000) / max(half - 1, 1) * jax.lax.iota(time.dtype, half))[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
