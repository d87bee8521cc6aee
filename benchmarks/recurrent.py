"""A train step of an LSTM and of a GRU: jaxnn beside plain JAX, flax.linen, flax.nnx and Equinox.

    python benchmarks/recurrent.py [rounds, by default 41] [lstm, gru]

Forward, backward and Adam; 100 steps, 128 features in, 256 hidden, batch 64, float32. `each step` is plain JAX with
x w_x inside the loop, `hoisted` with x w_x before it; both are differentiated by JAX.

Variants alternate within a process, compilation is apart. A row is the median over rounds of the ratio within a round,
with its 95 % interval; below 1, jaxnn is faster. `wall` is elapsed time; `cpu` the time of all threads of the process,
which other load on the machine changes little.
"""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import flax
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _ratios import interval
from flax import nnx

import jaxnn as nn

N, T, D, H, CLASSES = 64, 100, 128, 256, 10
GATES = {"lstm": 4, "gru": 3}
RNG = np.random.default_rng(0)


def drawn(*shape: int, scale: float = 0.06) -> jax.Array:
    return jnp.asarray(RNG.normal(0, scale, shape), jnp.float32)


def weights(kind: str) -> dict[str, jax.Array]:
    wide = GATES[kind] * H
    w = {"w_x": drawn(D, wide), "w_h": drawn(H, wide), "b": drawn(wide)}
    return w | ({"b_h": drawn(H)} if kind == "gru" else {})


def lstm_cell(carry: Any, a: jax.Array, w: dict) -> tuple[Any, jax.Array]:
    h, c = carry
    i, f, g, o = jnp.split(a + h @ w["w_h"], 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def gru_cell(h: Any, a: jax.Array, w: dict) -> tuple[Any, jax.Array]:
    u = h @ w["w_h"]
    r, z = jnp.split(jax.nn.sigmoid(a[:, : 2 * H] + u[:, : 2 * H]), 2, -1)
    g = jnp.tanh(a[:, 2 * H :] + r * (u[:, 2 * H :] + w["b_h"]))
    h = g + z * (h - g)
    return h, h


def by_hand(kind: str, hoisted: bool) -> tuple[dict, Callable]:
    """Params, and their network: x [n, t, d] -> [n, t, h]."""
    cell = lstm_cell if kind == "lstm" else gru_cell

    def run(w: dict, x: jax.Array) -> jax.Array:
        zeros = jnp.zeros((N, H))
        start = (zeros, zeros) if kind == "lstm" else zeros
        xs = jnp.swapaxes(x, 0, 1)
        if hoisted:
            a = (xs.reshape(T * N, D) @ w["w_x"] + w["b"]).reshape(T, N, -1)
            return jnp.swapaxes(jax.lax.scan(lambda c, a: cell(c, a, w), start, a)[1], 0, 1)
        step = lambda c, x: cell(c, x @ w["w_x"] + w["b"], w)  # noqa: E731
        return jnp.swapaxes(jax.lax.scan(step, start, xs)[1], 0, 1)

    return weights(kind), run


def ours(kind: str) -> tuple[dict, Callable]:
    model = nn.lstm(H) if kind == "lstm" else nn.gru(H)
    params, state = model.init(jax.random.key(0), jnp.zeros((N, T, D)))
    return params, lambda params, x: model.apply(params, state, x)[0]


def of_linen(kind: str) -> tuple[Any, Callable]:
    model = linen.RNN(linen.OptimizedLSTMCell(H) if kind == "lstm" else linen.GRUCell(H))
    return model.init(jax.random.key(0), jnp.zeros((N, T, D))), model.apply


def of_nnx(kind: str) -> tuple[Any, Callable]:
    cell = nnx.OptimizedLSTMCell if kind == "lstm" else nnx.GRUCell
    rngs = nnx.Rngs(0)
    graph, params, rest = nnx.split(nnx.RNN(cell(D, H, rngs=rngs), rngs=rngs), nnx.Param, ...)
    zeros = jnp.zeros((N, H))
    start = (zeros, zeros) if kind == "lstm" else zeros
    return params, lambda params, x: nnx.merge(graph, params, rest)(x, initial_carry=start)


def of_equinox(kind: str) -> tuple[Any, Callable]:
    cell = (eqx.nn.LSTMCell if kind == "lstm" else eqx.nn.GRUCell)(D, H, key=jax.random.key(0))
    params, static = eqx.partition(cell, eqx.is_array)

    def one(params: Any, x: jax.Array) -> jax.Array:
        cell = eqx.combine(params, static)
        zeros = jnp.zeros(H)

        def step(carry: Any, x: jax.Array) -> tuple[Any, jax.Array]:
            carry = cell(x, carry)
            return carry, carry[0] if kind == "lstm" else carry

        return jax.lax.scan(step, (zeros, zeros) if kind == "lstm" else zeros, x)[1]

    return params, jax.vmap(one, (None, 0))


PEERS: dict[str, Callable[[str], tuple[Any, Callable]]] = {
    "each step": lambda kind: by_hand(kind, False),
    "hoisted": lambda kind: by_hand(kind, True),
    "flax.linen": of_linen,
    "flax.nnx": of_nnx,
    "equinox": of_equinox,
}


def compiled(params: Any, run: Callable, batch: tuple) -> tuple[Callable, Any]:
    """A train step, and its carry."""
    adam = optax.adam(1e-3)
    params = {"body": params, "head": drawn(H, CLASSES)}

    def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        logits = run(params["body"], x).mean(1) @ params["head"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def step(carry: tuple, x: jax.Array, y: jax.Array) -> tuple:
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params, x, y)
        updates, state = adam.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), value

    carry = params, adam.init(params)
    return jax.jit(step, donate_argnums=0).lower(carry, *batch).compile(), carry


def shown(ratios: np.ndarray) -> str:
    """Median and its interval."""
    low, high = interval(ratios)
    return f"{np.median(ratios):.3f} ({low:.3f}, {high:.3f})"


def measure(kind: str, rounds: int) -> None:
    batch = drawn(N, T, D, scale=1.0), jnp.asarray(RNG.integers(0, CLASSES, N), jnp.int32)
    makers = {"jaxnn": ours} | PEERS
    steps = {name: compiled(*make(kind), batch) for name, make in makers.items()}
    carries = {name: jax.tree.map(jnp.copy, carry) for name, (_, carry) in steps.items()}
    times: dict[str, list] = {name: [] for name in steps}
    for i in range(rounds + 2):
        for name in list(steps) if i % 2 else reversed(list(steps)):
            wall, cpu = time.perf_counter(), time.process_time()
            carries[name], _ = jax.block_until_ready(steps[name][0](carries[name], *batch))
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    of = {name: np.array(t[2:]) for name, t in times.items()}
    print(
        f"{kind}: jaxnn {1e3 * np.median(of['jaxnn'][:, 0]):.0f} ms wall, {1e3 * np.median(of['jaxnn'][:, 1]):.0f} cpu"
    )
    for name in PEERS:
        ratios = of["jaxnn"] / of[name]
        print(f"  over {name:12} wall {shown(ratios[:, 0])}   cpu {shown(ratios[:, 1])}", flush=True)


def main() -> None:
    versions = f"jax {jax.__version__}, flax {flax.__version__}, equinox {eqx.__version__}"
    print(f"{versions}, {jax.devices()[0].device_kind}, {os.cpu_count()} cores")
    arguments = sys.argv[1:]
    rounds = int(arguments.pop(0)) if arguments and arguments[0].isdigit() else 41
    for kind in arguments or GATES:
        measure(kind, rounds)


if __name__ == "__main__":
    main()
