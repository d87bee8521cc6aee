"""The errors of the library: where it went wrong, what was expected, what came, and what to do about it."""

from typing import Any

import jax
import numpy as np


class _Located(Exception):
    """An exception with a place; a layer's place grows from the inside out as the error passes `call`."""

    def __init__(self, where: str, message: str):
        super().__init__(where, message)
        self.where = where
        self.message = message
        self.path: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{'/'.join(self.path) or self.where}: {self.message}"


class InvalidValue(_Located, ValueError):
    """A shape, a range, a missing key or a name that does not fit."""


class InvalidType(_Located, TypeError):
    """A dtype or a structure that does not fit."""


def invalid(where: str, expected: str, got: Any, fix: str = "") -> InvalidValue:
    """The error for a wrong shape, range, name or missing key, to be raised: `where: expected ..., got .... fix`."""
    return InvalidValue(where, _message(expected, got, fix))


def wrong_type(where: str, expected: str, got: Any, fix: str = "") -> InvalidType:
    """The error for a wrong dtype or structure, to be raised: `where: expected ..., got .... fix`."""
    return InvalidType(where, _message(expected, got, fix))


def _message(expected: str, got: Any, fix: str) -> str:
    return f"expected {expected}, got {got if isinstance(got, str) else describe(got)}." + (f" {fix}" if fix else "")


def describe(x: Any) -> str:
    """What `x` is, in a few characters: `float32[32, 64]` for arrays and shapes, the Python value for the rest.

    >>> describe(np.zeros((32, 64), np.float32)), describe((np.int32(1), "a"))
    ('float32[32, 64]', "(int32[], 'a')")
    """
    if isinstance(x, jax.ShapeDtypeStruct | jax.Array | np.ndarray | np.generic):
        return f"{x.dtype}[{', '.join(map(str, x.shape))}]"
    if type(x) is tuple:
        return f"({', '.join(map(describe, x))}{',' if len(x) == 1 else ''})"
    if isinstance(x, tuple) and hasattr(x, "_fields") and x._fields != ("init", "apply", "name"):
        return f"{type(x).__name__}({', '.join(f'{k}={describe(v)}' for k, v in zip(x._fields, x, strict=True))})"
    if type(x) is list:
        return f"[{', '.join(map(describe, x))}]"
    if type(x) is dict:
        return "{" + ", ".join(f"{k!r}: {describe(v)}" for k, v in x.items()) + "}"
    if getattr(x, "_fields", ()) == ("init", "apply", "name"):
        return f"the layer {x.name}"
    if callable(x) and hasattr(x, "__name__"):
        return f"the function {x.__name__}"
    return repr(x)
