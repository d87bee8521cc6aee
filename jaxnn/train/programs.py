"""Compiled programs, kept for what was used last, and no longer than that lives."""

import weakref
from collections.abc import Callable
from types import FunctionType
from typing import Any


class Programs:
    """What `make` gives for a key of models, trainers, functions and settings; the `size` used last are kept.

    A trainer that is no longer in use is let go, and its programs with it: functions are held by weak references, so
    what is made may hold a key only as the function that `make` is given, to be called while it traces. Unlike
    `functools.lru_cache` and the `static_argnums` of `jax.jit`, which hold what they were called with.

    >>> import jax
    >>> programs = Programs(lambda key: jax.jit(lambda x: x ** key()[0]), size=2)
    >>> programs.of(2)(3), programs.of(2) is programs.of(2)
    (Array(9, dtype=int32, weak_type=True), True)
    """

    def __init__(self, make: Callable[[Callable[[], tuple]], Any], size: int):
        self._make, self._size = make, size
        self._kept: dict[Any, Any] = {}

    def of(self, *key: Any) -> Any:
        """What was made for the key, or is made now."""
        weak = _weak(key, self._forget)
        made = self._kept.pop(weak, None)
        if made is None:
            made = self._make(lambda: _strong(weak))
        self._kept[weak] = made  # the last one now
        for old in list(self._kept)[: -self._size]:
            self._kept.pop(old, None)
        return made

    def _forget(self, gone: weakref.ref) -> None:
        for key in list(self._kept):
            if any(part is gone for part in _parts(key)):
                self._kept.pop(key, None)


def _weak(key: Any, forget: Callable) -> Any:
    if isinstance(key, FunctionType):
        return weakref.ref(key, forget)
    return _rebuilt(key, [_weak(part, forget) for part in key]) if isinstance(key, tuple) else key


def _strong(key: Any) -> Any:
    if isinstance(key, weakref.ref):
        return key()
    return _rebuilt(key, map(_strong, key)) if isinstance(key, tuple) else key


def _parts(key: Any) -> list:
    return [part for inner in key for part in _parts(inner)] if isinstance(key, tuple) else [key]


def _rebuilt(like: tuple, parts: Any) -> tuple:
    return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)
