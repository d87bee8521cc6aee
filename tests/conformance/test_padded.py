"""Sequences of different lengths: padding changes no output, no gradient and no statistic, or a layer refuses it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _layer_cases import CASES, tied

import jaxnn as nn

LENGTHS = np.array([5, 2, 0, 3])
SERIES, VIDEO, TOKENS = (4, 5, 6), (4, 5, 4, 4, 6), ("tokens", 4, 5)


def context(block):
    """A block that looks at its own input."""

    def apply(params, state, x, *, key=None, train=False):
        y, state = nn.call(block, "block", params, state, {"x": x, "context": x}, key=key, train=train)
        return y["x"], state

    return nn.layer(None, apply, "with_context", padded="seen")


# What each public layer does with sequences of different lengths: "kept" gives a Padded, "pooled" an array, "refused"
# an error. A new layer needs a row.
ROWS = {
    "adaptive_avg_pool": (lambda: nn.adaptive_avg_pool(2), SERIES, "refused"),
    "adaptive_max_pool": (lambda: nn.adaptive_max_pool(2), SERIES, "refused"),
    "alpha_dropout": (lambda: nn.alpha_dropout(0.3), SERIES, "kept"),
    "attention": (lambda: nn.attention(2), SERIES, "kept"),
    "avg_pool": (lambda: nn.avg_pool(2), SERIES, "kept"),
    "avg_pool padded": (lambda: nn.avg_pool(3, stride=2, padding=1), SERIES, "kept"),
    "avg_pool of zeros": (lambda: nn.avg_pool(3, stride=1, padding="same", count_include_pad=True), SERIES, "kept"),
    "avg_pool ceil": (lambda: nn.avg_pool(2, ceil_mode=True), SERIES, "refused"),
    "batch_norm": (lambda: nn.batch_norm(), SERIES, "kept"),
    "cast": (lambda: nn.cast(nn.gru(3), jnp.float32), SERIES, "kept"),
    "class_token": (lambda: nn.class_token(w_init=jax.random.normal), SERIES, "kept"),
    "conv": (lambda: nn.conv(3, 3), SERIES, "kept"),
    "conv strided": (lambda: nn.conv(3, 3, stride=2, padding=2, dilation=2), SERIES, "kept"),
    "conv valid": (lambda: nn.conv(3, 2, padding="valid"), SERIES, "kept"),
    "conv same strided": (lambda: nn.conv(3, 3, stride=2), SERIES, "refused"),
    "conv reflected": (lambda: nn.conv(3, 3, padding_mode="reflect"), SERIES, "refused"),
    "conv circular of video": (lambda: nn.conv(3, (1, 3, 3), padding_mode="circular"), VIDEO, "kept"),
    "conv of video": (lambda: nn.conv(3, (2, 3, 3), padding="valid"), VIDEO, "kept"),
    "conv_lstm": (lambda: nn.conv_lstm(2, 3), VIDEO, "kept"),
    "conv_transpose": (lambda: nn.conv_transpose(3, 3), SERIES, "refused"),
    "decoder_block": (lambda: context(nn.decoder_block(2)), SERIES, "kept"),
    "dense": (lambda: nn.dense(3), SERIES, "kept"),
    "dense of time": (lambda: nn.dense(3), (4, 5), "refused"),
    "depth_to_space": (lambda: nn.depth_to_space(2), SERIES, "refused"),
    "depthwise_conv": (lambda: nn.depthwise_conv(3, padding="causal", stride=2), SERIES, "kept"),
    "dropout": (lambda: nn.dropout(0.4), SERIES, "kept"),
    "embed": (lambda: nn.embed(7, 5), TOKENS, "kept"),
    "encoder_block post-norm": (lambda: nn.encoder_block(2, post_norm=True), SERIES, "kept"),
    "encoder_block": (lambda: nn.encoder_block(2, rate=0.2), SERIES, "kept"),
    "flatten": (lambda: nn.flatten(), SERIES, "refused"),
    "gaussian_noise": (lambda: nn.gaussian_noise(0.5), SERIES, "kept"),
    "global_avg_pool": (lambda: nn.global_avg_pool(), SERIES, "pooled"),
    "global_avg_pool of video": (lambda: nn.global_avg_pool(), VIDEO, "pooled"),
    "global_max_pool": (lambda: nn.global_max_pool(), SERIES, "pooled"),
    "group_norm": (lambda: nn.group_norm(2), SERIES, "kept"),
    "gru": (lambda: nn.gru(3, bidirectional=True, layers=2), SERIES, "kept"),
    "gru last": (lambda: nn.gru(3, last=True), SERIES, "pooled"),
    "identity": (lambda: nn.identity(), SERIES, "kept"),
    "instance_norm": (lambda: nn.instance_norm(eps=0.1), SERIES, "kept"),
    "layer_norm": (lambda: nn.layer_norm(), SERIES, "kept"),
    "layer_norm of time": (lambda: nn.layer_norm(axis=-2), SERIES, "refused"),
    "learned_positions": (lambda: nn.learned_positions(12), SERIES, "kept"),
    "local_response_norm": (lambda: nn.local_response_norm(3, alpha=0.1), SERIES, "kept"),
    "lp_pool": (lambda: nn.lp_pool(2, padding=1), SERIES, "kept"),
    "lstm": (lambda: nn.lstm(4, peephole=True, projection=2), SERIES, "kept"),
    "max_pool": (lambda: nn.max_pool(2), SERIES, "kept"),
    "max_pool same": (lambda: nn.max_pool(3, stride=1, padding="same"), SERIES, "kept"),
    "max_pool same strided": (lambda: nn.max_pool(2, padding="same"), SERIES, "refused"),
    "max_pool of video": (lambda: nn.max_pool((3, 2, 2), stride=2, padding=1), VIDEO, "kept"),
    "pad": (lambda: nn.pad(1), SERIES, "refused"),
    "mixture_of_experts": (lambda: nn.mixture_of_experts(3, hidden=5), SERIES, "kept"),
    "mixture_of_experts few": (lambda: nn.mixture_of_experts(3, hidden=5, capacity_factor=0.7), SERIES, "kept"),
    "mixture_of_experts of time": (lambda: nn.mixture_of_experts(3), (4, 5), "refused"),
    "mixture_of_experts of video": (lambda: nn.mixture_of_experts(3, capacity_factor=0.7), VIDEO, "kept"),
    "maxout": (lambda: nn.maxout(3), SERIES, "kept"),
    "parallel": (lambda: nn.parallel(nn.dense(3), nn.rnn(2), join="concatenate"), SERIES, "kept"),
    "patches": (lambda: nn.patches(5, 1), SERIES, "refused"),
    "perceptron": (lambda: nn.perceptron(3), SERIES, "kept"),
    "prelu": (lambda: nn.prelu(), SERIES, "kept"),
    "remat": (lambda: nn.remat(nn.lstm(3)), SERIES, "kept"),
    "inference": (lambda: nn.inference(nn.lstm(3)), SERIES, "kept"),
    "repeat": (lambda: nn.repeat(nn.serial(nn.batch_norm(), nn.rnn(6)), 2), SERIES, "kept"),
    "residual": (lambda: nn.residual(nn.gru(3), skip=nn.dense(3)), SERIES, "kept"),
    "rms_norm": (lambda: nn.rms_norm(), SERIES, "kept"),
    "rnn": (lambda: nn.rnn(3), SERIES, "kept"),
    "lora": (lambda: nn.lora(nn.dense(3), rank=2), SERIES, "kept"),
    "separable_conv": (lambda: nn.separable_conv(3, 3), SERIES, "kept"),
    "serial": (lambda: nn.serial(nn.dense(3), nn.tanh, nn.lstm(4), nn.glu), SERIES, "kept"),
    "sinusoidal_positions": (lambda: nn.sinusoidal_positions(), SERIES, "kept"),
    "space_to_depth": (lambda: nn.space_to_depth(1), SERIES, "refused"),
    "spatial_dropout": (lambda: nn.spatial_dropout(0.4), SERIES, "kept"),
    "spectral_norm": (lambda: nn.spectral_norm(nn.dense(5)), SERIES, "kept"),
    "stochastic_depth": (lambda: nn.stochastic_depth(0.4), SERIES, "kept"),
    "time_distributed": (
        lambda: nn.time_distributed(nn.serial(nn.conv(3, 3), nn.batch_norm(), nn.dropout(0.3), nn.global_avg_pool())),
        VIDEO,
        "kept",
    ),
    "unembed": (tied, TOKENS, "kept"),
    "upsample": (lambda: nn.upsample(2), SERIES, "refused"),
    "weight_norm": (lambda: nn.weight_norm(nn.dense(3)), SERIES, "kept"),
    # and stacks of them
    "stack of recurrent layers": (
        lambda: nn.serial(nn.lstm(6), nn.gru(4, bidirectional=True), nn.rnn(6, last=True)),
        SERIES,
        "pooled",
    ),
    "stack of all kinds": (
        lambda: nn.serial(
            nn.dense(6), nn.batch_norm(), nn.relu, nn.conv(6, 3), nn.dropout(0.3), nn.lstm(6), nn.layer_norm(),
            nn.attention(2), nn.instance_norm(eps=0.1), nn.global_avg_pool(), nn.dense(3),
        ),
        SERIES,
        "pooled",
    ),
    "stack of tokens": (
        lambda: nn.serial(
            nn.embed(7, 6), nn.sinusoidal_positions(), nn.encoder_block(2), nn.encoder_block(2, rate=0.1),
            nn.residual(nn.serial(nn.dense(6), nn.gelu)), nn.repeat(nn.residual(nn.gru(6)), 2), nn.global_max_pool(),
        ),
        TOKENS,
        "pooled",
    ),
    "stack of video": (
        lambda: nn.serial(
            nn.time_distributed(nn.serial(nn.conv(4, 3), nn.batch_norm(), nn.relu, nn.max_pool(2), nn.flatten())),
            nn.lstm(3),
            nn.global_avg_pool(),
        ),
        VIDEO,
        "pooled",
    ),
}  # fmt: skip
CHEAP = {"dense", "batch_norm", "conv", "global_avg_pool"}
TAKEN = [name for name, (*_, does) in ROWS.items() if does != "refused"]
FEW = [name if name in CHEAP else pytest.param(name, marks=pytest.mark.slow) for name in TAKEN]
KEY = jax.random.key(1)
quick = partial(jax.jit, compiler_options=nn.compiler_options(quick=True))


def padded(shape, steps, fill):
    """The same sequences with so many steps, and `fill` after the end of each."""
    rng = np.random.default_rng(0)
    if shape == TOKENS:
        x = rng.integers(0, 7, shape := shape[1:]).astype(np.int32)
    else:
        x = rng.standard_normal(shape).astype(np.float32)
    y = np.full((shape[0], steps, *shape[2:]), -1 if x.dtype.kind == "i" else fill, x.dtype)
    for i, n in enumerate(LENGTHS):
        y[i, :n] = x[i, :n]
    return nn.Padded(jnp.asarray(y), jnp.asarray(LENGTHS))


def test_every_public_layer_has_a_row():
    assert {name.split()[0] for name in ROWS} - {"stack"} == {name.split()[0] for name in CASES}


@pytest.mark.parametrize("name", FEW)
def test_padding_changes_nothing(name):
    make, shape, does = ROWS[name]
    model = make()
    params, state = model.init(jax.random.key(0), padded(shape, 5, 0.0))

    @quick
    def run(params, s):
        def score(params, x):
            y, new = model.apply(params, state, nn.Padded(x, s.lengths), key=KEY, train=True)
            values = y.zeroed if isinstance(y, nn.Padded) else y
            steps = 1 / jnp.arange(1, 1 + values.shape[1], dtype=jnp.float32)  # the same whatever padding follows
            steps = steps.reshape(1, -1, *(1,) * (values.ndim - 2))
            return jnp.sum(jnp.sin(3 * values) * steps), (y, new)

        if jnp.issubdtype(s.x.dtype, jnp.integer):
            grads, (y, new) = jax.grad(score, has_aux=True)(params, s.x)
            return y, new, grads, s.x
        grads, (y, new) = jax.grad(score, argnums=(0, 1), has_aux=True)(params, s.x)
        return y, new, *grads

    want = seen(run(params, padded(shape, 5, 0.0)), does)
    one = nn.Padded(padded(shape, 5, 0.0).x[:1], jnp.asarray(LENGTHS[:1]))
    alone, _ = jax.eval_shape(model.apply, params, state, one)
    assert isinstance(alone, nn.Padded) == (does == "kept")
    for steps, fill in ((5, np.nan), (9, 7.0)):
        got = seen(run(params, padded(shape, steps, fill)), does)
        assert jax.tree.structure(got) == jax.tree.structure(want)
        for part, other in zip(got, want, strict=True):  # of each to its largest number: a bias before a norm has noise
            scale = max([1.0, *(float(np.abs(b).max(initial=0)) for b in jax.tree.leaves(other))])
            for a, b in zip(jax.tree.leaves(part), jax.tree.leaves(other), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * scale)


def seen(result, does):
    """Everything but the padding: output, state, gradients of params and of the steps that count."""
    y, state, grads, dx = result
    steps = [np.asarray(dx)[i, :n] for i, n in enumerate(LENGTHS)]
    for i, n in enumerate(LENGTHS):
        rest = np.asarray(dx)[i, n:]
        assert dx.dtype == np.int32 or not rest.any(), "a gradient reached the padding"
    if does == "kept":
        assert isinstance(y, nn.Padded)
        y = [np.asarray(y.x)[i, :n] for i, n in enumerate(np.asarray(y.lengths))]
    assert all(np.isfinite(v).all() for v in jax.tree.leaves((y, state, grads, steps)))
    return y, state, grads, steps


@pytest.mark.parametrize("name", [name for name in FEW if name not in ("embed", "stack of tokens")])
def test_a_sequence_is_what_it_is_alone(name):
    make, shape, does = ROWS[name]
    model, s = make(), padded(shape, 5, np.nan)
    params, state = model.init(jax.random.key(0), s)
    apply = quick(lambda x: model.apply(params, state, x)[0])
    y = apply(s)
    for i in (0, 3):
        alone = apply(s.x[i : i + 1, : LENGTHS[i]])
        alone = np.asarray(alone[0])
        got = np.asarray(y.x[i])[: y.lengths[i]] if does == "kept" else np.asarray(y[i])
        assert got.shape == alone.shape
        np.testing.assert_allclose(got, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [name for name, (*_, does) in ROWS.items() if does == "refused"])
def test_a_layer_that_cannot_see_lengths_says_so(name):
    make, shape, _ = ROWS[name]
    model = make()
    s = padded(shape, 5, 0.0)
    params, state = model.init(jax.random.key(0), s.x)
    for x in (s, tuple(s)):
        with pytest.raises((TypeError, ValueError), match=r"Padded"):
            model.apply(params, state, x)
        with pytest.raises((TypeError, ValueError), match=r"Padded"):
            nn.serial(make()).apply({model.name: params}, {model.name: state}, x)


# What carries a Padded.


def test_lengths_come_out_as_they_went_in():
    s = padded(SERIES, 5, 0.0)
    model = nn.serial(nn.dense(4), nn.lstm(3))
    params, state = model.init(jax.random.key(0), s)
    y, _ = model.apply(params, state, s)
    assert isinstance(y, nn.Padded)
    np.testing.assert_array_equal(y.lengths, LENGTHS)
    assert not np.asarray(y.x)[~np.asarray(y.mask)].any()


@pytest.mark.slow
def test_a_plain_pair_is_a_padded_for_the_layers_of_the_library():
    s = padded(SERIES, 5, 0.0)
    model = nn.serial(nn.dense(4), nn.lstm(3), nn.lstm(3, last=True))
    params, state = model.init(jax.random.key(0), tuple(s))
    np.testing.assert_array_equal(model.apply(params, state, tuple(s))[0], model.apply(params, state, s)[0])
    one = nn.repeat(nn.residual(nn.gru(6)), 2)
    params, state = one.init(jax.random.key(0), tuple(s))
    assert type(one.apply(params, state, tuple(s))[0]) is nn.Padded
    # a recurrent layer called by itself gives an array, with zeros after the end
    params, state = nn.rnn(3).init(jax.random.key(0), tuple(s))
    y, _ = nn.rnn(3).apply(params, state, tuple(s))
    np.testing.assert_array_equal(y, nn.rnn(3).apply(params, state, s)[0].x)


def test_a_layer_of_the_users_gets_the_pair_that_the_user_gave():
    seen = []

    def apply(params, state, x, *, key=None, train=False):
        seen.append(type(x))
        noise, labels = x
        return jnp.concatenate([noise, jax.nn.one_hot(labels, 3)], -1), state

    model = nn.serial(nn.layer(lambda key, x: ({}, {}), apply, "condition"), nn.dense(2))
    pair = jnp.ones((4, 5)), jnp.array([0, 1, 2, 0])
    params, state = model.init(jax.random.key(0), pair)
    assert model.apply(params, state, pair)[0].shape == (4, 2)
    assert set(seen) == {tuple}


def test_what_is_not_known_refuses_lengths_and_says_how_to_declare_it():
    s = padded(SERIES, 5, 0.0)
    for f in (lambda x: x.mean(1), jnp.tanh):
        with pytest.raises(TypeError) as caught:
            nn.serial(nn.lift(f, name="f")).init(jax.random.key(0), s)
        assert str(caught.value) == (
            "f: expected x without lengths, got Padded(x=float32[4, 5, 6], lengths=int32[4]). Say how it takes "
            "lengths, nn.layer(..., padded=) or nn.lift(f, padded=), or pass x and lengths apart."
        )
    model = nn.serial(nn.lift(jnp.tanh, padded=0), nn.lift(lambda s: s.zeroed.sum(1), name="total", padded="seen"))
    y, _ = model.apply({}, {}, s)
    np.testing.assert_allclose(y, np.tanh(s.zeroed).sum(1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: nn.pad(1).apply({}, {}, padded(SERIES, 5, 0.0)),
            "pad: expected x without lengths, got Padded(x=float32[4, 5, 6], lengths=int32[4]). It combines steps "
            "and would count the padding. Pool over time before it, or run it in time_distributed.",
        ),
        (
            lambda: nn.dense(3).init(KEY, padded((4, 5), 5, 0.0)),
            "dense: expected a Padded with x of shape [n, t, a] or more axes, got Padded(x=float32[4, 5], "
            "lengths=int32[4]). Add an axis of features.",
        ),
        (
            lambda: nn.conv(3, 3, stride=2).apply(
                *nn.conv(3, 3, stride=2).init(KEY, jnp.ones(SERIES)), padded(SERIES, 5, 0.0)
            ),
            "conv: expected stride 1 over time for a Padded with padding='same', got 2. The positions of its "
            "kernel depend on the padded length. Use padding='causal', 'valid' or numbers.",
        ),
        (
            lambda: nn.residual(nn.rnn(6, last=True)).apply(
                *nn.rnn(6).init(KEY, jnp.ones(SERIES)), padded(SERIES, 5, 0.0)
            ),
            "residual: expected block(x) and the skip connection to be both Padded or both not, got (float32[4, 6], "
            "Padded(x=float32[4, 5, 6], lengths=int32[4])). A block that ends the sequence has no skip connection over "
            "it.",
        ),
        (
            lambda: nn.layer(None, lambda *_: None, "mine", padded="all"),
            "mine: expected padded to be an integer >= 0, 'examples', 'lengths', 'seen' or None, got 'all'.",
        ),
        (
            lambda: padded(SERIES, 5, 0.0) * 2,
            "Padded: no arithmetic on padded sequences. Compute on s.x, and rebuild: s._replace(x=...).",
        ),
    ],
)
def test_errors_say_what_to_do(make, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert str(caught.value) == message


@pytest.mark.slow
def test_capture_and_summary_see_through_a_padded():
    s = padded(SERIES, 5, 0.0)
    model = nn.serial(nn.dense(4), nn.lstm(3), nn.global_avg_pool())
    params, state = model.init(jax.random.key(0), s)
    (_, inner), _ = nn.capture(model, "lstm").apply(params, state, s)
    assert isinstance(inner["lstm"], nn.Padded)

    def score(delta):
        return nn.capture(model, {"lstm": nn.Tap(add=delta)}).apply(params, state, s)[0][0].sum()

    slope = jax.grad(score)(jnp.zeros((4, 5, 3)))
    np.testing.assert_allclose(slope[0, :, 0], 0.2, rtol=1e-6)
    assert not slope[2].any()
    assert "Padded(x=float32[4, 5, 3], lengths=int32[4])" in str(nn.summary(model, s))


@pytest.mark.slow
def test_statistics_of_a_batch_of_padding_alone_leave_the_running_ones():
    model = nn.batch_norm()
    s = nn.Padded(jnp.full((2, 3, 4), jnp.nan), jnp.array([0, 0]))
    params, state = model.init(KEY, s)
    y, new = jax.jit(lambda s: model.apply(params, state, s, train=True))(s)
    assert np.isfinite(y.x).all()
    jax.tree.map(np.testing.assert_array_equal, new, state)
