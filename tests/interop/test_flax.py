"""Modules of flax.linen as layers: equal outputs, trained, swept and saved as layers of the library."""

from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

import jaxnn as nn
from jaxnn.interop import as_flax, flax_module

linen = pytest.importorskip("flax.linen", reason="flax is not installed: modules of flax are not tested")

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (6, 5))


class Net(linen.Module):
    features: int = 4

    @linen.compact
    def __call__(self, x, train: bool):
        x = linen.Dense(8)(x)
        x = linen.BatchNorm(use_running_average=not train)(x)
        x = linen.Dropout(0.5, deterministic=not train)(linen.relu(x))
        return linen.Dense(self.features)(x)


class Deterministic(linen.Module):
    @linen.compact
    def __call__(self, x, *, deterministic: bool = True):
        return linen.Dropout(0.5)(linen.Dense(3)(x), deterministic=deterministic)


class Boxed(linen.Module):
    @linen.compact
    def __call__(self, x):
        init = linen.with_partitioning(linen.initializers.ones, (None, "model"))
        self.sow("intermediates", "x", x)
        return x @ self.param("w", init, (x.shape[-1], 2))


def close(got, want):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), got, want)


def test_outputs_and_state_are_those_of_the_module():
    model = flax_module(Net())
    params, state = model.init(KEY, jax.ShapeDtypeStruct(X.shape, X.dtype))
    assert set(params) == {"Dense_0", "BatchNorm_0", "Dense_1"}
    assert set(state) == {"batch_stats"}
    variables = {"params": params, **state}

    y, same = model.apply(params, state, X)
    close(y, Net().apply(variables, X, train=False))
    assert same is state

    y, changed = jax.jit(lambda *a: model.apply(*a, key=KEY, train=True))(params, state, X)
    rngs = {"dropout": jax.random.fold_in(KEY, crc32(b"dropout"))}
    close((y, changed), Net().apply(variables, X, train=True, rngs=rngs, mutable=["batch_stats"]))
    assert jax.tree.structure(changed) == jax.tree.structure(state)
    assert not np.allclose(changed["batch_stats"]["BatchNorm_0"]["mean"], state["batch_stats"]["BatchNorm_0"]["mean"])


def test_flags_by_their_names():
    params, state = flax_module(Deterministic()).init(KEY, X)
    trained = flax_module(Deterministic(), flag="deterministic").apply(params, state, X, key=KEY, train=True)[0]
    assert (np.asarray(trained) == 0).any()
    assert (np.asarray(flax_module(Deterministic()).apply(params, state, X)[0]) != 0).all()


def test_boxes_are_opened_and_intermediates_left_out():
    model = flax_module(Boxed(), name="mine")
    params, state = model.init(KEY, X)
    assert model.name == "mine"
    assert type(params["w"]) is not linen.Partitioned
    assert state == {}
    close(model.apply(params, state, X, train=True)[0], X @ np.ones((5, 2)))


@pytest.mark.slow
def test_inside_other_layers_and_of_bfloat16():
    model = nn.serial(nn.dense(5), flax_module(Net()), nn.log_softmax)
    params, state = model.init(KEY, X)
    assert set(params) == {"dense", "Net"}
    y = jax.vmap(lambda key: model.apply(params, state, X, key=key, train=True)[0])(jax.random.split(KEY, 3))
    assert y.shape == (3, 6, 4)
    assert (y[0] != y[1]).any()
    half = flax_module(linen.Dense(3, dtype=jnp.bfloat16))
    assert half.apply(*half.init(KEY, X), X)[0].dtype == jnp.bfloat16
    assert "Net" in str(nn.summary(model, X))


DIGITS = load_digits(return_X_y=True)
DATA = (DIGITS[0][:512] / 16).astype(np.float32), DIGITS[1][:512].astype(np.int32)


@pytest.mark.slow
def test_it_learns_digits_and_is_swept_and_saved(tmp_path):
    def member(rate):
        return nn.trainer(flax_module(Net(10)), nn.losses.softmax_cross_entropy, nn.adam(rate), metrics=METRICS)

    run = nn.fit(member(1e-2), KEY, DATA, DATA, epochs=8, batch_size=64)
    assert run.history["valid"]["accuracy"][-1] > 0.85
    nn.save(tmp_path / "run", run)
    loaded = nn.load(tmp_path / "run", like=run)
    jax.tree.map(np.testing.assert_array_equal, loaded.best.params, run.best.params)
    found = nn.sweep(lambda rate: nn.fit(member(rate), KEY, DATA, epochs=1, batch_size=64), jnp.array([1e-3, 1e-2]))
    assert found.results.ts.params["Dense_0"]["kernel"].shape == (2, 64, 8)


BOTH = nn.serial(nn.dense(8), nn.batch_norm(), nn.relu, nn.dropout(0.5), nn.dense(3))


def test_layers_as_modules():
    module = as_flax(BOTH)
    variables = module.init({"params": KEY, "dropout": KEY}, X)
    params, state = BOTH.init(KEY, X)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, {"params": params, "state": state})
    ours = {"params": params, "state": state}
    close(module.apply(ours, X), BOTH.apply(params, state, X)[0])

    def step(ours):
        def loss(params):
            y, changed = module.apply(
                {**ours, "params": params}, X, train=True, rngs={"dropout": KEY}, mutable=["state"]
            )
            return jnp.square(y).sum(), (y, changed)

        return jax.grad(loss, has_aux=True)(ours["params"])

    grads, (y, changed) = jax.jit(step)(ours)
    assert jax.tree.structure(grads) == jax.tree.structure(params)
    assert (np.asarray(y) != np.asarray(BOTH.apply(params, state, X)[0])).any()
    mean = 0.9 * state["batch_norm"]["mean"] + 0.1 * (X @ params["dense"]["w"] + params["dense"]["b"][None]).mean(0)
    close(changed["state"]["batch_norm"]["mean"], mean)
    assert "state" not in as_flax(nn.relu).init(KEY, X)


class Around(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(2)(as_flax(nn.lstm(4, last=True), name="inner")(x))


@pytest.mark.slow
def test_layers_inside_modules_and_back():
    x = jnp.ones((2, 5, 3))
    variables = Around().init(KEY, x)
    assert variables["params"]["inner"]["w_x"].shape == (3, 16)
    close(
        nn.lstm(4, last=True).apply(variables["params"]["inner"], {}, x)[0] @ variables["params"]["Dense_0"]["kernel"],
        Around().apply(variables, x),
    )
    back = flax_module(as_flax(BOTH))
    params, state = back.init(KEY, X)
    close(back.apply(params, state, X)[0], BOTH.apply(params, state["state"], X)[0])


METRICS = {"accuracy": nn.metrics.accuracy}


class Own(linen.Module):
    @linen.compact
    def __call__(self, x, mode: bool = False):
        return x


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda: flax_module(linen.Dense),
            TypeError,
            "flax_module: expected a flax.linen.Module, got the class Dense. Call it: Dense(...).",
        ),
        (lambda: flax_module(3), TypeError, "flax_module: expected a flax.linen.Module, got 3."),
        (
            lambda: flax_module(Net(), flag="deterministic"),
            ValueError,
            "flax_module: expected flag to be an argument of the module's call, x, train, got 'deterministic'.",
        ),
        (
            lambda: flax_module(Own(), flag="mode"),
            ValueError,
            "flax_module: expected flag to be one of 'train', 'training', 'is_training', 'deterministic', "
            "'use_running_average', 'inference', 'eval', got 'mode'.",
        ),
        (
            lambda: flax_module(Net(), rngs="dropout"),
            TypeError,
            "flax_module: expected rngs to be a sequence of names, got 'dropout'. Pass a tuple of str.",
        ),
        (lambda: as_flax(3), TypeError, "as_flax: expected a Layer or a function of one input, got 3."),
        (lambda: flax_module(Net(), flag=1), TypeError, "flax_module: expected flag to be a name or None, got 1."),
    ],
)
def test_errors(make, error, text):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == text
