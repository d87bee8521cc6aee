"""Checks of a factory's arguments. Only static values are checked, because a number such as a rate may be traced."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnn import init as initializers
from jaxnn._errors import describe, invalid
from jaxnn.init._presets import PRESETS


def check_number(where: str, expected: str, value: Any, fits: Callable[[Any], bool], fix: str = "") -> None:
    """Raises for a Python or NumPy number that is out of range or non-finite, and for non-numbers.

    Arrays of real numbers pass, because their values may be traced.
    """
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool | np.complexfloating)
    if number or not hasattr(value, "dtype"):
        good = number and np.isfinite(value) and fits(value)
    else:
        good = jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)
    if not good:
        raise invalid(where, expected, describe(value), fix)


def check_preset(where: str, init: str) -> None:
    """Raises, when the layer is made, unless `init` is the name of a preset of initializations."""
    if init not in list(PRESETS):
        raise invalid(where, f"init to be one of {', '.join(PRESETS)}", describe(init))


def drawn_by(init: str, kind: str, fan_in: int, *, heads: int = 1, **given: Any) -> dict[str, Callable]:
    """Initializers of a layer's params: those given, otherwise the preset's."""
    return initializers.preset(init, kind, fan_in, heads=heads) | {
        param: draw for param, draw in given.items() if draw is not None
    }
