"""Initialization of layers whose children are initialized where they are called, and of single children."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxnn._errors import InvalidType, InvalidValue, invalid, wrong_type
from jaxnn._inputs import is_array, to_numbers
from jaxnn._keys import fold_name
from jaxnn.types import Arrays, Key, Params, State

NOTE = "in the layer "  # begins the note that names the layer in which an exception was raised


@dataclasses.dataclass(frozen=True, eq=False)
class ByCalls:
    """`init` of a layer made with `init=None`: it traces `apply` to find the children.

    A class and not a named tuple: `jax.jit` holds functions by weak references, which tuples do not allow.

    Attributes:
      init: `init(key, x) -> (params, state)`.
    """

    init: Callable[..., tuple[dict[str, Any], dict[str, Any]]]

    def __call__(self, key: Key, x: Arrays) -> tuple[Params, State]:
        """Params and state."""
        return self.init(key, x)


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """Prepends `name` to the path of an exception: the library's exceptions get a prefix, all others a note."""
    try:
        yield
    except (InvalidValue, InvalidType) as error:
        error.path = (name, *error.path)
        raise
    except Exception as error:
        notes = getattr(error, "__notes__", [])
        inner = next((note for note in notes if note.startswith(NOTE)), None)
        if inner is not None:
            notes.remove(inner)
        error.add_note(f"{NOTE}{name}" + ("" if inner is None else f"/{inner.removeprefix(NOTE)}"))
        raise


class Sketch:
    """Placeholder of params while tracing a layer with init=None: records the first input of each child."""

    def __init__(self, key: Key | None):
        self.key = key
        self.met: dict[str, tuple[Any, Any]] = {}

    def meet(self, child: Any, name: str, x: Arrays) -> Arrays:
        """The output of a child for x; records the child."""
        known, first = self.met.setdefault(name, (child, structs(name, x)))
        if known.init is not child.init and jax.eval_shape(child.init, self.key, x) != ({}, {}):
            raise invalid(name, "one child under one name", told=f"two layers, {known.name} and {child.name}")
        with inside(name):
            if isinstance(child.init, ByCalls):  # its init would trace its children a second time
                return child.apply(Sketch(fold_name(self.key, name)), {}, x)[0]
            params, state = known.init(fold_name(self.key, name), first)
            return child.apply(params, state, x)[0]

    def __getitem__(self, name: str) -> Any:
        own = f'reads params["{name}"], but a layer made with init=None has no params of its own'
        raise InvalidValue("layer", f"{own}. Pass init=.")

    get = __getitem__


def init_by_calls(apply: Callable[..., Any], key: Key, x: Arrays) -> tuple[Params, State]:
    """Params and state of the children that `apply` calls, each initialized for its first input."""

    def trace(key: Key, x: Arrays) -> Arrays:
        sketch = Sketch(key)
        y, _ = apply(sketch, {}, x, key=None, train=False)
        met.update(sketch.met)
        return y

    met: dict[str, tuple[Any, Any]] = {}
    jax.eval_shape(trace, key, x)
    params: Params = {}
    state: State = {}
    for name, (child, shape) in met.items():
        p, s = init_child(child, name, key, shape)
        params, state = params | p, state | s
    return params, state


def init_child(child: Any, name: str, key: Key, x: Arrays) -> tuple[Params, State]:
    """Initialises a child for `call`: ({name: params}, {name: state}), without empty nodes."""
    with inside(name):
        params, state = child.init(fold_name(key, name), x)
    return ({name: params} if params else {}), ({name: state} if state else {})


def paths(tree: Params, prefix: str = "") -> list[str]:
    """Paths of the leaves of a nested dict, such as `stem/conv/w`."""
    found: list[str] = []
    for name, node in tree.items():
        found += paths(node, f"{prefix}{name}/") if isinstance(node, dict) else [prefix + name]
    return found


def structs(where: str, x: Arrays, argument: str = "x") -> Any:
    """Shapes and dtypes of the arrays of a pytree as JAX will hold them; raises for leaves that are not arrays."""

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
