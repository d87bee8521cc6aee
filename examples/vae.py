"""A variational autoencoder of garments: bounds on bits per pixel beside Gaussian models and lossless files.

    python examples/vae.py [folder for the picture, by default out] [--short]

The pixels keep their 256 grey levels: the decoder gives each a mixture of two discretised logistic distributions, so
the bound on the likelihood is comparable with the size of lossless files. Gaussian densities are of pixels with uniform
noise, which makes theirs a bound, too. Bits a pixel of the 10 000 test images, after one epoch of 60 000 images:

    bound, codes of 32 numbers, three seeds     3.733 ± 0.019
    bound, codes of 2 numbers                           3.918
    xz, all images in one file                          3.872
    lossless WebP, one sheet                            4.043
    PNG, one sheet                                      4.157
    gzip, all images in one file                        4.473
    factor analysis, 32 factors                         6.962
    probabilistic PCA, 32 components                    7.158

The bound is 0.14 bits below the best file. With 128 codes in place of one it falls by 0.05, from 3.764 to 3.715 on 500
images. Files need no training. Gaussian densities are far off, as half of the pixels are exactly black. Samples are
worse than the likelihood suggests: their Fréchet distance on a classifier's features is 11.5, against 0.03 between
halves of the test images. Pixels are drawn independently given the code; and after one epoch the codes of images do not
fill the prior, so that half of the plane of two numbers decodes to noise. The full run took 342 s of processors, 287 s
on two busy cores.

Sources: Kingma and Welling, Auto-Encoding Variational Bayes, 2014, arXiv:1312.6114.
Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, 2016, arXiv:1509.00519.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _judge import distances, judge
from _levels import bits, compressed, gaussian, log_prob, sample
from _pictures import SHORT, clock, folder, sheet, subplots

import jaxnn as nn

SEEDS = 1 if SHORT else 3
IMAGES, TESTED = (2000, 1000) if SHORT else (60_000, 10_000)
FITTED = 500 if SHORT else 20_000  # images for the factor analysis, whose iterations cost most
ITERATIONS = 10 if SHORT else 50
LATENT, PLANE = 32, 2  # numbers of a code, and of one that can be drawn
WIDTH, MIXTURE = 512, 2  # units of a hidden layer, and logistic distributions of a pixel
EPOCHS, BATCH = 1, 128
RATE = 2e-3  # of Adam at the start, decaying to 0 along a cosine
WEIGHTED, SAMPLES = 20 if SHORT else 500, 128  # images of the importance-weighted bound, and codes of each
SIDE = 14  # decoded images on each axis of the plane
LEAST_BITS = 0.1  # bits a pixel below the best of the Gaussian models and files; fixed before the full run


def encoder(latent: int) -> nn.Layer:
    """Pixels in [-1, 1], [n, 784] -> mean and log standard deviation of the code, [n, 2 latent]."""
    hidden = nn.dense(WIDTH), nn.silu
    return nn.serial(*hidden, *hidden, nn.dense(2 * latent), name="encoder")


def decoder() -> nn.Layer:
    """Codes [n, latent] -> mixtures of the grey levels, [n, 784, 3 MIXTURE]."""
    hidden = nn.dense(WIDTH), nn.silu
    parts = *hidden, *hidden, nn.dense(784 * 3 * MIXTURE), lambda x: x.reshape(len(x), 784, 3 * MIXTURE)
    return nn.serial(*parts, name="decoder")


def init(latent: int, key: jax.Array, levels: jax.Array) -> tuple[dict, dict]:
    """Params of both networks, and no state."""
    first, second = jax.random.split(key)
    x, z = jnp.zeros((1, 784)), jnp.zeros((1, latent))
    return {"encoder": encoder(latent).init(first, x)[0], "decoder": decoder().init(second, z)[0]}, {}


def encode(params: dict, levels: jax.Array) -> tuple[jax.Array, ...]:
    """Mean and log standard deviation of the codes of images, [n, 784] -> [n, latent], [n, latent]."""
    latent = params["decoder"]["dense"]["w"].shape[0]
    outputs, _ = encoder(latent).apply(params["encoder"], {}, levels / 127.5 - 1)
    return tuple(jnp.split(outputs, 2, -1))


def decode(params: dict, codes: jax.Array) -> jax.Array:
    """Mixtures of the grey levels, [n, latent] -> [n, 784, 3 MIXTURE]."""
    return decoder().apply(params["decoder"], {}, codes)[0]


def elbo(key: jax.Array, params: dict, levels: jax.Array) -> jax.Array:
    """Evidence lower bound of images with one code each, [n, 784] -> [n]: log p(x | z) - KL(q(z | x), N(0, 1))."""
    mean, log_std = encode(params, levels)
    codes = nn.distributions.normal_sample(key, mean, log_std)
    none = jnp.zeros_like(mean)
    divergence = nn.distributions.normal_kl(mean, log_std, none, none).sum(-1)
    return log_prob(decode(params, codes), levels).sum(-1) - divergence


def weighted(key: jax.Array, params: dict, levels: jax.Array) -> jax.Array:
    """Importance-weighted bound of one image, [784] -> []: log of the mean of p(x | z) p(z) / q(z | x) over SAMPLES."""
    mean, log_std = (jnp.repeat(a, SAMPLES, 0) for a in encode(params, levels[None]))
    codes, none = nn.distributions.normal_sample(key, mean, log_std), jnp.zeros_like(mean)
    prior = nn.distributions.normal_log_prob(none, none, codes).sum(-1)
    posterior = nn.distributions.normal_log_prob(mean, log_std, codes).sum(-1)
    likelihood = log_prob(decode(params, codes), jnp.broadcast_to(levels, (SAMPLES, 784))).sum(-1)
    return jax.nn.logsumexp(likelihood + prior - posterior) - jnp.log(float(SAMPLES))


def objective(params: Any, state: Any, levels: jax.Array, *, key: Any, train: bool) -> tuple[jax.Array, tuple]:
    """Mean negative bound in bits a pixel."""
    return -elbo(key, params, levels).mean() / 784 / jnp.log(2.0), (state, {})


def learn(latent: int, seed: int, train: jax.Array) -> dict:
    """Params of both networks after EPOCHS."""
    optimizer = nn.adam(optax.cosine_decay_schedule(RATE, EPOCHS * (len(train) // BATCH)))
    trainer = nn.objective_trainer(partial(init, latent), objective, optimizer)
    return nn.drive(trainer, jax.random.key(seed), train, epochs=EPOCHS, batch_size=BATCH).ts.params


def bound(params: dict, levels: jax.Array) -> float:
    """Bits a pixel of all images, in parts."""
    parts, of = levels.reshape(-1, 500, 784), jax.jit(elbo)
    return bits([of(jax.random.key(i), params, part) for i, part in enumerate(parts)])


def picture(path: Path, found: dict, pairs: np.ndarray, samples: np.ndarray, grid: np.ndarray, codes: tuple) -> None:
    """Bits a pixel; test images and reconstructions; samples; decoded images of the plane; codes of the test images."""
    figure, axes = subplots(1, 5, (26, 5.6), width_ratios=(0.9, 1, 1, 1, 1.1))
    axes[0].barh(list(found), list(found.values()), color=["tab:blue"] * 2 + ["0.6"] * (len(found) - 2))
    axes[0].bar_label(axes[0].containers[0], fmt="%.2f")
    axes[0].invert_yaxis()
    axes[0].set(title="bits a pixel, test images")
    sheets = {"image, and its reconstruction": (pairs, 8), "samples of the prior": (samples, 8)}
    sheets |= {f"decoded codes of {PLANE} numbers": (grid, SIDE)}
    for place, (title, (images, columns)) in zip(axes[1:4], sheets.items(), strict=True):
        place.imshow(sheet(images, columns), cmap="gray", vmin=0, vmax=1)
        place.set_title(title)
        place.axis("off")
    points = axes[4].scatter(*codes[0].T, c=codes[1], s=3, cmap="tab10", vmin=-0.5, vmax=9.5)
    axes[4].set(title=f"means of {len(codes[0])} test codes by class", xlim=(-4, 4), ylim=(-4, 4))
    figure.colorbar(points, ticks=range(10))
    figure.savefig(path, dpi=70)


def main() -> None:
    """Trains, measures both bounds, the baselines and the samples, and draws the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    nn.reuse_memory()  # before the first computation: keeps the memory of intermediate values
    out, took = folder(), clock()
    fashion = nn.data.load("fashion_mnist")
    parts = fashion.train[0], fashion.test[0]
    train, test = (np.rint(255 * np.asarray(x)).astype(np.int32).reshape(-1, 784) for x in parts)
    train, test, kinds = train[:IMAGES], test[:TESTED], np.asarray(fashion.test[1])[:TESTED]

    runs = [learn(LATENT, seed, jnp.asarray(train)) for seed in range(SEEDS)]
    of = [bound(params, test) for params in runs]
    params, plane = runs[0], learn(PLANE, SEEDS, jnp.asarray(train))
    keys, few = jax.random.split(jax.random.key(1), WEIGHTED), jnp.asarray(test[:WEIGHTED])
    tight = jax.jit(lambda keys, x: jax.lax.map(lambda pair: weighted(pair[0], params, pair[1]), (keys, x)))
    single = bits(jax.jit(elbo)(jax.random.key(2), params, few))
    found = {f"bound, {LATENT} latent": float(np.mean(of)), f"bound, {PLANE} latent": bound(plane, test)}
    many = bits(tight(keys, few))
    print(f"bounds of seeds {np.round(of, 3)}: {np.mean(of):.3f} ± {np.std(of, ddof=min(1, SEEDS - 1)):.3f}")
    print(f"first {WEIGHTED} images: one code {single:.3f}, {SAMPLES} codes {many:.3f}", flush=True)
    rivals = gaussian(train[:FITTED], test, LATENT, ITERATIONS) | compressed(np.uint8(test).reshape(-1, 28, 28))
    found |= rivals
    print(", ".join(f"{name} {value:.3f}" for name, value in found.items()), flush=True)

    codes = jax.random.normal(jax.random.key(3), (len(test) // 2, LATENT))
    keys = jax.random.split(jax.random.key(4), 10)
    of_part = jax.jit(lambda key, z: sample(key, decode(params, z)))
    drawn = np.concatenate([of_part(k, z) for k, z in zip(keys, codes.reshape(10, -1, LATENT), strict=True)])
    look = judge(out)
    samples, real = (np.float32(x.reshape(-1, 28, 28, 1) / 255) for x in (drawn, test))
    far, floor = distances(look(samples)[0], look(real)[0])
    print(f"Fréchet distance of {len(samples)} samples {far:.3f}, of two halves of the test images {floor:.3f}")

    line = jax.scipy.stats.norm.ppf(jnp.linspace(0.02, 0.98, SIDE))
    walk = jnp.stack(jnp.meshgrid(line, -line), -1).reshape(-1, PLANE)
    grid = np.asarray(sample(jax.random.key(5), decode(plane, walk))) / 255
    again = np.asarray(of_part(keys[0], encode(params, few[:16])[0])) / 255
    pairs = np.stack([test[:16] / 255, again], 1).reshape(-1, 28, 28)
    means = np.asarray(encode(plane, jnp.asarray(test))[0])
    picture(out / "vae.png", found, pairs, samples[:64, ..., 0], grid.reshape(-1, 28, 28), (means, kinds))
    print(f"{took()}; the picture is {out / 'vae.png'}")
    assert np.isfinite(of).all()
    assert many < single, "more codes are worse"
    if not SHORT:
        assert max(of) < min(rivals.values()) - LEAST_BITS, "below the figure that this example stands for"


if __name__ == "__main__":
    main()
