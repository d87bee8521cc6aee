"""Sixteen optimizers on one real problem, each at thirteen learning rates in one program; gradient descent and SGD.

    python examples/optimizers.py [folder for the picture, by default out]

A network 64-32-10 on scikit-learn's digits, 660 steps on batches of 32, two seeds. The rate is chosen on validation
data. The baseline is logistic regression with the best of four C: validation loss 0.099, test accuracy 96.4 %.

* At their best rates nearly all optimizers are equally good: validation losses of 0.06 to 0.08, with up to 0.02 between
  seeds, and 97.3 % test accuracy on average. Only lion, at 0.11, is worse than the baseline. The best rates differ,
  from 1e-3 (lion) to 3 (adadelta), and a rate ten times too high or low costs more than a change of the optimizer.
* After equal numbers of steps gradient descent is as good as SGD, both 0.075, but has computed on 33 times as many
  examples. After equal numbers of examples, 20 passes, it has made 20 steps and has 0.40, with momentum 0.26.
* Rprop needs full batches, because the signs of small batches' gradients change by chance. After 20 steps it is the
  best on full batches, 0.12. It must stop early: when all training digits are classified the gradients keep their
  signs, and step sizes grow to `max_step_size`. After 660 steps its loss is 11 at any rate.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from _pictures import SHORT, folder, subplots

import jaxnn as nn

RATES = 10.0 ** np.arange(-5, 1.1, 0.5, dtype=np.float32)  # one grid for all; with batches none is best at an end of it
FEW = "sgd", "rmsprop", "adam"  # those of the short setting
SEEDS = 2  # two runs of one optimizer differ by more than most optimizers do
WIDTH = 32
BATCH = 32
EPOCHS = 20  # 660 steps: validation losses have levelled off
LEAST_ACCURACY = 0.97  # mean over the optimizers on batches
MOST_LOSS = 0.8  # of logistic regression's on the validation part, for the best of them

NAME = 38  # columns of the table

MINIBATCH: dict[str, dict[str, Callable]] = {
    "momentum": {
        "sgd": nn.sgd,
        "sgd momentum": partial(nn.sgd, momentum=0.9),
        "sgd nesterov": partial(nn.sgd, momentum=0.9, nesterov=True),
        "lion": nn.lion,
    },
    "scaled by past gradients": {"rmsprop": nn.rmsprop, "adadelta": nn.adadelta, "adagrad": nn.adagrad},
    "Adam's family": {name: getattr(nn, name) for name in ("adam", "adamw", "amsgrad", "adamax", "nadam", "radam")},
}
if SHORT:
    MINIBATCH = {family: {k: v for k, v in names.items() if k in FEW} for family, names in MINIBATCH.items()}
FULL_BATCH: dict[str, Callable] = {
    "gradient descent": nn.sgd,
    "gradient descent, momentum": partial(nn.sgd, momentum=0.9),
    "rprop": nn.rprop,
}


def split() -> tuple[tuple, tuple, tuple]:
    """Train, validation and test parts of the digits, each (x [n, 64] of mean 0 and deviation 1, labels [n])."""
    x, y = nn.data.load("digits").train
    x = x.reshape(len(x), -1)
    fifth = np.arange(len(x)) % 5
    x = (x - x[fifth > 1].mean()) / x[fifth > 1].std()
    return tuple((x[part], y[part]) for part in (fifth > 1, fifth == 1, fifth == 0))


def swept(make: Callable, train: tuple, valid: tuple, test: tuple, *, epochs: int, batch_size: int | None) -> dict:
    """All rates and seeds of one optimizer: training and validation loss [rates, seeds, epochs], test accuracy."""
    model = nn.serial(nn.dense(WIDTH), nn.relu, nn.dense(10))

    def run(rate: jax.Array, key: jax.Array, train: tuple, valid: tuple, test: tuple) -> dict:
        trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, make(rate))
        run = nn.fit(trainer, key, train, valid, epochs=epochs, batch_size=batch_size)
        logits, _ = model.apply(run.ts.params, run.ts.state, test[0])
        history = run.history
        return {
            "train": history["train"]["loss"].mean(-1),
            "valid": history["valid"]["loss"],
            "test": nn.metrics.accuracy(logits, test[1]),
        }

    seeds = jax.vmap(run, (None, 0, None, None, None))
    program = jax.jit(jax.vmap(seeds, (0, None, None, None, None)))
    keys = jax.random.split(jax.random.key(0), SEEDS)
    return jax.device_get(program(jnp.asarray(RATES), keys, train, valid, test))


def best(found: dict, epoch: int) -> int:
    """The number of the rate with the least validation loss after that epoch, mean over seeds; NaN is never best."""
    return int(np.nanargmin(found["valid"][:, :, epoch].mean(axis=1)))


def decades(found: dict, epoch: int) -> float:
    """How wide the range of rates is that end within twice the best validation loss."""
    end = found["valid"][:, :, epoch].mean(axis=1)
    return float((end < 2 * np.nanmin(end)).sum() * np.log10(RATES[1] / RATES[0]))


def baseline(train: tuple, valid: tuple, test: tuple) -> tuple[float, float]:
    """Validation loss and test accuracy of scikit-learn's logistic regression, with the C that validation prefers."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    fits = [LogisticRegression(C=c, max_iter=2000).fit(*train) for c in (0.01, 0.1, 1.0, 10.0)]
    loss, fit = min(((log_loss(valid[1], fit.predict_proba(valid[0])), fit) for fit in fits), key=lambda pair: pair[0])
    return loss, fit.score(*test)


def picture(path: Path, few: dict, full: dict, per_epoch: int, linear: float) -> None:
    """By family: training loss at the best rate, and the sweep; below, gradient descent beside SGD."""
    figure, grid = subplots(3, 3, (15, 13))
    last, steps = EPOCHS - 1, EPOCHS * per_epoch
    passes = np.arange(1, EPOCHS + 1)

    def sweep(axes, found: dict, epoch: int, **how) -> None:
        end = found["valid"][:, :, epoch].mean(axis=1)
        axes.plot(RATES, np.where(end < 20, end, np.nan), marker="o", ms=3.5, **how)

    for column, (family, names) in enumerate(MINIBATCH.items()):
        for name in names:
            found = few[name]
            k = best(found, last)
            label = f"{name}, {RATES[k]:.1g}"
            grid[0, column].plot(passes * per_epoch, found["train"][k].mean(axis=0), label=label)
            sweep(grid[1, column], found, last, label=name)
        grid[0, column].set_title(f"{family}: each at its best rate")
        grid[1, column].set_title(f"{family}: after {steps} steps, by rate")
        grid[0, column].set(yscale="log", ylim=(1e-3, 3), xlabel="step", ylabel="training loss, mean of an epoch")
    shown = {"sgd": few["sgd"]} | full
    for i, (name, found) in enumerate(shown.items()):
        own = per_epoch if name == "sgd" else 1  # steps in what is counted as an epoch
        how = {"label": name, "color": f"C{i}"}
        end = steps // own
        by_step = found["valid"][best(found, end - 1)].mean(axis=0)
        by_pass = found["valid"][best(found, last)].mean(axis=0)[:EPOCHS]
        grid[2, 0].plot(np.arange(1, end + 1) * own, by_step, **how)
        grid[2, 1].plot(passes, by_pass, marker="o", ms=3.5, **how)
        sweep(grid[2, 2], found, end - 1, **how)
        if name != "sgd":
            sweep(grid[2, 2], found, last, color=f"C{i}", ls=":")
    grid[2, 0].set(xlabel="step", title=f"equal steps: a full batch costs {per_epoch} times the examples")
    grid[2, 1].set(xlabel="pass over the data", xticks=passes[1::2], title="equal examples: a full batch is one step")
    grid[2, 2].set_title(f"by rate: after {steps} steps, dotted after {EPOCHS} passes")
    for axes in grid[2, :2]:
        axes.set(yscale="log", ylim=(0.05, 3), ylabel="validation loss")
    for axes in [*grid[1], grid[2, 2]]:
        axes.set(xscale="log", yscale="log", ylim=(0.05, 20), xlabel="learning rate", ylabel="validation loss")
    for axes in grid[1:].flat:
        axes.axhline(linear, color="0.35", lw=1.2, ls="--", zorder=1.5, label="logistic regression")
    for axes in grid.flat:
        axes.grid(color="0.92")
        axes.legend(fontsize=8.5)
    figure.savefig(path, dpi=90)


def main() -> None:
    """Sweeps each optimizer, prints the table and draws the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    out = folder()
    start = time.perf_counter()
    train, valid, test = split()
    linear, linear_accuracy = baseline(train, valid, test)
    data = jax.tree.map(jnp.asarray, (train, valid, test))
    per_epoch = len(train[0]) // BATCH
    steps = EPOCHS * per_epoch

    print(f"{'':{NAME}}{'examples':>10}{'best rate':>11}{'training':>10}{'validation':>16}{'test':>8}{'decades':>9}")

    def row(name: str, found: dict, epoch: int, examples: int) -> float:
        k = best(found, epoch)
        loss, spread = found["valid"][k, :, epoch].mean(), found["valid"][k, :, epoch].std()
        whole = epoch == found["valid"].shape[-1] - 1  # the test part is looked at after the last step alone
        accuracy = f"{found['test'][k].mean():8.1%}" if whole else " " * 8
        print(
            f"{name:{NAME}}{examples:10}{RATES[k]:11.1g}{found['train'][k, :, epoch].mean():10.4f}"
            f"{loss:9.3f} ± {spread:.3f}{accuracy}{decades(found, epoch):9.1f}"
        )
        return float(loss)

    few, full, losses = {}, {}, {}
    for names in MINIBATCH.values():
        for name, make in names.items():
            few[name] = swept(make, *data, epochs=EPOCHS, batch_size=BATCH)
            losses[name] = row(name, few[name], EPOCHS - 1, steps * BATCH)
    for name, make in FULL_BATCH.items():
        full[name] = swept(make, *data, epochs=steps, batch_size=None)
    for epochs in (steps, EPOCHS):
        for name, found in full.items():
            label = f"{name}, {epochs} steps"
            losses[label] = row(label, found, epochs - 1, epochs * len(train[0]))
    print(f"{'logistic regression':{NAME}}{'':31}{linear:9.3f}{'':8}{linear_accuracy:8.1%}")
    picture(out / "optimizers.png", few, full, per_epoch, linear)
    print(f"the picture is {out / 'optimizers.png'}; {time.perf_counter() - start:.0f} s")

    ends = {name: best(found, EPOCHS - 1) for name, found in few.items()}
    accuracy = np.mean([few[name]["test"][k].mean() for name, k in ends.items()])
    assert accuracy >= max(LEAST_ACCURACY, linear_accuracy), "below the figure that this example stands for"
    assert min(losses[name] for name in few) < MOST_LOSS * linear, "no better than logistic regression"
    assert all(0 < k < len(RATES) - 1 for k in ends.values()), "a best rate lies at an end of the grid"
    assert losses[f"gradient descent, {EPOCHS} steps"] > 2 * losses["sgd"], "a pass is worth as much in one step"
    assert losses[f"gradient descent, {steps} steps"] < 1.25 * losses["sgd"], "a step on all examples is worth less"


if __name__ == "__main__":
    main()
