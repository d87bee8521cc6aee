"""Gradients through time: how far back an RNN, an LSTM and a GRU learn, and an exploding RNN that clipping saves.

    python examples/through_time.py [folder for the picture, by default out] [--short]

The eight rows of a handwritten digit are followed by 24 steps of zeros; the state after the last step is classified.
So all that is to be learnt lies 24 to 31 steps back. Each network is one recurrent layer of 64, trained for 20 epochs.

                       test accuracy, %    |gradient by the first step| / |gradient by the last|
                            (3 seeds)      before training         after
    RNN, uniform            39.2 ± 10.5              4e-08             1
    RNN, orthogonal          97.6 ± 0.2              4e-02             1
    LSTM                     85.2 ± 1.6              6e-02             2
    GRU                     73.0 ± 11.6              4e-05             2
    logistic regression            97.2

The gradient before training tells which network learns, and the initialization decides more than the kind of cell. With
uniform recurrent weights, PyTorch's default, the RNN's gradient falls by a factor of 1.7 per step; with orthogonal ones
it hardly falls. The LSTM, whose forget gate starts open by its bias of 1, keeps its gradient too, at a third of the
size. The GRU, whose update gate starts half open, loses it. After training all gradients reach the digit. Logistic
regression by scikit-learn, which sees all 64 pixels at once, is as accurate as the best network: memory is the only
difficulty here.

In the second part an RNN of relu starts from the identity times a radius and is trained by SGD with momentum. Without
clipping its numbers become non-finite from a radius of 1.0. Clipped to norm 1 it learns from radii of 0.8 to 1.2, best
at 1.0 and 1.05. At 1.3, with a first gradient of norm 4e5, the loss is finite but worse than that of guessing.

Pascanu, Mikolov and Bengio, On the Difficulty of Training Recurrent Neural Networks, 2013; Le, Jaitly and Hinton, A
Simple Way to Initialize Recurrent Networks of Rectified Linear Units, 2015.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _pictures import SHORT, band, clock, folder, spread, subplots
from sklearn.linear_model import LogisticRegression

import jaxnn as nn

SEEDS = 2 if SHORT else 3
ROWS, DELAY = 8, 24  # steps with a row of a digit, and steps of zeros after them
UNITS = 64
EPOCHS = 2 if SHORT else 20
BATCH = 64
RATE = 3e-3  # of Adam, falling to 0 along a cosine
CELLS = {
    "RNN, uniform": nn.rnn(UNITS, last=True, preset="torch"),  # recurrent weights from U(-1/8, 1/8), as in PyTorch
    "RNN, orthogonal": nn.rnn(UNITS, last=True),
    "LSTM": nn.lstm(UNITS, last=True),
    "GRU": nn.gru(UNITS, last=True),
}
KINDS = {kind: nn.serial(cell, nn.dense(10)) for kind, cell in CELLS.items()}
COLOURS = dict(zip(KINDS, ("tab:olive", "tab:green", "tab:red", "tab:orange"), strict=True))
WHEN = "before training", "after training"
LEAST = 0.2  # by how much the RNN with orthogonal weights is more accurate than that with uniform ones

RADII = np.float32([0.8, 1.1] if SHORT else [0.7, 0.8, 0.9, 1.0, 1.05, 1.1, 1.2, 1.3])  # of w_h at the start
LIMITS = np.float32([np.inf, 1.0])  # of the norm of all gradients together
STEEP = 0.01  # rate of the SGD with momentum 0.9, whose steps are as large as the gradients
STEEP_EPOCHS = 1 if SHORT else 6


def learn(model: nn.Layer, train: tuple) -> dict[str, Any]:
    """Params of all seeds before and after training."""
    schedule = optax.cosine_decay_schedule(RATE, EPOCHS * len(train[0]) // BATCH)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), nn.adam(schedule))
    trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, optimizer)

    def run(key: jax.Array, train: tuple) -> dict[str, Any]:
        fitted = nn.fit(trainer, key, train, epochs=EPOCHS, batch_size=BATCH)
        return dict(zip(WHEN, (trainer.init(key, train).params, fitted.ts.params), strict=True))

    return nn.sweep(run, jax.random.split(jax.random.key(0), SEEDS), train, strategy="vmap").results


def reach(model: nn.Layer, params: Any, test: tuple) -> np.ndarray:
    """|d loss / d x_t| by the steps after t, [seeds, steps]: geometric mean over the examples."""
    x, y = test

    def loss(x: jax.Array, params: Any) -> jax.Array:
        return nn.losses.softmax_cross_entropy(model.apply(params, {}, x)[0], y).sum()

    gradients = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(x, params)
    norms = np.linalg.norm(np.asarray(gradients, np.float64), axis=-1)  # [seeds, n, steps]
    return np.exp(np.log(norms + 1e-30).mean(1))[:, ::-1]


def explode(point: dict[str, jax.Array], train: tuple) -> dict[str, jax.Array]:
    """Loss of every step of an RNN of relu, with NaN after a failure, and the norm of its first gradient.

    Its recurrent weights are at first the identity times a radius, so without inputs the state grows with its powers.
    """

    def w_h(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        return point["radius"].astype(dtype) * jnp.eye(*shape, dtype=dtype)

    model = nn.serial(nn.rnn(UNITS, last=True, activation=nn.relu, w_h_init=w_h), nn.dense(10))
    optimizer = optax.chain(optax.clip_by_global_norm(point["limit"]), nn.sgd(STEEP, momentum=0.9))
    trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, optimizer)
    run = nn.fit(trainer, point["key"], train, epochs=STEEP_EPOCHS, batch_size=BATCH)
    first = trainer.gradients(trainer.init(point["key"], train), train)
    return {"loss": run.history["train"]["loss"].ravel(), "norm": optax.global_norm(first)}


def picture(path: Path, curves: dict, found: dict) -> None:
    """Gradients by distance before and after training; final losses by radius with and without clipping."""
    figure, axes = subplots(1, 3, (15, 4.6))
    for axis, when in zip(axes, WHEN, strict=False):
        for kind in KINDS:
            band(axis, np.arange(ROWS + DELAY), curves[kind, when], kind, COLOURS[kind])
        axis.axvspan(DELAY - 0.5, ROWS + DELAY - 0.5, color="0.9", zorder=0)
        axis.text(DELAY, 0.03, "rows of\nthe digit", transform=axis.get_xaxis_transform(), color="0.4", fontsize=9)
        axis.set(title=when, xlabel="steps before the end", yscale="log", ylabel="|gradient of the loss by x|")
        axis.grid(alpha=0.3)
    axes[0].legend()
    loss = found["loss"]  # [radii, limits, seeds, steps]
    last = np.nan_to_num(loss[..., -20:].mean(-1), nan=np.inf)
    for k, (limit, colour) in enumerate(zip(LIMITS, ("tab:purple", "tab:cyan"), strict=True)):
        label = "no clipping" if np.isinf(limit) else f"gradient clipped to norm {limit:.0f}"
        finite = np.isfinite(last[:, k]).all(-1)
        band(axes[2], RADII[finite], last[finite, k].T, label, colour, marker="o", ms=4)
        axes[2].plot(RADII[~finite], np.full((~finite).sum(), last[np.isfinite(last)].max()), "x", color=colour, ms=9)
    axes[2].axhline(np.log(10), color="0.6", lw=1, ls=":")
    axes[2].text(RADII[-1], np.log(10), "guessing", color="0.4", fontsize=9, va="bottom", ha="right")
    axes[2].set(title="RNN of relu by SGD; x: a seed is not finite", xlabel="spectral radius of w_h at the start")
    axes[2].set(ylabel="loss of the last 20 steps", yscale="log")
    axes[2].grid(alpha=0.3)
    axes[2].legend(fontsize=9, loc="lower left")
    figure.savefig(path, dpi=95)


def main() -> None:
    """Trains all networks, prints accuracies and gradients, and draws the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    nn.reuse_memory()  # before the first computation: keeps the memory of intermediate values
    out, took = folder(), clock()
    x, y = nn.data.load("digits").train
    x = np.pad(x[..., 0], ((0, 0), (0, DELAY), (0, 0)))  # the rows, and zeros after them
    train, test = nn.data.split(0, (x, y), 0.2, stratify=y)
    flat, flat_test = (x[:, :ROWS].reshape(len(x), -1) for x, _ in (train, test))
    pixels = LogisticRegression(max_iter=2000).fit(flat, train[1]).score(flat_test, test[1])
    print(f"logistic regression on the pixels, by scikit-learn: {pixels:.1%}")
    print(f"{'':38}gradient by the first step over that by the last")
    print(f"{'':16}{'test accuracy, %':>18}{WHEN[0]:>18}{WHEN[1]:>18}")

    accuracy, curves = {}, {}
    for kind, model in KINDS.items():
        runs = learn(model, train)
        logits = jax.vmap(lambda params, model=model: model.apply(params, {}, test[0])[0])(runs[WHEN[1]])
        accuracy[kind] = np.mean(np.argmax(logits, -1) == test[1], -1)
        ratios = []
        for when in WHEN:
            curves[kind, when] = reach(model, runs[when], test)
            ratios.append(np.exp(np.log(curves[kind, when][:, -1] / curves[kind, when][:, 0]).mean()))
        print(f"{kind:16}{spread(accuracy[kind]):>18}{ratios[0]:18.0e}{ratios[1]:18.0e}", flush=True)

    points = nn.points.grid(radius=RADII, limit=LIMITS, key=jax.random.split(jax.random.key(1), SEEDS))
    found = nn.sweep(explode, points, train, strategy="vmap").results
    found = jax.tree.map(lambda a: np.asarray(a).reshape(len(RADII), len(LIMITS), SEEDS, *a.shape[1:]), found)
    print("radius   first gradient's norm   loss of the last 20 steps: without clipping   with it   (nan: failed)")
    for k, radius in enumerate(RADII):
        last = found["loss"][k, ..., -20:].mean(-1).mean(-1)
        print(f"{radius:6.2f}{found['norm'][k].mean():24.1e}{last[0]:43.3f}{last[1]:10.3f}")
    picture(out / "through_time.png", curves, found)
    print(f"{took()}; the picture is {out / 'through_time.png'}")
    more = accuracy["RNN, orthogonal"].mean() - accuracy["RNN, uniform"].mean()
    assert SHORT or more > LEAST, "below the figure that this example stands for"


if __name__ == "__main__":
    main()
