"""Checks of the distributions: parameters as floating arrays of equal shapes, keys, shapes of samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._dtypes import widened
from jaxnn._errors import describe, invalid, wrong_type
from jaxnn._inputs import whole
from jaxnn.types import Key


def logits_of(name: str, argument: str, logits: ArrayLike) -> Array:
    """Logits [..., k] in their own dtype; raises for another shape or dtype."""
    x = check.array_like(name, argument, logits)
    if not x.ndim or not x.shape[-1]:
        raise invalid(name, f"{argument} of shape [..., k] with k >= 1", x, "The last axis holds the classes.")
    return x


def class_of(name: str, value: ArrayLike, logits: Array) -> ArrayLike:
    """Class numbers [...] for logits [..., k]; raises for another shape or dtype."""
    check.kind(name, "value", value, "integer", "Values are class numbers, 0 to k - 1.")
    check.shape(name, "value", value, logits.shape[:-1], f" for logits {describe(logits)}")
    return value


def alike(name: str, **given: ArrayLike) -> list[Array]:
    """Floating arrays of equal shape, in the dtype of the first, at least float32."""
    arrays = [check.array_like(name, argument, x) for argument, x in given.items()]
    arguments = list(given)
    for argument, x in zip(arguments[1:], arrays[1:], strict=True):
        check.same_shape(name, arguments[0], arrays[0], argument, x)
    dtype = widened(arrays[0]).dtype
    return [x.astype(dtype) for x in arrays]


def drawn(name: str, key: Key, shape: Sequence[int]) -> tuple[Any, tuple[int, ...]]:
    """A typed key, and the leading axes of a sample; raises for a batch of keys."""
    check.key(name, key, f"{name}(key, ...)", one=True)
    sizes = [whole(n) for n in shape] if isinstance(shape, tuple | list) else [None]
    if any(n is None for n in sizes):
        raise wrong_type(name, "shape to be a tuple of integers", shape, "Pass (n,) for n samples.")
    counts = tuple(n for n in sizes if n is not None)
    if min(counts, default=0) < 0:
        raise invalid(name, "shape without negative axes", shape)
    return check.typed_key(name, key), counts
