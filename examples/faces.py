"""Faces: the three trained networks of MTCNN as one compiled program, and the LBP cascade of scikit-image.

    python examples/faces.py [folder for the picture, by default out] [--short]

The P-Net is applied to all scales of a photo at once and proposes boxes. The R-Net looks at a square around each of
the best ones, and the O-Net at those that remain; both correct the boxes and drop most of them. Each network is
followed by non-maximum suppression of fixed size, so the cascade is one program for a photo of any content. Its weights
are those of facenet-pytorch, and nothing is trained here.

The number of boxes in the photos of scikit-image; there is one face, the astronaut's:

                   astronaut   coffee   chelsea   rocket
    P-Net                 77       66        52       26
    R-Net                  2        0         0        1
    O-Net                  1        0         0        0
    LBP cascade            4        1         0        0

For a table with more faces, two of Labeled Faces in the Wild are pasted into parts of the three photos without people,
in grey. A box is right if its IoU with a face is 0.4 or more. Three times 24 scenes, in percent, mean ± deviation:

                        recall     precision            F1
    P-Net          100.0 ± 0.0    13.1 ± 0.7    23.1 ± 1.1
    R-Net          100.0 ± 0.0    99.3 ± 1.2    99.7 ± 0.6
    O-Net          100.0 ± 0.0   100.0 ± 0.0   100.0 ± 0.0
    LBP cascade     87.5 ± 6.2    91.4 ± 1.8    89.3 ± 3.1

The P-Net sees 12 pixels of a face. That suffices to miss none, and not to tell a face from parts of a cat: the
probability of its best box in the photo of the cat is 0.99. The larger networks decide, and look at no more than 128
and 32 boxes. The scenes are easy for them, since the faces are frontal and have sharp edges; the margin of 5 points in
F1 was fixed before the run.

Ahonen, Hadid, Pietikäinen, Face Description with Local Binary Patterns, 2006: the patterns of the baseline. The source
of MTCNN is in `_cascade.py`.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _cascade import LEAST_SIDE, SIDES, cascade, networks
from _pictures import SHORT, clock, folder, spread, subplots
from skimage import data
from skimage.color import rgb2gray
from skimage.feature import Cascade
from skimage.transform import resize

import jaxnn as nn

nn.reuse_memory()
SEEDS = 1 if SHORT else 3
SCENES = 4 if SHORT else 24  # of each seed
SIDE, FACES, SIZES = 256, 2, (28, 96)  # pixels along a scene, faces in it, and their sides
EMPTY = ("coffee", "chelsea", "rocket")  # photos without people
PORTRAIT, PLACE = "astronaut", (170.0, 60.0, 275.0, 180.0)  # a photo, and the box of the face in it
RIGHT = 0.4  # least IoU of a right box: the crops of the data set are tighter than MTCNN's boxes
GREY = 127  # of the margin of a photo, 0 for the networks
LBP = "LBP cascade"
NAMES = {"pnet": "P-Net", "rnet": "R-Net", "onet": "O-Net", LBP: LBP}
LEAST_GAIN = 0.05  # lead of the F1 score over that of the cascade


def scenes(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Parts of the empty photos in grey [n, SIDE, SIDE] with faces next to each other, and their boxes."""
    random, lfw = np.random.default_rng(seed), nn.data.load("faces").train
    faces, photos = lfw[0][lfw[1] == 1][..., 0], [rgb2gray(getattr(data, name)()) for name in EMPTY]
    images, boxes = [], []
    for i in range(SCENES):
        photo = photos[i % len(photos)]
        top, left = (random.integers(n - SIDE + 1) for n in photo.shape)
        image = photo[top : top + SIDE, left : left + SIDE].copy()
        for k in range(FACES):
            side = random.integers(*SIZES)
            y, x = random.integers(SIDE - side), SIDE * k // FACES + random.integers(SIDE // FACES - side)
            image[y : y + side, x : x + side] = resize(random.choice(faces), (side, side))
            boxes.append((x, y, x + side, y + side))
        images.append((255 * image).astype(np.uint8))
    return np.stack(images), np.array(boxes, np.float32).reshape(SCENES, FACES, 4)


def by_patterns(detector: Any, image: np.ndarray) -> np.ndarray:
    """Boxes of faces in a grey image by the cascade of local binary patterns, [n, 4]."""
    found = detector.detect_multi_scale(image, 1.2, 1, (LEAST_SIDE, LEAST_SIDE), image.shape)
    sides = [(f["c"], f["r"], f["c"] + f["width"], f["r"] + f["height"]) for f in found]
    return np.array(sides, np.float32).reshape(-1, 4)


def matches(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Number of right boxes, of boxes and of true ones; a face is found once."""
    iou = np.asarray(nn.ops.box_iou(jnp.asarray(found), jnp.asarray(true)))
    return np.array([(iou.max(0, initial=0) >= RIGHT).sum(), len(found), len(true)])


def picture(path: Path, photos: dict, found: dict, scene: tuple) -> None:
    """Boxes after each network in the photos and in a scene, with the last probabilities, and the face with points."""
    from matplotlib.patches import Rectangle

    styles = {"pnet": ("deepskyblue", 0.6), "rnet": ("gold", 1.5), "onet": ("lime", 2.2)}
    panels = [(name, photos[name], found[name]) for name in photos]
    panels[1:1] = [("the face", photos[PORTRAIT], {"onet": found[PORTRAIT]["onet"]})]
    whole, axes = subplots(2, 3, (15, 9.5))
    for place, (name, image, of) in zip(axes.flat, [*panels, ("pasted faces", *scene)], strict=True):
        place.imshow(image, cmap="gray")
        for net, (colour, width) in styles.items():
            for box, score in zip(*of[net][:2], strict=True) if net in of else ():
                if score > 0:
                    place.add_patch(Rectangle(box[:2], *(box[2:] - box[:2]), fill=False, ec=colour, lw=width))
        for box, score, points in zip(*of["onet"], strict=True):
            if score > 0:
                place.plot(*points.T, "o", color="lime", ms=6 if len(of) == 1 else 3)
                frame = {"facecolor": "black", "alpha": 0.6, "pad": 1.5, "lw": 0}
                place.text(box[0], box[3], f"{score:.3f}", color="lime", fontsize=11, va="top", bbox=frame)
        if len(of) == 1:
            x1, y1, x2, y2 = PLACE
            place.set(xlim=(x1 - 30, x2 + 30), ylim=(y2 + 30, y1 - 30))
        else:
            place.set(xlim=(0, image.shape[1]), ylim=(image.shape[0], 0))
        place.set_title(name, fontsize=11)
        place.set_axis_off()
    lines = [axes[1, 2].plot([], [], color=colour, lw=width)[0] for colour, width in styles.values()]
    axes[1, 2].legend(lines, [f"after {NAMES[net]}" for net in styles], loc="lower left", fontsize=9)
    whole.savefig(path, dpi=80)


def main() -> None:
    """Finds the faces in the photos and in the scenes, prints the table and draws the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    out, took = folder(), clock()
    models, weights = networks()
    detect = jax.jit(partial(cascade, models), compiler_options=nn.compiler_options(quick=True))
    patterns = Cascade(data.lbp_frontal_face_cascade_filename())
    photos, found = {name: getattr(data, name)() for name in (PORTRAIT, *EMPTY)}, {}
    frame = np.max([photo.shape for photo in photos.values()], 0)
    for name, photo in photos.items():
        margin = [(0, n) for n in frame - photo.shape]  # to one shape, so that one program serves all
        found[name] = jax.tree.map(np.asarray, detect(weights, np.pad(photo, margin, constant_values=GREY)))
        texts = [f"{NAMES[net]} {(found[name][net].scores > 0).sum()}" for net in SIDES]
        texts.append(f"{LBP} {len(by_patterns(patterns, (255 * rgb2gray(photo)).astype(np.uint8)))}")
        print(f"{name:10} {', '.join(texts)}", flush=True)

    counts: dict[str, list] = {name: [] for name in NAMES}
    for seed in range(SEEDS):
        images, boxes = scenes(seed)
        drawn = [jax.tree.map(np.asarray, detect(weights, np.repeat(x[..., None], 3, -1))) for x in images]
        for net in SIDES:
            kept = [f[net].boxes[f[net].scores > 0] for f in drawn]
            counts[net].append(sum(matches(f, b) for f, b in zip(kept, boxes, strict=True)))
        counts[LBP].append(sum(matches(by_patterns(patterns, x), b) for x, b in zip(images, boxes, strict=True)))
    print(f"\n{SCENES} scenes with {FACES} faces, in percent{'recall':>14}{'precision':>14}{'F1':>14}")
    f1 = {}
    for name, of_seeds in counts.items():
        right, boxes_found, faces = np.array(of_seeds, float).T
        f1[name] = 2 * right / (boxes_found + faces)
        table = (right / faces, right / np.maximum(boxes_found, 1), f1[name])
        print(f"{NAMES[name]:36}" + "".join(f"{spread(column):>14}" for column in table))
    picture(out / "faces.png", photos, found, (images[0], drawn[0]))
    print(f"{took()}; the picture is {out / 'faces.png'}")

    face = found[PORTRAIT]["onet"]
    assert matches(face.boxes[face.scores > 0], np.float32([PLACE])).tolist() == [1, 1, 1], "the face is not found"
    assert all(found[name]["onet"].scores.max() == 0 for name in EMPTY), "a face in a photo without people"
    if not SHORT:
        assert f1["onet"].mean() > f1[LBP].mean() + LEAST_GAIN, "MTCNN is little better than the LBP cascade"


if __name__ == "__main__":
    main()
