"""A run that begins with params that exist: what is taken, what is drawn, what is refused; and parts that stay put."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
DATA = X, X[:, :1]
BODY = nn.serial(nn.dense(3), nn.batch_norm(), name="body")
MODEL = nn.serial(BODY, nn.tanh, nn.dense(1, name="head"))
PARAMS, STATE = MODEL.init(jax.random.key(7), X)
BACKBONE = {"body": PARAMS["body"]}


def trainer(model=MODEL, **how):
    return nn.trainer(model, nn.losses.squared_error, nn.sgd(0.0), **how)


def leaves_equal(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def test_all_or_some_of_the_params_are_taken_and_the_rest_is_drawn():
    t = trainer()
    drawn = t.init(KEY, DATA)
    assert leaves_equal(t.init(KEY, DATA, params=PARAMS, state=STATE).params, PARAMS)
    part = t.init(KEY, DATA, params=BACKBONE)
    assert leaves_equal(part.params["body"], PARAMS["body"])
    assert leaves_equal(part.params["head"], drawn.params["head"])
    assert leaves_equal(part.state, drawn.state)
    host = t.init(KEY, DATA, params=jax.tree.map(np.asarray, PARAMS))
    assert leaves_equal(host.params, PARAMS)


@pytest.mark.parametrize("go", [pytest.param(nn.fit, marks=pytest.mark.slow), nn.drive])
@pytest.mark.slow
def test_runs_begin_with_them(go):
    state = jax.tree.map(lambda v: v + 2, STATE)
    how = {"progress": False} if go is nn.drive else {}
    run = go(trainer(), KEY, DATA, epochs=1, batch_size=4, params=BACKBONE, state=state, **how)
    assert leaves_equal(run.ts.params["body"], PARAMS["body"])  # the rate is 0
    assert not leaves_equal(run.ts.params["head"], PARAMS["head"])
    again = go(trainer(nn.inference(MODEL)), KEY, DATA, epochs=1, batch_size=4, params=PARAMS, state=state, **how)
    assert leaves_equal(again.ts.state, state)


@pytest.mark.slow
def test_a_row_of_runs_and_a_traced_backbone():
    keys = jax.random.split(KEY, 3)
    runs = nn.drive(trainer(), keys, DATA, epochs=1, batch_size=4, params=BACKBONE, progress=False)
    assert_close(runs.ts.params["body"]["dense"]["w"], jnp.stack([PARAMS["body"]["dense"]["w"]] * 3))
    grow = jax.jit(lambda a: nn.fit(trainer(), KEY, DATA, epochs=1, params={"body": {"dense": {"b": a}}}))
    assert_close(grow(jnp.ones(3)).ts.params["body"]["dense"]["b"], jnp.ones(3))


def test_in_inference_nothing_moves_and_nothing_is_dropped():
    frozen = nn.serial(nn.inference(nn.serial(nn.batch_norm(), nn.dropout(0.5))), nn.dense(1))
    t = trainer(frozen)
    ts = t.init(KEY, DATA)
    new, metrics = t.step(ts, DATA)
    assert leaves_equal(new.state, ts.state)
    assert_close(metrics["loss"], t.evaluate(ts, DATA)["loss"])
    assert nn.inference(nn.dense(2)).name == "dense"


ERRORS = {
    "a list": ({"params": [1.0]}, TypeError, "params to be a nested dict of arrays, as init makes them, got [1.0]."),
    "another path": ({"params": {"tail": {"w": X}}}, ValueError, "a dict where nothing is, at tail."),
    "another shape": (
        {"params": {"head": {"w": np.ones((4, 1), np.float32)}}},
        ValueError,
        "float32[4, 1] where float32[3, 1] is, at head/w.",
    ),
    "another dtype": (
        {"params": {"head": {"b": np.ones(1, np.float16)}}},
        ValueError,
        "float16[1] where float32[1] is, at head/b.",
    ),
    "an array for a dict": ({"params": {"head": X}}, ValueError, "float32[12, 4] where a dict is, at head."),
    "a dict for an array": (
        {"params": {"head": {"w": {"v": X}}}},
        ValueError,
        "a dict where float32[3, 1] is, at head/w.",
    ),
    "state": (
        {"state": {"body": {"batch_norm": {"mean": np.ones(2, np.float32)}}}},
        ValueError,
        "float32[2] where float32[3] is, at body/batch_norm/mean.",
    ),
    "many": (
        {"params": {f"layer_{i}": X for i in range(6)}},
        ValueError,
        "float32[12, 4] where nothing is, at layer_3 and 2 more.",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    given, kind, text = ERRORS[case]
    with pytest.raises(kind) as excinfo:
        trainer().init(KEY, DATA, **given)
    assert text in str(excinfo.value)
    assert str(excinfo.value).startswith("trainer: expected ")
