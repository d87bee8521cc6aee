"""Mean and disagreement of members against float64 NumPy, and the ways to members."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(7, 3)).astype(np.float32)
MODEL = nn.serial(nn.dense(4), nn.batch_norm(), nn.tanh, nn.dropout(0.5), nn.dense(5))


def stacked(members, model=MODEL):
    trees = [model.init(jax.random.key(i), X) for i in range(members)]
    return jax.tree.map(lambda *a: jnp.stack(a), *trees)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def entropy(p):
    return -np.sum(p * np.log(np.where(p > 0, p, 1)), -1)


def outputs(params, state, members, model=MODEL):
    """Each member's, one by one."""
    each = [jax.tree.map(lambda a, i=i: a[i], (params, state)) for i in range(members)]
    return np.stack([np.asarray(model.apply(*tree, X)[0], np.float64) for tree in each])


@pytest.mark.parametrize("members", [1, 2, pytest.param(6, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_mean_and_mutual_information(members):
    params, state = stacked(members)
    params["dense_1"]["w"] *= 3.0
    p = softmax(outputs(params, state, members))
    found, after = nn.ensemble(MODEL, members).apply(params, state, X)
    assert isinstance(found, nn.runs.Consensus)
    assert_close(found.mean, p.mean(0))
    assert_close(found.disagreement, entropy(p.mean(0)) - entropy(p).mean(0), scale=1.0)
    assert bool(jnp.all(found.disagreement >= 0))
    jax.tree.map(np.testing.assert_array_equal, after, state)


def test_values():
    params, state = stacked(6)
    y = outputs(params, state, 6)
    found, _ = nn.ensemble(MODEL, 6, of="values").apply(params, state, X)
    assert_close(found.mean, y.mean(0))
    assert_close(found.disagreement, y.var(0))


# A row is the members' probabilities of two classes, and the nats between them.
@pytest.mark.parametrize(
    ("p", "nats"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], np.log(2)),
        ([[1.0, 0.0], [1.0, 0.0]], 0.0),
        ([[0.5, 0.5], [0.5, 0.5]], 0.0),
        ([[0.5, 0.5], [1.0, 0.0]], entropy(np.array([0.75, 0.25])) - np.log(2) / 2),
    ],
)
@pytest.mark.slow
def test_certain_members(p, nats):
    """Logits of -inf among them: those classes are ruled out."""
    z = jnp.log(jnp.asarray(p, jnp.float32))
    fixed = nn.layer(lambda key, x: ({"z": jnp.zeros(2)}, {}), lambda p, s, x, *, key, train: (p["z"], s), "fixed")
    model = nn.ensemble(fixed, 2)
    found, _ = model.apply({"z": z}, {}, X)
    assert_close(found.mean, np.mean(p, 0))
    assert_close(found.disagreement, nats, scale=1.0)


@pytest.mark.slow
def test_members_of_a_sweep_predicted_in_batches():
    y = RNG.integers(0, 5, 7)

    def run(key, x, y):
        trainer = nn.trainer(MODEL, nn.losses.softmax_cross_entropy, nn.adam(0.1))
        return nn.fit(trainer, key, (x, y), epochs=2)

    runs = nn.sweep(run, jax.random.split(jax.random.key(0), 3), X, y).results
    model = nn.ensemble(MODEL, 3)
    found = nn.predict(model, *runs.best, X, batch_size=4)
    p = softmax(outputs(*runs.best, 3))
    assert_close(found.mean, p.mean(0))
    assert_close(found.disagreement, entropy(p.mean(0)) - entropy(p).mean(0), scale=1.0)
    whole, _ = jax.jit(model.apply)(*runs.best, X)
    assert_close(found.mean, whole.mean)


@pytest.mark.slow
def test_init_draws_members_and_each_has_masks_of_its_own():
    model = nn.ensemble(nn.serial(nn.dense(4), nn.dropout(0.5)), 3, of="values")
    params, state = model.init(jax.random.key(0), X)
    assert jax.tree.map(jnp.shape, (params, state)) == ({"dense": {"b": (3, 4), "w": (3, 3, 4)}}, {})
    assert len(np.unique(np.asarray(params["dense"]["w"][:, 0, 0]))) == 3
    same = jax.tree.map(lambda a: jnp.stack([a[0]] * 3), params)
    apart, _ = model.apply(same, state, X, key=jax.random.key(1), train=True)
    assert float(apart.disagreement.max()) > 0
    still, _ = model.apply(same, state, X)
    assert_close(still.disagreement, np.zeros((7, 4)), scale=1.0)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_statistics_are_float32_at_least(dtype):
    params, state = stacked(2)
    for of in ("logits", "values"):
        found, _ = nn.ensemble(MODEL, 2, of=of).apply(params, state, jnp.asarray(X, dtype))
        assert (found.mean.dtype, found.disagreement.dtype) == (jnp.float32, jnp.float32)


@pytest.mark.slow
def test_gradient_is_finite_where_members_agree():
    params, state = jax.tree.map(lambda a: jnp.stack([a[0], a[0]]), stacked(1))
    model = nn.ensemble(MODEL, 2)
    grads = jax.grad(lambda x: model.apply(params, state, x)[0].disagreement.sum())(jnp.asarray(X))
    assert bool(jnp.isfinite(grads).all())


PAIR = stacked(2)
ERRORS = {
    "model": (
        lambda: nn.ensemble(nn.dense, 2),
        TypeError,
        "ensemble: expected model to be a Layer, got the function dense.",
    ),
    "another number": (
        lambda: nn.ensemble(MODEL, 3).apply(*PAIR, X),
        ValueError,
        "ensemble: expected batch_norm/bias stacked for 3 members, [3, ...], got float32[2, 4]. "
        "Train them together: sweep, or drive with a batch of keys.",
    ),
    "two outputs": (
        lambda: nn.ensemble(nn.lift(lambda x: (x, x)), 2).apply({}, {}, X),
        TypeError,
        "ensemble: expected a model that gives one floating array, got (float32[2, 7, 3], float32[2, 7, 3]).",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    call, kind, text = ERRORS[case]
    with pytest.raises(kind) as excinfo:
        call()
    assert str(excinfo.value) == text
