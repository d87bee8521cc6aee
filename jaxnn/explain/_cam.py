"""Class activation maps: weighted sums of the channels of an inner layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxnn import _checks as check
from jaxnn import ops
from jaxnn._call import Tap
from jaxnn._capture import capture
from jaxnn._dtypes import widened
from jaxnn._errors import invalid
from jaxnn._inputs import is_array
from jaxnn._layer import Layer
from jaxnn.explain._target import ModelLike, Target, explained, scorer, scores, settled
from jaxnn.types import Params, State


def grad_cam(model: ModelLike, params: Params, state: State, x: Array, path: str, *, target: Target = None) -> Array:
    """Channels of an inner layer, weighted by their mean gradients (Grad-CAM), [n, ...] -> [n, *space] of the layer.

        max(Σ_k α_k A_k, 0),    α_k = mean over space of ∂S / ∂A_k

    `ops.resize(maps[..., None], x.shape[1:-1])` has the size of images x.

    Args:
      model, params, state, x, target: as in `saliency`.
      path: path of a layer with outputs A [n, *space, channels], as in `nn.capture`; usually the last convolution.

    Raises:
      TypeError: as `saliency`, or if `path` is not a str.
      ValueError: as `saliency`, or if the path is unknown or its layer has other outputs.

    Differences: captum's LayerGradCam omits the maximum by default.

    Reference: Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-Based Localization, 2017.

    >>> model = nn.serial(nn.conv(4, 3), nn.relu, nn.global_avg_pool(), nn.dense(2))
    >>> x = jax.random.normal(jax.random.key(0), (5, 8, 8, 1))
    >>> params, state = model.init(jax.random.key(1), x)
    >>> grad_cam(model, params, state, x, "relu").shape
    (5, 8, 8)
    """
    check.text("grad_cam", "path", path)
    return explained(_grad_cam, "grad_cam", model, params, state, x, target, path=path)


def _grad_cam(model: Layer, params: Params, state: State, x: Array, target: Target, *, path: str) -> Array:
    a, g = _activations("grad_cam", model, params, state, x, target, path)
    alpha = jnp.mean(g, _space(a), keepdims=True)
    return _combined(alpha, a)


def grad_cam_plus_plus(
    model: ModelLike, params: Params, state: State, x: Array, path: str, *, target: Target = None
) -> Array:
    """Channels of an inner layer, weighted by their positive gradients (Grad-CAM++), [n, ...] -> [n, *space].

        max(Σ_k w_k A_k, 0),    w_k = Σ_ij α_kij max(g_kij, 0),    α = 1 / (2 + g Σ_ij A_kij),    g = ∂S / ∂A

    It covers several objects of a class better than `grad_cam`. The derivation is for the score exp(S), whose factor
    exp(S) is equal for all weights of an example and is omitted. Take the output of a ReLU: where activations are
    negative, the denominator of α can be near 0, and α is 0 where it is 0.

    Args:
      model, params, state, x, path, target: as in `grad_cam`.

    Raises:
      TypeError, ValueError: as `grad_cam`.

    Differences: not in captum. tf-keras-vis and xplique have it, tf-keras-vis with the factor exp(S).

    Reference: Chattopadhay et al., Grad-CAM++: Improved Visual Explanations for Deep Convolutional Networks, 2018.

    >>> x = jnp.array([[[[1.0], [2.0]]]])
    >>> grad_cam_plus_plus(nn.serial(nn.relu, nn.flatten()), {}, {}, x, "relu", target=1).round(3).tolist()
    [[[0.2..., 0.4...]]]
    """
    check.text("grad_cam_plus_plus", "path", path)
    return explained(_plus_plus, "grad_cam_plus_plus", model, params, state, x, target, path=path)


def _plus_plus(model: Layer, params: Params, state: State, x: Array, target: Target, *, path: str) -> Array:
    a, g = _activations("grad_cam_plus_plus", model, params, state, x, target, path)
    below = 2 + jnp.sum(a, _space(a), keepdims=True) * g  # of alpha, without g² in both of its parts
    alpha = jnp.where(below == 0, 0, 1 / jnp.where(below == 0, 1, below))
    return _combined(jnp.sum(alpha * jnp.maximum(g, 0), _space(a), keepdims=True), a)


def score_cam(
    model: ModelLike,
    params: Params,
    state: State,
    x: Array,
    path: str,
    *,
    target: Target = None,
    block: int = 8,
) -> Array:
    """Channels of an inner layer, weighted by the scores of x masked with each (Score-CAM), [n, ...] -> [n, *space].

        max(Σ_k α_k A_k, 0),    α = softmax over k of S(x · M_k)

    M_k is A_k of the example, stretched to [0, 1] and resized to x; 0 for a constant channel. No gradient is computed;
    the price is a forward pass for each channel. A baseline, S(x · M_k) - S(b), would not change the softmax.

    Args:
      model, params, state, x, path, target: as in `grad_cam`; x is [n, *space, c].
      block: number of channels at a time, >= 1.

    Raises:
      TypeError, ValueError: as `grad_cam`, or if x or block do not fit.

    Differences: not in captum. With max_N tf-keras-vis takes the most varied channels only.

    Reference: Wang et al., Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks, 2020.

    >>> model = nn.serial(nn.conv(4, 3), nn.relu, nn.max_pool(2), nn.global_avg_pool(), nn.dense(2))
    >>> x = jax.random.normal(jax.random.key(0), (5, 8, 8, 1))
    >>> params, state = model.init(jax.random.key(1), x)
    >>> score_cam(model, params, state, x, "max_pool").shape
    (5, 4, 4)
    """
    check.text("score_cam", "path", path)
    block = check.count("score_cam", "block", block)
    x = check.array("score_cam", "x", x, least=3, shape="[n, *space, c]")
    return explained(_score_cam, "score_cam", model, params, state, x, target, path=path, block=block)


def _score_cam(model: Layer, params: Params, state: State, x: Array, target: Target, *, path: str, block: int) -> Array:
    score = scorer("score_cam", model, params, state, settled(model, params, state, x, target))
    (_, inner), _ = capture(model, path).apply(params, state, x)
    a = widened(_checked("score_cam", path, inner[path], x))
    low, high = (reduced(a, _space(a), keepdims=True) for reduced in (jnp.min, jnp.max))
    masks = (a - low) / jnp.where(high > low, high - low, 1)

    def masked(mask: Array) -> Array:
        return score(x * ops.resize(mask[..., None], x.shape[1:-1]).astype(x.dtype))

    s = jax.lax.map(masked, jnp.moveaxis(masks, -1, 0), batch_size=block)  # [channels, n]
    alpha = jax.nn.softmax(widened(s), axis=0).T
    return _combined(alpha.reshape(len(x), *(1,) * len(_space(a)), -1), a).astype(x.dtype)


def _activations(
    where: str, model: Layer, params: Params, state: State, x: Array, target: Target, path: str
) -> tuple[Array, Array]:
    """Output A of a layer, and the gradient ∂S / ∂A, in at least float32."""

    def total(add: Array) -> tuple[Array, Any]:
        (y, inner), _ = capture(model, {path: Tap(add=add)}).apply(params, state, x)
        return scores(where, y, target, len(x)).sum(), inner[path]

    plain: Callable[..., Any] = lambda: capture(model, path).apply(params, state, x)[0][1][path]  # noqa: E731
    shape = _checked(where, path, jax.eval_shape(plain), x)
    g, a = jax.grad(total, has_aux=True)(jnp.zeros(shape.shape, shape.dtype))
    return widened(a), widened(g)


def _checked(where: str, path: str, a: Any, x: Array) -> Any:
    """The output of a layer; raises unless it is one array [n, *space, channels]."""
    if not is_array(a) or len(a.shape) < 3 or a.shape[0] != len(x):
        raise invalid(where, f"outputs of {path} of shape [{len(x)}, *space, channels]", a)
    return a


def _space(a: Array) -> tuple[int, ...]:
    return tuple(range(1, a.ndim - 1))


def _combined(weights: Array, a: Array) -> Array:
    """max(Σ_k w_k A_k, 0)."""
    return jnp.maximum(jnp.sum(weights * a, axis=-1), 0)
