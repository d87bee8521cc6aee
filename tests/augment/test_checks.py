"""The errors of augmentations, with their whole text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import augment

KEY = jax.random.key(0)
IMAGE = jnp.zeros((4, 4, 3))
WRONG = {
    lambda: augment.rotate((1.0, 2.0, 3.0)): "rotate: expected degrees to be a pair (low, high), got (1.0, 2.0, 3.0).",
    lambda: augment.rotate((2.0, 1.0)): "rotate: expected degrees to be a pair with low <= high, got (2.0, 1.0).",
    lambda: augment.hue((-0.6, 0.0)): "hue: expected strength in [-0.5, 0.5], got -0.6.",
    lambda: augment.hue(0.6): "hue: expected strength in [0, 0.5], got 0.6.",
    lambda: augment.zoom(1.0): "zoom: expected strength in [0, 1), got 1.0.",
    lambda: augment.zoom((0.0, 1.0)): "zoom: expected strength in (0, inf), got 0.0.",
    lambda: augment.shear((0.0, 50.0)): "shear: expected degrees in (-45, 45), got 50.0.",
    lambda: augment.brightness("much"): "brightness: expected strength to be a real number, got 'much'. Pass a float.",
    lambda: augment.blur(kernel_size=4): "blur: expected kernel_size to be odd, got 4.",
    lambda: augment.crop((1, 2, 3)): "crop: expected size to be an integer or a pair (height, width), got (1, 2, 3).",
    lambda: augment.crop(2.0): "crop: expected size to be an integer >= 1, got 2.0.",
    lambda: augment.crop(2, padding=-1): "crop: expected padding to be an integer >= 0, got -1.",
    lambda: augment.crop(2, fill="mirror"): (
        "crop: expected fill to be one of 'constant', 'edge', 'reflect', got 'mirror'."
    ),
    lambda: augment.resized_crop(2, area=0.5): "resized_crop: expected area to be a pair (low, high), got 0.5.",
    lambda: augment.resized_crop(2, area=(0.0, 1.0)): "resized_crop: expected area in (0, 1], got 0.0.",
    lambda: augment.resized_crop(2, ratio=(1.0, np.inf)): "resized_crop: expected ratio in (0, inf), got inf.",
    lambda: augment.posterize(9): "posterize: expected bits to be an integer >= 0 and <= 8, got 9.",
    lambda: augment.posterize(1.5): "posterize: expected bits to be an integer >= 0 and <= 8, got 1.5.",
    lambda: augment.pca_color(scales=(1.0,)): (
        "pca_color: expected directions of shape [1, 1], got float64[3, 3]. Nothing is broadcast."
    ),
    lambda: augment.chain(augment.flip(), 3): (
        "chain: expected each argument to be a function (key, example) -> example, got 3."
    ),
    lambda: augment.crop(5)(KEY, IMAGE): (
        "crop: expected an image of at least 5 × 5 pixels, padding included, got float32[4, 4, 3]."
    ),
    lambda: augment.flip()(KEY, IMAGE[None]): (
        "flip: expected one image [h, w, c], got float32[1, 4, 4, 3]. For batches use nn.augment.batched."
    ),
    lambda: augment.flip()(KEY, IMAGE[..., 0]): (
        "flip: expected one image [h, w, c], got float32[4, 4]. A grey image is image[..., None]."
    ),
    lambda: augment.flip()(KEY, IMAGE.astype(jnp.int32)): (
        "flip: expected an image [h, w, c], floating in [0, 1] or uint8, got int32[4, 4, 3]. "
        "Convert it: x.astype(jnp.float32) / 255."
    ),
    lambda: augment.flip()(IMAGE, KEY): (
        "flip: expected an image [h, w, c], floating in [0, 1] or uint8, got key<fry>[]. The order is f(key, image)."
    ),
    lambda: augment.flip()(
        KEY, {"mask": IMAGE}
    ): "flip: expected a dict with the key \"image\", got the keys ['mask'].",
    lambda: augment.flip()(KEY, {"image": IMAGE, "box": IMAGE}): (
        "flip: expected a dict with keys among image, mask, boxes, keypoints, got the key 'box'."
    ),
    lambda: augment.flip()(KEY, {"image": IMAGE, "mask": IMAGE[1:]}): (
        "flip: expected a mask of shape [4, 4] or [4, 4, k], got float32[3, 4, 3]."
    ),
    lambda: augment.flip()(KEY, {"image": IMAGE, "boxes": jnp.zeros((2, 3))}): (
        "flip: expected boxes of shape [k, 4], got float32[2, 3]."
    ),
    lambda: augment.flip()(KEY, {"image": IMAGE, "keypoints": jnp.zeros((2, 2), int)}): (
        "flip: expected keypoints of a floating dtype, got int32[2, 2]. Cast it: jnp.asarray(x, jnp.float32)."
    ),
    lambda: augment.sometimes(augment.crop(2))(KEY, IMAGE): (
        "sometimes: expected an augmentation that keeps float32[4, 4, 3], got one that returns float32[2, 2, 3]. "
        "Resize before it, or after it."
    ),
    lambda: augment.batched(augment.flip(), target="mask")(KEY, IMAGE[None]): (
        "batched: expected a batch (x, y) or (x, y, weights) with images x, got float32[1, 4, 4, 3]."
    ),
    lambda: augment.mixup()(KEY, (IMAGE[None], jnp.zeros(1, int))): (
        "mixup: expected floating y, such as one-hot labels, got int32[1]. Pass classes= for integer labels."
    ),
    lambda: augment.mixup(classes=2)(KEY, (IMAGE[None], jnp.zeros((1, 2)))): (
        "mixup: expected integer labels y of shape [n] with classes=, got float32[1, 2]."
    ),
    lambda: augment.cutmix()(KEY, IMAGE[None]): (
        "cutmix: expected a batch (x, y), got float32[1, 4, 4, 3]. Labels are mixed together with their images."
    ),
    lambda: augment.cutmix()(KEY, (IMAGE, jnp.zeros((4, 2)))): (
        "cutmix: expected x of shape [n, h, w, c] and y of shape [n, ...], got (float32[4, 4, 3], float32[4, 2])."
    ),
    lambda: augment.mixup()(KEY, (jnp.zeros((1, 2, 2, 1), int), jnp.zeros((1, 2)))): (
        "mixup: expected images x, floating or uint8, got int32[1, 2, 2, 1]."
    ),
    lambda: augment.whitening(jnp.zeros(3)): (
        "whitening: expected data of shape [n, ..., c] with at least one example, got float32[3]."
    ),
    lambda: augment.normalization(jnp.zeros((0, 3))): (
        "normalization: expected data of shape [n, ..., c] with at least one example, got float32[0, 3]."
    ),
    lambda: augment.normalization(jnp.zeros((2, 3), int)): (
        "normalization: expected data to be a floating or uint8 array, got int32[2, 3]."
    ),
    lambda: augment.normalization(IMAGE).apply(jnp.zeros(2)): (
        "Normalization.apply: expected x of shape [..., 3], got float32[2]."
    ),
    lambda: augment.whitening(IMAGE).invert(jnp.zeros((2, 3))): (
        "Whitening.invert: expected x of shape [..., 4, 3], got float32[2, 3]."
    ),
}


@pytest.mark.parametrize("call", WRONG, ids=WRONG.values())
def test_wrong_calls(call):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert str(caught.value) == WRONG[call]


def test_a_traced_sigma_needs_a_kernel_size():
    with pytest.raises(TypeError, match=r"^blur: expected sigma to be a real number, got a traced float32\[\]\."):
        jax.eval_shape(lambda sigma: augment.blur(sigma)(KEY, IMAGE), 1.0)
