"""The wait for the params of a model: `init` in a process of its own, eager and jitted, everything compiled anew.

    python benchmarks/init.py            # all models; benchmarks/init.txt has the figures, before and after
    python benchmarks/init.py vae jit    # one of them, in this process

"transformer" has 12 blocks in `serial`, "repeat" the same block 12 times in `repeat`.

Prints seconds, processor seconds (which a busy machine does not lengthen), the programs that were compiled, and a
checksum of all bits of the params.
"""

import argparse
import subprocess
import sys
import time
import zlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import jaxnn as nn

ROUNDS = 3


def mlp() -> tuple[nn.Layer, tuple[int, ...]]:
    return nn.serial(nn.flatten(), nn.dense(512), nn.relu, nn.dense(256), nn.relu, nn.dense(10)), (8, 28, 28)


def vae() -> tuple[nn.Layer, tuple[int, ...]]:
    down = [part for n in (32, 64) for part in (nn.conv(n, 3, stride=2), nn.relu)]
    up = [part for n in (64, 32) for part in (nn.conv_transpose(n, 4, stride=2), nn.relu)]
    encoder = nn.serial(*down, nn.flatten(), nn.dense(256), nn.relu, nn.dense(32), name="encoder")
    square = nn.lift(lambda z: z.reshape(-1, 7, 7, 64), name="square")
    decoder = nn.serial(nn.dense(256), nn.relu, nn.dense(7 * 7 * 64), square, *up, nn.conv(1, 3), name="decoder")
    return nn.serial(encoder, decoder), (8, 28, 28, 1)


def unet() -> tuple[nn.Layer, tuple[int, ...]]:
    def block(n: int, name: str) -> nn.Layer:
        return nn.serial(nn.conv(n, 3), nn.group_norm(8), nn.silu, nn.conv(n, 3), nn.group_norm(8), nn.silu, name=name)

    widths = (32, 64, 128)
    downs = [block(n, f"down_{n}") for n in widths]
    ups = [(nn.conv_transpose(n, 2, stride=2), block(n, f"up_{n}")) for n in reversed(widths)]
    middle, head = block(256, "middle"), nn.conv(1, 1)

    def apply(params: dict, state: dict, x: jax.Array, *, key: jax.Array | None, train: bool) -> tuple:
        kept = []
        for n, down in zip(widths, downs, strict=True):
            x, state = nn.call(down, f"down_{n}", params, state, x, key=key, train=train)
            kept.append(x)
            x = nn.ops.max_pool(x, 2)
        x, state = nn.call(middle, "middle", params, state, x, key=key, train=train)
        for n, (wider, up) in zip(reversed(widths), ups, strict=True):
            x, state = nn.call(wider, f"wider_{n}", params, state, x, key=key, train=train)
            x = jnp.concatenate([x, kept.pop()], -1)
            x, state = nn.call(up, f"up_{n}", params, state, x, key=key, train=train)
        return nn.call(head, "head", params, state, x, key=key, train=train)

    return nn.layer(None, apply, "unet"), (2, 64, 64, 3)


def transformer(*, repeated: bool = False) -> tuple[nn.Layer, tuple[int, ...]]:
    blocks = [nn.repeat(nn.encoder_block(4), 12)] if repeated else [nn.encoder_block(4) for _ in range(12)]
    return nn.serial(nn.dense(128), nn.learned_positions(64), *blocks, nn.layer_norm(), nn.dense(10)), (2, 64, 16)


MODELS = {
    "mlp": mlp,
    "vae": vae,
    "unet": unet,
    "transformer": transformer,
    "repeat": partial(transformer, repeated=True),
}


def measure(name: str, how: str) -> None:
    """One line: the seconds of a first init, those of all cores, the programs compiled in it, the checksum."""
    model, shape = MODELS[name]()
    key, x = jax.random.key(0), jnp.zeros(shape)
    jax.block_until_ready((x, jax.random.key_data(key)))
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiled.append(seconds) if event.endswith("backend_compile_duration") else None
    )
    began, worked = time.perf_counter(), time.process_time()
    params = jax.block_until_ready((jax.jit(model.init) if how == "jit" else model.init)(key, x))
    took, worked = time.perf_counter() - began, time.process_time() - worked
    bits = zlib.crc32(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params)))
    print(f"{took:.2f} {worked:.2f} {len(compiled)} {bits:08x}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", choices=MODELS)
    parser.add_argument("how", nargs="?", choices=["eager", "jit"])
    given = parser.parse_args()
    if given.how:
        return measure(given.model, given.how)
    print(f"jax {jax.__version__}, {jax.devices()[0].platform}; median of {ROUNDS} processes")
    print(f"{'model':14}{'':7}{'seconds':>9}{'of cores':>9}{'programs':>10}   params")
    for name in [given.model] if given.model else MODELS:
        for how in ("eager", "jit"):
            command = [sys.executable, __file__, name, how]
            ran = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(ROUNDS)]
            took, worked, programs, bits = zip(*(one.stdout.split() for one in ran), strict=True)
            assert len(set(bits)) == 1, bits
            seconds, cores = (np.median([float(t) for t in each]) for each in (took, worked))
            print(f"{name:14}{how:7}{seconds:9.2f}{cores:9.2f}{programs[0]:>10}   {bits[0]}", flush=True)
    return None


if __name__ == "__main__":
    main()
