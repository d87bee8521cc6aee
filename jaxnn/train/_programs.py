"""Keys of compiled programs: a cache that holds them weakly, and models that are equal by their calls."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable
from types import FunctionType
from typing import Any

from jaxnn._layer import Layer


class Programs:
    """Cache of `make(key)` for keys of models, trainers, functions and settings; keeps the `size` most recently used.

    Functions in a key are held by weak references: when a trainer is no longer in use, it is freed together with its
    programs. Objects that cannot be hashed, such as a loss that is a dataclass, are compared by identity. A made value
    must therefore hold its key only through the function passed to `make`, and call it while it traces. In contrast,
    `functools.lru_cache` and the `static_argnums` of `jax.jit` keep their arguments alive.

    >>> import jax
    >>> programs = Programs(lambda key: jax.jit(lambda x: x ** key()[0]), size=2)
    >>> programs.of(2)(3), programs.of(2) is programs.of(2)
    (Array(9, dtype=int32, weak_type=True), True)
    """

    def __init__(self, make: Callable[[Callable[[], tuple[Any, ...]]], Any], size: int):
        self._make, self._size = make, size
        self._kept: dict[Any, Any] = {}
        atexit.register(self._kept.clear)  # while the functions that `_forget` calls still exist

    def of(self, *key: Any) -> Any:
        """The cached value for a key, or a new one."""
        weak = _weak(key, self._forget)
        made = self._kept.pop(weak, None)
        if made is None:
            made = self._make(lambda: _strong(weak))
        self._kept[weak] = made  # most recently used
        for old in list(self._kept)[: -self._size]:
            self._kept.pop(old, None)
        return made

    def _forget(self, gone: weakref.ref[Any]) -> None:
        for key in list(self._kept):
            if any(part is gone for part in _parts(key)):
                self._kept.pop(key, None)


class _Same:
    """An object as a key that is equal to itself alone."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _weak(key: Any, forget: Callable[..., Any]) -> Any:
    if isinstance(key, FunctionType):
        return weakref.ref(key, forget)
    if isinstance(key, tuple):
        return _rebuilt(key, [_weak(part, forget) for part in key])
    try:
        hash(key)
    except TypeError:
        return _Same(key)
    return key


def _strong(key: Any) -> Any:
    if isinstance(key, weakref.ref):
        return key()
    if isinstance(key, _Same):
        return key.value
    return _rebuilt(key, map(_strong, key)) if isinstance(key, tuple) else key


def _parts(key: Any) -> list[Any]:
    return [part for inner in key for part in _parts(inner)] if isinstance(key, tuple) else [key]


def _rebuilt(like: tuple[Any, ...], parts: Any) -> tuple[Any, ...]:
    return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)


class Alike:
    """A model with equality by the call that made it, as a key of cached programs."""

    def __init__(self, key: Any, model: Layer):
        self.key, self.model = key, model

    def __eq__(self, other: Any) -> bool:
        return self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)
