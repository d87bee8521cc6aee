"""Transfer learning: EfficientNet-Lite0 and its ImageNet weights on a dozen surfaces, with 1 to 16 examples of each.

    python examples/transfer.py [folder for the picture, by default out] [--short]
"""

import sys
import time
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image
from skimage import data as photos

import jaxnn as nn

SHORT = "--short" in sys.argv  # one size, one seed and one block: proves that everything runs
CORES = 2  # as many runs at a time
SEEDS = 1 if SHORT else 5  # each draws other training crops; the test crops are the same
SIZES = (4,) if SHORT else (1, 2, 4, 16)  # training crops of each surface
LONGEST = max(SIZES)  # smaller sets are repeated to this length: one program and as many steps for all sizes
TESTED = 32  # test crops of each surface
SURFACES = (  # both halves of these photos show the same
    *("brick", "cell", "chelsea", "coins", "grass", "gravel", "hubble_deep_field", "immunohistochemistry", "moon"),
    *("page", "rocket", "text"),
)
HALVES = {"train": (0.0, 0.45), "test": (0.55, 1.0)}  # of the width: a gap, so that no crop shows both
SIDE = 64  # pixels; 96 gains 4 points and takes twice the time
ZOOM = 48, 112  # pixels of the photo along the side of a crop
TILT = np.pi / 6
BATCH = 16
SCRATCH_EPOCHS, SCRATCH_RATE = 15, 3e-3  # of 16 · 12 crops; 1e-3 and 1e-2 are no better
EPOCHS = 3  # of fine-tuning
HEAD_RATE, RATE = 1e-3, 3e-4  # of the head, and of pretrained weights, which are nearly right
STRENGTH = 1e-3  # of the penalty on the logistic classifier
RANK = 4
FROZEN = {  # what is fine-tuned -> what is not
    "last block": ("body/stem/*", "body/stage[1-6]/*"),
    "last five blocks": ("body/stem/*", "body/stage[1-5]/*"),
    "all blocks": (),
}


class Point(NamedTuple):
    """One run: its key, its training crops, and the head it starts from."""

    key: Any
    crops: Any
    head: Any = None


def crop(random: np.random.Generator, photo: Image.Image, start: float, end: float) -> np.ndarray:
    """A tilted square of random size from columns `start` to `end` of a photo, [side, side, 1]; mean 0, deviation 1/2."""
    width, height = photo.size
    reach = abs(np.cos(TILT)) + np.sin(TILT)  # of the largest tilt, over the side of the square
    side = min(random.uniform(*ZOOM), height / reach, (end - start) * width / reach)
    angle, margin = random.uniform(-TILT, TILT), side * reach / 2
    x, y = random.uniform(start * width + margin, end * width - margin), random.uniform(margin, height - margin)
    c, s = np.cos(angle) * side / SIDE, np.sin(angle) * side / SIDE
    matrix = (c, -s, x - (c - s) * SIDE / 2, s, c, y - (s + c) * SIDE / 2)
    square = photo.transform((SIDE, SIDE), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    pixels = np.asarray(square, np.float32)[..., None]
    return (pixels - pixels.mean()) / (2 * pixels.std() + 16)


def crops(seed: int, half: str, each: int) -> tuple[np.ndarray, np.ndarray]:
    """That many crops of each surface, one of each in turn, and their labels."""
    random = np.random.default_rng(seed)
    grey = [Image.fromarray(getattr(photos, name)()).convert("L") for name in SURFACES]
    labels = np.tile(np.arange(len(SURFACES)), each)
    return np.stack([crop(random, grey[label], *HALVES[half]) for label in labels]), labels


def rgb(x: jax.Array) -> jax.Array:
    """[n, side, side, 1] -> [n, side, side, 3]"""
    return jnp.repeat(x, 3, -1)


def lora(child: nn.Layer, rank: int, where: str) -> nn.Layer:
    """A layer whose pointwise convolutions at `where` have weights w + a b, with a [in, rank], and b [rank, out] = 0."""

    def name(path: Any) -> str:
        return jax.tree_util.keystr(path, simple=True, separator=".")

    def init(key: jax.Array, x: Any) -> tuple[dict, dict]:
        params, state = child.init(key, x)
        low = {}
        for path, w in jax.tree_util.tree_leaves_with_path(params):
            if fnmatchcase(name(path), where) and w.shape[:2] == (1, 1):
                key, own = jax.random.split(key)
                a = jax.random.normal(own, (w.shape[2], rank)) * w.shape[2] ** -0.5
                low[name(path)] = {"a": a, "b": jnp.zeros((rank, w.shape[3]))}
        return {"base": params, "low": low}, state

    def apply(params: dict, state: dict, x: Any, **how: Any) -> tuple[Any, dict]:
        def sum_of(path: Any, w: jax.Array) -> jax.Array:
            low = params["low"].get(name(path))
            return w if low is None else w + low["a"] @ low["b"]

        return child.apply(jax.tree_util.tree_map_with_path(sum_of, params["base"]), state, x, **how)

    return nn.layer(init, apply, "lora", name=child.name)


def pretrained(x: jax.Array) -> tuple[nn.Layer, dict, dict]:
    """The network without its head, [n, side, side, 3] -> features [n, 1280], with its weights."""
    checkpoint = nn.interop.fetch("efficientnet_lite0")
    whole = nn.models.efficientnet("lite0")
    params, state = nn.interop.load(whole, jax.eval_shape(rgb, x), checkpoint.path, names=checkpoint.names)
    del params["head"]
    return nn.models.efficientnet("lite0", classes=None, name="body"), params, state


def network() -> nn.Layer:
    """A network of the size that suits so few crops, for training from scratch, [n, side, side, 1] -> logits."""
    blocks = [(nn.conv(f, 3, bias=False), nn.batch_norm(), nn.relu, nn.max_pool(2)) for f in (16, 32, 64, 128)]
    return nn.serial(*(part for block in blocks for part in block), nn.global_avg_pool(), nn.dense(len(SURFACES)))


def right(model: nn.Layer, ts: nn.TrainState, test: tuple) -> jax.Array:
    """Accuracy on the test crops."""
    return nn.metrics.accuracy(model.apply(ts.params, ts.state, test[0])[0], test[1]).mean()


def from_scratch(point: Point, train: tuple, test: tuple) -> jax.Array:
    """Accuracy of the small network."""
    model, steps = network(), SCRATCH_EPOCHS * len(SURFACES) * LONGEST // BATCH
    optimizer = nn.adam(optax.cosine_decay_schedule(SCRATCH_RATE, steps))
    trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, optimizer)
    chosen = jax.tree.map(lambda a: a[point.crops], train)
    run = nn.fit(trainer, point.key, chosen, epochs=SCRATCH_EPOCHS, batch_size=BATCH)
    return right(model, run.ts, test)


def logistic(point: Point, train: tuple, test: tuple) -> tuple[dict, jax.Array]:
    """Params and accuracy of a logistic classifier on the features of the frozen network."""
    model, penalty = nn.dense(len(SURFACES), w_init=nn.init.zeros), nn.regularizers.l2(STRENGTH)
    trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, optax.lbfgs(), regularizer=penalty)
    run = nn.fit(trainer, point.key, jax.tree.map(lambda a: a[point.crops], train), epochs=100)
    return run.ts.params, right(model, run.ts, test)


def tuned(
    body: nn.Layer, frozen: Any, rates: tuple, point: Point, weights: tuple, train: tuple, test: tuple
) -> tuple[jax.Array, jax.Array]:
    """Accuracy after fine-tuning from the logistic classifier; and whether all that is frozen has stayed as it was."""
    model = nn.serial(rgb, nn.inference(body), nn.dense(len(SURFACES), name="head"))
    optimizer = nn.by_path({"head/*": nn.adam(rates[0]), "*": nn.adam(rates[1])})
    trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, optimizer, frozen=frozen)
    start, state = {"body": weights[0], "head": point.head}, {"body": weights[1]}
    chosen = jax.tree.map(lambda a: a[point.crops], train)
    run = nn.fit(trainer, point.key, chosen, epochs=EPOCHS, batch_size=BATCH, params=start, state=state)
    same = jax.tree.map(lambda a, b: jnp.all(a == b), run.ts.state, state)
    return right(model, run.ts, test), jnp.all(jnp.stack(jax.tree.leaves(same)))
