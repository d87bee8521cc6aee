"""What a layer is, how one layer calls another, and how a function becomes a layer.

A `Layer` is a named tuple of two pure functions on plain nested dicts, `params` (trained) and `state` (not trained):

    init(key, x) -> (params, state)
    apply(params, state, x, *, key=None, train=False) -> (y, state)

Layers combine in plain Python, through `call`. Weight sharing and two inputs, in five lines:

    def twins(encoder, head, name=None):
        def apply(params, state, x, *, key=None, train=False):
            a, state = call(encoder, "encoder", params, state, x[0], key=key, train=train)
            b, state = call(encoder, "encoder", params, state, x[1], key=key, train=train)
            return call(head, "head", params, state, jnp.abs(a - b), key=key, train=train)
        return layer(None, apply, "twins", name=name)

`init=None` says that every parameter belongs to a child, and each child is initialised where it is first called.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, NoReturn

import jax
import jax.numpy as jnp

from jaxnn import _checks as check
from jaxnn._calls import recorded, tree
from jaxnn._errors import InvalidType, InvalidValue, describe, invalid, is_function, wrong_type
from jaxnn._inputs import is_array, to_numbers, whole
from jaxnn._padded import Given, Padded, on_values, padded_pair, values_of
from jaxnn._random import fold_in

PaddedRule = int | Literal["examples", "lengths", "seen"] | None  # how a layer takes a `Padded`, see `layer`
TAP = "@tap"  # keys in a state that no layer can have for a name
WATCH = "@watch"


class Layer(NamedTuple):
    """A layer or a whole model: two pure functions and the name under which its numbers are kept.

    Attributes:
      init: `init(key, x) -> (params, state)`; `x` is an array, a `ShapeDtypeStruct`, or a pytree of them.
      apply: `apply(params, state, x, *, key=None, train=False) -> (y, state)`; `train` is a Python bool.
      name: the key of its params and state in those of the layer around it.

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

    def __repr__(self) -> str:
        return tree(self, lambda layers: children(layers, self.name))

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises TypeError: a layer holds no params, so they are passed to `apply`."""
        fix = "Call model.apply(params, state, x), with params, state = model.init(key, x)."
        raise wrong_type(str(self.name), "a call of its init or its apply", told="a call of the layer itself", fix=fix)


class Stateless(NamedTuple):
    """A model without state as two functions: `init(key, x) -> params`, `apply(params, x, *, key, train) -> y`."""

    init: Callable[..., dict[str, Any]]
    apply: Callable[..., Any]


class _Kind(str):
    """A default name: combinators number its copies (`dense`, `dense_1`), while a plain string is pinned."""

    __slots__ = ()


def layer(
    init: Callable | None, apply: Callable, kind: str, *, name: str | None = None, padded: PaddedRule = None
) -> Layer:
    """A `Layer` from two functions, checked where users go wrong: names, a traced `train`, what the functions return.

    Args:
      init: `init(key, x) -> (params, state)`, called with shapes alone (`ShapeDtypeStruct`) in place of `x`. None when
        all params belong to children run through `call`: they are then initialised from the inputs that they meet
        in `apply` with `train=False`.
      apply: `apply(params, state, x, *, key, train) -> (y, state)`.
      kind: the default name; copies in one place are numbered.
      name: pins the name, `[A-Za-z0-9_]+`.
      padded: how the layer takes sequences of different lengths (`nn.Padded`). An integer r >= 0: it treats each step
        alone, on the last r axes (0: elementwise, 1: on features); init and apply then see the array, with zeros for
        padding, and the lengths are handed on. "lengths": it combines the steps of an example and takes the `Padded`;
        which examples count, inside `time_distributed`, is kept from it and handed on. "seen": it takes every `Padded`,
        as a layer that combines examples must. "examples": it combines the steps of an example, and refuses lengths.
        None: it refuses every `Padded`.

    Raises: ValueError if `name` has characters other than letters, digits and underscores, or for another `padded`;
    TypeError if `init` or `apply` is not callable.

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
    where = name or str(kind)
    for role, f in (("init", init), ("apply", apply)):
        if not (f is None and role == "init"):
            check.function(where, role, f)
    axes = whole(padded)
    by_step = axes is not None and axes >= 0
    if not (padded is None or padded in ("examples", "lengths", "seen") or by_step):
        raise invalid(where, "padded to be an integer >= 0, 'examples', 'lengths', 'seen' or None", padded)

    def unpadded(x: Any) -> tuple[Any, Padded | None]:
        """What init and apply take of x, and the `Padded` to hand on."""
        x = x if padded in (None, "lengths") else padded_pair(x)
        if padded is None and isinstance(x, Given):
            return tuple(x), None
        if not isinstance(x, Padded) or padded == "seen" or (padded == "lengths" and x.lengths.dtype != bool):
            return x, None
        _check_padded(where, x, padded)
        return (x.x if isinstance(x.x, jax.ShapeDtypeStruct) else x.zeroed), x

    def checked_init(key: jax.Array, x: Any) -> tuple[dict, dict]:
        check.key(where, key, "init(key, x)", one=True)
        x, _ = unpadded(structs(where, x))
        out = _init_where_called(apply, key, x) if init is None else init(key, x)
        return _pair(where, "init to return (params, state)", out, (dict, dict))

    def checked_apply(
        params: dict, state: dict, x: Any, *, key: jax.Array | None = None, train: bool = False
    ) -> tuple[Any, dict]:
        if not isinstance(train, bool):
            got = "a traced value" if isinstance(train, jax.core.Tracer) else describe(train)
            fix = "Bind it before the transformation: functools.partial(model.apply, train=True), or static_argnames."
            raise wrong_type(where, "train to be a Python bool", told=got, fix=fix)
        for role, given in (("params", params), ("state", state)):
            if not isinstance(given, dict | _Sketch):
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
            if not by_itself or isinstance(x, dict):  # then the key may be one of the user's own
                raise
            missing = error.args[0]
            have = ", ".join([*params, *state]) or "none"
            fix = "Pass what init, or the step before, made for this very model."
            raise invalid(where, f"params and state with {missing}", told=have, fix=fix) from error
        y, state = _pair(where, "apply to return (y, state)", out, (object, dict))
        return (y if sequence is None else Padded(y, sequence.lengths)), state

    checked_init.__qualname__, checked_apply.__qualname__ = f"{where}.init", f"{where}.apply"  # for Python's errors
    checked_init.by_calls = init is None  # type: ignore[attr-defined]
    return Layer(checked_init, checked_apply, name or _Kind(kind))


def wrap(child: Layer, init: Callable, apply: Callable) -> Layer:
    """A layer around one child that keeps the child's name, and by that its path and its key; it hands `Padded` on."""
    return layer(init, apply, child.name, padded="seen")._replace(name=child.name)


def call(
    child: Layer | Callable,
    name: str,
    params: dict,
    state: dict,
    x: Any,
    *,
    key: jax.Array | None = None,
    train: bool = False,
) -> tuple[Any, dict]:
    """Runs a child inside a layer's `apply`: `(y, state)`, where `state` is the parent's with the child's part renewed.

    The child gets `params[name]`, `state[name]` and `fold_in(key, crc32(name))`, so adding a layer leaves the numbers
    of its neighbours alone; its operations carry `name` in profiles; an exception from inside names the whole path; a
    `Tap` placed at the path is served.

    >>> import jaxnn as nn
    >>> head = nn.dense(2)
    >>> params, state = head.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> y, _ = call(head, "head", {"head": params}, {}, jnp.ones((1, 3)))
    >>> y.shape
    (1, 2)
    """
    check.text("call", "name", name)
    child = as_layer(child, "call")
    if isinstance(params, _Sketch):
        return params.meet(child, name, x), state
    inner = dict(state.get(name, {}))
    tap, watch = inner.pop(TAP, None), state.get(WATCH)
    if watch is not None:
        watch = inner[WATCH] = watch.enter(name)
    with _inside(name), jax.named_scope(name):
        y, new = child.apply(params.get(name, {}), inner, x, key=fold_name(key, name), train=train)
        if tap is not None:
            y, tap = _served(name, tap, y)
    if watch is not None:
        watch.leave(y)
    new = {k: v for k, v in new.items() if k != WATCH} | ({} if tap is None else {TAP: tap})
    rest = {k: v for k, v in state.items() if k != name}
    return y, (rest | {name: new} if new else rest)


@recorded
def lift(f: Callable, *, name: str | None = None, padded: PaddedRule = None) -> Layer:
    """The layer without params of a function of one input, `x -> f(x)`; combinators lift bare functions automatically.

    Args:
      padded: how f takes sequences of different lengths, as in `layer`. None: activations of `nn` treat each step
        alone; any other function refuses a `Padded`.

    Raises: TypeError for what is not a function, and for a layer's factory that was not called.

    >>> lift(jnp.tanh).apply({}, {}, jnp.zeros(2))[0].tolist()
    [0.0, 0.0]
    """
    if not is_function(f):
        raise wrong_type("lift", "a function of one input", f)
    kind = _name_of(f)
    if _is_factory(f):
        raise _uncalled("lift", kind)

    def called(x: Any) -> Any:
        y = f(x)
        if isinstance(y, Layer):
            raise _uncalled("lift", kind)
        return y

    padded = _axes_of_step(f) if padded is None else padded
    return of_function(called, kind if re.fullmatch(r"[A-Za-z0-9_]+", kind) else "lift", name, padded)


def of_function(f: Callable, kind: str, name: str | None, padded: PaddedRule = None) -> Layer:
    """The layer `x -> f(x)`, without params and state."""

    def apply(params: dict, state: dict, x: Any, *, key: jax.Array | None, train: bool) -> tuple[Any, dict]:
        return f(x), state

    return layer(lambda key, x: ({}, {}), apply, kind, name=name, padded=padded)


def stateless(model: Layer) -> Stateless:
    """A model without state as `init(key, x) -> params` and `apply(params, x, *, key=None, train=False) -> y`.

    Raises ValueError, from both, when the model does have state (a batch norm's statistics).

    >>> import jaxnn as nn
    >>> init, apply = stateless(nn.dense(3))
    >>> params = init(jax.random.key(0), jnp.ones((2, 4)))
    >>> jax.grad(lambda p: apply(p, jnp.ones((2, 4))).sum())(params)["b"].tolist()
    [2.0, 2.0, 2.0]
    """
    model = as_layer(model, "stateless")

    def check_state(state: dict) -> None:
        if state:
            fix = "Use model.apply(params, state, x), and keep the state that it returns."
            raise invalid("stateless", "a model without state", told=f"state at {', '.join(paths(state))}", fix=fix)

    def init(key: jax.Array, x: Any) -> dict:
        params, state = model.init(key, x)
        check_state(state)
        return params

    def apply(params: dict, x: Any, *, key: jax.Array | None = None, train: bool = False) -> Any:
        y, state = model.apply(params, {}, x, key=key, train=train)
        check_state(state)
        return y

    return Stateless(init, apply)


# What combinators are made of.


def as_layer(x: Any, where: str) -> Layer:
    """`x` itself if it is a layer, a plain function lifted; anything else, an uncalled factory above all, raises."""
    if isinstance(x, Layer):
        return x
    if not callable(x):
        fix = "Unpack them with a star: *layers." if isinstance(x, list | tuple) else ""
        raise wrong_type(where, "a Layer or a function of one input", x, fix)
    if _is_factory(x):
        raise _uncalled(where, _name_of(x))
    return lift(x)


def children(layers: Sequence[Layer | Callable], where: str) -> dict[str, Layer]:
    """The layers by the names that they have beside each other: pinned ones as they are, others numbered by kind."""
    named: dict[str, Layer] = {}
    counts: dict[str, int] = {}
    for x in layers:
        child = as_layer(x, where)
        name = str(child.name)
        if isinstance(child.name, _Kind):
            counts[name] = counts.get(name, -1) + 1
            name += f"_{counts[name]}" if counts[name] else ""
        if name in named:
            raise invalid(
                where, "children with different names", told=f"{name!r} twice", fix="Give one of them another name=."
            )
        named[name] = child
    return named


def init_child(child: Layer, name: str, key: jax.Array, x: Any) -> tuple[dict, dict]:
    """Initialises a child as `call` will find it: `({name: params}, {name: state})`, without empty nodes."""
    with _inside(name):
        params, state = child.init(fold_name(key, name), x)
    return ({name: params} if params else {}), ({name: state} if state else {})


def output_of(child: Layer, name: str, params: dict, state: dict, x: Any) -> Any:
    """Shape and dtype of a child's output, with `train=False`, by abstract evaluation."""
    return jax.eval_shape(lambda p, s, x: call(child, name, p, s, x)[0], params, state, x)


def fold_name(key: jax.Array | None, name: str) -> jax.Array | None:
    """The key of a child: crc32, since Python's own hash of a string differs from process to process."""
    return None if key is None else fold_in(key, zlib.crc32(name.encode()))


def paths(tree: dict, prefix: str = "") -> list[str]:
    """The paths of a nested dict's leaves, `stem/conv/w`."""
    found: list[str] = []
    for name, node in tree.items():
        found += paths(node, f"{prefix}{name}/") if isinstance(node, dict) else [prefix + name]
    return found


def structs(where: str, x: Any, argument: str = "x") -> Any:
    """Shapes and dtypes of the arrays of a pytree as JAX will hold them; what is no array raises."""

    def struct(leaf: Any) -> jax.ShapeDtypeStruct:
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        if not is_array(leaf):
            fix = to_numbers(leaf)
            if type(x) is tuple and all(isinstance(n, int) for n in x):
                fix = f"For its shape alone pass jax.ShapeDtypeStruct({x}, jnp.float32)."
            raise wrong_type(where, f"{argument} to be arrays or shapes", x, fix)
        return jax.ShapeDtypeStruct(leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype))

    return jax.tree.map(struct, x)


def _pair(where: str, expected: str, got: Any, types: tuple[type, type]) -> tuple[Any, Any]:
    if not (type(got) is tuple and len(got) == 2 and isinstance(got[0], types[0]) and isinstance(got[1], types[1])):
        raise wrong_type(where, expected, got)
    return got


def _check_padded(where: str, s: Padded, rule: PaddedRule) -> None:
    """Raises unless a layer may be given the array of `s` alone."""
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


def _axes_of_step(f: Callable) -> int | None:
    """The last axes on which a function of ours works, None for one that is not known."""
    if isinstance(f, functools.partial):
        return None if "axis" in f.keywords else _axes_of_step(f.func)
    module = getattr(f, "__module__", None) or ""
    if not module.startswith("jaxnn.activations"):
        return None
    return 1 if "axis" in inspect.signature(f).parameters else 0


def _name_of(f: Callable) -> str:
    return getattr(getattr(f, "func", f), "__name__", "")


def _is_factory(f: Callable) -> bool:
    try:
        annotation = inspect.signature(f).return_annotation
        return annotation is Layer or (isinstance(annotation, str) and annotation.split(".")[-1] == "Layer")
    except (TypeError, ValueError):  # no signature, as some built-in functions
        return False


def _uncalled(where: str, name: str) -> InvalidType:
    return wrong_type(where, "a Layer", told=f"its factory {name}", fix=f"Call it: {name}(...).")


@contextlib.contextmanager
def _inside(name: str) -> Iterator[None]:
    """Puts `name` in front of the path of an exception: ours are prefixed, all others get a note."""
    try:
        yield
    except (InvalidValue, InvalidType) as error:
        error.path = (name, *error.path)
        raise
    except Exception as error:
        path = (name, *getattr(error, "_layer_path", ()))
        notes = getattr(error, "__notes__", [])
        stale = _note(path[1:])
        if stale in notes:
            notes.remove(stale)
        error._layer_path = path  # type: ignore[attr-defined]
        error.add_note(_note(path))
        raise


def _note(path: tuple[str, ...]) -> str:
    return f"in the layer {'/'.join(path)}"


def _served(name: str, tap: Any, y: Any) -> tuple[Any, Any]:
    if tap.add is not None:
        values = values_of(y)
        if not hasattr(values, "shape") or jnp.shape(tap.add) != values.shape:
            raise invalid(name, f"Tap(add=) of the output's shape {describe(values)}", tap.add)
        y = on_values(lambda y: y + jnp.asarray(tap.add).astype(y.dtype), y)
    return y, tap._replace(outputs=(*tap.outputs, y))


class _Sketch:
    """Stands in for params while a layer of children alone is traced: it notes which child met which input first."""

    def __init__(self, key: jax.Array | None):
        self.key = key
        self.met: dict[str, tuple[Layer, Any]] = {}

    def meet(self, child: Layer, name: str, x: Any) -> Any:
        known, first = self.met.setdefault(name, (child, structs(name, x)))
        if known.init is not child.init and jax.eval_shape(known.init, self.key, x) != ({}, {}):
            raise invalid(name, "one child under one name", told=f"two layers, {known.name} and {child.name}")
        with _inside(name):
            if getattr(child.init, "by_calls", False):  # its init would trace its children a second time
                return child.apply(_Sketch(fold_name(self.key, name)), {}, x)[0]
            params, state = child.init(fold_name(self.key, name), first)
            return child.apply(params, state, x)[0]

    def __getitem__(self, name: str) -> Any:
        own = f'reads params["{name}"], but a layer made with init=None has no params of its own'
        raise InvalidValue("layer", f"{own}. Pass init=.")

    get = __getitem__


def _init_where_called(apply: Callable, key: jax.Array, x: Any) -> tuple[dict, dict]:
    def trace(key: jax.Array, x: Any) -> Any:
        sketch = _Sketch(key)
        y, _ = apply(sketch, {}, x, key=None, train=False)
        met.update(sketch.met)
        return y

    met: dict[str, tuple[Layer, Any]] = {}
    jax.eval_shape(trace, key, x)
    params: dict = {}
    state: dict = {}
    for name, (child, shape) in met.items():
        p, s = init_child(child, name, key, shape)
        params, state = params | p, state | s
    return params, state
