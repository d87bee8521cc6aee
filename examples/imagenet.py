"""Photos classified by EfficientNet-Lite0 with its published weights, and the five best classes of each as a picture.

    python examples/imagenet.py [photos, by default those of scikit-image]

The weights are a file of PyTorch from the package index, read without PyTorch. Asserted is that the best classes of
scikit-image's photos are an espresso, a cat and a missile.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from _pictures import figure
from PIL import Image

import jaxnn as nn

SIDE = 224  # that of the network's training
PART = 224 / 256  # of the shorter side: as its authors evaluate it
BEST = 5
PHOTOS = ("coffee", "chelsea", "rocket", "astronaut")
EXPECTED = {"coffee": {"espresso"}, "chelsea": {"tiger cat", "Egyptian cat", "tabby"}, "rocket": {"missile"}}


def square(image: Image.Image) -> Image.Image:
    """The central square of a photo, resized to the side of the network."""
    side = int(PART * min(image.size))
    left, top = ((size - side) // 2 for size in image.size)
    box = (left, top, left + side, top + side)
    return image.convert("RGB").crop(box).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def photos(paths: list[str]) -> dict[str, Image.Image]:
    """Name -> photo, of the paths or of scikit-image."""
    if paths:
        return {Path(path).stem: Image.open(path) for path in paths}
    from skimage import data

    return {name: Image.fromarray(getattr(data, name)()) for name in PHOTOS}


def picture(path: Path, images: dict[str, Image.Image], best: dict[str, list[tuple[str, float]]]) -> None:
    """Each photo with bars of its best classes."""
    whole = figure((3.2 * len(images), 5), layout=None)
    axes = whole.subplots(2, len(images), height_ratios=(2, 1), squeeze=False)
    for i, (name, image) in enumerate(images.items()):
        axes[0, i].imshow(image)
        axes[0, i].set_title(name)
        axes[0, i].axis("off")
        classes, probabilities = zip(*best[name], strict=True)
        bars = axes[1, i].barh(range(BEST), probabilities, color="tab:blue", alpha=0.5)
        axes[1, i].set(xlim=(0, 1), yticks=[], xticks=[0, 0.5, 1])
        axes[1, i].invert_yaxis()
        for bar, label, p in zip(bars, classes, probabilities, strict=True):
            axes[1, i].text(0.02, bar.get_y() + bar.get_height() / 2, f"{label}  {p:.2f}", va="center", fontsize=9)
    whole.tight_layout()
    whole.savefig(path, dpi=110)


def main() -> None:
    """Loads the weights, classifies the photos and saves the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    images = {name: square(image) for name, image in photos(sys.argv[1:]).items()}
    x = (jnp.stack([np.asarray(image, np.float32) for image in images.values()]) - 127) / 128

    checkpoint = nn.interop.fetch("efficientnet_lite0")
    model = nn.models.efficientnet("lite0")
    params, state = nn.interop.load(model, x, checkpoint.path, names=checkpoint.names)
    logits = jax.jit(lambda x: model.apply(params, state, x)[0])(x)

    best = {}
    for name, p in zip(images, np.asarray(nn.softmax(logits)), strict=True):
        best[name] = [(checkpoint.classes[i], float(p[i])) for i in np.argsort(-p)[:BEST]]
        print(f"{name:10}", ", ".join(f"{label} {probability:.2f}" for label, probability in best[name]))
    out = Path("out")
    out.mkdir(exist_ok=True)
    picture(out / "imagenet.png", images, best)
    print(out / "imagenet.png")
    for name in EXPECTED.keys() & best.keys():
        assert best[name][0][0] in EXPECTED[name], name


if __name__ == "__main__":
    main()
