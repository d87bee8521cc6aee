"""`nn.testing.check_layer` on the layers of the library; planted faults are in `test_properties.py`."""

import jax.numpy as jnp
import numpy as np
import pytest
from _layer_cases import BUILT, CACHED, CASES, NOISES, taken

import jaxnn as nn
from jaxnn._errors import InvalidType, InvalidValue
from jaxnn.testing._layers import PROPERTIES

SOME = ["serial", "embed", "gru", "dropout"]
# by design: a dtype of its own, a stopped gradient, a cache in the dtype of x
DOES_NOT_HOLD = {"cast": ("dtypes", "gradient"), "spectral_norm": ("gradient",), "attention cache": ("dtypes",)}


def properties_of(case):
    model, x = taken(case)
    together = any(name in case for name in ("batch_norm", "serial"))
    return nn.testing.check_layer(
        model,
        x,
        independent=not together,
        train=case not in CACHED,
        slack=4.0 if case.split()[0] in BUILT else 1.0,  # several roundings to bfloat16
        without=DOES_NOT_HOLD.get(case, ()),
    )


def test_dense_has_all_properties():
    names = nn.testing.check_layer(lambda: nn.dense(3), taken("dense")[1], slack=1.0)
    assert names == tuple(name for name in PROPERTIES if name != "key in training")


@pytest.mark.slow
@pytest.mark.parametrize("case", SOME)
def test_layers_have_the_properties(case):
    names = properties_of(case)
    assert ("key in training" in names) == any(noise in case for noise in NOISES)
    assert ("dtypes" in names) == ("embed" not in case)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("case", [case for case in (*CASES, *CACHED) if case not in SOME])
def test_all_layers_have_the_properties(case):
    properties_of(case)


@pytest.mark.slow
def test_trees_of_arrays_and_lengths():
    x = {"x": jnp.asarray(np.random.default_rng(0).standard_normal((3, 5, 4)), jnp.float32)}
    both = nn.layer(
        None, lambda params, state, x, **how: nn.call(nn.dense(2), "d", params, state, x["x"], **how), "both"
    )
    assert "gradient" in nn.testing.check_layer(both, x)
    words = nn.Padded(x["x"], jnp.asarray([5, 2, 3]))
    assert "gradient" in nn.testing.check_layer(nn.gru(3), words)


def test_wrong_arguments():
    x = jnp.ones((2, 3))
    for call, error, text in (
        (
            lambda: nn.testing.check_layer(3, x),
            InvalidType,
            "check_layer: expected a Layer or a function of one input, got 3.",
        ),
        (
            lambda: nn.testing.check_layer(lambda: 3, x),
            InvalidType,
            "check_layer: expected a function without arguments to make a layer, got 3.",
        ),
        (
            lambda: nn.testing.check_layer(nn.dense(3), x, without="edges"),
            InvalidType,
            "check_layer: expected without to be a tuple of names of properties, got 'edges'. Pass ('edges',).",
        ),
        (
            lambda: nn.testing.check_optimizer(3),
            InvalidType,
            "check_optimizer: expected make to be a function learning_rate -> optimizer, got 3. Pass the function, "
            "nn.adam, or an optimizer, nn.adam(1e-3).",
        ),
        (
            lambda: nn.testing.check_loss(nn.losses.huber, x, x, axes=2),
            InvalidValue,
            "check_loss: expected axes to be an integer >= 0 and <= 1, got 2.",
        ),
    ):
        with pytest.raises(error) as caught:
            call()
        assert str(caught.value) == text
    with pytest.raises(InvalidValue, match="check_layer: expected each name in without to be one of 'nodes', "):
        nn.testing.check_layer(nn.dense(3), x, without=("edge",))
