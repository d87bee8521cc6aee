"""Forward passes in evaluation against float64 NumPy, written from the papers' figures and from torchvision's code."""

from math import erf, prod

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

from jaxnn import models
from jaxnn.models import _efficientnet, _mobilenet, _resnet

rng = np.random.default_rng(0)
SIDES = (1, 1)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0)


def relu6(x):
    return np.clip(x, 0, 6)


def same(size, kernel, stride):
    """TensorFlow's padding."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def conv(p, x, stride=1, pads=SIDES):
    w, (kh, kw) = p["w"], p["w"].shape[:2]
    x = np.pad(x, ((0, 0), pads, pads, (0, 0)))
    h, v = (x.shape[1] - kh) // stride + 1, (x.shape[2] - kw) // stride + 1
    y = np.zeros((x.shape[0], h, v, w.shape[3]))
    for i in range(kh):
        for j in range(kw):
            y += x[:, i : i + h * stride : stride, j : j + v * stride : stride][:, :h, :v] @ w[i, j]
    return y + p.get("b", 0)


def depthwise(p, x, stride, pads):
    groups = [conv({"w": p["w"][:, :, c : c + 1, :]}, x[..., c : c + 1], stride, pads) for c in range(x.shape[-1])]
    return np.concatenate(groups, axis=-1)


def norm(p, s, x, eps=1e-5):
    return (x - s["mean"]) / np.sqrt(s["var"] + eps) * p["scale"] + p["bias"]


def max_pool(x, size, stride, pad=0):
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=-np.inf)
    h, v = (x.shape[1] - size) // stride + 1, (x.shape[2] - size) // stride + 1
    windows = [
        x[:, i : i + h * stride : stride, j : j + v * stride : stride][:, :h, :v]
        for i in range(size)
        for j in range(size)
    ]
    return np.max(windows, axis=0)


def dense(p, x):
    return x @ p["w"] + p["b"]


def resnet(p, s, x):
    x = max_pool(relu(norm(p["stem"]["norm"], s["stem"]["norm"], conv(p["stem"]["conv"], x, 2, (3, 3)))), 3, 2, 1)
    for stage in (name for name in p if name.startswith("stage")):
        for block, q in p[stage].items():
            t, y = s[stage][block], x
            convs = [k for k in q if k.startswith("conv")]
            strided = convs[0] if len(convs) == 2 else convs[1]
            stride = 2 if stage != "stage1" and block == "block1" else 1
            for k in convs:
                pads = SIDES if q[k]["w"].shape[0] == 3 else (0, 0)
                y = norm(q[f"norm{k[-1]}"], t[f"norm{k[-1]}"], conv(q[k], y, stride if k == strided else 1, pads))
                y = y if k == convs[-1] else relu(y)
            if "skip" in q:
                x = norm(q["skip"]["norm"], t["skip"]["norm"], conv(q["skip"]["conv"], x, stride, (0, 0)))
            x = relu(x + y)
    return dense(p["head"], x.mean((1, 2)))


def cifar(p, s, x):
    x = relu(norm(p["stem"]["norm"], s["stem"]["norm"], conv(p["stem"]["conv"], x)))
    for stage in (name for name in p if name.startswith("stage")):
        for block, q in p[stage].items():
            t, stride = s[stage][block], 2 if stage != "stage1" and block == "block1" else 1
            y = relu(norm(q["norm1"], t["norm1"], conv(q["conv1"], x, stride)))
            y = norm(q["norm2"], t["norm2"], conv(q["conv2"], y))
            x = x[:, ::stride, ::stride]
            x = relu(y + np.concatenate([x, np.zeros((*x.shape[:3], y.shape[3] - x.shape[3]))], axis=-1))
    return dense(p["head"], x.mean((1, 2)))


def wide(p, s, x):
    x = conv(p["stem"]["conv"], x)
    for i in (1, 2, 3):
        q, t, stride = p[f"stage{i}"]["block1"], s[f"stage{i}"]["block1"], 1 if i == 1 else 2
        h = relu(norm(q["norm1"], t["norm1"], x))
        x = conv(q["skip"], h, stride, (0, 0)) if "skip" in q else x
        x = x + conv(q["conv2"], relu(norm(q["norm2"], t["norm2"], conv(q["conv1"], h, stride))))
    return dense(p["head"], relu(norm(p["norm"], s["norm"], x)).mean((1, 2)))


def inverted(p, s, x, activation, eps, tensorflow):
    def unit(p, s, x, f, kind=conv, stride=1, size=1):
        pads = same(x.shape[1], size, stride) if tensorflow else (size // 2, size // 2)
        return f(norm(p["norm"], s["norm"], kind(p["conv"], x, stride, pads), eps))

    x = unit(p["stem"], s["stem"], x, activation, stride=2, size=3)
    for stage, stride in (("stage1", 2), ("stage2", 1)):
        q, t = p[stage]["block1"], s[stage]["block1"]
        y = unit(q["expand"], t["expand"], x, activation) if "expand" in q else x
        size = q["depthwise"]["conv"]["w"].shape[0]
        y = unit(q["depthwise"], t["depthwise"], y, activation, depthwise, stride, size)
        if "squeeze_excite" in q:
            gate = activation(dense(q["squeeze_excite"]["reduce"], y.mean((1, 2))))
            y = y * sigmoid(dense(q["squeeze_excite"]["expand"], gate))[:, None, None, :]
        y = unit(q["project"], t["project"], y, lambda v: v)
        x = x + y if y.shape == x.shape else y
    return dense(p["head"], unit(p["top"], s["top"], x, activation).mean((1, 2)))


def unet(p, s, x):
    def double(q, x):
        return relu(conv(q["conv2"], relu(conv(q["conv1"], x))))

    first = double(p["down1"], x)
    second = double(p["down2"], max_pool(first, 2, 2))
    x = double(p["middle"], max_pool(second, 2, 2))
    for level, skip in ((2, second), (1, first)):
        q = p[f"upsample{level}"]
        up = np.zeros((x.shape[0], 2 * x.shape[1], 2 * x.shape[2], q["w"].shape[2]))
        for i in range(2):
            for j in range(2):
                up[:, i::2, j::2] = x @ q["w"][i, j].T
        x = double(p[f"up{level}"], np.concatenate([skip, up + q["b"]], axis=-1))
    return conv(p["head"], x, pads=(0, 0))


def vgg(p, s, x):
    for stage in (1, 2, 3, 4, 5):
        for q in p[f"stage{stage}"].values():
            x = relu(conv(q, x))
        x = max_pool(x, 2, 2)
    x = np.repeat(np.repeat(x, 7, axis=1), 7, axis=2).reshape(x.shape[0], -1)  # adaptive pool of 1×1 to 7×7
    return dense(p["head"], relu(dense(p["dense2"], relu(dense(p["dense1"], x)))))


def hed(p, s, x):
    def interpolated(x, axis, size):
        places = np.clip((np.arange(size) + 0.5) * x.shape[axis] / size - 0.5, 0, x.shape[axis] - 1)
        weights = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(x.shape[axis])))
        return np.moveaxis(np.tensordot(weights, x, (1, axis)), 0, axis)

    sides, size = [], x.shape[1:3]
    for stage in (1, 2, 3, 4, 5):
        x = x if stage == 1 else max_pool(x, 2, 2)
        for q in p[f"stage{stage}"].values():
            x = relu(conv(q, x))
        side = conv(p[f"side{stage}"], x, pads=(0, 0))
        sides.append(interpolated(interpolated(side, 1, size[0]), 2, size[1]))
    y = np.concatenate(sides, axis=-1)
    return np.concatenate([y, conv(p["fuse"], y, pads=(0, 0))], axis=-1)


def onet(p, s, x):
    q = p["body"]

    def unit(x, k):
        y = conv(q[f"conv{k}"], x, pads=(0, 0))
        return np.where(y > 0, y, q[f"prelu{k}"]["slope"] * y)

    for k, size in ((1, 3), (2, 3), (3, 2)):
        x = unit(x, k)
        x = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=-np.inf)  # for the last pool
        x = max_pool(x, size, 2)
    x = unit(x, 4).transpose(0, 2, 1, 3).reshape(len(x), -1)
    x = dense(q["dense"], x)
    x = np.where(x > 0, x, q["prelu5"]["slope"] * x)
    return {name: dense(p[name], x) for name in ("face", "box", "landmarks")}


def layer_norm(p, x, eps):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * p["scale"] + p["bias"]


def gelu(x):
    return x * np.vectorize(erf)(x / 2**0.5) / 2 + x / 2


def gelu_tanh(x):
    return x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2


def attention(p, x, causal=False):
    """Two heads."""
    n, t, d = x.shape
    q, k, v = ((x @ p[f"w_{c}"] + p[f"b_{c}"]).reshape(n, t, 2, d // 2) for c in "qkv")
    y = np.zeros_like(q)
    for head in range(2):
        for i in range(t):
            seen = i + 1 if causal else t
            scores = np.einsum("nd,ntd->nt", q[:, i, head], k[:, :seen, head]) / (d // 2) ** 0.5
            scores = np.exp(scores)
            y[:, i, head] = np.einsum("nt,ntd->nd", scores / scores.sum(1, keepdims=True), v[:, :seen, head])
    return y.reshape(n, t, d) @ p["w_o"] + p["b_o"]


def blocks(p, x, activation, eps, causal=False, post=False):
    for q in (p[name] for name in sorted(p) if name.startswith("block")):
        for norm, branch in (
            (q["attention_norm"], lambda h, q=q: attention(q["attention"], h, causal)),
            (q["mlp_norm"], lambda h, q=q: dense(q["down"], activation(dense(q["up"], h)))),
        ):
            x = layer_norm(norm, x + branch(x), eps) if post else x + branch(layer_norm(norm, x, eps))
    return x


def gpt(p, s, x):
    h = blocks(p, p["embed"]["w"][x] + p["positions"]["w"][: x.shape[1]], gelu_tanh, 1e-5, causal=True)
    return layer_norm(p["norm"], h, 1e-5) @ p["embed"]["w"].T


def bert(p, s, x):
    h = p["embed"]["w"][x] + p["types"]["w"][0] + p["positions"]["w"][: x.shape[1]]
    h = blocks(p, layer_norm(p["norm"], h, 1e-12), gelu, 1e-12, post=True)
    if "transform" in p:
        h = layer_norm(p["transform"]["norm"], gelu(dense(p["transform"]["dense"], h)), 1e-12)
        return h @ p["embed"]["w"].T + p["head"]["b"]
    return dense(p["head"], np.tanh(dense(p["pool"]["dense"], h[:, 0])))


def vit(p, s, x):
    n, side, _, c = x.shape
    x = x.reshape(n, side // 4, 4, side // 4, 4, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, -1, 16 * c)
    x = dense(p["patches"], x) + p["positions"]["w"].reshape(1, -1, p["patches"]["w"].shape[1])
    if "class_token" in p:
        token = p["class_token"]["w"] + p["positions"]["token"]
        x = np.concatenate([np.tile(token, (n, 1, 1)), x], axis=1)
    h = layer_norm(p["norm"], blocks(p, x, gelu, 1e-6), 1e-6)
    return dense(p["head"], h[:, 0] if "class_token" in p else h.mean(1))


def ddpm(p, s, x):
    def norm(q, x):
        parts = x.reshape(*x.shape[:3], 2, -1)
        mean, var = parts.mean((1, 2, 4), keepdims=True), parts.var((1, 2, 4), keepdims=True)
        return ((parts - mean) / np.sqrt(var + 1e-6)).reshape(x.shape) * q["scale"] + q["bias"]

    def silu(x):
        return x * sigmoid(x)

    def block(q, x):
        h = conv(q["conv1"], silu(norm(q["norm1"], x))) + dense(q["time"], silu(t))[:, None, None]
        return conv(q["conv2"], silu(norm(q["norm2"], h))) + (conv(q["skip"], x, pads=(0, 0)) if "skip" in q else x)

    def attended(q, x):
        flat = norm(q["norm"], x).reshape(x.shape[0], -1, x.shape[3])
        return x + attention(q["attention"], flat).reshape(x.shape)

    angles = x["time"][:, None] * np.array([1, 1e-4])
    t = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    t = dense(p["time"]["dense2"], silu(dense(p["time"]["dense1"], t)))
    a = conv(p["stem"], x["x"])
    b = block(p["down1"]["block1"], a)
    c = conv(p["down1"]["halve"], b, 2, (0, 1))
    d = attended(p["down2"]["attention1"], block(p["down2"]["block1"], c))
    h = block(p["middle"]["block2"], attended(p["middle"]["attention1"], block(p["middle"]["block1"], d)))
    for k, skip in ((1, d), (2, c)):
        h = block(p["up2"][f"block{k}"], np.concatenate([h, skip], axis=-1))
        h = attended(p["up2"][f"attention{k}"], h)
    h = conv(p["up2"]["double"]["conv"], np.repeat(np.repeat(h, 2, axis=1), 2, axis=2))
    for k, skip in ((1, b), (2, a)):
        h = block(p["up1"][f"block{k}"], np.concatenate([h, skip], axis=-1))
    return conv(p["head"], silu(norm(p["norm"], h)))


SIZES = {"features": 4, "layers": 2, "heads": 2}
CASES = {
    "bert": (lambda: models.bert(7, classes=3, length=6, **SIZES), bert, "tokens"),
    "bert masked": (lambda: models.bert(7, masked=True, length=6, **SIZES), bert, "tokens"),
    "ddpm_unet": (
        lambda: models.ddpm_unet(features=4, multiples=(1, 2), blocks=1, groups=2, attention_at=(4,), heads=2),
        ddpm,
        "noisy",
    ),
    "gpt": (lambda: models.gpt(7, length=6, **SIZES), gpt, "tokens"),
    "vit": (lambda: models.vit(4, classes=3, **SIZES), vit, 12),
    "vit mean": (lambda: models.vit(4, classes=3, pool="mean", **SIZES), vit, 12),
    "resnet": (lambda: models.resnet(18, classes=3, features=3), resnet, 21),
    "resnet bottleneck": (lambda: models.resnet(50, classes=3, features=2), resnet, 22),
    "resnet pad": (lambda: models.resnet(20, classes=3, features=3), cifar, 9),
    "wide_resnet": (lambda: models.wide_resnet(10, 1, classes=3), wide, 6),
    "mobilenet_v2": (
        lambda: models.mobilenet_v2(classes=3, width=0.1),
        lambda *a: inverted(*a, relu6, 1e-5, False),
        18,
    ),
    "efficientnet": (
        lambda: models.efficientnet(classes=3),
        lambda *a: inverted(*a, lambda v: v * sigmoid(v), 1e-3, True),
        18,
    ),
    "efficientnet lite": (
        lambda: models.efficientnet("lite0", classes=3),
        lambda *a: inverted(*a, relu6, 1e-3, True),
        18,
    ),
    "unet": (lambda: models.unet(3, features=2, levels=2), unet, 8),
    "hed": (lambda: models.hed(sides=True, features=1), hed, 16),
    "mtcnn": (lambda: models.mtcnn("onet"), onet, 48),
    "vgg": (lambda: models.vgg(11, classes=3, features=1, hidden=4), vgg, 32),
}


INPUTS = {
    "tokens": rng.integers(0, 7, (2, 5)),
    "noisy": {"x": rng.standard_normal((2, 8, 8, 3)), "time": np.array([3, 700])},
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.slow
def test_the_forward_pass_is_that_of_the_paper(name, monkeypatch):
    monkeypatch.setattr(_efficientnet, "STAGES", ((1, 3, 2, 1, 16), (1, 5, 1, 6, 16)))
    monkeypatch.setattr(_mobilenet, "STAGES", ((1, 16, 1, 2), (6, 16, 1, 1)))
    monkeypatch.setattr(_resnet, "BLOCKS", {18: (1, 2), 20: (1, 2), 50: (1, 2)})
    make, reference, size = CASES[name]
    x = INPUTS[size] if isinstance(size, str) else rng.standard_normal((2, size, size, 3))
    shapes = jax.eval_shape(lambda key: make().init(key, x), jax.random.key(0))
    params = jax.tree.map(lambda p: rng.standard_normal(p.shape) / max(1, prod(p.shape[:-1])) ** 0.5, shapes[0])
    state = jax.tree.map(lambda s: rng.uniform(0.5, 1.5, s.shape), shapes[1])
    y, _ = jax.jit(make().apply)(params, state, jax.tree.map(jnp.asarray, x))
    expected = reference(params, state, x)
    assert all(np.ptp(leaf) > 1e-3 for leaf in jax.tree.leaves(expected))
    jax.tree.map(assert_close, y, expected)
