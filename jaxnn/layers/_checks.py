"""Checks of a factory's arguments. Only static values are checked, because a number such as a rate may be traced."""

from collections.abc import Callable
from typing import Any

from jaxnn import _checks as check
from jaxnn import init as initializers
from jaxnn.init._presets import PRESETS


def check_preset(where: str, preset: str) -> None:
    """Raises, when the layer is made, unless `preset` is the name of one."""
    check.choice(where, "preset", preset, list(PRESETS))


def drawn_by(preset: str, kind: str, fan_in: int, *, heads: int = 1, **given: Any) -> dict[str, Callable]:
    """Initializers of a layer's params: those given, otherwise the preset's."""
    return initializers.preset(preset, kind, fan_in, heads=heads) | {
        param: draw for param, draw in given.items() if draw is not None
    }
