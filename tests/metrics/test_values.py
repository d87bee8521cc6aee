"""Top-k accuracy, calibration error and R²: ties, edges of bins, constants, large numbers, and their errors."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics as sk
from _close import assert_close
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression

from jaxnn.metrics import accuracy, expected_calibration_error, r2, top_k_accuracy

NAN, INF = np.nan, np.inf


def message_of(f, *args, **options):
    with pytest.raises((TypeError, ValueError)) as caught:
        f(*args, **options)
    return type(caught.value).__mro__[2], str(caught.value)


# Top-k accuracy


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_top_k_is_a_stable_sort(k):
    """With ties in most rows, and -inf: the label is among the first k of the classes sorted by falling logit."""
    rng = np.random.default_rng(0)
    x = rng.choice([-INF, 0.0, 1.0, 2.0, INF], (300, 5))
    y = rng.integers(-1, 6, 300)
    right = [label in np.argsort(-row, kind="stable")[:k] for row, label in zip(x, y, strict=True)]
    value = jax.jit(partial(top_k_accuracy, k=k))(x.astype(np.float32), y)
    assert_close(value, np.mean(right))
    if k == 1:
        assert_close(value, accuracy(jnp.asarray(x, jnp.float32), y))
    if k == 5:
        assert_close(value, np.mean((y >= 0) & (y < 5)))


def test_top_k_of_nan_and_soft_labels():
    x = jnp.asarray([[0.0, 1.0, 2.0], [NAN, 1.0, 2.0], [0.0, 1.0, 2.0]])
    soft = jnp.asarray([[0.2, 0.5, 0.3], [0.0, 0.0, 1.0], [0.9, 0.1, 0.0]])
    assert_close(top_k_accuracy(x, soft, 2), 1 / 3)
    assert_close(top_k_accuracy(x, soft.at[0, 0].set(NAN), 2), 0)
    assert_close(top_k_accuracy(x, jnp.asarray([1, 2, 0]), 3), 2 / 3)


def test_k_fits():
    x, y = jnp.zeros((2, 3)), jnp.zeros(2, jnp.int32)
    assert message_of(top_k_accuracy, x, y, 4) == (
        ValueError,
        "top_k_accuracy: expected k to be an integer >= 1 and <= 3, got 4. There are 3 classes.",
    )


# Calibration


@pytest.mark.slow
def test_bins_are_closed_on_the_right():
    """Two classes at odds of 1, 3 and 7 to 1: confidences 1/2, 3/4, 7/8, in bins of (1/2, 3/4] and so on."""
    p = np.asarray([[1, 1], [3, 1], [3, 1], [7, 1]]) / np.asarray([[2], [4], [4], [8]])
    y = jnp.asarray([0, 0, 1, 1])
    x = jnp.log(jnp.asarray(p, jnp.float32))
    with jax.enable_x64(True):  # where softmax(log p) is p
        x64 = jnp.log(jnp.asarray(p))
        # (1/4, 1/2]: 1 - 1/2; (1/2, 3/4]: two, 1 of 2 right, 2 · 3/4 sure; (3/4, 1]: 0 - 7/8
        assert_close(expected_calibration_error(x64, y, 4), (1 / 2 + abs(1 - 3 / 2) + 7 / 8) / 4)
    assert_close(expected_calibration_error(x, y, 1), abs(2 - (1 / 2 + 3 / 2 + 7 / 8)) / 4)


def test_calibration_at_the_extremes():
    ece = jax.jit(expected_calibration_error)
    sure = jnp.asarray([[1e4, 0.0], [0.0, 1e4], [0.0, -INF]])
    assert ece(sure, jnp.asarray([0, 1, 0])) == 0
    assert ece(sure, jnp.asarray([1, 0, 1])) == 1
    assert_close(ece(sure, jnp.asarray([1, 1, 9])), 2 / 3)  # out of range is wrong
    for row in ([NAN, 0.0], [INF, 0.0], [-INF, -INF]):
        x = sure.at[1].set(jnp.asarray(row))
        assert jnp.isnan(ece(x, jnp.asarray([0, 1, 0])))
        assert ece(x, jnp.asarray([0, 1, 0]), where=jnp.asarray([True, False, True])) == 0
    assert_close(ece(jnp.zeros((4, 4)), jnp.asarray([0, 1, 2, 3])), 0)  # right once in four, and says so


# R²


def test_linear_regression_on_diabetes():
    x, t = load_diabetes(return_X_y=True)
    p = LinearRegression().fit(x, t).predict(x)
    assert_close(r2(p.astype(np.float32), t.astype(np.float32)), 0.517748)
    assert_close(r2(p.astype(np.float32), t.astype(np.int32)), 0.517748)


def test_r2_far_from_0():
    """Targets of 4096 ± 1: the formula by Σ t² - n mean² has lost all digits there in float32."""
    rng = np.random.default_rng(0)
    t = (4096 + rng.integers(-64, 65, 10_000) / 64).astype(np.float32)
    p = (t + rng.integers(-32, 33, 10_000) / 64).astype(np.float32)
    assert_close(r2(p, t), sk.r2_score(t.astype(float), p.astype(float)))


@pytest.mark.slow
def test_r2_of_outputs_constants_and_one_example():
    t = jnp.asarray([[1.0, 0.1], [2.0, 0.1], [4.0, 0.1]])
    assert jnp.isnan(r2(t, t))  # the second output has no spread
    assert jnp.isnan(r2(t + 1, t))
    assert r2(t[:, :1], t[:, :1]) == r2(t[:, 0], t[:, 0]) == 1
    assert_close(r2(jnp.full(3, 7 / 3), t[:, 0]), 0.0, scale=1.0)
    assert jnp.isnan(r2(t[:1, 0], t[:1, 0]))
    assert jnp.isnan(r2(t[:1, 0] + 1, t[:1, 0]))
    assert jnp.isnan(r2(t[:, 0], t[:, 0], where=jnp.asarray([False, True, False])))
    assert jnp.isnan(r2(t[:, 0].at[0].set(NAN), t[:, 0]))
    assert r2(t[:, 0].at[0].set(INF), t[:, 0]) == -INF
    assert jnp.isnan(r2(t[:, 0], t[:, 0].at[0].set(NAN)))
    cube = jnp.arange(24.0).reshape(4, 3, 2) ** 2
    flat = np.asarray(cube.reshape(4, 6))
    assert_close(r2(cube + 5, cube), sk.r2_score(flat, flat + 5))


def test_errors_of_r2():
    x = jnp.zeros((3, 2))
    for p, t, kind, message in (
        (
            x,
            x[:, :1],
            ValueError,
            "prediction and target of equal shape, got float32[3, 2] and float32[3, 1]. "
            "Nothing is broadcast: reshape one of them.",
        ),
        (
            x.astype(int),
            x,
            TypeError,
            "prediction of a floating dtype, got int32[3, 2]. Cast it: jnp.asarray(x, jnp.float32).",
        ),
        (x, x.astype(jnp.complex64), TypeError, "target of a real dtype, got complex64[3, 2]."),
        (x, [1.0], TypeError, "target of a real dtype, got [1.0]."),
        (
            x[0, 0],
            x[0, 0],
            ValueError,
            "prediction of shape [n, ...], got float32[]. The first axis holds the examples.",
        ),
    ):
        assert message_of(r2, p, t) == (kind, f"r2: expected {message}")
