"""The ONNX backend's own node cases: inputs and expected outputs that nobody here wrote.

One adapter for each operator. An adapter renames, transposes to channels last, passes attributes, reduces losses as the
node says, and casts whole numbers, which layers refuse, to floats; it computes nothing. Every case of an operator runs,
but for those in `LEFT_OUT`, each with its reason.
"""

import importlib
import pkgutil
import warnings
from functools import cache, partial
from math import ceil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import optax
import pytest
from onnx import numpy_helper

import jaxnn as nn

RTOL, ATOL = 1e-3, 1e-7  # ONNX's own

ADAPTERS = {}


def adapter(*operators):
    def register(f):
        ADAPTERS.update(dict.fromkeys(operators, f))
        return f

    return register


# Layout: ONNX has channels first.


def last(x):
    return jnp.moveaxis(x, 1, -1)


def first(y):
    return jnp.moveaxis(y, -1, 1)


def window_of(w):
    """[features, c, *kernel] as [*kernel, c, features]; a transposed convolution's [c, features, *kernel] likewise."""
    return jnp.transpose(w, (*range(2, w.ndim), 1, 0))


def padding_of(a, size, window):
    """The pads of a node: begins and ends, or `auto_pad`; SAME_LOWER is TensorFlow's with the odd step in front."""
    auto, rank = a.get("auto_pad", b"NOTSET").decode(), len(size)
    if auto == "SAME_UPPER":
        return "same"
    if auto == "SAME_LOWER":
        strides, dilations = a.get("strides", [1] * rank), a.get("dilations", [1] * rank)
        total = [
            max((ceil(n / s) - 1) * s + (k - 1) * d + 1 - n, 0)
            for n, k, s, d in zip(size, window, strides, dilations, strict=True)
        ]
        return [(t - t // 2, t // 2) for t in total]
    pads = a.get("pads", [0] * 2 * rank)
    return list(zip(pads[:rank], pads[rank:], strict=True))


def steps_of(a, rank):
    return {"stride": a.get("strides", [1] * rank), "dilation": a.get("dilations", [1] * rank)}


# Convolution.


@adapter("Conv")
def conv(a, x, w, b=None):
    rank = x.ndim - 2
    how = steps_of(a, rank) | {"padding": padding_of(a, x.shape[2:], w.shape[2:]), "groups": a.get("group", 1)}
    y = first(nn.ops.conv(last(x), window_of(w), **how))
    return y if b is None else y + b.reshape(1, -1, *(1,) * rank)


@adapter("CausalConvWithState")
def causal_conv(a, x, w, b=None, past=None):
    """A piece of a sequence, and the last steps of it for the next piece."""
    k = w.shape[2]
    before = jnp.zeros((*x.shape[:2], k - 1), x.dtype) if past is None else past
    x = jnp.concatenate([before, x], axis=2)
    how = {"padding": "valid", "preferred_element_type": jnp.float32}
    y = first(nn.ops.depthwise_conv(last(x), jnp.transpose(w, (2, 0, 1)), **how))
    y = (y if b is None else y + b.reshape(1, -1, 1)).astype(x.dtype)
    after = x[:, :, x.shape[2] - (k - 1) :]
    return y if a.get("activation", b"none") == b"none" else nn.silu(y), after


@adapter("ConvTranspose")
def conv_transpose(a, x, w, b=None):
    rank = x.ndim - 2
    how = steps_of(a, rank) | {"groups": a.get("group", 1), "output_padding": a.get("output_padding")}
    auto = a.get("auto_pad", b"NOTSET").decode()
    if "output_shape" in a:
        sizes = zip(x.shape[2:], w.shape[2:], how["stride"], how["dilation"], a["output_shape"], strict=True)
        total = [(n - 1) * s + (k - 1) * d + 1 - out for n, k, s, d, out in sizes]
        how["output_padding"] = [max(-t, 0) for t in total]
        total = [max(t, 0) for t in total]
        how["padding"] = [(t // 2, t - t // 2) for t in total]
    else:
        how["padding"] = "same" if auto == "SAME_UPPER" else padding_of(a, x.shape[2:], w.shape[2:])
    y = first(nn.ops.conv_transpose(last(x), window_of(w), **how))
    return y if b is None else y + b.reshape(1, -1, *(1,) * rank)


MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@adapter("Pad")
def pad(a, x, pads=None, value=None, axes=None):
    pads = a["pads"] if pads is None else pads.tolist()  # attributes in old versions
    value = a.get("value", 0) if value is None else value
    axes = range(x.ndim) if axes is None else [axis % x.ndim for axis in axes.tolist()]
    sides = [(0, 0)] * x.ndim
    for i, axis in enumerate(axes):
        sides[axis] = pads[i], pads[i + len(axes)]
    mode = MODES[a.get("mode", b"constant").decode()]
    given = {"value": value} if mode == "constant" else {}
    return nn.ops.pad(x[None, ..., None], sides, mode=mode, **given)[0, ..., 0]  # all axes as space


@adapter("Col2Im")
def fold(a, y, size, kernel):
    size, kernel = size.tolist(), kernel.tolist()
    rank = len(size)
    how = {"stride": a.get("strides", [1] * rank), "dilation": a.get("dilations", [1] * rank)}
    how["padding"] = list(zip(*np.reshape(a.get("pads", [0] * 2 * rank), (2, rank)).tolist(), strict=True))
    patches = y.reshape(y.shape[0], -1, int(np.prod(kernel)), y.shape[-1])  # [n, c, k, positions]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, how["dilation"], strict=True)]
    long = [n + sum(p) for n, p in zip(size, how["padding"], strict=True)]
    steps = [(n - k) // s + 1 for n, k, s in zip(long, reach, how["stride"], strict=True)]
    patches = patches.transpose(0, 3, 2, 1).reshape(y.shape[0], *steps, *patches.shape[2:0:-1])
    return first(nn.ops.fold(patches, size, kernel, **how))


# Pooling.


def pool(op, a, x, **more):
    rank = x.ndim - 2
    window = a["kernel_shape"]
    how = steps_of(a, rank) | {"padding": padding_of(a, x.shape[2:], window), "ceil_mode": bool(a.get("ceil_mode", 0))}
    return op(last(x), window, **how, **more)


@adapter("MaxPool")
def max_pool(a, x):
    y, places = pool(nn.ops.max_pool_with_indices, a, x.astype(jnp.float32))
    value = pool(nn.ops.max_pool, a, x.astype(jnp.float32))
    np.testing.assert_array_equal(value.shape, y.shape)
    n, c, *space = x.shape
    places = first(places)
    if a.get("storage_order", 0):  # the places of one example column by column
        h, w = space
        places = places % w * h + places // w
    images = jnp.arange(n * c, dtype=jnp.int32).reshape(n, c, *(1,) * len(space))
    return first(value).astype(x.dtype), (places + images * int(np.prod(space))).astype(jnp.int32)


@adapter("AveragePool")
def average_pool(a, x):
    return first(pool(nn.ops.avg_pool, a, x, count_include_pad=bool(a.get("count_include_pad", 0))))


@adapter("LpPool")
def lp_pool(a, x):
    return first(pool(nn.ops.lp_pool, a, x, p=a.get("p", 2)))


def global_pool(op, a, x):
    return op(last(x)).reshape(*x.shape[:2], *(1,) * (x.ndim - 2))


ADAPTERS["GlobalAveragePool"] = partial(global_pool, nn.ops.global_avg_pool)
ADAPTERS["GlobalMaxPool"] = partial(global_pool, nn.ops.global_max_pool)


@adapter("MaxUnpool")
def max_unpool(a, x, places, shape=None):
    *_, h, w = x.shape
    (kh, kw), (sh, sw) = a["kernel_shape"], a.get("strides", [1, 1])
    size = [(h - 1) * sh + kh, (w - 1) * sw + kw]  # over which ONNX counts the places, whatever shape is asked for
    y = first(nn.ops.max_unpool(last(x), last(places), size))
    return y if shape is None else jnp.pad(y, [(0, n - m) for n, m in zip(shape.tolist(), y.shape, strict=True)])


# Resizing.


ROUNDINGS = {"round_prefer_floor": "half_down", "round_prefer_ceil": "half_up", "floor": "floor", "ceil": "ceil"}


@adapter("Resize")
def resize(a, x, roi=None, scales=None, sizes=None):
    axes = [axis % x.ndim for axis in a.get("axes", range(x.ndim))]
    coordinates = a.get("coordinate_transformation_mode", b"half_pixel").decode()
    how = {
        "method": a.get("mode", b"nearest").decode(),
        "coordinates": coordinates,
        "rounding": ROUNDINGS[a.get("nearest_mode", b"round_prefer_floor").decode()],
        "antialias": bool(a.get("antialias", 0)),
        "exclude_outside": bool(a.get("exclude_outside", 0)),
        "a": a.get("cubic_coeff_a", -0.75),
    }
    if sizes is not None and sizes.size:
        asked = dict(zip(axes, sizes.tolist(), strict=True))
        policy = a.get("keep_aspect_ratio_policy", b"stretch").decode()
        size = [asked.get(axis, x.shape[axis]) for axis in range(2, x.ndim)]
        if policy != "stretch":
            pick = min if policy == "not_larger" else max
            s = pick(asked[axis] / x.shape[axis] for axis in axes)
            size = [int(x.shape[axis] * s + 0.5) if axis in axes else x.shape[axis] for axis in range(2, x.ndim)]
        return first(nn.ops.resize(last(x), size, **how))
    asked = dict(zip(axes, scales.tolist(), strict=True))
    return first(nn.ops.resize(last(x), scale=[asked.get(axis, 1.0) for axis in range(2, x.ndim)], **how))


@adapter("Upsample")
def upsample(a, x, scales):
    return first(nn.ops.resize(last(x), scale=scales.tolist()[2:], method=a["mode"].decode()))


@adapter("DepthToSpace")
def depth_to_space(a, x):
    order = {"DCR": "rrc", "CRD": "crr"}[a.get("mode", b"DCR").decode()]
    return first(nn.ops.depth_to_space(last(x), a["blocksize"], order=order))


@adapter("SpaceToDepth")
def space_to_depth(a, x):
    order = {"DCR": "rrc", "CRD": "crr"}[a.get("mode", b"DCR").decode()]
    return first(nn.ops.space_to_depth(last(x), a["blocksize"], order=order))


@adapter("GridSample")
def grid_sample(a, x, grid):
    method = a.get("mode", b"linear").decode()
    how = {
        "method": {"bilinear": "linear", "bicubic": "cubic"}.get(method, method),
        "outside": a.get("padding_mode", b"zeros").decode(),
        "align_corners": bool(a.get("align_corners", 0)),
    }
    return first(nn.ops.grid_sample(last(x), grid, **how))


@adapter("AffineGrid")
def affine_grid(a, theta, size):
    return nn.ops.affine_grid(theta, size.tolist()[2:], align_corners=bool(a.get("align_corners", 0)))


# Normalisation.


@adapter("BatchNormalization")
def batch_norm(a, x, scale, bias, mean, var):
    layer = nn.batch_norm(momentum=a.get("momentum", 0.9), eps=a.get("epsilon", 1e-5))
    train = bool(a.get("training_mode", 0))
    y, new = layer.apply({"scale": scale, "bias": bias}, {"mean": mean, "var": var}, last(x), train=train)
    return (first(y), new["mean"], new["var"]) if train else first(y)


@adapter("LayerNormalization")
def layer_norm(a, x, scale, bias=None):
    return nn.ops.layer_norm(x, scale, bias, axis=a.get("axis", -1), eps=a.get("epsilon", 1e-5))


@adapter("RMSNormalization")
def rms_norm(a, x, scale):
    return nn.ops.rms_norm(x, scale, axis=a.get("axis", -1), eps=a.get("epsilon", 1e-5))


@adapter("GroupNormalization")
def group_norm(a, x, scale, bias):
    return first(nn.ops.group_norm(last(x), a["num_groups"], scale, bias, eps=a.get("epsilon", 1e-5)))


@adapter("InstanceNormalization")
def instance_norm(a, x, scale, bias):
    return first(nn.ops.instance_norm(last(x), scale, bias, eps=a.get("epsilon", 1e-5)))


@adapter("LRN")
def local_response_norm(a, x):
    how = {"alpha": a.get("alpha", 1e-4), "beta": a.get("beta", 0.75), "k": a.get("bias", 1.0)}
    return first(nn.ops.local_response_norm(last(x), a["size"], **how))


@adapter("LpNormalization")
def lp_normalize(a, x):
    return nn.ops.lp_normalize(x, float(a.get("p", 2)), axis=a.get("axis", -1))


@adapter("MeanVarianceNormalization")
def standardize(a, x):
    mean, var = nn.ops.moments(last(x), axis=(0, 1, 2))  # over all but the channels, the node's default
    return first(nn.ops.normalize(last(x), mean, var, 1e-9, None, None))


# Recurrent.


def recurrent(a, x, state, weights, run):
    """Each direction by `run(x, state, weights, reverse)`; time first, or the batch where layout is 1."""
    by_batch = a.get("layout", 0)
    x = x if by_batch else x.swapaxes(0, 1)
    directions = {b"forward": [False], b"reverse": [True], b"bidirectional": [False, True]}
    ys, carries = [], []
    for i, reverse in enumerate(directions[a.get("direction", b"forward")]):
        part = [None if s is None else (s[:, i] if by_batch else s[i]) for s in state]
        y, carry = run(x, part, [None if w is None else w[i] for w in weights], reverse)
        ys.append(y)
        carries.append(carry)
    ys = jnp.stack(ys, 2 if by_batch else 0)
    carries = jax.tree.map(lambda *c: jnp.stack(c, 1 if by_batch else 0), *carries)
    carries = carries if isinstance(carries, tuple) else (carries,)
    return (ys if by_batch else jnp.transpose(ys, (2, 0, 1, 3)), *carries)


def by_gate(w, order, axis=0):
    """The gates of a weight, which follow each other along an axis, in our order."""
    parts = jnp.split(w, len(order), axis)
    return jnp.concatenate([parts[i] for i in order], axis)


def summed(b, order):
    """The two biases of ONNX as the one of ours."""
    return None if b is None else by_gate(sum(jnp.split(b, 2)), order)


@adapter("RNN")
def rnn(a, x, w_x, w_h, b=None, lengths=None, h=None):
    def run(x, state, weights, reverse):
        w_x, w_h, b = weights
        return nn.ops.rnn(x, state[0], w_x.T, w_h.T, summed(b, [0]), lengths=lengths, reverse=reverse)

    return recurrent(a, x, [h], [w_x, w_h, b], run)


@adapter("LSTM")
def lstm(a, x, w_x, w_h, b=None, lengths=None, h=None, c=None, peephole=None):
    order = [0, 2, 3, 1]  # input, output, forget, cell there

    def run(x, state, weights, reverse):
        w_x, w_h, b, p = weights
        peephole = None if p is None else by_gate(p, [0, 2, 1]).reshape(3, -1)
        carry = None if state[0] is None else tuple(state)
        weights = by_gate(w_x, order).T, by_gate(w_h, order).T, summed(b, order)
        return nn.ops.lstm(x, carry, *weights, peephole=peephole, lengths=lengths, reverse=reverse)

    return recurrent(a, x, [h, c], [w_x, w_h, b, peephole], run)


@adapter("GRU")
def gru(a, x, w_x, w_h, b=None, lengths=None, h=None):
    order = [1, 0, 2]  # update, reset, candidate there
    reset = "after" if a.get("linear_before_reset", 0) else "before"

    def run(x, state, weights, reverse):
        w_x, w_h, b = weights
        b_x, b_h = (None, None) if b is None else (by_gate(v, order) for v in jnp.split(b, 2))
        weights = by_gate(w_x, order).T, by_gate(w_h, order).T, b_x, b_h
        return nn.ops.gru(x, state[0], *weights, reset=reset, lengths=lengths, reverse=reverse)

    return recurrent(a, x, [h], [w_x, w_h, b], run)


# Attention.


@adapter("Attention")
def attention(a, q, k, v, mask=None, past_k=None, past_v=None, lengths=None):
    flat = q.ndim == 3
    heads, kv = a.get("q_num_heads"), a.get("kv_num_heads")
    q, k, v = (x.reshape(*x.shape[:2], h, -1) if flat else x.swapaxes(1, 2) for x, h in ((q, heads), (k, kv), (v, kv)))
    offset = 0
    if past_k is not None:
        offset = past_k.shape[2]
        k, v = (jnp.concatenate([past.swapaxes(1, 2), x], 1) for past, x in ((past_k, k), (past_v, v)))
    elif lengths is not None:
        offset = lengths - q.shape[1]
    if mask is not None and mask.shape[-1] < k.shape[1]:
        beyond = [(0, 0)] * (mask.ndim - 1) + [(0, k.shape[1] - mask.shape[-1])]
        mask = jnp.pad(mask, beyond, constant_values=False if mask.dtype == bool else -jnp.inf)
    limits = [a.get(f"{side}_window_size", -1) for side in ("left", "right")]
    weighted = a.get("qk_matmul_output_mode") == 3
    y = nn.ops.attention(
        q,
        k,
        v,
        return_weights=weighted,
        **({} if mask is None else {"mask" if mask.dtype == bool else "bias": mask}),
        causal=bool(a.get("is_causal", 0)),
        window=tuple(None if limit < 0 else limit for limit in limits),
        offset=offset,
        lengths=lengths,
        scale=a.get("scale"),
        softcap=a.get("softcap") or None,
    )
    y, weights = y if weighted else (y, None)
    y = y.reshape(*y.shape[:2], -1) if flat else y.swapaxes(1, 2)
    outputs = y, k.swapaxes(1, 2), v.swapaxes(1, 2)
    return (*outputs, weights.astype(y.dtype)) if weighted else outputs


@adapter("RotaryEmbedding")
def rotary(a, x, cos, sin, positions=None):
    if positions is not None:
        cos, sin = cos[positions], sin[positions]
    heads = x.swapaxes(1, 2) if x.ndim == 4 else x.reshape(*x.shape[:2], a["num_heads"], -1)
    y = nn.ops.rotary(heads, cos, sin, interleaved=bool(a.get("interleaved", 0)))
    return y.swapaxes(1, 2) if x.ndim == 4 else y.reshape(x.shape)


# Activations.

for operator, f in {
    "Relu": nn.relu,
    "Sigmoid": nn.sigmoid,
    "Tanh": nn.tanh,
    "HardSwish": nn.hard_swish,
    "Mish": nn.mish,
    "Softplus": nn.softplus,
    "Softsign": nn.softsign,
}.items():
    ADAPTERS[operator] = lambda a, x, f=f: f(x)


@adapter("Elu")
def elu(a, x):
    return nn.elu(x, alpha=a.get("alpha", 1.0))


@adapter("Celu")
def celu(a, x):
    return nn.celu(x, alpha=a.get("alpha", 1.0))


@adapter("HardSigmoid")
def hard_sigmoid(a, x):
    return nn.hard_sigmoid(x, slope=a.get("alpha", 0.2), offset=a.get("beta", 0.5))


@adapter("ThresholdedRelu")
def thresholded_relu(a, x):
    return nn.thresholded_relu(x, threshold=a.get("alpha", 1.0))


@adapter("Shrink")
def shrink(a, x):
    bias, threshold = a.get("bias", 0.0), a.get("lambd", 0.5)
    assert bias in (0.0, threshold), "neither soft nor hard"
    return (nn.soft_shrink if bias else nn.hard_shrink)(x, threshold=threshold)


@adapter("Selu")
def selu(a, x):
    scale = a.get("gamma", 1.0507009873554804934193349852946)
    return scale * nn.elu(x, alpha=a.get("alpha", 1.6732632423543772848170429916717))


@adapter("Swish")
def swish(a, x):
    return nn.swish(x, beta=a.get("alpha", 1.0))


@adapter("LeakyRelu")
def leaky_relu(a, x):
    return nn.leaky_relu(x, negative_slope=a.get("alpha", 0.01))


@adapter("Gelu")
def gelu(a, x):
    return nn.gelu(x, approximate=a.get("approximate", b"none") == b"tanh")


@adapter("PRelu")
def prelu(a, x, slope):
    """The slopes of the cases lie on trailing axes, ours on the last: those axes become one."""
    k = slope.ndim
    flat = x.reshape(*x.shape[: x.ndim - k], -1) if k else x
    slopes = jnp.broadcast_to(slope, x.shape[x.ndim - k :]).reshape(-1)
    return nn.prelu().apply({"slope": slopes}, {}, flat)[0].reshape(x.shape)


@adapter("Softmax")
def softmax(a, x):
    return nn.softmax(x, axis=a.get("axis", -1))


@adapter("LogSoftmax")
def log_softmax(a, x):
    return nn.log_softmax(x, axis=a.get("axis", -1))


# Labels.


@adapter("OneHot")
def one_hot(a, labels, classes, values):
    """Labels from -classes on count from behind; the two values take the places of 0 and 1."""
    k = int(np.reshape(classes, ()))
    labels = labels.astype(jnp.int32)
    y = nn.data.one_hot(jnp.where(labels < 0, labels + k, labels), k, axis=a.get("axis", -1), unknown=0.0)
    return jnp.where(y == 1, values[1], values[0])


# Boxes.


@adapter("NonMaxSuppression")
def non_maximum_suppression(a, boxes, scores, size=0, iou_threshold=0.0, score_threshold=-jnp.inf):
    """[images, classes, size] indices, -1 for none; `rows` makes a list of them."""
    boxes = nn.ops.box_corners(boxes) if a.get("center_point_box", 0) else boxes
    how = {"iou_threshold": jnp.reshape(iou_threshold, ()), "score_threshold": jnp.reshape(score_threshold, ())}
    one = partial(nn.ops.non_maximum_suppression, size=min(int(np.reshape(size, ())), boxes.shape[1]), **how)
    return jax.vmap(jax.vmap(one, (None, 0)))(boxes, scores)


def rows(kept):
    kept = np.asarray(kept)
    places = np.argwhere(kept >= 0)
    return np.concatenate([places[:, :2], kept[kept >= 0][:, None]], 1).astype(np.int32)


@adapter("RoiAlign")
def roi_align(a, x, boxes, image):
    y = nn.ops.roi_align(
        last(x),
        boxes,
        image,
        (a.get("output_height", 1), a.get("output_width", 1)),
        scale=a.get("spatial_scale", 1.0),
        samples=a["sampling_ratio"],
        aligned=a.get("coordinate_transformation_mode", b"half_pixel") == b"half_pixel",
        mode={"avg": "mean"}.get(mode := a.get("mode", b"avg").decode(), mode),
    )
    return first(y)


# Losses.


@adapter("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy(a, logits, labels, class_weights=None):
    ignored = a.get("ignore_index")
    loss = nn.losses.softmax_cross_entropy(last(logits), labels, class_weights=class_weights, ignore_label=ignored)
    return reduced(a, loss, labels, class_weights), first(nn.log_softmax(last(logits)))


@adapter("NegativeLogLikelihoodLoss")
def cross_entropy_on_log_probabilities(a, x, labels, class_weights=None):
    ignored = a.get("ignore_index")
    loss = nn.losses.cross_entropy_on_log_probabilities(
        last(x), labels, class_weights=class_weights, ignore_label=ignored
    )
    return reduced(a, loss, labels, class_weights)


def reduced(a, loss, labels, class_weights):
    """The mean is over what is not ignored, weighted by the classes."""
    how = a.get("reduction", b"mean").decode()
    if how != "mean":
        return loss.sum() if how == "sum" else loss
    weights = jnp.ones(loss.shape) if class_weights is None else class_weights.at[labels].get(mode="fill", fill_value=0)
    weights = jnp.where(labels == a["ignore_index"], 0, weights) if "ignore_index" in a else weights
    return loss.sum() / weights.sum()


# Dropout: what it is when nothing is dropped.


@adapter("Dropout")
def dropout(a, x, ratio=0.5, training=False):
    """The mask, the second output, is that of the kept: all where nothing is dropped."""
    y, _ = nn.dropout(float(ratio)).apply({}, {}, x, key=jax.random.key(0), train=bool(training))
    return y, jnp.ones(x.shape, bool)


ROUNDED = "its expected output was rounded to 16 bits at each step, ours is at the end alone"
# Optimizers.


def updated(a, optimizer, slots, rate, t, arrays):
    """One update of each param, whose parts follow each other by kind: params, gradients, then the slots."""
    k = len(arrays) // (2 + len(slots))
    params, grads, *held = (list(arrays[i : i + k]) for i in range(0, len(arrays), k))
    rule = optax.chain(optax.add_decayed_weights(a.get("norm_coefficient", 0.0)), optimizer)
    decay, state = rule.init(params)
    state = {**state, **dict(zip(slots, held, strict=True)), "count": t.astype(jnp.int32)}
    updates, (_, state) = rule.update(grads, (decay, state), params)
    params = [p + u for p, u in zip(params, updates, strict=True)]
    return tuple(params + [leaf for slot in slots for leaf in state[slot]])


@adapter("Adam")
def adam(a, rate, t, *arrays):
    """A T of 0 asks for no correction: what is left of it after very many steps."""
    optimizer = nn.adam(rate, a.get("alpha", 0.9), a.get("beta", 0.999), a.get("epsilon", 1e-6))
    return updated(a, optimizer, ("mu", "nu"), rate, jnp.where(t == 0, 2**30, t - 1), arrays)


@adapter("Adagrad")
def adagrad(a, rate, t, *arrays):
    rate = rate / (1 + t.astype(jnp.float32) * a.get("decay_factor", 0.0))
    optimizer = nn.adagrad(rate, 0.0, a.get("epsilon", 1e-6), eps_in_sqrt=False)
    return updated(a, optimizer, ("sum_of_squares",), rate, t, arrays)


@adapter("Momentum")
def momentum(a, rate, t, *arrays):
    nesterov = a["mode"] == b"nesterov"
    optimizer = nn.sgd(rate, a["alpha"], nesterov, dampening=1 - a["beta"])
    return updated(a, optimizer, ("trace",), rate, t, arrays)


LEFT_OUT = {
    "attention_3d_causal_bf16": ROUNDED,
    "attention_4d_attn_mask_causal_bf16": ROUNDED,
    "attention_4d_causal_bf16": ROUNDED,
    "attention_4d_causal_fp16": ROUNDED,
    "attention_4d_causal_padded_kv_bf16": ROUNDED,
    "attention_4d_padded_kv_bf16": ROUNDED,
    "training_dropout_default": "its expected output is NumPy's own random draw",
    "training_dropout_default_mask": "its expected output is NumPy's own random draw",
    "training_dropout": "its expected output is NumPy's own random draw",
    "training_dropout_mask": "its expected output is NumPy's own random draw",
    "dropout_default_old": "an old form of the operator, whose mask has the dtype of x",
    "dropout_random_old": "an old form of the operator, whose mask has the dtype of x",
    "resize_tf_crop_and_resize": "it crops as well; ops.grid_sample reads a region",
    "resize_tf_crop_and_resize_axes_2_3": "it crops as well; ops.grid_sample reads a region",
    "resize_tf_crop_and_resize_axes_3_2": "it crops as well; ops.grid_sample reads a region",
    "resize_tf_crop_and_resize_extrapolation_value": "it crops as well; ops.grid_sample reads a region",
}
COMPARED = {  # the first outputs alone
    "Attention": lambda a: 4 if a.get("qk_matmul_output_mode") == 3 else 3,  # weights, and no scores before them
    "LayerNormalization": lambda a: 1,  # no statistics
}
STATIC = {
    "AffineGrid": (1,),
    "Col2Im": (1, 2),
    "Dropout": (1, 2),
    "MaxUnpool": (2,),
    "NonMaxSuppression": (2,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
}  # inputs that decide shapes or the program, so not traced
AFTER = {"NonMaxSuppression": rows}  # what turns a result of fixed size into the node's


@cache
def cases():
    """name -> (operator, attributes, inputs, outputs) for each single node of an operator that has an adapter."""
    state = np.random.get_state()
    np.random.seed(0)  # some cases draw without a seed of their own
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import onnx.backend.test.case.node as node

        for module in pkgutil.iter_modules(node.__path__):
            importlib.import_module(f"{node.__name__}.{module.name}")
    np.random.set_state(state)
    found = {}
    for case in node._NodeTestCases:
        (one, *others) = case.model.graph.node
        if others or one.op_type not in ADAPTERS or one.domain not in ("", "ai.onnx.preview.training"):
            continue
        found[case.name.removeprefix("test_")] = read(one, case.model.graph, case.data_sets[0])
    return found


def read(one, graph, data):
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in one.attribute}
    ins = dict(zip([v.name for v in graph.input], map(as_array, data[0]), strict=True))
    outs = dict(zip([v.name for v in graph.output], map(as_array, data[1]), strict=True))
    return one.op_type, attributes, [ins.get(i) for i in one.input], [outs.get(o) for o in one.output]


def as_array(value):
    if isinstance(value, onnx.TensorProto):
        value = numpy_helper.to_array(value)
    return np.asarray(value)


def run(operator, attributes, inputs):
    given = [i for i in range(len(inputs)) if inputs[i] is not None and i not in STATIC.get(operator, ())]

    @jax.jit
    def apply(*traced):
        every = list(inputs)
        for i, v in zip(given, traced, strict=True):
            every[i] = v
        return ADAPTERS[operator](attributes, *every)

    outputs = apply(*[inputs[i] for i in given])
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return tuple(map(AFTER.get(operator, lambda y: y), outputs))


# A test for each operator, not for each node: building the nodes takes seconds, which a run without them would pay too.
@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("operator", sorted(ADAPTERS))
@pytest.mark.slow
def test_nodes(operator, half):
    names = sorted(name for name, case in cases().items() if case[0] == operator and name not in LEFT_OUT)
    for name in names[half::2]:
        _, attributes, inputs, outputs = cases()[name]
        got = run(operator, attributes, inputs)
        outputs = outputs[: COMPARED.get(operator, lambda a: None)(attributes)]
        assert len(got) >= len(outputs) > 0, name  # an output more is one that the node does not ask for
        for g, want in zip(map(np.asarray, got), outputs, strict=False):
            if want is None:
                continue
            assert g.shape == want.shape, name
            assert g.dtype == want.dtype or want.dtype in (np.int64, np.float64), name
            np.testing.assert_allclose(g.astype(float), want.astype(float), rtol=RTOL, atol=ATOL, err_msg=name)


@pytest.mark.slow
def test_what_ran(capsys):
    """Every case of an operator is run or named; a name that no longer exists is an error."""
    assert set(LEFT_OUT) <= set(cases())
    ran = len(cases()) - len(LEFT_OUT)
    with capsys.disabled():
        print(f"\nONNX node cases: {ran} run, {len(LEFT_OUT)} left out by name, {len(ADAPTERS)} operators")
    assert ran >= 410


# The graphs that PyTorch's exporter made of its own layers, with the inputs and outputs of PyTorch.


PLUMBING = {
    "Unsqueeze": lambda a, x: jnp.expand_dims(x, a["axes"]),
    "Squeeze": lambda a, x: jnp.squeeze(x, tuple(a["axes"])),
    "Transpose": lambda a, x: jnp.transpose(x, a["perm"]),
    "Gather": lambda a, w, i: nn.embed(*w.shape).apply({"w": w}, {}, i)[0],
    "Gemm": lambda a, x, w, b: nn.dense(len(b)).apply({"w": w.T if a["transB"] else w, "b": b}, {}, x)[0],
    "PRelu": lambda a, x, slope: prelu(a, x, slope.reshape(-1, *(1,) * (x.ndim - 2))),  # channels first
    "MatMul": lambda a, x, w: nn.dense(w.shape[1], bias=False).apply({"w": w}, {}, x)[0],
}
WHOLE = {  # written out by the exporter, one function here
    "test_GLU": lambda x: nn.glu(x),
    "test_GLU_dim": lambda x: nn.glu(x, axis=1),
    "test_PixelShuffle": lambda x: first(nn.ops.depth_to_space(last(x), 3, order="crr")),
    "test_Softmin": lambda x: nn.softmax(-x),
    "test_Softsign": lambda x: nn.softsign(x),
}
GRAPHS_LEFT_OUT = {
    "test_PoissonNLLLLoss_no_reduce": "its counts are negative, which losses.poisson_nll turns into NaN",
}
STORED = Path(onnx.__file__).parent / "backend/test/data/pytorch-converted"
GRAPHS = sorted(folder.name for folder in STORED.iterdir())


def stored(folder, kind):
    files = sorted(folder.glob(f"test_data_set_0/{kind}_*.pb"), key=lambda path: int(path.stem.split("_")[1]))
    return [numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes())) for path in files]


def interpreted(graph, inputs):
    """The nodes one after the other, each by its adapter."""
    known = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    known |= dict(zip([v.name for v in graph.input if v.name not in known], inputs, strict=True))
    for one in graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in one.attribute}
        f = PLUMBING.get(one.op_type) or ADAPTERS[one.op_type]
        outputs = f(attributes, *[known[name] for name in one.input])
        known |= zip(one.output, outputs if isinstance(outputs, tuple) else (outputs,), strict=False)
    return [known[v.name] for v in graph.output]


@pytest.mark.parametrize("name", [name for name in GRAPHS if name not in GRAPHS_LEFT_OUT])
@pytest.mark.slow
def test_graph_of_pytorch(name):
    folder = STORED / name
    graph = onnx.load(folder / "model.onnx").graph
    inputs, outputs = stored(folder, "input"), stored(folder, "output")
    run = (lambda *x: [WHOLE[name](*x)]) if name in WHOLE else lambda *x: interpreted(graph, x)
    for got, want in zip(jax.jit(run)(*inputs), outputs, strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=RTOL, atol=ATOL)


def test_every_graph_is_run_or_named(capsys):
    assert set(WHOLE) | set(GRAPHS_LEFT_OUT) <= set(GRAPHS)
    with capsys.disabled():
        print(f"\nPyTorch graphs: {len(GRAPHS) - len(GRAPHS_LEFT_OUT)} run, {len(GRAPHS_LEFT_OUT)} left out by name")
    assert len(GRAPHS) >= 80
