"""A model as a function of the output of one of its layers."""

from __future__ import annotations

from typing import Any, NamedTuple

from jax import Array

from jaxnn import _checks as check
from jaxnn._call import Tap
from jaxnn._calls import recorded
from jaxnn._capture import capture
from jaxnn._errors import invalid
from jaxnn._inputs import is_array
from jaxnn._layer import Layer, as_layer, wrap
from jaxnn.explain._target import ModelLike
from jaxnn.types import Arrays, Key, Params, State


class Inner(NamedTuple):
    """The first four arguments of an explanation: `saliency(*from_layer(...))`.

    Attributes:
      model: layer that maps the output of the inner layer to the outputs of the model.
      params: params of the model.
      state: state of the model as "model", the inputs of the model as "x" and the output of the inner layer as "z".
      x: output of the inner layer, [n, ...].

    >>> tuple(Inner._fields)
    ('model', 'params', 'state', 'x')
    """

    model: Layer
    params: Params
    state: State
    x: Array


def from_layer(model: ModelLike, params: Params, state: State, x: Arrays, path: str) -> Inner:
    """Model as a function of the output z of an inner layer, to explain scores by z in place of x.

    Use it for tokens, which have no gradients: explain the output of their embedding.

    Args:
      model: layer or model.
      params, state: params and state of the model.
      x: inputs of the model, for example tokens [n, t]: arrays of any dtype.
      path: path of a layer that runs once, as in `nn.capture`.

    Returns: `Inner(model, params, state, z)`, the first four arguments of every explanation.

    Raises:
      TypeError: if `model` is neither a layer nor a function, or `path` is not a str.
      ValueError: if the path is unknown, or its layer does not return one array.

    Differences: captum has a class for each method, such as LayerIntegratedGradients.

    >>> model = nn.serial(nn.embed(9, 4), nn.flatten(), nn.dense(2))
    >>> tokens = jnp.array([[3, 1, 4], [1, 5, 8]])
    >>> params, state = model.init(jax.random.key(0), tokens)
    >>> nn.explain.saliency(*from_layer(model, params, state, tokens, "embed")).shape
    (2, 3, 4)
    """
    model = as_layer(model, "from_layer")
    check.text("from_layer", "path", path)
    (_, inner), _ = capture(model, path).apply(params, state, x)
    z = inner[path]
    if not is_array(z):
        raise invalid("from_layer", f"{path} to run once and to return one array", z)
    return Inner(_continued(model, path), params, {"model": state, "x": x, "z": z}, z)


@recorded
def _continued(model: Layer, path: str) -> Layer:
    """Layer z -> outputs of the model for the inputs in its state, with z as the output of the layer at a path."""

    def apply(params: Params, state: State, z: Array, *, key: Key | None, train: bool) -> tuple[Any, State]:
        tapped = capture(model, {path: Tap(add=z - state["z"])})
        (y, _), _ = tapped.apply(params, state["model"], state["x"], key=key, train=train)
        return y, state

    return wrap(model, model.init, apply)
