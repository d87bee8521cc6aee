"""Model selection step by step: a baseline, a check, capacity, regularization, learning curves, and one test.

    python examples/selection.py [folder for the picture, by default out] [--short]

4000 of 5000 MNIST digits, 14 x 14 pixels, are for selection by cross-validation in four folds; 1000 are used once, at
the end. Errors are percent, mean ± deviation of folds or of four seeds. Training is in `_subsets.py`.

1. A baseline. Logistic regression of scikit-learn with the best of five C: 9.8 errors in held-out folds.
2. A check. The largest network learns 50 digits without an error. If it did not, the program would be wrong.
3. Capacity. One hidden layer, wider until the training errors are gone. Held-out errors still fall:

    hidden units              4            8           16           32           64          256
    training         22.3 ± 6.3    9.1 ± 1.0    6.4 ± 0.4    4.5 ± 0.3    2.7 ± 0.2    0.3 ± 0.2
    held out         24.0 ± 9.5   11.7 ± 1.8    9.5 ± 0.6    9.2 ± 0.8    8.4 ± 0.9    7.1 ± 0.7

4. Regularization. Dropout of 0.5 is best with 6.8 ± 0.7; without dropout a penalty of 3e-4 gives 6.8 ± 1.0, one of 1e-3
   7.4 ± 0.8, early stopping 7.1 ± 1.4. All gains are less than the deviation of the folds: regularization matters less
   here than capacity.
5. Learning curves tell what to do next:

    training digits                  50          200          800         3200
    logistic, training        0.0 ± 0.0    0.6 ± 0.5    2.5 ± 0.6    5.7 ± 0.0
    logistic, validation     38.2 ± 1.2   18.3 ± 2.1   12.9 ± 0.1    9.8 ± 0.1
    4 units, training         0.5 ± 1.0    6.9 ± 8.5   16.9 ± 5.7   17.4 ± 1.4
    4 units, validation      54.8 ± 4.0   30.9 ± 8.3   24.7 ± 6.0   18.7 ± 2.8
    256 units, training       0.0 ± 0.0    0.0 ± 0.0    0.0 ± 0.0    0.1 ± 0.0
    256 units, validation    34.7 ± 1.3   16.3 ± 2.0   10.2 ± 0.8    6.6 ± 0.7
    selected, validation     34.0 ± 1.8   15.9 ± 2.0    9.7 ± 0.7    6.0 ± 0.2

   With 4 units both errors meet at 18: bias, which more digits do not lower. With 256 they are 6.5 points apart,
   and the upper one falls with every doubling: variance, which more digits lower.
6. One test. The selected network has 5.2 ± 0.3 errors, logistic regression 8.2.

The baseline wins against networks of up to 8 units, and it needs no selection beyond C.
"""

import os
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads slow down scikit-learn's small products

import jax.numpy as jnp
import numpy as np
from _pictures import SHORT, band, clock, folder, spread, subplots
from _subsets import UNITS, fitted, validated
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

import jaxnn as nn

CORES = 2
TEST = 1000  # digits that are used once, at the end; the other 4000 are for selection
FOLDS = 2 if SHORT else 4
SEEDS = 2 if SHORT else 4  # of learning curves and test; an even number for the cores
STRENGTHS = (0.1, 1.0) if SHORT else (0.03, 0.1, 0.3, 1.0, 3.0)  # C of the logistic regression
WIDTHS = (4, UNITS) if SHORT else (2, 4, 8, 16, 32, 64, UNITS)
DROPPED = (0.0, 0.5) if SHORT else (0.0, 0.25, 0.5)  # dropout rates after the hidden layer
PENALTIES = (0.0, 3e-4) if SHORT else (0.0, 3e-4, 1e-3)  # of the squares of the weights
SIZES = (50, 3200) if SHORT else (50, 100, 200, 400, 800, 1600, 3200)  # of a learning curve; each divides the last
LEAST_GAIN = 0.02  # accuracy over the logistic regression's on the test digits; fixed before the full run
SMALL, LARGE = (4, 0.0, 0.0), (UNITS, 0.0, 0.0)  # settings: hidden units, dropout rate, penalty
GRID = [(UNITS, dropped, penalty) for dropped in DROPPED for penalty in PENALTIES]


def logistic(strength: float, rows: np.ndarray, known: tuple, held: tuple) -> list[float]:
    """Errors of scikit-learn's logistic regression on its training digits, rows [n], and on held-out ones."""
    train = known[0][rows], known[1][rows]
    model = LogisticRegression(C=strength, max_iter=300).fit(*train)
    return [1 - model.score(*part) for part in (train, held)]


def row(name: str, errors: np.ndarray) -> None:
    """Prints errors [folds or seeds, columns]."""
    print(f"{name:40}" + "".join(f"{spread(column):>13}" for column in errors.T), flush=True)


def picture(path: Path, capacity: np.ndarray, table: np.ndarray, curves: dict, baseline: float) -> None:
    """Errors against the width, errors of dropout and penalty, and errors against the number of training digits."""
    figure, (left, middle, right) = subplots(1, 3, (17, 5.2), width_ratios=(1, 0.9, 1.2))
    names = {"training": "0.5", "held out, last epoch": "tab:red", "held out, early stopping": "tab:blue"}
    for (name, colour), errors in zip(names.items(), 100 * np.moveaxis(capacity, -1, 0), strict=True):
        band(left, WIDTHS, errors, name, colour, marker="o", ms=3)
    left.axhline(100 * baseline, color="k", ls=":", label="logistic regression, held out")
    left.set(xscale="log", xlabel="hidden units", ylabel="errors in percent", ylim=(0, 50))
    left.set_title(f"capacity: {FOLDS} folds, mean and range")
    left.set_xticks(WIDTHS, labels=[str(width) for width in WIDTHS])

    values = 100 * table[..., 1].mean(0).reshape(len(DROPPED), len(PENALTIES))
    middle.imshow(values, cmap="viridis_r", aspect="auto")
    for (k, column), value in np.ndenumerate(values):
        dark = value > (values.min() + values.max()) / 2
        middle.text(column, k, f"{value:.2f}", ha="center", va="center", color="w" if dark else "k")
    middle.set_xticks(range(len(PENALTIES)), labels=[f"{p:g}" for p in PENALTIES])
    middle.set_yticks(range(len(DROPPED)), labels=[f"{d:g}" for d in DROPPED])
    middle.set(xlabel="penalty on the squares of the weights", ylabel="dropout rate")
    middle.set_title(f"regularization of {LARGE[0]} units: held-out errors in percent")

    for (name, curve), colour in zip(curves.items(), ("k", "tab:orange", "tab:red", "tab:green"), strict=True):
        band(right, SIZES, 100 * curve[..., 1], name, colour, marker="o", ms=3)
        right.plot(SIZES, 100 * curve[..., 0].mean(0), color=colour, ls="--")
    right.plot([], [], color="0.4", ls="--", label="the same, on their training digits")
    right.set(xscale="log", xlabel="training digits", ylabel="errors in percent", ylim=(0, 50))
    right.set_title(f"learning curves, validation: {SEEDS} draws, mean and range")
    right.set_xticks(SIZES, labels=[str(size) for size in SIZES])
    for axes in (left, right):
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Takes the steps in order, prints their figures and draws the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    nn.cores_as_devices(CORES)
    out, took = folder(), clock()
    x, y = nn.data.load("mnist").train
    x = np.asarray(nn.ops.avg_pool(jnp.asarray(x), 2)).reshape(len(x), -1)  # 14 x 14 pixels
    known, test = nn.data.split(0, (x - x.mean(), y), TEST / len(x), stratify=y)
    found = {c: 1 - cross_val_score(LogisticRegression(C=c, max_iter=300), *known, cv=FOLDS).mean() for c in STRENGTHS}
    strength, baseline = min(found.items(), key=lambda item: item[1])
    print(f"logistic regression, C = {strength:g}: {100 * baseline:.1f} % errors in {FOLDS} folds", flush=True)
    settings = [*((width, 0.0, 0.0) for width in WIDTHS[:-1]), *GRID]  # the first of the grid has the largest width
    errors = validated(settings, known, FOLDS)
    print(f"{'percent of errors':40}     training     held out  held out, early stopping")
    for k, setting in enumerate(settings):
        row("{} units, dropout {:g}, penalty {:g}".format(*setting), errors[:, k])
    capacity, table = errors[:, : len(WIDTHS)], errors[:, len(WIDTHS) - 1 :]
    best = GRID[int(table[..., 1].mean(0).argmin())]
    print("selected: {} units, dropout {:g}, penalty {:g}".format(*best), flush=True)

    rest, valid = nn.data.split(1, known, 800 / len(known[1]), stratify=known[1])
    orders = [np.random.default_rng(seed).permutation(len(rest[1])) for seed in range(SEEDS)]
    rows = np.array([[np.resize(order[:size], SIZES[-1]) for size in SIZES] for order in orders])  # to equal steps
    classical = [[logistic(strength, order[:size], rest, valid) for size in SIZES] for order in orders]
    names = "logistic", f"{SMALL[0]} units", f"{LARGE[0]} units", "selected"
    curves = dict(zip(names, [np.array(classical), *fitted([SMALL, LARGE, best], rows, rest, valid)], strict=True))
    print(f"{'training digits':40}" + "".join(f"{size:13}" for size in SIZES))
    for name, curve in curves.items():
        row(f"{name}, training", curve[..., 0])
        row(f"{name}, validation", curve[..., 1])
    picture(out / "selection.png", capacity, table, curves, baseline)

    every = np.arange(len(known[1]))
    fair = logistic(strength, every, known, test)[1]
    scores = fitted([best], np.tile(every, (SEEDS, 1, 1)), known, test)[0, :, 0, 1]
    print(f"test errors: logistic {100 * fair:.1f} %, selected {spread(scores)}")
    print(f"{took()}; picture: {out / 'selection.png'}")

    assert SHORT or curves[names[2]][:, 0, 0].max() == 0, "the network does not fit 50 digits: something is broken"
    assert capacity[:, 0, 0].mean() > capacity[:, -1, 0].mean(), "more hidden units do not fit better"
    assert SHORT or fair - scores.mean() > LEAST_GAIN, "below the figure that this example stands for"


if __name__ == "__main__":
    main()
