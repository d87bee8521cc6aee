"""Wrong calls as newcomers make them, each with the whole text of its error, in `wrong_calls.txt`; and integers.

`python tests/test_errors.py` writes the file anew; read what changed aloud before it is kept.
"""

import importlib
import inspect
from pathlib import Path

import _wrong_calls
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _wrong_calls import CALLS, KEY, MODEL, PAIR, TRAINER, X

import jaxnn as nn
from jaxnn._elsewhere import ARGUMENTS, NOT_HERE, TABLE, here, page
from jaxnn._errors import describe

FILE = Path(__file__).with_name("wrong_calls.txt")
ROOT = Path(__file__).parents[1]
KINDS = (TypeError, ValueError, AttributeError)


def text_of(name):
    """The error of a call as one line, with the built-in class that it is caught by."""
    with pytest.raises(KINDS) as caught:
        CALLS[name]()
    kind = next(kind.__name__ for kind in KINDS if isinstance(caught.value, kind))
    return f"{kind}: {caught.value}"


def known():
    lines = FILE.read_text().splitlines()
    return dict(zip(lines[::3], (line.strip() for line in lines[1::3]), strict=True))


TEXTS = known() if FILE.exists() else {}


@pytest.mark.parametrize("name", CALLS)
def test_the_whole_text_of_an_error(name):
    assert text_of(name) == TEXTS[name]


def test_the_texts_are_those_of_the_calls():
    assert list(TEXTS) == list(CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_a_message_is_short_and_shows_no_addresses(name):
    text = TEXTS[name]
    assert len(text) < 450
    assert " at 0x" not in text
    assert "object at" not in text


# Values in messages.

VALUES = {
    "a long list": (list(range(10**6)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12", 250),
    "lists": ((_wrong_calls.LONG, _wrong_calls.LONG), "([float64[2], float64[2], ", 300),
    "a long str": ("ab" * 500, "'abab", 240),
    "bytes": (b"ab" * 500, "b'abab", 240),
    "a dict": ({str(i): {"w": np.zeros(3)} for i in range(999)}, "{'0': {'w': float64[3]}, '1': ", 300),
    "a set": (set(range(10**4)), "{0, 1, 2", 210),
    "depth": ([[[[[1.0] * 9] * 9] * 9] * 9] * 9, "[[[[[1.0, 1.0, ", 1200),
}


@pytest.mark.parametrize("case", VALUES)
def test_values_are_capped(case):
    value, start, most = VALUES[case]
    assert describe(value).startswith(start)
    assert len(describe(value)) <= most


DESCRIBED = {
    "a named tuple": (_wrong_calls.DATASET, "Dataset(train=(float32[8, 4], int32[8]), test=None, classes=('a', 'b'), "),
    "a trainer": (TRAINER, "a Trainer"),
    "an optimizer": (nn.adam(0.1), "the optimizer adam(0.1)"),
    "a generator": ((x for x in ()), "the generator <genexpr>"),
    "an iterator": (iter([1]), "the list_iterator"),
    "a class": (np.float32, "the class float32"),
    "a tensor": (_wrong_calls.TENSOR, "torch.Tensor float32[8, 4]"),
    "a frame": (_wrong_calls.FRAME, "pandas.DataFrame[8, 4]"),
    "a str": ("least", "'least'"),
    "rest": (list("abcdefgh") * 20, "['a', 'b', "),
}


@pytest.mark.parametrize("case", DESCRIBED)
def test_what_a_value_is(case):
    value, text = DESCRIBED[case]
    assert describe(value).startswith(text)


# Integers of NumPy and JAX are integers.

KINDS_OF_INTEGERS = {"NumPy": np.int64, "NumPy, 0-d": np.array, "JAX": jnp.int32}
COUNTED = {
    "dense": lambda n, of: nn.dense(n).init(KEY, X),
    "conv": lambda n, of: nn.conv(3, n, stride=n, dilation=n, groups=n).init(KEY, jnp.ones((1, 9, 9, 3))),
    "conv_transpose": lambda n, of: nn.conv_transpose(n, n, groups=n).init(KEY, jnp.ones((1, 9, 9, 3))),
    "max_pool": lambda n, of: nn.max_pool(n, padding=of(1)).apply({}, {}, jnp.ones((1, 9, 9, 3)))[0],
    "attention": lambda n, of: nn.attention(n, size=n, cache=n, causal=True, window=(n, of(0))).init(
        KEY, jnp.ones((1, 2, 6))
    ),
    "lstm": lambda n, of: nn.lstm(n, layers=n, projection=n).init(KEY, jnp.ones((1, 2, 6))),
    "embed": lambda n, of: nn.embed(n, n, padding=of(2)).init(KEY, jnp.zeros((2, 2), jnp.int32)),
    "group_norm": lambda n, of: nn.group_norm(n).init(KEY, jnp.ones((1, 9, 9, 3))),
    "layer_norm": lambda n, of: nn.layer_norm(axis=of(-1)).init(KEY, X),
    "patches": lambda n, of: nn.patches(n, n).init(KEY, jnp.ones((1, 9, 9, 3))),
    "repeat": lambda n, of: nn.repeat(nn.dense(4), n).init(KEY, X),
    "fit": lambda n, of: nn.fit(TRAINER, KEY, PAIR, epochs=n, batch_size=n, patience=n),
    "one_hot": lambda n, of: nn.data.one_hot(np.zeros(2, int), n),
    "top_k": lambda n, of: nn.metrics.top_k_accuracy(jnp.ones((2, 4)), jnp.zeros(2, jnp.int32), n),
    "quantized": lambda n, of: nn.quantized(nn.adam(0.1), block=n).init({"w": X}),
}


@pytest.mark.parametrize("kind", KINDS_OF_INTEGERS)
@pytest.mark.parametrize("case", COUNTED)
def test_integers_of_every_kind_are_integers(case, kind):
    call, of = COUNTED[case], KINDS_OF_INTEGERS[kind]
    given = {n: of(n) for n in (-1, 0, 1, 2, 3)}  # made outside of the trace
    known = jax.eval_shape(lambda: call(3, int))
    assert jax.eval_shape(lambda: call(given[3], given.get)) == known


def test_a_layer_is_callable_and_still_a_layer():
    assert callable(MODEL)
    assert repr(nn.serial(MODEL, nn.relu)) == "serial(\n  dense: dense(3)\n  relu: relu\n)"
    assert nn.serial(MODEL, nn.parallel(MODEL, nn.relu, join="concatenate")).name == "serial"


# Names from elsewhere.

ROWS = [row for rows in TABLE.values() for row in rows]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.target)
def test_names_from_elsewhere_lead_to_names_of_ours(row):
    thing = nn
    for part in row.target.split("."):
        thing = getattr(thing, part)
    for name in row.names.split():
        assert here(name).target == row.target
        if not hasattr(nn, name):
            with pytest.raises(AttributeError) as caught:
                getattr(nn, name)
            remark = f" {row.remark}" if row.remark else ""
            assert str(caught.value) == f"nn.{name} is nn.{row.target} here.{remark}"


def test_the_table_of_names_is_large_and_the_page_shows_it():
    assert sum(len(row.names.split()) for row in ROWS) >= 300
    assert (ROOT / "docs" / "names.md").read_text() == page()


def test_other_names_are_missing_as_ever():
    for module in (nn, nn.losses, nn.metrics, nn.ops, nn.init, nn.data, nn.augment, nn.regularizers):
        assert not hasattr(module, "nonsense")
        assert not hasattr(module, "__wrapped__")
        assert set(module.__all__) <= set(dir(module))


# Signatures.

ROOMS = (
    "",
    ".models",
    ".ops",
    ".losses",
    ".metrics",
    ".regularizers",
    ".init",
    ".data",
    ".augment",
    ".activations",
    ".train",
    ".sharding",
    ".runs",
    ".points",
    ".io",
    ".linear",
    ".retrieval",
    ".diagnosis",
    ".explain",
    ".explain.plot",
    ".testing",
)
PUBLIC = {
    f"{room}.{name}": getattr(module, name)
    for room in ROOMS
    for module in [importlib.import_module("jaxnn" + room.replace(".points", ".runs.points"))]
    for name in module.__all__
    if callable(getattr(module, name))
}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_signature_fits_on_a_screen(name):
    signature = inspect.signature(PUBLIC[name])
    assert len(str(signature)) <= 600
    annotations = [*(p.annotation for p in signature.parameters.values()), signature.return_annotation]
    assert max(len(inspect.formatannotation(a)) for a in annotations) <= 80


if __name__ == "__main__":
    FILE.write_text("\n".join(f"{name}\n    {text_of(name)}\n" for name in CALLS))


def test_arguments_from_elsewhere_are_arguments_here():
    parameters = set()
    for function in [getattr(room, name) for room in (nn, nn.models) for name in room.__all__]:
        if inspect.isfunction(function):
            parameters |= inspect.signature(function).parameters.keys()
    assert ARGUMENTS.keys() <= parameters
    others = [other for row in ARGUMENTS.values() for other in row.split()]
    assert len(others) == len(set(others))
    assert not set(others) & NOT_HERE.keys()
