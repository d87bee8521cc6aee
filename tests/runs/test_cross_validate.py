"""Folds against scikit-learn's, runs against each fold by itself, scores over exactly its examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from sklearn.model_selection import KFold, StratifiedKFold

import jaxnn as nn

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
N = 23
X = RNG.normal(size=(N, 3)).astype(np.float32)
Y = RNG.permutation(np.repeat([4, 7, 9], [12, 7, 4]))


def seen(key, train, x):
    """For each example of x: itself, the sum and number of what it was trained on."""
    count = jnp.full(len(x), len(train[0]), jnp.int32)
    return {"x": x, "sum": jnp.broadcast_to(train[0].sum(0)[None], x.shape), "count": count}


def share(predictions, y):
    assert isinstance(predictions["x"], np.ndarray)
    return {"rows": len(y), "sum": predictions["x"].sum()}


def folded(y=Y, n=N, **how):
    x = np.arange(float(n), dtype=np.float32)[:, None]
    return nn.cross_validate(seen, KEY, (x, y), share, **how)


def by_class(fold, y, folds):
    """For each class, how many examples the folds have of it, in order of size."""
    return [sorted(np.bincount(fold[y == c], minlength=folds).tolist()) for c in np.unique(y)]


@pytest.mark.parametrize(("n", "folds"), [(23, 2), (23, 5), (20, 5), (23, 10), (23, 23)])
@pytest.mark.filterwarnings("ignore:The least populated class")
@pytest.mark.slow
def test_folds_are_those_of_scikit_learn_up_to_order(n, folds):
    y = np.arange(n) % 2 if folds == 23 else Y[:n]
    stratified = folds < 23
    found = folded(y, n, folds=folds, stratified=stratified)
    theirs = np.empty(n, int)
    for i, (_, rows) in enumerate((StratifiedKFold if stratified else KFold)(folds).split(np.zeros(n), y)):
        theirs[rows] = i
    assert found.fold.shape == (n,)
    assert sorted(np.bincount(found.fold).tolist()) == sorted(np.bincount(theirs).tolist())
    if stratified:
        assert by_class(found.fold, y, folds) == by_class(theirs, y, folds)


@pytest.mark.parametrize("folds", [2, 5, 10])
def test_every_example_is_held_out_once_and_nothing_is_trained_on_what_it_predicts(folds):
    found = folded(folds=folds)
    assert isinstance(found, nn.runs.CrossValidation)
    assert found.predictions["x"][:, 0].tolist() == list(range(N))
    size = -(-N // folds)
    assert set(found.predictions["count"].tolist()) == {N - size}
    for i in range(folds):
        held = np.flatnonzero(found.fold == i)
        others = np.arange(N)[found.fold != i].sum()
        left_out = others - found.predictions["sum"][held, 0]
        assert len(set(left_out.tolist())) == 1
        if len(held) == size:
            assert left_out[0] == 0
        else:  # one example more is left out, and it is one of the others
            assert found.fold[int(left_out[0])] != i


def test_scores_are_of_exactly_the_examples_of_a_fold():
    found = folded(folds=5)
    rows = [np.flatnonzero(found.fold == i) for i in range(5)]
    assert found.scores["rows"].tolist() == [len(r) for r in rows]
    assert found.scores["sum"].tolist() == [r.sum() for r in rows]
    assert found.mean["sum"] == pytest.approx(np.mean([r.sum() for r in rows]))
    assert found.std["sum"] == pytest.approx(np.std([r.sum() for r in rows]))


def test_another_key_deals_anew_and_the_same_key_the_same():
    a, b = folded(folds=5), folded(folds=5)
    np.testing.assert_array_equal(a.fold, b.fold)
    x = np.arange(float(N), dtype=np.float32)[:, None]
    other = nn.cross_validate(seen, jax.random.key_data(jax.random.key(1)), (x, Y), share, folds=5)
    assert not np.array_equal(a.fold, other.fold)


@pytest.mark.parametrize("strategy", ["map", "vmap"])
@pytest.mark.slow
def test_a_fold_is_the_run_alone(strategy):
    model = nn.serial(nn.dense(4), nn.tanh, nn.dense(10))
    traces = []

    def run(key, train, x):
        traces.append(key)
        trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, nn.adam(0.1))
        return nn.predict(model, *nn.fit(trainer, key, train, epochs=3, batch_size=4).best, x)

    for _ in range(2):
        found = nn.cross_validate(run, KEY, (X, Y), nn.metrics.accuracy, folds=4, strategy=strategy)
        assert len(traces) == 1
    assert (found.sweep.strategy, found.predictions.shape) == (strategy, (N, 10))
    for i in range(4):
        rows, held = (np.asarray(found.sweep.points[name][i]) for name in ("train", "held"))
        assert set(rows).isdisjoint(held)
        alone = jax.jit(run)(found.sweep.points["key"][i], (X[rows], Y[rows]), X[held])
        mine = np.flatnonzero(found.fold == i)
        assert_close(found.predictions[mine], np.asarray(alone)[: len(mine)], scale=1.0)
        assert_close(found.scores[i], np.mean(found.predictions[mine].argmax(-1) == Y[mine]), dtype=np.float32)


def test_targets_may_be_numbers_and_data_trees():
    y = {"near": X[:, :1], "far": X[:, 1:]}
    found = nn.cross_validate(
        lambda key, train, x: x["a"] + jnp.mean(train[1]["near"]),
        KEY,
        ({"a": X[:, :1]}, y),
        lambda p, y: np.mean((p - y["near"]) ** 2),
        folds=3,
        stratified=False,
    )
    means = [np.mean((found.predictions - y["near"])[found.fold == i] ** 2) for i in range(3)]
    assert_close(found.scores, means)


DATA = (X, Y)


def test_weights_go_to_the_runs_and_to_the_score():
    x, w = np.arange(float(N), dtype=np.float32)[:, None], np.linspace(0, 1, N, dtype=np.float32)

    def run(key, train, x):
        return jnp.broadcast_to(train[2].sum(), len(x))

    def score(predictions, y, weights):
        assert_close(predictions, np.full(len(y), w.sum() - weights.sum()))
        return {"weight": weights.sum()}

    found = nn.cross_validate(run, KEY, (x, Y, w), score, folds=23, stratified=False)
    assert_close(found.scores["weight"].sum(), w.sum())


ERRORS = {
    "run": (
        (3, KEY, DATA, share),
        {},
        TypeError,
        "cross_validate: expected run to be a function, got 3.",
    ),
    "score": (
        (seen, KEY, DATA, "accuracy"),
        {},
        TypeError,
        "cross_validate: expected score to be a function, got 'accuracy'.",
    ),
    "data": (
        (seen, KEY, X, share),
        {},
        TypeError,
        "cross_validate: expected data to be (x, y) or (x, y, weights), got float32[23, 3].",
    ),
    "a score without weights": (
        (seen, KEY, (X, Y, np.ones(N)), share),
        {},
        TypeError,
        "cross_validate: expected score to be a function that knows the weights of the data, got the function share. "
        "Give it the parameter weights=, as the metrics of nn have it.",
    ),
    "lengths": (
        (seen, KEY, (X[1:], Y), share),
        {},
        ValueError,
        "cross_validate: expected data to have as many examples in every array, and at least one, "
        "got (float32[22, 3], int64[23]).",
    ),
    "many folds": (
        (seen, KEY, DATA, share),
        {"folds": 24},
        ValueError,
        "cross_validate: expected folds to be an integer >= 2 and <= 23, got 24. There are 23 examples.",
    ),
    "float labels": (
        (seen, KEY, (X, X[:, 0]), share),
        {},
        TypeError,
        "cross_validate: expected y to be one array of labels, integers [n], got float32[23]. "
        "For other targets pass stratified=False.",
    ),
    "key": (
        (seen, 0, DATA, share),
        {},
        TypeError,
        "cross_validate: expected a key, as jax.random.key(0) makes it, got 0. Pass jax.random.key(0).",
    ),
    "predictions": (
        (lambda key, train, x: x[1:], KEY, DATA, share),
        {"folds": 5},
        ValueError,
        "cross_validate: expected run to predict for the 5 examples of x, [5, ...], got float32[4, 3].",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    args, how, kind, text = ERRORS[case]
    with pytest.raises(kind) as excinfo:
        nn.cross_validate(*args, **how)
    assert str(excinfo.value) == text


def test_under_a_trace():
    with pytest.raises(TypeError) as excinfo:
        jax.jit(lambda x: nn.cross_validate(seen, KEY, (x, Y), share).scores)(X)
    assert str(excinfo.value) == (
        "cross_validate: expected concrete arrays, got a traced float32[23, 3]. Call it outside of jit, vmap and grad."
    )
