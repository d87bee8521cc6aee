"""Under- and overfitting from histories that are known, and a learning curve against single runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diagnosis._nets import KEY, TARGET, X, regressor

import jaxnn as nn
from jaxnn._keys import split
from jaxnn.diagnosis import LearningCurve, fitted, learning_curve
from jaxnn.diagnosis._curves import limited

TRAINER = regressor(nn.adam(0.01))
RUN = nn.fit(TRAINER, KEY, (X, TARGET), (X, TARGET), epochs=5)

# losses of training and validation by epoch, loss of the best constant, findings
HISTORIES = {
    "healthy": ([1.0, 0.5, 0.3, 0.2, 0.19], [1.0, 0.5, 0.35, 0.3, 0.295], 1.0, []),
    "overfitting": ([1.0, 0.5, 0.3, 0.2, 0.1], [1.0, 0.6, 0.7, 0.8, 0.9], 1.0, ["overfitting"]),
    "both rise": ([1.0, 0.5, 0.6, 0.7, 0.9], [1.0, 0.5, 0.6, 0.8, 0.9], 1.0, []),
    "underfitting": ([1.0, 0.99, 0.98, 0.97, 0.97], [1.0, 0.99, 0.98, 0.97, 0.97], 1.0, ["underfitting"]),
    "unknown constant": ([1.0, 0.99, 0.98, 0.97, 0.97], [1.0, 0.99, 0.98, 0.97, 0.97], np.nan, []),
    "still falling": ([1.0, 0.9, 0.8, 0.7, 0.6], [1.0, 0.9, 0.8, 0.7, 0.6], 1.0, ["stopped early"]),
}


@pytest.mark.parametrize("case", HISTORIES)
def test_histories(case):
    train, valid, constant, known = HISTORIES[case]
    history = {"train": {"loss": jnp.float32(train)[:, None]}, "valid": {"loss": jnp.float32(valid)}}
    found = fitted(RUN._replace(history=history), constant)
    assert [finding.name for finding in found] == known


def test_a_failed_run_and_a_run_without_validation():
    assert [f.name for f in fitted(RUN._replace(failed=jnp.int32(3)))] == ["non-finite step"]
    assert fitted(RUN._replace(history={"train": RUN.history["train"]})) == ()


@pytest.mark.slow
def test_a_learning_curve_is_that_of_runs_on_the_parts():
    how = {"epochs": 20, "batch_size": 8}
    train, valid = (X[:64], TARGET[:64]), (X[64:], TARGET[64:])
    found = jax.jit(lambda key: learning_curve(TRAINER, key, train, valid, sizes=[8, 64], **how))(KEY)
    assert isinstance(found, LearningCurve)
    order_key, run_key = split(KEY)
    order = jax.random.permutation(order_key, 64)
    for i, size in enumerate((8, 64)):
        rows = np.tile(order[:size], 64 // size)
        run = nn.fit(TRAINER, run_key, (X[rows], TARGET[rows]), (X[64:], TARGET[64:]), **how)
        np.testing.assert_allclose(found.valid[i], run.best_value, rtol=1e-4)
    assert found.valid[1] < found.valid[0]
    assert found.train[0] < found.valid[0]


@pytest.mark.slow
def test_folds_take_turns_as_validation_data():
    how, n, held = {"epochs": 5, "batch_size": 8}, 65, 21
    x, y = X[:n], TARGET[:n]
    found = learning_curve(TRAINER, KEY, (x, y), sizes=[16, n - held], folds=3, **how)
    assert found.train.shape == found.valid.shape == (2, 3)
    order_key, run_key = split(KEY)
    order = np.asarray(jax.random.permutation(order_key, n))
    parts = order[:held], order[held : 2 * held], order[2 * held : 3 * held]
    assert len(np.unique(np.concatenate(parts))) == 3 * held
    for fold, rows in enumerate(parts):
        rest = np.concatenate([order[(fold + 1) * held :], order[: fold * held]])
        run = nn.fit(TRAINER, run_key, (x[rest], y[rest]), (x[rows], y[rows]), **how)
        np.testing.assert_allclose(found.valid[1, fold], run.best_value, rtol=1e-4)


WRONG = {
    "a size": ({"sizes": [97]}, r"expected each of sizes to be an integer >= 1 and <= 96, got 97"),
    "a size beside folds": ({"valid": None, "sizes": [90]}, r"expected each of sizes to be an integer >= 1 and <= 77"),
    "one fold": ({"valid": None, "sizes": [9], "folds": 1}, r"expected folds to be an integer >= 2 and <= 96, got 1"),
    "folds and valid": ({"sizes": [9], "folds": 3}, r"expected folds without valid, got 3. With folds"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls_of_a_learning_curve(case):
    changed, text = WRONG[case]
    with pytest.raises(ValueError, match=f"learning_curve: {text}"):
        learning_curve(TRAINER, KEY, (X, TARGET), **{"valid": (X, TARGET), "epochs": 1} | changed)


# training and validation losses of two sizes, hints
CURVES = {
    "falls": ([0.1, 0.1], [0.5, 0.4], ["more data"]),
    "both equal": ([0.5, 0.5], [0.52, 0.51], ["larger model"]),
    "falls to the training loss": ([0.4, 0.4], [0.5, 0.4], []),
    "memorised, but no more to learn": ([0.1, 0.1], [0.5, 0.5], []),
    "folds": ([[0.1, 0.1], [0.1, 0.1]], [[0.4, 0.6], [0.3, 0.5]], ["more data"]),
    "one size": ([0.1], [0.5], []),
    "a failed run": ([0.1, 0.1], [0.5, np.nan], []),
}


@pytest.mark.parametrize("case", CURVES)
def test_hints_from_a_curve(case):
    train, valid, known = CURVES[case]
    curve = LearningCurve(np.array([100, 200])[: len(train)], np.array(train), np.array(valid))
    assert [hint.name for hint in limited(curve)] == known
