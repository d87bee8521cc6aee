"""Frames of figures, and images as matplotlib shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._errors import invalid
from jaxnn.explain._extras import imported


def frame(where: str, rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, np.ndarray]:
    """A figure and its axes, [rows, columns]; `size` is that of one of them in inches."""
    figures = imported(where, "matplotlib.figure", "matplotlib")
    figure = figures.Figure((columns * size[0], rows * size[1]), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def place(where: str, axes: Any, size: tuple[float, float]) -> Any:
    """The axes that were given, or those of a new figure of `size` inches."""
    return frame(where, 1, 1, size)[1][0, 0] if axes is None else axes


def images_of(where: str, images: ArrayLike, ranks: tuple[int, ...]) -> np.ndarray:
    """Images as an array that ends in [h, w, c], c = 1 or 3."""
    check.kind(where, "images", images, "real")
    shown = np.asarray(images, np.float32)
    if shown.ndim == 3 and 3 in ranks:
        shown = shown[..., None]
    if shown.ndim not in ranks or shown.shape[-1] not in (1, 3):
        raise invalid(where, "images of shape [..., h, w, c] with 1 or 3 channels", images)
    return shown


def scaled(image: np.ndarray, limits: tuple[float, float] | None) -> np.ndarray:
    """An image [h, w, c] in [0, 1], as [h, w] if c is 1."""
    low, high = limits or (image.min(), image.max())
    image = np.clip((image - low) / (high - low if high > low else 1), 0, 1)
    return image[..., 0] if image.shape[-1] == 1 else image


def fitting(where: str, argument: str, names: Sequence[str] | None, n: int) -> None:
    """Raises unless there is a name for each of n."""
    if names is not None and (isinstance(names, str) or len(names) != n):
        raise invalid(where, f"{argument} to be {n} names", names)
