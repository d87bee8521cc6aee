"""Every public layer against everything a layer is used with."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from jax.test_util import check_grads

import jaxnn as nn

IMAGE, ROW = (4, 6, 6, 4), (4, 6)


def _with_context(block):
    """A decoder block that looks at its own input."""

    def apply(params, state, x, *, key=None, train=False):
        y, state = nn.call(block, "block", params, state, {"x": x, "context": x}, key=key, train=train)
        return y["x"], state

    return nn.layer(None, apply, "decoder")


# name -> its layer, the shape of x, what it is exempt from
CASES = {
    "adaptive_avg_pool": (lambda: nn.adaptive_avg_pool(4), IMAGE, ()),
    "adaptive_max_pool": (lambda: nn.adaptive_max_pool((3, 2)), IMAGE, ()),
    "alpha_dropout": (lambda: nn.alpha_dropout(0.3), ROW, ("one by one",)),
    "attention": (lambda: nn.attention(2), (2, 5, 4), ()),
    "attention of few": (
        lambda: nn.attention(4, kv_heads=2, size=2, features=3, causal=True, rotary=True, bias=False, init="keras"),
        (2, 5, 6),
        (),
    ),
    "avg_pool": (lambda: nn.avg_pool(2), IMAGE, ()),
    "avg_pool same": (lambda: nn.avg_pool(3, stride=2, padding="same"), (4, 7, 3), ()),
    "batch_norm": (lambda: nn.batch_norm(), ROW, ("one by one",)),
    "batch_norm image": (lambda: nn.batch_norm(momentum=0.5, eps=1e-3), IMAGE, ("one by one",)),
    "conv": (lambda: nn.conv(3, 3), IMAGE, ()),
    "conv 1-d": (lambda: nn.conv(5, 3, stride=2, dilation=2, bias=False), (4, 9, 2), ()),
    "conv 3-d": (lambda: nn.conv(2, 2, padding="valid"), (2, 3, 4, 3, 2), ()),
    "conv groups": (lambda: nn.conv(6, (3, 2), groups=2, padding=1), IMAGE, ()),
    "conv causal": (lambda: nn.conv(3, 3, padding="causal", dilation=2), (2, 7, 4), ()),
    "conv_lstm": (lambda: nn.conv_lstm(2, 3), (2, 3, 4, 4, 2), ()),
    "conv_transpose": (lambda: nn.conv_transpose(3, 3, stride=2), IMAGE, ()),
    "conv_transpose groups": (lambda: nn.conv_transpose(4, 2, groups=2, padding="valid", init="torch"), (2, 5, 4), ()),
    "decoder_block": (lambda: _with_context(nn.decoder_block(2)), (2, 5, 4), ()),
    "dense": (lambda: nn.dense(3), ROW, ()),
    "dense sequence": (lambda: nn.dense(3, bias=False), (2, 5, 4), ()),
    "dropout": (lambda: nn.dropout(0.4), ROW, ("one by one",)),
    "depth_to_space": (lambda: nn.depth_to_space(2), IMAGE, ()),
    "depthwise_conv": (lambda: nn.depthwise_conv(3, multiplier=2, stride=2), IMAGE, ()),
    "depthwise_conv large": (lambda: nn.depthwise_conv(127, padding="causal", bias=False), (2, 9, 3), ()),
    "encoder_block": (lambda: nn.encoder_block(2, hidden=6, norm=nn.rms_norm), (2, 5, 4), ()),
    "encoder_block dropout": (lambda: nn.encoder_block(2, rate=0.3, causal=True), (2, 5, 4), ("one by one",)),
    "gaussian_noise": (lambda: nn.gaussian_noise(0.5), ROW, ("one by one",)),
    "gru": (lambda: nn.gru(3), (2, 5, 4), ()),
    "gru before": (lambda: nn.gru(3, reset="before", layers=2, last=True, init="torch"), (2, 5, 4), ()),
    "learned_positions": (lambda: nn.learned_positions(7), (2, 5, 4), ()),
    "local_response_norm": (lambda: nn.local_response_norm(3, alpha=0.1), IMAGE, ()),
    "lstm": (lambda: nn.lstm(3, bidirectional=True), (2, 5, 4), ()),
    "lstm projected": (lambda: nn.lstm(4, projection=2, peephole=True, layers=2), (2, 5, 4), ()),
    "patches": (lambda: nn.patches(5, (2, 3)), IMAGE, ()),
    "rnn": (lambda: nn.rnn(3, bias=False), (2, 5, 4), ()),
    "separable_conv": (lambda: nn.separable_conv(3, 3), IMAGE, ()),
    "sinusoidal_positions": (lambda: nn.sinusoidal_positions(), (2, 5, 4), ()),
    "space_to_depth": (lambda: nn.space_to_depth(2, order="crr"), IMAGE, ()),
    "spatial_dropout": (lambda: nn.spatial_dropout(0.4), IMAGE, ("one by one",)),
    "spectral_norm": (lambda: nn.spectral_norm(nn.serial(nn.dense(5), nn.tanh, nn.dense(3))), ROW, ("held",)),
    "stochastic_depth": (lambda: nn.stochastic_depth(0.4), IMAGE, ("one by one",)),
    "upsample": (lambda: nn.upsample(2), IMAGE, ()),
    "upsample cubic": (lambda: nn.upsample(1.5, method="cubic"), IMAGE, ()),
    "weight_norm": (lambda: nn.weight_norm(nn.conv(3, 3)), IMAGE, ()),
    "embed padding": (lambda: nn.embed(7, 5, padding=2), ROW, ("integers",)),
    "embed": (lambda: nn.embed(7, 5), ROW, ("integers",)),
    "flatten": (lambda: nn.flatten(), IMAGE, ()),
    "global_avg_pool": (lambda: nn.global_avg_pool(), IMAGE, ()),
    "global_max_pool": (lambda: nn.global_max_pool(), IMAGE, ()),
    "group_norm": (lambda: nn.group_norm(2), IMAGE, ()),
    "instance_norm": (lambda: nn.instance_norm(eps=1e-2), IMAGE, ()),
    "layer_norm": (lambda: nn.layer_norm(), ROW, ()),
    "layer_norm of all": (lambda: nn.layer_norm(axis=-3, bias=False), IMAGE, ()),
    "lp_pool": (lambda: nn.lp_pool(2, ceil_mode=True), IMAGE, ()),
    "rms_norm": (lambda: nn.rms_norm(), ROW, ()),
    "max_pool": (lambda: nn.max_pool(2), IMAGE, ()),
    "max_pool same": (lambda: nn.max_pool(3, stride=1, padding="same"), (4, 7, 3), ()),
    "maxout": (lambda: nn.maxout(3), ROW, ()),
    "maxout of five": (lambda: nn.maxout(2, pieces=5, bias=False, init="torch"), (2, 5, 4), ()),
    "perceptron": (lambda: nn.perceptron(3), ROW, ()),
    "prelu": (lambda: nn.prelu(), IMAGE, ()),
    "prelu shared": (lambda: nn.prelu(shared=True, init="flax"), ROW, ()),
    "serial": (lambda: nn.serial(nn.conv(4, 3, bias=False), nn.batch_norm(), nn.relu), IMAGE, ("one by one",)),
    "parallel": (lambda: nn.parallel(nn.dense(3), nn.dense(2), join="concatenate"), ROW, ()),
    "residual": (lambda: nn.residual(nn.dense(3), skip=nn.dense(3, bias=False)), ROW, ()),
    "repeat": (lambda: nn.repeat(nn.serial(nn.dense(6), nn.tanh), 3), ROW, ()),
    "remat": (lambda: nn.remat(nn.dense(3)), ROW, ()),
    "cast": (lambda: nn.cast(nn.dense(3), jnp.float32), ROW, ("own dtype",)),
    "time_distributed": (lambda: nn.time_distributed(nn.dense(3)), (2, 5, 4), ()),
}
NOISES = ("dropout", "noise", "stochastic")
KEY = partial(jax.random.key, 3)
# The fast tier takes one case of each layer; variants ("conv groups") and what is built of other layers run with the
# slow ones.
BUILT = {"separable_conv", "conv_lstm", "encoder_block", "decoder_block", "spectral_norm", "repeat"}
FEW = [pytest.param(case, marks=pytest.mark.slow) if " " in case or case in BUILT else case for case in CASES]
TRAIN = [pytest.param(False, marks=pytest.mark.slow), True]


def taken(case, dtype=jnp.float32, members=()):
    make, shape, exempt = CASES[case]
    if "integers" in exempt:
        return make(), jnp.asarray(np.random.default_rng(0).integers(0, 7, (*members, *shape)), jnp.int32)
    return make(), jnp.asarray(np.random.default_rng(0).standard_normal((*members, *shape)), dtype)


def without(*exemptions):
    return [name for name, (*_, exempt) in CASES.items() if not set(exempt) & set(exemptions)]


def assert_same(got, want, **how):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert_close(a, b, **how)


def shapes(tree):
    return jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), tree)


def test_every_public_layer_has_a_row():
    public = {n for n in nn.__all__ if callable(f := getattr(nn, n)) and _makes_a_layer(f)}
    # what the others are made of, a view of a model, and many of them, which give no array (train/test_ensemble.py)
    not_factories = {"capture", "layer", "lift", "ensemble"}
    assert {name.split()[0] for name in CASES} == public - not_factories


def _makes_a_layer(f):
    return inspect.isfunction(f) and inspect.signature(f).return_annotation is nn.Layer


@pytest.mark.parametrize("train", TRAIN)
@pytest.mark.parametrize("case", FEW)
def test_eager_is_jit_traced_once_with_the_shapes_foretold(case, train):
    model, x = taken(case)
    params, state = model.init(KEY(), x)
    traces = []

    @jax.jit
    def apply(params, state, x, key):
        traces.append(1)
        return model.apply(params, state, x, key=key, train=train)

    eager = model.apply(params, state, x, key=KEY(), train=train)
    assert_same(apply(params, state, x, KEY()), eager)
    again = apply(params, eager[1], x + jnp.ones((), x.dtype), KEY())
    assert len(traces) == 1
    assert shapes(again[1]) == shapes(eager[1]) == shapes(state)
    assert jax.eval_shape(partial(model.apply, train=train), params, state, x, key=KEY()) == shapes(eager)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_init_from_shapes_and_under_jit_gives_the_same_numbers(case):
    model, x = taken(case)
    made = model.init(KEY(), x)
    for a, b in zip(
        *(jax.tree.leaves(m) for m in (made, model.init(KEY(), jax.ShapeDtypeStruct(x.shape, x.dtype)))), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert_same(jax.jit(lambda key: model.init(key, x))(KEY()), made)
    assert jax.eval_shape(lambda key: model.init(key, x), KEY()) == shapes(made)
    others = model.init(jax.random.key(4), x)[0]
    assert "w" not in made[0] or not np.array_equal(made[0]["w"], others["w"])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_same_key_same_output(case):
    model, x = taken(case)
    params, state = model.init(KEY(), x)
    one, two, other = (model.apply(params, state, x, key=jax.random.key(k), train=True)[0] for k in (3, 3, 4))
    np.testing.assert_array_equal(one, two)
    assert np.array_equal(one, other) == (not any(noise in case for noise in NOISES))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_vmap_over_params_state_and_keys_is_one_by_one(case):
    model, xs = taken(case, members=(3,))
    keys = jax.random.split(KEY(), 3)
    params, state = jax.vmap(model.init, (0, None))(keys, jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype))
    apply = jax.jit(lambda p, s, x, k: model.apply(p, s, x, key=k, train=True))
    got = jax.vmap(apply)(params, state, xs, keys)
    each = [apply(*jax.tree.map(lambda v, i=i: v[i], (params, state, xs, keys))) for i in range(3)]
    assert_same(got, jax.tree.map(lambda *v: jnp.stack(v), *each))


@pytest.mark.parametrize("case", without("one by one"))
@pytest.mark.slow
def test_a_batch_is_its_examples(case):
    model, x = taken(case)
    params, state = model.init(KEY(), x)
    apply = jax.jit(lambda x: model.apply(params, state, x, train=True)[0])
    assert_close(apply(x), np.concatenate([apply(x[i : i + 1]) for i in range(len(x))]))


@pytest.mark.parametrize("case", ["batch_norm", "batch_norm image", "dropout", "serial"])
def test_a_batch_is_its_examples_when_not_training(case):
    model, x = taken(case)
    params, state = model.init(KEY(), x)
    apply = jax.jit(lambda x: model.apply(params, state, x, train=False)[0])
    assert_close(apply(x), np.concatenate([apply(x[i : i + 1]) for i in range(len(x))]))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
@pytest.mark.parametrize("case", without("integers"))
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_the_output_has_the_dtype_of_x_and_params_at_least_float32(case, dtype):
    model, x = taken(case, dtype)
    params, state = model.init(KEY(), x)
    at_least = jnp.float64 if dtype == jnp.float64 else jnp.float32
    assert {v.dtype for v in jax.tree.leaves((params, state))} <= {jnp.dtype(at_least)}
    apply = jax.jit(partial(model.apply, train=True))
    y, new = apply(params, state, x, key=KEY())
    assert (y.dtype, shapes(new)) == (dtype, shapes(state))
    if "max_pool" not in case and "own dtype" not in CASES[case][2]:
        wide = jax.tree.map(lambda v: v.astype(jnp.float64), (params, state, x))
        assert_close(y, apply(*wide, key=KEY())[0])


@pytest.mark.parametrize("case", without("integers", "own dtype", "held"))  # held: it stops a gradient by design
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_gradients_are_differences(case):
    model, x = taken(case, jnp.float64)
    if "max_pool" in case:
        x = jnp.asarray(np.random.default_rng(0).permutation(x.size).reshape(x.shape) / x.size)
    params, state = model.init(KEY(), x)
    f = jax.jit(lambda p, x: model.apply(p, state, x, key=KEY(), train=True)[0])
    check_grads(f, (params, x), order=1, modes=["fwd", "rev"], eps=1e-5, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_train_must_not_be_traced(case):
    model, x = taken(case)
    params, state = model.init(KEY(), x)
    with pytest.raises(TypeError) as caught:
        jax.jit(lambda train: model.apply(params, state, x, train=train))(True)
    assert str(caught.value) == (
        f"{model.name}: expected train to be a Python bool, got a traced value. "
        "Bind it before the transformation: functools.partial(model.apply, train=True), or static_argnames."
    )
