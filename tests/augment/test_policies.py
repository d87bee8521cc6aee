"""The operations of the policies against Pillow, each at several magnitudes, and how often each is drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from jaxnn import augment
from jaxnn.augment import _policies as policies
from jaxnn.augment._warp import sampling
from tests.augment._photos import differing, photo

KEY = jax.random.key(0)
HOW = sampling("test", "nearest", "constant", 0.0, 0)
# Pillow's operation for a level from -1 to 1, with the tables of the papers as torchvision has them.
LARGEST = {
    "rand_augment": {"shear": 0.3, "shift": 150 / 331, "turn": 30, "factor": 0.9, "bits": 4},
    "trivial_augment": {"shear": 0.99, "shift": 32, "turn": 135, "factor": 0.99, "bits": 6},
}
RANGES = {"rand_augment": policies.RAND, "trivial_augment": policies.TRIVIAL}


def in_pillow(image, name, level, most):
    w, h = image.size
    shift = (
        {"x": most["shift"] * w, "y": most["shift"] * h} if most["shift"] < 1 else dict.fromkeys("xy", most["shift"])
    )
    affine = {
        "shear_x": (1, level * most["shear"], 0, 0, 1, 0),
        "shear_y": (1, 0, 0, level * most["shear"], 1, 0),
        "translate_x": (1, 0, level * shift["x"], 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, level * shift["y"]),
    }
    enhance = {"brightness": "Brightness", "color": "Color", "contrast": "Contrast", "sharpness": "Sharpness"}
    if name in affine:
        return image.transform(image.size, Image.Transform.AFFINE, affine[name])
    if name == "rotate":
        return image.rotate(level * most["turn"])
    if name in enhance:
        return getattr(ImageEnhance, enhance[name])(image).enhance(1 + level * most["factor"])
    others = {
        "identity": lambda: image,
        "posterize": lambda: ImageOps.posterize(image, 8 - round(abs(level) * most["bits"])),
        "solarize": lambda: ImageOps.solarize(image, 255 - 255 * abs(level)),
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
    }
    return others[name]()


@pytest.mark.parametrize("policy", RANGES)
def test_each_operation_as_pillow(policy):
    """Pixels whose coordinates lie between two pixels are rounded apart, one in 200 at most."""
    x = photo("chelsea")
    image = Image.fromarray(x)
    run = jax.jit(lambda number, level: policies.applied(policy, x, number, level, RANGES[policy], HOW))
    for number, name in enumerate(policies.OPERATIONS):
        for level in (-0.9, 0.3, 1.0):
            want = np.asarray(in_pillow(image, name, level, LARGEST[policy]))
            ours = run(jnp.asarray(number), jnp.asarray(level, jnp.float32))
            assert differing(ours, want) < 0.005, (name, level)


def test_operations_and_signs_are_drawn_uniformly(monkeypatch):
    monkeypatch.setattr(
        policies, "applied", lambda where, x, number, level, ranges, how: jnp.stack([number.astype(level.dtype), level])
    )
    monkeypatch.setattr(policies, "image_of", lambda where, x: x)
    keys = jax.random.split(KEY, 10_000)
    x = jnp.zeros((1, 1, 3))

    @jax.jit
    def run(keys):
        return [
            jax.vmap(lambda key, f=f: f(key, x))(keys) for f in (augment.rand_augment(1, 9), augment.trivial_augment())
        ]

    rand, trivial = map(np.asarray, run(keys))
    for numbers, levels in (rand.T, trivial.T):
        counts = np.bincount(numbers.astype(int), minlength=14)
        assert ((counts - 10_000 / 14) ** 2 / (10_000 / 14)).sum() < 34.5  # chi-squared, once in a thousand times
        assert abs((levels > 0).mean() / (levels != 0).mean() - 0.5) < 0.02
    np.testing.assert_allclose(np.unique(np.abs(rand[:, 1])), [0.3])
    levels, counts = np.unique(np.round(np.abs(trivial[:, 1]) * 30), return_counts=True)
    np.testing.assert_array_equal(levels, np.arange(31))
    assert ((counts - 10_000 / 31) ** 2 / (10_000 / 31)).sum() < 59.7


@pytest.mark.slow
def test_operations_follow_each_other_and_move_masks():
    x = photo("chelsea")[:40, :50]
    example = {"image": x, "mask": x[..., 0], "keypoints": jnp.array([[3.0, 4.0]])}
    keys = jax.random.split(KEY, 20)
    y = jax.jit(jax.vmap(augment.rand_augment(2, 20), (0, None)))(keys, example)
    still = (np.asarray(y["mask"]) == x[..., 0]).all((1, 2))
    assert 0 < still.sum() < 20
    assert (np.asarray(y["keypoints"])[still] == [[3, 4]]).all()
    assert (np.asarray(y["image"]) != x).any((1, 2, 3)).sum() > (~still).sum()
