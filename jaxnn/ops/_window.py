"""Helpers of convolution and pooling: one size per space axis, padding by name, and slices for each kernel element."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, Literal

from jax import Array, lax
from jax.core import max_dim
from jax.export import is_symbolic_dim

from jaxnn._errors import invalid, wrong_type
from jaxnn._inputs import whole
from jaxnn.types import Arrays

Padding = Literal["same", "valid"] | int | Sequence[int | tuple[int, int]]


def per_axis(where: str, argument: str, value: Any, rank: int | None, least: int = 1) -> tuple[int, ...]:
    """An integer for each of `rank` space axes, from one integer for all or one for each."""
    several = isinstance(value, Sequence) and not isinstance(value, str)
    values = tuple(value) if several else (value,) * (rank or 1)
    found = [n for v in values if (n := whole(v)) is not None]
    some = "one for each space axis" if rank is None else f"{rank} of them"
    expected = f"{argument} to be an integer >= {least}, or {some}"
    if len(found) < len(values):
        raise wrong_type(where, expected, value)
    fits = len(values) == rank or (rank is None and 1 <= len(values) <= 3)
    if not fits or min(found) < least:
        axes = "1 space axis" if rank == 1 else f"{rank} space axes"
        fix = f"x is [n, *space, c] with {axes}; images of one channel need its axis, x[..., None]."
        raise invalid(where, expected, value, fix if rank is not None and len(values) > rank else "")
    return tuple(found)


def pads(
    where: str,
    padding: Padding,
    size: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> tuple[tuple[int, int], ...]:
    """Padding (before, after) for each space axis; "same" as in TensorFlow, with ceil(size / stride) outputs.

    With "same", an odd total puts the extra position behind. An axis of size 0 stays 0 if the padding keeps the size.
    Sizes may be symbolic (`jax.export`): then it is not checked that the kernel fits, and kernel positions that do not
    fit give no output.
    """
    check_padding(where, padding, len(size))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel_size, dilation, strict=True)]
    if padding == "valid":
        explicit = [(0, 0)] * len(size)
    elif padding == "same":
        total = [max_dim((-(-n // s) - 1) * s + k - n, 0) for n, s, k in zip(size, stride, reach, strict=True)]
        explicit = [(p // 2, p - p // 2) for p in total]
    else:
        explicit = sides_of(padding, len(size))
    for n, k, (before, after) in zip(size, reach, explicit, strict=True):
        if padding != "same" and not is_symbolic_dim(n) and n + before + after < (k if n else k - 1):
            raise invalid(
                where,
                f"a kernel_size that fits in x, {k} steps long",
                told=f"{n + before + after} steps, padding included",
                fix="Use padding='same', a smaller kernel_size or a smaller dilation.",
            )
    return tuple(explicit)


def sides_of(padding: Any, rank: int) -> list[tuple[int, int]]:
    """(before, after) for each of `rank` axes, of a valid padding in numbers."""
    return [_sides(p) for p in ((padding,) * rank if _whole(padding, 0) else padding)]


def check_padding(
    where: str, padding: Any, rank: int | None = None, names: tuple[str, ...] = ("same", "valid")
) -> None:
    """Raises unless `padding` is valid for `rank` space axes, or for any number of axes if `rank` is None."""
    if padding in names if isinstance(padding, str) else _whole(padding, 0):
        return
    some = "one of them or of pairs for each space axis" if rank is None else f"{rank} of them or of pairs"
    expected = f"padding to be {', '.join([*map(repr, names), 'an integer >= 0'])}, or {some}"
    if isinstance(padding, str):
        fix = f"Write padding={padding.lower()!r}." if padding.lower() in names else ""
        raise invalid(where, expected, padding, fix)
    numbers = [n for p in (padding if isinstance(padding, Sequence) else [padding]) for n in _flat(p)]
    if any(whole(n) is None for n in numbers):
        raise wrong_type(where, expected, padding)
    pairs = isinstance(padding, Sequence) and all(map(_sides, padding))
    if not pairs or not padding or (rank is not None and len(padding) != rank):
        raise invalid(where, expected, padding)


def _flat(p: Arrays) -> Sequence[Any]:
    return p if isinstance(p, Sequence) and not isinstance(p, str) else (p,)


def check_sizes(where: str, **sizes: Any) -> None:
    """Raises for a kernel size, stride or dilation that fits no x: each is an integer >= 1, or 1 to 3 of them."""
    for argument, value in sizes.items():
        per_axis(where, argument, value, None)


def taps(x: Array, kernel_size: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> list[Array]:
    """Slices of a padded x, one for each kernel element in row-major order, each one strided slice [n, *space', c]."""
    starts = [
        n - (k - 1) * d for n, k, d in zip(x.shape[1:-1], kernel_size, dilation, strict=True)
    ]  # of kernels that fit

    def at(tap: tuple[int, ...]) -> Array:
        start = [t * d for t, d in zip(tap, dilation, strict=True)]
        stop = [t + n for t, n in zip(start, starts, strict=True)]
        return lax.slice(x, (0, *start, 0), (x.shape[0], *stop, x.shape[-1]), (1, *stride, 1))

    return [at(tap) for tap in product(*map(range, kernel_size))]


def _sides(p: Arrays) -> Any:
    pair = (p, p) if _whole(p, 0) else p
    fits = isinstance(pair, Sequence) and len(pair) == 2 and all(_whole(v, 0) for v in pair)
    return tuple(map(int, pair)) if fits else None


def _whole(v: Any, least: int) -> bool:
    n = whole(v)
    return n is not None and n >= least
