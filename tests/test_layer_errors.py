"""Errors on their way out of a model: our own carry the whole path, all others a note; and how values are described."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn
from jaxnn._errors import describe, invalid, wrong_type

X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)


def bad():
    """Fails in `apply` on three columns, with the block's path in front."""
    return nn.serial(nn.serial(nn.dense(4), name="block2"))


FIX = "w was made for 4 features: initialise with x of this shape, or feed it the other."


def scan_over(params, x):
    return jax.lax.scan(lambda c, v: (c, bad().apply(params, {}, v)[0]), 0, x[None])


@pytest.mark.parametrize(
    ("run", "path"),
    [
        (lambda p, x: bad().apply(p, {}, x), "block2/dense"),
        (lambda p, x: nn.serial(bad(), name="top").apply({"serial": p}, {}, x), "serial/block2/dense"),
        (jax.jit(lambda p, x: bad().apply(p, {}, x)[0]), "block2/dense"),
        (lambda p, x: jax.vmap(lambda v: bad().apply(p, {}, v)[0])(x[None]), "block2/dense"),
        (scan_over, "block2/dense"),
        (lambda p, x: jax.grad(lambda p: bad().apply(p, {}, x)[0].sum())(p), "block2/dense"),
        (lambda p, x: nn.remat(bad()).apply(p, {}, x), "block2/dense"),
        (lambda p, x: nn.serial(nn.remat(bad())).apply({"serial": p}, {}, x), "serial/block2/dense"),
        (lambda p, x: nn.residual(bad()).apply(p, {}, x), "block2/dense"),
        (lambda p, x: nn.repeat(bad(), 1).apply(jax.tree.map(lambda v: v[None], p), {}, x), "block2/dense"),
        (lambda p, x: nn.time_distributed(bad()).apply(p, {}, x[None]), "block2/dense"),
        (lambda p, x: nn.cast(bad(), "float32").apply(p, {}, x), "block2/dense"),
        (lambda p, x: nn.capture(bad(), "block2").apply(p, {}, x), "block2/dense"),
    ],
)
def test_an_error_names_the_whole_path(run, path):
    params, _ = bad().init(jax.random.key(0), X)
    with pytest.raises(ValueError) as caught:
        run(params, jnp.ones((2, 3)))
    assert str(caught.value) == f"{path}: expected x of shape [..., 4], got float32[2, 3]. {FIX}"


def test_an_error_of_init_names_the_whole_path():
    model = nn.serial(nn.repeat(nn.serial(nn.flatten(), nn.residual(nn.dense(4)), name="block"), 2))
    fix = "Convert it first, for example x.astype(jnp.float32) / 255 for images of bytes."
    with pytest.raises(TypeError) as caught:
        model.init(jax.random.key(0), jnp.ones((2, 4), jnp.int32))
    assert (
        str(caught.value) == f"block/dense: expected x of shape [..., d] and a floating dtype, got int32[2, 4]. {fix}"
    )


def test_training_without_a_key_names_the_layer():
    with pytest.raises(ValueError) as caught:
        nn.serial(nn.serial(nn.dropout(0.1), name="block")).apply({}, {}, X, train=True)
    assert str(caught.value) == "block/dropout: expected a key when train=True, got None. Pass key= to apply."


@pytest.mark.parametrize(
    "run",
    [
        lambda model: model.apply({}, {}, jnp.ones((2, 4))),
        lambda model: jax.jit(lambda x: model.apply({}, {}, x)[0])(jnp.ones((2, 4))),
        lambda model: nn.remat(model).apply({}, {}, jnp.ones((2, 4))),
        lambda model: model.init(jax.random.key(0), nn.relu(jnp.ones((2, 4)))),
    ],
)
def test_other_exceptions_get_one_note_with_the_whole_path(run):
    def fails(x):
        raise KeyError("gone")

    with pytest.raises(KeyError) as caught:
        run(nn.serial(nn.serial(nn.lift(fails, name="odd"), nn.relu, name="block")))
    assert caught.value.args == ("gone",)
    assert [note for note in caught.value.__notes__ if "layer" in note] == ["in the layer block/odd"]


@pytest.mark.parametrize(
    ("params", "error", "text"),
    [
        ({}, ValueError, "block/dense: expected params and state with w, got none. Pass what"),
        (
            {"block": {"dense": {"w": jnp.ones((4, 2))}}},
            ValueError,
            "block/dense: expected params and state with b, got w. Pass what",
        ),
        (None, TypeError, "serial: expected params to be a nested dict, as init makes them, got None."),
        (
            [jnp.ones(2)],
            TypeError,
            "serial: expected params to be a nested dict, as init makes them, got [float32[2]].",
        ),
        (
            {"block": jnp.ones(2)},
            TypeError,
            "block: expected params to be a nested dict, as init makes them, got float32[2].",
        ),
    ],
)
def test_params_of_another_model(params, error, text):
    with pytest.raises(error) as caught:
        nn.serial(nn.serial(nn.dense(2), name="block")).apply(params, {}, X)
    assert str(caught.value) == text.replace(
        "Pass what", "Pass what init, or the step before, made for this very model."
    )


def test_a_state_that_is_missing():
    model = nn.serial(nn.batch_norm())
    params, _ = model.init(jax.random.key(0), X)
    with pytest.raises(ValueError) as caught:
        model.apply(params, {}, X)
    assert str(caught.value) == (
        "batch_norm: expected params and state with mean, got scale, bias. "
        "Pass what init, or the step before, made for this very model."
    )


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (np.zeros((2, 3), np.int8), "int8[2, 3]"),
        (np.float32(1), "float32[]"),
        (jax.ShapeDtypeStruct((), jnp.bfloat16), "bfloat16[]"),
        (jax.random.key(0), "key<fry>[]"),
        ((np.zeros(1, bool),), "(bool[1],)"),
        ([1, "a"], "[1, 'a']"),
        ({"w": np.zeros(2, np.float32), "n": None}, "{'w': float32[2], 'n': None}"),
        (nn.dense(3), "the layer dense"),
        (nn.relu, "the function relu"),
    ],
)
def test_describe(x, text):
    assert describe(x) == text


def test_the_two_errors():
    assert str(invalid("a", "b", 1, "Do c.")) == "a: expected b, got 1. Do c."
    assert str(invalid("a", "b", "a str", "Do c.")) == "a: expected b, got 'a str'. Do c."
    assert str(wrong_type("a", "b", told="as it is", fix="Do c.")) == "a: expected b, got as it is. Do c."
    assert isinstance(invalid("a", "b", 1), ValueError)
    assert isinstance(wrong_type("a", "b", 1), TypeError)
