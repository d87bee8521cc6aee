"""The numbers of PyTorch and Keras, as their own optimizers gave them (peers.py), by preset."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import optimizers
from tests.optimizers.peers import CASES, GIVEN, KEPT, RATE, START, STEPS, slope

POSITIONS = json.loads(Path(__file__).with_name("peers.json").read_text())["positions"]


def positions(opt, mode, dtype):
    """Where the optimizer stands after the steps that are kept."""
    x, given = jnp.asarray(START, dtype), jnp.asarray(GIVEN, dtype)

    def step(carry, t):
        x, state = carry
        update, state = opt.update(given[t] if mode == "given" else slope(x), state, x)
        return (x + update, state), x + update

    return np.asarray(jax.lax.scan(step, (x, opt.init(x)), jnp.arange(STEPS))[1])[np.array(KEPT) - 1]


def test_every_case_is_stored_in_both_modes():
    assert set(POSITIONS) == {f"{case}, {mode}" for case in CASES for mode in ("given", "closed")}


@pytest.mark.parametrize("mode", ["given", "closed"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_the_numbers_of_the_other_libraries(case, mode):
    _, (name, options) = CASES[case]
    opt = getattr(optimizers, name)(RATE, **options)
    want = np.array(POSITIONS[f"{case}, {mode}"])
    moved = np.abs(want - np.array(START)).max(0)
    error = np.abs(positions(opt, mode, jnp.float64) - want) / moved
    assert error.max() < 1e-6


@pytest.mark.parametrize(
    ("name", "options"), [("adam", {}), ("amsgrad", {}), ("nadam", {}), ("rmsprop", {"momentum": 0.9})]
)
def test_styles_differ(name, options):
    presets = (getattr(optimizers, name)(RATE, eps=1e-3, preset=preset, **options) for preset in ("torch", "keras"))
    torch, keras = (positions(opt, "given", jnp.float32) for opt in presets)
    assert np.abs(torch - keras).max() > 1e-3
