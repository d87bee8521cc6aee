"""Augmentation at work: the gain of each kind on 500 images, and whitening of the inputs of two networks.

    python examples/augmentation_gain.py [folder for the picture, by default out] [--short]

A small CNN is trained on 500 images of Fashion-MNIST, 50 of each class, for 40 epochs with each augmentation of
`nn.augment` that changes grey images: alone, all in one chain, as the usual recipe, by the two policies, and as the
chain of the kind of each family that is best on 2000 validation images. The gain is that in accuracy on 4000 test
images over the same seeds without augmentation, with its 95 % interval over five seeds, which have other training
images. The baseline is scikit-learn's support vector machine with an RBF kernel on the same images. Accuracy in
percent, mean ± deviation of the seeds, and the gain with its interval:

    support vector machine      78.5 ± 0.7
    none                        78.8 ± 0.2
    rand_augment                80.4 ± 0.9       1.6 ± 0.7
    best of each family         80.2 ± 1.0       1.5 ± 0.9     elastic, solarize, sharpness
    elastic                     79.8 ± 1.1       1.0 ± 1.0
    solarize                    79.3 ± 0.2       0.5 ± 0.2
    all, 15 % each              79.2 ± 1.4       0.5 ± 1.2
    flip                        79.2 ± 0.8       0.4 ± 0.7
    mixup                       78.9 ± 0.2       0.2 ± 0.2
    cutout                      78.5 ± 0.6      -0.3 ± 0.5
    cutmix                      78.4 ± 0.7      -0.4 ± 0.5
    crop                        78.1 ± 1.2      -0.6 ± 1.0
    affine                      76.8 ± 1.5      -2.0 ± 1.3
    flip, crop, cutout          76.0 ± 0.7      -2.8 ± 0.5     the usual recipe for photos
    perspective                 73.4 ± 1.0      -5.4 ± 0.9

Garments are centred, upright and of equal size, so most moves make images that do not occur in the test set; changes
of tones gain and cost little. Among 31 kinds some intervals exclude 0 by chance; `rand_augment` is also the best on the
validation images.

Then a linear and a convolutional network are trained by plain gradient descent on raw, standardized and whitened
images of 14×14 pixels, each at the rate that reaches a training loss of 0.5 in the fewest epochs. Whitening is ZCA,
fitted to the 500 images; ε is added to the variances of the components. Epochs to that loss, and test accuracy after 20
epochs, of three seeds:

                           linear                  convolutional
    raw                19.7 ± 2.3  73.2 ± 1.5     15.3 ± 1.5  73.5 ± 0.8
    standardized       11.3 ± 3.1  74.7 ± 1.6      9.0 ± 1.0  76.1 ± 1.3
    ZCA, ε = 0.01       2.0 ± 0.0  70.3 ± 1.4      5.0 ± 0.0  76.3 ± 0.1
    ZCA, ε = 1e-5       2.0 ± 0.0  60.8 ± 1.2      5.0 ± 0.0  70.9 ± 0.6

Whitening makes descent up to ten times faster. With a small ε it amplifies noise and costs accuracy. The run takes
601 s of processors.

DeVries, Taylor, Improved Regularization of Convolutional Neural Networks with Cutout, 2017, arXiv:1708.04552. Wadia et
al., Whitening and Second Order Optimization Both Make Information in the Dataset Unusable During Training, and Can
Reduce or Prevent Generalization, 2021, arXiv:2008.07545.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _pictures import SHORT, band, clock, folder, spread, subplots
from _whitening import LEVEL, fastest
from sklearn.svm import SVC

import jaxnn as nn
from jaxnn import augment
from jaxnn.types import Augmentation

nn.reuse_memory()

CORES = 2  # as many runs at a time
SEEDS = 1 if SHORT else 5  # each draws other training images
EACH, VALID, TEST = 50, 2000, 1000 if SHORT else 4000  # training images of a class, images to choose by, test images
EPOCHS, BATCH = 2 if SHORT else 40, 50
RATE = 2e-3  # of Adam, falling to 0 along a cosine
FAMILIES: dict[str, dict[str, Augmentation]] = {  # at moderate strengths, which are not tuned
    "geometry": {
        **{"flip": augment.flip(), "crop": augment.crop(28, padding=2), "rotate": augment.rotate(10.0)},
        **{"resized crop": augment.resized_crop(28, area=(0.6, 1.0)), "shear": augment.shear(10.0)},
        **{"zoom": augment.zoom(0.15), "translate": augment.translate(0.07), "elastic": augment.elastic(20.0, 4.0)},
        **{"affine": augment.affine(10.0, 0.07, 0.15, 10.0), "perspective": augment.perspective(0.2)},
    },
    "tones": {
        **{"brightness": augment.brightness(0.3), "contrast": augment.contrast(0.3), "gamma": augment.gamma(0.3)},
        **{"channel shift": augment.channel_shift(0.1), "invert": augment.sometimes(augment.invert(), 0.1)},
        **{"solarize": augment.sometimes(augment.solarize(), 0.1)},
        **{"posterize": augment.sometimes(augment.posterize(2))},
        **{"autocontrast": augment.sometimes(augment.autocontrast())},
        **{"equalize": augment.sometimes(augment.equalize())},
    },
    "pixels": {
        **{"blur": augment.blur((0.1, 1.0)), "sharpness": augment.sharpness(0.8)},
        **{"noise": augment.noise((0.0, 0.1)), "cutout": augment.cutout(8)},
    },
}
SINGLE = {name: kind for family in FAMILIES.values() for name, kind in family.items()}
ONE_IN = 0.15  # probability of each in the chain of all: 3.5 of 23 for an image
RECIPE = ("flip", "crop", "cutout")  # the usual recipe of small images, as in the paper of cutout
TOGETHER = {
    "all, 15 % each": augment.chain(*(augment.sometimes(kind, ONE_IN) for kind in SINGLE.values())),
    ", ".join(RECIPE): augment.chain(*(SINGLE[name] for name in RECIPE)),
    "rand_augment": augment.rand_augment(2, 5.0),
    "trivial_augment": augment.trivial_augment(),
}
if SHORT:
    FAMILIES, TOGETHER = {family: dict([*kinds.items()][:1]) for family, kinds in FAMILIES.items()}, {}
    SINGLE = {name: kind for family in FAMILIES.values() for name, kind in family.items()}
MIXED = {"mixup": augment.mixup(), "cutmix": augment.cutmix()}  # of a whole batch
NONE, BEST = "none", "best of each family"
KINDS: dict[str, Augmentation] = {
    NONE: lambda key, batch: batch,
    **{name: augment.batched(kind) for name, kind in (SINGLE | TOGETHER).items()},
    **MIXED,
}
COLOURS = {
    "geometry": "tab:blue",
    "tones": "tab:orange",
    "pixels": "tab:green",
    "together": "k",
    "mixing": "tab:purple",
}
T = 2.776  # 97.5 % quantile of Student's distribution with 4 degrees of freedom: 95 % intervals of 5 seeds
LEAST_GAIN = 0.01  # in accuracy over the support vector machine of the kind that is best on validation images


def network(*first: Any, rate: float) -> nn.Layer:
    """A small CNN behind a first layer, with dropout of that rate."""
    convs = nn.conv(16, 3), nn.relu, nn.conv(32, 3, stride=2), nn.relu
    return nn.serial(*first, *convs, nn.flatten(), nn.dropout(rate), nn.dense(64), nn.relu, nn.dense(10))


def gain(kinds: tuple[Augmentation, ...], point: tuple, train: Any, *held: Any) -> list[jax.Array]:
    """Accuracy on held-out sets after training; a point is key, number of the augmentation and of the images."""
    key, kind, seed = point
    x, y = (a[seed] for a in train)
    model = network(nn.space_to_depth(2), rate=0.3)
    optimizer = nn.adam(optax.cosine_decay_schedule(RATE, EPOCHS * (len(x) // BATCH)))
    trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, optimizer)

    def changed(key: jax.Array, batch: Any) -> Any:
        return jax.lax.switch(kind, kinds, key, batch)  # one program has all augmentations as branches

    data = x, jax.nn.one_hot(y, 10)
    ts = nn.fit(trainer, key, data, epochs=EPOCHS, batch_size=BATCH, augment=changed).ts
    return [nn.metrics.accuracy(model.apply(ts.params, ts.state, x)[0], y).mean() for x, y in held]


def gains(kinds: dict[str, Augmentation], *data: Any) -> dict[str, np.ndarray]:
    """Accuracies [held-out sets, seeds] of each kind."""
    n, keys = len(kinds), jax.random.split(jax.random.key(0), SEEDS)
    points = jnp.tile(keys, n), jnp.repeat(jnp.arange(n), SEEDS), jnp.tile(jnp.arange(SEEDS), n)
    run = partial(gain, tuple(kinds.values()))
    found = nn.sweep(run, points, *data, strategy="shard", chunk=1).results
    return dict(zip(kinds, np.stack(found).reshape(-1, n, SEEDS).swapaxes(0, 1), strict=True))


def picture(path: Path, accuracy: dict, machine: list, curves: dict) -> None:
    """Gain of each augmentation with its interval, and training losses on the four forms of the inputs."""
    whole, axes = subplots(2, 2, (15, 9.5), width_ratios=(1.25, 1))
    for place in axes[:, 0]:
        place.remove()
    left = whole.add_subplot(axes[0, 0].get_gridspec()[:, 0])
    family = {name: family for family, kinds in FAMILIES.items() for name in kinds}
    family |= dict.fromkeys([*TOGETHER, BEST], "together") | dict.fromkeys(MIXED, "mixing")
    base = accuracy[NONE][1]
    names = sorted(family, key=lambda name: accuracy[name][1].mean())
    for i, name in enumerate(names):
        of_seeds, colour = 100 * (accuracy[name][1] - base), COLOURS[family[name]]
        half = T * of_seeds.std(ddof=1) / SEEDS**0.5 if SEEDS > 1 else 0
        left.errorbar(of_seeds.mean(), i, xerr=half, fmt="o", color=colour, capsize=2)
        left.plot(of_seeds, np.full(SEEDS, i), ".", color=colour, alpha=0.35, ms=4)
    for name, colour in COLOURS.items():
        left.plot([], [], "o", color=colour, label=name)
    left.axvline(0, color="0.5", lw=1)
    left.axvline(100 * (np.mean(machine) - base.mean()), color="0.5", lw=1, ls=":", label="support vector machine")
    left.set_yticks(np.arange(len(names)), names)
    left.set(xlabel="gain in test accuracy, points; 95 % intervals", ylim=(-0.7, len(names) - 0.3))
    left.set_title(f"{10 * EACH} training images; without augmentation {spread(base)} %", fontsize=11)
    left.legend(fontsize=9, loc="upper left")
    left.grid(alpha=0.3, axis="x")
    for (model, of), place in zip(curves.items(), axes[:, 1], strict=True):
        colours = ("k", "tab:blue", "tab:green", "tab:red")
        for (form, (rate, loss, _, right)), colour in zip(of.items(), colours, strict=True):
            label = f"{form}, rate {rate:g}: test {spread(right)} %"
            band(place, 1 + np.arange(loss.shape[1]), loss, label, colour)
        place.axhline(LEVEL, color="0.5", lw=1, ls=":")
        place.set(yscale="log", xlabel="epoch of gradient descent", ylabel="training loss")
        place.set_title(f"{model} network, each at its fastest rate", fontsize=11)
        place.legend(fontsize=9)
        place.grid(alpha=0.3)
    whole.savefig(path, dpi=90)


def main() -> None:
    """Trains with each augmentation and on each form of the inputs, prints the tables and draws the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    nn.cores_as_devices(CORES)
    out, took = folder(), clock()
    fashion = nn.data.load("fashion_mnist")
    x, y = fashion.train
    valid, test = (x[-VALID:], y[-VALID:]), (fashion.test[0][:TEST], fashion.test[1][:TEST])
    ranked = np.stack([np.flatnonzero(y == k)[: SEEDS * EACH] for k in range(10)]).reshape(10, SEEDS, EACH)
    chosen = ranked.transpose(1, 0, 2).reshape(SEEDS, -1)  # as many of each class
    train = x[chosen], y[chosen]

    flat = [a.reshape(len(a), -1) for a in (*train[0], test[0])]
    machine = [SVC(C=10).fit(a, b).score(flat[-1], test[1]) for a, b in zip(flat[:-1], train[1], strict=True)]
    accuracy = gains(KINDS, train, valid, test)
    best = [max(kinds, key=lambda name: accuracy[name][0].mean()) for kinds in FAMILIES.values()]
    chain = augment.batched(augment.chain(*(SINGLE[name] for name in best)))
    accuracy |= gains({BEST: chain}, train, valid, test)
    print(f"{'support vector machine':24}{spread(machine):>14}")
    for name, (_, of_seeds) in accuracy.items():
        print(f"{name:24}{spread(of_seeds):>14}   gain{spread(of_seeds - accuracy[NONE][1]):>14}")
    print(f"best of each family: {', '.join(best)}\n{took()}", flush=True)

    models = {"linear": nn.serial(nn.flatten(), nn.dense(10)), "convolutional": network(rate=0.0)}
    curves = {}
    print(f"{'':16}{'inputs':20}{'rate':>8}{'epochs':>16}{'test accuracy':>16}")
    for name, model in models.items():
        curves[name] = fastest(model, train, test)
        for form, (rate, _, epochs, right) in curves[name].items():
            needed = f"{epochs.mean():.1f} ± {epochs.std(ddof=min(1, len(epochs) - 1)):.1f}"
            print(f"{name:16}{form:20}{rate:8}{needed:>16}{spread(right):>16}", flush=True)
    picture(out / "augmentation_gain.png", accuracy, machine, curves)
    print(f"{took()}; the picture is {out / 'augmentation_gain.png'}")

    if not SHORT:
        top = max(accuracy, key=lambda name: accuracy[name][0].mean())
        print(f"chosen on validation images: {top}, {spread(accuracy[top][1])}")
        assert accuracy[top][1].mean() > np.mean(machine) + LEAST_GAIN, "below the figure that this example stands for"


if __name__ == "__main__":
    main()
