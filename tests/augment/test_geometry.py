"""Affine maps, perspectives and elastic deformations against Pillow, SciPy and scikit-image; masks, boxes, points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from jaxnn import augment
from tests.augment._photos import differing, photo

KEY = jax.random.key(0)


@pytest.mark.parametrize("method", ["nearest", "linear"])
def test_rotation_as_pillow(method):
    """Pillow computes linear interpolation in bytes, and cuts at the border instead of blending with the fill."""
    x = photo("coffee")
    resample = {"nearest": Image.Resampling.NEAREST, "linear": Image.Resampling.BILINEAR}[method]
    run = jax.jit(lambda a: augment.rotate((a, a), method=method)(KEY, x))
    for angle in (-70.0, 10.0, 90.0, 133.0):
        want = np.asarray(Image.fromarray(x).rotate(angle, resample))
        assert differing(run(angle), want) < (0.002 if method == "nearest" else 0.02)


def matrices(x):
    """The formulas in float64: name -> the 3×3 map of (x, y), about the centre of the image."""
    h, w, _ = x.shape
    to, back = np.eye(3), np.eye(3)
    to[:2, 2], back[:2, 2] = (w / 2, h / 2), (-w / 2, -h / 2)
    a, s = np.deg2rad(25), np.tan(np.deg2rad(12))
    turn = np.array([[np.cos(a), np.sin(a), 0], [-np.sin(a), np.cos(a), 0], [0, 0, 1]])
    shear = np.array([[1, s, 0], [s, 1, 0], [0, 0, 1]])
    scale, shift = np.diag([1.3, 1.3, 1]), np.array([[1, 0, 0.1 * w], [0, 1, 0.1 * h], [0, 0, 1]])
    found = {"rotate": turn, "shear": shear, "zoom": scale}
    found = {name: to @ m @ back for name, m in found.items()}
    return found | {"translate": shift, "affine": shift @ to @ scale @ turn @ shear @ back}


BOUNDS = {"rotate": 25.0, "shear": 12.0, "zoom": 1.3, "translate": 0.1}


@pytest.mark.slow
def test_affine_maps_as_scipy():
    """SciPy takes the inverse on (row, column), and pixels as points: their centres are moved by a half."""
    x = photo("chelsea") / 255
    pieces = {name: getattr(augment, name)((b, b), fill="reflect") for name, b in BOUNDS.items()}
    values = BOUNDS | {"strength": 1.3}
    pairs = [(values[name],) * 2 for name in ("rotate", "translate", "strength", "shear")]
    pieces["affine"] = augment.affine(*pairs, fill="reflect")
    points = np.float32([[10, 20], [100, 60.5]])
    example = {"image": jnp.asarray(x, jnp.float32), "keypoints": points}
    run = jax.jit(lambda e: {name: f(KEY, e) for name, f in pieces.items()})
    ours = run(example)
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    for name, forward in matrices(x).items():
        inverse = np.linalg.inv(half) @ np.linalg.inv(forward) @ half
        swapped = inverse[[1, 0, 2]][:, [1, 0, 2]]
        want = np.stack(
            [ndimage.affine_transform(c, swapped, order=1, mode="mirror") for c in np.moveaxis(x, -1, 0)], -1
        )
        np.testing.assert_allclose(ours[name]["image"], want, atol=1e-4, err_msg=name)
        moved = np.column_stack([points, np.ones(2)]) @ forward.T
        np.testing.assert_allclose(ours[name]["keypoints"], moved[:, :2], rtol=1e-5, atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_perspective_as_scikit_image():
    """The homography that scikit-image finds from the moved corners moves the whole image as ours."""
    transform = pytest.importorskip(
        "skimage.transform", reason="scikit-image is not installed: perspectives were not compared"
    )
    x = photo("coffee") / 255
    h, w, _ = x.shape
    corners = np.float32([[0, 0], [w, 0], [w, h], [0, h]])
    f = jax.jit(augment.perspective(0.6, fill="edge"))
    for key in jax.random.split(KEY, 4):
        y = f(key, {"image": jnp.asarray(x, jnp.float32), "keypoints": corners})
        moved = np.asarray(y["keypoints"])
        assert (np.abs(moved - corners) <= np.array([0.3 * w, 0.3 * h]) + 1e-3).all()
        assert np.abs(moved - corners).min() > 0
        map_ = transform.ProjectiveTransform.from_estimate(moved - 0.5, corners - 0.5)
        want = transform.warp(x, map_, order=1, mode="edge")
        np.testing.assert_allclose(y["image"], want, atol=2e-3)  # coordinates of the estimate are off by 1e-3 pixels


@pytest.mark.slow
def test_elastic_as_scipy():
    """The same uniform numbers, smoothed by SciPy, displace every pixel."""
    x = photo("chelsea") / 255
    alpha, sigma = 60.0, 4.0
    y = jax.jit(augment.elastic(alpha, sigma, fill="edge"))(KEY, jnp.asarray(x, jnp.float32))
    noise = 2 * np.asarray(jax.random.uniform(KEY, (*x.shape[:2], 2)), float) - 1
    by = alpha * ndimage.gaussian_filter(noise, (sigma, sigma, 0), mode="constant", radius=(12, 12, 0))
    rows, columns = np.indices(x.shape[:2])
    places = rows + by[..., 1], columns + by[..., 0]
    want = np.stack([ndimage.map_coordinates(c, places, order=1, mode="nearest") for c in np.moveaxis(x, -1, 0)], -1)
    np.testing.assert_allclose(y, want, atol=1e-4)
    assert 0.5 < by.std() / (0.16 * alpha / sigma) < 1.5  # the figure of the docstring


def discs(points, size):
    """A mask of discs of radius 4 about points, numbered from 1."""
    rows, columns = np.indices(size) + 0.5
    mask = np.zeros(size, np.int32)
    for i, (x, y) in enumerate(points, 1):
        mask[(rows - y) ** 2 + (columns - x) ** 2 <= 16] = i
    return mask


@pytest.mark.slow
def test_keypoints_stay_in_the_middle_of_their_discs():
    points = np.float32([[20, 24], [40.5, 30], [30, 44.5]])
    example = {"image": jnp.zeros((64, 64, 1)), "mask": discs(points, (64, 64)), "keypoints": points}
    pieces = {
        "affine": augment.affine(30.0),
        "elastic": augment.elastic(30.0, 6.0),
        "perspective": augment.perspective(0.3),
        "resized_crop": augment.resized_crop((48, 60), area=(0.7, 1.0)),
        "resize": augment.resize((48, 90)),
        "vertical flip": augment.flip("vertical", 1.0),
    }
    run = jax.jit(lambda e: {name: f(KEY, e) for name, f in pieces.items()})
    for name, y in run(example).items():
        for i, (x_, y_) in enumerate(np.asarray(y["keypoints"]), 1):
            rows, columns = np.nonzero(np.asarray(y["mask"]) == i)
            assert len(rows) > 15, name
            assert abs(columns.mean() + 0.5 - x_) < 0.6, name
            assert abs(rows.mean() + 0.5 - y_) < 0.6, name


def around(mask):
    """The smallest box around a mask."""
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.slow
def test_boxes_move_with_the_masks():
    """Flips, crops and quarter turns: the box around the moved mask is the moved box."""
    box = np.float32([[3, 5, 9, 8]])
    mask = np.zeros((16, 16), np.int32)
    mask[5:8, 3:9] = 1
    example = {"image": jnp.zeros((16, 16, 1)), "mask": mask, "boxes": box}
    pieces = {
        "horizontal": augment.flip("horizontal", 1.0),
        "vertical": augment.flip("vertical", 1.0),
        "crop": augment.crop((14, 12), padding=3),
        "center_crop": augment.center_crop(9),
        **{str(a): augment.rotate((a, a), method="nearest") for a in (90.0, 180.0, -90.0)},
    }
    run = jax.jit(jax.vmap(lambda key, e: {name: f(key, e) for name, f in pieces.items()}, (0, None)))
    for name, y in run(jax.random.split(KEY, 8), example).items():
        for mask, boxes in zip(np.asarray(y["mask"]), np.asarray(y["boxes"]), strict=True):
            np.testing.assert_allclose(boxes[0], around(mask), atol=1e-4, err_msg=name)


def test_boxes_are_clipped_and_a_lost_one_has_no_area():
    boxes = np.float32([[0, 0, 4, 4], [6, 6, 8, 8], [2, 2, 2, 2]])
    example = {"image": jnp.zeros((8, 8, 1)), "boxes": boxes}
    y = jax.jit(augment.translate((0.5, 0.5)))(KEY, example)
    assert y["boxes"].tolist() == [[4, 4, 8, 8], [8, 8, 8, 8], [6, 6, 6, 6]]


def test_angles_are_uniform():
    """From keypoints turned about the centre, over 10 000 keys."""
    keys = jax.random.split(KEY, 10_000)
    example = {"image": jnp.zeros((2, 2, 1)), "keypoints": jnp.array([[2.0, 1.0]])}
    f = augment.rotate((-30.0, 60.0))
    moved = np.asarray(jax.jit(jax.vmap(lambda key: f(key, example)["keypoints"][0] - 1))(keys))
    ordered = (np.sort(np.rad2deg(np.arctan2(-moved[:, 1], moved[:, 0]))) + 30) / 90
    assert np.abs(ordered - (np.arange(10_000) + 0.5) / 10_000).max() < 1.95 / 100  # once in a thousand times


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_derivatives_by_strengths():
    """Of a smooth image, by the strength itself, against differences; nearest would have none."""
    rows, columns = np.indices((12, 12))
    x = jnp.asarray(np.sin(rows / 3) * np.cos(columns / 4))[..., None]
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(12, 12, 1)))

    @jax.jit
    def run(s):
        pieces = {
            "rotate": augment.rotate((s, s), fill="edge"),
            "perspective": augment.perspective(s / 20, fill="edge"),
            "elastic": augment.elastic(s, 2.0, fill="edge"),
        }
        return {name: (f(KEY, x) * weights).sum() for name, f in pieces.items()}

    at, step = 3.3, 1e-5
    slopes = jax.jacfwd(run)(at)
    ahead, behind = run(at + step), run(at - step)
    for name, slope in slopes.items():
        np.testing.assert_allclose(slope, (ahead[name] - behind[name]) / (2 * step), rtol=1e-4, err_msg=name)
