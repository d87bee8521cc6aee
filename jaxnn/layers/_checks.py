"""Checks of a factory's arguments; of numbers only what is known while tracing, since a rate may be traced."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxnn import init as initializers
from jaxnn._errors import describe, invalid
from jaxnn.init._presets import PRESETS


def check_number(where: str, expected: str, value: Any, fits: Callable[[Any], bool], fix: str = "") -> None:
    """Raises where a Python or NumPy number is out of range, and for what is no number at all; arrays pass."""
    static = isinstance(value, int | float | np.number) or not hasattr(value, "dtype")
    if static and not (isinstance(value, int | float | np.number) and fits(value)):
        raise invalid(where, expected, describe(value), fix)


def check_preset(where: str, init: str) -> None:
    """Raises for what is no library whose initialization is known, when the layer is made."""
    if init not in list(PRESETS):
        raise invalid(where, f"init to be one of {', '.join(PRESETS)}", describe(init))


def drawn_by(init: str, kind: str, fan_in: int, *, heads: int = 1, **given: Any) -> dict[str, Callable]:
    """The initializers of a layer's params: of the preset, or those given."""
    return initializers.preset(init, kind, fan_in, heads=heads) | {
        param: draw for param, draw in given.items() if draw is not None
    }
