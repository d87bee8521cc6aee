"""Inner outputs: the same numbers as by hand, through every transformation, and a state that stays as it was."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn
from jaxnn._call import OBSERVED, Observed, Watch
from jaxnn._capture import layer_paths

KEY = jax.random.key(0)
X = np.linspace(-1, 2, 24, dtype=np.float32).reshape(6, 4)
BLOCK = nn.serial(nn.dense(4), nn.batch_norm(), nn.tanh, name="block")
PLAIN = nn.serial(nn.dense(4), BLOCK, nn.dense(2, name="head"))
DEEP = nn.serial(nn.dense(4), nn.repeat(BLOCK, 3), nn.dense(2, name="head"))


def affine(p, x):
    return np.float64(x) @ np.float64(p["w"]) + np.float64(p.get("b", 0))


def block_by_hand(p, x):
    """The block in evaluation, with its first statistics: mean 0 and variance 1."""
    a = affine(p["dense"], x)
    n = a / np.sqrt(1 + 1e-5)
    return {"dense": a, "batch_norm": n, "tanh": np.tanh(n)}


def same_tree(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(assert_close, a, b)


def test_outputs_are_those_by_hand():
    params, state = PLAIN.init(KEY, X)
    paths = ["dense", "block", "block/dense", "block/batch_norm", "block/tanh", "head"]
    (y, inner), new = nn.capture(PLAIN, paths).apply(params, state, X)
    first = affine(params["dense"], X)
    block = block_by_hand(params["block"], first)
    assert list(inner) == paths
    assert_close(inner["dense"], first)
    for name, value in block.items():
        assert_close(inner[f"block/{name}"], value)
    assert_close(inner["block"], block["tanh"])
    assert_close(inner["head"], affine(params["head"], block["tanh"]))
    assert_close(y, inner["head"])
    same_tree(new, state)


PATTERNS = {
    "*": ["dense", "block", "block/dense", "block/batch_norm", "block/tanh", "head"],
    "block/*": ["block/dense", "block/batch_norm", "block/tanh"],
    "*dense": ["dense", "block/dense"],
    "[bh]*": ["block", "block/dense", "block/batch_norm", "block/tanh", "head"],
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_are_the_paths_that_match(pattern):
    params, state = PLAIN.init(KEY, X)
    (_, inner), new = nn.capture(PLAIN, pattern).apply(params, state, X)
    (_, known), _ = nn.capture(PLAIN, PATTERNS[pattern]).apply(params, state, X)
    assert list(inner) == PATTERNS[pattern]
    jax.tree.map(assert_close, inner, known)
    same_tree(new, state)
    with pytest.raises(ValueError, match=r"capture: expected one of the paths dense, block, .*, got 'x/\*'"):
        nn.capture(PLAIN, ["dense", "x/*"]).apply(params, state, X)


def test_one_path_as_a_string_and_a_name_of_its_own():
    model = nn.capture(PLAIN, "block/tanh")
    assert model.name == "serial"
    same_tree(model.init(KEY, X), PLAIN.init(KEY, X))
    params, state = PLAIN.init(KEY, X)
    assert list(model.apply(params, state, X)[0][1]) == ["block/tanh"]


def test_repeat_stacks_the_outputs_of_its_copies():
    params, state = DEEP.init(KEY, X)
    (_, inner), new = nn.capture(DEEP, ["block/dense", "block"]).apply(params, state, X)
    x, expected = affine(params["dense"], X), []
    for i in range(3):
        expected.append(block_by_hand(jax.tree.map(lambda v, i=i: v[i], params["block"]), x))
        x = expected[-1]["tanh"]
    assert_close(inner["block/dense"], np.stack([e["dense"] for e in expected]))
    assert_close(inner["block"], x)  # around the scan: the last copy's
    same_tree(new, state)


def captured(model, params, state, x):
    return nn.capture(model, "block/dense").apply(params, state, x)[0][1]["block/dense"]


@pytest.mark.slow
def test_under_jit_vmap_remat_and_residual():
    for wrap in (nn.remat, nn.residual, partial(nn.cast, dtype=jnp.float32)):
        model = nn.serial(wrap(BLOCK))
        params, state = model.init(KEY, X)
        expected = affine(params["block"]["dense"], X)
        assert_close(captured(model, params, state, X), expected)
        assert_close(jax.jit(partial(captured, model))(params, state, X), expected)
        each = jax.vmap(partial(captured, model), in_axes=(None, None, 0))(params, state, X.reshape(3, 2, 4))
        assert_close(each.reshape(6, 4), expected)
    keys = jax.random.split(KEY, 3)
    params, state = jax.vmap(lambda key: DEEP.init(key, X))(keys)
    many = jax.vmap(partial(captured, DEEP), in_axes=(0, 0, None))(params, state, X)
    assert many.shape == (3, 3, 6, 4)
    assert_close(many[2], captured(DEEP, *jax.tree.map(lambda v: v[2], (params, state)), X))


def test_inside_the_callers_scan():
    params, state = PLAIN.init(KEY, X)

    def step(state, x):
        (_, inner), state = nn.capture(PLAIN, "block").apply(params, state, x, train=True)
        return state, inner["block"]

    batches = jnp.stack([X, X[::-1]])
    new, stacked = jax.lax.scan(step, state, batches)
    assert stacked.shape == (2, 6, 4)
    one, _ = step(state, batches[0])
    same_tree(new, step(one, batches[1])[0])


def test_a_shared_layer_gives_a_tuple():
    encoder = nn.dense(3)

    def apply(params, state, x, *, key=None, train=False):
        a, state = nn.call(encoder, "encoder", params, state, x[0], key=key, train=train)
        b, state = nn.call(encoder, "encoder", params, state, x[1], key=key, train=train)
        return a - b, state

    model = nn.serial(nn.layer(None, apply, "twins"))
    x = (jnp.asarray(X), jnp.asarray(X[:, ::-1]))
    params, state = model.init(KEY, x)
    (y, inner), new = nn.capture(model, "twins/encoder").apply(params, state, x)
    a, b = inner["twins/encoder"]
    assert_close(a, affine(params["twins"]["encoder"], x[0]))
    assert_close(b, affine(params["twins"]["encoder"], x[1]))
    assert_close(y, a - b)
    assert new == {}


@pytest.mark.parametrize("wrap", [lambda model: model, nn.remat])
def test_adding_gives_the_gradient_at_an_inner_output(wrap):
    model = nn.serial(
        nn.dense(4), nn.tanh, wrap(nn.serial(nn.dense(3), nn.tanh, name="block")), nn.dense(2, name="head")
    )
    params, state = model.init(KEY, X)

    def score(delta):
        (y, inner), _ = nn.capture(model, {"block/dense": nn.Tap(add=delta)}).apply(params, state, X)
        return y[:, 1].sum(), inner["block/dense"]

    grad, value = jax.jit(jax.grad(score, has_aux=True))(jnp.zeros((6, 3)))
    a = affine(params["block"]["dense"], np.tanh(affine(params["dense"], X)))
    assert_close(value, a)
    assert_close(grad, (1 - np.tanh(a) ** 2) * np.float64(params["head"]["w"])[None, :, 1])


def test_what_is_added_arrives_downstream():
    params, state = PLAIN.init(KEY, X)
    delta = np.linspace(0, 1, 24).reshape(6, 4)
    taps = {"block": nn.Tap(add=jnp.asarray(delta, jnp.float32)), "dense": nn.Tap()}
    (y, inner), _ = nn.capture(PLAIN, taps).apply(params, state, X)
    block = block_by_hand(params["block"], affine(params["dense"], X))["tanh"]
    assert_close(inner["block"], block + delta)
    assert_close(y, affine(params["head"], block + delta))


def test_adding_inside_repeat_takes_one_addend_for_each_copy():
    model = nn.repeat(nn.serial(nn.dense(4, bias=False), nn.lift(lambda x: x, name="out")), 3)
    params, state = model.init(KEY, X)

    def score(delta):
        (y, _), _ = nn.capture(model, {"out": nn.Tap(add=delta)}).apply(params, state, X)
        return y.sum()

    grad = jax.grad(score)(jnp.zeros((3, 6, 4)))
    w = np.float64(params["dense"]["w"])
    last = np.ones((6, 4))
    assert_close(grad, np.stack([last @ w[2].T @ w[1].T, last @ w[2].T, last]))


def test_adding_keeps_the_dtype_of_the_output():
    model = nn.serial(nn.dense(3))
    params, state = model.init(KEY, X)
    tap = {"dense": nn.Tap(add=jnp.ones((6, 3)))}
    (y, _), _ = nn.capture(model, tap).apply(params, state, jnp.asarray(X, jnp.bfloat16))
    assert y.dtype == jnp.bfloat16


@pytest.mark.parametrize("model", [PLAIN, DEEP, nn.serial(nn.residual(BLOCK, skip=nn.batch_norm()))])
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.slow
def test_the_state_is_what_it_is_without_capture(model, train):
    params, state = model.init(KEY, X)
    paths = list(layer_paths(model, params, state, X))
    (y, _), new = nn.capture(model, paths).apply(params, state, X, train=train)
    same_tree((y, new), model.apply(params, state, X, train=train))
    assert jax.tree.structure(new) == jax.tree.structure(state)


def test_capture_of_capture_gives_both():
    params, state = PLAIN.init(KEY, X)
    model = nn.capture(nn.capture(PLAIN, "block/dense"), ["dense", "block"])
    ((y, inner), outer), new = model.apply(params, state, X)
    (plain, both), _ = nn.capture(PLAIN, ["block/dense", "dense", "block"]).apply(params, state, X)
    same_tree((y, inner | outer), (plain, both))
    same_tree(new, state)


@pytest.mark.slow
def test_the_gradient_of_params_passes_through():
    params, state = DEEP.init(KEY, X)

    def loss(params):
        (_, inner), _ = nn.capture(DEEP, "block/tanh").apply(params, state, X, train=True)
        return (inner["block/tanh"] ** 2).sum()

    grads = jax.grad(loss)(params)
    assert np.abs(grads["head"]["w"]).max() == 0
    step = 1e-2 * jnp.sign(grads["block"]["dense"]["w"])
    moved = params | {"block": params["block"] | {"dense": {**params["block"]["dense"]}}}
    moved["block"]["dense"]["w"] = params["block"]["dense"]["w"] + step
    assert loss(moved) > loss(params)


def test_layer_paths_are_in_the_order_of_the_calls():
    params, state = DEEP.init(KEY, X)
    seen = layer_paths(DEEP, params, state, X)
    assert list(seen) == ["dense", "block", "block/dense", "block/batch_norm", "block/tanh", "head"]
    assert [v.shape for v in seen.values()] == [(6, 4)] * 5 + [(6, 2)]


def test_a_watch_records_the_layers_and_the_shapes_of_their_inputs():
    params, state = DEEP.init(KEY, X)
    watch = Watch()
    jax.eval_shape(lambda p, s, x: DEEP.apply(p, {**s, OBSERVED: Observed(watch=watch)}, x)[0], params, state, X)
    assert list(watch.layers) == list(watch.seen)
    assert [layer.name for layer, _ in watch.layers.values()] == [
        "dense",
        "block",
        "dense",
        "batch_norm",
        "tanh",
        "head",
    ]
    assert {shape for _, shape in watch.layers.values()} == {X.shape, (6, 4)}


ONES = jnp.ones((6, 4))
KNOWN = "dense, block, block/dense, block/batch_norm, block/tanh, head"


@pytest.mark.parametrize(
    ("model", "paths", "error", "text"),
    [
        (PLAIN, "nope", ValueError, f"capture: expected one of the paths {KNOWN}, got 'nope'."),
        (PLAIN, "block/nope", ValueError, f"capture: expected one of the paths {KNOWN}, got 'block/nope'."),
        (DEEP, ["dense", "block/0"], ValueError, f"capture: expected one of the paths {KNOWN}, got 'block/0'."),
        (PLAIN, "", ValueError, f"capture: expected one of the paths {KNOWN}, got ''."),
        (PLAIN, "block/", ValueError, f"capture: expected one of the paths {KNOWN}, got 'block/'."),
        (
            PLAIN,
            "block/batch_norm/mean",
            ValueError,
            f"capture: expected one of the paths {KNOWN}, got 'block/batch_norm/mean'.",
        ),
        (
            PLAIN,
            "block/batch_norm/mean/x",
            ValueError,
            f"capture: expected one of the paths {KNOWN}, got 'block/batch_norm/mean/x'.",
        ),
        (nn.dense(3), "dense", ValueError, "capture: expected a model of layers, got 'dense'."),
        (
            PLAIN,
            {"head": nn.Tap(add=jnp.zeros((6, 1)))},
            ValueError,
            "head: expected Tap(add=) of the output's shape float32[6, 2], got float32[6, 1].",
        ),
        (
            PLAIN,
            {"block/tanh": nn.Tap(add=1.0)},
            ValueError,
            "block/tanh: expected Tap(add=) of the output's shape float32[6, 4], got 1.0.",
        ),
        (
            nn.serial(nn.lift(lambda x: (x, x), name="fork")),
            {"fork": nn.Tap(add=ONES)},
            ValueError,
            "fork: expected Tap(add=) of the output's shape (float32[6, 4], float32[6, 4]), got float32[6, 4].",
        ),
        (PLAIN, [3], TypeError, "capture: expected paths as strings, or a mapping from path to Tap, got 3."),
        (
            PLAIN,
            {"head": ONES},
            TypeError,
            "capture: expected paths as strings, or a mapping from path to Tap, got {'head': float32[6, 4]}.",
        ),
        (PLAIN, None, TypeError, "capture: expected paths as strings, or a mapping from path to Tap, got None."),
    ],
)
def test_wrong_calls(model, paths, error, text):
    params, state = model.init(KEY, X)
    with pytest.raises(error) as caught:
        nn.capture(model, paths).apply(params, state, jnp.asarray(X))
    assert str(caught.value) == text
