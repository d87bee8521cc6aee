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
from jaxnn.ops._window import Padding, pads, per_axis

ConvPadding = Padding | Literal["causal"]


def conv(
    x: Array,
    w: Array,
    *,
    stride: int | Sequence[int] = 1,
    padding: ConvPadding = "same",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    precision: lax.PrecisionLike = None,
    preferred_element_type: DTypeLike | None = None,
) -> Array:
    """Convolution (cross-correlation), [n, *space, c], [*window, c / groups, features] -> [n, *space', features].

        y[i, f] = Σ_k Σ_c x[i · stride + k · dilation - before, c] w[k, c, f]

    Args:
      stride: steps between windows, one for all space axes or one for each.
      padding: "same" as TensorFlow and Keras (with a stride, the odd step goes behind), "valid" (none), "causal" (in
        front alone: over one space axis, time, no step sees those after it), or explicit: a whole number as PyTorch, or
        a number or (before, after) for each axis.
      dilation: steps between the taps of a window.
      groups: channels and features are cut into that many groups which do not see each other.
      precision: of the products, as in `lax.conv_general_dilated`, gradients included; None is that of
        `jax.default_matmul_precision` when the call is traced.
      preferred_element_type: dtype of the sums and of the result; None is x's.

    Raises ValueError where shapes do not fit, TypeError for an x that is not floating or a w of another dtype.

    The gradients are as fast inside `lax.scan` on a CPU as outside, where those of lax are tens of times slower; with
    more than 16 groups they are lax's own. PyTorch's layout is [n, c, *space] and [features, c / groups, *window].

    >>> conv(jnp.ones((1, 5, 1)), jnp.ones((3, 1, 1)))[0, :, 0].tolist()
    [2.0, 3.0, 3.0, 3.0, 2.0]
    """
    x, w = _checked("conv", x, w, "[*window, c / groups, features]")
    *window, channels, features = w.shape
    rank = len(window)
    groups = check.count("conv", "groups", groups)
    if x.shape[-1] != channels * groups or features % groups:
        expected = f"c / groups = {channels} channels for w, and features in {groups} equal groups"
        raise invalid("conv", expected, (x, w))
    stride = per_axis("conv", "stride", stride, rank)
    dilation = per_axis("conv", "dilation", dilation, rank)
    sides = pads("conv", _explicit("conv", padding, window, dilation), x.shape[1:-1], window, stride, dilation)
    how: dict[str, Any] = {"precision": precision, "preferred_element_type": preferred_element_type}
    how |= {"stride": stride, "padding": sides, "x_dilation": (1,) * rank, "w_dilation": dilation}
    return bilinear_conv(x, w, groups=groups, **how)


def depthwise_conv(
    x: Array,
    w: Array,
    *,
    stride: int | Sequence[int] = 1,
    padding: ConvPadding = "same",
    dilation: int | Sequence[int] = 1,
    precision: lax.PrecisionLike = None,
    preferred_element_type: DTypeLike | None = None,
) -> Array:
    """Each channel convolved by itself, [n, *space, c], [*window, c, m] -> [n, *space', c · m].

        y[i, c m + j] = Σ_k x[i · stride + k · dilation - before, c] w[k, c, j]

    As `conv` with c groups. On a CPU, where XLA runs those as naive loops, it is a sum over the taps of the window.

    Args:
      stride, padding, dilation, precision, preferred_element_type: as in `conv`.

    Raises ValueError where shapes do not fit, TypeError for an x that is not floating or a w of another dtype.

    Chollet, Xception, 2017; Howard et al., MobileNets, 2017.

    >>> depthwise_conv(jnp.ones((1, 5, 2)), jnp.ones((3, 2, 1)) * jnp.array([[[1.0], [10.0]]]))[0, 1].tolist()
    [3.0, 30.0]
    """
    x, w = _checked("depthwise_conv", x, w, "[*window, c, m]")
    *window, channels, each = w.shape
    rank = len(window)
    if x.shape[-1] != channels:
        raise invalid("depthwise_conv", f"x with the c = {channels} channels of w", (x, w))
    stride = per_axis("depthwise_conv", "stride", stride, rank)
    dilation = per_axis("depthwise_conv", "dilation", dilation, rank)
    padding = _explicit("depthwise_conv", padding, window, dilation)
    sides = pads("depthwise_conv", padding, x.shape[1:-1], window, stride, dilation)

    how: dict[str, Any] = {"precision": precision, "preferred_element_type": preferred_element_type}
    how |= {"stride": stride, "padding": sides, "x_dilation": (1,) * rank, "w_dilation": dilation}
    return bilinear_conv(x, w.reshape(*window, 1, channels * each), groups=channels, depthwise=True, **how)


def _explicit(where: str, padding: ConvPadding, window: Sequence[int], dilation: Sequence[int]) -> Padding:
    if padding != "causal":
        return padding
    if len(window) != 1:
        raise invalid(where, "one space axis, time, with padding='causal'", told=f"{len(window)}")
    return [((window[0] - 1) * dilation[0], 0)]


def conv_transpose(
    x: Array,
    w: Array,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "same",
    output_padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    precision: lax.PrecisionLike = None,
    preferred_element_type: DTypeLike | None = None,
) -> Array:
    """Transposed convolution, the gradient of `conv`, [n, *space, c] -> [n, *space', features].

        y[i · stride + k · dilation - before, f] += Σ_c x[i, c] w[k, f, c]

    w has shape [*window, features / groups, c]. It is what `conv` with the same w, stride, padding and dilation does to
    a gradient: w is that convolution's own, of [*window, in / groups, out], with in and out exchanged. Overlapping
    windows add up; a window that the stride does not divide leaves a chequered pattern.

    Args:
      stride: steps between the places of x in the result.
      padding: cut off the full result of (space - 1) · stride + (window - 1) · dilation + 1 steps: "same" gives
        space · stride steps, as TensorFlow; "valid" cuts nothing; explicit as PyTorch.
      output_padding: steps added behind, less than the stride or the dilation: which of the sizes that `conv` would
        have made equal is meant. Not with "same", where nothing is open.
      dilation: steps between the taps of a window.
      groups: channels and features are cut into that many groups which do not see each other.
      precision: of the products, as in `lax.conv_general_dilated`, gradients included; None is that of
        `jax.default_matmul_precision` when the call is traced.
      preferred_element_type: dtype of the sums and of the result; None is x's.

    Raises ValueError where shapes do not fit, TypeError for an x that is not floating or a w of another dtype.

    PyTorch's layout is [n, c, *space] and [c, features / groups, *window].

    >>> conv_transpose(jnp.array([1.0, 2.0]).reshape(1, 2, 1), jnp.ones((2, 1, 1)), stride=2)[0, :, 0].tolist()
    [1.0, 1.0, 2.0, 2.0]
    """
    where = "conv_transpose"
    x, w = _checked(where, x, w, "[*window, features / groups, c]")
    *window, features, channels = w.shape
    rank = len(window)
    groups = check.count(where, "groups", groups)
    if x.shape[-1] != channels or channels % groups:
        raise invalid(where, f"x with the c = {channels} channels of w, in {groups} equal groups", (x, w))
    stride = per_axis(where, "stride", stride, rank)
    dilation = per_axis(where, "dilation", dilation, rank)
    more = per_axis(where, "output_padding", output_padding, rank, least=0)
    if any(m and m >= max(s, d) for m, s, d in zip(more, stride, dilation, strict=True)):
        raise invalid(where, "output_padding less than the stride or the dilation", output_padding)
    reach = tuple((k - 1) * d + 1 for k, d in zip(window, dilation, strict=True))
    full = tuple((n - 1) * s + k for n, s, k in zip(x.shape[1:-1], stride, reach, strict=True))
    if padding == "same":
        if any(more):
            raise invalid(where, "no output_padding with padding='same'", output_padding)
        size = tuple(n * s for n, s in zip(x.shape[1:-1], stride, strict=True))
        cut = pads(where, "same", size, window, stride, dilation)
    else:
        cut = pads(where, padding, full, window, (1,) * rank, dilation)
        size = tuple(n - sum(c) + m for n, c, m in zip(full, cut, more, strict=True))
        if any(n < 1 for n in size):
            raise invalid(where, f"padding that leaves something of {full} steps", padding)
    sides = tuple(
        (k - 1 - before, n + before + k - 1 - m) for (before, _), k, n, m in zip(cut, reach, size, full, strict=True)
    )
    w = lax.rev(w, tuple(range(rank)))
    if groups > 1:
        w = w.reshape(*window, features, groups, channels // groups).swapaxes(-2, -3)
        w = w.reshape(*window, groups * features, channels // groups)
    how: dict[str, Any] = {"precision": precision, "preferred_element_type": preferred_element_type}
    how |= {"stride": (1,) * rank, "padding": sides, "x_dilation": stride, "w_dilation": dilation}
    return bilinear_conv(x, jnp.swapaxes(w, -1, -2), groups=groups, **how)


def _checked(where: str, x: Array, w: Array, shape: str) -> tuple[Array, Array]:
    if not hasattr(w, "dtype") or w.ndim not in (3, 4, 5):
        raise invalid(where, f"w of shape {shape} with 1 to 3 window axes", w)
    w = jnp.asarray(w)
    rank = w.ndim - 2
    x = check.array(where, "x", x, rank=rank + 2, shape=f"[n, {', '.join('hwd'[:rank])}, c]")
    if w.dtype != x.dtype:
        raise wrong_type(where, f"w of x's dtype {x.dtype.name}", w, "Cast one of them.")
    return x, w
