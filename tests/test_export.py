"""`nn.export`: what a process without the library gets is what the model gives here."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn

MODEL = nn.serial(nn.conv(4, 3, bias=False), nn.batch_norm(), nn.relu, nn.global_avg_pool(), nn.dense(3))
X = jnp.asarray(np.random.default_rng(0).standard_normal((5, 6, 6, 2)), jnp.float32)


@pytest.fixture(scope="module")
def trained():
    params, state = MODEL.init(jax.random.key(0), X)
    return params, MODEL.apply(params, state, X, train=True)[1]


def wanted(trained, x):
    return MODEL.apply(*trained, x)[0]


@pytest.mark.slow
def test_batches_of_any_size(trained):
    exported = nn.export(MODEL, *trained, jax.ShapeDtypeStruct((1, 6, 6, 2), jnp.float32))
    for n in (5, 1, 3):
        assert_close(exported.call(X[:n]), wanted(trained, X[:n]))
    assert [str(a) for a in exported.in_avals] == ["float32[n,6,6,2]"]
    with pytest.raises(ValueError):
        exported.call(X[:, :5])


@pytest.mark.slow
def test_images_of_any_size_where_sizes_say_so(trained):
    exported = nn.export(MODEL, *trained, X, sizes="n, h, w, _")
    for x in (X, X[:2, :4], jnp.pad(X, ((0, 0), (0, 3), (1, 0), (0, 0)))):
        assert_close(exported.call(x), wanted(trained, x))


def test_of_one_shape_alone(trained):
    exported = nn.export(MODEL, *trained, X, sizes=None)
    assert exported.in_avals[0].shape == X.shape
    assert_close(exported.call(X), wanted(trained, X))


@pytest.mark.slow
def test_params_left_outside(trained):
    shapes = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), trained)
    exported = nn.export(MODEL, *shapes, X, baked=False)
    other = jax.tree.map(lambda v: 1.5 * v, trained)
    for params, state in (trained, other):
        y, after = exported.call(params, state, X[:2])
        assert_close(y, wanted((params, state), X[:2]))
        jax.tree.map(np.testing.assert_array_equal, after, state)


@pytest.mark.slow
def test_it_is_differentiated(trained):
    exported = nn.export(MODEL, *trained, X, baked=False)
    got = jax.grad(lambda p: exported.call(p, trained[1], X)[0].sum())(trained[0])
    want = jax.grad(lambda p: MODEL.apply(p, trained[1], X)[0].sum())(trained[0])
    jax.tree.map(assert_close, got, want)


def test_for_several_platforms(trained):
    exported = nn.export(MODEL, *trained, X, platforms=["cpu", "tpu", "cuda"])
    assert exported.platforms == ("cpu", "tpu", "cuda")
    assert_close(exported.call(X), wanted(trained, X))


def test_trees_of_inputs_and_outputs():
    def apply(params, state, x, *, key=None, train=False):
        return {"sum": x["a"] + x["b"][0], "all": nn.Padded(x["b"][0], x["b"][1])}, state

    model = nn.layer(lambda key, x: ({}, {}), apply, "sums")
    x = {"a": jnp.ones((2, 3)), "b": nn.Padded(jnp.ones((2, 3)), jnp.array([3, 1]))}
    exported = nn.export(model, {}, {}, x)
    y = exported.call({"a": jnp.ones((4, 3)), "b": (jnp.ones((4, 3)), jnp.full(4, 2))})
    assert y["sum"].tolist() == [[2.0] * 3] * 4
    assert type(y["all"]) is tuple  # a program has no classes
    assert y["all"][1].tolist() == [2] * 4


SERVER = """
import json, sys
import jax, numpy as np
exported = jax.export.deserialize(open(sys.argv[1], "rb").read())
y = exported.call(np.load(sys.argv[2]))
assert "jaxnn" not in sys.modules
print(json.dumps(np.asarray(y).tolist()))
"""


@pytest.mark.slow
def test_served_without_the_library(trained, tmp_path):
    pytest.importorskip("flatbuffers", reason="flatbuffers is not installed: exported programs were not serialised")
    (tmp_path / "model.bin").write_bytes(nn.export(MODEL, *trained, X).serialize())
    np.save(tmp_path / "x.npy", X[:3])
    command = [sys.executable, "-c", "import jax.export" + SERVER, tmp_path / "model.bin", tmp_path / "x.npy"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), wanted(trained, X[:3]), rtol=1e-5, atol=1e-6)


LINEAR = nn.dense(2)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda p, x: nn.export(nn.dense, p, {}, x),
            TypeError,
            "export: expected model to be a Layer, got the function dense.",
        ),
        (
            lambda p, x: nn.export(LINEAR, p, {}, x, platforms=["gpu"]),
            ValueError,
            "export: expected each of platforms to be one of 'cpu', 'cuda', 'rocm', 'tpu', got 'gpu'.",
        ),
        (
            lambda p, x: nn.export(LINEAR, p, {}, x, sizes="n, t, _"),
            ValueError,
            "export: expected x to have the axes of sizes='n, t, _', got float32[2, 3]. "
            "sizes=None takes the shape of x alone.",
        ),
        (
            lambda p, x: nn.export(LINEAR, p, {}, 3.0),
            TypeError,
            "export: expected x to be arrays or shapes, got 3.0. Convert it: np.asarray(x, np.float32).",
        ),
        (
            lambda p, x: nn.export(LINEAR, {"w": jax.ShapeDtypeStruct((3, 2), jnp.float32), "b": p["b"]}, {}, x),
            ValueError,
            "export: expected arrays as params and state, got float32[3, 2]. "
            "baked=False leaves them outside the program.",
        ),
    ],
    ids=["model", "platform", "sizes", "x", "shapes"],
)
def test_errors(call, error, text):
    x = jnp.ones((2, 3))
    params, _ = LINEAR.init(jax.random.key(0), x)
    with pytest.raises(error) as caught:
        call(params, x)
    assert str(caught.value) == text
