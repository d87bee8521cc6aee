"""Every model against published counts of params, and small variants of each: paths, dtypes, training, errors."""

from functools import cache, partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

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
KERAS = "counts printed by Keras and PyTorch for the implementations of the paper that are widely used"
GRU = "TensorFlow's tutorial on text generation, 4 022 850, less the 2 · 1024 biases that b_h does not have"
LITE = "README of EfficientNet-Lite: 4.7 M, 5.4 M, 6.1 M, 8.2 M, 13.0 M"


def koch():
    """The encoder of Koch et al. 2015, figure 4."""
    layers = []
    for features, size in ((64, 10), (128, 7), (128, 4)):
        layers += [nn.conv(features, size, padding="valid"), nn.relu, nn.max_pool(2)]
    return nn.serial(*layers, nn.conv(256, 4, padding="valid"), nn.relu, nn.flatten(), nn.dense(4096), nn.sigmoid)


# id -> model, shape of x or a function that makes x of a dtype, number of params, its source
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
    "efficientnet lite0": (lambda: models.efficientnet("lite0"), IMAGENET, 4_652_008, LITE),
    "efficientnet lite4": (lambda: models.efficientnet("lite4"), IMAGENET, 13_006_568, LITE),
    "lenet": (lambda: models.lenet(), (1, 28, 28, 1), 61_706, "Zhang et al., Dive into Deep Learning, 7.6"),
    "mlp": (
        lambda: models.mlp(10, hidden=(300, 100)),
        (1, 784),
        266_610,
        "LeCun et al. 1998, LeNet-300-100",
    ),
    "autoencoder": (lambda: models.autoencoder(), (1, 784), 2_837_314, "Hinton & Salakhutdinov 2006, by Keras"),
    "vae": (lambda: models.vae(), (1, 784), 652_824, "PyTorch's examples, vae"),
    "unet": (lambda: models.unet(1), (1, 64, 64, 3), 31_031_745, KERAS),
    "unet gray": (lambda: models.unet(1), (1, 64, 64, 1), 31_030_593, KERAS),
    "dcgan_generator": (lambda: models.dcgan_generator(), (1, 100), 3_576_704, "PyTorch's tutorial on DCGAN"),
    "dcgan_discriminator": (
        lambda: models.dcgan_discriminator(),
        (1, 64, 64, 3),
        2_765_568,
        "PyTorch's tutorial on DCGAN",
    ),
    "char_rnn": (
        lambda: models.char_rnn(66, features=1024, layers=1, cell="gru", embedding=256),
        lambda dtype: shape((1, 5), jnp.int32),
        4_022_850 - 2 * 1024,
        GRU,
    ),
    "siamese": (
        lambda: models.siamese(koch(), head=nn.dense(1)),
        lambda dtype: (shape((1, 105, 105, 1), dtype),) * 2,
        38_951_745,
        "Koch et al. 2015, figure 4",
    ),
}
CREPE = "Gfeller et al. 2020, SPICE: 22.2 M and 487 k, which include 4352 and 544 running statistics"
MTCNN = "counts printed by Keras for the three networks of the package mtcnn"
HED = "VGG16 without dense layers, 14 714 688 by Keras, and the side outputs, 1483; 14.7 M in tables of edge detectors"
GPT = "Radford et al. 2019 (117 M and 345 M corrected in their code's README), by transformers"
BERT = "Devlin et al. 2018: 110 M and 340 M, by transformers"
DDPM = "Ho et al. 2020: 35.7 M and 114 M, by diffusers"


def tokens(dtype):
    return shape((1, 5), jnp.int32)


def noisy(side, n=1):
    return lambda dtype: {"x": shape((n, side, side, 3), dtype), "time": shape((n,), jnp.int32)}


PUBLISHED |= {
    "gpt small": (lambda: models.gpt(), tokens, 124_439_808, GPT),
    "bert base": (lambda: models.bert(), tokens, 109_482_240, BERT),
    "bert masked": (lambda: models.bert(masked=True), tokens, 109_514_298, BERT),
    "vit b 16": (lambda: models.vit(), IMAGENET, 86_567_656, TORCHVISION),
    "vit s 16": (lambda: models.vit(features=384, heads=6), IMAGENET, 22_050_664, "Touvron et al. 2021, DeiT-S: 22 M"),
    "ddpm_unet": (lambda: models.ddpm_unet(), noisy(32), 35_746_307, DDPM),
    "crepe full": (lambda: models.crepe(), (1, 1024, 1), 22_244_328 - 4352, CREPE),
    "crepe tiny": (lambda: models.crepe("tiny"), (1, 1024, 1), 487_096 - 544, CREPE),
    "hed": (lambda: models.hed(), (1, 32, 32, 3), 14_714_688 + 1483, HED),
    "mtcnn pnet": (lambda: models.mtcnn("pnet"), (1, 12, 12, 3), 6_632, MTCNN),
    "mtcnn rnet": (lambda: models.mtcnn("rnet"), (1, 24, 24, 3), 100_178, MTCNN),
    "mtcnn onet": (lambda: models.mtcnn("onet"), (1, 48, 48, 3), 389_040, MTCNN),
    "silero_vad": (
        lambda: models.silero_vad(),
        (1, 2, 576),
        309_633 - 512,
        "numbers of the authors' file, less the second bias of its LSTM",
    ),
}


def shape(x, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(x, dtype)


def example(x, dtype=jnp.float32):
    return x(dtype) if callable(x) else shape(x, dtype)


def paths(tree, prefix=""):
    found = {}
    for name, node in tree.items():
        found |= paths(node, f"{prefix}{name}/") if isinstance(node, dict) else {prefix + name: node.shape}
    return found


@pytest.mark.parametrize("model", PUBLISHED)
@pytest.mark.slow
def test_the_number_of_params_is_the_published_one(model):
    make, x, count, _ = PUBLISHED[model]
    params, _ = jax.eval_shape(lambda key: make().init(key, example(x)), KEY)
    assert sum(prod(p.shape) for p in jax.tree.leaves(params)) == count


FEW = (
    (_efficientnet, "STAGES", ((1, 3, 2, 1, 16), (1, 5, 1, 6, 16))),
    (_mobilenet, "STAGES", ((1, 16, 1, 2), (6, 16, 1, 1))),
    (_resnet, "BLOCKS", {18: (1, 2), 20: (1, 2), 50: (1, 1)}),
)


@pytest.fixture
def few(monkeypatch):
    """Models with fewer blocks, whose compilation would take a minute for some."""
    for module, table, rows in FEW:
        monkeypatch.setattr(module, table, rows)


def encoder(preset):
    return nn.serial(nn.flatten(), nn.dense(4, preset=preset), nn.batch_norm())


# Small variants. id -> model of a preset, shape of x or a function that makes x of a dtype, shape of the result, params
# on record
SMALL = {
    "autoencoder": (
        lambda preset="jaxnn": models.autoencoder(3, hidden=(8, 6), preset=preset),
        (4, 5, 5),
        (4, 5, 5),
        {
            "encoder/dense1/w": (25, 8),
            "encoder/code/w": (6, 3),
            "decoder/dense1/w": (3, 6),
            "decoder/output/w": (8, 25),
        },
    ),
    "bert": (
        lambda preset="jaxnn": models.bert(7, length=6, features=4, layers=1, heads=2, rate=0.1, preset=preset),
        lambda dtype: {"x": shape((2, 5), jnp.int32), "types": shape((2, 5), jnp.int32)},
        {"x": (2, 5, 4), "pooled": (2, 4)},
        {
            "embed/w": (7, 4),
            "types/w": (2, 4),
            "positions/w": (6, 4),
            "norm/scale": (4,),
            "block1/attention/w_q": (4, 4),
            "pool/dense/w": (4, 4),
        },
    ),
    "bert classes": (
        lambda preset="jaxnn": models.bert(7, classes=3, length=6, features=4, layers=1, heads=2, preset=preset),
        lambda dtype: shape((2, 5), jnp.int32),
        (2, 3),
        {"head/w": (4, 3)},
    ),
    "bert masked": (
        lambda preset="jaxnn": models.bert(7, masked=True, length=6, features=4, layers=1, heads=2, preset=preset),
        lambda dtype: shape((2, 5), jnp.int32),
        (2, 5, 7),
        {"transform/dense/w": (4, 4), "transform/norm/bias": (4,), "head/b": (7,)},
    ),
    "char_rnn": (
        lambda preset="jaxnn": models.char_rnn(7, features=5, rate=0.1, preset=preset),
        lambda dtype: shape((2, 4), jnp.int32),
        (2, 4, 7),
        {"embed/w": (7, 5), "layer1/w_x": (5, 20), "layer2/w_h": (5, 20), "head/w": (5, 7)},
    ),
    "char_rnn cached": (
        lambda preset="jaxnn": models.char_rnn(7, features=5, embedding=3, cell="gru", cached=True, preset=preset),
        lambda dtype: shape((2, 4), jnp.int32),
        (2, 4, 7),
        {"embed/w": (7, 3), "layer1/w_x": (3, 15), "layer2/b_h": (5,)},
    ),
    "crepe": (
        lambda preset="jaxnn": models.crepe("tiny", preset=preset),
        (2, 1024, 1),
        (2, 360),
        {"conv1/w": (512, 1, 128), "norm6/scale": (64,), "head/w": (256, 360)},
    ),
    "dcgan_discriminator": (
        lambda preset="jaxnn": models.dcgan_discriminator(size=16, features=4),
        (2, 16, 16, 3),
        (2,),
        {"stage1/w": (4, 4, 3, 4), "stage2/conv/w": (4, 4, 4, 8), "stage2/norm/scale": (8,), "head/w": (4, 4, 8, 1)},
    ),
    "dcgan_generator": (
        lambda preset="jaxnn": models.dcgan_generator(size=16, features=4),
        (2, 6),
        (2, 16, 16, 3),
        {"stage1/conv/w": (4, 4, 8, 6), "stage2/norm/bias": (4,), "output/w": (4, 4, 3, 4)},
    ),
    "ddpm_unet": (
        lambda preset="jaxnn": models.ddpm_unet(
            features=4, multiples=(1, 2), blocks=1, groups=2, attention_at=(4,), preset=preset
        ),
        noisy(8, 2),
        (2, 8, 8, 3),
        {
            "time/dense1/w": (4, 16),
            "stem/w": (3, 3, 3, 4),
            "down1/halve/w": (3, 3, 4, 4),
            "down2/block1/skip/w": (1, 1, 4, 8),
            "down2/attention1/attention/w_q": (8, 8),
            "middle/block2/time/w": (16, 8),
            "up2/double/conv/w": (3, 3, 8, 8),
            "up1/block2/conv1/w": (3, 3, 8, 4),
            "norm/scale": (4,),
            "head/w": (3, 3, 4, 3),
        },
    ),
    "gpt": (
        lambda preset="jaxnn": models.gpt(7, length=6, features=4, layers=2, heads=2, rate=0.1, preset=preset),
        lambda dtype: shape((2, 5), jnp.int32),
        (2, 5, 7),
        {"embed/w": (7, 4), "positions/w": (6, 4), "block2/up/w": (4, 16), "norm/bias": (4,)},
    ),
    "gpt untied": (
        lambda preset="jaxnn": models.gpt(7, length=6, features=4, layers=1, heads=2, tied=False, preset=preset),
        lambda dtype: shape((2, 5), jnp.int32),
        (2, 5, 7),
        {"head/w": (4, 7)},
    ),
    "hed": (
        lambda preset="jaxnn": models.hed(features=2, preset=preset),
        (2, 32, 20, 3),
        (2, 32, 20, 1),
        {
            "stage1/conv2/w": (3, 3, 2, 2),
            "stage5/conv3/w": (3, 3, 16, 16),
            "side4/w": (1, 1, 16, 1),
            "fuse/w": (1, 1, 5, 1),
        },
    ),
    "lrcn": (
        lambda preset="jaxnn": models.lrcn(3, features=4, rate=0.1, preset=preset),
        (2, 3, 8, 8, 1),
        (2, 3),
        {"encoder/conv1/w": (3, 3, 1, 32), "lstm/w_x": (128, 16), "head/w": (4, 3)},
    ),
    "mtcnn": (
        lambda preset="jaxnn": models.mtcnn("onet", preset=preset),
        (2, 48, 48, 3),
        {"face": (2, 2), "box": (2, 4), "landmarks": (2, 10)},
        {"body/conv4/w": (2, 2, 64, 128), "body/prelu5/slope": (256,), "body/dense/w": (1152, 256), "face/w": (256, 2)},
    ),
    "mtcnn pnet": (
        lambda preset="jaxnn": models.mtcnn("pnet", preset=preset),
        (2, 20, 16, 3),
        {"face": (2, 5, 3, 2), "box": (2, 5, 3, 4)},
        {"body/conv1/w": (3, 3, 3, 10), "body/prelu3/slope": (32,), "box/w": (1, 1, 32, 4)},
    ),
    "siamese": (
        lambda preset="jaxnn": models.siamese(encoder(preset), head=nn.dense(1, preset=preset)),
        lambda dtype: (shape((3, 2, 2), dtype),) * 2,
        (3, 1),
        {"encoder/dense/w": (4, 4), "encoder/batch_norm/scale": (4,), "head/w": (4, 1)},
    ),
    "siamese embeddings": (
        lambda preset="jaxnn": models.siamese(encoder(preset)),
        lambda dtype: (shape((3, 2, 2), dtype),) * 2,
        ((3, 4), (3, 4)),
        {"encoder/dense/w": (4, 4)},
    ),
    "silero_vad": (
        lambda preset="jaxnn": models.silero_vad(preset=preset),
        (2, 3, 576),
        (2, 3, 1),
        {"encoder/stft/w": (256, 1, 258), "encoder/conv4/w": (3, 64, 128), "lstm/w_x": (128, 512), "head/w": (128, 1)},
    ),
    "unet": (
        lambda preset="jaxnn": models.unet(3, features=4, levels=2, rate=0.1, preset=preset),
        (2, 8, 12, 1),
        (2, 8, 12, 3),
        {
            "down1/conv1/w": (3, 3, 1, 4),
            "down2/conv2/w": (3, 3, 8, 8),
            "middle/conv1/w": (3, 3, 8, 16),
            "upsample2/w": (2, 2, 8, 16),
            "up2/conv1/w": (3, 3, 16, 8),
            "up1/conv2/b": (4,),
            "head/w": (1, 1, 4, 3),
        },
    ),
    "unet linear": (
        lambda preset="jaxnn": models.unet(
            1, features=4, levels=1, upsampling="linear", norm=nn.batch_norm, preset=preset
        ),
        (2, 6, 2),
        (2, 6, 1),
        {"down1/conv1/w": (3, 2, 4), "down1/norm2/scale": (4,), "upsample1/conv/w": (3, 8, 4)},
    ),
    "vae": (
        lambda preset="jaxnn": models.vae(3, hidden=(8,), preset=preset),
        (4, 5, 5),
        {"x": (4, 5, 5), "mean": (4, 3), "log_variance": (4, 3)},
        {"encoder/dense1/w": (25, 8), "mean/w": (8, 3), "log_variance/b": (3,), "decoder/output/w": (8, 25)},
    ),
    "efficientnet": (
        lambda preset="jaxnn": models.efficientnet("b0", classes=3, preset=preset),
        (2, 32, 32, 3),
        (2, 3),
        {
            "stem/conv/w": (3, 3, 3, 32),
            "stage1/block1/depthwise/conv/w": (3, 3, 32, 1),
            "stage2/block1/expand/norm/scale": (96,),
            "stage2/block1/squeeze_excite/reduce/w": (96, 4),
            "stage2/block1/project/conv/w": (1, 1, 96, 16),
            "top/conv/w": (1, 1, 16, 1280),
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
            "stage2/block1/expand/conv/w": (1, 1, 8, 48),
            "stage2/block1/project/norm/bias": (8,),
            "top/conv/w": (1, 1, 8, 1280),
            "head/w": (1280, 3),
        },
    ),
    "resnet": (
        lambda preset="jaxnn": models.resnet(18, classes=3, features=4, preset=preset),
        (2, 33, 33, 3),
        (2, 3),
        {
            "stem/conv/w": (7, 7, 3, 4),
            "stage1/block1/conv2/w": (3, 3, 4, 4),
            "stage2/block1/conv1/w": (3, 3, 4, 8),
            "stage2/block1/norm1/scale": (8,),
            "stage2/block1/skip/conv/w": (1, 1, 4, 8),
            "head/w": (8, 3),
        },
    ),
    "resnet bottleneck": (
        lambda preset="jaxnn": models.resnet(50, classes=3, features=4, preset=preset),
        (2, 33, 33, 3),
        (2, 3),
        {"stage1/block1/conv3/w": (1, 1, 4, 16), "stage1/block1/skip/norm/scale": (16,), "head/w": (32, 3)},
    ),
    "resnet preactivation": (
        lambda preset="jaxnn": models.resnet(20, classes=3, features=4, preactivation=True, preset=preset),
        (2, 8, 8, 3),
        (2, 3),
        {"stage2/block1/norm1/scale": (4,), "stage2/block1/conv1/w": (3, 3, 4, 8), "norm/scale": (8,)},
    ),
    "vgg": (
        lambda preset="jaxnn": models.vgg(
            11, classes=3, features=4, hidden=8, rate=0.0, norm=nn.batch_norm, preset=preset
        ),
        (2, 32, 32, 3),
        (2, 3),
        {"stage3/conv2/w": (3, 3, 16, 16), "stage3/norm2/scale": (16,), "dense1/w": (1568, 8), "head/w": (8, 3)},
    ),
    "vit": (
        lambda preset="jaxnn": models.vit(4, classes=3, features=4, layers=1, heads=2, rate=0.1, preset=preset),
        (2, 8, 12, 1),
        (2, 3),
        {
            "patches/w": (16, 4),
            "class_token/w": (4,),
            "positions/w": (2, 3, 4),
            "positions/token": (4,),
            "block1/down/w": (16, 4),
            "head/w": (4, 3),
        },
    ),
    "vit mean": (
        lambda preset="jaxnn": models.vit(4, classes=3, features=4, layers=1, heads=2, pool="mean", preset=preset),
        (2, 8, 12, 1),
        (2, 3),
        {"positions/w": (2, 3, 4), "norm/scale": (4,)},
    ),
    "wide_resnet": (
        lambda preset="jaxnn": models.wide_resnet(10, 1, classes=3, preset=preset),
        (2, 8, 8, 3),
        (2, 3),
        {"stem/conv/w": (3, 3, 3, 16), "stage2/block1/skip/w": (1, 1, 16, 32), "norm/bias": (64,)},
    ),
}


# Of several variants of a model the fast tier trains the first. A train step of the diffusion model compiles for half a
# minute, and transformers have variants of the last layers: test_forward.py shows that they use all their params.
UNTRAINED = {"ddpm_unet", "bert classes", "bert masked", "gpt untied", "vit mean"}
EACH = [pytest.param(name, marks=pytest.mark.slow) if " " in name else name for name in SMALL if name not in UNTRAINED]


def test_every_model_has_a_small_variant():
    assert {name.split()[0] for name in SMALL} == set(models.__all__)


def drawn(shapes):
    """Params and state of NumPy's random numbers, which need no compilation."""
    rng = np.random.default_rng(1)
    params, state = shapes
    params = jax.tree.map(lambda p: rng.standard_normal(p.shape, p.dtype) / max(1, prod(p.shape[:-1])) ** 0.5, params)
    return params, jax.tree.map(lambda s: rng.uniform(0.5, 1.5, s.shape).astype(s.dtype), state)


@cache
def shapes(name):
    make, x, *_ = SMALL[name]
    return jax.eval_shape(lambda key: make().init(key, example(x)), KEY)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.usefixtures("few")
@pytest.mark.slow
def test_paths_are_those_on_record(name):
    *_, record = SMALL[name]
    params = paths(shapes(name)[0])
    assert {path: params.get(path) for path in record} == record
    assert not [path for path in params if {"serial", "parallel", "block", "layer"} & set(path.split("/"))]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.usefixtures("few")
@pytest.mark.slow
def test_bfloat16_passes_and_a_preset_reaches_every_layer(name, monkeypatch):
    make, x, y, _ = SMALL[name]
    presets = []
    monkeypatch.setattr(Weights, "__post_init__", lambda self: presets.append(self.preset))
    model = make("torch")
    params, state = jax.eval_shape(lambda key: model.init(key, example(x, jnp.bfloat16)), KEY)
    # a generator and a discriminator have initial weights of their own
    assert set(presets) == ({"jaxnn"} if name.startswith("dcgan") else {"torch"})
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes(name)[0])
    assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    out, new = jax.eval_shape(partial(model.apply, train=True), params, state, example(x, jnp.bfloat16), key=KEY)
    assert jax.tree.map(jnp.shape, out) == y
    integers = name.split()[0] in ("bert", "char_rnn", "gpt")
    assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {jnp.dtype("float32" if integers else "bfloat16")}
    assert jax.tree.structure(new) == jax.tree.structure(state)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.usefixtures("few")
@pytest.mark.slow
def test_a_model_has_a_default_name_and_a_summary(name):
    make, x, _, record = SMALL[name]
    model = make()
    assert (model.name, model.numbered) == (name.split()[0], True)
    found = nn.summary(model, example(x))
    assert {path.rpartition("/")[0] for path in record} <= {row.path for row in found.rows}
    assert found.total.params == sum(map(prod, paths(shapes(name)[0]).values()))


@pytest.mark.parametrize("name", EACH)
@pytest.mark.usefixtures("few")
@pytest.mark.slow
def test_training_reaches_every_param_and_renews_the_statistics(name):
    make, x, y, _ = SMALL[name]
    model = make()

    rng = np.random.default_rng(0)
    x = jax.tree.map(lambda x: jnp.asarray(rng.standard_normal(x.shape) ** 2, x.dtype), example(x))
    params, state = drawn(shapes(name))

    def loss(params, key):
        y, new = model.apply(params, state, x, key=key, train=True)
        return sum(jnp.square(leaf - 1).sum() for leaf in jax.tree.leaves(y)), (y, new)

    (value, (out, new)), grads = jax.device_get(jax.jit(jax.value_and_grad(loss, has_aux=True))(params, KEY))
    assert np.isfinite(value)
    assert jax.tree.map(np.shape, out) == y
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
    "unet: expected padding to be one of 'same', 'valid', got 'SAME'.": lambda: models.unet(padding="SAME"),
    "unet: expected an image with sides that are multiples of 16, got float32[1, 40, 48, 3]. Pad it, or resize it.": (
        lambda: models.unet().init(KEY, shape((1, 40, 48, 3)))
    ),
    "dcgan_generator: expected size to be a power of 2, at least 8, got 48.": lambda: models.dcgan_generator(size=48),
    "logit: expected images of 32×32, got others, which leave [5, 5, 1].": (
        lambda: models.dcgan_discriminator(size=32).init(KEY, shape((1, 64, 64, 3)))
    ),
    "siamese: expected x to be a pair of inputs, got float32[3, 4].": (
        lambda: models.siamese(nn.dense(2)).init(KEY, shape((3, 4)))
    ),
    "vae: expected a key when train=True, got None. Pass key= to apply.": (
        lambda: models.vae(encoder=nn.relu, decoder=nn.relu).apply(
            {"mean": {"w": jnp.ones((2, 20)), "b": jnp.ones(20)}}
            | {"log_variance": {"w": jnp.ones((2, 20)), "b": jnp.ones(20)}},
            {},
            jnp.ones((3, 2)),
            train=True,
        )
    ),
    "autoencoder: expected a decoder with a result of 4 values for each example, got float32[3, 5].": (
        lambda: models.autoencoder(decoder=nn.dense(5)).init(KEY, shape((3, 4)))
    ),
    "bert: expected classes or masked, got both. Share params: {**of_one, **of_the_other}.": (
        lambda: models.bert(classes=2, masked=True)
    ),
    "ddpm_unet: expected a dict of 'x' and 'time', got float32[1, 8, 8, 3].": (
        lambda: models.ddpm_unet().init(KEY, shape((1, 8, 8, 3)))
    ),
    "ddpm_unet: expected images with sides that are multiples of 8, got float32[1, 12, 12, 3]. Pad or resize them.": (
        lambda: models.ddpm_unet().init(KEY, noisy(12)(jnp.float32))
    ),
    "crepe: expected variant to be one of 'tiny', 'small', 'medium', 'large', 'full', got 'huge'.": (
        lambda: models.crepe("huge")
    ),
    "hed: expected sides to be True or False, got 1.": lambda: models.hed(sides=1),
    "mtcnn: expected net to be one of 'pnet', 'rnet', 'onet', got 'P-Net'.": lambda: models.mtcnn("P-Net"),
    "lstm: expected cached to be True or False, got 1.": lambda: models.silero_vad(cached=1),
    "gpt: expected vocabulary to be an integer >= 1, got 0.": lambda: models.gpt(0),
    "vit: expected pool to be one of 'token', 'mean', got 'cls'.": lambda: models.vit(pool="cls"),
    "char_rnn: expected cell to be one of 'lstm', 'gru', 'rnn', got 'LSTM'.": lambda: models.char_rnn(5, cell="LSTM"),
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_arguments(text):
    with pytest.raises((ValueError, TypeError)) as error:
        WRONG[text]()
    assert str(error.value) == text


@pytest.mark.usefixtures("few")
@pytest.mark.slow
def test_without_a_head_the_result_are_features():
    x = shape((2, 32, 32, 3))
    sizes = {
        models.efficientnet(classes=None): 1280,
        models.lenet(classes=None): 84,
        models.mobilenet_v2(classes=None, width=0.1): 1280,
        models.resnet(50, classes=None, features=8): 64,
        models.vgg(11, classes=None, hidden=7): 7,
        models.wide_resnet(10, 1, classes=None): 64,
    }
    for model, features in sizes.items():
        y = jax.eval_shape(lambda key, x, model=model: model.apply(*model.init(key, x), x)[0], KEY, x)
        assert y.shape == (2, features)


def made(model, x):
    """Params, and the compiled apply."""
    return drawn(jax.eval_shape(lambda key: model.init(key, x), KEY))[0], jax.jit(model.apply)


@pytest.mark.slow
def test_a_char_rnn_in_pieces_equals_the_whole():
    model, x = models.char_rnn(7, features=5, cached=True), jnp.array([[1, 2, 3, 4, 5], [6, 0, 1, 6, 2]])
    params, run = made(model, x)
    state = nn.initial_state(model, x)
    whole, _ = jax.jit(models.char_rnn(7, features=5).apply)(params, {}, x)
    first, state = run(params, state, nn.Padded(x[:, :3], jnp.array([3, 2])))
    second, _ = run(params, state, jnp.stack([x[0, 3:], x[1, 2:4]]))
    assert_close(first.x[0], whole[0, :3])
    assert_close(second[0], whole[0, 3:])
    assert_close(second[1], whole[1, 2:4])


@pytest.mark.slow
def test_gpt_is_causal_and_generates_with_and_without_a_cache():
    how = {"length": 8, "features": 8, "layers": 2, "heads": 2}
    model, x = models.gpt(7, **how), jnp.array([[1, 2, 3, 4, 5], [6, 0, 1, 6, 2]])
    params, run = made(model, x)
    whole, _ = run(params, {}, x)
    assert_close(run(params, {}, x.at[:, 3].set(0))[0][:, :3], whole[:, :3])
    padded, _ = run(params, {}, nn.Padded(x, jnp.array([5, 2])))
    assert_close(padded.x[1, :2], whole[1, :2])
    cached = models.gpt(7, cache=8, **how)
    first, second = (nn.generate(m, params, {}, x[:, :2], None, 4, temperature=0).x for m in (model, cached))
    np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_bert_ignores_padding_and_adds_types():
    model, x = models.bert(7, length=8, features=8, layers=2, heads=2), jnp.array([[1, 2, 3, 4], [6, 0, 1, 6]])
    params, run = made(model, x)
    whole, _ = run(params, {}, x)
    y, _ = run(params, {}, nn.Padded(x, jnp.array([4, 2])))
    short, _ = run(params, {}, x[1:, :2])
    assert_close(y["pooled"][1], short["pooled"][0])
    assert_close(y["x"].x[1, :2], short["x"][0])
    same, _ = run(params, {}, {"x": x, "types": jnp.zeros((2, 4), jnp.int32)})
    assert_close(same["pooled"], whole["pooled"])
    other, _ = run(params, {}, {"x": x, "types": jnp.ones((2, 4), jnp.int32)})
    assert np.abs(other["pooled"] - whole["pooled"]).max() > 1e-3


@pytest.mark.slow
def test_positions_of_a_vit_are_interpolated():
    model = models.vit(2, classes=None, features=4, layers=1, heads=1)
    params, _ = made(model, shape((1, 12, 12, 1)))
    params["positions"]["w"] = jnp.broadcast_to(jnp.arange(6.0)[None, :, None], (6, 6, 4))
    (_, outputs), _ = jax.jit(nn.capture(model, "positions").apply)(params, {}, jnp.zeros((1, 12, 24, 1)))
    places = np.arange(3, 9) / 2 - 0.25  # between the third patches from both ends
    distances = np.abs(places[:, None] - np.arange(6))
    near, far = 1.25 * distances**3 - 2.25 * distances**2 + 1, distances**3 - 5 * distances**2 + 8 * distances - 4
    weights = np.where(distances <= 1, near, np.where(distances < 2, -0.75 * far, 0))
    found = outputs["positions"][0, 1:, 0].reshape(6, 12) - params["patches"]["b"][0]
    assert_close(found[:, 3:9], np.tile(weights @ np.arange(6), (6, 1)))


@pytest.mark.slow
def test_side_outputs_start_at_0_and_count_equally():
    x = jnp.ones((1, 16, 16, 3))
    params, _ = models.hed(features=2).init(KEY, x)
    vgg, _ = jax.eval_shape(models.vgg(16, features=2, hidden=1).init, KEY, shape((1, 32, 32, 3)))
    assert paths(params).items() >= {path: p for path, p in paths(vgg).items() if path.startswith("stage")}.items()
    assert not params["side3"]["w"].any()
    np.testing.assert_array_equal(params["fuse"]["w"], np.full((1, 1, 5, 1), 0.2, np.float32))
    params["side1"]["b"], params["side5"]["b"] = jnp.array([1.0]), jnp.array([2.0])
    y, _ = models.hed(features=2, sides=True).apply(params, {}, x)
    assert_close(y[0, 3, 4], jnp.array([1.0, 0, 0, 0, 2, 0.6]))


@pytest.mark.slow
def test_a_voice_detector_in_pieces_equals_the_whole_and_learns_from_silence():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 5, 576)), jnp.float32)
    params, run = made(models.silero_vad(cached=True), x)
    whole, _ = jax.jit(models.silero_vad().apply)(params, {}, nn.Padded(x, jnp.array([5, 3])))
    first, state = run(params, nn.initial_state(models.silero_vad(cached=True), x), x[:, :3])
    second, _ = run(params, state, x[:, 3:])
    assert_close(first, whole.x[:, :3])
    assert_close(second[0], whole.x[0, 3:])
    grads = jax.jit(jax.grad(lambda p, x: models.silero_vad().apply(p, {}, x)[0].sum()))(params, jnp.zeros((1, 2, 576)))
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


@pytest.mark.slow
def test_videos_of_different_lengths():
    model = models.lrcn(3, encoder=nn.serial(nn.flatten(), nn.dense(4)), features=4)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 4, 4, 1)), jnp.float32)
    params, run = made(model, x)
    y, _ = run(params, {}, nn.Padded(x, jnp.array([3, 2])))
    assert_close(y[0], run(params, {}, x)[0][0])
    assert_close(y[1], run(params, {}, x[1:, :2])[0][0])


def test_twins_share_an_encoder():
    model = models.siamese(nn.dense(4), head=nn.dense(1))
    a, b = jnp.arange(6.0).reshape(2, 3), jnp.ones((2, 3))
    params, run = made(model, (a, b))
    y, _ = run(params, {}, (a, b))
    w, u = (np.float64(params[at]["w"]) for at in ("encoder", "head"))
    assert_close(y, np.abs((np.float64(a) - np.float64(b)) @ w) @ u + params["head"]["b"])
    assert_close(run(params, {}, (b, a))[0], y)


@pytest.mark.slow
def test_a_vae_samples_around_its_mean_in_training():
    x = jnp.zeros((20_000, 2))
    model = models.vae(1, hidden=(), encoder=nn.relu, decoder=nn.lift(lambda z: jnp.repeat(z, 2, axis=1)))
    params = {"mean": {"w": jnp.ones((2, 1)), "b": jnp.array([3.0])}}
    params |= {"log_variance": {"w": jnp.ones((2, 1)), "b": jnp.array([np.log(0.25)], jnp.float32)}}
    y, _ = model.apply(params, {}, x, key=KEY, train=True)
    assert abs(float(y["x"].mean()) - 3) < 0.02
    assert abs(float(y["x"].std()) - 0.5) < 0.02
    y, _ = model.apply(params, {}, x)
    np.testing.assert_array_equal(y["x"], np.full((20_000, 2), 3.0))


@pytest.mark.slow
def test_the_u_net_of_the_paper_loses_its_border():
    model, x = models.unet(2, padding="valid"), shape((1, 572, 572, 1))
    y = jax.eval_shape(lambda key, x: model.apply(*model.init(key, x), x)[0], KEY, x)
    assert y.shape == (1, 388, 388, 2)
