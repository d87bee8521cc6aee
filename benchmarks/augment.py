"""The cost of augmentations on a batch of 256 images 32 × 32 × 3, in float32, over one train step of a ResNet-20.

    python benchmarks/augment.py [rounds, by default 15]

"flip + crop + colour" is the usual augmentation of CIFAR and more: a flip, a crop of the padded image, and brightness,
contrast, saturation and hue. All rows and the train step alternate in one process, after a warm-up; the ratio is that
of the medians, its range that over three parts of the rounds. Compile times are apart. The step is compiled with
`nn.compiler_options()`, as `nn.drive` does.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxnn as nn
from jaxnn import augment

BATCH, SIDE = 256, 32
WIDTHS = (16, 32, 64)
BLOCKS = 3
PARTS = 3
STEP = "step of the ResNet-20"

COLOUR = augment.chain(augment.brightness(0.4), augment.contrast(0.4), augment.saturation(0.4), augment.hue(0.1))
USUAL = augment.chain(augment.flip(), augment.crop(SIDE, padding=4))
# Functions (key, batch) -> batch. The first is the one that must cost a tenth of a step at most.
ROWS = {
    "flip + crop + colour": augment.batched(augment.chain(USUAL, COLOUR)),
    "flip + crop": augment.batched(USUAL),
    "colour": augment.batched(COLOUR),
    **{
        name: augment.batched(f)
        for name, f in {
            "affine": augment.affine(),
            "perspective": augment.perspective(),
            "elastic": augment.elastic(),
            "resized_crop": augment.resized_crop(SIDE),
            "blur": augment.blur(),
            "noise": augment.noise(),
            "cutout": augment.cutout(8),
            "equalize": augment.equalize(),
            "rand_augment": augment.rand_augment(),
            "trivial_augment": augment.trivial_augment(),
        }.items()
    },
    "mixup": augment.mixup(classes=10),
    "cutmix": augment.cutmix(classes=10),
}


def block(features: int, stride: int) -> nn.Layer:
    """Two convolutions and a skip connection, which is projected where the shape changes."""
    body = nn.serial(
        nn.conv(features, 3, stride=stride, bias=False),
        nn.batch_norm(),
        nn.relu,
        nn.conv(features, 3, bias=False),
        nn.batch_norm(),
    )
    skip = nn.serial(nn.conv(features, 1, stride=stride, bias=False), nn.batch_norm()) if stride > 1 else None
    return nn.serial(nn.residual(body, skip=skip), nn.relu)


def resnet() -> nn.Layer:
    """ResNet-20 of the CIFAR experiments of its paper."""
    stages = [block(n, 2 if i == 0 and n != WIDTHS[0] else 1) for n in WIDTHS for i in range(BLOCKS)]
    stem = nn.conv(WIDTHS[0], 3, bias=False), nn.batch_norm(), nn.relu
    return nn.serial(*stem, *stages, nn.global_avg_pool(), nn.flatten(), nn.dense(10))


def timed(f: Callable, *args: Any) -> float:
    start = time.perf_counter()
    jax.block_until_ready(f(*args))
    return time.perf_counter() - start


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    key = jax.random.key(0)
    random = np.random.default_rng(0)
    x = jnp.asarray(random.uniform(size=(BATCH, SIDE, SIDE, 3)), jnp.float32)
    batch = x, jnp.asarray(random.integers(0, 10, BATCH), jnp.int32)
    trainer = nn.trainer(resnet(), nn.losses.softmax_cross_entropy, nn.sgd(0.1, momentum=0.9))
    ts = trainer.init(key, batch)
    device = jax.devices()[0].device_kind
    print(f"jax {jax.__version__}, {device}, {os.cpu_count()} cores; {BATCH} images, {rounds} rounds")
    step = jax.jit(trainer.step, compiler_options=nn.compiler_options()), ts
    programs = {STEP: step} | {name: (jax.jit(f), key) for name, f in ROWS.items()}
    compiled = {name: timed(f, first, batch) for name, (f, first) in programs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for i in range(rounds):
        for name in list(programs)[:: 1 if i % 2 else -1]:
            f, first = programs[name]
            seconds[name].append(timed(f, first, batch))
    print(f"{'':24}{'compile s':>10}{'ms':>10}   over a step")
    for name, own in seconds.items():
        ratios = [statistics.median(own[i::PARTS]) / statistics.median(seconds[STEP][i::PARTS]) for i in range(PARTS)]
        median = statistics.median(own)
        over = f"{median / statistics.median(seconds[STEP]):.4f} ({min(ratios):.4f}, {max(ratios):.4f})"
        print(f"{name:24}{compiled[name]:10.2f}{1e3 * median:10.2f}   {over}")


if __name__ == "__main__":
    main()
