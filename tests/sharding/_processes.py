"""Work of one of several processes: `python _processes.py task folder index port`, which prints its findings as JSON.

Tasks: "steps", ten steps of two models on two processes of two devices, each with its half of the batch, saved in the
folder; a run of `drive`; errors. "resume", in one process: the differences of these steps from those of one device,
and of ten further steps from the saved state. "endless", steps until the process is ended.
"""

import json
import sys

import jax
import numpy as np
from _difference import difference

import jaxnn as nn

FSDP, TENSOR = nn.sharding.fsdp(), nn.sharding.tensor_parallel()
STEPS, ROWS = 10, 32


def mlp():
    model = nn.serial(nn.dense(16), nn.relu, nn.dropout(0.1), nn.dense(8), nn.relu, nn.dense(8))
    return nn.trainer(model, nn.losses.softmax_cross_entropy, nn.adamw(1e-2)), numbers(ROWS, 6)


def cnn():
    model = nn.serial(nn.conv(8, 3, bias=False), nn.batch_norm(), nn.relu, nn.max_pool(2), nn.flatten(), nn.dense(8))
    return nn.trainer(model, nn.losses.softmax_cross_entropy, nn.sgd(1e-2, momentum=0.9)), numbers(ROWS, 8, 8, 2)


# model, rules, mesh; along "model" the devices of both processes hold all rows
MODELS = {"mlp": (mlp, FSDP, "data=-1"), "tensor": (mlp, TENSOR, "model=-1"), "cnn": (cnn, (), "data=-1")}
LABELS = np.random.default_rng(1).integers(0, 8, ROWS)


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape)


def part(batch, index, axes="data=-1"):
    """The half of process `index`, or all if its devices hold all rows."""
    if axes.startswith("model"):
        return batch
    half = slice(index * ROWS // 2, (index + 1) * ROWS // 2)
    return jax.tree.map(lambda a: a[half], batch)


def stepped(trainer, ts, batch, steps=STEPS):
    step = jax.jit(trainer.step, donate_argnums=0)
    for _ in range(steps):
        ts, _ = step(ts, batch)
    return ts


def started(trainer, batch):
    return stepped(trainer, trainer.init(jax.random.key(0), batch), batch)


def driven(trainer, batch, epochs=2, **how):
    """The run and its history of `drive` with a feed."""
    feed = {"train": lambda epoch: [batch] * 3, "valid": lambda epoch: [batch]}
    run = nn.drive(trainer, jax.random.key(0), **feed, epochs=epochs, progress=False, **how)
    return run, jax.tree.map(lambda a: np.asarray(a).tolist(), run.history)


def of_arrays(trainer, batch):
    """The history of `drive` with a data set of arrays."""
    run = nn.drive(trainer, jax.random.key(0), batch, batch, epochs=2, batch_size=ROWS // 2, progress=False)
    return jax.tree.map(lambda a: np.asarray(a).tolist(), run.history)


def steps(folder, index):
    found = {}
    for name, (make, rules, axes) in MODELS.items():
        (trainer, x), mesh = make(), nn.mesh(axes)
        batch = nn.sharding.global_batch(part((x, LABELS), index, axes), mesh, batch_size=ROWS)
        trainer = nn.shard(trainer, mesh, rules)
        nn.save(f"{folder}/{name}.orbax", started(trainer, batch))
        _, found[f"history: {name}"] = driven(trainer, batch, epochs=1, checkpoint=f"{folder}/{name}")
    found["processes, devices, of this one"] = jax.process_count(), jax.device_count(), jax.local_device_count()
    found["history: arrays"] = of_arrays(trainer, batch)
    wrong = {
        "rows": ("data=-1", x[: 16 - 2 * index], ROWS),
        "divides": ("data=-1", x[:3], 6),
        "seq": ("seq=-1", x[:2, :3], 2),
        "devices": ("data=2", x[:8], 8),
    }
    found["errors"] = {name: error_of(*case) for name, case in wrong.items()}
    spread = nn.sharding.global_batch(x[:, 4 * index : 4 * index + 4], nn.mesh("seq=-1"), ROWS)
    found["steps"] = spread.shape, spread.addressable_data(0).tolist() == x[:, 4 * index : 4 * index + 2].tolist()
    equal = nn.sharding.global_batch(x, nn.mesh("model=-1"), ROWS)
    found["equal parts"] = equal.shape, equal.addressable_data(0).tolist() == x.tolist()
    return found


def error_of(axes, x, rows):
    try:
        nn.sharding.global_batch((x,), nn.mesh(axes), rows)
    except ValueError as error:
        return str(error)


def resume(folder, index):
    found = {}
    for name, (make, *_) in MODELS.items():
        trainer, x = make()
        batch = x, LABELS
        saved = nn.load(f"{folder}/{name}.orbax", like=jax.eval_shape(trainer.init, jax.random.key(0), batch))
        want = started(trainer, batch)
        found[f"{name}: steps"] = difference(saved, want)
        want = stepped(trainer, want, batch)
        found[f"{name}: resumed on one device"] = difference(stepped(trainer, saved, batch), want)
        if name == "mlp":
            other = nn.shard(trainer, nn.mesh("data=2, model=2"), [TENSOR, FSDP])
            like = jax.jit(other.init)(jax.random.key(1), batch)
            ts = nn.load(f"{folder}/{name}.orbax", like=like)
            found["spec"] = list(ts.params["dense"]["w"].sharding.spec)
            found[f"{name}: resumed on four"] = difference(stepped(other, ts, batch), want)
        resumed, _ = driven(trainer, batch, checkpoint=f"{folder}/{name}")
        whole, history = driven(trainer, batch)
        found[f"{name}: drive"] = difference(resumed, whole)
        found[f"history: {name}"] = jax.tree.map(lambda a: a[:1], history, is_leaf=lambda a: isinstance(a, list))
    found["history: arrays"] = of_arrays(trainer, batch)
    return found


def endless(folder, index):
    mesh = nn.mesh("data=-1")
    trainer, x = mlp()
    trainer = nn.shard(trainer, mesh, FSDP)
    batch = nn.sharding.global_batch(part((x, LABELS), index), mesh, batch_size=ROWS)
    ts = started(trainer, batch)
    print("begun", flush=True)
    stepped(trainer, ts, batch, 10**9)


if __name__ == "__main__":
    task, folder, index, port = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    nn.cores_as_devices(4 if task == "resume" else 2)
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    if task != "resume":
        seconds = 20 if task == "endless" else 100
        jax.distributed.initialize(f"127.0.0.1:{port}", 2, index, heartbeat_timeout_seconds=seconds)
    print(json.dumps(globals()[task](folder, index)))
