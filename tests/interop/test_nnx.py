"""Modules of flax.nnx as layers: equal outputs, trained, swept and saved as layers of the library."""

from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn
from jaxnn.interop import as_nnx, nnx_module

nnx = pytest.importorskip("flax.nnx", reason="flax is not installed: modules of nnx are not tested")

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (6, 5))


class Net(nnx.Module):
    def __init__(self, rngs, features=4):
        self.layers = nnx.List([nnx.Linear(5, 8, rngs=rngs), nnx.Linear(8, features, rngs=rngs)])
        self.norm, self.dropout = nnx.BatchNorm(8, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.layers[1](self.dropout(nnx.relu(self.norm(self.layers[0](x)))))


class Noisy(nnx.Module):
    def __init__(self, rngs):
        self.rngs, self.calls = rngs.noise.fork(), nnx.Variable(jnp.int32(0))

    def __call__(self, x, *, train=False):
        self.calls[...] += 1
        return x + jax.random.normal(self.rngs(), x.shape) if train else x


def close(got, want):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, want)


def filled(params, state, key=None):
    """The module itself, made by nnx, with params and state of the layer and a key for its dropout."""
    module = Net(nnx.Rngs(0))
    for i, linear in enumerate(module.layers):
        linear.kernel[...], linear.bias[...] = (params["layers"][str(i)][part] for part in ("kernel", "bias"))
    for part in ("scale", "bias"):
        getattr(module.norm, part)[...] = params["norm"][part]
    for part in ("mean", "var"):
        getattr(module.norm, part)[...] = state["norm"][part]
    if key is not None:
        module.dropout.rngs.key[...] = jax.random.fold_in(key, crc32(b"dropout/rngs/key"))
        module.dropout.rngs.count[...] = jnp.uint32(0)
    return module


@pytest.fixture
def plain():
    """Default promotion, in which nnx itself runs."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_outputs_gradients_and_state_are_those_of_the_module(plain):
    model = nnx_module(Net)
    params, state = model.init(KEY, X)
    assert set(params) == {"layers", "norm"}
    assert set(params["layers"]) == {"0", "1"}
    assert jax.tree.map(jnp.shape, state) == {"norm": {"mean": (8,), "var": (8,)}}
    assert (params["layers"]["0"]["kernel"] != model.init(jax.random.key(1), X)[0]["layers"]["0"]["kernel"]).all()

    y, same = jax.jit(model.apply)(params, state, X)
    theirs = filled(params, state)
    theirs.eval()
    close(y, theirs(X))
    close(same, state)

    @jax.jit
    def ours(params, key):
        def loss(params):
            y, new = model.apply(params, state, X, key=key, train=True)
            return jnp.square(y).sum(), (y, new)

        return jax.grad(loss, has_aux=True)(params)

    @nnx.jit
    def wanted(module):
        return nnx.grad(lambda m: (jnp.square(y := m(X)).sum(), y), has_aux=True)(module)

    grads, (y, new) = ours(params, KEY)
    theirs = filled(params, state, KEY)
    theirs.train()
    expected, z = wanted(theirs)
    close(y, z)
    assert (np.asarray(y) != np.asarray(ours(params, jax.random.key(1))[1][0])).any()
    for part in ("mean", "var"):
        close(new["norm"][part], getattr(theirs.norm, part).get_value())
        assert (new["norm"][part] != state["norm"][part]).all()
    for i in ("0", "1"):
        close(grads["layers"][i], {k: v.get_value() for k, v in expected["layers"][int(i)].items()})
    close(grads["norm"], {k: v.get_value() for k, v in expected["norm"].items()})


@pytest.mark.slow
def test_under_vmap_and_scan_as_one_after_the_other():
    model = nn.serial(nn.dense(5), nnx_module(Net), nn.log_softmax)
    params, state = model.init(KEY, X)
    keys = jax.random.split(KEY, 3)

    def step(state, key):
        y, state = model.apply(params, state, X, key=key, train=True)
        return state, y

    last, ys = jax.jit(lambda: jax.lax.scan(step, state, keys))()
    close(jax.jit(jax.vmap(lambda key: step(state, key)[1]))(keys), ys)
    assert (ys[0] != ys[1]).any()
    single = jax.jit(step)
    for key, y in zip(keys, ys, strict=True):
        state, z = single(state, key)
        close(y, z)
    close(last, state)


def test_a_module_with_its_arrays_and_calls_with_flags_and_rngs():
    module = nnx.Linear(5, 3, rngs=nnx.Rngs(7))
    params, state = nnx_module(module).init(KEY, X)
    np.testing.assert_array_equal(params["kernel"], module.kernel.get_value())
    assert state == {}

    noisy = nnx_module(Noisy)
    params, state = noisy.init(KEY, X)
    assert (params, state) == ({}, {"calls": 0})
    y, same = noisy.apply(params, state, X)
    assert same is state
    close(y, X)
    y, new = noisy.apply(params, state, X, key=KEY, train=True)
    assert (y != X).all()
    assert new == {"calls": 1}

    dropped, _ = nnx_module(nnx.Dropout(0.5)).apply({}, {}, X, key=KEY, train=True)
    assert (np.asarray(dropped) == 0).any()


@pytest.mark.slow
def test_it_is_trained_swept_and_saved(tmp_path):
    data = X, jnp.arange(6) % 4

    def member(rate):
        return nn.trainer(nnx_module(Net), nn.losses.softmax_cross_entropy, nn.adam(rate))

    run = nn.fit(member(1e-2), KEY, data, epochs=3, batch_size=3)
    assert (run.ts.params["layers"]["1"]["bias"] != 0).all()
    nn.save(tmp_path / "run", run)
    loaded = nn.load(tmp_path / "run", like=run)
    jax.tree.map(np.testing.assert_array_equal, loaded.ts.params, run.ts.params)
    found = nn.sweep(lambda rate: nn.fit(member(rate), KEY, data, epochs=1, batch_size=3), jnp.array([1e-3, 1e-2]))
    assert found.results.ts.params["norm"]["scale"].shape == (2, 8)
    assert "Net" in str(nn.summary(nn.serial(nnx_module(Net)), X))


BOTH = nn.serial(nn.dense(8), nn.batch_norm(), nn.relu, nn.dropout(0.5), nn.dense(3))


def test_layers_as_modules():
    rngs = nnx.Rngs(0)
    params, state = BOTH.init(nnx.Rngs(0).params(), X)
    module = as_nnx(BOTH, X, rngs=rngs)
    first = jax.random.fold_in(module.rngs.key.get_value(), jnp.uint32(0))

    @nnx.jit
    def step(module):
        return nnx.grad(lambda m: (jnp.square(y := m(X)).sum(), y), has_aux=True)(module)

    def ours(params):
        y, new = BOTH.apply(params, state, X, key=first, train=True)
        return jnp.square(y).sum(), (y, new)

    grads, y = step(module)
    wanted, (z, new) = jax.jit(jax.grad(ours, has_aux=True))(params)
    close(y, z)
    close(nnx.to_pure_dict(grads)["params"], wanted)
    close(nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))["state"], new)
    assert (step(module)[1] != y).any()
    assert "state" not in nnx.to_pure_dict(nnx.state(module, nnx.Param))
    assert nnx.view(module, deterministic=True).deterministic
    assert not module.deterministic
    module.eval()
    state = nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))["state"]
    close(module(X), BOTH.apply(params, state, X)[0])
    close(nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))["state"], state)


@pytest.mark.slow
def test_layers_inside_modules_and_back():
    class Around(nnx.Module):
        def __init__(self, rngs):
            self.inner = as_nnx(nn.lstm(4, last=True), jnp.ones((1, 2, 3)), rngs=rngs)
            self.last = nnx.Linear(4, 2, use_bias=False, rngs=rngs)

        def __call__(self, x):
            return self.last(self.inner(x))

    x, back = jnp.ones((2, 5, 3)), nnx_module(Around)
    params, state = back.init(KEY, x)
    assert params["inner"]["params"]["w_x"].shape == (3, 16)
    inner = nn.lstm(4, last=True).apply(params["inner"]["params"], {}, x)[0]
    close(back.apply(params, state, x)[0], inner @ params["last"]["kernel"])


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda: nnx_module(3),
            TypeError,
            "nnx_module: expected a flax.nnx.Module, or a function of an nnx.Rngs that makes one, got 3.",
        ),
        (
            lambda: nnx_module(Noisy, flag="deterministic"),
            ValueError,
            "nnx_module: expected flag to be an argument of the module's call, x, train, got 'deterministic'.",
        ),
        (
            lambda: nnx_module(Noisy).apply({}, {"calls": jnp.int32(0)}, X, train=True),
            ValueError,
            "Noisy: expected a key, from which the module draws, got None. Pass key= to apply.",
        ),
        (
            lambda: nnx_module(lambda rngs: 3),
            TypeError,
            "nnx_module: expected a flax.nnx.Module, or a function of an nnx.Rngs that makes one, got 3.",
        ),
        (
            lambda: as_nnx(3, X, rngs=nnx.Rngs(0)),
            TypeError,
            "as_nnx: expected a Layer or a function of one input, got 3.",
        ),
    ],
)
def test_errors(make, error, text):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == text
