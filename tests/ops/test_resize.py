"""Resizing against jax.image and loops, reading between steps against loops, and what is exactly undone."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from jax import export
from jax.test_util import check_grads

import jaxnn as nn
from jaxnn import ops


def drawn(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


SIZES = [((7,), (12,)), ((5, 8), (9, 3)), ((4, 3, 6), (2, 7, 6)), ((5, 5), (1, 1)), ((1, 1), (4, 3))]


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("method", ["linear", "cubic"])
@pytest.mark.parametrize("sizes", SIZES, ids=lambda s: f"{s[0]}-{s[1]}")
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_as_jax_image(sizes, method, antialias):
    """jax.image leaves out what lies outside, and has the cubic of -1/2: with that slope, so does resize."""
    space, out = sizes
    x = jnp.asarray(drawn(2, *space, 3))
    y = ops.resize(x, out, method=method, antialias=antialias, a=-0.5)
    assert_close(y, jax.image.resize(x, (2, *out, 3), method, antialias=antialias))


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("method", ["linear", "cubic"])
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_as_jax_image_for_all_small_sizes(method, antialias):
    xs = [jnp.asarray(drawn(1, n, 1)) for n in range(1, 9)]
    sizes = range(1, 13)
    ours = lambda x: [ops.resize(x, n, method=method, antialias=antialias, a=-0.5) for n in sizes]  # noqa: E731
    theirs = lambda x: [jax.image.resize(x, (1, n, 1), method, antialias=antialias) for n in sizes]  # noqa: E731
    for x in xs:
        jax.tree.map(assert_close, *jax.jit(lambda x: (ours(x), theirs(x)))(x))


def in_pytorch(x, out, method, antialias, a):
    """torch.nn.functional.interpolate along one axis with align_corners=False, from its kernels.

    Antialiased: the taps from ⌊c - r + 1/2⌋ to ⌊c + r + 1/2⌋ around c = (i + 1/2) n / out that x has, with the kernel
    widened to r, over their sum. Plain: taps beyond the border read the border.
    """
    n, support = len(x), {"linear": 1, "cubic": 2}[method]

    def kernel(t):
        t = abs(t)
        if method == "linear":
            return max(1 - t, 0)
        near, far = (a + 2) * t**3 - (a + 3) * t**2 + 1, a * (t**3 - 5 * t**2 + 8 * t - 4)
        return near if t <= 1 else far if t < 2 else 0

    y = np.zeros(out)
    for i in range(out):
        c = (i + 0.5) * n / out
        widen = max(n / out, 1) if antialias else 1
        r = support * widen
        if antialias:
            taps = range(max(int(c - r + 0.5), 0), min(int(c + r + 0.5), n))
        else:
            taps = range(int(np.floor(c - 0.5)) - support + 1, int(np.floor(c - 0.5)) + support + 1)
        k = np.array([kernel((p + 0.5 - c) / widen) for p in taps])
        y[i] = k @ x[np.clip(list(taps), 0, n - 1)] / k.sum()
    return y


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("method", ["linear", "cubic"])
@pytest.mark.usefixtures("x64")
def test_as_pytorch_by_default(method, antialias):
    """bilinear and bicubic, whose slope is -0.75, antialiased -0.5."""
    for n, out in ((8, 2), (7, 3), (3, 7), (5, 4), (1, 3), (6, 1)):
        x = drawn(n)
        want = in_pytorch(x, out, method, antialias, -0.5 if antialias else -0.75)
        assert_close(
            ops.resize(jnp.asarray(x).reshape(1, n, 1), out, method=method, antialias=antialias)[0, :, 0], want
        )


def test_numbers_of_pytorch_and_jax_image():
    """interpolate(x, size=2, mode="bilinear", antialias=True) and jax.image.resize(x, ..., "linear")."""
    x = jnp.array([0.0, 0, 0, 1, 1, 1, 1, 1]).reshape(1, 8, 1)
    np.testing.assert_allclose(ops.resize(x, 2, antialias=True)[0, :, 0], [0.3214286, 0.9642857], rtol=1e-6)
    outside = ops.resize(x, 2, antialias=True, exclude_outside=False)[0, :, 0]
    np.testing.assert_allclose(outside, [0.28125, 0.96875], rtol=1e-6)  # ONNX's default
    y = nn.upsample(0.25, method="linear", antialias=True).apply({}, {}, x)[0]
    np.testing.assert_array_equal(y, ops.resize(x, 2, antialias=True))


def test_a_layer_takes_all_that_the_function_takes():
    x = jnp.asarray(drawn(1, 5, 4, 2), jnp.float32)
    for how in (
        {"method": "cubic", "a": -0.6, "exclude_outside": True},
        {"method": "nearest", "rounding": "floor", "coordinates": "asymmetric"},
        {"method": "cubic", "antialias": True},
    ):
        y = nn.upsample(0.7, **how).apply({}, {}, x)[0]
        np.testing.assert_array_equal(y, ops.resize(x, scale=0.7, **how))


WHOLE = [
    ("half_pixel", "half_up"),
    ("half_pixel", "half_down"),
    ("half_pixel_symmetric", "half_up"),
    ("pytorch_half_pixel", "half_down"),
    ("asymmetric", "floor"),
]


@pytest.mark.parametrize("how", WHOLE, ids=str)
def test_nearest_by_a_whole_factor_is_a_broadcast(how):
    """Step i is step i // r, for whichever coordinates; neither a gather nor a product is in the program."""
    x = jnp.asarray(drawn(2, 3, 4, 2), jnp.float32)
    f = jax.jit(partial(ops.resize, scale=(3, 2), method="nearest", coordinates=how[0], rounding=how[1]))
    np.testing.assert_array_equal(f(x), np.asarray(x)[:, np.arange(9) // 3][:, :, np.arange(8) // 2])
    text = f.lower(x).as_text()
    assert "gather" not in text
    assert "dot" not in text


@pytest.mark.parametrize("op", ["resize", "affine_grid", "perceptron_update"])
def test_places_and_signs_are_of_the_highest_precision(op):
    """DEFAULT on a TPU rounds factors to bfloat16: half a pixel at 512."""
    f = {
        "resize": lambda v: ops.resize(v, 5),
        "affine_grid": lambda v: ops.affine_grid(v[:, :2, :3], (4, 4)),
        "perceptron_update": lambda v: ops.perceptron_update(v[0, :, :1], v[0, 0, :1], v[0], v[0, :, :1]),
    }[op]
    text = jax.jit(f).trace(jnp.zeros((1, 3, 3))).lower(lowering_platforms=("tpu",)).as_text()
    asked = re.findall(r"stablehlo\.dot_general.*precision = \[(\w+), (\w+)\]", text)
    assert set(asked) == {("HIGHEST", "HIGHEST")}


SYMBOLIC = {
    "nearest": {"scale": 2, "method": "nearest"},
    "nearest by a fraction": {"scale": 1.5, "method": "nearest"},
    "linear": {"scale": 2},
    "corners": {"scale": 2, "coordinates": "align_corners"},
    "centre": {"scale": 1.4, "coordinates": "half_pixel_symmetric"},
    "cubic": {"scale": 1.5, "method": "cubic"},
    "smaller": {"scale": 0.6, "method": "cubic", "antialias": True},
    "smaller over the border": {"scale": 0.6, "antialias": True, "exclude_outside": False},
    "to a size": {"size": (5, 7), "antialias": True},
    "to a size by cubics": {"size": (5, 7), "method": "cubic"},
}


@pytest.mark.parametrize("case", SYMBOLIC)
@pytest.mark.slow
def test_exports_with_any_batch_and_any_space(case):
    x = jnp.asarray(drawn(2, 6, 5, 3), jnp.float32)
    f = jax.jit(partial(ops.resize, **SYMBOLIC[case]))
    shape = export.symbolic_shape("n, h, w, 3", constraints=["h>=2", "w>=2"])
    assert_close(export.export(f)(jax.ShapeDtypeStruct(shape, x.dtype)).call(x), f(x))


def test_a_size_of_symbolic_steps_over_the_border_is_refused():
    shape = export.symbolic_shape("n, h, 3", constraints=["h>=2"])
    f = jax.jit(partial(ops.resize, size=2, antialias=True, exclude_outside=False))
    with pytest.raises(ValueError) as caught:
        export.export(f)(jax.ShapeDtypeStruct(shape, jnp.float32))
    assert str(caught.value) == (
        "resize: expected a known number of taps outside x, got an axis of h steps. "
        "Leave exclude_outside out, or give scale= in place of size=."
    )


@pytest.mark.parametrize("sizes", SIZES, ids=lambda s: f"{s[0]}-{s[1]}")
def test_nearest_as_jax_image(sizes):
    space, out = sizes
    x = jnp.asarray(drawn(2, *space, 3), jnp.float32)
    np.testing.assert_array_equal(ops.resize(x, out, method="nearest"), jax.image.resize(x, (2, *out, 3), "nearest"))


@pytest.mark.parametrize("method", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"])
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_a_constant_stays_and_gradients_are_differences(method, coordinates):
    f = partial(ops.resize, size=(7, 3), method=method, coordinates=coordinates)
    assert_close(f(jnp.full((1, 4, 5, 1), 3.0)), np.full((1, 7, 3, 1), 3.0))
    check_grads(f, (jnp.asarray(drawn(1, 4, 5, 2)),), order=2, atol=1e-6, rtol=1e-6)


def test_align_corners_keeps_the_corners_and_lines():
    x = jnp.arange(5.0).reshape(1, 5, 1)
    y = ops.resize(x, 9, coordinates="align_corners")[0, :, 0]
    np.testing.assert_allclose(y, np.arange(9) / 2, rtol=1e-6)


def test_scale_takes_whole_steps_and_the_same_size_is_the_same():
    x = jnp.asarray(drawn(1, 5, 4, 2), jnp.float32)
    assert ops.resize(x, scale=0.5).shape == (1, 2, 2, 2)
    assert ops.resize(x, scale=(2, 1)).shape == (1, 10, 4, 2)
    for method in ("nearest", "linear", "cubic"):
        np.testing.assert_array_equal(ops.resize(x, (5, 4), method=method), x)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision(dtype):
    x = jnp.asarray(drawn(1, 5, 4, 2), dtype)
    y = ops.resize(x, 8)
    assert y.dtype == dtype
    np.testing.assert_allclose(y.astype(jnp.float32), ops.resize(x.astype(jnp.float32), 8), atol=0.02)


@pytest.mark.parametrize("order", ["rrc", "crr"])
@pytest.mark.parametrize("space", [(6,), (4, 6), (2, 4, 6)], ids=len)
def test_space_and_depth_undo_each_other(space, order):
    x = jnp.asarray(drawn(2, *space, 3), jnp.float32)
    deep = ops.space_to_depth(x, 2, order=order)
    assert deep.shape == (2, *(s // 2 for s in space), 3 * 2 ** len(space))
    np.testing.assert_array_equal(ops.depth_to_space(deep, 2, order=order), x)


def test_the_two_orders_of_channels():
    x = jnp.arange(8.0).reshape(1, 1, 1, 8)
    np.testing.assert_array_equal(ops.depth_to_space(x, 2)[0, :, :, 0], [[0, 2], [4, 6]])
    np.testing.assert_array_equal(ops.depth_to_space(x, 2, order="crr")[0, :, :, 0], [[0, 1], [2, 3]])


# Reading between steps.


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("outside", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("method", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("space", [(5,), (4, 5), (3, 4, 2), (1, 1)], ids=str)
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_the_grid_of_every_place_is_the_image(space, method, outside, align_corners):
    x = jnp.asarray(drawn(2, *space, 3))
    k = len(space)
    theta = jnp.broadcast_to(jnp.eye(k, k + 1), (2, k, k + 1))
    grid = ops.affine_grid(theta, space, align_corners=align_corners)
    assert_close(ops.grid_sample(x, grid, method=method, outside=outside, align_corners=align_corners), x)


@pytest.mark.usefixtures("x64")
def test_along_a_line_it_is_numpys_interp():
    x, at = drawn(1, 6, 1), np.linspace(-0.5, 5.5, 23)
    grid = jnp.asarray(2 * at / 5 - 1).reshape(1, -1, 1)
    y = ops.grid_sample(jnp.asarray(x), grid, align_corners=True, outside="border")
    assert_close(y[0, :, 0], np.interp(at, np.arange(6), x[0, :, 0]))


@pytest.mark.parametrize("outside", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("method", ["linear", "cubic"])
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_gradients_of_image_and_places(method, outside):
    grid = jnp.asarray(drawn(2, 3, 4, 2) / 3)
    f = jax.jit(lambda x, grid: ops.grid_sample(x, grid, method=method, outside=outside))
    check_grads(f, (jnp.asarray(drawn(2, 4, 5, 2)), grid), order=1, eps=1e-6, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("outside", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("method", ["nearest", "linear", "cubic"])
@pytest.mark.slow
def test_places_far_away_and_none_at_all(method, outside):
    x = jnp.asarray(drawn(1, 4, 5, 2), jnp.float32)
    grid = jnp.array([[[jnp.nan, 0.0], [0.0, jnp.inf], [1e30, 0.0], [0.0, 0.0]]])[:, None]
    y = np.asarray(ops.grid_sample(x, grid, method=method, outside=outside))[0, 0]
    assert np.isnan(y[:2]).all()
    assert np.isfinite(y[2:]).all()
    if outside == "zeros":
        assert not y[2].any()


@pytest.mark.slow
def test_a_shift_and_a_turn():
    x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    quarter = jnp.array([[[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]])  # x reads from y
    y = ops.grid_sample(x, ops.affine_grid(quarter, (3, 3)))[0, :, :, 0]
    np.testing.assert_allclose(y, np.rot90(np.arange(9).reshape(3, 3), -1), atol=1e-5)


ONES = partial(np.ones, dtype=np.float32)
X = ONES((1, 4, 4, 3))
ERRORS = {
    "size": (lambda: ops.resize(X, (2, 0)), "resize: expected size to be an integer >= 1, or 2 of them, got (2, 0)."),
    "neither": (lambda: ops.resize(X), "resize: expected either size or scale, got None and None."),
    "antialias": (
        lambda: ops.resize(X, 2, method="nearest", antialias=True),
        "resize: expected antialias=False with method='nearest', got True.",
    ),
    "nothing left": (
        lambda: ops.resize(X, scale=0.1),
        "resize: expected scale that leaves a step on each axis of [4, 4], got 0.1.",
    ),
    "channels": (
        lambda: ops.depth_to_space(X, 2),
        "depth_to_space: expected x with channels a multiple of 4, got float32[1, 4, 4, 3].",
    ),
    "space": (
        lambda: ops.space_to_depth(X, 3),
        "space_to_depth: expected x with space axes that are multiples of 3, got float32[1, 4, 4, 3].",
    ),
    "grid": (
        lambda: ops.grid_sample(X, ONES((2, 4, 4, 2))),
        "grid_sample: expected x and a grid of shape [1, *space', 2], got (float32[1, 4, 4, 3], float32[2, 4, 4, 2]).",
    ),
    "theta": (
        lambda: ops.affine_grid(ONES((1, 2, 2)), 3),
        "affine_grid: expected theta of shape [n, k, k + 1] with 1 to 3 space axes, got float32[1, 2, 2].",
    ),
    "adaptive": (
        lambda: ops.adaptive_avg_pool(ONES((1, 0, 3)), 2),
        "adaptive_avg_pool: expected x with at least one step on each space axis, got float32[1, 0, 3].",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    wrong, text = ERRORS[case]
    with pytest.raises(ValueError) as caught:
        wrong()
    assert str(caught.value) == text


@pytest.mark.parametrize("parts", [1, 2, 3, 5, 7, 9])
@pytest.mark.parametrize("op", ["adaptive_avg_pool", "adaptive_max_pool"])
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_adaptive_parts(op, parts):
    x = drawn(2, 7, 6, 3)
    reduce = np.mean if "avg" in op else np.max
    cut = lambda n, i: slice(i * n // parts, -(-(i + 1) * n // parts))  # noqa: E731
    want = np.stack(
        [np.stack([reduce(x[:, cut(7, i), cut(6, j)], (1, 2)) for j in range(parts)], 1) for i in range(parts)], 1
    )
    assert_close(getattr(ops, op)(jnp.asarray(x), parts), want)


# Depthwise convolution.


@pytest.mark.parametrize(
    "how", [{}, {"stride": 2}, {"dilation": 2, "padding": "valid"}, {"padding": 1, "stride": (2, 1)}], ids=str
)
@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_depthwise_is_a_convolution_with_a_group_for_each_channel(how, m):
    x, w = jnp.asarray(drawn(2, 7, 6, 3)), jnp.asarray(drawn(3, 2, 3, m))
    y, pull = jax.vjp(partial(ops.depthwise_conv, **how), x, w)
    want, want_pull = jax.vjp(lambda x, w: ops.conv(x, w.reshape(3, 2, 1, 3 * m), groups=3, **how), x, w)
    assert_close(y, want)
    jax.tree.map(assert_close, pull(want), want_pull(want))
    check_grads(partial(ops.depthwise_conv, **how), (x, w), order=2, atol=1e-6, rtol=1e-6)


def test_a_causal_convolution_sees_nothing_to_come():
    x, w = jnp.asarray(drawn(1, 8, 2), jnp.float32), jnp.asarray(drawn(3, 2, 4), jnp.float32)
    f = partial(ops.conv, padding="causal", dilation=2)
    seen = np.asarray(jax.jacobian(lambda x: f(x, w)[0].sum(-1))(x))[:, 0].any(-1)  # [out, in]
    np.testing.assert_array_equal(seen, [[i - j in (0, 2, 4) for j in range(8)] for i in range(8)])
    with pytest.raises(ValueError, match="one space axis, time, with padding='causal', got 2"):
        ops.conv(X, ONES((3, 3, 3, 1)), padding="causal")
    with pytest.raises(ValueError, match="x with the c = 2 channels of w"):
        ops.depthwise_conv(X, ONES((3, 3, 2, 1)))
