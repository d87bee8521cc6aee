"""Moments of 8 bits: a quarter of the memory of an optimizer's state."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxnn._calls import recorded
from jaxnn._elementwise import Optimizer
from jaxnn._errors import invalid, wrong_type
from jaxnn._inputs import check_count

LEVELS = 127  # of a sign
STRIDES = np.uint32(2654435769), np.uint32(2246822519)  # 2^32 / golden ratio, and another odd number far from it


@recorded
def quantized(
    optimizer: optax.GradientTransformation, *, block: int = 256, min_size: int = 4096
) -> optax.GradientTransformationExtraArgs:
    """The optimizer with its moments stored in 8 bits, [...] -> [...], decoded for each update and encoded after it.

        x = s sign(c) (|c| / 127)⁴,   c of int8, s the largest |x| of a block

    The fourth power spreads 127 levels over eight decades, three percent apart at the largest. A value between two
    levels is one of them, each in proportion over the steps, as a moment that moves by a thousandth of itself would
    else never leave its level; and none becomes 0 that is not, since a second moment of 0 divides.

    Args:
      optimizer: any whose state is moments. Put `compensated` around it, not within: what it keeps is no moment.
      block: elements, in the order of memory, that share a scale, >= 1; it takes 4 / block bytes an element.
      min_size: smaller arrays stay as they are, as their moments cost little.

    State: `inner`, the optimizer's, with int8 codes in place of its arrays of 32 bits or fewer; `scale`, [blocks], all
    scales in the order of the leaves; `step`. Complex and float64 moments stay as they are. An infinite or NaN element
    makes its block NaN.

    Raises TypeError for what is no optimizer, ValueError for a block or a size below 1.

    bitsandbytes has a table of levels, blocks of 2048, rounds to the nearest, and leaves arrays below 4096 as well.

    Dettmers, Lewis, Shleifer, Zettlemoyer, 8-bit optimizers via block-wise quantization, 2022.

    >>> import jaxnn as nn
    >>> params = jnp.ones((64, 64))
    >>> nbytes = lambda opt: sum(x.nbytes for x in jax.tree.leaves(opt.init(params)))
    >>> nbytes(nn.adam(1e-3)), nbytes(quantized(nn.adam(1e-3)))
    (32772, 8328)
    """
    if not isinstance(optimizer, optax.GradientTransformation):
        raise wrong_type("quantized", "an optax.GradientTransformation", optimizer)
    block = check_count("quantized", "block", block)
    min_size = check_count("quantized", "min_size", min_size)
    inner = optax.with_extra_args_support(optimizer)

    def encoded(state: Any, step: Array) -> dict[str, Any]:
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

    def decoded(state: dict[str, Any]) -> Any:
        structure: Any
        leaves, structure = jax.tree.flatten(state["inner"])
        start = 0
        for i, x in enumerate(leaves):
            if x.dtype == jnp.int8:
                blocks = -(-x.size // block)
                leaves[i] = _decode(x, state["scale"][start : start + blocks], block)
                start += blocks
        return structure.unflatten(leaves)

    def init(params: Any) -> dict[str, Any]:
        with jax.numpy_dtype_promotion("standard"):  # the optimizer within may be optax's
            return encoded(inner.init(params), jnp.zeros((), jnp.uint32))

    def update(updates: Any, state: dict[str, Any], params: Any = None, **extra: Any) -> tuple[Any, dict[str, Any]]:
        with jax.numpy_dtype_promotion("standard"):
            changes, after = inner.update(updates, decoded(state), params, **extra)
        return changes, encoded(after, state["step"] + np.uint32(1))

    return Optimizer(init, update)


def _turned(i: int) -> np.uint32:
    """Where the thresholds of leaf i begin, so that equal leaves are not rounded alike."""
    return np.uint32(i * int(STRIDES[1]) % 2**32)


def _stored(x: Any, min_size: int) -> bool:
    """Whether an array of the state is stored in 8 bits."""
    return jnp.issubdtype(x.dtype, jnp.floating) and jnp.finfo(x.dtype).bits <= 32 and x.size >= min_size


def _in_blocks(x: Array, block: int) -> Array:
    """[...] -> [blocks, block], with zeros at the end."""
    x = x.reshape(-1)
    return jnp.pad(x, (0, -x.size % block)).reshape(-1, block)


def _encode(x: Array, block: int, step: Array) -> tuple[Array, Array]:
    """[...] -> codes [...], int8, and scales [blocks]."""
    rows = _in_blocks(x.astype(jnp.float32), block)
    scale = jnp.max(jnp.abs(rows), axis=1)
    scale = jnp.where(jnp.isfinite(scale), scale, jnp.nan)
    share = jnp.abs(rows) / jnp.where(scale == 0, 1.0, scale)[:, None]
    low = jnp.minimum(jnp.floor(jnp.sqrt(jnp.sqrt(share)) * LEVELS), LEVELS - 1)
    below, above = (low / LEVELS) ** 4, ((low + 1) / LEVELS) ** 4
    up = (share - below) / (above - below) > _dither(rows.size, step).reshape(rows.shape)
    code = jnp.maximum(low + up.astype(low.dtype), (rows != 0).astype(low.dtype)) * jnp.sign(rows)
    return code.astype(jnp.int8).reshape(-1)[: x.size].reshape(x.shape), scale


def _decode(code: Array, scale: Array, block: int) -> Array:
    """What `_encode` stored, float32."""
    y = _in_blocks(code, block).astype(jnp.float32) / LEVELS
    size = jnp.maximum(y**4 * scale[:, None], jnp.finfo(jnp.float32).tiny)
    return (jnp.sign(y) * size).reshape(-1)[: code.size].reshape(code.shape)


def _dither(n: int, step: Array) -> Array:
    """Thresholds in [0, 1), [n]: those of an element run through the interval evenly over the steps, without chance."""
    turn = jnp.arange(n, dtype=jnp.uint32) * STRIDES[1] + step * STRIDES[0]
    return (turn >> 8).astype(jnp.float32) * 2.0**-24
