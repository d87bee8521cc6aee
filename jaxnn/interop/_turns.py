"""Rearrangements of a weight between the layout of a file and that of a layer, and entries made of them."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np


class Turn(NamedTuple):
    """A rearrangement of an array: reshape to `split`, transpose by `order`, reverse `flip` axes, reshape to `joined`.

    Attributes:
      split: shape of the array in the file, or a finer one with as many elements.
      order: permutation of the axes of `split`.
      joined: shape of the result.
      flip: axes that are reversed, after the permutation.
    """

    split: tuple[int, ...]
    order: tuple[int, ...]
    joined: tuple[int, ...]
    flip: tuple[int, ...] = ()

    @classmethod
    def of(cls, split: tuple[int, ...], order: tuple[int, ...], flip: tuple[int, ...] = ()) -> Turn:
        """A turn without a reshape afterwards."""
        return cls(split, order, tuple(split[i] for i in order), flip)

    @classmethod
    def none(cls, shape: tuple[int, ...], joined: tuple[int, ...] | None = None) -> Turn:
        """A turn that keeps the order of all elements."""
        return cls(shape, tuple(range(len(shape))), shape if joined is None else joined)

    def __call__(self, a: np.ndarray) -> np.ndarray:
        """The array of the file in the layout of the layer."""
        a = a.reshape(self.split).transpose(self.order)
        return np.flip(a, self.flip).reshape(self.joined)

    def back(self, a: np.ndarray) -> np.ndarray:
        """The inverse, of shape `split`."""
        a = np.flip(a.reshape([self.split[i] for i in self.order]), self.flip)
        return a.transpose(np.argsort(self.order))

    def then(self, shape: tuple[int, ...]) -> Turn:
        """The turn with its result in another shape."""
        return self._replace(joined=shape)

    def __str__(self) -> str:
        if self.order == tuple(range(len(self.order))):
            return "" if prod(self.split) == 0 or not self.flip else "reversed"
        return f"transposed {', '.join(map(str, self.order))}" + (", reversed" if self.flip else "")


class Part(NamedTuple):
    """A slice of the last axis of a turned weight, and the place in a param where it belongs.

    Attributes:
      param: path of the param inside the layer.
      size: number of columns of the slice; slices of an entry follow each other.
      start: first column of the place, in the last axis of the param.
      adds: if True, the slice is added to the other weight of the place, as the second bias of PyTorch's LSTM.
    """

    param: str
    size: int
    start: int = 0
    adds: bool = False


class Entry(NamedTuple):
    """A weight of a file and the params that it holds.

    Attributes:
      names: its names inside the layer's, the first of which is written.
      shape: its shape in the file.
      turn: from that shape to the layout of the params.
      parts: parts of the last axis of the result; a weight without axes has one part of size 1.
      also: other shapes that hold the same elements in the same order.
      written: if False, it is read where it occurs, and written only if a rule names it.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    turn: Turn
    parts: tuple[Part, ...]
    also: tuple[tuple[int, ...], ...] = ()
    written: bool = True

    def fits(self, shape: tuple[int, ...]) -> bool:
        """True for the shape in the file, also with other axes of size 1 at its ends."""
        return any(_inner(shape) == _inner(known) for known in (self.shape, *self.also))


def _inner(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without axes of size 1 at its ends."""
    first, last = 0, len(shape)
    while first < last and shape[first] == 1:
        first += 1
    while last > first and shape[last - 1] == 1:
        last -= 1
    return shape[first:last]
