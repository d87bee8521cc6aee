"""Initializers: plain functions `(key, shape, dtype=float32) -> array` with their options as keyword-only arguments.

One uniform rule: an initializer is called, never built, and its options are bound by `functools.partial`, as in
`partial(normal, stddev=0.02)`. In jax.nn.initializers `zeros` and `ones` are initializers, but `normal()` and
`he_normal()` are factories, to be called first; given the same key, the numbers are the same (`uniform` excepted).

Weights are `[*space, in, out]`: `[in, out]` for a map, HWIO for a convolution. Those scaled by fans count

    fan_in = prod(space) in,    fan_out = prod(space) out

with every leading axis as space, so draw stacked weights by `vmap` over keys. Their normal distributions are cut at two
standard deviations and widened again to the variance they state, as in Keras, flax and jax.nn; the papers and PyTorch
do not cut: `partial(variance_scaling, scale=2.0, mode="fan_in", distribution="normal")`.

Numbers are drawn in at least float32 and then cast: a bfloat16 weight is its float32 weight, rounded. All raise
ValueError for a shape or a Python number out of range and TypeError for a dtype that is not floating; `dtype=None` is
such a one. `key` may be typed or raw. Options may be traced, and are scalars.

`preset` gives the default initialization of a layer in another library.
"""

from typing import TYPE_CHECKING

from jaxnn import _elsewhere
from jaxnn.init._draws import (
    constant,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    lecun_normal,
    lecun_uniform,
    normal,
    ones,
    orthogonal,
    truncated_normal,
    uniform,
    variance_scaling,
    zeros,
)
from jaxnn.init._presets import preset

__all__ = [
    "constant",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "preset",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "zeros",
]


if not TYPE_CHECKING:  # a type checker shall see which names there are

    def __getattr__(name):
        raise _elsewhere.missing(__name__, name)
