"""What the machinery costs: a jaxnn train step beside the same step by hand, and beside plain JAX with optax.

    python benchmarks/step.py              five processes, paired ratios with their 95 % interval
    python benchmarks/step.py --hlo        the optimised programs of the first two, instruction by instruction

`hand` carries the same leaves in the same containers (a TrainState), calls the same convolution and pool and writes the
loss and Adam out; `bare` is `hand` with its leaves in a plain tuple, which JAX takes apart faster than any named class;
`optax` is what one writes without this library, with lax and optax.adam. Above 1, jaxnn is slower.

Variants alternate within a process, compilation is apart, every ratio is a median over rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import lax

import jaxnn as nn

PROCESSES = 5
T95 = 2.776  # Student's t for 5 processes, two-sided
NETS = {  # sizes, batch, steps in the scan, calls in a round, rounds
    "tiny MLP 64-32-10, b32": ((64, 32, 10), 32, 1000, 100, 101),
    "MLP 784-512-512-10, b128": ((784, 512, 512, 10), 128, 40, 4, 21),
    "CNN 28², 16-32, b64": (None, 64, 4, 5, 31),
}
PEERS = ("hand", "bare", "optax")
RATE, B1, B2, EPS = 1e-3, 0.9, 0.999, 1e-8


def model(sizes: tuple[int, ...] | None) -> nn.Layer:
    """The net as a user of the library writes it."""
    if sizes is None:
        return nn.serial(
            nn.conv(16, 3), nn.relu, nn.max_pool(2), nn.conv(32, 3), nn.relu, nn.max_pool(2), nn.flatten(), nn.dense(10)
        )
    hidden = [part for n in sizes[1:-1] for part in (nn.dense(n), nn.relu)]
    return nn.serial(*hidden, nn.dense(sizes[-1]))


def forward_by_hand(params: dict, x: jax.Array, conv: Callable) -> jax.Array:
    """The same net, written out."""
    if "conv" in params:
        for name in ("conv", "conv_1"):
            x = conv(x, params[name]["w"]) + params[name]["b"].reshape(1, 1, 1, -1)
            x = nn.ops.max_pool(nn.relu(x), 2)
        x = x.reshape(x.shape[0], -1)
    names = sorted(name for name in params if name.startswith("dense"))
    for name in names:
        x = x @ params[name]["w"] + params[name]["b"][None, :]
        x = x if name == names[-1] else nn.relu(x)
    return x


def lax_conv(x: jax.Array, w: jax.Array) -> jax.Array:
    """The convolution that one finds in JAX."""
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def steps_of(name: str) -> tuple[dict[str, Callable], dict, tuple]:
    """The variants of a step, `step(carry, batch) -> (carry, loss)`, their first carries, and a batch."""
    sizes, batch_size, *_ = NETS[name]
    key = jax.random.key(0)
    shape = (batch_size, 28, 28, 1) if sizes is None else (batch_size, sizes[0])
    batch = jax.random.normal(key, shape), jax.random.randint(key, (batch_size,), 0, 10)
    trainer = nn.trainer(model(sizes), nn.losses.softmax_cross_entropy, nn.adam(RATE, B1, B2, EPS))
    ts = trainer.init(key, batch)
    zeros = jax.tree.map(jnp.zeros_like, ts.params)

    def loss(params: dict, x: jax.Array, y: jax.Array, conv: Callable) -> jax.Array:
        logits = forward_by_hand(params, x, conv)
        picked = jnp.take_along_axis(logits, y[:, None], axis=-1)[:, 0]
        return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - picked)

    def ours(ts: nn.TrainState, batch: tuple) -> tuple:
        ts, metrics = trainer.step(ts, batch)
        return ts, metrics["loss"]

    def bare(carry: tuple, batch: tuple) -> tuple:
        step, params, mu, nu, count, key = carry
        value, grads = jax.value_and_grad(loss)(params, *batch, nn.ops.conv)
        count = count + 1
        t = count.astype(jnp.float32)
        c1, c2 = 1 - B1**t, 1 - B2**t
        mu = jax.tree.map(lambda m, g: B1 * m + (1 - B1) * g, mu, grads)
        nu = jax.tree.map(lambda v, g: B2 * v + (1 - B2) * g * g, nu, grads)
        params = jax.tree.map(lambda p, m, v: p - RATE * (m / c1) / (jnp.sqrt(v / c2) + EPS), params, mu, nu)
        return (step + 1, params, mu, nu, count, key), value

    def hand(ts: nn.TrainState, batch: tuple) -> tuple:
        step, params, state, slots, key = ts
        carry, value = bare((step, params, slots["mu"], slots["nu"], slots["count"], key), batch)
        step, params, mu, nu, count, key = carry
        return nn.TrainState(step, params, state, {"count": count, "mu": mu, "nu": nu}, key), value

    adam = optax.adam(RATE, B1, B2, EPS)

    def plain(carry: tuple, batch: tuple) -> tuple:
        params, opt_state = carry
        value, grads = jax.value_and_grad(loss)(params, *batch, lax_conv)
        updates, opt_state = adam.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), value

    carries = {
        "jaxnn": ts,
        "hand": ts,
        "bare": (ts.step, ts.params, zeros, zeros, jnp.zeros((), jnp.int32), ts.key),
        "optax": (ts.params, adam.init(ts.params)),
    }
    return {"jaxnn": ours, "hand": hand, "bare": bare, "optax": plain}, carries, batch


def in_scan(step: Callable, n: int) -> Callable:
    """n steps in one program."""
    return lambda carry, batch: lax.scan(lambda c, _: step(c, batch), carry, None, length=n)


def times_of(
    programs: dict[str, Callable], carries: dict, batch: tuple, calls: int, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each program round by round, alternating; carries are donated and handed on."""
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    carries = {name: jax.tree.map(jnp.copy, carry) for name, carry in carries.items()}
    order = list(programs)
    for round_ in range(rounds + 2):
        for name in order if round_ % 2 else reversed(order):
            carry = carries[name]
            start = time.perf_counter()
            for _ in range(calls):
                carry, value = programs[name](carry, batch)
            jax.block_until_ready((carry, value))
            seconds[name].append(time.perf_counter() - start)
            carries[name] = carry
    return {name: times[2:] for name, times in seconds.items()}


def measure() -> dict[str, dict[str, float]]:
    """One process's medians of the ratios within a round: net and setting -> variant -> time of jaxnn over it."""
    rows = {}
    for name, (_, _, n, calls, rounds) in NETS.items():
        steps, carries, batch = steps_of(name)
        for setting in ("in a scan", "a call"):
            scanned = setting == "in a scan"
            made = {k: in_scan(s, n) if scanned else s for k, s in steps.items()}
            programs = {k: jax.jit(f, donate_argnums=0) for k, f in made.items()}
            times = times_of(programs, carries, batch, 1 if scanned else calls, rounds)
            ratios = {k: statistics.median(a / b for a, b in zip(times["jaxnn"], times[k], strict=True)) for k in PEERS}
            per_step = 1e6 * statistics.median(times["jaxnn"]) / (n if scanned else calls)
            rows[f"{name:26} {setting:9}"] = ratios | {"µs": per_step}
    return rows


def opcodes(f: Callable, carry: tuple, batch: tuple) -> Counter:
    """How often each instruction stands in the optimised program."""
    text = jax.jit(f).lower(carry, batch).compile().as_text()
    found: Counter = Counter()
    for line in text.splitlines():
        left, equals, right = line.strip().partition(" = ")
        if equals and (left.startswith(("%", "ROOT")) or " " not in left):
            words = [w.split("(")[0] for w in right.split(" ") if "(" in w and w[0].isalpha()]
            found.update(words[:1])
    return found


def compare_programs() -> None:
    """Prints the instructions that only one of the two programs has, net by net."""
    for name in NETS:
        steps, carries, batch = steps_of(name)
        ours, hand = (opcodes(steps[k], carries[k], batch) for k in ("jaxnn", "hand"))
        print(f"{name}: {ours.total()} instructions, by hand {hand.total()}")
        for opcode in sorted(ours | hand):
            if ours[opcode] != hand[opcode]:
                print(f"  {opcode:28} {ours[opcode]:5} {hand[opcode]:5}")


def main() -> None:
    """Five processes one after the other, and the table."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--hlo", action="store_true")
    arguments.add_argument("--one", action="store_true", help="one process's ratios as JSON")
    given = arguments.parse_args()
    if given.hlo:
        compare_programs()
        return
    if given.one:
        print(json.dumps(measure()))
        return
    print(f"jax {jax.__version__}, optax {optax.__version__}, {jax.devices()[0].device_kind}, {os.cpu_count()} cores")
    runs = []
    for _ in range(PROCESSES):
        out = subprocess.run([sys.executable, __file__, "--one"], check=True, capture_output=True, text=True)
        runs.append(json.loads(out.stdout.splitlines()[-1]))
    print(f"{'':36} {'µs a step':>10}" + "".join(f"   {'over ' + peer:>20}" for peer in PEERS))
    for row in runs[0]:
        cells = []
        for variant in PEERS:
            ratios = [run[row][variant] for run in runs]
            half = T95 * statistics.stdev(ratios) / len(ratios) ** 0.5
            mean = statistics.mean(ratios)
            cells.append(f"{mean:.3f} ({mean - half:.3f}, {mean + half:.3f})")
        per_step = statistics.median(run[row]["µs"] for run in runs)
        print(f"{row:36} {per_step:10.1f}" + "".join(f"   {cell:>20}" for cell in cells))


if __name__ == "__main__":
    main()
