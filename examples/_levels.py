"""Likelihoods of grey levels: mixtures of discretised logistic distributions, Gaussian models, and lossless files."""

import gzip
import io
import lzma
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from sklearn.decomposition import PCA, FactorAnalysis

import jaxnn as nn

LEAST_LOG_SCALE = -7.0


def components(outputs: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Log weights, means and log scales [..., k] of outputs [..., 3 k]; levels 0 to 255 lie at -1 to 1."""
    weights, means, log_scales = jnp.split(outputs, 3, -1)
    return jax.nn.log_softmax(weights), means, jnp.maximum(log_scales, LEAST_LOG_SCALE)


def log_prob(outputs: jax.Array, levels: jax.Array) -> jax.Array:
    """Log-probabilities [...] of levels [...] under mixtures of logistic distributions integrated over each level:

        P(v) = Σ w (σ(p) - σ(m)),    log(σ(p) - σ(m)) = log σ(p) + log σ(-m) + log(1 - exp(m - p))

    The lowest level has all mass below it, the highest all above it, so that the sum over 256 levels is 1.
    """
    log_weights, means, log_scales = components(outputs)
    v = levels[..., None]
    x, half = v.astype(means.dtype) / 127.5 - 1, jnp.exp(-log_scales) / 255
    centre = (x - means) * jnp.exp(-log_scales)
    above = jnp.where(v == 255, 0, nn.log_sigmoid(centre + half))
    below = jnp.where(v == 0, 0, nn.log_sigmoid(half - centre))
    inner = jnp.where((v == 0) | (v == 255), 0, jnp.log(-jnp.expm1(-2 * half)))
    return jax.nn.logsumexp(log_weights + above + below + inner, -1)


def sample(key: jax.Array, outputs: jax.Array) -> jax.Array:
    """Levels [...] drawn from mixtures."""
    log_weights, means, log_scales = components(outputs)
    choice, place = jax.random.split(key)
    which = jax.random.categorical(choice, log_weights)[..., None]
    mean, log_scale = (jnp.take_along_axis(a, which, -1)[..., 0] for a in (means, log_scales))
    x = mean + jnp.exp(log_scale) * jax.random.logistic(place, mean.shape, mean.dtype)
    return jnp.clip(jnp.round(127.5 * (x + 1)), 0, 255).astype(jnp.int32)


def bits(log_probability: Any) -> float:
    """Bits a pixel of log-probabilities of images with 784 pixels."""
    return -float(np.mean(log_probability)) / 784 / np.log(2)


def gaussian(train: np.ndarray, test: np.ndarray, factors: int, iterations: int) -> dict[str, float]:
    """Bits a pixel of Gaussian models of levels [n, 784]: by Jensen a bound with uniform noise on the levels."""
    random = np.random.default_rng(0)
    train, test = (x + random.random(x.shape) for x in (train, test))
    models = {
        "probabilistic PCA": PCA(factors),
        "factor analysis": FactorAnalysis(factors, max_iter=iterations, tol=1),
    }
    return {name: bits(model.fit(train).score_samples(test)) for name, model in models.items()}


def compressed(images: np.ndarray) -> dict[str, float]:
    """Bits a pixel of lossless files of all images [n, 28, 28]: a sheet as PNG and WebP, a stream by gzip and xz."""
    side = int(len(images) ** 0.5)
    tiled = images[: side * side].reshape(side, side, 28, 28).swapaxes(1, 2).reshape(28 * side, 28 * side)

    def saved(form: str, **how: Any) -> float:
        file = io.BytesIO()
        Image.fromarray(tiled).convert("RGB" if form == "WEBP" else "L").save(file, form, **how)
        return 8 * file.tell() / tiled.size

    stream = images.tobytes()
    return {
        "gzip": 8 * len(gzip.compress(stream, 9)) / len(stream),
        "xz": 8 * len(lzma.compress(stream)) / len(stream),
        "PNG": saved("PNG", optimize=True),
        "lossless WebP": saved("WEBP", lossless=True, quality=100, method=6),
    }
