"""Tones against Pillow on photos: the same bytes, but for a rounding where it is said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageOps

from jaxnn import augment
from tests.augment._photos import levels, photo

KEY = jax.random.key(0)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_as_pillow(name):
    x = photo(name)
    of = Image.fromarray(x)

    @jax.jit
    def run(x):
        return {
            "invert": augment.invert()(KEY, x),
            "solarize": augment.solarize()(KEY, x),
            "posterize": augment.posterize(3)(KEY, x),
            "equalize": augment.equalize()(KEY, x),
            "autocontrast": augment.autocontrast()(KEY, x // 2 + 30),
        }

    ours = {key: np.asarray(y) for key, y in run(x).items()}
    np.testing.assert_array_equal(ours["invert"], ImageOps.invert(of))
    np.testing.assert_array_equal(ours["solarize"], ImageOps.solarize(of))
    np.testing.assert_array_equal(ours["posterize"], ImageOps.posterize(of, 3))
    np.testing.assert_array_equal(ours["equalize"], ImageOps.equalize(of))
    truncated = ImageOps.autocontrast(Image.fromarray(x // 2 + 30))
    assert levels(ours["autocontrast"], np.asarray(truncated)) <= 1


def test_posterize_for_all_bits_and_for_floats():
    x = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    run = jax.jit(lambda bits, x: augment.posterize(bits)(KEY, x))
    for bits in range(9):
        want = x & np.uint8(256 - 2 ** (8 - bits))
        np.testing.assert_array_equal(run(bits, x), want)
        np.testing.assert_allclose(run(bits, jnp.asarray(x / 255, jnp.float32)) * 255, want, atol=1e-4)


def test_flat_channels_stay():
    x = jnp.full((4, 4, 2), 0.2).at[..., 1].set(1.0)
    stretched, equal = jax.jit(lambda x: (augment.autocontrast()(KEY, x), augment.equalize()(KEY, x)))(x)
    np.testing.assert_array_equal(stretched, x)
    np.testing.assert_allclose(equal, x, atol=1e-6)


def test_equalize_is_one_for_floats_and_bytes():
    x = photo("chelsea")
    both = jax.jit(lambda x, y: (augment.equalize()(KEY, x), augment.equalize()(KEY, y)))
    b, f = both(x, jnp.asarray(x / 255, jnp.float32))
    np.testing.assert_allclose(f * 255, np.asarray(b, np.float32), atol=1e-4)


def test_the_threshold_itself_is_inverted():
    y = augment.solarize(128 / 255)(KEY, jnp.array([[[127, 128, 129]]], jnp.uint8))
    assert y.tolist() == [[[127, 127, 126]]]
