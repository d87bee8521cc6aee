"""The room of checks: what each takes and the whole text of its errors; conformance/test_errors.py has the callers."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn
from jaxnn import _checks as check
from jaxnn._dtypes import KINDS, is_kind, param_dtype, wide_dtype, widened

FIXED = "It is fixed while tracing: pass a Python {}, under jit by static_argnames."
X = np.zeros((2, 3), np.float32)


def traced(f, value=2):
    return jax.eval_shape(f, value)


# call -> the class of its error, and the text after "f: "
ERRORS = {
    "scalar, a str": (lambda: check.scalar("f", "a", "1"), TypeError, "a to be a real number, got '1'. Pass a float."),
    "scalar, a fix": (
        lambda: check.scalar("f", "a", None, fix="Do."),
        TypeError,
        "a to be a real number, got None. Do.",
    ),
    "scalar, a row": (
        lambda: check.scalar("f", "a", X[0]),
        ValueError,
        "a to be a scalar, got float32[3]. Sweep over values with jax.vmap.",
    ),
    "scalar, below": (lambda: check.scalar("f", "a", -1), ValueError, "a in [0, inf), got -1."),
    "scalar, NumPy": (lambda: check.scalar("f", "a", np.float32(2), below=1.0), ValueError, "a in [0, 1), got 2.0."),
    "scalar, an end": (lambda: check.scalar("f", "a", 0, ends="()"), ValueError, "a in (0, inf), got 0."),
    "scalar, nan": (
        lambda: check.scalar("f", "a", math.nan, below=1.0, ends="[]"),
        ValueError,
        "a in [0, 1], got nan.",
    ),
    "scalar, inf": (
        lambda: check.scalar("f", "a", math.inf, -math.inf, ends="()"),
        ValueError,
        "a to be finite, got inf.",
    ),
    "scalar, traced": (
        lambda: traced(lambda a: check.scalar("f", "a", a, static=True), 0.5),
        TypeError,
        f"a to be a real number, got a traced float32[]. {FIXED.format('float')}",
    ),
    "count, a float": (lambda: check.count("f", "n", 2.0), TypeError, "n to be an integer >= 1, got 2.0."),
    "count, less": (lambda: check.count("f", "n", np.int64(0)), ValueError, "n to be an integer >= 1, got 0."),
    "count, more": (
        lambda: check.count("f", "n", 9, 2, 8, "There are 8."),
        ValueError,
        "n to be an integer >= 2 and <= 8, got 9. There are 8.",
    ),
    "count, any": (lambda: check.count("f", "n", None, least=None), TypeError, "n to be an integer, got None."),
    "count, traced": (
        lambda: traced(lambda n: check.count("f", "n", n)),
        TypeError,
        f"n to be an integer >= 1, got a traced int32[]. {FIXED.format('int')}",
    ),
    "flags": (lambda: check.flags("f", bias=True, last=1), TypeError, "last to be True or False, got 1."),
    "flags, traced": (
        lambda: traced(lambda a: check.flags("f", last=a)),
        TypeError,
        f"last to be True or False, got a traced int32[]. {FIXED.format('bool')}",
    ),
    "choice": (lambda: check.choice("f", "m", "c", ("a", "b")), ValueError, "m to be one of 'a', 'b', got 'c'."),
    "choice, None": (lambda: check.choice("f", "m", None, ("a",)), TypeError, "m to be one of 'a', got None."),
    "choice, a list": (
        lambda: check.choice("f", "m", ["a"], ("a", None)),
        TypeError,
        "m to be one of 'a', None, got ['a'].",
    ),
    "text": (lambda: check.text("f", "name", 3), TypeError, "name to be a str, got 3."),
    "function": (lambda: check.function("f", "g", 3, "x -> y"), TypeError, "g to be a function x -> y, got 3."),
    "function, a layer": (
        lambda: check.function("f", "g", nn.dense(3)),
        TypeError,
        "g to be a function, got the layer dense.",
    ),
    "model": (lambda: check.model("f", "m", nn.relu), TypeError, "m to be a Layer, got the function relu."),
    "axis": (lambda: check.axis("f", "axis", 2, 2), ValueError, "axis from -2 to 1, an axis of x, got 2."),
    "axis, a bool": (lambda: check.axis("f", "axis", True, 2), TypeError, "axis to be an integer, got True."),
    "axes, twice": (
        lambda: check.axes("f", "axis", (0, -2), 2),
        ValueError,
        "axis to be different axes of x, at least one, got (0, -2).",
    ),
    "axes, none": (
        lambda: check.axes("f", "axis", (), 2, "w"),
        ValueError,
        "axis to be different axes of w, at least one, got ().",
    ),
    "dtype": (lambda: check.dtype("f", "dtype", int), TypeError, "dtype to be a floating dtype, got int64."),
    "dtype, None": (lambda: check.dtype("f", "dtype", None), TypeError, "dtype to be a floating dtype, got None."),
    "dtype, a name": (
        lambda: check.dtype("f", "dtype", "half32"),
        TypeError,
        "dtype to be a floating dtype, got 'half32'.",
    ),
    "array, a list": (
        lambda: check.array("f", "x", [1.0]),
        TypeError,
        "x to be an array, got [1.0]. Convert it: np.asarray(x, np.float32).",
    ),
    "array, a dtype": (
        lambda: check.array("f", "x", X.astype(int)),
        TypeError,
        "x of a floating dtype, got int64[2, 3]. Cast it: jnp.asarray(x, jnp.float32).",
    ),
    "array, a shape": (
        lambda: check.array("f", "x", X.astype(np.uint8), shape="[n, c]"),
        TypeError,
        "x of shape [n, c] and a floating dtype, got uint8[2, 3]. "
        "Convert it first, for example x.astype(jnp.float32) / 255 for images of bytes.",
    ),
    "array, a rank": (
        lambda: check.array("f", "x", X, rank=3, shape="[n, t, c]"),
        ValueError,
        "x of shape [n, t, c], got float32[2, 3].",
    ),
    "array_like": (
        lambda: check.array_like("f", "x", 1),
        TypeError,
        "x to be an array, got 1. Convert it: np.asarray(x, np.float32).",
    ),
    "kind": (lambda: check.kind("f", "x", X, "integer"), TypeError, "x of an integer dtype, got float32[2, 3]."),
    "kind, a str": (lambda: check.kind("f", "x", "1", "real", "Do."), TypeError, "x of a real dtype, got '1'. Do."),
    "shape": (
        lambda: check.shape("f", "x", X, (3,), ", one for each class"),
        ValueError,
        "x of shape [3], one for each class, got float32[2, 3]. Nothing is broadcast.",
    ),
    "same_shape": (
        lambda: check.same_shape("f", "a", X, "b", X[0]),
        ValueError,
        "a and b of equal shape, got float32[2, 3] and float32[3]. Nothing is broadcast: reshape one of them.",
    ),
    "concrete": (
        lambda: traced(lambda a: check.concrete("f", {"a": a}, "Do.")),
        TypeError,
        "concrete arrays, got a traced int32[]. Do.",
    ),
    "eager": (
        lambda: traced(lambda a: check.eager("f", 1, "Do.")),
        TypeError,
        "a call outside of jit, vmap, grad and scan, got one inside. Do.",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_the_whole_text_of_an_error(case):
    call, kind, text = ERRORS[case]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == f"f: expected {text}"


def test_every_check_has_its_text_here():
    public = {name for name, f in vars(check).items() if getattr(f, "__module__", "") == check.__name__}
    elsewhere = {"key", "typed_key", "examples"}  # in wrong_calls.txt
    named = {re.match(r"\w+", case)[0] for case in ERRORS}
    assert {name for name in public if not name.startswith("_")} - elsewhere == named


def test_what_fits_passes_as_what_it_is():
    for value in (0.5, 0, np.float32(0.5), np.array(0.5), jnp.asarray(-1.0), jnp.asarray(2)):
        assert check.scalar("f", "a", value) is None
    assert check.scalar("f", "a", math.nan, nan=True) is None
    assert [check.count("f", "n", n) for n in (3, np.int64(3), np.array(3), jnp.int32(3))] == [3] * 4
    assert [check.axes("f", "axis", a, 3) for a in (-1, (0, -1), [1])] == [(2,), (0, 2), (1,)]
    assert check.axes("f", "axis", (), 3, least=0) == ()
    assert check.dtype("f", "dtype", "bfloat16") == jnp.bfloat16
    assert isinstance(check.array("f", "x", X), jax.Array)
    shape = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    assert check.array("f", "x", shape, rank=2) is shape
    assert check.array_like("f", "x", 1.0).shape == ()


# Dtypes.


def test_dtypes_are_of_their_kinds():
    values = {"boolean": True, "integer": np.int8(1), "floating": jnp.bfloat16(1)}
    found = {kind: {name for name, value in values.items() if is_kind(value, kind)} for kind in KINDS}
    assert found == {
        "boolean": {"boolean"},
        "integer": {"integer"},
        "integer or boolean": {"integer", "boolean"},
        "floating": {"floating"},
        "floating or integer": {"floating", "integer"},
        "real": {"floating", "integer", "boolean"},
    }
    assert not any(is_kind(value, kind) for value in ("1", None, [1.0], 1j, jax.random.key(0)) for kind in KINDS)


@pytest.mark.parametrize(("dtype", "wide"), [("float16", "float32"), ("bfloat16", "float32"), ("float32", "float32")])
def test_sums_and_params_are_in_at_least_float32(dtype, wide):
    x = jnp.zeros(2, dtype)
    assert wide_dtype(dtype) == widened(x).dtype == jnp.dtype(param_dtype(x)) == wide
    assert (widened(x) is x) == (dtype == wide)
