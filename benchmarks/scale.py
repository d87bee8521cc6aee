"""A GPT of 7 billion params on 256 and 4096 chips of TPU v5e, compiled ahead of time: memory, collectives, bounds.

    pip install libtpu==0.0.42.1
    python benchmarks/scale.py [--plans "FSDP 256" ...] [--keep FOLDER]

No TPU is needed, nothing runs and no array is made: a train step is lowered from shapes and compiled for the devices of
a topology, some minutes for each plan. The figures are in `scale.txt`, what they mean in `docs/scale.md`.
"""

import argparse
import os
import re
import sys
import time
from collections import Counter, defaultdict
from math import prod
from pathlib import Path
from typing import NamedTuple

os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5litepod-256", "TPU_WORKER_HOSTNAMES": "localhost"}

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import PartitionSpec as P

import jaxnn as nn
from jaxnn._flops import contractions

FEATURES, HEADS, LAYERS, STEPS = 4096, 32, 32, 2048
VOCABULARY = 32768  # 32000, padded to parts of 128 on 256 chips
FSDP, TENSOR = nn.sharding.fsdp(least=2**14), nn.sharding.tensor_parallel()


class Plan(NamedTuple):
    """Mesh and rules, and sequences in a batch."""

    axes: str
    rules: object
    sequences: int
    slices: int = 1
    batch: P | None = None


PLANS = {
    "FSDP 256": Plan("data=256", FSDP, 256),
    "FSDP 32 x tensor 8": Plan("data=32, model=8", [TENSOR, FSDP], 256),
    "16 pods x FSDP 256": Plan("pod=16, data=256", FSDP, 4096, 16, P(("pod", "data"))),
}

# Published rates of a chip, https://docs.cloud.google.com/tpu/docs/v5e: bf16; HBM; four ICI ports of 400 Gbps in each
# direction; a pod's data center network of 6.4 Tbps over its 256 chips.
PEAK, HBM, MEMORY, PORT, NETWORK = 197e12, 819e9, 16e9, 400e9 / 8, 6.4e12 / 8 / 256
SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8}
KINDS = "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute"
VIEWS = {"bitcast", "pad"}  # of a param of a fusion: the fusion reads what is sliced of them
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "iota", "after-all", "partition-id"}


def model():
    """The GPT: float32 params; its blocks and its head compute in bfloat16."""
    blocks = nn.repeat(nn.remat(nn.encoder_block(HEADS, causal=True)), LAYERS, name="blocks")
    deep = nn.serial(blocks, nn.layer_norm(), nn.dense(VOCABULARY, bias=False, name="head"), name="deep")
    return nn.serial(nn.embed(VOCABULARY, FEATURES), nn.learned_positions(STEPS), nn.cast(deep, jnp.bfloat16))


def chips(slices):
    """The devices of pods of 16 x 16 chips."""
    several = {"num_slices": slices} if slices > 1 else {}
    return topologies.get_topology_desc("v5e:16x16", "tpu", **several).devices


def compiled(plan):
    """The mesh, FLOPs of the products in a step and of a forward pass, and the compiled step."""
    mesh = nn.mesh(plan.axes, devices=chips(plan.slices))
    trainer = nn.trainer(model(), nn.losses.softmax_cross_entropy, nn.adam(1e-4))
    sharded = nn.shard(trainer, mesh, plan.rules, batch=plan.batch)
    batch = (jax.ShapeDtypeStruct((plan.sequences, STEPS), jnp.int32),) * 2
    ts = jax.eval_shape(sharded.init, jax.random.key(0), batch)
    traced = jax.jit(sharded.step, donate_argnums=0).trace(ts, batch)
    step, _ = contractions(traced.jaxpr.jaxpr)
    return mesh, step, nn.summary(model(), batch[0]).total, traced.lower().compile()


# Reading of a compiled program.


def computations(text):
    """Instructions of each computation by its name, how often it runs in a step, and the one not fused that has it."""
    bodies = {}
    for part in re.split(r"\n(?=%|ENTRY)", text):
        head, *lines = part.split("\n")
        bodies[head.removeprefix("ENTRY ").split(" ")[0]] = lines
    last = list(bodies)[-1]  # callees come before their callers
    times, owner = Counter({last: 1}), {last: last}
    for name in reversed(bodies):
        for line in bodies[name]:
            loop = re.search(r"condition=(%[\w.-]+), body=(%[\w.-]+)", line)
            if loop:
                steps = max(map(int, re.findall(r"constant\((\d+)\)", "\n".join(bodies[loop[1]]))))
                times[loop[2]] += steps * times[name]
                owner[loop[2]] = loop[2]
            for called in re.findall(r"calls=(%[\w.-]+)", line):
                times[called] += times[name]
                owner[called] = owner.get(name)
    return bodies, times, owner


def arrays(shape):
    """Bytes, and True if it is in HBM, of each array in the text of a shape."""
    for dtype, axes, layout in re.findall(r"(\w+)\[([\d,]*)\](\{[^}]*\})?", shape):
        if dtype in SIZES:
            yield SIZES[dtype] * prod(int(n) for n in axes.split(",") if n), "S(1)" not in layout


def parsed(lines):
    """Name, shape, operation, arguments and rest of each instruction."""
    for line in lines:
        if found := re.match(r"\s*(?:ROOT )?(%[\w.-]+) = (.*?) ([\w-]+)\((.*?)\)(,.*|$)", line):
            yield found.groups()


def in_hbm(shape):
    """Bytes of the arrays in the text of a shape, without those in the memory of the chip itself."""
    return sum(size for size, outside in arrays(shape) if outside)


def in_parts(bodies, fusion):
    """Bytes that a fusion reads or writes of each parameter that it only slices or updates in place, by its number."""
    place, shapes, parts = {}, {}, defaultdict(list)
    for name, shape, operation, arguments, rest in parsed(bodies[fusion]):
        shapes[name], operands = shape, re.findall(r"%[\w.-]+", arguments)
        if operation == "parameter":
            place[name] = int(arguments)
        elif operation in VIEWS and operands[0] in place:
            place[name] = place[operands[0]]
        called = re.search(r"calls=(%[\w.-]+)", rest)
        inner = in_parts(bodies, called[1]) if called else {}
        for i, operand in enumerate(() if operation in VIEWS else operands):
            if operand in place and called:
                parts[place[operand]].append(inner.get(i))
            elif operand in place:
                inside = operation in ("dynamic-slice", "dynamic-update-slice") and i == 0
                part = shape if operation == "dynamic-slice" else shapes[operands[1]] if inside else ""
                parts[place[operand]].append(sum(size for size, _ in arrays(part)) if inside else None)
    return {i: sum(sizes) for i, sizes in parts.items() if None not in sizes}


def traffic(bodies, times, owner):
    """Bytes that a device reads from and writes to HBM in a step."""
    total = 0
    for name in (name for name in owner if owner[name] == name):
        shapes = {}
        for result, shape, operation, arguments, rest in parsed(bodies[name]):
            shapes[result], operands = shape, re.findall(r"%[\w.-]+", arguments)
            called = re.search(r"calls=(%[\w.-]+)", rest)
            if operation in FREE or operation.endswith(("-done", "-update")):
                moved = 0
            elif operation == "slice-start":
                moved = [size for size, _ in arrays(shape)][1]
            elif operation.endswith("-start"):
                moved = in_hbm(shape)
            elif operation in ("dynamic-slice", "dynamic-update-slice"):
                moved = 2 * in_hbm(shape if operation == "dynamic-slice" else shapes.get(operands[1], ""))
            else:
                parts = in_parts(bodies, called[1]) if called else {}
                given = [shapes.get(operand, "") for operand in operands]
                whole = {in_hbm(given[i]) for i in parts if i < len(given)}
                moved = sum(min(parts.get(i, in_hbm(s)), in_hbm(s)) for i, s in enumerate(given))
                moved += sum(size for size, outside in arrays(shape) if outside and size not in whole)
            total += times[name] * moved
    return total


def group_size(line):
    """Number of devices in a group of a collective."""
    if named := re.search(r"replica_groups=mesh\[(.*?)\] \{(.*?)\}", line):
        sizes = dict(re.findall(r"('\w+')=(\d+)", named[1]))
        return prod(int(sizes[axis]) for axis in named[2].split(","))
    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", line):
        return len(listed[1].split(","))
    spaced = re.search(r"replica_groups=\[\d+,(\d+)\]", line)
    return int(spaced[1]) if spaced else 2


def collectives(bodies, times, owner, slices):
    """Number in a step and bytes that a device sends, by kind and size of the group, with rings.

    An asynchronous collective is spread over several fusions with one channel. A reduce-scatter is a fusion named
    all-reduce-scatter; these may share a channel. Sums over several slices are sent by their hosts.
    """
    number, sent, seen = Counter(), Counter(), set()
    for name, lines in bodies.items():
        fused = name if "all-reduce-scatter" in name else None
        for line in lines:
            found = re.search(rf"= (.+?) ({'|'.join(KINDS)}|send)(-start)?\(.*?channel_id=(\d+)", line)
            key = found and (owner.get(name), fused, found[2], found[4])
            if not found or key in seen or (found[2] == "send" and "megascale" not in line):
                continue
            seen.add(key)
            n, kind = group_size(line), "reduce-scatter" if fused else found[2]
            sizes = [size for size, _ in arrays(found[1])]
            size = max(sizes) if found[3] or kind == "send" else sum(sizes)
            if kind == "send":
                n, kind = slices, "all-reduce"
            size *= n if found[2] == "reduce-scatter" else 1  # its result is a part
            factor = {"all-reduce": 2 * (n - 1) / n, "collective-permute": 1}.get(kind, (n - 1) / n)
            number[kind, n] += times[name]
            sent[kind, n] += int(times[name] * factor * size)
    return number, sent


def rate(mesh, n):
    """Bytes a second that a device sends along the mesh axes with n devices in a group.

    Both ports of each dimension of the torus that the group spans; one of them if it does not go around.
    """
    axes = [name for name, size in mesh.shape.items() if size == n] or list(mesh.shape)
    line = mesh.devices[tuple(slice(None) if name in axes else 0 for name in mesh.shape)].flatten()
    if len({getattr(device, "slice_index", 0) for device in line}) > 1:
        return NETWORK
    spanned = [len(set(places)) for places in zip(*(device.coords for device in line), strict=True)]
    return sum(PORT * (2 if places == 16 else 1) for places in spanned if places > 1)


def report(name, plan, text, mesh, products, forward, memory):
    """Prints the figures of a plan."""
    bodies, times, owner = computations(text)
    number, sent = collectives(bodies, times, owner, plan.slices)
    moved, products, useful = traffic(bodies, times, owner), products / mesh.size, 3 * forward.flops / mesh.size
    state, temporary = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    print(f"\n{name}: {mesh.size} chips, mesh {plan.axes}, {plan.sequences} sequences of {STEPS}")
    print(f"  memory: state {state / 1e9:.2f} GB, temporary {temporary / 1e9:.2f} GB,", end=" ")
    print(f"together {(state + temporary) / MEMORY:.0%} of {MEMORY / 1e9:.0f} GB")
    print(f"  products: {products / 1e12:.1f} TFLOP, {useful / products:.0%} of them without remat;", end=" ")
    print(f"HBM: {moved / 1e9:.0f} GB, {products / moved:.0f} FLOP a byte")
    seconds = {group: size / rate(mesh, group[1]) for group, size in sent.items()}
    for group in sorted(sent, key=sent.get, reverse=True):
        if sent[group] > 1e6:
            times_ms = f"{sent[group] / 1e9:6.2f} GB, {1e3 * seconds[group]:6.1f} ms"
            print(f"  {number[group]:5} {group[0]:14} over {group[1]:4}: {times_ms}")
    chip, wires = {"compute": products / PEAK, "HBM": moved / HBM}, sum(seconds.values())
    print(f"  seconds: compute {chip['compute']:.3f}, HBM {chip['HBM']:.3f}, collectives {wires:.3f}")
    longest, at_peak = max(chip.values()), useful / PEAK
    shares = f"{at_peak / max(longest, wires):.0%} if collectives overlap, {at_peak / (longest + wires):.0%} if not"
    print(f"  share of the peak at most {shares}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plans", nargs="*", default=list(PLANS), choices=PLANS)
    parser.add_argument("--keep", type=Path, help="folder for the compiled programs as text")
    given = parser.parse_args()
    try:
        import libtpu
    except ImportError:
        sys.exit("scale.py: expected the package libtpu, the compiler, got none. pip install libtpu==0.0.42.1")
    total = nn.summary(model(), jax.ShapeDtypeStruct((1, STEPS), jnp.int32)).total
    version = getattr(libtpu, "__version__", "")
    print(f"jax {jax.__version__}, libtpu {version}; {total.params / 1e9:.2f} billion params")
    for name in given.plans:
        plan, began = PLANS[name], time.process_time()
        mesh, products, forward, step = compiled(plan)
        text = step.as_text()
        if given.keep:
            (given.keep / f"{name.replace(' ', '_')}.txt").write_text(text)
        report(name, plan, text, mesh, products, forward, step.memory_analysis())
        print(f"  compiled in {time.process_time() - began:.0f} s of processors", flush=True)


if __name__ == "__main__":
    main()
