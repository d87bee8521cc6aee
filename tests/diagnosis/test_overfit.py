"""A sample is fitted, and one with contradictions is not."""

import jax
import numpy as np
import pytest
from diagnosis._nets import CE, KEY, X, Y, mlp

import jaxnn as nn
from jaxnn.diagnosis import Overfit, overfit_sample

CASES = {"eight examples": (X[:8], True), "equal inputs": (np.repeat(X[:1], 8, 0), False)}


@pytest.mark.parametrize("case", CASES)
def test_a_sample_is_fitted_unless_it_contradicts_itself(case):
    x, fits = CASES[case]
    trainer = nn.trainer(mlp(), CE, nn.adam(0.03))
    sample = x, np.int32([0, 1, 2, 0, 1, 2, 0, 1])
    assert len(set(Y)) == 3
    found = jax.jit(lambda ts: overfit_sample(trainer, ts, sample))(trainer.init(KEY, sample))
    assert isinstance(found, Overfit)
    assert (int(found.step) > 0) == fits
    if fits:
        assert found.losses[found.step] <= 0.05 * found.losses[0] < found.losses[found.step - 1]
    else:
        assert found.step == -1
