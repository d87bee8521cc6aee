"""Attributions from gradients at the input."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._dtypes import widened
from jaxnn._layer import Layer
from jaxnn.explain._target import ModelLike, Target, check_x, explained, filled, gradient, scorer, settled
from jaxnn.types import Key, Params, State


def saliency(model: ModelLike, params: Params, state: State, x: Array, *, target: Target = None) -> Array:
    """Gradient of the score by the input, [n, ...] -> [n, ...]: ∂S(x) / ∂x.

    The sign is kept. A map of an image [n, h, w, c] is often the largest |gradient| of the channels:
    `jnp.abs(maps).max(-1)`.

    Args:
      model: layer, model or function of one input.
      params, state: params and state of the model, which runs in inference mode.
      x: floating inputs [n, ...].
      target: explained score. None is the output of the predicted class, an integer or integers [n] those of given
        classes, a function maps the outputs to scores [n].

    Raises:
      TypeError: if x is not floating or the target has another type.
      ValueError: if the outputs are not [n, classes], without a function as target.

    Differences: captum's Saliency takes the absolute value, and tf-keras-vis its maximum over channels.

    Reference: Simonyan et al., Deep Inside Convolutional Networks, 2014.

    >>> x = jnp.array([[1.0, 3.0]])
    >>> [saliency(jnp.square, {}, {}, x, target=target).tolist() for target in (None, 0)]
    [[[0.0, 6.0]], [[2.0, 0.0]]]
    """
    return explained(_saliency, "saliency", model, params, state, x, target)


def _saliency(model: Layer, params: Params, state: State, x: Array, target: Target) -> Array:
    return gradient(scorer("saliency", model, params, state, target), x)


def input_x_gradient(model: ModelLike, params: Params, state: State, x: Array, *, target: Target = None) -> Array:
    """Gradient of the score times the input, [n, ...] -> [n, ...]: x ∂S(x) / ∂x.

    For a linear model without bias the values of an example add up to its score.

    Args:
      model, params, state, x, target: as in `saliency`.

    Raises:
      TypeError, ValueError: as `saliency`.

    Differences: same as captum's InputXGradient.

    Reference: Shrikumar et al., Not Just a Black Box: Learning Important Features Through Propagating Activation
      Differences, 2016.

    >>> input_x_gradient(jnp.square, {}, {}, jnp.array([[1.0, 3.0]])).tolist()
    [[0.0, 18.0]]
    """
    return explained(_input_x_gradient, "input_x_gradient", model, params, state, x, target)


def _input_x_gradient(model: Layer, params: Params, state: State, x: Array, target: Target) -> Array:
    return x * gradient(scorer("input_x_gradient", model, params, state, target), x)


def smooth_grad(
    model: ModelLike,
    params: Params,
    state: State,
    x: Array,
    key: Key,
    *,
    target: Target = None,
    samples: int = 32,
    stddev: ArrayLike = 0.15,
) -> Array:
    """Mean gradient at noisy copies of the input (SmoothGrad), [n, ...] -> [n, ...].

        mean over samples of ∂S(x + ε) / ∂x,    ε ~ N(0, σ²),    σ = stddev (max x - min x)

    Args:
      model, params, state, x, target: as in `saliency`. The predicted class is that of x without noise.
      key: random key of the noise.
      samples: number of noisy copies, >= 1; they are computed one at a time.
      stddev: standard deviation of the noise as a fraction of the range of each example, >= 0; may be traced. The paper
        recommends 0.1 to 0.2.

    Raises:
      TypeError, ValueError: as `saliency`, or if samples or stddev are out of range.

    Differences: the stdevs of captum's NoiseTunnel are those of the noise itself, 1 by default.

    Reference: Smilkov et al., SmoothGrad: Removing Noise by Adding Noise, 2017.

    >>> maps = smooth_grad(jnp.square, {}, {}, jnp.array([[1.0, 3.0]]), jax.random.key(0), samples=256)
    >>> maps.round(0).tolist()
    [[0.0, 6.0]]
    """
    samples = check.count("smooth_grad", "samples", samples)
    check.scalar("smooth_grad", "stddev", stddev)
    keys = jax.random.split(check.typed_key("smooth_grad", key), samples)
    return explained(_smooth_grad, "smooth_grad", model, params, state, x, target, keys, jnp.float32(stddev))


def _smooth_grad(
    model: Layer, params: Params, state: State, x: Array, target: Target, keys: Array, stddev: Array
) -> Array:
    score = scorer("smooth_grad", model, params, state, settled(model, params, state, x, target))
    inner = tuple(range(1, x.ndim))
    scale = stddev.astype(x.dtype) * (x.max(inner, keepdims=True) - x.min(inner, keepdims=True))
    noisy = lambda key: x + scale * jax.random.normal(key, x.shape, x.dtype)  # noqa: E731
    return mean_gradient(score, noisy, keys, np.full(len(keys), 1 / len(keys)), x)


def integrated_gradients(
    model: ModelLike,
    params: Params,
    state: State,
    x: Array,
    *,
    target: Target = None,
    baseline: ArrayLike = 0.0,
    steps: int = 50,
) -> Array:
    """Integral of the gradient along the line from a baseline to the input, [n, ...] -> [n, ...].

        (x - b) ∫₀¹ ∂S(b + t (x - b)) / ∂x dt

    The values of an example add up to S(x) - S(b), up to the error of the integral, a Gauss-Legendre sum.

    Args:
      model, params, state, x, target: as in `saliency`. The predicted class is that of x.
      baseline: b, an input without information: a number, or an array of the shape of x, of one example or of its last
        axis.
      steps: number of points of the sum, >= 1; they are computed one at a time. ReLU networks need the most.

    Raises:
      TypeError, ValueError: as `saliency`, or if steps or the baseline do not fit.

    Differences: same as captum's IntegratedGradients by default; xplique takes a trapezoidal sum.

    Reference: Sundararajan et al., Axiomatic Attribution for Deep Networks, 2017.

    >>> maps = integrated_gradients(lambda x: x**2 + 1, {}, {}, jnp.array([[1.0, 3.0]]), target=1)
    >>> maps.round(4).tolist()  # 10 - 1
    [[0.0, 9.0]]
    """
    steps = check.count("integrated_gradients", "steps", steps)
    x = check_x("integrated_gradients", x)
    b = filled("integrated_gradients", "baseline", baseline, x)
    return explained(_integrated_gradients, "integrated_gradients", model, params, state, x, target, b, steps=steps)


def _integrated_gradients(
    model: Layer, params: Params, state: State, x: Array, target: Target, b: Array, *, steps: int
) -> Array:
    score = scorer("integrated_gradients", model, params, state, settled(model, params, state, x, target))
    nodes, weights = np.polynomial.legendre.leggauss(steps)  # on [-1, 1]
    t = jnp.asarray((nodes + 1) / 2, x.dtype)
    return (x - b) * mean_gradient(score, lambda t: b + t * (x - b), t, weights / 2, x)


def mean_gradient(score: Any, point: Any, at: Array, weights: np.ndarray, x: Array) -> Array:
    """Weighted sum of the gradients at the inputs `point(a)` for each a in `at`, taken in at least float32."""

    def add(total: Array, step: tuple[Array, Array]) -> tuple[Array, None]:
        a, weight = step
        return total + weight * widened(gradient(score, point(a))), None

    zeros = jnp.zeros_like(widened(x))
    return jax.lax.scan(add, zeros, (at, jnp.asarray(weights, zeros.dtype)))[0].astype(x.dtype)
