"""Seventeen activations in one real network: range, mean, zeros, cost, gradient through 20 layers, accuracy.

    python examples/activations.py [folder for the picture, by default out]

Each activation in turn is in the same network, 64-64-64-10 on scikit-learn's digits. Every fifth example is held out;
five seeds run at once.

* Mean: only the odd functions (tanh, hard_tanh, softsign) have outputs with a mean near 0. elu and selu come closer to
  it than relu.
* Depth: through 20 layers of width 64 the sigmoid leaves 1e-12 of the gradient, hard_sigmoid 1e-15, softplus 1e-5 and
  tanh 0.2. relu, selu, gelu and mish leave nearly all of it with the initialization that suits them. With two layers
  all of these have accuracies within three points: a sigmoid is a problem of deep networks only.
* The unit step has derivative 0, so only the last layer learns: 67 %, a linear classifier on random features. All
  others are above 94 %.

Some notes call tanh non-negative. It is odd, with values in (-1, 1).
"""

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from _activations import FUNCTIONS, GAINS, TABLE
from _pictures import figure, folder

import jaxnn as nn

SEEDS = 5
EPOCHS = 12
BATCH = 32
RATE = 2e-3
DEPTH = 20
LEAST_ACCURACY = 0.96  # of relu


def split() -> tuple[tuple, tuple]:
    """Train and test parts of the digits, each (x [n, 64] of mean 0 and deviation 1, labels [n])."""
    x, y = nn.data.load("digits").train
    x = x.reshape(len(x), -1)
    test = np.arange(len(x)) % 5 == 0
    x = (x - x[~test].mean()) / x[~test].std()
    return (x[~test], y[~test]), (x[test], y[test])


def network(i: jax.Array, gain: jax.Array, hidden: int) -> nn.Layer:
    """`hidden` layers of 64 with activation number i, which may be traced: one program serves the whole table."""

    def w_init(key: jax.Array, shape: tuple, dtype: jnp.dtype) -> jax.Array:
        return gain * nn.init.lecun_normal(key, shape, dtype)

    block = nn.serial(nn.dense(64, w_init=w_init), nn.lift(lambda x: jax.lax.switch(i, FUNCTIONS, x), name="f"))
    return nn.serial(nn.repeat(block, hidden), nn.dense(10, name="head"))


def measured(i: jax.Array, gain: jax.Array, key: jax.Array, train: tuple, test: tuple) -> dict[str, jax.Array]:
    """One seed of one activation: trained, and its hidden outputs [2, n, 64] on the test part."""
    model = network(i, gain, hidden=2)
    trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, nn.adam(RATE))
    run = nn.fit(trainer, key, train, epochs=EPOCHS, batch_size=BATCH)
    inner = nn.capture(model, "serial/f")
    (logits, outputs), _ = inner.apply(run.ts.params, run.ts.state, test[0])
    h = outputs["serial/f"]
    return {
        "least": h.min(),
        "most": h.max(),
        "mean": h.mean(),
        "spread": h.std(),
        "zeros": jnp.mean(h == 0),
        "accuracy": nn.metrics.accuracy(logits, test[1]),
    }


def survival(i: jax.Array, gain: jax.Array, key: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Norm of the gradient at each of DEPTH layers over that at the last, at the start, [DEPTH], mean over examples."""
    model = network(i, gain, DEPTH)
    params, state = model.init(key, x)

    def loss(params: dict, x: jax.Array, y: jax.Array) -> jax.Array:
        return nn.losses.softmax_cross_entropy(model.apply(params, state, x[None])[0][0], y)

    gradients = jax.vmap(jax.grad(loss), (None, 0, 0))(params, x, y)
    at_layers = gradients["serial"]["dense"]["b"]  # that of a bias is the gradient at its layer
    norms = jnp.linalg.norm(at_layers, axis=-1).mean(axis=0)
    return norms / jnp.where(norms[-1] > 0, norms[-1], 1)  # none at all after a unit step


def costs(rounds: int = 15) -> dict[str, float]:
    """Time forward and backward over a million numbers, relative to relu's: all in turn, medians over rounds."""
    x = jax.random.normal(jax.random.key(0), (1_000_000,))
    programs = {
        name: jax.jit(lambda x, f=activation.f: jax.vjp(f, x)[1](x)[0] + f(x)) for name, activation in TABLE.items()
    }
    times: dict[str, list] = {name: [] for name in programs}
    for program in programs.values():
        jax.block_until_ready(program(x))
    for _ in range(rounds):
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(x))
            times[name].append(time.perf_counter() - start)
    return {name: float(np.median(np.array(t) / np.array(times["relu"]))) for name, t in times.items()}


def picture(path: Path, depth: np.ndarray) -> None:
    """Each function with its derivative; below, how the gradient fares from layer 20 down to layer 1."""
    whole = figure((12, 11))
    top, bottom = whole.subfigures(2, 1, height_ratios=(3, 2))
    x = np.linspace(-4, 4, 400, dtype=np.float32)
    grid = top.subplots(3, 6, sharex=True).ravel()
    for axes, (name, activation) in zip(grid, TABLE.items(), strict=False):
        axes.axhline(0, color="0.8", lw=0.8)
        axes.plot(x, activation.f(x), label="f")
        axes.plot(x, jax.vmap(jax.grad(activation.f))(x), label="f'", ls="--")
        axes.set_title(name, fontsize=10)
        axes.set_ylim(-1.6, 2.2)
    grid[0].legend(fontsize=8, loc="upper left")
    for axes in grid[len(TABLE) :]:
        axes.axis("off")

    axes = bottom.subplots()
    layer = np.arange(1, DEPTH + 1)
    shown = ["sigmoid", "hard_sigmoid", "softplus", "softsign", "tanh", "relu", "elu", "selu", "gelu", "mish"]
    for name in shown:
        axes.plot(layer, depth[list(TABLE).index(name)], label=name)
    axes.set(yscale="log", xlabel="layer, of 20", ylabel="gradient over that at layer 20", xticks=layer[::2])
    axes.axhline(1, color="0.8", lw=0.8, zorder=0)
    axes.legend(ncols=2, fontsize=9)
    axes.set_title("mean norm of the gradient at each layer before training, real digits, width 64", fontsize=11)
    whole.savefig(path, dpi=110)


def main() -> None:
    """Measures, prints the table and draws the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    out = folder()
    start = time.perf_counter()
    train, test = jax.tree.map(jnp.asarray, split())
    numbers, gains = jnp.arange(len(TABLE)), jnp.asarray(GAINS)
    keys = jax.random.split(jax.random.key(0), SEEDS)

    def seeds(args: tuple) -> dict[str, jax.Array]:
        return jax.vmap(measured, (None, None, 0, None, None))(*args, keys, train, test)

    each = jax.jit(lambda: jax.lax.map(seeds, (numbers, gains)))()
    few = test[0][:64], test[1][:64]
    depth = np.asarray(jax.jit(lambda: jax.lax.map(lambda a: survival(*a, keys[0], *few), (numbers, gains)))())
    cost = costs()

    print("                 range         seen            mean ± sd     zeros  cost  gradient at 1    accuracy")
    for k, (name, activation) in enumerate(TABLE.items()):
        e = {field: np.asarray(values[k]) for field, values in each.items()}
        print(
            f"{name:13}  {activation.low:>5} .. {activation.high:4}  {e['least'].min():5.2f} .. {e['most'].max():5.2f}"
            f"  {e['mean'].mean():5.2f} ± {e['spread'].mean():4.2f}  {e['zeros'].mean():5.1%}  {cost[name]:4.1f}"
            f"  {depth[k, 0]:13.1e}  {e['accuracy'].mean():.2%} ± {e['accuracy'].std():.2%}"
        )
    print(f"cost: forward and backward, over relu's; gradient: at layer 1 of {DEPTH} over that at layer {DEPTH}")
    picture(out / "activations.png", depth)
    print(f"the picture is {out / 'activations.png'}; {time.perf_counter() - start:.0f} s")

    accuracy = dict(zip(TABLE, np.asarray(each["accuracy"]).mean(axis=-1), strict=True))
    surviving = dict(zip(TABLE, depth[:, 0], strict=True))
    assert accuracy["relu"] >= LEAST_ACCURACY, "below the figure that this example stands for"
    assert accuracy["unit_step"] < accuracy["relu"], "something trained through a unit step"
    assert surviving["sigmoid"] < 1e-8 < 0.01 < surviving["tanh"], "sigmoid no longer vanishes, or tanh does"


if __name__ == "__main__":
    main()
