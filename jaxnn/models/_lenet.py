"""LeNet-5."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxnn._calls import recorded
from jaxnn._layer import Layer
from jaxnn.activations import tanh
from jaxnn.layers import avg_pool, conv, dense, flatten
from jaxnn.models._parts import head, stacked


@recorded
def lenet(
    *,
    classes: int | None = 10,
    activation: Callable[..., Any] = tanh,
    pool: Callable[..., Layer] = avg_pool,
    preset: str = "jaxnn",
    name: str | None = None,
) -> Layer:
    """LeNet-5, images [n, 28, 28, c] -> logits [n, classes].

    Two 5×5 convolutions with 6 and 16 channels, each followed by a 2×2 pool, and dense layers of 120 and 84 features:
    61 706 params for one channel and 10 classes. Children conv1, conv2, dense1, dense2, head.

    Args:
      classes: number of logits, an integer >= 1; None omits the head: the result has 84 features.
      activation: elementwise function after all layers but the last.
      pool: factory of the pools, such as `max_pool`, called with a kernel size of 2.
      preset: the default initialization of convolutions and dense layers.
      name: pins the name.

    Raises:
      ValueError: if `classes` is out of range, or the image is smaller than 12×12.
      TypeError: if an argument is of a wrong type.

    Differences: the first convolution pads by 2, so that images of 28×28 become the paper's 32×32. In the paper the
    pools have a trained factor and bias for each channel, the second convolution sees a fixed selection of the
    channels (60 000 params in all), tanh is scaled to 1.7159 tanh(2x/3), and the head is a radial basis function.

    Reference: LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998.

    >>> params, state = lenet().init(jax.random.key(0), jnp.ones((1, 28, 28, 1)))
    >>> lenet().apply(params, state, jnp.ones((5, 28, 28, 1)))[0].shape
    (5, 10)
    """
    return stacked(
        "lenet",
        name,
        conv(6, 5, padding=2, preset=preset, name="conv1"),
        activation,
        pool(2),
        conv(16, 5, padding="valid", preset=preset, name="conv2"),
        activation,
        pool(2),
        flatten(),
        dense(120, preset=preset, name="dense1"),
        activation,
        dense(84, preset=preset, name="dense2"),
        activation,
        *head(name or "lenet", classes, preset),
    )
