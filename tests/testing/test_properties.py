"""A planted fault for each property fails with the text in messages.txt, which this file as a program writes.

python tests/testing/test_properties.py
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.testing import _layers, _losses, _optimizers
from jaxnn.testing._properties import Property, differs, not_finite, shapes_differ, verify
from tests.testing._broken import CALLS, LAYERS, LOSSES, OPTIMIZERS

FILE = Path(__file__).with_name("messages.txt")


def text_of(name):
    try:
        CALLS[name]()
    except AssertionError as error:
        return str(error)
    return "nothing was raised"


def stored():
    blocks = FILE.read_text().split("\n\n")
    return dict(block.strip("\n").split("\n", 1) for block in blocks)


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_a_planted_fault_is_found_and_explained(name):
    assert text_of(name) == stored()[name]
    assert f" fails {name.partition(': ')[2]!r}.\n" in stored()[name]


def test_every_property_has_a_planted_fault():
    for planted, module in ((LAYERS, _layers), (OPTIMIZERS, _optimizers), (LOSSES, _losses)):
        assert list(planted) == list(module.PROPERTIES)


def test_a_property_that_does_not_apply_or_is_left_out_is_not_in_the_report():
    table = {
        "a": Property("a", lambda case: "", "Fix."),
        "b": Property("b", lambda case: None, "Fix."),
        "c": Property("c", lambda case: "a fault", "Fix."),
    }
    assert verify("check", "piece", table, None, ("c",)) == ("a",)
    with pytest.raises(AssertionError) as caught:
        verify("check", "piece", table, None, ())
    assert str(caught.value) == "check: piece fails 'c'.\n  expected: c\n  got: a fault\n  fix: Fix."


def test_an_exception_is_a_finding_and_the_cause():
    def fault(case):
        raise ZeroDivisionError

    with pytest.raises(AssertionError) as caught:
        verify("check", "piece", {"a": Property("a", fault, "Fix.")}, None, ())
    assert "\n  got: ZeroDivisionError: without a message\n" in str(caught.value)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(
    ("got", "want", "slack", "text"),
    [
        ({"y": np.float32(1)}, {"y": np.float32(1)}, 0, ""),
        ({"y": np.float32(1.00001)}, {"y": np.float32(1)}, 1, ""),
        ({"y": np.float32(1.0001)}, {"y": np.float32(1)}, 1, "y differs by up to 0.0001"),
        ({"y": np.float32(np.nan)}, {"y": np.float32(np.nan)}, 0, ""),
        ({"y": np.float32(np.nan)}, {"y": np.float32(1)}, 9, "y differs by up to inf"),
        ({"y": np.float32(-np.inf)}, {"y": np.float32(np.inf)}, 9, "y differs by up to inf"),
        ({"y": np.int32(1)}, {"y": np.int32(2)}, 9, "y differs by up to 1"),
        ({"y": np.int32(1)}, {"y": np.float32(1)}, 9, "y is int32[], not float32[]"),
        (
            {"y": [np.int32(1)]},
            {"y": (np.int32(1),)},
            9,
            "the structure PyTreeDef({'y': [*]}), not PyTreeDef({'y': (*,)})",
        ),
        ({"k": jax.random.key(0)}, {"k": jax.random.key(1)}, 9, "k differs by up to 1"),
        ({"y": np.zeros(0, np.float32)}, {"y": np.zeros(0, np.float32)}, 0, ""),
    ],
)
def test_differences(got, want, slack, text):
    assert differs(got, want, slack) == text


def test_differences_of_shapes_and_values_that_are_not_finite():
    assert shapes_differ({"n": jax.ShapeDtypeStruct((2,), jnp.int32)}, {}) == "n is int32[2], not nothing"
    assert not_finite({"a": jnp.ones(2), "n": jnp.ones(2, jnp.int32), "b": jnp.asarray([1, np.nan])}) == "NaN in b"
    assert not_finite({"a": jnp.asarray([1, -np.inf])}) == "an infinity in a"


if __name__ == "__main__":
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    FILE.write_text("\n\n".join(f"{name}\n{text_of(name)}" for name in CALLS) + "\n")
