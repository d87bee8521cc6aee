"""`nn.testing.check_optimizer` on optimizers of the library and of optax."""

from functools import partial

import jax
import optax
import pytest

import jaxnn as nn
from jaxnn.testing._optimizers import PROPERTIES
from tests.conformance.test_optimizers import TABLE

TESTED = ["sgd momentum", "adam"]


def properties_of(name):
    factory, rate, options, sweep = TABLE[name]
    return nn.testing.check_optimizer(partial(factory, **options), learning_rate=rate, sweep=sweep, slack=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", TESTED)
def test_optimizers_have_the_properties(name):
    assert properties_of(name) == tuple(PROPERTIES)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("name", [name for name in TABLE if name not in TESTED])
def test_all_optimizers_have_the_properties(name):
    assert properties_of(name) == tuple(PROPERTIES)


@pytest.mark.slow
def test_optax_has_them_but_for_narrow_averages():
    with jax.numpy_dtype_promotion("standard"):
        names = nn.testing.check_optimizer(optax.adam, without=("averages",))
        assert names == tuple(name for name in PROPERTIES if name != "averages")
        assert nn.testing.check_optimizer(optax.sgd) == tuple(PROPERTIES)
    without_sweep = nn.testing.check_optimizer(nn.adam(0.01))
    assert without_sweep == tuple(name for name in PROPERTIES if name != "hyper-parameters")
