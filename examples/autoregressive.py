"""An autoregressive model of garments: exact bits per pixel beside lossless files, and images drawn pixel by pixel.

    python examples/autoregressive.py [folder for the picture, by default out] [--short]

A pixel's distribution is computed from the 40 pixels around it that come earlier, row by row: their levels, if they
are black, and the place. The network gives a mixture of five discretised logistic distributions around a predicted
level, the median predictor of LOCO-I. So the likelihood is exact: an arithmetic coder with these probabilities would
need as many bits, except for rounding. Bits a pixel of the 10 000 test images, mean ± deviation of three seeds:

    network                                  2.981 ± .003
    and its params in float32                3.210
    the VAE's bound, examples/vae.py         3.733
    xz, WebP, PNG, gzip                      3.872, 4.043, 4.157, 4.473

The run needs 251 s of processors. The settings were chosen on the last 500 training images with one seed, in bits
a pixel there, after one epoch of 98 random pixels of each image:

                                     10 000 images    20 000 images
    window of 6 rows                         3.326
    and the predicted level                  3.267
    and marks of black pixels                3.235
    with 5 rows                                               3.132
    with 4 rows                              3.155            3.074
    with 3 rows                                               3.056
    4 rows, mirrored pixels, too                              3.062
    4 rows, eight distributions                               3.076
    4 rows, three layers                                      3.086
    4 rows, and each fourth pixel beyond                      3.086

With one seed each, differences of 0.02 decide nothing; four rows were kept for the completions. A residual PixelCNN of
a masked 7 x 7 and five masked 3 x 3 convolutions with 32 channels reached 3.244 in 36 s of processors on 6000 images,
this network 3.155 in 10 s on 10 000.

A small window suffices for bits, but not for images: samples have the texture of garments and hardly their shape, since
nothing further away than four pixels is seen. The file sizes include no model; the bar "with its params" does.

Sources: van den Oord, Kalchbrenner, Kavukcuoglu, Pixel Recurrent Neural Networks, 2016, arXiv:1601.06759.
Salimans, Karpathy, Chen, Kingma, PixelCNN++, 2017, arXiv:1701.05517: the mixtures of logistic distributions.
Weinberger, Seroussi, Sapiro, The LOCO-I Lossless Image Compression Algorithm, 2000: the predicted level.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _levels import compressed, log_prob, sample
from _pictures import SHORT, clock, folder, sheet, subplots

import jaxnn as nn

SEEDS = 1 if SHORT else 3
IMAGES, TESTED = (2000, 500) if SHORT else (60_000, 10_000)
SIDE, PIXELS = 28, 28 * 28
REACH = 4  # rows above a pixel, and columns on either side, that the network sees; 6 is worse in one epoch
SEEN = REACH * (2 * REACH + 1) + REACH  # pixels: those rows, and to the left in its own
WIDTH, MIXTURE = 192, 5  # units of two hidden layers, and logistic distributions of a pixel
BATCH, DRAWN = 16, 98  # images of a step, and pixels of each, at random: many small steps learn most in one epoch
RATE, WARMUP = 5e-3, 0.05  # of Adam at its peak, which falls to 0 along a cosine, and the fraction of steps up to it
SAMPLES, COMPLETED, TIMES = 64, 16, 3  # images of the picture: samples, completed images, and completions of each
BOUND = 3.733  # bits a pixel: the VAE's bound in examples/vae.py
MOST_BITS = 0.9  # of the network over those of the best lossless file; fixed before the full run

WIDE = SIDE + 2 * REACH  # columns of an image with a black margin
BEFORE = (WIDE * np.arange(REACH + 1)[:, None] + np.arange(2 * REACH + 1)).ravel()[:SEEN]  # places in its window


def inputs(levels: jax.Array, pixels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Inputs of the network and predicted levels in [-1, 1] of the pixels with these numbers, from earlier pixels.

    [n, 28, 28], [n, p] -> [n, p, 2 SEEN + 2], [n, p]. The inputs are levels, if they are black, and row and column. The
    prediction is the median of the left level, the upper level, and left + upper - upper left.
    """
    n, p = pixels.shape
    padded = jnp.pad(levels, ((0, 0), (REACH, 0), (REACH, REACH))).reshape(n, -1)
    row, column = jnp.divmod(pixels, SIDE)
    places = (WIDE * row + column)[..., None] + BEFORE
    window = jnp.take_along_axis(padded, places.reshape(n, -1), 1).reshape(n, p, SEEN)
    x = window.astype(jnp.float32) / 127.5 - 1
    left, upper, corner = x[..., -1], x[..., -REACH - REACH - 1], x[..., -REACH - REACH - 2]
    predicted = jnp.clip(left + upper - corner, jnp.minimum(left, upper), jnp.maximum(left, upper))
    place = jnp.stack([row, column], -1) / (SIDE / 2) - 1
    return jnp.concatenate([x, (window == 0).astype(jnp.float32), place], -1), predicted


def network() -> nn.Layer:
    """Inputs -> mixture of logistic distributions, whose means are added to the predicted level."""
    return nn.serial(nn.dense(WIDTH), nn.relu, nn.dense(WIDTH), nn.relu, nn.dense(3 * MIXTURE))


def mixtures(params: Any, levels: jax.Array, pixels: jax.Array) -> jax.Array:
    """Distributions of the pixels with these numbers given earlier ones, [n, 28, 28], [n, p] -> [n, p, 3 MIXTURE]."""
    x, predicted = inputs(levels, pixels)
    outputs, _ = network().apply(params, {}, x)
    return outputs.at[..., MIXTURE : 2 * MIXTURE].add(predicted[..., None])


def bits(params: Any, levels: jax.Array, pixels: jax.Array) -> jax.Array:
    """Bits of the pixels with these numbers, [n, 28, 28], [n, p] -> [n, p]."""
    values = jnp.take_along_axis(levels.reshape(len(levels), -1), pixels, 1)
    return -log_prob(mixtures(params, levels, pixels), values) / jnp.log(2.0)


def all_pixels(levels: jax.Array) -> jax.Array:
    """Numbers of the pixels of images in their order, [n, 28, 28] -> [n, 784]."""
    return jnp.broadcast_to(jnp.arange(PIXELS), (len(levels), PIXELS))


def objective(params: Any, state: Any, levels: jax.Array, *, key: Any, train: bool) -> tuple[jax.Array, tuple]:
    """Mean bits of random pixels of images [n, 28, 28]."""
    pixels = jax.random.randint(key, (len(levels), DRAWN), 0, PIXELS)
    return bits(params, levels, pixels).mean(), (state, {})


def learn(seed: int, train: jax.Array) -> Any:
    """Params after one epoch."""
    steps = IMAGES // BATCH
    optimizer = nn.adam(optax.warmup_cosine_decay_schedule(0.0, RATE, int(WARMUP * steps), steps))
    trainer = nn.objective_trainer(
        lambda key, x: network().init(key, inputs(x, all_pixels(x))[0]), objective, optimizer
    )
    return nn.drive(trainer, jax.random.key(seed), train, epochs=1, batch_size=BATCH).ts.params


@jax.jit
def drawn(key: jax.Array, params: Any, levels: jax.Array, start: jax.Array) -> jax.Array:
    """Images [n, 28, 28] in which the pixels from number `start` [n] on are drawn, one after the other."""

    def one(levels: jax.Array, i: jax.Array) -> tuple[jax.Array, None]:
        outputs = mixtures(params, levels, jnp.full((len(levels), 1), i))[:, 0]
        new = sample(jax.random.fold_in(key, i), outputs).astype(levels.dtype)
        row, column = jnp.divmod(i, SIDE)
        return levels.at[:, row, column].set(jnp.where(i < start, levels[:, row, column], new)), None

    return jax.lax.scan(one, levels, jnp.arange(PIXELS))[0]


def check_exact(params: Any, levels: jax.Array) -> None:
    """Raises unless each pixel's probabilities sum to 1 and do not depend on that pixel or later ones."""
    pixels, of = all_pixels(levels), jax.jit(mixtures)
    outputs = of(params, levels, pixels)
    values = jnp.broadcast_to(jnp.arange(256), (*pixels.shape, 256))
    sums = jnp.exp(log_prob(outputs[..., None, :], values)).sum(-1)
    assert np.allclose(sums, 1, atol=1e-4), "probabilities do not sum to 1"
    for start in range(0, PIXELS, 111):
        changed = jnp.where(jnp.arange(PIXELS) < start, levels.reshape(-1, PIXELS), 255 - levels.reshape(-1, PIXELS))
        after = of(params, changed.reshape(levels.shape), pixels)
        assert jnp.array_equal(after[:, : start + 1], outputs[:, : start + 1]), "a distribution depends on later pixels"


def picture(path: Path, found: dict[str, float], costs: tuple, samples: np.ndarray, completed: np.ndarray) -> None:
    """Bits a pixel of networks and files; images and bits of their pixels; samples; images and completions."""
    figure, axes = subplots(1, 4, (22, 5.6), width_ratios=(0.9, 1, 1, 1))
    axes[0].barh(
        list(found), list(found.values()), color=["tab:blue"] * 2 + ["tab:orange"] + ["0.6"] * (len(found) - 3)
    )
    axes[0].bar_label(axes[0].containers[0], fmt="%.2f", padding=2)
    axes[0].invert_yaxis()
    axes[0].set(title="bits a pixel, test images", xlim=(0, 1.15 * max(found.values())))
    images, of = costs
    pairs = [tile for pair in zip(images / 255, np.minimum(of / 12, 1), strict=True) for tile in pair]
    sheets: dict[str, Any] = {
        "image, and bits of its pixels (white: 12 or more)": pairs,
        "samples": samples / 255,
        f"image, and {TIMES} completions of its upper half": completed / 255,
    }
    for place, (title, tiles) in zip(axes[1:], sheets.items(), strict=True):
        place.imshow(sheet(tiles, 8), cmap="gray", vmin=0, vmax=1)
        place.set_title(title)
        place.axis("off")
    figure.savefig(path, dpi=75)


def main() -> None:
    """Trains, measures bits per pixel, draws samples and completions, and the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    nn.reuse_memory()  # before the first computation: keeps the memory of intermediate values
    out, took = folder(), clock()
    fashion = nn.data.load("fashion_mnist")
    parts = fashion.train[0][:IMAGES], fashion.test[0][:TESTED]
    train, test = (np.rint(255 * np.asarray(x)).astype(np.uint8).reshape(-1, SIDE, SIDE) for x in parts)

    measure, of = jax.jit(lambda params, x: bits(params, x, all_pixels(x)).mean()), []
    for seed in range(SEEDS):
        params = learn(seed, jnp.asarray(train))
        of.append(np.mean([measure(params, part) for part in np.split(test, TESTED // 100)]))
        print(f"seed {seed}: {of[-1]:.3f} bits a pixel", flush=True)
    check_exact(params, jnp.asarray(test[:2]))
    size = 32 * sum(leaf.size for leaf in jax.tree.leaves(params)) / (10_000 * PIXELS)  # sent with all test images
    network_bits, files = float(np.mean(of)), compressed(test)
    found = {"network": network_bits, "with its params": network_bits + size, "VAE's bound": BOUND} | files
    print(f"± {np.std(of, ddof=min(1, SEEDS - 1)):.3f}, {BOUND - network_bits:.3f} below the VAE's bound")
    print(", ".join(f"{name} {value:.3f}" for name, value in found.items()), flush=True)

    whole = np.concatenate([np.zeros_like(test[:SAMPLES]), np.repeat(test[:COMPLETED], TIMES, 0)])
    start = np.repeat([0, PIXELS // 2], [SAMPLES, TIMES * COMPLETED])
    images = np.asarray(drawn(jax.random.key(0), params, jnp.asarray(whole), jnp.asarray(start)))
    halves = images[SAMPLES:].reshape(COMPLETED, TIMES, SIDE, SIDE)
    completed = np.concatenate([test[:COMPLETED, None], halves], 1).reshape(-1, SIDE, SIDE)
    costs = test[-32:], np.asarray(bits(params, test[-32:], all_pixels(test[-32:]))).reshape(-1, SIDE, SIDE)
    picture(out / "autoregressive.png", found, costs, images[:SAMPLES], completed)
    print(f"{took()}; the picture is {out / 'autoregressive.png'}")
    assert (halves[:, :, : SIDE // 2] == test[:COMPLETED, None, : SIDE // 2]).all(), "an upper half changed"
    if not SHORT:
        assert max(of) < MOST_BITS * min(files.values()), "above the figure that this example stands for"


if __name__ == "__main__":
    main()
