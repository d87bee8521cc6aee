"""Many runs as one program, and one: cross-validation beside scikit-learn, the choice of `sweep`, steps a second.

    python benchmarks/runs.py [folds] [strategies] [steps] [--rounds 7]     all three parts by default, each in a
                                                                          process of its own

folds: ten folds of an MLP(100) on the digits, compilation included, beside scikit-learn's MLPClassifier on the same
folds, with the same sizes, optimizer, decay, batch and number of epochs, in one process. Each core is a device of its
own there, over which `sweep` spreads the folds.

strategies: eight members by each strategy of `sweep` and by "auto", second calls, alternating; medians, and the ratio
of what "auto" chose to the best. The models are those of the MNIST-1D paper (Greydanus & Kobak, arXiv:2011.14439) and a
tiny MLP, with a large one and a CNN on images as the other end.

steps: an MLP 64-32-10 on the digits, batches of 32, epochs in which the order is drawn anew: `fit` as one program, a
Python loop over a jitted step in jaxnn and in other libraries, and keras.fit; steps a second, median, least and most.
A library that is not installed is left out, and the line says so.
"""

import argparse
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxnn as nn


def compiled(f: Callable, **how: Any) -> Callable:
    return jax.jit(f, compiler_options=nn.compiler_options(), **how)


def digits() -> tuple[np.ndarray, np.ndarray]:
    x, y = nn.data.load("digits").train
    return np.asarray(x, np.float32).reshape(-1, 64), np.asarray(y, np.int32)


def mlp(*hidden: int) -> nn.Layer:
    return nn.serial(*(part for n in hidden for part in (nn.dense(n), nn.relu)), nn.dense(10))


def medians(variants: dict[str, Callable[[], float]], rounds: int) -> dict[str, np.ndarray]:
    """What each variant gives in each round, in turns that start with another one each time."""
    names = list(variants)
    values: dict[str, list[float]] = {name: [] for name in names}
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            values[name].append(variants[name]())
    return {name: np.array(v) for name, v in values.items()}


def seconds(f: Callable, *args: Any) -> float:
    start = time.perf_counter()
    jax.block_until_ready(f(*args))
    return time.perf_counter() - start


# Ten folds.

EPOCHS, HIDDEN, DECAY = 200, 100, 1e-4  # scikit-learn's defaults, but that it is not to stop early
BATCH, FOLD_RATE = 32, 1e-3  # its batches of 200 end at 0.978


def fold_run(key: jax.Array, train: Any, x: jax.Array) -> jax.Array:
    model = mlp(HIDDEN)

    def penalty(params: dict) -> jax.Array:  # scikit-learn divides it by the examples of a batch
        return DECAY / (2 * BATCH) * sum(jnp.sum(layer["w"] ** 2) for layer in params.values())

    trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, nn.adam(FOLD_RATE), regularizer=penalty)
    run = nn.fit(trainer, key, train, epochs=EPOCHS, batch_size=BATCH)
    return nn.predict(model, run.ts.params, run.ts.state, x, batch_size=len(x))


def folds(rounds: int) -> None:
    print(f"\nten folds of an MLP({HIDDEN}) on the digits, {EPOCHS} epochs, batches of {BATCH}")
    x, y = digits()
    x = 16 * x  # as scikit-learn's own loader gives them

    def ours() -> Any:
        return nn.cross_validate(fold_run, jax.random.key(0), (x, y), nn.metrics.accuracy, folds=10)

    start = time.perf_counter()
    found = ours()
    first = time.perf_counter() - start
    again = np.median([seconds(lambda: ours().scores) for _ in range(rounds)])
    line = "{:34}{:9.2f} s   accuracy {:.4f} ± {:.4f}"
    print(line.format(f"jaxnn by {found.sweep.strategy}, compilation too", first, found.mean, found.std), flush=True)
    print(line.format("jaxnn, compiled before", again, found.mean, found.std), flush=True)
    try:
        from sklearn.neural_network import MLPClassifier
    except ImportError:
        print("scikit-learn: absent")
        return
    scores, start = [], time.perf_counter()
    for i in range(10):
        how = {"learning_rate_init": FOLD_RATE, "batch_size": BATCH, "alpha": DECAY, "random_state": i}
        theirs = MLPClassifier((HIDDEN,), max_iter=EPOCHS, n_iter_no_change=EPOCHS, **how)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that 200 epochs may be too few
            theirs.fit(x[found.fold != i], y[found.fold != i])
        scores.append(theirs.score(x[found.fold == i], y[found.fold == i]))
    took = time.perf_counter() - start
    print(line.format("scikit-learn", took, np.mean(scores), np.std(scores)))
    print(f"{'scikit-learn / jaxnn':34}{took / first:9.1f}     with compilation; {took / again:.1f} without")


# Eight members.

MEMBERS = 8


def conv1d() -> nn.Layer:
    convs = [part for k in (5, 3, 3) for part in (nn.conv(25, k, stride=2), nn.relu)]
    return nn.serial(nn.lift(lambda x: x[..., None], name="channel"), *convs, nn.flatten(), nn.dense(10))


def conv2d() -> nn.Layer:
    blocks = [part for n in (16, 32) for part in (nn.conv(n, 3), nn.relu, nn.max_pool(2))]
    return nn.serial(*blocks, nn.flatten(), nn.dense(10))


def bi_gru() -> nn.Layer:
    channel = nn.lift(lambda x: x[..., None], name="channel")
    return nn.serial(channel, nn.gru(6, bidirectional=True), nn.flatten(), nn.dense(10))


def noise(n: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=(n, *shape)).astype(np.float32), random.integers(0, 10, n).astype(np.int32)


def strategies(rounds: int) -> None:
    print(f"\n{MEMBERS} members by `sweep`, seconds of a whole run")
    series = tuple(np.asarray(a) for a in nn.data.load("mnist1d").train)
    series = series[0].astype(np.float32), series[1].astype(np.int32)
    # name -> model, data, batch, epochs
    table: dict[str, tuple[nn.Layer, Any, int, int]] = {
        "tiny MLP 8-16-10, b32": (mlp(16), noise(512, 8), 32, 40),
        "MNIST-1D MLP 100-100, b100": (mlp(100, 100), series, 100, 4),
        "MNIST-1D CNN 25-25-25, b100": (conv1d(), series, 100, 2),
        "MNIST-1D GRU 6, both ways, b100": (bi_gru(), series, 100, 1),
        "MLP 784-512-512-10, b128": (mlp(512, 512), noise(1280, 784), 128, 1),
        "CNN 28², 16-32, b64": (conv2d(), noise(256, 28, 28, 1), 64, 1),
    }
    print(f"{'':34}{'vmap':>9}{'map':>9}{'auto':>9}   chosen   auto / best")
    for name, (model, data, batch, epochs) in table.items():

        def run(point: dict, train: Any, model=model, batch=batch, epochs=epochs) -> Any:
            trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, nn.adam(point["rate"]))
            return nn.fit(trainer, point["key"], train, epochs=epochs, batch_size=batch)

        points = {"key": jax.random.split(jax.random.key(0), MEMBERS), "rate": jnp.geomspace(1e-3, 1e-2, MEMBERS)}
        ways = ("vmap", "map", "auto")
        chosen = {way: nn.sweep(run, points, data, strategy=way).strategy for way in ways}["auto"]

        def timed(way: str, run=run, points=points, data=data) -> float:
            return seconds(lambda: nn.sweep(run, points, data, strategy=way).results.best_value)

        took = medians({way: partial(timed, way) for way in ways}, rounds)
        vmap, turn, auto = (float(np.median(took[way])) for way in ways)
        print(f"{name:34}{vmap:9.3f}{turn:9.3f}{auto:9.3f}   {chosen:6}   {auto / min(vmap, turn):.2f}", flush=True)


# Steps a second.

RATE, SIZE, PASSES = 1e-3, 32, 10


def shuffled(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches of some epochs, as one writes them."""
    random = np.random.default_rng(0)
    for _ in range(PASSES):
        order = random.permutation(len(x))
        for i in range(0, len(x) - SIZE + 1, SIZE):
            rows = order[i : i + SIZE]
            yield x[rows], y[rows]


def one_program(x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    trainer = nn.trainer(mlp(32), nn.losses.softmax_cross_entropy, nn.adam(RATE))
    fit = compiled(lambda key, train: nn.fit(trainer, key, train, epochs=PASSES, batch_size=SIZE))
    train = jnp.asarray(x), jnp.asarray(y)
    return lambda: fit(jax.random.key(0), train).ts.params


def jitted_step(x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    trainer = nn.trainer(mlp(32), nn.losses.softmax_cross_entropy, nn.adam(RATE))
    step = compiled(trainer.step, donate_argnums=0)

    def run() -> Any:
        ts = trainer.init(jax.random.key(0), (x[:1], y[:1]))
        for batch in shuffled(x, y):
            ts, _ = step(ts, batch)
        return ts.params

    return run


def with_nnx(x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    import optax
    from flax import nnx

    class Model(nnx.Module):
        def __init__(self, rngs: Any):
            self.a, self.b = nnx.Linear(64, 32, rngs=rngs), nnx.Linear(32, 10, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.b(jax.nn.relu(self.a(x)))

    def loss(model: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    @nnx.jit
    def step(model: Any, optimizer: Any, x: jax.Array, y: jax.Array) -> None:
        optimizer.update(model, nnx.grad(loss)(model, x, y))

    def run() -> Any:
        model = Model(nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, optax.adam(RATE), wrt=nnx.Param)
        for batch in shuffled(x, y):
            step(model, optimizer, *batch)
        return nnx.state(model)

    return run


def with_optax(init: Callable, apply: Callable, x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    import optax

    optimizer = optax.adam(RATE)

    def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(apply(params, x), y).mean()

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, x: jax.Array, y: jax.Array) -> tuple[Any, Any]:
        updates, state = optimizer.update(jax.grad(loss)(params, x, y), state)
        return optax.apply_updates(params, updates), state

    def run() -> Any:
        params = init(jax.random.key(0), x[:1])
        state = optimizer.init(params)
        for batch in shuffled(x, y):
            params, state = step(params, state, *batch)
        return params

    return run


def with_linen(x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    import flax.linen as linen

    model = linen.Sequential([linen.Dense(32), linen.relu, linen.Dense(10)])
    return with_optax(model.init, model.apply, x, y)


def with_haiku(x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    import haiku as hk

    model = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([32, 10])(x)))
    return with_optax(model.init, model.apply, x, y)


def with_equinox(x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    import equinox as eqx
    import optax

    optimizer = optax.adam(RATE)

    @eqx.filter_grad
    def grad(model: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y).mean()

    @eqx.filter_jit(donate="all-except-first")
    def step(batch: tuple, model: Any, state: Any) -> tuple[Any, Any]:
        updates, state = optimizer.update(grad(model, *batch), state)
        return eqx.apply_updates(model, updates), state

    def run() -> Any:
        model = eqx.nn.MLP(64, 10, 32, 1, key=jax.random.key(0))
        state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))
        for batch in shuffled(x, y):
            model, state = step(batch, model, state)
        return eqx.filter(model, eqx.is_array)

    return run


def with_keras(x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    import keras

    model = keras.Sequential([keras.layers.Dense(32, "relu"), keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(RATE), loss)
    n = len(x) // SIZE * SIZE
    return lambda: model.fit(x[:n], y[:n], SIZE, PASSES, verbose=0).history["loss"]


LOOPS: dict[str, tuple[Callable, str]] = {
    "jaxnn, fit as one program": (one_program, "jaxnn"),
    "jaxnn, loop over a jitted step": (jitted_step, "jaxnn"),
    "flax linen and optax, loop": (with_linen, "flax"),
    "haiku and optax, loop": (with_haiku, "haiku"),
    "equinox and optax, loop": (with_equinox, "equinox"),
    "flax nnx and optax, loop": (with_nnx, "flax"),
    "keras.fit on JAX": (with_keras, "keras"),
}


def steps(rounds: int) -> None:
    x, y = digits()
    taken = len(x) // SIZE * PASSES
    print(f"\nsteps a second: MLP 64-32-10 on the digits, batches of {SIZE}, {taken} steps a run")
    ready: dict[str, Callable[[], float]] = {}
    for name, (make, package) in LOOPS.items():
        try:
            import_module(package)
        except ImportError:
            print(f"{name:34}absent")
            continue
        run = make(x, y)
        seconds(run)
        ready[name] = partial(lambda run: taken / seconds(run), run)
    rates = medians(ready, rounds)
    least = float(np.median(rates["jaxnn, fit as one program"]))
    print(f"{'':34}{'median':>9}{'least':>9}{'most':>9}   fit is faster by")
    for name, rate in rates.items():
        median = float(np.median(rate))
        print(f"{name:34}{median:9.0f}{rate.min():9.0f}{rate.max():9.0f}   {least / median:.1f}", flush=True)


def main() -> None:
    parts = {"folds": folds, "strategies": strategies, "steps": steps}
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", choices=[*parts, []], default=[])
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    names = given.parts or list(parts)
    if len(names) > 1:
        for name in names:
            subprocess.run([sys.executable, __file__, name, "--rounds", str(given.rounds)], check=True)
        return
    if names == ["folds"]:
        nn.cores_as_devices()
    print(f"jax {jax.__version__}, {jax.devices()[0].platform}, {os.cpu_count()} cores; {given.rounds} rounds")
    parts[names[0]](given.rounds)


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "jax")
    main()
