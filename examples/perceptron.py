"""TODO"""

import os
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads slow down scikit-learn's small products

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _pictures import SHORT, band, folder, spread, subplots
from scipy.interpolate import BSpline
from sklearn.linear_model import Perceptron
from sklearn.svm import SVC

import jaxnn as nn

CORES = 2
SEEDS = 2 if SHORT else 4  # of the digits, as orders of the examples and as networks; an even number for the cores
PASSES = 60  # of the perceptron rule over the examples; the slowest pair of digits needs about 20
EACH = 174  # examples of each digit in a pair, those of the rarest one, so that all pairs are one program
HIDDEN, EPOCHS, BATCH, RATE = 64, 5 if SHORT else 40, 32, 3e-3  # of the network on the digits
XOR_SEEDS, XOR_STEPS, XOR_WIDTHS = 100, 300 if SHORT else 1000, (1, 2, 3, 4, 8)
XOR_RATE = 0.03  # of Adam on all four corners
STEP = 12  # every twelfth pixel of the disparity map in both directions
STEPS = 40 if SHORT else 400  # of L-BFGS on all pixels
WIDTHS = {1: (4, 16), 2: (4, 8)} if SHORT else {1: (4, 8, 16, 32, 64, 128), 2: (4, 8, 16, 24), 3: (4, 8, 12, 16)}
MAP_SEEDS = 2 if SHORT else 4
COEFFICIENTS = (17, 33, 65, 129, 257, 513, 1025)  # of the splines, about
LEAST_DIGITS = 0.02  # accuracy of the network over that of scikit-learn's Perceptron; fixed before the full run
LEAST_MAP = 0.05  # fraction by which two layers of 8 are below splines of as many params; fixed before the full run
CORNERS, EXCLUSIVE = np.float32([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])


def learn(key: jax.Array, x: jax.Array, y: jax.Array) -> tuple[Any, jax.Array]:
    """PASSES of the perceptron rule, each in a new order -> ((w, b) after each pass, mistakes [PASSES, features])."""

    def one(carry: tuple, key: jax.Array) -> tuple[tuple, tuple]:
        order = jax.random.permutation(key, len(x))
        w, b, mistakes = nn.ops.perceptron_update(*carry, x[order], y[order])
        return (w, b), ((w, b), mistakes)

    x, y = jnp.asarray(x), jnp.asarray(y)
    start = jnp.zeros((x.shape[1], y.shape[1])), jnp.zeros(y.shape[1])
    return jax.lax.scan(one, start, jax.random.split(key, PASSES))[1]


def bound(x: np.ndarray, y: np.ndarray) -> float:
    """Novikoff's bound (R / γ)² on all mistakes, with the largest margin γ of a hyperplane through the origin."""
    z = np.c_[x, np.ones(len(x))].astype(np.float64)
    model = SVC(kernel="linear", C=1e6).fit(np.r_[z, -z], np.r_[y, 1 - y])  # by symmetry its intercept is 0
    margin = ((2 * y - 1) * (z @ model.coef_[0])).min() / np.linalg.norm(model.coef_)
    return (np.linalg.norm(z, axis=1).max() / margin) ** 2 if margin > 0 else np.inf


def pairs(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All 45 pairs of digits: bounds [45], and mistakes [45, SEEDS, PASSES]."""
    of = [x[y == digit][:EACH] for digit in range(10)]
    both = np.stack([np.concatenate([of[a], of[b]]) for a, b in combinations(range(10), 2)])
    y = np.repeat([0, 1], EACH)
    orders = jax.vmap(lambda key, x: learn(key, x, y[:, None])[1][:, 0], (0, None))
    mistakes = jax.jit(jax.vmap(orders, (None, 0)))(jax.random.split(jax.random.key(0), SEEDS), both)
    return np.array([bound(x, y) for x in both]), np.asarray(mistakes)


def digits(x: np.ndarray, y: np.ndarray) -> dict[str, list[float]]:
    """Accuracies on every fifth digit: scikit-learn's perceptrons, ten of ours, and a network."""
    test = np.arange(len(y)) % 5 == 0
    train, held, keys = (x[~test], y[~test]), (x[test], y[test]), jax.random.split(jax.random.key(1), SEEDS)
    trainer = nn.trainer(nn.models.mlp(10, hidden=(HIDDEN,)), nn.losses.softmax_cross_entropy, nn.adam(RATE))

    def perceptrons(key: jax.Array) -> jax.Array:
        (w, b), _ = learn(key, train[0], nn.data.one_hot(train[1], 10))
        return held[0] @ w[-1] + b[-1]

    def network(key: jax.Array) -> jax.Array:
        run = nn.fit(trainer, key, train, epochs=EPOCHS, batch_size=BATCH)
        return nn.models.mlp(10, hidden=(HIDDEN,)).apply(run.ts.params, {}, held[0])[0]

    found = {"scikit-learn": [Perceptron(random_state=s).fit(*train).score(*held) for s in range(SEEDS)]}
    for name, run in (("perceptrons", perceptrons), (f"network of {HIDDEN} units", network)):
        logits = nn.sweep(run, keys).results
        found[name] = [float(nn.metrics.accuracy(z, held[1]).mean()) for z in logits]
    return found


def network(depth: int, widest: int, width: Any) -> nn.Layer:
    """tanh layers and one output; units beyond the width are 0, so that one program serves every width."""

    def first(units: jax.Array) -> jax.Array:
        return units * jnp.where(jnp.arange(widest) < width, (widest / width) ** 0.5, 0).astype(units.dtype)[None]

    hidden = [part for _ in range(depth) for part in (nn.dense(widest, preset="torch"), nn.tanh, first)]
    return nn.serial(*hidden, nn.dense(1, preset="torch"))


def exclusive() -> tuple[np.ndarray, Any]:
    """XOR by one hidden layer: which seeds learn it [widths, seeds], and their params."""

    def one(point: dict) -> tuple[jax.Array, Any]:
        model = network(1, XOR_WIDTHS[-1], point["width"])
        trainer = nn.trainer(model, nn.losses.binary_cross_entropy, nn.adam(XOR_RATE))
        params = nn.fit(trainer, point["key"], (CORNERS, EXCLUSIVE[:, None]), epochs=XOR_STEPS).ts.params
        logits = model.apply(params, {}, CORNERS)[0][:, 0]
        return jnp.all((logits > 0) == (EXCLUSIVE == 1)), params

    keys = jax.random.split(jax.random.key(2), XOR_SEEDS)
    learnt, params = nn.sweep(one, nn.points.grid(key=keys, width=np.float32(XOR_WIDTHS)), strategy="vmap").results
    return np.asarray(learnt).reshape(XOR_SEEDS, -1).T, params


def disparity() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The map of the stereo pair, of mean 0 and deviation 1: where it is known [h, w], places [n, 2], values [n, 1]."""
    full = np.asarray(nn.data.load("motorcycle").train[1])[0, STEP // 2 :: STEP, STEP // 2 :: STEP]
    known = np.isfinite(full)
    places = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in full.shape), indexing="ij"), -1)[known]
    values = (full[known] - full[known].mean()) / full[known].std()
    return known, places.astype(np.float32), values[:, None].astype(np.float32)


def approximate(depth: int, widths: Sequence[int], x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least squares by networks of one depth: error [widths, seeds], and values [widths, seeds, n]."""

    def one(point: dict, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        model = network(depth, widths[-1], point["width"])
        trainer = nn.trainer(model, nn.losses.squared_error, optax.lbfgs())
        values = model.apply(nn.fit(trainer, point["key"], (x, y), epochs=STEPS).ts.params, {}, x)[0]
        return jnp.sqrt(nn.losses.squared_error(values, y).mean()), values[:, 0]

    points = nn.points.grid(width=np.float32(widths), key=jax.random.split(jax.random.key(3), MAP_SEEDS))
    found = nn.sweep(one, points, jnp.asarray(x), jnp.asarray(y), progress=True).results
    return tuple(np.asarray(a).reshape(len(widths), MAP_SEEDS, *a.shape[1:]) for a in found)


def splines(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least squares by products of splines with equal steps: numbers of coefficients, and errors, linear or cubic."""

    def basis(u: np.ndarray, k: int, degree: int) -> np.ndarray:
        knots = np.r_[[-1.0] * degree, np.linspace(-1, 1, k - degree + 1), [1.0] * degree]
        return BSpline.design_matrix(np.clip(u, -1, 1 - 1e-6), knots, degree).toarray()

    sizes = [(max(4, round((n / 1.5) ** 0.5)), max(4, round((n * 1.5) ** 0.5))) for n in COEFFICIENTS]
    errors = []
    for rows, columns in sizes:
        both = []
        for degree in (1, 3):
            products = basis(x[:, 0], rows, degree)[:, :, None] * basis(x[:, 1], columns, degree)[:, None]
            design = products.reshape(len(x), -1)
            left = design @ np.linalg.lstsq(design, y[:, 0], rcond=1e-6)[0] - y[:, 0]
            both.append(np.sqrt(np.mean(left**2)))
        errors.append(min(both))
    return np.array([rows * columns for rows, columns in sizes]), np.array(errors)


def lines(axes: Any, x: np.ndarray, y: np.ndarray, key: Any, count: int) -> None:
    """Points of two classes, and the perceptron's line after each of its first `count` passes."""
    (w, b), mistakes = jax.tree.map(np.asarray, learn(key, x, y[:, None]))
    low, high = x.min(0) - 0.4, x.max(0) + 0.4
    across = np.linspace(low[0], high[0], 2)
    for k in range(count):
        with np.errstate(divide="ignore", invalid="ignore"):
            up = -(w[k, 0] * across + b[k]) / w[k, 1]
        shade = str(0.8 - 0.8 * (k + 1) / count)
        axes.plot(across, up, color=shade, lw=1.2, label=f"pass {k + 1}, {mistakes[k, 0]} mistakes")
    for label, colour in ((0, "tab:blue"), (1, "tab:red")):
        axes.plot(*x[y == label].T, "o", color=colour, ms=4 if len(x) > 4 else 10)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    axes.legend(fontsize=8)


def picture(path: Path, iris: tuple, counted: tuple, xor: tuple, maps: tuple, errors: dict, baseline: tuple) -> None:
    """Lines of perceptrons, mistakes against the bound, XOR, the approximated map, and errors against params."""
    figure, axes = subplots(2, 4, (19, 9))
    lines(axes[0, 0], *iris, jax.random.key(0), 4)
    axes[0, 0].set(xlabel="petal length, cm", ylabel="petal width, cm", title="iris: setosa (blue) and the others")
    bounds, mistakes = counted
    total = mistakes.sum(-1)
    axes[0, 1].errorbar(bounds, total.mean(1), total.mean(1) - total.min(1), fmt="o", ms=4, lw=1)
    axes[0, 1].plot(bounds, bounds, color="0.5", label="Novikoff's bound")
    axes[0, 1].set(xscale="log", yscale="log", xlabel="(R / margin)²", ylabel="mistakes until the last one")
    axes[0, 1].set_title("45 pairs of digits, mean of the orders")
    axes[0, 1].legend()

    learnt, params = xor
    lines(axes[0, 2], CORNERS, EXCLUSIVE, jax.random.key(0), 4)
    axes[0, 2].set_title("XOR: lines of a perceptron, regions of a network")
    widths = np.flatnonzero(np.array(XOR_WIDTHS) == 4)
    member = int(np.flatnonzero(learnt[widths[0]])[0]) * len(XOR_WIDTHS) + int(widths[0])
    grid = np.stack(np.meshgrid(*[np.linspace(-0.4, 1.4, 100, dtype=np.float32)] * 2), -1)
    model, params = network(1, XOR_WIDTHS[-1], 4.0), jax.tree.map(lambda a: a[member], params)
    p = nn.sigmoid(model.apply(params, {}, grid.reshape(-1, 2))[0]).reshape(100, 100)
    axes[0, 2].contourf(grid[..., 0], grid[..., 1], p, 20, cmap="coolwarm", vmin=0, vmax=1, alpha=0.5, zorder=0)
    axes[0, 3].bar(range(len(XOR_WIDTHS)), 100 * learnt.mean(1), color="tab:green")
    axes[0, 3].set_xticks(range(len(XOR_WIDTHS)), labels=[str(w) for w in XOR_WIDTHS])
    axes[0, 3].set(
        xlabel="hidden units", ylabel=f"percent of {XOR_SEEDS} seeds", title="networks that learn XOR", ylim=(0, 105)
    )

    known, values = maps
    for place, (title, of) in zip(axes[1, :3], values.items(), strict=True):
        image = np.full(known.shape, np.nan)
        image[known] = of
        place.imshow(image, cmap="magma", vmin=-1.6, vmax=2)
        place.set_title(title)
        place.axis("off")
    last = axes[1, 3]
    for (depth, error), colour in zip(errors.items(), ("tab:orange", "tab:blue", "tab:green"), strict=False):
        counts = [size(depth, w) for w in WIDTHS[depth]]
        band(last, counts, error.T, f"{depth} hidden layer{'s' * (depth > 1)}", colour, marker="o", ms=4)
    last.plot(*baseline, "k--", label="products of splines")
    last.set(xscale="log", yscale="log", xlabel="params", ylabel="root of the mean squared error", title="the map")
    last.set_yticks((0.2, 0.3, 0.4, 0.6, 0.8), labels=["0.2", "0.3", "0.4", "0.6", "0.8"])
    last.yaxis.set_tick_params(which="minor", labelleft=False)
    last.grid(alpha=0.3)
    last.legend()
    figure.savefig(path, dpi=90)


def size(depth: int, width: int) -> int:
    """Params of a network of that many layers and units on places [n, 2]."""
    return 3 * width + (depth - 1) * (width + 1) * width + width + 1


def main() -> None:
    """Takes the parts in order, prints their figures and draws the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    jax.config.update("jax_num_cpu_devices", CORES)
    out, start, cpu = folder(), time.perf_counter(), time.process_time()

    images, labels = nn.data.load("digits").train
    images = images.reshape(len(images), -1)
    bounds, mistakes = pairs(images, labels)
    ratio = mistakes.sum(-1).max(1) / bounds
    passes = (mistakes > 0).sum(-1)
    print(f"pairs of digits: mistakes over the bound {np.median(ratio):.3f}, median, and at most {ratio.max():.3f}")
    print(f"                 passes with mistakes {passes.min()} to {passes.max()}", flush=True)
    x, y = nn.data.load("iris").train
    petals, others = (x[:, 2:], y > 0), (x[y > 0], y[y > 0] == 2)
    missed = np.asarray(learn(jax.random.key(0), others[0], others[1][:, None])[1])
    never = np.asarray(learn(jax.random.key(0), CORNERS, EXCLUSIVE[:, None])[1])
    print(f"mistakes in a pass: iris versicolor and virginica at least {missed.min()}, XOR at least {never.min()}")
    accuracies = digits(images, labels)
    for name, values in accuracies.items():
        print(f"accuracy on ten digits, {name:24}{spread(values):>12} %", flush=True)
    learnt, params = exclusive()
    print("XOR: " + ", ".join(f"{w} units {100 * of.mean():.0f} %" for w, of in zip(XOR_WIDTHS, learnt, strict=True)))

    known, places, heights = disparity()
    sizes, smooth = splines(places, heights)
    print(
        "splines: " + ", ".join(f"{n} params {error:.3f}" for n, error in zip(sizes, smooth, strict=True)), flush=True
    )
    errors, values = {}, {}
    for depth, widths in WIDTHS.items():
        errors[depth], values[depth] = approximate(depth, widths, places, heights)
        for width, error in zip(widths, errors[depth], strict=True):
            equal = np.exp(np.interp(np.log(size(depth, width)), np.log(sizes), np.log(smooth)))
            name = f"{depth} layers of {width}, {size(depth, width)} params:"
            print(f"{name:30} error {error.mean():.3f} ± {error.std(ddof=1):.3f}, splines {equal:.3f}", flush=True)
    best = list(WIDTHS)[-1]
    shown = {"disparity": heights[:, 0], **{f"{d} of {WIDTHS[d][-1]}": values[d][-1, 0] for d in (1, best)}}
    picture(
        out / "perceptron.png", petals, (bounds, mistakes), (learnt, params), (known, shown), errors, (sizes, smooth)
    )
    seconds, processors = time.perf_counter() - start, time.process_time() - cpu
    print(
        f"{seconds:.0f} s, compile included, {processors:.0f} s of processors; the picture is {out / 'perceptron.png'}"
    )

    assert ratio.max() <= 1, "more mistakes than Novikoff's bound"
    assert not mistakes[..., -1].any(), "a pair of digits is not separated"
    assert min(missed.min(), never.min()) > 0, "classes that no line separates have been separated"
    assert not learnt[0].any(), "one hidden unit has learnt XOR"
    assert learnt[-1].mean() > 0.9, "eight hidden units do not learn XOR"
    if not SHORT:
        classical, _, deep = (np.mean(of) for of in accuracies.values())
        assert deep - classical > LEAST_DIGITS, "below the figure that this example stands for"
        equal = np.exp(np.interp(np.log(size(2, 8)), np.log(sizes), np.log(smooth)))
        assert errors[2][WIDTHS[2].index(8)].mean() < (1 - LEAST_MAP) * equal, (
            "no better than splines of as many params"
        )


if __name__ == "__main__":
    main()
