"""Recurrent language model of characters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._layer import Layer
from jaxnn.layers import dense, dropout, embed, gru, lstm, rnn
from jaxnn.models._parts import stacked

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
    cached: bool = False,
    preset: str = "jaxnn",
    name: str | None = None,
) -> Layer:
    """Recurrent language model, integers [n, t] -> logits of the next symbol at each step, [n, t, vocabulary].

    An embedding, recurrent layers with dropout after each, and a dense layer. Children embed, layer1, layer2, ...,
    head. The input may be a `Padded`; the result then is one.

    `nn.generate` continues prompts, with `cached=True` at the same cost for every symbol.

    Args:
      vocabulary: number of symbols, an integer >= 1.
      features: size of the state of each recurrent layer, an integer >= 1.
      layers: number of recurrent layers, an integer >= 1.
      cell: "lstm", "gru" or "rnn".
      embedding: size of the vectors of the symbols, an integer >= 1; None is `features`.
      rate: dropout rate after each recurrent layer, in [0, 1); may be traced.
      cached: if True, each call continues where the last one ended, as in `lstm`; the params are the same.
      preset: the default initialization of all layers.
      name: pins the name.

    Raises:
      ValueError: if an argument is out of range.
      TypeError: if x is not an integer array, or an argument is of a wrong type.

    Differences: Karpathy's char-rnn feeds one-hot vectors, equivalent to an embedding that is multiplied into w_x.

    Reference: Graves, Generating Sequences With Recurrent Neural Networks, 2013, arXiv:1308.0850; Karpathy, The
    Unreasonable Effectiveness of Recurrent Neural Networks, 2015.

    >>> model = char_rnn(65, features=8, cached=True)
    >>> params, state = model.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    >>> logits, state = model.apply(params, state, jnp.array([[5, 3, 60]]))
    >>> logits, state = model.apply(params, state, logits[:, -1:].argmax(-1))
    >>> logits.shape
    (1, 1, 65)
    """
    where = name or "char_rnn"
    vocabulary, layers = check.count(where, "vocabulary", vocabulary), check.count(where, "layers", layers)
    features = check.count(where, "features", features)
    check.choice(where, "cell", cell, list(CELLS))
    width = features if embedding is None else check.count(where, "embedding", embedding)
    parts = [embed(vocabulary, width, preset=preset, name="embed")]
    for k in range(1, layers + 1):
        recurrent = CELLS[cell](features, cached=cached, preset=preset, name=f"layer{k}")
        parts += [recurrent, dropout(rate, name=f"dropout{k}")]
    return stacked("char_rnn", name, *parts, dense(vocabulary, preset=preset, name="head"))
