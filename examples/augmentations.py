"""A sheet of all augmentations: four draws of each on two photos, with a box that moves along, as one picture.

    python examples/augmentations.py [folder for the picture, by default out]

Each row is one call of a vmapped function with four keys. The box in the first photo moves with the image; mixup and
cutmix mix both photos. Asserted is that the augmentations draw different images, all but those that draw nothing, and
that geometric ones alone move the box.
"""

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from _pictures import figure, folder

import jaxnn as nn
from jaxnn import augment

DRAWS = 4
SIDE = 96
BOX = np.float32([[34, 26, 66, 62]])  # around the middle floors of the pavilion
COLUMNS = 3  # of rows of draws
COLORS = ("brightness", "channel_shift", "contrast", "gamma", "hue", "noise", "pca_color", "saturation", "sharpness")
PIECES = {
    "flip": augment.flip(),
    "crop(96, padding=16)": augment.crop(SIDE, padding=16),
    "center_crop(64)": augment.center_crop(64),
    "resize((48, 96))": augment.resize((48, 96)),
    "resized_crop(96)": augment.resized_crop(SIDE),
    "rotate(30)": augment.rotate(30.0),
    "shear(20)": augment.shear(20.0),
    "zoom(0.4)": augment.zoom(0.4),
    "translate(0.2)": augment.translate(0.2),
    "affine, edge": augment.affine(fill="edge"),
    "affine, reflect": augment.affine(fill="reflect"),
    "perspective(0.5)": augment.perspective(0.5),
    "elastic(80)": augment.elastic(80.0),
    "brightness(0.5)": augment.brightness(0.5),
    "contrast(0.8)": augment.contrast(0.8),
    "saturation(1)": augment.saturation(1.0),
    "hue(0.5)": augment.hue(0.5),
    "gamma(0.8)": augment.gamma(0.8),
    "channel_shift(0.3)": augment.channel_shift(0.3),
    "channel_shuffle": augment.channel_shuffle(),
    "pca_color(1)": augment.pca_color(1.0),
    "grayscale, sometimes": augment.sometimes(augment.grayscale()),
    "blur": augment.blur(),
    "sharpness((1, 6))": augment.sharpness((1.0, 6.0)),
    "noise(0.1)": augment.noise(0.1),
    "cutout(32)": augment.cutout(32),
    "invert, sometimes": augment.sometimes(augment.invert()),
    "solarize, sometimes": augment.sometimes(augment.solarize()),
    "posterize(2), sometimes": augment.sometimes(augment.posterize(2)),
    "autocontrast": augment.autocontrast(),
    "equalize": augment.equalize(),
    "rand_augment": augment.rand_augment(),
    "trivial_augment": augment.trivial_augment(),
}
DRAW_NOTHING = {"center_crop(64)", "resize((48, 96))", "autocontrast", "equalize"}
MOVING = list(PIECES)[: list(PIECES).index("brightness(0.5)")]


def photos() -> tuple[np.ndarray, np.ndarray]:
    """The two photos of scikit-learn, bytes [96, 96, 3]."""
    from sklearn.datasets import load_sample_image

    def small(name: str, top: int, left: int) -> np.ndarray:
        part = load_sample_image(name)[top : top + 4 * SIDE, left : left + 4 * SIDE]
        return np.asarray(augment.resize(SIDE)(jax.random.key(0), part))

    return small("china.jpg", 20, 60), small("flower.jpg", 20, 130)


def drawn(first: np.ndarray, second: np.ndarray) -> dict[str, list[tuple[np.ndarray, np.ndarray | None]]]:
    """Name -> draws, each an image and the moved box, or None."""
    keys = jax.random.split(jax.random.key(4), DRAWS)
    example = {"image": first, "boxes": BOX}
    rows = {}
    options = nn.compiler_options(quick=True)
    for name, f in PIECES.items():
        y = jax.jit(jax.vmap(f, (0, None)), compiler_options=options)(keys, example)
        rows[name] = list(zip(np.asarray(y["image"]), np.asarray(y["boxes"]), strict=True))
    for f in (augment.mixup(1.0, classes=2), augment.cutmix(1.0, classes=2)):
        batch = jnp.stack([first, second] * (4 * DRAWS)), jnp.arange(8 * DRAWS) % 2
        x, y = jax.jit(f, compiler_options=options)(keys[0], batch)
        mixed = np.flatnonzero(np.asarray(y).max(1) < 0.97)[:DRAWS]
        rows[f"{f.__name__}(1)"] = [(np.asarray(x)[i], None) for i in mixed]
    colors = augment.chain(*(getattr(augment, name)() for name in COLORS))
    chained = jax.jit(jax.vmap(colors, (0, None)), compiler_options=options)(keys, first)
    rows["chain of colours"] = [(image, None) for image in np.asarray(chained)]
    return rows


def picture(path: Path, rows: dict[str, list[tuple[np.ndarray, np.ndarray | None]]], first: np.ndarray) -> None:
    """All rows in columns, with their names."""
    from matplotlib.patches import Rectangle

    rows = {"the photo": [(first, BOX)]} | rows
    high = -(-len(rows) // COLUMNS)
    whole = figure((COLUMNS * (DRAWS + 1.6), 1.02 * high), layout=None)
    axes = whole.subplots(high, COLUMNS * (DRAWS + 1), width_ratios=([1.6] + [1] * DRAWS) * COLUMNS)
    for ax in axes.flat:
        ax.axis("off")
    for n, (name, draws) in enumerate(rows.items()):
        row, column = n % high, n // high * (DRAWS + 1)
        axes[row, column].text(1, 0.5, name.replace(", ", ",\n"), ha="right", va="center", fontsize=9)
        axes[row, column].set(xlim=(0, 1), ylim=(0, 1))
        for i, (image, boxes) in enumerate(draws):
            ax = axes[row, column + 1 + i]
            h, w, _ = image.shape
            ax.imshow(image, extent=(0, w, h, 0))
            for x1, y1, x2, y2 in () if boxes is None else boxes:
                ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec="yellow", lw=1))
    whole.subplots_adjust(0, 0.005, 0.998, 0.995, 0.03, 0.03)
    whole.savefig(path, dpi=110)


def main() -> None:
    """Draws everything, and saves the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    out = folder()
    start = time.perf_counter()
    first, second = photos()
    rows = drawn(first, second)
    picture(out / "augmentations.png", rows, first)
    print(f"{len(rows)} rows, {time.perf_counter() - start:.0f} s, compile included; {out / 'augmentations.png'}")
    for name, draws in rows.items():
        different = {image.tobytes() for image, _ in draws}
        assert (len(different) == 1) == (name in DRAW_NOTHING), name
        assert len(draws) == DRAWS, name
    for name in PIECES:
        moved = any((boxes != BOX).any() for _, boxes in rows[name])
        assert moved == (name in MOVING) or name.endswith("_augment"), name


if __name__ == "__main__":
    main()
