"""Confident learning and failures against loops and scikit-learn."""

import jax
import numpy as np
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from jaxnn.diagnosis import Failures, LabelNoise, failures, label_noise

RNG = np.random.default_rng(0)
N, K = 300, 4
TRUE = RNG.integers(0, K, N)
WRONG = RNG.random(N) < 0.15
LABELS = np.where(WRONG, (TRUE + 1) % K, TRUE).astype(np.int32)
LOGITS = (5 * np.eye(K)[TRUE] + RNG.normal(size=(N, K))).astype(np.float32)
P = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)


def test_label_noise_is_that_of_a_loop():
    """Equations 1 and 2 of Northcutt et al. 2021."""
    found = jax.jit(label_noise)(P, LABELS)
    assert isinstance(found, LabelNoise)
    t = [P[j == LABELS, j].mean() for j in range(K)]
    joint = np.zeros((K, K), int)
    for i in range(N):
        above = [j for j in range(K) if P[i, j] >= t[j]]
        guess = max(above, key=lambda j: P[i, j]) if above else LABELS[i]
        assert found.guess[i] == guess
        joint[LABELS[i], guess] += 1
    assert found.joint.tolist() == joint.tolist()
    assert found.suspected.tolist() == (np.asarray(found.guess) != LABELS).tolist()
    suspected = np.asarray(found.suspected)
    assert (suspected & WRONG).sum() > 0.8 * WRONG.sum()
    assert (suspected & ~WRONG).sum() < 0.2 * WRONG.sum()
    others = np.where(np.eye(K)[LABELS] > 0, -1, P).max(1)
    np.testing.assert_allclose(found.margin, P[np.arange(N), LABELS] - others, rtol=1e-5, atol=1e-6)


def test_failures_are_those_of_scikit_learn():
    found = jax.jit(failures)(LOGITS, LABELS)
    guess = LOGITS.argmax(1)
    assert isinstance(found, Failures)
    assert found.confusion.tolist() == confusion_matrix(LABELS, guess).tolist()
    np.testing.assert_allclose(found.recall, recall_score(LABELS, guess, average=None), rtol=1e-6)
    np.testing.assert_allclose(found.precision, precision_score(LABELS, guess, average=None), rtol=1e-6)
    assert found.worst.tolist() == np.argsort(P[np.arange(N), LABELS])[:10].tolist()
