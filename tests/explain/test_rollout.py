"""Attention rollout against products in NumPy, for layers alone, in blocks, repeated and of one's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn
from jaxnn import explain

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (3, 5, 8))
BLOCK = nn.encoder_block(2, name="block")


def by_hand(weights):
    rollout = np.eye(weights[0].shape[-1])[None]
    for a in weights:
        mixed = np.asarray(a, np.float64).mean(1) + np.eye(a.shape[-1])[None]
        rollout = mixed / mixed.sum(-1, keepdims=True) @ rollout
    return rollout


def weights_of(model, params, state, paths):
    (_, inner), _ = nn.capture(model, paths).apply(params, state, X)
    return [inner[path] for path in paths]


def own(params, state, x, *, key=None, train=False):
    """Attention of one head without the library's layer."""
    a = jax.nn.softmax(x @ jnp.swapaxes(x, 1, 2), axis=-1)
    a, state = nn.call(nn.lift(lambda a: a, name="map"), "map", {}, state, a[:, None], key=key, train=train)
    return a[:, 0] @ x, state


TWO = nn.serial(nn.encoder_block(2), nn.dense(8), nn.encoder_block(4))
MODELS = {
    "a layer": (nn.attention(2), ["weights"], None),
    "blocks": (TWO, ["encoder_block/attention/weights", "encoder_block_1/attention/weights"], None),
    "one's own": (nn.serial(nn.layer(None, own, "own")), ["own/map"], ["own/map"]),
    "the first": (TWO, ["encoder_block/attention/weights"], ["encoder_block/attention/weights"]),
}


@pytest.mark.parametrize("model", MODELS)
def test_equal_to_products(model):
    model, inside, paths = MODELS[model]
    params, state = model.init(KEY, X)
    rollout = explain.attention_rollout(model, params, state, X, paths=paths)
    assert_close(rollout, by_hand(weights_of(model, params, state, inside)))


@pytest.mark.slow
def test_inside_repeat():
    model = nn.serial(nn.repeat(BLOCK, 3))
    params, state = model.init(KEY, X)
    wanted = by_hand(list(weights_of(model, params, state, ["block/attention/weights"])[0]))
    assert_close(explain.attention_rollout(model, params, state, X), wanted)


@pytest.mark.slow
def test_of_a_vision_transformer_under_jit():
    model = nn.models.vit(4, classes=3, features=8, layers=2, heads=2, hidden=16)
    x = jax.random.normal(KEY, (2, 8, 8, 1))
    params, state = model.init(KEY, x)
    rollout = jax.jit(lambda x: explain.attention_rollout(model, params, state, x))(x)
    assert rollout.shape == (2, 5, 5)
    assert_close(rollout.sum(-1), np.ones((2, 5)))


def crossed(params, state, x, *, key=None, train=False):
    return nn.call(nn.attention(2), "cross", params, state, {"x": x, "context": x[:, :4]}, key=key, train=train)


CROSSED = nn.layer(None, crossed, "crossed")
WRONG = {
    "none": (
        lambda: explain.attention_rollout(nn.serial(nn.dense(2)), {"dense": nn.dense(2).init(KEY, X)[0]}, {}, X),
        ValueError,
        "attention_rollout: expected a model with layers of nn.attention, got none. Pass paths= of layers that return "
        "attention weights.",
    ),
    "another output": (
        lambda: explain.attention_rollout(TWO, *TWO.init(KEY, X), X, paths=["dense"]),
        ValueError,
        "attention_rollout: expected attention weights [n, heads, t, t] at dense, got float32[3, 5, 8].",
    ),
    "a context": (
        lambda: explain.attention_rollout(CROSSED, *CROSSED.init(KEY, X), X),
        ValueError,
        "attention_rollout: expected attention weights [n, heads, t, t] at cross/weights, got float32[3, 2, 5, 4].",
    ),
    "one path": (
        lambda: explain.attention_rollout(TWO, {}, {}, X, paths="dense"),
        TypeError,
        "attention_rollout: expected paths to be None or a sequence of str, got 'dense'.",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors(case):
    call, kind, text = WRONG[case]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == text
