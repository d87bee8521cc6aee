"""Groups of params by path: each against its optimizer run by hand on its own params."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _close import assert_close

import jaxnn as nn
from jaxnn.optimizers import by_path

PATHS = "head/b, head/w, stem/b, stem/w"


def tree(seed=0, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    shapes = {"w": (3, 2), "b": (2,)}
    return {
        part: {name: jnp.asarray(rng.normal(size=shape), dtype) for name, shape in shapes.items()}
        for part in ("stem", "head")
    }


def run(optimizer, params, grads):
    """Params after a step for each of `grads`, and the last state."""
    state = optimizer.init(params)
    with jax.numpy_dtype_promotion("standard"):
        for g in grads:
            updates, state = optimizer.update(g, state, params)
            params = optax.apply_updates(params, updates)
    return params, state


GRADS = [tree(seed) for seed in (1, 2, 3)]


def test_each_group_moves_as_under_its_own_optimizer():
    groups = {"stem/*": nn.adam(1e-2), "head/*": nn.sgd(0.1, momentum=0.9)}
    params, _ = run(by_path(groups), tree(), GRADS)
    for name, optimizer in (("stem", groups["stem/*"]), ("head", groups["head/*"])):
        alone, _ = run(optimizer, {name: tree()[name]}, [{name: g[name]} for g in GRADS])
        for leaf in ("w", "b"):
            assert (params[name][leaf] == alone[name][leaf]).all()
            assert (params[name][leaf] != tree()[name][leaf]).all()


def test_the_first_match_wins():
    groups = {"*/b": None, "head/*": optax.sgd(1.0), "*": optax.sgd(0.5)}
    params, _ = run(by_path(groups), tree(), GRADS[:1])
    start, g = tree(), GRADS[0]
    for name, rate in (("head", 1.0), ("stem", 0.5)):
        assert_close(params[name]["w"], np.asarray(start[name]["w"]) - rate * np.asarray(g[name]["w"]))
        assert (params[name]["b"] == start[name]["b"]).all()


def test_a_frozen_group_has_no_state():
    state = by_path({"stem/*": None, "*": nn.adam(0.1)}).init(tree())
    assert {leaf.shape for leaf in jax.tree.leaves(state)} == {(), (3, 2), (2,)}
    assert len(jax.tree.leaves(state)) == 1 + 2 * 2  # a count, and two moments of two params


def test_what_looks_at_all_gradients_sees_its_group():
    clip = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0))
    optimizer = by_path({"stem/*": clip, "head/*": clip})
    updates, _ = optimizer.update(jax.tree.map(lambda g: 10 * g, GRADS[0]), optimizer.init(tree()), tree())
    for name in ("stem", "head"):
        assert_close(optax.tree.norm(updates[name]), 1.0)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.bfloat16])
def test_updates_keep_their_dtype(dtype):
    with jax.enable_x64(dtype == jnp.float64):
        optimizer = by_path({"stem/*": optax.adam(1e-2), "*": None})
        updates, _ = optimizer.update(tree(1, dtype), optimizer.init(tree(0, dtype)), tree(0, dtype))
    assert {u.dtype for u in jax.tree.leaves(updates)} == {jnp.dtype(dtype)}


def test_jit_scan_vmap_and_a_traced_rate():
    def last(rate):
        optimizer = by_path({"stem/*": nn.sgd(rate), "*": nn.adam(1e-2)})

        def step(carry, g):
            updates, state = optimizer.update(g, carry[1], carry[0])
            return (optax.apply_updates(carry[0], updates), state), None

        grads = jax.tree.map(lambda *gs: jnp.stack(gs), *GRADS)
        return jax.lax.scan(step, (tree(), optimizer.init(tree())), grads)[0][0]

    rates = [0.1, 0.3]
    both = jax.jit(jax.vmap(last))(jnp.asarray(rates))
    for i, rate in enumerate(rates):
        eager, _ = run(by_path({"stem/*": nn.sgd(rate), "*": nn.adam(1e-2)}), tree(), GRADS)
        jax.tree.map(lambda many, one, i=i: assert_close(many[i], one), both, eager)


def test_in_a_chain_a_mask_and_nested():
    inner = by_path({"stem/w": optax.sgd(0.5), "*": optax.sgd(0.25)})
    nested = by_path({"stem/*": inner, "head/*": None})
    masked = optax.masked(inner, {"stem": True, "head": False})
    chained = optax.chain(optax.scale(2.0), inner)
    g = GRADS[0]
    for optimizer, factor, head in ((nested, 1, 0.0), (masked, 1, 1.0), (chained, 2, -0.5)):
        updates, _ = optimizer.update(g, optimizer.init(tree()), tree())
        assert_close(updates["stem"]["w"], -0.5 * factor * g["stem"]["w"])
        assert_close(updates["stem"]["b"], -0.25 * factor * g["stem"]["b"])
        assert_close(updates["head"]["w"], head * g["head"]["w"])


def test_further_arguments_reach_a_group_with_its_part_of_the_gradients():
    seen = {}

    def update(updates, state, params=None, *, grad, value, **extra):
        seen.update(grad=grad, value=value, extra=extra)
        return updates, state

    spy = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    optimizer = by_path({"head/*": spy, "*": None})
    optimizer.update(GRADS[0], optimizer.init(tree()), tree(), grad=GRADS[0], value=3.0, other="x")
    assert (seen["value"], seen["extra"]) == (3.0, {"other": "x"})
    assert jax.tree.leaves(seen["grad"]) == [GRADS[0]["head"]["b"], GRADS[0]["head"]["w"]]


def test_params_may_be_left_out():
    optimizer = by_path({"*": optax.sgd(1.0)})
    updates, _ = optimizer.update(GRADS[0], optimizer.init(tree()))
    assert_close(updates["stem"]["w"], -GRADS[0]["stem"]["w"])


def test_map_params_finds_the_params_in_its_state():
    optimizer = by_path({"stem/*": nn.adam(0.1), "*": nn.sgd(0.1, momentum=0.5)})
    state = optimizer.init(tree())
    mapped = optax.tree.map_params(optimizer, lambda p: p + 1, state)
    counts = [x for x in jax.tree.leaves(mapped) if x.dtype == jnp.int32]
    assert [int(count) for count in counts] == [0, 0]
    assert [x.tolist() for x in jax.tree.leaves(mapped) if x.shape == (2,)] == [[1, 1]] * 3


def test_in_a_trainer_and_saved(tmp_path):
    model = nn.serial(nn.dense(4, name="stem"), nn.tanh, nn.dense(1, name="head"))
    batch = (jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32), jnp.ones((8, 1)))
    optimizer = optax.chain(by_path({"stem/*": None, "head/w": optax.adamw(0.1), "*": nn.sgd(0.1)}))
    t = nn.trainer(model, nn.losses.squared_error, optimizer)
    step = jax.jit(t.step)
    start = t.init(jax.random.key(0), batch)
    ts, before = step(start, batch)
    nn.save(tmp_path / "run.safetensors", ts)
    loaded = nn.load(tmp_path / "run.safetensors")
    assert jax.tree.structure(loaded) == jax.tree.structure(ts)
    (ours, after), (theirs, _) = step(ts, batch), step(loaded, batch)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), ours, theirs)
    assert after["loss"] < before["loss"]
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), ours.params["stem"], start.params["stem"])
    assert all((ours.params["head"][name] != start.params["head"][name]).all() for name in "wb")


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        (["*"], TypeError, "by_path: expected a dict of patterns and optimizers, got ['*']."),
        ({}, ValueError, "by_path: expected at least one pattern, got none. '*' matches every param."),
        ({1: None}, TypeError, "by_path: expected glob patterns, as 'stem/*', got 1."),
        (
            {"*": nn.sgd},
            TypeError,
            "by_path: expected an optax.GradientTransformation for '*', got the function sgd. None freezes the group.",
        ),
        (
            {"*": 0.1},
            TypeError,
            "by_path: expected an optax.GradientTransformation for '*', got 0.1. None freezes the group.",
        ),
    ],
)
def test_errors_of_the_groups(groups, error, message):
    with pytest.raises(error) as caught:
        by_path(groups)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["*", "steam/*"], f"by_path: expected patterns to match some of {PATHS}, got 'steam/*'."),
        (
            ["stem/*", "head/w"],
            "by_path: expected every param to match some pattern, got head/b. "
            "Add '*' last, with an optimizer for the rest or with None to freeze it.",
        ),
        (
            ["*/w"],
            "by_path: expected every param to match some pattern, got head/b, stem/b. "
            "Add '*' last, with an optimizer for the rest or with None to freeze it.",
        ),
        (
            ["*", "head/w"],
            "by_path: expected a param for 'head/w', got none that an earlier pattern does not take. "
            "The first match wins: put it before them.",
        ),
    ],
)
def test_errors_of_the_params(patterns, message):
    optimizer = by_path(dict.fromkeys(patterns, optax.sgd(1.0)))
    with pytest.raises(ValueError) as caught:
        optimizer.init(tree())
    assert str(caught.value) == message
    state = by_path({"*": optax.sgd(1.0)}).init(tree())
    with pytest.raises(ValueError) as caught:
        optimizer.update(GRADS[0], state, tree())
    assert str(caught.value) == message


def test_in_a_trainer_frozen_paths_are_not_there_to_match():
    t = nn.trainer(
        nn.serial(nn.dense(4, name="stem"), nn.dense(1, name="head")),
        nn.losses.squared_error,
        by_path({"stem/*": nn.sgd(0.1), "*": nn.sgd(1.0)}),
        frozen="stem/*",
    )
    with pytest.raises(ValueError) as caught:
        t.init(jax.random.key(0), (jnp.ones((2, 3)), jnp.ones((2, 1))))
    assert str(caught.value) == "by_path: expected patterns to match some of head/b, head/w, got 'stem/*'."
