"""Flips, crops and resizing against NumPy and Pillow, and the distributions of their draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxnn import augment
from tests.augment._photos import differing, levels, photo

KEY = jax.random.key(0)
KEYS = jax.random.split(KEY, 10_000)


@pytest.mark.parametrize("direction", ["horizontal", "vertical"])
def test_flips_are_drawn_with_their_probability(direction):
    x = np.arange(4, dtype=np.float32).reshape(2, 2, 1)
    y = np.asarray(jax.jit(jax.vmap(augment.flip(direction, 0.3), (0, None)))(KEYS, x))
    mirrored = np.flip(x, 1 if direction == "horizontal" else 0)
    is_mirrored, same = ((y == a).all((1, 2, 3)) for a in (mirrored, x))
    assert (is_mirrored ^ same).all()
    assert abs(is_mirrored.mean() - 0.3) < 4 * (0.21 / 10_000) ** 0.5


@pytest.mark.parametrize("fill", ["constant", "edge", "reflect"])
def test_crops_are_uniform_parts_of_the_padded_image(fill):
    """Each of the 4 × 6 places 10 000 / 24 times, by chi-squared; and each part is the one of NumPy's pad."""
    x = np.arange(5 * 6).reshape(5, 6, 1).astype(np.uint8)
    f = augment.crop((4, 5), padding=(1, 2), fill=fill, value=100 / 255)
    how = {"constant_values": 100} if fill == "constant" else {}
    padded = np.pad(x, ((1, 1), (2, 2), (0, 0)), fill, **how)
    parts = {padded[i : i + 4, j : j + 5].tobytes(): (i, j) for i in range(4) for j in range(6)}
    y = np.asarray(jax.jit(jax.vmap(f, (0, None)))(KEYS, x))
    places = [parts[part.tobytes()] for part in y]
    _, counts = np.unique(places, axis=0, return_counts=True)
    assert len(counts) == 24
    want = 10_000 / 24
    assert ((counts - want) ** 2 / want).sum() < 49.7  # chi-squared of 23 degrees of freedom, once in a thousand times


def test_center_crop():
    x = np.arange(7 * 6).reshape(7, 6, 1).astype(np.float32)
    np.testing.assert_array_equal(augment.center_crop((3, 3))(KEY, x), x[2:5, 1:4])


def test_the_mask_has_a_value_of_its_own():
    example = {"image": jnp.zeros((2, 2, 1)), "mask": jnp.ones((2, 2, 2), jnp.uint8)}
    f = jax.jit(augment.crop(4, padding=1, value=0.5, mask_value=255))
    y = f(KEY, example)
    ring = np.pad(np.zeros((2, 2)), 1, constant_values=1)[..., None]
    np.testing.assert_array_equal(y["image"], ring * 0.5)
    np.testing.assert_array_equal(y["mask"], np.where(np.repeat(ring, 2, -1) == 1, 255, 1))


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_resize_as_pillow(name):
    """Pillow interpolates one axis after another, and rounds and clips to bytes between: cubic overshoots at edges."""
    x = photo(name)
    for size, method, resample in (
        ((50, 40), "linear", Image.Resampling.BILINEAR),
        ((200, 173), "linear", Image.Resampling.BILINEAR),
        ((61, 200), "cubic", Image.Resampling.BICUBIC),
    ):
        y = np.asarray(jax.jit(augment.resize(size, method=method))(KEY, x))
        want = np.asarray(Image.fromarray(x).resize(size[::-1], resample))
        assert levels(y, want) <= 1 if method == "linear" else differing(y, want) < 0.005


def test_nearest_and_masks_as_pillow():
    """From odd to even sizes, where no coordinate lies between two pixels."""
    x = photo("chelsea")
    for size in ((50, 40), (200, 174)):
        y = jax.jit(augment.resize(size, method="nearest"))(KEY, {"image": x, "mask": x})
        want = Image.fromarray(x).resize(size[::-1], Image.Resampling.NEAREST)
        np.testing.assert_array_equal(y["mask"], want)
        np.testing.assert_array_equal(y["image"], want)


def test_resized_crop_as_pillow():
    """The box of each draw is known from keypoints; Pillow resizes the same box."""
    x = photo("coffee")
    h, w, _ = x.shape
    f = jax.jit(augment.resized_crop((40, 48), area=(0.2, 1.0)))
    for key in jax.random.split(KEY, 5):
        y = f(key, {"image": x, "keypoints": jnp.array([[0.0, 0.0], [w, h]])})
        (left, top), (right, bottom) = np.asarray(y["keypoints"], float)
        scale_x, scale_y = (right - left) / w, (bottom - top) / h
        box = np.clip([-left / scale_x, -top / scale_y, (48 - left) / scale_x, (40 - top) / scale_y], 0, [w, h, w, h])
        want = np.asarray(Image.fromarray(x).resize((48, 40), Image.Resampling.BILINEAR, tuple(box)))
        inside = np.s_[2:-2, 2:-2]  # at the border of the box Pillow does not look outside of it
        assert levels(np.asarray(y["image"])[inside], want[inside]) <= 2


def test_the_parts_of_resized_crop():
    """Areas are uniform, logarithms of ratios too, where no side is cut to the image's."""
    f = augment.resized_crop(1, area=(0.1, 0.4), ratio=(0.5, 2.0))
    example = {"image": jnp.zeros((100, 100, 1)), "keypoints": jnp.array([[0.0, 0.0], [100.0, 100.0]])}
    points = np.asarray(jax.jit(jax.vmap(lambda key: f(key, example)["keypoints"]))(KEYS), float)
    across, down = 1 / (points[:, 1] - points[:, 0]).T
    shares = (across * down - 0.1) / 0.3, np.log(across / down) / np.log(4) + 0.5
    starts = [-points[:, 0, i] * side / (1 - side) for i, side in enumerate((across, down))]
    for values in (*shares, *starts):
        deviation = np.abs(np.sort(values) - (np.arange(10_000) + 0.5) / 10_000).max()
        assert deviation < 1.95 / 100
