"""Sharded trainers on eight devices, in a process of its own: `python _eight.py column [case ...]` prints its findings.

Columns: "float64" and "float32", the difference of twenty steps from those on one device, for a model and a plan such
as "mlp, fsdp": the largest of any array of state and metrics, over the largest number of that array on one device if
that is above 1; "collectives", those of a compiled step; "memory", in bytes; "runs", of `fit`, `drive` and `predict`.
"""

import json
import re
import sys
import tempfile
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _difference import difference
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jaxnn as nn

FSDP, TENSOR = nn.sharding.fsdp(), nn.sharding.tensor_parallel()
EXPERT, PIPELINE = nn.sharding.expert_parallel(), nn.sharding.pipeline("blocks/*")
STEPS = 20
PLANS = {
    "data": ("data=8", ()),
    "fsdp": ("data=8", FSDP),
    "tensor": ("data=2, model=4", TENSOR),
    "seq": ("data=2, seq=4", ()),
    "fsdp x tensor": ("data=4, model=2", [TENSOR, FSDP]),
    "fsdp x seq": ("data=2, seq=4", FSDP),
    "fsdp x tensor x seq": ("data=2, model=2, seq=2", [TENSOR, FSDP]),
    "expert": ("data=2, expert=4", EXPERT),
    "expert along data": ("data=8", nn.sharding.expert_parallel("data")),
    "fsdp x tensor x expert": ("data=2, expert=2, model=2", [TENSOR, EXPERT, FSDP]),
    "pipeline": ("stage=4", PIPELINE),
    "fsdp x pipeline": ("data=2, stage=4", [PIPELINE, FSDP]),
    "tensor x pipeline": ("stage=4, model=2", [TENSOR, PIPELINE]),
}

# Models without params whose gradient is 0, such as the bias of keys: Adam would make whole steps of its rounding.


def mlp():
    model = nn.serial(nn.dense(16), nn.relu, nn.dropout(0.1), nn.dense(8), nn.relu, nn.dense(8))
    how = {"optimizer": optax.MultiSteps(nn.adamw(1e-2), 2), "average": 0.9}
    return model, how, numbers(32, 6), classes(8, 32)


def cnn():
    model = nn.serial(nn.conv(8, 3, bias=False), nn.batch_norm(), nn.relu, nn.max_pool(2), nn.flatten(), nn.dense(8))
    return model, {"optimizer": nn.sgd(1e-2, momentum=0.9)}, numbers(16, 8, 8, 2), classes(8, 16)


def lstm():
    model = nn.serial(nn.lstm(8), nn.dense(8), nn.tanh, nn.dense(8))
    return model, {"optimizer": nn.rmsprop(1e-3)}, numbers(16, 8, 4), classes(8, 16, 8)


def transformer():
    block = nn.encoder_block(4, causal=True, rate=0.1, dropout=0.1, bias=False)
    model = nn.serial(nn.embed(16, 16, w_init=wide), nn.repeat(block, 2), nn.layer_norm(), nn.dense(16, name="head"))
    clipped = optax.chain(optax.clip_by_global_norm(1.0), nn.adam(1e-3))
    return model, {"optimizer": clipped}, classes(16, 8, 8), classes(16, 8, 8)


def mixture():
    expert = nn.residual(nn.serial(nn.layer_norm(), nn.mixture_of_experts(8, hidden=8, capacity_factor=1.0)))
    model = nn.serial(nn.dense(8), nn.repeat(expert, 2), nn.dense(8))
    how = {"optimizer": nn.adam(1e-2), "auxiliary": {"*balance": 0.1, "*router_z": 0.1}}
    return model, how, numbers(16, 6, 4), classes(8, 16, 6)


def experts():
    """Without a capacity."""
    model = nn.serial(nn.dense(8), nn.mixture_of_experts(8, hidden=8), nn.dense(8))
    return model, {"optimizer": nn.adam(1e-2), "auxiliary": {"*balance": 0.1}}, numbers(16, 6, 4), classes(8, 16, 6)


def deep_mlp():
    block = nn.residual(nn.serial(nn.dense(8), nn.tanh, nn.dense(8)))
    model = nn.serial(nn.dense(8), nn.repeat(block, 8, name="blocks"), nn.dense(8))
    return model, {"optimizer": nn.adam(1e-2)}, numbers(32, 6), classes(8, 32)


def deep_transformer():
    block = nn.remat(nn.encoder_block(2, causal=True, bias=False))
    model = nn.serial(nn.embed(8, 8, w_init=wide), nn.repeat(block, 4, name="blocks"), nn.dense(8, name="head"))
    return model, {"optimizer": nn.adam(1e-3)}, classes(8, 16, 6), classes(8, 16, 6)


def wide(key, shape, dtype):
    """Initializer in the dtype of the run: an embedding has no floating input that tells it."""
    return nn.init.normal(key, shape, jnp.zeros(()).dtype)


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape)


def classes(n, *shape):
    return np.random.default_rng(1).integers(0, n, shape)


def trained(trainer, batch):
    ts = trainer.init(jax.random.key(0), batch)
    step = jax.jit(trainer.step, donate_argnums=0)
    for _ in range(STEPS):
        ts, metrics = step(ts, batch)
    return ts, metrics, jax.jit(trainer.evaluate)(ts, batch)


def differences(dtype, cases):
    found, on_one = {}, {}
    for case in cases:
        name, plan = case.split(", ")
        model, how, x, y = globals()[name]()
        trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, how.pop("optimizer"), **how)
        batch = x.astype(dtype) if x.dtype == np.float64 else x, y
        if name not in on_one:
            on_one[name] = trained(trainer, batch)
        found[case] = difference(trained(spread(trainer, *PLANS[plan]), batch), on_one[name])
    return found


# Compiled steps.


def spread(trainer, axes, rules):
    return nn.shard(trainer, nn.mesh(axes), rules, microbatches=8 if "stage" in axes else None)


def sharded(model, axes, rules):
    return spread(nn.trainer(model, nn.losses.softmax_cross_entropy, nn.adam(0.1)), axes, rules)


def compiled(trainer, batch):
    ts = jax.eval_shape(trainer.init, jax.random.key(0), batch)
    return jax.jit(trainer.step, donate_argnums=0).lower(ts, batch).compile()


def collectives_of(trainer, batch):
    kinds = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
    return Counter(re.findall(rf" ({kinds})(?:-start)?\(", compiled(trainer, batch).as_text()))


def collectives():
    layers = nn.serial(nn.dense(64), nn.relu, nn.dense(64), nn.relu, nn.dense(16))
    batch = numbers(32, 16).astype(np.float32), classes(16, 32)
    found = {name: collectives_of(sharded(layers, *PLANS[name]), batch) for name in ("data", "fsdp")}
    tokens = (classes(32, 8, 16),) * 2
    for name, axes, rules in (("tensor", "model=8", TENSOR), ("seq", "seq=8", ())):
        models = (
            nn.serial(nn.embed(32, 32), *blocks, nn.dense(32, name="head"))
            for blocks in ([], [nn.encoder_block(8, causal=True)])
        )
        none, one = (collectives_of(sharded(model, axes, rules), tokens) for model in models)
        found[f"{name}, a block"] = {kind: one[kind] - none[kind] for kind in one}
        found[f"{name}, a block"] |= {"others": sorted(one.keys() - {"all-reduce", "all-gather"})}
    for name, plan in (("mixture", "expert"), ("deep_mlp", "pipeline")):
        model, _, x, y = globals()[name]()
        found[name] = collectives_of(sharded(model, *PLANS[plan]), (x.astype(np.float32), y))
    return found


def memory():
    layers = nn.serial(nn.dense(512), nn.relu, nn.dense(512), nn.relu, nn.dense(512))
    batch = numbers(32, 512).astype(np.float32), classes(512, 32)
    found = {}
    for n in (1, 2, 8):
        trainer = sharded(layers, f"data={n}", FSDP)
        ts = trainer.init(jax.random.key(0), batch)
        big = jax.tree.leaves((ts.params, ts.opt_state["mu"], ts.opt_state["nu"]))
        found[f"{n}: state"] = sum(leaf.addressable_shards[0].data.nbytes for leaf in big)
        used = compiled(trainer, batch).memory_analysis()
        found[f"{n}: arguments"] = used.argument_size_in_bytes
        found[f"{n}: donated"] = used.alias_size_in_bytes
    stacked = nn.repeat(nn.serial(nn.dense(512), nn.tanh), 16)
    for plan in ("data", "fsdp"):
        used = compiled(sharded(stacked, *PLANS[plan]), batch).memory_analysis()
        found[f"stack: {plan}"] = used.temp_size_in_bytes
    for n in (1, 4):
        pipe = sharded(nn.repeat(nn.serial(nn.dense(512), nn.tanh), 16), f"stage={n}", {"*": P("stage")})
        found[f"pipeline of {n}"] = compiled(pipe, batch).memory_analysis().argument_size_in_bytes
    init = jax.jit(trainer.init).lower(jax.random.key(0), batch).compile()
    found["init: whole params"] = len(re.findall(r"f32\[512,512\]|f32\[262144\]", init.as_text()))
    return found


# Whole runs.


def runs():
    x = numbers(70, 8).astype(np.float32)
    y = classes(8, 64)
    train, valid = (x[:64], x[:64, :1]), (x, x[:, :1])  # the mesh does not divide the validation set
    model = nn.serial(nn.dense(16), nn.tanh, nn.dense(1))
    one = nn.trainer(model, nn.losses.squared_error, nn.adam(0.1))
    many = nn.shard(one, nn.mesh("data=8"), FSDP)
    how = {"batch_size": 16, "progress": False}
    want = nn.drive(one, jax.random.key(0), train, valid, epochs=4, **how)
    got = nn.drive(many, jax.random.key(0), train, valid, epochs=4, **how)
    found = {"drive": difference(got, want)}
    found["fit"] = difference(
        jax.jit(lambda key: nn.fit(many, key, train, valid, epochs=4, batch_size=16))(jax.random.key(0)), want
    )
    placed = jax.device_put((train, train), NamedSharding(nn.mesh("data=8"), P("data")))
    found["placed"] = difference(
        nn.drive(many, jax.random.key(0), *placed, epochs=4, **how).history["train"], want.history["train"]
    )
    found["fed"] = difference(
        nn.drive(many, jax.random.key(0), lambda epoch: [train], epochs=2, progress=False),
        nn.drive(one, jax.random.key(0), lambda epoch: [train], epochs=2, progress=False),
    )
    found["predict"] = difference(nn.predict(model, got, x), nn.predict(model, want, x))
    for name, params in {"params": got.ts.params, "mu": got.ts.opt_state["mu"], "best": got.best.params}.items():
        found[f"{name} lie as the rules say"] = params["dense"]["w"].sharding.spec == P(None, "data")
    given = many.init(jax.random.key(1), train, params={"dense": jax.device_get(got.ts.params["dense"])})
    found["given params"] = difference(given.params["dense"], got.ts.params["dense"])
    found["given params lie as the rules say"] = given.params["dense"]["w"].sharding.spec == P(None, "data")
    stack = nn.repeat(nn.residual(nn.serial(nn.dense(8), nn.dropout(0.5))), 4, name="blocks")
    pipes = (sharded(nn.serial(stack), f"stage={n}", PIPELINE) for n in (1, 4))
    first, second = (jax.jit(t.step)(t.init(jax.random.key(0), (x[:64], y)), (x[:64], y)) for t in pipes)
    found["dropout on one stage and on four"] = difference(second, first)
    try:
        many.step(got.ts, (x, x[:, :1]))
    except ValueError as error:
        found["error"] = str(error)
    with tempfile.TemporaryDirectory() as folder:
        for trainer, epochs in ((one, 2), (many, 4)):
            last = nn.drive(trainer, jax.random.key(0), train, valid, epochs=epochs, checkpoint=folder, **how)
    found["resumed on other devices"] = difference(last, want)
    scale = nn.LossScale(2.0**24, 3)  # the first steps overflow
    half = nn.trainer(model, nn.losses.squared_error, nn.adam(0.1), precision="float16", loss_scale=scale)
    want, got = (
        nn.drive(t, jax.random.key(0), train, epochs=4, **how) for t in (half, nn.shard(half, nn.mesh("data=8"), FSDP))
    )
    found["float16: the scale"] = difference(got.ts.loss_scale, want.ts.loss_scale)
    found["float16: equal up to its rounding"] = bool(difference(got.history, want.history) < 1e-2)
    return found


if __name__ == "__main__":
    column, *cases = sys.argv[1:]
    nn.cores_as_devices(8)
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", column == "float64")
    jax.config.update("jax_disable_most_optimizations", column.startswith("float"))
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    print(json.dumps(differences(np.dtype(column), cases) if cases else globals()[column]()))
