"""Who speaks? Nine speakers by two Japanese vowels, with an RNN, an LSTM and a GRU, and how far back each one learns.

    python examples/vowels.py [folder for the picture, by default out]

270 utterances of 7 to 26 steps are learnt, 370 of up to 29 are judged. Each network is one recurrent layer of 64, whose
state after an utterance's own last step is classified; five seeds by `vmap`.

All three tell the speakers apart in 97.5 to 98 % of the utterances, and the sum of five in 98 to 98.6 %. What differs
is how far back they learn. In the RNN the gradient by the input falls by a third with every step, and is under 1 % of
the last step's 11 steps before the end; trained, 15. In the LSTM it is never that low within 20 steps, before training
or after; in the GRU after 17 steps before training, and never after it: it learns to remember.
"""

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from _pictures import folder, subplots

import jaxnn as nn

SEEDS = 5
FEATURES = 64
EPOCHS = 60
BATCH = 30
RATE = 3e-3  # falling to 0 along a cosine
NOISE = 0.3  # added to each coefficient in training, which has deviation 1
DROPPED = 0.3
DECAY = 1e-2
KINDS = {"RNN": nn.rnn, "LSTM": nn.lstm, "GRU": nn.gru}
LEAST = 0.95
LOW = 0.01  # where a gradient counts as gone
ENOUGH = 30  # utterances over which a ratio is averaged


def scaled(*sets: tuple) -> list[tuple]:
    """The sets with each coefficient of mean 0 and deviation 1 over those steps of the first that count."""
    x, lengths = sets[0]
    counts = np.arange(x.shape[1]) < lengths[:, None]
    mean, deviation = x[counts].mean(0), x[counts].std(0)
    return [((x - mean) / deviation, lengths) for x, lengths in sets]


def network(kind: str) -> nn.Layer:
    """(x [n, t, 12], lengths [n]) -> logits [n, 9]."""
    recurrent, noise = KINDS[kind](FEATURES, last=True), nn.gaussian_noise(NOISE)
    head = nn.serial(nn.dropout(DROPPED), nn.dense(9))

    def apply(params: dict, state: dict, x: Any, **how: Any) -> tuple[jax.Array, dict]:
        x, lengths = x
        x, state = nn.call(noise, "noise", params, state, x, **how)
        x, state = nn.call(recurrent, "recurrent", params, state, (x, lengths), **how)
        return nn.call(head, "head", params, state, x, **how)

    return nn.layer(None, apply, kind)


def learn(model: nn.Layer, data: tuple) -> tuple[dict, dict]:
    """Params of every seed before and after training."""
    steps = EPOCHS * len(data[1]) // BATCH
    decayed = optax.adamw(optax.cosine_decay_schedule(RATE, steps), weight_decay=DECAY)
    trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, optax.chain(optax.clip_by_global_norm(1.0), decayed))

    def one(key: jax.Array) -> tuple[dict, dict]:
        return trainer.init(key, data).params, nn.fit(trainer, key, data, epochs=EPOCHS, batch_size=BATCH).ts.params

    return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), SEEDS))


def reach(model: nn.Layer, params: dict, x: tuple, y: np.ndarray) -> np.ndarray:
    """|d loss / d x| that many steps before the end over that at the end, [t]: geometric mean over the utterances."""
    series, lengths = x

    def loss(series: jax.Array) -> jax.Array:
        return nn.losses.softmax_cross_entropy(model.apply(params, {}, (series, lengths))[0], y).sum()

    size = np.linalg.norm(np.asarray(jax.jit(jax.grad(loss))(series), np.float64), axis=-1)  # [n, t]
    assert not size[np.arange(size.shape[1]) >= lengths[:, None]].any(), "a gradient reached the padding"
    back = lengths[:, None] - 1 - np.arange(size.shape[1])  # [n, t]: the step so far before the end
    ratio = np.take_along_axis(size, np.maximum(back, 0), 1) / size[np.arange(len(size)), lengths - 1][:, None]
    held = (back >= 0) & (ratio > 0) & ((back >= 0).sum(0) >= ENOUGH)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.exp(np.where(held, np.log(np.where(held, ratio, 1)), 0).sum(0) / held.sum(0))


def picture(path: Path, curves: dict[tuple[str, str], np.ndarray]) -> None:
    figure, axes = subplots(1, 2, (11, 4.2), sharey=True)
    for axis, when in zip(axes, ("before training", "after training"), strict=True):
        for kind in KINDS:
            axis.semilogy(curves[kind, when], marker="o", ms=3, label=kind)
        axis.axhline(LOW, color="gray", lw=0.8, ls=":")
        axis.set(title=when, xlabel="steps before the end of the utterance")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("gradient of the loss by the input,\nover that by the last step")
    axes[1].legend()
    figure.savefig(path, dpi=90)


def main() -> None:
    """Trains the three networks, and compares their accuracy and the reach of their gradients."""
    nn.cache_programs()  # the next start compiles nothing again
    out = folder()
    begun = time.perf_counter()
    vowels = nn.data.load("japanese_vowels")
    train, test = scaled(vowels.train[0], vowels.test[0])
    curves, accuracy = {}, {}
    print(f"{'':60}gradient half gone, gone, after so many steps")
    print(f"{'':6}{'accuracy of five seeds':>32}{'mean':>9}{'together':>10}{'trained':>14}{'untrained':>16}")
    for kind in KINDS:
        model = network(kind)
        params = dict(zip(("before training", "after training"), learn(model, (train, vowels.train[1])), strict=True))
        logits = jax.vmap(lambda p, model=model: model.apply(p, {}, test)[0])(params["after training"])
        scores = np.mean(np.argmax(logits, -1) == vowels.test[1], -1)
        together = np.mean(np.argmax(jax.nn.softmax(logits).mean(0), -1) == vowels.test[1])
        accuracy[kind] = scores.mean()
        for when, of_seeds in params.items():
            seeds = [jax.tree.map(lambda v, i=i: v[i], of_seeds) for i in range(SEEDS)]
            each = [reach(model, seed, test, vowels.test[1]) for seed in seeds]
            curves[kind, when] = np.exp(np.mean(np.log(each), 0))
        texts = []
        for when in ("after training", "before training"):
            for level in (0.5, LOW):
                below = np.flatnonzero(curves[kind, when] < level)
                texts.append(str(below[0]) if len(below) else "-")
        print(
            f"{kind:6}{' '.join(f'{s:.3f}' for s in scores):>32}{scores.mean():9.1%}{together:10.1%}"
            f"{texts[0]:>8}{texts[1]:>6}{texts[2]:>10}{texts[3]:>6}"
        )
    picture(out / "vowels.png", curves)
    print(f"\n{time.perf_counter() - begun:.0f} s; the picture is {out / 'vowels.png'}")
    assert min(accuracy.values()) >= LEAST, "below the figure that this example stands for"


if __name__ == "__main__":
    main()
