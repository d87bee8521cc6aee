"""Recurrent language model of characters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._errors import invalid
from jaxnn._layer import Layer
from jaxnn._padded import Padded
from jaxnn.layers import dense, dropout, embed, gru, lstm, rnn
from jaxnn.models._parts import Run, composed
from jaxnn.types import Arrays

CELLS: dict[str, Callable[..., Layer]] = {"lstm": lstm, "gru": gru, "rnn": rnn}


@recorded
def char_rnn(
    vocabulary: int,
    *,
    features: int = 512,
    layers: int = 2,
    cell: Literal["lstm", "gru", "rnn"] = "lstm",
    embedding: int | None = None,
    rate: float | jax.Array = 0.0,
    return_carry: bool = False,
    preset: str = "jaxnn",
    name: str | None = None,
) -> Layer:
    """Recurrent language model, integers [n, t] -> logits of the next symbol at each step, [n, t, vocabulary].

    An embedding, recurrent layers with dropout after each, and a dense layer. Children embed, layer1, layer2, ...,
    head. The input may be a `Padded`; the result then is one.

    `nn.generate` continues prompts by the model as it is, and processes the whole sequence for each symbol. With
    `return_carry=True` the same model takes x, or (x, carry), and returns (logits, carry), so that a step of a loop of
    your own costs the same at any length.

    Args:
      vocabulary: number of symbols, an integer >= 1.
      features: size of the state of each recurrent layer, an integer >= 1.
      layers: number of recurrent layers, an integer >= 1.
      cell: "lstm", "gru" or "rnn".
      embedding: size of the vectors of the symbols, an integer >= 1; None is `features`.
      rate: dropout rate after each recurrent layer, in [0, 1); may be traced.
      return_carry: if True, the result is (logits, carry), with the carry of every recurrent layer in a tuple.
      preset: the default initialization of all layers.
      name: pins the name.

    Raises:
      ValueError: if the carry is not one of as many layers, or an argument is out of range.
      TypeError: if x is not an integer array, or an argument is of a wrong type.

    Differences: Karpathy's char-rnn feeds one-hot vectors, equivalent to an embedding that is multiplied into w_x.

    Reference: Graves, Generating Sequences With Recurrent Neural Networks, 2013, arXiv:1308.0850; Karpathy, The
    Unreasonable Effectiveness of Recurrent Neural Networks, 2015.

    >>> model = char_rnn(65, features=8, return_carry=True)
    >>> params, state = model.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    >>> (logits, carry), _ = model.apply(params, state, jnp.array([[5, 3, 60]]))
    >>> (logits, carry), _ = model.apply(params, state, (logits[:, -1:].argmax(-1), carry))
    >>> logits.shape
    (1, 1, 65)
    """
    where = name or "char_rnn"
    vocabulary, layers = check.count(where, "vocabulary", vocabulary), check.count(where, "layers", layers)
    features = check.count(where, "features", features)
    check.choice(where, "cell", cell, list(CELLS))
    check.flags(where, return_carry=return_carry)
    width = features if embedding is None else check.count(where, "embedding", embedding)
    symbols = embed(vocabulary, width, preset=preset)
    cells = [
        CELLS[cell](features, return_carry=return_carry, preset=preset, name=f"layer{k + 1}") for k in range(layers)
    ]
    drops = [dropout(rate, name=f"dropout{k + 1}") for k in range(layers)]
    head = dense(vocabulary, preset=preset, name="head")

    def forward(run: Run, x: Arrays) -> Arrays:
        x, before = x if isinstance(x, tuple) and not isinstance(x, Padded) else (x, (None,) * layers)
        if len(before) != layers:
            raise invalid(where, f"a carry of {layers} layers", before)
        h, carries = run(symbols, x), []
        for layer, drop, carry in zip(cells, drops, before, strict=True):
            if return_carry:
                h, carry = run(layer, (h, None, carry))
            else:
                h = run(layer, h)
            carries.append(carry)
            h = run(drop, h)
        return (run(head, h), tuple(carries)) if return_carry else run(head, h)

    return composed("char_rnn", name, forward, padded="seen")
