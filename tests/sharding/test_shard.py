"""Trainers over eight devices equal those on one; their collectives, their memory, rules, and the errors of these."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jaxnn as nn
from jaxnn._calls import call_of
from jaxnn._flops import programs_in
from jaxnn.sharding._axes import _over_slices
from jaxnn.sharding._rules import specs

SCRIPT = Path(__file__).with_name("_eight.py")
PLANS = {
    "mlp": (["data", "fsdp x tensor"], ["fsdp", "tensor"]),  # of the slow tier, and of the nightly one
    "cnn": (["fsdp x tensor"], ["data", "fsdp"]),
    "lstm": (["fsdp x seq"], ["data", "fsdp", "fsdp x tensor"]),
    "mixture": (["expert"], ["data", "expert along data", "fsdp x tensor x expert"]),
    "experts": ([], ["data", "expert", "expert along data"]),
    "deep_mlp": (["fsdp x pipeline"], ["pipeline", "tensor x pipeline"]),
    "deep_transformer": (["fsdp x pipeline"], ["pipeline", "tensor x pipeline"]),
    "transformer": (["fsdp x tensor x seq"], ["data", "fsdp", "tensor", "seq", "fsdp x tensor", "fsdp x seq"]),
}


def run(*args):
    done = subprocess.run([sys.executable, SCRIPT, *args], capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("tier", [0, pytest.param(1, marks=pytest.mark.nightly)], ids=["slow", "nightly"])
def test_twenty_steps_equal_those_on_one_device(tier):
    cases = [f"{model}, {plan}" for model, plans in PLANS.items() for plan in plans[tier]]
    found = run("float64", *cases)
    assert list(found) == cases
    assert {case: d for case, d in found.items() if not d < 1e-10} == {}


@pytest.mark.slow
def test_collectives_of_a_step():
    """XLA:CPU writes a reduce-scatter as an all-reduce and a slice, and sums up several arrays at once."""
    found = run("collectives")
    assert found["data"] == {"all-reduce": 1}
    # Three layers: all params in the forward pass, in the backward pass the weights through which a gradient passes.
    assert found["fsdp"] == {"all-gather": 3 * 2 + 2, "all-reduce": 1}
    # Two in the forward and two in the backward pass.
    assert found["tensor, a block"] == {"all-reduce": 4, "others": []}
    # Tokens to their experts and back, in both passes.
    assert found["mixture"]["all-to-all"] == 4
    assert "all-gather" not in found["mixture"]
    # Parts of the batch to the next stage, in the loops of both passes.
    assert found["deep_mlp"]["collective-permute"] == 2
    assert set(found["deep_mlp"]) == {"all-reduce", "collective-permute"}
    # Keys and values; their gradients. Those of the weights are in the sum at the end.
    assert found["seq, a block"] == {"all-gather": 2, "all-reduce": 1, "others": []}


@pytest.mark.slow
def test_n_devices_hold_an_nth_each():
    found = run("memory")
    whole = found["1: state"]
    assert whole == 3 * 4 * 3 * (512 * 512 + 512)  # params and both moments
    batch, rest = 4 * 32 * (512 + 1), 64  # examples and labels; step, key and count
    for n in (1, 2, 8):
        assert found[f"{n}: state"] * n == whole
        assert found[f"{n}: state"] <= found[f"{n}: donated"] <= found[f"{n}: arguments"]
        assert found[f"{n}: arguments"] <= (whole + batch) / n + rest
    assert found["init: whole params"] == 0
    # Params and moments of the stages; each has the batch, and the step, key and count.
    assert found["pipeline of 4"] - batch <= (found["pipeline of 1"] - batch) / 4 + rest
    # Of a stack of 16 layers: gradients of 16 / 8, and beside them less than three layers, not all that are gathered.
    assert found["stack: fsdp"] < 5 * 4 * (512 * 512 + 512)


@pytest.mark.slow
def test_whole_runs_equal_those_on_one_device():
    found = run("runs")
    indivisible = "shard: expected axis 0 of batch[0] of shape [70, 8] to be divisible by data = 8, got 70."
    assert found.pop("error") == indivisible
    lies = {name: value for name, value in found.items() if isinstance(value, bool)}
    assert len(lies) == 5
    assert all(lies.values()), lies
    assert {name: d for name, d in found.items() if name not in lies and not d < 1e-5} == {}


# On one device.

MODEL = nn.serial(nn.dense(8), nn.relu, nn.dense(4))
TRAINER = nn.trainer(MODEL, nn.losses.squared_error, nn.adam(0.1), average=0.9)
BATCH = np.ones((8, 6), np.float32), np.zeros((8, 4), np.float32)


def test_a_sharded_trainer_is_the_trainer_on_a_mesh_of_one_device():
    rules = [nn.sharding.tensor_parallel(), nn.sharding.fsdp()]
    sharded = nn.shard(TRAINER, nn.mesh("data=1, model=1"), rules)
    got, want = (jax.jit(t.step)(t.init(jax.random.key(0), BATCH), BATCH) for t in (sharded, TRAINER))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), got, want)
    assert jax.eval_shape(sharded.gradients, got[0], BATCH).keys() == got[0].params.keys()
    assert jax.eval_shape(sharded.outcome, got[0], BATCH)[2].shape == (8, 4)
    assert jax.eval_shape(lambda ts: sharded.evaluate(ts, BATCH, totals=True), got[0])["loss"].count.shape == ()
    assert call_of(sharded) is call_of(TRAINER)  # a folder of `drive` compares the settings of this call
    members = jax.vmap(lambda key: sharded.step(sharded.init(key, BATCH), BATCH)[1]["loss"])
    assert jax.eval_shape(members, jax.random.split(jax.random.key(0), 3)).shape == (3,)


def constraints(program, shape):
    """PartitionSpec and dtype of each sharding constraint on an array of this shape in a program."""
    for eqn in program.eqns:
        if eqn.primitive.name == "sharding_constraint" and eqn.invars[0].aval.shape == shape:
            yield tuple(eqn.params["sharding"].spec), eqn.invars[0].aval.dtype.name
        for inner in (p for value in eqn.params.values() for p in programs_in(value)):
            yield from constraints(inner, shape)


GATHERS = {  # the dtype in which a weight is gathered, in the forward and in the backward pass
    "layers": (lambda net: net, "float32"),
    "remat": (nn.remat, "float32"),
    "remat that keeps products": (lambda net: nn.remat(net, policy=jax.checkpoint_policies.dots_saveable), "float32"),
    "cast": (lambda net: nn.cast(net, jnp.bfloat16), "bfloat16"),
}


@pytest.mark.parametrize("name", GATHERS)
def test_a_weight_is_gathered_twice_and_its_gradient_never_whole(name):
    wrap, dtype = GATHERS[name]
    model = wrap(nn.serial(nn.dense(10), nn.relu, nn.dense(4)))
    sharded = nn.shard(nn.trainer(model, nn.losses.squared_error, nn.sgd(0.1)), nn.mesh("data=1"), nn.sharding.fsdp())
    ts = jax.eval_shape(sharded.init, jax.random.key(0), BATCH)
    program = jax.make_jaxpr(sharded.step)(ts, BATCH).jaxpr
    whole = [of for spec, of in constraints(program, (10, 4)) if spec == (None, None)]
    assert whole == [dtype] * 2


def test_functions_that_a_trainer_lacks_stay_unknown():
    sharded = nn.shard(TRAINER._replace(gradients=None, outcome=None), nn.mesh("data=1"))
    assert (sharded.gradients, sharded.outcome) == (None, None)


PARAMS = {
    "embed": {"w": (32, 12)},
    "block": {"attention": {"w_q": (5, 12, 8), "b_q": (5, 8), "w_o": (5, 8, 12), "b_o": (5, 12)}},
    "dense": {"w": (12, 8), "b": (8,)},
    "dense_1": {"w": (8, 12), "b": (12,)},
    "dense2": {"w": (8, 12)},
    "conv": {"w": (3, 3, 2, 4)},
    "scale": (),
}
SHAPES = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s, jnp.float32), PARAMS, is_leaf=lambda s: isinstance(s, tuple))
SIZES = {"data": 4, "model": 2}
# path: by tensor_parallel, by fsdp, by both
TABLE = {
    "embed/w": (P("model", None), P("data", None), P("model", "data")),
    "block/attention/w_q": (P(None, None, "model"), P(None, "data", None), P(None, "data", "model")),
    "block/attention/b_q": (P(None, "model"), P(None, "data"), P(None, "model")),
    "block/attention/w_o": (P(None, "model", None), P(None, None, "data"), P(None, "model", "data")),
    "block/attention/b_o": (P(None, None), P(None, "data"), P(None, "data")),
    "dense/w": (P(None, "model"), P("data", None), P("data", "model")),
    "dense/b": (P("model"), P("data"), P("model")),
    "dense_1/w": (P("model", None), P(None, "data"), P("model", "data")),
    "dense_1/b": (P(None), P("data"), P("data")),
    "dense2/w": (P("model", None), P(None, "data"), P("model", "data")),
    "conv/w": (P(None, None, None, None), P(None, None, None, "data"), P(None, None, None, "data")),
    "scale": (P(), P(), P()),
}
TENSOR, FSDP = nn.sharding.tensor_parallel(), nn.sharding.fsdp()


@pytest.mark.parametrize(("column", "rules"), [(0, TENSOR), (1, FSDP), (2, [TENSOR, FSDP])])
def test_rules(column, rules):
    assert specs("shard", SHAPES, SIZES, rules) == {path: row[column] for path, row in TABLE.items()}


def test_rules_in_order():
    first = {"dense/*": P(None), "dense*": P("model"), "conv/w": P(None, None, ("data", "model"))}
    with pytest.raises(ValueError, match="conv/w"):  # it has 2 channels
        specs("shard", SHAPES, SIZES, first)
    changed = specs("shard", SHAPES, SIZES, [TENSOR, {"dense/*": P(None), "dense*": P("model")}, FSDP])
    assert changed["dense/w"] == P("data", None)
    assert changed["dense_1/b"] == P("model")
    assert changed["embed/w"] == P("model", "data")
    large = specs("shard", SHAPES, SIZES, nn.sharding.fsdp(least=384))
    assert {path for path, spec in large.items() if "data" in spec} == {"embed/w", "block/attention/w_q"} | {
        "block/attention/w_o"
    }


def test_rules_of_experts_and_stages_keep_the_axes_of_earlier_ones():
    block = nn.serial(nn.dense(8), nn.mixture_of_experts(4, hidden=6))
    model = nn.serial(nn.repeat(block, 8, name="blocks"), nn.mixture_of_experts(8, hidden=4, name="last"))
    rules = [TENSOR, nn.sharding.expert_parallel(), nn.sharding.pipeline("blocks/*"), FSDP]
    x = jax.ShapeDtypeStruct((4, 3, 8), jnp.float32)
    table = nn.summary(model, x, mesh="data=2, expert=2, model=2, stage=4", rules=rules)
    found = {
        f"{row.path}/{name}": tuple(spec)
        for row, part in zip(table.rows, table.parts[:-1], strict=True)
        for name, spec in part.specs.items()
    }
    blocks = "blocks/mixture_of_experts"
    assert found == {
        "blocks/dense/b": ("stage", "model"),
        "blocks/dense/w": ("stage", "data", "model"),
        f"{blocks}/experts/down/b": ("stage", "expert", "data"),
        f"{blocks}/experts/down/w": ("stage", "expert", "model", "data"),
        f"{blocks}/experts/up/b": ("stage", "expert", "model"),
        f"{blocks}/experts/up/w": ("stage", "expert", "data", "model"),
        f"{blocks}/router/w": ("stage", "data", None),
        "last/experts/down/b": ("expert", "data"),
        "last/experts/down/w": ("expert", "model", "data"),
        "last/experts/up/b": ("expert", "model"),
        "last/experts/up/w": ("expert", "data", "model"),
        "last/router/w": ("data", None),
    }


STAGED, DENSE = nn.sharding.pipeline("*"), nn.dense(6)


def piped(rules=STAGED, microbatches=4, block=DENSE):
    """A step of a stack on a mesh of one stage."""
    trainer = nn.trainer(nn.repeat(block, 2), nn.losses.squared_error, nn.sgd(0.1))
    spread = nn.shard(trainer, nn.mesh("stage=1"), rules, microbatches=microbatches)
    batch = BATCH[0], BATCH[0]
    return jax.eval_shape(spread.step, trainer.init(jax.random.key(0), batch), batch)


@dataclass(frozen=True)
class OfSlice:
    """A device of one of several slices, as far as a mesh looks at it."""

    id: int
    slice_index: int
    device_kind: str = "cpu"
    platform: str = "cpu"


SLICES = [OfSlice(i, i // 4) for i in range(8)]


def test_slices_lie_along_the_first_axis():
    laid = _over_slices({"data": 4, "model": 2}, 2, SLICES[::-1])
    assert [[device.slice_index for device in row] for row in laid] == [[0, 0], [0, 0], [1, 1], [1, 1]]
    assert {device.id for device in laid.flat} == set(range(8))


def test_a_mesh_of_given_devices():
    assert nn.mesh("data=-1", devices=jax.devices()[:1]).devices.tolist() == jax.devices()[:1]


EXPLICIT = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Explicit,))
ONE = nn.mesh("data=1")
UP = {"up": {"w": jax.ShapeDtypeStruct((6, 8), jnp.float32)}}
ERRORS = {
    "form": (
        lambda: nn.mesh("data 4"),
        ValueError,
        "mesh: expected axes such as 'data=4, model=2', with sizes >= 1 or one of -1, got 'data 4'.",
    ),
    "size": (
        lambda: nn.mesh("data=0"),
        ValueError,
        "mesh: expected axes such as 'data=4, model=2', with sizes >= 1 or one of -1, got 'data=0'.",
    ),
    "name twice": (
        lambda: nn.mesh("data=1, data=1"),
        ValueError,
        "mesh: expected the axis data at most once, got 'data=1, data=1'.",
    ),
    "rest twice": (
        lambda: nn.mesh("data=-1, model=-1"),
        ValueError,
        "mesh: expected a size of -1 at most once, got 'data=-1, model=-1'.",
    ),
    "devices": (
        lambda: nn.mesh("data=64, model=-1"),
        ValueError,
        "mesh: expected at least 64 devices for 'data=64, model=-1', got 1. For virtual ones: "
        "nn.cores_as_devices(64) before the first computation.",
    ),
    "no devices": (
        lambda: nn.mesh("data=1", devices=2),
        TypeError,
        "mesh: expected devices to be a sequence of devices, got 2. Such as jax.devices().",
    ),
    "slices": (
        lambda: nn.mesh("data=3, model=2", devices=SLICES[1:7]),
        ValueError,
        "mesh: expected the first axis to be divisible by 2 slices, got data=3.",
    ),
    "a trainer": (
        lambda: nn.shard(MODEL, ONE),
        TypeError,
        "shard: expected a Trainer, got the layer serial. nn.trainer(model, loss, optimizer) makes one.",
    ),
    "axis_name": (
        lambda: nn.shard(nn.trainer(MODEL, nn.losses.squared_error, nn.sgd(0.1), axis_name="data"), ONE),
        ValueError,
        "shard: expected a trainer without axis_name, which is for jax.shard_map, got axis_name='data'.",
    ),
    "mesh": (
        lambda: nn.shard(TRAINER, "data=1"),
        TypeError,
        "shard: expected a mesh of Auto axes, got 'data=1'. nn.mesh('data=4, model=2') makes one.",
    ),
    "explicit": (
        lambda: nn.shard(TRAINER, EXPLICIT),
        TypeError,
        "shard: expected a mesh of Auto axes, got a mesh of other axes. nn.mesh('data=4, model=2') makes one.",
    ),
    "rule": (
        lambda: nn.shard(TRAINER, ONE, {"*": ("data",)}),
        TypeError,
        "shard: expected rules to be dicts from patterns to PartitionSpecs, or functions, got {'*': ('data',)}. "
        "Such as {'*/w': jax.sharding.PartitionSpec(None, 'model')}, or nn.sharding.fsdp().",
    ),
    "batch": (
        lambda: nn.shard(TRAINER, ONE, batch=P("model")),
        ValueError,
        "shard: expected batch of mesh axes among data, got PartitionSpec('model').",
    ),
    "microbatches": (
        lambda: nn.shard(TRAINER, ONE, microbatches=0),
        ValueError,
        "shard: expected microbatches to be an integer >= 1, got 0.",
    ),
    "no microbatches": (
        lambda: piped(microbatches=None),
        ValueError,
        "shard: expected microbatches with params along 'stage', and only then, got microbatches=None.",
    ),
    "no stage": (
        lambda: piped({}),
        ValueError,
        "shard: expected microbatches with params along 'stage', and only then, got microbatches=4.",
    ),
    "parts of a batch": (
        lambda: piped(microbatches=3),
        ValueError,
        "shard: expected axis 0 of batch[0] of shape [8, 6] to be divisible by microbatches · devices = 3, got 8.",
    ),
    "state in a pipeline": (
        lambda: piped(block=nn.batch_norm()),
        ValueError,
        "repeat: expected a pipeline of blocks without state, got mean, var.",
    ),
    "copies and stages": (
        lambda: specs("shard", {"blocks": UP}, {"stage": 4}, nn.sharding.pipeline("blocks/*")),
        ValueError,
        "shard: expected axis 0 of blocks/up/w of shape [6, 8] to be divisible by stage = 4, got 6.",
    ),
    "no axis of stages": (
        lambda: specs("shard", UP, SIZES, nn.sharding.pipeline("up/*")),
        ValueError,
        "pipeline: expected axis_name to be an axis of the mesh, data or model, got 'stage'.",
    ),
    "no experts": (
        lambda: specs("shard", UP, {"expert": 2}, nn.sharding.expert_parallel()),
        ValueError,
        "shard: expected each rule to change the sharding of some param, got expert_parallel, which changes none.",
    ),
    "no match": (
        lambda: specs("shard", UP, SIZES, {"down/*": P()}),
        ValueError,
        "shard: expected rules to match some of up/w, got 'down/*'.",
    ),
    "no change": (
        lambda: specs("shard", {"scale": UP["up"]["w"]}, SIZES, TENSOR),
        ValueError,
        "shard: expected each rule to change the sharding of some param, got tensor_parallel, which changes none.",
    ),
    "no axis": (
        lambda: specs("shard", UP, {"model": 2}, FSDP),
        ValueError,
        "fsdp: expected axis_name to be an axis of the mesh, model, got 'data'.",
    ),
    "divides": (
        lambda: specs("shard", UP, SIZES, {"up/w": P("data")}),
        ValueError,
        "shard: expected axis 0 of up/w of shape [6, 8] to be divisible by data = 4, got 6.",
    ),
    "divides, both": (
        lambda: specs("shard", UP, SIZES, {"up/w": P(("data", "model"))}),
        ValueError,
        "shard: expected axis 0 of up/w of shape [6, 8] to be divisible by data · model = 8, got 6.",
    ),
    "rank": (
        lambda: specs("shard", UP, SIZES, {"up/w": P(None, None, "data")}),
        ValueError,
        "shard: expected a PartitionSpec of at most 2 axes for up/w of shape [6, 8], got "
        "PartitionSpec(None, None, 'data').",
    ),
    "names": (
        lambda: specs("shard", UP, SIZES, {"up/w": P("model", "model")}),
        ValueError,
        "shard: expected mesh axes among data, model, each once, for up/w of shape [6, 8], got "
        "PartitionSpec('model', 'model').",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_calls(case):
    call, error, text = ERRORS[case]
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text
