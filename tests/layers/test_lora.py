"""Low-rank changes against products in float64, training of them alone, and the params of the child again."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn

KEY = partial(jax.random.key, 3)
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.standard_normal((50, 6)), jnp.float32)
IMAGE = jnp.asarray(RNG.standard_normal((2, 7, 7, 3)), jnp.float32)
MLP = nn.serial(nn.dense(7), nn.tanh, nn.dense(3))


def filled(params):
    """The params with random factors b, which are 0 at first."""
    leaves = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.asarray(RNG.standard_normal(leaf.shape), leaf.dtype) if path[-1].key == "b" else leaf,
        params["lora"],
    )
    return {"base": params["base"], "lora": leaves}


@pytest.mark.parametrize(
    ("child", "x", "paths"),
    [
        (MLP, X, ["dense/w", "dense_1/w"]),
        (nn.conv(5, 3), IMAGE, ["w"]),
        (nn.attention(2), X.reshape(5, 10, 6), ["w_k", "w_o", "w_q", "w_v"]),
        (nn.serial(nn.dense(4), nn.batch_norm()), X, ["dense/w"]),
    ],
)
def test_it_starts_as_the_child_and_adds_products(child, x, paths):
    model = nn.lora(child, rank=2)
    params, state = model.init(KEY(), x)
    plain, _ = child.init(KEY(), x)
    np.testing.assert_array_equal(model.apply(params, state, x)[0], child.apply(plain, state, x)[0])
    factors = {
        jax.tree_util.keystr(p, simple=True, separator="/") for p, _ in jax.tree.leaves_with_path(params["lora"])
    }
    assert factors == {f"{path}/{factor}" for path in paths for factor in "ab"}
    params = filled(params)

    def changed(path, w):
        node = params["lora"]
        for entry in path:
            node = node.get(entry.key, {})
        if not node:
            return w
        product = np.asarray(node["a"], np.float64) @ np.asarray(node["b"], np.float64)
        return jnp.asarray(np.asarray(w, np.float64) + product.reshape(w.shape), jnp.float32)

    want = jax.tree_util.tree_map_with_path(changed, params["base"])
    merged = nn.merge_lora(params)
    assert jax.tree.structure(merged) == jax.tree.structure(plain)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), merged, want)
    np.testing.assert_array_equal(model.apply(params, state, x)[0], child.apply(merged, state, x)[0])


@pytest.mark.slow
def test_only_the_factors_are_trained():
    model = nn.serial(nn.lora(nn.serial(nn.dense(8), nn.tanh, name="body")), nn.dense(1, name="head"))
    y = jnp.sin(X[:, :1])
    trainer = nn.trainer(model, nn.losses.squared_error, nn.adam(1e-2), frozen="*/base/*")
    before = trainer.init(KEY(), (X, y))
    run = nn.fit(trainer, KEY(), (X, y), epochs=30)
    after = run.ts.params
    assert set(after) == {"body", "head"}
    jax.tree.map(np.testing.assert_array_equal, before.params["body"]["base"], after["body"]["base"])
    assert np.abs(after["body"]["lora"]["dense"]["w"]["b"]).max() > 0
    assert run.history["train"]["loss"][-1].mean() < 0.7 * run.history["train"]["loss"][0].mean()
    assert jax.tree.structure(nn.merge_lora(after)["body"]) == jax.tree.structure(before.params["body"]["base"])


def test_each_matrix_is_drawn_with_its_own_key_whatever_else_is_chosen():
    child = nn.serial(nn.dense(6), nn.dense(6))
    both = nn.lora(child).init(KEY(), X)[0]["lora"]
    one = nn.lora(child, where="dense_1/*").init(KEY(), X)[0]["lora"]
    np.testing.assert_array_equal(both["dense_1"]["w"]["a"], one["dense_1"]["w"]["a"])
    assert not np.array_equal(both["dense"]["w"]["a"], both["dense_1"]["w"]["a"])
    assert set(one) == {"dense_1"}
    a = nn.lora(nn.dense(2), rank=64).init(KEY(), jnp.ones((1, 900)))[0]["lora"]["w"]["a"]
    np.testing.assert_allclose(a.std(), 1 / 30, rtol=0.02)


def test_a_stack_has_factors_for_each_layer():
    model = nn.repeat(nn.lora(nn.dense(6)), 3)
    params, _ = model.init(KEY(), X)
    assert jax.tree.map(jnp.shape, params["lora"]) == {"w": {"a": (3, 6, 4), "b": (3, 4, 6)}}
    assert set(nn.merge_lora(params)) == {"w", "b"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: nn.lora(nn.dense(3), where="conv/*").init(KEY(), X),
            "lora: expected where to match some of b, w, got 'conv/*'.",
        ),
        (lambda: nn.lora(nn.dense(3), rank=0), "lora: expected rank to be an integer >= 1, got 0."),
        (
            lambda: nn.lora(nn.dense(3), where=3),
            "lora: expected where to be a glob pattern or several, got 3. A pattern is a str such as 'stem/*'.",
        ),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert str(caught.value) == message
