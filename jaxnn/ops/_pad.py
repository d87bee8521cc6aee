"""Padding of space axes with zeros, reflections, copies of the edge, or periodically."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import jax.numpy as jnp
from jax import Array, lax
from jax.export import is_symbolic_dim

from jaxnn import _checks as check
from jaxnn._errors import invalid
from jaxnn._inputs import known
from jaxnn.ops._window import check_padding, sides_of

PaddingMode = Literal["constant", "reflect", "replicate", "circular"]
MODES = ("constant", "reflect", "replicate", "circular")


def pad(
    x: Array,
    padding: int | Sequence[int | tuple[int, int]],
    *,
    mode: PaddingMode = "constant",
    value: float | Array = 0.0,
) -> Array:
    """Pads the space axes of images or sequences, [n, *space, c] -> [n, *space', c].

        constant   v v | a b c | v v        reflect   c b | a b c | b a
        replicate  a a | a b c | c c        circular  b c | a b c | a b

    Args:
      x: images or sequences of any dtype, with at least one space axis.
      padding: number of positions added on both sides, an integer >= 0; or an integer or (before, after) for each
        space axis.
      mode: "constant"; "reflect", in which the edge is not repeated, for less padding than positions; "replicate";
        "circular", for at most as much padding as positions.
      value: of the constant; may be traced.

    Raises:
      ValueError: if `padding` or `mode` is not valid, an axis is too short for the mode, or `value` is given for
        another mode.

    Differences: PyTorch's pad lists the axes from the last to the first, and calls a constant of 0 "zeros" in
    convolutions; NumPy's names are "edge" for "replicate" and "wrap" for "circular".

    >>> pad(jnp.arange(3.0).reshape(1, 3, 1), 2, mode="reflect")[0, :, 0].tolist()
    [2.0, 1.0, 0.0, 1.0, 2.0, 1.0, 0.0]
    """
    if not hasattr(x, "dtype") or x.ndim < 3:
        raise invalid("pad", "x of shape [n, *space, c]", x)
    rank = x.ndim - 2
    check_padding("pad", padding, rank, names=())
    check_mode("pad", "mode", mode)
    check.scalar("pad", "value", value, -math.inf, ends="[]", nan=True)
    if mode != "constant" and not (known(value) and value == 0):
        raise invalid("pad", "value= with mode='constant' alone", told=f"mode={mode!r}")
    return padded(jnp.asarray(x), sides_of(padding, rank), mode, value)


def check_mode(where: str, argument: str, mode: Any) -> None:
    """Raises for an unknown mode of padding."""
    check.choice(where, argument, mode, MODES, "'constant' pads with zeros." if mode == "zeros" else "")


def padded(
    x: Array, sides: Sequence[tuple[int, int]], mode: str, value: float | Array = 0, *, where: str = "pad"
) -> Array:
    """x [n, *space, c] with (before, after) positions added to each space axis."""
    if mode == "constant":
        around = [(0, 0, 0), *((before, after, 0) for before, after in sides), (0, 0, 0)]
        return lax.pad(x, jnp.asarray(value, x.dtype), around)
    for axis, (before, after) in enumerate(sides, start=1):
        if before or after:
            x = _extended(x, axis, before, after, mode, where)
    return x


def _extended(x: Array, axis: int, before: int, after: int, mode: str, where: str) -> Array:
    n = x.shape[axis]
    if is_symbolic_dim(before) or is_symbolic_dim(after):
        fix = "Pass padding in numbers, or use stride 1."
        raise invalid(
            where, f"padding that does not depend on a free size to pad by {mode!r}", told=f"{before}", fix=fix
        )
    edge = mode == "reflect"  # number of positions next to the border that are not repeated
    least = max(before, after) + edge if mode != "replicate" else 1
    if not is_symbolic_dim(n) and n < least:
        raise invalid(where, f"at least {least} positions on each space axis to pad by {mode!r}", x)

    def cut(start: Any, stop: Any) -> Array:
        return lax.slice_in_dim(x, start, stop, axis=axis)

    if mode == "circular":
        sides = cut(n - before, n), cut(0, after)
    elif mode == "reflect":
        sides = lax.rev(cut(1, 1 + before), (axis,)), lax.rev(cut(n - 1 - after, n - 1), (axis,))
    else:
        sides = jnp.repeat(cut(0, 1), before, axis), jnp.repeat(cut(n - 1, n), after, axis)
    return lax.concatenate([sides[0], x, sides[1]], axis)
