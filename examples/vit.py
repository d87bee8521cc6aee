"""A vision transformer and a CNN of equal cost on Fashion-MNIST, and the attention of the transformer on the images.

    python examples/vit.py [folder for the picture, by default out] [--seeds=3] [--short]

The CNN has six convolutions with batch norm. The ViT has two blocks of two heads on 7×7 patches of 4×4 pixels, and
classifies by its class token. Its size is chosen such that a training step takes as much processor time as that of the
CNN (57 and 60 ms), so equal steps are equal training time. Both take 3 epochs of all 60 000 images with AdamW and a
one-cycle schedule.

After equal steps the CNN has 90.8 ± 0.1 % of the 10 000 test images, the ViT 84.7 ± 0.6 % (three seeds). One seed of
both takes 191 s of processors with the costs of a step. The rates were chosen by one epoch as a whole schedule on
50 000 of the training images, judged on the other 10 000, where the CNN leads by six points, too:

    peak rate of the ViT     1.5e-3   80.9     3e-3   81.8     6e-3   82.1
    peak rate of the CNN       5e-3   87.6     1e-2   87.8     2e-2   88.1

A convolution assumes that neighbours belong together and that a feature means the same at every place. Attention has to
learn both from the images, and these are few for it: in the paper ViTs equal CNNs after training on 14 to 300 million.

Dosovitskiy et al., An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale, 2020, arXiv:2010.11929.
Xiao, Rasul, Vollgraf, Fashion-MNIST, 2017, arXiv:1708.07747: the data.
"""

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _pictures import SHORT, band, clock, folder, option, spread, subplots

import jaxnn as nn

SEEDS = int(option("seeds", 1))
IMAGES = 2000 if SHORT else 60_000
PATCH = 4  # 7×7 patches
LAYERS, HEADS, FEATURES, HIDDEN = 2, 2, 48, 96  # a step then costs about that of the CNN
CHANNELS = 24  # of the CNN at 14×14 pixels, twice as many at 7×7
EPOCHS = 1 if SHORT else 3
BATCH = 128
RATES = {"CNN": 2e-2, "ViT": 6e-3}  # of AdamW, at the peak of a one-cycle schedule: the best of three on other images
DECAY = 0.05
LOSS = nn.losses.softmax_cross_entropy
METRICS = {"accuracy": nn.metrics.accuracy}
TIMED = 2 if SHORT else 10  # steps of a measurement
LEAD = 0.02  # least lead of the CNN at equal training time


def unit(features: int, kernel_size: int = 3) -> nn.Layer:
    """Convolution, batch norm and relu."""
    return nn.serial(nn.conv(features, kernel_size, bias=False), nn.batch_norm(), nn.relu)


def networks() -> dict[str, nn.Layer]:
    """The CNN, of six convolutions, and the ViT, which classifies by its class token."""
    c = CHANNELS
    low, high = [unit(c), unit(c), unit(c), nn.max_pool(2)], [unit(2 * c, 1), unit(2 * c), unit(2 * c)]
    cnn = nn.serial(nn.space_to_depth(2), *low, *high, nn.global_avg_pool(), nn.dense(10))
    vit = nn.models.vit(PATCH, classes=10, features=FEATURES, layers=LAYERS, heads=HEADS, hidden=HIDDEN)
    return {"CNN": cnn, "ViT": vit}


def trainer(name: str, model: nn.Layer, steps: int) -> nn.Trainer:
    """AdamW with a one-cycle schedule."""
    schedule = optax.cosine_onecycle_schedule(steps, RATES[name])
    return nn.trainer(model, LOSS, nn.adamw(schedule, weight_decay=DECAY), metrics=METRICS)


def costs(train: tuple) -> dict[str, float]:
    """Milliseconds of processors for a step of each network: medians of measurements that alternate."""
    batch, programs = jax.tree.map(lambda a: a[:BATCH], train), {}
    for name, model in networks().items():
        made = trainer(name, model, TIMED)
        ts = made.init(jax.random.key(0), batch)
        loop = lambda ts, b, step=made.step: jax.lax.fori_loop(0, TIMED, lambda _, ts: step(ts, b)[0], ts)  # noqa: E731
        programs[name] = jax.jit(loop, compiler_options=nn.compiler_options()), ts
        jax.block_until_ready(programs[name][0](ts, batch))  # compiles
    used: dict[str, list] = {name: [] for name in programs}
    for _ in range(5):
        for name, (program, ts) in programs.items():
            begun = time.process_time()
            jax.block_until_ready(program(ts, batch))
            used[name].append(1e3 * (time.process_time() - begun) / TIMED)
    return {name: float(np.median(t)) for name, t in used.items()}


def attention(model: nn.Layer, run: nn.Run, x: jax.Array) -> np.ndarray:
    """Attention of the class token to the patches: rollout, then each head of the last block, [n, 1 + heads, r, c]."""
    path, of = f"block{LAYERS}/attention/weights", (run.ts.params, run.ts.state, x)
    (_, inner), _ = nn.capture(model, path).apply(*of)
    found = jnp.concatenate([nn.explain.attention_rollout(model, *of)[:, None], inner[path]], axis=1)
    return np.asarray(found[:, :, 0, 1:]).reshape(len(x), 1 + HEADS, x.shape[1] // PATCH, -1)


def picture(path: Path, history: dict, x: np.ndarray, maps: np.ndarray, names: list[str]) -> None:
    """Test accuracy by epoch, and images, two a row, under the rollout of attention and the attention of each head."""
    titles = ["image", "rollout", *(f"attention, head {k + 1}" for k in range(HEADS))]
    wide, rows = len(titles), len(x) // 2
    figure, axes = subplots(rows, 2 * wide + 1, (20, 2.25 * rows), width_ratios=[2.4, *[1] * 2 * wide])
    for place in axes[:, 0]:
        place.remove()
    left = figure.add_subplot(axes[0, 0].get_gridspec()[:, 0])
    for (name, curves), colour in zip(history.items(), ("tab:blue", "tab:orange"), strict=True):
        curves = 100 * np.stack(curves)
        band(left, 1 + np.arange(curves.shape[1]), curves, name, colour, marker="o")
    left.set(xlabel="epoch, of equal cost in both", ylabel="test accuracy, %")
    left.set_title("CNN and ViT on Fashion-MNIST", fontsize=11)
    left.set_xticks(1 + np.arange(EPOCHS))
    left.grid(alpha=0.3)
    left.legend(loc="lower right")
    for i, (image, heads) in enumerate(zip(x[..., 0], maps, strict=True)):
        places = axes[i // 2, 1 + i % 2 * wide : 1 + (i % 2 + 1) * wide]
        for k, place in enumerate(places):
            place.imshow(image, cmap="gray_r", vmin=0, vmax=1)
            place.set(xticks=[], yticks=[])
            if k:
                strength = np.kron(heads[k - 1] / heads[k - 1].max(), np.ones((PATCH, PATCH)))
                place.imshow(np.full_like(image, 0.8), cmap="Reds", vmin=0, vmax=1, alpha=0.75 * strength)
            if i < 2:
                place.set_title(titles[k], fontsize=10)
        places[0].set_ylabel(names[i], fontsize=10)
    figure.savefig(path, dpi=90)


def main() -> None:
    """Measures the cost of a step, trains both networks, prints their accuracies and draws the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    nn.reuse_memory()  # before the first computation: keeps the memory of intermediate values
    out, took = folder(), clock()
    fashion = nn.data.load("fashion_mnist")
    train, test = jax.tree.map(jnp.asarray, (fashion.train, fashion.test))
    step = costs(train)
    ratio = step["ViT"] / step["CNN"]
    print("processor time of a step: " + ", ".join(f"{k} {v:.1f} ms" for k, v in step.items()) + f"; ratio {ratio:.2f}")

    train, models = jax.tree.map(lambda a: a[:IMAGES], train), networks()
    history: dict[str, list] = {name: [] for name in models}
    for name, model in models.items():
        made = trainer(name, model, EPOCHS * len(train[0]) // BATCH)
        for seed in range(SEEDS):
            used = time.process_time()
            run = nn.drive(made, jax.random.key(seed), train, test, epochs=EPOCHS, batch_size=BATCH)
            history[name].append(np.asarray(run.history["valid"]["accuracy"]))
            print(f"{name}, seed {seed}: {history[name][-1][-1]:.2%}, {time.process_time() - used:.0f} s of processors")
    chosen = np.array([np.flatnonzero(fashion.test[1] == k)[0] for k in (1, 3, 5, 7, 8, 9)])
    names = [fashion.classes[k] for k in fashion.test[1][chosen]]
    maps = attention(models["ViT"], run, test[0][chosen])
    picture(out / "vit.png", history, fashion.test[0][chosen], maps, names)

    last = {name: np.array([curve[-1] for curve in curves]) for name, curves in history.items()}
    print("test accuracy: " + ", ".join(f"{name} {spread(values)}" for name, values in last.items()))
    print(f"{took()}; the picture is {out / 'vit.png'}")
    if not SHORT:
        assert last["CNN"].mean() > last["ViT"].mean() + LEAD, "the CNN is not ahead by as much"


if __name__ == "__main__":
    main()
