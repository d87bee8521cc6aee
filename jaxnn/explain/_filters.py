"""Kernels of convolutions as pictures."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check


def filters(w: ArrayLike) -> Array:
    """Kernels of a convolution as pictures, [*kernel, c, f] -> [f, *kernel, c] in [0, 1]: 1/2 + w / (2 max |w|).

    The maximum is that of each filter; 0 is grey. Filters of 1 or 3 channels are images. Of those with more channels,
    `filters(w)[..., i]` are pictures of the weights of channel i.

    Args:
      w: floating weights of a convolution or a dense layer.

    Raises:
      TypeError: if w is not floating.
      ValueError: if w has less than two axes.

    Differences: torchvision's `make_grid(normalize=True)` scales by the least and the largest value.

    >>> filters(jnp.array([[[2.0, 0.5]], [[-1.0, 0.0]]]))[:, :, 0].tolist()
    [[1.0, 0.25], [1.0, 0.5]]
    """
    w = jnp.moveaxis(check.array("filters", "w", w, least=2, shape="[*kernel, c, f]"), -1, 0)
    largest = jnp.max(jnp.abs(w), axis=range(1, w.ndim), keepdims=True)
    return 0.5 + w / (2 * jnp.where(largest > 0, largest, 1))
