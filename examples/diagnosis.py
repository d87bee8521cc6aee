"""A training run with five faults, mended by its own report: diagnose, mend what is named, repeat.

    python examples/diagnosis.py [folder for the picture, by default out] [--short]

A network for MNIST-1D (4000 series of 40 numbers, ten classes) is trained with five common mistakes: inputs in other
units, 100 times too large; a softmax before a loss that applies one; a rate 1000 times too low; a frozen layer; and 300
training examples in the validation set. `nn.diagnose` looks at the run before it starts. After each report only the
faults that it names are mended, until it finds nothing.

    round   findings                                                                test accuracy
    0       unscaled inputs, leakage, softmax twice, frozen layer, cannot overfit      9.8 ± 0.6 %
    1       rate too low                                                              13.3 ± 1.9 %
    2       none                                                                      63.1 ± 1.3 %

Logistic regression of scikit-learn has 32.9 % (three seeds of the networks, 40 epochs, 37 s of processors in all). It
wins against the broken networks, with the same inputs in standard units. The rate is judged last: as long as the loss
cannot fall at any rate, none is better than another.

References: Greydanus, Scaling down deep learning, 2020 (the data); Karpathy, A recipe for training neural networks,
2019.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _pictures import SHORT, clock, folder, spread, subplots
from sklearn.linear_model import LogisticRegression

import jaxnn as nn

nn.reuse_memory()

SEEDS = 3
EPOCHS = 1 if SHORT else 40  # of the runs whose accuracy is measured
BATCH = 64
UNITS = 100  # as the paper's network
RATE = 3e-3  # of Adam
COPIES = 300  # training examples in the validation set
MARGIN = 0.2  # accuracy over logistic regression's after mending; fixed before the full run
ROUNDS = 6  # more than faults: each report has to name one at least

# Name of a finding -> the fault that is mended.
MENDS = {
    "unscaled inputs": "units",
    "initial loss": "units",
    "softmax twice": "softmax",
    "rate too low": "rate",
    "frozen layer": "frozen",
    "leakage": "copies",
}
FAULTS = ("units", "softmax", "rate", "frozen", "copies")[: 2 if SHORT else None]

Data = tuple[np.ndarray, np.ndarray]


def made(faults: set[str], train: Data, test: Data) -> tuple[nn.Trainer, Data, Data]:
    """The trainer, the training and the validation data, with some faults."""
    valid = (test[0][: len(test[0]) // 2], test[1][: len(test[1]) // 2])
    if "copies" in faults:
        valid = tuple(np.concatenate([a[:COPIES], b]) for a, b in zip(train, valid, strict=True))
    if "units" in faults:
        train, valid = ((100 * x, y) for x, y in (train, valid))
    last = [nn.softmax] if "softmax" in faults else []
    model = nn.serial(nn.dense(UNITS), nn.relu, nn.dense(UNITS), nn.relu, nn.dense(10), *last)
    optimizer = nn.adam(RATE * (1e-3 if "rate" in faults else 1))
    frozen = "dense_1/*" if "frozen" in faults else ()
    trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, optimizer, frozen=frozen)
    return trainer, train, valid


def accuracies(trainer: nn.Trainer, train: Data, test: Data) -> np.ndarray:
    """Test accuracy of runs from several seeds."""

    @jax.jit
    def all_seeds(keys: jax.Array, train: Data, x: jax.Array, y: jax.Array) -> jax.Array:
        def one(key: jax.Array) -> jax.Array:
            run = nn.fit(trainer, key, train, epochs=EPOCHS, batch_size=BATCH)
            return jnp.mean(jnp.argmax(trainer.model.apply(run.ts.params, run.ts.state, x)[0], -1) == y)

        return jax.vmap(one)(keys)

    return np.asarray(all_seeds(jax.random.split(jax.random.key(0), SEEDS), train, *test))


def picture(path: Path, reports: list[Any], scores: list[np.ndarray], baseline: float) -> None:
    """The figures of the first and the last report, and the accuracy after each round."""
    figure, axes = subplots(3, 3, (14, 11))
    for row, report, name in ((axes[0], reports[0], f"{len(FAULTS)} faults"), (axes[1], reports[-1], "mended")):
        report.plot(row)
        row[0].set_title(f"{name}: short runs at scaled rates", fontsize=11)
    for unused in axes[2]:
        unused.remove()
    wide = figure.add_subplot(axes[0, 0].get_gridspec()[2, :])
    rounds = np.arange(len(scores))
    means = [100 * score.mean() for score in scores]
    wide.bar(rounds, means, color="tab:blue", width=0.5, yerr=[100 * score.std() for score in scores])
    wide.axhline(100 * baseline, color="0.3", ls="--", label=f"logistic regression, {100 * baseline:.0f}")
    for i, report in enumerate(reports):
        text = "\n".join(dict.fromkeys(report.names)) or "no findings"
        wide.text(i, means[i] + 3, text, ha="center", va="bottom", fontsize=9, bbox={"fc": "white", "ec": "none"})
    wide.set(
        xlabel="round", ylabel="test accuracy, %", ylim=(0, 100), title="findings of each report, and the accuracy"
    )
    wide.set_xticks(rounds)
    wide.legend(loc="upper left")
    figure.savefig(path, dpi=100)


def main() -> None:
    """Diagnoses and mends, prints every report and the table, and draws the picture."""
    nn.cache_programs()
    out, took = folder(), clock()
    data = nn.data.load("mnist1d")
    mean, std = data.train[0].mean(), data.train[0].std()
    train, test = (((x - mean) / std, y) for x, y in (data.train, data.test))
    baseline = LogisticRegression(max_iter=1000).fit(*train).score(*test)
    faults, reports, scores = set(FAULTS), [], []
    for turn in range(ROUNDS):
        trainer, known, valid = made(faults, train, test)
        report = nn.diagnose(trainer, jax.random.key(turn), known, valid, batch_size=BATCH)
        units = 100 if "units" in faults else 1
        reports.append(report)
        scores.append(accuracies(trainer, known, (units * test[0], test[1])))
        print(f"\nRound {turn}: test accuracy {spread(scores[-1])} %, {took()}\n{report}", flush=True)
        if not report.names:
            break
        faults -= {MENDS[name] for name in report.names if name in MENDS}
    print(f"\nlogistic regression of scikit-learn: {100 * baseline:.1f} %")
    picture(out / "diagnosis.png", reports, scores, baseline)
    print(f"the picture is {out / 'diagnosis.png'}; {took()}")
    assert not faults, f"not found: {faults}"
    assert reports[-1].names == (), "the last report has findings"
    if not SHORT:
        assert scores[0].mean() < baseline < scores[-1].mean() - MARGIN, "below the figure that this example stands for"


if __name__ == "__main__":
    main()
