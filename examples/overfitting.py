"""Under- and overfitting across widths: the error that falls, rises to a peak where the network just fits, and falls.

    python examples/overfitting.py [folder for the picture, by default out]

The output layer of a network is trained on 150 handwritten digits, a fifth of them with a wrong label, from 2 to 1500
random hidden units, with squared error down to its minimum. With as many units as examples that minimum is 0 for the
first time, by the one solution there is, whatever it does in between: 73 % of the test digits are taken for another,
where 50 units have 35 % and 1500 have 25 %. Beyond the peak ever more solutions fit, and descent from 0 finds the
smallest of them.

Two cures take the peak away without the width being touched: to keep the weights of the iteration that was best on
validation digits (whose labels are as wrong), and a penalty on the squares of the weights. With either the error falls
with the width all the way, to 15 %.

Belkin, Hsu, Ma, Mandal, Reconciling modern machine-learning practice and the classical bias-variance trade-off, 2019.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _pictures import band, clock, folder, subplots

import jaxnn as nn

SEEDS = 4  # each draws the digits, the wrong labels and the hidden units anew
EXAMPLES = 150  # few, so that a width of as many units is cheap
VALID = 150
WRONG = 0.2  # of the labels for training and validation; without any the peak is there, but lower
WIDTHS = (2, 5, 10, 20, 30, 50, 80, 110, 130, 150, 170, 200, 250, 350, 500, 800, 1500)
GAIN = 3.0  # of the hidden weights: tanh is then far from linear, and units differ
STRENGTH = 3e-3  # of the penalty on the weights; 1e-3 and 1e-2 are as good on the validation digits
STEPS = 200  # of L-BFGS on all examples: more change nothing but the peak, which would still rise
LEAST_RISE = 0.3  # by how much the error at the peak is above the lowest on either side
END, BEST, DECAY = "to the end", "early stopping", "weight decay"


class Point(NamedTuple):
    """One run of the sweep."""

    seed: jax.Array
    width: jax.Array
    strength: jax.Array


def draw(seed: int, x: np.ndarray, y: np.ndarray) -> tuple[tuple, tuple, tuple]:
    """Train, validation and test parts: all hidden units of each digit, [n, widest], and its label, [n]."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(x))
    x, y = x[order], y[order]
    known = EXAMPLES + VALID
    wrong = random.random(known) < WRONG
    y[:known] = np.where(wrong, (y[:known] + random.integers(1, 10, known)) % 10, y[:known])
    w = random.normal(0, GAIN / x.shape[1] ** 0.5, (x.shape[1], max(WIDTHS)))
    units = np.tanh(x @ w + random.normal(0, 0.5, max(WIDTHS))).astype(np.float32)
    cuts = (slice(EXAMPLES), slice(EXAMPLES, known), slice(known, None))
    train, valid, test = ((units[cut], y[cut]) for cut in cuts)
    return train, valid, test


def one_hot_error(logits: jax.Array, y: jax.Array) -> jax.Array:
    """Squared error to the one-hot label, less its mean: that of no weights at all is then what guessing gives."""
    return nn.losses.squared_error(logits, jax.nn.one_hot(y, 10, dtype=logits.dtype) - 0.1)


def network(width: jax.Array) -> nn.Layer:
    """The output layer on the first `width` units; the others are 0, so that one program serves every width."""

    def first(units: jax.Array) -> jax.Array:
        return units * jnp.where(jnp.arange(max(WIDTHS)) < width, width**-0.5, 0).astype(units.dtype)[None]

    return nn.serial(first, nn.dense(10, bias=False, w_init=nn.init.zeros))


def run(point: Point, data: Any) -> dict[str, dict[str, jax.Array]]:
    """Errors of one run, after its last step and after its best on validation digits."""
    train, valid, test = jax.tree.map(lambda a: a[point.seed], data)
    model = network(point.width)
    trainer = nn.trainer(model, one_hot_error, optax.lbfgs(), regularizer=nn.regularizers.l2(point.strength))
    fitted = nn.fit(trainer, jax.random.key(0), train, valid, epochs=STEPS)  # nothing is drawn: all start at 0

    def errors(params: dict, state: dict) -> dict[str, jax.Array]:
        def of(x: jax.Array, y: jax.Array) -> jax.Array:
            return jnp.mean(jnp.argmax(model.apply(params, state, x)[0], -1) != y)

        return {"train": of(*train), "test": of(*test)}

    return {END: errors(fitted.ts.params, fitted.ts.state), BEST: errors(*fitted.best)}


def picture(path: Path, curves: dict[str, np.ndarray], train: np.ndarray) -> None:
    """Test error against width, with and without the cures, and the training error: mean and range over seeds."""
    figure, axes = subplots(size=(9, 5.5))
    for (label, curve), colour in zip(curves.items(), ("tab:red", "tab:blue", "tab:green"), strict=True):
        band(axes, WIDTHS, curve, f"test, {label}", colour, marker="o", ms=3)
    axes.plot(WIDTHS, train.mean(0), color="0.4", ls="--", label=f"training, {END}")
    axes.axvline(EXAMPLES, color="0.7", lw=1, zorder=0)
    axes.text(EXAMPLES * 1.04, 0.97, "as many units\nas examples", va="top", color="0.4", fontsize=9)
    axes.set(xscale="log", xlabel="random hidden units", ylabel="share of digits taken for another", ylim=(0, 1))
    axes.set_title(
        f"{EXAMPLES} digits, {WRONG:.0%} of their labels wrong; mean and range of {SEEDS} seeds", fontsize=11
    )
    axes.set_xticks([2, 10, 30, 150, 500, 1500], labels=["2", "10", "30", "150", "500", "1500"])
    axes.minorticks_off()
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Runs the sweep, prints the table and draws the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    out = folder()
    took = clock()
    x, y = nn.data.load("digits").train
    x = x.reshape(len(x), -1)
    x = (x - x.mean(0)) / (x.std(0) + 1e-3)
    data = jax.tree.map(lambda *a: np.stack(a), *(draw(seed, x, y) for seed in range(SEEDS)))

    shape = (SEEDS, len(WIDTHS), 2)
    points = np.meshgrid(np.arange(SEEDS), np.float32(WIDTHS), np.float32([0, STRENGTH]), indexing="ij")
    points = Point(*(jnp.asarray(a.ravel()) for a in points))
    found = nn.sweep(run, points, data, strategy="map").results  # side by side, searches along a line would wait
    found = jax.tree.map(lambda e: np.asarray(e).reshape(shape), found)
    train = found[END]["train"][..., 0]
    curves = {END: found[END]["test"][..., 0], BEST: found[BEST]["test"][..., 0], DECAY: found[END]["test"][..., 1]}

    print(f"units  training{'':10}" + "".join(f"{'test, ' + name:22}" for name in curves))
    for k, units in enumerate(WIDTHS):
        row = "".join(f"{c[:, k].mean():14.1%} ± {c[:, k].std(ddof=1):5.1%}" for c in curves.values())
        print(f"{units:5}{train[:, k].mean():10.1%}{row}")
    picture(out / "overfitting.png", curves, train)
    print(f"errors, mean and deviation over {SEEDS} seeds; the picture is {out / 'overfitting.png'}")
    print(f"{np.prod(shape)} runs in {took()}")

    means = {name: curve.mean(0) for name, curve in curves.items()}
    peak, before = WIDTHS.index(EXAMPLES), slice(WIDTHS.index(EXAMPLES))
    rise = means[END][peak] - max(means[END][before].min(), means[END][-1])
    assert means[END][before.stop // 2 :].argmax() + before.stop // 2 == peak, (
        "the peak is not where units are as many as examples"
    )
    assert rise > LEAST_RISE, "below the figure that this example stands for"
    assert train[:, peak:].max() == 0, "wide networks do not fit their training digits"
    for name in (BEST, DECAY):
        assert means[name][peak] < means[END][peak] - LEAST_RISE, f"{name} leaves the peak"


if __name__ == "__main__":
    main()
