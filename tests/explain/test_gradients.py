"""Attributions from gradients: sums of gradients by hand, completeness, noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn

W = np.array([[1, -2, 3], [4, 5, -6]], np.float32)
X = np.array([[1, 0], [0, 1], [1, 2]], np.float32)
LINEAR = {"w": jnp.asarray(W), "b": jnp.zeros(3)}
IMAGES = jax.random.normal(jax.random.key(1), (3, 8, 8, 2))
CNN = nn.serial(nn.conv(6, 3), nn.relu, nn.max_pool(2), nn.conv(8, 3), nn.relu, nn.global_avg_pool(), nn.dense(4))
SMOOTH = nn.serial(nn.conv(6, 3), nn.tanh, nn.conv(8, 3), nn.softplus, nn.global_avg_pool(), nn.dense(4))
PARAMS, STATE = CNN.init(jax.random.key(0), IMAGES)


def test_input_x_gradient_of_a_linear_model_adds_up_to_the_score():
    maps = nn.explain.input_x_gradient(nn.dense(3), LINEAR, {}, X, target=1)
    assert_close(maps, X * W[None, :, 1])
    assert_close(maps.sum(1), X @ W[:, 1])


BASELINES = {
    "a number": (0.5, lambda x: np.full_like(x, 0.5)),
    "a number of each channel": (np.array([1, -1], np.float32), lambda x: np.zeros_like(x) + np.float32([1, -1])),
    "an example": (np.ones((8, 8, 2), np.float32), np.ones_like),
    "for each example": (2 * IMAGES[::-1] - 1, lambda x: 2 * x[::-1] - 1),
}


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.slow
def test_integrated_gradients_add_up_to_the_difference_of_scores(baseline):
    given, whole = BASELINES[baseline]
    ends = IMAGES, jnp.asarray(whole(np.asarray(IMAGES)))
    for model, steps, tolerance in ((SMOOTH, 50, 1e-4), (CNN, 2000, 1e-3)):  # each kink of a ReLU costs points
        scores = [model.apply(PARAMS, STATE, x)[0][:, 2] for x in ends]
        maps = nn.explain.integrated_gradients(model, PARAMS, STATE, IMAGES, target=2, baseline=given, steps=steps)
        difference = scores[0] - scores[1]
        np.testing.assert_allclose(maps.sum((1, 2, 3)), difference, rtol=tolerance)


def test_integrated_gradients_are_exact_for_polynomials():
    def cubic(x):
        return x**3 + x[:, ::-1]

    maps = nn.explain.integrated_gradients(cubic, {}, {}, X, target=1, steps=2)
    assert_close(maps, np.stack([X[:, 0], X[:, 1] ** 3], axis=1))


def test_the_predicted_class_is_that_of_x():
    def switch(x):  # the predicted class changes between the baseline and x
        return jnp.stack([0.5 - x[:, 0], x[:, 0] ** 2], axis=1)

    x = jnp.ones((1, 1))
    assert_close(nn.explain.integrated_gradients(switch, {}, {}, x), [[1.0]])
    assert_close(nn.explain.smooth_grad(switch, {}, {}, x, jax.random.key(0)), [[2.0]])


def test_smooth_grad_is_the_mean_of_gradients_at_noisy_inputs():
    key, samples = jax.random.key(3), 4
    maps = nn.explain.smooth_grad(CNN, PARAMS, STATE, IMAGES, key, target=1, samples=samples, stddev=0.2)
    total = 0
    for k in jax.random.split(key, samples):
        x = np.asarray(IMAGES, np.float64)
        sigma = 0.2 * (x.max((1, 2, 3)) - x.min((1, 2, 3)))
        noise = np.asarray(jax.random.normal(k, IMAGES.shape)) * sigma[:, None, None, None]
        noisy = jnp.asarray(x + noise, jnp.float32)
        total += np.asarray(nn.explain.saliency(CNN, PARAMS, STATE, noisy, target=1), np.float64)
    np.testing.assert_allclose(maps, total / samples, atol=1e-4 * np.abs(total).max())


def test_without_noise_it_is_the_gradient():
    found = nn.explain.smooth_grad(CNN, PARAMS, STATE, IMAGES, jax.random.key(0), samples=3, stddev=0.0)
    assert_close(found, nn.explain.saliency(CNN, PARAMS, STATE, IMAGES))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float64])
def test_dtypes(dtype, x64):
    cast = jax.tree.map(lambda a: a.astype(dtype), (PARAMS, STATE, IMAGES))
    key = jax.random.key(0)
    for maps in (
        nn.explain.integrated_gradients(CNN, *cast, baseline=1.0, steps=3),
        nn.explain.smooth_grad(CNN, *cast, key, samples=2),
    ):
        assert maps.dtype == dtype
        assert jnp.isfinite(maps).all()


NUMBER = (
    "integrated_gradients: expected baseline to be a number or an array of the shape of x, of one example or of its "
    "last axis"
)
WRONG = {
    "a baseline of another shape": (
        lambda: nn.explain.integrated_gradients(nn.dense(3), LINEAR, {}, X, baseline=jnp.ones(3)),
        ValueError,
        f"{NUMBER}, got float32[3]. x is float32[3, 2].",
    ),
    "no baseline": (
        lambda: nn.explain.integrated_gradients(nn.dense(3), LINEAR, {}, X, baseline=None),
        TypeError,
        f"{NUMBER}, got None.",
    ),
    "a seed": (
        lambda: nn.explain.smooth_grad(nn.dense(3), LINEAR, {}, X, 0),
        TypeError,
        "smooth_grad: expected a key, as jax.random.key(0) makes it, got 0. Pass jax.random.key(0).",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors(case):
    call, kind, text = WRONG[case]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == text
