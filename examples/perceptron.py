"""From the perceptron to universal approximation: Rosenblatt's rule, its bound and its limit, and hidden layers.

    python examples/perceptron.py [folder for the picture, by default out] [--short]

The rule. All 45 pairs of scikit-learn's digits are separable by a hyperplane. From w = 0 the rule makes at most
(R / γ)² mistakes, where R is the largest norm of an example and γ the largest margin, that of a support vector machine.
The most mistakes of four orders are 0.22 of that bound in the median pair and at most 0.32, in up to 24 passes; pairs
with larger bounds take more.

The limit. No line separates XOR, and no hyperplane iris versicolor from virginica: all 60 passes have at least 1 and 4
mistakes. With hidden units XOR is learnt, and more of them than the two that are necessary help gradient descent, of
100 seeds:

    hidden tanh units           1       2       3       4       8
    seeds that learn XOR      0 %    56 %    88 %    99 %   100 %

On ten digits, every fifth held out, scikit-learn's Perceptron gets 94.9 ± 0.6 %, one hidden layer of 64 97.7 ± 0.5 %.

Approximation. Any continuous function is within any error of a wide enough layer. The theorem is about weights that
exist, not about those that training finds. The disparity map of a stereo pair is a function of the place, fitted at
2435 pixels by 400 steps of L-BFGS; splines (products of linear ones in each direction) are fitted by one linear solve.
Root of the mean squared error for a map of deviation 1, by params; four seeds:

    splines           35: 0.462              126: 0.365           260: 0.308           504: 0.265       1014: 0.200
    1 hidden layer    33: 0.477 ± 0.025      129: 0.431 ± 0.009   257: 0.422 ± 0.010
    2 hidden layers   37: 0.449 ± 0.021      105: 0.363 ± 0.024   337: 0.334 ± 0.003   697: 0.339 ± 0.008
    3 hidden layers   57: 0.421 ± 0.030      177: 0.364 ± 0.033   361: 0.310 ± 0.017   609: 0.275 ± 0.005

At equal training depth is worth more than width: two layers of 8 are better than one of 64. Splines are as good up to
some 100 params and better with more, as a linear solve uses every coefficient. Two layers of 8 were expected to be 5 %
better than splines of as many params; they are 3 % better, less than the deviation of the seeds. Networks pay off where
splines do not exist: a grid over 64 pixels, as above, has k^64 coefficients.

Rosenblatt, The Perceptron, 1958. Novikoff, On Convergence Proofs for Perceptrons, 1962. Minsky and Papert, Perceptrons,
1969. Cybenko, Approximation by Superpositions of a Sigmoidal Function, 1989.
"""

import os
import time
from itertools import combinations
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads slow down scikit-learn's small products

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _pictures import SHORT, band, folder, spread, subplots
from sklearn.linear_model import Perceptron
from sklearn.svm import SVC

import jaxnn as nn

CORES = 2
SEEDS = 2 if SHORT else 4  # orders of the examples, and networks; an even number for the cores
PASSES = 60  # of the perceptron rule over the examples; the slowest pair of digits needs about 20
EACH = 174  # examples of each digit in a pair, those of the rarest one, so that all pairs are one program
HIDDEN, EPOCHS, BATCH, RATE = 64, 4 if SHORT else 40, 32, 3e-3  # of the network on ten digits
XOR_SEEDS, XOR_WIDTHS, XOR_STEPS, XOR_RATE = 100, (1, 2, 3, 4, 8), 1000, 0.03  # Adam on all four corners
APART = 12  # pixels of the disparity map are so far apart in both directions
WIDTHS = {2: (4, 8)} if SHORT else {1: (4, 8, 16, 32, 64), 2: (4, 8, 16, 24), 3: (4, 8, 12, 16)}  # by hidden layers
STEPS = 30 if SHORT else 400  # of L-BFGS on all pixels
GRIDS = [(4, 5), (5, 7), (7, 10), (9, 14), (13, 20), (18, 28), (26, 39)]  # knots of the splines
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


def network(depth: int, widest: int, width: Any) -> nn.Layer:
    """tanh layers and one output; units beyond the width are 0, so that one program serves every width."""

    def first(units: jax.Array) -> jax.Array:
        return units * jnp.where(jnp.arange(widest) < width, (widest / width) ** 0.5, 0).astype(units.dtype)[None]

    hidden = [part for _ in range(depth) for part in (nn.dense(widest, preset="torch"), nn.tanh, first)]
    return nn.serial(*hidden, nn.dense(1, preset="torch"))


def size(depth: int, width: int) -> int:
    """Params of a network on places in the plane."""
    return 3 * width + (depth - 1) * (width + 1) * width + width + 1


def exclusive() -> tuple[np.ndarray, Any]:
    """XOR by one hidden layer: which seeds learn it, [seeds, widths], and their params, [seeds * widths, ...]."""

    def one(point: dict) -> tuple[jax.Array, Any]:
        model = network(1, XOR_WIDTHS[-1], point["width"])
        trainer = nn.trainer(model, nn.losses.binary_cross_entropy, nn.adam(XOR_RATE))
        params = nn.fit(trainer, point["key"], (CORNERS, EXCLUSIVE[:, None]), epochs=XOR_STEPS).ts.params
        return jnp.all((model.apply(params, {}, CORNERS)[0][:, 0] > 0) == (EXCLUSIVE == 1)), params

    points = nn.points.grid(key=jax.random.split(jax.random.key(2), XOR_SEEDS), width=np.float32(XOR_WIDTHS))
    learnt, params = nn.sweep(one, points, strategy="vmap").results
    return np.asarray(learnt).reshape(XOR_SEEDS, -1), params


def disparity() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The map of a stereo pair: where it is known, [h, w], the places, [n, 2], and values of deviation 1, [n, 1]."""
    whole = np.asarray(nn.data.load("motorcycle").train[1])[0, APART // 2 :: APART, APART // 2 :: APART]
    known = np.isfinite(whole)
    places = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in whole.shape), indexing="ij"), -1)[known]
    values = (whole[known] - whole[known].mean()) / whole[known].std()
    return known, places.astype(np.float32), values[:, None].astype(np.float32)


def approximate(depth: int, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least squares by networks of one depth: errors [widths, SEEDS], and values [widths, SEEDS, n]."""
    widths = WIDTHS[depth]

    def one(point: dict, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        model = network(depth, widths[-1], point["width"])
        trainer = nn.trainer(model, nn.losses.squared_error, optax.lbfgs())
        values = model.apply(nn.fit(trainer, point["key"], (x, y), epochs=STEPS).ts.params, {}, x)[0]
        return jnp.sqrt(nn.losses.squared_error(values, y).mean()), values[:, 0]

    points = nn.points.grid(width=np.float32(widths), key=jax.random.split(jax.random.key(3), SEEDS))
    found = nn.sweep(one, points, jnp.asarray(x), jnp.asarray(y), progress=True).results
    errors, values = (np.asarray(a).reshape(len(widths), SEEDS, *a.shape[1:]) for a in found)
    return errors, values


def spline(grid: tuple[int, int], x: np.ndarray, y: np.ndarray) -> float:
    """Error of least squares by products of linear splines in each direction; cubic ones are worse on this map."""
    rows, columns = (
        np.maximum(0, 1 - abs((u[:, None] + 1) * (k - 1) / 2 - np.arange(k))) for u, k in zip(x.T, grid, strict=True)
    )
    design = (rows[:, :, None] * columns[:, None]).reshape(len(x), -1)
    left = design @ np.linalg.lstsq(design, y[:, 0], rcond=1e-6)[0] - y[:, 0]
    return float(np.sqrt(np.mean(left**2)))


def lines(axes: Any, x: np.ndarray, y: np.ndarray, most: int) -> None:
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


def picture(path: Path, iris: tuple, counted: tuple, xor: tuple, known: np.ndarray, shown: dict, curves: dict) -> None:
    """Lines of perceptrons, mistakes against the bound, XOR, the approximated map, and errors against params."""
    figure, axes = subplots(2, 4, (19, 9))
    lines(axes[0, 0], *iris, 20)
    axes[0, 0].set(xlabel="petal length, cm", ylabel="petal width, cm")
    axes[0, 0].set_title("iris setosa (blue): lines after each mistake")
    bounds, total = counted[0], counted[1].sum(-1)
    ranges = total.mean(1) - total.min(1), total.max(1) - total.mean(1)
    axes[0, 1].errorbar(bounds, total.mean(1), ranges, fmt="o", ms=4, lw=1)
    axes[0, 1].plot(np.sort(bounds), np.sort(bounds), color="0.5", label="Novikoff's bound")
    axes[0, 1].set(xscale="log", yscale="log", xlabel="(R / margin)²", ylabel="mistakes until the last one")
    axes[0, 1].set_title("45 pairs of digits: mean and range of the orders")
    axes[0, 1].legend()

    learnt, params = xor
    column = XOR_WIDTHS.index(4)
    member = int(np.flatnonzero(learnt[:, column])[0]) * len(XOR_WIDTHS) + column
    place = np.stack(np.meshgrid(*[np.linspace(-0.4, 1.4, 100, dtype=np.float32)] * 2), -1)
    model = network(1, XOR_WIDTHS[-1], XOR_WIDTHS[column])
    logits = model.apply(jax.tree.map(lambda a: a[member], params), {}, place.reshape(-1, 2))[0]
    p = nn.sigmoid(logits).reshape(100, 100)
    axes[0, 2].contourf(*np.moveaxis(place, -1, 0), p, 20, cmap="coolwarm", vmin=-0.5, vmax=1.5, zorder=0)
    lines(axes[0, 2], CORNERS, EXCLUSIVE, 12)
    axes[0, 2].set_title("XOR: a perceptron's lines, and a network of 4 units")
    axes[0, 3].bar(range(len(XOR_WIDTHS)), 100 * learnt.mean(0), color="tab:green")
    axes[0, 3].set_xticks(range(len(XOR_WIDTHS)), labels=[str(w) for w in XOR_WIDTHS])
    axes[0, 3].set(xlabel="hidden units", ylabel=f"percent of {XOR_SEEDS} seeds", title="networks that learn XOR")

    for place, (title, values) in zip(axes[1], shown.items(), strict=False):
        image = np.full(known.shape, np.nan)
        image[known] = values
        place.imshow(image, cmap="magma", vmin=-1.6, vmax=2)
        place.set_title(title)
    for place in axes[1, :3]:
        place.axis("off")
    last = axes[1, 3]
    for (name, (counts, errors)), colour in zip(
        curves.items(), ("0.2", "tab:orange", "tab:blue", "tab:green"), strict=False
    ):
        band(last, counts, errors, name, colour, marker="o", ms=4)
    last.set(xscale="log", yscale="log", xlabel="params", ylabel="root of the mean squared error")
    last.set_title("the disparity map, of deviation 1")
    last.set_yticks((0.2, 0.3, 0.4, 0.5, 0.6), labels=["0.2", "0.3", "0.4", "0.5", "0.6"])
    last.tick_params(which="minor", labelleft=False)
    last.grid(alpha=0.3)
    last.legend()
    figure.savefig(path, dpi=90)


def main() -> None:
    """Takes the parts in order, prints their figures and draws the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    jax.config.update("jax_num_cpu_devices", CORES)
    out, start, cpu = folder(), time.perf_counter(), time.process_time()

    images, labels = nn.data.load("digits").train
    images = images.reshape(len(images), -1)
    bounds, mistakes = pairs(images, labels)
    ratio, passes = mistakes.sum(-1).max(1) / bounds, (mistakes > 0).sum(-1)
    print(f"pairs of digits: mistakes over the bound, median {np.median(ratio):.2f} and most {ratio.max():.2f};")
    print(f"                 {passes.min()} to {passes.max()} passes with mistakes", flush=True)
    x, y = nn.data.load("iris").train
    never = [
        np.asarray(mistakes_of(jax.random.key(0), *of)).min() for of in ((x[y > 0], y[y > 0] - 1), (CORNERS, EXCLUSIVE))
    ]
    print(f"mistakes in each pass: iris versicolor and virginica {never[0]} and more, XOR {never[1]} and more")
    classical, deep = digits(images, labels)
    print(f"ten digits: scikit-learn's Perceptron {spread(classical)} %, a network {spread(deep)} %", flush=True)
    learnt, params = exclusive()
    print(
        "XOR: " + ", ".join(f"{w} units {of:.0%}" for w, of in zip(XOR_WIDTHS, learnt.mean(0), strict=True)), flush=True
    )

    known, places, heights = disparity()
    sizes = [rows * columns for rows, columns in GRIDS]
    smooth = np.array([spline(grid, places, heights) for grid in GRIDS])
    shown, curves = {"disparity map": heights[:, 0]}, {"products of splines": (sizes, smooth[None])}
    print(
        "params: error  " + "  ".join(f"{n}: {error:.3f}" for n, error in zip(sizes, smooth, strict=True)) + "  splines"
    )
    for depth, widths in WIDTHS.items():
        errors, values = approximate(depth, places, heights)
        name, counts = f"{depth} hidden layer{'s' * (depth > 1)}", [size(depth, width) for width in widths]
        curves[name] = counts, errors.T
        shown |= {f"{name} of {widths[-1]}, {counts[-1]} params": values[-1, 0]} if depth != 2 or SHORT else {}
        row = zip(counts, errors.mean(1), errors.std(1, ddof=1), strict=True)
        print(
            "               " + "  ".join(f"{n}: {mean:.3f} ± {dev:.3f}" for n, mean, dev in row) + f"  {name}",
            flush=True,
        )
    picture(out / "perceptron.png", (x[:, 2:], y > 0), (bounds, mistakes), (learnt, params), known, shown, curves)
    seconds, processors = time.perf_counter() - start, time.process_time() - cpu
    print(
        f"{seconds:.0f} s, compile included, {processors:.0f} s of processors; the picture is {out / 'perceptron.png'}"
    )

    assert ratio.max() <= 1, "more mistakes than Novikoff's bound"
    assert not mistakes[..., -1].any(), "a pair of digits is not separated"
    assert min(never) > 0, "classes that no line separates have been separated"
    assert not learnt[:, 0].any(), "one hidden unit has learnt XOR"
    assert learnt[:, -1].mean() > 0.9, "eight hidden units do not learn XOR"
    if not SHORT:
        assert deep.mean() - classical.mean() > LEAST_DIGITS, "below the figure that this example stands for"
        lowest = [errors.mean(0).min() for _, errors in curves.values()]
        assert lowest == sorted(lowest[:1]) + sorted(lowest[1:], reverse=True), "layers do not help"
        assert lowest[0] == min(lowest), "the largest grid of splines is no longer best"


if __name__ == "__main__":
    main()
