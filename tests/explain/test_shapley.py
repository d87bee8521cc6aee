"""Shapley values against their definition over all coalitions."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn
from jaxnn import explain

KEY = jax.random.key(0)
D = 4
X = jax.random.normal(jax.random.key(1), (3, D))
MODEL = nn.serial(nn.dense(6), nn.tanh, nn.dense(2))
PARAMS, STATE = MODEL.init(jax.random.key(2), 3 * X)


def brute(score, x, baseline, groups):
    """φ_i = Σ over coalitions S without i of |S|! (d - |S| - 1)! / d! (v(S and i) - v(S)), in float64."""
    d = groups.max() + 1
    phi = np.zeros((len(x), d))
    value = {}
    for bits in itertools.product((False, True), repeat=d):
        inside = np.array(bits)[groups]
        inside = inside.reshape(1, *inside.shape, *(1,) * (x.ndim - 1 - inside.ndim))
        value[bits] = score(np.where(inside, x, baseline))
    for bits, v in value.items():
        for i in range(d):
            if not bits[i]:
                s = sum(bits)
                share = math.factorial(s) * math.factorial(d - s - 1) / math.factorial(d)
                phi[:, i] += share * (value[(*bits[:i], True, *bits[i + 1 :])] - v)
    return phi


def score(x):
    return np.asarray(MODEL.apply(PARAMS, STATE, jnp.asarray(x, jnp.float32))[0], np.float64)[:, 1]


def test_many_permutations_agree_with_all_coalitions():
    wanted = brute(score, np.asarray(X), 0.5, np.arange(D))
    values = explain.shapley_values(MODEL, PARAMS, STATE, X, KEY, baseline=0.5, target=1, permutations=4000, block=500)
    np.testing.assert_allclose(values, wanted, atol=0.02 * np.abs(wanted).max())


@pytest.mark.parametrize("permutations", [1, 2, 5])
def test_they_add_up_to_the_difference_of_scores(permutations):
    values = explain.shapley_values(MODEL, PARAMS, STATE, X, KEY, target=1, permutations=permutations, block=3)
    assert_close(values.sum(1), score(X) - score(np.zeros(X.shape)))


def pairs(x):
    return x[:, :1] * x[:, 1:2] - 2 * x[:, 2:3] * x[:, :1] + x[:, 3:]


def test_one_permutation_is_exact_for_a_linear_score_and_two_for_pairs():
    linear = lambda x: x @ jnp.arange(1.0, 5.0)[:, None]  # noqa: E731
    one = explain.shapley_values(linear, {}, {}, X, KEY, permutations=1)
    assert_close(one, X * np.arange(1, 5, dtype=np.float32)[None])
    two = explain.shapley_values(pairs, {}, {}, X, KEY, permutations=2)
    assert_close(two, brute(lambda x: np.asarray(pairs(x))[:, 0], np.asarray(X, np.float64), 0.0, np.arange(D)))


def test_groups_of_pixels():
    x = jax.random.normal(KEY, (2, 4, 4, 3))
    groups = np.kron(np.arange(4).reshape(2, 2), np.ones((2, 2), int))
    kernel = jax.random.normal(jax.random.key(5), (4, 4, 3))
    model = lambda x: jnp.sum(x * kernel[None], axis=(1, 2, 3))[:, None]  # noqa: E731
    values = explain.shapley_values(model, {}, {}, x, KEY, groups=groups, permutations=2)
    product = np.asarray(x * kernel[None])
    assert_close(values, np.stack([product[:, groups == g].sum((1, 2)) for g in range(4)], axis=1))
    each = np.repeat(groups[..., None], 3, axis=2)  # the same groups for every element
    assert_close(explain.shapley_values(model, {}, {}, x, KEY, groups=each, permutations=2), values)


def test_one_group_is_the_whole_difference():
    values = explain.shapley_values(MODEL, PARAMS, STATE, X, KEY, groups=np.zeros(D, int), target=1)
    assert_close(values[:, 0], score(X) - score(np.zeros(X.shape)))


def test_under_jit():
    wanted = explain.shapley_values(MODEL, PARAMS, STATE, X, KEY, target=1, permutations=3)
    found = jax.jit(lambda x: explain.shapley_values(MODEL, PARAMS, STATE, x, KEY, target=1, permutations=3))(X)
    assert_close(found, wanted)


EXPECTED = "shapley_values: expected groups to be integers from 0 of shape [4] or []"
WRONG = {
    "floats": (np.ones(D), TypeError, f"{EXPECTED}, got float64[4]. Their number is fixed while tracing."),
    "another shape": (np.arange(3), ValueError, f"{EXPECTED}, got int64[3]. x is float32[3, 4]."),
    "negative": (np.arange(-1, 3), ValueError, f"{EXPECTED}, got a group -1."),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors(case):
    groups, kind, text = WRONG[case]
    with pytest.raises(kind) as caught:
        explain.shapley_values(MODEL, PARAMS, STATE, X, KEY, groups=groups)
    assert str(caught.value) == text
