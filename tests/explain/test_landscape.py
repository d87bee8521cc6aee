"""Directions by NumPy and scikit-learn, and losses on planes in which they are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from sklearn.decomposition import TruncatedSVD

import jaxnn as nn
from jaxnn import explain

RNG = np.random.default_rng(0)
PARAMS = {"conv": {"w": jnp.asarray(RNG.normal(size=(3, 3, 2, 4)), jnp.float32), "b": jnp.ones(4)}}
PARAMS["dense"] = {"w": jnp.asarray(RNG.normal(size=(4, 5)), jnp.float32)}
STAGES = {"w": RNG.normal(size=(6, 3, 2)).astype(np.float32), "b": RNG.normal(size=(6, 4)).astype(np.float32)}


def test_filters_of_a_random_direction_are_as_long_as_those_of_the_params():
    found = explain.random_direction(jax.random.key(0), PARAMS)
    for path in ("conv", "dense"):
        w, d = (
            np.asarray(tree[path]["w"], np.float64).reshape(-1, tree[path]["w"].shape[-1]) for tree in (PARAMS, found)
        )
        assert_close(np.linalg.norm(d, axis=0).astype(np.float32), np.linalg.norm(w, axis=0))
        assert abs(np.sum(d * w)) < 0.5 * np.sum(w * w)
    assert (found["conv"]["b"] == 0).all()


def test_a_further_layer_does_not_change_the_directions_of_others():
    one, other = (explain.random_direction(jax.random.key(0), p) for p in (PARAMS, {"dense": PARAMS["dense"]}))
    np.testing.assert_array_equal(one["dense"]["w"], other["dense"]["w"])
    again = explain.random_direction(jax.random.key(1), PARAMS)
    assert not (again["dense"]["w"] == one["dense"]["w"]).any()


def test_a_filter_of_zeros_and_other_dtypes():
    params = {"w": jnp.zeros((3, 2), jnp.bfloat16), "count": jnp.zeros((2, 2), jnp.int32)}
    found = explain.random_direction(jax.random.key(0), params)
    assert found["w"].dtype == jnp.bfloat16
    assert found["count"].dtype == jnp.int32
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(found))


def test_directions_of_a_trajectory_by_scikit_learn():
    flat = np.concatenate([(a - a[-1:]).reshape(6, -1).astype(np.float64) for a in (STAGES["b"], STAGES["w"])], 1)
    peer = TruncatedSVD(2, algorithm="arpack").fit(flat)
    found = explain.trajectory_directions(STAGES)
    assert isinstance(found, explain.Trajectory)
    ours = np.stack([np.concatenate([np.ravel(d["b"]), np.ravel(d["w"])]) for d in found.directions])
    signs = np.sign(np.sum(ours * peer.components_, 1))
    assert_close(ours * signs[:, None], peer.components_, dtype="float32")
    assert_close(np.asarray(found.coordinates) * signs, peer.transform(flat), dtype="float32")
    assert_close(found.ratios, peer.singular_values_**2 / np.sum(flat**2))


def quadratic(params, scale):
    return scale * sum(jnp.sum(a**2) for a in jax.tree.leaves(params))


@pytest.mark.parametrize("block", [1, 4])
def test_losses_on_a_plane(block):
    directions = [explain.random_direction(jax.random.key(i), PARAMS) for i in range(2)]
    along = jnp.linspace(-1.0, 1.0, 3), jnp.array([0.5, 2.0])
    found = explain.landscape(quadratic, PARAMS, directions, jnp.array(2.0), coordinates=along, block=block)
    flat = [np.concatenate([np.ravel(a) for a in jax.tree.leaves(t)]).astype(np.float64) for t in (PARAMS, *directions)]
    want = [[2 * np.sum((flat[0] + a * flat[1] + b * flat[2]) ** 2) for b in (0.5, 2.0)] for a in (-1, 0, 1)]
    assert_close(found, want)


def test_under_jit():
    params, along = {"w": jnp.ones(2)}, jnp.array([0.0, 1.0])
    run = lambda c: explain.landscape(quadratic, params, [params], jnp.array(1.0), coordinates=[c])  # noqa: E731
    assert_close(jax.jit(run)(along), run(along))


def test_one_direction_by_default_from_minus_one_to_one():
    found = explain.landscape(quadratic, {"w": jnp.ones(2)}, [{"w": jnp.ones(2)}], jnp.array(1.0))
    assert_close(found, 2 * (1 + np.linspace(-1, 1, 25)) ** 2)


def test_a_loss_is_compiled_once(compilations):
    params, other = {"w": jnp.ones(2)}, {"w": jnp.array([2.0, 3.0])}
    explain.landscape(quadratic, params, [params], jnp.array(1.0))
    before = compilations()
    explain.landscape(quadratic, other, [params], jnp.array(3.0))
    assert compilations() == before


def test_batch_statistics_make_the_loss_invariant_to_the_length_of_weights():
    """Along w itself a batch norm in training mode has equal outputs; with running statistics it does not."""
    model = nn.serial(nn.dense(6, bias=False), nn.batch_norm(eps=0.0), nn.relu)
    x = jnp.asarray(RNG.normal(size=(32, 4)), jnp.float32)
    params, state = model.init(jax.random.key(0), x)

    def loss(train):
        return lambda params: jnp.mean(model.apply(params, state, x, train=train)[0] ** 2)

    ahead = jax.tree.map(lambda a: a if a.ndim > 1 else jnp.zeros_like(a), params)
    how = {"coordinates": [jnp.array([0.0, 1.0])]}
    still, moved = (explain.landscape(loss(train), params, [ahead], **how) for train in (True, False))
    assert_close(still[1], still[0])
    assert moved[1] > 2 * moved[0]


WRONG = {
    "another tree": (
        lambda: explain.landscape(quadratic, {"w": jnp.ones(2)}, [{"w": jnp.ones(3)}], jnp.array(1.0)),
        "landscape: expected directions to be trees like the params, got {'w': float32[3]}.",
    ),
    "one tree": (
        lambda: explain.landscape(quadratic, {"w": jnp.ones(2)}, {"w": jnp.ones(2)}, jnp.array(1.0)),
        "landscape: expected directions to be a list of trees like the params, got {'w': float32[2]}.",
    ),
    "coordinates of one axis": (
        lambda: explain.landscape(quadratic, {"w": jnp.ones(2)}, [{"w": jnp.ones(2)}], 1.0, coordinates=jnp.ones(3)),
        "landscape: expected coordinates to be 1 arrays, one for each direction, got float32[3].",
    ),
    "a loss for each example": (
        lambda: explain.landscape(lambda p: p["w"], {"w": jnp.ones(2)}, [{"w": jnp.ones(2)}]),
        "landscape: expected the loss of shape [], got float32[2]. Take the mean.",
    ),
    "one stage": (
        lambda: explain.trajectory_directions({"w": jnp.ones((1, 2))}),
        "trajectory_directions: expected stages to have as many examples in every array, and at least one, got "
        "{'w': float32[1, 2]}.",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls(case):
    call, text = WRONG[case]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert str(caught.value) == text
