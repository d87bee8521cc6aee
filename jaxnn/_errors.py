"""Exceptions of the library: the place, the expected value, the value received and the fix."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeGuard

import jax
import numpy as np


class _Located(Exception):
    """An exception with a place. `call` prepends the name of each layer that the exception passes."""

    def __init__(self, where: str, message: str):
        super().__init__(where, message)
        self.where = where
        self.message = message
        self.path: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{'/'.join(self.path) or self.where}: {self.message}"


class InvalidValue(_Located, ValueError):
    """ValueError for a wrong shape, a value out of range, a missing key or an unknown name."""


class InvalidType(_Located, TypeError):
    """TypeError for a wrong kind of value, dtype or structure."""


def invalid(where: str, expected: str, got: Any = None, fix: str = "", *, told: str | None = None) -> InvalidValue:
    """Exception for a wrong shape, range, name or missing key, to be raised: `where: expected ..., got .... fix`.

    Args:
      where: name of the function or layer.
      expected: the expected value, in words.
      got: the value received; the message shows it by `describe`.
      fix: sentence with the correction, or an empty string.
      told: words to show instead of `got`, if no single value explains the error.
    """
    return InvalidValue(where, _message(expected, got, fix, told))


def wrong_type(where: str, expected: str, got: Any = None, fix: str = "", *, told: str | None = None) -> InvalidType:
    """Exception for a wrong kind, dtype or structure, to be raised; arguments as in `invalid`."""
    return InvalidType(where, _message(expected, got, fix, told))


def _message(expected: str, got: Any, fix: str, told: str | None) -> str:
    return f"expected {expected}, got {describe(got) if told is None else told}." + (f" {fix}" if fix else "")


ROOM = 200  # characters of a value in a message, about
SHOWN = 5  # entries of a row that are shown whatever room they take, but for rows inside of rows


def describe(x: Any, room: int = ROOM) -> str:
    """Description of `x` in about `room` characters: `float32[32, 64]` for arrays and shapes, else the Python value.

    >>> describe(np.zeros((32, 64), np.float32)), describe((np.int32(1), "a"))
    ('float32[32, 64]', "(int32[], 'a')")
    >>> describe(list(range(10**6)), room=20)
    '[0, 1, 2, 3, 4, 5, 6, ... 999993 more]'
    """
    if isinstance(x, jax.ShapeDtypeStruct | jax.Array | np.ndarray | np.generic):
        return f"{x.dtype}[{', '.join(map(str, x.shape))}]"
    if is_layer(x):
        return f"the layer {x.name}"
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return _record(x, room)
    if type(x) is tuple:
        return f"({_row(((None, v) for v in x), len(x), room)}{',' if len(x) == 1 else ''})"
    if type(x) is list:
        return f"[{_row(((None, v) for v in x), len(x), room)}]"
    if type(x) is dict:
        return "{" + _row(((f"{k!r}: ", v) for k, v in x.items()), len(x), room) + "}"
    if callable(x) and hasattr(x, "__name__"):
        return f"the {'class' if isinstance(x, type) else 'function'} {x.__name__}"
    if isinstance(getattr(x, "shape", None), tuple):  # an array of another library, whose repr shows the numbers
        dtype = str(getattr(x, "dtype", "")).removeprefix("torch.")
        library = type(x).__module__.partition(".")[0]
        return f"{library}.{type(x).__name__} {dtype}[{', '.join(map(str, x.shape))}]".replace(" [", "[")
    if isinstance(x, str | bytes) and len(x) > room:
        return f"{x[:room]!r}... of {len(x)} characters"
    if isinstance(x, Iterator):
        return f"the {type(x).__name__} {getattr(x, '__name__', '')}".rstrip()
    text = re.sub(r" at 0x[0-9A-Fa-f]+", "", " ".join(repr(x).split()))
    return text if len(text) <= room else f"{text[:room]}..."


def is_layer(x: Any) -> bool:
    """True for a `Layer`, which is callable only to raise an error that explains its use."""
    return getattr(x, "_fields", ())[:3] == ("init", "apply", "name")


def is_function(x: Any) -> TypeGuard[Callable[..., Any]]:
    """True for callables other than a `Layer`."""
    return callable(x) and not is_layer(x)


def _record(x: Any, room: int) -> str:
    """Description of a named tuple: its fields; of a tuple of functions, its class; of an optimizer, its call."""
    kind = type(x).__name__
    if x._fields == ("init", "update"):
        known = "object at 0x" not in (text := repr(x)) and not text.startswith(f"{kind}(init=")
        return f"the optimizer {text}" if known else "an optax.GradientTransformation"
    if x and all(map(callable, x)):
        return f"a {kind}"
    return f"{kind}({_row(((f'{k}=', v) for k, v in zip(x._fields, x, strict=True)), len(x), room)})"


def _row(items: Iterable[tuple[str | None, Any]], n: int, room: int) -> str:
    """Labelled items separated by commas, as many as fit in `room` characters, and the number of the others."""
    texts: list[str] = []
    least = SHOWN if room > ROOM // 2 else 1
    for label, value in items:
        text = (label or "") + describe(value, max(20, room // (n - len(texts))))
        if len(texts) >= least and len(text) > room:
            return ", ".join([*texts, f"... {n - len(texts)} more"])
        texts.append(text)
        room -= len(text) + 2
    return ", ".join(texts)
