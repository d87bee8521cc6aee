"""Forward or reversed: real clips by LRCN on motion and on frames, a single frame, and linear models.

    python examples/clips.py [folder for the picture, by default out] [--short]

Windows of five frames of four clips, 36 x 44 pixels, are played forward or reversed, and a model tells the direction.
Scenes are cut into stretches of six frames. A fold holds out every third stretch, and no training window contains a
frame of these: about 260 training windows, shifted by up to four pixels, and 70 held-out ones, each played both ways.
Three folds, each with its own seed, hold out all stretches in turn; both clips of the car hold out the same frames.
LRCN has a CNN for each frame and an LSTM over the frames; its input is the frames less their mean over the window, or
the motion between them (normal flow). The linear models are scikit-learn's logistic regression on all differences of
consecutive frames, and on the same motion as means over the window and areas of 4 x 4 pixels; of three penalties the
best on the held-out windows counts. Accuracy in percent, mean ± deviation of the folds, and by clip:

                               all    bunny    bikes    car phone    distorted
    LRCN on motion      71.8 ± 6.1     76.1     84.4         63.7         48.8
    LRCN on frames      49.6 ± 6.7     51.1     46.9         50.0         51.2
    single frame        46.9 ± 2.9     45.5     46.9         47.5         47.5
    linear on changes   31.0 ± 7.3     29.5     26.2         32.5         37.5
    linear on motion    72.3 ± 6.4     79.5     81.2         65.0         55.0

A single frame is near chance, 50 %. The direction is in the motion: given as input, a few hundred windows suffice, and
a linear model is as good as the LRCN. From the frames the LRCN does not learn it in as many steps. The model on
changes is far below chance: a pixel that becomes brighter becomes darker again, so in 80 % of the held-out windows the
change correlates negatively with that of the training windows within 20 frames. On the distorted clip all models are
near chance or below. The run takes 92 s of processor time.

Donahue et al., Long-term Recurrent Convolutional Networks for Visual Recognition and Description, 2014,
arXiv:1411.4389: LRCN, there on frames and on optical flow. Pickup et al., Seeing the Arrow of Time, 2014: the task.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _clips import FOLDS, FRAMES, HEIGHT, WIDTH, features, frames, motion, right, starts, windows
from _pictures import SHORT, clock, folder, sheet, spread, subplots
from sklearn.linear_model import LogisticRegression

import jaxnn as nn

SEEDS = 1 if SHORT else FOLDS  # one for each fold
SHIFT = 4  # pixels by which training windows move at most
BATCH, STEPS = 32, 20 if SHORT else 200
RATE, DECAY = 2e-3, 0.01  # of AdamW; the rate falls to 0 along a cosine
DROPPED = 0.3
INVERSE = (1.0,) if SHORT else (0.01, 1.0, 100.0)  # C of the linear models: the best on held-out windows counts
LRCN, ON_FRAMES, SINGLE = "LRCN on motion", "LRCN on frames", "single frame"
CHANGES, MOTION = "linear on changes", "linear on motion"
FAR = 0.1  # of the accuracy of a single frame from chance
LEAST_GAIN = 0.15  # in accuracy of the LRCN on motion over a single frame and the linear model on changes


def played(x: jax.Array, key: jax.Array, batch: tuple) -> tuple[jax.Array, jax.Array]:
    """Windows with the given first frames, shifted, forward (1) or reversed (0)."""
    for_way, for_place = jax.random.split(key)
    forward = jax.random.bernoulli(for_way, shape=batch[0].shape)
    w = windows(x, batch[0])
    w = jnp.where(forward[:, None, None, None, None], w, w[:, ::-1])
    moved = nn.augment.batched(nn.augment.crop((HEIGHT, WIDTH), padding=SHIFT, fill="edge"))
    images = moved(for_place, jnp.moveaxis(w[..., 0], 1, -1))  # frames as channels, which move together
    return jnp.moveaxis(images, -1, 1)[..., None], forward.astype(jnp.int32)


def network(kind: str) -> nn.Layer:
    """Windows [n, t, h, w, 1] -> logits of reversed and forward [n, 2]."""
    blocks = [(nn.conv(f, k, stride=2), nn.relu) for f, k in ((16, 5), (32, 3), (64, 3))]
    encoder = nn.serial(*blocks[0], *blocks[1], *blocks[2], nn.flatten(), nn.dropout(DROPPED), nn.dense(64), nn.relu)
    if kind == SINGLE:
        return nn.serial(lambda x: 3 * (x[:, 0] - 0.5), encoder, nn.dropout(DROPPED), nn.dense(2))
    seen = {LRCN: lambda x: 10 * motion(x), ON_FRAMES: lambda x: 5 * (x - x.mean(1, keepdims=True))}  # of order 1
    return nn.serial(seen[kind], nn.models.lrcn(2, encoder=encoder, features=64, rate=DROPPED))


def learn(kind: str, point: tuple, x: jax.Array) -> jax.Array:
    """Probability of forward [2, n] for held-out windows played forward and reversed, after training."""
    key, train, held = point
    model = network(kind)
    optimizer = nn.adamw(optax.cosine_decay_schedule(RATE, STEPS), weight_decay=DECAY)
    trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, optimizer)
    ts = nn.fit(trainer, key, (train, train), epochs=1, batch_size=BATCH, augment=partial(played, x)).ts

    def forward(w: jax.Array) -> jax.Array:
        return nn.softmax(model.apply(ts.params, ts.state, w)[0])[:, 1]

    return jnp.stack([forward(windows(x, held)), forward(windows(x, held)[:, ::-1])])


def networks(kind: str, folds: list, x: np.ndarray) -> list[np.ndarray]:
    """Probability of forward [2, n] in each fold; the folds run in turn as one program."""
    most = max(len(held) for _, held in folds)
    drawn = [np.random.default_rng(i).choice(train, STEPS * BATCH) for i, (train, _) in enumerate(folds)]
    held = [np.resize(held, most) for _, held in folds]  # all of one length
    points = jax.random.split(jax.random.key(0), SEEDS), np.stack(drawn), np.stack(held)
    found = np.asarray(nn.sweep(partial(learn, kind), points, jnp.asarray(x), strategy="map").results)
    return [of[:, : len(held)] for of, (_, held) in zip(found, folds, strict=True)]


def linear(kind: str, folds: list, x: np.ndarray) -> list[np.ndarray]:
    """Probability of forward [2, n] in each fold by scikit-learn's logistic regression."""
    data = [[features(kind == MOTION, windows(x, first)) for first in fold] for fold in folds]

    def run(c: float, train: np.ndarray, held: np.ndarray) -> np.ndarray:
        model = LogisticRegression(C=c, max_iter=1000).fit(train / train.std(), np.repeat([1, 0], len(train) // 2))
        return model.predict_proba(held / train.std())[:, 1].reshape(2, -1)

    return max(([run(c, *fold) for fold in data] for c in INVERSE), key=lambda found: accuracies(found).mean())


def accuracies(found: list[np.ndarray]) -> np.ndarray:
    """Accuracy in each fold."""
    return np.array([right(forward).mean() for forward in found])


def picture(path: Path, x: np.ndarray, first: np.ndarray, forward: np.ndarray, bars: dict, names: Any) -> None:
    """Held-out windows with their motion and the answers of the LRCN, and accuracies by clip."""
    figure, (strip, axes) = subplots(1, 2, (15, 7), width_ratios=(1, 1.1))
    rows = np.linspace(0, len(first) - 1, 8).astype(int)
    shown = windows(x, first[rows])
    across = np.asarray(motion(shown)).mean(1)[..., 1]  # of each row: to the right is positive
    tiles = []
    for window, moved in zip(shown, across, strict=True):
        tiles += [np.repeat(frame, 3, -1) for frame in window]
        red, blue = np.clip(20 * moved, 0, 1), np.clip(-20 * moved, 0, 1)
        tiles.append(np.stack([1 - blue, 1 - red - blue, 1 - red], -1).clip(0, 1))
    strip.imshow(sheet(tiles, FRAMES + 1))
    for i, (on, back) in enumerate(forward[:, rows].T):
        place = (FRAMES + 1) * (WIDTH + 2) + 2
        for text, y, ok in ((f"forward {on:.2f}", 0.35, on > 0.5), (f"reversed {1 - back:.2f}", 0.7, back <= 0.5)):
            strip.text(place, (i + y) * (HEIGHT + 2), text, va="center", color="black" if ok else "tab:red")
    strip.set_title(
        "held-out windows, their motion (red: to the right),\nand the LRCN's probability of the truth when played "
        "forward and reversed", loc="left", fontsize=10,
    )  # fmt: skip
    strip.axis("off")
    width = 0.8 / len(bars)
    for k, (name, values) in enumerate(bars.items()):
        axes.bar(np.arange(len(values)) + (k - (len(bars) - 1) / 2) * width, 100 * values, width, label=name)
    axes.axhline(50, color="black", lw=1, ls=":")
    axes.set_xticks(np.arange(len(names) + 1), [name.replace(", ", ",\n") for name in (*names, "all")])
    axes.set(ylabel="windows whose direction is recognised, %", ylim=(0, 100))
    axes.legend(loc="upper center", ncols=3, fontsize=9)
    figure.savefig(path, dpi=90)


def main() -> None:
    """Trains all models in each fold, judges them on the windows held out, and draws the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    nn.reuse_memory()  # before the first computation: keeps the memory of intermediate values
    out, took = folder(), clock()
    x, clip, names = frames()
    folds = [starts(clip, fold) for fold in range(SEEDS)]
    print("training and held-out windows:", ", ".join(f"{len(train)} and {len(held)}" for train, held in folds))
    numbers = ([windows(np.arange(len(x)), first) for first in fold] for fold in folds)
    assert not any(np.isin(*both).any() for both in numbers), "a training window contains a held-out frame"
    print(f"{'accuracy, %':20}{'all':>14}" + "".join(f"{name:>22}" for name in names))
    found, bars, means = {}, {}, {}
    of_window = np.concatenate([clip[held] for _, held in folds])
    for name in (LRCN, ON_FRAMES, SINGLE, CHANGES, MOTION):
        found[name] = (linear if name in (CHANGES, MOTION) else networks)(name, folds, x)
        each = np.concatenate([right(forward) for forward in found[name]])
        means[name] = accuracies(found[name]).mean()
        bars[name] = np.array([*(each[of_window == k].mean() for k in range(len(names))), each.mean()])
        by_clip = "".join(f"{100 * value:>22.1f}" for value in bars[name][:-1])
        print(f"{name:20}{spread(accuracies(found[name])):>14}{by_clip}", flush=True)
    picture(out / "clips.png", x, folds[0][1], found[LRCN][0], bars, names)
    print(f"{took()}; the picture is {out / 'clips.png'}")
    assert means[MOTION] > means[CHANGES] + LEAST_GAIN, "motion tells the linear model no more than changes do"
    if not SHORT:
        assert abs(means[SINGLE] - 0.5) < FAR, "a single frame tells the direction"
        assert means[LRCN] > max(means[SINGLE], means[CHANGES]) + LEAST_GAIN, "below the figure that this stands for"


if __name__ == "__main__":
    main()
