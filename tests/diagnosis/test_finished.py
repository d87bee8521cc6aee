"""Findings about finished runs: planted label noise, a class that fails, overconfidence, and healthy runs."""

import jax
import numpy as np
import pytest
from diagnosis._nets import CE

import jaxnn as nn
from jaxnn.diagnosis._finished import Finished
from jaxnn.diagnosis._labels import failures, label_noise
from jaxnn.diagnosis._rules_run import RUN

DATA = nn.data.load("digits").train
K = 10


def found(p, y, votes=None):
    """Names of the findings about predicted probabilities."""
    ece = float(nn.metrics.expected_calibration_error(np.log(p), y))
    made = failures(np.log(p), y, worst=5)
    f = Finished(np.arange(len(y)) + 100, y, label_noise(p, y), votes, made, ece, float(p.max(1).mean()))
    return [finding.name for rule in RUN for finding in rule(f)], f


def planted(seed, noise=0.0, failing=0.0, sure=0.95, right=0.95):
    """Probabilities, labels and votes of a classifier of 10 classes with confidence `sure`."""
    random = np.random.default_rng(seed)
    true = random.integers(0, K, 1000)
    y = np.where(random.random(1000) < noise, random.integers(0, K, 1000), true).astype(np.int32)
    guess = np.where(random.random(1000) < right, true, random.integers(0, K, 1000))
    guess = np.where((true == 3) & (random.random(1000) < failing), 5, guess)
    p = np.full((1000, K), (1 - sure) / (K - 1), np.float32)
    p[np.arange(1000), guess] = sure
    return p, y, np.eye(K)[true]


CASES = {
    "healthy": ({}, []),
    "30 % of the labels random": ({"noise": 0.3, "sure": 0.72}, ["label noise"]),
    "a class fails": ({"failing": 0.8}, ["failing class"]),
    "overconfident": ({"right": 0.7}, ["miscalibrated"]),
    "unsure": ({"sure": 0.6}, []),
}


@pytest.mark.parametrize("case", CASES)
def test_planted_faults_of_predictions(case):
    settings, known = CASES[case]
    for seed in range(3):
        p, y, votes = planted(seed, **settings)
        names, f = found(p, y, votes)
        assert names == known
        assert f.figures()["most wrong"].min() >= 100


def test_suspected_labels_are_those_that_were_changed():
    p, y, votes = planted(0, noise=0.3)
    f = found(p, y, votes)[1]
    true = votes.argmax(1)
    changed = y != true
    assert changed[f.suspected].all()
    assert len(f.suspected) > 0.85 * changed.sum()
    assert found(p, y)[1].suspected.tolist() == []


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_runs_on_digits(noise):
    """Five seeds: 30 % random labels in both sets are named, and nothing is named without."""
    x = np.asarray(DATA[0], np.float32).reshape(-1, 64)
    model = nn.serial(nn.dense(64), nn.relu, nn.dense(K))
    trainer = nn.trainer(model, CE, nn.adam(3e-3))
    for seed in range(5):
        random = np.random.default_rng(seed)
        rows = random.permutation(len(x))
        y = np.asarray(DATA[1], np.int32)
        y = np.where(random.random(len(y)) < noise, random.integers(0, K, len(y)), y).astype(np.int32)
        train, valid = ((x[r], y[r]) for r in (rows[450:], rows[:450]))
        run = nn.fit(trainer, jax.random.key(seed), train, valid, epochs=15, batch_size=64)
        report = nn.diagnose(trainer, jax.random.key(seed), train, valid, batch_size=64, run=run, steps=20)
        assert ("label noise" in report.names) == (noise > 0)
        if not noise:
            assert not {"failing class", "miscalibrated"} & set(report.names)
        assert len(report.figures["most wrong"]) == 20
