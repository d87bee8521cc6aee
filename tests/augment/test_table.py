"""One table of all augmentations of an image, by the rules of the room: identity, dtypes, channels, vmap, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import augment

KEY = jax.random.key(7)
SIZED = {"center_crop": 3, "crop": 4, "resize": 6, "resized_crop": 4}  # the size of the result
STRENGTHS = {  # a zero, which may be traced -> the augmentation that changes nothing
    "affine": lambda zero: augment.affine(zero, zero, zero, zero),
    "blur": lambda zero: augment.blur(zero, kernel_size=5),
    "brightness": augment.brightness,
    "channel_shift": augment.channel_shift,
    "contrast": augment.contrast,
    "cutout": lambda zero: augment.cutout(0, zero),
    "elastic": augment.elastic,
    "flip": lambda zero: augment.flip("vertical", zero),
    "gamma": augment.gamma,
    "hue": augment.hue,
    "noise": augment.noise,
    "pca_color": augment.pca_color,
    "perspective": augment.perspective,
    "rotate": augment.rotate,
    "saturation": augment.saturation,
    "sharpness": augment.sharpness,
    "shear": augment.shear,
    "solarize": lambda zero: augment.solarize(zero + 1.5),
    "translate": augment.translate,
    "zoom": augment.zoom,
    **{
        f"{fill}, {method}": lambda zero, fill=fill, method=method: augment.rotate(zero, fill=fill, method=method)
        for fill, method in (("edge", "linear"), ("reflect", "linear"), ("reflect", "nearest"))
    },
}
PIECES = {
    **{
        name: getattr(augment, name)()
        for name in (
            *("affine", "autocontrast", "blur", "brightness", "channel_shift", "channel_shuffle", "contrast"),
            *("elastic", "equalize", "flip", "gamma", "grayscale", "hue", "invert", "noise", "pca_color"),
            *("perspective", "posterize", "rand_augment", "rotate", "saturation", "sharpness", "shear", "solarize"),
            *("translate", "trivial_augment", "zoom"),
        )
    },
    **{name: getattr(augment, name)(size) for name, size in SIZED.items()},
    "cutout": augment.cutout(3),
}
OF_BATCHES = {"batched", "chain", "sometimes", "mixup", "cutmix"}
FITTED = {"Normalization", "Whitening", "normalization", "whitening"}
COLORED = {"grayscale", "hue", "pca_color", "saturation"}  # these need 3 channels
GEOMETRIC = {"affine", "elastic", "flip", "perspective", "rotate", "shear", "translate", "zoom", *SIZED}
DRAW_NOTHING = {"autocontrast", "center_crop", "equalize", "grayscale", "invert", "posterize", "resize", "solarize"}
FLAT = {"equalize", "posterize"}  # their derivative is 0


def image(dtype="float32", shape=(7, 5, 3)):
    x = np.random.default_rng(0).uniform(0, 1, shape)
    return jnp.asarray(x * 255, jnp.uint8) if dtype == "uint8" else jnp.asarray(x, dtype)


def test_the_table_is_whole():
    assert PIECES.keys() | OF_BATCHES | FITTED == set(augment.__all__)
    drawn = {"autocontrast", "channel_shuffle", "equalize", "grayscale", "invert", "posterize", *SIZED}
    assert PIECES.keys() - STRENGTHS.keys() == drawn | {"rand_augment", "trivial_augment"}


@pytest.mark.parametrize(
    "dtype", ["float32", *(pytest.param(d, marks=pytest.mark.slow) for d in ("uint8", "bfloat16"))]
)
def test_without_strength_the_image_stays_to_the_bit(dtype):
    x = image(dtype)
    run = jax.jit(lambda zero, x: {name: make(zero)(KEY, x) for name, make in STRENGTHS.items()})
    for name, y in run(jnp.zeros(()), x).items():
        assert y.dtype == x.dtype, name
        np.testing.assert_array_equal(np.asarray(y), np.asarray(x), err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "uint8", "bfloat16", "float16", "float64"])
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_shape_and_dtype_stay(dtype):
    for name, f in PIECES.items():
        for shape in [(7, 5, 3), (1, 1, 3)]:
            if shape[0] < SIZED.get(name, 0) and name in ("crop", "center_crop"):
                continue
            y = jax.eval_shape(f, KEY, jax.eval_shape(lambda shape=shape: jnp.zeros(shape, dtype)))
            size = (SIZED[name],) * 2 if name in SIZED else shape[:2]
            assert (y.shape, y.dtype) == ((*size, 3), jnp.dtype(dtype)), name


@pytest.mark.parametrize("channels", [1, 4])
def test_other_numbers_of_channels(channels):
    x = jax.ShapeDtypeStruct((7, 5, channels), jnp.uint8)
    for name, f in PIECES.items():
        if name in COLORED:
            with pytest.raises(ValueError, match=rf"^{name}: expected an image with 3 channels, got uint8\[7, 5"):
                jax.eval_shape(f, KEY, x)
        else:
            assert jax.eval_shape(f, KEY, x).shape[-1] == channels, name


PARTS = {
    "image": image(),
    "mask": jnp.arange(35).reshape(7, 5),
    "boxes": jnp.array([[1.0, 1.0, 3.0, 4.0]]),
    "keypoints": jnp.array([[2.0, 2.0], [0.5, 3.0]]),
}


@pytest.fixture(scope="module")
def drawn():
    """Four draws of each piece by one vmapped program; of geometric ones also the first, with all parts."""
    keys = jax.random.split(KEY, 4)

    @jax.jit
    def run(keys, parts):
        each = {name: jax.vmap(f, (0, None))(keys, parts["image"]) for name, f in PIECES.items()}
        return each, {name: PIECES[name](keys[0], parts) for name in sorted(GEOMETRIC)}

    return run(keys, PARTS)


@pytest.mark.slow
@pytest.mark.parametrize("name", PIECES)
def test_draws_are_images(name, drawn):
    y = np.asarray(drawn[0][name])
    assert np.isfinite(y).all()
    assert (y >= 0).all()
    assert (y <= 1).all()
    assert (np.ptp(y, axis=0).max() == 0) == (name in DRAW_NOTHING)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(GEOMETRIC))
def test_geometric_augmentations_move_all_parts(name, drawn):
    """The image as under vmap and without the other parts; their values are compared in test_geometry.py."""
    images, examples = drawn
    alone = examples[name]
    np.testing.assert_allclose(alone["image"], images[name][0], atol=1e-5)
    assert alone["mask"].dtype == jnp.int32
    assert alone["mask"].shape == images[name].shape[1:3]
    assert (alone["boxes"].shape, alone["keypoints"].shape) == ((1, 4), (2, 2))


@pytest.mark.parametrize("name", sorted(PIECES.keys() - GEOMETRIC - {"rand_augment", "trivial_augment"}))
def test_other_augmentations_change_the_image_alone(name):
    def run(parts):
        new = PIECES[name](KEY, parts)
        assert list(new) == list(parts)
        assert [part for part in parts if new[part] is parts[part]] == ["boxes", "keypoints", "mask"]
        return new

    jax.eval_shape(run, PARTS)


@pytest.mark.slow
def test_gradients_are_finite():
    @jax.jit
    def run(x):
        return {
            name: jax.grad(lambda x, f=f: (f(KEY, x) ** 2).sum())(x)
            for name, f in PIECES.items()
            if name not in ("rand_augment", "trivial_augment", "affine", "shear", "translate", "zoom")  # as rotate
        }

    for name, g in run(image().at[0, 0].set(0.0).at[1, 1].set(1.0)).items():
        assert np.isfinite(g).all(), name
        assert (np.abs(np.asarray(g)).max() > 0) == (name not in FLAT), name


@pytest.mark.slow
def test_images_of_half_precision_are_augmented_in_single():
    x = image("bfloat16")
    names = ("blur", "brightness", "contrast", "crop", "gamma", "hue", "noise", "rotate")
    run = jax.jit(lambda x: {name: PIECES[name](KEY, x) for name in names})
    half, single = run(x), run(x.astype(jnp.float32))
    for name in names:
        want = single[name].astype(jnp.bfloat16).astype(jnp.float32)
        np.testing.assert_allclose(half[name].astype(jnp.float32), want, rtol=2**-7, atol=1e-6, err_msg=name)
