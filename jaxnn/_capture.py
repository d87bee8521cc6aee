"""Capture of inner outputs, by taps in the state: they pass through scan, vmap, remat and shared weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax

from jaxnn._call import OBSERVED, Observed, Tap, Watch
from jaxnn._errors import invalid, wrong_type
from jaxnn._layer import Layer, as_layer, wrap
from jaxnn.types import Arrays, Key, Params, State


def capture(model: Layer, paths: str | Sequence[str] | Mapping[str, Tap]) -> Layer:
    """Model that also returns inner outputs: its apply gives `((y, {path: output}), state)`.

    Inside `repeat` outputs are stacked, `[n, ...]`. A layer that runs several times (shared weights) gives a tuple. The
    derivative with respect to `Tap(add=zeros)` is the gradient at the inner output, as needed for Grad-CAM.

    Args:
      model: layer or model.
      paths: path or paths of layers, such as `stem/conv`, or a mapping from path to `Tap`. Paths may be glob patterns:
        `*` is every layer, in the order of the calls.

    Returns:
      Layer with the params and state of `model`. Its apply raises ValueError, with a list of the paths, if a path is
      unknown.

    Raises:
      TypeError: if `model` is neither a layer nor a function, or `paths` has another type.

    Differences: PyTorch registers forward hooks; Keras builds a second model on the inner outputs.

    >>> import jax.numpy as jnp, jaxnn as nn
    >>> model = nn.serial(nn.dense(3), nn.relu, nn.dense(2))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 4)))
    >>> (y, inner), _ = capture(model, "relu").apply(params, state, jnp.ones((1, 4)))
    >>> inner["relu"].shape
    (1, 3)
    >>> list(capture(model, "*").apply(params, state, jnp.ones((1, 4)))[0][1])
    ['dense', 'relu', 'dense_1']
    >>> def score(delta):
    ...     (y, _), _ = capture(model, {"relu": Tap(add=delta)}).apply(params, state, jnp.ones((1, 4)))
    ...     return y[0, 1]
    >>> jnp.array_equal(jax.grad(score)(jnp.zeros((1, 3)))[0], params["dense_1"]["w"][:, 1]).item()
    True
    """
    model = as_layer(model, "capture")
    if isinstance(paths, str):
        paths = [paths]
    expected = "paths as strings, or a mapping from path to Tap"
    if not isinstance(paths, Sequence | Mapping):
        raise wrong_type("capture", expected, paths)
    taps = dict(paths) if isinstance(paths, Mapping) else {path: Tap() for path in paths}
    for path, tap in taps.items():
        if not isinstance(path, str) or not isinstance(tap, Tap):
            raise wrong_type("capture", expected, {path: tap} if isinstance(paths, Mapping) else path)

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        tapped, found = state, taps
        if any(map(_is_pattern, taps)):
            found = _matching(taps, list(layer_paths(model, params, state, x)))
        for path, tap in found.items():
            tapped = _with(tapped, path.split("/"), tap)
        y, new = model.apply(params, tapped, x, key=key, train=train)
        inner = {}
        for path in found:
            outputs = _at(new, path.split("/"))
            if not outputs:
                known = ", ".join(layer_paths(model, params, state, x))
                raise invalid("capture", f"one of the paths {known}" if known else "a model of layers", path)
            inner[path] = outputs[0] if len(outputs) == 1 else outputs
        for path in found:
            new = _without(new, path.split("/"))
        return (y, inner), new

    return wrap(model, model.init, apply)


def _is_pattern(path: str) -> bool:
    return any(c in path for c in "*?[")


def _matching(taps: Mapping[str, Tap], known: Sequence[str]) -> dict[str, Tap]:
    """Taps with each pattern replaced by the paths that match it; a pattern without a match stays, and is unknown."""
    found: dict[str, Tap] = {}
    for path, tap in taps.items():
        names = [name for name in known if fnmatchcase(name, path)] if _is_pattern(path) else [path]
        found |= dict.fromkeys(names or [path], tap)
    return found


def layer_paths(model: Layer, params: Params, state: State, x: Arrays) -> dict[str, Any]:
    """Path -> shapes of the output for every layer, in the order of the calls."""
    return watched(model, params, state, x).seen


def watched(model: Layer, params: Params, state: State, x: Arrays) -> Watch:
    """Record of every call inside a model. Only shapes are computed."""
    watch = Watch()
    jax.eval_shape(lambda p, s, x: model.apply(p, {**s, OBSERVED: Observed(watch=watch)}, x)[0], params, state, x)
    return watch


def _with(state: State, path: list[str], tap: Tap) -> dict[str, Any]:
    head, *rest = path
    inner = state.get(head, {})
    if not isinstance(inner, dict):  # the path leads through an array: without a tap, it is reported as unknown
        return state
    return {**state, head: _with(inner, rest, tap) if rest else {**inner, OBSERVED: Observed(tap)}}


def _at(state: State, path: list[str]) -> tuple[Any, ...]:
    for name in path:
        state = state.get(name, {}) if isinstance(state, dict) else {}
    tap = state.get(OBSERVED, Observed()).tap if isinstance(state, dict) else None
    return () if tap is None else tap.outputs


def _without(state: State, path: list[str]) -> dict[str, Any]:
    """State without the tap at a path, and without nodes that are empty afterwards."""
    head, *rest = path
    inner = state.get(head)
    if not isinstance(inner, dict):
        return state
    inner = _without(inner, rest) if rest else {k: v for k, v in inner.items() if k != OBSERVED}
    others = {k: v for k, v in state.items() if k != head}
    return {**others, head: inner} if inner else others
