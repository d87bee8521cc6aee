"""The curse of dimensionality, and what lifts it: accuracy against irrelevant features and examples, four ways.

    python examples/dimensions.py [folder for the picture, by default out]

Tumours of the breast, benign or malignant by 30 measurements, to which up to 1000 columns of noise are added. The
nearest neighbours look at all columns alike, and with 1000 of them the nearest example is nearly as far away as any:
94 % of the mean distance, and of 320 examples 96 % right become 82 %. A logistic regression by gradient descent keeps
92 % (86 % with 40 examples): weights that start at 0 move along the examples only. By Adam it falls to 66 %, where
63 % are benign: its steps have one length in every column, noise or not. With a penalty on |w| the same
Adam keeps 95 % (93 % with 40), as the examples needed then grow with the logarithm of the columns (Ng, Feature
selection, L1 vs. L2 regularization, and rotational invariance, 2004).

How many neighbours are asked, and the strength of the penalty, are chosen on validation tumours at each point.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _pictures import clock, folder, subplots

import jaxnn as nn

SEEDS = 5  # each splits the tumours and draws the noise anew
IRRELEVANT = (0, 10, 30, 100, 300, 1000)
EXAMPLES = (20, 40, 80, 160, 320)
VALID = 80  # the other 169 tumours are for the test
NEIGHBOURS = (1, 3, 5, 9, 15)
STRENGTHS = (0.0, 0.003, 0.01, 0.03, 0.1)  # of the penalty Σ|w|, beside the mean loss; with 0 it is left out
STEPS = 300  # on all examples
RATE = 0.03  # of Adam, falling to 0 along a cosine, so that weights pulled to 0 come to rest there
DESCENT = 0.1  # the rate of gradient descent with momentum 0.9, falling likewise
LEAST_GAIN = 0.1  # of the penalty over the neighbours, with all examples and columns
NAMES = ("nearest neighbours", "logistic, by descent", "logistic, by Adam", "logistic, by Adam with L1")


class Point(NamedTuple):
    """One cell of the table, for one seed."""

    seed: jax.Array
    irrelevant: jax.Array
    examples: jax.Array


class Target(NamedTuple):
    """Labels [n], and weights [n] that are 0 for examples not to be learnt from."""

    label: jax.Array
    weight: jax.Array


def draw(seed: int, x: np.ndarray, y: np.ndarray) -> tuple[tuple, tuple, tuple]:
    """Train, validation and test parts, each (x [n, 30 and all the noise], labels [n]), columns of deviation 1."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(x))
    x, y = x[order], y[order]
    known = slice(max(EXAMPLES))
    x = (x - x[known].mean(0)) / x[known].std(0)
    x = np.concatenate([x, random.normal(size=(len(x), max(IRRELEVANT)))], 1).astype(np.float32)
    cuts = (known, slice(known.stop, known.stop + VALID), slice(known.stop + VALID, None))
    train, valid, test = ((x[cut], y[cut]) for cut in cuts)
    return train, valid, test


def loss(logits: jax.Array, target: Target) -> jax.Array:
    """Cross-entropy of each example, weighted."""
    return target.weight * nn.losses.binary_cross_entropy(logits[:, 0], target.label.astype(logits.dtype))


def logistic(
    optimizer: Any, strength: jax.Array | float, x: jax.Array, target: Target, parts: tuple
) -> list[jax.Array]:
    """Accuracies on the parts of a logistic regression with this penalty."""
    model = nn.dense(1, w_init=nn.init.zeros)
    trainer = nn.trainer(model, loss, optimizer, regularizer=nn.regularizers.l1(strength))
    run = nn.fit(trainer, jax.random.key(0), (x, target), epochs=STEPS)  # nothing is drawn: all start at 0
    logits = [model.apply(run.ts.params, run.ts.state, x)[0][:, 0] for x, _ in parts]
    return [jnp.mean((z > 0) == (y == 1)) for z, (_, y) in zip(logits, parts, strict=True)]


def nearest(x: jax.Array, target: Target, parts: tuple) -> tuple[list[jax.Array], jax.Array]:
    """Accuracies on the parts for each number of neighbours; the nearest distance over the mean, for the last part."""
    accuracies = []
    for queries, y in parts:
        squares = jnp.sum(queries**2, 1)[:, None] + jnp.sum(x**2, 1)[None] - 2 * queries @ x.T
        distances = jnp.where(target.weight[None] > 0, jnp.sqrt(jnp.maximum(squares, 0)), jnp.inf)
        rows = jax.lax.top_k(-distances, max(NEIGHBOURS))[1]
        votes = jnp.cumsum(target.label[rows], 1)
        accuracies.append(jnp.stack([jnp.mean((2 * votes[:, k - 1] > k) == (y == 1)) for k in NEIGHBOURS]))
    mean = jnp.mean(distances, 1, where=target.weight[None] > 0)
    return accuracies, jnp.mean(distances.min(1) / mean)


def run(point: Point, data: Any) -> dict[str, Any]:
    """All classifiers at one point: columns and examples beyond it are masked, so that one program serves all."""
    (x, y), *parts = jax.tree.map(lambda a: a[point.seed], data)
    relevant = x.shape[1] - max(IRRELEVANT)
    columns = (jnp.arange(x.shape[1]) < relevant + point.irrelevant).astype(x.dtype)[None]
    taken = jnp.arange(len(x)) < point.examples
    target = Target(y, jnp.where(taken, len(x) / point.examples, 0))  # the loss is a mean over all rows
    x, parts = x * columns, tuple((queries * columns, y) for queries, y in parts)
    neighbours, contrast = nearest(x, target, parts)
    falling = optax.cosine_decay_schedule(1.0, STEPS)
    adam, descent = nn.adam(lambda t: RATE * falling(t)), nn.sgd(lambda t: DESCENT * falling(t), momentum=0.9)
    by_adam = jax.vmap(lambda strength: logistic(adam, strength, x, target, parts))(jnp.array(STRENGTHS))
    by_descent = logistic(descent, 0.0, x, target, parts)
    return {"neighbours": neighbours, "adam": by_adam, "descent": by_descent, "contrast": contrast}


def chosen(valid: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The test accuracy of what was best on validation, of the choices on the last axis; the middle one of equals."""
    best = valid == valid.max(-1, keepdims=True)
    middle = (np.cumsum(best, -1) * 2 > best.sum(-1, keepdims=True)).argmax(-1)
    return np.take_along_axis(test, middle[..., None], -1)[..., 0]


def picture(path: Path, accuracies: dict[str, np.ndarray]) -> None:
    """A map for each classifier: mean test accuracy by columns of noise and by examples."""
    figure, grid = subplots(1, len(accuracies), (15, 4), sharey=True)
    for axes, (name, values) in zip(grid, accuracies.items(), strict=True):
        means = values.mean(0).T  # [examples, irrelevant]
        image = axes.imshow(means, vmin=0.6, vmax=1, origin="lower", aspect="auto", cmap="viridis")
        for (row, column), value in np.ndenumerate(means):
            axes.text(column, row, f"{value:.0%}", ha="center", va="center", color="w" if value < 0.85 else "k")
        axes.set_xticks(range(len(IRRELEVANT)), labels=map(str, IRRELEVANT))
        axes.set_yticks(range(len(EXAMPLES)), labels=map(str, EXAMPLES))
        axes.set(title=name, xlabel="irrelevant features")
    grid[0].set_ylabel("examples")
    figure.colorbar(image, ax=grid, label=f"test accuracy, mean of {SEEDS} seeds", shrink=0.9)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Runs the sweep, prints the table and draws the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    out = folder()
    took = clock()
    x, y = nn.data.load("breast_cancer").train
    data = jax.tree.map(lambda *a: jnp.asarray(np.stack(a)), *(draw(seed, x, y) for seed in range(SEEDS)))

    shape = (SEEDS, len(IRRELEVANT), len(EXAMPLES))
    points = np.meshgrid(np.arange(SEEDS), np.array(IRRELEVANT), np.float32(EXAMPLES), indexing="ij")
    points = Point(*(jnp.asarray(a.ravel()) for a in points))
    found = nn.sweep(run, points, data, strategy="map").results  # at each the strengths are side by side already
    found = jax.tree.map(lambda a: np.asarray(a).reshape(*shape, *a.shape[1:]), found)
    valid, test = found["adam"]
    sparse = chosen(valid[..., 1:], test[..., 1:])
    columns = (chosen(*found["neighbours"]), found["descent"][1], test[..., 0], sparse)
    accuracies = dict(zip(NAMES, columns, strict=True))

    print(f"irrelevant  examples  nearest distance / mean{'':4}" + "".join(f"{name:27}" for name in NAMES).rstrip())
    for i, irrelevant in enumerate(IRRELEVANT):
        for j in (1, len(EXAMPLES) - 1):
            cells = [accuracy[:, i, j] for accuracy in accuracies.values()]
            row = "".join(f"{a.mean():8.1%} ± {a.std(ddof=1):5.1%}{'':11}" for a in cells).rstrip()
            print(f"{irrelevant:10}{EXAMPLES[j]:10}{found['contrast'][:, i, j].mean():25.2f}{'':3}{row}")
    picture(out / "dimensions.png", accuracies)
    print(f"test accuracy, mean and deviation over {SEEDS} seeds; the picture is {out / 'dimensions.png'}")
    print(f"{np.prod(shape)} points in {took()}")

    neighbours, descent, adam, sparse = (accuracy.mean(0)[:, -1] for accuracy in columns)  # with all examples
    assert min(neighbours[0], descent[0], adam[0], sparse[0]) > 0.94, "without noise one is worse than it should be"
    assert sparse[-1] > neighbours[-1] + LEAST_GAIN, "below the figure that this example stands for"
    assert sparse[-1] > descent[-1] > adam[-1], "the order of the three regressions is another"


if __name__ == "__main__":
    main()
