"""Figures of explanations: functions of arrays that return figures of matplotlib, an extra.

Figures are made without a screen and without `pyplot`: `figure.savefig(path)` stores one, a notebook shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._errors import invalid
from jaxnn.explain._extras import imported
from jaxnn.explain._figures import fitting, frame, images_of, place, scaled

__all__ = ["embedding", "grid", "landscape", "maps", "matrix"]

CELL = 1.6  # inches of an image


def grid(
    images: ArrayLike,
    *,
    columns: int = 8,
    titles: Sequence[str] | None = None,
    limits: tuple[float, float] | None = None,
) -> Any:
    """Images in rows, [n, h, w] or [n, h, w, c] -> figure; or rows of images, such as patches, [r, k, h, w, c].

    Args:
      images: real numbers; c is 1 or 3.
      columns: images in a row, >= 1; unused for rows of images.
      titles: a title for each image, or for each row of images.
      limits: values shown as black and white; None: the least and the largest of each image.

    Raises:
      TypeError: if the images are not real numbers.
      ValueError: if a shape does not fit, or matplotlib is not installed.

    Differences: torchvision's `make_grid` returns an image.

    >>> len(grid(np.zeros((3, 8, 8, 1)), columns=2).axes)
    4
    """
    shown = images_of("grid", images, (3, 4, 5))
    columns = shown.shape[1] if shown.ndim == 5 else min(check.count("grid", "columns", columns), max(len(shown), 1))
    by_row = shown.ndim == 5
    fitting("grid", "titles", titles, len(shown))
    shown = shown.reshape(-1, *shown.shape[2:]) if by_row else shown
    figure, axes = frame("grid", ceil(len(shown) / columns), columns, (CELL, CELL * shown.shape[1] / shown.shape[2]))
    for i, on in enumerate(axes.flat):
        on.set_axis_off()
        if i < len(shown):
            on.imshow(scaled(shown[i], limits), cmap="gray", vmin=0, vmax=1)
            if titles is not None and (not by_row or i % columns == 0):
                on.set_title(titles[i // columns if by_row else i], fontsize=8, loc="left" if by_row else "center")
    return figure


def maps(images: ArrayLike, maps: ArrayLike, *, titles: Sequence[str] | None = None) -> Any:
    """Images with maps of importance, [n, h, w, c] and [n, m, h, w] -> figure with a row for each image.

    The first column has the images, each further one a map over a pale image: positive values red, negative ones blue,
    in units of the largest absolute value of the map.

    Args:
      images: real numbers, of which the least is black and the largest white; c is 1 or 3.
      maps: m maps of each image, real, such as the sums over the channels of `saliency`.
      titles: m titles of the maps.

    Raises:
      TypeError: if images or maps are not real numbers.
      ValueError: if a shape does not fit, or matplotlib is not installed.

    Differences: captum's `visualize_image_attr` draws one map.

    >>> len(maps(np.zeros((2, 8, 8, 1)), np.ones((2, 3, 8, 8))).axes)
    8
    """
    shown = images_of("maps", images, (4,))
    check.kind("maps", "maps", maps, "real")
    values = np.asarray(maps, np.float32)
    n, h, w, _ = shown.shape
    if values.ndim != 4 or (values.shape[0], *values.shape[2:]) != (n, h, w):
        raise invalid("maps", f"maps of shape [{n}, m, {h}, {w}]", maps)
    fitting("maps", "titles", titles, values.shape[1])
    figure, axes = frame("maps", n, 1 + values.shape[1], (CELL, CELL * h / w))
    for row, image, of in zip(axes, shown, values, strict=True):
        grey = scaled(image, None)
        grey = grey.mean(-1) if grey.ndim == 3 else grey
        for k, on in enumerate(row):
            on.set_axis_off()
            if not k:
                on.imshow(scaled(image, None), cmap="gray", vmin=0, vmax=1)
                continue
            largest = np.abs(of[k - 1]).max() or 1
            on.imshow(0.7 + 0.3 * grey, cmap="gray", vmin=0, vmax=1)
            on.imshow(of[k - 1] / largest, cmap="bwr", vmin=-1, vmax=1, alpha=np.abs(of[k - 1]) / largest)
    for on, title in zip(axes[0, 1:], titles or [], strict=bool(titles)):
        on.set_title(title, fontsize=8)
    return figure


def landscape(
    losses: ArrayLike,
    coordinates: Sequence[ArrayLike],
    *,
    trajectory: ArrayLike | None = None,
    levels: int = 24,
    axes: Any = None,
) -> Any:
    """Losses as a curve or as contours, [a] or [a, b] -> figure. Contours are spaced evenly in the logarithm.

    Args:
      losses: values of `nn.explain.landscape`, real; those of a plane > 0.
      coordinates: those of each axis, [a] and [b].
      trajectory: coordinates of stages of training, [t, 2], drawn as a line; None for none.
      levels: number of contours, >= 2.
      axes: axes of matplotlib to draw on; None makes a figure.

    Raises:
      TypeError: if an argument has a wrong type.
      ValueError: if a shape does not fit, or matplotlib is not installed.

    Differences: the code of Li et al. draws with matplotlib from files.

    >>> side = np.linspace(-1, 1, 5)
    >>> figure = landscape(1 + side[:, None] ** 2 + side[None] ** 2, [side, side])
    """
    check.kind("landscape", "losses", losses, "real")
    levels = check.count("landscape", "levels", levels, 2)
    values, along = np.asarray(losses, np.float64), [np.asarray(c, np.float64) for c in coordinates]
    if values.ndim not in (1, 2) or values.shape != tuple(len(c) for c in along):
        raise invalid("landscape", "losses [a] or [a, b] for coordinates [a] and [b]", losses)
    on = place("landscape", axes, (5.5, 4.5))
    if values.ndim == 1:
        on.plot(along[0], values)
        on.set(xlabel="along the direction", ylabel="loss")
        return on.figure
    low, high = np.nanmin(values), np.nanmax(values[np.isfinite(values)])
    steps = np.geomspace(max(low, 1e-12), max(high, 1.001 * low, 2e-12), levels)
    drawn = on.contour(*along, values.T, levels=steps, cmap="viridis", linewidths=0.9)
    on.clabel(drawn, drawn.levels[::3], fontsize=7, fmt="%.3g")
    if trajectory is not None:
        path = np.asarray(trajectory)
        check.shape("landscape", "trajectory", path, (len(path), 2))
        on.plot(*path.T, ".-", color="tab:red", lw=1, ms=4)
        on.plot(*path[-1], "*", color="tab:red", ms=10)
    on.set(xlabel="along direction 1", ylabel="along direction 2")
    return on.figure


def embedding(
    points: ArrayLike, labels: ArrayLike | None = None, *, classes: Sequence[str] | None = None, axes: Any = None
) -> Any:
    """Points on a plane, coloured by class, [n, 2] -> figure.

    Args:
      points: real [n, 2], such as the results of `tsne` or `PCA.apply`.
      labels: class numbers, integer [n]; None for one colour.
      classes: names of the classes.
      axes: as in `landscape`.

    Raises:
      TypeError: if points are not real numbers or labels not integers.
      ValueError: if a shape does not fit, or matplotlib is not installed.

    Differences: none of the other libraries has it.

    >>> len(embedding(np.eye(2), np.array([0, 1]), classes=["a", "b"]).axes)
    1
    """
    check.kind("embedding", "points", points, "real")
    at = np.asarray(points, np.float32)
    check.shape("embedding", "points", at, (len(at), 2))
    on = place("embedding", axes, (6.5, 5))
    on.set(xticks=[], yticks=[])
    if labels is None:
        on.scatter(*at.T, s=5)
        return on.figure
    check.kind("embedding", "labels", labels, "integer")
    check.shape("embedding", "labels", labels, (len(at),))
    of = np.asarray(labels)
    present = np.unique(of)
    if classes is not None and present.max(initial=0) >= len(classes):
        raise invalid("embedding", f"at least {present.max() + 1} names of classes", classes)
    colours = imported("embedding", "matplotlib", "matplotlib").colormaps["tab10" if len(present) <= 10 else "tab20"]
    for i, label in enumerate(present):
        name = str(label) if classes is None else classes[label]
        on.scatter(*at[of == label].T, s=5, color=colours(i % colours.N), label=name)
    on.legend(markerscale=3, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return on.figure


def matrix(
    values: ArrayLike, *, rows: Sequence[str] | None = None, columns: Sequence[str] | None = None, axes: Any = None
) -> Any:
    """Matrix as a picture with its values, [r, c] -> figure; for the values of `cka_matrix`.

    Args:
      values: real [r, c]; colours span 0 to 1, or further if there are other values.
      rows, columns: names of the rows and the columns.
      axes: as in `landscape`.

    Raises:
      TypeError: if the values are not real numbers.
      ValueError: if a shape does not fit, or matplotlib is not installed.

    Differences: seaborn's `heatmap`.

    >>> figure = matrix(np.eye(2), rows=["a", "b"])
    """
    check.kind("matrix", "values", values, "real")
    shown = np.asarray(values, np.float32)
    if shown.ndim != 2:
        raise invalid("matrix", "values of shape [r, c]", values)
    fitting("matrix", "rows", rows, shown.shape[0])
    fitting("matrix", "columns", columns, shown.shape[1])
    on = place("matrix", axes, (1.5 + 0.55 * shown.shape[1], 1.2 + 0.45 * shown.shape[0]))
    low, high = min(0, shown.min()), max(1, shown.max())
    on.imshow(shown, vmin=low, vmax=high, cmap="viridis", aspect="auto")
    for (r, c), value in np.ndenumerate(shown):
        colour = "white" if value - low < 0.6 * (high - low) else "black"
        on.text(c, r, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    size = shown.shape
    on.set_xticks(range(size[1]), range(size[1]) if columns is None else columns, rotation=45, ha="right", fontsize=8)
    on.set_yticks(range(size[0]), range(size[0]) if rows is None else rows, fontsize=8)
    return on.figure
