"""Facts about data against loops and scikit-learn."""

import numpy as np
import pytest
from sklearn.feature_selection import f_classif

from jaxnn.diagnosis import class_fractions, determination, duplicates

RNG = np.random.default_rng(0)
ROWS = RNG.integers(0, 3, size=(40, 3))


def test_duplicates_are_those_of_a_loop():
    train, valid = ROWS[:25], ROWS[25:]
    known = [i for i, row in enumerate(valid) if any((row == other).all() for other in train)]
    assert duplicates(train, valid).tolist() == known
    assert 0 < len(known) < 15
    tree = {"a": valid[:, :1], "b": valid[:, 1:]}
    assert duplicates({"a": train[:, :1], "b": train[:, 1:]}, tree).tolist() == known
    with pytest.raises(ValueError, match="duplicates: expected train and valid with examples of equal shape and dtype"):
        duplicates(train, valid[:, :2])


FRACTIONS = {
    "labels": (np.array([0, 2, 2, 2]), None, [0.25, 0, 0.75]),
    "weights": (np.array([0, 1, 1]), np.array([2.0, 1.0, 1.0]), [0.5, 0.5]),
    "binary column": (np.float32([[0], [1]]), None, [0.5, 0.5]),
    "regression": (np.float32([0.5, 1.0]), None, None),
    "images": (np.zeros((2, 3, 3), np.int32), None, None),
    "a tree": ({"a": np.zeros(2)}, None, None),
}


@pytest.mark.parametrize("case", FRACTIONS)
def test_fractions_of_classes(case):
    y, weights, known = FRACTIONS[case]
    found = class_fractions(y, weights)
    assert found is known or found.tolist() == known


def test_determination_is_that_of_an_analysis_of_variance():
    y = RNG.integers(0, 3, 50)
    x = RNG.normal(size=(50, 4)) + y[:, None] * [0.0, 0.1, 1.0, 5.0]
    f = f_classif(x, y)[0]  # F = η² / (1 - η²) (n - k) / (k - 1)
    np.testing.assert_allclose(determination(x, y), f / (f + 47 / 2), rtol=1e-10)
