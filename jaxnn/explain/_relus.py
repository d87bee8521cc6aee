"""Guided backpropagation and deconvnet: gradients with another rule for the ReLUs of a model."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxnn._layer import Layer
from jaxnn.explain._swap import with_relu
from jaxnn.explain._target import ModelLike, Target, explained, gradient, scorer
from jaxnn.types import Params, State


def guided_backprop(model: ModelLike, params: Params, state: State, x: Array, *, target: Target = None) -> Array:
    """Gradient that passes ReLUs where it and their input are positive, [n, ...] -> [n, ...].

        ReLU: y = max(x, 0),    ∂x = max(∂y, 0) [x > 0]

    Each `max(x, 0)` and `where(x > 0, x, 0)` of the program is a ReLU, in any layer or function, also as a part of
    relu6 or of a clip, and inside scan, remat and cond. Other activations, such as leaky_relu, keep their derivatives.

    The maps are sharp, but depend little on the params of upper layers and on the class (Adebayo et al., Sanity Checks
    for Saliency Maps, 2018): they show edges of the input more than reasons of the model.

    Args:
      model, params, state, x, target: as in `saliency`.

    Raises:
      TypeError: as `saliency`.
      ValueError: as `saliency`, or if the model has no ReLU.

    Differences: same as captum's GuidedBackprop, which sees modules of the class ReLU only, and changes nothing without
      an error in a model that has none.

    Reference: Springenberg et al., Striving for Simplicity: The All Convolutional Net, 2015.

    >>> w, v = jnp.array([[1.0, 1.0]]), jnp.array([[1.0], [-3.0]])
    >>> def model(x):
    ...     return nn.relu(x @ w) @ v
    >>> [method(model, {}, {}, jnp.ones((1, 1))).tolist() for method in (guided_backprop, nn.explain.saliency)]
    [[[1.0]], [[-2.0]]]
    """
    return explained(_guided_backprop, "guided_backprop", model, params, state, x, target)


def _guided_backprop(model: Layer, params: Params, state: State, x: Array, target: Target) -> Array:
    relu = _rectifier(lambda x, g: jnp.where(x > 0, jnp.maximum(g, 0), 0))
    return gradient(with_relu("guided_backprop", scorer("guided_backprop", model, params, state, target), relu), x)


def deconvnet(model: ModelLike, params: Params, state: State, x: Array, *, target: Target = None) -> Array:
    """Gradient that passes ReLUs where it is positive, whatever their input, [n, ...] -> [n, ...].

        ReLU: y = max(x, 0),    ∂x = max(∂y, 0)

    Max pools pass it to their maxima, as the switches of the paper do. ReLUs are found as by `guided_backprop`.

    Args:
      model, params, state, x, target: as in `saliency`.

    Raises:
      TypeError: as `saliency`.
      ValueError: as `saliency`, or if the model has no ReLU.

    Differences: same as captum's Deconvolution, which sees modules of the class ReLU only.

    Reference: Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, 2014.

    >>> w = jnp.array([[2.0, -1.0]])
    >>> deconvnet(lambda x: nn.relu(x @ w), {}, {}, jnp.ones((1, 1)), target=1).tolist()
    [[-1.0]]
    """
    return explained(_deconvnet, "deconvnet", model, params, state, x, target)


def _deconvnet(model: Layer, params: Params, state: State, x: Array, target: Target) -> Array:
    relu = _rectifier(lambda x, g: jnp.maximum(g, 0))
    return gradient(with_relu("deconvnet", scorer("deconvnet", model, params, state, target), relu), x)


def _rectifier(rule: Callable[[Array, Array], Array]) -> Callable[[Array], Array]:
    """ReLU with the backward pass `rule(x, gradient of y) -> gradient of x`."""

    @jax.custom_vjp
    def relu(x: Array) -> Array:
        return jnp.maximum(x, 0)

    relu.defvjp(lambda x: (jnp.maximum(x, 0), x), lambda x, g: (rule(x, g),))
    return relu
