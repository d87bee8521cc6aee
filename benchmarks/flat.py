"""A whole train step of many small arrays with `nn.flat(nn.adam(...))` beside Adam on the tree, and optax's Adam.

    python benchmarks/flat.py [rounds, by default 20]

The step is jitted and its state donated, alone ("call") or ten steps of it in a scan ("scan"), as `fit` runs them.
"read once" is the cheapest loss that reads every array: the mean of their squared distances from 1. "layers" is a
network: x + relu(x w + b) / 10, layer after layer. The three take turns within a round; the times of a step are
medians, the ratio that of the rounds' own, with its range over three parts of the rounds.
"""

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optimizers import spread

import jaxnn as nn


def read_once(params: dict, state: dict, batch: Any, *, key: Any, train: bool) -> tuple:
    return sum(jnp.mean(jnp.square(p["w"] - 1)) for p in params.values()) / len(params), (state, {})


def layers(params: dict, state: dict, batch: jax.Array, *, key: Any, train: bool) -> tuple:
    x = batch
    for p in params.values():
        x = x + 0.1 * jax.nn.relu(x @ p["w"] + p["b"])
    return jnp.mean(jnp.square(x)), (state, {})


def arrays(n: int) -> Callable:
    return lambda key, batch: ({f"x{i}": {"w": jnp.full((10_000,), i / n)} for i in range(n)}, {})


def weights(n: int) -> Callable:
    def init(key: jax.Array, batch: Any) -> tuple[dict, dict]:
        w = jax.random.normal(key, (n, 100, 100)) / 10
        return {f"x{i}": {"w": w[i], "b": jnp.zeros(100)} for i in range(n)}, {}

    return init


# name -> init, objective
PROBLEMS = {
    "1000 arrays of 10 000, read once": (arrays(1000), read_once),
    "200 layers of 100 by 100, batch 32": (weights(200), layers),
}
OPTIMIZERS = {"a tree": nn.adam, "flat": lambda rate: nn.flat(nn.adam(rate)), "optax": optax.adam}
LENGTHS = {"call": 1, "scan": 10}


def prepared(
    init: Callable, objective: Callable, make: Callable, steps: int
) -> tuple[Callable, Any, Any, float, float]:
    """The compiled step, or a scan of several, its state and batch, seconds of tracing and of compiling."""
    trainer = nn.objective_trainer(init, objective, make(1e-3))
    batch = jnp.ones((32, 100))
    ts = jax.jit(trainer.init)(jax.random.key(0), batch)

    def run(ts: Any, batch: jax.Array) -> tuple:
        if steps == 1:
            return trainer.step(ts, batch)
        return jax.lax.scan(lambda ts, _: trainer.step(ts, batch), ts, None, length=steps)

    start = time.perf_counter()
    lowered = jax.jit(run, donate_argnums=0).lower(ts, batch)
    traced = time.perf_counter()
    compiled = lowered.compile()
    return compiled, ts, batch, traced - start, time.perf_counter() - traced


def rows(problem: str, where: str, steps: int, rounds: int) -> Iterator[str]:
    """The rows of the optimizers, which take turns."""
    runs = {name: list(prepared(*PROBLEMS[problem], make, steps)) for name, make in OPTIMIZERS.items()}

    def once(run: list) -> float:
        start = time.perf_counter()
        run[1], _ = jax.block_until_ready(run[0](run[1], run[2]))
        return (time.perf_counter() - start) / steps

    for run in runs.values():
        once(run)
    times = np.array([[once(run) for run in runs.values()] for _ in range(rounds)])
    for (name, run), own in zip(runs.items(), times.T, strict=True):
        ms, ratio = 1e3 * np.median(own), spread(own / times[:, 0])
        yield f"{problem:38}{where:5}{name:10}{ms:9.1f}{ratio:>26}{run[3]:10.1f}{run[4]:11.1f}"


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    print(f"jax {jax.__version__}, {jax.devices()[0].platform}; {rounds} rounds")
    print(f"{'':43}{'':10}{'ms':>9}{'over a tree':>26}{'trace s':>10}{'compile s':>11}")
    for problem in PROBLEMS:
        for where, steps in LENGTHS.items():
            for row in rows(problem, where, steps, rounds):
                print(row, flush=True)


if __name__ == "__main__":
    main()
