"""The perceptron: Rosenblatt's rule, the bound on its mistakes, its limit, and hidden layers.

    python examples/perceptron.py [folder for the picture, by default out] [--short]

The rule. All 45 pairs of scikit-learn's digits are separable by a hyperplane. From w = 0 the rule makes at most
(R / γ)² mistakes, where R is the largest norm of an example and γ the largest margin, that of a support vector machine.
Over four orders of the examples the largest number of mistakes is 0.22 of that bound in the median pair and at most
0.32, in up to 24 passes; pairs with larger bounds take more mistakes.

The limit. No line separates XOR, and no hyperplane separates iris versicolor from virginica: each of 60 passes has at
least 1 mistake on XOR and 4 on iris. Two hidden units suffice for XOR, but gradient descent learns it from more seeds
when there are more units:

    hidden tanh units           1       2       3       4       8
    of 100 seeds learn XOR    0 %    56 %    88 %    99 %   100 %

On ten digits, every fifth held out, scikit-learn's Perceptron has an accuracy of 94.9 ± 0.6 %, and a network with one
hidden layer of 64 units 97.7 ± 0.5 %. Where a margin exists the perceptron needs no hidden layer and no learning rate,
and ends without mistakes; the network needs both settings and a number of epochs.

Rosenblatt, The Perceptron, 1958. Novikoff, On Convergence Proofs for Perceptrons, 1962.
Minsky and Papert, Perceptrons, 1969.
"""

import os
from itertools import combinations
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads slow down scikit-learn's small products

import jax
import jax.numpy as jnp
import numpy as np
from _pictures import SHORT, clock, folder, spread, subplots
from sklearn.linear_model import Perceptron
from sklearn.svm import SVC

import jaxnn as nn

CORES = 2
SEEDS = 2 if SHORT else 4  # orders of the examples, and networks; an even number for the cores
PASSES = 60  # of the perceptron rule over the examples; the slowest pair of digits needs 24
EACH = 174  # examples of each digit in a pair, those of the rarest one, so that all pairs are one program
HIDDEN, EPOCHS, BATCH, RATE = 64, 4 if SHORT else 40, 32, 3e-3  # of the network on ten digits
XOR_SEEDS, XOR_WIDTHS, XOR_STEPS, XOR_RATE = 100, (1, 2, 3, 4, 8), 1000, 0.03  # Adam on all four corners
LEAST_DIGITS = 0.02  # accuracy of the network over that of scikit-learn's Perceptron; fixed before the full run
CORNERS, EXCLUSIVE = np.float32([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])


def mistakes_of(key: jax.Array, x: Any, y: Any) -> jax.Array:
    """Mistakes of the perceptron rule in each of PASSES over x [n, d] and y [n], each in a new order."""
    x, y = jnp.asarray(x), jnp.asarray(y)[:, None]

    def one(carry: tuple, key: jax.Array) -> tuple[tuple, jax.Array]:
        order = jax.random.permutation(key, len(x))
        *carry, mistakes = nn.ops.perceptron_update(*carry, x[order], y[order])
        return tuple(carry), mistakes[0]

    start = jnp.zeros((x.shape[1], 1)), jnp.zeros(1)
    return jax.lax.scan(one, start, jax.random.split(key, PASSES))[1]


def bound(x: np.ndarray, y: np.ndarray) -> float:
    """Novikoff's bound (R / γ)² on all mistakes, with the largest margin γ of a hyperplane through the origin."""
    z = np.c_[x, np.ones(len(x))].astype(np.float64)
    model = SVC(kernel="linear", C=1e6).fit(np.r_[z, -z], np.r_[y, 1 - y])  # by symmetry its intercept is 0
    margin = ((2 * y - 1) * (z @ model.coef_[0])).min() / np.linalg.norm(model.coef_)
    assert margin > 0, "the classes are not separable"
    return (np.linalg.norm(z, axis=1).max() / margin) ** 2


def pairs(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of all 45 pairs of digits, [45], and mistakes, [45, SEEDS, PASSES]."""
    of, labels = [x[y == digit][:EACH] for digit in range(10)], np.repeat([0, 1], EACH)
    both = np.stack([np.concatenate([of[a], of[b]]) for a, b in combinations(range(10), 2)])
    run = jax.vmap(jax.vmap(mistakes_of, (0, None, None)), (None, 0, None))
    mistakes = jax.jit(run)(jax.random.split(jax.random.key(0), SEEDS), both, labels)
    return np.array([bound(x, labels) for x in both]), np.asarray(mistakes)


def digits(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Accuracies [SEEDS] on every fifth digit: scikit-learn's ten perceptrons, and a network."""
    test = np.arange(len(y)) % 5 == 0
    train, held = (x[~test], y[~test]), (x[test], y[test])
    model = nn.models.mlp(10, hidden=(HIDDEN,))
    trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, nn.adam(RATE))
    run = jax.vmap(lambda key: nn.fit(trainer, key, train, epochs=EPOCHS, batch_size=BATCH).ts.params)
    logits = jax.vmap(lambda params: model.apply(params, {}, held[0])[0])
    found = logits(jax.jit(run)(jax.random.split(jax.random.key(1), SEEDS)))
    classical = [Perceptron(random_state=seed).fit(*train).score(*held) for seed in range(SEEDS)]
    return np.array(classical), np.mean(found.argmax(-1) == held[1], -1)


def network(width: Any) -> nn.Layer:
    """One hidden layer of tanh units; those beyond the width are 0, so that one program serves every width."""
    widest = XOR_WIDTHS[-1]

    def first(units: jax.Array) -> jax.Array:
        return units * jnp.where(jnp.arange(widest) < width, (widest / width) ** 0.5, 0).astype(units.dtype)[None]

    return nn.serial(nn.dense(widest, preset="torch"), nn.tanh, first, nn.dense(1, preset="torch"))


def exclusive() -> tuple[np.ndarray, Any]:
    """XOR by one hidden layer: which seeds learn it, [seeds, widths], and their params, [seeds * widths, ...]."""

    def one(point: dict) -> tuple[jax.Array, Any]:
        model = network(point["width"])
        trainer = nn.trainer(model, nn.losses.binary_cross_entropy, nn.adam(XOR_RATE))
        params = nn.fit(trainer, point["key"], (CORNERS, EXCLUSIVE[:, None]), epochs=XOR_STEPS).ts.params
        return jnp.all((model.apply(params, {}, CORNERS)[0][:, 0] > 0) == (EXCLUSIVE == 1)), params

    points = nn.points.grid(key=jax.random.split(jax.random.key(2), XOR_SEEDS), width=np.float32(XOR_WIDTHS))
    learnt, params = nn.sweep(one, points, strategy="vmap").results
    return np.asarray(learnt).reshape(XOR_SEEDS, -1), params


def draw_lines(axes: Any, x: np.ndarray, y: np.ndarray, most: int) -> None:
    """Points of two classes, and the perceptron's line after each of its first mistakes, later ones darker."""
    w, b, found = jnp.zeros((2, 1)), jnp.zeros(1), []
    update = jax.jit(nn.ops.perceptron_update)
    for i in np.random.default_rng(0).permutation(np.tile(np.arange(len(x)), 40)):
        w, b, mistakes = update(w, b, x[i : i + 1], y[i : i + 1, None].astype(int))
        found += [(*np.asarray(w)[:, 0], float(b[0]))] if mistakes[0] else []
        if len(found) == most:
            break
    low, high = x.min(0) - 0.4, x.max(0) + 0.4
    place = np.stack(np.meshgrid(*(np.linspace(*of, 100) for of in zip(low, high, strict=True))), -1)
    for k, (first, second, third) in enumerate(found):
        heights = place @ np.array([first, second]) + third
        if heights.min() < 0 < heights.max():
            axes.contour(place[..., 0], place[..., 1], heights, [0], colors=[str(0.85 - 0.85 * (k + 1) / len(found))])
    for label, colour in ((0, "tab:blue"), (1, "tab:red")):
        axes.plot(*x[y == label].T, "o", color=colour, ms=4 if len(x) > 4 else 10)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))


def picture(path: Path, iris: tuple, counted: tuple, xor: tuple) -> None:
    """Lines of perceptrons, mistakes against the bound, regions of a network for XOR, and seeds that learn it."""
    figure, axes = subplots(1, 4, (19, 4.6))
    draw_lines(axes[0], *iris, 20)
    axes[0].set(xlabel="petal length, cm", ylabel="petal width, cm")
    axes[0].set_title("iris setosa (blue): lines after each mistake")
    bounds, total = counted[0], counted[1].sum(-1)
    ranges = total.mean(1) - total.min(1), total.max(1) - total.mean(1)
    axes[1].errorbar(bounds, total.mean(1), ranges, fmt="o", ms=4, lw=1)
    axes[1].plot(np.sort(bounds), np.sort(bounds), color="0.5", label="Novikoff's bound")
    axes[1].set(xscale="log", yscale="log", xlabel="(R / margin)²", ylabel="mistakes until the last one")
    axes[1].set_title("45 pairs of digits: mean and range of the orders")
    axes[1].legend()

    learnt, params = xor
    column = XOR_WIDTHS.index(4)
    member = int(np.flatnonzero(learnt[:, column])[0]) * len(XOR_WIDTHS) + column
    place = np.stack(np.meshgrid(*[np.linspace(-0.4, 1.4, 100, dtype=np.float32)] * 2), -1)
    model = network(XOR_WIDTHS[column])
    logits = model.apply(jax.tree.map(lambda a: a[member], params), {}, place.reshape(-1, 2))[0]
    p = nn.sigmoid(logits).reshape(100, 100)
    axes[2].contourf(*np.moveaxis(place, -1, 0), p, 20, cmap="coolwarm", vmin=-0.5, vmax=1.5, zorder=0)
    draw_lines(axes[2], CORNERS, EXCLUSIVE, 12)
    axes[2].set_title("XOR: a perceptron's lines, and a network of 4 units")
    axes[3].bar(range(len(XOR_WIDTHS)), 100 * learnt.mean(0), color="tab:green")
    axes[3].set_xticks(range(len(XOR_WIDTHS)), labels=[str(w) for w in XOR_WIDTHS])
    axes[3].set(xlabel="hidden units", ylabel=f"percent of {XOR_SEEDS} seeds", title="networks that learn XOR")
    figure.savefig(path, dpi=90)


def main() -> None:
    """Runs the four parts, prints their figures and draws the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    nn.cores_as_devices(CORES)
    out, took = folder(), clock()

    images, labels = nn.data.load("digits").train
    images = images.reshape(len(images), -1)
    bounds, mistakes = pairs(images, labels)
    ratio, passes = mistakes.sum(-1).max(1) / bounds, (mistakes > 0).sum(-1)
    print(f"pairs of digits: mistakes over the bound, median {np.median(ratio):.2f} and most {ratio.max():.2f};")
    print(f"                 {passes.min()} to {passes.max()} passes with mistakes", flush=True)
    x, y = nn.data.load("iris").train
    inseparable = (x[y > 0], y[y > 0] - 1), (CORNERS, EXCLUSIVE)
    never = [np.asarray(mistakes_of(jax.random.key(0), *of)).min() for of in inseparable]
    print(f"mistakes in each pass: iris versicolor and virginica {never[0]} and more, XOR {never[1]} and more")
    classical, deep = digits(images, labels)
    print(f"ten digits: scikit-learn's Perceptron {spread(classical)} %, a network {spread(deep)} %", flush=True)
    learnt, params = exclusive()
    fractions = (f"{w} units {of:.0%}" for w, of in zip(XOR_WIDTHS, learnt.mean(0), strict=True))
    print(f"XOR: {', '.join(fractions)}", flush=True)
    picture(out / "perceptron.png", (x[:, 2:], y > 0), (bounds, mistakes), (learnt, params))
    print(f"{took()}; the picture is {out / 'perceptron.png'}")

    assert ratio.max() <= 1, "more mistakes than Novikoff's bound"
    assert not mistakes[..., -1].any(), "a pair of digits is not separated"
    assert min(never) > 0, "classes that no line separates have been separated"
    assert not learnt[:, 0].any(), "one hidden unit has learnt XOR"
    assert learnt[:, -1].mean() > 0.9, "eight hidden units do not learn XOR"
    if not SHORT:
        assert deep.mean() - classical.mean() > LEAST_DIGITS, "below the figure that this example stands for"


if __name__ == "__main__":
    main()
