"""Colours against Pillow and scikit-image on photos, at factors that are drawn from an interval of no width."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from jaxnn import augment
from tests.augment._photos import levels, photo

KEY = jax.random.key(0)
FACTORS = (0.0, 0.4, 1.3, 2.5)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_as_pillow(name):
    """Pillow truncates where bytes are rounded here, and rounds the mean of contrast and the grey of saturation."""
    x = photo(name)
    of = Image.fromarray(x)

    @jax.jit
    def run(x, f):
        bounds = (f, f)
        return {
            "Brightness": augment.brightness(bounds)(KEY, x),
            "Contrast": augment.contrast(bounds)(KEY, x),
            "Color": augment.saturation(bounds)(KEY, x),
        }

    for factor in FACTORS:
        ours = run(x, factor)
        for enhance, y in ours.items():
            want = np.asarray(getattr(ImageEnhance, enhance)(of).enhance(factor))
            assert levels(np.asarray(y), want) <= 1 + round(abs(1 - factor) / 2), (enhance, factor)
    grey = np.asarray(augment.grayscale()(KEY, x))
    assert levels(grey[..., 0], np.asarray(of.convert("L"))) <= 1
    assert (np.ptp(grey, axis=-1) == 0).all()


@pytest.mark.parametrize("name", ["astronaut", "chelsea"])
def test_hue_as_scikit_image(name):
    """float32 against float64: an error of 1e-5 is 1/400 of a level."""
    x = photo(name) / 255
    color = pytest.importorskip("skimage.color", reason="scikit-image is not installed: hues were not compared")
    run = jax.jit(lambda turns: augment.hue((turns, turns))(KEY, jnp.asarray(x, jnp.float32)))
    for turns in (-0.5, -0.2, 0.1, 1 / 3, 0.5):
        hsv = color.rgb2hsv(x)
        hsv[..., 0] = (hsv[..., 0] + turns) % 1
        np.testing.assert_allclose(run(turns), color.hsv2rgb(hsv), atol=1e-5)


def test_the_hues_of_pure_colours():
    """Greys have no hue; every pair of equal channels is a corner of the formula."""
    ends = np.array(np.meshgrid([0, 0.5, 1], [0, 0.5, 1], [0, 0.5, 1])).reshape(3, 1, -1).T.astype(np.float32)
    third = jax.jit(augment.hue((1 / 3, 1 / 3)))
    np.testing.assert_allclose(third(KEY, ends), np.roll(ends, 1, axis=-1), atol=1e-6)


def test_gamma_as_scikit_image():
    exposure = pytest.importorskip("skimage.exposure", reason="scikit-image is not installed: gamma was not compared")
    x = photo("coffee") / 255
    run = jax.jit(lambda s: augment.gamma((s, s))(KEY, jnp.asarray(x, jnp.float32)))
    for exponent in (0.4, 2.2):
        np.testing.assert_allclose(run(np.log(exponent)), exposure.adjust_gamma(x, exponent), atol=1e-5)
    slope = jax.grad(lambda x: augment.gamma((-0.5, -0.5))(KEY, x).sum())(jnp.zeros((1, 1, 1)))
    assert slope.tolist() == [[[0.0]]]  # the derivative of x^0.6 at 0 is infinite


def test_factors_are_uniform():
    """Means and ends of the intervals over 10 000 keys, for a pixel of 0.25 or of a mean of 0.5."""
    keys = jax.random.split(KEY, 10_000)
    x = jnp.full((1, 1, 3), 0.25)

    @jax.jit
    def run(keys):
        one = lambda f: jax.vmap(f, (0, None))(keys, x)[:, 0, 0]  # noqa: E731
        return {
            "brightness": (one(augment.brightness(0.6))[:, 0] / 0.25, 0.4, 1.6),
            "a pair": (one(augment.brightness((0.5, 3.0)))[:, 0] / 0.25, 0.5, 3.0),
            "more than 1": (one(augment.brightness(2.0))[:, 0] / 0.25, 0.0, 3.0),
            "gamma": (jnp.log(jnp.log(one(augment.gamma(0.3))[:, 0]) / jnp.log(0.25)), -0.3, 0.3),
            **{f"shift {i}": (one(augment.channel_shift(0.2))[:, i] - 0.25, -0.2, 0.2) for i in range(3)},
        }

    for name, (values, low, high) in run(keys).items():
        ordered = (np.sort(values) - low) / (high - low)
        deviation = np.abs(ordered - (np.arange(10_000) + 0.5) / 10_000).max()  # Kolmogorov and Smirnov
        assert deviation < 1.95 / 100, name  # exceeded once in a thousand times


def test_channels_are_permuted_uniformly():
    keys = jax.random.split(KEY, 10_000)
    x = jnp.array([[[0.0, 0.5, 1.0]]])
    y = np.asarray(jax.jit(jax.vmap(augment.channel_shuffle(), (0, None)))(keys, x))[:, 0, 0]
    orders, counts = np.unique(y, axis=0, return_counts=True)
    assert len(orders) == 6
    assert np.abs(counts - 10_000 / 6).max() < 4 * (10_000 * 5 / 36) ** 0.5


def test_pca_color_has_the_covariance_of_its_formula():
    """The added colours of 10 000 keys: their covariance is P diag(stddev · scales)² Pᵀ."""
    keys = jax.random.split(KEY, 10_000)
    x = jnp.full((1, 1, 3), 0.5)
    y = np.asarray(jax.jit(jax.vmap(augment.pca_color(0.1), (0, None)))(keys, x))[:, 0, 0] - 0.5
    directions = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    want = directions @ np.diag(np.array([0.02175, 0.00188, 0.00045]) ** 2) @ directions.T
    np.testing.assert_allclose(np.cov(y.T), want, atol=0.05 * want.max())
    along = (y @ directions).std(0)
    np.testing.assert_allclose(along, [0.02175, 0.00188, 0.00045], rtol=0.05)
