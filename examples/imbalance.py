"""Class imbalance at 1:20 and 1:100: weights, resampling, focal loss and a moved threshold.

    python examples/imbalance.py [folder for the picture, by default out] [--short]

The data are 4000 T-shirts of Fashion-MNIST and a twentieth or a hundredth as many shirts, the class that is confused
most with them. A network with 256 hidden units is trained with plain cross-entropy, with shirts weighted by the ratio,
with shirts repeated until they are one half, and with the focal loss. The threshold with the best F1 ("moved") is
chosen on 2000 other T-shirts and the same fraction of shirts. The test set has 1000 images of each class, weighted to
the ratio. ECE is the expected calibration error, "mean p" the mean predicted probability of a shirt, which should be
0.048 and 0.010. Mean ± deviation of five seeds, which draw other images:

    1:20                          PR-AUC      F1 at 1/2       F1 moved            ECE         mean p
    plain                  0.634 ± 0.008  0.624 ± 0.006  0.624 ± 0.012  0.015 ± 0.003  0.052 ± 0.001
    weights                0.594 ± 0.007  0.368 ± 0.021  0.539 ± 0.021  0.060 ± 0.017  0.249 ± 0.012
    resampling             0.643 ± 0.006  0.377 ± 0.010  0.601 ± 0.013  0.038 ± 0.012  0.228 ± 0.012
    focal                  0.646 ± 0.010  0.636 ± 0.010  0.631 ± 0.014  0.142 ± 0.007  0.175 ± 0.006
    weights, shifted       0.594 ± 0.007  0.514 ± 0.015  0.539 ± 0.021  0.006 ± 0.001  0.044 ± 0.002
    resampling, shifted    0.643 ± 0.006  0.607 ± 0.004  0.601 ± 0.013  0.009 ± 0.001  0.045 ± 0.001
    logistic, balanced     0.582 ± 0.013  0.358 ± 0.016  0.515 ± 0.028  0.056 ± 0.014  0.261 ± 0.013
    forest, balanced       0.649 ± 0.009  0.617 ± 0.020  0.612 ± 0.018  0.033 ± 0.004  0.082 ± 0.002
    1:100
    plain                  0.474 ± 0.023  0.285 ± 0.112  0.453 ± 0.041  0.005 ± 0.001  0.012 ± 0.001
    weights                0.346 ± 0.027  0.156 ± 0.023  0.309 ± 0.069  0.059 ± 0.020  0.161 ± 0.033
    resampling             0.447 ± 0.049  0.179 ± 0.020  0.459 ± 0.045  0.020 ± 0.007  0.097 ± 0.025
    focal                  0.487 ± 0.028  0.392 ± 0.052  0.510 ± 0.038  0.080 ± 0.013  0.087 ± 0.013
    weights, shifted       0.346 ± 0.027  0.184 ± 0.096  0.309 ± 0.069  0.004 ± 0.001  0.006 ± 0.001
    resampling, shifted    0.447 ± 0.049  0.411 ± 0.044  0.459 ± 0.045  0.005 ± 0.001  0.007 ± 0.002
    logistic, balanced     0.347 ± 0.036  0.135 ± 0.017  0.331 ± 0.073  0.044 ± 0.013  0.169 ± 0.027
    forest, balanced       0.451 ± 0.026  0.499 ± 0.018  0.476 ± 0.035  0.011 ± 0.001  0.020 ± 0.001

Weights gain nothing here: the ranking of the images is worse, and probabilities are five times too high at 1:20,
sixteen times at 1:100. Resampling ranks about as well as the plain network. Its probabilities are too high as well;
subtracting the logarithm of the ratio from the logits ("shifted") corrects them. The focal loss ranks slightly better,
and its probabilities are too high, too. At 1:20 the plain network needs no other threshold. At 1:100 a moved threshold
raises its F1 by 0.17; the threshold is chosen on only 20 shirts, so it varies. After few steps, as in `--short`, the
plain network ranks worst: weights and resampling speed up the start.

scikit-learn's logistic regression and random forest have balanced class weights. The forest equals the best networks
at 1:20, and has the best F1 at a threshold of 1/2 at 1:100. The run takes 39 s of processors.

Elkan, The Foundations of Cost-Sensitive Learning, 2001: the shift of the logits. Lin et al., Focal Loss for Dense
Object Detection, 2017, arXiv:1708.02002. Byrd, Lipton, What is the Effect of Importance Weighting in Deep Learning?,
2019, arXiv:1812.03372: weights lose their effect as training goes on.
"""

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads slow down scikit-learn's small products

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _pictures import SHORT, clock, folder, subplots
from scipy.special import expit, logit
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

import jaxnn as nn

nn.reuse_memory()

COMMON, RARE = 0, 6  # T-shirts and shirts, the classes of Fashion-MNIST that are confused most
RATIOS = (20,) if SHORT else (20, 100)  # T-shirts for each shirt
SEEDS = 2 if SHORT else 5  # each draws other images for training and validation
TRAIN, VALID = (1000, 1000) if SHORT else (4000, 2000)  # T-shirts
HIDDEN = 256  # units, half of them dropped in training
EPOCHS = 5 if SHORT else 20
BATCH, RATE = 100, 1e-3  # of Adam, falling to 0 along a cosine
GAMMA = 2.0  # of the focal loss, as in its paper
METHODS = {  # name -> whether shirts are repeated, whether they are weighted, γ of the loss
    "plain": (False, False, 0.0),
    "weights": (False, True, 0.0),
    "resampling": (True, False, 0.0),
    "focal": (False, False, GAMMA),
}
BASELINES = {"logistic, balanced": LogisticRegression(C=0.1, class_weight="balanced", max_iter=300)}
if not SHORT:
    BASELINES["forest, balanced"] = RandomForestClassifier(class_weight="balanced", random_state=0)
COLOURS = dict(zip(METHODS, ("k", "tab:blue", "tab:green", "tab:red"), strict=True))
COLUMNS = ("PR-AUC", "F1 at 1/2", "F1 moved", "ECE", "mean p")
LEAST_GAIN = 0.02  # in PR-AUC at 1:20 over balanced logistic regression; in trials 0.04
TIE = 0.03  # F1 that no method gains over the plain network if both have moved thresholds, at 1:20


def two(part: tuple) -> tuple[np.ndarray, np.ndarray]:
    """T-shirts and shirts, 14×14 pixels, and 1 for shirts."""
    x, y = part
    kept = (y == COMMON) | (y == RARE)
    return x[kept].reshape(-1, 14, 2, 14, 2, 1).mean((2, 4)), (y[kept] == RARE).astype(np.int32)


def sampled(seed: int, y: np.ndarray, ratio: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows for training, as many with shirts repeated until they are one half, and rows for validation."""
    random = np.random.default_rng(seed)
    common, rare = (random.permutation(np.flatnonzero(y == k)) for k in (0, 1))
    few, held = TRAIN // ratio, VALID // ratio
    half = (TRAIN + few) // 2
    repeated = np.concatenate([common[:half], np.resize(rare[:few], TRAIN + few - half)])
    valid = np.concatenate([common[TRAIN : TRAIN + VALID], rare[few : few + held]])
    return np.concatenate([common[:TRAIN], rare[:few]]), repeated, valid


def learn(point: tuple, known: Any, tested: jax.Array) -> tuple[jax.Array, ...]:
    """Logits of validation and test images; a point is key, training rows, validation rows, weight of shirts, and γ."""
    key, rows, held, weight, gamma = point
    model = nn.serial(nn.flatten(), nn.dense(HIDDEN), nn.relu, nn.dropout(0.5), nn.dense(1), lambda x: x[:, 0])

    def loss(logits: jax.Array, y: jax.Array) -> jax.Array:
        return nn.losses.focal(logits, y, gamma=gamma)  # γ = 0 is the cross-entropy

    x, y = (a[rows] for a in known)
    optimizer = nn.adam(optax.cosine_decay_schedule(RATE, EPOCHS * (len(y) // BATCH)))
    train = x, y, jnp.where(y == 1, weight, 1.0)
    ts = nn.fit(nn.trainer(model, loss, optimizer), key, train, epochs=EPOCHS, batch_size=BATCH).ts
    return tuple(model.apply(ts.params, ts.state, a)[0] for a in (known[0][held], tested))


def threshold(logits: np.ndarray, y: np.ndarray) -> float:
    """The logit from which on the answer "shirt" has the best F1."""
    order = np.argsort(-logits)
    f1 = 2 * np.cumsum(y[order]) / (np.arange(1, len(y) + 1) + y.sum())
    best = f1.argmax()
    return float(logits[order][best : best + 2].mean())


def score(held: np.ndarray, test: np.ndarray, y_held: np.ndarray, y: np.ndarray, w: np.ndarray) -> list[float]:
    """PR-AUC, F1 at 1/2 and at a threshold from the validation images, calibration error, and mean probability."""
    f1 = [nn.metrics.f1(test > t, y == 1, weights=w) for t in (0.0, threshold(held, y_held))]
    error = nn.metrics.expected_calibration_error(np.stack([np.zeros_like(test), test], 1), y, weights=w)
    area, mean = nn.metrics.pr_auc(test, y, weights=w), np.average(expit(test), weights=w)
    return [float(a) for a in (area, *f1, error, mean)]


def baseline(model: Any, x: np.ndarray, y: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Logits of other images by a model of scikit-learn; probabilities of a forest may be 0 or 1."""
    model.fit(x.reshape(len(x), -1), y)
    probabilities = (model.predict_proba(a.reshape(len(a), -1))[:, 1] for a in others)
    return [logit(p.clip(1e-3, 1 - 1e-3)) for p in probabilities]


def picture(path: Path, found: dict, y: np.ndarray) -> None:
    """Precision and recall, calibration, and F1 at both thresholds, a row for each ratio."""
    figure, axes = subplots(len(RATIOS), 3, (15, 4.8 * len(RATIOS)), squeeze=False)
    for (ratio, (logits, scores)), (curves, calibration, bars) in zip(found.items(), axes, strict=True):
        w = np.where(y == 1, 1 / ratio, 1.0)
        for name, colour in COLOURS.items():
            for k, test in enumerate(logits[name]):
                order = np.argsort(-test)
                hits, all_of = np.cumsum((w * y)[order]), np.cumsum(w[order])
                label = f"{name}: {scores[name][:, 0].mean():.2f}" if k == 0 else None
                curves.plot(hits / hits[-1], hits / all_of, color=colour, lw=0.9, alpha=0.7, label=label)
            p = expit(np.stack(logits[name]))
            total, positive, sums = (
                np.histogram(p, np.linspace(0, 1, 11), weights=np.broadcast_to(weight, p.shape))[0]
                for weight in (w, w * y, w * p)
            )
            filled = total > 0
            observed, mean = (part[filled] / total[filled] for part in (positive, sums))
            calibration.plot(mean, observed, color=colour, marker="o", ms=4, label=name)
        curves.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        curves.set_title(f"1:{ratio}, each of the seeds; PR-AUC", fontsize=11)
        calibration.plot([0, 1], [0, 1], color="0.6", lw=1, ls=":")
        calibration.set(
            xlabel="predicted probability of a shirt", ylabel="fraction of shirts", xlim=(0, 1), ylim=(0, 1)
        )
        calibration.set_title("calibration", fontsize=11)
        for k, shade in enumerate((0.4, 1.0)):
            rows = np.array([of_seeds[:, 1 + k] for of_seeds in scores.values()])
            place = np.arange(len(rows)) + 0.4 * k - 0.2
            bars.barh(place, rows.mean(1), 0.38, color="tab:purple", alpha=shade)
            bars.plot(rows, np.repeat(place[:, None], rows.shape[1], 1), ".", color="k", ms=4)
        bars.set_yticks(np.arange(len(scores)), list(scores))
        bars.invert_yaxis()
        bars.set(xlabel="F1", xlim=(0, 0.8))
        bars.set_title("light: at 1/2; dark: at the moved threshold", fontsize=11)
        for place in (curves, calibration):
            place.legend(fontsize=9)
            place.grid(alpha=0.3)
    figure.savefig(path, dpi=90)


def main() -> None:
    """Trains all methods at both ratios, prints the tables and draws the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    out, took = folder(), clock()
    fashion = nn.data.load("fashion_mnist")
    known, (x_test, y_test) = two(fashion.train), two(fashion.test)
    x, y = known
    found: dict[int, tuple[dict, dict]] = {}
    for ratio in RATIOS:
        plain, repeated, valid = (np.stack(a) for a in zip(*(sampled(s, y, ratio) for s in range(SEEDS)), strict=True))
        n, keys = len(METHODS), jnp.tile(jax.random.split(jax.random.key(0), SEEDS), len(METHODS))
        train = np.concatenate([repeated if more else plain for more, _, _ in METHODS.values()])
        of = np.array([(ratio if weighted else 1.0, gamma) for _, weighted, gamma in METHODS.values()], np.float32)
        points = keys, train, np.tile(valid, (n, 1)), *np.repeat(of, SEEDS, 0).T
        swept = nn.sweep(learn, points, known, x_test).results
        held, test = (dict(zip(METHODS, np.asarray(a).reshape(n, SEEDS, -1), strict=True)) for a in swept)
        for name in ("weights", "resampling"):  # both multiply the odds, which a shift of the logits undoes
            held[f"{name}, shifted"], test[f"{name}, shifted"] = held[name] - np.log(ratio), test[name] - np.log(ratio)
        for name, peer in BASELINES.items():
            logits = [baseline(peer, x[t], y[t], x[v], x_test) for t, v in zip(plain, valid, strict=True)]
            held[name], test[name] = zip(*logits, strict=True)

        w = np.where(y_test == 1, 1 / ratio, 1).astype(np.float32)  # all test images, with the ratio of training
        print(f"\n{f'1:{ratio}':24}" + "".join(f"{column:>16}" for column in COLUMNS))
        found[ratio] = test, {}
        for name, logits in test.items():
            of_seeds = zip(held[name], logits, y[valid], strict=True)
            rows = found[ratio][1][name] = np.array([score(*seed, y_test, w) for seed in of_seeds])
            cells = zip(rows.mean(0), rows.std(0, ddof=1), strict=True)
            print(f"{name:24}" + "".join(f"{a:8.3f} ± {b:.3f}" for a, b in cells))
        print(took(), flush=True)
    picture(out / "imbalance.png", found, y_test)
    print(f"{took()}; the picture is {out / 'imbalance.png'}")

    means = {name: rows.mean(0) for name, rows in found[RATIOS[0]][1].items()}
    area, _, moved, error, _ = means["plain"]
    assert error <= min(means[name][3] for name in METHODS), "the plain network is less calibrated"
    if not SHORT:
        assert area > means["logistic, balanced"][0] + LEAST_GAIN, "below the figure that this example stands for"
        assert moved > max(means[name][2] for name in METHODS) - TIE, "a method is better than a moved threshold"


if __name__ == "__main__":
    main()
