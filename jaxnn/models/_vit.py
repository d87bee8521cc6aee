"""Vision transformer."""

from __future__ import annotations

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from jaxnn import _checks as check
from jaxnn import ops
from jaxnn._call import Run
from jaxnn._calls import recorded
from jaxnn._dtypes import param_dtype
from jaxnn._layer import Layer, layer
from jaxnn._mesh import plus
from jaxnn.init import normal
from jaxnn.layers import class_token, dropout, encoder_block, layer_norm, patches
from jaxnn.models._parts import composed, head, named
from jaxnn.types import Arrays, Key, Params, State

NORM = partial(layer_norm, eps=1e-6)


@recorded
def vit(
    patch: int = 16,
    *,
    classes: int | None = 1000,
    features: int = 768,
    layers: int = 12,
    heads: int = 12,
    hidden: int | None = None,
    pool: Literal["token", "mean"] = "token",
    rate: float | jax.Array = 0.0,
    preset: str = "jaxnn",
    name: str | None = None,
) -> Layer:
    """Vision transformer, images [n, h, w, c] -> logits [n, classes].

    A vector for each patch of the image, a class token before them, learned positions, pre-norm blocks of attention and
    an MLP, a norm, and a dense layer on the class token. The defaults are ViT-B/16:

        ViT     features   layers   heads   params for 224×224×3, 1000 classes
        Ti/16        192       12       3     5.7 M
        S/16         384       12       6    22.1 M
        B/16         768       12      12    86.6 M
        L/16        1024       24      16   304.3 M
        H/14        1280       32      16   632.0 M

    The positions are those of the image with which the model is initialized. For images of another size they are
    interpolated bicubically. Children patches, class_token, positions, block1, block2, ..., norm, head.

    Args:
      patch: height and width of a patch, an integer >= 1 that divides the image.
      classes: number of logits, an integer >= 1; None omits the head: the result is the vector before it.
      features: size of a patch's vector, an integer >= 1 that `heads` divides.
      layers, heads: numbers of blocks and of heads in each, integers >= 1.
      hidden: features inside the MLP; None is 4 · features.
      pool: "token" classifies by the class token, "mean" by the mean over the patches, without a class token.
      rate: dropout rate after the positions and of the branches, in [0, 1); may be traced.
      preset: the default initialization of attention and dense layers.
      name: pins the name.

    Raises:
      ValueError: if patches do not divide the image, or an argument is out of range.
      TypeError: if an argument is of a wrong type.

    Differences: torchvision stores positions as one [1, 1 + patches, features]; here those of the patches are
    w [rows, columns, features], that of the class token is token [features]. The original interpolates linearly.

    Reference: Dosovitskiy et al., An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale, 2020,
    arXiv:2010.11929.

    >>> model = vit(4, classes=3, features=8, layers=2, heads=2)
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 16, 16, 3)))
    >>> model.apply(params, state, jnp.ones((5, 24, 24, 3)))[0].shape, params["positions"]["w"].shape
    ((5, 3), (4, 4, 8))
    """
    where = name or "vit"
    patch, layers = check.count(where, "patch", patch), check.count(where, "layers", layers)
    check.choice(where, "pool", pool, ("token", "mean"))
    cut, norm, end = patches(features, patch, preset=preset), NORM(name="norm"), head(where, classes, preset)
    block = encoder_block(heads, hidden=hidden, norm=NORM, rate=rate, preset=preset)

    def forward(run: Run, x: jax.Array) -> Arrays:
        h = run(cut, x)
        h = run(class_token(), h) if pool == "token" else h
        h = run(_positions(x.shape[1] // patch, x.shape[2] // patch), h)
        h = run(dropout(rate), h)
        for k in range(layers):
            h = run(named(block, f"block{k + 1}"), h)
        h = run(norm, h)
        h = h[:, 0] if pool == "token" else ops.global_avg_pool(h)
        return run(end[0], h) if end else h

    return composed("vit", name, forward)


def _positions(rows: int, columns: int) -> Layer:
    """Adds a vector for each patch of a grid, and one for a class token before them, [n, (1 +) rows · columns, d]."""

    def init(key: Key, x: jax.Array) -> tuple[Params, State]:
        d, dtype = x.shape[-1], param_dtype(x)
        drawn = normal(key, (x.shape[1], d), dtype, stddev=0.02)
        extra = x.shape[1] - rows * columns
        return {"w": drawn[extra:].reshape(rows, columns, d)} | ({"token": drawn[0]} if extra else {}), {}

    def apply(params: Params, state: State, x: jax.Array, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        w = jnp.asarray(params["w"])
        w = w if w.shape[:2] == (rows, columns) else ops.resize(w[None], (rows, columns), method="cubic")[0]
        w = w.reshape(rows * columns, w.shape[2])
        w = jnp.concatenate([params["token"][None], w]) if "token" in params else w
        return plus(x, w), state

    return layer(init, apply, "positions", name="positions")
