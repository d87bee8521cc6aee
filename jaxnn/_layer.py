"""The contract of layers: `Layer`, and layers made from functions.

A `Layer` is a named tuple of two pure functions on plain nested dicts, `params` (trained) and `state` (not trained):

    init(key, x) -> (params, state)
    apply(params, state, x, *, key=None, train=False) -> (y, state)

Layers combine in plain Python, through `call` (`_call.py`). Weight sharing and two inputs, in five lines:

    def twins(encoder, head, name=None):
        def apply(params, state, x, *, key=None, train=False):
            a, state = call(encoder, "encoder", params, state, x[0], key=key, train=train)
            b, state = call(encoder, "encoder", params, state, x[1], key=key, train=train)
            return call(head, "head", params, state, jnp.abs(a - b), key=key, train=train)
        return layer(None, apply, "twins", name=name)

`init=None` means that every parameter belongs to a child; each child is initialised where it is first called.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, NoReturn

import jax

from jaxnn import _checks as check
from jaxnn._calls import recorded, tree
from jaxnn._errors import InvalidType, describe, invalid, is_function, wrong_type
from jaxnn._inputs import whole
from jaxnn._padded import Given, Padded, padded_pair
from jaxnn._sketch import ByCalls, Sketch, init_by_calls, paths, structs
from jaxnn.types import Arrays, Key, Params, State

PaddedRule = int | Literal["examples", "lengths", "seen"] | None  # support of `Padded` inputs, see `layer`


class Layer(NamedTuple):
    """A layer or a whole model: two pure functions, and the name under which its params and state are stored.

    Attributes:
      init: `init(key, x) -> (params, state)`; `x` is an array, a `ShapeDtypeStruct`, or a pytree of them.
      apply: `apply(params, state, x, *, key=None, train=False) -> (y, state)`; `train` is a Python bool.
      name: key of its params and state in those of the enclosing layer.
      numbered: True if `name` is the default of its factory: combinators then number copies (`dense`, `dense_1`).

    >>> import jaxnn as nn
    >>> model = nn.dense(3)
    >>> params, state = model.init(jax.random.key(0), jnp.zeros((8, 4)))
    >>> y, state = model.apply(params, state, jnp.ones((8, 4)))
    >>> params["w"].shape, y.shape
    ((4, 3), (8, 3))
    >>> nn.serial(model, nn.relu, nn.residual(nn.dense(3, bias=False)))
    serial(
      dense: dense(3)
      relu: relu
      dense_1: residual(
        block: dense(3, bias=False)
      )
    )
    """

    init: Callable[..., tuple[dict[str, Any], dict[str, Any]]]
    apply: Callable[..., tuple[Any, dict[str, Any]]]
    name: str
    numbered: bool = False

    def __repr__(self) -> str:
        return tree(self, lambda layers: children(layers, self.name))

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises TypeError: a layer holds no params, so they must be passed to `apply`."""
        fix = "Call model.apply(params, state, x), with params, state = model.init(key, x)."
        raise wrong_type(self.name, "a call of its init or its apply", told="a call of the layer itself", fix=fix)


class Stateless(NamedTuple):
    """A model without state as two functions.

    Attributes:
      init: `init(key, x) -> params`.
      apply: `apply(params, x, *, key=None, train=False) -> y`.
    """

    init: Callable[..., dict[str, Any]]
    apply: Callable[..., Any]


def layer(
    init: Callable[..., Any] | None,
    apply: Callable[..., Any],
    kind: str,
    *,
    name: str | None = None,
    padded: PaddedRule = None,
) -> Layer:
    """Makes a `Layer` from two functions; checks names, a traced `train`, and the results of both functions.

    Args:
      init: `init(key, x) -> (params, state)`, called with shapes (`ShapeDtypeStruct`) in place of `x`. None if all
        params belong to children run through `call`: those are initialised for their inputs in `apply` with
        `train=False`.
      apply: `apply(params, state, x, *, key, train) -> (y, state)`.
      kind: default name; copies in one place are numbered.
      name: pins the name, `[A-Za-z0-9_]+`.
      padded: support of sequences of different lengths (`nn.Padded`). An integer r >= 0: the layer treats each step
        independently, on the last r axes (0: elementwise, 1: on features); init and apply then receive the array, with
        zeros for padding, and the lengths are passed on. "lengths": it combines the steps of an example and receives
        the `Padded`; the boolean mask of valid examples inside `time_distributed` is passed on without the layer
        receiving it. "seen": it receives every `Padded`, as a layer that combines examples must. "examples": it
        combines the steps of an example and refuses lengths. None: it refuses every `Padded`.

    Raises:
      ValueError: if `name` has characters other than letters, digits and underscores, or `padded` is invalid.
      TypeError: if `init` or `apply` is not callable.

    >>> def scale(factor, name=None):
    ...     def apply(params, state, x, *, key, train):
    ...         return factor * x, state
    ...     return layer(lambda key, x: ({}, {}), apply, "scale", name=name)
    >>> scale(3).apply({}, {}, jnp.ones(2))[0].tolist()
    [3.0, 3.0]
    """
    for argument, given in (("kind", kind), ("name", name)):
        if given is not None:
            check.text("layer", argument, given)
            if not re.fullmatch(r"[A-Za-z0-9_]+", given):
                raise invalid("layer", f"{argument} to be letters, digits and underscores", given)
    where = name or kind
    for role, f in (("init", init), ("apply", apply)):
        if not (f is None and role == "init"):
            check.function(where, role, f)
    axes = whole(padded)
    by_step = axes is not None and axes >= 0
    if not (padded is None or padded in ("examples", "lengths", "seen") or by_step):
        raise invalid(where, "padded to be an integer >= 0, 'examples', 'lengths', 'seen' or None", padded)

    def unpadded(x: Arrays) -> tuple[Any, Padded | None]:
        """The input of init and apply for x, and the `Padded` whose lengths are passed on, or None."""
        x = x if padded in (None, "lengths") else padded_pair(x)
        if padded is None and isinstance(x, Given):
            return tuple(x), None
        if not isinstance(x, Padded) or padded == "seen" or (padded == "lengths" and x.lengths.dtype != bool):
            return x, None
        _check_padded(where, x, padded)
        return (x.x if isinstance(x.x, jax.ShapeDtypeStruct) else x.zeroed), x

    def checked_init(key: Key, x: Arrays) -> tuple[Params, State]:
        check.key(where, key, "init(key, x)", one=True)
        x, _ = unpadded(structs(where, x))
        out = init_by_calls(apply, key, x) if init is None else init(key, x)
        return _pair(where, "init to return (params, state)", out, (dict, dict))

    def checked_apply(
        params: Params, state: State, x: Arrays, *, key: Key | None = None, train: bool = False
    ) -> tuple[Arrays, State]:
        if not isinstance(train, bool):
            got = "a traced value" if isinstance(train, jax.core.Tracer) else describe(train)
            fix = "Bind it before the transformation: functools.partial(model.apply, train=True), or static_argnames."
            raise wrong_type(where, "train to be a Python bool", told=got, fix=fix)
        for role, given in (("params", params), ("state", state)):
            if not isinstance(given, dict | Sketch):
                exchanged = isinstance(given, tuple) or (hasattr(given, "dtype") and isinstance(x, dict))
                fix = "The order is apply(params, state, x)." if exchanged else ""
                raise wrong_type(where, f"{role} to be a nested dict, as init makes them", given, fix)
        if key is not None:
            check.key(where, key)
        x, sequence = unpadded(x)
        try:
            out = apply(params, state, x, key=key, train=train)
        except KeyError as error:
            raised = error.__traceback__ and error.__traceback__.tb_next
            by_itself = raised and raised.tb_next is None and raised.tb_frame.f_code is apply.__code__
            if not by_itself or isinstance(x, dict):  # then the missing key may be one of the user's
                raise
            missing = error.args[0]
            have = ", ".join([*params, *state]) or "none"
            fix = "Pass what init, or the step before, made for this very model."
            raise invalid(where, f"params and state with {missing}", told=have, fix=fix) from error
        y, state = _pair(where, "apply to return (y, state)", out, (object, dict))
        return (y if sequence is None else Padded(y, sequence.lengths)), state

    checked_init.__qualname__, checked_apply.__qualname__ = f"{where}.init", f"{where}.apply"  # for Python's errors
    made = Layer(checked_init, checked_apply, where, numbered=name is None)
    if init is None:
        return made._replace(init=ByCalls(checked_init))
    return made


def wrap(child: Layer, init: Callable[..., Any], apply: Callable[..., Any], name: str | None = None) -> Layer:
    """A layer around one child, with the child's name and therefore its path and key, unless `name` pins another.

    It passes every `Padded` to the child.
    """
    made = layer(init, apply, child.name, name=name, padded="seen")
    return made if name is not None else made._replace(numbered=child.numbered)


@recorded
def lift(f: Callable[..., Any], *, name: str | None = None, padded: PaddedRule = None) -> Layer:
    """A layer without params from a function of one input, x -> f(x); combinators lift bare functions automatically.

    Args:
      f: a function of one input.
      name: pins the name; the default is the function's.
      padded: support of sequences of different lengths, as in `layer`. None: activations of `nn` treat each step
        independently; any other function refuses a `Padded`.

    Raises:
      TypeError: if `f` is not a function, or is the factory of a layer that was not called.

    >>> lift(jnp.tanh).apply({}, {}, jnp.zeros(2))[0].tolist()
    [0.0, 0.0]
    """
    if not is_function(f):
        raise wrong_type("lift", "a function of one input", f)
    kind = _name_of(f)
    if _is_factory(f):
        raise _uncalled("lift", kind)

    def called(x: Arrays) -> Arrays:
        y = f(x)
        if isinstance(y, Layer):
            raise _uncalled("lift", kind)
        return y

    padded = _axes_of_step(f) if padded is None else padded
    return of_function(called, kind if re.fullmatch(r"[A-Za-z0-9_]+", kind) else "lift", name, padded)


def of_function(f: Callable[..., Any], kind: str, name: str | None, padded: PaddedRule = None) -> Layer:
    """A layer x -> f(x) without params and state."""

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        return f(x), state

    return layer(lambda key, x: ({}, {}), apply, kind, name=name, padded=padded)


def stateless(model: Layer) -> Stateless:
    """Converts a model without state to `init(key, x) -> params` and `apply(params, x, *, key=None, train=False) -> y`.

    Args:
      model: a layer, or a function of one input.

    Raises:
      ValueError: by both functions, if the model has state (such as a batch norm's statistics).

    >>> import jaxnn as nn
    >>> init, apply = stateless(nn.dense(3))
    >>> params = init(jax.random.key(0), jnp.ones((2, 4)))
    >>> jax.grad(lambda p: apply(p, jnp.ones((2, 4))).sum())(params)["b"].tolist()
    [2.0, 2.0, 2.0]
    """
    model = as_layer(model, "stateless")

    def check_state(state: State) -> None:
        if state:
            fix = "Use model.apply(params, state, x), and keep the state that it returns."
            raise invalid("stateless", "a model without state", told=f"state at {', '.join(paths(state))}", fix=fix)

    def init(key: Key, x: Arrays) -> dict[str, Any]:
        params, state = model.init(key, x)
        check_state(state)
        return params

    def apply(params: Params, x: Arrays, *, key: Key | None = None, train: bool = False) -> Arrays:
        y, state = model.apply(params, {}, x, key=key, train=train)
        check_state(state)
        return y

    return Stateless(init, apply)


# Building blocks of combinators.


def initial_state(model: Layer, x: Arrays, *, key: Key | None = None) -> State:
    """State of a model before any step, as its init returns it, without drawing its params.

    Use it for an empty cache of attention: `initial_state(model_with_cache, prompts)`, with the trained params.

    Args:
      model: a layer, or a function of one input.
      x: input of the model, arrays or `ShapeDtypeStruct`; a cache is made for its number of examples.
      key: key of `init`, for layers that draw their state, such as `spectral_norm`. None is `jax.random.key(0)`.

    Raises:
      TypeError, ValueError: as the `init` of the model.

    >>> import jaxnn as nn
    >>> model = nn.attention(2, causal=True, cache=16)
    >>> jax.tree.map(jnp.shape, initial_state(model, jnp.ones((3, 1, 8))))
    {'k': (3, 16, 2, 4), 'position': (), 'v': (3, 16, 2, 4)}
    """
    model = as_layer(model, "initial_state")
    x = structs(model.name, x)
    key = jax.random.key(0) if key is None else key
    return jax.jit(lambda key: model.init(key, x)[1])(key)  # the compiler drops the params


def as_layer(x: Arrays, where: str) -> Layer:
    """`x` itself if it is a layer, or a function lifted; raises for anything else, such as an uncalled factory."""
    if isinstance(x, Layer):
        return x
    if not callable(x):
        fix = "Unpack them with a star: *layers." if isinstance(x, list | tuple) else ""
        raise wrong_type(where, "a Layer or a function of one input", x, fix)
    if _is_factory(x):
        raise _uncalled(where, _name_of(x))
    return lift(x)


def children(layers: Sequence[Layer | Callable[..., Any]], where: str) -> dict[str, Layer]:
    """Layers by their names within one parent: pinned names unchanged, default names numbered by kind."""
    named: dict[str, Layer] = {}
    counts: dict[str, int] = {}
    for x in layers:
        child = as_layer(x, where)
        name = child.name
        if child.numbered:
            counts[name] = counts.get(name, -1) + 1
            name += f"_{counts[name]}" if counts[name] else ""
        if name in named:
            raise invalid(
                where, "children with different names", told=f"{name!r} twice", fix="Give one of them another name=."
            )
        named[name] = child
    return named


def _pair(where: str, expected: str, got: Any, types: tuple[type, type]) -> tuple[Any, Any]:
    if not (type(got) is tuple and len(got) == 2 and isinstance(got[0], types[0]) and isinstance(got[1], types[1])):
        raise wrong_type(where, expected, got)
    return got


def _check_padded(where: str, s: Padded, rule: PaddedRule) -> None:
    """Raises unless the layer may receive the array of `s` without its lengths."""
    lengths = s.lengths.dtype != bool
    if rule is None:
        fix = "Say how it takes lengths, nn.layer(..., padded=) or nn.lift(f, padded=), or pass x and lengths apart."
        raise wrong_type(where, "x without lengths", Padded(*s), fix)
    if lengths and rule == "examples":
        fix = "It combines steps and would count the padding. Pool over time before it, or run it in time_distributed."
        raise wrong_type(where, "x without lengths", Padded(*s), fix)
    if lengths and isinstance(rule, int) and len(s.x.shape) < 2 + rule:
        axes = ", ".join(["n", "t", *"abcdefgh"[:rule]])
        raise invalid(where, f"a Padded with x of shape [{axes}] or more axes", Padded(*s), "Add an axis of features.")


def _axes_of_step(f: Callable[..., Any]) -> int | None:
    """Number of last axes on which an activation of this library works; None for other functions."""
    if isinstance(f, functools.partial):
        return None if "axis" in f.keywords else _axes_of_step(f.func)
    module = getattr(f, "__module__", None) or ""
    if not module.startswith("jaxnn.activations"):
        return None
    return 1 if "axis" in inspect.signature(f).parameters else 0


def _name_of(f: Callable[..., Any]) -> str:
    return getattr(getattr(f, "func", f), "__name__", "")


def _is_factory(f: Callable[..., Any]) -> bool:
    try:
        annotation = inspect.signature(f).return_annotation
        return annotation is Layer or (isinstance(annotation, str) and annotation.split(".")[-1] == "Layer")
    except (TypeError, ValueError):  # some built-in functions have no signature
        return False


def _uncalled(where: str, name: str) -> InvalidType:
    return wrong_type(where, "a Layer", told=f"its factory {name}", fix=f"Call it: {name}(...).")
