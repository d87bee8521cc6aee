"""Helpers of convolution and pooling: one size per space axis, padding by name, and slices for each kernel element."""

from collections.abc import Sequence
from itertools import product
from typing import Any, Literal

from jax import Array, lax
from jax.core import max_dim
from jax.export import is_symbolic_dim

from jaxnn._errors import describe, invalid
from jaxnn._inputs import whole

Padding = Literal["same", "valid"] | int | Sequence[int | tuple[int, int]]


def per_axis(where: str, argument: str, value: Any, rank: int, least: int = 1) -> tuple[int, ...]:
    """An integer for each of `rank` space axes, from one integer for all or one for each."""
    values = (value,) * rank if _whole(value, least) else value
    if not (isinstance(values, Sequence) and len(values) == rank and all(_whole(v, least) for v in values)):
        more = isinstance(values, Sequence) and not isinstance(values, str) and len(values) > rank
        axes = "1 space axis" if rank == 1 else f"{rank} space axes"
        fix = f"x is [n, *space, c] with {axes}; images of one channel need its axis, x[..., None]." if more else ""
        expected = f"{argument} to be a whole number >= {least}, or {rank} of them"
        raise invalid(where, expected, describe(value), fix)
    return tuple(int(v) for v in values)


def pads(
    where: str,
    padding: Padding,
    size: Sequence[int],
    window: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> tuple[tuple[int, int], ...]:
    """Padding (before, after) for each space axis; "same" as in TensorFlow, with ceil(size / stride) outputs.

    With "same", an odd total puts the extra position behind. An axis of size 0 stays 0 if the padding keeps the size.
    Sizes may be symbolic (`jax.export`): then it is not checked that the kernel fits, and kernel positions that do not
    fit give no output.
    """
    check_padding(where, padding, len(size))
    reach = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
    if padding == "valid":
        explicit = [(0, 0)] * len(size)
    elif padding == "same":
        total = [max_dim((-(-n // s) - 1) * s + k - n, 0) for n, s, k in zip(size, stride, reach, strict=True)]
        explicit = [(p // 2, p - p // 2) for p in total]
    else:
        each = (padding,) * len(size) if _whole(padding, 0) else padding
        explicit = [_sides(p) for p in each]  # type: ignore[union-attr]
    for n, k, (before, after) in zip(size, reach, explicit, strict=True):
        if padding != "same" and not is_symbolic_dim(n) and n + before + after < (k if n else k - 1):
            raise invalid(
                where,
                f"a window that fits in x, {k} steps long",
                f"{n + before + after} steps, padding included",
                "Use padding='same', a smaller window or a smaller dilation.",
            )
    return tuple(explicit)


def check_padding(
    where: str, padding: Any, rank: int | None = None, names: tuple[str, ...] = ("same", "valid")
) -> None:
    """Raises unless `padding` is valid for `rank` space axes, or for any number of axes if `rank` is None."""
    if padding in names if isinstance(padding, str) else _whole(padding, 0):
        return
    pairs = isinstance(padding, Sequence) and not isinstance(padding, str) and all(map(_sides, padding))
    if not pairs or not padding or (rank is not None and len(padding) != rank):
        some = "one of them or of pairs for each space axis" if rank is None else f"{rank} of them or of pairs"
        expected = f"padding to be {', '.join(map(repr, names))}, a whole number >= 0, or {some}"
        fix = f"Write padding={padding.lower()!r}." if isinstance(padding, str) and padding.lower() in names else ""
        raise invalid(where, expected, describe(padding), fix)


def check_sizes(where: str, **sizes: Any) -> None:
    """Raises for a kernel size, stride or dilation that fits no x: each is an integer >= 1, or 1 to 3 of them."""
    for argument, value in sizes.items():
        rank = len(value) if isinstance(value, Sequence) and 1 <= len(value) <= 3 else 0
        if not (_whole(value, 1) or (rank and not isinstance(value, str) and all(_whole(v, 1) for v in value))):
            raise invalid(where, f"{argument} to be a whole number >= 1, or one for each space axis", describe(value))


def taps(x: Array, window: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> list[Array]:
    """Slices of a padded x, one for each kernel element in row-major order, each one strided slice [n, *space', c]."""
    starts = [n - (k - 1) * d for n, k, d in zip(x.shape[1:-1], window, dilation, strict=True)]  # of kernels that fit

    def at(tap: tuple[int, ...]) -> Array:
        start = [t * d for t, d in zip(tap, dilation, strict=True)]
        stop = [t + n for t, n in zip(start, starts, strict=True)]
        return lax.slice(x, (0, *start, 0), (x.shape[0], *stop, x.shape[-1]), (1, *stride, 1))

    return [at(tap) for tap in product(*map(range, window))]


def _sides(p: Any) -> Any:
    pair = (p, p) if _whole(p, 0) else p
    fits = isinstance(pair, Sequence) and len(pair) == 2 and all(_whole(v, 0) for v in pair)
    return tuple(map(int, pair)) if fits else None


def _whole(v: Any, least: int) -> bool:
    n = whole(v)
    return n is not None and n >= least
