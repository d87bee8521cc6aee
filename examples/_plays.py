"""Shakespeare's works: where they start, and windows of their text."""

from typing import NamedTuple

import numpy as np

import jaxnn as nn

VALID = "THE HISTORY OF TROILUS AND CRESSIDA"  # settings are chosen on this play; the text before it is for training
TESTS = (
    "TWELFTH NIGHT; OR, WHAT YOU WILL",
    "THE TWO GENTLEMEN OF VERONA",
    "THE WINTER'S TALE",
)  # the last works but one


class Works(NamedTuple):
    """All works, one after another.

    Attributes:
      text: their characters.
      codes: numbers of the characters [n].
      classes: the characters by their numbers.
    """

    text: str
    codes: np.ndarray
    classes: tuple[str, ...]


def works() -> Works:
    """All works of `nn.data.load("shakespeare")`."""
    loaded = nn.data.load("shakespeare")
    codes = loaded.train[0]
    return Works("".join(nn.data.decode(codes, loaded.classes).tolist()), codes, loaded.classes)


def start(text: str, title: str) -> int:
    """The place of the first character of a work."""
    return text.index(f"{title}\n\nby William")


def windows(text: np.ndarray, length: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows [n, length] and the character after each of their characters."""
    places = np.arange(0, len(text) - length, stride)[:, None] + np.arange(length)
    return text[places], text[places + 1]


def second_half(text: np.ndarray, length: int) -> np.ndarray:
    """What follows each character of the second half of overlapping windows: half a window of context or more."""
    return windows(text, length, length // 2)[1][:, length // 2 :]
