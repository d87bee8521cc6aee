"""Weights kept in another form, statistics over a whole set, and what noise does to a distribution."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn

KEY = partial(jax.random.key, 3)
X = jnp.asarray(np.random.default_rng(0).standard_normal((50, 6)), jnp.float32)
MLP = nn.serial(nn.dense(7), nn.tanh, nn.dense(3))


@pytest.mark.slow
def test_weight_norm_starts_as_the_layer_and_frees_the_length():
    plain, _ = MLP.init(KEY(), X)
    model = nn.weight_norm(MLP)
    params, state = model.init(KEY(), X)
    assert_close(model.apply(params, state, X)[0], MLP.apply(plain, {}, X)[0])
    scaled = jax.tree.map(lambda v: v, params)
    scaled["dense"]["w_v"] = 5 * scaled["dense"]["w_v"]
    assert_close(model.apply(scaled, state, X)[0], model.apply(params, state, X)[0])
    g = jax.grad(lambda p: model.apply(p, state, X)[0].sum())(params)["dense"]
    assert abs(float((g["w_v"] * params["dense"]["w_v"]).sum(0).max())) < 1e-4  # the gradient of v is across it
    scaled["dense"]["w_v"] = jnp.zeros_like(scaled["dense"]["w_v"])
    assert np.isfinite(model.apply(scaled, state, X)[0]).all()


def test_weight_norm_of_recurrent_weights():
    model = nn.weight_norm(nn.gru(4), param="w_h")
    x = X.reshape(5, 10, 6)
    params, state = model.init(KEY(), x)
    assert set(params) == {"w_x", "w_h_v", "w_h_g", "b", "b_h"}
    assert_close(model.apply(params, state, x)[0], nn.gru(4).apply(nn.gru(4).init(KEY(), x)[0], {}, x)[0])


@pytest.mark.parametrize("kernel_size", [None, 3])
@pytest.mark.slow
def test_spectral_norm_ends_with_a_largest_singular_value_of_one(kernel_size):
    child, x = (
        (nn.dense(9, bias=False), X)
        if kernel_size is None
        else (nn.conv(9, kernel_size, bias=False), X.reshape(5, 10, 6))
    )
    model = nn.spectral_norm(child)
    params, state = model.init(KEY(), x)
    state = jax.lax.fori_loop(0, 200, lambda i, s: model.apply(params, s, x, train=True)[1], state)
    w = params["w"]
    sigma = np.linalg.svd(w.reshape(-1, 9), compute_uv=False)[0]
    want, _ = child.apply({"w": w / sigma}, {}, x)
    got, same = model.apply(params, state, x)
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(same["w_u"], state["w_u"])


@pytest.mark.slow
def test_spectral_norm_beside_the_childs_own_state():
    model = nn.spectral_norm(nn.serial(nn.dense(4), nn.batch_norm(), nn.dense(2)))
    params, state = model.init(KEY(), X)
    _, new = model.apply(params, state, X, train=True)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    assert set(new) == {"dense", "batch_norm", "dense_1"}
    assert not np.array_equal(new["batch_norm"]["mean"], state["batch_norm"]["mean"])


@pytest.mark.parametrize("batch_size", [1, 7, 25, 50, 64])
def test_recalibrated_statistics_are_those_of_the_whole_set(batch_size):
    model = nn.serial(nn.dense(4), nn.batch_norm(momentum=0.99), nn.relu)
    params, state = model.init(KEY(), X)
    new = jax.jit(partial(nn.recalibrate, model, batch_size=batch_size))(params, state, X + 1000)
    inner = np.asarray(nn.dense(4).apply(params["dense"], {}, X + 1000)[0], np.float64)
    np.testing.assert_allclose(new["batch_norm"]["mean"], inner.mean(0), rtol=1e-6)
    np.testing.assert_allclose(new["batch_norm"]["var"], inner.var(0), rtol=1e-3)
    assert jax.tree.structure(new) == jax.tree.structure(state)


def test_recalibrate_refuses_what_it_cannot_use():
    params, state = nn.batch_norm().init(KEY(), X)
    with pytest.raises(ValueError, match="x to have as many examples in every array, and at least one"):
        nn.recalibrate(nn.batch_norm(), params, state, X[:0])
    with pytest.raises(TypeError, match="model to be a Layer"):
        nn.recalibrate(nn.batch_norm, params, state, X)


def drawn(model, x):
    return np.asarray(model.apply({}, {}, x, key=jax.random.key(1), train=True)[0])


def test_spatial_dropout_and_stochastic_depth_drop_wholes():
    x = jnp.ones((40, 5, 6, 30))
    y = drawn(nn.spatial_dropout(0.3), x)
    assert (y == y[:, :1, :1]).all()
    assert abs((y[:, 0, 0] == 0).mean() - 0.3) < 4 * np.sqrt(0.21 / 1200)
    y = drawn(nn.stochastic_depth(0.3), jnp.ones((2000, 3)))
    assert (y == y[:, :1]).all()
    assert abs((y[:, 0] == 0).mean() - 0.3) < 4 * np.sqrt(0.21 / 2000)
    np.testing.assert_allclose(y.max(), 1 / 0.7, rtol=1e-6)


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_alpha_dropout_keeps_mean_and_variance(rate):
    x = jax.random.normal(jax.random.key(0), (400, 400))
    y = drawn(nn.alpha_dropout(rate), x)
    assert abs(y.mean()) < 0.02
    assert abs(y.var() - 1) < 0.02
    np.testing.assert_array_equal(drawn(nn.alpha_dropout(0.0), x), x)


def test_gaussian_noise_is_added_in_training_alone():
    x = jnp.full((300, 300), 2.0)
    y = drawn(nn.gaussian_noise(0.5), x)
    assert abs(y.mean() - 2) < 0.01
    assert abs(y.std() - 0.5) < 0.01
    np.testing.assert_array_equal(nn.gaussian_noise(0.5).apply({}, {}, x)[0], x)


def test_the_padding_of_an_embedding_is_zero_and_learns_nothing():
    model = nn.embed(5, 3, padding=2)
    i = jnp.array([0, 2, 4, 2])
    params, state = model.init(KEY(), i)
    y, pull = jax.vjp(lambda p: model.apply(p, state, i)[0], params)
    assert not y[1].any()
    assert not y[3].any()
    (g,) = pull(jnp.ones_like(y))
    np.testing.assert_array_equal(g["w"].sum(1), [3, 0, 0, 0, 3])


ZERO = lambda key, shape, dtype: jnp.zeros(shape, dtype)  # noqa: E731


def learned(model, x, target, steps=200):
    """The loss before and after plain gradient descent, which a NaN anywhere would reach."""
    params, state = model.init(KEY(), x)
    loss = jax.jit(jax.value_and_grad(lambda p: jnp.mean(jnp.square(model.apply(p, state, x)[0] - target))))
    first = loss(params)[0]
    for _ in range(steps):
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, loss(params)[1])
    return float(first), float(loss(params)[0])


@pytest.mark.slow
def test_weight_norm_of_zeros_is_the_layer_has_finite_gradients_and_learns():
    model = nn.weight_norm(nn.dense(3, w_init=ZERO))
    params, state = model.init(KEY(), X)
    assert not np.asarray(model.apply(params, state, X)[0]).any()
    for p in (params, {**params, "w_v": jnp.zeros_like(params["w_v"])}):
        g = jax.grad(lambda p: jnp.sum(jnp.sin(model.apply(p, state, X)[0])))(p)
        assert all(np.abs(v).max() < 1e3 for v in jax.tree.leaves(g))
    first, last = learned(model, X, X @ jnp.asarray(np.random.default_rng(1).standard_normal((6, 3)), jnp.float32))
    assert last < first / 4


def test_spectral_norm_of_zeros_is_zero_with_a_sane_gradient_and_keeps_its_vector():
    model = nn.spectral_norm(nn.dense(3, w_init=ZERO))
    params, state = model.init(KEY(), X)
    y, new = model.apply(params, state, X, train=True)
    assert not np.asarray(y).any()
    np.testing.assert_array_equal(new["w_u"], state["w_u"])
    np.testing.assert_allclose(jnp.linalg.norm(state["w_u"]), 1, rtol=1e-6)
    g = jax.grad(lambda p: jnp.sum(model.apply(p, state, X, train=True)[0]))(params)
    assert all(np.abs(v).max() < 1e3 for v in jax.tree.leaves(g))


def test_the_vectors_of_spectral_norm_are_drawn_with_keys_of_their_own():
    _, state = nn.spectral_norm(nn.serial(nn.dense(7), nn.dense(7))).init(KEY(), X)
    assert not np.allclose(state["dense"]["w_u"], state["dense_1"]["w_u"])


def test_spectral_norm_is_of_the_highest_precision():
    model = nn.spectral_norm(nn.dense(3), steps=2)
    params, state = model.init(KEY(), X)
    f = jax.jit(lambda p: model.apply(p, state, X, train=True)[0])
    text = f.trace(params).lower(lowering_platforms=("tpu",)).as_text()
    assert text.count("[HIGHEST, HIGHEST]") == text.count("stablehlo.dot_general") - 1  # that of the layer itself


SILENT = {
    "dropout": nn.dropout,
    "spatial_dropout": nn.spatial_dropout,
    "stochastic_depth": nn.stochastic_depth,
    "alpha_dropout": nn.alpha_dropout,
    "gaussian_noise": nn.gaussian_noise,
}


@pytest.mark.parametrize("kind", SILENT)
def test_a_rate_of_zero_draws_nothing_and_a_traced_one_does(kind):
    def program(rate):
        f = lambda key, rate: SILENT[kind](rate).apply({}, {}, X, key=key, train=True)[0]  # noqa: E731
        traced = jax.make_jaxpr(f)(KEY(), rate) if rate is not None else jax.make_jaxpr(lambda key: f(key, 0.0))(KEY())
        return str(traced)

    assert "random" not in program(None)
    assert "random" in program(0.0)
    np.testing.assert_array_equal(SILENT[kind](0.0).apply({}, {}, X, train=True)[0], X)


@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_prelu_at_its_ends(slope):
    x = jnp.array([[-jnp.inf, -1.0, 0.0, jnp.inf]])
    params = {"slope": jnp.full(4, slope)}
    y, pull = jax.vjp(lambda p: nn.prelu().apply(p, {}, x)[0], params)
    np.testing.assert_array_equal(y, [[-jnp.inf if slope else 0.0, -slope, 0.0, jnp.inf]])
    (g,) = pull(jnp.ones_like(y))
    np.testing.assert_array_equal(g["slope"], [-jnp.inf if slope else 0.0, -1.0, 0.0, 0.0])
