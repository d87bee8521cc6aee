"""Every map depends on every layer, every method finds an object; the tests of explanations themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from _tiers import only

import jaxnn as nn
from jaxnn import explain

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (2, 8, 8, 1))
MODEL = nn.serial(
    *(nn.conv(6, 3), nn.relu, nn.conv(6, 3, name="second"), nn.relu, nn.max_pool(2)),
    *(nn.flatten(), nn.dense(16), nn.relu, nn.dense(3, name="head")),
)
PARAMS, STATE = MODEL.init(jax.random.key(1), X)
PARAMS["head"]["w"] *= 10  # scores as large as those of a trained model, which weigh the channels of score_cam
METHODS = {
    "saliency": explain.saliency,
    "input_x_gradient": explain.input_x_gradient,
    "smooth_grad": lambda *args, **how: explain.smooth_grad(*args, KEY, samples=4, **how),
    "integrated_gradients": lambda *args, **how: explain.integrated_gradients(*args, steps=8, **how),
    "guided_backprop": explain.guided_backprop,
    "deconvnet": explain.deconvnet,
    "grad_cam": lambda *args, **how: explain.grad_cam(*args, "second", **how),
    "grad_cam_plus_plus": lambda *args, **how: explain.grad_cam_plus_plus(*args, "second", **how),
    "score_cam": lambda *args, **how: explain.score_cam(*args, "second", **how),
    "occlusion": lambda *args, **how: explain.occlusion(*args, window=2, **how),
    "shapley_values": lambda *args, **how: explain.shapley_values(
        *args, KEY, groups=np.kron(np.arange(4).reshape(2, 2), np.ones((4, 4), int)), permutations=2, **how
    ),
}
LAYERS = ("head", "dense", "second", "conv")  # from the last one down


@pytest.mark.parametrize("method", METHODS)
def test_random_weights_change_the_map_layer_by_layer(method):
    """Adebayo et al. 2018, with each layer alone and with all from the last one down to it."""
    trained = np.asarray(METHODS[method](MODEL, PARAMS, STATE, X, target=0))
    for i, name in enumerate(LAYERS):
        for where in {f"{name}/*"}, {f"{other}/*" for other in LAYERS[: i + 1]}:
            params = explain.randomized(MODEL, PARAMS, jax.random.key(7), X, sorted(where))
            maps = np.asarray(METHODS[method](MODEL, params, STATE, X, target=0))
            cosine = (maps * trained).sum() / np.sqrt((maps**2).sum() * (trained**2).sum())
            assert cosine < 0.98, (name, where)


def test_randomized_params_are_those_of_init():
    fresh, _ = MODEL.init(jax.random.key(7), X)
    params = explain.randomized(MODEL, PARAMS, jax.random.key(7), X, ["head/*", "conv/w"])
    for name in LAYERS:
        for letter in "wb":
            of = fresh if name == "head" or (name, letter) == ("conv", "w") else PARAMS
            np.testing.assert_array_equal(params[name][letter], of[name][letter])


GAMES = {
    "inside": ((1, 2), 0.0, True),
    "outside": ((4, 4), 0.0, False),
    "next to it": ((3, 2), 0.9, False),
    "within 1": ((3, 2), 1.0, True),
    "diagonal": ((3, 4), 1.4, False),
    "diagonal, within √2": ((3, 4), 1.42, True),
}


@pytest.mark.parametrize("case", GAMES)
def test_pointing_game(case):
    at, tolerance, hit = GAMES[case]
    maps, masks = np.zeros((1, 6, 6), np.float32), np.zeros((1, 6, 6), bool)
    maps[0][at], masks[0, 1:3, 1:4] = 1, True
    assert explain.pointing_game(maps, masks, tolerance=tolerance).tolist() == [hit]
    maps[0, 5, 5] = np.nan
    assert explain.pointing_game(maps, masks, tolerance=tolerance).tolist() == [False]


def test_no_object_is_no_hit():
    assert not explain.pointing_game(jnp.ones((2, 3, 3)), jnp.zeros((2, 3, 3), bool), tolerance=99).any()


WRONG = {
    "masks of integers": (
        lambda: explain.pointing_game(jnp.ones((1, 2)), jnp.ones((1, 2), jnp.int32)),
        TypeError,
        "pointing_game: expected boolean masks, got int32[1, 2].",
    ),
    "channels": (
        lambda: explain.pointing_game(jnp.ones((1, 2, 3)), jnp.ones((1, 2), bool)),
        ValueError,
        "pointing_game: expected maps and masks of equal shape, got float32[1, 2, 3] and bool[1, 2]. Nothing is "
        "broadcast: reshape one of them.",
    ),
    "a layer": (
        lambda: explain.randomized(MODEL, PARAMS, KEY, X, "head"),
        ValueError,
        "randomized: expected where to match some of conv/b, conv/w, dense/b, dense/w, head/b, head/w, second/b, "
        "second/w, got 'head'. Write 'head/*' for all of it.",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors(case):
    call, kind, text = WRONG[case]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == text


# Of activations of both signs the denominators of its weights come near 0, which amplifies rounding.
STABLE = METHODS | {"grad_cam_plus_plus": lambda *args, **how: explain.grad_cam_plus_plus(*args, "relu_1", **how)}


@pytest.mark.parametrize("method", only(("saliency", "grad_cam", "occlusion"), STABLE))
def test_it_runs_under_jit_and_for_each_example(method):
    maps = STABLE[method](MODEL, PARAMS, STATE, X, target=jnp.array([1, 2]))
    assert_close(jax.jit(lambda x, c: STABLE[method](MODEL, PARAMS, STATE, x, target=c))(X, jnp.array([1, 2])), maps)
    if method != "smooth_grad":  # the noise of an example depends on the batch
        one = STABLE[method](MODEL, PARAMS, STATE, X[1:], target=2)
        assert_close(one, maps[1:])
