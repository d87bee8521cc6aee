"""Initializers: functions `(key, shape, dtype=float32) -> array` with options as keyword-only arguments.

An initializer is called directly; bind its options by `functools.partial`, as in `partial(normal, stddev=0.02)`. In
jax.nn.initializers, `zeros` and `ones` are initializers, but `normal()` and `he_normal()` are factories that must be
called first. For the same key the numbers are equal, except for `uniform`.

Weights have shape `[*space, in, out]`: `[in, out]` for dense layers, HWIO for convolutions. The fans are

    fan_in = prod(space) in,    fan_out = prod(space) out

Every leading axis counts as space, so draw stacked weights by `vmap` over keys. Fan-scaled normal distributions are
truncated at two standard deviations and rescaled to the stated variance, as in Keras, flax and jax.nn. The papers and
PyTorch do not truncate: `partial(variance_scaling, scale=2.0, mode="fan_in", distribution="normal")`.

Numbers are drawn in at least float32 and then cast: a bfloat16 weight is the float32 weight of the same key, rounded.
All initializers raise ValueError for a shape or a Python number out of range, and TypeError for a dtype that is not
floating, including `dtype=None`. `key` may be typed or raw. Options are scalars and may be traced.

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


if not TYPE_CHECKING:  # lets type checkers report names that do not exist

    def __getattr__(name):
        raise _elsewhere.missing(__name__, name)
