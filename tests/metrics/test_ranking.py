"""ROC AUC and average precision against scikit-learn, on real scores, ties and edges; other rankings by hand."""

from functools import cache

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

from jaxnn.metrics import pr_auc, recall_at_k, retrieval_average_precision, roc_auc

NAN, INF = np.nan, np.inf
PEERS = {roc_auc: sk.roc_auc_score, pr_auc: sk.average_precision_score}
areas = pytest.mark.parametrize("f", PEERS, ids=lambda f: f.__name__)


@cache
def real(load):
    """Held-out probabilities of a logistic regression, float32, and labels."""
    x, y = load(return_X_y=True)
    x, x_test, y, y_test = train_test_split(scale(x), y, train_size=60, random_state=0)
    return LogisticRegression().fit(x, y).predict_proba(x_test).astype(np.float32), y_test


@areas
@pytest.mark.slow
def test_breast_cancer(f):
    p, y = real(load_breast_cancer)
    area = jax.jit(f)
    for digits in (8, 2, 1):  # rounded, most scores tie
        s = p[:, 1].round(digits)
        assert_close(area(s, y), PEERS[f](y, s))
        assert_close(area(-s, y == 0), PEERS[f](y == 0, -s))


@areas
def test_digits_one_against_the_rest(f):
    p, y = real(load_digits)
    one_hot = np.eye(10, dtype=np.int32)[y]
    each = jax.jit(jax.vmap(f, in_axes=1))(p, one_hot)
    assert_close(each, [PEERS[f](one_hot[:, k], p[:, k]) for k in range(10)])
    assert_close(each.mean(), PEERS[f](one_hot, p, average="macro"))


def test_worked_by_hand():
    s, y = jnp.asarray([4.0, 3.0, 3.0, 2.0, 1.0]), jnp.asarray([1, 0, 1, 0, 1])
    # pairs won of 3 * 2: 4 beats both, 3 beats one and ties with one, 1 beats none
    assert_close(roc_auc(s, y), 3.5 / 6)
    # thresholds 4, 3, 2, 1: recall 1/3, 2/3, 2/3, 1 at precision 1, 2/3, 2/4, 3/5
    assert_close(pr_auc(s, y), 1 / 3 * 1 + 1 / 3 * 2 / 3 + 1 / 3 * 3 / 5)


@areas
@pytest.mark.slow
def test_extremes(f):
    s = jnp.asarray([INF, 1e4, 0.0, -0.0, -1e4, -INF])
    y = np.asarray([1, 1, 0, 1, 0, 0])
    finite = np.asarray([9, 2, 0, 0, -2, -9])
    assert_close(f(s, y), PEERS[f](y, finite))
    assert_close(f(s, y[::-1].copy()), PEERS[f](y[::-1], finite))
    assert_close(f(jnp.zeros(6), y), 0.5)  # knows nothing
    assert_close(f(jnp.full(6, INF), y), 0.5)
    assert_close(f(jnp.full(6, -INF), y), 0.5)
    assert f(s, jnp.asarray([1, 1, 1, 0, 0, 0])) < 1  # 0 and -0 tie
    assert f(s, jnp.asarray([1, 1, 0, 0, 0, 0])) == 1


@areas
@pytest.mark.slow
def test_one_class_nan_and_other_labels(f):
    s = jnp.arange(4.0)
    assert jnp.isnan(f(s, jnp.zeros(4, bool)))
    ones = f(s, jnp.ones(4, bool))
    assert jnp.isnan(ones) if f is roc_auc else ones == 1
    y = jnp.asarray([0, 1, 0, 1])
    for i in range(4):
        assert jnp.isnan(f(s.at[i].set(NAN), y))
        for bad in (-1, 2, 2**31 - 1):
            assert jnp.isnan(f(s, y.at[i].set(bad)))


@areas
@pytest.mark.slow
def test_many(f):
    """10^5 scores of which one in a hundred is positive: sums stay exact to the tolerance."""
    rng = np.random.default_rng(0)
    y = rng.uniform(size=100_000) < 0.01
    s = (rng.normal(size=100_000) + y).astype(np.float32)
    w = rng.uniform(size=100_000).astype(np.float32)
    assert_close(jax.jit(f)(s, y), PEERS[f](y, s))
    assert_close(jax.jit(f)(s, y, weights=w), PEERS[f](y, s, sample_weight=w))


@pytest.mark.slow
def test_the_trapezoid_is_another_area():
    p, y = real(load_breast_cancer)
    s = p[:, 1].round(1)
    precision, recall, _ = sk.precision_recall_curve(y, s)
    assert sk.auc(recall, precision) > pr_auc(s, y) + 1e-4


# Recall at k


@pytest.mark.slow
def test_recall_at_k_worked_by_hand():
    s = jnp.asarray(
        [
            [9, 5, 4, 3, 2],
            [5, 9, 4, 3, 2],
            [1, 2, 9, 2, 1],
            [2, 2, 2, 2, 2],
            [4, 3, 2, 1, 0],
        ],
        jnp.float32,
    )
    y = jnp.asarray([0, 1, 0, 1, 7])  # no other 7: left out of the mean
    # places of the nearest of one's own: 2 of [1, 2, 3, 4]; 3 is second of [0, 2, 3, 4] after two; ties: the first
    assert_close(recall_at_k(s, y, 1), 0 / 4)
    assert_close(recall_at_k(s, y, 2), 2 / 4)  # rows 0 and 3 (tied with 0, which comes first)
    assert_close(recall_at_k(s, y, 3), 4 / 4)  # row 1: 3 is third; row 2: 0 comes after 1 and 3
    assert_close(recall_at_k(s, y, 99), 1)
    assert jnp.isnan(recall_at_k(s, jnp.arange(5), 1))
    assert_close(recall_at_k(s, y, 2, where=jnp.asarray([True, False, True, True, True])), 1)  # of rows 0 and 2
    assert_close(recall_at_k(s.at[0, 4].set(NAN), y, 3), 3 / 4)
    assert_close(recall_at_k(s.at[0, 0].set(NAN), y, 3), 1)  # itself never counts
    assert_close(recall_at_k(s, y == 0, 2), 3 / 5)  # rows 0, 3 and 4


def test_recall_at_k_of_infinite_similarities():
    y = jnp.asarray([0, 1, 0])
    assert recall_at_k(jnp.full((3, 3), -INF), y, 1) == 0.5  # row 2 has 0 first
    assert recall_at_k(jnp.full((3, 3), INF), y, 1) == 0.5
    assert recall_at_k(jnp.full((3, 3), INF).at[:, 1].set(-INF), y, 1) == 1


def test_recall_at_1_is_leave_one_out_nearest_neighbour():
    from sklearn.neighbors import NearestNeighbors

    x, y = load_digits(return_X_y=True)
    x, y = x[:400], y[:400]
    _, near = NearestNeighbors(n_neighbors=6).fit(x).kneighbors()  # of the points themselves, without them
    d = ((x[:, None] - x[None, :]) ** 2).sum(-1)
    value = jax.jit(recall_at_k, static_argnums=2)
    for k in (1, 5):
        assert_close(value(-d.astype(np.float32), y, k), (y[near[:, :k]] == y[:, None]).any(1).mean())


# Errors


@areas
def test_errors(f):
    name, s, y = f.__name__, jnp.zeros(3), jnp.zeros(3, jnp.int32)
    for scores, labels, kind, message in (
        (y, y, TypeError, "scores of a floating dtype, got int32[3]. Cast it: jnp.asarray(x, jnp.float32)."),
        (
            s,
            s,
            TypeError,
            "labels of an integer or boolean dtype, got float32[3]. They are booleans, or 0 and 1.",
        ),
        (
            s,
            y[:, None],
            ValueError,
            "scores and labels of equal shape, got float32[3] and int32[3, 1]. "
            "Nothing is broadcast: reshape one of them.",
        ),
        (
            s[:, None],
            y[:, None],
            ValueError,
            f"scores of shape [n], got float32[3, 1]. Map over other axes: jax.vmap({name}, in_axes=1).",
        ),
    ):
        with pytest.raises(kind) as caught:
            f(scores, labels)
        assert str(caught.value) == f"{name}: expected {message}"


def test_errors_of_recall_at_k():
    s, y = jnp.zeros((3, 3)), jnp.zeros(3, jnp.int32)
    for args, kind, message in (
        (
            (s[:2], y, 1),
            ValueError,
            "similarity of shape [n, n], got float32[2, 3]. For embeddings e, [n, d], pass e @ e.T.",
        ),
        (
            (s.astype(jnp.int32), y, 1),
            TypeError,
            "similarity of a floating dtype, got int32[3, 3]. Cast it: jnp.asarray(x, jnp.float32).",
        ),
        ((s, y[:2], 1), ValueError, "labels of shape [3], one for each row, got int32[2]. Nothing is broadcast."),
        ((s, s, 1), TypeError, "labels of an integer or boolean dtype, got float32[3, 3]. They are class numbers."),
    ):
        with pytest.raises(kind) as caught:
            recall_at_k(*args)
        assert str(caught.value) == f"recall_at_k: expected {message}"


def test_retrieval_average_precision_worked_by_hand():
    relevant = jnp.asarray([[1, 0, 1], [0, 0, 0], [0, 1, 1], [0, 0, 0]])
    total = jnp.asarray([2, 1, 4, 0])  # the last query has nothing to find
    assert_close(retrieval_average_precision(relevant, total), ((1 + 2 / 3) / 2 + 0 + (1 / 2 + 2 / 3) / 4) / 3)
    assert_close(retrieval_average_precision(relevant == 1, total, weights=jnp.asarray([1, 0, 0, 3])), 5 / 6)
    assert jnp.isnan(retrieval_average_precision(relevant, jnp.zeros(4, jnp.int32)))
    assert jnp.isnan(retrieval_average_precision(2 * relevant, total))


def test_retrieval_average_precision_of_whole_rankings_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    scores, y = rng.permuted(np.tile(np.arange(30.0), (6, 1)), axis=1), rng.integers(0, 2, (6, 30))
    relevant = np.take_along_axis(y, np.argsort(-scores, axis=1), axis=1)
    want = np.mean([sk.average_precision_score(*row) for row in zip(y, scores, strict=True)])
    assert_close(retrieval_average_precision(relevant, y.sum(1)), want)


def test_errors_of_retrieval_average_precision():
    for args, message in (
        ((jnp.ones(3, bool), 1), "relevant of shape [n, k], got bool[3]."),
        (
            (jnp.ones((2, 3)), jnp.ones(2, jnp.int32)),
            "relevant of an integer or boolean dtype, got float32[2, 3]. They are booleans, or 0 and 1.",
        ),
        (
            (jnp.ones((2, 3), bool), jnp.ones(3, jnp.int32)),
            "total of shape [2], one for each query, got int32[3]. Nothing is broadcast.",
        ),
    ):
        with pytest.raises((TypeError, ValueError)) as caught:
            retrieval_average_precision(*args)
        assert str(caught.value) == f"retrieval_average_precision: expected {message}"
