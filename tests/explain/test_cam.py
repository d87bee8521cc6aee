"""Class activation maps against their formulas from raw gradients, in float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn
from jaxnn import explain

X = jax.random.normal(jax.random.key(0), (3, 8, 6, 2))
MODEL = nn.serial(nn.conv(5, 3), nn.relu, nn.max_pool(2), nn.conv(7, 3), nn.tanh, nn.flatten(), nn.dense(4))
PARAMS, STATE = MODEL.init(jax.random.key(1), X)
HEAD = nn.serial(nn.tanh, nn.flatten(), nn.dense(4))
CLASSES = np.array([2, 0, 3])


def raw():
    """Output of the second convolution [n, 4, 3, 7], and the gradient of the scores at it."""
    (_, inner), _ = nn.capture(MODEL, "conv_1").apply(PARAMS, STATE, X)
    a = inner["conv_1"]
    score = lambda a: HEAD.apply(PARAMS, STATE, a)[0][jnp.arange(3), CLASSES].sum()  # noqa: E731
    return np.asarray(a, np.float64), np.asarray(jax.grad(score)(a), np.float64)


def test_grad_cam():
    a, g = raw()
    wanted = np.maximum(np.einsum("nk,nijk->nij", g.mean((1, 2)), a), 0)
    maps = explain.grad_cam(MODEL, PARAMS, STATE, X, "conv_1", target=CLASSES)
    assert (wanted > 0).any()
    assert_close(maps, wanted)


def test_grad_cam_plus_plus():
    maps = explain.grad_cam_plus_plus(MODEL, PARAMS, STATE, X, "conv_1", target=CLASSES)
    a, g = raw()
    alpha = g**2 / (2 * g**2 + a.sum((1, 2), keepdims=True) * g**3)
    weights = (alpha * np.maximum(g, 0)).sum((1, 2))
    wanted = np.maximum(np.einsum("nk,nijk->nij", weights, a), 0)
    np.testing.assert_allclose(maps, wanted, rtol=1e-3, atol=1e-4 * wanted.max())


def test_grad_cam_plus_plus_of_channels_without_gradient_is_0():
    model = nn.serial(nn.relu, nn.lift(lambda x: jnp.zeros((len(x), 2)), name="blank"))
    assert (explain.grad_cam_plus_plus(model, {}, {}, X, "relu") == 0).all()


@pytest.mark.parametrize("block", [1, 3, 8])
def test_score_cam(block):
    (_, inner), _ = nn.capture(MODEL, "max_pool").apply(PARAMS, STATE, X)
    a, s = np.asarray(inner["max_pool"], np.float64), []
    for k in range(a.shape[-1]):
        low, high = a[..., k].min((1, 2), keepdims=True), a[..., k].max((1, 2), keepdims=True)
        mask = jax.image.resize(jnp.asarray((a[..., k] - low) / (high - low), jnp.float32), (3, 8, 6), "linear")
        s.append(np.asarray(MODEL.apply(PARAMS, STATE, X * mask[..., None])[0])[np.arange(3), CLASSES])
    alpha = np.exp(s) / np.exp(s).sum(0)
    wanted = np.maximum(np.einsum("kn,nijk->nij", alpha, a), 0)
    maps = explain.score_cam(MODEL, PARAMS, STATE, X, "max_pool", target=CLASSES, block=block)
    assert_close(maps, wanted)


CAMS = (explain.grad_cam, explain.grad_cam_plus_plus, explain.score_cam)


def test_a_constant_channel_has_an_empty_mask():
    model = nn.serial(nn.lift(lambda x: x * jnp.array([[[[0.0, 1.0]]]]), name="first"), nn.global_avg_pool())
    assert np.isfinite(explain.score_cam(model, {}, {}, X, "first")).all()


@pytest.mark.parametrize("method", CAMS)
def test_sequences(method):
    model = nn.serial(nn.conv(4, 3), nn.relu, nn.global_avg_pool(), nn.dense(2))
    x = jax.random.normal(jax.random.key(0), (2, 9, 3))
    params, state = model.init(jax.random.key(1), x)
    maps = method(model, params, state, x, "conv")
    assert maps.shape == (2, 9)
    assert_close(jax.jit(lambda x: method(model, params, state, x, "conv"))(x), maps)


WRONG = {
    "an unknown path": (
        "conv_7",
        "capture: expected one of the paths conv, relu, max_pool, conv_1, tanh, flatten, dense, got 'conv_7'.",
    ),
    "no space": ("flatten", "{}: expected outputs of flatten of shape [3, *space, channels], got float32[3, 84]."),
}


@pytest.mark.parametrize("method", CAMS)
@pytest.mark.parametrize("case", WRONG)
def test_errors(case, method):
    path, text = WRONG[case]
    with pytest.raises(ValueError) as caught:
        method(MODEL, PARAMS, STATE, X, path)
    assert str(caught.value) == text.format(method.__name__)


def test_score_cam_of_rows():
    with pytest.raises(ValueError) as caught:
        explain.score_cam(MODEL, PARAMS, STATE, jnp.ones((3, 2)), "conv")
    assert str(caught.value) == "score_cam: expected x of shape [n, *space, c], got float32[3, 2]."
