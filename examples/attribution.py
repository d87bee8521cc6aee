"""Attributions of two trained networks: maps of every method, random weights, and the pointing game.

    python examples/attribution.py [folder for the picture, by default out] [--short]

Each canvas of 64×64 has four garments of Fashion-MNIST, one a quadrant. A small network is trained to tell which of the
ten classes are on it, without their places. The explained class is on the canvas once. In the pointing game a method
hits if the maximum of its map is on this garment, or at most three pixels away. Maps of pixels are averaged over 7×7
pixels. A random pixel, the centre of the canvas, Sobel's edges and the brightest region (scikit-image) know nothing of
the class: the brightest region is on one of four garments.

The cascade replaces the params of the network by random ones, from the last layer down, and compares the maps with
those of the trained network by rank correlation. A map that stays similar shows the image more than the network.

Hits on 48 canvases in percent, mean ± deviation of three networks, which find 51.4 ± 4.8 % of the explained classes;
and the mean similarity with a random last layer (dense), with the last two random, and so on:

                                    hits    dense   conv_2   conv_1     conv
    random pixel                    18.8
    centre                           0.0
    edges (Sobel)                   10.4
    brightest region                27.1
    saliency                  60.4 ± 7.2     0.60     0.22     0.14     0.10
    input_x_gradient          76.4 ± 4.8     0.04    -0.01    -0.03     0.00
    smooth_grad               61.8 ± 6.7     0.56     0.22     0.12     0.08
    integrated_gradients      77.8 ± 6.4     0.04    -0.02    -0.04     0.00
    guided_backprop           72.9 ± 8.3     0.45     0.22     0.12     0.11
    deconvnet                 72.2 ± 9.4     0.40     0.19     0.08     0.09
    grad_cam                 61.8 ± 15.6     0.17    -0.07    -0.02    -0.02
    grad_cam_plus_plus        54.9 ± 7.9     0.43    -0.07    -0.09    -0.09
    score_cam                 33.3 ± 5.5     0.90    -0.01    -0.05    -0.03
    occlusion                 55.6 ± 7.3     0.10     0.00     0.01    -0.05
    shapley_values            54.9 ± 6.4     0.06    -0.03    -0.01    -0.01

Ten methods find the class by more than 25 points better than the brightest region (the margin, fixed before the run, is
20 for occlusion). Score-CAM hardly depends on the last layer: the scores of the masked canvases are so close that its
weights are nearly equal. Unsigned gradients depend less on the last layer than signed ones do: they show where an edge
is, and not for which class it counts.

The photos are explained for the best class of EfficientNet-Lite0, whose weights are read without PyTorch.

Zhang, Lin, Brandt, Shen, Sclaroff, Top-Down Neural Attention by Excitation Backprop, 2016, arXiv:1608.00507.
Adebayo et al., Sanity Checks for Saliency Maps, 2018, arXiv:1810.03292.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _canvases import mosaic
from _maps import BRIGHTEST, Maps, baselines, methods, similarity
from _pictures import SHORT, clock, folder, spread, subplots
from imagenet import photos, square

import jaxnn as nn
from jaxnn import explain

nn.reuse_memory()
SEEDS = 1 if SHORT else 3
STEPS, BATCH = (60, 32) if SHORT else (800, 32)  # each step has new canvases
RATE = 3e-3  # of Adam, falling to 0 along a cosine
TEST = 16 if SHORT else 48  # canvases of the pointing game and of the cascade
NEAR = 3  # pixels that a hit may be away from the garment
LAST = "relu_2"  # layer of the class activation maps, 16×16
LAYERS = ("dense", "conv_2", "conv_1", "conv")  # in the order of the cascade
PHOTOS = ("coffee",) if SHORT else ("coffee", "chelsea")
QUICK = "saliency", "guided_backprop", "grad_cam", "occlusion"  # methods for photos, and in the short run
LEAST_GAIN = 0.2  # hits of occlusion over those of the brightest region, which is on one of four garments
LEAST_KEPT = 0.1  # similarity of guided_backprop with a random last layer over that of occlusion
SHOWN = 0, 14  # canvases in the picture
KEY = jax.random.key(0)


def training(key: jax.Array, batch: tuple) -> tuple[jax.Array, jax.Array]:
    """Canvases, and 1 for each class that is on them, [n, 10]."""
    x, true = mosaic(key, batch)
    return x, jax.nn.one_hot(true["classes"], 10).max(1)


def tested(garments: tuple) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Canvases, a class that is on them once, and the mask of its garment, in each quadrant equally often."""
    x, true = jax.tree.map(np.asarray, jax.jit(mosaic)(jax.random.key(1), garments))
    quadrant, each = np.arange(len(x)) % 4, np.arange(len(x))
    target = true["classes"][each, quadrant]
    once = (true["classes"] == target[:, None]).sum(1) == 1
    return x[once][:TEST], target[once][:TEST], true["masks"][each, quadrant][once][:TEST]


def network() -> nn.Layer:
    """Canvases -> logits of the ten classes, several of which may be true."""
    convolutions = (part for features in (24, 48, 48) for part in (nn.conv(features, 3), nn.relu, nn.max_pool(2)))
    return nn.serial(nn.space_to_depth(2), *convolutions, nn.global_max_pool(), nn.dense(10))


def learn(garments: tuple, key: jax.Array) -> tuple[Any, Any]:
    """Params and state after training."""
    schedule = optax.cosine_decay_schedule(RATE, STEPS)
    trainer = nn.trainer(network(), nn.losses.binary_cross_entropy, nn.adam(schedule))
    ts = nn.fit(trainer, key, garments, epochs=1, batch_size=BATCH, augment=training).ts
    return ts.params, ts.state


def by_seed(seeds: Any) -> list[Any]:
    """Params and state of each seed."""
    return [jax.tree.map(lambda a, i=i: a[i], seeds) for i in range(SEEDS)]


def cascade(model: Any, params: Any, x: np.ndarray, key: jax.Array) -> list[Any]:
    """Params as trained, and with more and more layers randomized, from the last one down."""
    down_to = ([f"{name}/*" for name in LAYERS[: i + 1]] for i in range(len(LAYERS)))
    return [params, *(explain.randomized(model, params, key, x, where) for where in down_to)]


def explained_photos() -> list[tuple[np.ndarray, str, Maps]]:
    """Photo, its class and the maps of EfficientNet-Lite0 for it."""
    images = [np.asarray(square(image), np.float32) for name, image in photos([]).items() if name in PHOTOS]
    x = (jnp.stack(images) - 127) / 128
    checkpoint, model = nn.interop.fetch("efficientnet_lite0"), nn.models.efficientnet("lite0")
    params, state = nn.interop.load(model, x, checkpoint.path, names=checkpoint.names)
    best = np.asarray(nn.predict(model, params, state, x)).argmax(1)
    patches = np.kron(np.arange(49).reshape(7, 7), np.ones((32, 32), int))
    of, maps = methods("stage7", 64, patches, KEY), {}
    for name in QUICK:
        maps[name] = np.asarray(of[name](model, params, state, x, best))
        print(f"photos, {name}", flush=True)
    each = [{name: m[i] for name, m in maps.items()} for i in range(len(images))]
    return [(image / 255, checkpoint.classes[c], m) for image, c, m in zip(images, best, each, strict=True)]


def picture(path: Path, shown: list[tuple[np.ndarray, str, Maps]], curves: Maps, hits: Maps) -> None:
    """Images with the maps of each method, the cascade, and hit rates of the pointing game."""
    names = list(curves)
    figure, axes = subplots(len(shown) + 2, len(names) + 1, (max(2 * len(names) + 2, 14), 2.1 * len(shown) + 4.5))
    grid = axes[0, 0].get_gridspec()
    for place in axes.flat:
        place.set_axis_off()
    for row, (image, label, maps) in zip(axes, shown, strict=False):
        row[0].imshow(image, cmap="gray", vmin=0, vmax=1)
        row[0].set_title(label, fontsize=11)
        for place, name in zip(row[1:], names, strict=True):
            if name in maps:
                grey = image if image.ndim == 2 else image.mean(-1)
                place.imshow(grey, cmap="gray", vmin=-0.3, vmax=1.6)
                place.imshow(np.maximum(maps[name], 0), cmap="inferno", alpha=0.75)
                place.set_title(name.replace("_", " ").replace("plus plus", "++"), fontsize=9)
    left, right = (
        figure.add_subplot(grid[-2:, part]) for part in (slice(0, len(axes[0]) // 2), slice(len(axes[0]) // 2, None))
    )
    steps = ("none", *LAYERS)
    for i, (name, of) in enumerate(curves.items()):
        left.plot(np.mean(of, 0), color=f"C{i % 10}", label=name, marker="o", ls="-" if i < 10 else "--")
    left.set(
        xticks=range(len(steps)), xticklabels=steps, ylabel="rank correlation with the maps of the trained network"
    )
    left.set_xlabel("randomized down to this layer")
    left.legend(fontsize=8, ncols=2)
    order = sorted(hits, key=lambda name: np.mean(hits[name]))
    means, spreads = ([100 * f(hits[name]) for name in order] for f in (np.mean, np.std))
    right.barh(order, means, xerr=spreads, color=["tab:blue" if name in curves else "0.6" for name in order])
    for i, name in enumerate(order):
        right.text(99, i, name.replace("_", " "), ha="right", va="center", fontsize=9)
    right.set(xlabel="pointing game: maxima on the garment of the explained class, %", xlim=(0, 100), yticks=[])
    for place in (left, right):
        place.grid(alpha=0.3)
    figure.savefig(path, dpi=70)


def main() -> None:
    """Trains, plays the pointing game, randomizes layers, explains photos, prints the tables and draws the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    out, took = folder(), clock()
    data = nn.data.load("fashion_mnist")
    train, test = (jax.tree.map(jnp.asarray, part) for part in data[:2])
    x, target, masks = tested(jax.tree.map(lambda a: a[: 3 * TEST], test))
    garments = jax.tree.map(lambda a: a[: STEPS * BATCH], train)
    seeds = nn.sweep(partial(learn, garments), jax.random.split(KEY, SEEDS), strategy="map").results
    model, patches = network(), np.kron(np.arange(64).reshape(8, 8), np.ones((8, 8), int))
    found = [(nn.predict(model, *of, x) > 0)[np.arange(len(x)), target].mean() for of in by_seed(seeds)]
    print(f"explained classes found by the network: {spread(found)} %; {took()}", flush=True)

    point = partial(explain.pointing_game, masks=masks, tolerance=NEAR)
    hits = {name: [float(point(jnp.asarray(maps, jnp.float32)).mean())] for name, maps in baselines(x).items()}
    curves: Maps = {}
    shown: list[tuple[np.ndarray, str, Maps]] = [(x[k, ..., 0], data.classes[target[k]], {}) for k in SHOWN]
    of = methods(LAST, 16, patches, KEY)
    for name, method in of.items() if not SHORT else ((name, of[name]) for name in QUICK):
        hits[name], curves[name] = [], []
        for i, (params, state) in enumerate(by_seed(seeds)):
            networks = cascade(model, params, x, jax.random.key(100 + i))
            trained, *changed = (np.asarray(method(model, p, state, x, target)) for p in networks)
            hits[name].append(float(point(trained).mean()))
            curves[name].append([1.0, *(similarity(trained, maps) for maps in changed)])
        print(f"{name}: {took()}", flush=True)
        for k, (*_, drawn) in zip(SHOWN, shown, strict=True):
            drawn[name] = trained[k]
    print(f"{'':22}{'hits, %':>12}   similarity with layers randomized down to {', '.join(LAYERS)}")
    for name, of_seed in hits.items():
        curve = "".join(f"{v:8.2f}" for v in np.mean(curves[name], 0)[1:]) if name in curves else ""
        print(f"{name:22}{spread(of_seed):>12}{curve}")
    print(took(), flush=True)
    picture(out / "attribution.png", [*explained_photos(), *shown], curves, hits)
    print(f"{took()}; the picture is {out / 'attribution.png'}")
    kept = {name: np.mean(curves[name], 0)[1] for name in ("guided_backprop", "occlusion")}
    assert all(np.min(curve) < 1 for curve in curves.values()), "a map does not depend on the network"
    if not SHORT:
        assert np.mean(hits["occlusion"]) > np.mean(hits[BRIGHTEST]) + LEAST_GAIN, "occlusion does not find the class"
        assert kept["guided_backprop"] > kept["occlusion"] + LEAST_KEPT, "guided_backprop depends on the last layer"


if __name__ == "__main__":
    main()
