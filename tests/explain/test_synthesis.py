"""Gradient ascent on inputs against loops in NumPy: steps, octaves, jitter, penalties, bounds, targets; filters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn
from jaxnn import explain, ops

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
W = RNG.normal(size=(6, 3))
X = RNG.normal(size=(2, 6)).astype(np.float32)
IMAGES = RNG.uniform(size=(2, 8, 10, 3)).astype(np.float32)
PLAIN = {"key": KEY, "jitter": 0}


def quadratic(x):
    """Outputs [n, 3] with gradients that depend on x."""
    return (x**2) @ jnp.asarray(W, x.dtype)


def ascent(x, gradient, steps, rate, decay=0.0, smoothness=0.0, low=-np.inf, high=np.inf):
    """The rule of the docstring for images [n, h, w, c] or rows [n, d], in float64."""
    x = x.astype(np.float64)
    for _ in range(steps):
        g = gradient(x)
        g = g / np.sqrt((g**2).mean(tuple(range(1, g.ndim)), keepdims=True))
        laplacian = np.zeros_like(x)
        if x.ndim == 4:
            laplacian[:, 1:] += x[:, 1:] - x[:, :-1]
            laplacian[:, :-1] += x[:, :-1] - x[:, 1:]
            laplacian[:, :, 1:] += x[:, :, 1:] - x[:, :, :-1]
            laplacian[:, :, :-1] += x[:, :, :-1] - x[:, :, 1:]
        x = np.clip(x + rate * (g - decay * x - smoothness * laplacian), low, high)
    return x


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_on_a_score_of_each_example(dtype, x64):
    x, classes = jnp.asarray(X, dtype), np.array([2, 0])
    found = explain.activation_maximization(quadratic, {}, {}, x, target=classes, steps=5, learning_rate=0.1, **PLAIN)
    assert found.dtype == dtype
    assert_close(found, ascent(X, lambda x: 2 * x * W.T[classes], 5, 0.1))


def test_the_predicted_class_is_that_of_the_start():
    start = jnp.asarray(X)
    fixed = jnp.argmax(quadratic(start), 1)
    found = explain.activation_maximization(quadratic, {}, {}, start, steps=9, learning_rate=1.0, **PLAIN)
    want = explain.activation_maximization(quadratic, {}, {}, start, target=fixed, steps=9, learning_rate=1.0, **PLAIN)
    np.testing.assert_array_equal(found, want)


CONV = nn.serial(nn.conv(4, 3, padding=0), nn.tanh)
PARAMS, STATE = CONV.init(KEY, IMAGES)


def test_a_channel_of_a_layer_with_penalties_and_bounds_by_channel():
    kernel = np.asarray(PARAMS["conv"]["w"], np.float64)[..., 2]
    weights = np.zeros((8, 10, 3))
    for i, j in np.ndindex(6, 8):
        weights[i : i + 3, j : j + 3] += kernel / 48
    bounds = np.array([0, -0.1, -0.2], np.float32), np.array([1, 0.9, 0.8], np.float32)
    how = {"steps": 4, "learning_rate": 0.1, "decay": 0.3, "smoothness": 0.5}
    found = explain.activation_maximization(
        CONV, PARAMS, STATE, IMAGES, target=2, path="conv", bounds=bounds, **how, **PLAIN
    )
    want = ascent(IMAGES, lambda x: np.broadcast_to(weights, x.shape), 4, 0.1, 0.3, 0.5, *bounds)
    assert_close(found, want)


def test_the_penalty_is_half_the_squared_differences():
    def penalty(x):
        return (jnp.sum(jnp.diff(x, axis=1) ** 2) + jnp.sum(jnp.diff(x, axis=2) ** 2)) / 2

    constant = nn.lift(lambda x: 0 * x.sum((1, 2)), name="nothing")
    found = explain.activation_maximization(
        constant, {}, {}, IMAGES, target=0, steps=1, learning_rate=0.1, smoothness=1.0, **PLAIN
    )
    assert_close((IMAGES - np.asarray(found)) / 0.1, jax.grad(penalty)(IMAGES), scale=1.0)


def test_a_function_scores_the_outputs_of_the_layer():
    score = lambda y: y[:, 0, 0, 1]  # noqa: E731
    found = explain.activation_maximization(
        CONV, PARAMS, STATE, IMAGES, target=score, path="conv", steps=1, learning_rate=1.0, **PLAIN
    )
    moved = np.asarray(found) - IMAGES
    assert (moved[:, 3:] == 0).all()
    g = np.asarray(PARAMS["conv"]["w"])[..., 1]
    assert_close(moved[:, :3, :3], np.broadcast_to(g / np.sqrt(np.sum(g**2) / 240), (2, 3, 3, 3)), scale=1.0)


def dream(x, steps, **how):
    return explain.deep_dream(CONV, PARAMS, STATE, x, "tanh", steps=steps, learning_rate=0.05, key=KEY, **how)


def test_deep_dream_follows_the_energy_of_a_layer():
    def energy(x):
        return jnp.sum(CONV.apply(PARAMS, STATE, x)[0] ** 2) / 2

    gradient = lambda x: np.asarray(jax.grad(energy)(x.astype(np.float32)), np.float64)  # noqa: E731
    found = dream(IMAGES, 3, octaves=1, jitter=0, bounds=(0, 1))
    assert_close(found, ascent(IMAGES, gradient, 3, 0.05, low=0, high=1))
    score = lambda y: (y**2).sum((1, 2, 3)) / 2  # noqa: E731
    assert_close(dream(IMAGES, 3, octaves=1, jitter=0, bounds=(0, 1), target=score), found)


@pytest.mark.slow
def test_octaves_hand_the_change_to_the_next_size():
    small = ops.resize(jnp.asarray(IMAGES), (4, 5), antialias=True)
    change = dream(small, 2, octaves=1, jitter=0) - small
    want = dream(jnp.asarray(IMAGES) + ops.resize(change, (8, 10)), 2, octaves=1, jitter=0)
    assert_close(dream(IMAGES, 2, octaves=2, octave_scale=2.0, jitter=0), want)


@pytest.mark.slow
def test_jitter_is_a_shift_with_periodic_borders():
    """A score that no shift changes has the same ascent with jitter; other scores have not."""
    periodic = lambda y: (jnp.roll(y, 1, 1) * y + y**2).sum((1, 2, 3))  # noqa: E731
    how = {"steps": 4, "key": KEY}
    both = [explain.activation_maximization(jnp.tanh, {}, {}, IMAGES, target=periodic, jitter=j, **how) for j in (0, 3)]
    assert_close(both[1], both[0])
    assert not np.allclose(dream(IMAGES, 4, octaves=1, jitter=3), dream(IMAGES, 4, octaves=1, jitter=0))


def test_each_image_activates_its_channel_most():
    start = 0.5 + 0.1 * RNG.normal(size=(4, 9, 9, 3)).astype(np.float32)
    how = {"target": np.arange(4), "path": "conv", "steps": 20, "learning_rate": 0.1, "bounds": (0, 1)}
    found = explain.activation_maximization(CONV, PARAMS, STATE, start, **how, **PLAIN)
    means = explain.activations(CONV, PARAMS, STATE, found, "conv", reduce=lambda y: y.mean((1, 2)))
    assert np.argmax(means, 0).tolist() == [0, 1, 2, 3]


def test_under_transformations(compilations):
    def run(rate):
        return explain.activation_maximization(quadratic, {}, {}, X, target=1, learning_rate=rate, steps=2, **PLAIN)

    rates = jnp.array([0.1, 0.2])
    assert_close(jax.jit(jax.vmap(run))(rates), [run(0.1), run(0.2)])
    before = compilations()
    run(0.3)
    assert compilations() == before


def test_filters_as_pictures():
    w = jnp.asarray(RNG.normal(size=(3, 3, 3, 5)), jnp.float32).at[..., 4].set(0.0)
    found = np.asarray(explain.filters(w))
    assert found.shape == (5, 3, 3, 3)
    for i in range(4):
        f = np.asarray(w)[..., i]
        assert_close(found[i], (f / np.abs(f).max() + 1) / 2)
    assert (found[4] == 0.5).all()


WRONG = {
    "bounds of other channels": (
        lambda: dream(IMAGES, 1, bounds=(jnp.zeros(2), 1.0)),
        "deep_dream: expected bounds that are scalars or of shape [3], got float32[2].",
    ),
    "one bound": (
        lambda: dream(IMAGES, 1, bounds=1.0),
        "deep_dream: expected bounds to be None or the lowest and the highest value, got 1.0.",
    ),
    "a row": (lambda: dream(X, 1), "deep_dream: expected x of shape [n, h, w, c], got float32[2, 6]."),
    "sizes of a row": (
        lambda: explain.activation_maximization(quadratic, {}, {}, X, octaves=2, **PLAIN),
        "activation_maximization: expected x of shape [n, *space, c] for several octaves, got float32[2, 6].",
    ),
    "a class for a function": (
        lambda: dream(IMAGES, 1, target=3),
        "deep_dream: expected target to be a function of the layer's outputs, got 3.",
    ),
    "no key": (
        lambda: explain.activation_maximization(quadratic, {}, {}, X, key=0),
        "activation_maximization: expected a key, as jax.random.key(0) makes it, got 0. Pass jax.random.key(0).",
    ),
    "bytes": (
        lambda: explain.filters(jnp.ones((3, 3, 1, 2), jnp.int8)),
        "filters: expected w of shape [*kernel, c, f] and a floating dtype, got int8[3, 3, 1, 2]. Convert it first, "
        "for example x.astype(jnp.float32) / 255 for images of bytes.",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls(case):
    call, text = WRONG[case]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert str(caught.value) == text
