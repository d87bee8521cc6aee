"""Resizing images, and moving positions between space and channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxnn import _checks as check
from jaxnn._errors import describe, invalid
from jaxnn._mesh import gathered, merged
from jaxnn.ops._window import per_axis
from jaxnn.types import Arrays

Coordinates = Literal["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]
Rounding = Literal["half_up", "half_down", "floor", "ceil"]
METHODS = ("nearest", "linear", "cubic")
COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")
ROUNDINGS = ("half_up", "half_down", "floor", "ceil")
ORDERS = ("rrc", "crr")


def resize(
    x: Array,
    size: int | Sequence[int] | None = None,
    *,
    scale: float | Sequence[float] | None = None,
    method: Literal["nearest", "linear", "cubic"] = "linear",
    coordinates: Coordinates = "half_pixel",
    rounding: Rounding = "half_up",
    antialias: bool = False,
    exclude_outside: bool | None = None,
    a: float | None = None,
) -> Array:
    """Resizes images by interpolation, one linear map for each space axis, [n, *space, c] -> [n, *space', c].

        y_i = Σ_p k(p - s_i) x_p / Σ_p k(p - s_i),    s_i = (i + 1/2) / scale - 1/2

    with k(t) = max(1 - |t|, 0) for "linear" (bilinear, trilinear) and Keys' cubic convolution for "cubic" (bicubic).

    Coordinates are computed in float64 and products in the highest precision of the platform: a coordinate off by 2⁻⁹
    of the image is off by one pixel in 512. Space axes may be symbolic (`jax.export`); then coordinates are in float32,
    and a scale is rounded to the nearest fraction with a denominator up to 10⁶. "nearest" with an integer factor is a
    broadcast.

    Args:
      x: images or sequences, floating.
      size: size of the result, an integer >= 1 for all space axes or one for each. Exactly one of size and scale is
        required.
      scale: size of the result / size of x, > 0, for all space axes or for each; the result has floor(scale · size of
        x) positions.
      method: "nearest", "linear" or "cubic".
      coordinates: formula of s_i, the coordinate in x of position i of the result. "half_pixel": as above, pixels are
        areas (TensorFlow 2, Keras, jax.image, PyTorch's align_corners=False). "align_corners": i (n - 1) / (n' - 1)
        with n and n' the sizes before and after, pixels are points. "asymmetric": i / scale (TensorFlow 1, PyTorch's
        "nearest" with rounding="floor"). "half_pixel_symmetric": symmetric about the centre if scale · n is not an
        integer. "pytorch_half_pixel": "half_pixel", but a result of size 1 lies at -1/2.
      rounding: of s_i for "nearest": "half_up" (jax.image, PyTorch's "nearest-exact"), "half_down", "floor" or "ceil".
      antialias: if True, k is widened by 1 / scale on axes that shrink, as in jax.image by default and in PyTorch on
        request. Without it, fine patterns alias to coarse ones. Not allowed with "nearest".
      exclude_outside: if True, positions outside x are left out and the remaining weights are normalised; if False,
        they have the value of x's border. None follows the library with that antialias and a: True with antialias
        (jax.image, PyTorch) or a = -0.5 (jax.image, TensorFlow), else False (PyTorch, ONNX). For "linear" without
        antialias both are equal.
      a: slope of the cubic kernel at 1, for "cubic" only: -0.75 in PyTorch; -0.5 in jax.image and TensorFlow, and in
        PyTorch with antialias. None is PyTorch's.

    Raises:
      ValueError: if sizes or scales do not fit, or a name is unknown.
      TypeError: if x is not floating.

    Reference: Keys, Cubic Convolution Interpolation for Digital Image Processing, 1981.

    >>> resize(jnp.array([1.0, 2.0]).reshape(1, 2, 1), 4)[0, :, 0].tolist()
    [1.0, 1.25, 1.75, 2.0]
    """
    x = check.array("resize", "x", x, least=3, shape="[n, *space, c]")
    check.choice("resize", "method", method, METHODS)
    check.choice("resize", "coordinates", coordinates, COORDINATES)
    check.choice("resize", "rounding", rounding, ROUNDINGS)
    check.flags("resize", antialias=antialias)
    if method == "nearest" and antialias:
        raise invalid("resize", "antialias=False with method='nearest'", told="True")
    if (size is None) == (scale is None):
        raise invalid("resize", "either size or scale", told=f"{describe(size)} and {describe(scale)}")
    if a is None:
        a = -0.5 if antialias else -0.75
    check.scalar("resize", "a", a, -math.inf, ends="()", static=True)
    if exclude_outside is None:
        exclude_outside = antialias or bool(method == "cubic" and a == -0.5)
    check.flags("resize", exclude_outside=exclude_outside)
    space = x.shape[1:-1]
    if 0 in space:
        raise invalid("resize", "x with at least one step on each space axis", x)
    if scale is None:
        sizes: tuple[Any, ...] = per_axis("resize", "size", size, len(space))
        scales: Sequence[Any] = [out / _real(n) for n, out in zip(space, sizes, strict=True)]
    else:
        scales = _scales(scale, len(space))
        sizes = tuple(_floor(n, s) for n, s in zip(space, scales, strict=True))
        if 0 in sizes:
            raise invalid("resize", f"scale that leaves a step on each axis of {list(space)}", scale)
    for axis, (n, out, s) in enumerate(zip(space, sizes, scales, strict=True), start=1):
        if isinstance(s, float) and out == n and s == 1:
            continue
        factor = _whole_factor(s, coordinates, rounding) if method == "nearest" else None
        if factor is not None:
            x = merged(jnp.repeat(jnp.expand_dims(x, axis + 1), factor, axis + 1), axis, axis + 2)
            continue
        at = _sources(n, out, s, coordinates)
        if method == "nearest":
            x = jnp.take(gathered(x, axis), _rounded(at, rounding).clip(0, n - 1), axis)
        else:
            w = _weights(at, n, s, method, antialias, exclude_outside, a)
            product = jnp.tensordot(x, jnp.asarray(w, x.dtype), (axis, 1), precision=lax.Precision.HIGHEST)
            x = jnp.moveaxis(product, -1, axis)
    return x


def _real(n: Arrays) -> Any:
    """A size as a real number: a Python float, or a JAX scalar if it is symbolic."""
    return float(n) if isinstance(n, int) else jnp.asarray(n, jnp.float32)


def _floor(n: Arrays, scale: float) -> Arrays:
    if isinstance(n, int):
        return math.floor(n * scale)
    of = Fraction(scale).limit_denominator(10**6)
    return n * of.numerator // of.denominator


def _whole_factor(scale: Any, coordinates: str, rounding: str) -> int | None:
    """The integer r for which position i of the result is position i // r of x, or None."""
    places = "half" if "half" in rounding else rounding
    on_step = (coordinates, places) == ("asymmetric", "floor") or ("half_pixel" in coordinates and places == "half")
    return int(scale) if on_step and isinstance(scale, float) and scale >= 1 and scale.is_integer() else None


def _scales(scale: Any, rank: int) -> tuple[float, ...]:
    each = scale if isinstance(scale, Sequence) and not isinstance(scale, str) else [scale] * rank
    for s in each:
        check.scalar("resize", "scale", s, ends="()", static=True)
    if len(each) != rank:
        raise invalid("resize", f"scale to be a number > 0, or {rank} of them", scale)
    return tuple(float(s) for s in each)


def _sources(n: Arrays, out: Arrays, scale: Any, coordinates: str) -> Arrays:
    """Coordinates in x of the positions of the result; NumPy arrays unless a size is symbolic."""
    static = isinstance(n, int) and isinstance(out, int)
    i = np.arange(out, dtype=np.float64) if static else jnp.arange(out).astype(jnp.float32)
    steps = _real(n)
    half_pixel = (i + 0.5) / scale - 0.5
    if coordinates == "align_corners":
        ends = steps * scale - 1
        if static:
            return i * (steps - 1) / ends if ends else i * 0.0
        return i * (steps - 1) / jnp.where(ends == 0, 1, ends)
    if coordinates == "asymmetric":
        return i / scale
    if coordinates == "pytorch_half_pixel" and out == 1:
        return i - 0.5
    if coordinates == "half_pixel_symmetric":
        return half_pixel + steps / 2 * (1 - _real(out) / (steps * scale))
    return half_pixel


def _rounded(at: Arrays, rounding: str) -> Arrays:
    numpy = _numpy(at)
    ways: dict[str, Any] = {
        "half_up": lambda s: numpy.floor(s + 0.5),
        "half_down": lambda s: numpy.ceil(s - 0.5),
        "floor": numpy.floor,
        "ceil": numpy.ceil,
    }
    return ways[rounding](at).astype(np.int32)


def _weights(
    at: Arrays, n: Arrays, scale: Any, method: str, antialias: bool, exclude_outside: bool, a: float
) -> Arrays:
    """Interpolation weights [n', n], one row for each position of the result."""
    numpy, taps = _numpy(at), 4 if method == "cubic" else 2

    def kernel(p: Arrays) -> Arrays:
        t = numpy.abs(p - at[:, None]) * narrow
        k = keys_cubic(t, a) if method == "cubic" else (1 - t).clip(0)
        return k if exclude_outside else k / k.sum(1, keepdims=True)

    narrow: Any = 1.0
    if antialias:
        narrow = min(scale, 1.0) if isinstance(scale, float) else jnp.minimum(scale, 1.0)
    if exclude_outside:
        k = kernel(numpy.arange(n)[None, :].astype(at.dtype))
        return k / k.sum(1, keepdims=True)
    if antialias:
        if not isinstance(scale, float):
            fix = "Leave exclude_outside out, or give scale= in place of size=."
            raise invalid("resize", "a known number of taps outside x", told=f"an axis of {n} steps", fix=fix)
        taps = 2 * math.ceil(taps / 2 / narrow)
    first = numpy.floor(at)[:, None]
    p = first + np.arange(1 - taps // 2, taps // 2 + 1, dtype=at.dtype)[None, :]
    at_border = p.clip(0, n - 1).astype(np.int32)
    row = numpy.arange(at.shape[0])[:, None]
    if numpy is np:
        w = np.zeros((len(at), n))
        np.add.at(w, (row, at_border), kernel(p))
        return w
    return jnp.zeros((at.shape[0], n), at.dtype).at[row, at_border].add(kernel(p))


def _numpy(at: Arrays) -> Any:
    """`numpy` for NumPy arrays, `jax.numpy` for those of symbolic sizes."""
    return np if isinstance(at, np.ndarray) else jnp


def keys_cubic(t: Arrays, a: float) -> Arrays:
    """Keys' cubic convolution kernel at distances t >= 0 (NumPy or JAX arrays).

    One polynomial for t <= 1, one for 1 < t <= 2; both are 0 at the end of their interval.
    """
    near, far = t.clip(max=1), t.clip(1, 2)
    return ((a + 2) * near - (a + 3)) * near * near + 1 + (((far - 5) * far + 8) * far - 4) * a


def depth_to_space(x: Array, factor: int | Sequence[int], *, order: Literal["rrc", "crr"] = "rrc") -> Array:
    """Pixel shuffle: moves channels to space, [n, *space, r^k c] -> [n, *(r space), c], k space axes, r = `factor`.

    For sub-pixel convolution: a convolution computes r^k c channels, which this function arranges in space, without the
    checkerboard artifacts of a transposed convolution. The inverse is `space_to_depth`.

    Args:
      x: images or sequences, floating.
      factor: r, an integer >= 1 for all space axes or one for each.
      order: layout of the channels: "rrc", with the result's channel last, as TensorFlow's depth_to_space and ONNX's
        DCR; "crr", with it first, as PyTorch's pixel_shuffle and ONNX's CRD.

    Raises:
      ValueError: if r^k does not divide the channels, or `order` is unknown.
      TypeError: if x is not floating.

    Reference: Shi et al., Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel CNN, 2016.

    >>> depth_to_space(jnp.array([[[1.0, 2.0], [3.0, 4.0]]]), 2)[0, :, 0].tolist()
    [1.0, 2.0, 3.0, 4.0]
    """
    x, block = _shuffled("depth_to_space", x, factor, order)
    n, *space, c = x.shape
    k, each = len(block), math.prod(block)
    if c % each:
        raise invalid("depth_to_space", f"x with channels a multiple of {each}", x)
    if order == "rrc":
        x = x.reshape(n, *space, *block, c // each)
        axes = [0, *(a for i in range(k) for a in (1 + i, 1 + k + i)), 2 * k + 1]
    else:
        x = x.reshape(n, *space, c // each, *block)
        axes = [0, *(a for i in range(k) for a in (1 + i, 2 + k + i)), k + 1]
    x = x.transpose(axes)
    for axis in range(1, k + 1):
        x = merged(x, axis, axis + 2)
    return x


def space_to_depth(x: Array, factor: int | Sequence[int], *, order: Literal["rrc", "crr"] = "rrc") -> Array:
    """Pixel unshuffle: moves blocks of space to channels, [n, *(r space), c] -> [n, *space, r^k c], r = `factor`.

    k is the number of space axes. The inverse is `depth_to_space`. No information is lost, unlike in pooling.

    Args:
      x: images or sequences, floating.
      factor: r, an integer >= 1 for all space axes or one for each.
      order: layout of the channels: "rrc", with the channel of x last, as TensorFlow; "crr", with it first, as
        PyTorch's pixel_unshuffle.

    Raises:
      ValueError: if the factor does not divide the space axes, or `order` is unknown.
      TypeError: if x is not floating.

    >>> space_to_depth(jnp.arange(4.0).reshape(1, 4, 1), 2)[0].tolist()
    [[0.0, 1.0], [2.0, 3.0]]
    """
    x, block = _shuffled("space_to_depth", x, factor, order)
    space, k = x.shape[1:-1], len(block)
    if any(s % r != 0 for s, r in zip(space, block, strict=True)):
        raise invalid("space_to_depth", f"x with space axes that are multiples of {describe(factor)}", x)
    for axis in range(k, 0, -1):
        r = block[axis - 1]
        x = x.reshape(*x.shape[:axis], x.shape[axis] // r, r, *x.shape[axis + 1 :])
    outer, inner = range(1, 2 * k, 2), range(2, 2 * k + 1, 2)
    channels = [*inner, 2 * k + 1] if order == "rrc" else [2 * k + 1, *inner]
    return merged(x.transpose(0, *outer, *channels), k + 1, 2 * k + 2)


def _shuffled(where: str, x: Array, factor: int | Sequence[int], order: str) -> tuple[Array, tuple[int, ...]]:
    check.choice(where, "order", order, ORDERS)
    x = check.array(where, "x", x, least=3, shape="[n, *space, c]")
    return x, per_axis(where, "factor", factor, x.ndim - 2)
