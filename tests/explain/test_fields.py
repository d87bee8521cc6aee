"""Receptive fields against interval arithmetic and published sizes; patches against windows cut by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn
from jaxnn import explain

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def fields(size, *layers):
    """Bounds of every position, [m, 2], behind layers (kernel, stride, dilation, padding), by interval arithmetic."""
    bounds = np.stack([np.arange(size), np.arange(size) + 1], -1)
    for kernel, stride, dilation, (before, after) in layers:
        extent, n = dilation * (kernel - 1) + 1, len(bounds)
        starts = np.arange((n + before + after - extent) // stride + 1) * stride - before
        taps = starts[:, None] + dilation * np.arange(kernel)
        inside = (taps >= 0) & (taps < n)
        low = np.where(inside, bounds[np.clip(taps, 0, n - 1), 0], size).min(1)
        high = np.where(inside, bounds[np.clip(taps, 0, n - 1), 1], 0).max(1)
        bounds = np.stack([low, high], -1)
    return bounds


def conv(kernel, stride=1, dilation=1, padding=0):
    layer = nn.conv(3, kernel, stride=stride, dilation=dilation, padding=padding)
    return layer, (kernel, stride, dilation, (padding, padding))


def pool(kernel, make=nn.max_pool):
    return make(kernel, padding="valid"), (kernel, kernel, 1, (0, 0))


STACKS = {
    "one": [conv(3)],
    "padded": [conv(3, padding=1), conv(3, padding=1)],
    "stride": [conv(3, stride=2, padding=1), conv(3, padding=1), conv(5, stride=3, padding=2)],
    "dilation": [conv(3, dilation=2, padding=2), conv(3, dilation=4, padding=4)],
    "max pool": [conv(3, padding=1), pool(2), conv(3, padding=1), pool(3)],
    "average pool": [conv(2), pool(2, nn.avg_pool)],
}


@pytest.mark.parametrize("stack", STACKS)
def test_fields_of_stacks_with_relus(stack):
    layers = [part for layer, _ in STACKS[stack] for part in (layer, nn.relu)]
    model, x = nn.serial(*layers[:-1], nn.lift(nn.relu, name="last")), jnp.zeros((1, 29, 1))
    params, state = model.init(KEY, x)
    found = explain.receptive_field(model, params, state, x, "last")
    np.testing.assert_array_equal(found[:, 0], fields(29, *(arithmetic for _, arithmetic in STACKS[stack])))


def test_axes_are_independent_and_positions_selected():
    model, x = nn.serial(nn.conv(2, (3, 5), padding="valid"), nn.max_pool((2, 1))), jnp.zeros((1, 12, 11, 3))
    params, state = model.init(KEY, x)
    found = explain.receptive_field(model, params, state, x, "max_pool", jnp.array([[0, 0], [2, 6]]))
    assert found.tolist() == [[[0, 4], [0, 5]], [[4, 8], [6, 11]]]
    every = explain.receptive_field(model, params, state, x, "max_pool")
    assert every.shape == (5, 7, 2, 2)
    np.testing.assert_array_equal(every[2, 6], found[1])


@pytest.mark.slow
def test_the_published_fields_of_vgg16():
    """Of the last convolutions of stages 3 and 5, 40 and 196 pixels."""
    model, x = nn.models.hed(features=4), jnp.zeros((1, 224, 224, 3))
    params, state = model.init(KEY, x)
    for stage, size in ((3, 40), (5, 196)):
        middle = jnp.full((1, 2), 112 // 2 ** (stage - 1))
        found = explain.receptive_field(model, params, state, x, f"stage{stage}/conv3", middle)
        assert (found[0, :, 1] - found[0, :, 0]).tolist() == [size, size]


def test_tokens_and_dense_layers():
    x = jnp.zeros((1, 6, 9, 1))
    model = nn.serial(nn.patches(4, 3), nn.attention(2), nn.flatten(), nn.dense(2))
    params, state = model.init(KEY, x)
    field = lambda path, at: explain.receptive_field(model, params, state, x, path, np.array(at)).tolist()  # noqa: E731
    assert field("patches", [[0], [4]]) == [[[0, 3], [0, 3]], [[3, 6], [3, 6]]]
    assert field("attention", [4]) == [[0, 6], [0, 9]]
    assert field("dense", np.zeros(0, int)) == [[0, 6], [0, 9]]


def test_what_has_no_gradient_has_no_field():
    model = nn.serial(jax.lax.stop_gradient)
    assert explain.receptive_field(model, {}, {}, jnp.ones((1, 3, 1)), "stop_gradient").tolist() == [[[0, 0]]] * 3


@pytest.mark.parametrize("batch_size", [4, 256])
@pytest.mark.slow
def test_patches_are_the_windows_of_the_largest_activations(batch_size):
    x = RNG.normal(size=(10, 9, 8, 2)).astype(np.float32)
    model = nn.serial(nn.conv(3, 3, padding=1), nn.relu)
    params, state = model.init(KEY, x)
    found = explain.maximal_patches(model, params, state, x, "relu", 4, batch_size=batch_size)

    assert isinstance(found, explain.Patches)
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2)).transpose(0, 1, 2, 4, 5, 3)
    w, b = (np.asarray(params["conv"][k], np.float64) for k in "wb")
    for c in range(3):
        y = np.maximum(np.tensordot(windows, w[..., c], 3) + b[c], 0)
        best = y.reshape(10, -1).max(1)
        order = np.argsort(-best)[:4]
        np.testing.assert_array_equal(found.examples[c], order)
        assert_close(found.values[c], best[order].astype(np.float32))
        for k, i in enumerate(order):
            row, column = np.unravel_index(y[i].argmax(), (9, 8))
            np.testing.assert_array_equal(found.images[c, k], windows[i, row, column].astype(np.float32))
            bounds = [[max(row - 1, 0), min(row + 2, 9)], [max(column - 1, 0), min(column + 2, 8)]]
            assert found.bounds[c, k].tolist() == bounds


def test_patches_of_chosen_channels_and_of_a_dense_layer():
    x = RNG.normal(size=(6, 5, 1)).astype(np.float32)
    model = nn.serial(nn.flatten(), nn.dense(4))
    params, state = model.init(KEY, x)
    every = explain.maximal_patches(model, params, state, x, "dense", 2)
    some = explain.maximal_patches(model, params, state, x, "dense", 2, channels=np.array([3, 0]))
    np.testing.assert_array_equal(every.images[3, 0], x[every.examples[3, 0]])  # the whole example
    for a, b in zip(every, some, strict=True):
        np.testing.assert_array_equal(a[jnp.array([3, 0])], b)


MODEL = nn.serial(nn.conv(2, 3), nn.flatten())
X = jnp.ones((2, 5, 1))
PARAMS, STATE = MODEL.init(KEY, X)
WRONG = {
    "tokens": (
        lambda: explain.receptive_field(nn.identity(), {}, {}, jnp.ones((2, 3), jnp.int32), "identity"),
        "receptive_field: expected x of a floating dtype, which has gradients, got int32[2, 3]. Cast images to "
        "float32. For tokens explain the output of their embedding, with nn.explain.from_layer.",
    ),
    "positions on two axes": (
        lambda: explain.receptive_field(MODEL, PARAMS, STATE, X, "conv", jnp.array([[0, 1]])),
        "receptive_field: expected positions [..., 1] in an output of [5], got int32[1, 2].",
    ),
    "a position outside": (
        lambda: explain.receptive_field(MODEL, PARAMS, STATE, X, "conv", jnp.array([[5]])),
        "receptive_field: expected positions [..., 1] in an output of [5], got int32[1, 1].",
    ),
    "under jit": (
        lambda: jax.jit(lambda x: explain.maximal_patches(MODEL, PARAMS, STATE, x, "conv", 1))(X),
        "maximal_patches: expected concrete arrays, got a traced float32[2, 5, 1]. Patches are cut on the host: call "
        "it outside of jit.",
    ),
    "a field under jit": (
        lambda: jax.jit(lambda x: explain.receptive_field(MODEL, PARAMS, STATE, x, "conv"))(X),
        "receptive_field: expected concrete arrays, got a traced float32[2, 5, 1]. Bounds select parts of arrays: call "
        "it outside of jit.",
    ),
    "a channel": (
        lambda: explain.maximal_patches(MODEL, PARAMS, STATE, X, "conv", 1, channels=np.array([2])),
        "maximal_patches: expected channels [m] from 0 to 1, got int64[1].",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls(case):
    call, text = WRONG[case]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert str(caught.value) == text
