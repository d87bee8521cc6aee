"""Confusion, precision, recall, F1 and IoU against scikit-learn: every average, absent classes, 0 / 0, real data."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics as sk
from _close import assert_close
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale

from jaxnn.metrics import accuracy, confusion_matrix, f1, iou, precision, recall

NAN = np.nan
PEERS = {f1: sk.f1_score, precision: sk.precision_score, recall: sk.recall_score, iou: sk.jaccard_score}
ratios = pytest.mark.parametrize("f", PEERS, ids=lambda f: f.__name__)


@cache
def jitted(f, k, average):
    return jax.jit(partial(f, num_classes=k, average=average))


@cache
def real(load):
    """Labels and predictions of a logistic regression on held-out examples, trained on 60."""
    x, y = load(return_X_y=True)
    x, x_test, y, y_test = train_test_split(scale(x), y, train_size=60, random_state=0)
    return LogisticRegression().fit(x, y).predict(x_test), y_test


@ratios
@pytest.mark.parametrize("average", [None, "macro", "micro", "weighted"])
@pytest.mark.slow
def test_digits(f, average):
    p, y = real(load_digits)
    assert 0.5 < (p == y).mean() < 0.95
    assert_close(jitted(f, 10, average)(p, y), PEERS[f](y, p, average=average))


@ratios
@pytest.mark.slow
def test_breast_cancer(f):
    p, y = real(load_breast_cancer)
    value = jitted(f, 2, "binary")(p, y)
    assert_close(value, PEERS[f](y, p))
    assert f(p == 1, y == 1) == value


@pytest.mark.slow
def test_confusion_of_real_predictions():
    for load, k in ((load_digits, 10), (load_breast_cancer, 2)):
        p, y = real(load)
        assert (np.asarray(confusion_matrix(p, y, k)) == sk.confusion_matrix(y, p)).all()


@ratios
@pytest.mark.parametrize("average", [None, "macro", "micro", "weighted"])
@pytest.mark.slow
def test_small_sets_with_absent_classes(f, average):
    """12 sets of 5 examples of 6 classes: all kinds of 0 / 0."""
    rng = np.random.default_rng(5)
    p, y = rng.integers(0, 6, (2, 12, 5)) // rng.integers(1, 4, (2, 12, 1))
    of_zero = (
        (lambda z, p, y: f(p, y, 6, average=average))
        if f is iou
        else (lambda z, p, y: f(p, y, 6, average=average, zero_division=z))
    )
    zeros = np.asarray([NAN] if f is iou else [0.0, 1.0, NAN])  # iou leaves no choice: NaN alone, out of every mean
    value = jax.jit(jax.vmap(jax.vmap(of_zero, (None, 0, 0)), (0, None, None)))(zeros, p, y)
    labels = range(6) if average is None else None
    for i, zero in enumerate(zeros):
        want = []
        for p_j, y_j in zip(p, y, strict=True):
            one = PEERS[f](y_j, p_j, average=average, labels=labels, zero_division=0.0 if f is iou else zero)
            absent = ~np.isin(range(6), [*p_j, *y_j])
            want.append(np.where(absent, NAN, one) if f is iou and average is None else one)
        assert_close(value[i], want)


@pytest.mark.slow
def test_worked_by_hand():
    y = jnp.asarray([0, 0, 0, 1, 1, 2])
    p = jnp.asarray([0, 0, 1, 1, 2, 0])
    assert confusion_matrix(p, y, 4).tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert_close(precision(p, y, 4, average=None), [2 / 3, 1 / 2, 0, 0])
    assert_close(precision(p, y, 4, average=None, zero_division=NAN), [2 / 3, 1 / 2, 0, NAN])
    assert_close(recall(p, y, 4, average=None), [2 / 3, 1 / 2, 0, 0])
    assert_close(f1(p, y, 4, average="macro"), (2 / 3 + 1 / 2 + 0) / 3)
    assert_close(iou(p, y, 4, average=None), [2 / 4, 1 / 3, 0, NAN])
    assert_close(iou(p, y, 4, average="macro"), (1 / 2 + 1 / 3) / 3)
    assert_close(recall(p, y, 4, average="micro"), accuracy(jax.nn.one_hot(p, 4), y))


@ratios
@pytest.mark.slow
def test_one_class_alone(f):
    empty, full = jnp.zeros(3, bool), jnp.ones(3, bool)
    assert f(full, full) == 1
    assert f(empty, full) == f(full, empty) == 0
    assert jnp.isnan(f(empty, empty)) if f is iou else f(empty, empty) == 0
    assert f(empty, empty, average="macro") == f(empty, empty, average="micro") == 1
    if f is not iou:
        assert f(empty, empty, zero_division=1.0) == 1
        assert jax.jit(lambda z: f(empty, empty, zero_division=z))(0.5) == 0.5


@ratios
@pytest.mark.slow
def test_class_numbers_out_of_range_are_nan(f):
    y = jnp.asarray([0, 1, 2, 1])
    for bad in (-1, 3, 255, 2**31 - 1):
        for average in (None, "macro", "micro", "weighted"):
            assert jnp.isnan(jitted(f, 3, average)(y.at[1].set(bad), y)).all()
            assert jnp.isnan(jitted(f, 3, average)(y, y.at[1].set(bad))).all()
    ignored = y.at[1].set(255)
    assert f(y, ignored, 3, average="macro", where=ignored != 255) == 1
    assert jnp.isnan(confusion_matrix(y, ignored, 3)).all()
    assert confusion_matrix(y, ignored, 3, where=ignored != 255).sum() == 3


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint32", "int64", "uint64"])
@pytest.mark.slow
def test_every_integer_dtype(dtype):
    with jax.enable_x64("64" in dtype):
        p = jnp.asarray([0, 126, 127, 5], dtype)
        y = jnp.asarray([0, 127, 127, 5], dtype)
        matrix = confusion_matrix(p, y, 300)
        assert matrix.dtype == jnp.float32
        assert matrix.sum() == 4
        assert (matrix[127, 126], matrix[127, 127], matrix[5, 5]) == (1, 1, 1)
        if "64" in dtype:
            assert jnp.isnan(confusion_matrix(p.at[0].set(2**32), y, 300)).all()


def test_counts_above_the_integers_of_float32():
    """2^24 + 2 examples in a cell: summed one by one in float32 they would stay at 2^24."""
    n = 2**24 + 2
    zeros = jnp.zeros(n, jnp.int8)
    assert jax.jit(partial(confusion_matrix, num_classes=1))(zeros, zeros).item() == n


@pytest.mark.slow
def test_maps_of_any_shape_and_sums_of_batches():
    rng = np.random.default_rng(0)
    p, y = rng.integers(0, 3, (2, 4, 5, 6))
    matrix = confusion_matrix(p, y, 3)
    assert (np.asarray(matrix) == sk.confusion_matrix(y.ravel(), p.ravel())).all()
    assert (matrix == jax.vmap(partial(confusion_matrix, num_classes=3))(p, y).sum(0)).all()
    diagonal = np.diag(matrix)
    assert_close(iou(p, y, 3, average=None), diagonal / (matrix.sum(0) + matrix.sum(1) - diagonal))
    labels = jax.vmap(partial(f1, average="binary"), in_axes=1)(p.reshape(-1, 6) > 0, y.reshape(-1, 6) > 0)
    assert_close(labels, sk.f1_score(y.reshape(-1, 6) > 0, p.reshape(-1, 6) > 0, average=None))


# Errors

DECIDE = "Scores are decided first: jnp.argmax(logits, axis=-1), or logits > 0 for two classes."


@pytest.mark.parametrize("f", [*PEERS, confusion_matrix], ids=lambda f: f.__name__)
def test_errors_of_inputs(f):
    i3, options = jnp.zeros(3, jnp.int32), {} if f is confusion_matrix else {"average": "macro"}
    for p, y, k, kind, message in (
        (
            jnp.zeros(3),
            i3,
            3,
            TypeError,
            f"prediction of an integer or boolean dtype, got float32[3]. {DECIDE}",
        ),
        (
            i3,
            jnp.zeros((3, 2)),
            3,
            TypeError,
            "labels of an integer or boolean dtype, got float32[3, 2]. One-hot labels are decided by jnp.argmax.",
        ),
        (
            i3[:, None],
            i3,
            3,
            ValueError,
            "prediction and labels of equal shape, got int32[3, 1] and int32[3]. "
            "Nothing is broadcast: reshape one of them.",
        ),
    ):
        with pytest.raises(kind) as caught:
            f(p, y, k, **options)
        assert str(caught.value) == f"{f.__name__}: expected {message}"


@ratios
def test_errors_of_averages(f):
    i3 = jnp.zeros(3, jnp.int32)
    for average, k, message in (
        ("binary", 3, "num_classes of 2 for average='binary', got 3. Choose average='macro' or another."),
    ):
        with pytest.raises(ValueError) as caught:
            f(i3, i3, k, average=average)
        assert str(caught.value) == f"{f.__name__}: expected {message}"
