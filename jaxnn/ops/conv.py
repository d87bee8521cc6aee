"""Convolution over one, two or three space axes, channels last."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxnn._errors import invalid, wrong_type
from jaxnn._inputs import floating
from jaxnn.ops._bilinear import bilinear_conv, native_conv
from jaxnn.ops._window import Padding, pads, per_axis


def conv(
    x: Array,
    w: Array,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "same",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Array:
    """Convolution (cross-correlation), [n, *space, c], [*window, c / groups, features] -> [n, *space', features].

        y[i, f] = Σ_k Σ_c x[i · stride + k · dilation - before, c] w[k, c, f]

    Args:
      stride: steps between windows, one for all space axes or one for each.
      padding: "same" as TensorFlow and Keras (with a stride, the odd step goes behind), "valid" (none), or explicit: a
        whole number as PyTorch, or a number or (before, after) for each axis.
      dilation: steps between the taps of a window.
      groups: channels and features are cut into that many groups which do not see each other.

    Raises ValueError where shapes do not fit, TypeError for an x that is not floating or a w of another dtype.

    The gradients are as fast inside `lax.scan` on a CPU as outside, where those of lax are tens of times slower; with
    groups > 1 they are lax's own. PyTorch's layout is [n, c, *space] and [features, c / groups, *window].

    >>> conv(jnp.ones((1, 5, 1)), jnp.ones((3, 1, 1)))[0, :, 0].tolist()
    [2.0, 3.0, 3.0, 3.0, 2.0]
    """
    if not hasattr(w, "dtype") or w.ndim not in (3, 4, 5):
        raise invalid("conv", "w of shape [*window, c / groups, features] with 1 to 3 window axes", w)
    w = jnp.asarray(w)
    rank = w.ndim - 2
    x = floating("conv", x, rank=rank + 2, shape=f"[n, {', '.join('hwd'[:rank])}, c]")
    if w.dtype != x.dtype:
        raise wrong_type("conv", f"w of x's dtype {x.dtype.name}", w, "Cast one of them.")
    *window, channels, features = w.shape
    if not isinstance(groups, int) or groups < 1 or x.shape[-1] != channels * groups or features % groups:
        expected = f"c / groups = {channels} channels for w, and features in {groups} equal groups"
        raise invalid("conv", expected, (x, w))
    stride = per_axis("conv", "stride", stride, rank)
    dilation = per_axis("conv", "dilation", dilation, rank)
    sides = pads("conv", padding, x.shape[1:-1], window, stride, dilation)
    how: dict[str, Any] = {"stride": stride, "padding": sides, "x_dilation": (1,) * rank, "w_dilation": dilation}
    return bilinear_conv(x, w, **how) if groups == 1 else native_conv(x, w, **how, groups=groups)
