"""What each layer computes, against NumPy in float64, and the text of what it says when it is called wrongly."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (2, 1, 3, 2, 4), (0, 4), (2, 0, 4)])
@pytest.mark.usefixtures("x64")
def test_dense_maps_the_last_axis(shape):
    x, w, b = drawn(*shape), drawn(4, 3), drawn(3)
    y, _ = nn.dense(3).apply({"w": jnp.asarray(w), "b": jnp.asarray(b)}, {}, jnp.asarray(x))
    assert_close(y, np.einsum("...d,df->...f", x, w) + b)
    y, _ = nn.dense(3, bias=False).apply({"w": jnp.asarray(w)}, {}, jnp.asarray(x))
    assert_close(y, np.einsum("...d,df->...f", x, w))


@pytest.mark.slow
def test_initial_values():
    params, state = nn.dense(64).init(jax.random.key(0), jnp.ones((1, 400)))
    assert (state, float(jnp.abs(params["b"]).max())) == ({}, 0.0)
    np.testing.assert_allclose(np.std(params["w"]), 400**-0.5, rtol=0.03)
    params, _ = nn.conv(64, 3).init(jax.random.key(0), jnp.ones((1, 8, 8, 32)))
    np.testing.assert_allclose(np.std(params["w"]), (9 * 32) ** -0.5, rtol=0.03)
    params, _ = nn.embed(400, 64).init(jax.random.key(0), jnp.array([0]))
    np.testing.assert_allclose(np.std(params["w"]), 1 / 8, rtol=0.03)


@pytest.mark.usefixtures("x64")
def test_conv_adds_its_bias_and_is_the_op():
    x, w, b = jnp.asarray(drawn(2, 5, 5, 4)), jnp.asarray(drawn(3, 3, 2, 6)), jnp.asarray(drawn(6))
    how = {"stride": 2, "padding": [(0, 1), 2], "dilation": (1, 2), "groups": 2}
    y, _ = nn.conv(6, 3, **how).apply({"w": w, "b": b}, {}, x)
    assert_close(y - nn.ops.conv(x, w, **how), np.broadcast_to(b, y.shape), scale=10.0)


@pytest.mark.parametrize("shape", [(8, 3), (4, 5, 3), (2, 3, 4, 3), (1, 2, 2, 2, 3)])
@pytest.mark.usefixtures("x64")
def test_batch_norm_in_training_and_after(shape):
    x = drawn(*shape) * [1.0, 5.0, 0.1] + [0.0, 1000.0, -3.0]
    params, state = nn.batch_norm().init(jax.random.key(0), jnp.asarray(x))
    params = {"scale": jnp.asarray([2.0, 1.0, 3.0]), "bias": jnp.asarray([0.0, 1.0, -1.0])}
    model = nn.batch_norm(momentum=0.7, eps=1e-3)
    flat = x.reshape(-1, 3)
    mean, var = np.zeros(3), np.ones(3)
    for _ in range(2):
        y, state = model.apply(params, state, jnp.asarray(x), train=True)
        mean, var = 0.7 * mean + 0.3 * flat.mean(0), 0.7 * var + 0.3 * np.mean((flat - flat.mean(0)) ** 2, 0)
    assert_close(y, (x - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-3) * [2, 1, 3] + [0, 1, -1])
    assert_close(state["mean"], mean)
    assert_close(state["var"], var)
    y, same = model.apply(params, state, jnp.asarray(x))
    assert_close(y, (x - mean) / np.sqrt(var + 1e-3) * [2, 1, 3] + [0, 1, -1])
    assert same is state


def test_batch_norm_at_mean_1000_in_float32():
    x = (1000 + 0.005 * np.random.default_rng(0).choice([-1.0, 1.0], (4096, 2))).astype(np.float32)
    params, state = nn.batch_norm().init(jax.random.key(0), x)
    _, state = nn.batch_norm(momentum=0.0).apply(params, state, jnp.asarray(x), train=True)
    np.testing.assert_allclose(state["var"], x.astype(np.float64).var(0), atol=6e-8)  # it moves from 1, by ulps of 1


def test_batch_norm_keeps_statistics_for_each_member_of_a_vmap_and_takes_a_traced_momentum():
    x = jnp.asarray(drawn(3, 8, 2), jnp.float32)
    params, state = nn.batch_norm().init(jax.random.key(0), x[0])
    momenta = jnp.array([0.0, 0.5, 1.0])
    run = lambda m, x: nn.batch_norm(momentum=m).apply(params, state, x, train=True)  # noqa: E731
    y, new = jax.vmap(run)(momenta, x)
    for i, m in enumerate([0.0, 0.5, 1.0]):
        one_y, one = run(m, x[i])
        assert_close(y[i], one_y)
        assert_close(new["mean"][i], one["mean"])
    np.testing.assert_array_equal(new["var"][2], [1.0, 1.0])


def test_running_statistics_carry_no_gradient():
    x = jnp.asarray(drawn(5, 2), jnp.float32)
    params, state = nn.batch_norm().init(jax.random.key(0), x)
    grad = jax.grad(lambda x: sum(v.sum() for v in nn.batch_norm().apply(params, state, x, train=True)[1].values()))(x)
    assert not grad.any()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(rate, dtype):
    n = 40_000
    y, _ = nn.dropout(rate).apply({}, {}, jnp.ones((200, 200), dtype), key=jax.random.key(0), train=True)
    dropped = float(jnp.mean(y == 0, dtype=jnp.float32))
    assert abs(dropped - rate) < 4 * np.sqrt(rate * (1 - rate) / n)  # four standard deviations
    assert_close(np.unique(np.asarray(y)), jnp.asarray([0.0, 1 / (1 - rate)], dtype), dtype=jnp.float32)
    assert y.dtype == dtype


def test_dropout_keys_rates_and_gradients():
    x = jnp.asarray(drawn(50, 40), jnp.float32)
    run = lambda rate, key: nn.dropout(rate).apply({}, {}, x, key=jax.random.key(key), train=True)[0]  # noqa: E731
    np.testing.assert_array_equal(run(0.5, 1), run(0.5, 1))
    assert not np.array_equal(run(0.5, 1), run(0.5, 2))
    np.testing.assert_array_equal(run(0.0, 1), x)
    np.testing.assert_array_equal(run(0, 1), x)
    rates = jnp.array([0.0, 0.3, 0.6])
    for rate, y in zip(rates, jax.jit(jax.vmap(run, (0, None)))(rates, 1), strict=True):
        assert_close(y, run(float(rate), 1))
    grad = jax.grad(lambda x: nn.dropout(0.5).apply({}, {}, x, key=jax.random.key(0), train=True)[0].sum())(x)
    assert set(np.unique(grad)) == {0.0, 2.0}
    y, _ = nn.dropout(0.5).apply({}, {}, jnp.full(100, jnp.inf), key=jax.random.key(0), train=True)
    assert set(np.unique(y)) == {0.0, np.inf}


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8, jnp.int16, jnp.int32, jnp.uint32, jnp.int64, jnp.uint64])
@pytest.mark.usefixtures("x64")
def test_embed_gives_nan_out_of_range_and_never_another_entry(dtype):
    size = 300
    info = jnp.iinfo(dtype)
    at = [0, 5, min(299, info.max), min(300, info.max), info.max, info.max - 1, max(-1, info.min), info.min]
    at += [] if info.bits < 64 else [2**32, 2**32 + 5, 2**31]
    w = np.arange(size, dtype=np.float32)[:, None] * np.ones(2, np.float32)
    y, _ = nn.embed(size, 2).apply({"w": jnp.asarray(w)}, {}, jnp.asarray(np.array(at, dtype)))
    np.testing.assert_array_equal(y, [[i, i] if 0 <= i < size else [np.nan, np.nan] for i in at])


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (2, 3, 2)])
def test_embed_any_shape_and_its_gradient_counts(shape):
    x = np.random.default_rng(0).integers(0, 4, shape)
    w = jnp.asarray(drawn(4, 3), jnp.float32)
    apply = partial(nn.embed(4, 3).apply, state={}, x=jnp.asarray(x, jnp.int32))
    np.testing.assert_array_equal(apply({"w": w})[0], np.asarray(w)[x])
    grad = jax.grad(lambda w: apply({"w": w})[0].sum())(w)
    np.testing.assert_array_equal(grad[:, 0], np.bincount(x.ravel(), minlength=4))


@pytest.mark.parametrize(
    ("shape", "want"), [((3,), (3, 1)), ((2, 3), (2, 3)), ((2, 3, 4, 5), (2, 60)), ((0, 3, 2), (0, 6))]
)
def test_flatten(shape, want):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    y, _ = nn.flatten().apply({}, {}, jnp.asarray(x))
    assert y.shape == want
    np.testing.assert_array_equal(np.ravel(y), np.ravel(x))


KEY = partial(jax.random.key, 0)
ONES = partial(np.ones, dtype=np.float32)


def used(layer, seen, fed, **how):
    params, state = layer.init(KEY(), seen)
    return layer.apply(params, state, fed, **how)


BYTES = "Convert it first, for example x.astype(jnp.float32) / 255 for images of bytes."
FITS = "initialise with x of this shape, or feed it the other."
ERRORS = {
    "conv kernel_size": (
        lambda: nn.conv(4, (3, 3)).init(KEY(), ONES((1, 5, 3))),
        "conv: expected kernel_size to be an integer >= 1, or 1 of them, got (3, 3). "
        "x is [n, *space, c] with 1 space axis; images of one channel need its axis, x[..., None].",
    ),
    "embed padding": (
        lambda: nn.embed(3, 2, padding=3),
        "embed: expected padding to be an integer >= 0 and <= 2, got 3.",
    ),
    "dense of a name": (
        lambda: nn.dense(-1, name="head"),
        "head: expected features to be an integer >= 1, got -1.",
    ),
    "dense scalar": (
        lambda: nn.dense(3).init(KEY(), np.float32(1)),
        "dense: expected x of shape [..., d], got float32[].",
    ),
    "dense integers": (
        lambda: nn.dense(3).init(KEY(), np.ones((2, 4), np.uint8)),
        f"dense: expected x of shape [..., d] and a floating dtype, got uint8[2, 4]. {BYTES}",
    ),
    "dense other x": (
        lambda: used(nn.dense(3), ONES((2, 4)), ONES((2, 5))),
        f"dense: expected x of shape [..., 4], got float32[2, 5]. w was made for 4 features: {FITS}",
    ),
    "dense list": (
        lambda: used(nn.dense(3), ONES((2, 4)), [1.0]),
        "dense: expected x to be an array of shape [..., 4], got [1.0]. Convert it: np.asarray(x, np.float32).",
    ),
    "conv groups of channels": (
        lambda: nn.conv(4, 3, groups=2).init(KEY(), ONES((1, 5, 3))),
        "conv: expected channels and features to be multiples of groups=2, got (3, 4).",
    ),
    "conv rank": (
        lambda: nn.conv(4, 3).init(KEY(), ONES((5, 3))),
        "conv: expected x of shape [n, *space, c], got float32[5, 3].",
    ),
    "conv many axes": (
        lambda: nn.conv(4, 3).init(KEY(), ONES((1, 2, 2, 2, 2, 3))),
        "conv: expected x of shape [n, *space, c] with 1 to 3 space axes, got float32[1, 2, 2, 2, 2, 3].",
    ),
    "conv integers": (
        lambda: nn.conv(4, 3).init(KEY(), np.ones((1, 5, 3), np.uint8)),
        f"conv: expected x of shape [n, *space, c] and a floating dtype, got uint8[1, 5, 3]. {BYTES}",
    ),
    "conv other channels": (
        lambda: used(nn.conv(4, 3, name="stem"), ONES((1, 5, 3)), ONES((1, 5, 2))),
        f"stem: expected x of shape [n, *space, 3], got float32[1, 5, 2]. w was made for 3 features: {FITS}",
    ),
    "conv other rank": (
        lambda: used(nn.conv(4, 3), ONES((1, 5, 3)), ONES((1, 5, 5, 3))),
        "conv: expected x with 1 space axes, as w has, got float32[1, 5, 5, 3].",
    ),
    "batch_norm momentum": (
        lambda: nn.batch_norm(momentum=1.5),
        "batch_norm: expected momentum in [0, 1], got 1.5. PyTorch's momentum is one minus this one.",
    ),
    "batch_norm rank": (
        lambda: nn.batch_norm().init(KEY(), ONES(3)),
        "batch_norm: expected x of shape [n, ..., c], got float32[3].",
    ),
    "batch_norm channels": (
        lambda: used(nn.batch_norm(), ONES((2, 3)), ONES((2, 4))),
        f"batch_norm: expected x of shape [n, ..., 3], got float32[2, 4]. mean was made for 3 features: {FITS}",
    ),
    "batch_norm empty": (
        lambda: used(nn.batch_norm(), ONES((2, 3)), ONES((0, 3)), train=True),
        "batch_norm: expected at least one example to take statistics over, got float32[0, 3].",
    ),
    "batch_norm integers": (
        lambda: used(nn.batch_norm(), ONES((2, 3)), np.ones((2, 3), np.int32)),
        f"batch_norm: expected x of shape [n, ..., 3] and a floating dtype, got int32[2, 3]. {BYTES}",
    ),
    "dropout rate": (
        lambda: nn.dropout(1.0),
        "dropout: expected rate in [0, 1), got 1.0. It is the probability of dropping.",
    ),
    "dropout text": (
        lambda: nn.dropout("0.5", name="drop"),
        "drop: expected rate to be a real number, got '0.5'. It is the probability of dropping.",
    ),
    "dropout nan": (
        lambda: nn.dropout(float("nan")),
        "dropout: expected rate in [0, 1), got nan. It is the probability of dropping.",
    ),
    "dropout without a key": (
        lambda: nn.dropout(0.5).apply({}, {}, ONES(3), train=True),
        "dropout: expected a key when train=True, got None. Pass key= to apply.",
    ),
    "dropout inside": (
        lambda: nn.serial(nn.serial(nn.dropout(0.5), name="block")).apply({}, {}, ONES(3), train=True),
        "block/dropout: expected a key when train=True, got None. Pass key= to apply.",
    ),
    "dropout integers": (
        lambda: nn.dropout(0.5).apply({}, {}, np.ones(3, np.int32)),
        f"dropout: expected x of shape [...] and a floating dtype, got int32[3]. {BYTES}",
    ),
    "embed floats": (
        lambda: nn.embed(3, 2).init(KEY(), ONES(3)),
        "embed: expected x of shape [...] and an integer dtype, got float32[3].",
    ),
    "embed bools": (
        lambda: used(nn.embed(3, 2), np.array([1]), np.array([True])),
        "embed: expected x of shape [...] and an integer dtype, got bool[1].",
    ),
    "embed list": (
        lambda: nn.embed(3, 2).apply({"w": ONES((3, 2))}, {}, [1]),
        "embed: expected x of shape [...] and an integer dtype, got [1].",
    ),
    "flatten scalar": (
        lambda: nn.flatten().apply({}, {}, np.float32(1)),
        "flatten: expected x of shape [n, ...], got float32[].",
    ),
    "flatten list": (lambda: nn.flatten().apply({}, {}, [1.0]), "flatten: expected x of shape [n, ...], got [1.0]."),
    "max_pool": (
        lambda: nn.max_pool(3).apply({}, {}, ONES((1, 2, 1))),
        "max_pool: expected a kernel_size that fits in x, 3 steps long, got 2 steps, padding included. "
        "Use padding='same', a smaller kernel_size or a smaller dilation.",
    ),
    "layer_norm features": (
        lambda: used(nn.layer_norm(), ONES((2, 3)), ONES((2, 4))),
        f"layer_norm: expected x of shape [..., 3], got float32[2, 4]. scale was made for [3]: {FITS}",
    ),
    "layer_norm axis": (
        lambda: nn.layer_norm(axis=2, name="norm").init(KEY(), ONES((2, 3))),
        "norm: expected axis from -2 to 1, an axis of x, got 2.",
    ),
    "group_norm channels": (
        lambda: nn.group_norm(3).init(KEY(), ONES((2, 4, 4))),
        "group_norm: expected x with channels in 3 equal groups, got float32[2, 4, 4].",
    ),
    "instance_norm rank": (
        lambda: nn.instance_norm().init(KEY(), ONES((2, 4))),
        "instance_norm: expected x of shape [n, *space, c], got float32[2, 4].",
    ),
    "global_avg_pool": (
        lambda: nn.global_avg_pool().apply({}, {}, ONES((4, 1))),
        "global_avg_pool: expected x of shape [n, *space, c], got float32[4, 1].",
    ),
    "global_max_pool": (
        lambda: nn.global_max_pool().apply({}, {}, ONES((4, 0, 1))),
        "global_max_pool: expected x with at least one step on each space axis, got float32[4, 0, 1].",
    ),
    "attention heads": (
        lambda: nn.attention(3).init(KEY(), ONES((2, 5, 4))),
        "attention: expected features of x that heads=3 divide, or size=, got 4.",
    ),
    "attention kv_heads": (
        lambda: nn.attention(4, kv_heads=3),
        "attention: expected kv_heads that divide heads=4, got 3.",
    ),
    "attention cache": (
        lambda: nn.attention(2, cache=8),
        "attention: expected causal=True with a cache, got False. A step cannot see those that are still to come.",
    ),
    "attention dict": (
        lambda: nn.attention(2).init(KEY(), {"x": ONES((2, 5, 4)), "keys": ONES((2, 5, 4))}),
        "attention: expected x alone or a dict with 'x' and some of context, mask, bias, lengths, positions, "
        "got keys, x.",
    ),
    "attention features": (
        lambda: used(nn.attention(2), ONES((2, 5, 4)), ONES((2, 5, 6))),
        f"attention: expected x of shape [n, steps, 4], got float32[2, 5, 6]. w_q was made for 4 features: {FITS}",
    ),
    "mixture_of_experts k": (
        lambda: nn.mixture_of_experts(4, k=5),
        "mixture_of_experts: expected k to be an integer >= 1 and <= 4, got 5.",
    ),
    "mixture_of_experts capacity": (
        lambda: nn.mixture_of_experts(4, capacity_factor=0.0),
        "mixture_of_experts: expected capacity_factor in (0, inf), got 0.0.",
    ),
    "mixture_of_experts hidden": (
        lambda: nn.mixture_of_experts(4, hidden=8, expert=nn.dense(4), name="mixture"),
        "mixture: expected hidden without expert, whose size it does not set, got hidden=8.",
    ),
    "mixture_of_experts state": (
        lambda: nn.mixture_of_experts(4, expert=nn.batch_norm()).init(KEY(), ONES((2, 3, 4))),
        "mixture_of_experts: expected an expert without state, got one with state. Put such layers before it.",
    ),
    "mixture_of_experts expert": (
        lambda: used(nn.mixture_of_experts(4, expert=lambda x: x[0]), ONES((2, 3, 4)), ONES((2, 3, 4))),
        "mixture_of_experts: expected an expert that returns float32[2, 3, ...], got float32[3, 4].",
    ),
    "mixture_of_experts Padded": (
        lambda: nn.mixture_of_experts(4).init(KEY(), nn.Padded(ONES((2, 3)), np.array([3, 1]))),
        "mixture_of_experts: expected a Padded with x of shape [n, t, ..., d], "
        "got Padded(x=float32[2, 3], lengths=int32[2]).",
    ),
    "learned_positions": (
        lambda: used(nn.learned_positions(5), ONES((2, 5, 4)), ONES((2, 6, 4))),
        "learned_positions: expected x of shape [n, t <= 5, 4], got float32[2, 6, 4].",
    ),
    "patches": (
        lambda: nn.patches(3, 4).init(KEY(), ONES((2, 9, 8, 1))),
        "patches: expected an image that patches of [4, 4] divide, got float32[2, 9, 8, 1].",
    ),
    "rnn features": (
        lambda: used(nn.rnn(3), ONES((2, 5, 4)), ONES((2, 5, 6))),
        "rnn: expected x of shape [n, t, 4], got float32[2, 5, 6]. "
        "w_x was made for 4 features: initialise with x of this shape, or feed it the other.",
    ),
    "gru carry": (
        lambda: nn.gru(3, layers=2).apply(
            nn.gru(3, layers=2).init(KEY(), ONES((2, 5, 4)))[0], {}, (ONES((2, 5, 4)), None, ONES((2, 3)))
        ),
        "gru: expected a carry of 2 layers and 1 directions, got float32[2, 3].",
    ),
    "conv_lstm rank": (
        lambda: nn.conv_lstm(3, 3).init(KEY(), ONES((2, 5, 4))),
        "conv_lstm: expected x of shape [n, t, *space, c], got float32[2, 5, 4].",
    ),
    "conv_lstm channels": (
        lambda: used(nn.conv_lstm(3, 3), ONES((2, 5, 4, 2)), ONES((2, 5, 4, 3))),
        "conv_lstm: expected x of shape [n, t, *space, 2], got float32[2, 5, 4, 3]. "
        "w_x was made for 2 features: initialise with x of this shape, or feed it the other.",
    ),
    "conv_transpose channels": (
        lambda: used(nn.conv_transpose(3, 2), ONES((2, 5, 4)), ONES((2, 5, 6))),
        "conv_transpose: expected x of shape [n, *space, 4], got float32[2, 5, 6]. "
        "w was made for 4 features: initialise with x of this shape, or feed it the other.",
    ),
    "separable_conv": (
        lambda: used(nn.separable_conv(3, 3), ONES((2, 5, 4)), ONES((2, 5, 6))),
        "depthwise: expected x of shape [n, *space, 4], got float32[2, 5, 6]. "
        "w was made for 4 features: initialise with x of this shape, or feed it the other.",
    ),
    "spatial_dropout": (
        lambda: nn.spatial_dropout(0.5).apply({}, {}, ONES(3)),
        "spatial_dropout: expected x of shape [n, *space, c], got float32[3].",
    ),
    "stochastic_depth": (
        lambda: nn.stochastic_depth(0.5).apply({}, {}, ONES((2, 3)), train=True),
        "stochastic_depth: expected a key when train=True, got None. Pass key= to apply.",
    ),
    "alpha_dropout": (
        lambda: nn.alpha_dropout(-0.1),
        "alpha_dropout: expected rate in [0, 1), got -0.1. It is the probability of dropping.",
    ),
    "lora": (
        lambda: nn.lora(nn.batch_norm()).init(KEY(), ONES((2, 3))),
        "lora: expected a child with params of two axes or more, got bias, scale. Pass a layer with weights, and where="
        " as a pattern of their paths.",
    ),
    "weight_norm": (
        lambda: nn.weight_norm(nn.relu).init(KEY(), ONES((2, 3))),
        "weight_norm: expected a child with params named 'w', got []. Name them by param=.",
    ),
    "avg_pool": (
        lambda: nn.avg_pool(3).apply({}, {}, ONES((3, 1))),
        "avg_pool: expected x of shape [n, *space, c], got float32[3, 1].",
    ),
}
TYPES = {"dense integers", "dense list", "conv integers", "batch_norm integers", "dropout integers"}
TYPES |= {"embed floats", "embed bools", "embed list", "dropout text"}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    wrong, text = ERRORS[case]
    with pytest.raises(TypeError if case in TYPES else ValueError) as caught:
        wrong()
    assert str(caught.value) == text
