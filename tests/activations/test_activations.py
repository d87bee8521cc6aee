"""Every elementwise activation against its formula in sixty decimal digits, derivatives against differences."""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal as D
from decimal import localcontext
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import TOLERANCE, assert_close

from jaxnn import activations as act

INF, NAN = np.inf, np.nan
DTYPES = [*TOLERANCE]
BENDS = (-3.0, -1.0, 0.0, 1.0, 3.0, 6.0)


@dataclass(frozen=True)
class Case:
    f: Callable
    reference: Callable  # of Decimals: (x, **options) -> f(x)
    edges: dict  # x: (f(x), f'(x))
    options: dict = field(default_factory=dict)

    def __call__(self, x, **options):
        return self.f(x, **(self.options | options))

    def exact(self, x, **options):
        return self.reference(x, **{k: D(v) for k, v in (self.options | options).items()})


def sigma(x):
    return 1 / (1 + (-x).exp())


def tanh(x):
    return (x.exp() - (-x).exp()) / (x.exp() + (-x).exp())


def softplus(x):
    return (1 + x.exp()).ln()


PI = D("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899")


def normal_distribution(x):
    """Φ(x) = 1/2 + φ(x) (x + x³/3 + x⁵/15 + ...), Marsaglia's series."""
    term = total = x
    for n in range(3, 4000, 2):
        term = term * x * x / n
        total += term
        if abs(term) < D("1e-70"):
            break
    return D("0.5") + total * (-x * x / 2).exp() / (2 * PI).sqrt()


def tanh_gelu(x):
    return x / 2 * (1 + tanh((2 / PI).sqrt() * (x + D("0.044715") * x**3)))


def elu(x, alpha):
    return x if x > 0 else alpha * (x.exp() - 1)


def line(x):
    return min(max(x / 6 + D("0.5"), D(0)), D(1))


def edges(zero, plus, minus, *, far=None, nan=NAN, **others):
    """Value and slope at 0, ±inf and ±1e4 (those of ±inf, the value too if it is finite), and nan (the slope)."""
    right, left = far or (plus, minus)
    table = {0.0: zero, INF: plus, -INF: minus, 1e4: right, -1e4: left, NAN: (NAN, nan)}
    return {**table, **{float(x): value for x, value in others.get("at", {}).items()}}


ZERO, ONE = (0.0, 0.0), (1.0, 0.0)
HALF_LINE = {"plus": (INF, 1.0), "minus": ZERO, "far": ((1e4, 1.0), ZERO)}  # relu, from afar


def elu_edges(alpha, scale=1.0):
    left = (-alpha * scale, 0.0)
    return edges((0.0, alpha * scale), (INF, scale), left, far=((1e4 * scale, scale), left))


def leaky_edges(slope):
    left = (-INF * slope if slope else 0.0, slope)
    return edges((0.0, slope), (INF, 1.0), left, far=((1e4, 1.0), (-1e4 * slope, slope)), nan=slope)


def silu_edges(beta):
    if beta == 0:
        return edges((0.0, 0.5), (INF, 0.5), (-INF, 0.5), far=((5e3, 0.5), (-5e3, 0.5)))
    if beta < 0:
        return edges((0.0, 0.5), ZERO, (-INF, 1.0), far=(ZERO, (-1e4, 1.0)))
    return edges((0.0, 0.5), **HALF_LINE)


LOG2 = 0.6931471805599453

CASES = {
    "unit_step": Case(act.unit_step, lambda x, at_zero=1: D(int(x > 0)), edges(ONE, ONE, ZERO, nan=0.0)),
    "unit_step at 1/2": Case(
        act.unit_step, lambda x, at_zero: D(int(x > 0)), edges((0.5, 0.0), ONE, ZERO, nan=0.0), {"at_zero": 0.5}
    ),
    "sigmoid": Case(act.sigmoid, sigma, edges((0.5, 0.25), ONE, ZERO)),
    "tanh": Case(act.tanh, tanh, edges((0.0, 1.0), ONE, (-1.0, 0.0))),
    "hard_sigmoid": Case(act.hard_sigmoid, line, edges((0.5, 1 / 6), ONE, ZERO, nan=0.0, at={3: ONE, -3: ZERO})),
    "hard_tanh": Case(
        act.hard_tanh,
        lambda x, low=-1, high=1: min(max(x, D(-1)), D(1)),
        edges((0.0, 1.0), ONE, (-1.0, 0.0), nan=0.0, at={1: ONE, -1: (-1.0, 0.0)}),
    ),
    "hard_tanh from -3": Case(
        partial(act.hard_tanh, high=6.0),
        lambda x, low: min(max(x, low), D(6)),
        edges((0.0, 1.0), (6.0, 0.0), (-3.0, 0.0), nan=0.0, at={6: (6.0, 0.0), -3: (-3.0, 0.0)}),
        {"low": -3.0},
    ),
    "hard_tanh to 6": Case(
        partial(act.hard_tanh, low=-3.0),
        lambda x, high: min(max(x, D(-3)), high),
        edges((0.0, 1.0), (6.0, 0.0), (-3.0, 0.0), nan=0.0, at={6: (6.0, 0.0), -3: (-3.0, 0.0)}),
        {"high": 6.0},
    ),
    "soft_shrink": Case(
        partial(act.soft_shrink, threshold=1.0),
        lambda x: x - 1 if x > 1 else x + 1 if x < -1 else D(0),
        edges(ZERO, (INF, 1.0), (-INF, 1.0), far=((9999.0, 1.0), (-9999.0, 1.0)), nan=0.0, at={1: ZERO, -1: ZERO}),
    ),
    "soft_shrink of 3": Case(
        act.soft_shrink,
        lambda x, threshold: x - threshold if x > threshold else x + threshold if x < -threshold else D(0),
        edges(ZERO, (INF, 1.0), (-INF, 1.0), far=((9997.0, 1.0), (-9997.0, 1.0)), nan=0.0, at={3: ZERO, -3: ZERO}),
        {"threshold": 3.0},
    ),
    "hard_shrink": Case(
        partial(act.hard_shrink, threshold=1.0),
        lambda x: x if abs(x) > 1 else D(0),
        edges(ZERO, (INF, 1.0), (-INF, 1.0), far=((1e4, 1.0), (-1e4, 1.0)), nan=0.0, at={1: ZERO, -1: ZERO}),
    ),
    "softsign": Case(
        act.softsign,
        lambda x: x / (1 + abs(x)),
        edges((0.0, 1.0), ONE, (-1.0, 0.0), far=((1e4 / 10001, 10001.0**-2), (-1e4 / 10001, 10001.0**-2))),
    ),
    "relu": Case(act.relu, lambda x: max(x, D(0)), edges(ZERO, **HALF_LINE, nan=0.0)),
    "thresholded_relu": Case(
        act.thresholded_relu,
        lambda x, threshold=1: x if x > threshold else D(0),
        edges(ZERO, **HALF_LINE, nan=0.0, at={1: ZERO}),
    ),
    "relu6": Case(
        act.relu6, lambda x: min(max(x, D(0)), D(6)), edges(ZERO, (6.0, 0.0), ZERO, nan=0.0, at={6: (6.0, 0.0)})
    ),
    "leaky_relu": Case(
        act.leaky_relu, lambda x, negative_slope=D("0.01"): x if x > 0 else negative_slope * x, leaky_edges(0.01)
    ),
    **{
        f"leaky_relu of slope {slope}": Case(
            act.leaky_relu,
            lambda x, negative_slope: x if x > 0 else negative_slope * x,
            leaky_edges(slope),
            {"negative_slope": slope},
        )
        for slope in (0.0, -0.5)
    },
    "elu": Case(act.elu, lambda x, alpha=1: elu(x, alpha), elu_edges(1.0)),
    **{f"elu of alpha {alpha}": Case(act.elu, elu, elu_edges(alpha), {"alpha": alpha}) for alpha in (0.0, 0.5, -0.25)},
    "selu": Case(
        act.selu,
        lambda x: D("1.0507009873554804934193349852946") * elu(x, D("1.6732632423543772848170429916717")),
        elu_edges(1.6732632423543773, 1.0507009873554805),
    ),
    "celu": Case(
        act.celu, lambda x, alpha=1: elu(x, 1), edges((0.0, 1.0), (INF, 1.0), (-1.0, 0.0), far=((1e4, 1), (-1, 0)))
    ),
    "celu of alpha 2": Case(
        act.celu,
        lambda x, alpha: x if x > 0 else alpha * ((x / alpha).exp() - 1),
        edges((0.0, 1.0), (INF, 1.0), (-2.0, 0.0), far=((1e4, 1.0), (-2.0, 0.0))),
        {"alpha": 2.0},
    ),
    "softplus": Case(act.softplus, softplus, edges((LOG2, 0.5), **HALF_LINE)),
    "log_sigmoid": Case(
        act.log_sigmoid, lambda x: -softplus(-x), edges((-LOG2, 0.5), ZERO, (-INF, 1.0), far=(ZERO, (-1e4, 1.0)))
    ),
    "gelu": Case(act.gelu, lambda x: x * normal_distribution(x), edges((0.0, 0.5), **HALF_LINE)),
    "gelu, tanh": Case(partial(act.gelu, approximate=True), tanh_gelu, edges((0.0, 0.5), **HALF_LINE)),
    "silu": Case(act.silu, lambda x, beta=1: x * sigma(x), edges((0.0, 0.5), **HALF_LINE)),
    **{
        f"swish of beta {beta}": Case(act.swish, lambda x, beta: x * sigma(beta * x), silu_edges(beta), {"beta": beta})
        for beta in (0.0, -1.5, 2.0)
    },
    "mish": Case(act.mish, lambda x: x * tanh(softplus(x)), edges((0.0, 0.6), **HALF_LINE)),
    "hard_swish": Case(
        act.hard_swish,
        lambda x: x * line(x),
        edges((0.0, 0.5), **HALF_LINE, at={3: (3.0, 1.0), -3: ZERO}),
    ),
}
ALONG_AXES = {"glu", "log_softmax", "softmax", "standardize"}  # test_along_axes.py

every = pytest.mark.parametrize("name", CASES)
dtypes = pytest.mark.parametrize("dtype", DTYPES)
OPTIONS = [name for name, case in CASES.items() if case.options]
with_options = pytest.mark.parametrize("name", OPTIONS)


def test_every_public_name_has_a_row():
    assert {name.split()[0].rstrip(",") for name in CASES} | ALONG_AXES == set(act.__all__)
    assert list(act.__all__) == sorted(act.__all__)
    assert act.swish is act.silu


def points(dtype: str) -> np.ndarray:
    """-8 to 8 and the tails to ±30, without the bends."""
    x = np.concatenate([np.linspace(-8.03, 8.07, 61), np.linspace(-30, -9, 9), np.linspace(9, 30, 9)])
    x = np.asarray(x, dtype)
    return x[~np.isin(x.astype(np.float64), BENDS)]


def slopes(f: Callable, x: jax.Array) -> jax.Array:
    return jax.grad(lambda x: jnp.sum(f(x)))(x)


# Each dtype goes another way to the same numbers.
WAYS = {
    "float64": lambda f: f,
    "float32": jax.vmap,
    "bfloat16": lambda f: lambda x: jax.lax.scan(lambda _, x: (None, f(x)), None, x)[1],
    "float16": lambda f: f,
}


@cache
def computed(dtype: str) -> dict[str, tuple]:
    """For each case at the points and its edges: value and slope; in float64 and float32, the second derivative too;
    in float64, the slope by forward mode."""

    def all_of(case, x):
        results = [case(x), slopes(case, x)]
        results += [slopes(partial(slopes, case), x)] if dtype in ("float64", "float32") else []
        return results + ([jax.jvp(case, (x,), (jnp.ones_like(x),))[1]] if dtype == "float64" else [])

    def both_rows(case, x):
        x = x if x.size % 2 == 0 else jnp.append(x, x[-1])
        return jax.tree.map(jnp.ravel, WAYS[dtype](partial(all_of, case))(x.reshape(2, -1)))

    with jax.enable_x64(dtype == "float64"):
        xs = {
            name: jnp.concatenate([jnp.asarray(points(dtype)), jnp.asarray([*case.edges], dtype)])
            for name, case in CASES.items()
        }
        return jax.jit(lambda xs: {name: both_rows(CASES[name], x) for name, x in xs.items()})(xs)


@cache
def true(name: str, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value, slope and second derivative at the points, the latter two by central differences."""
    rows, h = [], D("1e-15")
    with localcontext() as context:
        context.prec = 100
        for x in map(D, map(float, points(dtype))):
            below, here, above = (CASES[name].exact(x + step) for step in (-h, D(0), h))
            rows.append([float(here), float((above - below) / (2 * h)), float((above - 2 * here + below) / h**2)])
    return tuple(np.asarray(rows).T)


def at_points(name: str, dtype: str) -> list[np.ndarray]:
    return [np.asarray(a)[: len(points(dtype))] for a in computed(dtype)[name]]


def at_edges(name: str, dtype: str) -> list[np.ndarray]:
    n = len(points(dtype))
    return [np.asarray(a)[n : n + len(CASES[name].edges)] for a in computed(dtype)[name]]


@every
@dtypes
@pytest.mark.slow
def test_values_and_slopes(name, dtype):
    (value, slope, *_), (y, dy, _) = at_points(name, dtype), true(name, dtype)
    assert (str(value.dtype), str(slope.dtype)) == (dtype, dtype)
    assert_close(value, y)
    assert_close(slope, dy, scale=1.0)


@every
@pytest.mark.slow
def test_forward_mode_and_second_derivatives(name):
    _, _, bend, forward = at_points(name, "float64")
    assert_close(forward, true(name, "float64")[1], scale=1.0)
    assert_close(bend, true(name, "float64")[2], scale=1.0)
    assert_close(at_points(name, "float32")[2], true(name, "float32")[2], scale=1.0)


@every
@dtypes
def test_edges(name, dtype):
    value, slope, *others = at_edges(name, dtype)
    x = np.asarray([*CASES[name].edges])
    y, dy = np.asarray([*CASES[name].edges.values()], dtype).T
    assert_close(value, y, scale=0)
    assert_close(slope, dy, scale=0)
    for bend in others[:1]:
        assert (np.isfinite(bend) | np.isnan(x)).all()
    for forward in others[1:]:
        assert_close(forward, dy, scale=0)


FROM_ROUNDED = {"sigmoid", "tanh"}  # slopes σ (1 - σ) and 1 - tanh², as their docstrings say
ERFC = {"gelu", "gelu, tanh"}  # cubes and squares in an exponent: their tails have a test of their own


def relative_errors(actual: np.ndarray, desired: np.ndarray) -> np.ndarray:
    """|actual / desired - 1| where the dtype has all its digits; below, the error against the least such number."""
    least = float(jnp.finfo(actual.dtype).smallest_normal)
    return np.abs(actual.astype(np.float64) - desired) / np.maximum(np.abs(desired), least)


@pytest.mark.parametrize("name", [name for name in CASES if name not in ERFC])
@dtypes
def test_tails_keep_their_digits(name, dtype):
    tails = np.abs(points(dtype).astype(np.float64)) > 8
    value, slope, *_ = (
        relative_errors(*pair) for pair in zip(at_points(name, dtype)[:2], true(name, dtype)[:2], strict=True)
    )
    assert value[tails].max() < TOLERANCE[dtype]
    assert name in FROM_ROUNDED or slope[tails].max() < TOLERANCE[dtype]


@pytest.mark.parametrize("name", [name for name in CASES if name not in ERFC])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_rounded_once(name, dtype):
    error = relative_errors(at_points(name, dtype)[0], true(name, dtype)[0])
    assert error.max() < 1.01 * jnp.finfo(dtype).eps / 2


JAX_KEEPS = ("relu", "relu6", "tanh")  # what jax's own keep differs by version


@pytest.mark.parametrize("name", [name for name in CASES if name not in JAX_KEEPS])
@dtypes
def test_what_the_backward_pass_keeps(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        x = jax.ShapeDtypeStruct((5, 3), jnp.dtype(dtype))
        saved = jax.tree.leaves(jax.eval_shape(lambda x: jax.vjp(CASES[name], x)[1], x))
    assert [(str(a.dtype), a.shape) for a in saved] == [(dtype, (5, 3))] * (name.split()[0] != "unit_step")


@every
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.slow
def test_any_shape_and_the_empty_ones(name, dtype):
    case = CASES[name]
    for shape in [(0,), (0, 3), (3, 0), (), (1,), (2, 1, 3, 1)]:
        x = jax.ShapeDtypeStruct(shape, dtype)
        for y in (jax.eval_shape(case, x), jax.eval_shape(partial(slopes, case), x)):
            assert (y.shape, y.dtype) == (shape, dtype)
    assert case(jnp.zeros((0, 3), dtype)).shape == (0, 3)


@every
@pytest.mark.slow
def test_eager_is_jit_for_numpy_arrays_and_python_floats(name):
    case, x = CASES[name], points("float32")
    assert_close(case(x), at_points(name, "float32")[0])
    y = case(0.5)
    assert (y.shape, y.dtype) == ((), jnp.float32)
    assert_close(y, float(case.exact(D("0.5"))), scale=0)
    assert case(np.zeros((2, 3))).dtype == jnp.float32  # what a NumPy float64 is without x64


# Options.


@cache
def mapped_over_options() -> dict[str, tuple]:
    """At the points, for several values of the option: all of them by vmap, and one by one as numbers."""
    x = jnp.asarray(points("float32"))

    def both(case, values):
        ((option, value),) = case.options.items()
        numbers = [value, 0.75, np.float32(1.5), np.int32(2)]
        mapped = jax.vmap(lambda v: case(x, **{option: v}))(values.at[0].set(value))
        return mapped, jnp.stack([case(x, **{option: v}) for v in numbers])

    values = jnp.array([0.0, 0.75, 1.5, 2.0])
    return jax.jit(lambda values: {name: both(CASES[name], values) for name in OPTIONS})(values)


@with_options
def test_options_may_be_traced_and_mapped(name):
    assert_close(*mapped_over_options()[name])


@cache
def slopes_in_options(dtype: str) -> dict[str, tuple]:
    """By forward mode at the points, by reverse mode of the sum, and both far out."""
    with jax.enable_x64(dtype == "float64"):
        x, far = jnp.asarray(points(dtype)), jnp.asarray([1e4, -1e4, INF, -INF], dtype)

        def all_of(case, value):
            (option,) = case.options
            at = lambda x: lambda v: case(x, **{option: v})  # noqa: E731
            back = jax.grad(lambda v: jnp.sum(at(x)(v)))
            alone = lambda x: jax.grad(at(x))(value)  # noqa: E731
            return jax.jacfwd(at(x))(value), back(value), jax.jacfwd(at(far))(value), jax.vmap(alone)(far)

        values = {name: jnp.asarray(next(iter(CASES[name].options.values())), WIDE[dtype]) for name in OPTIONS}
        return jax.jit(lambda values: {name: all_of(CASES[name], v) for name, v in values.items()})(values)


WIDE = {"float64": "float64", "bfloat16": "float32"}


@with_options
@pytest.mark.parametrize("dtype", WIDE)
def test_slopes_in_the_options(name, dtype):
    case, h = CASES[name], D("1e-15")
    ((option, value),) = case.options.items()
    with localcontext() as context:
        context.prec = 60
        step = lambda x, sign: case.exact(D(float(x)), **{option: D(value) + sign * h})  # noqa: E731
        desired = [float((step(x, 1) - step(x, -1)) / (2 * h)) for x in points(dtype)]
    forward, backward, *far = slopes_in_options(dtype)[name]
    assert (str(forward.dtype), str(backward.dtype)) == (dtype, WIDE[dtype])
    assert_close(forward, desired, scale=1.0)
    assert_close(backward, sum(desired), scale=max(1.0, np.abs(desired).max()), dtype=dtype)
    for slope in far:
        assert not np.isnan(slope).any()
        assert np.isfinite(np.asarray(slope[:2], np.float64)).all()


@with_options
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_options_of_other_dtypes(name, dtype):
    case = CASES[name]
    ((option, value),) = case.options.items()
    with jax.enable_x64(True):
        x = jnp.asarray(points(dtype))
        desired = case(x)
        for v in (jnp.float64(value), jnp.float32(value), np.float16(value), jnp.bfloat16(value), np.asarray(value)):
            y = case(x, **{option: v})
            assert y.dtype == desired.dtype
            assert_close(y, desired)


# Errors.


@pytest.mark.parametrize("name", sorted(act.__all__))
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros(3, np.int32), "of a floating dtype, got int32[3]. Cast it: jnp.asarray(x, jnp.float32)."),
        (np.zeros((2, 3), np.uint8), "of a floating dtype, got uint8[2, 3]. Cast it: jnp.asarray(x, jnp.float32)."),
        (np.zeros((), bool), "of a floating dtype, got bool[]. Cast it: jnp.asarray(x, jnp.float32)."),
        (np.zeros(3, np.complex64), "of a floating dtype, got complex64[3]. Cast it: jnp.asarray(x, jnp.float32)."),
        ([1.0, 2.0], "to be an array, got [1.0, 2.0]. Convert it: np.asarray(x, np.float32)."),
        (1, "to be an array, got 1. Convert it: np.asarray(x, np.float32)."),
        (None, "to be an array, got None."),
    ],
    ids=str,
)
def test_only_floating_input(name, x, message):
    f = getattr(act, name)
    with pytest.raises(TypeError) as caught:
        f(x)
    assert str(caught.value) == f"{f.__name__}: expected x {message}"


def test_the_error_under_a_trace():
    with pytest.raises(TypeError) as caught:
        jax.jit(jax.vmap(act.relu))(jnp.zeros((4, 3), jnp.int32))
    message = "relu: expected x of a floating dtype, got int32[3]. Cast it: jnp.asarray(x, jnp.float32)."
    assert str(caught.value) == message


# ---- rows of the ends of the range


@pytest.mark.parametrize("eps", [1e-5, 0.0])
@pytest.mark.parametrize("row", [[0.0, 0.0], [3e38, 3e38, 3e38], [-1e30, -1e30], [5.0], [1e-30, 1e-30]], ids=str)
@pytest.mark.slow
def test_standardize_gives_0_for_a_constant_row_and_a_gradient_of_sane_size(row, eps):
    x = jnp.array(row)
    np.testing.assert_array_equal(act.standardize(x, eps=eps), np.zeros(len(row)))
    slope = jax.grad(lambda x: act.standardize(x, eps=eps) @ jnp.arange(1.0, 1 + len(row)))(x)
    assert np.isfinite(slope).all()
    assert np.abs(slope).max() < 1e3


@pytest.mark.parametrize("size", [1e-2, 1.0, 1e10, 1e19, 1e30, 1e38])
def test_standardize_does_not_overflow(size):
    x = np.array([[1.0, -1.0, 0.5], [2.0, 1.0, 3.0]]) * size
    want = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    assert_close(act.standardize(jnp.asarray(x, jnp.float32)), want.astype(np.float32))


@pytest.mark.parametrize(
    ("x", "y", "slope"),
    [
        ([np.inf, -np.inf], 0.0, [0.0, 0.0]),
        ([-np.inf, -200.0], 0.0, [0.0, 0.0]),
        ([np.inf, 0.0], np.inf, [0.5, 0.0]),
        ([np.inf, np.inf], np.inf, [1.0, 0.0]),
        ([2.0, -np.inf], 0.0, [0.0, 0.0]),
        ([3e38, -np.inf], 0.0, [0.0, 0.0]),
        ([3e38, 1e4], 3e38, [1.0, 0.0]),
        ([np.nan, -np.inf], np.nan, [0.0, np.nan]),
    ],
)
def test_a_closed_gate_lets_nothing_through(x, y, slope):
    x = jnp.array(x)
    np.testing.assert_allclose(act.glu(x)[0], y)
    np.testing.assert_allclose(jax.grad(lambda x: act.glu(x)[0])(x), slope)


def test_an_infinite_x_gives_a_slope_of_0_no_gradient():
    x = jnp.array([-jnp.inf, jnp.inf, -2.0])
    slope = jax.grad(lambda a: act.leaky_relu(x, negative_slope=a)[jnp.array([0, 2])].sum())(jnp.array(0.0))
    assert slope == -2.0
