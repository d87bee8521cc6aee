"""Siamese networks: one encoder on two inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn import _checks as check
from jaxnn._call import Run
from jaxnn._calls import recorded
from jaxnn._errors import wrong_type
from jaxnn._layer import Layer, as_layer
from jaxnn.models._parts import composed, named
from jaxnn.types import Arrays


@recorded
def siamese(
    encoder: Layer | Callable[..., Any],
    *,
    head: Layer | Callable[..., Any] | None = None,
    name: str | None = None,
) -> Layer:
    """Siamese network, a pair of inputs (a [n, ...], b [n, ...]) -> embeddings (f(a), f(b)), or head(|f(a) - f(b)|).

    Both inputs pass through the encoder as one batch of 2 n examples: it has one set of params, and batch norms take
    their statistics over both. Children encoder, head.

    Train embeddings by `losses.contrastive`, `losses.cosine_embedding` or `losses.triplet`; with `head=dense(1)`, as in
    the paper, the result [n, 1] is the logit of the probability that the two are of the same class, for
    `losses.binary_cross_entropy`.

    Args:
      encoder: a layer, or a function of one input, [n, ...] -> [n, d].
      head: a layer on the absolute differences of the embeddings; None returns the pair of embeddings.
      name: pins the name.

    Raises:
      ValueError: if the arrays of both inputs differ in shape.
      TypeError: if x is not a pair, or an argument is not a layer.

    Reference: Koch et al., Siamese Neural Networks for One-shot Image Recognition, 2015.

    >>> import jaxnn as nn
    >>> model = siamese(nn.models.mlp(8), head=nn.dense(1))
    >>> pair = jnp.ones((5, 4)), jnp.zeros((5, 4))
    >>> params, state = model.init(jax.random.key(0), pair)
    >>> model.apply(params, state, pair)[0].shape
    (5, 1)
    """
    where = name or "siamese"
    encoder = named(as_layer(encoder, where), "encoder")
    head = None if head is None else named(as_layer(head, where), "head")

    def forward(run: Run, x: Arrays) -> Arrays:
        if not isinstance(x, tuple | list) or len(x) != 2:
            raise wrong_type(where, "x to be a pair of inputs", x)
        a, b = x
        jax.tree.map(lambda a, b: check.same_shape(where, "x[0]", a, "x[1]", b), a, b)
        n = jax.tree.leaves(a)[0].shape[0]
        y = run(encoder, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), a, b))
        a, b = jax.tree.map(lambda y: y[:n], y), jax.tree.map(lambda y: y[n:], y)
        return (a, b) if head is None else run(head, jnp.abs(a - b))

    return composed("siamese", name, forward, padded="seen")
