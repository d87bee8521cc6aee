"""The calls by which layers, optimizers and trainers were made: what prints, and what tells that two are made alike."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from jaxnn._elsewhere import unexpected
from jaxnn._errors import describe, is_function, is_layer, wrong_type

P = ParamSpec("P")
R = TypeVar("R")

LONGEST = 60  # characters of an argument that are printed


class Call(NamedTuple):
    """A call: the function, the arguments that it asks for, and those by name that are not the default."""

    function: Callable
    args: tuple
    kwargs: dict[str, Any]

    def text(self, args: tuple | None = None) -> str:
        """As it would be written, with all its positional arguments or those given."""
        parts = [_text(a) for a in (self.args if args is None else args)]
        parts += [f"{name}={_text(value)}" for name, value in self.kwargs.items()]
        return f"{self.function.__name__}({', '.join(parts)})"


_CALLS: WeakKeyDictionary[Callable, Call] = WeakKeyDictionary()


def recorded(make: Callable[P, R]) -> Callable[P, R]:
    """Decorates what makes a layer, an optimizer or a trainer, a tuple of functions: `call_of` then knows the call.

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
                    fix = f"They are written one after the other: {make.__name__}(a, b)." if name == row else ""
                    raise wrong_type(make.__name__, among, told=f"{name}=", fix=fix or unexpected(name, named))
        out = make(*args_, **kwargs_)
        args: list = []
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

    # doctest passes over what was defined in another module, as the function above is
    make.__globals__.setdefault("__test__", {})[make.__name__] = make
    return made


def call_of(made: Any) -> Call | None:
    """The call that made a layer, an optimizer or a trainer; None where it is not known."""
    try:
        return _CALLS.get(made[1])
    except (TypeError, IndexError):  # no weak references, or another tuple
        return None


def alike(made: Any) -> Any:
    """A key that is equal for what was made by equal calls: itself where the call, or an argument of it, is not known.

    >>> import jaxnn as nn
    >>> alike(nn.serial(nn.dense(3), nn.relu)) == alike(nn.serial(nn.dense(3), nn.relu)) != alike(nn.dense(3))
    True
    """
    call = call_of(made)
    if call is None:
        return made
    name = getattr(made, "name", None)
    args = (*map(_alike, call.args), *((k, _alike(v)) for k, v in sorted(call.kwargs.items())))
    parts = (call.function, type(name), name, args)
    try:
        hash(parts)
    except TypeError:
        return made
    return parts


def tree(made: Any, named: Callable[[tuple], dict[str, Any]]) -> str:
    """A layer as a tree: its call, and each layer in it on lines of its own.

    Args:
      named: names the layers of a row, as combinators do.
    """
    return "\n".join(_lines(made, named))


def _lines(made: Any, named: Callable[[tuple], dict[str, Any]]) -> list[str]:
    call = call_of(made)
    if call is None or call.function.__name__ == "lift":  # a layer of the user's, or a function
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
