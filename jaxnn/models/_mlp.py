"""Multilayer perceptron."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._errors import wrong_type
from jaxnn._layer import Layer
from jaxnn.activations import relu
from jaxnn.layers import dense, dropout
from jaxnn.models._parts import Norm, named, stacked


@recorded
def mlp(
    features: int,
    *,
    hidden: Sequence[int] = (256, 256),
    activation: Callable[..., Any] = relu,
    norm: Norm | None = None,
    rate: float | jax.Array = 0.0,
    preset: str = "jaxnn",
    name: str | None = None,
) -> Layer:
    """Multilayer perceptron, [..., d] -> [..., features]: dense layers with an activation between them.

    Children dense1, dense2, ..., head. For images put `flatten` before it.

    Args:
      features: size of the last axis of the result, such as the number of classes, an integer >= 1.
      hidden: sizes of the hidden layers, integers >= 1; an empty one gives a linear model.
      activation: elementwise function after each hidden layer.
      norm: factory of a norm before each activation, such as `batch_norm` or `layer_norm`; None omits it.
      rate: dropout rate after each activation, in [0, 1); may be traced.
      preset: the default initialization of the dense layers.
      name: pins the name.

    Raises:
      ValueError: if a number is out of range.
      TypeError: if an argument is of a wrong type.

    Reference: Rumelhart et al., Learning Representations by Back-Propagating Errors, 1986.

    >>> params, state = mlp(10, hidden=(32,)).init(jax.random.key(0), jnp.ones((1, 64)))
    >>> params["dense1"]["w"].shape, params["head"]["w"].shape
    ((64, 32), (32, 10))
    """
    where = name or "mlp"
    features = check.count(where, "features", features)
    layers = hidden_layers(check_hidden(where, hidden), activation, preset, norm, rate)
    return stacked("mlp", name, *layers, dense(features, preset=preset, name="head"))


def check_hidden(where: str, hidden: Any) -> list[int]:
    """The sizes of hidden layers as ints."""
    if not isinstance(hidden, list | tuple):
        raise wrong_type(where, "hidden to be a tuple of integers", hidden, "Pass hidden=(256,) for one layer.")
    return [check.count(where, "hidden", size) for size in hidden]


def hidden_layers(
    sizes: Sequence[int],
    activation: Callable[..., Any],
    preset: str,
    norm: Norm | None = None,
    rate: float | jax.Array = 0.0,
) -> list[Any]:
    """Dense layers dense1, dense2, ..., each with its norm, the activation and dropout."""
    layers: list[Any] = []
    for k, size in enumerate(sizes, start=1):
        layers.append(dense(size, preset=preset, name=f"dense{k}"))
        layers += [] if norm is None else [named(norm(), f"norm{k}")]
        layers += [activation, dropout(rate)]
    return layers
