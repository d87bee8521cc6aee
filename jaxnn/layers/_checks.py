"""Checks of a factory's arguments. Only static values are checked, because a number such as a rate may be traced."""

from collections.abc import Callable
from typing import Any

from jaxnn import _checks as check
from jaxnn import init as initializers
from jaxnn.init._presets import PRESETS


def check_preset(where: str, init: str) -> None:
    """Raises, when the layer is made, unless `init` is the name of a preset of initializations."""
    check.choice(where, "init", init, list(PRESETS))


def drawn_by(init: str, kind: str, fan_in: int, *, heads: int = 1, **given: Any) -> dict[str, Callable]:
    """Initializers of a layer's params: those given, otherwise the preset's."""
    return initializers.preset(init, kind, fan_in, heads=heads) | {
        param: draw for param, draw in given.items() if draw is not None
    }
