"""The forms that jaxnn chooses on a CPU, each over the plain one: forward passes and gradients.

    python benchmarks/forms.py [rounds, by default 31] [part of a row's name ...]

The plain form is that of accelerators, `nn.compiler.plain_forms()`: lax's operations, differentiated by JAX. Both are
compiled with `nn.compiler_options()` and alternate within a process; compilation is apart. A row is the median over
rounds of the ratio within a round, with its 95 % interval; below 1, the chosen form is faster. A row whose interval is
above 1.03 is marked: there the choice no longer holds, for this version of XLA or this machine.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _ratios import interval

import jaxnn as nn
from jaxnn import ops

BOUND = 1.03  # of a ratio that counts as no slower
RNG = np.random.default_rng(0)


def drawn(*shape: int, scale: float = 1.0) -> jax.Array:
    return jnp.asarray(RNG.normal(0, scale, shape), jnp.float32)


def conv(shape: tuple, kernel_size: int, features: int, **how: Any) -> tuple[Callable, tuple]:
    rank = len(shape) - 2
    w = drawn(*(kernel_size,) * rank, shape[-1], features, scale=0.1)
    return partial(ops.conv, **how), (drawn(*shape), w)


def transposed(shape: tuple, kernel_size: int, features: int) -> tuple[Callable, tuple]:
    rank = len(shape) - 2
    w = drawn(*(kernel_size,) * rank, features, shape[-1], scale=0.1)
    return partial(ops.conv_transpose, stride=kernel_size), (drawn(*shape), w)


def batch_norm(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    mean, var = ops.moments(x, range(x.ndim - 1))
    return ops.normalize(x, mean, var, 1e-5, scale, bias)


def attention(x: jax.Array, w: jax.Array, heads: int) -> jax.Array:
    """Projections and causal attention."""
    n, t, d = x.shape
    q, k, v = jnp.split((x.reshape(n * t, d) @ w).reshape(n, t, 3 * heads, d // heads), 3, 2)
    return ops.attention(q, k, v, causal=True)


def lstm(x: jax.Array, w_x: jax.Array, w_h: jax.Array, b: jax.Array) -> jax.Array:
    return ops.lstm(x, None, w_x, w_h, b)[0]


def gru(x: jax.Array, w_x: jax.Array, w_h: jax.Array, b: jax.Array) -> jax.Array:
    return ops.gru(x, None, w_x, w_h, b)[0]


def dense(x: jax.Array, *weights: jax.Array) -> jax.Array:
    """A chain of residual dense layers on three axes."""
    layer = nn.dense(x.shape[-1], bias=False)
    for w in weights:
        x = x + layer.apply({"w": w}, {}, jnp.tanh(x))[0]
    return x


def network(shape: tuple) -> tuple[Callable, tuple]:
    """Convolutions, pools and dense layers."""
    model = nn.serial(
        *(part for n in (32, 64) for part in (nn.conv(n, 3), nn.relu, nn.max_pool(2))), nn.flatten(), nn.dense(10)
    )
    params, state = model.init(jax.random.key(0), drawn(*shape))
    return (lambda x, params: model.apply(params, state, x)[0]), (drawn(*shape), params)


ROWS: dict[str, tuple[Callable, tuple]] = {
    "conv 3x3, [64, 32, 32, 16]": conv((64, 32, 32, 16), 3, 16),
    "conv 3x3, [64, 16, 16, 32]": conv((64, 16, 16, 32), 3, 32),
    "conv 3x3, [128, 28, 28, 1] to 32": conv((128, 28, 28, 1), 3, 32),
    "conv 3x3, [64, 32, 32, 3] to 16": conv((64, 32, 32, 3), 3, 16),
    "conv 3x3, [64, 32, 32, 32] to 3": conv((64, 32, 32, 32), 3, 3),
    "conv 1x1, [16, 28, 28, 256] to 64": conv((16, 28, 28, 256), 1, 64),
    "conv 1x1, stride 2, [64, 32, 32, 16] to 32": conv((64, 32, 32, 16), 1, 32, stride=2),
    "patches 16x16, [8, 224, 224, 3] to 192": conv((8, 224, 224, 3), 16, 192, stride=16, padding="valid"),
    "depthwise 3x3, [16, 28, 28, 64]": (ops.depthwise_conv, (drawn(16, 28, 28, 64), drawn(3, 3, 64, 1))),
    "conv_transpose 2x2, [16, 32, 32, 32] to 16": transposed((16, 32, 32, 32), 2, 16),
    "max_pool 2x2, [128, 28, 28, 32]": (partial(ops.max_pool, kernel_size=2), (drawn(128, 28, 28, 32),)),
    "max_pool 3x3, stride 2, [16, 56, 56, 64]": (
        partial(ops.max_pool, kernel_size=3, stride=2, padding=1),
        (drawn(16, 56, 56, 64),),
    ),
    "convolutional network, 28x28, batch 128": network((128, 28, 28, 1)),
    "convolutional network, 28x28, batch 32": network((32, 28, 28, 1)),
    "convolutional network, 28x28, batch 1": network((1, 28, 28, 1)),
    "batch norm, [64, 32, 32, 16]": (batch_norm, (drawn(64, 32, 32, 16), drawn(16), drawn(16))),
    "batch norm, [16, 56, 56, 64]": (batch_norm, (drawn(16, 56, 56, 64), drawn(64), drawn(64))),
    "attention, 4 heads of 64, [16, 128, 256]": (
        partial(attention, heads=4),
        (drawn(16, 128, 256), drawn(256, 768, scale=0.06)),
    ),
    "dense on three axes, 4 residual layers, [16, 128, 256]": (
        dense,
        (drawn(16, 128, 256), *(drawn(256, 256, scale=0.06) for _ in range(4))),
    ),
    "lstm, [64, 100, 128] to 256": (
        lstm,
        (drawn(64, 100, 128), *(drawn(n, 1024, scale=0.06) for n in (128, 256)), drawn(1024)),
    ),
    "gru, [64, 100, 128] to 256": (
        gru,
        (drawn(64, 100, 128), *(drawn(n, 768, scale=0.06) for n in (128, 256)), drawn(768)),
    ),
}


def gradients(f: Callable, dy: jax.Array, *args: Any) -> tuple:
    """Those of all arguments."""
    return jax.vjp(f, *args)[1](dy)


def compiled(f: Callable, args: tuple) -> Callable:
    run = jax.jit(f, compiler_options=nn.compiler_options()).lower(*args).compile()
    jax.block_until_ready(run(*args))
    return run


def timed(f: Callable, args: tuple) -> float:
    start = time.perf_counter()
    jax.block_until_ready(f(*args))
    return time.perf_counter() - start


def ratio(f: Callable, args: tuple, rounds: int) -> str:
    """The chosen form of f over the plain one."""
    chosen = compiled(f, args)
    with nn.compiler.plain_forms():
        plain = compiled(lambda *args: f(*args), args)
    pairs = [[timed(run, args) for run in ((chosen, plain) if i % 2 else (plain, chosen))] for i in range(rounds)]
    times = np.array([pair if i % 2 else pair[::-1] for i, pair in enumerate(pairs)])
    ratios = times[:, 0] / times[:, 1]
    low, high = interval(ratios)
    mark = " slower" if low > BOUND else ""
    milliseconds, around = np.median(times[:, 0]) * 1e3, f"({low:.3f}, {high:.3f})"
    return f"{milliseconds:9.2f} ms {np.median(ratios):6.3f} {around:16}{mark:7}"


def main() -> None:
    """Prints the table."""
    rounds = next((int(a) for a in sys.argv[1:] if a.isdigit()), 31)
    parts = [a for a in sys.argv[1:] if not a.isdigit()]
    print(f"jax {jax.__version__}, {jax.default_backend()}, {rounds} rounds")
    print(f"{'':56}{'forward':>12}{'over plain':>11}{'gradients':>25}{'over plain':>11}")
    for name, (f, args) in ROWS.items():
        if parts and not any(part in name for part in parts):
            continue
        y = jax.eval_shape(f, *args)
        backward = partial(gradients, f), (drawn(*y.shape), *args)
        print(f"{name:56}{ratio(f, args, rounds)}{ratio(*backward, rounds)}", flush=True)


if __name__ == "__main__":
    main()
