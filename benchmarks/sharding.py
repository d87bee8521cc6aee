"""Collectives and bytes of sharded train steps, compiled for eight devices.

    python benchmarks/sharding.py           # on eight virtual devices of a CPU
    python benchmarks/sharding.py --tpu     # for a TPU v5e, 2 x 4, by `libtpu` (pip install libtpu): no TPU is needed

Nothing runs: a step is lowered from shapes and compiled. The figures are in `sharding.txt`.
"""

import argparse
import os
import re
from collections import Counter

os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5litepod-8", "TPU_WORKER_HOSTNAMES": "localhost"}

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh

import jaxnn as nn

FEATURES, HEADS, VOCABULARY, STEPS, EXAMPLES = 256, 8, 1024, 64, 32
FSDP, TENSOR = nn.sharding.fsdp(least=2**14), nn.sharding.tensor_parallel()
PLANS = {  # name: axes, sizes, rules
    "data": (("data",), (8,), ()),
    "FSDP": (("data",), (8,), FSDP),
    "tensor": (("data", "model"), (1, 8), TENSOR),
    "sequence": (("data", "seq"), (1, 8), ()),
    "FSDP x tensor": (("data", "model"), (4, 2), [TENSOR, FSDP]),
}
KINDS = "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute"


def devices(tpu):
    if not tpu:
        nn.cores_as_devices(8)
        return jax.devices()
    from jax.experimental import topologies

    return topologies.get_topology_desc("v5e:2x4", "tpu").devices


def compiled(blocks, among, axes, sizes, rules):
    """The compiled step of a transformer with this number of blocks, and the bytes of its state on a device."""
    block = nn.encoder_block(HEADS, causal=True)
    model = nn.serial(
        nn.embed(VOCABULARY, FEATURES), *[block] * blocks, nn.layer_norm(), nn.dense(VOCABULARY, name="head")
    )
    trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, nn.adam(1e-3))
    mesh = Mesh(np.array(among).reshape(sizes), axes, axis_types=(AxisType.Auto,) * len(axes))
    sharded = nn.shard(trainer, mesh, rules)
    batch = (jax.ShapeDtypeStruct((EXAMPLES, STEPS), jnp.int32),) * 2
    ts = jax.eval_shape(sharded.init, jax.random.key(0), batch)
    step = jax.jit(sharded.step, donate_argnums=0).lower(ts, batch).compile()
    return step, step.memory_analysis().alias_size_in_bytes


def collectives(step):
    """Number of arrays in the collectives of a step, by kind.

    A TPU's program may have several copies of one collective, all with one channel. It writes a reduce-scatter as a
    fusion named all-reduce-scatter; these may share a channel.
    """
    found, seen = Counter(), set()
    for body in re.split(r"\n(?=%|ENTRY)", step.as_text()):
        fused = "reduce-scatter" if body.startswith("%all-reduce-scatter") else None
        for result, kind, channel in re.findall(rf"= (.+?) ({'|'.join(KINDS)})\(.*?channel_id=(\d+)", body):
            once = fused and body.split(" ")[0], kind, channel
            if once not in seen:
                seen.add(once)
                found[fused or kind] += len(re.findall(r"\w+\[", result))
    return found


def text(counts):
    return ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind]) or "none"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tpu", action="store_true")
    parser.add_argument("--plans", nargs="*", default=list(PLANS), choices=PLANS)
    given = parser.parse_args()
    among = devices(given.tpu)
    print(f"jax {jax.__version__}, for 8 x {among[0].device_kind}")
    print(f"{'':15} {'state/device':>12}  arrays in collectives: of the block; of the rest")
    for name in given.plans:
        plan = PLANS[name]
        (none, _), (one, size) = (compiled(blocks, among, *plan) for blocks in (0, 1))
        rest = collectives(none)
        print(f"{name:15} {size / 2**20:8.2f} MiB  {text(collectives(one) - rest)}; {text(rest)}", flush=True)


if __name__ == "__main__":
    main()
