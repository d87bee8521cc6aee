"""The default initialization of layers: its name, and what draws a param."""

from collections.abc import Callable
from typing import Any

from jaxnn import _checks as check
from jaxnn import init as initializers
from jaxnn.init._presets import PRESETS


def check_preset(where: str, init: str) -> None:
    """The default initialization of layers: its name, and what draws a param."""
    check.choice(where, "init", init, list(PRESETS))


def drawn_by(init: str, kind: str, fan_in: int, *, heads: int = 1, **given: Any) -> dict[str, Callable]:
    """The default initialization of layers: its name, and what draws a param."""
    return initializers.preset(init, kind, fan_in, heads=heads) | {
        param: draw for param, draw in given.items() if draw is not None
    }
