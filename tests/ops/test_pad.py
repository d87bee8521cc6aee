"""ops.pad against NumPy's, and convolutions whose border is not of zeros."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn
from jaxnn import ops

NUMPY = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
# shape of x, padding, as NumPy takes it
CASES = {
    "1-d": ((2, 4, 3), 2, [(2, 2)]),
    "1-d one side": ((2, 4, 3), [(0, 3)], [(0, 3)]),
    "2-d": ((2, 4, 5, 1), [1, (2, 0)], [(1, 1), (2, 0)]),
    "3-d": ((1, 2, 3, 4, 2), [(1, 0), (0, 2), 1], [(1, 0), (0, 2), (1, 1)]),
    "nothing": ((2, 4, 5, 1), 0, [(0, 0), (0, 0)]),
    "empty batch": ((0, 4, 3), 1, [(1, 1)]),
}


def sample(shape, dtype):
    return jnp.asarray(np.random.default_rng(0).integers(-9, 9, shape), dtype)


@pytest.mark.parametrize("mode", NUMPY)
def test_values(mode):
    for dtype in (jnp.float32, jnp.bfloat16, jnp.int32, bool):
        xs = {case: sample(shape, dtype) for case, (shape, _, _) in CASES.items()}
        ys = jax.jit(lambda xs: {case: ops.pad(x, CASES[case][1], mode=mode) for case, x in xs.items()})(xs)
        for case, (_, _, sides) in CASES.items():
            want = np.pad(np.asarray(xs[case]), [(0, 0), *sides, (0, 0)], mode=NUMPY[mode])
            assert ys[case].dtype == dtype
            np.testing.assert_array_equal(ys[case], want, err_msg=case)


def test_the_value_of_the_constant_may_be_traced():
    y = jax.jit(lambda v: ops.pad(jnp.ones((1, 2, 1)), 1, value=v))(-jnp.inf)
    assert y[0, :, 0].tolist() == [-np.inf, 1, 1, -np.inf]


@pytest.mark.parametrize("mode", NUMPY)
def test_the_gradient_returns_to_the_positions_that_were_copied(mode):
    x = sample((1, 3, 4, 1), jnp.float32)
    weights = np.random.default_rng(1).standard_normal((1, 6, 7, 1)).astype(np.float32)
    got = jax.jit(jax.grad(lambda x: jnp.sum(weights * ops.pad(x, [(1, 2), (2, 1)], mode=mode))))(x)
    places = np.pad(np.arange(12).reshape(3, 4), [(1, 2), (2, 1)], mode=NUMPY[mode])
    inside = np.pad(np.ones((3, 4)), [(1, 2), (2, 1)], mode=NUMPY[mode])
    want = np.bincount(places.ravel(), (weights[0, :, :, 0] * inside).ravel(), 12)
    assert_close(got.ravel(), want)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_a_convolution_with_a_border_is_that_of_the_padded_image(mode):
    rng = np.random.default_rng(0)
    x, w, deep = (rng.standard_normal(s).astype(np.float32) for s in ((2, 6, 5, 3), (3, 2, 3, 4), (3, 2, 3, 2)))
    how = {"stride": (2, 1), "dilation": (1, 2)}
    bordered = np.pad(x, [(0, 0), (0, 1), (1, 1), (0, 0)], mode=NUMPY[mode])  # as "same" pads

    @jax.jit
    def both(x, bordered):
        given, none = {"padding_mode": mode, **how}, {"padding": "valid", **how}
        ours = ops.conv(x, w, **given), ops.depthwise_conv(x, deep, **given)
        return ours, (ops.conv(bordered, w, **none), ops.depthwise_conv(bordered, deep, **none))

    for y, want in zip(*both(x, bordered), strict=True):
        assert_close(y, want)


def test_layers_hand_the_mode_on():
    x = sample((1, 5, 5, 2), jnp.float32)
    for layer in (nn.conv(3, 3, padding_mode="circular"), nn.separable_conv(3, 3, padding_mode="circular")):
        params, state = layer.init(jax.random.key(0), x)
        y, rolled = (layer.apply(params, state, image)[0] for image in (x, jnp.roll(x, (1, 2), (1, 2))))
        assert_close(jnp.roll(y, (1, 2), (1, 2)), rolled)  # a circular convolution commutes with shifts


X = jnp.ones((1, 3, 1))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: ops.pad(jnp.ones((3, 1)), 1), "pad: expected x of shape [n, *space, c], got float32[3, 1]."),
        (
            lambda: ops.pad(X, (1, 2)),
            "pad: expected padding to be an integer >= 0, or 1 of them or of pairs, got (1, 2).",
        ),
        (
            lambda: ops.pad(X, 1, mode="zeros"),
            "pad: expected mode to be one of 'constant', 'reflect', 'replicate', 'circular', got 'zeros'. "
            "'constant' pads with zeros.",
        ),
        (
            lambda: ops.pad(X, 3, mode="reflect"),
            "pad: expected at least 4 positions on each space axis to pad by 'reflect', got float32[1, 3, 1].",
        ),
        (
            lambda: ops.pad(X, 4, mode="circular"),
            "pad: expected at least 4 positions on each space axis to pad by 'circular', got float32[1, 3, 1].",
        ),
        (
            lambda: ops.pad(X, 1, mode="reflect", value=2.0),
            "pad: expected value= with mode='constant' alone, got mode='reflect'.",
        ),
        (
            lambda: ops.conv(X, jnp.ones((7, 1, 1)), padding_mode="reflect"),
            "conv: expected at least 4 positions on each space axis to pad by 'reflect', got float32[1, 3, 1].",
        ),
    ],
)
def test_errors(call, text):
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value) == text
