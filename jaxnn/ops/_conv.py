"""Convolution over one, two or three space axes, channels last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from jaxnn import _checks as check
from jaxnn._errors import invalid, wrong_type
from jaxnn.ops._bilinear import bilinear_conv
from jaxnn.ops._pad import PaddingMode, check_mode, padded
from jaxnn.ops._window import Padding, pads, per_axis

ConvPadding = Padding | Literal["causal"]


def conv(
    x: Array,
    w: Array,
    *,
    stride: int | Sequence[int] = 1,
    padding: ConvPadding = "same",
    padding_mode: PaddingMode = "constant",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    precision: lax.PrecisionLike = None,
    preferred_element_type: DTypeLike | None = None,
) -> Array:
    """Convolution (cross-correlation), [n, *space, c], [*kernel_size, c / groups, features] -> [n, *space', features].

        y[i, f] = Σ_k Σ_c x[i · stride + k · dilation - before, c] w[k, c, f]

    On a CPU the gradients are as fast inside `lax.scan` as outside, where lax's own are tens of times slower. With more
    than 16 groups the gradients are lax's.

    Args:
      x: images or sequences, floating.
      w: kernel of x's dtype.
      stride: distance between kernel positions, an integer >= 1 for all space axes or one for each.
      padding: "same" as in TensorFlow and Keras (with a stride, the odd position goes behind); "valid" (none); "causal"
        (in front only, over one space axis, time: no output depends on later steps); an integer >= 0 as in PyTorch; or
        an integer or (before, after) for each axis.
      padding_mode: "constant" pads with zeros; "reflect", "replicate" and "circular" as in `pad`.
      dilation: distance between the elements of the kernel, an integer >= 1 for all space axes or one for each.
      groups: number of equal groups of channels and features, connected only within a group; it divides both.
      precision: of the products, as in `lax.conv_general_dilated`, gradients included; None is the
        `jax.default_matmul_precision` at tracing.
      preferred_element_type: dtype of the sums and of the result; None is x's.

    Raises:
      ValueError: if the shapes do not fit, or an argument is out of range.
      TypeError: if x is not floating or w has another dtype.

    Differences: PyTorch's layout is [n, c, *space] and [features, c / groups, *kernel_size].

    >>> conv(jnp.ones((1, 5, 1)), jnp.ones((3, 1, 1)))[0, :, 0].tolist()
    [2.0, 3.0, 3.0, 3.0, 2.0]
    """
    x, w = _checked("conv", x, w, "[*kernel_size, c / groups, features]")
    *kernel_size, channels, features = w.shape
    rank = len(kernel_size)
    groups = check.count("conv", "groups", groups)
    if x.shape[-1] != channels * groups or features % groups:
        expected = f"c / groups = {channels} channels for w, and features in {groups} equal groups"
        raise invalid("conv", expected, (x, w))
    stride = per_axis("conv", "stride", stride, rank)
    dilation = per_axis("conv", "dilation", dilation, rank)
    sides = pads(
        "conv", _explicit("conv", padding, kernel_size, dilation), x.shape[1:-1], kernel_size, stride, dilation
    )
    x, sides = _with_border("conv", x, sides, padding_mode)
    how: dict[str, Any] = {"precision": precision, "preferred_element_type": preferred_element_type}
    how |= {"stride": stride, "padding": sides, "x_dilation": (1,) * rank, "w_dilation": dilation}
    return bilinear_conv(x, w, groups=groups, **how)


def depthwise_conv(
    x: Array,
    w: Array,
    *,
    stride: int | Sequence[int] = 1,
    padding: ConvPadding = "same",
    padding_mode: PaddingMode = "constant",
    dilation: int | Sequence[int] = 1,
    precision: lax.PrecisionLike = None,
    preferred_element_type: DTypeLike | None = None,
) -> Array:
    """Depthwise convolution, each channel alone, [n, *space, c], [*kernel_size, c, m] -> [n, *space', c · m].

        y[i, c m + j] = Σ_k x[i · stride + k · dilation - before, c] w[k, c, j]

    Equal to `conv` with c groups. XLA runs those as naive loops on CPUs; there this is a sum over the kernel's
    elements.

    Args:
      x: images or sequences, floating.
      w: kernel of x's dtype, with m features for each channel.
      stride, padding, padding_mode, dilation, precision, preferred_element_type: as in `conv`.

    Raises:
      ValueError: if the shapes do not fit, or an argument is out of range.
      TypeError: if x is not floating or w has another dtype.

    Reference: Chollet, Xception, 2017; Howard et al., MobileNets, 2017.

    >>> depthwise_conv(jnp.ones((1, 5, 2)), jnp.ones((3, 2, 1)) * jnp.array([[[1.0], [10.0]]]))[0, 1].tolist()
    [3.0, 30.0]
    """
    x, w = _checked("depthwise_conv", x, w, "[*kernel_size, c, m]")
    *kernel_size, channels, each = w.shape
    rank = len(kernel_size)
    if x.shape[-1] != channels:
        raise invalid("depthwise_conv", f"x with the c = {channels} channels of w", (x, w))
    stride = per_axis("depthwise_conv", "stride", stride, rank)
    dilation = per_axis("depthwise_conv", "dilation", dilation, rank)
    padding = _explicit("depthwise_conv", padding, kernel_size, dilation)
    sides = pads("depthwise_conv", padding, x.shape[1:-1], kernel_size, stride, dilation)
    x, sides = _with_border("depthwise_conv", x, sides, padding_mode)
    how: dict[str, Any] = {"precision": precision, "preferred_element_type": preferred_element_type}
    how |= {"stride": stride, "padding": sides, "x_dilation": (1,) * rank, "w_dilation": dilation}
    return bilinear_conv(x, w.reshape(*kernel_size, 1, channels * each), groups=channels, depthwise=True, **how)


def _explicit(where: str, padding: ConvPadding, kernel_size: Sequence[int], dilation: Sequence[int]) -> Padding:
    if padding != "causal":
        return padding
    if len(kernel_size) != 1:
        raise invalid(where, "one space axis, time, with padding='causal'", told=f"{len(kernel_size)}")
    return [((kernel_size[0] - 1) * dilation[0], 0)]


def _with_border(
    where: str, x: Array, sides: tuple[tuple[int, int], ...], mode: str
) -> tuple[Array, tuple[tuple[int, int], ...]]:
    """x with a border that is not of zeros, and the padding that is left to the convolution."""
    check_mode(where, "padding_mode", mode)
    if mode == "constant":
        return x, sides
    return padded(x, sides, mode, where=where), ((0, 0),) * len(sides)


def conv_transpose(
    x: Array,
    w: Array,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "same",
    output_padding: int | Sequence[int] | None = None,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    precision: lax.PrecisionLike = None,
    preferred_element_type: DTypeLike | None = None,
) -> Array:
    """Transposed convolution, [n, *space, c], [*kernel_size, features / groups, c] -> [n, *space', features].

        y[i · stride + k · dilation - before, f] += Σ_c x[i, c] w[k, f, c]

    It is the gradient of `conv` with the same w, stride, padding and dilation with respect to that convolution's input;
    seen from there, w is [*kernel_size, in / groups, out] with in = features and out = c. Overlapping contributions add
    up. A kernel size that the stride does not divide causes checkerboard artifacts.

    Args:
      x: images or sequences, floating.
      w: kernel of x's dtype.
      stride: distance in the result between positions of x, an integer >= 1 for all space axes or one for each.
      padding: number of positions cut off the full result, of size (space - 1) · stride + (kernel size - 1) · dilation
        + 1. "same" gives size space · stride, as in TensorFlow; "valid" cuts nothing; integers and pairs as in PyTorch.
      output_padding: positions added behind, >= 0 and less than the stride or the dilation, for all axes or for each.
        It selects one of the input sizes for which `conv` gives results of equal size. None adds none, and "same" then
        gives space · stride; with a number, 0 included, "same" gives (space - 1) · stride + reach % 2 + output_padding,
        where reach is (kernel size - 1) · dilation + 1, as in Keras.
      dilation: distance between the elements of the kernel, an integer >= 1 for all space axes or one for each.
      groups: number of equal groups of channels and features, connected only within a group; it divides both.
      precision: of the products, as in `lax.conv_general_dilated`, gradients included; None is the
        `jax.default_matmul_precision` at tracing.
      preferred_element_type: dtype of the sums and of the result; None is x's.

    Raises:
      ValueError: if the shapes do not fit, or an argument is out of range.
      TypeError: if x is not floating or w has another dtype.

    Differences: PyTorch's layout is [n, c, *space] and [c, features / groups, *kernel_size].

    >>> conv_transpose(jnp.array([1.0, 2.0]).reshape(1, 2, 1), jnp.ones((2, 1, 1)), stride=2)[0, :, 0].tolist()
    [1.0, 1.0, 2.0, 2.0]
    """
    where = "conv_transpose"
    x, w = _checked(where, x, w, "[*kernel_size, features / groups, c]")
    *kernel_size, features, channels = w.shape
    rank = len(kernel_size)
    groups = check.count(where, "groups", groups)
    if x.shape[-1] != channels or channels % groups:
        raise invalid(where, f"x with the c = {channels} channels of w, in {groups} equal groups", (x, w))
    stride = per_axis(where, "stride", stride, rank)
    dilation = per_axis(where, "dilation", dilation, rank)
    more = (0,) * rank if output_padding is None else per_axis(where, "output_padding", output_padding, rank, least=0)
    if any(m and m >= max(s, d) for m, s, d in zip(more, stride, dilation, strict=True)):
        raise invalid(where, "output_padding less than the stride or the dilation", output_padding)
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel_size, dilation, strict=True))
    steps = tuple((n - 1) * s for n, s in zip(x.shape[1:-1], stride, strict=True))
    full = tuple(n + k for n, k in zip(steps, reach, strict=True))
    if padding != "same":
        sides = pads(where, padding, full, kernel_size, (1,) * rank, dilation)
        cut = [before for before, _ in sides]
        size = tuple(n - sum(c) + m for n, c, m in zip(full, sides, more, strict=True))
    elif output_padding is None:
        size = tuple(n * s for n, s in zip(x.shape[1:-1], stride, strict=True))
        cut = [before for before, _ in pads(where, "same", size, kernel_size, stride, dilation)]
    else:  # as Keras
        size = tuple(n + k % 2 + m for n, k, m in zip(steps, reach, more, strict=True))
        cut = [max((k - k % 2 - m) // 2, 0) for k, m in zip(reach, more, strict=True)]
    if not (padding == "same" and output_padding is None) and any(n < 1 for n in size):
        raise invalid(where, f"padding that leaves something of {full} steps", padding)
    around = tuple(
        (k - 1 - before, n + before + k - 1 - m) for before, k, n, m in zip(cut, reach, size, full, strict=True)
    )
    w = lax.rev(w, tuple(range(rank)))
    if groups > 1:
        w = w.reshape(*kernel_size, features, groups, channels // groups).swapaxes(-2, -3)
        w = w.reshape(*kernel_size, groups * features, channels // groups)
    how: dict[str, Any] = {"precision": precision, "preferred_element_type": preferred_element_type}
    how |= {"stride": (1,) * rank, "padding": around, "x_dilation": stride, "w_dilation": dilation}
    return bilinear_conv(x, jnp.swapaxes(w, -1, -2), groups=groups, **how)


def _checked(where: str, x: Array, w: Array, shape: str) -> tuple[Array, Array]:
    if not hasattr(w, "dtype") or w.ndim not in (3, 4, 5):
        raise invalid(where, f"w of shape {shape} with 1 to 3 kernel axes", w)
    w = jnp.asarray(w)
    rank = w.ndim - 2
    x = check.array(where, "x", x, rank=rank + 2, shape=f"[n, {', '.join('hwd'[:rank])}, c]")
    if w.dtype != x.dtype:
        raise wrong_type(where, f"w of x's dtype {x.dtype.name}", w, "Cast one of them.")
    return x, w
