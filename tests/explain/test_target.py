"""The meaning of `target`: gradients by hand, texts of errors, one program for equal models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn

W = np.array([[1, -2, 3], [4, 5, -6]], np.float32)
X = np.array([[1, 0], [0, 1], [1, 2]], np.float32)
PARAMS = {"w": jnp.asarray(W), "b": jnp.zeros(3)}
MODEL = nn.dense(3)


def saliency(target, x=X, model=MODEL, params=PARAMS):
    return nn.explain.saliency(model, params, {}, x, target=target)


def two_outputs(x):
    return {"logits": x @ jnp.asarray(W), "norm": jnp.sum(x**2, axis=1)}


def norm_of(outputs):
    return outputs["norm"]


TARGETS = {
    "predicted": (None, W.T[np.argmax(X @ W, axis=1)]),
    "a class": (1, W.T[[1, 1, 1]]),
    "a scalar array": (jnp.asarray(2), W.T[[2, 2, 2]]),
    "a class for each": (np.array([0, 2, 1]), W.T[[0, 2, 1]]),
    "a class of 8 bits": (np.array([0, 2, 1], np.uint8), W.T[[0, 2, 1]]),
    "a function": (lambda y: y[:, 0] - y[:, 1], np.tile(W[:, 0] - W[:, 1], (3, 1))),
}


@pytest.mark.parametrize("target", TARGETS)
def test_the_gradient_is_that_of_the_score(target):
    given, wanted = TARGETS[target]
    assert_close(saliency(given), wanted)
    assert_close(jax.jit(lambda x: saliency(given, x))(X), wanted)


def test_a_function_of_several_outputs():
    assert_close(saliency(norm_of, model=two_outputs, params={}), 2 * X)


@pytest.mark.parametrize("classes", [3, -1])
def test_a_class_that_does_not_exist_is_nan(classes):
    assert np.isnan(saliency(classes)).all()


def test_classes_may_be_traced_and_mapped():
    each = jax.vmap(lambda c: saliency(c))(jnp.arange(3))
    assert_close(each, np.tile(W.T[:, None], (1, 3, 1)))


def test_equal_models_and_other_classes_share_a_program(compilations):
    x = jnp.asarray(X)
    saliency(jnp.asarray(0), x), saliency(norm_of, x, two_outputs, {})
    before = compilations()
    saliency(jnp.asarray(2), x, nn.dense(3)), saliency(norm_of, x, two_outputs, {})
    assert compilations() == before


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_dtype_is_that_of_x(dtype):
    assert saliency(None, jnp.asarray(X, dtype)).dtype == dtype


def test_float64(x64):
    wanted = W.T[np.argmax(X @ W, axis=1)].astype(np.float64)
    params = {"w": jnp.asarray(W, jnp.float64), "b": jnp.zeros(3, jnp.float64)}
    found = nn.explain.saliency(MODEL, params, {}, X.astype(np.float64))
    assert found.dtype == jnp.float64
    assert_close(found, wanted)


ONE = "saliency: expected target to be None, a class, classes [3] or a function of the outputs"
OF = "saliency: expected target(outputs) of shape [3] and a floating dtype, a score for each example"
ROWS = "Pass target=, a function of the outputs that returns a score for each example."
WRONG = {
    "tokens": (
        lambda: saliency(None, np.zeros((3, 2), np.int32)),
        "saliency: expected x of a floating dtype, which has gradients, got int32[3, 2]. Cast images to float32. "
        "For tokens explain the output of their embedding, with nn.explain.from_layer.",
    ),
    "a list": (
        lambda: saliency(None, [[1.0]]),
        "saliency: expected x to be an array of shape [n, ...], got [[1.0]]. Convert it: np.asarray(x, np.float32).",
    ),
    "no model": (lambda: saliency(None, model=3), "saliency: expected a Layer or a function of one input, got 3."),
    "a float": (lambda: saliency(1.0), f"{ONE}, got 1.0."),
    "a str": (lambda: saliency("cat"), f"{ONE}, got 'cat'."),
    "True": (lambda: saliency(True), f"{ONE}, got True."),
    "too many classes": (lambda: saliency(np.zeros(4, int)), f"{ONE}, got int64[4]."),
    "a sum": (lambda: saliency(jnp.sum), f"{OF}, got float32[]."),
    "not a score": (lambda: saliency(lambda y: jnp.argmax(y, 1)), f"{OF}, got int32[3]."),
    "outputs [n]": (
        lambda: saliency(0, model=lambda x: x[:, 0]),
        f"saliency: expected outputs of shape [3, classes], got float32[3]. {ROWS}",
    ),
    "several outputs": (
        lambda: saliency(None, model=two_outputs, params={}),
        "saliency: expected outputs of shape [3, classes], got {'logits': float32[3, 3], 'norm': float32[3]}. " + ROWS,
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors(case):
    call, text = WRONG[case]
    kind = TypeError if case in ("tokens", "a list", "no model", "a float", "a str", "True") else ValueError
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == text
