"""Train steps with and without `nn.reuse_memory()`, in two processes that take turns.

    python benchmarks/memory.py [rounds, by default 15] [gru resnet20 gpt unet mlp]

A row has the median time of a step, forward, backward and Adam, without it; the median over rounds of the ratio with it
to without it, with its 95 % interval; and the page faults of a step without and with it. Below 1, it is faster.
"""

import json
import resource
import subprocess
import sys
import time
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
from _ratios import interval

import jaxnn as nn

NETS = ("mlp", "gru", "resnet20", "gpt", "unet")


def net(name: str) -> tuple[nn.Layer, Any, Any]:
    """Model and a batch of random numbers."""

    def drawn(*shape: int) -> jax.Array:
        return jax.random.normal(jax.random.key(0), shape)

    def labels(n: int) -> jax.Array:
        return jax.random.randint(jax.random.key(0), (n,), 0, 10)

    match name:
        case "mlp":
            model = nn.serial(nn.dense(512), nn.relu, nn.dense(512), nn.relu, nn.dense(10))
            return model, drawn(128, 784), labels(128)
        case "gru":
            return nn.serial(nn.gru(256, last=True), nn.dense(10)), drawn(64, 100, 128), labels(64)
        case "resnet20":
            return nn.models.resnet(20, classes=10), drawn(64, 32, 32, 3), labels(64)
        case "gpt":
            tokens = jax.random.randint(jax.random.key(0), (16, 128), 0, 256)
            return nn.models.gpt(256, length=128, layers=4, heads=4, features=256), tokens, tokens
        case "unet":
            return nn.models.unet(1, features=16, levels=2), drawn(16, 64, 64, 3), jnp.ones((16, 64, 64, 1))
    raise ValueError(f"expected one of {', '.join(NETS)}, got {name}")


def worker(name: str, reuse: bool) -> None:
    """Answers each line of stdin with the time and the page faults of three steps."""
    if reuse:
        nn.reuse_memory()
    model, x, y = net(name)
    loss = nn.losses.squared_error if name == "unet" else nn.losses.softmax_cross_entropy
    trainer = nn.trainer(model, loss, nn.adam(1e-3))
    ts = trainer.init(jax.random.key(0), (x, y))
    step = jax.jit(trainer.step, donate_argnums=0, compiler_options=nn.compiler_options())
    for _ in range(3):
        ts, _ = step(ts, (x, y))
    jax.block_until_ready(ts)
    print("ready", flush=True)
    for _ in sys.stdin:
        start, faults = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(3):
            ts, _ = step(ts, (x, y))
            jax.block_until_ready(ts)
        more = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
        print(json.dumps([(time.perf_counter() - start) / 3, more // 3]), flush=True)


def measured(name: str, rounds: int) -> str:
    """Row of a net."""
    commands = [[sys.executable, __file__, "worker", name, kind] for kind in ("fresh", "reuse")]
    both = [subprocess.Popen(c, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for c in commands]
    found: list[list[list[float]]] = [[], []]
    for process in both:
        process.stdout.readline()  # type: ignore[union-attr]
    for i in range(rounds):
        for k in (0, 1) if i % 2 else (1, 0):
            both[k].stdin.write("\n")  # type: ignore[union-attr]
            both[k].stdin.flush()  # type: ignore[union-attr]
            found[k].append(json.loads(both[k].stdout.readline()))  # type: ignore[union-attr]
    for process in both:
        process.communicate()
    ratios = [b[0] / a[0] for a, b in zip(*found, strict=True)]
    low, high = interval(ratios)
    faults = [median(f[1] for f in one) for one in found]
    return (
        f"{name:9} {1e3 * median(f[0] for f in found[0]):8.1f} ms   {median(ratios):.3f} "
        f"({low:.3f}, {high:.3f})   faults {faults[0]:8.0f} -> {faults[1]:.0f}"
    )


def main() -> None:
    """Prints the table."""
    if sys.argv[1:2] == ["worker"]:
        worker(sys.argv[2], sys.argv[3] == "reuse")
        return
    rounds = next((int(a) for a in sys.argv[1:] if a.isdigit()), 15)
    chosen = [a for a in sys.argv[1:] if not a.isdigit()] or NETS
    print(f"jax {jax.__version__}, {jax.default_backend()}; a step, with `reuse_memory` over without")
    for name in chosen:
        print(measured(name, rounds), flush=True)


if __name__ == "__main__":
    main()
