"""The rows of `peers.py`: a net, the kind of measurement, sizes, and the data, which are the same for every library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

RATE, B1, B2, EPS = 1e-3, 0.9, 0.999, 1e-8  # Adam in every library
WIDTH, DEPTH, HEADS, LENGTH, VOCABULARY = 256, 4, 4, 128, 256  # the GPT
PROMPT, TOKENS = 16, 256  # of a generation


class Row(NamedTuple):
    """A line of the table.

    Attributes:
      title: description for the table.
      net: name of the network.
      kind: "step", a train step; "run", initialization and an epoch of steps in random order; "members", a train step
        of several networks; "outputs", inference; "first", the first call of a step in a new process; "start", a new
        process to the end of its first step; "restart", the same with a filled compilation cache; "memory", bytes of a
        step; "update", Adam alone; "tokens", generation.
      batch: examples of a step.
      steps: steps of a run.
      members: networks of a row of members.
      calls: calls in one measurement.
      sizes: arguments of the network: the widths of a chain of dense layers, or the length of a GPT.
    """

    title: str
    net: str
    kind: str = "step"
    batch: int = 128
    steps: int = 1
    members: int = 0
    calls: int = 1
    sizes: tuple[int, ...] = ()


class Job(NamedTuple):
    """A measurement in one library.

    Attributes:
      run: one call; the result is ready when the call is done, and nothing else is computed.
      params: number of trained parameters, of one member.
      losses: the first and the last loss.
      memory: bytes that a call needs.
    """

    run: Callable[[], Any]
    params: int
    losses: Callable[[], tuple[float, float]] | None = None
    memory: Callable[[], int] | None = None


TITLES = {
    "mlp": "MLP 784-512-512-10",
    "tiny": "MLP 64-32-10",
    "cnn": "CNN 28², 32-64-128",
    "small_cnn": "CNN 28², 16-32",
    "lstm": "LSTM 128-256, T100",
    "gru": "GRU 128-256, T100",
    "gpt": "GPT 4 × 256, T128",
    "resnet20": "ResNet-20, 32²",
    "unet": "U-Net, 64²",
    "resnet50": "ResNet-50, 224²",
    "lite0": "EfficientNet-Lite0, 224²",
    "bert": "BERT 6 × 384, T64",
}

SHAPES = {
    "mlp": (784,),
    "tiny": (64,),
    "cnn": (28, 28, 1),
    "small_cnn": (28, 28, 1),
    "lstm": (100, 128),
    "gru": (100, 128),
    "gpt": (LENGTH,),
    "gpt48": (LENGTH,),
    "resnet20": (32, 32, 3),
    "unet": (64, 64, 3),
    "resnet50": (224, 224, 3),
    "lite0": (224, 224, 3),
    "bert": (64,),
}


def row(net: str, kind: str = "step", batch: int = 128, **sizes: int) -> Row:
    """A row with its title."""
    told = {
        "step": f"batch {batch}, train step",
        "run": f"batch {batch}, a run of {sizes.get('steps')} steps",
        "members": f"batch {batch}, train step of {sizes.get('members')} members",
        "outputs": f"batch {batch}, outputs",
        "first": f"batch {batch}, first call of the step",
        "start": "new process to the end of the first step",
        "restart": "the same, compilation cache filled",
        "memory": f"batch {batch}, memory of the step",
    }
    return Row(f"{TITLES[net]}, {told[kind]}", net, kind, batch, **sizes)


ROWS = {
    "mlp": row("mlp", calls=10),
    "cnn": row("cnn"),
    "lstm": row("lstm", batch=64),
    "gru": row("gru", batch=64),
    "gpt": row("gpt", batch=16),
    "tiny": row("tiny", batch=32, calls=200),
    "tiny-run": row("tiny", "run", 32, steps=1000),
    "resnet20": row("resnet20", batch=64),
    "cnn-run": row("cnn", "run", steps=20),
    "mlps": row("tiny", "members", 32, members=32, calls=20),
    "cnns": row("small_cnn", "members", 32, members=8),
    "tiny-outputs-1": row("tiny", "outputs", 1, calls=200),
    "cnn-outputs-1": row("cnn", "outputs", 1, calls=50),
    "cnn-outputs-32": row("cnn", "outputs", 32, calls=5),
    "cnn-outputs-128": row("cnn", "outputs", 128, calls=2),
    "gpt-outputs-1": row("gpt", "outputs", 1, calls=5),
    "gpt-outputs-32": row("gpt", "outputs", 32),
    "gpt-first": row("gpt", "first", 16),
    "start": row("mlp", "start"),
    "restart": row("mlp", "restart"),
    "gpt-memory": row("gpt", "memory", 16),
    "unet": row("unet", batch=16),
    "resnet50-outputs-1": row("resnet50", "outputs", 1),
    "resnet50-outputs-16": row("resnet50", "outputs", 16),
    "lite0-outputs-1": row("lite0", "outputs", 1, calls=5),
    "lite0-outputs-16": row("lite0", "outputs", 16),
    "bert-outputs-1": row("bert", "outputs", 1, calls=5),
    "bert-outputs-32": row("bert", "outputs", 32),
    "adam": Row("Adam alone, GPT-2 small", "gpt2", "update"),
    "tokens": Row(f"GPT 4 × 256, batch 8, {TOKENS} tokens by a cache", "gpt", "tokens", 8),
}
LONG = {
    "gpt48-first": Row("GPT 48 × 256, T128, batch 16, first call of the step, layers repeated", "gpt48", "first", 16),
}


# One size at a time: axis -> value -> row. The chain is an MLP of 512, twice, on 512 features and 128 examples.


def chain(*sizes: int, batch: int = 128) -> Row:
    return Row(f"MLP {'-'.join(map(str, sizes))}, batch {batch}, train step", "chain", "step", batch, sizes=sizes)


GROWTH = {
    "batch": {n: chain(512, 512, 512, 10, batch=n) for n in (1, 4, 16, 64, 256, 1024)},
    "depth": {n: chain(*[512] * n, 10) for n in (1, 2, 4, 8, 16, 32)},
    "width": {n: chain(n, n, n, 10) for n in (64, 128, 256, 512, 1024, 2048)},
    "length": {
        n: Row(f"GPT 4 × 256, T{n}, batch 4, train step", "gpt", "step", 4, sizes=(n,)) for n in (32, 64, 128, 256, 512)
    },
    "members": {n: row("tiny", "members", 32, members=n) for n in (1, 4, 16, 64, 256)},
}
GROWN = {f"{axis}={n}": row for axis, rows in GROWTH.items() for n, row in rows.items()}
GROWING = ("jaxnn", "by hand", "linen", "torch")  # libraries whose networks take sizes
ALL = ROWS | LONG | GROWN


def data(row: Row) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets that a network can learn, [n, ...]; [members, n, ...] for members."""
    random = np.random.default_rng(0)
    if row.kind in ("update", "tokens"):
        return random.integers(0, VOCABULARY, (row.batch, PROMPT)).astype(np.int32), np.zeros(0, np.int32)
    shape = (row.batch * row.steps, *(row.sizes[:1] or SHAPES[row.net]))
    lead = (row.members,) if row.members else ()
    if row.net in ("gpt", "gpt48", "bert"):
        x = random.integers(0, VOCABULARY, lead + shape).astype(np.int32)
        return x, (3 * x + 1) % VOCABULARY
    x = random.normal(size=lead + shape).astype(np.float32)
    if row.net == "unet":
        return x, (x.sum(-1) > 0).astype(np.int32)
    rule = random.normal(size=(int(np.prod(shape[1:])), 10)).astype(np.float32)
    return x, (x.reshape(*lead, shape[0], -1) @ rule).argmax(-1).astype(np.int32)


def gpt2_shapes() -> list[tuple[int, ...]]:
    """The shapes of GPT-2 small's parameters."""
    d, shapes = 768, [(50257, 768), (1024, 768)]
    for _ in range(12):
        shapes += [(d,), (d,), (d, 3 * d), (3 * d,), (d, d), (d,), (d,), (d,), (d, 4 * d), (4 * d,), (4 * d, d), (d,)]
    return [*shapes, (d,), (d,)]
