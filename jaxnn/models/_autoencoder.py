"""Autoencoders: deterministic and variational."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any
from zlib import crc32

import jax
import jax.numpy as jnp

from jaxnn import _checks as check
from jaxnn._call import Run
from jaxnn._calls import recorded
from jaxnn._dtypes import widened
from jaxnn._errors import invalid
from jaxnn._inputs import local_key
from jaxnn._keys import fold_in
from jaxnn._layer import Layer, as_layer
from jaxnn.activations import relu
from jaxnn.combinators import serial
from jaxnn.layers import dense, flatten
from jaxnn.models._mlp import check_hidden, hidden_layers
from jaxnn.models._parts import composed, named, reshaped
from jaxnn.types import Key

Part = Layer | Callable[..., Any] | None


@recorded
def autoencoder(
    latent: int = 30,
    *,
    hidden: Sequence[int] = (1000, 500, 250),
    encoder: Part = None,
    decoder: Part = None,
    activation: Callable[..., Any] = relu,
    preset: str = "jaxnn",
    name: str | None = None,
) -> Layer:
    """Autoencoder, x [n, ...] -> reconstruction of the same shape, through a code [n, latent].

    The encoder is an MLP of the sizes `hidden`, the decoder one of the reverse order; the code is linear. Both take
    vectors, so images are flattened. The reconstruction has no activation: take it as a logit for
    `losses.binary_cross_entropy`, or as a value for `losses.squared_error`. Children encoder, decoder.
    `capture(model, "encoder")` returns the code.

    Args:
      latent: size of the code, an integer >= 1.
      hidden: sizes of the encoder's hidden layers, integers >= 1.
      encoder: a layer [n, ...] -> [n, latent] in place of the MLP.
      decoder: a layer from the code to as many values as x has.
      activation: elementwise function after each hidden layer.
      preset: the default initialization of the dense layers.
      name: pins the name.

    Raises:
      ValueError: if the decoder gives another number of values, or an argument is out of range.
      TypeError: if an argument is of a wrong type.

    Differences: the paper has logistic units, pretrained by restricted Boltzmann machines, and a logistic output.

    Reference: Hinton & Salakhutdinov, Reducing the Dimensionality of Data with Neural Networks, 2006.

    >>> model = autoencoder(2, hidden=(16,))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 8, 8)))
    >>> model.apply(params, state, jnp.ones((5, 8, 8)))[0].shape, params["decoder"]["output"]["w"].shape
    ((5, 8, 8), (16, 64))
    """
    where = name or "autoencoder"
    sizes = check_hidden(where, hidden)
    code = dense(check.count(where, "latent", latent), preset=preset, name="code")
    encode = serial(flatten(), *hidden_layers(sizes, activation, preset), code)
    encode = named(encode if encoder is None else as_layer(encoder, where), "encoder")
    decode = _decoder(where, decoder, sizes, activation, preset)

    def forward(run: Run, x: jax.Array) -> jax.Array:
        return reshaped(where, run(decode(x), run(encode, x)), x)

    return composed("autoencoder", name, forward)


@recorded
def vae(
    latent: int = 20,
    *,
    hidden: Sequence[int] = (400,),
    encoder: Part = None,
    decoder: Part = None,
    activation: Callable[..., Any] = relu,
    preset: str = "jaxnn",
    name: str | None = None,
) -> Layer:
    """Variational autoencoder, x [n, ...] -> a dict of its reconstruction and of the distribution of its code.

        z = mean + exp(log_variance / 2) ε,    ε ~ N(0, 1)

    The result is {"x": reconstruction [n, ...], "mean": [n, latent], "log_variance": [n, latent]}. With `train=False`
    z is the mean, and no key is needed. The reconstruction has no activation: for pixels in [0, 1] it is a logit. The
    negative evidence lower bound of an example is the sum of `losses.binary_cross_entropy` over its pixels plus

        KL = Σ (exp(log_variance) + mean² - 1 - log_variance) / 2

    Children encoder, mean, log_variance, decoder. To draw examples, pass a `decoder` and apply it to
    `params["decoder"]` and z from N(0, 1).

    Args:
      latent: size of the code, an integer >= 1.
      hidden: sizes of the encoder's hidden layers, integers >= 1; the decoder has them in reverse order.
      encoder: a layer [n, ...] -> [n, d], from which mean and log variance are computed by a dense layer each, in place
        of the hidden layers.
      decoder: a layer from z to as many values as x has.
      activation: elementwise function after each hidden layer.
      preset: the default initialization of the dense layers.
      name: pins the name.

    Raises:
      ValueError: if training has no key, the decoder gives another number of values, or an argument is out of range.
      TypeError: if an argument is of a wrong type.

    Reference: Kingma & Welling, Auto-Encoding Variational Bayes, 2013, arXiv:1312.6114.

    >>> model = vae(2, hidden=(16,))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 8, 8)))
    >>> y, _ = model.apply(params, state, jnp.ones((5, 8, 8)), key=jax.random.key(1), train=True)
    >>> jax.tree.map(jnp.shape, y)
    {'log_variance': (5, 2), 'mean': (5, 2), 'x': (5, 8, 8)}
    """
    where = name or "vae"
    sizes, latent = check_hidden(where, hidden), check.count(where, "latent", latent)
    encode = serial(flatten(), *hidden_layers(sizes, activation, preset))
    encode = named(encode if encoder is None else as_layer(encoder, where), "encoder")
    mean, log_variance = (dense(latent, preset=preset, name=part) for part in ("mean", "log_variance"))
    decode = _decoder(where, decoder, sizes, activation, preset)

    def forward(run: Run, x: jax.Array) -> dict[str, jax.Array]:
        h = run(encode, x)
        mu, log_var = run(mean, h), run(log_variance, h)
        z = _sampled(where, run.key, mu, log_var) if run.train else mu
        return {"x": reshaped(where, run(decode(x), z), x), "mean": mu, "log_variance": log_var}

    return composed("vae", name, forward)


def _decoder(
    where: str, given: Part, hidden: list[int], activation: Callable[..., Any], preset: str
) -> Callable[[jax.Array], Layer]:
    """The decoder for an x: the given one, or hidden layers in reverse order and a value for each of x."""
    if given is not None:
        made = named(as_layer(given, where), "decoder")
        return lambda x: made
    layers = hidden_layers(hidden[::-1], activation, preset)
    return lambda x: serial(*layers, dense(prod(x.shape[1:]), preset=preset, name="output"), name="decoder")


def _sampled(where: str, key: Key | None, mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    if key is None:
        raise invalid(where, "a key when train=True", told="None", fix="Pass key= to apply.")
    noise = jax.random.normal(local_key(fold_in(key, crc32(b"noise")), mean), mean.shape, jnp.float32)
    deviation = jnp.exp(widened(log_variance) / 2)
    return (widened(mean) + deviation * noise.astype(deviation.dtype)).astype(mean.dtype)
