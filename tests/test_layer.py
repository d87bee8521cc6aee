"""Layers, and how one calls another: names, keys, paths of errors, initialisation from shapes alone."""

import functools
import re
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn
from jaxnn._errors import describe
from jaxnn._keys import fold_name
from jaxnn._sketch import paths

X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
BIND = "Bind it before the transformation: functools.partial(model.apply, train=True), or static_argnames."


def equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert all(jax.tree.leaves(jax.tree.map(lambda u, v: bool(jnp.array_equal(u, v)), a, b)))


def twins(encoder, head):
    """Weight sharing and two inputs."""

    def apply(params, state, x, *, key=None, train=False):
        a, state = nn.call(encoder, "encoder", params, state, x[0], key=key, train=train)
        b, state = nn.call(encoder, "encoder", params, state, x[1], key=key, train=train)
        return nn.call(head, "head", params, state, jnp.abs(a - b), key=key, train=train)

    return nn.layer(None, apply, "twins")


@pytest.mark.parametrize(
    ("children", "names"),
    [
        ([nn.dense(3), nn.dense(3)], ["dense", "dense_1"]),
        ([nn.dense(3, name="a"), nn.dense(3)], ["a", "dense"]),
        ([nn.dense(3), nn.dense(3, name="a"), nn.dense(3), nn.dense(3)], ["dense", "a", "dense_1", "dense_2"]),
        ([nn.dense(3, name="dense"), nn.batch_norm()], ["dense", "batch_norm"]),
        ([nn.serial(nn.dense(3)), nn.serial(nn.dense(3))], ["serial", "serial_1"]),
        ([nn.residual(nn.dense(4)), nn.remat(nn.dense(3)), nn.repeat(nn.dense(3), 2)], ["dense", "dense_1", "dense_2"]),
        ([nn.relu, nn.dense(3), nn.relu, nn.dense(3)], ["dense", "dense_1"]),
    ],
)
def test_children_are_named_by_kind_and_numbered(children, names):
    params, _ = nn.serial(*children).init(jax.random.key(0), X)
    assert sorted(params) == sorted(names)


def test_lifted_functions_are_named_after_themselves():
    assert [nn.lift(f).name for f in (nn.relu, functools.partial(nn.relu), lambda x: x)] == ["relu", "relu", "lift"]
    assert nn.lift(jnp.tanh, name="squash").name == "squash"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: nn.serial(nn.dense(3, name="a"), nn.dense(3, name="a")),
            "serial: expected children with different names, got 'a' twice. Give one of them another name=.",
        ),
        (
            lambda: nn.serial(nn.dense(3), nn.dense(3), nn.dense(3, name="dense_1")),
            "serial: expected children with different names, got 'dense_1' twice. Give one of them another name=.",
        ),
        (
            lambda: nn.parallel(nn.dense(3, name="dense"), nn.dense(3), join="add"),
            "parallel: expected children with different names, got 'dense' twice. Give one of them another name=.",
        ),
        (lambda: nn.dense(3, name="a/b"), "layer: expected name to be letters, digits and underscores, got 'a/b'."),
        (lambda: nn.dense(3, name=""), "layer: expected name to be letters, digits and underscores, got ''."),
        (lambda: nn.serial(name="é"), "layer: expected name to be letters, digits and underscores, got 'é'."),
        (lambda: nn.dense(3, name="a\n"), "layer: expected name to be letters, digits and underscores, got 'a\\n'."),
        (
            lambda: nn.stateless(nn.batch_norm()).init(jax.random.key(0), X),
            "stateless: expected a model without state, got state at mean, var. "
            "Use model.apply(params, state, x), and keep the state that it returns.",
        ),
    ],
)
def test_wrong_values_name_the_place(make, text):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text


UNCALLED = "expected a Layer, got its factory {0}. Call it: {0}(...)."
NOT_A_LAYER = "expected a Layer or a function of one input, got"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.serial(nn.dense), "serial: " + UNCALLED.format("dense")),
        (lambda: nn.serial(nn.dense(3), nn.flatten), "serial: " + UNCALLED.format("flatten")),
        (lambda: nn.serial(functools.partial(nn.dense, 3)), "serial: " + UNCALLED.format("dense")),
        (lambda: nn.serial(nn.serial, name="stem"), "stem: " + UNCALLED.format("serial")),
        (lambda: nn.parallel(nn.conv, join="add"), "parallel: " + UNCALLED.format("conv")),
        (lambda: nn.lift(nn.dense), "lift: " + UNCALLED.format("dense")),
        (lambda: nn.residual(nn.batch_norm), "residual: " + UNCALLED.format("batch_norm")),
        (lambda: nn.residual(nn.dense(3), skip=nn.dense), "residual: " + UNCALLED.format("dense")),
        (lambda: nn.repeat(nn.dense, 2), "repeat: " + UNCALLED.format("dense")),
        (lambda: nn.remat(nn.dropout), "remat: " + UNCALLED.format("dropout")),
        (lambda: nn.cast(nn.dense, jnp.float32), "cast: " + UNCALLED.format("dense")),
        (lambda: nn.time_distributed(nn.dense), "time_distributed: " + UNCALLED.format("dense")),
        (lambda: nn.call(nn.dense, "a", {}, {}, X), "call: " + UNCALLED.format("dense")),
        (lambda: nn.capture(nn.dense, "a"), "capture: " + UNCALLED.format("dense")),
        (lambda: nn.summary(nn.dense, X), "summary: " + UNCALLED.format("dense")),
        (lambda: nn.stateless(nn.dense), "stateless: " + UNCALLED.format("dense")),
        (
            lambda: nn.serial(lambda x: nn.dense(3)).init(jax.random.key(0), X),
            "lift: expected a Layer, got its factory <lambda>. Call it: <lambda>(...).",
        ),
        (lambda: nn.serial(3), f"serial: {NOT_A_LAYER} 3."),
        (lambda: nn.serial("relu"), f"serial: {NOT_A_LAYER} 'relu'."),
        (lambda: nn.repeat(None, 2), f"repeat: {NOT_A_LAYER} None."),
        (
            lambda: nn.serial([nn.dense(3), nn.relu]),
            f"serial: {NOT_A_LAYER} [the layer dense, the function relu]. Unpack them with a star: *layers.",
        ),
        (lambda: nn.lift(nn.dense(3)), "lift: expected a function of one input, got the layer dense."),
        (lambda: nn.lift(3), "lift: expected a function of one input, got 3."),
        (lambda: nn.layer(3, lambda p, s, x, *, key, train: (x, s), "k"), "k: expected init to be a function, got 3."),
        (lambda: nn.layer(None, None, "k"), "k: expected apply to be a function, got None."),
        (
            lambda: nn.layer(lambda key, x: {}, lambda: 0, "k").init(jax.random.key(0), X),
            "k: expected init to return (params, state), got {}.",
        ),
        (
            lambda: nn.layer(lambda key, x: ({}, None), lambda: 0, "k").init(jax.random.key(0), X),
            "k: expected init to return (params, state), got ({}, None).",
        ),
        (
            lambda: nn.layer(None, lambda p, s, x, *, key, train: x, "k").apply({}, {}, X),
            "k: expected apply to return (y, state), got float32[2, 4].",
        ),
        (
            lambda: nn.layer(None, lambda p, s, x, *, key, train: (s, x), "k").apply({}, {}, X),
            "k: expected apply to return (y, state), got ({}, float32[2, 4]).",
        ),
        (
            lambda: nn.dense(3).init(jax.random.key(0), [1.0, 2.0]),
            "dense: expected x to be arrays or shapes, got [1.0, 2.0]. Convert it: np.asarray(x, np.float32).",
        ),
        (lambda: nn.dense(3).apply({}, {}, X, train=1), f"dense: expected train to be a Python bool, got 1. {BIND}"),
        (
            lambda: jax.jit(nn.serial(nn.relu).apply)({}, {}, X, train=True),
            f"serial: expected train to be a Python bool, got a traced value. {BIND}",
        ),
        (
            lambda: jax.vmap(lambda t: nn.lift(nn.relu).apply({}, {}, X, train=t))(jnp.array([True])),
            f"relu: expected train to be a Python bool, got a traced value. {BIND}",
        ),
    ],
)
def test_wrong_types_name_the_place(make, text):
    with pytest.raises(TypeError) as caught:
        make()
    assert str(caught.value) == text


def test_a_factory_is_told_by_a_written_annotation_too():
    def mine(features):
        return nn.dense(features)

    for annotation in (nn.Layer, "Layer", "nn.Layer"):
        mine.__annotations__["return"] = annotation
        with pytest.raises(TypeError) as caught:
            nn.serial(mine)
        assert str(caught.value) == "serial: " + UNCALLED.format("mine")


def test_the_key_of_a_child_is_folded_with_the_crc32_of_its_name():
    key = jax.random.key(7)
    params, _ = nn.serial(nn.dense(3), nn.serial(nn.dense(2), name="block")).init(key, X)
    w_key, _ = jax.random.split(jax.random.fold_in(key, zlib.crc32(b"dense")))
    equal(params["dense"]["w"], nn.init.lecun_normal(w_key, (4, 3), jnp.float32))
    inner = jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(b"block")), zlib.crc32(b"dense"))
    equal(params["block"]["dense"]["w"], nn.init.lecun_normal(jax.random.split(inner)[0], (3, 2), jnp.float32))
    assert fold_name(None, "dense") is None


def test_adding_a_layer_leaves_the_numbers_of_the_others():
    key = jax.random.key(0)
    few, _ = nn.serial(nn.dense(4), nn.relu, nn.dense(4), nn.dense(2, name="head")).init(key, X)
    more, _ = nn.serial(
        nn.batch_norm(), nn.dense(4), nn.relu, nn.dense(4), nn.dense(4), nn.dropout(0.1), nn.dense(2, name="head")
    ).init(key, X)
    equal(few, {name: more[name] for name in few})


def test_a_child_draws_the_same_mask_wherever_it_stands():
    def mask(*before):
        model = nn.serial(*before, nn.dropout(0.5, name="drop"))
        return model.apply({}, {}, jnp.ones((2, 50)), key=jax.random.key(1), train=True)[0]

    equal(mask(), mask(nn.relu, nn.dropout(0.0)))
    two = nn.serial(nn.dropout(0.5), nn.dropout(0.5)).apply({}, {}, jnp.ones(4000), key=jax.random.key(1), train=True)[
        0
    ]
    assert abs(float((two == 0).mean()) - 0.75) < 0.03  # independent masks: 1 - 0.5²


def test_shared_weights_and_two_inputs():
    key = jax.random.key(3)
    model = twins(nn.serial(nn.dense(3), nn.relu), nn.dense(2))
    x = (jnp.asarray(X), jnp.asarray(X[::-1]))
    params, state = model.init(key, x)
    shapes = {"encoder": {"dense": {"b": (3,), "w": (4, 3)}}, "head": {"b": (2,), "w": (3, 2)}}
    assert jax.tree.map(jnp.shape, params) == shapes
    assert state == {}
    e, h = params["encoder"]["dense"], params["head"]
    code = [np.maximum(np.float64(v) @ np.float64(e["w"]) + np.float64(e["b"]), 0) for v in x]
    assert_close(model.apply(params, state, x)[0], np.abs(code[0] - code[1]) @ np.float64(h["w"]) + np.float64(h["b"]))
    equal(e["w"], nn.dense(3).init(fold_name(fold_name(key, "encoder"), "dense"), X)[0]["w"])


def test_a_layer_of_children_nests_in_itself_and_in_combinators():
    inner = twins(nn.dense(3), nn.batch_norm())
    x = (jnp.asarray(X), jnp.asarray(X[::-1]))
    outer = nn.serial(twins(nn.relu, nn.dense(4)), nn.repeat(nn.serial(nn.dense(4), nn.relu), 2))
    params, _ = jax.eval_shape(outer.init, jax.random.key(0), x)
    assert sorted(paths(params)) == ["serial/dense/b", "serial/dense/w", "twins/head/b", "twins/head/w"]
    nested = nn.layer(None, lambda p, s, x, *, key, train: nn.call(inner, "in", p, s, x, key=key, train=train), "out")
    params, state = nested.init(jax.random.key(0), x)
    assert sorted(paths(params)) == ["in/encoder/b", "in/encoder/w", "in/head/bias", "in/head/scale"]
    assert sorted(paths(state)) == ["in/head/mean", "in/head/var"]
    equal(params["in"], inner.init(fold_name(jax.random.key(0), "in"), x)[0])
    _, new = nested.apply(params, state, x, train=True)
    assert jax.tree.structure(new) == jax.tree.structure(state)


@pytest.mark.parametrize(
    ("apply", "text"),
    [
        (
            lambda p, s, x, *, key, train: nn.call(nn.dense(3), "a", p, s, nn.call(nn.dense(4), "a", p, s, x)[0]),
            "a: expected one child under one name, got two layers, dense and dense.",
        ),
        (
            lambda p, s, x, *, key, train: (x @ p["w"], s),
            'layer: reads params["w"], but a layer made with init=None has no params of its own. Pass init=.',
        ),
    ],
)
def test_a_layer_of_children_that_cannot_be_initialised(apply, text):
    with pytest.raises(ValueError) as caught:
        nn.layer(None, apply, "k").init(jax.random.key(0), X)
    assert str(caught.value) == text


def test_shared_weights_of_two_input_sizes_fail_at_init():
    with pytest.raises(ValueError) as caught:
        twins(nn.dense(3), nn.dense(2)).init(jax.random.key(0), (X, X[:, :2]))
    fix = "w was made for 4 features: initialise with x of this shape, or feed it the other."
    assert str(caught.value) == f"encoder: expected x of shape [..., 4], got float32[2, 2]. {fix}"


@pytest.mark.parametrize(
    "model",
    [
        nn.serial(nn.relu, nn.dropout(0.1), nn.flatten()),
        nn.serial(nn.serial(nn.relu), nn.parallel(nn.relu, nn.tanh, join="add")),
        nn.repeat(nn.serial(nn.serial(nn.relu)), 3),
        nn.layer(None, lambda p, s, x, *, key, train: nn.call(nn.relu, "a", p, s, x), "k"),
    ],
)
def test_layers_without_params_leave_no_nodes(model):
    params, state = model.init(jax.random.key(0), X)
    assert (params, state) == ({}, {})
    y, state = model.apply(params, state, X)
    assert y.shape == X.shape
    assert state == {}


# Initialisation.

MODEL = nn.serial(nn.dense(3), nn.batch_norm(), nn.relu, nn.dense(3, name="head"))
SHAPE = jax.ShapeDtypeStruct((2, 4), jnp.float32)


def test_init_from_shapes_alone_is_that_from_arrays():
    key = jax.random.key(0)
    eager = MODEL.init(key, SHAPE)
    equal(eager, MODEL.init(key, jnp.full(SHAPE.shape, jnp.nan)))
    equal(eager, MODEL.init(key, np.zeros(SHAPE.shape)))  # float64 of NumPy is float32 in JAX
    shapes = jax.eval_shape(MODEL.init, key, SHAPE)
    assert jax.tree.map(describe, shapes) == jax.tree.map(describe, eager)


@pytest.mark.slow
def test_init_under_jit_and_vmap():
    keys = jax.random.split(jax.random.key(0), 3)
    one_by_one = [MODEL.init(key, SHAPE) for key in keys]
    many = jax.vmap(lambda key: MODEL.init(key, SHAPE))(keys)
    equal(many, jax.tree.map(lambda *v: jnp.stack(v), *one_by_one))
    jitted = jax.jit(lambda key: MODEL.init(key, SHAPE))(keys[1])
    jax.tree.map(assert_close, jitted, one_by_one[1])


def test_a_model_too_large_for_any_machine_is_shaped():
    model = nn.serial(nn.dense(10**6), nn.relu, nn.repeat(nn.dense(10**6), 100))
    params, _ = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((8, 10**6), jnp.bfloat16))
    assert [describe(p) for p in jax.tree.leaves(params)] == [
        "float32[1000000]",
        "float32[1000000, 1000000]",
        "float32[100, 1000000]",
        "float32[100, 1000000, 1000000]",
    ]


def test_hyper_parameters_may_be_traced():
    x = jnp.ones((4000,))
    key = jax.random.key(0)

    def dropped(rate):
        return (nn.serial(nn.dropout(rate)).apply({}, {}, x, key=key, train=True)[0] == 0).mean()

    rates = jnp.array([0.0, 0.25, 0.75])
    assert np.abs(np.asarray(jax.jit(jax.vmap(dropped))(rates)) - np.asarray(rates)).max() < 0.03

    def running(momentum):
        norm = nn.serial(nn.batch_norm(momentum=momentum))
        params, state = norm.init(key, X)
        return norm.apply(params, state, X, train=True)[1]["batch_norm"]["mean"]

    got = jax.vmap(running)(jnp.array([0.0, 0.5, 1.0]))
    assert_close(got, np.array([1.0, 0.5, 0.0])[:, None] * X.mean(axis=0, dtype=np.float64))


def test_stateless_is_the_model_without_its_state():
    model = nn.serial(nn.dense(3), nn.dropout(0.5), nn.relu)
    init, apply = nn.stateless(model)
    params = init(jax.random.key(0), X)
    equal(params, model.init(jax.random.key(0), X)[0])
    equal(apply(params, X), model.apply(params, {}, X)[0])
    key = jax.random.key(1)
    equal(apply(params, X, key=key, train=True), model.apply(params, {}, X, key=key, train=True)[0])
    assert jax.grad(lambda p: apply(p, X).sum())(params)["dense"]["w"].shape == (4, 3)


def test_operations_carry_the_path_of_their_layer():
    model = nn.serial(nn.serial(nn.dense(3), name="block"))
    params, state = model.init(jax.random.key(0), X)
    text = jax.jit(lambda p, x: model.apply(p, state, x)[0]).lower(params, X).as_text(debug_info=True)
    assert "block/dense/dot_general" in text


@pytest.mark.slow
def test_operations_of_a_profile_have_the_paths_of_their_layers(tmp_path):
    block = nn.remat(nn.serial(nn.dense(8, name="inner"), nn.tanh, name="block"))
    model = nn.serial(nn.dense(8, name="hidden"), nn.repeat(block, 3), nn.dense(8, name="head"))
    trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, nn.adam(1e-3))
    batch = np.ones((4, 4), np.float32), np.zeros(4, np.int32)
    ts = trainer.init(jax.random.key(0), batch)
    step = jax.jit(trainer.step).lower(ts, batch).compile()
    with jax.profiler.trace(tmp_path):
        jax.block_until_ready(step(ts, batch))
    (file,) = tmp_path.rglob("*.xplane.pb")
    lines = [line for plane in jax.profiler.ProfileData.from_file(str(file)).planes for line in plane.lines]
    traced = {dict(event.stats).get("hlo_op") for line in lines for event in line.events}
    paths = dict(re.findall(r'([\w.-]+) = [^\n]*op_name="([^"]*)"', step.as_text()))
    ran = {paths[name] for name in traced & paths.keys() if "dot_general" in paths[name]}
    body = "while/body/closed_call"
    assert ran >= {
        "jit(step)/jvp(hidden)/dot_general",
        f"jit(step)/jvp(block)/{body}/inner/dot_general",
        f"jit(step)/transpose(jvp(block))/{body}/checkpoint/rematted_computation/inner/dot_general",
        f"jit(step)/transpose(jvp(block))/{body}/checkpoint/inner/dot_general",
        "jit(step)/transpose(jvp(head))/dot_general",
    }
    assert all(path.encode() in file.read_bytes() for path in ran)  # so viewers find them in the file alone
