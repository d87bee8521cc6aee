"""Gradients at inner outputs, against the rest of the model as a function written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn

TOKENS = np.array([[3, 1, 4, 1], [5, 8, 2, 6]])
MODEL = nn.serial(nn.embed(9, 4), nn.serial(nn.dense(5), nn.tanh, name="block"), nn.flatten(), nn.dense(3))
PARAMS, STATE = MODEL.init(jax.random.key(0), TOKENS)


def rest(z):
    z = jnp.tanh(z @ PARAMS["block"]["dense"]["w"] + PARAMS["block"]["dense"]["b"][None, None])
    return z.reshape(2, -1) @ PARAMS["dense"]["w"] + PARAMS["dense"]["b"][None]


def test_the_gradient_at_an_embedding():
    inner = nn.explain.from_layer(MODEL, PARAMS, STATE, TOKENS, "embed")
    z = PARAMS["embed"]["w"][TOKENS]
    assert isinstance(inner, nn.explain.Inner)
    assert_close(inner.x, z)
    wanted = jax.grad(lambda z: rest(z)[:, 2].sum())(z)
    assert_close(nn.explain.saliency(*inner, target=2), wanted)
    other = inner._replace(x=2 * z)  # the output may be changed
    assert_close(nn.explain.saliency(*other, target=2), jax.grad(lambda z: rest(z)[:, 2].sum())(2 * z))


def test_models_and_paths_share_programs(compilations):
    def maps(path):
        return nn.explain.saliency(*nn.explain.from_layer(MODEL, PARAMS, STATE, TOKENS, path))

    maps("block/dense")
    before = compilations()
    maps("block/dense")
    assert compilations() == before


WRONG = {
    "a path": (
        lambda: nn.explain.from_layer(MODEL, PARAMS, STATE, TOKENS, "encoder"),
        ValueError,
        "capture: expected one of the paths embed, block, block/dense, block/tanh, flatten, dense, got 'encoder'.",
    ),
    "no path": (
        lambda: nn.explain.from_layer(MODEL, PARAMS, STATE, TOKENS, 3),
        TypeError,
        "from_layer: expected path to be a str, got 3.",
    ),
    "a shared layer": (
        lambda: nn.explain.from_layer(
            TWICE, {"dense": nn.dense(2).init(jax.random.key(0), jnp.ones((1, 2)))[0]}, {}, jnp.ones((1, 2)), "dense"
        ),
        ValueError,
        "from_layer: expected dense to run once and to return one array, got (float32[1, 2], float32[1, 2]).",
    ),
}


SHARED = nn.dense(2)


def twice(params, state, x, *, key=None, train=False):
    for _ in range(2):
        x, state = nn.call(SHARED, "dense", params, state, x, key=key, train=train)
    return x, state


TWICE = nn.layer(None, twice, "twice")


@pytest.mark.parametrize("case", WRONG)
def test_errors(case):
    call, kind, text = WRONG[case]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == text
