"""Calls by which layers, optimizers and trainers were made: for printing, and to compare them by equal calls."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from jaxnn._elsewhere import unexpected
from jaxnn._errors import describe, is_function, is_layer, wrong_type

P = ParamSpec("P")
R = TypeVar("R")

LONGEST = 60  # maximum length of a printed argument


class Call(NamedTuple):
    """A recorded call.

    Attributes:
      function: the function that was called.
      args: its required and variadic arguments.
      kwargs: its optional arguments that differ from their defaults.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def text(self, args: tuple[Any, ...] | None = None) -> str:
        """The call as Python source, with all its positional arguments or those given."""
        parts = [_text(a) for a in (self.args if args is None else args)]
        parts += [f"{name}={_text(value)}" for name, value in self.kwargs.items()]
        return f"{self.function.__name__}({', '.join(parts)})"


_CALLS: WeakKeyDictionary[Callable[..., Any], Call] = WeakKeyDictionary()


def recorded(make: Callable[P, R]) -> Callable[P, R]:
    """Decorator that records the call of a factory of layers, optimizers or trainers for `call_of`.

    Args:
      make: the factory; it returns a tuple of functions. An unexpected keyword argument raises TypeError with a
        suggestion.

    >>> from typing import NamedTuple
    >>> class Pair(NamedTuple):
    ...     init: Callable
    ...     update: Callable
    >>> @recorded
    ... def descent(rate, *, nesterov=False):
    ...     return Pair(lambda p: (), lambda g: -rate * g)
    >>> call_of(descent(rate=0.1)).text()
    'descent(0.1)'
    """
    signature = inspect.signature(make)
    kinds = {p.kind: name for name, p in signature.parameters.items()}
    row = kinds.get(inspect.Parameter.VAR_POSITIONAL)
    named = [name for name in signature.parameters if name != row]

    @functools.wraps(make)
    def made(*args_: P.args, **kwargs_: P.kwargs) -> R:
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            for name in kwargs_:
                if name not in named:
                    among = f"arguments by name among {', '.join(named)}"
                    fix = f"They are separate arguments: {make.__name__}(a, b)." if name == row else ""
                    raise wrong_type(make.__name__, among, told=f"{name}=", fix=fix or unexpected(name, named))
        out = make(*args_, **kwargs_)
        args: list[Any] = []
        kwargs = {}
        for name, value in signature.bind(*args_, **kwargs_).arguments.items():
            parameter = signature.parameters[name]
            if parameter.kind is parameter.VAR_POSITIONAL:
                args += value
            elif parameter.default is parameter.empty and parameter.kind is not parameter.KEYWORD_ONLY:
                args.append(value)
            elif not _is(value, parameter.default):
                kwargs[name] = value
        _CALLS[out[1]] = Call(make, tuple(args), kwargs)  # type: ignore[index]
        return out

    # doctest skips functions that were defined in another module, as `made` was.
    make.__globals__.setdefault("__test__", {})[make.__name__] = make
    return made


def call_of(made: Any) -> Call | None:
    """The call that made a layer, an optimizer or a trainer; None if unknown."""
    try:
        return _CALLS.get(made[1])
    except (TypeError, IndexError):  # not weakly referenceable, or another tuple
        return None


def called_as(made: R, like: Any) -> R:
    """`made`, for which `call_of` returns the call of `like`: it computes the same."""
    if (call := call_of(like)) is not None:
        _CALLS[made[1]] = call  # type: ignore[index]
    return made


def alike(made: Any) -> Any:
    """A key that is equal for objects made by equal calls; the object itself if its call or an argument is unknown.

    >>> import jaxnn as nn
    >>> alike(nn.serial(nn.dense(3), nn.relu)) == alike(nn.serial(nn.dense(3), nn.relu)) != alike(nn.dense(3))
    True
    """
    call = call_of(made)
    if call is None:
        return made
    name = getattr(made, "name", None), getattr(made, "numbered", None)
    args = (*map(_alike, call.args), *((k, _alike(v)) for k, v in sorted(call.kwargs.items())))
    parts = (call.function, name, args)
    try:
        hash(parts)
    except TypeError:
        return made
    return parts


def tree(made: Any, named: Callable[[tuple[Any, ...]], dict[str, Any]]) -> str:
    """A layer as text in the form of a tree: its call, with each inner layer on separate lines.

    Args:
      made: the layer.
      named: maps a tuple of layers to a dict by name, as combinators name them.
    """
    return "\n".join(_lines(made, named))


def _lines(made: Any, named: Callable[[tuple[Any, ...]], dict[str, Any]]) -> list[str]:
    call = call_of(made)
    if call is None or call.function.__name__ == "lift":  # a user-defined layer, or a function
        return [str(made.name)]
    inside, args = {}, []
    parameters = list(inspect.signature(call.function).parameters.values())
    for i, value in enumerate(call.args):
        parameter = parameters[min(i, len(parameters) - 1)]
        if parameter.kind is parameter.VAR_POSITIONAL:
            inside = named(call.args[i:])
            break
        if is_layer(value):
            inside[parameter.name] = value
        else:
            args.append(value)
    inside |= {name: value for name, value in call.kwargs.items() if is_layer(value)}
    plain = call._replace(kwargs={k: v for k, v in call.kwargs.items() if k not in inside})
    head = plain.text(tuple(args))
    if not inside:
        return [head]
    lines = [head[:-1] + (", " if args or plain.kwargs else "")]
    for name, child in inside.items():
        first, *rest = _lines(child, named)
        lines += [f"  {name}: {first}", *(f"  {line}" for line in rest)]
    return [lines[0].rstrip(), *lines[1:], ")"]


def _alike(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return alike(value) if hasattr(value, "_fields") else (type(value), *map(_alike, value))
    return (type(value), value)


def _is(value: Any, default: Any) -> bool:
    return value is default or (
        type(value) is type(default) and isinstance(value, int | float | str) and value == default
    )


def _text(value: Any) -> str:
    text = _whole(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _whole(value: Any) -> str:
    call = call_of(value) if isinstance(value, tuple) else None
    if call is not None:
        return call.text()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_text(v)}" for key, v in value.items()) + "}"
    if type(value) in (list, tuple):
        inside = ", ".join(map(_text, value)) + "," * (type(value) is tuple and len(value) == 1)
        return f"[{inside}]" if type(value) is list else f"({inside})"
    return getattr(value, "__name__", repr(value)) if is_function(value) else describe(value)
