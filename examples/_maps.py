"""Attributions as maps [n, h, w] for images, baselines that know nothing of a network, and the similarity of maps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import rankdata
from skimage.filters import gaussian, sobel

import jaxnn as nn
from jaxnn import explain

REGION = 7  # side of the square over which maps of pixels are averaged
SAMPLES = 12  # of smooth_grad and integrated_gradients
BRIGHTEST = "brightest region"
Maps = dict[str, Any]


def region(maps: jax.Array) -> jax.Array:
    """Largest value of the channels, averaged over squares, [n, h, w, c] -> [n, h, w]."""
    return nn.ops.avg_pool(maps.max(-1, keepdims=True), REGION, stride=1, padding="same")[..., 0]


def enlarged(maps: jax.Array, side: int) -> jax.Array:
    """Maps of a layer in the size of the images, [n, h, w] -> [n, side, side]."""
    return nn.ops.resize(maps[..., None], side)[..., 0]


def methods(path: str, window: int, patches: np.ndarray, key: jax.Array) -> Maps:
    """Method -> function (model, params, state, x, target) -> maps [n, h, w], large where the evidence is.

    Args:
      path: layer of the class activation maps.
      window: side of the occluded windows in pixels.
      patches: number of the group of each pixel, [h, w], for Shapley values.
      key: random key of smooth_grad and shapley_values.
    """

    def of_pixels(method: Any, *args: Any, signed: bool = False, **how: Any) -> Any:
        def maps(*given: Any) -> jax.Array:
            found = method(*given[:4], *args, target=given[4], **how)
            return region(found if signed else jnp.abs(found))

        return maps

    def of_layer(method: Any) -> Any:
        return lambda *given: enlarged(method(*given[:4], path, target=given[4]), given[3].shape[1])

    found = {
        "saliency": of_pixels(explain.saliency),
        "input_x_gradient": of_pixels(explain.input_x_gradient, signed=True),
        "smooth_grad": of_pixels(explain.smooth_grad, key, samples=SAMPLES),
        "integrated_gradients": of_pixels(explain.integrated_gradients, signed=True, steps=SAMPLES),
        "guided_backprop": of_pixels(explain.guided_backprop),
        "deconvnet": of_pixels(explain.deconvnet),
        "grad_cam": of_layer(explain.grad_cam),
        "grad_cam_plus_plus": of_layer(explain.grad_cam_plus_plus),
        "score_cam": of_layer(explain.score_cam),
        "occlusion": lambda *given: explain.occlusion(*given[:4], target=given[4], window=window, stride=window // 2),
        "shapley_values": lambda *given: explain.shapley_values(
            *given[:4], key, target=given[4], groups=patches, permutations=2
        )[:, patches],
    }
    return found


def baselines(x: np.ndarray) -> Maps:
    """Maps that know nothing of a network."""
    side = x.shape[1]
    away = -np.abs(np.arange(side) - side / 2)
    return {
        "random pixel": np.random.default_rng(0).uniform(size=x.shape[:3]),
        "centre": np.broadcast_to(away[:, None] + away, x.shape[:3]),
        "edges (Sobel)": region(jnp.stack([sobel(image) for image in x[..., 0]])[..., None]),
        BRIGHTEST: np.stack([gaussian(image, 5) for image in x[..., 0]]),
    }


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Mean rank correlation of two maps of each image."""
    ranks = (rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (a, b))
    u, v = (r - r.mean(1, keepdims=True) for r in ranks)
    return float(np.mean((u * v).sum(1) / np.maximum(np.sqrt((u**2).sum(1) * (v**2).sum(1)), 1)))  # 0 of equal values
