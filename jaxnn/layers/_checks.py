"""Checks of a factory's arguments; of numbers only what is known while tracing, since a rate may be traced."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxnn._errors import describe, invalid


def check_number(where: str, expected: str, value: Any, fits: Callable[[Any], bool], fix: str = "") -> None:
    """Raises where a Python or NumPy number is out of range, and for what is no number at all; arrays pass."""
    static = isinstance(value, int | float | np.number) or not hasattr(value, "dtype")
    if static and not (isinstance(value, int | float | np.number) and fits(value)):
        raise invalid(where, expected, describe(value), fix)
