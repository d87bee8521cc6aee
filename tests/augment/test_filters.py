"""Blur against SciPy, sharpness against Pillow, and the statistics of noise and cutout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy import ndimage

from jaxnn import augment
from tests.augment._photos import levels, photo

KEY = jax.random.key(0)


@pytest.mark.parametrize("sigma", [0.5, 1.7])
def test_blur_as_scipy(sigma):
    """Both cut the Gaussian off at 3 sigma, rounded up."""
    x = photo("coffee") / 255
    radius = int(np.ceil(3 * sigma))
    want = ndimage.gaussian_filter(x, (sigma, sigma, 0), mode="mirror", radius=(radius, radius, 0))
    y = jax.jit(augment.blur((sigma, sigma)))(KEY, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(y, want, atol=1e-5)


def test_sharpness_as_pillow():
    """Pillow rounds the smooth image, whose error the factor amplifies."""
    x = photo("astronaut")
    run = jax.jit(lambda f: augment.sharpness((f, f))(KEY, x))
    for factor in (0.0, 0.5, 1.9):
        want = np.asarray(ImageEnhance.Sharpness(Image.fromarray(x)).enhance(factor))
        assert levels(np.asarray(run(factor)), want) <= 1 + (factor > 1)
    small = jnp.asarray(x[:2, :2])
    np.testing.assert_array_equal(augment.sharpness((0.0, 0.0))(KEY, small), small)  # all of it is border


def test_noise_has_its_deviation():
    y = np.asarray(jax.jit(augment.noise(0.1))(KEY, jnp.full((100, 100, 3), 0.5))) - 0.5
    assert abs(y.mean()) < 4 * 0.1 / 30_000**0.5
    assert abs(y.std() - 0.1) < 4 * 0.1 / 60_000**0.5
    one = jax.jit(jax.vmap(augment.noise((0.0, 0.1)), (0, None)))
    each = np.asarray(one(jax.random.split(KEY, 300), jnp.full((10, 10, 1), 0.5))).std((1, 2, 3))
    assert abs(each.mean() - 0.05) < 4 * 0.1 / 12**0.5 / 300**0.5 + 0.001
    assert each.min() < 0.01
    assert each.max() > 0.09


@pytest.mark.parametrize("size", [(2, 4), (3, 3)])
def test_cutout_covers_a_rectangle_about_a_uniform_pixel(size):
    """Rows of a [5, 7] image that are covered, over 10 000 keys: as often as centres are near enough."""
    keys = jax.random.split(KEY, 10_000)
    run = jax.jit(jax.vmap(augment.cutout(size, value=1.0), (0, None)))
    y = np.asarray(run(keys, jnp.zeros((5, 7, 1))))[..., 0]
    for axis, n in ((1, 5), (2, 7)):
        first = np.arange(n) - size[axis - 1] // 2  # of each centre
        place = np.arange(n)[:, None]
        want = ((place >= first) & (place < first + size[axis - 1])).mean(1)
        np.testing.assert_allclose(y.any(3 - axis).mean(0), want, atol=4 * 0.5 / 100)
    rows, columns = y.any(2).sum(1), y.any(1).sum(1)
    np.testing.assert_array_equal(y.sum((1, 2)), rows * columns)  # a rectangle
    assert (rows.max(), columns.max()) == size
