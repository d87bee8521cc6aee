"""One accelerator: train steps of jaxnn beside flax.linen and PyTorch, shares of the peak, and 64 seeds at once.

    python benchmarks/accelerator.py [net ...] [--small]      under ten minutes; needs flax, and PyTorch if it is to run

MLP, CNN and LSTM in float32, ResNet-50 and GPT-2 small in bfloat16 with float32 params and Adam; forward, backward and
update. Libraries alternate round by round in one process; a ratio is our time over theirs within a round, the median
with an interval of at least 95 %. Both JAX libraries compute in bfloat16 by params that are cast in the step, PyTorch
by autocast; it is compiled by `torch.compile`, with channels last. First calls are apart.

The share of the peak is the number of operations of the step, as XLA counts them, per second, over those of a product
of two large matrices in the same dtype, measured here. The last line compares a run of 64 seeds in one program
(`nn.sweep`) with that of one seed. The table goes to accelerator.txt beside this file.

--small is for a machine without an accelerator: small batches and networks, which prove that it runs; it keeps nothing.
"""

# ruff: noqa: E402  (the sizes of the GPT and JAX's share of the memory must be set before the imports)

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.55")  # the rest is PyTorch's

from _peers import rows

SMALL = "--small" in sys.argv
GPT2 = {"WIDTH": 768, "DEPTH": 12, "HEADS": 12, "LENGTH": 1024, "VOCABULARY": 50257}
for name, value in ({"LENGTH": 32} if SMALL else GPT2).items():
    setattr(rows, name, value)
rows.SHAPES["gpt"] = (rows.LENGTH,)

import jax
import jax.numpy as jnp
import numpy as np
from _peers import linen_peer, ours, pure
from _ratios import interval

import jaxnn as nn

BATCHES = {"mlp": 8192, "cnn": 1024, "lstm": 512, "resnet50": 128, "gpt": 8}
HALF = ("resnet50", "gpt")  # in bfloat16
ROUNDS, CALLS, SEEDS = (2, 1, 4) if SMALL else (15, 5, 64)
NETS = ("mlp", "cnn", "lstm", "gpt") if SMALL else tuple(BATCHES)

Step = Callable[[], Any]  # one train step, whose result is ready when `ready` returns


def narrowed(tree: Any) -> Any:
    """Floating arrays in bfloat16."""
    return jax.tree.map(lambda a: a.astype(jnp.bfloat16) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


def row_of(name: str) -> rows.Row:
    return rows.row(name, batch=8 if SMALL else BATCHES[name])


def of_jaxnn(name: str, x: Any, y: Any) -> tuple[Step, int, Callable[[], float]]:
    """A step, its number of params, and the number of its operations."""
    model = ours.NETS[name]()
    if name in HALF:
        apply = model.apply
        model = model._replace(apply=lambda p, s, x, **how: apply(narrowed(p), s, narrowed(x), **how))
    trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, nn.adam(rows.RATE, rows.B1, rows.B2, rows.EPS))
    ts = jax.jit(trainer.init)(jax.random.key(0), (x, y))
    step = jax.jit(trainer.step, donate_argnums=0, compiler_options=nn.compiler_options())
    shapes, params = jax.eval_shape(lambda: (ts, (x, y))), pure.size(ts.params)

    def one() -> Any:
        nonlocal ts
        ts, metrics = step(ts, (x, y))
        return metrics["loss"]

    return one, params, lambda: (step.lower(*shapes).compile().cost_analysis() or {}).get("flops", float("nan"))


def of_linen(name: str, x: Any, y: Any) -> tuple[Step, int, None]:
    net = linen_peer.net(linen_peer.NETS[name]())
    if name in HALF:
        apply = net.apply
        net = net._replace(apply=lambda p, s, x: apply(narrowed(p), s, narrowed(x)))
    carry = jax.jit(lambda key, x: pure.begin(net, key, x))(jax.random.key(0), x)
    step = jax.jit(lambda carry, batch: pure.train_step(net, carry, batch), donate_argnums=0)

    def one() -> Any:
        nonlocal carry
        carry, loss = step(carry, (x, y))
        return loss

    return one, pure.size(carry[0]), None


def of_torch(name: str, x: np.ndarray, y: np.ndarray) -> tuple[Step, int, None]:
    import torch
    from _peers import torch_peer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = torch_peer.NETS[name]().to(device)
    a, b = (v.to(device) for v in torch_peer.tensors(row_of(name), x, y))
    if name in torch_peer.IMAGES:
        model, a = model.to(memory_format=torch.channels_last), a.contiguous(memory_format=torch.channels_last)
    f: Any = model if SMALL else torch.compile(model)
    optimizer = torch_peer.adam(model)

    def one() -> Any:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=name in HALF):
            loss = torch_peer.cross_entropy(f(a), b, name)
        loss.backward()
        optimizer.step()
        return loss

    return one, torch_peer.count(model), None


def ready(result: Any) -> None:
    """Waits until a result is there."""
    if isinstance(result, jax.Array):
        result.block_until_ready()
    elif result.device.type == "cuda":
        import torch

        torch.cuda.synchronize()


def seconds(step: Step, calls: int = CALLS) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        result = step()
    ready(result)
    return (time.perf_counter() - start) / calls


def peak(dtype: Any) -> float:
    """Operations a second of a matrix product."""
    n = 512 if SMALL else 8192
    a = jnp.full((n, n), 1 / n, dtype)
    product = jax.jit(lambda a: a @ a)
    ready(product(a))
    return 2 * n**3 / min(seconds(lambda: product(a)) for _ in range(10))


def line(name: str, peaks: dict[bool, float]) -> str:
    """Row of a network."""
    x, y = rows.data(row_of(name))
    on_device = jnp.asarray(x), jnp.asarray(y)
    made: dict[str, Any] = {}
    times: dict[str, list[float]] = {}
    first = {}
    makers: dict[str, Callable[..., Any]] = {"jaxnn": of_jaxnn, "linen": of_linen, "torch": of_torch}
    for library, make in makers.items():
        try:
            made[library] = make(name, *((x, y) if library == "torch" else on_device))
        except ImportError:
            continue
        first[library] = seconds(made[library][0], 1)
        seconds(made[library][0])
        times[library] = []
    counts = {library: params for library, (_, params, _) in made.items()}
    for i in range(ROUNDS):
        for library in list(made)[:: 1 if i % 2 else -1]:
            times[library].append(seconds(made[library][0]))
    took = median(times["jaxnn"])
    share = made["jaxnn"][2]() / took / peaks[name in HALF]
    cells = [f"{name:9} batch {row_of(name).batch:5} {1e3 * took:9.2f} ms  {share:5.0%} of the peak"]
    for library in made:
        cells.append(f"{library} first call {first[library]:.1f} s")
        if library != "jaxnn":
            ratios = [a / b for a, b in zip(times["jaxnn"], times[library], strict=True)]
            low, high = interval(ratios)
            cells[-1] += f", ratio {median(ratios):.2f} ({low:.2f}, {high:.2f})"
    told = "" if len(set(counts.values())) == 1 else f"   params {counts}"
    return "   ".join(cells) + told


def seeds() -> str:
    """A run of many seeds in one program, over that of one."""
    x, y = (jnp.asarray(v) for v in rows.data(rows.row("tiny", batch=256, steps=64)))
    trainer = nn.trainer(ours.NETS["tiny"](), nn.losses.softmax_cross_entropy, nn.adam(1e-3))

    def run(key: jax.Array, data: Any) -> jax.Array:
        return nn.fit(trainer, key, data, epochs=5, batch_size=256).history["train"]["loss"][-1]

    def took(n: int) -> float:
        keys = jax.random.split(jax.random.key(0), n)
        runs = jax.jit(jax.vmap(run, (0, None)))
        ready(runs(keys, (x, y)))
        return min(seconds(lambda: runs(keys, (x, y)), 1) for _ in range(5))

    one, many = took(1), took(SEEDS)
    return (
        f"{SEEDS} runs of 320 steps of an MLP 64-32-10 in one program: {many / one:.1f} times one ({1e3 * one:.0f} ms)"
    )


def main() -> None:
    """Prints the table and keeps it."""
    chosen = [a for a in sys.argv[1:] if a in BATCHES] or NETS
    peaks = {half: peak(jnp.bfloat16 if half else jnp.float32) for half in (False, True)}
    table = [
        f"jax {jax.__version__}, {jax.devices()[0].device_kind}; peak {peaks[False] / 1e12:.1f} TFLOP/s in float32, "
        f"{peaks[True] / 1e12:.1f} in bfloat16"
    ]
    print(table[0], flush=True)
    for make in [*(lambda name=name: line(name, peaks) for name in chosen), seeds]:
        table.append(make())
        print(table[-1], flush=True)
    if not SMALL:
        Path(__file__).with_suffix(".txt").write_text("\n".join(table) + "\n")


if __name__ == "__main__":
    main()
