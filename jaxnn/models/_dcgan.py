"""DCGAN: a generator and a discriminator of strided convolutions."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._errors import invalid
from jaxnn._layer import Layer, lift
from jaxnn.activations import leaky_relu, relu, tanh
from jaxnn.init import normal
from jaxnn.layers import batch_norm, conv, conv_transpose
from jaxnn.models._parts import Norm, stacked, unit

NARROW = partial(normal, stddev=0.02)
LEAKY = partial(leaky_relu, negative_slope=0.2)


@recorded
def dcgan_generator(
    channels: int = 3, *, size: int = 64, features: int = 64, norm: Norm = batch_norm, name: str | None = None
) -> Layer:
    """Generator of DCGAN, latent vectors [n, d] -> images [n, size, size, channels] in (-1, 1).

    A transposed convolution from a vector to 4×4, then transposed convolutions with stride 2, each but the last with
    norm and relu; tanh at the end. The channels halve as the image doubles, with `features` before the last layer. The
    paper's d is 100: 3.58 M params for 64×64×3. Children stage1, stage2, ..., output.

    Args:
      channels: of the images, an integer >= 1.
      size: height and width of the images, a power of 2, at least 8.
      features: channels before the last layer, an integer >= 1.
      norm: factory of the norms.
      name: pins the name.

    Raises:
      ValueError: if an argument is out of range.
      TypeError: if an argument is of a wrong type.

    Differences: weights are drawn from N(0, 0.02²) as in the paper; scales of norms are 1, in PyTorch's tutorial from
    N(1, 0.02²).

    Reference: Radford et al., Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
    Networks, 2015, arXiv:1511.06434.

    >>> model = dcgan_generator(1, size=16, features=4)
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 10)))
    >>> model.apply(params, state, jnp.ones((5, 10)))[0].shape
    (5, 16, 16, 1)
    """
    where = name or "dcgan_generator"
    channels, features = check.count(where, "channels", channels), check.count(where, "features", features)
    up = partial(conv_transpose, kernel_size=4, bias=False, w_init=NARROW)
    layers: list[Any] = [lift(_as_pixel, name="reshape")]
    doublings = _doublings(where, size)
    for k in range(doublings):
        how: dict[str, Any] = {"stride": 2, "padding": 1} if k else {"padding": "valid"}
        layers.append(unit(up(features * 2 ** (doublings - 1 - k), **how), f"stage{k + 1}", norm, relu))
    return stacked("dcgan_generator", name, *layers, up(channels, stride=2, padding=1, name="output"), tanh)


@recorded
def dcgan_discriminator(
    *, size: int = 64, features: int = 64, norm: Norm = batch_norm, name: str | None = None
) -> Layer:
    """Discriminator of DCGAN, images [n, size, size, c] -> logits of being real [n].

    4×4 convolutions with stride 2, each with leaky relu and each but the first with a norm, to 4×4; a last convolution
    to one number. The channels double as the image halves. 2.77 M params for 64×64×3. Children stage1, stage2, ...,
    head.

    Args:
      size: height and width of the images, a power of 2, at least 8.
      features: channels after the first layer, an integer >= 1.
      norm: factory of the norms.
      name: pins the name.

    Raises:
      ValueError: if an argument is out of range, or the images are of another size.
      TypeError: if an argument is of a wrong type.

    Differences: PyTorch's tutorial ends with a sigmoid; here `losses.binary_cross_entropy` takes the logits.

    Reference: Radford et al., Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
    Networks, 2015, arXiv:1511.06434.

    >>> model = dcgan_discriminator(size=16, features=4)
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 16, 16, 1)))
    >>> model.apply(params, state, jnp.ones((5, 16, 16, 1)))[0].shape
    (5,)
    """
    where = name or "dcgan_discriminator"
    features = check.count(where, "features", features)
    down = partial(conv, kernel_size=4, bias=False, w_init=NARROW)
    doublings = _doublings(where, size)
    layers: list[Any] = [down(features, stride=2, padding=1, name="stage1"), LEAKY]
    for k in range(1, doublings):
        layers.append(unit(down(features * 2**k, stride=2, padding=1), f"stage{k + 1}", norm, LEAKY))
    one = partial(_only, where=where, size=size)
    return stacked("dcgan_discriminator", name, *layers, down(1, padding="valid", name="head"), lift(one, name="logit"))


def _doublings(where: str, size: int) -> int:
    """log2(size / 4)."""
    if check.count(where, "size", size, least=8) & (size - 1):
        raise invalid(where, "size to be a power of 2, at least 8", size)
    return size.bit_length() - 3


def _as_pixel(x: jax.Array) -> jax.Array:
    """[n, d] -> [n, 1, 1, d]."""
    return x[:, None, None, :]


def _only(x: jax.Array, *, where: str, size: int) -> jax.Array:
    """[n, 1, 1, 1] -> [n]."""
    if x.shape[1:] != (1, 1, 1):
        raise invalid(where, f"images of {size}×{size}", told=f"others, which leave {list(x.shape[1:])}")
    return x[:, 0, 0, 0]
