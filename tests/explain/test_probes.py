"""Linear probes against scikit-learn's pipeline on real digits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

import jaxnn as nn
from jaxnn import explain

X, Y = nn.data.load("digits").train
X, Y = X[Y < 3], Y[Y < 3]
TRAIN, TEST = (X[:200], Y[:200]), (X[200:500], Y[200:500])


@pytest.mark.slow
def test_accuracy_as_scikit_learn():
    rows, tested = (a.reshape(len(a), -1).astype(np.float64) for a in (TRAIN[0], TEST[0]))
    components = PCA(3, svd_solver="full").fit(rows)
    scale = components.explained_variance_.mean() ** 0.5
    peer = LogisticRegression(C=1 / 2.0, tol=1e-8, max_iter=1000).fit(components.transform(rows) / scale, TRAIN[1])
    want = peer.score(components.transform(tested) / scale, TEST[1])
    assert 0.8 < want < 1
    found = explain.linear_probe(TRAIN, TEST, classes=3, components=3, l2=2.0)
    assert abs(float(found) - want) < 1e-6
    data = [(x, y.astype(np.uint8)) for x, y in (TRAIN, TEST)]
    assert explain.linear_probe(*data, classes=3, components=3, l2=2.0) == found


@pytest.mark.slow
def test_the_scale_of_a_representation_has_no_effect():
    small, large = ((a[:, :3] * s, b) for s in (1e-3, 1e3) for a, b in [TRAIN])
    accuracies = [explain.linear_probe(data, data, classes=3, components=8) for data in (small, large)]
    assert accuracies[0] == accuracies[1]


@pytest.mark.slow
def test_probes_of_layers_are_probes_of_their_activations():
    model = nn.serial(nn.conv(4, 3), nn.relu, nn.max_pool(2))
    params, state = model.init(jax.random.key(0), X[:1])
    found = explain.linear_probes(model, params, state, TRAIN, TEST, ["relu", "max_pool"], classes=3, components=6)
    assert list(found) == ["relu", "max_pool"]
    for path, accuracy in found.items():
        train, test = ((explain.activations(model, params, state, x, path), y) for x, y in (TRAIN, TEST))
        assert accuracy == explain.linear_probe(train, test, classes=3, components=6)
    pooled = explain.linear_probes(
        model, params, state, TRAIN, TEST, ["relu"], classes=3, reduce=lambda y: y.mean((1, 2))
    )
    assert pooled["relu"] < found["relu"]


@pytest.mark.slow
def test_under_jit():
    small = TRAIN[0].reshape(200, -1)[:, 10:14], (TRAIN[1] > 0).astype(np.int32)
    probe = lambda l2: explain.linear_probe(small, small, classes=2, l2=l2)  # noqa: E731
    assert jax.jit(probe)(1.0) == probe(1.0)


WRONG = {
    "labels missing": (
        lambda: explain.linear_probe(TRAIN[0], TEST, classes=3),
        "linear_probe: expected train to be a pair of inputs and labels, got float32[200, 8, 8, 1].",
    ),
    "labels that are numbers": (
        lambda: explain.linear_probe((jnp.ones((3, 2)), jnp.ones(3)), TEST, classes=3),
        "linear_probe: expected labels of train of an integer or boolean dtype, got float32[3].",
    ),
    "one path": (
        lambda: explain.linear_probes(nn.identity(), {}, {}, TRAIN, TEST, "identity", classes=3),
        "linear_probes: expected paths to be a list of paths of layers, got 'identity'.",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls(case):
    call, text = WRONG[case]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert str(caught.value) == text
