"""The sampler against SciPy, far outside of the image too, and 3×3 matrices against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxnn.augment import _warp
from tests.augment._photos import photo

MODES = {"constant": "grid-constant", "edge": "nearest", "reflect": "mirror"}  # SciPy's names
ORDERS = {"nearest": 0, "linear": 1}


@pytest.mark.parametrize("fill", MODES)
@pytest.mark.parametrize("method", ORDERS)
def test_sampling_as_scipy(method, fill):
    """float32 coordinates up to 300 pixels: an error of 2e-5 pixels, times a step of 1 between pixels."""
    x = photo("chelsea") / 255
    rows, columns = np.random.default_rng(0).uniform(-200, 300, (2, 60, 60)).astype(np.float32)
    want = np.stack(
        [
            ndimage.map_coordinates(c, (rows, columns), None, ORDERS[method], MODES[fill], 0.3)
            for c in x.T.swapaxes(1, 2)
        ]
    )
    how = _warp.sampling("test", method, fill, 0.3, 7)
    example = {"image": jnp.asarray(x, jnp.float32), "mask": jnp.asarray(x[..., 0] > 0.5)}
    y = jax.jit(lambda example, rows, columns: _warp.sampled(example, (columns + 0.5, rows + 0.5), how, None))(
        example, rows, columns
    )
    np.testing.assert_allclose(np.moveaxis(np.asarray(y["image"]), -1, 0), want, atol=1e-4)
    mask = ndimage.map_coordinates((x[..., 0] > 0.5).astype(int), (rows, columns), None, 0, MODES[fill], 7)
    np.testing.assert_array_equal(y["mask"], mask != 0)


def test_an_image_of_one_pixel_and_far_coordinates():
    x, far = jnp.full((1, 1, 1), 0.5), jnp.array([[-1e9, 0.5, 1e9, jnp.inf]])
    for fill, want in (("constant", [0, 0.5, 0, 0]), ("edge", [0.5] * 4), ("reflect", [0.5] * 3)):
        for method in ORDERS:
            how = _warp.sampling("test", method, fill, 0.0, 0)
            y = _warp.sampled(x, (far[:, : len(want)], far[:, : len(want)]), how, None)
            assert y[0, :, 0].tolist() == want, (fill, method)


def test_matrices_as_numpy():
    a, b = np.random.default_rng(1).normal(size=(2, 20, 3, 3)).astype(np.float32)
    inverse, product = jax.jit(jax.vmap(lambda a, b: (_warp.inverted(a), _warp.product(a, b))))(a, b)
    np.testing.assert_allclose(inverse, np.linalg.inv(a.astype(float)), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(product, a @ b, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(_warp.inverted(jnp.eye(3)), np.eye(3))


def test_points_beyond_the_horizon_are_outside():
    a = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 1.0]])
    x, y = _warp.mapped(a, jnp.array([0.5, 2.0]), jnp.array([1.0, 1.0]))
    assert (x.tolist(), y.tolist()) == ([1.0, -1e6], [2.0, -1e6])
