"""How models and optimizers print, and which of them are alike."""

import jax
import jax.numpy as jnp
import optax
import pytest

import jaxnn as nn
from jaxnn._calls import alike, call_of


def scale(x):
    return 2 * x


TREES = {
    "a layer": (nn.conv(8, (3, 5), padding="valid", bias=True), "conv(8, (3, 5), padding='valid')"),
    "a name": (nn.dense(2, name="head"), "dense(2, name='head')"),
    "a function": (nn.lift(scale), "scale"),
    "a layer of the user's": (nn.layer(None, lambda params, state, x, key, train: (x, state), "mine"), "mine"),
    "an array": (nn.dropout(jnp.float32(0.1)), "dropout(float32[])"),
    "a row": (
        nn.serial(nn.dense(16), nn.relu, nn.dense(2), scale, name="net"),
        "serial(name='net',\n  dense: dense(16)\n  relu: relu\n  dense_1: dense(2)\n  scale: scale\n)",
    ),
    "wrappers": (
        nn.repeat(nn.residual(nn.dense(3), skip=nn.cast(nn.dense(3), jnp.bfloat16)), 4, unroll=True),
        "repeat(4, unroll=True,\n  block: residual(\n    block: dense(3)\n"
        "    skip: cast(bfloat16,\n      child: dense(3)\n    )\n  )\n)",
    ),
}


@pytest.mark.parametrize("case", TREES)
def test_a_model_prints_as_a_tree(case):
    model, text = TREES[case]
    assert repr(model) == str(model) == text


OPTIMIZERS = {
    "rate": (nn.adam(1e-3), "adam(0.001)"),
    "settings": (nn.adamw(0.1, weight_decay=0.5, mask="*w"), "adamw(0.1, weight_decay=0.5, mask='*w')"),
    "defaults": (nn.sgd(0.1, momentum=None), "sgd(0.1)"),
    "schedule": (nn.rmsprop(optax.constant_schedule(0.1)), "rmsprop(<lambda>)"),
    "around": (nn.compensated(nn.adam(0.1, b1=0.5)), "compensated(adam(0.1, b1=0.5))"),
    "groups": (nn.by_path({"*/b": None, "*": nn.lion(0.1)}), "by_path({'*/b': None, '*': lion(0.1)})"),
    "flat": (nn.flat(nn.adagrad(0.1)), "flat(adagrad(0.1))"),
}


@pytest.mark.parametrize("case", OPTIMIZERS)
def test_an_optimizer_prints_as_its_call(case):
    optimizer, text = OPTIMIZERS[case]
    assert repr(optimizer) == text
    assert isinstance(optimizer, optax.GradientTransformationExtraArgs)


ALIKE = {
    "layers": lambda: nn.dense(3),
    "rows": lambda: nn.serial(nn.conv(3, (3, 3)), nn.relu, nn.residual(nn.dense(2)), scale),
    "names": lambda: nn.serial(nn.dense(3, name="a"), nn.dense(3)),
    "optimizers": lambda: nn.adam(0.1, b1=0.5),
}
OTHERS = {
    "a number": lambda x: nn.dense(x),
    "a type": lambda x: nn.residual(nn.dropout([0, 0.0][x % 2])),
    "a name": lambda x: nn.serial(nn.dense(3, name=f"n{x}")),
    "an array": lambda x: nn.dropout(jnp.float32(0.5)),
    "a function": lambda x: nn.lift(lambda y: y),
    "a layer of the user's": lambda x: nn.layer(None, lambda params, state, x, key, train: (x, state), "mine"),
}


@pytest.mark.parametrize("case", ALIKE)
def test_equal_calls_are_alike(case):
    one, other = ALIKE[case](), ALIKE[case]()
    assert alike(one) == alike(other)
    assert hash(alike(one)) == hash(alike(other))


@pytest.mark.parametrize("case", OTHERS)
@pytest.mark.slow
def test_others_are_not(case):
    one, other = OTHERS[case](1), OTHERS[case](2)
    assert alike(one) != alike(other)
    assert alike(one) == alike(one)


def test_every_layer_and_optimizer_knows_its_call():
    made = [nn.dense(3), nn.serial(), nn.lstm(3), nn.flatten(), nn.adam(0.1), nn.ensemble(nn.dense(2), 2)]
    assert [call_of(m).function.__name__ for m in made] == ["dense", "serial", "lstm", "flatten", "adam", "ensemble"]
    trainer = nn.trainer(made[0], nn.losses.squared_error, made[4], frozen="w")
    assert call_of(trainer) == (nn.trainer.__wrapped__, (made[0], nn.losses.squared_error, made[4]), {"frozen": "w"})
    assert [call_of(other) for other in ((), (1,), (1, 2), nn.TrainState(*range(6)), None)] == [None] * 5


def test_a_call_lives_no_longer_than_what_it_made():
    import gc
    import weakref

    child = nn.dense(3)
    there = weakref.ref(child.apply)
    model = nn.serial(child, nn.relu)
    assert jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 2)))
    del child, model
    gc.collect()
    assert there() is None
