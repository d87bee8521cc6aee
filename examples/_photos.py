"""Photos of scikit-image for two published networks: a classifier of ImageNet, and VGG16 as trained for edges."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from imagenet import square
from PIL import Image
from skimage import data

import jaxnn as nn

SQUARES = ("chelsea", "coffee", "astronaut")
CUT = ("astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "hubble_deep_field", "rocket")
TILE = 96  # pixels of a part of a photo
BGR = np.array([104.00699, 116.66877, 122.67892], np.float32)  # the means that VGG16 subtracts

Model = tuple[nn.Layer, Any, Any]


def rgb(name: str) -> Image.Image:
    """A photo of scikit-image in three channels."""
    return Image.fromarray(getattr(data, name)()).convert("RGB")


def classifier() -> tuple[Model, jax.Array, tuple[str, ...]]:
    """EfficientNet-Lite0 with its weights, photos for it, and its classes."""
    x = (jnp.stack([np.asarray(square(rgb(name)), np.float32) for name in SQUARES]) - 127) / 128
    checkpoint = nn.interop.fetch("efficientnet_lite0")
    model = nn.models.efficientnet("lite0")
    return (model, *nn.interop.load(model, x, checkpoint.path, names=checkpoint.names)), x, tuple(checkpoint.classes)


def tiles(count: int | None) -> np.ndarray:
    """Parts of photos without overlap, bytes [n, side, side, 3]; the first `count` of them, or all."""
    found = []
    for name in CUT:
        photo = np.asarray(rgb(name))
        rows, columns = (size // TILE for size in photo.shape[:2])
        photo = photo[: rows * TILE, : columns * TILE].reshape(rows, TILE, columns, TILE, 3)
        found.append(photo.swapaxes(1, 2).reshape(-1, TILE, TILE, 3))
    return np.concatenate(found)[:count]


def edges(images: np.ndarray) -> tuple[Model, np.ndarray, Callable[[Any], np.ndarray]]:
    """VGG16 with the weights of HED, images for it, and the function back to colours in [0, 1]."""
    x, checkpoint = images[..., ::-1].astype(np.float32) - BGR, nn.interop.fetch("hed")
    model = nn.models.hed()
    of = model, *nn.interop.load(model, x[:1], checkpoint.path, names=checkpoint.names, layout=checkpoint.layout)
    return of, x, lambda x: ((np.asarray(x) + BGR) / 255)[..., ::-1]
