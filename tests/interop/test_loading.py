"""Weights of other libraries in layers: references in the layout of the library, written in NumPy loops."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn
from jaxnn.interop import Plan, dump, load, plan
from tests._close import assert_close

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)


def draw(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def positive(*shape):
    return RNG.uniform(0.5, 2.0, size=shape).astype(np.float32)


def first(x):
    """Channels-last to channels-first."""
    return np.moveaxis(x, -1, 1)


def last(x):
    return np.moveaxis(x, 1, -1)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# References. Arrays of x are channels-last, as ours; weights are those of the library.


def convolved(x, w, b=0.0, stride=1, groups=1):
    """Convolution without padding of x [n, c, *space] with w [o, c / groups, *taps], as PyTorch defines it."""
    taps, o = w.shape[2:], w.shape[0]
    space = [(s - t) // stride + 1 for s, t in zip(x.shape[2:], taps, strict=True)]
    y = np.zeros((len(x), o, *space))
    for f in range(o):
        of_group = f // (o // groups)
        for c, *tap in product(range(w.shape[1]), *map(range, taps)):
            places = tuple(slice(t, t + stride * (s - 1) + 1, stride) for t, s in zip(tap, space, strict=True))
            y[:, f] += x[(slice(None), of_group * w.shape[1] + c, *places)] * w[(f, c, *tap)]
    return y + np.reshape(b, (-1,) + (1,) * len(space))


def transposed_convolved(x, w, b, stride):
    """Transposed convolution without padding of x [n, c, h, w] with w [c, o, *taps]."""
    n, _, height, width = x.shape
    _, o, kh, kw = w.shape
    y = np.zeros((n, o, (height - 1) * stride + kh, (width - 1) * stride + kw))
    for i, j in np.ndindex(height, width):
        y[:, :, i * stride : i * stride + kh, j * stride : j * stride + kw] += np.einsum(
            "nc,cokl->nokl", x[..., i, j], w
        )
    return y + b[:, None, None]


def lstm_torch(x, w, end="_l0", reverse=False):
    w_x, w_h, b = w[f"weight_ih{end}"], w[f"weight_hh{end}"], w[f"bias_ih{end}"] + w[f"bias_hh{end}"]
    return lstm(x, lambda a, h: np.split(a @ w_x.T + h @ w_h.T + b, 4, -1), w_h.shape[1], reverse)


def lstm(x, gates, size, reverse=False):
    """Steps of x [n, t, d]; gates(x, h) gives input, forget, cell, output."""
    h = c = np.zeros((len(x), size))
    ys = np.zeros((*x.shape[:2], size))
    for t in reversed(range(x.shape[1])) if reverse else range(x.shape[1]):
        i, f, g, o = gates(x[:, t], h)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        ys[:, t] = h
    return ys


def both_directions(x, w):
    for k in range(2):
        x = np.concatenate([lstm_torch(x, w, f"_l{k}"), lstm_torch(x, w, f"_l{k}_reverse", reverse=True)], -1)
    return x


def gru_torch(x, w):
    h = np.zeros((len(x), w["weight_hh_l0"].shape[1]))
    ys = []
    for t in range(x.shape[1]):
        a = np.split(x[:, t] @ w["weight_ih_l0"].T + w["bias_ih_l0"], 3, -1)
        b = np.split(h @ w["weight_hh_l0"].T + w["bias_hh_l0"], 3, -1)
        r, z = sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1])
        h = (1 - z) * np.tanh(a[2] + r * b[2]) + z * h
        ys.append(h)
    return np.stack(ys, 1)


def gru_keras(x, w, after=True):
    """Gates z, r, h; h <- z h + (1 - z) candidate."""
    h = np.zeros((len(x), w["recurrent_kernel"].shape[0]))
    bias = w["bias"] if after else np.stack([w["bias"], np.zeros_like(w["bias"])])
    ys = []
    for t in range(x.shape[1]):
        a = np.split(x[:, t] @ w["kernel"] + bias[0], 3, -1)
        u = np.split(w["recurrent_kernel"], 3, -1)
        b = np.split(bias[1], 3)
        z, r = sigmoid(a[0] + h @ u[0] + b[0]), sigmoid(a[1] + h @ u[1] + b[1])
        inner = r * (h @ u[2] + b[2]) if after else (r * h) @ u[2]
        h = z * h + (1 - z) * np.tanh(a[2] + inner)
        ys.append(h)
    return np.stack(ys, 1)


def lstm_onnx(x, w):
    w_x, w_h, (b_x, b_h) = w["W"][0], w["R"][0], np.split(w["B"][0], 2)

    def gates(x, h):
        i, o, f, c = np.split(x @ w_x.T + h @ w_h.T + b_x + b_h, 4, -1)
        return i, f, c, o

    return lstm(x, gates, w_h.shape[1])


def attended(q, k, v):
    """[n, t, heads, size] each -> [n, t, heads · size]."""
    scores = softmax(np.einsum("nthd,nshd->nhts", q, k) / np.sqrt(q.shape[-1]))
    return np.einsum("nhts,nshd->nthd", scores, v).reshape(*q.shape[:2], -1)


def heads_of(y, heads):
    return y.reshape(*y.shape[:2], heads, -1)


def attention_torch(x, w):
    q, k, v = (heads_of(y, 2) for y in np.split(x @ w["in_proj_weight"].T + w["in_proj_bias"], 3, -1))
    return attended(q, k, v) @ w["out_proj.weight"].T + w["out_proj.bias"]


def cross_torch(x, w):
    b = np.split(w["in_proj_bias"], 3)
    q, k, v = (
        heads_of(x[..., : w[f"{n}_proj_weight"].shape[1]] @ w[f"{n}_proj_weight"].T + c, 2)
        for n, c in zip("qkv", b, strict=True)
    )
    return attended(q, k, v) @ w["out_proj.weight"].T + w["out_proj.bias"]


def encoder_torch(x, w):
    """TransformerEncoderLayer with its defaults: post-norm, relu."""
    inner = {name.removeprefix("self_attn."): value for name, value in w.items()}
    x = normed(x + attention_torch(x, inner), {part: w[f"norm1.{part}"] for part in ("weight", "bias")}, "layer")
    h = np.maximum(x @ w["linear1.weight"].T + w["linear1.bias"], 0) @ w["linear2.weight"].T + w["linear2.bias"]
    return normed(x + h, {part: w[f"norm2.{part}"] for part in ("weight", "bias")}, "layer")


def attention_bert(x, w):
    q, k, v = (heads_of(x @ w[f"self.{n}.weight"].T + w[f"self.{n}.bias"], 2) for n in ("query", "key", "value"))
    return attended(q, k, v) @ w["output.dense.weight"].T + w["output.dense.bias"]


def attention_gpt2(x, w):
    q, k, v = (heads_of(y, 2) for y in np.split(x @ w["c_attn.weight"] + w["c_attn.bias"], 3, -1))
    return attended(q, k, v) @ w["c_proj.weight"] + w["c_proj.bias"]


def attention_keras(x, w):
    q, k, v = (np.einsum("ntd,dhs->nths", x, w[f"{n}/kernel"]) + w[f"{n}/bias"] for n in ("query", "key", "value"))
    y = attended(q, k, v).reshape(*x.shape[:2], *w["query/bias"].shape)
    return np.einsum("nths,hsd->ntd", y, w["attention_output/kernel"]) + w["attention_output/bias"]


def normed(x, w, kind):
    if kind == "batch":
        mean, var = w["running_mean"], w["running_var"]
    elif kind == "layer":
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    else:
        of_groups = x.reshape(len(x), -1, 2, x.shape[-1] // 2)
        mean, var = (f(of_groups, axis=(1, 3), keepdims=True) for f in (np.mean, np.var))
        return ((of_groups - mean) / np.sqrt(var + 1e-5)).reshape(x.shape) * w["weight"] + w["bias"]
    return (x - mean) / np.sqrt(var + 1e-5) * w["weight"] + w["bias"]


def of_flattened(x, w):
    """Batch norm and a linear layer over features flattened channels-first."""
    flat = first(x).reshape(len(x), -1)
    flat = (flat - w["1.running_mean"]) / np.sqrt(w["1.running_var"] + 1e-5) * w["1.weight"] + w["1.bias"]
    return np.maximum(flat, 0) @ w["3.weight"].T + w["3.bias"]


def separable(x, w):
    """depthwise_kernel [h, w, c, m], pointwise_kernel [1, 1, c · m, o]."""
    c, m = w["depthwise_kernel"].shape[2:]
    depth = w["depthwise_kernel"].transpose(2, 3, 0, 1).reshape(c * m, 1, *w["depthwise_kernel"].shape[:2])
    return last(convolved(first(x), depth, groups=c)) @ w["pointwise_kernel"][0, 0] + w["bias"]


def cells(end="_l0", d=5, h=3, gates=4):
    shapes = {
        "weight_ih": (gates * h, d),
        "weight_hh": (gates * h, h),
        "bias_ih": (gates * h,),
        "bias_hh": (gates * h,),
    }
    return {f"{name}{end}": draw(*shape) for name, shape in shapes.items()}


def linear(name, o, i, turned=False):
    return {f"{name}.weight": draw(i, o) if turned else draw(o, i), f"{name}.bias": draw(o)}


def batch_norm(prefix, c):
    shapes = {f"{prefix}weight": draw(c), f"{prefix}bias": draw(c), f"{prefix}running_mean": draw(c)}
    return {**shapes, f"{prefix}running_var": positive(c), f"{prefix}num_batches_tracked": np.array(7)}


SEQUENCE, IMAGE = (2, 4, 5), (2, 6, 7, 4)

# name -> layout, layer, shape of x, weights, reference of (x, weights), rules
CASES = {
    "dense": (
        "torch",
        nn.dense(3),
        (2, 5),
        {"weight": draw(3, 5), "bias": draw(3)},
        lambda x, w: x @ w["weight"].T + w["bias"],
    ),
    "square": (
        "torch",
        nn.dense(5),
        (2, 5),
        {"weight": draw(5, 5), "bias": draw(5)},
        lambda x, w: x @ w["weight"].T + w["bias"],
    ),
    "conv 1-d": (
        "torch",
        nn.conv(3, 2, stride=2, padding="valid"),
        (2, 7, 4),
        {"weight": draw(3, 4, 2), "bias": draw(3)},
        lambda x, w: last(convolved(first(x), w["weight"], w["bias"], stride=2)),
    ),
    "conv 2-d of groups": (
        "torch",
        nn.conv(6, (2, 3), groups=2, padding="valid"),
        IMAGE,
        {"weight": draw(6, 2, 2, 3), "bias": draw(6)},
        lambda x, w: last(convolved(first(x), w["weight"], w["bias"], groups=2)),
    ),
    "conv 3-d": (
        "torch",
        nn.conv(2, (2, 1, 3), padding="valid"),
        (1, 3, 3, 4, 2),
        {"weight": draw(2, 2, 2, 1, 3), "bias": draw(2)},
        lambda x, w: last(convolved(first(x), w["weight"], w["bias"])),
    ),
    "depthwise": (
        "torch",
        nn.depthwise_conv((2, 3), multiplier=2, padding="valid"),
        IMAGE,
        {"weight": draw(8, 1, 2, 3), "bias": draw(8)},
        lambda x, w: last(convolved(first(x), w["weight"], w["bias"], groups=4)),
    ),
    "transposed": (
        "torch",
        nn.conv_transpose(3, (2, 3), stride=2, padding="valid"),
        (2, 3, 2, 4),
        {"weight": draw(4, 3, 2, 3), "bias": draw(3)},
        lambda x, w: last(transposed_convolved(first(x), w["weight"], w["bias"], 2)),
    ),
    "patches": (
        "torch",
        nn.patches(5, (2, 3)),
        (2, 4, 6, 4),
        {"weight": draw(5, 4, 2, 3), "bias": draw(5)},
        lambda x, w: last(
            sum(
                np.einsum("nchw,oc->nohw", first(x)[..., i::2, j::3], w["weight"][..., i, j])
                for i, j in np.ndindex(2, 3)
            )
            + w["bias"][:, None, None]
        ).reshape(2, 4, 5),
    ),
    "batch norm": ("torch", nn.batch_norm(), (3, 4), batch_norm("", 4), lambda x, w: normed(x, w, "batch")),
    "layer norm": (
        "torch",
        nn.layer_norm(),
        (3, 4),
        {"weight": draw(4), "bias": draw(4)},
        lambda x, w: normed(x, w, "layer"),
    ),
    "group norm": (
        "torch",
        nn.group_norm(2),
        IMAGE,
        {"weight": draw(4), "bias": draw(4)},
        lambda x, w: normed(x, w, "group"),
    ),
    "embedding": ("torch", nn.embed(6, 6), (), {"weight": draw(6, 6)}, lambda x, w: w["weight"][x]),
    "prelu": ("torch", nn.prelu(), (2, 4), {"weight": draw(4)}, lambda x, w: np.where(x > 0, x, w["weight"] * x)),
    "shared prelu": (
        "torch",
        nn.prelu(shared=True),
        (2, 4),
        {"weight": draw(1)},
        lambda x, w: np.where(x > 0, x, w["weight"] * x),
    ),
    "rnn": (
        "torch",
        nn.rnn(3),
        (2, 1, 5),
        cells(gates=1),
        lambda x, w: np.tanh(x @ w["weight_ih_l0"].T + w["bias_ih_l0"] + w["bias_hh_l0"]),
    ),
    "lstm": ("torch", nn.lstm(3), SEQUENCE, cells(), lstm_torch),
    "lstm of two layers and directions": (
        "torch",
        nn.lstm(3, layers=2, bidirectional=True),
        SEQUENCE,
        cells() | cells("_l0_reverse") | cells("_l1", 6) | cells("_l1_reverse", 6),
        both_directions,
    ),
    "gru": ("torch", nn.gru(3), SEQUENCE, cells(gates=3), gru_torch),
    "attention": (
        "torch",
        nn.attention(2),
        (2, 3, 4),
        {"in_proj_weight": draw(12, 4), "in_proj_bias": draw(12), **linear("out_proj", 4, 4)},
        attention_torch,
    ),
    "encoder block": (
        "torch",
        nn.encoder_block(2, hidden=6, post_norm=True, activation=nn.relu),
        (2, 3, 4),
        {"self_attn.in_proj_weight": draw(12, 4), "self_attn.in_proj_bias": draw(12)}
        | linear("self_attn.out_proj", 4, 4)
        | linear("linear1", 6, 4)
        | linear("linear2", 4, 6)
        | {f"norm{i}.{part}": positive(4) for i in (1, 2) for part in ("weight", "bias")},
        encoder_torch,
        {
            "self_attn": "attention",
            "norm1": "attention_norm",
            "linear1": "up",
            "linear2": "down",
            "norm2": "mlp_norm",
        },
    ),
    "attention to others": (
        "torch",
        nn.serial(lambda x: {"x": x, "context": x[..., :2]}, nn.attention(2)),
        (2, 3, 4),
        {
            "q_proj_weight": draw(4, 4),
            "k_proj_weight": draw(4, 2),
            "v_proj_weight": draw(4, 2),
            "in_proj_bias": draw(12),
        }
        | linear("out_proj", 4, 4),
        cross_torch,
        {"": "attention"},
    ),
    "attention of separate projections": (
        "torch",
        nn.attention(2),
        (2, 3, 4),
        linear("self.query", 4, 4)
        | linear("self.key", 4, 4)
        | linear("self.value", 4, 4)
        | linear("output.dense", 4, 4),
        attention_bert,
        {"self.query": "q", "self.key": "k", "self.value": "v", "output.dense": "o"},
    ),
    "attention of GPT-2": (
        "torch",
        nn.attention(2),
        (2, 3, 4),
        linear("c_attn", 12, 4, turned=True) | linear("c_proj", 4, 4, turned=True),
        attention_gpt2,
        {"c_attn": "qkv.T", "c_proj": "o.T"},
    ),
    "flattened": (
        "torch",
        nn.serial(nn.flatten(), nn.batch_norm(), nn.relu, nn.dense(3)),
        (2, 2, 3, 4),
        batch_norm("1.", 24) | linear("3", 3, 24),
        of_flattened,
        {"1": "batch_norm", "3": "dense"},
    ),
    "dense of Keras": (
        "keras",
        nn.dense(5),
        (2, 5),
        {"kernel": draw(5, 5), "bias:0": draw(5)},
        lambda x, w: x @ w["kernel"] + w["bias:0"],
    ),
    "conv of Keras": (
        "keras",
        nn.conv(3, 2, padding="valid"),
        IMAGE,
        {"vars/0": draw(2, 2, 4, 3), "vars/1": draw(3)},
        lambda x, w: last(convolved(first(x), w["vars/0"].transpose(3, 2, 0, 1), w["vars/1"])),
    ),
    "depthwise of Keras": (
        "keras",
        nn.depthwise_conv(2, multiplier=2, padding="valid", bias=False),
        IMAGE,
        {"depthwise_kernel": draw(2, 2, 4, 2)},
        lambda x, w: separable(x, {**w, "pointwise_kernel": np.eye(8)[None, None], "bias": 0}),
    ),
    "separable of Keras": (
        "keras",
        nn.separable_conv(3, 2, multiplier=2, padding="valid"),
        IMAGE,
        {"depthwise_kernel": draw(2, 2, 4, 2), "pointwise_kernel": draw(1, 1, 8, 3), "bias": draw(3)},
        separable,
    ),
    "transposed of Keras": (
        "keras",
        nn.conv_transpose(3, 2, stride=2, padding="valid"),
        (2, 3, 2, 4),
        {"kernel": draw(2, 2, 3, 4), "bias": draw(3)},
        lambda x, w: last(transposed_convolved(first(x), w["kernel"].transpose(3, 2, 0, 1), w["bias"], 2)),
    ),
    "batch norm of Keras": (
        "keras",
        nn.batch_norm(),
        (3, 4),
        {"vars/0": draw(4), "vars/1": draw(4), "vars/2": draw(4), "vars/3": positive(4)},
        lambda x, w: (x - w["vars/2"]) / np.sqrt(w["vars/3"] + 1e-5) * w["vars/0"] + w["vars/1"],
    ),
    "lstm of Keras": (
        "keras",
        nn.lstm(3),
        SEQUENCE,
        {"cell/vars/0": draw(5, 12), "cell/vars/1": draw(3, 12), "cell/vars/2": draw(12)},
        lambda x, w: lstm(
            x, lambda a, h: np.split(a @ w["cell/vars/0"] + h @ w["cell/vars/1"] + w["cell/vars/2"], 4, -1), 3
        ),
    ),
    "gru of Keras": (
        "keras",
        nn.gru(3),
        SEQUENCE,
        {"kernel": draw(5, 9), "recurrent_kernel": draw(3, 9), "bias": draw(2, 9)},
        gru_keras,
    ),
    "gru of Keras, reset before": (
        "keras",
        nn.gru(3, reset="before"),
        SEQUENCE,
        {"kernel": draw(5, 9), "recurrent_kernel": draw(3, 9), "bias": draw(9)},
        lambda x, w: gru_keras(x, w, after=False),
    ),
    "attention of Keras": (
        "keras",
        nn.attention(2),
        (2, 3, 4),
        {f"{n}/kernel": draw(4, 2, 2) for n in ("query", "key", "value")}
        | {f"{n}/bias": draw(2, 2) for n in ("query", "key", "value")}
        | {"attention_output/kernel": draw(2, 2, 4), "attention_output/bias": draw(4)},
        attention_keras,
    ),
    "prelu of Keras": (
        "keras",
        nn.prelu(),
        IMAGE,
        {"alpha": draw(1, 1, 4)},
        lambda x, w: np.where(x > 0, x, w["alpha"] * x),
    ),
    "lstm of ONNX": (
        "onnx",
        nn.lstm(3),
        SEQUENCE,
        {"W": draw(1, 12, 5), "R": draw(1, 12, 3), "B": draw(1, 24)},
        lstm_onnx,
    ),
    "gru of ONNX": (
        "onnx",
        nn.gru(3),
        SEQUENCE,
        {"W": draw(1, 9, 5), "R": draw(1, 9, 3), "B": draw(1, 18)},
        lambda x, w: gru_keras(
            x, {"kernel": w["W"][0].T, "recurrent_kernel": w["R"][0].T, "bias": w["B"][0].reshape(2, 9)}
        ),
    ),
}


def input_of(shape):
    return RNG.integers(0, 6, (2, 3)) if shape == () else draw(*shape)


@pytest.fixture(scope="module")
def outputs():
    """Outputs of all cases by one program, with their references."""
    models, loaded, inputs, wanted = {}, {}, {}, {}
    for name, (layout, model, shape, weights, reference, *rules) in CASES.items():
        x = input_of(shape)
        models[name], inputs[name] = model, x
        loaded[name] = load(model, x, weights, layout=layout, names=rules[0] if rules else None)
        exact = {key: w.astype(np.float64) for key, w in weights.items()}
        wanted[name] = reference(x if shape == () else x.astype(np.float64), exact)
    run = jax.jit(lambda loaded, xs: {name: models[name].apply(*loaded[name], xs[name])[0] for name in xs})
    return run(loaded, inputs), wanted


@pytest.mark.parametrize("name", CASES)
@pytest.mark.slow
def test_outputs_are_those_of_the_other_library(name, outputs):
    assert_close(outputs[0][name], outputs[1][name])


SUMMED = ("bias_ih", "bias_hh", "B")  # of two biases in the file, the second is written as 0


def test_round_trips_give_the_same_bits():
    for layout, model, shape, weights, _, *rules in CASES.values():
        x, names = input_of(shape), rules[0] if rules else None
        params, state = load(model, x, weights, layout=layout, names=names)
        written = dump(model, x, params, state, layout=layout, names=names)
        for made, expected in zip(load(model, x, written, layout=layout, names=names), (params, state), strict=True):
            jax.tree.map(same_bits, made, expected)
        for key, w in written.items():
            given = next((weights[k] for k in (key, f"{key}:0", f"depthwise_{key}") if k in weights), None)
            if given is not None and not key.startswith(SUMMED) and w.shape != (2, 9):
                same_bits(w, given.reshape(w.shape))
        if not any("vars/" in key for key in weights):
            plain = {
                key.removesuffix(":0").removeprefix("depthwise_") for key in weights if not key.endswith("tracked")
            }
            assert {key.removeprefix("depthwise_") for key in written} == plain


def same_bits(a, b):
    np.testing.assert_array_equal(np.asarray(a).view(np.uint32), np.asarray(b).view(np.uint32))


@pytest.mark.slow
def test_modules_of_flax():
    linen = pytest.importorskip("flax.linen", reason="flax is not installed: its layout is not tested")
    cases = {
        "dense": (linen.Dense(5), nn.dense(5), (2, 5)),
        "conv": (
            linen.Conv(6, (2, 3), feature_group_count=2, padding="VALID"),
            nn.conv(6, (2, 3), groups=2, padding="valid"),
            IMAGE,
        ),
        "depthwise": (
            linen.Conv(8, (2, 3), feature_group_count=4, padding="VALID"),
            nn.depthwise_conv((2, 3), multiplier=2, padding="valid"),
            IMAGE,
        ),
        "transposed": (
            linen.ConvTranspose(3, (2, 3), strides=(2, 2), padding="VALID"),
            nn.conv_transpose(3, (2, 3), stride=2, padding="valid"),
            IMAGE,
        ),
        "batch_norm": (linen.BatchNorm(use_running_average=True), nn.batch_norm(), (3, 4)),
        "layer_norm": (linen.LayerNorm(epsilon=1e-5), nn.layer_norm(), (3, 4)),
        "embed": (linen.Embed(6, 6), nn.embed(6, 6), ()),
        "prelu": (linen.PReLU(), nn.prelu(shared=True), (2, 4)),
        "rnn": (linen.RNN(linen.SimpleCell(3)), nn.rnn(3), SEQUENCE),
        "lstm": (linen.RNN(linen.OptimizedLSTMCell(3)), nn.lstm(3), SEQUENCE),
        "gru": (linen.RNN(linen.GRUCell(3)), nn.gru(3), SEQUENCE),
        "attention": (linen.MultiHeadDotProductAttention(2), nn.attention(2), (2, 3, 4)),
    }
    xs = {name: input_of(shape) for name, (*_, shape) in cases.items()}

    def both(variables, loaded, xs):
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            theirs = {name: cases[name][0].apply(variables[name], x) for name, x in xs.items()}
        return theirs, {name: cases[name][1].apply(*loaded[name], x)[0] for name, x in xs.items()}

    variables, loaded = {}, {}
    for name, (module, model, _) in cases.items():
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            shapes = jax.eval_shape(module.init, KEY, xs[name])
        variables[name] = jax.tree.map(lambda a: positive(*a.shape), shapes)
        flat = {
            jax.tree_util.keystr(p, simple=True, separator="/"): a
            for p, a in jax.tree_util.tree_leaves_with_path(variables[name])
        }
        cell = next((key.split("/")[1] for key in flat if "Cell" in key), None)
        names = {"cell": "", **({cell: ""} if cell else {})}
        loaded[name] = load(model, xs[name], flat, layout="flax", names=names)
        again = dump(model, xs[name], *loaded[name], layout="flax")
        assert len(again) == len(flat)
    theirs, ours = jax.jit(both)(variables, loaded, xs)
    for name in cases:
        assert_close(ours[name], theirs[name])


BLOCK = nn.serial(nn.dense(4, name="up"), nn.layer_norm(name="norm"), name="block")
STACKED = nn.serial(nn.repeat(BLOCK, 3))
ONE = {"weight": draw(4, 4), "bias": draw(4)}


def test_copies_of_a_repeat():
    x = draw(2, 4)
    weights = {
        f"h.{i}.{name}": draw(*w.shape)
        for i in range(3)
        for name, w in {
            "fc.weight": ONE["weight"],
            "fc.bias": ONE["bias"],
            "ln.weight": ONE["bias"],
            "ln.bias": ONE["bias"],
        }.items()
    }
    names = {"h.*.fc": "block[{1}]/up", "h.*.ln": "block[{1}]/norm"}
    params, _ = load(STACKED, x, weights, names=names)
    np.testing.assert_array_equal(params["block"]["up"]["w"][1], weights["h.1.fc.weight"].T)
    np.testing.assert_array_equal(params["block"]["norm"]["bias"][2], weights["h.2.ln.bias"])
    written = dump(STACKED, x, params, {}, names=names)
    assert set(written) == set(weights)
    jax.tree.map(same_bits, written, weights)
    whole = dump(STACKED, x, params, {})
    assert whole["block.up.weight"].shape == (3, 4, 4)
    jax.tree.map(same_bits, load(STACKED, x, whole)[0], params)


def test_names():
    x, model = draw(2, 4), nn.serial(BLOCK, nn.dense(2, name="head"))
    named = {
        "m.1.fc.weight": draw(4, 4),
        "m.1.fc.bias": draw(4),
        "m.1.ln.weight": draw(4),
        "shift": draw(1, 4),
        "old.x": draw(3),
    }
    named |= {"heads.0.weight": draw(2, 4), "heads.0.bias": draw(2)}
    rules = [
        ("m.*.fc", "block/up"),
        ("m.*.ln", "block/norm"),
        ("shift", "block/norm/bias"),
        ("old", None),
        ("heads.0", "head"),
    ]
    params, _ = load(model, x, named, names=rules)
    np.testing.assert_array_equal(params["block"]["norm"]["bias"], named["shift"][0])

    paths = {"m/1/fc": "block/up", "m/1/ln": "block/norm", "heads/0": "head"}

    def by_function(name):
        layer, _, weight = name.replace(".", "/").rpartition("/")
        return None if layer == "old" else f"{paths[layer]}/{weight}" if layer else "block/norm/bias"

    jax.tree.map(same_bits, load(model, x, named, names=by_function)[0], params)
    longer = {f"module.{name}": w for name, w in dump(model, x, params, {}).items()}
    jax.tree.map(same_bits, load(model, x, longer, names={"module": ""})[0], params)


def test_what_is_drawn_and_kept():
    model, x = nn.serial(nn.dense(4, name="body"), nn.batch_norm(name="norm"), nn.dense(3, name="head")), draw(2, 4)
    weights = {
        "body.weight": ONE["weight"].astype(np.float16),
        "body.bias": ONE["bias"].astype(np.float64),
        "fc.bias": ONE["bias"],
    }
    params, state = load(model, x, weights, strict=False, key=KEY)
    drawn, initial = model.init(KEY, x)
    jax.tree.map(same_bits, (params["head"], params["norm"], state), (drawn["head"], drawn["norm"], initial))
    same_bits(params["body"]["b"], ONE["bias"])
    assert params["body"]["w"].dtype == jnp.float32
    cached = nn.attention(2, causal=True, cache=4)
    plain, _ = nn.attention(2).init(KEY, jnp.ones((1, 1, 4)))
    params, state = load(cached, jnp.ones((3, 1, 4)), dump(nn.attention(2), jnp.ones((1, 1, 4)), plain, {}))
    assert state["k"].shape == (3, 4, 2, 2)
    jax.tree.map(same_bits, params, plain)


@pytest.mark.slow
def test_flattened_sequences():
    """Channels-first behind a convolution in PyTorch, steps-first behind a recurrent layer."""
    x, w = draw(2, 5, 4), draw(3, 15)
    for layer, order in ((nn.conv(3, 1, bias=False), (1, 0)), (nn.lstm(3, bias=False), (0, 1)), (nn.dense(3), (0, 1))):
        model = nn.serial(layer, nn.relu, nn.flatten(), nn.dense(3, bias=False, name="last"))
        params, _ = load(model, x, {"last.weight": w}, strict=False, key=KEY)
        wanted = w.reshape(3, *((5, 3) if order == (0, 1) else (3, 5))).transpose(0, 1 + order[0], 1 + order[1])
        np.testing.assert_array_equal(params["last"]["w"], wanted.reshape(3, 15).T)


def test_flattened_features_by_name():
    """Flattened by a function of the user: the order is told."""
    model, x = nn.serial(lambda x: x.reshape(len(x), -1), nn.dense(3)), draw(2, 2, 3, 4)
    weights = {"dense.weight": draw(3, 24), "dense.bias": draw(3)}
    params, state = load(model, x, weights, flatten={"dense": (2, 3, 4)})
    wanted = first(x).reshape(2, 24) @ weights["dense.weight"].T + weights["dense.bias"]
    assert_close(model.apply(params, state, x)[0], wanted)
    written = dump(model, x, params, state, flatten={"dense": (2, 3, 4)})
    jax.tree.map(same_bits, written, weights)
    off = load(nn.serial(nn.flatten(), nn.dense(3)), x, weights, flatten={"dense": None})
    np.testing.assert_array_equal(off[0]["dense"]["w"], weights["dense.weight"].T)


def test_weight_norm_and_wrappers():
    model = nn.serial(nn.residual(nn.inference(nn.weight_norm(nn.dense(4)))))
    weights = {"dense.weight_v": draw(4, 4), "dense.weight_g": positive(4, 1), "dense.bias": draw(4)}
    x = draw(2, 4)
    w = (
        weights["dense.weight_v"]
        * weights["dense.weight_g"]
        / np.linalg.norm(weights["dense.weight_v"], axis=1, keepdims=True)
    )
    y = model.apply(*load(model, x, weights), x)[0]
    assert_close(y, x + x @ w.T + weights["dense.bias"])


def scaled():
    """A layer of a user, with a square matrix of its own."""

    def init(key, x):
        return {"w": jnp.ones((4, 4)), "inner": {"shift": jnp.zeros(4)}}, {}

    def apply(params, state, x, *, key, train):
        return x @ params["w"] + params["inner"]["shift"][None], state

    return nn.layer(init, apply, "scaled")


def test_layers_of_other_kinds_keep_their_layout():
    model, w, x = nn.serial(scaled()), draw(4, 4), draw(2, 4)
    weights = {"fc.weight": w, "scaled.inner.shift": draw(4)}
    for path, wanted in (("scaled/w", w), ("scaled/w.T", w.T)):
        params, _ = load(model, x, weights, names={"fc.weight": path})
        np.testing.assert_array_equal(params["scaled"]["w"], wanted)
        assert set(dump(model, x, params, {}, names={"fc.weight": path})) == set(weights)
    for wrapped in (
        nn.weight_norm(nn.depthwise_conv(2)),
        nn.weight_norm(nn.attention(2), param="w_q"),
        nn.weight_norm(nn.lstm(3), param="w_h"),
        nn.residual(nn.lstm(4), skip=nn.dense(4)),
        nn.spectral_norm(nn.dense(4)),
    ):
        x = draw(2, 3, 4)
        shapes = jax.eval_shape(wrapped.init, KEY, x)
        params, state = jax.tree.map(lambda a: positive(*a.shape), shapes)
        again = load(wrapped, x, dump(wrapped, x, params, state), key=KEY)
        jax.tree.map(same_bits, again, (params, state))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_dtypes(dtype):
    """Weights are cast to the dtype of the params, and written in it."""
    weights = {"weight": draw(4, 4).astype(dtype), "bias": draw(4).astype(dtype)}
    params, state = load(nn.dense(4), X, weights)
    assert params["w"].dtype == jnp.float32
    half = jax.tree.map(lambda a: a.astype(dtype), params)
    written = dump(nn.dense(4), X, half, state)
    for name, w in weights.items():
        assert written[name].dtype == w.dtype
        np.testing.assert_array_equal(written[name].view(np.uint16), w.view(np.uint16))


def test_the_text_of_a_plan():
    model = nn.serial(nn.conv(4, 3, name="stem"), nn.batch_norm(), nn.global_avg_pool(), nn.dense(2))
    weights = {
        "conv.weight": draw(4, 3, 3, 3),
        "conv.bias": draw(4),
        "dense.weight": draw(5, 2),
        "extra": draw(2),
        **batch_norm("batch_norm.", 4),
    }
    found = plan(model, draw(1, 8, 8, 3), weights, names={"conv": "stem"})
    assert isinstance(found, Plan)
    assert str(found) == repr(found) == PLAN


PLAN = """\
weight                   param             shape         param's shape  turn
─────────────────────────────────────────────────────────────────────────────────────────────
conv.weight              stem/w            [4, 3, 3, 3]  [3, 3, 3, 4]   transposed 2, 3, 1, 0
conv.bias                stem/b            [4]           [4]
batch_norm.weight        batch_norm/scale  [4]           [4]
batch_norm.bias          batch_norm/bias   [4]           [4]
batch_norm.running_mean  batch_norm/mean   [4]           [4]
batch_norm.running_var   batch_norm/var    [4]           [4]
does not fit: dense.weight: [5, 2], but dense/w needs [2, 4]
weight without a param: extra
param without a weight: dense/b
left out: batch_norm.num_batches_tracked"""
ERRORS = [
    (
        lambda: load(nn.gru(1, reset="before", bias=False), jnp.ones((1, 1, 1)), {"weight_ih_l0": draw(3, 1)}),
        "interop.load: expected each weight to fit one param, got 2 params without a weight (w_h, w_x); 1 weight "
        "without a param (weight_ih_l0). Print interop.plan(...) for all of them; rules in names= rewrite names or "
        "leave weights out.",
    ),
    (
        lambda: load(nn.dense(4), X, {"weight": draw(4, 3), "b": draw(4), "c": draw(2)}),
        "interop.load: expected each weight to fit one param, got 1 misfit (weight: [4, 3], but w needs [4, "
        "4]); 1 weight without a param (c). Print interop.plan(...) for all of them; rules in names= rewrite "
        "names or leave weights out.",
    ),
    (
        lambda: load(nn.dense(4), X, ONE | {"fc.weight": ONE["weight"], "0.bias": draw(2)}, names={"fc": ""}),
        "interop.load: expected each weight to fit one param, got 1 misfit (fc.weight: another weight is w, "
        "too); 1 weight without a param (0.bias). Print interop.plan(...) for all of them; rules in names= "
        "rewrite names or leave weights out.",
    ),
    (
        lambda: load(nn.dense(4), X, {"weight": draw(4, 4).astype(np.int8), "bias": draw(4)}),
        "interop.load: expected each weight to fit one param, got 1 misfit (weight: int8[4, 4] is not "
        "floating). Print interop.plan(...) for all of them; rules in names= rewrite names or leave weights "
        "out.",
    ),
    (
        lambda: load(nn.dense(4), X, {"weight": draw(4, 4)}, strict=False),
        "interop.load: expected a key to draw params, got None and 1 param without a weight (b). Pass "
        "key=jax.random.key(0).",
    ),
    (
        lambda: load(STACKED, X, {"0.weight": draw(4, 4)}, names={"0": "block[3]/up"}),
        "interop.load: expected each weight to fit one param, got 1 misfit (0.weight: no copy [3] of [3]); 3 "
        "params without a weight (block/norm/bias, block/norm/scale, block/up/b). Print interop.plan(...) "
        "for all of them; rules in names= rewrite names or leave weights out.",
    ),
    (
        lambda: load(nn.dense(4), X, [1]),
        "interop.load: expected weights to be a path or a mapping from names to arrays, got [1].",
    ),
    (
        lambda: load(nn.dense(4), X, ONE, layout="tf"),
        "interop.load: expected layout to be one of 'torch', 'keras', 'flax', 'onnx', got 'tf'.",
    ),
    (
        lambda: load(nn.dense(4), X, ONE, names={"a.*": "b{2}"}),
        "interop.load: expected fields {1} to {1} in a rule's path, got 'b{2}'. The pattern 'a.*' has 1 of *.",
    ),
    (
        lambda: load(nn.dense(4), X, ONE, names={1: "b"}),
        "interop.load: expected names to map patterns to paths or None, or a function of a name, got {1: 'b'}.",
    ),
    (
        lambda: load(nn.dense(4), X, ONE, flatten={"fc": (2, 2, 1)}),
        "interop.load: expected flatten to name layers with params, got 'fc'.",
    ),
    (
        lambda: dump(nn.dense(4), X, {"w": ONE["weight"], "b": draw(3)}, {}),
        "interop.dump: expected b of shape [4], got float32[3].",
    ),
    (
        lambda: dump(nn.dense(4), X, ONE, {}, names=str),
        "interop.dump: expected names as rules, which can be inverted, got the class str. Pass a dict from "
        "patterns to paths.",
    ),
]
X = jax.ShapeDtypeStruct((2, 4), jnp.float32)


@pytest.mark.parametrize(("call", "text"), ERRORS)
def test_errors(call, text):
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert str(caught.value) == text
