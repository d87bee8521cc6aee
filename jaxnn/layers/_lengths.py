"""Lengths of sequences after a kernel has moved over them."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxnn._errors import invalid
from jaxnn._padded import Padded
from jaxnn.ops._conv import ConvPadding
from jaxnn.ops._window import pads, per_axis


def lengths_after(
    where: str,
    kernel_size: Any,
    stride: Any,
    padding: ConvPadding,
    padding_mode: str,
    dilation: Any,
    s: Padded,
) -> Array:
    """Lengths of the result: as for each sequence alone, without its padding."""
    space = s.x.shape[1:-1]
    sizes, strides, dilations = (
        per_axis(where, argument, value, len(space))
        for argument, value in (("kernel_size", kernel_size), ("stride", stride), ("dilation", dilation))
    )
    reach = (sizes[0] - 1) * dilations[0] + 1
    if padding == "same" and strides[0] > 1:
        fix = "The positions of its kernel depend on the padded length. Use padding='causal', 'valid' or numbers."
        raise invalid(where, "stride 1 over time for a Padded with padding='same'", told=f"{strides[0]}", fix=fix)
    before, after = (reach - 1, 0) if padding == "causal" else pads(where, padding, space, sizes, strides, dilations)[0]
    if padding_mode != "constant" and before + after > 0:
        fix = "The border would depend on where each sequence ends."
        raise invalid(where, "padding_mode='constant' over time for a Padded", told=f"{padding_mode!r}", fix=fix)
    lengths = jnp.asarray(s.lengths)
    if padding == "same":
        return lengths
    steps = jnp.maximum((lengths + (before + after - reach)) // strides[0] + 1, 0)
    return jnp.where(lengths > 0, steps, 0)
