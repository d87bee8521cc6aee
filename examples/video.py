"""Video: LRCN, its frames without order, a single frame; and a convolutional LSTM that predicts the next frame.

    python examples/video.py [folder for the picture, by default out] [--short]

A garment of Fashion-MNIST, 14 x 14 pixels, moves in one of eight directions through seven noisy frames. Networks
predict its direction and its class. In training each step has new clips, made of training images by `fit(augment=)`;
test clips are made of test images. The place in the middle frame does not depend on the direction, so a single frame is
at chance, 12.5 %. LRCN has a CNN for each frame, an LSTM over the frames and a mean over the logits; without the LSTM
the mean over the frames ignores their order. Registration is the phase correlation of scikit-image between the first
frame and the last. Accuracy in percent on 1000 clips after 300 steps, mean ± deviation of three seeds:

                         direction        class
    LRCN                77.8 ± 2.3   45.0 ± 1.9
    mean over frames    36.9 ± 1.6   52.6 ± 1.0
    single frame        12.1 ± 1.6   53.3 ± 0.3
    registration              45.2

The mean over the frames finds the axis of motion, and confuses a direction with its opposite: that takes the order. For
the class the two simpler networks are better after as many steps. Registration needs no training.

A convolutional LSTM predicts the next frame of two garments that move independently, without noise. Its squared
error is 0.459 ± 0.005 of that of the last frame seen; the last frame shifted by the registration of the last two, one
shift for both garments, has 0.507. The predictions are blurred. The run takes 219 s of processor time.

Donahue et al., Long-term Recurrent Convolutional Networks for Visual Recognition and Description, 2014,
arXiv:1411.4389.
Shi et al., Convolutional LSTM Network, 2015, arXiv:1506.04214: patches of 4 x 4 pixels as channels.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from _moving import FRAMES, MOVES, SIDE, clips, direction, pairs, shift, small
from _pictures import SHORT, clock, folder, sheet, spread, subplots

import jaxnn as nn

SEEDS = 2 if SHORT else 3
BATCH = 32
STEPS = 40 if SHORT else 300  # each of new clips
PREDICTED = 40 if SHORT else 250  # steps of the convolutional LSTM
RATE = 2e-3  # falling to 0 along a cosine
TEST = 200 if SHORT else 1000
LRCN, UNORDERED, SINGLE, REGISTERED = "LRCN", "mean over frames", "single frame", "registration"
FAR = 0.1 if SHORT else 0.03  # of the accuracy of a single frame from chance
LEAST_GAIN = 0.3  # in accuracy of the LRCN over the others; 40 steps teach it no order
MOST_ERROR = 1.0 if SHORT else 0.6  # of the predicted frame, over that of the last one


def encoder() -> nn.Layer:
    """A frame [n, side, side, 1] -> [n, 64]; it flattens, since a mean over space would lose the place."""
    blocks = [(nn.conv(f, k, stride=2), nn.relu) for f, k in ((16, 5), (32, 3), (64, 3))]
    return nn.serial(*blocks[0], *blocks[1], *blocks[2], nn.flatten(), nn.dense(64), nn.relu)


def network(kind: str) -> nn.Layer:
    """Clips -> logits of the directions and of the classes [n, 18]."""
    outputs = len(MOVES) + 10
    if kind == LRCN:
        return nn.models.lrcn(outputs, encoder=encoder(), features=64)
    if kind == UNORDERED:
        return nn.serial(nn.time_distributed(encoder()), nn.dense(64), nn.relu, nn.global_avg_pool(), nn.dense(outputs))
    return nn.serial(lambda x: x[:, FRAMES // 2], encoder(), nn.dense(64), nn.relu, nn.dense(outputs))


def predictor() -> nn.Layer:
    """Frames [n, t, side, side, 1] -> the next of each; the convolutional LSTM adds the change, on patches."""
    change = nn.serial(nn.conv_lstm(48, 3), nn.time_distributed(nn.conv(16, 1, w_init=nn.init.zeros)))
    patches, pixels = nn.time_distributed(nn.space_to_depth(4)), nn.time_distributed(nn.depth_to_space(4))
    return nn.residual(nn.serial(patches, change, pixels))


def both(logits: jax.Array, y: jax.Array) -> jax.Array:
    """Loss of direction and class."""
    of = nn.losses.softmax_cross_entropy
    return of(logits[:, : len(MOVES)], y[:, 0]) + of(logits[:, len(MOVES) :], y[:, 1])


def learn(model: nn.Layer, loss: Any, made: Callable[..., Any], steps: int, key: jax.Array, data: Any) -> jax.Array:
    """Outputs for the test clips after training on clips made of the garments."""
    garments, test = data
    chosen = jax.random.choice(key, len(garments[0]), (steps * BATCH,), replace=steps * BATCH > len(garments[0]))
    trainer = nn.trainer(model, loss, nn.adam(optax.cosine_decay_schedule(RATE, steps)))
    train = jax.tree.map(lambda a: a[chosen], garments)
    ts = nn.fit(trainer, key, train, epochs=1, batch_size=BATCH, augment=made).ts
    return jax.lax.map(lambda x: model.apply(ts.params, ts.state, x[None])[0][0], test, batch_size=100)


def sweep(*given: Any, data: Any) -> np.ndarray:
    """Outputs of all seeds [seeds, n, ...], which run in turn, each on all cores."""
    keys = jax.random.split(jax.random.key(0), SEEDS)
    return np.asarray(nn.sweep(partial(learn, *given), keys, data, strategy="map").results)


def report(name: str, answers: list[np.ndarray], y: np.ndarray) -> float:
    """Prints accuracies over the seeds, of the direction and maybe the class [seeds, n], and returns the first one."""
    right = [np.mean(answer == truth, 1) for answer, truth in zip(answers, y.T, strict=False)]
    print(f"{name:28}" + "".join(f"{spread(values):>14}" for values in right), flush=True)
    return float(right[0].mean())


def picture(
    path: Path, x: np.ndarray, y: np.ndarray, logits: dict[str, np.ndarray], rows: list[np.ndarray], names: Any
) -> None:
    """Test clips with the answers of the LRCN, directions predicted and true, and predicted frames."""
    figure, axes = subplots(2, 2, (15, 9), width_ratios=(1, 1.2), height_ratios=(1.5, 1))
    (strip, tables), (scene, errors) = axes
    arrows, clip_rows, far = "→↘↓↙←↖↑↗", 7, SIDE + 2
    strip.imshow(sheet(list(x[:clip_rows].reshape(-1, SIDE, SIDE)), FRAMES), cmap="gray", vmin=-0.3, vmax=1.2)
    for i, row in enumerate(logits[LRCN][0, :clip_rows]):
        answer = f"{arrows[row[: len(MOVES)].argmax()]} {names[row[len(MOVES) :].argmax()]}"
        is_right = answer == f"{arrows[y[i, 0]]} {names[y[i, 1]]}"
        answer += "" if is_right else f"\nis {arrows[y[i, 0]]} {names[y[i, 1]]}"
        strip.text(far * FRAMES + 3, far * (i + 0.5), answer, va="center", color="k" if is_right else "tab:red")
    strip.set_title("test clips, and the answers of the LRCN", loc="left", fontsize=11)

    table = np.full((len(MOVES), 9 * len(logits) - 1), np.nan)
    for k, seeds in enumerate(logits.values()):
        for true in range(len(MOVES)):
            answers = seeds[:, y[:, 0] == true, : len(MOVES)].argmax(-1).ravel()
            table[true, 9 * k : 9 * k + 8] = np.bincount(answers, minlength=8) / len(answers)
    figure.colorbar(
        tables.imshow(table, cmap="Blues", vmin=0, vmax=1), ax=tables, shrink=0.5, label="fraction of clips"
    )
    ticks = np.concatenate([np.arange(8) + 9 * k for k in range(len(logits))])
    tables.set_xticks(ticks, list(arrows) * len(logits))
    tables.set_yticks(np.arange(8), list(arrows))
    for k, kind in enumerate(logits):
        tables.text(9 * k + 3.5, -0.8, kind, ha="center")
    tables.set(xlabel="predicted direction", ylabel="true direction")

    many = 8
    scene.imshow(sheet([frame for row in rows for frame in row[:many]], many), cmap="gray", vmin=0, vmax=1)
    scene.set_yticks(far * (np.arange(len(rows)) + 0.5), ["last seen", "next", "predicted"])
    scene.set_title("the next frame of two garments, by the convolutional LSTM", loc="left", fontsize=11)
    last, following, predicted = rows
    change = np.stack([((a - following) ** 2).mean((1, 2)) for a in (last, predicted)])
    errors.plot([0, change[0].max()], [0, change[0].max()], color="0.6", lw=1)
    errors.plot(*change, ".", ms=4)
    errors.set(xlabel="squared error of the last frame seen", ylabel="of the prediction", title="each test clip")
    for a in (strip, scene):
        a.set_xticks([])
        a.tick_params(length=0)
        a.spines[:].set_visible(False)
    strip.set_yticks([])
    tables.spines[:].set_visible(False)
    figure.savefig(path, dpi=90)


def main() -> None:
    """Trains all networks on training garments, judges them on test garments, and draws the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    nn.reuse_memory()  # before the first computation: keeps the memory of intermediate values
    out, took = folder(), clock()
    fashion = nn.data.load("fashion_mnist")
    garments, tested = ((small(x), y) for x, y in (fashion.train, (a[:TEST] for a in fashion.test)))
    x, y = (np.asarray(a) for a in jax.jit(clips)(jax.random.key(1), tested))
    print(f"{TEST} test clips, {SEEDS} seeds       direction, %      class, %")
    logits, right = {}, {}
    for kind in (LRCN, UNORDERED, SINGLE):
        logits[kind] = sweep(network(kind), both, clips, STEPS, data=(garments, x))
        answers = [part.argmax(-1) for part in np.split(logits[kind], [len(MOVES)], -1)]
        right[kind] = report(kind, answers, y)
    ways = direction(shift(x[:, -1, ..., 0], x[:, 0, ..., 0]))
    right[REGISTERED] = report(REGISTERED, [ways[None]], y)

    seen, following = (np.asarray(a) for a in jax.jit(pairs)(jax.random.key(2), tested))
    predicted = sweep(predictor(), nn.losses.squared_error, pairs, PREDICTED, data=(garments, seen))
    before, last, following = seen[:, -2, ..., 0], seen[:, -1, ..., 0], following[:, -1, ..., 0]
    predicted = predicted[:, :, -1, ..., 0]
    moved = np.stack([np.roll(a, s.astype(int), (0, 1)) for a, s in zip(last, shift(last, before), strict=True)])
    copied = ((last - following) ** 2).mean()
    ratios = ((predicted - following) ** 2).mean((1, 2, 3)) / copied
    as_moved = ((moved - following) ** 2).mean() / copied
    print(f"error of the next frame over that of the last frame: convolutional LSTM {ratios.mean():.3f} ± "
          f"{ratios.std(ddof=1):.3f}, last frame moved as before {as_moved:.3f}")  # fmt: skip
    picture(out / "video.png", x, y, logits, [last, following, predicted[0]], fashion.classes)
    print(f"{took()}; the picture is {out / 'video.png'}")

    chance = 1 / len(MOVES)
    assert abs(right[SINGLE] - chance) < FAR, "a single frame tells the direction"
    assert ratios.mean() < MOST_ERROR, "the convolutional LSTM is little better than the last frame"
    if not SHORT:
        assert right[LRCN] > right[UNORDERED] + LEAST_GAIN, "the LRCN gains little from the order of the frames"
        assert right[LRCN] > right[REGISTERED] + LEAST_GAIN, "the LRCN is little better than registration"
        assert ratios.mean() < as_moved, "the convolutional LSTM is no better than the last frame moved as before"


if __name__ == "__main__":
    main()
