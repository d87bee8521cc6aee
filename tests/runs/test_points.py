"""Grids against itertools and scikit-learn, draws against SciPy's distributions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.model_selection import ParameterGrid

from jaxnn import points
from jaxnn.runs.points import choice, grid, integers, log_uniform, random, uniform

KEY = jax.random.key(0)


@pytest.mark.slow
def test_a_grid_is_the_product_of_its_axes():
    axes = {"rate": [0.1, 0.01], "units": [1, 2, 3], "on": [True, False]}
    found = grid(**axes)
    rows = list(zip(*(found[name].tolist() for name in axes), strict=True))
    assert rows == [(np.float32(rate), units, on) for rate, units, on in itertools.product(*axes.values())]
    assert [found[name].dtype for name in axes] == [jnp.float32, jnp.int32, bool]


def test_a_grid_is_in_scikit_learns_order():
    axes = {"a": [1, 2], "b": [3, 4, 5], "c": [6, 7]}
    found = grid(**axes)
    assert [{k: found[k][i].item() for k in axes} for i in range(12)] == list(ParameterGrid(axes))


def test_axes_may_be_keys_and_arrays():
    keys, rows = jax.random.split(KEY, 3), np.arange(4.0, dtype=np.float32).reshape(2, 2)
    found = points.grid(key=keys, row=rows)
    assert found["row"].tolist() == rows.tolist() * 3
    data = np.asarray(jax.random.key_data(found["key"]))
    np.testing.assert_array_equal(data, np.repeat(np.asarray(jax.random.key_data(keys)), 2, axis=0))


DRAWS = {
    "uniform": (uniform(-2, 3), stats.uniform(-2, 5)),
    "log_uniform": (log_uniform(1e-5, 10), stats.loguniform(1e-5, 10)),
    "normal": (jax.random.normal, stats.norm()),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.slow
def test_draws_have_their_distribution(name):
    draw, expected = DRAWS[name]
    values = random(KEY, 4000, value=draw)["value"]
    assert values.dtype == jnp.float32
    assert stats.kstest(np.asarray(values, np.float64), expected.cdf).pvalue > 0.01


@pytest.mark.parametrize(
    ("draw", "values"),
    [(integers(-1, 3), [-1, 0, 1, 2]), (choice([16, 64, 256]), [16, 64, 256]), (choice(np.ones((2, 3))), [[1.0] * 3])],
)
@pytest.mark.slow
def test_discrete_draws_are_even(draw, values):
    drawn, counts = np.unique(np.asarray(random(KEY, 3000, value=draw)["value"]), axis=0, return_counts=True)
    assert drawn.tolist() == values
    assert stats.chisquare(counts).pvalue > 0.01 or len(values) == 1


def test_draws_stay_in_their_range():
    rates = random(KEY, 100_000, rate=log_uniform(0.1, 0.1001))["rate"]
    assert np.float32(0.1) <= float(rates.min()) <= float(rates.max()) <= np.float32(0.1001)


def test_another_axis_leaves_the_values_and_keys_differ():
    one = random(KEY, 5, rate=uniform(0, 1))
    two = random(KEY, 5, decay=uniform(0, 1), rate=uniform(0, 1), key=jax.random.split)
    np.testing.assert_array_equal(one["rate"], two["rate"])
    assert not np.array_equal(two["rate"], two["decay"])
    assert len(np.unique(jax.random.key_data(two["key"]), axis=0)) == 5
    assert not np.array_equal(one["rate"], random(jax.random.key(1), 5, rate=uniform(0, 1))["rate"])


ERRORS = {
    "no axes": (
        lambda: grid(),
        ValueError,
        "grid: expected at least one axis, got none. Name them: grid(rate=[1e-3, 1e-2]).",
    ),
    "one value": (
        lambda: grid(rate=0.1),
        TypeError,
        "grid: expected rate to be a row of values, got 0.1. For one value write rate=[value].",
    ),
    "no value": (lambda: grid(rate=[]), ValueError, "grid: expected rate to have at least one value, got float32[0]."),
    "words": (
        lambda: grid(name=["a", "b"]),
        TypeError,
        "grid: expected name to be an array or a sequence of numbers, got ['a', 'b'].",
    ),
    "ragged": (
        lambda: grid(a=[[1], [1, 2]]),
        TypeError,
        "grid: expected a to be an array or a sequence of numbers, got [[1], [1, 2]].",
    ),
    "no draws": (
        lambda: random(KEY, 3),
        ValueError,
        "random: expected at least one axis, got none. Name them: random(key, 9, rate=log_uniform(1e-4, 1e-1)).",
    ),
    "a number": (
        lambda: random(KEY, 3, rate=0.1),
        TypeError,
        "random: expected rate to be a function (key, shape) -> array, got 0.1. "
        "log_uniform(1e-4, 1e-1) and its like make one.",
    ),
    "another length": (
        lambda: random(KEY, 3, rate=lambda key, shape: jnp.ones(2)),
        ValueError,
        "random: expected rate to give 3 values on axis 0, got float32[2].",
    ),
    "order": (lambda: uniform(1, 1), ValueError, "uniform: expected low < high, got 1 and 1."),
    "choice": (lambda: choice([]), ValueError, "choice: expected values to have at least one value, got float32[0]."),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    call, kind, text = ERRORS[case]
    with pytest.raises(kind) as excinfo:
        call()
    assert str(excinfo.value) == text
