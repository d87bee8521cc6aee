"""Transfer learning: EfficientNet-Lite0 with its ImageNet weights on twelve surfaces, from 1 to 16 crops of each.

    python examples/transfer.py [folder for the picture, by default out] [--short]

The class of a crop is its photo, of scikit-image. Training crops are from the left half and test crops from the right
half, with a gap between them. Crops are grey, tilted, of random size and equal contrast: colour and brightness do not
tell the class. On this set the comparison is open: training from scratch is far from chance, 8 %, and from 100 %.

The features of the frozen network are computed once, and a logistic classifier on them is trained to its minimum.
Fine-tuning starts from it and trains more and more blocks at a lower rate, with all batch norms at rest. LoRA trains
changes of rank 4 of the pointwise convolutions in the last five blocks. No method augments the crops. Accuracy on 384
test crops, mean ± deviation of five seeds, by training crops of each surface:

                                     params trained            1            4           16
    small network from scratch               98 940   54.1 ± 6.2   75.1 ± 2.4   84.2 ± 0.7
    logistic classifier on features          15 372   80.1 ± 2.5   86.4 ± 2.1   91.4 ± 1.4
    last block fine-tuned                 1 032 972   78.8 ± 5.9   86.8 ± 1.4   90.8 ± 1.2
    last five blocks fine-tuned           2 685 612   77.9 ± 2.1   86.8 ± 2.8   91.6 ± 1.5
    all blocks fine-tuned                 3 386 380   76.7 ± 5.7   86.9 ± 4.4   90.5 ± 1.4
    LoRA in the last five blocks             65 484   83.7 ± 4.2   88.5 ± 1.9   91.6 ± 1.5

The classifier on features is better than training from scratch on four times as many crops. On so few crops
fine-tuning at this rate adds nothing to it that exceeds the spread of the seeds. LoRA (`nn.lora`) adds 4, 2 and 0
points. The rates are not swept, so the table does not compare fine-tuning and LoRA at their best.

Yosinski, Clune, Bengio, Lipson, How transferable are features in deep neural networks?, 2014, arXiv:1411.1792.
Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021, arXiv:2106.09685.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _pictures import SHORT, folder, subplots
from _surfaces import SIDE, SURFACES, crops

import jaxnn as nn

CORES = 2  # as many runs at a time
SEEDS = 1 if SHORT else 5  # each draws other training crops; the test crops are the same
SIZES = (4,) if SHORT else (1, 4, 16)  # training crops of each surface; fewer are repeated to as many as the most
LOSS = nn.losses.softmax_cross_entropy
TEST_SEED, TESTED = 1000, 32  # test crops of each surface
BATCH = 16
SCRATCH_EPOCHS, SCRATCH_RATE = 10, 3e-3  # 120 steps; on other crops 1e-3 and 1e-2 are at most 2 points better
EPOCHS = 3  # of fine-tuning, 36 steps
HEAD_RATE, RATE, LORA_RATE = 1e-3, 5e-4, 3e-3  # of the head, of pretrained weights (nearly right) and of LoRA
PENALTY = nn.regularizers.l2(1e-3)  # of the logistic classifier; from 1e-4 to 1e-1 accuracies differ by 1 point
RANK = 4  # of LoRA
ADAPTED = [f"stage{7 if SHORT else '[67]'}/*/{name}/conv/w" for name in ("expand", "project")]  # the last five blocks
FROZEN = {"last block": ["body/stem/*", "body/stage[1-6]/*"]}  # what is fine-tuned -> what is not
if not SHORT:
    FROZEN |= {"last five blocks": ["body/stem/*", "body/stage[1-5]/*"], "all blocks": []}
SCRATCH, LOGISTIC, LORA = "from scratch", "logistic on features", "LoRA"
LEAST_GAIN = 0.05  # of the logistic classifier over training from scratch, 4 crops of each; on other crops about 0.1


class Point(NamedTuple):
    """One run: its key, its training crops, and the head that fine-tuning starts from."""

    key: Any
    crops: Any
    head: Any = None


class Result(NamedTuple):
    """Accuracy on the test crops, the trained head, the number of trained params, and if the state is as before."""

    accuracy: Any
    head: Any
    trained: Any
    at_rest: Any


def rgb(x: jax.Array) -> jax.Array:
    """[n, side, side, 1] -> [n, side, side, 3]"""
    return jnp.repeat(x, 3, -1)


def learn(model: nn.Layer, trainer: nn.Trainer, point: Point, data: Any, start: Any = ({}, {}), **how: Any) -> Result:
    """A run on the crops of a point, from the params and state in `start`, or random ones where it has none."""
    (x, y), (x_test, y_test) = data
    chosen = x[point.crops], y[point.crops]
    ts = nn.fit(trainer, point.key, chosen, params=start[0], state=start[1], **how).ts
    accuracy = nn.metrics.accuracy(model.apply(ts.params, ts.state, x_test)[0], y_test).mean()
    gradients = jax.tree.leaves(jax.eval_shape(trainer.gradients, ts, chosen))  # those of frozen params are absent
    same = [jnp.array_equal(*pair) for pair in zip(jax.tree.leaves(start[1]), jax.tree.leaves(ts.state), strict=False)]
    return Result(accuracy, ts.params.get("head"), jnp.asarray(sum(g.size for g in gradients)), jnp.array(same).all())


def falling(rate: float, epochs: int, point: Point) -> optax.GradientTransformation:
    """Adam with a rate that falls to 0 along a cosine."""
    return nn.adam(optax.cosine_decay_schedule(rate, epochs * len(point.crops) // BATCH))


def from_scratch(point: Point, data: Any) -> Result:
    """A small network, as suits so few crops."""
    blocks = [(nn.conv(f, 3, bias=False), nn.batch_norm(), nn.relu, nn.max_pool(2)) for f in (16, 32, 64, 128)]
    model = nn.serial(*(part for block in blocks for part in block), nn.global_avg_pool(), nn.dense(len(SURFACES)))
    trainer = nn.trainer(model, LOSS, falling(SCRATCH_RATE, SCRATCH_EPOCHS, point))
    return learn(model, trainer, point, data, epochs=SCRATCH_EPOCHS, batch_size=BATCH)


def logistic(point: Point, data: Any) -> Result:
    """Logistic regression on features: a linear layer, trained by L-BFGS on all crops at once."""
    model = nn.serial(nn.dense(len(SURFACES), w_init=nn.init.zeros, name="head"))
    return learn(model, nn.trainer(model, LOSS, optax.lbfgs(), regularizer=PENALTY), point, data, epochs=100)


def tuned(body: nn.Layer, frozen: Any, rate: float, point: Point, weights: tuple, data: Any) -> Result:
    """Fine-tuning of body and head, which is that of the logistic classifier; all batch norms are at rest."""
    model = nn.serial(rgb, nn.inference(body), nn.dense(len(SURFACES), name="head"))
    optimizer = nn.by_path({"head/*": falling(HEAD_RATE, EPOCHS, point), "*": falling(rate, EPOCHS, point)})
    trainer = nn.trainer(model, LOSS, optimizer, frozen=frozen)
    start = {"body": weights[0], "head": point.head}, {"body": weights[1]}
    return learn(model, trainer, point, data, start, epochs=EPOCHS, batch_size=BATCH)


def sweep(name: str, run: Any, points: Point, *shared: Any) -> Result:
    """All runs as one program, shared out to the cores."""
    began = time.perf_counter()
    found = jax.tree.map(np.asarray, nn.sweep(run, points, *shared, strategy="shard", chunk=1).results)
    accuracy = found.accuracy.reshape(SEEDS, len(SIZES))
    row = "".join(f"{a.mean():8.1%} ± {a.std():5.1%}" for a in accuracy.T)
    print(f"{name:24}{found.trained[0]:12,}{row}{time.perf_counter() - began:8.0f} s", flush=True)
    assert found.at_rest.all(), f"{name}: statistics of a batch norm have changed"
    return found._replace(accuracy=accuracy)


def picture(path: Path, found: dict[str, Result], train: Any, test: Any) -> None:
    """Accuracy by the number of training crops, mean and range of the seeds; and crops of each surface."""
    figure, (left, right) = subplots(1, 2, (13, 6), width_ratios=(1.4, 1))
    colours = ["0.4", *(f"C{i}" for i in range(len(found) - 1))]
    for (name, of), colour in zip(found.items(), colours, strict=True):
        style, label = "--" if name == SCRATCH else "-", f"{name}: {of.trained[0]:,} params trained"
        left.plot(SIZES, of.accuracy.mean(0), style, marker="o", ms=4, color=colour, label=label)
        if name in (SCRATCH, LOGISTIC):
            left.fill_between(SIZES, of.accuracy.min(0), of.accuracy.max(0), color=colour, alpha=0.15, lw=0)
    left.set(xscale="log", xlabel="training crops of each surface", ylabel="accuracy on the other halves of the photos")
    left.set_ylim(0.4, 1)
    left.set_xticks(SIZES, labels=[str(size) for size in SIZES])
    left.minorticks_off()
    left.grid(alpha=0.3)
    left.legend(fontsize=9, loc="lower right")

    kinds, gap = len(SURFACES), 5
    frame = ((0, 0), (0, gap), (0, gap))
    columns = [half[0][k * kinds : (k + 1) * kinds, ..., 0] for half in (train, test) for k in range(4)]
    cells = [np.pad(c, frame, constant_values=9).reshape(-1, SIDE + gap) for c in columns]
    cells.insert(4, np.full((len(cells[0]), 4 * gap), 9.0))
    right.imshow(np.concatenate(cells, 1), cmap="gray", vmin=-1.2, vmax=1.2)
    right.set_yticks((np.arange(kinds) + 0.5) * (SIDE + gap), labels=list(SURFACES.values()))
    halves = np.array([2, 6]) * (SIDE + gap) + np.array([0, 4 * gap])
    right.set_xticks(halves, labels=["left halves: training", "right halves: test"])
    right.xaxis.tick_top()
    right.tick_params(length=0)
    right.spines[:].set_visible(False)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Runs all methods over sizes and seeds, prints the table and draws the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    nn.cores_as_devices(CORES)
    out = folder()
    start, most = time.perf_counter(), max(SIZES)
    train = jax.tree.map(lambda *a: np.concatenate(a), *(crops(seed, "train", most) for seed in range(SEEDS)))
    test = crops(TEST_SEED, "test", TESTED)

    checkpoint, shape = nn.interop.fetch("efficientnet_lite0"), jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
    params, state = nn.interop.load(nn.models.efficientnet("lite0"), shape, checkpoint.path, names=checkpoint.names)
    del params["head"]
    body = nn.models.efficientnet("lite0", classes=None, name="body")  # without its head: [n, 1280]
    data, extractor = (train, test), nn.serial(rgb, body)
    weights = {"body": params}, {"body": state}
    features = tuple((nn.predict(extractor, *weights, x, batch_size=64), y) for x, y in data)

    whole = most * len(SURFACES)  # crops of a seed; the first n of each surface, repeated: one program for all sizes
    chosen = [np.resize(np.arange(n * len(SURFACES)), whole) + i * whole for i in range(SEEDS) for n in SIZES]
    points = Point(jax.random.split(jax.random.key(0), len(chosen)), jnp.asarray(np.stack(chosen)))
    print(f"{'training crops of each':24}{'trained':>12}" + "".join(f"{n:>16}" for n in SIZES))
    found = {SCRATCH: sweep(SCRATCH, from_scratch, points, data)}
    found[LOGISTIC] = sweep(LOGISTIC, logistic, points, features)
    points = points._replace(head=found[LOGISTIC].head)
    for name, frozen in FROZEN.items():
        found[name] = sweep(name, partial(tuned, body, frozen, RATE), points, (params, state), data)
    run = partial(tuned, nn.lora(body, rank=RANK, where=ADAPTED), "body/base/*", LORA_RATE)
    found[LORA] = sweep(LORA, run, points, ({"base": params}, state), data)

    picture(out / "transfer.png", found, *data)
    print(f"{time.perf_counter() - start:.0f} s, compile included; the picture is {out / 'transfer.png'}")
    means = {name: of.accuracy.mean(0) for name, of in found.items()}
    few = SIZES.index(4)
    assert means[LOGISTIC][few] > means[SCRATCH][few] + LEAST_GAIN, "below the figure that this example stands for"


if __name__ == "__main__":
    main()
