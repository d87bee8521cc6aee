"""Modules of Equinox as layers: equal outputs, trained, swept and saved as layers of the library."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

import jaxnn as nn
from jaxnn.interop import as_equinox, equinox_module

eqx = pytest.importorskip("equinox", reason="equinox is not installed: modules of Equinox are not tested")

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (6, 5))


class Net(eqx.Module):
    first: eqx.nn.Linear
    dropout: eqx.nn.Dropout
    last: eqx.nn.Linear
    steps: jax.Array

    def __init__(self, size, features, key):
        a, b = jax.random.split(key)
        self.first, self.last = eqx.nn.Linear(size, 32, key=a), eqx.nn.Linear(32, features, key=b)
        self.dropout, self.steps = eqx.nn.Dropout(0.2), jnp.arange(3)

    def __call__(self, x, key):
        return self.last(self.dropout(jax.nn.relu(self.first(x)), key=key))


class Normed(eqx.Module):
    linear: eqx.nn.Linear
    norm: eqx.nn.BatchNorm

    def __init__(self, key):
        self.linear, self.norm = eqx.nn.Linear(5, 4, key=key), eqx.nn.BatchNorm(4, "batch", mode="batch")

    def __call__(self, x, state):
        return self.norm(self.linear(x), state)


def close(got, want):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), got, want)


def arrays(module):
    return [x for x in jax.tree.leaves(module) if eqx.is_inexact_array(x)]


def test_outputs_are_those_of_the_module():
    module = Net(5, 4, KEY)
    for model in (equinox_module(lambda key: Net(5, 4, key)), equinox_module(module)):
        params, state = model.init(KEY, X)
        assert set(params) == {"first", "last"}
        assert set(params["first"]) == {"weight", "bias"}
        assert state["buffers"]["steps"].tolist() == [0, 1, 2]
        assert len(jax.tree.leaves(params)) == len(arrays(module))
        y, same = model.apply(params, state, X)
        plain = eqx.nn.inference_mode(module)
        close(y, jax.vmap(lambda x, plain=plain: plain(x, None))(X))
        assert same == state
        y, _ = jax.jit(lambda *a, model=model: model.apply(*a, key=KEY, train=True))(params, state, X)
        close(y, jax.vmap(module)(X, jax.random.split(KEY, 6)))


def test_a_function_draws_params_from_the_key():
    model = equinox_module(lambda key: Net(5, 4, key))
    one, two = (model.init(jax.random.key(seed), X)[0]["first"]["weight"] for seed in (0, 1))
    assert (one != two).all()
    fixed = equinox_module(Net(5, 4, KEY))
    assert (fixed.init(jax.random.key(1), X)[0]["first"]["weight"] == one).all()


@pytest.mark.slow
def test_state_changes_in_training_alone():
    model = equinox_module(lambda key: eqx.nn.make_with_state(Normed)(key))
    params, state = model.init(KEY, X)
    module, memory = eqx.nn.make_with_state(Normed)(KEY)
    y, changed = model.apply(params, state, X, key=KEY, train=True)
    want, after = jax.vmap(module, (0, None), (0, None), axis_name="batch")(X, memory)
    close(y, want)
    close(jax.tree.leaves(changed["state"]), jax.tree.leaves(after))
    assert jax.tree.structure(changed) == jax.tree.structure(state)
    y, same = model.apply(params, changed, X)
    plain = eqx.nn.inference_mode(module)
    close(y, jax.vmap(plain, (0, None), (0, None), axis_name="batch")(X, after)[0])
    assert same is changed


@pytest.mark.slow
def test_inside_other_layers_and_of_nothing():
    model = nn.serial(nn.dense(5), equinox_module(lambda key: eqx.nn.MLP(5, 2, 8, 2, key=key)), nn.tanh)
    params, state = model.init(KEY, X)
    assert set(params["MLP"]["layers"]) == {"0", "1", "2"}
    assert state == {}
    assert model.apply(params, state, X)[0].shape == (6, 2)
    assert model.apply(params, state, X[:0])[0].shape == (0, 2)
    assert "MLP" in str(nn.summary(model, X))


DIGITS = load_digits(return_X_y=True)
DATA = (DIGITS[0][:512] / 16).astype(np.float32), DIGITS[1][:512].astype(np.int32)


@pytest.mark.slow
def test_it_learns_digits_and_is_swept_and_saved(tmp_path):
    model = equinox_module(lambda key: Net(64, 10, key))

    def member(rate):
        return nn.trainer(
            model, nn.losses.softmax_cross_entropy, nn.adam(rate), metrics={"accuracy": nn.metrics.accuracy}
        )

    run = nn.fit(member(1e-2), KEY, DATA, DATA, epochs=8, batch_size=64)
    assert run.history["valid"]["accuracy"][-1] > 0.9
    nn.save(tmp_path / "run", run)
    loaded = nn.load(tmp_path / "run", like=run)
    jax.tree.map(np.testing.assert_array_equal, loaded.best.params, run.best.params)
    found = nn.sweep(lambda rate: nn.fit(member(rate), KEY, DATA, epochs=1, batch_size=64), jnp.array([1e-3, 1e-2]))
    assert found.results.ts.params["first"]["weight"].shape == (2, 32, 64)


EXPECTED = "an equinox.Module, a pair of module and state, or a function of a key that makes one"


@pytest.mark.parametrize(
    ("given", "got"),
    [(3, "3"), (lambda key: key, "key<fry>[]"), ((Net(5, 4, KEY), 3), None)],
    ids=["number", "function", "pair"],
)
def test_errors(given, got):
    with pytest.raises(TypeError) as caught:
        equinox_module(given)
    assert str(caught.value).startswith(f"equinox_module: expected {EXPECTED}, got ")
    assert got is None or str(caught.value).endswith(f"got {got}.")


BOTH = nn.serial(nn.dense(8), nn.batch_norm(), nn.relu, nn.dropout(0.5), nn.dense(3))


def test_layers_as_modules():
    module, memory = as_equinox(BOTH, KEY, X)
    params, state = BOTH.init(KEY, X)

    @eqx.filter_jit
    def step(module, memory, key):
        def loss(module):
            y, changed = module(X, memory, key=key)
            return jnp.square(y).sum(), (y, changed)

        return eqx.filter_grad(loss, has_aux=True)(module)

    def ours(params):
        y, new = BOTH.apply(params, state, X, key=KEY, train=True)
        return jnp.square(y).sum(), (y, new)

    grads, (y, changed) = step(module, memory, KEY)
    wanted, (z, new) = jax.jit(jax.grad(ours, has_aux=True))(params)
    for a, b in [(grads.params, wanted), (y, z), (changed.get(module.memory), new)]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), a, b)
    y, _ = eqx.nn.inference_mode(module)(X, changed)
    np.testing.assert_allclose(y, BOTH.apply(params, new, X)[0], rtol=1e-5, atol=1e-5)


class Around(eqx.Module):
    inner: eqx.Module
    last: eqx.nn.Linear

    def __call__(self, x):
        return jax.vmap(self.last)(self.inner(x))


def test_layers_inside_modules():
    first, second = jax.random.split(KEY)
    module = Around(as_equinox(nn.dense(4), first, X), eqx.nn.Linear(4, 2, key=second))
    params = nn.dense(4).init(first, X)[0]
    wanted = (X @ params["w"] + params["b"][None]) @ module.last.weight.T + module.last.bias[None]
    np.testing.assert_allclose(eqx.filter_jit(module)(X), wanted, rtol=1e-5, atol=1e-6)
