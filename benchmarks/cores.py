"""The cores of a CPU as devices: train steps and members on one device and on several, and a test of endurance.

    python benchmarks/cores.py [rounds, by default 15] [gru lstm cnn mlp members]
    python benchmarks/cores.py --stress

A step is forward, backward and Adam, with `nn.compiler_options()` and `nn.reuse_memory()`. Each kind has a process of
its own, and they take turns. A row has the median time on one device, which uses all cores in its large products, and
the median over rounds of the ratio to it, with its 95 % interval: of `nn.sharding.data_parallel` and of `nn.shard`
without rules on a device for each core. Below 1, the devices are faster. `members` are eight small CNNs: one after the
other on one device, by `vmap` on it, and by `vmap` on each device.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
from _ratios import interval
from jax.sharding import NamedSharding, PartitionSpec

import jaxnn as nn

LOSS = nn.losses.softmax_cross_entropy
KEY = jax.random.key
REPEATS = 3  # steps of a measurement
SMALL_STEPS = 10_000
MEMBERS = 8


def batch(*shape: int) -> tuple[jax.Array, jax.Array]:
    return jax.random.normal(KEY(0), shape), jax.random.randint(KEY(1), shape[:1], 0, 10)


def cnn(*channels: int) -> nn.Layer:
    blocks = [layer for n in channels for layer in (nn.conv(n, 3), nn.relu, nn.max_pool(2))]
    return nn.serial(*blocks, nn.flatten(), nn.dense(128), nn.relu, nn.dense(10))


def mlp(width: int) -> nn.Layer:
    return nn.serial(nn.dense(width), nn.relu, nn.dense(width), nn.relu, nn.dense(10))


NETS: dict[str, Callable[[], tuple[nn.Layer, Any]]] = {
    "gru": lambda: (nn.serial(nn.gru(256, last=True), nn.dense(10)), batch(64, 100, 128)),
    "lstm": lambda: (nn.serial(nn.lstm(256, last=True), nn.dense(10)), batch(64, 100, 128)),
    "cnn": lambda: (cnn(32, 64), batch(128, 28, 28, 1)),
    "mlp": lambda: (mlp(512), batch(128, 784)),
}


def on(mesh: jax.sharding.Mesh, spec: PartitionSpec, tree: Any) -> Any:
    return jax.device_put(tree, NamedSharding(mesh, spec))


def jitted(f: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(f, donate_argnums=0, compiler_options=nn.compiler_options())


def step_of(name: str, kind: str) -> list[Any]:
    """Step, state and batch of a net."""
    model, data = NETS[name]()
    trainer = nn.trainer(model, LOSS, nn.adam(1e-3), axis_name="data" if kind == "data_parallel" else None)
    if kind != "one device":
        mesh = nn.mesh("data=-1")
        trainer = nn.sharding.data_parallel(trainer, mesh) if kind == "data_parallel" else nn.shard(trainer, mesh)
        data = on(mesh, PartitionSpec("data"), data)
    return [jitted(trainer.step), jax.jit(trainer.init)(KEY(0), data), data]


def members(kind: str) -> list[Any]:
    """A step of eight members."""
    data = batch(32, 28, 28, 1)
    trainer = nn.trainer(cnn(16, 32), LOSS, nn.adam(1e-3))
    states = jax.jit(jax.vmap(trainer.init, in_axes=(0, None)))(jax.random.split(KEY(0), MEMBERS), data)
    each, step = jax.vmap(trainer.step, in_axes=(0, None)), jitted(trainer.step)
    if kind == "vmap":
        return [jitted(each), states, data]
    if kind == "vmap on each device":
        mesh, parts = nn.mesh("data=-1"), PartitionSpec("data")
        spread = jax.shard_map(each, mesh=mesh, in_specs=(parts, PartitionSpec()), out_specs=parts)
        return [jitted(spread), on(mesh, parts, states), on(mesh, PartitionSpec(), data)]

    def in_turn(all_of_them: Any, data: Any) -> Any:
        new = [step(ts, data) for ts in all_of_them]
        return [ts for ts, _ in new], [metrics for _, metrics in new]

    return [in_turn, [jax.tree.map(lambda a, i=i: jnp.copy(a[i]), states) for i in range(MEMBERS)], data]


KINDS = {"members": ("one after the other", "vmap", "vmap on each device")}
ON_ONE = "one device", "one after the other", "vmap"


def worker(name: str, kind: str) -> None:
    """Answers each line of stdin with the time of a step."""
    nn.reuse_memory()
    if kind not in ON_ONE:
        nn.cores_as_devices()
    step, ts, data = members(kind) if name == "members" else step_of(name, kind)
    ts, metrics = step(ts, data)
    print(float(jax.tree.leaves(jax.block_until_ready(metrics))[0].mean()), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(REPEATS):
            ts, metrics = step(ts, data)
            jax.block_until_ready((ts, metrics))
        print((time.perf_counter() - start) / REPEATS, flush=True)


def measured(name: str, rounds: int) -> None:
    """Prints the rows of a net."""
    kinds = KINDS.get(name, ("one device", "data_parallel", "shard"))
    pipes: dict[str, Any] = {"text": True, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen([sys.executable, __file__, "worker", name, kind], **pipes) for kind in kinds]
    for process in processes:
        process.stdout.readline()  # type: ignore[union-attr]
    times: list[list[float]] = [[] for _ in kinds]
    for i in range(rounds + 1):
        for k in range(len(kinds)) if i % 2 else reversed(range(len(kinds))):
            processes[k].stdin.write("\n")  # type: ignore[union-attr]
            processes[k].stdin.flush()  # type: ignore[union-attr]
            times[k].append(float(processes[k].stdout.readline()))  # type: ignore[union-attr]
    for process in processes:
        process.communicate()
    print(f"{name:9} {kinds[0]}: {1e3 * median(times[0][1:]):.1f} ms")
    for kind, found in zip(kinds[1:], times[1:], strict=True):
        ratios = [a / b for a, b in zip(found[1:], times[0][1:], strict=True)]
        low, high = interval(ratios)
        print(f"          {kind:20} {median(ratios):.3f} ({low:.3f}, {high:.3f})", flush=True)


def stress() -> None:
    """Runs 10 000 small steps, each of which is called while earlier ones run."""
    mesh, data = nn.mesh("data=-1"), batch(128, 32)
    trainer = nn.sharding.data_parallel(nn.trainer(mlp(32), LOSS, nn.adam(1e-3), axis_name="data"), mesh)
    ts, step = trainer.init(KEY(0), data), jitted(trainer.step)
    start, spread = time.perf_counter(), on(mesh, PartitionSpec("data"), data)
    for _ in range(SMALL_STEPS):
        ts, metrics = step(ts, spread)
    loss = float(metrics["loss"])
    print(
        f"{SMALL_STEPS} steps on {jax.device_count()} devices in {time.perf_counter() - start:.1f} s, loss {loss:.2g}"
    )


def main() -> None:
    """Prints the table."""
    if sys.argv[1:2] == ["worker"]:
        worker(*sys.argv[2:])
        return
    if "--stress" in sys.argv:
        print(f"jax {jax.__version__}, cpu, {nn.cores_as_devices()} devices")
        stress()
        return
    print(f"jax {jax.__version__}, cpu")
    rounds = next((int(a) for a in sys.argv[1:] if a.isdigit()), 15)
    for name in [a for a in sys.argv[1:] if not a.isdigit()] or [*NETS, "members"]:
        measured(name, rounds)


if __name__ == "__main__":
    main()
