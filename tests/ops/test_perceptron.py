"""Rosenblatt's rule: against a loop, on classes that a plane separates, and on XOR, which none does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.datasets
from _close import assert_close

from jaxnn.ops import perceptron_update

CORNERS = jnp.asarray([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
GATES = {"and": [0, 0, 0, 1], "or": [0, 1, 1, 1], "nand": [1, 1, 1, 0], "nor": [1, 0, 0, 0]}


def by_loop(w, b, x, y, rate):
    w, b, mistakes = np.array(w, np.float64), np.array(b, np.float64), np.zeros(len(b), int)
    for row, labels in zip(np.asarray(x, np.float64), np.asarray(y), strict=True):
        for j, label in enumerate(labels):
            fires = sum(row[i] * w[i, j] for i in range(len(row))) + b[j] >= 0
            if fires != bool(label):
                sign = 1 if label else -1
                w[:, j] += sign * rate * row
                b[j] += sign * rate
                mistakes[j] += 1
    return w, b, mistakes


def trained(x, y, rounds, w=None, b=None):
    y = jnp.asarray(y).reshape(len(x), -1)
    start = (jnp.zeros((x.shape[1], y.shape[1])) if w is None else w, jnp.zeros(y.shape[1]) if b is None else b)

    def one(carry, _):
        *carry, mistakes = perceptron_update(*carry, x, y)
        return tuple(carry), mistakes

    (w, b), mistakes = jax.jit(lambda: jax.lax.scan(one, start, None, rounds))()
    return w, b, mistakes


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("labels", ["int32", "bool", "same"])
def test_against_a_loop(dtype, labels):
    rng = np.random.default_rng(0)
    with jax.enable_x64(dtype == "float64"):
        w, b, x = (jnp.asarray(rng.normal(0, 1, shape), dtype) for shape in ((4, 3), (3,), (20, 4)))
        y = jnp.asarray(rng.integers(0, 2, (20, 3)), dtype if labels == "same" else labels)
        expected = by_loop(w, b, x, y, 0.5)
        for got in (
            perceptron_update(w, b, x, y, learning_rate=0.5),
            jax.jit(perceptron_update)(w, b, x, y, learning_rate=0.5),
        ):
            assert [str(v.dtype) for v in got] == [dtype, dtype, "int32"]
            assert_close(got[0], expected[0])
            assert_close(got[1], expected[1])
            assert got[2].tolist() == expected[2].tolist()


@pytest.mark.parametrize("gate", GATES)
def test_gates_are_learnt(gate):
    w, b, mistakes = trained(CORNERS, GATES[gate], 20)
    assert mistakes[-1].tolist() == [0]
    assert ((CORNERS @ w + b[None] >= 0)[:, 0].astype(int)).tolist() == GATES[gate]


def test_xor_is_not():
    """Minsky & Papert 1969: some corner is wrong in every round, however long."""
    _, _, mistakes = trained(CORNERS, [0, 1, 1, 0], 500)
    assert int(mistakes.min()) > 0


def test_novikoffs_bound_on_iris():
    """Setosa against the rest: with the margin of any separating plane, at most (r / γ)² mistakes in all."""
    x, y = sklearn.datasets.load_iris(return_X_y=True)
    y = (y == 0).astype(int)
    w, b, mistakes = trained(jnp.asarray(x, jnp.float32), y, 30)
    assert mistakes[-1].tolist() == [0]
    plane = np.append(np.asarray(w, np.float64)[:, 0], np.asarray(b, np.float64))
    extended = np.c_[x, np.ones(len(x))]
    margin = ((2 * y - 1) * (extended @ plane)).min() / np.linalg.norm(plane)
    assert margin > 0
    assert int(mistakes.sum()) <= (np.linalg.norm(extended, axis=1).max() / margin) ** 2
    _, _, others = trained(jnp.asarray(x, jnp.float32), (sklearn.datasets.load_iris().target == 1).astype(int), 200)
    assert int(others.min()) > 0  # versicolor lies between the two others: no plane


def test_no_examples_no_update_and_members_of_a_vmap():
    w, b = jnp.ones((2, 1)), jnp.ones(1)
    same = perceptron_update(w, b, jnp.zeros((0, 2)), jnp.zeros((0, 1), int))
    assert (same[0].tolist(), same[1].tolist(), same[2].tolist()) == ([[1.0], [1.0]], [1.0], [0])
    gates = jnp.asarray([*GATES.values()])[:, :, None]
    many = jax.vmap(lambda y: perceptron_update(w, b, CORNERS, y))(gates)
    for i, y in enumerate(gates):
        for a, c in zip(many, perceptron_update(w, b, CORNERS, y), strict=True):
            assert_close(a[i].astype(jnp.float32), c)


def test_a_label_that_is_none_is_nan():
    w, b, _ = perceptron_update(jnp.zeros((2, 2)), jnp.zeros(2), CORNERS[:1], jnp.asarray([[2, 1]]))
    assert jnp.isnan(b).tolist() == [True, False]
    assert jnp.isnan(w).all(axis=0).tolist() == [True, False]


GOOD = (jnp.ones((2, 3)), jnp.ones(3), jnp.ones((5, 2)), jnp.ones((5, 3)))
REFUSED = {
    "w of a floating dtype, got int32[2, 3].": (0, jnp.ones((2, 3), int)),
    "w of shape [d, features] and x of shape [n, d], got (float32[2], float32[5, 2]).": (0, jnp.ones(2)),
    "w of shape [d, features] and x of shape [n, d], got (float32[2, 3], float32[2]).": (2, jnp.ones(2)),
    "b of shape [3], the features of w, got float32[2]. Nothing is broadcast.": (1, jnp.ones(2)),
    "x of shape [5, 2], got float32[5, 3]. Nothing is broadcast.": (2, jnp.ones((5, 3))),
    "y of shape [5, 3], got float32[5]. Nothing is broadcast.": (3, jnp.ones(5)),
    "y of a real dtype, got complex64[5, 3].": (3, jnp.ones((5, 3), jnp.complex64)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_errors_by_their_whole_text(message):
    place, bad = REFUSED[message]
    with pytest.raises((TypeError, ValueError)) as caught:
        perceptron_update(*(bad if i == place else v for i, v in enumerate(GOOD)))
    assert str(caught.value) == f"perceptron_update: expected {message}"
