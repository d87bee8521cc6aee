"""Every initializer against its intended distribution: support, mean, variance and a Kolmogorov-Smirnov test."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from _close import TOLERANCE, assert_close

from jaxnn import init
from jaxnn.init import (
    constant,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    lecun_normal,
    lecun_uniform,
    normal,
    ones,
    orthogonal,
    truncated_normal,
    uniform,
    variance_scaling,
    zeros,
)

SHAPE = (2, 3, 64, 128)  # fan_in 2 · 3 · 64 = 384, fan_out 2 · 3 · 128 = 768
DTYPES = [*TOLERANCE]
theirs = jax.nn.initializers


@dataclass(frozen=True)
class Case:
    f: Callable
    distribution: Any = None  # of the elements of SHAPE: a frozen scipy distribution, or the one value they have
    jax: Callable | None = None  # the same initializer in jax.nn
    options: tuple = ()  # keyword arguments that may be traced, and a value for each
    rank: int = 0  # least number of axes


def gauss(variance: float) -> Any:
    return scipy.stats.norm(0, np.sqrt(variance))


def flat(variance: float) -> Any:
    half = np.sqrt(3 * variance)
    return scipy.stats.uniform(-half, 2 * half)


def cut(variance: float) -> Any:
    """The normal distribution cut at ±2 standard deviations whose variance, after the cut, is `variance`."""
    return scipy.stats.truncnorm(-2, 2, 0, np.sqrt(variance) / scipy.stats.truncnorm(-2, 2).std())


def scaling(scale: float, mode: str, distribution: str) -> Callable:
    return partial(variance_scaling, scale=scale, mode=mode, distribution=distribution)


def scaled(deviation: Callable) -> Callable:
    """JAX's draw of variance 1 times `deviation(shape)`: from 0.12 on JAX merges the factor with that of the draw."""
    return lambda key, shape, dtype: theirs.normal(1.0)(key, shape, dtype) * np.asarray(deviation(*shape), dtype)


SCALE = (("scale", 1.7),)

CASES = {
    "zeros": Case(zeros, 0.0, theirs.zeros),
    "ones": Case(ones, 1.0, theirs.ones),
    "constant": Case(partial(constant, value=-1.5), -1.5, theirs.constant(-1.5), (("value", 0.3),)),
    "normal": Case(normal, gauss(1e-4), scaled(lambda *shape: 1e-2), (("stddev", 0.3),)),
    "normal(stddev=2)": Case(partial(normal, stddev=2), gauss(4.0), scaled(lambda *shape: 2)),
    "truncated_normal": Case(
        truncated_normal,
        scipy.stats.truncnorm(-2, 2, 0, 1e-2),
        theirs.truncated_normal(),
        (("stddev", 0.3), ("lower", -0.4), ("upper", 1.7)),
    ),
    "truncated_normal(stddev=3, lower=-1, upper=0.5)": Case(
        partial(truncated_normal, stddev=3, lower=-1, upper=0.5),
        scipy.stats.truncnorm(-1, 0.5, 0, 3),
        theirs.truncated_normal(3, None, -1, 0.5),
    ),
    "uniform": Case(uniform, scipy.stats.uniform(-1e-2, 2e-2), options=(("scale", 0.3),)),
    "uniform(scale=0.5)": Case(partial(uniform, scale=0.5), scipy.stats.uniform(-0.5, 1.0)),
    "variance_scaling": Case(
        variance_scaling, cut(1 / 384), theirs.variance_scaling(1.0, "fan_in", "truncated_normal"), SCALE, rank=2
    ),
    "variance_scaling(2, fan_out, normal)": Case(
        scaling(2, "fan_out", "normal"), gauss(2 / 768), scaled(lambda n, m: np.sqrt(2 / m)), SCALE, rank=2
    ),
    "variance_scaling(3, fan_avg, uniform)": Case(
        scaling(3, "fan_avg", "uniform"), flat(3 / 576), theirs.variance_scaling(3, "fan_avg", "uniform"), SCALE, rank=2
    ),
    "variance_scaling(1, fan_geo_avg, normal)": Case(
        scaling(1, "fan_geo_avg", "normal"),
        gauss(1 / np.sqrt(384 * 768)),
        scaled(lambda n, m: np.sqrt(1 / np.sqrt(n * m))),
        rank=2,
    ),
    "lecun_normal": Case(lecun_normal, cut(1 / 384), theirs.lecun_normal(), rank=2),
    "lecun_uniform": Case(lecun_uniform, flat(1 / 384), theirs.lecun_uniform(), rank=2),
    "he_normal": Case(he_normal, cut(2 / 384), theirs.he_normal(), rank=2),
    "he_uniform": Case(he_uniform, flat(2 / 384), theirs.he_uniform(), rank=2),
    "glorot_normal": Case(glorot_normal, cut(2 / (384 + 768)), theirs.glorot_normal(), rank=2),
    "glorot_uniform": Case(glorot_uniform, flat(2 / (384 + 768)), theirs.glorot_uniform(), rank=2),
    "orthogonal": Case(orthogonal, None, theirs.orthogonal(), SCALE, rank=2),
}

every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
RANDOM = {
    name: case
    for name, case in CASES.items()
    if isinstance(case.distribution, scipy.stats._distn_infrastructure.rv_frozen)
}
random = pytest.mark.parametrize("case", RANDOM.values(), ids=RANDOM)
dtypes = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture
def key():
    return jax.random.key(0)


def test_every_public_name_has_a_row():
    assert {name.split("(")[0] for name in CASES} == {*init.__all__} - {"preset"}  # its table: test_init_presets
    assert list(init.__all__) == sorted(init.__all__)


@random
@pytest.mark.slow
def test_distribution(case, key):
    check_distribution(case, np.asarray(case.f(key, SHAPE), np.float64))


@pytest.mark.parametrize("name", ["uniform", "he_normal"])
def test_distribution_in_float64(name, key, x64):
    sample = np.asarray(CASES[name].f(key, SHAPE, jnp.float64))
    check_distribution(CASES[name], sample)
    assert (sample != sample.astype(np.float32)).mean() > 0.99  # more digits than a float32 draw has


def check_distribution(case, sample):
    sample = sample.ravel()
    true, n = case.distribution, sample.size
    low, high = true.support()
    slack = 1e-6 * true.std()
    assert low - slack <= sample.min()
    assert sample.max() <= high + slack
    mean, variance, kurtosis = true.stats(moments="mvk")
    assert abs(sample.mean() - mean) < 4 * np.sqrt(variance / n)
    assert abs(sample.var() - variance) < 4 * variance * np.sqrt((kurtosis + 2) / n)
    assert scipy.stats.kstest(sample, true.cdf).pvalue > 1e-3
    assert scipy.stats.kstest(1.05 * sample, true.cdf).pvalue < 1e-3  # the test has the power to tell


def test_normal_and_truncated_are_told_apart(key):
    sample = np.asarray(he_normal(key, SHAPE), np.float64).ravel()
    assert scipy.stats.kstest(sample, gauss(2 / 384).cdf).pvalue < 1e-6


@pytest.mark.parametrize("name", ["zeros", "ones", "constant"])
@dtypes
def test_one_value(name, dtype, key):
    with jax.enable_x64(dtype == "float64"):
        assert (CASES[name].f(key, (3, 2), dtype) == jnp.full((3, 2), CASES[name].distribution, dtype)).all()
        assert (CASES[name].f(None, (3, 2), dtype) == jnp.full((3, 2), CASES[name].distribution, dtype)).all()


@every
@dtypes
def test_shape_and_dtype(case, dtype, key):
    shapes = [(), (0,), (5,), (4, 3), (0, 3), (3, 0), (2, 0, 3), (2, 3, 4, 5)]
    with jax.enable_x64(dtype == "float64"):
        for shape in (shape for shape in shapes if len(shape) >= case.rank):
            w = jax.eval_shape(partial(case.f, shape=shape, dtype=dtype), key)
            assert (w.shape, str(w.dtype)) == (shape, dtype)
        w = case.f(key, (4, 3), dtype)
        assert (w.shape, str(w.dtype)) == ((4, 3), dtype)
        assert jnp.isfinite(w).all()
        assert case.f(key, (0, 3), dtype).shape == (0, 3)


@every
def test_float32_is_the_default_and_shapes_may_be_lists(case, key):
    assert case.f(key, [np.int64(4), 3]).dtype == jnp.float32
    assert (case.f(key, [np.int64(4), 3]) == case.f(key, (4, 3), "float32")).all()


@every
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_is_float32_rounded(case, dtype, key):
    assert (case.f(key, (4, 3), dtype) == case.f(key, (4, 3), jnp.float32).astype(dtype)).all()


@every
def test_the_numbers_are_those_of_jax(case, key):
    """Bit for bit, `uniform` excepted: jax.nn's is not centred."""
    if case.jax is None:
        assert (case.f(key, (4, 3)) < 0).any()
        assert (theirs.uniform()(key, (4, 3)) >= 0).all()
    else:
        assert (case.f(key, (4, 3)) == case.jax(key, (4, 3), jnp.float32)).all()


@pytest.fixture(scope="module")
def transformed():
    """Every case under vmap and under scan, with typed and with raw keys, in one program: compiling is what costs."""

    @jax.jit
    def draw(keys, raw):
        fs = {name: partial(case.f, shape=(4, 3)) for name, case in CASES.items()}
        _, scanned = jax.lax.scan(lambda _, key: (None, {name: f(key) for name, f in fs.items()}), None, raw)
        return {name: (jax.vmap(f)(keys), scanned[name]) for name, f in fs.items()}

    keys = jax.random.split(jax.random.key(0), 3)
    return keys, draw(keys, jax.random.key_data(keys))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.slow
def test_transformations_and_keys(name, transformed):
    keys, values = transformed
    f = CASES[name].f
    one_by_one = jnp.stack([f(key, (4, 3)) for key in keys])
    assert (jnp.stack([f(key, (4, 3)) for key in jax.random.key_data(keys)]) == one_by_one).all()
    for value in values[name]:
        assert_close(value, one_by_one)
    if not isinstance(CASES[name].distribution, float):
        assert (one_by_one[0] != one_by_one[1]).all()


@pytest.mark.slow
def test_options_may_be_traced(key):
    options = [(case.f, name, value) for case in CASES.values() for name, value in case.options]

    def at(values):
        return [f(key, (4, 3), **{name: value}) for (f, name, _), value in zip(options, values, strict=True)]

    values = [value for *_, value in options]
    others = [0.9 * value for value in values]
    by_vmap = jax.jit(jax.vmap(at))([jnp.asarray(pair) for pair in zip(values, others, strict=True)])
    halves = at([jnp.asarray(0.5, jnp.bfloat16)] * len(options))
    for pair, *bound in zip(by_vmap, at(values), at(others), strict=True):
        assert_close(pair, jnp.stack(bound))
    for half, bound in zip(halves, at([0.5] * len(options)), strict=True):
        assert_close(half, bound)
    slopes = jax.jit(lambda values: jax.jvp(at, (values,), ([1.0] * len(values),))[1])(values)
    assert all(jnp.isfinite(slope).all() for slope in slopes)


def test_the_derivative_of_normal_is_its_noise(key):
    noise = jax.random.normal(key, (4, 3))
    assert_close(jax.jacfwd(lambda s: normal(key, (4, 3), stddev=s))(0.1), noise)


# Fans


@pytest.mark.parametrize(("shape", "fan_in", "fan_out"), [((50, 80), 50, 80), ((9, 10, 20), 90, 180)], ids=str)
def test_fans(shape, fan_in, fan_out, key):
    for mode, n in (("fan_in", fan_in), ("fan_out", fan_out), ("fan_avg", (fan_in + fan_out) / 2)):
        w = np.asarray(variance_scaling(key, shape, mode=mode, distribution="uniform"), np.float64)
        assert np.abs(w).max() <= np.sqrt(3 / n) * (1 + 1e-6)
        assert np.abs(w).max() > np.sqrt(3 / n) * 0.995


@pytest.mark.slow
def test_he_keeps_the_mean_square_through_relu_and_lecun_through_linear_layers(key):
    def mean_square_after(depth, initializer, f):
        x = jax.random.normal(jax.random.key(1), (64, 256))
        for k in jax.random.split(key, depth):
            x = f(x @ initializer(k, (256, 256)))
        return jnp.mean(x**2) * (2 if f is jax.nn.relu else 1)

    for initializer in (he_normal, he_uniform):
        assert 0.5 < mean_square_after(20, initializer, jax.nn.relu) < 2.0
    for initializer in (lecun_normal, lecun_uniform):
        assert 0.5 < mean_square_after(20, initializer, lambda x: x) < 2.0
        assert mean_square_after(20, initializer, jax.nn.relu) < 1e-5


# Orthogonal


@pytest.mark.parametrize("shape", [(4, 4), (8, 3), (3, 8), (2, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.slow
def test_orthonormal_rows_or_columns(shape, dtype, key):
    with jax.enable_x64(dtype == "float64"):
        w = np.asarray(orthogonal(key, shape, dtype, scale=1.5), np.float64).reshape(-1, shape[-1])
    w = w if w.shape[0] >= w.shape[1] else w.T
    assert_close(w.T @ w, 2.25 * np.eye(w.shape[1]), dtype=dtype)


def test_orthogonal_is_uniform():
    """A column of a uniform rotation of space is uniform on the sphere, and its coordinates on [-1, 1] (Archimedes)."""
    w = jax.jit(jax.vmap(lambda key: orthogonal(key, (3, 3))))(jax.random.split(jax.random.key(2), 5000))
    for i in range(3):
        for j in range(3):
            assert scipy.stats.kstest(np.asarray(w[:, i, j]), scipy.stats.uniform(-1, 2).cdf).pvalue > 1e-3
    reflections = int((np.linalg.det(np.asarray(w)) < 0).sum())
    assert scipy.stats.binomtest(reflections, 5000).pvalue > 1e-3


# Constant


def test_constant_takes_an_array_of_its_shape_and_copies_it():
    value = jnp.asarray([1.0, 2.0])
    b = constant(None, (2,), value=value)
    value.delete()
    assert b.tolist() == [1.0, 2.0]
    assert constant(None, (2,), jnp.bfloat16, value=np.asarray([1, 2])).tolist() == [1.0, 2.0]
    assert constant(None, (2,), value=np.float64(0.25)).tolist() == [0.25, 0.25]


# Errors

DTYPE_FIX = "Pass jnp.float32, jnp.bfloat16 or one of their kind."


@every
@pytest.mark.parametrize(
    ("dtype", "got"),
    [
        (jnp.int32, "int32"),
        ("uint8", "uint8"),
        (bool, "bool"),
        (jnp.complex64, "complex64"),
        (None, "None"),
        ("x", "'x'"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_only_floating_dtypes(case, dtype, got, key):
    name = getattr(case.f, "func", case.f).__name__
    with pytest.raises(TypeError) as caught:
        case.f(key, (3, 3), dtype)
    assert str(caught.value) == f"{name}: expected dtype to be a floating dtype, got {got}. {DTYPE_FIX}"


@every
def test_shapes(case, key):
    name = getattr(case.f, "func", case.f).__name__
    for shape, got in ((3, "3"), ("ab", "'ab'"), ((2.5, 2), "(2.5, 2)"), (None, "None")):
        with pytest.raises(TypeError) as caught:
            case.f(key, shape)
        assert str(caught.value) == f"{name}: expected shape to be a tuple of sizes, got {got}. A vector of n is (n,)."
    with pytest.raises(ValueError) as caught:
        case.f(key, (3, -1))
    assert str(caught.value) == f"{name}: expected sizes >= 0, got (3, -1)."
    for shape in ((), (3,))[: case.rank]:
        with pytest.raises(ValueError) as caught:
            case.f(key, shape)
        fix = "A vector has no fans: use zeros, ones or normal."
        assert str(caught.value) == f"{name}: expected a shape [*space, in, out], got {shape}. {fix}"


@pytest.mark.parametrize(
    ("f", "options", "message"),
    [
        (
            truncated_normal,
            {"lower": 1.0, "upper": 1.0},
            "truncated_normal: expected lower < upper, got lower=1.0 and upper=1.0. They count in stddev.",
        ),
        (
            constant,
            {"value": np.zeros(3, np.float32)},
            "constant: expected value to be a scalar or of shape [2, 3], got float32[3]. Nothing is broadcast.",
        ),
        (
            constant,
            {"value": None},
            "constant: expected value of a real dtype, got None.",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_options(f, options, message, key):
    with pytest.raises((TypeError, ValueError)) as caught:
        f(key, (2, 3), **options)
    assert str(caught.value) == message
    assert isinstance(caught.value, TypeError) == ("dtype" in message)
