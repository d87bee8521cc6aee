"""Calls of one layer by another, and the observation of outputs inside a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnn import _checks as check
from jaxnn._dtypes import passed
from jaxnn._errors import describe, invalid
from jaxnn._gather import reading, uses_below
from jaxnn._keys import fold_name
from jaxnn._layer import Layer, as_layer
from jaxnn._padded import on_values, values_of
from jaxnn._sketch import Sketch, inside
from jaxnn.types import Arrays, Key, Params, State

OBSERVED = "@observed"  # key of an `Observed` in a state; layers cannot have this name


class Tap(NamedTuple):
    """Tap on an output inside a model: records the output, and may add an array to it.

    Attributes:
      add: array of the output's shape that is added to it; its gradient is the gradient at that output. None adds
        nothing.
      outputs: recorded outputs, one for each time the layer ran; filled by `call`.
    """

    add: jax.Array | None = None
    outputs: tuple[Any, ...] = ()


@jax.tree_util.register_static
class Watch:
    """Record of every `call` of a traced model, in order. Passed in the state as a pytree without leaves.

    `seen` maps the path of a layer to the shapes of its output, `layers` to the layer and the shape of its first input,
    None if that is not an array.
    """

    def __init__(
        self,
        seen: dict[str, Any] | None = None,
        path: tuple[str, ...] = (),
        layers: dict[str, tuple[Layer, tuple[int, ...] | None]] | None = None,
    ):
        self.seen: dict[str, Any] = {} if seen is None else seen
        self.layers = {} if layers is None else layers
        self.path = path

    def enter(self, child: Layer, name: str, x: Arrays) -> Watch:
        """Watch of a child layer. Its entry is created now, so that parents precede children."""
        inner = Watch(self.seen, (*self.path, name), self.layers)
        path = "/".join(inner.path)
        self.seen.setdefault(path, None)
        self.layers.setdefault(path, (child, getattr(values_of(x), "shape", None)))
        return inner

    def leave(self, y: Arrays) -> None:
        """Records the output of the layer at this path."""
        self.seen["/".join(self.path)] = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), y)


class Observed(NamedTuple):
    """Requests to `call` to record outputs, in the state of a layer under the key `OBSERVED`.

    In the state it passes through scan, vmap, remat and shared weights; `call` hands it to the children and removes it
    from the state that a layer sees.

    Attributes:
      tap: tap on the layer's output, or None.
      watch: record of the calls inside the layer, or None.
    """

    tap: Tap | None = None
    watch: Watch | None = None


def call(
    child: Layer | Callable[..., Any],
    name: str,
    params: Params,
    state: State,
    x: Arrays,
    *,
    key: Key | None = None,
    train: bool = False,
) -> tuple[Arrays, State]:
    """Runs a child inside a layer's `apply` -> (y, state), with the child's part of the parent's state updated.

    The child gets `params[name]`, `state[name]` and `fold_in(key, crc32(name))`: adding a layer does not change the
    random numbers of the others. Its operations carry `name` in profiles, and an exception inside it names the whole
    path. A `Tap` at the path is applied. Inside a `cast`, floating inputs and outputs are cast to its dtype.

    Args:
      child: a layer, or a function of one input.
      name: name of the child in `params` and `state`.
      params, state: those of the parent.
      x: input of the child.
      key: random key of the parent, or None.
      train: a Python bool.

    Raises:
      TypeError: if `child` is neither a layer nor a function.

    >>> import jaxnn as nn
    >>> head = nn.dense(2)
    >>> params, state = head.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> y, _ = call(head, "head", {"head": params}, {}, jnp.ones((1, 3)))
    >>> y.shape
    (1, 2)
    """
    check.text("call", "name", name)
    child = as_layer(child, "call")
    if isinstance(params, Sketch):
        return params.meet(child, name, x), state
    inner = dict(state.get(name, {}))
    tap, watch = inner.pop(OBSERVED, Observed()).tap, state.get(OBSERVED, Observed()).watch
    if watch is not None:
        watch = watch.enter(child, name, x)
        inner[OBSERVED] = Observed(watch=watch)
    with inside(name), jax.named_scope(name), uses_below(name):
        y, new = reading(child.apply)(params.get(name, {}), inner, passed(x), key=fold_name(key, name), train=train)
        y = passed(y)
        if tap is not None:
            y, tap = _served(name, tap, y)
    if watch is not None:
        watch.leave(y)
    new = {k: v for k, v in new.items() if k != OBSERVED} | ({} if tap is None else {OBSERVED: Observed(tap)})
    rest = {k: v for k, v in state.items() if k != name}
    return y, (rest | {name: new} if new else rest)


class Run:
    """Calls children in sequence inside a layer's `apply`, and updates the state.

    Attributes:
      state: state of the layer, with those of the children called so far updated.
    """

    def __init__(self, params: Params, state: State, key: Key | None, train: bool):
        self.params, self.state, self.key, self.train = params, state, key, train

    def __call__(self, child: Layer, x: Arrays, name: str | None = None) -> Any:
        """Output of a child, which is stored under `name`; None is its own."""
        own = child.name if name is None else name
        y, self.state = call(child, own, self.params, self.state, x, key=self.key, train=self.train)
        return y


def _served(name: str, tap: Tap, y: Arrays) -> tuple[Any, Tap]:
    """The output plus `tap.add`, and the tap with this output recorded."""
    if tap.add is not None:
        values = values_of(y)
        if not hasattr(values, "shape") or jnp.shape(tap.add) != values.shape:
            raise invalid(name, f"Tap(add=) of the output's shape {describe(values)}", tap.add)
        y = on_values(lambda y: y + jnp.asarray(tap.add).astype(y.dtype), y)
    return y, tap._replace(outputs=(*tap.outputs, y))


def output_of(child: Layer, name: str, params: Params, state: State, x: Arrays) -> Arrays:
    """Shape and dtype of a child's output with `train=False`, by abstract evaluation."""
    return jax.eval_shape(lambda p, s, x: call(child, name, p, s, x)[0], params, state, x)
