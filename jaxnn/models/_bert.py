"""BERT: a bidirectional transformer encoder."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from jaxnn import _checks as check
from jaxnn._call import Run
from jaxnn._calls import recorded
from jaxnn._dtypes import param_dtype
from jaxnn._errors import invalid
from jaxnn._layer import Layer, layer
from jaxnn._mesh import plus
from jaxnn._padded import on_values, values_of
from jaxnn.activations import gelu, tanh
from jaxnn.combinators import serial
from jaxnn.init import normal
from jaxnn.layers import dense, dropout, embed, encoder_block, layer_norm, learned_positions, unembed
from jaxnn.models._parts import composed, head, named
from jaxnn.types import Arrays, Key, Params, State

NARROW = partial(normal, stddev=0.02)
NORM = partial(layer_norm, eps=1e-12)


@recorded
def bert(
    vocabulary: int = 30522,
    *,
    classes: int | None = None,
    masked: bool = False,
    length: int = 512,
    types: int = 2,
    features: int = 768,
    layers: int = 12,
    heads: int = 12,
    hidden: int | None = None,
    rate: float | jax.Array = 0.1,
    preset: str = "jaxnn",
    name: str | None = None,
) -> Layer:
    """BERT, tokens [n, t] -> vectors of the tokens and of the whole, logits of classes, or logits of masked tokens.

    The sum of embeddings of tokens, types and positions, a norm, and post-norm blocks of attention and an MLP. The
    input is tokens [n, t], a `Padded`, or a dict of them as "x" and "types" [n, t], the number of each token's segment,
    0 by default. The result is, by the arguments,

        default          {"x": [n, t, features], "pooled": [n, features]}, pooled = tanh(dense(x[:, 0]))
        classes=k        dense(dropout(pooled)), [n, k]
        masked=True      norm(gelu(dense(x))) · embeddings + bias, [n, t, vocabulary]

    The defaults are BERT base, 109 M params; BERT large has 1024 features, 24 layers and 16 heads, 335 M. Children
    embed, types, positions, norm, block1, block2, ...; pool; head.

    Args:
      vocabulary: number of tokens, an integer >= 1.
      classes: number of classes of a sequence, an integer >= 1; None is no classification.
      masked: if True, the result are the logits of each token.
      length: largest number of steps, an integer >= 1.
      types: number of segments, an integer >= 1.
      features: size of a token's vector, an integer >= 1 that `heads` divides.
      layers, heads: numbers of blocks and of heads in each, integers >= 1.
      hidden: features inside the MLP; None is 4 · features.
      rate: dropout rate of embeddings, attention weights and branches, in [0, 1); may be traced.
      preset: the default initialization of attention and dense layers.
      name: pins the name.

    Raises:
      ValueError: if a sequence is longer than `length`, both `classes` and `masked` are given, or an argument is out of
        range.
      TypeError: if x is not an integer array, or an argument is of a wrong type.

    Differences: BERT draws all weights from N(0, 0.02²); here only the embeddings and the positions.

    Reference: Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding, 2018,
    arXiv:1810.04805.

    >>> model = bert(11, length=8, features=4, layers=2, heads=2, classes=3)
    >>> params, state = model.init(jax.random.key(0), jnp.zeros((1, 5), jnp.int32))
    >>> model.apply(params, state, jnp.array([[1, 2, 3]]))[0].shape
    (1, 3)
    """
    where = name or "bert"
    vocabulary, layers = check.count(where, "vocabulary", vocabulary), check.count(where, "layers", layers)
    check.flags(where, masked=masked)
    if masked and classes is not None:
        raise invalid(where, "classes or masked", told="both", fix="Share params: {**of_one, **of_the_other}.")
    symbols = embed(vocabulary, features, preset=preset, w_init=NARROW)
    segments = embed(types, features, preset=preset, w_init=NARROW, name="types")
    positions, norm = learned_positions(length, name="positions"), NORM(name="norm")
    block = encoder_block(heads, hidden=hidden, norm=NORM, post_norm=True, rate=rate, dropout=rate, preset=preset)
    pool = serial(dense(features, preset=preset, name="dense"), tanh, name="pool")
    transform = serial(dense(features, preset=preset, name="dense"), gelu, NORM(name="norm"), name="transform")
    end = head(where, classes, preset)

    def forward(run: Run, x: Arrays) -> Arrays:
        given = x if isinstance(x, dict) else {"x": x}
        tokens = values_of(given["x"])
        kinds = given.get("types", jnp.zeros(tokens.shape, jnp.int32))
        h = on_values(lambda h: h + run(segments, kinds), run(symbols, given["x"]))
        h = run(dropout(rate), run(norm, run(positions, h)))
        for k in range(layers):
            h = run(named(block, f"block{k + 1}"), h)
        if masked:
            return run(BIAS, run(named(unembed(), symbols.name), run(transform, h)))
        pooled = run(pool, values_of(h)[:, 0])
        return run(end[0], run(dropout(rate, name="head_dropout"), pooled)) if end else {"x": h, "pooled": pooled}

    return composed("bert", name, forward, padded="seen")


def _bias() -> Layer:
    """Adds a trained vector, [..., v] -> [..., v]; params b [v], initially zeros."""

    def init(key: Key, x: jax.Array) -> tuple[Params, State]:
        return {"b": jnp.zeros(x.shape[-1:], param_dtype(x))}, {}

    def apply(params: Params, state: State, x: jax.Array, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        return plus(x, jnp.asarray(params["b"])), state

    return layer(init, apply, "bias", name="head", padded=1)


BIAS = _bias()
