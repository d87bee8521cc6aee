"""Autoencoders on Fashion-MNIST: codes against principal components, and images restored from noise.

    python examples/autoencoder.py [folder for the picture, by default out] [--short]

Codes of 8, 16 and 32 numbers: an autoencoder with one hidden layer on each side, three seeds, against scikit-learn's
PCA, by the squared error on the 10 000 test images. A linear autoencoder is the check: its minimum is the error of
PCA, and its decoder spans the same subspace as the first components, so the angles between both must vanish.

    1000 × squared error      8 numbers       16 numbers       32 numbers
    PCA                           26.61            20.45            15.14
    autoencoder            19.23 ± 0.06     14.73 ± 0.02     12.13 ± 0.02

The linear autoencoder of 8 numbers has 1.0000 of PCA's error, and the largest angle between the subspaces is 0.20°.

Noise: a convolutional network is trained on images with Gaussian noise of deviation 0.4, drawn anew at each step. It
is compared with a projection on principal components, and with total variation and non-local means of scikit-image,
by the peak signal-to-noise ratio. Their settings are chosen on 300 training images.

    noisy    non-local means    total variation    PCA, 48 components    network
    10.72              16.78              17.16                 17.48    18.88 ± 0.02 dB

The nonlinear code reduces the error by 28 % with 8 and 16 numbers, by 20 % with 32. PCA takes three seconds, has no
settings to choose and, for linear codes, is the exact minimum, which gradient descent only approaches. In noise, PCA
is fitted to garments and beats methods that assume only smoothness. The full run takes 192 s, 234 s of processors.

Baldi & Hornik, Neural Networks and Principal Component Analysis, 1989: the linear case. Vincent et al., Extracting
and Composing Robust Features with Denoising Autoencoders, 2008. Chambolle, An Algorithm for Total Variation
Minimization and Applications, 2004. Buades, Coll, Morel, A Non-Local Algorithm for Image Denoising, 2005.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _pictures import SHORT, clock, folder, sheet, subplots
from scipy.linalg import subspace_angles
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle
from sklearn.decomposition import PCA

import jaxnn as nn

nn.reuse_memory()

IMAGES, TESTED = (2000, 200) if SHORT else (60_000, 10_000)  # training and test images
CHOSEN = 50 if SHORT else 300  # training images on which the settings of the classical methods are chosen
SEEDS = (0,) if SHORT else (0, 1, 2)
SIZES = (8,) if SHORT else (8, 16, 32)  # numbers in a code
HIDDEN = (256,)  # units of the encoder, and of the decoder
EPOCHS, BATCH, RATE = 1 if SHORT else 2, 64, 2e-3
LINEAR = 8  # size of the linear code, one of SIZES: component 9 has much less variance than component 8
LINEAR_EPOCHS, LINEAR_BATCH, LINEAR_RATE = 2 if SHORT else 30, 500, 1e-2
NOISE = 0.4  # standard deviation, for pixels in [0, 1]
CHANNELS, CONVS = 24, 3  # of the restoring network, at 14×14 pixels
NOISE_BATCH, NOISE_RATE = 64, 3e-3  # one epoch
COMPONENTS = (8, 16, 24, 32, 48, 64, 96, 128)  # settings of the classical methods
WEIGHTS = (0.2, 0.3, 0.4, 0.5, 0.6)
CUTS = (0.2, 0.3, 0.4, 0.6, 0.8)  # h of non-local means, in deviations of the noise

# Fixed before the full run.
CODE_RATIO = 0.9  # most squared error of an autoencoder relative to PCA, at each size
LINEAR_RATIO, ANGLE = 1.01, 5.0  # most error relative to PCA, and angle in degrees, of the linear autoencoder
LEAST_GAIN = 1.0  # dB over the best classical method
LEAST_CHANGE = 2.0  # dB over the noisy images, also in the short setting


def restorer() -> nn.Layer:
    """Network from a noisy image to a restored one: convolutions at half of the resolution."""
    convs = [part for _ in range(CONVS) for part in (nn.conv(CHANNELS, 3), nn.gelu)]
    return nn.serial(nn.space_to_depth(2), *convs, nn.conv(4, 3), nn.layers.depth_to_space(2))


def learned(model: nn.Layer, images: jax.Array, epochs: int, batch: int, rate: float, **more: Any) -> list[nn.Run]:
    """Runs of all seeds that learn to reproduce images under the squared error."""
    schedule = optax.cosine_decay_schedule(rate, epochs * (len(images) // batch))
    trainer = nn.trainer(model, nn.losses.squared_error, nn.adam(schedule))
    how = {"epochs": epochs, "batch_size": batch, "progress": False, **more}
    return [nn.drive(trainer, jax.random.key(seed), (images, images), **how) for seed in SEEDS]


def outputs(model: nn.Layer, runs: list[nn.Run], images: np.ndarray) -> list[np.ndarray]:
    """Reproductions of images by each run."""
    return [np.asarray(nn.predict(model, run.ts, jnp.asarray(images))) for run in runs]


def noisy(key: jax.Array, batch: tuple) -> tuple:
    """Adds Gaussian noise to the inputs of a batch."""
    x, y = batch
    return x + NOISE * jax.random.normal(key, x.shape), y


def error(images: np.ndarray, truth: np.ndarray) -> float:
    """Mean squared error."""
    return float(np.mean((images - truth) ** 2))


def psnr(images: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB, mean over the images, for values in [0, 1]."""
    errors = np.mean((np.clip(images, 0, 1) - truth) ** 2, (1, 2, 3))
    return float(np.mean(-10 * np.log10(errors)))


def projected(pca: PCA, images: np.ndarray, size: int) -> np.ndarray:
    """Images projected on the mean and the first components."""
    basis, flat = pca.components_[:size], images.reshape(len(images), -1) - pca.mean_
    return (flat @ basis.T @ basis + pca.mean_).reshape(images.shape)


def classical(name: str, setting: float, images: np.ndarray, pca: PCA) -> np.ndarray:
    """Noisy images restored by a method that is not a network."""
    if name == "PCA":
        return projected(pca, images, int(setting))
    if name == "total variation":
        return np.stack([denoise_tv_chambolle(image[..., 0], weight=setting) for image in images])[..., None]
    cut = {"h": setting * NOISE, "sigma": NOISE, "patch_size": 5, "patch_distance": 6, "fast_mode": True}
    return np.stack([denoise_nl_means(image[..., 0], **cut) for image in images])[..., None]


def picture(path: Path, test: np.ndarray, codes: dict, errors: dict, restored: dict, quality: dict) -> None:
    """Images and their reconstructions, errors by the size of the code, noisy and restored images."""
    figure, (left, middle, right) = subplots(1, 3, (17, 6.4), width_ratios=(1, 0.7, 1))
    for axes, parts, title in (
        (left, {"original": test, **codes}, "reconstructions from codes"),
        (right, {"original": test, **restored}, f"noise of deviation {NOISE:g}"),
    ):
        rows = [1 - np.clip(image, 0, 1) for images in parts.values() for image in images[:8]]
        axes.imshow(sheet(rows, 8), cmap="gray", vmin=0, vmax=1)
        labels = [f"{name}\n{quality[name]:.1f} dB" if name in quality else name for name in parts]
        axes.set_yticks([30 * k + 14 for k in range(len(parts))], labels=labels)
        axes.set_xticks([])
        axes.set_title(title)
    for (name, of), colour in zip(errors.items(), ("0.4", "tab:blue"), strict=True):
        values = np.array([of[size] for size in SIZES])
        deviation = values.std(1) if name != "PCA" else None
        middle.errorbar(SIZES, values.mean(1), deviation, color=colour, marker="o", capsize=3, label=name)
    middle.set(
        xscale="log", xlabel="numbers in the code", ylabel="mean squared error of the test images", ylim=(0, None)
    )
    middle.set_xticks(SIZES, labels=[str(size) for size in SIZES])
    middle.minorticks_off()
    middle.grid(alpha=0.3)
    middle.legend()
    figure.savefig(path, dpi=100)


def main() -> None:
    """Compares codes and restored images with those of classical methods and draws the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    out, took = folder(), clock()
    fashion = nn.data.load("fashion_mnist")
    train, test = np.float32(fashion.train[0][:IMAGES]), np.float32(fashion.test[0][:TESTED])
    images = jnp.asarray(train)
    pca = PCA(max(COMPONENTS), svd_solver="covariance_eigh").fit(train.reshape(len(train), -1))
    mean = pca.mean_.reshape(test.shape[1:])

    errors: dict[str, dict] = {"PCA": {}, "autoencoder": {}}
    codes = {}
    for size in SIZES:
        model = nn.models.autoencoder(size, hidden=HIDDEN, activation=nn.gelu)
        runs = learned(model, images - mean, EPOCHS, BATCH, RATE)
        ours, theirs = [mean + x for x in outputs(model, runs, test - mean)], projected(pca, test, size)
        codes |= {f"PCA, {size}": theirs, f"autoencoder, {size}": ours[0]}
        errors["PCA"][size], errors["autoencoder"][size] = [error(theirs, test)], [error(x, test) for x in ours]
        least, found = (1000 * np.array(of[size]) for of in errors.values())
        figures = f"{found.mean():.2f} ± {found.std():.2f}, PCA {least[0]:.2f}"
        print(f"code of {size:3}: 1000 × error {figures}  ({took()})", flush=True)

    model = nn.models.autoencoder(LINEAR, hidden=())
    runs = learned(model, images - mean, LINEAR_EPOCHS, LINEAR_BATCH, LINEAR_RATE)
    decoders = [np.asarray(run.ts.params["decoder"]["output"]["w"]) for run in runs]
    angles = [np.degrees(subspace_angles(w.T, pca.components_[:LINEAR].T)).max() for w in decoders]
    ratios = [error(x, test - mean) / errors["PCA"][LINEAR][0] for x in outputs(model, runs, test - mean)]
    print(f"linear code: {max(ratios):.4f} of PCA's error, largest angle {max(angles):.2f}°  ({took()})", flush=True)

    draw = np.random.default_rng(0)
    spoilt, part = (x + NOISE * draw.standard_normal(x.shape, np.float32) for x in (test, train[:CHOSEN]))
    model = restorer()
    ours = outputs(model, learned(model, images, 1, NOISE_BATCH, NOISE_RATE, augment=noisy), spoilt)
    gains = np.array([psnr(x, test) for x in ours])
    print(f"network {gains.mean():.2f} ± {gains.std():.2f} dB, noisy {psnr(spoilt, test):.2f}  ({took()})", flush=True)
    restored, quality = {"noisy": spoilt}, {"noisy": psnr(spoilt, test)}
    for name, settings in {"PCA": COMPONENTS, "total variation": WEIGHTS, "non-local means": CUTS}.items():
        best = max(settings, key=lambda s, name=name: psnr(classical(name, s, part, pca), train[:CHOSEN]))
        restored[name] = classical(name, best, spoilt, pca)
        quality[name] = psnr(restored[name], test)
        print(f"{name} with {best:g}: {quality[name]:.2f} dB  ({took()})", flush=True)
    rival = max(quality.values())
    restored["network"], quality["network"] = ours[0], gains.mean()
    picture(out / "autoencoder.png", test, codes, errors, restored, quality)
    print(f"{took()}; the picture is {out / 'autoencoder.png'}")

    worst = max(np.mean(errors["autoencoder"][size]) / errors["PCA"][size][0] for size in SIZES)
    assert gains.mean() > quality["noisy"] + LEAST_CHANGE, "the network restores nothing"
    assert SHORT or worst <= CODE_RATIO, f"an autoencoder has {worst:.2f} of PCA's error"
    assert SHORT or max(ratios) <= LINEAR_RATIO, f"the linear autoencoder has {max(ratios):.4f} of PCA's error"
    assert SHORT or max(angles) <= ANGLE, f"the linear autoencoder is {max(angles):.1f} degrees off"
    assert SHORT or gains.mean() >= rival + LEAST_GAIN, f"{gains.mean():.2f} dB against {rival:.2f}"


if __name__ == "__main__":
    main()
