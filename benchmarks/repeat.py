"""Compile time of a transformer's train step by `nn.repeat`, by number of layers and policy of `nn.remat`.

    python benchmarks/repeat.py [rounds, by default 5] [policy ...]

Each round compiles the steps of 4, 12 and 48 layers anew, in turns, without any cache: forward, backward and Adam. A
row has the processor seconds of tracing and compiling 4 layers, the median over rounds of the ratios of 12 and 48
layers to 4 with their intervals, MiB that 48 layers keep for the backward pass by `nn.summary(train=True)`, and MiB of
temporary memory of the compiled step. The figures are in `repeat.txt`.
"""

import sys
import time
from statistics import median

import jax
import jax.numpy as jnp
from _ratios import interval

import jaxnn as nn

FEATURES, HEADS, STEPS, EXAMPLES, VOCABULARY = 256, 4, 128, 8, 256
LAYERS = 4, 12, 48
OF_JAX = jax.checkpoint_policies
POLICIES = {
    "no remat": None,
    "nothing_saveable": OF_JAX.nothing_saveable,
    "dots_with_no_batch_dims_saveable": OF_JAX.dots_with_no_batch_dims_saveable,
    "dots_saveable": OF_JAX.dots_saveable,
    'save_only_these_names("attention", "up")': OF_JAX.save_only_these_names("attention", "up"),
    'save_and_offload_..., "up" offloaded': OF_JAX.save_and_offload_only_these_names(
        names_which_can_be_saved=["attention"],
        names_which_can_be_offloaded=["up"],
        offload_src="device",
        offload_dst="pinned_host",
    ),
    "offload_dot_with_no_batch_dims": OF_JAX.offload_dot_with_no_batch_dims("device", "pinned_host"),
}
TOKENS = jax.ShapeDtypeStruct((EXAMPLES, STEPS), jnp.int32)


def net(name: str, layers: int) -> nn.Layer:
    """A decoder-only transformer."""
    block = nn.encoder_block(HEADS, causal=True)
    block = block if POLICIES[name] is None else nn.remat(block, policy=POLICIES[name])
    head = nn.dense(VOCABULARY, name="head")
    return nn.serial(nn.embed(VOCABULARY, FEATURES), nn.repeat(block, layers), nn.layer_norm(), head)


def compiled(name: str, layers: int) -> tuple[float, int]:
    """Processor seconds of tracing and compiling a step, and bytes of its temporary memory."""
    jax.clear_caches()
    trainer = nn.trainer(net(name, layers), nn.losses.softmax_cross_entropy, nn.adam(1e-3))
    ts = jax.eval_shape(trainer.init, jax.random.key(0), (TOKENS, TOKENS))
    start = time.process_time()
    step = jax.jit(trainer.step, donate_argnums=0).lower(ts, (TOKENS, TOKENS)).compile()
    return time.process_time() - start, step.memory_analysis().temp_size_in_bytes


def row(name: str, rounds: int) -> str:
    """Figures of a policy."""
    compiled(name, LAYERS[0])
    found: dict[int, list[float]] = {n: [] for n in LAYERS}
    temporary = dict.fromkeys(LAYERS, 0)
    for i in range(rounds):
        for n in LAYERS if i % 2 else LAYERS[::-1]:
            seconds, temporary[n] = compiled(name, n)
            found[n].append(seconds)
    cells = []
    for n in LAYERS[1:]:
        ratios = [a / b for a, b in zip(found[n], found[LAYERS[0]], strict=True)]
        low, high = interval(ratios)
        cells.append(f"{median(ratios):.2f} ({low:.2f}, {high:.2f})")
    kept = nn.summary(net(name, LAYERS[-1]), TOKENS, train=True).kept[-1]
    sizes = f"{kept / 2**20:8.1f} {temporary[LAYERS[-1]] / 2**20:8.1f}"
    return f"{name:41} {median(found[LAYERS[0]]):5.2f} s  {'  '.join(cells)}  {sizes}"


def main() -> None:
    """Prints the table."""
    rounds = next((int(a) for a in sys.argv[1:] if a.isdigit()), 5)
    chosen = [a for a in sys.argv[1:] if not a.isdigit()] or POLICIES
    print(f"jax {jax.__version__}, {jax.default_backend()}; compile time over that of {LAYERS[0]} layers")
    print(f"{'':41} {LAYERS[0]:3} layers  {'12 layers':18} {'48 layers':18}     kept temporary")
    for name in chosen:
        print(row(name, rounds), flush=True)


if __name__ == "__main__":
    main()
