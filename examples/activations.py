"""What every activation does to one real network: range, zeros, cost, the gradient through 20 layers, accuracy.

    python examples/activations.py [folder for the picture, by default out]

The table that courses draw up from formulas, measured: the same network, 64-64-64-10 on scikit-learn's digits, with
each activation in turn, five seeds at once, every fifth example held out. Three things it shows:

* What a formula allows is one thing, what a network makes of it another: only the odd functions (tanh, hard_tanh,
  softsign) have a mean near 0 in it; elu and its kin come closer than relu, no more.
* Through 20 layers of width 64 the sigmoid leaves 1e-12 of the gradient, the hard one 1e-15, softplus 1e-5; tanh 0.2,
  and relu, selu, gelu and mish about all of it when started to suit. In two layers they are all within three points of
  one another: it was depth that made networks give the sigmoid up.
* The unit step has no gradient: 67 % is what a linear classifier reaches on random features; all others pass 94 %.

Some notes call tanh non-negative. It is odd: the table has its range, and its mean near 0.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from _pictures import figure, folder

import jaxnn as nn

SEEDS = 5
EPOCHS = 12
BATCH = 32
RATE = 2e-3
DEPTH = 20
LEAST_ACCURACY = 0.96  # of relu
HE = 2**0.5  # a rectifier passes half of the variance on; the weights make up for it


class Activation(NamedTuple):
    """A function, the range its formula has, and the deviation of the weights before it, times the square root of d."""

    f: Callable
    low: str
    high: str
    gain: float = 1.0


TABLE = {
    "unit_step": Activation(nn.unit_step, "0", "1"),
    "sigmoid": Activation(nn.sigmoid, "0", "1"),
    "hard_sigmoid": Activation(nn.hard_sigmoid, "0", "1"),
    "tanh": Activation(nn.tanh, "-1", "1"),
    "hard_tanh": Activation(nn.hard_tanh, "-1", "1"),
    "softsign": Activation(nn.softsign, "-1", "1"),
    "relu": Activation(nn.relu, "0", "inf", HE),
    "relu6": Activation(nn.relu6, "0", "6", HE),
    "leaky_relu": Activation(nn.leaky_relu, "-inf", "inf", HE),
    "elu": Activation(nn.elu, "-1", "inf"),
    "celu": Activation(partial(nn.celu, alpha=0.5), "-0.5", "inf"),
    "selu": Activation(nn.selu, "-1.76", "inf"),
    "softplus": Activation(nn.softplus, "0", "inf"),
    "gelu": Activation(nn.gelu, "-0.17", "inf", HE),
    "silu": Activation(nn.silu, "-0.28", "inf", HE),
    "mish": Activation(nn.mish, "-0.31", "inf", HE),
    "hard_swish": Activation(nn.hard_swish, "-0.38", "inf", HE),
}
FUNCTIONS = [activation.f for activation in TABLE.values()]
GAINS = np.array([activation.gain for activation in TABLE.values()], np.float32)


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
