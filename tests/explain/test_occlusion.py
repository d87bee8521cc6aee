"""Occlusion against a loop over windows, and on planted patches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn
from jaxnn import explain

X = jax.random.normal(jax.random.key(0), (3, 9, 7, 2))
MODEL = nn.serial(nn.conv(4, 3), nn.tanh, nn.flatten(), nn.dense(4))
PARAMS, STATE = MODEL.init(jax.random.key(1), X)


def loop(model, params, state, x, window, stride, fill, c):
    """Mean loss over the windows that cover each position, window by window."""
    x = np.asarray(x)
    space = x.shape[1 : max(x.ndim - 1, 2)]
    score = lambda x: np.asarray(model.apply(params, state, jnp.asarray(x))[0], np.float64)[:, c]  # noqa: E731
    total, number, whole = np.zeros((len(x), *space)), np.zeros(space), score(x)
    ends = [max(0, -(-(s - w) // d)) for s, w, d in zip(space, window, stride, strict=True)]
    for at in np.ndindex(*(end + 1 for end in ends)):
        cut = tuple(slice(i * d, i * d + w) for i, d, w in zip(at, stride, window, strict=True))
        covered = x.copy()
        covered[(slice(None), *cut)] = fill
        total[(slice(None), *cut)] += (whole - score(covered)).reshape(-1, *(1,) * len(space))
        number[cut] += 1
    return total / number


@pytest.mark.parametrize(
    ("window", "stride", "fill", "block"),
    [(3, 3, 0.0, 16), ((4, 3), (2, 3), 0.7, 5), (2, 1, np.float32([1, -1]), 100), ((9, 7), (9, 7), 0.0, 1)],
)
def test_equal_to_a_loop(window, stride, fill, block):
    how = {"window": window, "stride": stride, "fill": fill, "block": block}
    maps = explain.occlusion(MODEL, PARAMS, STATE, X, target=1, **how)
    pair = lambda v: (v, v) if isinstance(v, int) else v  # noqa: E731
    assert_close(maps, loop(MODEL, PARAMS, STATE, X, pair(window), pair(stride), fill, 1))


@pytest.mark.parametrize("shape", [(3, 8), (3, 8, 2), (2, 4, 4, 4, 1)])
def test_rows_series_and_volumes(shape):
    model = nn.serial(nn.flatten(), nn.dense(2))
    x = jax.random.normal(jax.random.key(0), shape)
    params, state = model.init(jax.random.key(1), x)
    axes = max(len(shape) - 2, 1)
    maps = explain.occlusion(model, params, state, x, window=2, target=0)
    assert_close(maps, loop(model, params, state, x, (2,) * axes, (2,) * axes, 0.0, 0))


def test_a_planted_patch_is_found():
    """The score is high where a checkerboard of 4 × 4 pixels is: the maximum of each map is on it."""
    board = np.indices((4, 4)).sum(0) % 2 * 2.0 - 1
    rng = np.random.default_rng(0)
    x, corners = rng.normal(0, 0.3, (16, 20, 20, 1)).astype(np.float32), rng.integers(0, 16, (16, 2))
    for image, (i, j) in zip(x, corners, strict=True):
        image[i : i + 4, j : j + 4, 0] += board
    model = nn.serial(nn.conv(1, 4, padding="valid", bias=False), nn.global_max_pool())
    maps = explain.occlusion(
        model, {"conv": {"w": jnp.asarray(board, jnp.float32)[..., None, None]}}, {}, x, window=4, stride=1
    )
    masks = np.zeros(maps.shape, bool)
    for mask, (i, j) in zip(masks, corners, strict=True):
        mask[i : i + 4, j : j + 4] = True
    assert explain.pointing_game(maps, masks).all()


def test_the_predicted_class_is_that_of_x():
    model = lambda x: jnp.stack([x[:, 0], 1 - x[:, 0]], axis=1)  # noqa: E731
    assert_close(explain.occlusion(model, {}, {}, jnp.ones((1, 1)), window=1), [[1.0]])


def test_under_vmap_and_jit():
    maps = explain.occlusion(MODEL, PARAMS, STATE, X, window=3, target=1)
    each = jax.vmap(lambda x: explain.occlusion(MODEL, PARAMS, STATE, x[None], window=3, target=1)[0])(X)
    assert_close(each, maps)
    assert_close(jax.jit(lambda x: explain.occlusion(MODEL, PARAMS, STATE, x, window=3, target=1))(X), maps)


WRONG = {
    "numbers": (
        lambda: explain.occlusion(MODEL, {}, {}, jnp.ones(3), window=1),
        ValueError,
        "occlusion: expected x of shape [n, *space, c] or [n, d], got float32[3].",
    ),
    "three sizes": (
        lambda: explain.occlusion(MODEL, PARAMS, STATE, X, window=(2, 2, 2)),
        ValueError,
        "occlusion: expected window to be an integer or one for each of 2 space axes, got (2, 2, 2).",
    ),
    "a window larger than x": (
        lambda: explain.occlusion(MODEL, PARAMS, STATE, X, window=8),
        ValueError,
        "occlusion: expected window to be an integer >= 1 and <= 7, got 8.",
    ),
    "gaps": (
        lambda: explain.occlusion(MODEL, PARAMS, STATE, X, window=2, stride=(2, 3)),
        ValueError,
        "occlusion: expected stride to be an integer >= 1 and <= 2, got 3.",
    ),
    "a fill of another shape": (
        lambda: explain.occlusion(MODEL, PARAMS, STATE, X, window=2, fill=jnp.ones(3)),
        ValueError,
        "occlusion: expected fill to be a number or an array of the shape of x, of one example or of its last axis, "
        "got float32[3]. x is float32[3, 9, 7, 2].",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors(case):
    call, kind, text = WRONG[case]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == text
