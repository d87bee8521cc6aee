"""What an update costs beside optax's and torch's, and how far it is from the papers' equations.

    python benchmarks/optimizers.py [rounds, by default 30] [--only adam,sgd] [--sets a,b,resnet,gpt] [--apply]
    python benchmarks/optimizers.py --torch [...]       torch.optim alone
    python benchmarks/optimizers.py --exact             errors over 2000 float32 steps

Timed is one call of `jit(opt.update, donate_argnums=(0, 1))(grads, state, params)` until its results are there: the
gradients and state are donated, so updates and new state take their place and no memory is asked of the system. The
gradients of one draw and the state of the call before are copied ahead of every call, outside the timing: where one
lies is worth several per cent. `--apply` donates and moves the weights, too, by optax.apply_updates in one program:
what `step` does in torch.optim.

Ours, optax's and a donated triad a <- a + s b on one leaf of as many floats take turns within a round. A ratio is the
median of the rounds' own, with its range over three parts of the rounds. GB/s counts each number a rule has to read or
write once: 16 bytes an element for SGD with momentum and RMSprop, 24 for Adadelta and Adam, 4 more with `--apply`; the
share is that over the triad's in the same round. Trace (with lowering) and compilation are apart.

torch runs in a process of its own, with `--torch-python PATH` or $TORCH_PYTHON, by default this interpreter.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import jaxnn as nn

HERE = Path(__file__).parent


def resnet50() -> Iterator[tuple[int, ...]]:
    """The leaves of a ResNet-50 on ImageNet: 161, of 25.6 million floats."""

    def conv_and_norm(window: int, channels: int, features: int) -> Iterator[tuple[int, ...]]:
        yield from ((window, window, channels, features), (features,), (features,))

    yield from conv_and_norm(7, 3, 64)
    channels = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            yield from conv_and_norm(1, channels, width)
            yield from conv_and_norm(3, width, width)
            yield from conv_and_norm(1, width, 4 * width)
            if block == 0:
                yield from conv_and_norm(1, channels, 4 * width)
            channels = 4 * width
    yield from ((channels, 1000), (1000,))


def gpt2() -> Iterator[tuple[int, ...]]:
    """The leaves of GPT-2 small, a transformer of 12 layers: 148, of 124 million floats."""
    d = 768
    yield from ((50257, d), (1024, d))
    for _ in range(12):
        for inputs, outputs in ((d, 3 * d), (d, d), (d, 4 * d), (4 * d, d)):
            yield from ((inputs, outputs), (outputs,))
        yield from 4 * [(d,)]
    yield from 2 * [(d,)]


SETS: dict[str, list[tuple[int, ...]]] = {
    "a": [(100_000_000,)],
    "b": 1000 * [(10_000,)],
    "resnet": list(resnet50()),
    "gpt": list(gpt2()),
}
TITLES = {"a": "one leaf of 1e8", "b": "1000 leaves of 1e4", "resnet": "ResNet-50", "gpt": "GPT-2 small"}
# ours, optax's, numbers read and written per element by an update, and when the weights are moved with it
RULES: dict[str, tuple[Any, Any, int, int]] = {
    "sgd": (nn.sgd(1e-3, 0.9), optax.sgd(1e-3, 0.9), 4, 5),
    "rmsprop": (nn.rmsprop(1e-3), optax.rmsprop(1e-3), 4, 5),
    "adadelta": (nn.adadelta(1.0), optax.adadelta(1.0), 6, 7),
    "adam": (nn.adam(1e-3), optax.adam(1e-3), 6, 7),
}


def prepared(opt: Any, apply: bool, grads: Any, params: Any) -> tuple[Callable[[], float], str]:
    """A function that runs the next update and returns its seconds; the seconds of trace and of compilation."""

    def step(g: Any, state: Any, p: Any) -> tuple[Any, Any]:
        updates, state = opt.update(g, state, p)
        return optax.apply_updates(p, updates) if apply else updates, state

    f, state = jax.jit(step, donate_argnums=(1, 2) if apply else (0, 1)), opt.init(params)
    start = time.perf_counter()
    lowered = f.lower(grads, state, params)
    traced = time.perf_counter()
    lowered.compile()
    end = time.perf_counter()
    p = jax.tree.map(jnp.copy, params) if apply else params

    def once() -> float:
        nonlocal state, p
        g, state = jax.block_until_ready(jax.tree.map(jnp.copy, (grads, state)))
        start = time.perf_counter()
        out, state = jax.block_until_ready(f(g, state, p))
        seconds = time.perf_counter() - start
        p = out if apply else p
        return seconds

    return once, f"{traced - start:.2f} + {end - traced:.2f}"


def triad(n: int) -> Callable[[], float]:
    """A function that runs a <- a + s b over n floats, a donated, and returns its seconds."""
    f = jax.jit(lambda a, b: a + 0.5 * b, donate_argnums=0)
    a, b = jnp.zeros(n), jnp.ones(n)

    def once() -> float:
        nonlocal a
        start = time.perf_counter()
        a = jax.block_until_ready(f(a, b))
        return time.perf_counter() - start

    return once


def spread(ratios: np.ndarray) -> str:
    thirds = [np.median(part) for part in np.array_split(ratios, 3)]
    return f"{np.median(ratios):.3f} ({min(thirds):.3f}, {max(thirds):.3f})"


def speed(name: str, where: str, rounds: int, apply: bool, flat: bool = False) -> str:
    """One row of the table."""
    ours, theirs, *counts = RULES[name]
    random, shapes = np.random.default_rng(0), SETS[where]
    params, grads = ([jnp.asarray(random.standard_normal(s, np.float32)) for s in shapes] for _ in range(2))
    size = sum(map(prod, shapes))
    once, seconds = {"triad": triad(size)}, {}
    for label, opt in (("ours", nn.flat(ours) if flat else ours), ("optax", theirs)):
        once[label], seconds[label] = prepared(opt, apply, grads, params)
    times: dict[str, list[float]] = {label: [] for label in once}
    for i in range(rounds + 2):
        for label in once if i % 2 else reversed(once):
            times[label].append(once[label]())
    t = {label: np.array(ts[2:]) for label, ts in times.items()}
    used, bound = 4e-9 * counts[apply] * size / t["ours"], 12e-9 * size / t["triad"]
    ms = "".join(f"{1e3 * np.median(t[label]):9.2f}" for label in seconds)
    return (
        f"{TITLES[where]:20}{('flat ' if flat else '') + name:15}{ms}"
        f"{spread(t['ours'] / t['optax']):>24}{np.median(used):8.1f}{np.median(used / bound):8.2f}"
        f"{seconds['ours']:>16}{seconds['optax']:>16}"
    )


def torch_rows(python: str, names: list[str], sets: list[str], rounds: int) -> list[str]:
    """The table of torch.optim, from a process of its own, or the line that says why there is none."""
    given = {"rules": {n: RULES[n][3] for n in names}, "sets": {s: SETS[s] for s in sets}, "rounds": rounds}
    try:
        call = [python, str(HERE / "_torch_optimizers.py")]
        done = subprocess.run(call, input=json.dumps(given), check=False, capture_output=True, text=True)
    except OSError as error:
        return [f"torch: {python} does not run ({error.strerror})"]
    if done.returncode:
        return [f"torch: none in {python} ({done.stderr.strip().splitlines()[-1]})"]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    head = f"{'torch ' + rows[0]['torch']:20}{'':15}{'kind':>9}{'ms':>28}{'GB/s':>8}"
    return [head, *(f"{TITLES[r['set']]:20}{r['rule']:15}{r['kind']:>9}{r['ms']:>28}{r['rate']:8.1f}" for r in rows)]


def updates_of(opt: Any, gs: np.ndarray) -> np.ndarray:
    """The updates for given gradients [steps, n], of weights that start at 1 and move along."""

    def body(carry: tuple, g: jax.Array) -> tuple:
        p, state = carry
        u, state = opt.update(g, state, p)
        return (p + u, state), u

    p = jnp.ones(gs.shape[1:])
    return np.asarray(jax.jit(lambda gs: lax.scan(body, (p, opt.init(p)), gs)[1])(gs))


def exact() -> None:
    """Prints the worst error of an update, relative to the largest of its coordinate, by kind of gradients."""
    sys.path.insert(0, str(HERE.parent / "tests" / "optimizers"))
    import test_rules as rules

    rate, decay = rules.LR, 1e-4

    def adamw_paper(gs: np.ndarray, c: Any) -> np.ndarray:
        p, out = 1.0, []
        for change in rules.adam_paper(gs, c):
            out.append(change - rate * decay * p)
            p = p + out[-1]
        return np.array(out)

    papers = {name: paper for name, (_, paper) in rules.RULES.items()} | {
        "sgd": lambda gs, c: rules.sgd_paper(gs, c, 0.9),
        "adadelta": rules.adadelta_paper,
        "adagrad": lambda gs, c: -rate * gs / np.sqrt(0.1 + np.cumsum(gs**2, axis=0) + 1e-7),
        "adamw": adamw_paper,
    }
    options: dict[str, dict] = {
        "sgd": {"momentum": 0.9},
        "lion": {"weight_decay": 0.0},
        "adamw": {"weight_decay": decay},
    }
    kinds = ("normal", "shifted", "heavy tails", "vanishing", "growing", "sparse", "constant")
    print(f"{'ours / optax':12}" + "".join(f"{kind:>20}" for kind in kinds))
    for name in sorted(papers):
        cells = []
        for kind in kinds:
            gs = rules.long_gradients(kind)
            want = papers[name](gs.astype(np.float64), float)
            made = [getattr(module, name)(rate, **options.get(name, {})) for module in (nn, optax)]
            cells.append(" / ".join(f"{rules.worst(updates_of(opt, gs), want):.1e}" for opt in made))
        print(f"{name:12}" + "".join(f"{cell:>20}" for cell in cells), flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("rounds", nargs="?", type=int, default=30)
    arguments.add_argument("--only", default=",".join(RULES))
    arguments.add_argument("--sets", default=",".join(SETS))
    arguments.add_argument("--apply", action="store_true", help="move the weights, too")
    arguments.add_argument("--exact", action="store_true")
    arguments.add_argument("--torch", action="store_true")
    arguments.add_argument("--torch-python", default=os.environ.get("TORCH_PYTHON", sys.executable))
    given = arguments.parse_args()
    names, sets = given.only.split(","), given.sets.split(",")
    print(f"jax {jax.__version__}, optax {optax.__version__}, {jax.devices()[0].device_kind}, {os.cpu_count()} cores")
    if given.exact:
        return exact()
    if not given.torch:
        print(f"{given.rounds} rounds, {'update and apply_updates' if given.apply else 'update alone'}")
        columns = ((20, ""), (15, ""), (9, "ms"), (9, "optax"), (24, "ours / optax"), (8, "GB/s"), (8, "share"))
        print("".join(f"{title:>{width}}" for width, title in columns) + f"{'trace + compile':>16}{'optax':>16}")
        for where in sets:
            for name in names:
                print(speed(name, where, given.rounds, given.apply), flush=True)
                if where == "b":
                    print(speed(name, where, given.rounds, given.apply, flat=True), flush=True)
    print("\n".join(torch_rows(given.torch_python, names, sets, given.rounds)))


if __name__ == "__main__":
    main()
