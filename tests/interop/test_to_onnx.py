"""Models as ONNX files: what ONNX's own evaluator computes from them is what the model gives here."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import jaxnn as nn

RNG = np.random.default_rng(0)
IMAGE = RNG.standard_normal((3, 8, 8, 2)).astype(np.float32)
STEPS = RNG.standard_normal((3, 7, 6)).astype(np.float32)
TOKENS = RNG.integers(0, 11, (3, 6)).astype(np.int32)
ACTIVATIONS = [nn.gelu, nn.silu, nn.softplus, nn.elu, nn.selu, nn.mish, nn.hard_swish, nn.leaky_relu, nn.relu6, nn.tanh]


def residual(skip):
    return nn.residual(nn.serial(nn.conv(4, 3, stride=2, bias=False), nn.batch_norm()), skip=skip)


def two(params, state, x, *, key=None, train=False):
    return {"sum": x[0] + x[1], "all": (jnp.concatenate(x, -1), x[0] * 2)}, state


MODELS = {  # model, input
    "convolutions": (
        nn.serial(nn.conv(4, 3, bias=False), nn.batch_norm(), nn.relu, nn.max_pool(2), nn.flatten(), nn.dense(3)),
        IMAGE,
    ),
    "activations": (nn.serial(nn.dense(5), *ACTIVATIONS, nn.softmax), STEPS[:, 0]),
    "pools": (
        nn.serial(nn.avg_pool(3, stride=2, padding="same"), nn.max_pool(2, padding=1), nn.global_max_pool()),
        IMAGE,
    ),
    "residual": (nn.serial(residual(nn.conv(4, 1, stride=2)), nn.relu, nn.global_avg_pool(), nn.dense(3)), IMAGE),
    "options": (nn.serial(nn.conv(4, (3, 2), dilation=(2, 1), groups=2, padding="valid"), nn.depthwise_conv(3)), IMAGE),
    "sequences": (nn.serial(nn.conv(4, 3, padding="causal"), nn.layer_norm(), nn.global_avg_pool()), STEPS),
    "transposed": (nn.serial(nn.conv_transpose(3, 4, stride=2), nn.group_norm(3), nn.conv_transpose(2, 3)), IMAGE),
    "shapes": (nn.serial(nn.space_to_depth(2), nn.pad(1), nn.upsample(2), nn.adaptive_avg_pool(3)), IMAGE),
    "transformer": (
        nn.serial(nn.patches(8, 4), nn.class_token(), nn.learned_positions(9), nn.encoder_block(2), nn.dense(3)),
        IMAGE,
    ),
    "tokens": (nn.serial(nn.embed(11, 8), nn.attention(2, causal=True), nn.dense(11)), TOKENS),
    "the mean of a batch": (nn.lift(lambda x: x - jnp.mean(x, 0, keepdims=True), name="centred"), STEPS),
    "a shortcut without weights": (
        nn.lift(lambda x: jnp.pad(x[:, ::2, ::2], ((0, 0),) * 3 + ((0, 2),)), name="skip"),
        IMAGE,
    ),
}
FAST = ("convolutions", "activations")


def trained(model, x):
    """Params and state that are not those of init, so that no bias is 0 and no variance 1."""
    params, state = jax.jit(model.init)(jax.random.key(0), x)
    return jax.tree.map(lambda a: np.asarray(a + RNG.uniform(0.05, 0.15, a.shape).astype(a.dtype)), (params, state))


def evaluated(data, **inputs):
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    return ReferenceEvaluator(model).run(None, inputs)


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in MODELS])
def test_equal_outputs_for_batches_of_any_size(name):
    model, x = MODELS[name]
    params, state = trained(model, x[:1])
    data = nn.interop.to_onnx(model, params, state, x[:1])
    for n in (3, 1):
        (y,), want = evaluated(data, x=x[:n]), np.asarray(model.apply(params, state, x[:n])[0])
        np.testing.assert_allclose(y, want, rtol=1e-4, atol=2e-5 * np.abs(want).max())


def test_norms_are_in_the_weights_and_names_are_paths(tmp_path):
    model = nn.serial(nn.conv(4, 3, bias=False), nn.batch_norm(), nn.relu, nn.flatten(), nn.dense(3, name="head"))
    params, state = trained(model, IMAGE[:1])
    data = nn.interop.to_onnx(model, params, state, jax.ShapeDtypeStruct(IMAGE.shape, jnp.float32))
    graph = onnx.load_from_string(data).graph
    assert [n.op_type for n in graph.node] == ["Transpose", "Conv", "Relu", "Transpose", "Reshape", "Gemm", "Identity"]
    assert [d.dim_param or d.dim_value for d in graph.input[0].type.tensor_type.shape.dim] == ["n", 8, 8, 2]
    path = Path(tmp_path, "net.onnx")
    path.write_bytes(data)
    weights = nn.interop.read(path)
    assert {"conv/w", "conv/b", "head/w", "head/b"} <= set(weights)
    scale = params["batch_norm"]["scale"] / np.sqrt(state["batch_norm"]["var"] + 1e-5)
    np.testing.assert_allclose(weights["conv/w"], (params["conv"]["w"] * scale).transpose(3, 2, 0, 1), rtol=1e-5)
    np.testing.assert_array_equal(weights["head/w"], params["head"]["w"])


def test_a_layer_used_twice_is_one_node():
    shared = nn.conv(2, 1)

    def apply(params, state, x, *, key=None, train=False):
        y, state = nn.call(shared, "conv", params, state, x)
        return nn.relu(y) + y * 2, state

    model = nn.layer(None, apply, "twice")
    params, state = trained(model, IMAGE[:1])
    data = nn.interop.to_onnx(model, params, state, IMAGE[:1])
    np.testing.assert_allclose(evaluated(data, x=IMAGE)[0], model.apply(params, state, IMAGE)[0], rtol=1e-4, atol=1e-5)


def test_trees_and_other_free_sizes():
    model = nn.layer(lambda key, x: ({}, {}), two, "two")
    x = STEPS, STEPS + 1
    data = nn.interop.to_onnx(model, {}, {}, x, sizes=("n, t, _", "n, t, _"))
    all_, twice, total = evaluated(data, **{"x/0": x[0][:2, :5], "x/1": x[1][:2, :5]})
    graph = onnx.load_from_string(data).graph
    assert [v.name for v in graph.output] == ["y/all/0", "y/all/1", "y/sum"]
    np.testing.assert_array_equal(total, (x[0] + x[1])[:2, :5])
    np.testing.assert_array_equal(twice, 2 * x[0][:2, :5])
    np.testing.assert_array_equal(all_, np.concatenate(x, -1)[:2, :5])


LINEAR = nn.dense(2)
PARAMS = {"w": np.ones((6, 2), np.float32), "b": np.zeros(2, np.float32)}
SHAPES = {"w": jax.ShapeDtypeStruct((6, 2), jnp.float32), "b": np.zeros(2, np.float32)}
EXPORT = "nn.export writes any model as StableHLO, which needs jax to run."
WRONG = {
    "model": (
        lambda: nn.interop.to_onnx(nn.dense, {}, {}, STEPS),
        TypeError,
        "expected model to be a Layer, got the function dense.",
    ),
    "shapes": (
        lambda: nn.interop.to_onnx(LINEAR, SHAPES, {}, STEPS[:, 0]),
        ValueError,
        "expected arrays as params and state, got float32[6, 2]. Their values are in the file.",
    ),
    "sizes": (
        lambda: nn.interop.to_onnx(LINEAR, PARAMS, {}, STEPS[:, 0], sizes="n, t, _"),
        ValueError,
        "expected x to have the axes of sizes='n, t, _', got float32[3, 6]. sizes=None takes the shape of x alone.",
    ),
    "loops": (
        lambda: nn.interop.to_onnx(nn.lstm(2), *nn.lstm(2).init(jax.random.key(0), STEPS), STEPS),
        ValueError,
        f"expected operations that ONNX has, got scan. {EXPORT}",
    ),
    "an operation without a form": (
        lambda: nn.interop.to_onnx(nn.lift(lambda x: jnp.sort(x, -1), name="sorted"), {}, {}, STEPS),
        ValueError,
        f"expected operations that ONNX has, got sort. {EXPORT}",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors(case):
    call, error, text = WRONG[case]
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == f"to_onnx: {text}"
