"""Optimizer state in 8 bits, a quarter of its memory."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._elementwise import Optimizer
from jaxnn._errors import invalid, wrong_type
from jaxnn.types import Arrays, OptState

LEVELS = 127  # codes per sign
STRIDES = np.uint32(2654435769), np.uint32(2246822519)  # 2^32 / golden ratio, and another odd number far from it


@recorded
def quantized(
    optimizer: optax.GradientTransformation, *, block: int = 256, min_size: int = 4096
) -> optax.GradientTransformationExtraArgs:
    """The optimizer with moments stored in 8 bits, [...] -> [...]: decoded before each update, encoded after it.

        x = s sign(c) (|c| / 127)⁴,   c int8, s the largest |x| of a block

    The fourth power spreads 127 levels over eight decades; the largest two are 3 % apart. A value between two levels is
    rounded to either, over the steps in proportion to its distance: rounded to nearest, a moment that changes by a
    thousandth per step would never leave its level. Only 0 is rounded to 0, since updates divide by second moments.

    Args:
      optimizer: an optimizer whose state consists of moments. Wrap `compensated` around `quantized`, not the reverse:
        its remainders are not moments.
      block: number of elements, in memory order, that share a scale, >= 1; a scale takes 4 / block bytes per element.
      min_size: arrays with fewer elements are not encoded, >= 1.

    Returns: an optimizer with the state `inner`, the optimizer's with int8 codes for arrays of 32 bits or fewer;
      `scale`, [blocks], of all leaves in order; and `step`. Complex and float64 moments are not encoded. An infinite or
      NaN element makes its block NaN.

    Raises: TypeError for something that is not an optimizer; ValueError for a block or min_size below 1, and from
      `init` for an optimizer that has int8 arrays in its state.

    Differences: bitsandbytes uses a table of levels, blocks of 2048 and rounding to nearest; it leaves out arrays below
      4096 elements, too.

    Reference: Dettmers, Lewis, Shleifer, Zettlemoyer, 8-bit optimizers via block-wise quantization, 2022.

    >>> import jaxnn as nn
    >>> params = jnp.ones((64, 64))
    >>> nbytes = lambda opt: sum(x.nbytes for x in jax.tree.leaves(opt.init(params)))
    >>> nbytes(nn.adam(1e-3)), nbytes(quantized(nn.adam(1e-3)))
    (32772, 8328)
    """
    if not isinstance(optimizer, optax.GradientTransformation):
        raise wrong_type("quantized", "an optax.GradientTransformation", optimizer)
    block = check.count("quantized", "block", block)
    min_size = check.count("quantized", "min_size", min_size)
    inner = optax.with_extra_args_support(optimizer)

    def encoded(state: OptState, step: Array) -> dict[str, Any]:
        structure: Any
        leaves, structure = jax.tree.flatten(state)
        scales = [jnp.zeros((0,), jnp.float32)]
        for i, x in enumerate(leaves):
            if x.dtype == jnp.int8:
                fix = "Its own int8 arrays could not be told from codes."
                raise invalid("quantized", "an optimizer without int8 arrays in its state", x, fix)
            if _stored(x, min_size):
                leaves[i], scale = _encode(x, block, step + _turned(i))
                scales.append(scale)
        return {"inner": structure.unflatten(leaves), "scale": jnp.concatenate(scales), "step": step}

    def decoded(state: OptState) -> Arrays:
        structure: Any
        leaves, structure = jax.tree.flatten(state["inner"])
        start = 0
        for i, x in enumerate(leaves):
            if x.dtype == jnp.int8:
                blocks = -(-x.size // block)
                leaves[i] = _decode(x, state["scale"][start : start + blocks], block)
                start += blocks
        return structure.unflatten(leaves)

    def init(params: Arrays) -> dict[str, Any]:
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            return encoded(inner.init(params), jnp.zeros((), jnp.uint32))

    def update(updates: Arrays, state: OptState, params: Arrays = None, **extra: Any) -> tuple[Any, dict[str, Any]]:
        with jax.numpy_dtype_promotion("standard"):
            changes, after = inner.update(updates, decoded(state), params, **extra)
        return changes, encoded(after, state["step"] + np.uint32(1))

    return Optimizer(init, update)


def _turned(i: int) -> np.uint32:
    """The first threshold of leaf i, which differs between leaves so that equal leaves are not rounded equally."""
    return np.uint32(i * int(STRIDES[1]) % 2**32)


def _stored(x: Arrays, min_size: int) -> bool:
    """True if an array of the state is stored in 8 bits."""
    return jnp.issubdtype(x.dtype, jnp.floating) and jnp.finfo(x.dtype).bits <= 32 and x.size >= min_size


def _in_blocks(x: Array, block: int) -> Array:
    """[...] -> [blocks, block], padded with zeros at the end."""
    x = x.reshape(-1)
    return jnp.pad(x, (0, -x.size % block)).reshape(-1, block)


def _encode(x: Array, block: int, step: Array) -> tuple[Array, Array]:
    """[...] -> codes [...], int8, and scales [blocks]."""
    rows = _in_blocks(x.astype(jnp.float32), block)
    scale = jnp.max(jnp.abs(rows), axis=1)
    scale = jnp.where(jnp.isfinite(scale), scale, jnp.nan)
    fraction = jnp.abs(rows) / jnp.where(scale == 0, 1.0, scale)[:, None]
    low = jnp.minimum(jnp.floor(jnp.sqrt(jnp.sqrt(fraction)) * LEVELS), LEVELS - 1)
    below, above = (low / LEVELS) ** 4, ((low + 1) / LEVELS) ** 4
    up = (fraction - below) / (above - below) > _dither(rows.size, step).reshape(rows.shape)
    code = jnp.maximum(low + up.astype(low.dtype), (rows != 0).astype(low.dtype)) * jnp.sign(rows)
    return code.astype(jnp.int8).reshape(-1)[: x.size].reshape(x.shape), scale


def _decode(code: Array, scale: Array, block: int) -> Array:
    """The inverse of `_encode`, up to rounding, float32."""
    y = _in_blocks(code, block).astype(jnp.float32) / LEVELS
    size = jnp.maximum(y**4 * scale[:, None], jnp.finfo(jnp.float32).tiny)
    return (jnp.sign(y) * size).reshape(-1)[: code.size].reshape(code.shape)


def _dither(n: int, step: Array) -> Array:
    """Thresholds in [0, 1), [n], deterministic: over the steps, those of an element are evenly distributed."""
    turn = jnp.arange(n, dtype=jnp.uint32) * STRIDES[1] + step * STRIDES[0]
    return (turn >> 8).astype(jnp.float32) * 2.0**-24
