"""Every model against published counts of params, and small variants of each: paths, dtypes, training, errors."""

from functools import cache, partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn
from jaxnn import models
from jaxnn.layers._weights import Weights
from jaxnn.models import _efficientnet, _mobilenet, _resnet

IMAGENET, CIFAR = (1, 224, 224, 3), (1, 32, 32, 3)
KEY = jax.random.key(0)

TORCHVISION = "torchvision.models, number of params of each model in its documentation"
HE = "He et al. 2015, table 6, and Idelbayev's table of torch CIFAR ResNets"
TIMM = "timm, table of results, 25.55 M"
WIDE = "Zagoruyko & Komodakis 2016, table 4: 36.5 M, 11.0 M, 8.9 M"
LITE = "README of EfficientNet-Lite: 4.7 M, 5.4 M, 6.1 M, 8.2 M, 13.0 M"

# id -> model, shape of x, number of params, its source
PUBLISHED = {
    "resnet 18": (lambda: models.resnet(18), IMAGENET, 11_689_512, TORCHVISION),
    "resnet 34": (lambda: models.resnet(34), IMAGENET, 21_797_672, TORCHVISION),
    "resnet 50": (lambda: models.resnet(50), IMAGENET, 25_557_032, TORCHVISION),
    "resnet 101": (lambda: models.resnet(101), IMAGENET, 44_549_160, TORCHVISION),
    "resnet 152": (lambda: models.resnet(152), IMAGENET, 60_192_808, TORCHVISION),
    "resnet 50 v2": (lambda: models.resnet(50, preactivation=True), IMAGENET, 25_549_352, TIMM),
    "resnet 20": (lambda: models.resnet(20, classes=10), CIFAR, 269_722, HE),
    "resnet 20 B": (lambda: models.resnet(20, classes=10, shortcut="project"), CIFAR, 272_474, HE),
    "resnet 32": (lambda: models.resnet(32, classes=10), CIFAR, 464_154, HE),
    "resnet 44": (lambda: models.resnet(44, classes=10), CIFAR, 658_586, HE),
    "resnet 56": (lambda: models.resnet(56, classes=10), CIFAR, 853_018, HE),
    "resnet 110": (lambda: models.resnet(110, classes=10), CIFAR, 1_727_962, HE),
    "resnet 18 cifar": (
        lambda: models.resnet(18, classes=10, stem="cifar"),
        CIFAR,
        11_173_962,
        "kuangliu's pytorch-cifar",
    ),
    "wide_resnet 28 10": (lambda: models.wide_resnet(), CIFAR, 36_479_194, WIDE),
    "wide_resnet 16 8": (lambda: models.wide_resnet(16, 8), CIFAR, 10_961_370, WIDE),
    "wide_resnet 40 4": (lambda: models.wide_resnet(40, 4), CIFAR, 8_949_210, WIDE),
    "vgg 11": (lambda: models.vgg(11), IMAGENET, 132_863_336, TORCHVISION),
    "vgg 13": (lambda: models.vgg(13), IMAGENET, 133_047_848, TORCHVISION),
    "vgg 16": (lambda: models.vgg(16), IMAGENET, 138_357_544, TORCHVISION),
    "vgg 19": (lambda: models.vgg(19), IMAGENET, 143_667_240, TORCHVISION),
    "vgg 16 bn": (lambda: models.vgg(16, norm=nn.batch_norm), IMAGENET, 138_365_992, TORCHVISION),
    "mobilenet_v2": (lambda: models.mobilenet_v2(), IMAGENET, 3_504_872, TORCHVISION),
    "efficientnet b0": (lambda: models.efficientnet("b0"), IMAGENET, 5_288_548, TORCHVISION),
    "efficientnet b1": (lambda: models.efficientnet("b1"), IMAGENET, 7_794_184, TORCHVISION),
    "efficientnet b2": (lambda: models.efficientnet("b2"), IMAGENET, 9_109_994, TORCHVISION),
    "efficientnet b3": (lambda: models.efficientnet("b3"), IMAGENET, 12_233_232, TORCHVISION),
    "efficientnet b7": (lambda: models.efficientnet("b7"), IMAGENET, 66_347_960, TORCHVISION),
    "efficientnet lite0": (lambda: models.efficientnet("lite0"), IMAGENET, 4_652_008, LITE),
    "efficientnet lite4": (lambda: models.efficientnet("lite4"), IMAGENET, 13_006_568, LITE),
    "lenet": (lambda: models.lenet(), (1, 28, 28, 1), 61_706, "Zhang et al., Dive into Deep Learning, 7.6"),
    "mlp": (
        lambda: models.mlp(10, hidden=(300, 100)),
        (1, 784),
        266_610,
        "LeCun et al. 1998, LeNet-300-100",
    ),
}
LARGE = {f"resnet {n}" for n in (34, 101, 152, 32, 44, 56, 110)} | {f"efficientnet b{n}" for n in (0, 1, 2, 3, 7)}
LARGE |= {"efficientnet lite4", "vgg 13", "vgg 19", "wide_resnet 40 4"}


def shape(x, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(x, dtype)


def paths(tree, prefix=""):
    found = {}
    for name, node in tree.items():
        found |= paths(node, f"{prefix}{name}/") if isinstance(node, dict) else {prefix + name: node.shape}
    return found


@pytest.mark.parametrize(
    "model", [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in PUBLISHED]
)
def test_the_number_of_params_is_the_published_one(model):
    make, x, count, _ = PUBLISHED[model]
    params, _ = jax.eval_shape(lambda key: make().init(key, shape(x)), KEY)
    assert sum(prod(p.shape) for p in jax.tree.leaves(params)) == count


# Small variants. id -> model of a preset, shape of x, shape of the result, params on record
SMALL = {
    "efficientnet": (
        lambda preset="jaxnn": models.efficientnet("b0", classes=3, preset=preset),
        (2, 32, 32, 3),
        (2, 3),
        {
            "stem/conv/w": (3, 3, 3, 32),
            "stage1/block1/depthwise/conv/w": (3, 3, 32, 1),
            "stage2/block1/expand/norm/scale": (96,),
            "stage2/block1/squeeze_excite/reduce/w": (96, 4),
            "stage7/block1/project/conv/w": (1, 1, 1152, 320),
            "top/conv/w": (1, 1, 320, 1280),
            "head/b": (3,),
        },
    ),
    "lenet": (
        lambda preset="jaxnn": models.lenet(classes=3, preset=preset),
        (2, 28, 28, 1),
        (2, 3),
        {"conv2/w": (5, 5, 6, 16), "dense1/w": (400, 120), "head/w": (84, 3)},
    ),
    "mlp": (
        lambda preset="jaxnn": models.mlp(3, hidden=(5, 4), norm=nn.batch_norm, preset=preset),
        (4, 6),
        (4, 3),
        {"dense2/w": (5, 4), "norm1/scale": (5,), "head/w": (4, 3)},
    ),
    "mobilenet_v2": (
        lambda preset="jaxnn": models.mobilenet_v2(classes=3, width=0.1, rate=0.0, preset=preset),
        (2, 32, 32, 3),
        (2, 3),
        {
            "stem/conv/w": (3, 3, 3, 8),
            "stage1/block1/depthwise/conv/w": (3, 3, 8, 1),
            "stage2/block2/expand/conv/w": (1, 1, 8, 48),
            "stage7/block1/project/norm/bias": (32,),
            "top/conv/w": (1, 1, 32, 1280),
            "head/w": (1280, 3),
        },
    ),
    "resnet": (
        lambda preset="jaxnn": models.resnet(18, classes=3, features=4, preset=preset),
        (2, 33, 33, 3),
        (2, 3),
        {
            "stem/conv/w": (7, 7, 3, 4),
            "stage1/block2/conv2/w": (3, 3, 4, 4),
            "stage2/block1/conv1/w": (3, 3, 4, 8),
            "stage2/block1/norm1/scale": (8,),
            "stage2/block1/skip/conv/w": (1, 1, 4, 8),
            "head/w": (32, 3),
        },
    ),
    "resnet bottleneck": (
        lambda preset="jaxnn": models.resnet(50, classes=3, features=4, preset=preset),
        (2, 33, 33, 3),
        (2, 3),
        {"stage1/block1/conv3/w": (1, 1, 4, 16), "stage1/block1/skip/norm/scale": (16,), "head/w": (128, 3)},
    ),
    "resnet preactivation": (
        lambda preset="jaxnn": models.resnet(20, classes=3, features=4, preactivation=True, preset=preset),
        (2, 8, 8, 3),
        (2, 3),
        {"stage2/block1/norm1/scale": (4,), "stage2/block1/conv1/w": (3, 3, 4, 8), "norm/scale": (16,)},
    ),
    "vgg": (
        lambda preset="jaxnn": models.vgg(
            11, classes=3, features=4, hidden=8, rate=0.0, norm=nn.batch_norm, preset=preset
        ),
        (2, 32, 32, 3),
        (2, 3),
        {"stage3/conv2/w": (3, 3, 16, 16), "stage3/norm2/scale": (16,), "dense1/w": (1568, 8), "head/w": (8, 3)},
    ),
    "wide_resnet": (
        lambda preset="jaxnn": models.wide_resnet(10, 1, classes=3, preset=preset),
        (2, 8, 8, 3),
        (2, 3),
        {"stem/conv/w": (3, 3, 3, 16), "stage2/block1/skip/w": (1, 1, 16, 32), "norm/bias": (64,)},
    ),
}


def test_every_model_has_a_small_variant():
    assert {name.split()[0] for name in SMALL} == set(models.__all__)


@cache
def shapes(name):
    make, x, *_ = SMALL[name]
    return jax.eval_shape(lambda key: make().init(key, shape(x)), KEY)


@pytest.mark.parametrize("name", SMALL)
def test_paths_are_those_on_record(name):
    *_, record = SMALL[name]
    params = paths(shapes(name)[0])
    assert {path: params.get(path) for path in record} == record
    assert not [path for path in params if {"serial", "parallel", "block", "layer"} & set(path.split("/"))]


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_passes_and_a_preset_reaches_every_layer(name, monkeypatch):
    make, x, y, _ = SMALL[name]
    presets = []
    monkeypatch.setattr(Weights, "__post_init__", lambda self: presets.append(self.preset))
    model = make("torch")
    params, state = jax.eval_shape(lambda key: model.init(key, shape(x, jnp.bfloat16)), KEY)
    assert set(presets) == {"torch"}
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes(name)[0])
    assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    out, new = jax.eval_shape(partial(model.apply, train=True), params, state, shape(x, jnp.bfloat16), key=KEY)
    assert (out.shape, out.dtype) == (y, jnp.bfloat16)
    assert jax.tree.structure(new) == jax.tree.structure(state)


@pytest.mark.parametrize("name", SMALL)
def test_a_model_has_a_default_name_and_a_summary(name):
    make, x, _, record = SMALL[name]
    model = make()
    assert (model.name, model.numbered) == (name.split()[0], True)
    found = nn.summary(model, shape(x))
    assert {path.rpartition("/")[0] for path in record} <= {row.path for row in found.rows}
    assert found.total.params == sum(map(prod, paths(shapes(name)[0]).values()))


# Fewer blocks, since compilation takes a minute for some models.
FEW = (
    (_efficientnet, "STAGES", ((1, 3, 1, 1, 16), (2, 5, 2, 6, 16))),
    (_mobilenet, "STAGES", ((1, 16, 1, 1), (6, 16, 2, 2))),
    (_resnet, "BLOCKS", {18: (1, 2), 20: (1, 2), 50: (1, 1)}),
)


@pytest.mark.parametrize("name", SMALL)
def test_training_reaches_every_param_and_renews_the_statistics(name, monkeypatch):
    for module, table, rows in FEW:
        monkeypatch.setattr(module, table, rows)
    make, x, y, _ = SMALL[name]
    model = make()

    @jax.jit
    def run(key, x):
        params, state = model.init(key, x)

        def loss(params):
            y, new = model.apply(params, state, x, key=key, train=True)
            return jnp.square(y.astype(jnp.float32)).sum(), new

        (value, new), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return value, grads, state, new, model.apply(params, new, x)[0]

    images = jnp.asarray(np.random.default_rng(0).standard_normal(x), jnp.float32)
    value, grads, state, new, out = jax.device_get(run(KEY, images))
    assert np.isfinite(value)
    assert out.shape == y
    assert np.isfinite(out).all()
    unreached = [path for path, g in jax.tree_util.tree_leaves_with_path(grads) if not np.any(g)]
    assert unreached == []
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    assert jax.tree.all(jax.tree.map(lambda a, b: a.shape == b.shape and np.any(a != b), state, new))


WRONG = {
    "resnet: expected depth to be one of 18, 20, 32, 34, 44, 50, 56, 101, 110, 152, got 19.": lambda: models.resnet(19),
    "resnet: expected shortcut to be one of 'project', 'pad', got 'A'.": lambda: models.resnet(18, shortcut="A"),
    "backbone: expected classes to be an integer >= 1, got 0.": lambda: models.resnet(18, classes=0, name="backbone"),
    "wide_resnet: expected depth to be 6 n + 4, got 20. 10, 16, 22, 28, 34 and 40 are the first ones.": (
        lambda: models.wide_resnet(20)
    ),
    "vgg: expected depth to be one of 11, 13, 16, 19, got 12.": lambda: models.vgg(12),
    "mobilenet_v2: expected width in (0, inf), got 0.0.": lambda: models.mobilenet_v2(width=0.0),
    "efficientnet: expected depth_rate in [0, 1), got 1.0.": lambda: models.efficientnet(depth_rate=1.0),
    "mlp: expected hidden to be a tuple of integers, got 3. Pass hidden=(256,) for one layer.": (
        lambda: models.mlp(1, hidden=3)
    ),
    "lenet: expected classes to be an integer >= 1, got 2.5.": lambda: models.lenet(classes=2.5),
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_arguments(text):
    with pytest.raises((ValueError, TypeError)) as error:
        WRONG[text]()
    assert str(error.value) == text


def test_without_a_head_the_result_are_features():
    x = shape((2, 32, 32, 3))
    sizes = {
        models.resnet(50, classes=None, features=8): 256,
        models.vgg(11, classes=None, hidden=7): 7,
        models.mobilenet_v2(classes=None, width=0.1): 1280,
        models.wide_resnet(10, 1, classes=None): 64,
    }
    for model, features in sizes.items():
        y = jax.eval_shape(lambda key, x, model=model: model.apply(*model.init(key, x), x)[0], KEY, x)
        assert y.shape == (2, features)
