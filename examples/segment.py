"""Segmentation: U-Nets find nuclei in a microscope image; three losses, two upsamplings, checkerboard artifacts.

    python examples/segment.py [folder for the picture, by default out] [--short]

A U-Net of three levels is trained on overlapping tiles of 64×64 pixels from the left five eighths of the image, with
random flips, rotations, zooms, brightness and noise. The rest, 512×192 pixels with 41 nuclei, is the test part. As in
the paper of the U-Net, targets have a gap between nuclei that touch. Regions are the connected components of a mask;
watershed divides them where they narrow. A region is correct if its IoU with a true nucleus is above 1/2. The baselines
are Otsu's threshold of the smoothed image, and a random forest on filters, scikit-image's trainable segmentation. Means
± deviations of three seeds, of pixels and of the regions after watershed:

                                            IoU           Dice      watershed             F1
    Otsu's threshold                      0.781          0.877             38          0.861
    random forest                         0.903          0.949             40          0.988
    U-Net, interpolation
      cross-entropy               0.863 ± 0.022  0.927 ± 0.012     38.7 ± 1.5  0.920 ± 0.021
      Dice                        0.817 ± 0.059  0.899 ± 0.036     39.3 ± 1.2  0.863 ± 0.042
      Tversky                     0.736 ± 0.061  0.847 ± 0.040     39.3 ± 0.6  0.805 ± 0.040
    U-Net, transposed convolution
      cross-entropy               0.864 ± 0.032  0.927 ± 0.019     39.0 ± 1.0  0.900 ± 0.014

The forest wins against networks that are trained for some seconds. Cross-entropy is the best of the losses here; a
fifth of the image is foreground. Without watershed F1 is between 0.53 and 0.77 for the networks, 0.63 for Otsu's
threshold and 0.88 for the forest: watershed separates nuclei that a mask has joined, whatever the method.

A checkerboard is a peak in the spectrum of the logits at a period of two pixels. Its power relative to that of nearby
frequencies is 0.9 with interpolation and 21.4 with transposed convolutions before training, 1.1 and 6.8 after training.
Kernels of size and stride 2 do not overlap, but each of their four weights still writes every second pixel. Training
weakens the artifact, but does not remove it. The run takes 164 s of processors.

Ronneberger, Fischer, Brox, U-Net, 2015, arXiv:1505.04597. Otsu, A Threshold Selection Method from Gray-Level
Histograms, 1979. Odena, Dumoulin, Olah, Deconvolution and Checkerboard Artifacts, 2016. Salehi, Erdogmus, Gholipour,
Tversky Loss Function for Image Segmentation, 2017, arXiv:1706.05721. Caicedo et al., Nucleus Segmentation across
Imaging Experiments, 2019: the image.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _pictures import SHORT, clock, figure, folder, sheet
from _regions import divided, overlaps, score
from scipy import ndimage
from skimage.feature import multiscale_basic_features
from skimage.filters import threshold_otsu
from skimage.segmentation import find_boundaries
from sklearn.ensemble import RandomForestClassifier

import jaxnn as nn
from jaxnn import augment

nn.reuse_memory()

CORES = 2  # as many runs at a time
SEEDS = 1 if SHORT else 3
TRAIN, TEST = slice(0, 320), slice(320, 512)  # columns of the image: no pixel is in both
SIDE, STEP = 64, 64 if SHORT else 32  # pixels along a training tile, and from one to the next
FEATURES, LEVELS = (4, 2) if SHORT else (8, 3)  # channels at full resolution, twice as many at each of the lower ones
EPOCHS, BATCH = 1 if SHORT else 4, 9
RATE = 1e-2  # of Adam, falling to 0 along a cosine
MISSED = 0.7  # weight of missed pixels in Tversky's loss, and 0.3 of false ones, as in its paper
LOSSES = {"cross-entropy": (1.0, 0.0, 0.0), "Dice": (0.0, 1.0, 0.0), "Tversky": (0.0, 0.0, 1.0)}
TRANSPOSED, LINEAR = "transposed convolution", "interpolation"
UPSAMPLINGS: dict[str, Any] = {LINEAR: "linear", TRANSPOSED: "conv_transpose"}
SMOOTH = 1.0  # deviation in pixels of the filter before Otsu's threshold: the best of 0, 1 and 2 on training pixels
TREES, COARSEST = (10, 2) if SHORT else (50, 8)  # of the random forest; deviation of its widest filters, pixels
LEAST_GAIN = 0.05  # in IoU over Otsu's threshold, fixed after trials of 4 epochs with 0.09
RATIO = 2.0  # least ratio of the checkerboard of transposed convolutions to that of interpolation after training
COLUMNS = ("IoU", "Dice", "regions", "F1", "watershed", "F1")


def tiles(image: np.ndarray) -> np.ndarray:
    """Overlapping squares of an image [h, w, c] -> [n, side, side, c]."""
    views = np.lib.stride_tricks.sliding_window_view(image, (SIDE, SIDE), (0, 1))[::STEP, ::STEP]
    return np.moveaxis(views, 2, -1).reshape(-1, SIDE, SIDE, image.shape[-1])


def foreground(numbers: np.ndarray) -> np.ndarray:
    """Pixels of nuclei [h, w] without those next to another nucleus: a gap keeps neighbours apart, as in the paper."""
    least = ndimage.minimum_filter(np.where(numbers > 0, numbers, numbers.max() + 1), 3)
    return ((numbers > 0) & (least == ndimage.maximum_filter(numbers, 3))).astype(np.float32)


def learn(upsampling: Any, point: tuple, data: tuple) -> tuple[jax.Array, ...]:
    """Logits [h, w] of the test part, before and after training; a point is a key and the weights of the losses."""
    (key, weights), (train, test, normal) = point, data
    unet = nn.models.unet(1, features=FEATURES, levels=LEVELS, upsampling=upsampling, norm=nn.batch_norm)
    model = nn.serial(normal.apply, unet)

    def loss(logits: jax.Array, y: jax.Array) -> jax.Array:  # [n, side, side, 1] each -> [n]
        p = nn.sigmoid(logits)
        pixels = nn.losses.binary_cross_entropy(logits, y).mean((1, 2, 3))
        overlap = nn.losses.dice(p, y), nn.losses.tversky(p, y, alpha=1 - MISSED, beta=MISSED)
        return jnp.stack([pixels, *overlap], 1) @ weights

    flips = augment.flip("horizontal"), augment.flip("vertical")
    moved = augment.affine(45.0, 0.0, 0.2, 0.0, fill="reflect")  # angle, shift, zoom, shear
    drawn = augment.chain(*flips, moved, augment.brightness(0.2), augment.noise((0.0, 0.03)))
    steps = EPOCHS * (len(train[0]) // BATCH)
    trainer = nn.trainer(model, loss, nn.adam(optax.cosine_decay_schedule(RATE, steps)))
    start = trainer.init(key, jax.tree.map(lambda a: a[:BATCH], train))
    how = {"epochs": EPOCHS, "batch_size": BATCH, "augment": augment.batched(drawn, target="mask")}
    end = nn.fit(trainer, key, train, **how).ts
    return tuple(model.apply(ts.params, ts.state, test[None])[0][0, ..., 0] for ts in (start, end))


def forest(x: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Mask of the test part by a random forest on the filters of scikit-image, its trainable segmentation."""
    features = multiscale_basic_features(x, sigma_max=COARSEST)
    model = RandomForestClassifier(TREES, min_samples_leaf=10, max_samples=0.2, random_state=0)
    model.fit(features[:, TRAIN].reshape(-1, features.shape[-1]), numbers[:, TRAIN].ravel() > 0)
    return model.predict(features[:, TEST].reshape(-1, features.shape[-1])).reshape(len(x), -1)


def spectrum(logits: np.ndarray) -> np.ndarray:
    """Mean power over the columns of [h, w], by frequency from 0 to 1/2 per pixel."""
    centred = (logits - logits.mean(0)) * np.hanning(len(logits))[:, None]
    return (np.abs(np.fft.rfft(centred, axis=0)) ** 2).mean(1)


def checkerboard(logits: np.ndarray) -> float:
    """Power at a period of two pixels over the median of frequencies near it, mean of both axes."""
    powers = spectrum(logits), spectrum(logits.T)
    return float(np.mean([p[-1] / np.median(p[-len(p) // 8 : -4]) for p in powers]))


def picture(path: Path, x: np.ndarray, true: np.ndarray, masks: dict, logits: dict) -> None:
    """Test part with true and found nuclei; spectra of the logits and their appearance."""
    whole = figure((15, 10))
    first, second, third = masks
    layout = [["true", "spectrum"], [first, "spectrum"], [second, "logits"], [third, "logits"]]
    axes = whole.subplot_mosaic(layout, width_ratios=(1.2, 1))
    for name, place in list(axes.items()):
        if name in ("spectrum", "logits"):
            continue
        found = true if name == "true" else divided(masks[name])
        iou = overlaps(found, true)
        rgb = np.repeat((x / x.max())[..., None], 3, -1)
        for hit, colour in ((True, (0.3, 1, 0.3)), (False, (1, 0.25, 0.25))):
            of = np.isin(found, 1 + np.flatnonzero((iou > 0.5).any(1) == hit))
            rgb[of & find_boundaries(found, mode="inner")] = colour
        missed = np.isin(true, 1 + np.flatnonzero(~(iou > 0.5).any(0)))
        rgb[missed & find_boundaries(true, mode="inner")] = (0.3, 0.7, 1)
        place.imshow(rgb.transpose(1, 0, 2))
        wrong, lost = (~(iou > 0.5).any(1)).sum(), (~(iou > 0.5).any(0)).sum()
        text = (
            f"{true.max()} true nuclei; below, green regions are right, red wrong, blue nuclei missed"
            if name == "true"
            else f"{name}: {len(iou)} found, {wrong} wrong, {lost} missed"
        )
        place.set_title(text, fontsize=11, loc="left")
        place.set_axis_off()
    for (name, parts), colour in zip(logits.items(), ("tab:blue", "tab:red"), strict=True):
        for part, (style, label) in zip(parts, ((":", "before training"), ("-", "after training")), strict=True):
            power = np.mean([spectrum(a.T) / spectrum(a.T)[1:].sum() for a in part], 0)
            axes["spectrum"].semilogy(
                np.linspace(0, 0.5, len(power)), power, style, color=colour, label=f"{name}, {label}"
            )
    axes["spectrum"].set(xlabel="frequency along a row, cycles per pixel", ylabel="fraction of the power of the logits")
    axes["spectrum"].legend(fontsize=9)
    axes["spectrum"].grid(alpha=0.3)
    flat = [part[0][160:224, 64:128] for parts in logits.values() for part in parts]
    axes["logits"].imshow(sheet([(a - a.min()) / np.ptp(a) for a in flat], 2), cmap="viridis", vmin=0, vmax=1)
    axes["logits"].set_xticks([32, 98], ["before training", "after training"])
    axes["logits"].set_yticks([32, 98], [name.replace(" ", "\n") for name in logits])
    axes["logits"].tick_params(length=0)
    axes["logits"].spines[:].set_visible(False)
    axes["logits"].set_title("logits of 64×64 test pixels", fontsize=11)
    whole.savefig(path, dpi=90)


def main() -> None:
    """Trains all U-Nets, prints their scores beside the baselines, and draws the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    nn.cores_as_devices(CORES)
    out, took = folder(), clock()
    nuclei = nn.data.load("nuclei")
    x, numbers = np.sqrt(nuclei.train[0][0]), nuclei.train[1][0]  # the root gives counted photons constant noise
    true = np.unique(numbers[:, TEST], return_inverse=True)[1].reshape(numbers[:, TEST].shape)
    train = tiles(x[:, TRAIN]), tiles(foreground(numbers[:, TRAIN])[..., None])
    data = train, x[:, TEST], augment.normalization(train[0])

    print(f"{len(train[0])} tiles; {true.max()} nuclei in the test part")
    print(f"{'':46}" + "".join(f"{column:>16}" for column in COLUMNS))

    def report(name: str, masks: Any) -> np.ndarray:
        rows = np.array([score(mask, true) for mask in masks])
        spreads = rows.std(0, ddof=1) if len(rows) > 1 else np.zeros(len(COLUMNS))
        cells = (f"{a:9.{d}f} ± {b:.{d}f}" for a, b, d in zip(rows.mean(0), spreads, (3, 3, 1, 3, 1, 3), strict=True))
        print(f"{name:46}" + "".join(f"{cell:>16}" for cell in cells), flush=True)
        return rows.mean(0)

    smooth = ndimage.gaussian_filter(x[..., 0], SMOOTH)[:, TEST]
    masks = {"Otsu's threshold": smooth > threshold_otsu(smooth), "random forest": forest(x[..., 0], numbers)}
    means = {name: report(name, [mask]) for name, mask in masks.items()}
    keys, logits = jax.random.split(jax.random.key(0), SEEDS), {}
    for name, upsampling in UPSAMPLINGS.items():
        losses = list(LOSSES)[: len(LOSSES) if name == LINEAR else 1]
        points = jnp.tile(keys, len(losses)), jnp.repeat(jnp.array([LOSSES[loss] for loss in losses]), SEEDS, 0)
        swept = nn.sweep(partial(learn, upsampling), points, data, strategy="shard", chunk=1).results
        before, after = (np.asarray(a).reshape(len(losses), SEEDS, *true.shape) for a in swept)
        for loss, of_seeds in zip(losses, after, strict=True):
            means[f"U-Net, {loss}, {name}"] = report(f"U-Net, {loss}, {name}", of_seeds > 0)
        logits[name] = before[0], after[0]
    artifacts = {name: [np.mean([checkerboard(a) for a in part]) for part in parts] for name, parts in logits.items()}
    for name, (before, after) in artifacts.items():
        print(f"checkerboard of {name}: {before:.1f} before training, {after:.1f} after it")
    picture(out / "segment.png", x[:, TEST, 0], true, masks | {"U-Net": logits[LINEAR][1][0] > 0}, logits)
    print(f"{took()}; the picture is {out / 'segment.png'}")

    assert artifacts[TRANSPOSED][0] > RATIO * artifacts[LINEAR][0], "transposed convolutions have no checkerboard"
    if not SHORT:
        assert artifacts[TRANSPOSED][1] > RATIO * artifacts[LINEAR][1], "training has removed the checkerboard"
        ours = means[f"U-Net, cross-entropy, {LINEAR}"][0]
        assert ours > means["Otsu's threshold"][0] + LEAST_GAIN, "below the figure that this example stands for"


if __name__ == "__main__":
    main()
