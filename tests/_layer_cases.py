"""The cases of every public layer, for all tables that hold every layer to something, and their programs."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn

IMAGE, ROW = (4, 6, 6, 4), (4, 6)


def _with_context(block):
    """A decoder block that looks at its own input."""

    def apply(params, state, x, *, key=None, train=False):
        y, state = nn.call(block, "block", params, state, {"x": x, "context": x}, key=key, train=train)
        return y["x"], state

    return nn.layer(None, apply, "decoder")


def tied():
    """An embedding, and scores by its own table."""

    def apply(params, state, x, *, key=None, train=False):
        h, state = nn.call(nn.embed(7, 5), "embed", params, state, x, key=key, train=train)
        return nn.call(nn.unembed(), "embed", params, state, h, key=key, train=train)

    return nn.layer(None, apply, "tied", padded="seen")


# name -> its layer, the shape of x, what it is exempt from
CASES = {
    "adaptive_avg_pool": (lambda: nn.adaptive_avg_pool(4), IMAGE, ()),
    "adaptive_max_pool": (lambda: nn.adaptive_max_pool((3, 2)), IMAGE, ()),
    "alpha_dropout": (lambda: nn.alpha_dropout(0.3), ROW, ("one by one",)),
    "attention": (lambda: nn.attention(2), (2, 5, 4), ()),
    "attention of few": (
        lambda: nn.attention(4, kv_heads=2, size=2, features=3, causal=True, rotary=True, bias=False, preset="keras"),
        (2, 5, 6),
        (),
    ),
    "avg_pool": (lambda: nn.avg_pool(2), IMAGE, ()),
    "avg_pool same": (lambda: nn.avg_pool(3, stride=2, padding="same"), (4, 7, 3), ()),
    "batch_norm": (lambda: nn.batch_norm(), ROW, ("one by one",)),
    "batch_norm image": (lambda: nn.batch_norm(momentum=0.5, eps=1e-3), IMAGE, ("one by one",)),
    "batch_norm plain": (lambda: nn.batch_norm(scale=False, bias=False, eps=0.5), ROW, ("one by one",)),
    "class_token": (lambda: nn.class_token(w_init=jax.random.normal), (2, 5, 4), ()),
    "conv": (lambda: nn.conv(3, 3), IMAGE, ()),
    "conv reflected": (lambda: nn.conv(3, 3, padding=(1, 2), padding_mode="reflect"), IMAGE, ()),
    "conv 1-d": (lambda: nn.conv(5, 3, stride=2, dilation=2, bias=False), (4, 9, 2), ()),
    "conv 3-d": (lambda: nn.conv(2, 2, padding="valid"), (2, 3, 4, 3, 2), ()),
    "conv groups": (lambda: nn.conv(6, (3, 2), groups=2, padding=1), IMAGE, ()),
    "conv causal": (lambda: nn.conv(3, 3, padding="causal", dilation=2), (2, 7, 4), ()),
    "conv_lstm": (lambda: nn.conv_lstm(2, 3), (2, 3, 4, 4, 2), ()),
    "conv_transpose": (lambda: nn.conv_transpose(3, 3, stride=2), IMAGE, ()),
    "conv_transpose groups": (
        lambda: nn.conv_transpose(4, 2, groups=2, padding="valid", preset="torch"),
        (2, 5, 4),
        (),
    ),
    "decoder_block": (lambda: _with_context(nn.decoder_block(2)), (2, 5, 4), ()),
    "decoder_block of a set": (lambda: _with_context(nn.decoder_block(2, causal=False)), (2, 5, 4), ()),
    "dense": (lambda: nn.dense(3), ROW, ()),
    "dense sequence": (lambda: nn.dense(3, bias=False), (2, 5, 4), ()),
    "dropout": (lambda: nn.dropout(0.4), ROW, ("one by one",)),
    "depth_to_space": (lambda: nn.depth_to_space(2), IMAGE, ()),
    "depthwise_conv": (lambda: nn.depthwise_conv(3, multiplier=2, stride=2), IMAGE, ()),
    "depthwise_conv large": (lambda: nn.depthwise_conv(127, padding="causal", bias=False), (2, 9, 3), ()),
    "encoder_block": (lambda: nn.encoder_block(2, hidden=6, norm=nn.rms_norm), (2, 5, 4), ()),
    "encoder_block dropout": (lambda: nn.encoder_block(2, rate=0.3, causal=True), (2, 5, 4), ("one by one",)),
    "encoder_block post-norm": (lambda: nn.encoder_block(2, post_norm=True, hidden=6), (2, 5, 16), ()),
    "gaussian_noise": (lambda: nn.gaussian_noise(0.5), ROW, ("one by one",)),
    "gru": (lambda: nn.gru(3), (2, 5, 4), ()),
    "gru before": (lambda: nn.gru(3, reset="before", layers=2, last=True, preset="torch"), (2, 5, 4), ()),
    "learned_positions": (lambda: nn.learned_positions(7), (2, 5, 4), ()),
    "local_response_norm": (lambda: nn.local_response_norm(3, alpha=0.1), IMAGE, ()),
    "lstm": (lambda: nn.lstm(3, bidirectional=True), (2, 5, 4), ()),
    "lstm projected": (lambda: nn.lstm(4, projection=2, peephole=True, layers=2), (2, 5, 4), ()),
    "patches": (lambda: nn.patches(5, (2, 3)), IMAGE, ()),
    "rnn": (lambda: nn.rnn(3, bias=False), (2, 5, 4), ()),
    "lora": (lambda: nn.lora(nn.serial(nn.dense(5), nn.tanh, nn.dense(3)), rank=2), ROW, ()),
    "separable_conv": (lambda: nn.separable_conv(3, 3), IMAGE, ()),
    "sinusoidal_positions": (lambda: nn.sinusoidal_positions(), (2, 5, 4), ()),
    "space_to_depth": (lambda: nn.space_to_depth(2, order="crr"), IMAGE, ()),
    "spatial_dropout": (lambda: nn.spatial_dropout(0.4), IMAGE, ("one by one",)),
    "spectral_norm": (lambda: nn.spectral_norm(nn.serial(nn.dense(5), nn.tanh, nn.dense(3))), ROW, ("held",)),
    "stochastic_depth": (lambda: nn.stochastic_depth(0.4), IMAGE, ("one by one",)),
    "unembed": (tied, (4, 6), ("integers",)),
    "upsample": (lambda: nn.upsample(2), IMAGE, ()),
    "upsample cubic": (lambda: nn.upsample(1.5, method="cubic"), IMAGE, ()),
    "weight_norm": (lambda: nn.weight_norm(nn.conv(3, 3)), IMAGE, ()),
    "embed padding": (lambda: nn.embed(7, 5, padding=2), ROW, ("integers",)),
    "embed": (lambda: nn.embed(7, 5), ROW, ("integers",)),
    "flatten": (lambda: nn.flatten(), IMAGE, ()),
    "global_avg_pool": (lambda: nn.global_avg_pool(), IMAGE, ()),
    "global_max_pool": (lambda: nn.global_max_pool(), IMAGE, ()),
    "group_norm": (lambda: nn.group_norm(2), IMAGE, ()),
    "group_norm plain": (lambda: nn.group_norm(2, scale=False, bias=False, eps=0.5), IMAGE, ()),
    "identity": (lambda: nn.identity(), ROW, ()),
    "instance_norm": (lambda: nn.instance_norm(eps=1e-2), IMAGE, ()),
    "layer_norm": (lambda: nn.layer_norm(), ROW, ()),
    "layer_norm of all": (lambda: nn.layer_norm(axis=-3, bias=False), IMAGE, ()),
    "lp_pool": (lambda: nn.lp_pool(2, ceil_mode=True), IMAGE, ()),
    "rms_norm": (lambda: nn.rms_norm(), ROW, ()),
    "max_pool": (lambda: nn.max_pool(2), IMAGE, ()),
    "max_pool same": (lambda: nn.max_pool(3, stride=1, padding="same"), (4, 7, 3), ()),
    "mixture_of_experts": (lambda: nn.mixture_of_experts(3, hidden=5), (2, 5, 4), ()),
    "mixture_of_experts few": (lambda: nn.mixture_of_experts(4, k=1, capacity_factor=0.8), (2, 5, 4), ()),
    "maxout": (lambda: nn.maxout(3), ROW, ()),
    "maxout of five": (lambda: nn.maxout(2, pieces=5, bias=False, preset="torch"), (2, 5, 4), ()),
    "pad": (lambda: nn.pad([(1, 2), (0, 1)], mode="replicate"), IMAGE, ()),
    "perceptron": (lambda: nn.perceptron(3), ROW, ()),
    "prelu": (lambda: nn.prelu(), IMAGE, ()),
    "prelu shared": (lambda: nn.prelu(shared=True, preset="flax"), ROW, ()),
    "serial": (lambda: nn.serial(nn.conv(4, 3, bias=False), nn.batch_norm(), nn.relu), IMAGE, ("one by one",)),
    "parallel": (lambda: nn.parallel(nn.dense(3), nn.dense(2), join="concatenate"), ROW, ()),
    "residual": (lambda: nn.residual(nn.dense(3), skip=nn.dense(3, bias=False)), ROW, ()),
    "repeat": (lambda: nn.repeat(nn.serial(nn.dense(6), nn.tanh), 3), ROW, ()),
    "remat": (lambda: nn.remat(nn.dense(3)), ROW, ()),
    "inference": (lambda: nn.inference(nn.dense(3)), ROW, ()),
    "cast": (lambda: nn.cast(nn.dense(3), jnp.float32), ROW, ("own dtype",)),
    "time_distributed": (lambda: nn.time_distributed(nn.dense(3)), (2, 5, 4), ()),
}
NOISES = ("dropout", "noise", "stochastic")
KEY = partial(jax.random.key, 3)
# The fast tier takes one case of each layer; variants ("conv groups") and what is built of other layers run with the
# slow ones.
BUILT = {
    "separable_conv",
    "conv_lstm",
    "encoder_block",
    "decoder_block",
    "spectral_norm",
    "repeat",
    "lora",
    "mixture_of_experts",
}
FEW = [pytest.param(case, marks=pytest.mark.slow) if " " in case or case in BUILT else case for case in CASES]
TRAIN = [pytest.param(False, marks=pytest.mark.slow), True]


def taken(case, dtype=jnp.float32, members=()):
    make, shape, exempt = ALL[case]
    if "integers" in exempt:
        return make(), jnp.asarray(np.random.default_rng(0).integers(0, 7, (*members, *shape)), jnp.int32)
    return make(), jnp.asarray(np.random.default_rng(0).standard_normal((*members, *shape)), dtype)


def without(*exemptions):
    return [name for name, (*_, exempt) in CASES.items() if not set(exempt) & set(exemptions)]


# Each case is compiled once for all tables: these are kept, and `conftest.py` puts the tests of a case one
# after the other.


def quick(f):
    return jax.jit(f, compiler_options=nn.compiler_options(quick=True))


@cache
def initialized(case):
    """(key, x) -> params, state."""
    return quick(ALL[case][0]().init)


@cache
def made(case):
    """A layer, an input, params and state."""
    model, x = taken(case)
    return model, x, *initialized(case)(KEY(), x)


@cache
def keyed(case):
    """(params, state, x, key) -> (y, state), training."""
    model = ALL[case][0]()
    return quick(lambda p, s, x, key: model.apply(p, s, x, key=key, train=True))


@cache
def applied(case, train=True):
    """(params, state, x) -> (y, state)."""
    model = ALL[case][0]()
    return quick(lambda p, s, x: model.apply(p, s, x, key=KEY() if train else None, train=train))


@cache
def gradients(case, train=True):
    """(params, state, x) -> value and gradients of a loss that sees every output; of x where it is floating."""
    model = ALL[case][0]()

    def loss(params, x, state):
        y, _ = model.apply(params, state, x, key=KEY(), train=train)
        return jnp.sum(y * (1 + y))

    def of(params, state, x):
        which = (0, 1) if jnp.issubdtype(x.dtype, jnp.floating) else 0
        return jax.value_and_grad(loss, which)(params, x, state)

    return quick(of)


def assert_same(got, want, **how):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if jnp.issubdtype(a.dtype, jnp.inexact):
            assert_close(a, b, **how)
        else:
            np.testing.assert_array_equal(a, b)  # a count of steps


def shapes(tree):
    return jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), tree)


# What only the columns beside the first file take: layers with a state that moves in inference, and carries.
CACHED = {
    "attention cache": (lambda: nn.attention(2, causal=True, cache=8), (2, 3, 4), ("one by one",)),
    "lstm cached": (lambda: nn.lstm(3, cached=True), (2, 3, 4), ("one by one",)),
    "learned_positions cached": (lambda: nn.learned_positions(7, cached=True), (2, 3, 4), ("one by one",)),
    "sinusoidal_positions cached": (lambda: nn.sinusoidal_positions(cached=True), (2, 3, 4), ("one by one",)),
}
ALL = CASES | CACHED

# name -> the sizes of x that are free where a model is exported, and what they are held to. Others have all free but
# the channels, or but all from the third axis on where their shape is of one row.
FREE = {
    "adaptive_avg_pool": "n, _, _, _",  # its bins are as many as it says, their places computed from the size
    "adaptive_max_pool": "n, _, _, _",
    "avg_pool same": "n, t, _",
    "conv_lstm": "n, t, h, w, _",
    "conv 3-d": "n, d, h, w, _",
    "embed": "n, t",
    "embed padding": "n, t",
    "layer_norm of all": "n, _, _, _",  # scale has the shape of what it normalises
    "max_pool same": "n, t, _",
    "mixture_of_experts few": "n, _, _",  # its capacity is computed from the size
    "patches": "n, 2*h, 3*w, _",
    "space_to_depth": "n, 2*h, 2*w, _",
    "upsample cubic": "n, 2*h, 2*w, _",
    "learned_positions": "n, t, _",
    **dict.fromkeys(CACHED, "_, t, _"),  # the state holds as many rows as x
}
BOUNDS = {"learned_positions": ("t <= 7",), **dict.fromkeys(CACHED, ("t <= 7",))}


def free_sizes(case):
    """How `jax.export.symbolic_shape` has it, and the constraints."""
    shape = ALL[case][1]
    usual = {2: "n, _", 3: "n, t, _", 4: "n, h, w, _"}.get(len(shape), "n, ...")
    sizes = FREE.get(case, usual)
    names = [size for size in ("t", "d", "h", "w") if size in sizes]
    least = 2 if "*" in sizes or "d" in names else 4  # x itself has to fit
    return sizes, (*(f"{name} >= {least}" for name in names if name != "t"), *BOUNDS.get(case, ()))


def sequential(case):
    """Whether axis 1 of x is time, of any length."""
    return "t" in FREE.get(case, "n, t, _" if len(ALL[case][1]) == 3 else "")
