"""Sampling images at non-integer coordinates: grid sampling and affine grids."""

import itertools
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxnn import _checks as check
from jaxnn._dtypes import param_dtype
from jaxnn._errors import invalid
from jaxnn.ops._resize import METHODS, keys_cubic
from jaxnn.ops._window import per_axis

OUTSIDES = ("zeros", "border", "reflection")


def grid_sample(
    x: Array,
    grid: Array,
    *,
    method: Literal["nearest", "linear", "cubic"] = "linear",
    outside: Literal["zeros", "border", "reflection"] = "zeros",
    align_corners: bool = False,
) -> Array:
    """Samples images at the coordinates of a grid, [n, *space, c], [n, *space', k] -> [n, *space', c].

    x has k = 1 to 3 space axes. The result is differentiable with respect to x and, except with "nearest", to the grid.
    Use it for spatial transformers, optical flow and augmentation.

    Args:
      x: images, floating.
      grid: coordinates in [-1, 1] from border to border, floating. As in PyTorch, the last axis lists the space axes in
        reverse: (x, y) along width and height. A coordinate that is NaN or infinite gives NaN.
      method: interpolation: "nearest" (halves go to the even position), "linear", or "cubic" (Keys' kernel, a = -0.75).
      outside: values beyond x: "zeros", its "border" repeated, or its "reflection".
      align_corners: if True, -1 and 1 are the centres of the first and last pixel, otherwise their outer borders.

    Raises:
      ValueError: if the shapes do not fit, or `method` or `outside` is unknown.
      TypeError: if x or the grid is not floating.

    Reference: Jaderberg et al., Spatial Transformer Networks, 2015.

    >>> grid_sample(jnp.array([1.0, 3.0]).reshape(1, 2, 1), jnp.array([-0.5, 0.0]).reshape(1, 2, 1))[0, :, 0].tolist()
    [1.0, 2.0]
    """
    x = check.array("grid_sample", "x", x, least=3, shape="[n, *space, c]")
    rank = x.ndim - 2
    grid = check.array("grid_sample", "grid", grid, rank=x.ndim, shape=f"[n, *space', {rank}]")
    if grid.shape[0] != x.shape[0] or grid.shape[-1] != rank or 0 in x.shape[1:-1]:
        raise invalid("grid_sample", f"x and a grid of shape [{x.shape[0]}, *space', {rank}]", (x, grid))
    check.choice("grid_sample", "method", method, METHODS)
    check.choice("grid_sample", "outside", outside, OUTSIDES)
    check.flags("grid_sample", align_corners=align_corners)
    wide = jnp.promote_types(param_dtype(x), param_dtype(grid))
    taps = []
    for n, place in zip(x.shape[1:-1], jnp.moveaxis(grid.astype(wide), -1, 0)[::-1], strict=True):
        at = (place + 1) / 2 * (n - 1) if align_corners else ((place + 1) * n - 1) / 2
        taps.append(_taps(at, n, method, outside, align_corners))
    example = jnp.arange(x.shape[0]).reshape(-1, *(1,) * rank)
    y = jnp.zeros((), wide)
    for corner in itertools.product(*taps):
        weight = jnp.ones((), wide)
        for _, w in corner:
            weight = weight * w
        y = y + x[(example, *(i for i, _ in corner))].astype(wide) * weight[..., None]
    return y.astype(x.dtype)


def _taps(at: Array, n: int, method: str, outside: str, align_corners: bool) -> list[tuple[Array, Array]]:
    """(index, weight) of each position of an axis that contributes at the coordinates `at`."""
    known = jnp.isfinite(at)
    at = jnp.where(known, at, 0)
    if outside == "reflection":
        at = _reflected(at, n, align_corners)
    elif outside == "border":
        at = jnp.clip(at, 0, n - 1)
    else:  # all values far outside are 0; a coordinate of 1e30 would overflow the index
        at = jnp.clip(at, -4, n + 3)
    lost = jnp.where(known, 0, jnp.nan).astype(at.dtype)
    if method == "nearest":
        steps = [(jnp.round(at), jnp.ones_like(at))]
    else:
        base = jnp.floor(at)
        offsets = (0, 1) if method == "linear" else (-1, 0, 1, 2)
        distances = [jnp.abs(at - base - o) for o in offsets]
        weights = [1 - t if method == "linear" else keys_cubic(t, a=-0.75) for t in distances]
        steps = [(base + o, w) for o, w in zip(offsets, weights, strict=True)]
    taps = []
    for step, weight in steps:
        if outside == "zeros":
            weight = jnp.where((step >= 0) & (step <= n - 1), weight, 0)
        elif outside == "reflection":
            step = _reflected(step, n, align_corners)
        taps.append((jnp.clip(step, 0, n - 1).astype(jnp.int32), weight + lost))
    return taps


def _reflected(at: Array, n: int, align_corners: bool) -> Array:
    """Reflects coordinates into x about the centres, or the outer borders, of its first and last pixel."""
    low, span = (0.0, n - 1) if align_corners else (-0.5, n)
    if span == 0:
        return jnp.zeros_like(at)
    phase = jnp.mod(at - low, 2 * span)
    return jnp.minimum(phase, 2 * span - phase) + low


def affine_grid(theta: Array, size: int | Sequence[int], *, align_corners: bool = False) -> Array:
    """Sampling grid of an affine map, for `grid_sample`, [n, k, k + 1] -> [n, *size, k].

        grid[i] = theta[:, :k] · p_i + theta[:, k],    p_i in [-1, 1], width first

    Args:
      theta: affine maps from coordinates of the result to coordinates of x, floating.
      size: size of the result on each of the k space axes.
      align_corners: as in `grid_sample`.

    Raises:
      ValueError: if the shapes do not fit.
      TypeError: if theta is not floating.

    >>> affine_grid(jnp.array([[[1.0, 0.0]]]), 4)[0, :, 0].tolist()
    [-0.75, -0.25, 0.25, 0.75]
    """
    theta = check.array("affine_grid", "theta", theta, rank=3, shape="[n, k, k + 1]")
    k = theta.shape[1]
    if theta.shape[2] != k + 1 or k not in (1, 2, 3):
        raise invalid("affine_grid", "theta of shape [n, k, k + 1] with 1 to 3 space axes", theta)
    check.flags("affine_grid", align_corners=align_corners)
    sizes = per_axis("affine_grid", "size", size, k)
    ends = [(n - 1) / n if not align_corners else float(n > 1) for n in sizes]
    axes = [np.linspace(-end, end, n) for n, end in zip(sizes, ends, strict=True)]
    places = np.stack([*np.meshgrid(*axes, indexing="ij")[::-1], np.ones(sizes)], -1)
    wide = param_dtype(theta)
    highest = lax.Precision.HIGHEST  # an error of 2⁻⁹ of the image is one pixel in 512
    grid = jnp.einsum("...j,nij->n...i", jnp.asarray(places, wide), theta.astype(wide), precision=highest)
    return grid.astype(theta.dtype)
