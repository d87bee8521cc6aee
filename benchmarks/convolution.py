"""A CNN's train step in `lax.scan` over outside, eight CNNs under `vmap` over in turn, `compiler_options` over none.

The eight are measured twice: as steps that are called, where fresh memory for eight networks is paid for at every call,
and as scans of steps, which is how `fit` trains them.

    python benchmarks/convolution.py [rounds, by default 15] [ours]

Each pair alternates in one process, after a warm-up; the ratio of the medians, and its range over three parts of the
rounds. "stock" is the same network by `lax.conv_general_dilated`. All but the other side of the last column is compiled
with `nn.compiler_options()`.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxnn as nn

STEPS = 4
MEMBERS = 8
WIDTHS = 24, 28, 28, 28


def stock(x: jax.Array, w: jax.Array, *, stride: int = 1, groups: int = 1) -> jax.Array:
    rank = x.ndim - 2
    space = "HW"[:rank]
    numbers = (f"N{space}C", f"{space}IO", f"N{space}C")
    steps = (stride,) * rank
    return lax.conv_general_dilated(x, w, steps, "SAME", dimension_numbers=numbers, feature_group_count=groups)


def network(conv: Callable, strides: tuple, groups: int, params: list, x: jax.Array) -> jax.Array:
    *windows, head = params
    for i, (w, stride) in enumerate(zip(windows, strides, strict=True)):
        x = jax.nn.relu(conv(x, w, stride=stride, groups=groups if i else 1))
    return x.mean(tuple(range(1, x.ndim - 1))) @ head


def step(conv: Callable, strides: tuple, groups: int, params: list, batch: tuple) -> list:
    def loss(params: list) -> jax.Array:
        logits = network(conv, strides, groups, params, batch[0])
        return nn.losses.softmax_cross_entropy(logits, batch[1]).mean()

    return jax.tree.map(lambda p, g: p - 0.01 * g, params, jax.grad(loss)(params))


# name -> the shape of x, kernels [*kernel_size, in / groups, out], strides, groups
NETWORKS: dict[str, Any] = {
    "28², 32-64, b64": ((64, 28, 28, 1), [(3, 3, 1, 32), (3, 3, 32, 64)], (1, 2), 1),
    "32², 16-16-32, b32": ((32, 32, 32, 3), [(3, 3, 3, 16), (3, 3, 16, 16), (3, 3, 16, 32)], (1, 1, 2), 1),
    "40, 25-25-25, b100": ((100, 40, 1), [(5, 1, 25), (3, 25, 25), (3, 25, 25)], (2, 2, 2), 1),
    "28², 32-32 in 4 groups, b32": ((32, 28, 28, 1), [(3, 3, 1, 32), (3, 3, 8, 32)], (1, 1), 4),
}


def drawn(shape: tuple, windows: list, members: int | None = None) -> tuple[list, tuple]:
    random = np.random.default_rng(0)
    lead = () if members is None else (members,)
    params = [jnp.asarray(random.normal(0, 0.1, (*lead, *w)), jnp.float32) for w in [*windows, (windows[-1][-1], 10)]]
    x = jnp.asarray(random.normal(0, 1, (*lead, *shape)), jnp.float32)
    return params, (x, jnp.asarray(random.integers(0, 10, (*lead, shape[0])), jnp.int32))


def compiled(f: Callable) -> Callable:
    return jax.jit(f, compiler_options=nn.compiler_options())


def timed(f: Callable, *args: Any) -> float:
    start = time.perf_counter()
    jax.block_until_ready(f(*args))
    return time.perf_counter() - start


def ratio(a: Callable, b: Callable, rounds: int) -> tuple[float, float, float, float]:
    """Median of a over that of b, its least and largest over three parts of the rounds, and the median of b in ms."""
    a(), b()
    pairs = np.array([(timed(a), timed(b)) if i % 2 else (timed(b), timed(a))[::-1] for i in range(rounds)])
    parts = [np.divide(*np.median(part, 0)) for part in np.array_split(pairs, 3)]
    median = np.median(pairs, 0)
    return median[0] / median[1], min(parts), max(parts), 1e3 * median[1]


def in_scan(conv: Callable, shape: tuple, windows: list, strides: tuple, groups: int) -> tuple[Callable, Callable]:
    params, batch = drawn(shape, windows)
    one = compiled(partial(step, conv, strides, groups))

    @compiled
    def scanned(params: list) -> list:
        return lax.scan(lambda p, _: (step(conv, strides, groups, p, batch), None), params, None, length=STEPS)[0]

    def outside() -> list:
        p = params
        for _ in range(STEPS):
            p = one(p, batch)
        return p

    return lambda: scanned(params), outside


def in_vmap(conv: Callable, shape: tuple, windows: list, strides: tuple, groups: int) -> tuple[Callable, Callable]:
    params, batch = drawn(shape, windows, MEMBERS)
    each = [jax.tree.map(lambda v, i=i: v[i], (params, batch)) for i in range(MEMBERS)]
    one = compiled(partial(step, conv, strides, groups))
    together = compiled(jax.vmap(partial(step, conv, strides, groups)))
    return lambda: together(params, batch), lambda: [one(*member) for member in each]


def in_vmap_and_scan(
    conv: Callable, shape: tuple, windows: list, strides: tuple, groups: int
) -> tuple[Callable, Callable]:
    params, batch = drawn(shape, windows, MEMBERS)
    each = [jax.tree.map(lambda v, i=i: v[i], (params, batch)) for i in range(MEMBERS)]
    f = partial(step, conv, strides, groups)

    def steps(f: Callable, params: list, batch: tuple) -> list:
        return lax.scan(lambda p, _: (f(p, batch), None), params, None, length=STEPS)[0]

    one, together = compiled(partial(steps, f)), compiled(partial(steps, jax.vmap(f)))
    return lambda: together(params, batch), lambda: [one(*member) for member in each]


def with_options(conv: Callable, shape: tuple, windows: list, strides: tuple, groups: int) -> tuple[Callable, Callable]:
    params, batch = drawn(shape, windows)
    f = partial(step, conv, strides, groups)
    plain, told = jax.jit(f), compiled(f)
    return lambda: told(params, batch), lambda: plain(params, batch)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    sides = {"ours": nn.ops.conv} if "ours" in sys.argv else {"ours": nn.ops.conv, "stock": stock}
    print(f"jax {jax.__version__}, {jax.devices()[0].platform}; {rounds} rounds")
    pairs = {
        "scan / outside": in_scan,
        "vmap of 8 / 8 in turn": in_vmap,
        "the same in scans": in_vmap_and_scan,
        "options / none": with_options,
    }
    titles = zip(pairs, WIDTHS, strict=True)
    print(" " * 38 + "".join(f"{title:>{width}}{'ms':>9}" for title, width in titles))
    for name, what in NETWORKS.items():
        for label, conv in sides.items():
            fewer = rounds if label == "ours" else max(3, rounds // 5)
            columns = ""
            for pair, width in zip(pairs.values(), WIDTHS, strict=True):
                if conv is stock and pair is in_vmap_and_scan:  # minutes
                    columns += f"{'-':>{width}}{'-':>9}"
                    continue
                r, low, high, ms = ratio(*pair(conv, *what), fewer)
                columns += f"{f'{r:8.3f} ({low:.3f}, {high:.3f})':>{width}}{ms:9.1f}"
            print(f"{name:30}{label:8}{columns}", flush=True)


if __name__ == "__main__":
    main()
