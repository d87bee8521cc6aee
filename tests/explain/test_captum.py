"""Maps of captum for the same weights and images, in captum.npz by tools/attributions.py."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn
from jaxnn import explain

STORED = dict(np.load(Path(__file__).with_name("captum.npz")))
MODEL = nn.serial(
    *(nn.conv(6, 3), nn.relu, nn.max_pool(2), nn.conv(8, 3), nn.relu, nn.global_avg_pool(), nn.dense(5)),
)
PARAMS = {
    "conv": {"w": STORED["conv0_w"], "b": STORED["conv0_b"]},
    "conv_1": {"w": STORED["conv1_w"], "b": STORED["conv1_b"]},
    "dense": {"w": STORED["dense_w"], "b": STORED["dense_b"]},
}
BASE = jnp.array([0.5, -0.25, 0.0])
METHODS = {
    "saliency": explain.saliency,
    "input_x_gradient": explain.input_x_gradient,
    "integrated_gradients": lambda *args, **how: explain.integrated_gradients(*args, baseline=BASE, **how),
    "guided_backprop": explain.guided_backprop,
    "deconvnet": explain.deconvnet,
    "grad_cam": lambda *args, **how: explain.grad_cam(*args, "relu_1", **how)[..., None],
    "occlusion": lambda *args, **how: explain.occlusion(*args, window=4, fill=BASE, **how)[..., None],
    "occlusion_overlapping": lambda *args, **how: explain.occlusion(
        *args, window=(5, 4), stride=(2, 3), fill=BASE, **how
    )[..., None],
}


@pytest.mark.parametrize("method", METHODS)
def test_equal_to_captum(method):
    maps = METHODS[method](MODEL, PARAMS, {}, STORED["x"], target=np.array([3, 0]))
    wanted = STORED[method]
    np.testing.assert_allclose(maps, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
