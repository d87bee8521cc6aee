"""Blocks of denoising networks: residual with a time embedding, and attention over pixels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import log
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnn._call import Run
from jaxnn._layer import Layer
from jaxnn.activations import silu
from jaxnn.init import variance_scaling
from jaxnn.layers import attention, conv, dense, dropout
from jaxnn.models._parts import composed
from jaxnn.types import Arrays

TINY = partial(variance_scaling, scale=1e-10, mode="fan_avg", distribution="uniform")  # branches begin near 0


class DenoisingBlocks(NamedTuple):
    """Makes the blocks of a denoising U-Net.

    Attributes:
      norm: factory of the norms, with an argument `name`.
      heads: number of heads of the attention.
      rate: dropout rate.
      preset: the default initialization.
    """

    norm: Callable[..., Layer]
    heads: int
    rate: float | jax.Array
    preset: str

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


def sinusoids(time: jax.Array, *, features: int) -> jax.Array:
    """Sines, then cosines of the steps, [n] -> [n, features], of frequencies from 1 to 1/10000."""
    half = features // 2
    angles = time[:, None] * jnp.exp(-log(10_000) / max(half - 1, 1) * jax.lax.iota(time.dtype, half))[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
