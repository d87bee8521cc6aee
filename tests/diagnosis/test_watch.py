"""The hook warns of planted faults, once, and is silent in a healthy run."""

import warnings

import jax
import pytest
from diagnosis._nets import CE, KEY, TARGET, X, Y, mlp

import jaxnn as nn
from jaxnn.diagnosis import watch

CASES = {
    "healthy": (nn.tanh, nn.adam(0.01), None),
    "dead": (lambda x: nn.relu(x - 50), nn.adam(0.01), "100% of the units of lift are 0 for all examples"),
    "rate too high": (nn.tanh, nn.sgd(300.0), "Divide the learning rate by 10"),
    "rate too low": (nn.tanh, nn.sgd(1e-7), "a step changes no weight by more than"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_the_hook_warns_of_a_fault(case):
    activation, optimizer, text = CASES[case]
    trainer = nn.trainer(mlp(activation=activation), CE, optimizer)
    record = []
    hook = watch(trainer, (X[:32], Y[:32]), record=record, epochs=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        nn.drive(trainer, KEY, (X, Y), epochs=3, batch_size=32, progress=False, on_epoch=hook)
    told = [str(w.message) for w in caught]
    assert [row["epoch"] for row in record] == [1, 2]
    if text is None:
        assert told == []
    else:
        assert any(text in message for message in told)
        assert len(told) == len(set(told)) <= 3


def test_a_trainer_without_a_model_is_refused():
    t = nn.objective_trainer(lambda key, batch: ({"w": jax.numpy.ones(())}, {}), lambda *a, **k: None, nn.sgd(0.1))
    with pytest.raises(
        TypeError,
        match=r"watch: expected a Trainer with a model, got one without, or another object. Make it by nn.trainer",
    ):
        watch(t, (X, TARGET))
