"""Augmentations of images: each name makes a pure function `(key, image) -> image`, for `nn.fit(..., augment=)`.

    augment = nn.augment
    train_time = augment.batched(augment.chain(augment.flip(), augment.crop(32, padding=4), augment.brightness(0.2)))
    nn.fit(trainer, key, (x, y), epochs=10, batch_size=128, augment=train_time)

These rules hold for all augmentations:

* An image is one array [h, w, c] without a batch axis, with any number of channels unless stated. It is floating, in
  [0, 1], or uint8, in [0, 255]. The result has the same dtype; bytes are rounded. Arithmetic is in at least float32.
* Colour augmentations clip their result to [0, 1], so apply them before normalization. Geometric ones do not clip, and
  work on any floating array.
* An example may be a dict {"image": [h, w, c]} with any of "mask", [h, w] or [h, w, k], of any dtype; "boxes", [k, 4],
  (x1, y1, x2, y2); and "keypoints", [k, 2], (x, y). Geometric augmentations move all parts, masks with "nearest";
  colour augmentations change the image alone.
* Coordinates are in pixels from the upper left corner of the image: the pixel in row i and column j covers [j, j + 1) ×
  [i, i + 1). A moved box is the smallest one around its four moved corners, clipped to the image: a box that has left
  the image has no area. Keypoints are not clipped.
* A strength is a number, the range around the magnitude that changes nothing, or a pair (low, high) of magnitudes, from
  which each image draws uniformly. `(a, a)` is always a. At strength 0 the result is the image, bit for bit.
* Strengths, probabilities and fill values may be traced; sizes and names may not. Everything works under `jit`,
  `vmap` and `grad`; images of a batch draw independently by `batched`.
* `mixup` and `cutmix` act on a batch `(x, y)`: chain them after `batched`.
"""

from typing import TYPE_CHECKING

from jaxnn import _elsewhere
from jaxnn.augment._colors import (
    brightness,
    channel_shift,
    channel_shuffle,
    contrast,
    gamma,
    grayscale,
    hue,
    pca_color,
    saturation,
)
from jaxnn.augment._compose import batched, chain, sometimes
from jaxnn.augment._crops import center_crop, crop, flip, resize, resized_crop
from jaxnn.augment._filters import blur, cutout, noise, sharpness
from jaxnn.augment._fitted import Normalization, Whitening, normalization, whitening
from jaxnn.augment._geometry import affine, elastic, perspective, rotate, shear, translate, zoom
from jaxnn.augment._mixing import cutmix, mixup
from jaxnn.augment._policies import rand_augment, trivial_augment
from jaxnn.augment._tones import autocontrast, equalize, invert, posterize, solarize

__all__ = [
    "Normalization",
    "Whitening",
    "affine",
    "autocontrast",
    "batched",
    "blur",
    "brightness",
    "center_crop",
    "chain",
    "channel_shift",
    "channel_shuffle",
    "contrast",
    "crop",
    "cutmix",
    "cutout",
    "elastic",
    "equalize",
    "flip",
    "gamma",
    "grayscale",
    "hue",
    "invert",
    "mixup",
    "noise",
    "normalization",
    "pca_color",
    "perspective",
    "posterize",
    "rand_augment",
    "resize",
    "resized_crop",
    "rotate",
    "saturation",
    "sharpness",
    "shear",
    "solarize",
    "sometimes",
    "translate",
    "trivial_augment",
    "whitening",
    "zoom",
]


if not TYPE_CHECKING:  # lets type checkers report names that do not exist

    def __getattr__(name):
        raise _elsewhere.missing(__name__, name)
