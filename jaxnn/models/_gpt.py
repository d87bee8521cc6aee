"""GPT: a decoder-only transformer."""

from __future__ import annotations

from functools import partial

import jax

from jaxnn import _checks as check
from jaxnn._call import Run
from jaxnn._calls import recorded
from jaxnn._layer import Layer
from jaxnn.activations import gelu
from jaxnn.init import normal
from jaxnn.layers import dense, dropout, embed, encoder_block, layer_norm, learned_positions, unembed
from jaxnn.models._parts import composed, named
from jaxnn.types import Arrays

NARROW = partial(normal, stddev=0.02)


@recorded
def gpt(
    vocabulary: int = 50257,
    *,
    length: int = 1024,
    features: int = 768,
    layers: int = 12,
    heads: int = 12,
    hidden: int | None = None,
    tied: bool = True,
    cache: int | None = None,
    rate: float | jax.Array = 0.0,
    preset: str = "jaxnn",
    name: str | None = None,
) -> Layer:
    """GPT-2, tokens [n, t] -> logits of the next token at each step, [n, t, vocabulary].

    Embedding and learned positions, pre-norm blocks of causal attention and an MLP, a norm, and the scores of the
    embedding's entries. The defaults are GPT-2 small:

        GPT-2      features   layers   heads   params
        small           768       12      12    124 M
        medium         1024       24      16    355 M
        large          1280       36      20    774 M
        XL             1600       48      25   1558 M

    The input may be a `Padded`. `nn.generate` continues prompts, fastest by the same model with `cache=`. Children
    embed, positions, block1, block2, ..., norm; paths such as `block1/attention/w_q`.

    Args:
      vocabulary: number of tokens, an integer >= 1.
      length: largest number of steps, an integer >= 1.
      features: size of a token's vector, an integer >= 1 that `heads` divides.
      layers, heads: numbers of blocks and of heads in each, integers >= 1.
      hidden: features inside the MLP; None is 4 · features.
      tied: if True, the logits are scores by the embedding's table; if False, a dense layer head without bias.
      cache: number of steps kept in the state for generation, as in `attention`; None keeps nothing.
      rate: dropout rate of embeddings, attention weights and branches, in [0, 1); may be traced. GPT-2 has 0.1.
      preset: the default initialization of attention and dense layers.
      name: pins the name.

    Raises:
      ValueError: if a sequence is longer than `length`, or an argument is out of range.
      TypeError: if x is not an integer array, or an argument is of a wrong type.

    Differences: GPT-2 draws all weights from N(0, 0.02²), those at the end of a branch from a distribution narrower by
    √(2 layers); here only the embedding and the positions. It stores w_q, w_k and w_v as one matrix, c_attn.

    Reference: Radford et al., Language Models are Unsupervised Multitask Learners, 2019.

    >>> model = gpt(11, length=8, features=4, layers=2, heads=2)
    >>> params, state = model.init(jax.random.key(0), jnp.zeros((1, 5), jnp.int32))
    >>> model.apply(params, state, jnp.array([[1, 2, 3]]))[0].shape
    (1, 3, 11)
    """
    where = name or "gpt"
    vocabulary, layers = check.count(where, "vocabulary", vocabulary), check.count(where, "layers", layers)
    check.flags(where, tied=tied)
    symbols = embed(vocabulary, features, preset=preset, w_init=NARROW)
    positions = learned_positions(length, cached=cache is not None, name="positions")
    block = encoder_block(
        heads,
        hidden=hidden,
        activation=partial(gelu, approximate=True),
        causal=True,
        cache=cache,
        rate=rate,
        dropout=rate,
        preset=preset,
    )
    norm = layer_norm(name="norm")
    end = named(unembed(), symbols.name) if tied else dense(vocabulary, bias=False, preset=preset, name="head")

    def forward(run: Run, x: Arrays) -> Arrays:
        h = run(dropout(rate), run(positions, run(symbols, x)))
        for k in range(layers):
            h = run(named(block, f"block{k + 1}"), h)
        return run(end, run(norm, h))

    return composed("gpt", name, forward, padded="seen")
