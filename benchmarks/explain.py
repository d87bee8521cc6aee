"""Costs of explanations, over the passes of the model that they are made of.

    python benchmarks/explain.py [rounds, by default 11]

A gradient method is compared with as many forward and backward passes, a method of perturbations with as many forward
passes of the same batches, each in one program with the same compiler options. Two networks: a CNN on 28 × 28 pixels
and ResNet-20 on 32 × 32 pixels, 8 images each. Both sides alternate in one process. The ratio is that of the medians;
in brackets the interval around the median of the ratios by round. Other programs disturb processor seconds less than
wall time. Compile time, with the first run, is apart.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from _ratios import interval

import jaxnn as nn
from jaxnn import explain

IMAGES = 8
BLOCK = 4  # perturbed copies of each image at a time, in both
CNN = nn.serial(
    *(nn.conv(32, 3), nn.relu, nn.max_pool(2), nn.conv(64, 3), nn.relu, nn.max_pool(2)), nn.flatten(), nn.dense(10)
)
NETWORKS = {"CNN": (CNN, 28, 1, "relu_1"), "ResNet-20": (nn.models.resnet(20, classes=10), 32, 3, "stage3")}
compiled = partial(jax.jit, compiler_options=nn.compiler_options())


def rows(model: nn.Layer, params: Any, state: Any, x: jax.Array, path: str) -> dict[str, tuple[Callable, Callable]]:
    """Method -> (explanation, passes of the model that it takes)."""
    side = x.shape[1] // 14
    key, classes = jax.random.key(0), jnp.zeros(len(x), jnp.int32)

    def scores(p: Any, s: Any, x: jax.Array) -> jax.Array:
        return model.apply(p, s, x)[0][:, 0]

    def backward(p: Any, s: Any, x: jax.Array) -> jax.Array:
        return jax.grad(lambda x: scores(p, s, x).sum())(x)

    def repeated(f: Callable, block: int, p: Any, s: Any, x: jax.Array, factors: jax.Array) -> jax.Array:
        """f at multiples of x: equal inputs would be computed once."""
        return jax.lax.map(lambda factor: f(p, s, factor * x), factors, batch_size=block)

    def passes(f: Callable, times: int = 1, block: int = 1) -> Callable:
        if times == 1:
            return partial(compiled(f), params, state, x)
        return partial(compiled(partial(repeated, f, block)), params, state, x, jnp.linspace(0.5, 1, times))

    def method(f: Callable, *args: Any, **how: Any) -> Callable:
        return lambda: f(model, params, state, x, *args, target=classes, **how)

    channels = jax.eval_shape(lambda: nn.capture(model, path).apply(params, state, x)[0][1][path]).shape[-1]
    return {
        "saliency": (method(explain.saliency), passes(backward)),
        "guided_backprop": (method(explain.guided_backprop), passes(backward)),
        "grad_cam": (method(explain.grad_cam, path), passes(backward)),
        "smooth_grad, 32 samples": (method(explain.smooth_grad, key), passes(backward, 32)),
        "integrated_gradients, 50 steps": (method(explain.integrated_gradients), passes(backward, 50)),
        f"score_cam, {channels} channels": (
            method(explain.score_cam, path, block=BLOCK),
            passes(scores, channels, BLOCK),
        ),
        "occlusion, 196 windows": (
            method(explain.occlusion, window=x.shape[1] - 13 * side, stride=side, block=BLOCK),
            passes(scores, 196, BLOCK),
        ),
        "shapley_values, 4 × 49": (
            method(explain.shapley_values, key, groups=patches(x.shape[1]), permutations=4, block=BLOCK),
            passes(scores, 4 * 48, BLOCK),
        ),
    }


def patches(side: int) -> Any:
    """Numbers of 7 × 7 patches."""
    at = jnp.arange(side) * 7 // side
    return 7 * at[:, None] + at[None]


def compare(name: str, rounds: int) -> None:
    model, side, channels, path = NETWORKS[name]
    x = jax.random.uniform(jax.random.key(0), (IMAGES, side, side, channels))
    params, state = model.init(jax.random.key(1), x)
    print(f"\n{name}, {IMAGES} images of {side} × {side} pixels")
    print(f"{'':32}{'first, s':>10}{'ms':>8}   over passes{'':14}{'processors, ms':>15}   over passes")
    for row, pair in rows(model, params, state, x, path).items():
        start = time.perf_counter()
        jax.block_until_ready(pair[0]())
        first = time.perf_counter() - start
        jax.block_until_ready(pair[1]())
        wall: list[list[float]] = [[], []]
        used: list[list[float]] = [[], []]
        for i in range(rounds):
            for k in (0, 1) if i % 2 else (1, 0):
                start, worked = time.perf_counter(), time.process_time()
                jax.block_until_ready(pair[k]())
                wall[k].append(time.perf_counter() - start)
                used[k].append(time.process_time() - worked)
        cells = ""
        for seconds, width in ((wall, 8), (used, 15)):
            low, high = interval(a / b for a, b in zip(*seconds, strict=True))
            ours, theirs = map(statistics.median, seconds)
            cells += f"{1e3 * ours:{width}.1f}   {f'{ours / theirs:.2f} ({low:.2f}, {high:.2f})':25}"
        print(f"{row:32}{first:10.1f}{cells}".rstrip(), flush=True)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    device = jax.devices()[0].device_kind
    print(f"jax {jax.__version__}, {device}, {os.cpu_count()} cores; {rounds} rounds, {BLOCK} copies at a time")
    for name in NETWORKS:
        compare(name, rounds)


if __name__ == "__main__":
    main()
