"""Which values of a sweep the fast tier takes, where each compiles a whole run once more."""

import pytest


def only(fast, values):
    """The `values` for parametrize, all but those in `fast` marked slow."""
    return [value if value in fast else pytest.param(value, marks=pytest.mark.slow) for value in values]
