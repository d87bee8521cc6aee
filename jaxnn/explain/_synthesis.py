"""Inputs that activate a layer: activation maximisation and DeepDream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxnn import _checks as check
from jaxnn._layer import as_layer
from jaxnn.explain._ascent import Bounds, Scalar, limits, maximized, settings
from jaxnn.explain._features import at_layers, to_layer
from jaxnn.explain._target import ModelLike, Target, explained
from jaxnn.types import Key, Params, State


def activation_maximization(
    model: ModelLike,
    params: Params,
    state: State,
    x: Array,
    *,
    key: Key,
    target: Target = None,
    path: str | None = None,
    steps: int = 256,
    learning_rate: Scalar = 0.02,
    jitter: int = 4,
    decay: Scalar = 0.0,
    smoothness: Scalar = 0.0,
    bounds: Bounds = None,
    octaves: int = 1,
    octave_scale: float = 1.4,
) -> Array:
    """Inputs that maximise a score of the model, found by gradient ascent from x, [n, ...] -> [n, ...]:

        x <- clip(x + η (g / rms(g) - λ x - μ L x)),    g = ∂ score / ∂ x

    with L x the sum of the differences to the neighbours in space (the gradient of half their squares). The gradient of
    each example is that of an input moved by a random number of pixels, with periodic borders, and has the root mean
    square 1. The loop is one `scan`.

    Args:
      model: layer, model or function of one input.
      params, state: params and state of the model, which runs in inference mode.
      x: start, floating [n, ...]: noise, grey or images.
      key: random key of the jitter.
      target: score, as in `saliency`. With `path`, an integer or integers [n] are channels of the layer, whose mean
        over space is the score, and a function maps the outputs of the layer to scores.
      path: path of a layer; None for the outputs of the model.
      steps: number of steps of each octave, >= 1.
      learning_rate: η > 0, root mean square of a step in units of x; may be traced.
      jitter: largest shift in pixels on each space axis, >= 0.
      decay: λ >= 0, pulls x to 0; may be traced.
      smoothness: μ >= 0, removes high frequencies; stable for η μ < 1 / (2 · space axes); may be traced.
      bounds: lowest and highest value of x, scalars or one for each channel; None for no limits.
      octaves: number of sizes, >= 1: steps are taken on the smallest first, and the change is enlarged for the next.
      octave_scale: ratio of successive sizes, > 1.

    Raises:
      TypeError: if an argument has a wrong type.
      ValueError: if the path is unknown, a shape does not fit or a number is out of range.

    Differences: PyTorch's lucent and tf-keras-vis have an optimizer and penalties in the score; here the gradient of
      the score is normalised, so that λ, μ and η mean the same for every score.

    Reference: Simonyan et al., Deep Inside Convolutional Networks, 2014, arXiv:1312.6034; decay and blur: Yosinski et
      al., Understanding Neural Networks Through Deep Visualization, 2015, arXiv:1506.06579.

    >>> model = lambda x: x @ jnp.array([[1.0, 0.0], [0.0, -2.0]])
    >>> start = jnp.zeros((1, 2))
    >>> how = {"key": jax.random.key(0), "target": 1, "bounds": (-1.0, 1.0), "learning_rate": 0.1}
    >>> activation_maximization(model, {}, {}, start, **how).tolist()
    [[0.0, -1.0]]
    """
    where = "activation_maximization"
    inner = as_layer(model, where)
    if path is not None:
        inner = to_layer(model, path) if callable(target) else at_layers(model, (path,), _mean_over_space, where)
    how = settings(where, x, steps, jitter, octaves, octave_scale, learning_rate, decay, smoothness)
    arrays = check.typed_key(where, key), learning_rate, decay, smoothness, limits(where, bounds, x)
    return explained(maximized, where, inner, params, state, x, target, *arrays, **how)


def deep_dream(
    model: ModelLike,
    params: Params,
    state: State,
    x: Array,
    path: str,
    *,
    key: Key,
    target: Callable[[Any], Array] | None = None,
    steps: int = 10,
    learning_rate: Scalar = 0.02,
    jitter: int = 16,
    decay: Scalar = 0.0,
    smoothness: Scalar = 0.0,
    bounds: Bounds = None,
    octaves: int = 4,
    octave_scale: float = 1.4,
) -> Array:
    """Images in which a layer's activations are amplified, at several sizes, [n, h, w, c] -> [n, h, w, c].

    Gradient ascent as in `activation_maximization` on the score Σ a² / 2 of the layer's activations a, from images: on
    the smallest size first, then the change is enlarged and added to the image at the next size.

    Args:
      model, params, state: as in `activation_maximization`.
      x: images, floating [n, h, w, c], in the units of the model.
      path: path of the layer: early ones give textures, late ones parts of objects.
      key: random key of the jitter.
      target: function of the layer's outputs that returns scores [n], in place of Σ a² / 2.
      steps, learning_rate, jitter, decay, smoothness, bounds, octaves, octave_scale: as in `activation_maximization`.

    Raises:
      TypeError: if an argument has a wrong type.
      ValueError: if the path is unknown, x is not [n, h, w, c] or a number is out of range.

    Differences: the original program divides the gradient by its mean absolute value, here by its root mean square.

    Reference: Mordvintsev, Olah, Tyka, Inceptionism: Going Deeper into Neural Networks, 2015.

    >>> model = nn.serial(nn.conv(4, 3), nn.relu)
    >>> x = jax.random.uniform(jax.random.key(0), (1, 16, 20, 3))
    >>> params, state = model.init(jax.random.key(1), x)
    >>> y = deep_dream(model, params, state, x, "relu", key=jax.random.key(2), octaves=2, bounds=(0.0, 1.0))
    >>> y.shape, (model.apply(params, state, y)[0] ** 2).sum() > (model.apply(params, state, x)[0] ** 2).sum()
    ((1, 16, 20, 3), Array(True, dtype=bool))
    """
    where = "deep_dream"
    if target is not None:
        check.function(where, "target", target, "of the layer's outputs")
    check.array(where, "x", x, rank=4, shape="[n, h, w, c]")
    how = settings(where, x, steps, jitter, octaves, octave_scale, learning_rate, decay, smoothness)
    arrays = check.typed_key(where, key), learning_rate, decay, smoothness, limits(where, bounds, x)
    inner = to_layer(model, path)
    return explained(maximized, where, inner, params, state, x, target or _energy, *arrays, **how)


def _mean_over_space(y: Array) -> Array:
    return y.reshape(len(y), -1, y.shape[-1]).mean(1)


def _energy(y: Any) -> Array:
    return jnp.sum(jnp.stack([jnp.sum(a.reshape(len(a), -1) ** 2, 1) for a in jax.tree.leaves(y)]), 0) / 2
