"""Every activation against its float64 formula, its derivatives against complex steps, and both at the edges."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from _close import TOLERANCE, assert_close
from jax.test_util import check_grads

from jaxnn import activations
from jaxnn.activations import gelu, relu, sigmoid, softmax, tanh

INF, NAN = np.inf, np.nan
DTYPES = [*TOLERANCE]


@dataclass(frozen=True)
class Case:
    f: Callable
    reference: Callable  # float64, or complex128 for complex steps
    slope: Callable | None = None  # float64; by a complex step of the reference if None
    bend: float = 0.0  # the second derivative at 1
    edges: tuple = ()  # (x, f(x), f'(x))


def complex_step(f: Callable, x: np.ndarray) -> np.ndarray:
    return f(x + 1e-30j).imag / 1e-30


def tanh_gelu(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def logistic(x):
    return 1 / (1 + np.exp(-x))


GELU_EDGES = ((0.0, 0.0, 0.5), (INF, INF, 1.0), (-INF, 0.0, 0.0), (NAN, NAN, NAN), (1e4, 1e4, 1.0), (-1e4, 0.0, 0.0))

ELEMENTWISE = {
    "relu": Case(
        relu,
        lambda x: np.where(x > 0, x, 0.0),
        slope=lambda x: np.heaviside(x, 0.0),
        edges=((0.0, 0.0, 0.0), (INF, INF, 1.0), (-INF, 0.0, 0.0), (NAN, NAN, 0.0), (1e4, 1e4, 1.0), (-1e4, 0.0, 0.0)),
    ),
    "gelu": Case(
        gelu,
        lambda x: x * scipy.special.erfc(-x / np.sqrt(2)) / 2,
        bend=0.24197072451914337,  # φ(1): gelu'' = (2 - x²) φ
        edges=GELU_EDGES,
    ),
    "gelu(approximate=True)": Case(
        partial(gelu, approximate=True),
        tanh_gelu,
        bend=float((complex_step(tanh_gelu, 1 + 1e-5) - complex_step(tanh_gelu, 1 - 1e-5)) / 2e-5),
        edges=GELU_EDGES,
    ),
    "sigmoid": Case(
        sigmoid,
        logistic,
        bend=-0.09085774767294841,  # σ(1 - σ)(1 - 2σ)
        edges=((0.0, 0.5, 0.25), (INF, 1.0, 0.0), (-INF, 0.0, 0.0), (NAN, NAN, NAN), (1e4, 1.0, 0.0), (-1e4, 0.0, 0.0)),
    ),
    "tanh": Case(
        tanh,
        lambda x: (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x)),
        bend=-0.6397000084492246,  # -2 tanh sech²
        edges=(
            (0.0, 0.0, 1.0),
            (INF, 1.0, 0.0),
            (-INF, -1.0, 0.0),
            (NAN, NAN, NAN),
            (1e4, 1.0, 0.0),
            (-1e4, -1.0, 0.0),
        ),
    ),
}

SINGLE = ELEMENTWISE | {"softmax": Case(softmax, partial(scipy.special.softmax, axis=-1))}

CASES = SINGLE | {
    "softmax(axis=0)": Case(partial(softmax, axis=0), partial(scipy.special.softmax, axis=0)),
    "softmax(axis=(0, 1))": Case(partial(softmax, axis=(0, 1)), partial(scipy.special.softmax, axis=(0, 1))),
}

elementwise = pytest.mark.parametrize("case", ELEMENTWISE.values(), ids=ELEMENTWISE)
single = pytest.mark.parametrize("case", SINGLE.values(), ids=SINGLE)
every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
dtypes = pytest.mark.parametrize("dtype", DTYPES)


def points(dtype: str, shape: tuple = (7, 14)) -> jax.Array:
    """-6 to 6 in any order, 0 among them."""
    x = np.random.default_rng(0).permutation(np.linspace(-6, 6, np.prod(shape)))
    x[x.size // 2] = 0.0
    return jnp.asarray(x.reshape(shape), dtype)


def f64(x: jax.Array) -> np.ndarray:
    return np.asarray(x).astype(np.float64)


def slopes(f: Callable, x: jax.Array) -> jax.Array:
    return jax.grad(lambda x: jnp.sum(f(x)))(x)


def test_every_public_name_has_a_row():
    assert {name.split("(")[0] for name in CASES} == set(activations.__all__)
    assert list(activations.__all__) == sorted(activations.__all__)


@every
@dtypes
def test_value_dtype_and_shape(case, dtype):
    with jax.enable_x64(dtype == "float64"):
        x = points(dtype)
        y = case.f(x)
        assert (y.shape, str(y.dtype)) == (x.shape, dtype)
        assert_close(y, case.reference(f64(x)))


@elementwise
@dtypes
def test_slope(case, dtype):
    with jax.enable_x64(dtype == "float64"):
        x = points(dtype)
        slope = jax.jit(partial(slopes, case.f))(x)
        assert str(slope.dtype) == dtype
        # scale=1: σ' and tanh' are taken from the rounded values of σ and tanh
        assert_close(slope, (case.slope or partial(complex_step, case.reference))(f64(x)), scale=1.0)


@elementwise
@dtypes
def test_edges(case, dtype):
    x, values, slope = np.asarray([*case.edges, (-0.0, *case.edges[0][1:])]).T

    @jax.jit
    def derivatives(x):
        forward = jax.jvp(case.f, (x,), (jnp.ones_like(x),))[1]
        return case.f(x), slopes(case.f, x), forward, slopes(partial(slopes, case.f), x)

    with jax.enable_x64(dtype == "float64"):
        value, backward, forward, bend = derivatives(jnp.asarray(x, dtype))
        assert_close(value, values, scale=0)
        assert_close(backward, slope, scale=0)
        assert_close(forward, slope, scale=0)
        assert (jnp.isfinite(bend) | np.isnan(x)).all()


@elementwise
def test_second_derivatives(x64, case):
    def bends(x):
        return jax.grad(jax.grad(case.f))(x), jax.jacfwd(jax.grad(case.f))(x), jax.grad(jax.jacfwd(case.f))(x)

    np.testing.assert_allclose(jax.jit(bends)(1.0), case.bend, rtol=1e-9, atol=1e-12)


@single
def test_derivatives_by_differences(x64, case):
    x = points("float64", (2, 5)) + 0.37  # away from the kink of relu
    check_grads(jax.jit(case.f), (x,), order=1, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: jnp.vdot(jnp.cos(x), case.f(x))))
    check_grads(gradient, (x,), order=1, modes=("fwd",), atol=1e-6, rtol=1e-6)


@single
def test_transformations(case):
    x = jnp.stack([points("float32"), -points("float32")])
    weights = jnp.cos(points("float32"))  # Σ softmax is constant

    def both(x):
        return case.f(x), jax.grad(lambda x: jnp.sum(weights * case.f(x)))(x)

    @jax.jit
    def together(x):
        return jax.vmap(both)(x), jax.lax.scan(lambda _, x: (None, both(x)), None, x)[1]

    one_by_one = [both(x[0]), both(x[1])]
    for values, gradients in together(x):
        assert_close(values, jnp.stack([y for y, _ in one_by_one]))
        assert_close(gradients, jnp.stack([g for _, g in one_by_one]))


@every
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_empty(case, dtype):
    for x in (jnp.zeros((0, 3), dtype), jnp.zeros((3, 0), dtype)):
        for y in (case.f(x), *jax.jit(lambda x: (case.f(x), slopes(case.f, x)))(x)):
            assert (y.shape, y.dtype) == (x.shape, x.dtype)


@elementwise
def test_any_shape_numpy_arrays_and_python_floats(case):
    xs = [np.full(shape, 0.5) for shape in ((), (1,), (2, 1, 3, 1))]
    for x, y in zip(xs, jax.jit(partial(jax.tree.map, case.f))(xs), strict=True):
        assert_close(y, case.reference(x))
    assert_close(case.f(0.5), case.reference(np.float64(0.5)))
    assert case.f(np.zeros(points("float32").shape)).dtype == jnp.float32  # what a NumPy float64 is without x64


@every
@pytest.mark.parametrize(
    ("x", "got"),
    [
        (np.zeros(3, np.int32), "int32[3]"),
        (np.zeros((2, 3), np.uint8), "uint8[2, 3]"),
        (np.zeros((), bool), "bool[]"),
        (np.zeros(3, np.complex64), "complex64[3]"),
        ([1.0, 2.0], "[1.0, 2.0]"),
        (1, "1"),
        (None, "None"),
    ],
    ids=str,
)
def test_only_floating_input(case, x, got):
    name = getattr(case.f, "func", case.f).__name__
    with pytest.raises(TypeError) as caught:
        case.f(x)
    message = f"{name}: expected x of a floating dtype, got {got}. Cast it: jnp.asarray(x, jnp.float32)."
    assert str(caught.value) == message


def test_the_error_under_a_trace():
    with pytest.raises(TypeError) as caught:
        jax.jit(jax.vmap(relu))(jnp.zeros((4, 3), jnp.int32))
    message = "relu: expected x of a floating dtype, got int32[3]. Cast it: jnp.asarray(x, jnp.float32)."
    assert str(caught.value) == message


# What the docstrings say


def test_tanh_is_zero_centred():
    x = points("float32")
    assert (tanh(-x) == -tanh(x)).all()
    assert (jnp.sign(tanh(x)) == jnp.sign(x)).all()
    assert abs(jnp.mean(tanh(jnp.linspace(-3, 3, 101)))) < 1e-7 < jnp.mean(sigmoid(jnp.linspace(-3, 3, 101)))
    assert_close(tanh(x), 2 * sigmoid(2 * x) - 1)


def test_sigmoid_saturates_first_on_the_right():
    slope = partial(slopes, sigmoid)
    assert slope(jnp.asarray(17.0)) == 0 == slope(jnp.asarray(100.0))
    assert slope(jnp.asarray(16.0)) > 0
    assert_close(slope(jnp.asarray(-17.0)), 4.1399375e-08, scale=0)
    assert slopes(sigmoid, points("float32")).max() == 0.25


def test_gelu_forms():
    x = jnp.linspace(-8, 8, 10001)
    exact, approximate, *theirs = jax.jit(
        lambda x: (gelu(x), gelu(x, approximate=True), jax.nn.gelu(x, approximate=False), jax.nn.gelu(x))
    )(x)
    assert 4e-4 < jnp.abs(exact - approximate).max() < 5e-4
    assert_close(exact.min(), -0.16997, scale=0)
    assert_close(x[exact.argmin()], -0.752, scale=10)
    assert_close(jnp.stack([exact, approximate]), jnp.stack(theirs))


@pytest.mark.parametrize("approximate", [False, True])
@dtypes
def test_gelu_keeps_its_left_tail(approximate, dtype):
    """A rounding of x / √2 is a relative error of x² times it in Φ(x): bfloat16 arithmetic is half off at -10."""
    x = np.linspace(-3.5 if dtype == "float16" else -9.5, -0.1, 500)  # no further: the values underflow
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray(x, dtype)
        z = f64(x)
        u = np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)
        truth = z * scipy.special.expit(2 * u) if approximate else z * scipy.special.ndtr(z)
        error = np.abs(f64(gelu(x, approximate=approximate)) / truth - 1)
        assert error.max() < {"float64": 3e-14, "float32": 3e-5}.get(dtype, TOLERANCE[dtype])


@pytest.mark.parametrize("approximate", [False, True])
@dtypes
def test_gelu_saves_one_array_in_the_dtype_of_x(approximate, dtype):
    with jax.enable_x64(dtype == "float64"):
        saved = jax.tree.leaves(jax.vjp(partial(gelu, approximate=approximate), points(dtype))[1])
        assert [(str(a.dtype), a.shape) for a in saved] == [(dtype, points(dtype).shape)]


@pytest.mark.parametrize("approximate", ["tanh", "none", 1, None])
def test_gelu_takes_no_strings(approximate):
    with pytest.raises(TypeError) as caught:
        gelu(jnp.zeros(3), approximate=approximate)
    got = approximate if isinstance(approximate, str) else repr(approximate)
    assert str(caught.value) == f"gelu: expected approximate to be True or False, got {got}. True is the tanh form."


# Softmax


@pytest.mark.parametrize("axis", [-1, 0, 1, np.int64(0), (0, 1), (-1, -2), [0]], ids=str)
def test_softmax_sums_to_one_and_ignores_a_shift(axis):
    x = points("float32")
    s = softmax(x, axis=axis)
    total = s.sum(tuple(axis) if isinstance(axis, list) else axis)
    assert_close(total, np.ones(total.shape))
    assert_close(softmax(x + 3.0, axis=axis), s)
    assert (softmax(jnp.round(x) + 1024.0, axis=axis) == softmax(jnp.round(x), axis=axis)).all()


def test_softmax_jacobian(x64):
    x = points("float64", (5,))
    s = scipy.special.softmax(f64(x))
    jacobian = s[:, None] * (np.eye(5) - s[None, :])
    for actual in jax.jit(lambda x: (jax.jacrev(softmax)(x), jax.jacfwd(softmax)(x)))(x):
        assert_close(actual, jacobian)


@dtypes
def test_softmax_of_masked_and_extreme_rows(dtype):
    rows = [
        ([0.0, -INF, 0.0], [0.5, 0.0, 0.5]),
        ([-INF, -1e4, -INF], [0.0, 1.0, 0.0]),
        ([1e4, -1e4, 1e4], [0.5, 0.0, 0.5]),
        ([-INF, -INF, -INF], [NAN, NAN, NAN]),
        ([INF, 0.0, 0.0], [NAN, NAN, NAN]),
        ([NAN, 0.0, 0.0], [NAN, NAN, NAN]),
    ]

    @jax.jit
    def everything(x):
        return softmax(x), jax.jacrev(softmax)(x), jax.jacfwd(softmax)(x), jax.hessian(softmax)(x)

    with jax.enable_x64(dtype == "float64"):
        for x, s in rows:
            x = jnp.asarray(x, dtype)
            value, backward, forward, twice = everything(x)
            assert_close(value, s)
            assert_close(backward, np.diag(s) - np.outer(s, s))
            assert_close(forward, np.diag(s) - np.outer(s, s))
            assert np.isnan(s).any() or jnp.isfinite(twice).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_softmax_is_rounded_once(dtype):
    """exp, sum and quotient in float32: the error is that of one rounding to the dtype."""
    x = jnp.asarray(np.random.default_rng(0).uniform(-2, 2, (64, 64)), dtype)
    for s in (softmax(x), jax.jit(softmax)(x)):
        error = np.abs(f64(s) / scipy.special.softmax(f64(x), axis=-1) - 1)
        assert error.max() < 1.001 * float(jnp.finfo(dtype).eps) / 2


@pytest.mark.parametrize(
    ("shape", "axis", "got"),
    [
        ((2, 3), 2, "axis=2 for float32[2, 3]"),
        ((2, 3), -3, "axis=-3 for float32[2, 3]"),
        ((2, 3), (0, 5), "axis=(0, 5) for float32[2, 3]"),
        ((2, 3), None, "axis=None for float32[2, 3]"),
        ((2, 3), 1.0, "axis=1.0 for float32[2, 3]"),
        ((), -1, "axis=-1 for float32[]"),
    ],
    ids=str,
)
def test_softmax_needs_its_axis(shape, axis, got):
    with pytest.raises(ValueError) as caught:
        softmax(jnp.zeros(shape), axis=axis)
    assert str(caught.value) == f"softmax: expected an axis of x, got {got}. Axes count from 0."
