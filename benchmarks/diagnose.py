"""Planted faults and healthy runs judged by `nn.diagnose`: how many faults it names, and how many false alarms it has.

    python benchmarks/diagnose.py [data sets] [--seeds=5] [--rows=0:20]
    python benchmarks/diagnose.py [data sets] --runs
    python benchmarks/diagnose.py --cost

benchmarks/diagnose.txt has a run of it. The thresholds of the rules were fixed on the digits; the other data sets only
judge them.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxnn as nn

SETS = "digits", "mnist1d", "fashion_mnist", "breast_cancer", "wine", "mnist"
EXAMPLES = 2000  # of a data set
BATCH = 32
RATE = 1e-3  # of Adam in healthy runs
EPOCHS, NOISE = 30, 0.3  # of finished runs
CE = nn.losses.softmax_cross_entropy


def data(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Standardized features [n, d] and labels [n]."""
    x, y = nn.data.load(name).train
    rows = np.random.default_rng(0).permutation(len(x))[:EXAMPLES]
    x = np.asarray(x[rows], np.float32).reshape(len(rows), -1)
    return (x - x.mean(0)) / (x.std(0) + 0.1 * x.std()), np.asarray(y[rows], np.int32)


def mlp(k: int, last: Any = None, depth: int = 2, width: int = 64, activation: Any = nn.relu) -> nn.Layer:
    hidden = [layer for _ in range(depth) for layer in (nn.dense(width), activation)]
    return nn.serial(*hidden, nn.dense(k), *([] if last is None else [last]))


def classifier(model: nn.Layer, rate: float = RATE, **settings: Any) -> Any:
    return nn.trainer(model, CE, nn.adam(rate), **settings)


def regression_target(x: np.ndarray) -> np.ndarray:
    """A smooth target of unit variance, of the features."""
    y = np.tanh(x @ np.random.default_rng(1).normal(size=(x.shape[1], 1)) / x.shape[1] ** 0.5)
    return ((y - y.mean()) / y.std()).astype(np.float32)


def tokens(x: jax.Array) -> jax.Array:
    """Features as a sequence of at most 28 equal parts, [n, d] -> [n, t, width]; the rest is left out."""
    width = max(2, -(-x.shape[1] // 28))
    return x[:, : x.shape[1] // width * width].reshape(len(x), -1, width)


# Faults: (x, y, classes, random) -> trainer, train, valid. Each changes one thing of a healthy MLP.


def parted(x: Any, y: Any, random: Any) -> tuple[Any, Any]:
    order = random.permutation(len(x))
    cut = len(x) * 3 // 4
    return (x[order[:cut]], y[order[:cut]]), (x[order[cut:]], y[order[cut:]])


def shuffled(x: Any, y: Any, k: int, random: Any) -> Any:
    return classifier(mlp(k)), *parted(x, random.permutation(y), random)


def leaked(x: Any, y: Any, k: int, random: Any) -> Any:
    train, valid = parted(x, y, random)
    m = len(valid[0]) // 3
    return classifier(mlp(k)), train, tuple(np.concatenate([t[:m], v[m:]]) for t, v in zip(train, valid, strict=True))


def imbalanced(x: Any, y: Any, k: int, random: Any) -> Any:
    kept = (y != 0) | (random.random(len(y)) < 0.03)
    return classifier(mlp(k)), *parted(x[kept], y[kept], random)


def column(x: Any, y: Any, k: int, random: Any) -> Any:
    """Targets [n] for predictions [n, 1], and a loss of the user that broadcasts."""
    loss = lambda p, t: jnp.mean((p.reshape(-1, 1) - t.reshape(1, -1)) ** 2)  # noqa: E731
    return nn.trainer(mlp(1), loss, nn.adam(RATE)), *parted(x, regression_target(x)[:, 0], random)


def plain(model: Callable[[int], nn.Layer], factor: float = 1.0, scale: float = 1.0, **settings: Any) -> Any:
    """Maker of a classifier whose rate and inputs are multiplied by numbers."""

    def make(x: Any, y: Any, k: int, random: Any) -> Any:
        return classifier(model(k), RATE * factor, **settings), *parted(x * np.float32(scale), y, random)

    return make


FAULTS = {
    "dead ReLUs by a huge rate": ("dead units", plain(partial(mlp, depth=3), 1000)),
    "vanishing sigmoid stack": ("vanishing gradient", plain(partial(mlp, depth=8, activation=nn.sigmoid))),
    "unscaled inputs": ("unscaled inputs", plain(mlp, scale=100)),
    "shuffled labels": ("unrelated targets", shuffled),
    "leakage": ("leakage", leaked),
    "rate too high": ("rate too high", plain(partial(mlp, activation=nn.tanh), 300)),
    "rate too low": ("rate too low", plain(mlp, 1e-3)),
    "a frozen layer": ("frozen layer", plain(mlp, frozen="dense_1/*")),
    "wrong last activation": ("wrong last activation", plain(partial(mlp, last=nn.relu))),
    "softmax twice": ("softmax twice", plain(partial(mlp, last=nn.softmax))),
    "(n, 1) targets": ("broadcasting loss", column),
    "imbalance": ("imbalance", imbalanced),
}


# Healthy runs.


def cnn(k: int) -> nn.Layer:
    def block(features: int) -> tuple[Any, ...]:
        return nn.conv(features, (3,)), nn.batch_norm(), nn.relu, nn.max_pool((2,))

    return nn.serial(lambda x: x[..., None], *block(16), *block(32), nn.flatten(), nn.dense(k))


def gru(k: int) -> nn.Layer:
    return nn.serial(tokens, nn.gru(48), lambda x: x[:, -1], nn.dense(k))


def transformer(k: int) -> nn.Layer:
    return nn.serial(
        tokens, nn.dense(32), nn.sinusoidal_positions(), nn.encoder_block(4), lambda x: x.mean(1), nn.dense(k)
    )


def residual(k: int) -> nn.Layer:
    block = nn.residual(nn.serial(nn.layer_norm(), nn.dense(64), nn.gelu, nn.dense(64)))
    return nn.serial(nn.dense(64), nn.repeat(block, 4), nn.layer_norm(), nn.dropout(0.1), nn.dense(k))


def regression(x: Any, y: Any, k: int, random: Any) -> Any:
    return nn.trainer(mlp(1), nn.losses.squared_error, nn.adam(RATE)), *parted(x, regression_target(x), random)


def autoencoder(x: Any, y: Any, k: int, random: Any) -> Any:
    model = nn.serial(nn.dense(64), nn.relu, nn.dense(8), nn.dense(64), nn.relu, nn.dense(x.shape[1]))
    return nn.trainer(model, nn.losses.squared_error, nn.adam(RATE)), *parted(x, x, random)


def momentum(x: Any, y: Any, k: int, random: Any) -> Any:
    return nn.trainer(mlp(k), CE, nn.sgd(0.03, momentum=0.9)), *parted(x, y, random)


HEALTHY = {
    "MLP": plain(mlp),
    "CNN with batch norm": plain(cnn),
    "GRU": plain(gru),
    "transformer": plain(transformer),
    "residual, dropout": plain(residual),
    "regression": regression,
    "autoencoder": autoencoder,
    "MLP by momentum": momentum,
}


def option(name: str, default: str) -> str:
    return next((a.partition("=")[2] for a in sys.argv if a.startswith(f"--{name}=")), default)


def judged(name: str, seeds: int) -> None:
    """Prints the table of a data set, the number of faults that are named, and that of false alarms."""
    x, y = data(name)
    k = int(y.max()) + 1
    print(f"\n{name}: {len(x)} examples, {x.shape[1]} features, {k} classes, {seeds} seeds")
    named = alarms = 0
    rows = [*FAULTS.items(), *((title, (None, make)) for title, make in HEALTHY.items())]
    first, last = map(int, option("rows", f"0:{len(rows)}").split(":"))
    for title, (expected, make) in rows[first:last]:
        found: dict[str, int] = {}
        trainer = None
        for seed in range(seeds):
            made, train, valid = make(x, y, k, np.random.default_rng(seed))
            trainer = made if trainer is None else trainer  # its programs are compiled once
            report = nn.diagnose(trainer, jax.random.key(seed), train, valid, batch_size=BATCH)
            for finding in set(report.names):
                found[finding] = found.get(finding, 0) + 1
            alarms += len(report.names) > 0 and expected is None
            if "--verbose" in sys.argv and (expected is None) == bool(report.names):
                print(report, report.figures.get("baselines"))
        hits = found.get(expected, 0) if expected else 0
        named += hits
        others = ", ".join(f"{n} x {name}" for name, n in sorted(found.items()) if name != expected)
        print(f"{title:28}{f'{hits}/{seeds}' if expected else '':8}{others}", flush=True)
    broken = seeds * sum(expected is not None for _, (expected, _) in rows[first:last])
    healthy = seeds * (last - first) - broken
    print(f"named {named} of {broken} faults, {alarms} false alarms in {healthy} healthy runs")


def judged_runs(name: str, seeds: int) -> None:
    """Prints the findings about finished runs, with the labels as they are and with 30 % of them random."""
    x, y = data(name)
    k = int(y.max()) + 1
    trainer = classifier(mlp(k))
    for noise in (0, NOISE):
        found: dict[str, int] = {}
        for seed in range(seeds):
            random = np.random.default_rng(seed)
            labels = np.where(random.random(len(y)) < noise, random.integers(0, k, len(y)), y).astype(np.int32)
            train, valid = parted(x, labels, random)
            size = min(BATCH, len(train[0]))
            run = nn.fit(trainer, jax.random.key(seed), train, valid, epochs=EPOCHS, batch_size=size)
            report = nn.diagnose(trainer, jax.random.key(seed), train, valid, batch_size=size, run=run)
            for finding in set(report.names):
                found[finding] = found.get(finding, 0) + 1
            if "--verbose" in sys.argv:
                print(report, {n: report.figures[n] for n in ("calibration error", "recall")})
        print(f"{name}, {noise:4.0%} of the labels random: {found} in {seeds} runs", flush=True)


def cost() -> None:
    """Prints the processor seconds of the hook `watch` over those of an epoch, for a CNN on a part of Fashion-MNIST."""
    x, y = (a[:2560] for a in nn.data.load("fashion_mnist").train)
    convs = [layer for n in (32, 64) for layer in (nn.conv(n, 3), nn.relu, nn.max_pool(2))]
    trainer = classifier(nn.serial(*convs, nn.flatten(), nn.dense(10)))
    hook = nn.diagnosis.watch(trainer, (x[:128], y[:128]))
    ends, hooks = [], []

    def timed(look: Any) -> None:
        begun = time.process_time()
        hook(look)
        hooks.append(time.process_time() - begun)
        ends.append(time.process_time())

    nn.drive(trainer, jax.random.key(0), (x, y), epochs=6, batch_size=128, progress=False, on_epoch=timed)
    epochs = np.diff(ends)[1:] - hooks[2:]  # the first call compiles
    print(f"epoch of 20 steps {np.median(epochs):.2f} s, hook {np.median(hooks[2:]):.3f} s of processors: ", end="")
    print(
        f"{np.median(hooks[2:] / epochs):.1%}; {np.median(hooks[2:] / epochs) * 20 / 468:.2%} of all of Fashion-MNIST"
    )


def main() -> None:
    """Prints the confusion of every data set."""
    nn.cache_programs()
    if "--cost" in sys.argv:
        return cost()
    seeds = int(option("seeds", "5"))
    for name in [a for a in sys.argv[1:] if not a.startswith("--")] or SETS:
        (judged_runs if "--runs" in sys.argv else judged)(name, seeds)


if __name__ == "__main__":
    main()
